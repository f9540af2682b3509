//! `[jobs]`

use serde::{Deserialize, Serialize};

/// Work outside of requests.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jobs {
    /// How many are done at once by this process; 0 leaves them to the others of the database. Default 4.
    pub workers: usize,
    /// Seconds after which a job whose worker says nothing is somebody else's. Default 30.
    pub lease_seconds: u64,
    /// Days for which jobs that ended are kept. Default 7.
    pub kept_days: u32,
}

impl Default for Jobs {
    fn default() -> Self {
        Jobs { workers: 4, lease_seconds: 30, kept_days: 7 }
    }
}

impl Jobs {
    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        [
            (self.workers <= 64, "jobs.workers", "at most 64"),
            ((1..=3_600).contains(&self.lease_seconds), "jobs.lease_seconds", "1 to 3600"),
            ((1..=36_500).contains(&self.kept_days), "jobs.kept_days", "1 to 36500"),
        ]
        .into_iter()
        .find_map(|(good, key, expected)| (!good).then_some((key, expected)))
    }
}
