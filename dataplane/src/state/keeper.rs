//! Writes the local snapshot in the background, at bounded intervals and on stop, and frees old snapshots. Off every
//! path that answers or applies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use godwit_engine::snapshot::Snapshot;
use godwit_engine::snapshot::store::Store;

use super::State;
use crate::observe::status::Status;
use crate::sys::affinity;

/// How often it is looked whether there is something to write, or something to free.
const TICK: Duration = Duration::from_millis(250);
/// The least time from one snapshot written to the next.
const INTERVAL: Duration = Duration::from_secs(2);
/// Of a large snapshot, writing takes at most one part in so many of the time: all of it is written each time, a hundred octets and more
/// for each name, and who starts from an older one comes by the log in moments.
const SHARE: u32 = 50;
/// While a large one is written, so much longer than it worked on a part it rests before the next: at once it would keep one CPU, and
/// the disk, from everybody else for as long as all of it takes.
const REST: u32 = 3;
/// The longest of these pauses: what takes long is the disk, which rests already.
const MAX_REST: Duration = Duration::from_millis(50);
/// The most time from one to the next: on a disk or a CPU with others on it, writing may take long, and what is served at
/// the next start would be old.
const MAX_INTERVAL: Duration = Duration::from_secs(30);

/// The thread that keeps the local snapshot up to date.
pub struct Keeper {
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread. `state`: none when no local snapshot is kept; old ones in memory are freed all the same.
    /// `fresh` says that what is served was just read from there.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        store: Arc<Store<Snapshot>>,
        state: Option<State>,
        status: Arc<Status>,
        fresh: bool,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let written = fresh.then(|| store.load());
        let pauses = Pauses { store: Arc::clone(&store), stopped, stops: false };
        let mut work = Work { store, state, status, written, next: Instant::now(), pauses };
        let thread = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            affinity::step_back();
            while work.pauses.rest(TICK) {
                if Instant::now() >= work.next {
                    work.write();
                }
            }
            work.write();
        })?;
        Ok(Keeper { stop, thread: Some(thread) })
    }

    /// Writes what is not written yet, and ends.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.join();
    }
}

struct Work {
    store: Arc<Store<Snapshot>>,
    state: Option<State>,
    status: Arc<Status>,
    /// What the disk has. Held so that another snapshot cannot come to lie at its address.
    written: Option<Arc<Snapshot>>,
    next: Instant,
    pauses: Pauses,
}

/// Waits, in which old snapshots are freed.
struct Pauses {
    store: Arc<Store<Snapshot>>,
    stopped: mpsc::Receiver<()>,
    /// There is no more time for pauses.
    stops: bool,
}

impl Pauses {
    /// Waits, unless all is to end; whether it goes on.
    fn rest(&mut self, wait: Duration) -> bool {
        if !self.stops {
            self.stops = self.stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout);
            self.store.reap();
        }
        !self.stops
    }
}

impl Work {
    fn write(&mut self) {
        let Some(state) = &mut self.state else { return };
        let snapshot = self.store.load();
        let same = self.written.as_ref().is_some_and(|written| Arc::ptr_eq(written, &snapshot));
        if same || !self.status.has_snapshot.load(Ordering::Relaxed) {
            return;
        }
        let current_at_us = self.status.current_at_us.load(Ordering::Relaxed);
        let (started, mut rested) = (Instant::now(), Duration::ZERO);
        let mut rest = |worked: Duration| {
            let began = Instant::now();
            self.pauses.rest(worked.saturating_mul(REST).min(MAX_REST));
            rested += began.elapsed();
        };
        match state.save_resting(&snapshot, current_at_us, &mut rest) {
            Ok(true) => {
                self.status.snapshots_written.fetch_add(1, Ordering::Relaxed);
                let sequence = snapshot.position().sequence;
                tracing::debug!(sequence, zones = snapshot.zone_count(), "local snapshot written");
                self.written = Some(snapshot);
            }
            Ok(false) => {}
            Err(error) => {
                self.status.snapshot_errors.fetch_add(1, Ordering::Relaxed);
                tracing::error!(error = format!("{error:#}"), "the local snapshot could not be written");
            }
        }
        self.next = Instant::now() + pause_after(started.elapsed().saturating_sub(rested));
    }
}

/// How long nothing is written after a snapshot that took so long.
fn pause_after(writing: Duration) -> Duration {
    writing.saturating_mul(SHARE).clamp(INTERVAL, MAX_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_follows_the_size_within_bounds() {
        let pauses = [0, 50, 400, 10_000].map(|ms| pause_after(Duration::from_millis(ms)));
        assert_eq!(pauses, [INTERVAL, Duration::from_millis(2_500), Duration::from_secs(20), MAX_INTERVAL]);
    }
}
