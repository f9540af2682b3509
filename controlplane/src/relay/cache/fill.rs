//! All of the cache anew, from the database, in parts that are read one after another; and whether what is there is what was
//! written.

use std::collections::{BTreeSet, HashSet};

use godwit_redis::Connection;
use godwit_wire::feed::digest::zone_term;
use godwit_wire::feed::{Digest, ZoneBlob, ZoneBlobReader};
use godwit_wire::name::Name;
use tokio::time::Instant;

use super::place::{self, Left};
use super::step::{At, Step, TOGETHER, cached};
use super::{Cache, Stopped, TRIES, TRY_AGAIN};
use crate::model::name_key;
use crate::relay::feed;
use crate::store::relay::FeedState;
use crate::store::zones;

/// Zones that one state of the database is read for, and octets of blobs after which the next is begun.
const PART: i64 = 256;
const PART_OCTETS: usize = 32 << 20;
/// Blobs that are looked at together.
const LOOKED: usize = 64;

impl Cache {
    /// All of it anew, beside what is there. Parts are read one after another while zones change; what changed since the first is
    /// in the log, and is put right by the step that shows it.
    pub(super) async fn fill(
        &mut self,
        connection: &mut Connection,
        epoch: u64,
        left: Left,
    ) -> Result<At, Stopped> {
        self.metrics.cache_filled();
        self.log.refresh(&mut self.readers.acquire().await?).await?;
        let FeedState { generation, sequence, chain, .. } = self.log.end();
        redis::cmd("UNLINK").arg(&self.keys.next).exec_async(connection).await?;
        let (mut sum, mut after, mut count) = (Digest::default(), None, 0u64);
        loop {
            self.in_term(epoch)?;
            let began = Instant::now();
            let part = self.part(connection, &left, after.as_deref(), &mut sum).await?;
            let Some((last, zones)) = part else { break };
            count += zones;
            after = Some(last);
            // Others read the database as well.
            tokio::time::sleep(began.elapsed()).await;
        }
        self.forget(connection, &left).await?;
        let at = At { generation, sequence, chain, sum, left };
        for _ in 0..TRIES {
            self.in_term(epoch)?;
            match self.step(connection, &self.keys.next, &at, &BTreeSet::new()).await? {
                Step::Done(at) => {
                    tracing::info!(sequence = at.sequence, zones = count, "the record cache is filled");
                    return Ok(at);
                }
                Step::NotNow => tokio::time::sleep(TRY_AGAIN).await,
                Step::Anew(why) => return Err(Stopped::Foreign(why)),
            }
        }
        Err(Stopped::Foreign("zones change faster than they are read"))
    }

    /// Zones after a key, in one state of the database; the last key, and how many.
    async fn part(
        &self,
        connection: &mut Connection,
        left: &Left,
        after: Option<&[u8]>,
        sum: &mut Digest,
    ) -> Result<Option<(Vec<u8>, u64)>, Stopped> {
        let signing = self.signer.now();
        let mut reading = self.readers.begin().await?;
        let (mut last, mut count, mut all) = (None, 0, 0);
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        let mut octets = 0;
        for zone in zones::page(&mut reading, after, PART).await? {
            let blob = feed::blob(&mut reading, &zone, Some(signing.key())).await?;
            (octets, all) = (octets + blob.len(), all + blob.len());
            let apex = zone.apex.as_wire();
            pipeline.cmd("SET").arg(self.keys.zone(apex)).arg(blob);
            pipeline.cmd("HSET").arg(&self.keys.next).arg(apex).arg(cached(&zone).encode());
            sum.add(zone_term(&self.digest_key, zone.apex.as_ref(), zone.version, zone.digest));
            (last, count) = (Some(name_key::encode(zone.apex.as_ref())), count + 1);
            if octets >= TOGETHER {
                place::write(connection, &self.keys, left, &pipeline).await?;
                pipeline.clear();
                pipeline.atomic();
                octets = 0;
            }
            if all >= PART_OCTETS {
                break;
            }
        }
        reading.end_reading().await?;
        if octets > 0 {
            place::write(connection, &self.keys, left, &pipeline).await?;
        }
        Ok(last.map(|last| (last, count)))
    }

