//! From one moment to a later one: what changed between is read in one state of the database and written where the digests add
//! up to what the log, and what waits to be in it, say.

use std::collections::BTreeSet;

use godwit_redis::Connection;
use godwit_wire::feed::digest::zone_term;
use godwit_wire::feed::{Batch, CacheHead, CachedZone, ChangeSet, Digest, IndexPlace};
use godwit_wire::name::Name;

use super::place::{self, Left};
use super::{Cache, Stopped};
use crate::model::zone::Zone;
use crate::relay::feed;
use crate::relay::log::After;
use crate::store::relay::FeedState;
use crate::store::{Connection as Database, Pace, changes, relay, withheld, zones};

/// Octets of the log, and zones, that one step reads at once.
const READ: usize = 4 << 20;
const READ_ZONES: usize = 256;
/// Zones of one step; where more have changed all are read anew, in parts.
const MOST_ZONES: usize = 10_000;
/// Changes without a sequence that a step looks at; where there are more, the relay is behind and it waits.
const MOST_WAITING: i64 = 1_000;
/// By how much longer a step rests than it works.
const REST: u32 = 7;
/// From so many octets of blobs on, they are sent.
const TOGETHER: usize = 4 << 20;

/// Where an index of the cache stands, and what it adds up to there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct At {
    pub(super) generation: u64,
    pub(super) sequence: u64,
    pub(super) chain: [u8; 32],
    pub(super) sum: Digest,
    /// The head that Redis has.
    pub(super) left: Left,
}

/// What became of a step.
#[derive(Debug)]
pub(super) enum Step {
    /// The index is at this place.
    Done(At),
    /// What waits for a sequence is more than is worth looking at, or was withheld meanwhile.
    NotNow,
    /// All of it is to be read anew: too much has changed, or the digests do not add up.
    Anew(&'static str),
}

impl Cache {
    /// Brings `index` from a place to the present, and shows it; `besides` are zones whose blobs are to be written though they did
    /// not change. What is read is one state of the database: zones with changes that have no sequence yet are ahead of the log,
    /// and it is shown once all of those have one.
    pub(super) async fn step(
        &self,
        connection: &mut Connection,
        index: &str,
        at: &At,
        besides: &BTreeSet<Name>,
    ) -> Result<Step, Stopped> {
        let mut reading = self.readers.begin().await?;
        let state = relay::read(&mut reading).await?.ok_or(sqlx::Error::RowNotFound)?;
        if state.generation != at.generation || state.sequence < at.sequence {
            return Ok(Step::Anew("another history"));
        }
        let Some(ahead) = Ahead::read(&mut reading).await? else { return Ok(Step::NotNow) };
        let Some(mut changed) = self.changed(at, &state).await? else {
            return Ok(Step::Anew("more has changed than is worth reading one by one"));
        };
        changed.extend(besides.iter().cloned());
        // The log does not name them, and the digest of everything has them.
        changed.extend(ahead.withheld.iter().cloned());
        changed.extend(ahead.zones.iter().cloned());
        let mut root = state.root;
        root.add(ahead.root_change);
        let zones = zones::by_names(&mut reading, &changed).await?;
        let names: Vec<Name> = changed.into_iter().collect();
        let mut sum = at.sum;
        for (name, before) in names.iter().zip(place::listed(connection, index, &names).await?) {
            if let Some(before) = before {
                sum.sub(zone_term(&self.digest_key, name.as_ref(), before.version, before.digest));
            }
        }
        for (name, zone) in &zones {
            sum.add(zone_term(&self.digest_key, name.as_ref(), zone.version, zone.digest));
        }
        if sum != root {
            return Ok(Step::Anew("its digests do not add up to that of the log"));
        }
        let signing = self.signer.now();
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        let (mut octets, mut pace) = (0, Pace::resting(REST));
        // An index never lists what is not there: blobs first, it last. Nodes may know a version of a zone from elsewhere: nothing is
        // there before it was judged.
        let mut unjudged = Vec::new();
        let mut rest: &[Name] = &zones.keys().cloned().collect::<Vec<_>>();
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(READ_ZONES)];
            let held = feed::held(&mut reading, part, Some(signing.key()), &mut pace).await?;
            rest = &rest[held.len()..];
            for (zone, blob) in held.into_iter().flatten() {
                if ahead.is_unjudged(&zone.apex) {
                    unjudged.push((zone, blob));
                    continue;
                }
                octets += blob.len();
                pipeline.cmd("SET").arg(self.keys.zone(zone.apex.as_wire())).arg(&blob[..]);
            }
            pace.rest().await;
            if octets >= TOGETHER {
                place::write(connection, &self.keys, &at.left, &pipeline).await?;
                pipeline.clear();
                pipeline.atomic();
                octets = 0;
            }
        }
        reading.end_reading().await?;
        let settled = feed::settled(&self.readers, ahead.last, state.sequence).await?;
        let mut judged = self.readers.acquire().await?;
        for (zone, blob) in unjudged {
            if withheld::is_version(&mut judged, zone.apex.as_ref(), zone.version).await? {
                return Ok(Step::NotNow);
            }
            pipeline.cmd("SET").arg(self.keys.zone(zone.apex.as_wire())).arg(&blob[..]);
        }
        drop(judged);
        for name in &names {
            match zones.get(name) {
                Some(zone) => {
                    pipeline.cmd("HSET").arg(index).arg(name.as_wire()).arg(cached(zone).encode());
                }
                None => {
                    pipeline.cmd("HDEL").arg(index).arg(name.as_wire());
                    pipeline.cmd("UNLINK").arg(self.keys.zone(name.as_wire()));
                }
            }
        }
        let FeedState { generation, epoch, sequence, chain, .. } = state;
        let mut head = Vec::new();
        CacheHead { place: IndexPlace { generation, epoch, sequence, chain, settled }, sum }
            .encode_signed(signing.key(), &mut head);
        if index != self.keys.index {
            pipeline.cmd("UNLINK").arg(&self.keys.index);
            // Redis has no empty hash.
            if sum != Digest::default() {
                pipeline.cmd("RENAME").arg(index).arg(&self.keys.index);
            }
        }
        pipeline.cmd("SET").arg(&self.keys.head).arg(&head);
        place::write(connection, &self.keys, &at.left, &pipeline).await?;
        Ok(Step::Done(At { generation, sequence, chain, sum, left: Some(head) }))
    }

    /// Zones that the log names between two places; `None` where it does not lead from one to the other, or names too many.
    async fn changed(&self, at: &At, to: &FeedState) -> Result<Option<BTreeSet<Name>>, Stopped> {
        let (mut sequence, mut chain) = (at.sequence, at.chain);
        let mut changed = BTreeSet::new();
        while sequence < to.sequence {
            let acquire = async || self.readers.acquire().await;
            let After::Batches(made) = self.log.after(acquire, sequence, chain, READ).await? else {
                return Ok(None);
            };
            if made.is_empty() {
                // The database has more than this process has read.
                self.log.refresh(&mut self.readers.acquire().await?).await?;
                if self.log.end().sequence <= sequence {
                    return Ok(None);
                }
            }
            let before = sequence;
            for one in made.iter().take_while(|one| one.entry.last_sequence <= to.sequence) {
                let Ok(batch) = Batch::decode(&one.octets) else { return Ok(None) };
                changed.extend(
                    batch.change_sets.into_iter().flat_map(|set| set.zones).map(|change| change.zone),
                );
                (sequence, chain) = (one.entry.last_sequence, one.entry.chain);
            }
            let is_stuck = !made.is_empty() && sequence == before;
            if is_stuck || changed.len() > MOST_ZONES {
                return Ok(None);
            }
        }
        Ok((chain == to.chain).then_some(changed))
    }
}

