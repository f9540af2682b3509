//! `[quotas]`.

use serde::{Deserialize, Serialize};

/// How much a tenant may have where an operator has said nothing else of it; 0 for any number.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Zones. Default 1000.
    pub zones: u32,
    /// RRsets in all of its zones. Default 200000.
    pub records: u32,
    /// Changes of its zones from midnight to midnight, UTC. Default 100000.
    pub changes_a_day: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas { zones: 1_000, records: 200_000, changes_a_day: 100_000 }
    }
}
