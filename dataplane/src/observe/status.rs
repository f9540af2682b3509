//! Where the data plane stands: written by the feed and by reloads, read by metrics and health.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sandbox::Confinement;

/// What is served now. Every field is written by whoever swaps snapshots, one at a time.
#[derive(Debug, Default)]
pub struct Status {
    /// There is a snapshot to answer from (it may be old).
    pub has_snapshot: AtomicBool,
    /// Place of the last change set served, 0 without a feed.
    pub sequence: AtomicU64,
    /// Zones served.
    pub zones: AtomicU64,
    /// Owner names served, empty non-terminals included.
    pub names: AtomicU64,
    /// Microseconds from the commit of the newest change served to the swap that showed it.
    pub lag_us: AtomicU64,
    /// When what is served was last known to be current, in microseconds since the epoch; 0: never.
    pub current_at_us: AtomicI64,
    /// Zones kept at their last good state because a change to them could not be applied.
    pub quarantined_zones: AtomicU64,
    /// Of which those that ended a process.
    pub frozen_zones: AtomicU64,
    /// Changes and zones whose applying panicked.
    pub apply_panics: AtomicU64,
    /// Comparisons of what is held with the index of the feed.
    pub feed_resyncs: AtomicU64,
    /// Batches and heads that were left out because their history or term is past.
    pub feed_stale: AtomicU64,
    /// Heads whose root digest was not that of what is served at their place.
    pub digest_mismatches: AtomicU64,
    /// Rounds in which the digests of all zones were worked out from their records.
    pub rescan_rounds: AtomicU64,
    /// Zones of which that was done.
    pub rescan_zones: AtomicU64,
    /// How often something else came out than is kept.
    pub rescan_differences: AtomicU64,
    /// Zones left out, or kept at an older state, because their file could not be read.
    pub failed_zones: AtomicU64,
    /// 1 while the cookie secrets in use are older than their file, which could not be read; else 0.
    pub cookie_secrets_failed: AtomicU64,
    /// Local snapshots written.
    pub snapshots_written: AtomicU64,
    /// Local snapshots that could not be written or read.
    pub snapshot_errors: AtomicU64,
    /// What the process is kept from, set once at the start.
    pub confinement: OnceLock<Confinement>,
}

impl Status {
    /// Seconds from commit to swap of the newest change.
    #[must_use]
    pub fn lag_seconds(&self) -> f64 {
        seconds(self.lag_us.load(Ordering::Relaxed))
    }

    /// Seconds since what is served was last known to be current; `None` when it never was.
    #[must_use]
    pub fn age_seconds(&self) -> Option<f64> {
        let at = self.current_at_us.load(Ordering::Relaxed);
        (at > 0).then(|| seconds(u64::try_from(now_us().saturating_sub(at)).unwrap_or(0)))
    }

    /// Notes that what is served is current as of now.
    pub fn mark_current(&self) {
        self.current_at_us.store(now_us(), Ordering::Relaxed);
    }
}

/// Microseconds since the epoch.
#[must_use]
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn seconds(microseconds: u64) -> f64 {
    // Exact up to 2^53 µs, which is 285 years.
    #[expect(clippy::cast_precision_loss, reason = "no span of time here is that long")]
    let seconds = microseconds as f64 / 1e6;
    seconds
}
