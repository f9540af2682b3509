//! All of the cache anew, from the database, in parts that are read one after another.

use std::collections::BTreeSet;

use godwit_redis::Connection;
use godwit_wire::feed::Digest;
use godwit_wire::feed::digest::zone_term;
use godwit_wire::name::Name;

use super::place::{self, Left, SCAN};
use super::step::{Ahead, At, Step, cached};
use super::{Cache, Stopped, TRIES, TRY_AGAIN};
use crate::model::name_key;
use crate::relay::feed;
use crate::store::relay::FeedState;
use crate::store::{Connection as Database, Pace, zones};

/// The most zones that one state of the database is read for.
const PART: i64 = 256;
/// By how much longer it rests than it works: data planes that start have to ask the database meanwhile.
const REST: u32 = 3;

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
        let mut pace = Pace::resting(REST);
        loop {
            self.in_term(epoch)?;
            let part = self.part(connection, &left, after.as_deref(), &mut sum, &mut pace).await?;
            let Some((last, zones)) = part else { break };
            count += zones;
            after = Some(last);
            pace.rest().await;
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
        pace: &mut Pace,
    ) -> Result<Option<(Vec<u8>, u64)>, Stopped> {
        let signing = self.signer.now();
        let (mut reading, ahead) = self.reading().await?;
        let listed = zones::index(&mut reading, after, PART).await?;
        let apexes: Vec<Name> = listed.into_iter().map(|(_, entry)| entry.zone).collect();
        let held = feed::held(&mut reading, &apexes, Some(signing.key()), pace).await?;
        reading.end_reading().await?;
        let (mut last, mut count) = (None, 0);
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for (zone, blob) in held.into_iter().flatten() {
            let apex = zone.apex.as_wire();
            // The step that shows it all writes those.
            if !ahead.is_unjudged(&zone.apex) {
                pipeline.cmd("SET").arg(self.keys.zone(apex)).arg(&blob[..]);
            }
            pipeline.cmd("HSET").arg(&self.keys.next).arg(apex).arg(cached(&zone).encode());
            sum.add(zone_term(&self.digest_key, zone.apex.as_ref(), zone.version, zone.digest));
            (last, count) = (Some(name_key::encode(zone.apex.as_ref())), count + 1);
        }
        if count > 0 {
            place::write(connection, &self.keys, left, &pipeline).await?;
        }
        Ok(last.map(|last| (last, count)))
    }

    /// One state of the database in which not too much waits for its sequence.
    async fn reading(&self) -> Result<(Database, Ahead), Stopped> {
        for _ in 0..TRIES {
            let mut reading = self.readers.begin().await?;
            if let Some(ahead) = Ahead::read(&mut reading).await? {
                return Ok((reading, ahead));
            }
            reading.end_reading().await?;
            tokio::time::sleep(TRY_AGAIN).await;
        }
        Err(Stopped::Foreign("too much waits for its sequence"))
    }

    /// Blobs of zones that were listed and are not any more.
    async fn forget(&self, connection: &mut Connection, left: &Left) -> Result<(), Stopped> {
        let mut cursor = "0".to_owned();
        loop {
            // Where somebody put something else there: it goes when the new one is shown.
            let Ok((next, fields)) = place::scan(connection, &self.keys.index, &cursor, SCAN).await else {
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
}
