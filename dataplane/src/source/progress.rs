//! How far a long load is: a bar on a terminal, a line in the log every few seconds elsewhere. Nothing is said about
//! a load that is done at once.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// How long a load runs before anything is said.
const SILENCE: Duration = Duration::from_millis(500);
/// How often a bar moves, and how often a line is logged.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// Counts, shared by all threads that load.
#[derive(Debug)]
pub(super) struct Progress {
    zones: usize,
    zones_done: AtomicUsize,
    names: AtomicU64,
}

impl Progress {
    pub(super) fn new(zones: usize) -> Self {
        Progress { zones, zones_done: AtomicUsize::new(0), names: AtomicU64::new(0) }
    }

    /// Another zone is done, good or bad.
    pub(super) fn zone_done(&self) {
        self.zones_done.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more names were read. Not to be called for each: threads share the counter.
    pub(super) fn add_names(&self, count: u64) {
        self.names.fetch_add(count, Ordering::Relaxed);
    }

    /// Runs `work` and shows progress beside it.
    pub(super) fn show_while<O>(&self, work: impl FnOnce() -> O) -> O {
        let (done, waiting) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || self.show(&waiting));
            let output = work();
            drop(done);
            output
        })
    }

    /// Until the other end of the channel is gone.
    fn show(&self, waiting: &mpsc::Receiver<()>) {
        let ended = |interval| waiting.recv_timeout(interval) != Err(RecvTimeoutError::Timeout);
        if ended(SILENCE) {
            return;
        }
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(u64::try_from(self.zones).unwrap_or(u64::MAX));
            if let Ok(style) =
                ProgressStyle::with_template("loading {wide_bar} {pos}/{len} zones, {msg} names, {elapsed}")
            {
                bar.set_style(style);
            }
            while !ended(BAR_INTERVAL) {
                bar.set_position(u64::try_from(self.zones_done.load(Ordering::Relaxed)).unwrap_or(u64::MAX));
                bar.set_message(HumanCount(self.names.load(Ordering::Relaxed)).to_string());
            }
            bar.finish_and_clear();
        } else {
            loop {
                tracing::info!(
                    zones_done = self.zones_done.load(Ordering::Relaxed),
                    zones = self.zones,
                    names = self.names.load(Ordering::Relaxed),
                    "loading zone files"
                );
                if ended(LINE_INTERVAL) {
                    return;
                }
            }
        }
    }
}
