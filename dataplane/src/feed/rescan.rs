//! Looks for records that are not what they were when they came: memory fails, and so may we. Round after round, at low
//! priority, the digest of every zone is worked out from the records themselves and compared with the one that is kept; and the
//! root digest with those of the zones that are there. What differs is said to the machine, which fetches it anew (P5, R8).
//!
//! What is served is shared with the workers and never changes, so nobody waits for this. A zone is looked at in one snapshot,
//! the next one in the newest of its time: none is kept alive for longer than one zone takes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use godwit_engine::snapshot::store::Store;
use godwit_engine::snapshot::{Snapshot, ZoneView};
use godwit_wire::feed::Digest;
use godwit_wire::name::Name;
use tokio::sync::mpsc;

use crate::observe::status::Status;

/// How long it works at a stretch.
const SLICE: Duration = Duration::from_millis(1);
/// The pause after it, in stretches: less than two hundredths of a CPU. A million names take one or two minutes so.
const SHARE: u32 = 60;
/// The least time from the start of one round to that of the next.
const EVERY: Duration = Duration::from_secs(5);
/// Names after which the clock is looked at.
const NAMES: usize = 32;
/// What is found and not taken yet; more is found again in the next round.
pub(super) const FOUND: usize = 64;

/// What is not as it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Found {
    /// The records of a zone are not those of its digest.
    Zone {
        /// Its apex.
        apex: Name,
        /// At this version.
        version: u64,
        /// The digest that is kept.
        digest: Digest,
    },
    /// The zones that are there are not those of the root digest.
    Root,
}

/// See the module.
pub(super) struct Rescan {
    pub(super) store: Arc<Store<Snapshot>>,
    pub(super) status: Arc<Status>,
    pub(super) found: mpsc::Sender<Found>,
    /// Its other end is dropped when it is time to stop.
    pub(super) stop: Receiver<()>,
    /// When this stretch of work began.
    pub(super) began: Instant,
}

/// It is time to stop.
struct Stop;

impl Rescan {
    pub(super) fn run(mut self) {
        loop {
            let began = Instant::now();
            if self.round().is_err() {
                return;
            }
            self.status.rescan_rounds.fetch_add(1, Ordering::Relaxed);
            if self.pause(EVERY.saturating_sub(began.elapsed())).is_err() {
                return;
            }
        }
    }

    fn round(&mut self) -> Result<(), Stop> {
        let mut last = None;
        loop {
            let snapshot = self.store.load();
            let Some(zone) = snapshot.zones_behind(last.as_ref()).next() else { break };
            self.zone(&snapshot, &zone)?;
            last = Some(zone.name());
        }
        let snapshot = self.store.load();
        let mut root = Digest::default();
        for (at, zone) in snapshot.zones().enumerate() {
            root.add(zone.term(snapshot.digest_key()));
            self.breathe(at)?;
        }
        if root != snapshot.root_digest() {
            tracing::error!(
                "THE ZONES IN MEMORY ARE NOT THOSE OF THEIR ROOT DIGEST; all of them are compared"
            );
            self.say(Found::Root);
        }
        Ok(())
    }

    fn zone(&mut self, snapshot: &Snapshot, zone: &ZoneView<'_>) -> Result<(), Stop> {
        let mut sum = Digest::default();
        for (at, names) in zone.recount(snapshot.digest_key()).enumerate() {
            sum.add(names);
            self.breathe(at)?;
        }
        self.status.rescan_zones.fetch_add(1, Ordering::Relaxed);
        if sum != zone.digest() {
            let (apex, version, digest) = (zone.name(), zone.version(), zone.digest());
            tracing::error!(zone = %apex, version, kept = %digest, found = %sum, "THE RECORDS IN MEMORY ARE NOT THOSE OF THEIR DIGEST; the zone is fetched anew");
            self.say(Found::Zone { apex, version, digest });
        }
        Ok(())
    }

    fn say(&self, found: Found) {
        self.status.rescan_differences.fetch_add(1, Ordering::Relaxed);
        let _ = self.found.try_send(found);
    }

    /// Gives way after a stretch of work; the clock is looked at now and then.
    fn breathe(&mut self, at: usize) -> Result<(), Stop> {
        let worked = if at.is_multiple_of(NAMES) { self.began.elapsed() } else { Duration::ZERO };
        if worked < SLICE {
            return Ok(());
        }
        self.pause(worked * SHARE)
    }

    fn pause(&mut self, pause: Duration) -> Result<(), Stop> {
        let stopped = self.stop.recv_timeout(pause);
        self.began = Instant::now();
        if stopped == Err(RecvTimeoutError::Timeout) { Ok(()) } else { Err(Stop) }
    }
}

#[cfg(test)]
mod tests;
