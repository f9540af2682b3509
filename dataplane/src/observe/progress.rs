//! Whether workers make progress: each counts the turns of its loop, and one that has not come round for long is stuck.
//! What follows from that is decided elsewhere: `/ready` says so, and the supervisor is no longer told that we are alive.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::counter::WorkerCounters;

/// A worker that has not come round its loop for so long makes no progress (an idle one does so ten times a second).
pub const STALLED: Duration = Duration::from_secs(5);

/// The workers, and when each was last seen to have moved.
pub struct Progress(Mutex<Vec<Seen>>);

struct Seen {
    worker: String,
    counters: WorkerCounters,
    turns: u64,
    at: Instant,
}

impl Progress {
    /// Of these workers, all of which are taken to have moved just now.
    #[must_use]
    pub fn new(udp: &[WorkerCounters], tcp: &[WorkerCounters]) -> Self {
        let now = Instant::now();
        let workers = |kind: &'static str, all: &[WorkerCounters]| -> Vec<Seen> {
            let seen = |(i, counters): (usize, &WorkerCounters)| Seen {
                worker: format!("worker {kind}-{i}"),
                counters: counters.clone(),
                turns: counters.turns.get(),
                at: now,
            };
            all.iter().enumerate().map(seen).collect()
        };
        let mut all = workers("udp", udp);
        all.extend(workers("tcp", tcp));
        Progress(Mutex::new(all))
    }

    /// Looks at every worker. To be called more often than [`STALLED`].
    pub fn look(&self, now: Instant) {
        for seen in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let turns = seen.counters.turns.get();
            if turns != seen.turns {
                (seen.turns, seen.at) = (turns, now);
            }
        }
    }

    /// The first worker that has not moved for [`STALLED`].
    #[must_use]
    pub fn stalled(&self, now: Instant) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|seen| now.duration_since(seen.at) > STALLED).map(|seen| seen.worker.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_does_not_come_round_is_named() {
        let counters: Vec<WorkerCounters> = (0..3).map(|_| WorkerCounters::default()).collect();
        let progress = Progress::new(&counters[..2], &counters[2..]);
        let start = Instant::now();
        let later = start + STALLED + Duration::from_secs(1);
        assert_eq!(progress.stalled(start), None);
        counters[0].turns.add(1);
        counters[2].turns.add(1);
        progress.look(later);
        assert_eq!(progress.stalled(later).as_deref(), Some("worker udp-1"));
        counters[1].turns.add(1);
        progress.look(later);
        assert_eq!(progress.stalled(later), None);
    }
}
