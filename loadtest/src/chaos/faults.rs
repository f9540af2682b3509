//! What goes wrong in a run: kinds of faults, and in which order they come.

use std::fmt;

use serde::Serialize;

use crate::data::draw::Draw;

/// A kind of fault.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL to a control plane that does not lead.
    KillApi,
    /// SIGKILL to the one that leads.
    KillRelay,
    /// SIGKILL to Redis, which starts again with nothing.
    KillRedis,
    /// SIGKILL to PostgreSQL.
    KillPostgres,
    /// SIGKILL to a data plane.
    KillNode,
    /// SIGSTOP to the control plane that leads, SIGCONT after another leads.
    PauseLeader,
    /// FLUSHALL.
    FlushRedis,
    /// Redis comes back with an older state of its own.
    OlderRedis,
    /// A data plane is stopped, and the stream trimmed past it meanwhile.
    TrimStream,
    /// Redis takes nothing more.
    RedisFull,
    /// Redis becomes a replica of nobody, which can only be read.
    RedisReadOnly,
    /// Redis takes connections and says nothing.
    PauseRedis,
    /// Somebody who may do everything in Redis forges, repeats and reorders entries, and puts an old head back.
    Forge,
    /// A data plane is stopped for some seconds: nothing reaches it, nothing comes from it.
    SilentNode,
    /// Control planes and Redis take connections and say nothing, all of them.
    Silence,
    /// Control planes and Redis are gone while every data plane is killed and started.
    AllGone,
    /// A data plane is killed, and its local snapshots are damaged, cut, gone or somebody else's when it starts.
    DamagedState,
    /// A data plane has no room for its local snapshot, and is started again meanwhile.
    DiskFull,
    /// SIGTERM to every control plane and data plane, one after the other, and a start of each.
    Restarts,
    /// The feed's key is changed while everything runs.
    RotateKey,
    /// PostgreSQL comes back as an older copy of itself; then the operator says that it is the truth.
    OlderDatabase,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 21] = [
        Fault::KillApi,
        Fault::KillRelay,
        Fault::KillRedis,
        Fault::KillPostgres,
        Fault::KillNode,
        Fault::PauseLeader,
        Fault::FlushRedis,
        Fault::OlderRedis,
        Fault::TrimStream,
        Fault::RedisFull,
        Fault::RedisReadOnly,
        Fault::PauseRedis,
        Fault::Forge,
        Fault::SilentNode,
        Fault::Silence,
        Fault::AllGone,
        Fault::DamagedState,
        Fault::DiskFull,
        Fault::Restarts,
        Fault::RotateKey,
        Fault::OlderDatabase,
    ];

    /// Those that are short: most of a long run is made of them.
    const KILLS: [Fault; 5] =
        [Fault::KillApi, Fault::KillRelay, Fault::KillRedis, Fault::KillPostgres, Fault::KillNode];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::KillApi => "kill -9 of a control plane",
            Fault::KillRelay => "kill -9 of the leading control plane",
            Fault::KillRedis => "kill -9 of Redis, empty afterwards",
            Fault::KillPostgres => "kill -9 of PostgreSQL",
            Fault::KillNode => "kill -9 of a data plane",
            Fault::PauseLeader => "leader stopped, succeeded, continued",
            Fault::FlushRedis => "FLUSHALL",
            Fault::OlderRedis => "Redis restored to an older state",
            Fault::TrimStream => "stream trimmed past a stopped data plane",
            Fault::RedisFull => "Redis out of memory",
            Fault::RedisReadOnly => "Redis read-only",
            Fault::PauseRedis => "Redis that never replies",
            Fault::Forge => "forged, repeated, reordered entries",
            Fault::SilentNode => "data plane cut off",
            Fault::Silence => "control planes and Redis that never reply",
            Fault::AllGone => "everything else gone, data planes killed and started",
            Fault::DamagedState => "local snapshots damaged",
            Fault::DiskFull => "disk full under a data plane",
            Fault::Restarts => "rolling restart",
            Fault::RotateKey => "key of the feed rotated",
            Fault::OlderDatabase => "PostgreSQL restored to an older copy",
        })
    }
}

/// Faults without an end, of these kinds: first each once, then kills three times out of four.
#[derive(Debug)]
pub struct Plan {
    kinds: Vec<Fault>,
    first: Vec<Fault>,
    draw: Draw,
}

impl Plan {
    /// From this seed.
    #[must_use]
    pub fn new(kinds: &[Fault], seed: u64) -> Plan {
        let mut draw = Draw::new(seed, "chaos plan", 0);
        let mut first = kinds.to_vec();
        for index in (1..first.len()).rev() {
            first.swap(index, draw.below(index as u64 + 1) as usize);
        }
        Plan { kinds: kinds.to_vec(), first, draw }
    }

    /// The next one.
    pub fn draw(&mut self) -> Fault {
        if let Some(fault) = self.first.pop() {
            return fault;
        }
        let kills: Vec<Fault> =
            self.kinds.iter().copied().filter(|kind| Fault::KILLS.contains(kind)).collect();
        let from = if self.draw.below(4) > 0 && !kills.is_empty() { &kills } else { &self.kinds };
        from[self.draw.below(from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_kind_comes_once_and_then_mostly_kills() {
        let mut plan = Plan::new(&Fault::ALL, 7);
        let first: BTreeSet<Fault> = (0..Fault::ALL.len()).map(|_| plan.draw()).collect();
        assert_eq!(first.len(), Fault::ALL.len());
        let kills = (0..1_000).filter(|_| Fault::KILLS.contains(&plan.draw())).count();
        assert!((700..900).contains(&kills), "{kills}");
    }
}
