//! `[audit]`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The audit log.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Days for which its rows are kept. Default 400.
    pub days: u32,
    /// The file that says where it stood, minute by minute: outside of the database, or it would say nothing. Default
    /// `audit-anchors.jsonl` in the data folder.
    pub anchors: Option<PathBuf>,
}

impl Default for Audit {
    fn default() -> Self {
        Audit { days: 400, anchors: None }
    }
}

impl Audit {
    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        (!(1..=36_500).contains(&self.days)).then_some(("audit.days", "1 to 36500"))
    }
}
