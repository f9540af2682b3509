//! The query log: who asked what, and what came of it, for operators who want to know. Off unless asked for.
//!
//! Each worker has a [`Recorder`], the writing end of a ring of its own that is allocated once: it copies what is
//! needed and goes on, or counts what had no room. One thread, the `logger`, empties the rings, puts records into
//! the form asked for (`json` or `dnstap`) and writes them to the `sink`. So a sink that takes nothing costs the
//! workers one look at a full ring per query, and nothing here can make an answer wait.
//!
//! Every message is accounted for: recorded = written + dropped (by reason) + not written yet.

mod dnstap;
mod frame_stream;
mod json;
mod logger;
mod record;
mod recorder;
mod sink;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use anyhow::Context;
use crossbeam::channel;
use crossbeam::utils::CachePadded;

pub use frame_stream::{CONTENT_TYPE, Control};
pub use record::{Exchange, Fate};
pub use recorder::Recorder;

use self::logger::Logger;
use self::record::Keep;
use self::sink::Sink;
use super::counter::Counter;
use crate::config::{QueryLog as Settings, QueryLogFormat, QueryLogMode};
use crate::sys::host;

/// How long a stop waits for what is logged already. After that the thread is left to end with the process: a sink
/// that takes nothing must not hold up a stop.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
/// The name of a host that does not say its own.
const NAMELESS: &str = "localhost";

/// What the query log counts; shown as metrics. All zero when it is off.
#[derive(Debug, Default)]
pub struct Counts {
    /// Messages that had no room in the ring of their worker, one count per worker.
    ring_full: Vec<Arc<CachePadded<Counter>>>,
    /// Messages whose record the sink has taken to its last octet.
    pub written: Counter,
    /// Messages whose record was being written when the sink went away.
    pub sink_lost: Counter,
    /// Messages not written when the server stopped.
    pub stopped: Counter,
    /// Whether the sink takes what is written: 1 or 0.
    pub sink_up: AtomicU64,
}

/// The labels of what is dropped; see [`Counts::dropped`].
pub const DROPPED: [&str; 3] = ["ring_full", "sink_lost", "stopped"];

impl Counts {
    /// How many messages were not logged for reason `i` of [`DROPPED`].
    #[must_use]
    pub fn dropped(&self, i: usize) -> u64 {
        match i {
            0 => self.ring_full.iter().map(|count| count.get()).sum(),
            1 => self.sink_lost.get(),
            _ => self.stopped.get(),
        }
    }
}

/// What others tell the logger.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    stop: AtomicBool,
    reopen: AtomicBool,
    /// Whether another process has the target now. Held while files are opened, moved or looked after.
    handed_over: Mutex<bool>,
}

impl Signals {
    fn handed_over(&self) -> MutexGuard<'_, bool> {
        self.handed_over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running query log.
#[derive(Debug)]
pub struct QueryLog {
    signals: Arc<Signals>,
    thread: Thread,
    ended: channel::Receiver<()>,
    counts: Arc<Counts>,
}

impl QueryLog {
    /// Starts the log for these workers, with a recorder for each in their order; `None` when it is off. The target
    /// need not be there: it is tried again until it is. Nothing is done to it before `may_begin` returns, which is called
    /// on the thread of the log; it says whether anything ever will be.
    ///
    /// # Errors
    /// When no thread or no random number can be had.
    pub fn start(
        settings: &Settings,
        workers: &[String],
        may_begin: impl FnOnce() -> bool + Send + 'static,
    ) -> anyhow::Result<Option<(Self, Vec<Recorder>)>> {
        let (one_in, target) = match (settings.mode, &settings.target) {
            (QueryLogMode::Off, _) | (_, None) => return Ok(None),
            (QueryLogMode::Sampled, Some(target)) => (settings.sample_one_in.get(), target),
            (QueryLogMode::Full, Some(target)) => (1, target),
        };
        let keep = match settings.format {
            QueryLogFormat::Json => Keep::Heads,
            QueryLogFormat::Dnstap => Keep::Whole,
        };
        let mut counts = Counts::default();
        let (mut recorders, mut rings) = (Vec::new(), Vec::new());
        for _ in workers {
            let (producer, consumer) = rtrb::RingBuffer::new(settings.ring_octets);
            let full = Arc::<CachePadded<Counter>>::default();
            counts.ring_full.push(Arc::clone(&full));
            recorders.push(Recorder::new(producer, full, one_in, seed()?, keep));
            rings.push(consumer);
        }
        let counts = Arc::new(counts);
        let node = settings.node.clone().unwrap_or_else(host_name);
        let signals = Arc::new(Signals::default());
        let sink = Sink::new(target.clone(), settings.format);
        let mut logger = Logger::new(rings, workers, &node, sink, Arc::clone(&counts), Arc::clone(&signals));
        let (ending, ended) = channel::bounded(1);
        let work = move || {
            if may_begin() {
                logger.run();
            }
            let _ = ending.send(());
        };
        let handle = std::thread::Builder::new()
            .name("query-log".to_owned())
            .spawn(work)
            .context("starting the thread of the query log")?;
        let log = QueryLog { signals, thread: handle.thread().clone(), ended, counts };
        Ok(Some((log, recorders)))
    }

    /// What it counts.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// For whoever is told that the file was moved away.
    #[must_use]
    pub fn reopener(&self) -> Reopener {
        Reopener(Some((Arc::clone(&self.signals), self.thread.clone())))
    }

    /// From now on another process writes to the same target: what is open here is written to its end, and no file is
    /// opened or moved any more, as it would be the other's.
    pub fn hand_over(&self) {
        *self.signals.handed_over() = true;
    }

    /// Writes what the workers have recorded, which have stopped, and ends; waits at most `STOP_DEADLINE`.
    pub fn stop(self) {
        self.signals.stop.store(true, Ordering::Release);
        self.thread.unpark();
        if self.ended.recv_timeout(STOP_DEADLINE).is_err() {
            tracing::warn!("the sink of the query log takes nothing; the stop does not wait for it");
        }
    }
}

/// Makes a query log look after its file; the default one has no log to tell.
#[derive(Clone, Debug, Default)]
pub struct Reopener(Option<(Arc<Signals>, Thread)>);

impl Reopener {
    /// Has the log look whether the target's file was moved away, and if so go on with a new one; a lost sink is
    /// tried at once. Does not wait for it.
    pub fn reopen(&self) {
        if let Some((signals, thread)) = &self.0 {
            signals.reopen.store(true, Ordering::Release);
            thread.unpark();
        }
    }
}

fn host_name() -> String {
    Some(host::name()).filter(|name| !name.is_empty()).unwrap_or_else(|| NAMELESS.to_owned())
}

/// Where a worker's sampling begins; never 0.
fn seed() -> anyhow::Result<u64> {
    getrandom::u64().map(|seed| seed | 1).context("random octets")
}
