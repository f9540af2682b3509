//! Ends the process when applying something takes far longer than anything honest does, or far more memory. A loop that does
//! not end cannot be ended otherwise; the next process finds the note. Until then the old snapshot is served.
//!
//! Time is counted in looks of the watch itself: a process that was stopped, or a machine that has no time for us, is not
//! taken for a loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::Attempts;
use crate::sys::memory;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// Octets for which there is a second more.
const OCTETS_PER_SECOND: usize = 1 << 20;
/// Memory that each octet may take besides.
const MEMORY_PER_OCTET: u64 = 64;

/// What an attempt may take, besides what its size allows.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long.
    pub time: Duration,
    /// How many octets the process may grow by.
    pub memory: u64,
}

/// What is looked at.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Odd while something is being applied.
    turn: AtomicU64,
    octets: AtomicUsize,
}

impl Watched {
    pub(super) fn begin(&self, octets: usize) {
        self.octets.store(octets, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.turn.fetch_add(1, Ordering::Release);
    }
}

/// What the watch knows from the looks before.
#[derive(Debug, Default)]
struct Looks {
    turn: u64,
    count: u32,
    memory: u64,
}

impl Looks {
    /// Looks once more; what is wrong, if anything is.
    fn look(&mut self, watched: &Watched, memory: u64, bounds: &Bounds) -> Option<&'static str> {
        let turn = watched.turn.load(Ordering::Acquire);
        if turn != self.turn || turn.is_multiple_of(2) {
            *self = Looks { turn, count: 0, memory };
            return None;
        }
        self.count += 1;
        let octets = watched.octets.load(Ordering::Relaxed);
        let seconds = u64::try_from(octets / OCTETS_PER_SECOND).unwrap_or(u64::MAX);
        if LOOK.saturating_mul(self.count) > bounds.time.saturating_add(Duration::from_secs(seconds)) {
            return Some("applying a change does not come to an end");
        }
        let allowed = MEMORY_PER_OCTET.saturating_mul(u64::try_from(octets).unwrap_or(u64::MAX));
        if memory.saturating_sub(self.memory) > bounds.memory.saturating_add(allowed) {
            return Some("applying a change takes too much memory");
        }
        None
    }
}

impl Attempts {
    /// Starts the thread that watches, until the last of these is dropped.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn watch(&self, bounds: Bounds) -> std::io::Result<()> {
        let inner = Arc::downgrade(&self.0);
        std::thread::Builder::new().name("feed-watch".to_owned()).spawn(move || {
            let mut looks = Looks::default();
            loop {
                std::thread::sleep(LOOK);
                let Some(inner) = inner.upgrade() else { return };
                if let Some(wrong) = looks.look(&inner.watched, memory::peak_octets(), &bounds) {
                    tracing::error!(
                        "{wrong}; the process ends, and the next one goes on from its local snapshot"
                    );
                    std::process::abort();
                }
            }
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { time: Duration::from_secs(2), memory: 1_000 };

    fn looks(watched: &Watched, count: u32, memory: u64) -> Option<&'static str> {
        let mut looks = Looks::default();
        looks.look(watched, 0, &BOUNDS);
        (0..count).find_map(|_| looks.look(watched, memory, &BOUNDS))
    }

    #[test]
    fn what_takes_too_long_or_too_much_is_seen_and_size_is_allowed_for() {
        let watched = Watched::default();
        assert_eq!(looks(&watched, 1_000, u64::MAX), None, "nothing is applied");
        watched.begin(0);
        assert_eq!(looks(&watched, 20, 1_000), None);
        assert!(looks(&watched, 21, 0).unwrap().contains("end"));
        assert!(looks(&watched, 1, 1_001).unwrap().contains("memory"));
        watched.end();
        watched.begin(100 << 20);
        assert_eq!(looks(&watched, 1_000, 1_000), None, "100 MiB have 100 s more");
        assert!(looks(&watched, 1_021, 0).is_some());
        watched.end();
        assert_eq!(looks(&watched, 10_000, 0), None);
    }

    #[test]
    fn many_short_ones_are_not_one_long_one() {
        let (watched, mut looks) = (Watched::default(), Looks::default());
        for turn in 0..1_000 {
            watched.begin(0);
            assert_eq!(looks.look(&watched, turn * 900, &BOUNDS), None);
            watched.end();
        }
    }
}