/// Zones that are ahead of the log, by changes that have no sequence yet and were not judged.
pub(super) struct Ahead {
    zones: BTreeSet<Name>,
    /// The last of those changes, by its commit number; 0: there is none.
    last: i64,
    /// What they add to the digest of everything.
    root_change: Digest,
    /// Those that are withheld: of them nothing is given that could be.
    withheld: BTreeSet<Name>,
}

impl Ahead {
    /// `None` where there are more than is worth looking at, or one cannot be read, so that it is not known which zones it names.
    pub(super) async fn read(reading: &mut Database) -> sqlx::Result<Option<Ahead>> {
        let waiting = changes::unsequenced(reading, MOST_WAITING).await?;
        if waiting.len() as u64 >= MOST_WAITING.unsigned_abs() {
            return Ok(None);
        }
        let withheld = withheld::list(reading).await?.into_iter().map(|zone| zone.apex).collect();
        let last = waiting.last().map_or(0, |last| last.commit_number);
        let mut ahead = Ahead { zones: BTreeSet::new(), last, root_change: Digest::default(), withheld };
        for one in waiting {
            let Ok(set) = ChangeSet::decode(&one.payload) else { return Ok(None) };
            ahead.root_change.add(one.root_change);
            ahead.zones.extend(set.zones.into_iter().map(|change| change.zone));
        }
        Ok(Some(ahead))
    }

    /// Whether what is read of a zone may turn out to be withheld.
    pub(super) fn is_unjudged(&self, apex: &Name) -> bool {
        self.zones.contains(apex) && !self.withheld.contains(apex)
    }
}

/// What an index says of a zone.
pub(super) fn cached(zone: &Zone) -> CachedZone {
    CachedZone { version: zone.version, serial: zone.serial, digest: zone.digest }
}
