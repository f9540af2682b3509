//! Tells the supervisor that we are alive, as long as every worker is: a process with a stuck worker answers part of its
//! clients for ever, and only a restart helps (sd_notify(3), `WATCHDOG=1`).

use std::time::{Duration, Instant};

use super::progress::Progress;

/// How often workers are looked at where no supervisor asks for more.
const LOOK: Duration = Duration::from_millis(500);
/// The least time between two looks, whatever the supervisor asks for.
const SHORTEST: Duration = Duration::from_millis(10);

/// Looks at the workers, and speaks or is silent.
pub struct Watchdog {
    /// How long the supervisor waits for a sign of life; `None`: nobody waits.
    timeout: Option<Duration>,
    stuck: Option<String>,
}

impl Watchdog {
    /// For a supervisor that waits so long, as the environment says (`WATCHDOG_USEC`).
    #[must_use]
    pub fn new(timeout: Option<Duration>) -> Self {
        Watchdog { timeout, stuck: None }
    }

    /// How often [`beat`](Self::beat) is to be called: twice in the time that the supervisor waits.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.timeout.map_or(LOOK, |timeout| (timeout / 2).clamp(SHORTEST, LOOK.max(timeout / 2)))
    }

    /// Calls `tell` if somebody waits for it and every worker makes progress.
    pub fn beat(&mut self, progress: &Progress, now: Instant, tell: impl FnOnce()) {
        progress.look(now);
        let stuck = progress.stalled(now);
        match (&stuck, &self.stuck) {
            (Some(worker), None) => {
                tracing::error!(worker, supervised = self.timeout.is_some(), "it makes no progress");
            }
            (None, Some(worker)) => tracing::warn!(worker, "it makes progress again"),
            _ => {}
        }
        self.stuck = stuck;
        if self.timeout.is_some() && self.stuck.is_none() {
            tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::counter::WorkerCounters;
    use crate::observe::progress::STALLED;

    fn tells(watchdog: &mut Watchdog, progress: &Progress, now: Instant) -> bool {
        let mut told = false;
        watchdog.beat(progress, now, || told = true);
        told
    }

    #[test]
    fn the_supervisor_hears_nothing_while_a_worker_is_stuck() {
        let workers: Vec<WorkerCounters> = (0..2).map(|_| WorkerCounters::default()).collect();
        let progress = Progress::new(&workers, &[]);
        let mut watchdog = Watchdog::new(Some(Duration::from_secs(2)));
        assert_eq!(watchdog.interval(), Duration::from_secs(1));
        let start = Instant::now();
        assert!(tells(&mut watchdog, &progress, start));
        let later = start + STALLED + Duration::from_secs(1);
        workers[0].turns.add(1);
        assert!(!tells(&mut watchdog, &progress, later));
        workers[1].turns.add(1);
        assert!(tells(&mut watchdog, &progress, later));
        // Without a supervisor that waits, nobody is told.
        assert!(!tells(&mut Watchdog::new(None), &progress, later));
    }
}