    /// Blobs of zones that were listed and are not any more.
    async fn forget(&self, connection: &mut Connection, left: &Left) -> Result<(), Stopped> {
        let mut cursor = "0".to_owned();
        loop {
            // Where somebody put something else there: it goes when the new one is shown.
            let Ok((next, fields)) = place::scan(connection, &self.keys.index, &cursor).await else {
                return Ok(());
            };
            let apexes: Vec<Name> = fields
                .iter()
                .filter_map(|(apex, value)| Some(place::entry(apex, value).ok()?.0.to_owned()))
                .collect();
            let listed = place::listed(connection, &self.keys.next, &apexes).await?;
            let mut pipeline = redis::pipe();
            pipeline.atomic();
            let gone = apexes.iter().zip(listed).filter(|(_, listed)| listed.is_none());
            for (apex, _) in gone {
                pipeline.cmd("UNLINK").arg(self.keys.zone(apex.as_wire()));
            }
            if !pipeline.is_empty() {
                place::write(connection, &self.keys, left, &pipeline).await?;
            }
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// What the index adds up to; `None` where it is of another form.
    pub(super) async fn sum(&self, connection: &mut Connection) -> Result<Option<Digest>, Stopped> {
        let (mut sum, mut cursor) = (Digest::default(), "0".to_owned());
        // A scan may give a field twice.
        let mut seen = HashSet::new();
        loop {
            let (next, fields) = match place::scan(connection, &self.keys.index, &cursor).await {
                Ok(part) => part,
                Err(error) if error.is_io_error() => return Err(error.into()),
                Err(_) => return Ok(None),
            };
            for (apex, value) in fields {
                let Ok((name, zone)) = place::entry(&apex, &value) else { return Ok(None) };
                if seen.insert(apex.clone()) {
                    sum.add(zone_term(&self.digest_key, name, zone.version, zone.digest));
                }
            }
            if next == "0" {
                return Ok(Some(sum));
            }
            cursor = next;
        }
    }

    /// Looks at all that is there. An index that does not add up is filled anew; the zones whose blobs are not what it says are
    /// given back, to be written again.
    pub(super) async fn look(
        &mut self,
        connection: &mut Connection,
        epoch: u64,
        at: &mut At,
    ) -> Result<BTreeSet<Name>, Stopped> {
        if self.sum(connection).await? != Some(at.sum) {
            tracing::error!("THE INDEX OF THE RECORD CACHE IS NOT OURS; it is filled anew");
            self.metrics.cache_error();
            *at = self.fill(connection, epoch, at.left.clone()).await?;
        }
        let (mut damaged, mut cursor) = (BTreeSet::new(), "0".to_owned());
        loop {
            self.in_term(epoch)?;
            let (next, fields) = place::scan(connection, &self.keys.index, &cursor).await?;
            for group in fields.chunks(LOOKED) {
                self.look_at(connection, group, &mut damaged).await?;
            }
            if next == "0" {
                break;
            }
            cursor = next;
        }
        if !damaged.is_empty() {
            tracing::warn!(
                zones = damaged.len(),
                "blobs of the record cache are lost or not ours; they are written again"
            );
            self.metrics.cache_error();
        }
        Ok(damaged)
    }

    async fn look_at(
        &self,
        connection: &mut Connection,
        group: &[(Vec<u8>, Vec<u8>)],
        damaged: &mut BTreeSet<Name>,
    ) -> Result<(), Stopped> {
        let signing = self.signer.now();
        for (apex, value) in group {
            let (name, listed) = place::entry(apex, value)?;
            // One by one: a zone may be large.
            let blob: redis::RedisResult<Option<Vec<u8>>> =
                redis::cmd("GET").arg(self.keys.zone(apex)).query_async(connection).await;
            let blob = match blob {
                Err(error) if error.is_io_error() => return Err(error.into()),
                blob => blob.ok().flatten().unwrap_or_default(),
            };
            let is_ours = ZoneBlob::verify(&blob, signing.trusted()).is_ok()
                && ZoneBlobReader::new(&blob).is_ok_and(|read| {
                    (read.zone(), read.version(), read.digest()) == (name, listed.version, listed.digest)
                });
            if !is_ours {
                damaged.insert(name.to_owned());
            }
        }
        Ok(())
    }
}
