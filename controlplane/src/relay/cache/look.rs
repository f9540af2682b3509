//! Whether what is there is what was written: a little at a time, in turn with writing.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use godwit_redis::Connection;
use godwit_wire::feed::digest::zone_term;
use godwit_wire::feed::{Digest, ZoneBlob, ZoneBlobReader};
use godwit_wire::name::Name;
use tokio::time::Instant;

use super::place::{self, SCAN};
use super::step::At;
use super::{Cache, Stopped};
use crate::store::Pace;

/// The least time between the beginnings of two passes.
const EVERY: Duration = Duration::from_secs(10);
/// How long a pass looks at blobs before it is the turn of writing; and by how much longer it rests.
const TURN: Duration = Duration::from_millis(50);
const REST: u32 = 19;
/// By how much longer it rests after each few than they took.
const SHORT_REST: u32 = 7;
/// Fields that are read at once, and blobs that are looked at before others have the thread.
const FIELDS: usize = 16;
const TOGETHER: usize = 8;

/// How far a pass has come.
#[derive(Debug)]
pub(super) struct Look {
    /// When the next begins, and its next turn.
    next: Instant,
    turn: Instant,
    /// Where blobs are gone on with; `None` between passes.
    cursor: Option<String>,
}

impl Look {
    pub(super) fn new() -> Look {
        let next = Instant::now() + EVERY;
        Look { next, turn: next, cursor: None }
    }
}

impl Cache {
    /// Goes on with a pass, or begins one when it is time. An index that does not add up is filled anew; the zones whose blobs are
    /// not what it says are given back, to be written again.
    pub(super) async fn look(
        &mut self,
        connection: &mut Connection,
        epoch: u64,
        at: &mut At,
        look: &mut Look,
    ) -> Result<BTreeSet<Name>, Stopped> {
        let mut damaged = BTreeSet::new();
        let (began, mut pace) = (Instant::now(), Pace::resting(SHORT_REST));
        let mut cursor = match look.cursor.take() {
            cursor if began < look.turn => {
                look.cursor = cursor;
                return Ok(damaged);
            }
            Some(cursor) => cursor,
            None if began < look.next => return Ok(damaged),
            None => {
                look.next = Instant::now() + EVERY;
                if self.sum(connection).await? != Some(at.sum) {
                    tracing::error!("THE INDEX OF THE RECORD CACHE IS NOT OURS; it is filled anew");
                    self.metrics.cache_error();
                    *at = self.fill(connection, epoch, at.left.clone()).await?;
                }
                "0".to_owned()
            }
        };
        loop {
            let (next, fields) = place::scan(connection, &self.keys.index, &cursor, FIELDS).await?;
            for group in fields.chunks(TOGETHER) {
                self.look_at(connection, group, &mut damaged).await?;
                tokio::task::yield_now().await;
            }
            pace.rest().await;
            if next == "0" {
                break;
            }
            if pace.worked() >= TURN {
                look.cursor = Some(next);
                break;
            }
            cursor = next;
        }
        look.turn = Instant::now() + pace.worked() * REST;
        if !damaged.is_empty() {
            tracing::warn!(
                zones = damaged.len(),
                "blobs of the record cache are lost or not ours; they are written again"
            );
            self.metrics.cache_error();
        }
        Ok(damaged)
    }

    /// What the index adds up to; `None` where it is of another form.
    pub(super) async fn sum(&self, connection: &mut Connection) -> Result<Option<Digest>, Stopped> {
        let (mut sum, mut cursor) = (Digest::default(), "0".to_owned());
        // A scan may give a field twice.
        let mut seen = HashSet::new();
        loop {
            let (next, fields) = match place::scan(connection, &self.keys.index, &cursor, SCAN).await {
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
