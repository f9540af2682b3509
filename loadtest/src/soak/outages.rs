//! When a server may leave queries unanswered, and when its answers may be old: around a kill, a stop, a flood of connections.
//! The one who makes a fault opens the window before and closes it when the server was seen to be back. Everything that is lost
//! outside of all windows makes the run fail.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ledger::Past;

/// A query that was due so long before a window opened may still have been under way then.
const UNDER_WAY: Duration = Duration::from_millis(1_500);
/// Queries that were sent to a dead port a moment before the server was seen to be back.
const GRACE: Duration = Duration::from_millis(250);
/// Windows that are remembered: more than can matter to a query under way.
const REMEMBERED: usize = 64;

/// One of the two servers of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// `godwit run`: records through the API.
    Run,
    /// `godwit-dataplane`: records from zone files.
    Dataplane,
}

impl Side {
    /// Both.
    pub const BOTH: [Side; 2] = [Side::Run, Side::Dataplane];

    /// For tables and lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Side::Run => "godwit run",
            Side::Dataplane => "godwit-dataplane",
        }
    }
}

/// What is excused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// Whatever transport.
    Everything,
    /// Queries over TCP: the flood takes places of connections.
    Tcp,
}

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    side: Side,
    excuse: Excuse,
    from: Instant,
    until: Option<Instant>,
}

/// A start from a local snapshot, until everything that is committed is served.
#[derive(Clone, Copy, Debug)]
struct CatchUp {
    from: Instant,
    until: Option<Instant>,
    /// When the snapshot was written; none where there is none to start from.
    floor: Option<Instant>,
}

/// What is asked of answers to one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// The truth at its time.
    Current,
    /// What the local snapshot had, or anything newer.
    Snapshot(Past),
    /// The same, and SERVFAIL: there is no snapshot to start from, and nothing is guessed (RFC 8914 §4.15, Not Ready).
    NotReady,
}

#[derive(Debug, Default)]
struct State {
    windows: Vec<Window>,
    catch_up: Option<CatchUp>,
}

/// All windows of a run.
#[derive(Debug, Default)]
pub struct Outages(Mutex<State>);

impl Outages {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on queries may stay unanswered.
    pub fn open(&self, side: Side, excuse: Excuse) {
        let mut state = self.state();
        if state.windows.len() == REMEMBERED {
            state.windows.remove(0);
        }
        state.windows.push(Window { side, excuse, from: Instant::now(), until: None });
    }

    /// From now on none may.
    pub fn close(&self, side: Side) {
        let until = Instant::now() + GRACE;
        let mut state = self.state();
        for window in state.windows.iter_mut().filter(|window| window.side == side) {
            window.until.get_or_insert(until);
        }
    }

    /// `godwit run` starts from a snapshot written at this moment, or without any.
    pub fn begin_catch_up(&self, floor: Option<Instant>) {
        self.state().catch_up = Some(CatchUp { from: Instant::now(), until: None, floor });
    }

    /// It serves everything again.
    pub fn end_catch_up(&self) {
        if let Some(catch_up) = &mut self.state().catch_up {
            catch_up.until.get_or_insert(Instant::now());
        }
    }

    /// Whether a query that was due then may be lost.
    #[must_use]
    pub fn excuses(&self, side: Side, transport: Transport, due: Instant) -> bool {
        self.state().windows.iter().any(|window| {
            window.side == side
                && (window.excuse == Excuse::Everything || transport == Transport::Tcp)
                && due + UNDER_WAY >= window.from
                && window.until.is_none_or(|until| due <= until)
        })
    }

    /// What an answer of `godwit run` may say to a query asked and answered at these moments.
    #[must_use]
    pub fn allowed(&self, asked: Instant, answered: Instant) -> Allowed {
        let catch_up = self.state().catch_up;
        let within = |it: &CatchUp| answered >= it.from && it.until.is_none_or(|until| asked <= until);
        match catch_up.filter(within) {
            None => Allowed::Current,
            Some(CatchUp { floor: Some(floor), .. }) => Allowed::Snapshot(Past(floor)),
            Some(CatchUp { floor: None, .. }) => Allowed::NotReady,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_excused_inside_a_window_only() {
        let outages = Outages::default();
        let start = Instant::now();
        let before = start.checked_sub(Duration::from_secs(60)).unwrap();
        assert!(!outages.excuses(Side::Run, Transport::Udp, start));
        outages.open(Side::Run, Excuse::Everything);
        assert!(outages.excuses(Side::Run, Transport::Udp, start), "under way when it opened");
        assert!(!outages.excuses(Side::Run, Transport::Udp, before), "long before");
        assert!(!outages.excuses(Side::Dataplane, Transport::Udp, start), "the other server");
        outages.close(Side::Run);
        let later = Instant::now() + Duration::from_secs(1);
        assert!(outages.excuses(Side::Run, Transport::Udp, start), "known only later that it was lost");
        assert!(!outages.excuses(Side::Run, Transport::Udp, later));
    }

    #[test]
    fn a_flood_of_connections_excuses_no_datagram() {
        let outages = Outages::default();
        outages.open(Side::Dataplane, Excuse::Tcp);
        let now = Instant::now();
        assert!(outages.excuses(Side::Dataplane, Transport::Tcp, now));
        assert!(!outages.excuses(Side::Dataplane, Transport::Udp, now));
    }

    #[test]
    fn old_answers_are_allowed_until_everything_has_come() {
        let outages = Outages::default();
        let before = Instant::now();
        assert_eq!(outages.allowed(before, before), Allowed::Current);
        outages.begin_catch_up(Some(before));
        let during = Instant::now();
        assert_eq!(outages.allowed(during, during), Allowed::Snapshot(Past(before)));
        outages.end_catch_up();
        let later = Instant::now() + Duration::from_millis(1);
        assert_eq!(outages.allowed(during, later), Allowed::Snapshot(Past(before)), "asked before");
        assert_eq!(outages.allowed(later, later), Allowed::Current);
        outages.begin_catch_up(None);
        assert_eq!(outages.allowed(later, Instant::now()), Allowed::NotReady);
    }
}
