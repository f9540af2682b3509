//! The whole state as change sets, for a data plane that starts empty or cannot go on from where it stands.

use godwit_wire::feed::digest::{Digest, rrset_digest, zone_term};
use godwit_wire::feed::{ChangeSet, Head, OwnedRrset, ZoneChange, ZoneChangeKind};

use super::{Outgoing, Relay, RelayError};
use crate::model::name_key;
use crate::store::relay::FeedState;
use crate::store::{Connection, changes, now_us, rrsets, zones};

/// Zones that are read at once.
const ZONES_STEP: i64 = 1_000;

impl Relay {
    /// Sends every zone as it is now, and that deleted ones are gone, and then a head: who is there has it all. What was
    /// committed up to now is part of it and is not sent again.
    pub(crate) async fn replay(&mut self) -> Result<(), RelayError> {
        let started = std::time::Instant::now();
        self.backlog.clear();
        // One snapshot of the database for all that is read: zones and outbox fit each other.
        let mut transaction = self.readers.begin().await?;
        let unpublished = self.unpublished(&mut transaction).await?;
        // Should the process die on the way, the next one must know that these sequences may be taken.
        let zones = zones::count(&mut transaction).await? + zones::departed_count(&mut transaction).await?;
        self.state.reserved = self.state.sequence + u64::try_from(zones).unwrap_or(0).max(1);
        self.write_down().await?;
        let mut root = Digest::default();
        let mut count = self.send_departed(&mut transaction).await?;
        count += self.send_zones(&mut transaction, &mut root).await?;
        transaction.end_reading().await?;
        if count == 0 {
            // Whoever stood elsewhere stands with us then.
            self.send(vec![of_zones(Vec::new())]).await?;
        }
        self.send_head(root).await?;
        if let Some(&(last, _)) = unpublished.last() {
            self.last_commit = self.last_commit.max(last);
        }
        self.absorb(unpublished);
        tracing::info!(
            zones = count,
            sequence = self.state.sequence,
            elapsed_ms = started.elapsed().as_millis(),
            "sent the whole state to the data plane"
        );
        Ok(())
    }

    async fn send_head(&mut self, root_digest: Digest) -> Result<(), RelayError> {
        let FeedState { generation, epoch, sequence, chain, .. } = self.state;
        let mut octets = Vec::new();
        Head { generation, epoch, sequence, chain, root_digest }.encode(&mut octets);
        self.sink.batches.send(octets.into()).await.map_err(|_| RelayError::SinkClosed)
    }

    async fn unpublished(&self, connection: &mut Connection) -> Result<Vec<(i64, uuid::Uuid)>, RelayError> {
        let mut all: Vec<(i64, uuid::Uuid)> = Vec::new();
        loop {
            let after = all.last().map_or(self.last_commit, |&(number, _)| number);
            let step = changes::unpublished(connection, after, ZONES_STEP).await?;
            if step.is_empty() {
                return Ok(all);
            }
            all.extend(step.into_iter().map(|row| (row.number, row.id)));
        }
    }

    /// Changes that the replay contains are published with its last sequence.
    fn absorb(&mut self, unpublished: Vec<(i64, uuid::Uuid)>) {
        let at_us = now_us();
        let sequence = self.state.sequence;
        let marks: Vec<(i64, u64)> = unpublished.iter().map(|&(number, _)| (number, sequence)).collect();
        for (_, id) in unpublished {
            self.progress.published(id, sequence, at_us);
        }
        self.metrics.published(marks.len(), sequence);
        let applied = self.sink.applied.borrow().sequence;
        self.notes.note(crate::commit::Publications {
            marks,
            at_us,
            state: self.state,
            applied,
            written: None,
        });
    }

    async fn send_departed(&mut self, connection: &mut Connection) -> Result<usize, RelayError> {
        let mut after = None;
        let mut count = 0;
        loop {
            let step = zones::departed_page(connection, after.as_ref(), ZONES_STEP).await?;
            let Some((last, _)) = step.last() else { return Ok(count) };
            after = Some(name_key::encode(last.as_ref()));
            count += step.len();
            let outgoing = step.into_iter().map(|(apex, version)| {
                one_zone(ZoneChange {
                    zone: apex,
                    owner: 0,
                    // A removal has something to remove; a data plane takes it whatever it has.
                    base_version: version.saturating_sub(1).max(1),
                    version,
                    kind: ZoneChangeKind::Remove,
                })
            });
            self.send(outgoing.collect()).await?;
        }
    }

    /// Adds the zones to the root digest; how many there are.
    async fn send_zones(
        &mut self,
        connection: &mut Connection,
        root: &mut Digest,
    ) -> Result<usize, RelayError> {
        let mut after: Option<Vec<u8>> = None;
        let mut count = 0;
        loop {
            let step = zones::page(connection, after.as_deref(), ZONES_STEP).await?;
            let Some(last) = step.last() else { return Ok(count) };
            after = Some(name_key::encode(last.apex.as_ref()));
            let mut outgoing = Vec::new();
            let mut octets = 0;
            for zone in step {
                let sets: Vec<OwnedRrset> = rrsets::of_zone(connection, zone.id)
                    .await?
                    .into_iter()
                    .map(|(owner, rrset)| OwnedRrset { owner, rrset })
                    .collect();
                count += 1;
                let key = &self.sink.digest_key;
                let mut sum = Digest::default();
                for set in &sets {
                    sum.add(rrset_digest(key, zone.apex.as_ref(), set.owner.as_ref(), &set.rrset));
                }
                root.add(zone_term(key, zone.apex.as_ref(), zone.version, sum));
                let change = one_zone(ZoneChange {
                    zone: zone.apex,
                    owner: zone.owner_number,
                    base_version: 0,
                    version: zone.version,
                    kind: ZoneChangeKind::Replace(sets),
                });
                octets += super::weight(&change.change_set);
                outgoing.push(change);
                // Not more of the database in memory than a batch takes.
                if octets >= super::BATCH_OCTETS {
                    octets = 0;
                    self.send(std::mem::take(&mut outgoing)).await?;
                }
            }
            self.send(outgoing).await?;
        }
    }
}

/// A zone in a change set of its own, so that one that cannot be applied leaves the others alone.
fn one_zone(change: ZoneChange) -> Outgoing {
    of_zones(vec![change])
}

fn of_zones(zones: Vec<ZoneChange>) -> Outgoing {
    let change_set = ChangeSet { id: uuid::Uuid::now_v7().into_bytes(), committed_at_us: now_us(), zones };
    Outgoing { change_set, commit_number: None, published: None }
}
