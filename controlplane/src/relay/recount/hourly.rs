//! Now and then, at low priority: whether the digests that are kept with each change are those of the records. An error in the path
//! of changes itself shows nowhere else: data planes are compared with what is kept (R8).
//!
//! Nothing is mended here. Which of the two is right, the digest or the records, only somebody who looks can tell.

use std::time::{Duration, Instant};

use godwit_wire::feed::digest::rrset_digest;
use godwit_wire::feed::{Digest, DigestKey};
use tokio::sync::watch;

use super::root;
use crate::Stop;
use crate::observe::metrics::Metrics;
use crate::store::rrsets::Position;
use crate::store::{Connection, Place, relay, rrsets, zones};

/// RRsets that are read at once.
const STEP: i64 = 1_000;
/// RRsets after which no further zone is read in the same transaction.
const TOGETHER: usize = 5_000;
/// The pause after a transaction, in times of its length.
const SHARE: u32 = 4;

/// See the module.
pub(crate) struct Hourly {
    /// Connected to anew for each step: nobody waits for a connection that this keeps.
    pub(crate) place: Place,
    pub(crate) digest_key: DigestKey,
    pub(crate) metrics: Metrics,
    /// Who gives sequences looks: one of several is enough.
    pub(crate) term: watch::Receiver<Option<u64>>,
    /// From the start of one round to that of the next, and to the first.
    pub(crate) every: Duration,
    pub(crate) stop: Stop,
}

impl Hourly {
    /// Runs until it is told to stop.
    pub(crate) async fn run(self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.rounds() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn rounds(&self) {
        let mut every = tokio::time::interval(self.every);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick comes at once.
        every.tick().await;
        loop {
            every.tick().await;
            if self.term.borrow().is_none() {
                continue;
            }
            match self.round().await {
                Ok(0) => tracing::info!("all digests are those of the records"),
                Ok(differences) => tracing::error!(differences, "digests are not those of the records"),
                Err(error) => {
                    tracing::warn!(%error, "digests were not counted to the end; it is tried again later");
                }
            }
        }
    }

    /// Counts everything once. How much was found that differs.
    async fn round(&self) -> sqlx::Result<u64> {
        let mut differences = 0;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let began = Instant::now();
            let mut reading = self.place.connect_reading().await?;
            let found = self.zones(&mut reading, &mut after).await?;
            reading.close().await?;
            let Some(found) = found else { break };
            differences += found;
            tokio::time::sleep(began.elapsed() * SHARE).await;
        }
        differences += u64::from(!self.is_root_right().await?);
        self.metrics.recounted(differences);
        Ok(differences)
    }

    /// Counts some zones, in one state of the database; `None` where there are no more. How many differ.
    async fn zones(
        &self,
        reading: &mut Connection,
        after: &mut Option<Vec<u8>>,
    ) -> sqlx::Result<Option<u64>> {
        let (mut differences, mut rrsets) = (0, 0);
        while rrsets < TOGETHER {
            let step = zones::index(reading, after.as_deref(), 1).await?;
            let Some((last, _)) = step.last() else { return Ok((rrsets > 0).then_some(differences)) };
            *after = Some(last.clone());
            for (_, entry) in &step {
                let apex = entry.zone.as_ref();
                let Some(zone) = zones::by_name(reading, apex).await? else { continue };
                let (mut sum, mut at) =
                    (Digest::default(), Position { zone_id: zone.id, ..Position::default() });
                loop {
                    let step = rrsets::list(reading, Some(zone.id), None, &at, STEP).await?;
                    let Some(last) = step.last() else { break };
                    at = last.position.clone();
                    rrsets += step.len();
                    for listed in &step {
                        sum.add(rrset_digest(&self.digest_key, apex, listed.owner.as_ref(), &listed.rrset));
                    }
                }
                if sum != zone.digest {
                    differences += 1;
                    tracing::error!(
                        zone = %zone.apex, version = zone.version, kept = %zone.digest, counted = %sum,
                        "THE DIGEST THAT IS KEPT OF A ZONE IS NOT THAT OF ITS RECORDS IN THE DATABASE"
                    );
                }
            }
        }
        Ok(Some(differences))
    }

