//! What the threads of a run share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ledger::Ledger;
use crate::interrupt;

/// Sentences kept of what went wrong; more say nothing new.
const SENTENCES: usize = 40;

/// A data plane as those who ask it see it.
#[derive(Debug)]
pub struct Watched {
    /// Where it answers.
    pub dns: SocketAddr,
    /// Raised with each life of its process, and whenever it may go back: what was seen before says nothing afterwards.
    pub life: AtomicU32,
    /// Whether it is to answer now.
    pub is_up: AtomicBool,
    /// Whether it may say that it has no data.
    pub may_be_empty: AtomicBool,
    /// What became of the queries.
    pub tally: Mutex<Tally>,
}

/// What became of the queries for one data plane.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Answers that were judged.
    pub judged: u64,
    /// Of these, wrong.
    pub wrong: u64,
    /// SERVFAIL where that was allowed.
    pub not_ready: u64,
    /// Without an answer while the process was killed, stopped or starting.
    pub lost_inside: u64,
    /// Without an answer at any other time.
    pub lost_outside: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// When the run began.
    pub started: Instant,
    /// APIs of the control planes.
    pub apis: Vec<SocketAddr>,
    /// The administrator's token.
    pub token: String,
    /// The data planes.
    pub nodes: Vec<Watched>,
    /// Everything that was asked for.
    pub ledger: Ledger,
    /// Names below this one are everywhere, and in every local snapshot.
    pub settled: AtomicU32,
    /// Whether data planes may go back at any moment: the database was put back, and the operator has said so.
    pub goes_back: AtomicBool,
    /// Whether writers pause.
    pub pause: AtomicBool,
    /// Requests of writers under way.
    pub under_way: AtomicU64,
    /// Answers to writes by status.
    pub statuses: Mutex<BTreeMap<u16, u64>>,
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Shared {
    /// At the beginning.
    #[must_use]
    pub fn new(apis: Vec<SocketAddr>, token: String, nodes: &[SocketAddr]) -> Shared {
        let watched = |&dns: &SocketAddr| Watched {
            dns,
            life: AtomicU32::new(0),
            is_up: AtomicBool::new(true),
            may_be_empty: AtomicBool::new(false),
            tally: Mutex::default(),
        };
        Shared {
            started: Instant::now(),
            apis,
            token,
            nodes: nodes.iter().map(watched).collect(),
            ledger: Ledger::default(),
            settled: AtomicU32::new(0),
            goes_back: AtomicBool::new(false),
            pause: AtomicBool::new(true),
            under_way: AtomicU64::new(0),
            statuses: Mutex::default(),
            stop: AtomicBool::new(false),
            failures: Mutex::default(),
        }
    }

    /// Whether threads should end.
    #[must_use]
    pub fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || interrupt::requested()
    }

    /// From now on threads should end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for so long, or until it is over: then false.
    #[must_use]
    pub fn wait(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.over() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
        false
    }

    /// Notes what makes the run fail.
    pub fn fail(&self, what: &str) {
        let at = self.started.elapsed().as_secs_f64();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < SENTENCES {
            eprintln!("FAILED at {at:.1} s: {what}");
            failures.push(format!("at {at:.1} s: {what}"));
        }
    }

    /// What was noted with [`Shared::fail`].
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Watched {
    /// Notes something about a query.
    pub fn note(&self, note: impl FnOnce(&mut Tally)) {
        note(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// It may be gone, or go back, from now on.
    pub fn down(&self) {
        self.is_up.store(false, Ordering::SeqCst);
        self.may_go_back();
    }

    /// What was seen before says nothing from now on.
    pub fn may_go_back(&self) {
        self.life.fetch_add(1, Ordering::SeqCst);
    }

    /// It is to answer from now on.
    pub fn up(&self) {
        self.is_up.store(true, Ordering::SeqCst);
    }
}
