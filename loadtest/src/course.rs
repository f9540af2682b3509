//! The course of a run of many threads: when it began, whether it is over, and what makes it fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::interrupt;

/// Sentences kept of what went wrong; more say nothing new.
pub const SENTENCES: usize = 20;

/// See the module.
#[derive(Debug)]
pub struct Course {
    /// When the run began.
    pub started: Instant,
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Course {
    /// Begins now.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it has a time")]
    pub fn new() -> Course {
        Course { started: Instant::now(), stop: AtomicBool::new(false), failures: Mutex::default() }
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

    /// What was noted with [`Course::fail`].
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
