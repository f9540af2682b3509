//! `[relay]`

use serde::{Deserialize, Serialize};

/// Change sets are applied in a child process before they are published; one at which it ends twice is withheld. Not with SQLite.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relay {
    /// Whether they are. Default true.
    pub shadow: bool,
    /// Milliseconds that judging change sets may take, and a second more for each MiB of them and of their zones. Default 5000.
    pub shadow_timeout_ms: u64,
    /// Octets of memory that the child may take. Default 1073741824.
    pub shadow_memory_octets: u64,
    /// Octets of zones that it keeps. Of a larger zone, only the records that a change puts are judged; a larger change set is
    /// not. Default 33554432: in memory they take up to sixteen times as much.
    pub shadow_zones_octets: u64,
}

impl Default for Relay {
    fn default() -> Self {
        Relay {
            shadow: true,
            shadow_timeout_ms: 5_000,
            shadow_memory_octets: 1 << 30,
            shadow_zones_octets: 32 << 20,
        }
    }
}

impl Relay {
    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let zones = 1 << 20..=128 << 20;
        [
            (
                (100..=3_600_000).contains(&self.shadow_timeout_ms),
                "relay.shadow_timeout_ms",
                "100 to 3600000",
            ),
            (zones.contains(&self.shadow_zones_octets), "relay.shadow_zones_octets", "1048576 to 134217728"),
            (
                self.shadow_memory_octets >= self.shadow_zones_octets.saturating_mul(16).max(256 << 20),
                "relay.shadow_memory_octets",
                "at least 268435456, and 16 times relay.shadow_zones_octets",
            ),
        ]
        .into_iter()
        .find_map(|(good, key, expected)| (!good).then_some((key, expected)))
    }
}
