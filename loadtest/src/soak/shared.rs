//! What the threads of a run share: the ledger, the windows, counts, latencies, and the word that it is over.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::ledger::History;
use super::outages::{Outages, Side, Transport};
use super::questions::Verdict;
use crate::course::{Course, SENTENCES};

/// The longest latency that is told apart, nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// Shared by all threads.
#[derive(Debug)]
pub struct Shared {
    /// When it began, and whether it is over.
    pub course: Course,
    /// How long it is meant to be.
    pub length: Duration,
    /// Where each server listens, in the order of [`Side::BOTH`].
    pub dns: [SocketAddr; 2],
    /// When what is lost or old is excused.
    pub outages: Outages,
    /// Whether latencies count for p99 drift: no fault is under way.
    pub quiet: AtomicBool,
    /// Whether writers pause.
    pub writers_pause: AtomicBool,
    /// Writers that are in the middle of something.
    pub writers_busy: AtomicU64,
    histories: [Mutex<Vec<History>>; 2],
    tallies: [Mutex<Tally>; 2],
    udp: [Mutex<Meter>; 2],
    api: Mutex<Meter>,
    writes: Mutex<Writes>,
}

/// What became of the queries for one server.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Sent, over UDP and TCP.
    pub sent: [u64; 2],
    /// Answers compared.
    pub checked: u64,
    /// Answers that were wrong.
    pub wrong: u64,
    /// SERVFAIL while that was allowed.
    pub not_ready: u64,
    /// Unanswered inside a window.
    pub lost_inside: u64,
    /// Unanswered outside.
    pub lost_outside: u64,
    /// Due, and not asked because this program had no CPU; UDP only.
    pub unasked: u64,
    /// Unanswered while this program stood still, so that nobody knows; UDP only.
    pub unjudged: u64,
    /// Sent again over a new connection, because the server closed the old one.
    pub retried: u64,
    /// Answers to nothing under way: those that came too late.
    pub strays: u64,
    /// What went wrong first.
    pub sentences: Vec<String>,
}

/// What became of the writes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Writes {
    /// Acknowledged.
    pub acknowledged: u64,
    /// Of these, known to be served when they were acknowledged.
    pub served: u64,
    /// Refused, by status.
    pub refused: std::collections::BTreeMap<u16, u64>,
    /// Without a response: the connection broke, or time was up.
    pub in_doubt: u64,
    /// Of those in doubt or refused, looked up and found carried out.
    pub carried_out: u64,
    /// Acknowledged and not there when looked up.
    pub lost: u64,
    /// Looked up, through the API and through DNS.
    pub looked_up: [u64; 2],
}

/// Latencies: of the last second, and of each quarter of the run without the times of faults.
#[derive(Debug)]
pub struct Meter {
    second: Histogram<u64>,
    quarters: [Histogram<u64>; 4],
}

impl Meter {
    fn new() -> Self {
        let empty = || Histogram::new_with_max(LONGEST, 3).expect("the bounds are in order");
        Meter { second: empty(), quarters: [empty(), empty(), empty(), empty()] }
    }

    /// Count, median and 99th percentile in µs since the last call.
    pub fn take_second(&mut self) -> (u64, [f64; 2]) {
        let found = (self.second.len(), percentiles(&self.second));
        self.second.reset();
        found
    }

    /// Median and 99th percentile in µs of each quarter, and how many latencies each has.
    #[must_use]
    pub fn quarters(&self) -> [(u64, [f64; 2]); 4] {
        self.quarters.each_ref().map(|quarter| (quarter.len(), percentiles(quarter)))
    }
}

fn percentiles(histogram: &Histogram<u64>) -> [f64; 2] {
    [0.5, 0.99].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// At the beginning, with the states of all names that change: those of `godwit run`, those of the data plane.
    #[must_use]
    pub fn new(length: Duration, dns: [SocketAddr; 2], histories: [Vec<History>; 2]) -> Self {
        Shared {
            course: Course::new(),
            length,
            dns,
            outages: Outages::default(),
            quiet: AtomicBool::new(true),
            writers_pause: AtomicBool::new(false),
            writers_busy: AtomicU64::new(0),
            histories: histories.map(Mutex::new),
            tallies: Default::default(),
            udp: [Mutex::new(Meter::new()), Mutex::new(Meter::new())],
            api: Mutex::new(Meter::new()),
            writes: Mutex::default(),
        }
    }

    /// The ledger of one server.
    pub fn histories(&self, side: Side) -> MutexGuard<'_, Vec<History>> {
        lock(&self.histories[side as usize])
    }

    /// The counts of one server.
    pub fn tally(&self, side: Side) -> MutexGuard<'_, Tally> {
        lock(&self.tallies[side as usize])
    }

    /// The latencies over UDP of one server.
    pub fn udp(&self, side: Side) -> MutexGuard<'_, Meter> {
        lock(&self.udp[side as usize])
    }

    /// The latencies of writes.
    pub fn api(&self) -> MutexGuard<'_, Meter> {
        lock(&self.api)
    }

    /// The counts of writes.
    pub fn writes(&self) -> MutexGuard<'_, Writes> {
        lock(&self.writes)
    }

    /// Notes a latency.
    pub fn measure(&self, meter: &mut Meter, latency: Duration, now: Instant) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST);
        meter.second.saturating_record(nanoseconds);
        if self.quiet.load(Ordering::Relaxed) {
            let part = (now - self.course.started).as_secs_f64() / self.length.as_secs_f64();
            meter.quarters[((part * 4.0) as usize).min(3)].saturating_record(nanoseconds);
        }
    }

    /// Notes what was found out about an answer.
    pub fn judged(&self, side: Side, verdict: Verdict, about: &dyn Fn() -> String) {
        let mut tally = self.tally(side);
        tally.checked += 1;
        match verdict {
            Verdict::Right => {}
            Verdict::NotReady => tally.not_ready += 1,
            Verdict::Wrong(reason) => {
                tally.wrong += 1;
                self.say(&mut tally, side, &format!("wrong: {}: {reason}", about()));
            }
        }
    }

    /// Notes a query that was due then and has no answer.
    pub fn lost(&self, side: Side, transport: Transport, due: Instant, about: &dyn Fn() -> String) {
        let excused = self.outages.excuses(side, transport, due);
        let mut tally = self.tally(side);
        if excused {
            tally.lost_inside += 1;
        } else {
            tally.lost_outside += 1;
            let due = (due - self.course.started).as_secs_f64();
            self.say(&mut tally, side, &format!("lost ({transport:?}): {}, due at {due:.3} s", about()));
        }
    }

    fn say(&self, tally: &mut Tally, side: Side, sentence: &str) {
        if tally.sentences.len() < SENTENCES {
            let at = self.course.started.elapsed().as_secs_f64();
            let sentence = format!("{at:.3} s, {}: {sentence}", side.name());
            eprintln!("{sentence}");
            tally.sentences.push(sentence);
        }
    }
}
