//! The goals of the project for each row: ratios to the best peer and to the reflector, both inside one run.

use crate::data::Workload;
use crate::propagate::throughput::Load;

/// What Godwit's figure is to be at most, over another's in the same run.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Goal {
    /// Over the best peer's.
    pub best_peer: f64,
    /// Over the best peer's, later; TCP has no reflector.
    pub next_best_peer: Option<f64>,
    /// Over the reflector's, later.
    pub next_floor: Option<f64>,
}

/// The goal of a workload's CPU time per answer.
#[must_use]
pub fn of(workload: Workload) -> Option<Goal> {
    let udp = |best_peer, floor| Some(Goal { best_peer, next_best_peer: None, next_floor: Some(floor) });
    match workload {
        Workload::Small | Workload::SmallEdns => udp(0.88, 1.04),
        Workload::Large => udp(0.55, 1.10),
        Workload::LargeNx => udp(0.58, 1.12),
        Workload::Zones => udp(0.55, 1.10),
        Workload::Delegations => udp(0.60, 1.15),
        Workload::Tcp10 => Some(Goal { best_peer: 1.0, next_best_peer: Some(0.8), next_floor: None }),
        Workload::LargeRate | Workload::Tcp1 | Workload::TcpConnect => None,
    }
}

/// Seconds from start to first answer with the 1M-name zone.
pub const LOAD: Goal = Goal { best_peer: 0.4, next_best_peer: Some(0.25), next_floor: None };
/// Proportional set size with the 1M-name zone.
pub const MEMORY: Goal = Goal { best_peer: 0.5, next_best_peer: Some(0.35), next_floor: None };
/// 99th percentile of latency at a fixed rate, nothing changing.
pub const IDLE_P99: Goal = Goal { best_peer: 1.1, next_best_peer: None, next_floor: None };
/// 99th percentile of latency under 500 changes a second, over the own one with nothing changing.
pub const BUSY_P99: f64 = 1.5;
/// One RRset change through the API until a query sees it, milliseconds.
pub const VISIBLE_MS: f64 = 1.0;

/// What of its own peak a server still does when a multiple of it is offered.
#[derive(Clone, Copy, Debug)]
pub struct OverloadGoal {
    /// Offered over peak.
    pub factor: f64,
    /// Served over peak, at least.
    pub served: f64,
}

/// Overload.
pub const OVERLOAD: [OverloadGoal; 2] =
    [OverloadGoal { factor: 2.0, served: 0.98 }, OverloadGoal { factor: 10.0, served: 0.90 }];
/// 99th percentile of the answered under overload, milliseconds.
pub const OVERLOAD_P99_MS: f64 = 10.0;
/// CPU time of a name that is not there over that of a hit.
pub const NEGATIVE: f64 = 1.3;
/// 99th percentile over UDP while slow TCP clients stand, over the own one without.
pub const SLOW_P99: f64 = 1.2;
/// Memory that TCP connections may take: the default budget of Godwit, octets, and its tolerance.
pub const SLOW_MEMORY: f64 = 256.0 * 1_048_576.0 * 1.05;
/// Amplification over the best peer's.
pub const AMPLIFICATION: f64 = 1.0;
/// What a spoofed victim receives, over what it would without rate limiting.
pub const REFLECTED: f64 = 0.05;
/// Memory of a process that goes on and on under changes and faults, MiB an hour.
pub const SOAK_SLOPE: f64 = 1.0;
/// 99th percentile of the last quarter of a long run over that of the first.
pub const SOAK_DRIFT: f64 = 1.05;

/// RRsets a second that clients in a closed loop change on PostgreSQL with its default durability, at least.
#[must_use]
pub fn changes_per_second(load: Load, nodes: usize) -> f64 {
    match load {
        Load::Zones if nodes > 1 => 1_000.0,
        Load::Zones => 2_000.0,
        Load::OneZone => 800.0,
        Load::Large => 20_000.0,
    }
}

/// From the acknowledgement of a change until every data plane answers with it, milliseconds: median and 99th percentile.
pub const EVERYWHERE_MS: [f64; 2] = [3.0, 15.0];

/// From the end of a fault until every data plane has everything, seconds.
pub const HEALED_S: f64 = 5.0;

/// From the start of a process with a local snapshot of a million names to its first answer, seconds.
pub const COLD_START_S: f64 = 1.0;
/// One zone that changed among 100,000 fetched anew, seconds.
pub const RESYNC_S: f64 = 0.1;
/// A million names from the record cache, seconds.
pub const BOOTSTRAP_S: f64 = 3.0;
/// 100,000 records back everywhere, seconds.
pub const ROLLBACK_S: f64 = 5.0;
/// From the acknowledgement of a change until every data plane answers with it while Redis is gone, 99th percentile, milliseconds.
pub const WITHOUT_REDIS_MS: f64 = 500.0;