    /// Whether the digest of everything is that of the zones.
    async fn is_root_right(&self) -> sqlx::Result<bool> {
        let mut reading = self.place.connect_reading().await?;
        let state = relay::read(&mut reading).await?.ok_or(sqlx::Error::RowNotFound)?;
        let counted = root(&mut reading, &self.digest_key).await?;
        reading.close().await?;
        if counted != state.root {
            tracing::error!(
                sequence = state.sequence, kept = %state.root, %counted,
                "THE DIGEST OF EVERYTHING IS NOT THAT OF THE ZONES IN THE DATABASE"
            );
        }
        Ok(counted == state.root)
    }
}

#[cfg(test)]
mod tests {
    use godwit_wire::feed::digest::zone_term;
    use godwit_wire::name::Name;
    use godwit_wire::rr::{Rrset, Rtype};

    use super::*;
    use crate::model::zone::{TtlPolicy, Zone};
    use crate::store::batch::Batch;
    use crate::store::testing;

    const KEY: DigestKey = DigestKey([1; 32]);

    fn hourly(place: Place) -> Hourly {
        Hourly {
            place,
            digest_key: KEY,
            metrics: Metrics::default(),
            term: watch::Sender::new(Some(1)).subscribe(),
            every: Duration::from_secs(3_600),
            stop: watch::Sender::new(false).subscribe(),
        }
    }

    /// Two zones of two RRsets each, with their digests.
    async fn fill(connection: &mut Connection) {
        relay::start(connection, &KEY, 7).await.unwrap();
        let mut root = Digest::default();
        for apex in ["a.test.", "b.test."] {
            let apex: Name = apex.parse().unwrap();
            let www: Name = format!("www.{apex}").parse().unwrap();
            let rrset = |last| Rrset {
                rtype: Rtype::A,
                ttl: 60,
                rdata: vec![vec![192, 0, 2, last].into()],
                rrsigs: Vec::new(),
            };
            let sets = [(&apex, &rrset(1)), (&www, &rrset(2))];
            let mut digest = Digest::default();
            for (owner, rrset) in sets {
                digest.add(rrset_digest(&KEY, apex.as_ref(), owner.as_ref(), rrset));
            }
            let mut zone = Zone {
                id: 0,
                apex: apex.clone(),
                owner_number: 0,
                version: 3,
                serial: 1,
                ttl_policy: TtlPolicy::Bounded,
                presigned: false,
                created_at_us: 1,
                updated_at_us: 1,
                digest,
                frozen_at_us: None,
            };
            zone.id = zones::insert(connection, &zone, 0).await.unwrap();
            let mut batch = Batch::of(connection);
            rrsets::put(&mut batch, connection, zone.id, &sets).await.unwrap();
            batch.run(connection).await.unwrap();
            root.add(zone_term(&KEY, apex.as_ref(), zone.version, digest));
        }
        relay::counted(connection, root).await.unwrap();
    }

    #[tokio::test]
    async fn r8_what_the_path_of_changes_got_wrong_is_found() {
        for (mut database, place) in testing::databases().await {
            let writer = &mut database.writer;
            fill(writer).await;
            let hourly = hourly(place.place().clone());
            assert_eq!(hourly.round().await.unwrap(), 0);
            for (harm, undo, found) in [
                (
                    "UPDATE rrsets SET ttl = 61 WHERE zone_id = (SELECT min(id) FROM zones) AND rtype = 1",
                    "UPDATE rrsets SET ttl = 60",
                    1,
                ),
                ("UPDATE rrsets SET ttl = 61", "UPDATE rrsets SET ttl = 60", 2),
                // The records are those of the digest, at another version than the feed has.
                (
                    "UPDATE zones SET version = 4 WHERE id = (SELECT min(id) FROM zones)",
                    "UPDATE zones SET version = 3",
                    1,
                ),
            ] {
                writer.query(harm).execute().await.unwrap();
                assert_eq!(hourly.round().await.unwrap(), found, "{harm}");
                writer.query(undo).execute().await.unwrap();
                assert_eq!(hourly.round().await.unwrap(), 0, "{undo}");
            }
        }
    }
}
