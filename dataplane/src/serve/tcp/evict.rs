//! Who has to go when places or memory run out: the slowest, judged by progress.
//!
//! Progress is a whole query, taken and answered. Octets of a message that never ends, and answers fetched one octet at a
//! time, are none, so that a connection that dawdles counts as slow as one that is silent. Nobody loses its place who
//! asked within [`QUIET`]. Who never asked has no such grace: an honest client's first query comes with its connection,
//! and a flood that fills all places at once is not to keep it out. Nor has who is told that no more will come: malformed
//! messages would buy a place that nobody can take.
//!
//! For memory there is no grace at all, or those that asked for much just now could hold all of it. But only who holds
//! more than its allowance is in that line.
//!
//! A worker judges its own connections. It keeps a short line of its slowest, so that a flood of newcomers does not
//! make it look at all connections for each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::connection::Connection;

/// How long a connection must have made no progress to lose its place, or be told that no more will come because we stop.
pub(super) const QUIET: Duration = Duration::from_millis(250);
/// Connections in a line.
const LINE: usize = 256;
/// How long a line is good: what others have done since then is not seen in it.
const LINE_AGE: Duration = Duration::from_millis(25);
/// How long a worker waits before it looks at all its connections again, unless that is worth its while.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// Connections to look at that one which gave its place is worth.
const LOOK_WORTH: usize = 64;
/// How many times slower one counts that never asked anything, or has nothing more to ask: little is lost with it.
const STRANGER: u128 = 4;
/// Added to the time without progress, so that of those that just made some the other measures still tell.
const LEAST_SLOW: Duration = Duration::from_millis(1);

/// What runs out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scarce {
    /// A place in the table.
    Places,
    /// Octets of the budget beyond the allowances.
    Memory,
}

/// What for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Need {
    /// Somebody is turned away otherwise.
    Now,
    /// So that something is free when it is needed. Whose first query may still be on its way is not closed for that.
    Reserve,
}

/// The slowest connections of a worker, the slowest last.
pub(super) struct Line {
    scarce: Scarce,
    slowest: Vec<Ranked>,
    /// When the line was made.
    looked: Option<Instant>,
    /// How many of it had to go.
    gone: usize,
    /// Others may have to go in the meantime.
    news: bool,
}

/// Rank and token: the higher rank goes first, and of equal ones the older.
type Ranked = (u128, Reverse<u64>);

impl Line {
    pub(super) fn new(scarce: Scarce) -> Self {
        Line { scarce, slowest: Vec::new(), looked: None, gone: 0, news: false }
    }

    /// Says that there is another one for the line.
    pub(super) fn tell(&mut self) {
        self.news = true;
    }

    /// The place of the next that has to go, if any: never that of `except`.
    pub(super) fn next(
        &mut self,
        connections: &[Option<Connection>],
        need: Need,
        except: Option<u64>,
        now: Instant,
    ) -> Option<usize> {
        let age = self.looked.map(|looked| now.duration_since(looked));
        if age.is_none_or(|age| age >= LINE_AGE) {
            self.slowest.clear();
        }
        let mut next = self.first(connections, need, except, now);
        if next.is_none()
            && (age.is_none_or(|age| age >= LOOK_PAUSE) || self.is_worth_a_look(connections.len()))
        {
            self.look(connections, now);
            next = self.first(connections, need, except, now);
        }
        let next = next.flatten();
        self.gone += usize::from(next.is_some());
        next
    }

    /// Whether to look again at once. Who holds much was given much: a look costs no more than that did.
    fn is_worth_a_look(&self, connections: usize) -> bool {
        match self.scarce {
            Scarce::Places => self.gone * LOOK_WORTH >= connections,
            Scarce::Memory => self.gone > 0 || self.news,
        }
    }

    /// The first of the line that can go, or that none may go; nothing when it has run out.
    fn first(
        &mut self,
        connections: &[Option<Connection>],
        need: Need,
        except: Option<u64>,
        now: Instant,
    ) -> Option<Option<usize>> {
        while let Some((_, Reverse(token))) = self.slowest.last() {
            let token = *token;
            let place = usize::try_from(token & u64::from(u32::MAX)).ok()?;
            // It may have ended since, or asked something, perhaps what we did not read yet.
            let connection = connections.get(place).and_then(Option::as_ref).filter(|connection| {
                connection.token() == token
                    && Some(token) != except
                    && rank(self.scarce, connection, now).is_some()
                    && !connection.has_asked_unread()
            });
            if need == Need::Reserve && connection.is_some_and(|connection| self.spares(connection, now)) {
                return Some(None);
            }
            self.slowest.pop();
            if connection.is_some() {
                return Some(Some(place));
            }
        }
        None
    }

    /// Whether it may stay where only a reserve is wanted.
    fn spares(&self, connection: &Connection, now: Instant) -> bool {
        self.scarce == Scarce::Places && now.duration_since(connection.slow_since()) < QUIET
    }

    /// Lines up the slowest of all.
    fn look(&mut self, connections: &[Option<Connection>], now: Instant) {
        let mut heap: BinaryHeap<Reverse<Ranked>> = BinaryHeap::with_capacity(LINE + 1);
        for connection in connections.iter().flatten() {
            if let Some(rank) = rank(self.scarce, connection, now) {
                heap.push(Reverse((rank, Reverse(connection.token()))));
                if heap.len() > LINE {
                    heap.pop();
                }
            }
        }
        self.slowest.clear();
        while let Some(Reverse(ranked)) = heap.pop() {
            self.slowest.push(ranked);
        }
        self.looked = Some(now);
        (self.gone, self.news) = (0, false);
    }
}

/// How much sooner than others a connection has to go; `None` when it does not have to.
///
/// By time without progress. Of strangers, one of a network that has a hundred times as many goes a hundred times sooner:
/// a flood pushes out its own. For those that have asked, the size of their network weighs in by its logarithm: enough
/// that of two that are as slow the one of the larger crowd goes, too little for a few strangers to push out one of a
/// large resolver that asked just now. Where memory is scarce, what it holds beyond its allowance counts as much as its
/// time.
fn rank(scarce: Scarce, connection: &Connection, now: Instant) -> Option<u128> {
    let slow = now.duration_since(connection.slow_since());
    let stranger = !connection.has_asked() || connection.reason().is_some();
    let held = match scarce {
        Scarce::Places if connection.queued => return None,
        Scarce::Places if !stranger && (slow < QUIET || connection.has_begun_within(now, QUIET)) => {
            return None;
        }
        Scarce::Places => 1,
        Scarce::Memory => connection.beyond_octets() as u128,
    };
    if held == 0 {
        return None;
    }
    let network = connection.network_connections().max(1);
    let crowd = if stranger { network as u128 * STRANGER } else { u128::from(network.ilog2()) + 1 };
    Some((slow + LEAST_SLOW).as_micros() * crowd * held)
}
