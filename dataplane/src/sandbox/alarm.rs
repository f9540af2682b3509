//! Says when the sandbox denied something: it is a fault of ours, or an intruder at work.

use std::time::{Duration, Instant};

use crate::sys::denied;

/// The least time between two lines: an intruder must not fill the disk.
const INTERVAL: Duration = Duration::from_secs(10);

/// What was said so far.
#[derive(Debug, Default)]
pub struct Alarm {
    said: u64,
    at: Option<Instant>,
}

impl Alarm {
    /// Logs calls that were denied since the last line, with the number of the last of them.
    pub fn look(&mut self, now: Instant) {
        let count = denied::count();
        if count == self.said || self.at.is_some_and(|at| now.duration_since(at) < INTERVAL) {
            return;
        }
        (self.said, self.at) = (count, Some(now));
        tracing::error!(call = denied::last(), denied = count, "the sandbox denied a system call");
    }
}
