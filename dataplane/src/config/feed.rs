//! What applying a change of the feed may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::feed::attempts::watch::Bounds;

/// `[feed]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Feed {
    /// Milliseconds that applying a change may take, and a second more for each MiB of it: then the process ends. Default
    /// 30000.
    pub apply_timeout_ms: u64,
    /// Octets that the process may grow by meanwhile, and 64 for each octet of the change. Default 1073741824.
    pub apply_memory_octets: u64,
}

impl Default for Feed {
    fn default() -> Self {
        Feed { apply_timeout_ms: 30_000, apply_memory_octets: 1 << 30 }
    }
}

impl Feed {
    pub(super) fn ranges(&self) -> [(bool, &'static str, &'static str); 2] {
        [
            (self.apply_timeout_ms >= 1_000, "feed.apply_timeout_ms", "at least 1000"),
            (self.apply_memory_octets >= 64 << 20, "feed.apply_memory_octets", "at least 67108864"),
        ]
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds { time: Duration::from_millis(self.apply_timeout_ms), memory: self.apply_memory_octets }
    }
}
