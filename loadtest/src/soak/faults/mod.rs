//! What goes wrong in a run, and when: one fault after another, each with its time to recover.
//!
//! Faults after which a process begins anew come in the first half of a run only. So the processes of the second half live to its
//! end, long enough for their memory to say something, while everything else still goes wrong around them.

pub mod disk;
pub mod lock;
pub mod stage;

use std::fmt;

use serde::Serialize;

use crate::data::draw::Draw;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL to `godwit run`, and a start.
    Kill,
    /// SIGTERM to `godwit run`, and a start.
    Terminate,
    /// SIGKILL, the newest local snapshot damaged, and a start.
    DamagedSnapshot,
    /// SIGKILL, both local snapshots damaged, and a start.
    DamagedSnapshots,
    /// SIGUSR2 to the data plane: a successor takes over.
    Handover,
    /// SIGSTOP to either server, SIGCONT some seconds later.
    Pause,
    /// A zone file that changed, and SIGHUP.
    Reload,
    /// A zone file that is broken, SIGHUP, and another one that is not.
    BrokenZone,
    /// More TCP connections than there are places, to either server.
    Connections,
    /// No room for the local snapshot of `godwit run`.
    DiskFull,
    /// Another process has the database's lock.
    LockedDatabase,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::Kill,
        Fault::Terminate,
        Fault::DamagedSnapshot,
        Fault::DamagedSnapshots,
        Fault::Handover,
        Fault::Pause,
        Fault::Reload,
        Fault::BrokenZone,
        Fault::Connections,
        Fault::DiskFull,
        Fault::LockedDatabase,
    ];

    /// Whether another process serves afterwards.
    #[must_use]
    pub fn begins_anew(self) -> bool {
        use Fault::{DamagedSnapshot, DamagedSnapshots, Handover, Kill, Terminate};
        matches!(self, Kill | Terminate | DamagedSnapshot | DamagedSnapshots | Handover)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Kill => "kill -9 of `godwit run`",
            Fault::Terminate => "SIGTERM to `godwit run`",
            Fault::DamagedSnapshot => "kill -9, newest snapshot damaged",
            Fault::DamagedSnapshots => "kill -9, both snapshots damaged",
            Fault::Handover => "hand-over of the data plane",
            Fault::Pause => "SIGSTOP, SIGCONT",
            Fault::Reload => "reload of a changed zone file",
            Fault::BrokenZone => "reload of a broken zone file",
            Fault::Connections => "flood of TCP connections",
            Fault::DiskFull => "disk full under the snapshots",
            Fault::LockedDatabase => "database locked by another process",
        })
    }
}

/// A fault that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Happened {
    /// Which.
    pub fault: Fault,
    /// Seconds since the run began.
    pub at: f64,
    /// Seconds to the first answer: from the signal that ends a process, from SIGCONT. For what never stops answers, to the effect
    /// that was waited for: the new zone is served, the broken one reported, the successor alone; from its end for what lasts.
    pub answered: f64,
    /// Until everything was as before: all that was committed is served, the API takes writes.
    pub whole: f64,
}

/// From one fault to the next, seconds: a minute, in short runs less.
#[must_use]
pub fn period(seconds: f64, kinds: usize) -> f64 {
    // One period goes before the first fault and one comes after the last.
    (seconds / (kinds as f64 + 2.0)).clamp(SHORTEST_PERIOD, 60.0)
}

/// Shorter than this, one fault would run into the next.
const SHORTEST_PERIOD: f64 = 5.0;

/// When what goes wrong, in seconds from the start. The order is the seed's; within a half, every kind comes before one comes again.
#[must_use]
pub fn plan(seconds: f64, kinds: &[Fault], seed: u64) -> Vec<(f64, Fault)> {
    let period = period(seconds, kinds.len());
    let count = ((seconds / period) as usize).saturating_sub(1);
    let lasting: Vec<Fault> = kinds.iter().copied().filter(|fault| !fault.begins_anew()).collect();
    let anew: Vec<Fault> = kinds.iter().copied().filter(|fault| fault.begins_anew()).collect();
    // The smaller half first: there are fewer faults that begin anew.
    let half = if lasting.is_empty() { count } else { count / 2 };
    let first = if half >= kinds.len() || anew.is_empty() { kinds } else { &anew };
    let mut draw = Draw::new(seed, "faults", 0);
    let mut order = cycles(first, half, &mut draw);
    order.extend(cycles(&lasting, count - half, &mut draw));
    (1..).map(|number| f64::from(number) * period).zip(order).collect()
}

/// So many of these, shuffled anew each time that all were there.
fn cycles(kinds: &[Fault], count: usize, draw: &mut Draw) -> Vec<Fault> {
    let mut order = Vec::with_capacity(count);
    while order.len() < count && !kinds.is_empty() {
        let mut cycle = kinds.to_vec();
        for place in (1..cycle.len()).rev() {
            cycle.swap(place, draw.below(place as u64 + 1) as usize);
        }
        order.extend(cycle);
    }
    order.truncate(count);
    order
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ten_minutes_have_every_kind_and_two_hours_a_fault_each_minute() {
        for seed in 0..50 {
            let plan = plan(600.0, &Fault::ALL, seed);
            let kinds: HashSet<Fault> = plan.iter().map(|(_, fault)| *fault).collect();
            assert_eq!(kinds.len(), Fault::ALL.len(), "seed {seed}: {plan:?}");
            assert!(plan.iter().all(|(at, _)| (30.0..570.0).contains(at)), "{plan:?}");
        }
        let plan = plan(7_200.0, &Fault::ALL, 1);
        assert_eq!(plan.len(), 119);
        assert!(plan.windows(2).all(|pair| (pair[1].0 - pair[0].0 - 60.0).abs() < 1e-9));
    }

    #[test]
    fn the_processes_of_the_second_half_live_to_the_end() {
        for seconds in [30.0, 120.0, 600.0, 7_200.0] {
            let plan = plan(seconds, &Fault::ALL, 3);
            assert!(plan.len() >= 4, "{seconds}: {plan:?}");
            assert!(plan.iter().any(|(_, fault)| fault.begins_anew()), "{seconds}: {plan:?}");
            let late = plan.iter().filter(|(at, _)| *at > seconds / 2.0 + 30.0);
            assert!(late.clone().all(|(_, fault)| !fault.begins_anew()), "{seconds}: {plan:?}");
        }
    }

    #[test]
    fn a_choice_of_kinds_is_kept_to() {
        let only = |kinds: &[Fault]| {
            plan(60.0, kinds, 1).into_iter().map(|(_, fault)| fault).collect::<HashSet<_>>()
        };
        assert_eq!(only(&[Fault::Kill]), HashSet::from([Fault::Kill]));
        assert_eq!(only(&[Fault::Reload]), HashSet::from([Fault::Reload]));
        assert_eq!(only(&[Fault::Reload, Fault::Kill]), HashSet::from([Fault::Reload, Fault::Kill]));
        assert_eq!(only(&[]), HashSet::new());
    }
}
