//! What the threads of a run share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::ledger::Ledger;
use crate::course::Course;

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
    /// When it began, and whether it is over.
    pub course: Course,
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
            course: Course::new(),
            apis,
            token,
            nodes: nodes.iter().map(watched).collect(),
            ledger: Ledger::default(),
            settled: AtomicU32::new(0),
            goes_back: AtomicBool::new(false),
            pause: AtomicBool::new(true),
            under_way: AtomicU64::new(0),
            statuses: Mutex::default(),
        }
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
