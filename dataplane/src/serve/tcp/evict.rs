//! Who has to go when places or memory run out: the slowest, judged by progress.
//!
//! Progress is a whole query, taken and answered. Octets of a message that never ends, and answers fetched one octet at a
//! time, are none, so that a connection that dawdles counts as slow as one that is silent. Nobody is slow who asked
//! within [`QUIET`]. Who never asked has no such grace: an honest client's first query comes with its connection, and a
//! flood that fills all places at once is not to keep it out.
//!
//! A worker judges its own connections. It keeps a short line of its slowest, so that a flood of newcomers does not
//! make it look at all connections for each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::connection::Connection;

/// How long a connection must have made no progress to be closed for others, or because we stop.
pub(super) const QUIET: Duration = Duration::from_millis(250);
/// Connections in a line.
const LINE: usize = 256;
/// How long a worker waits before it looks at all its connections again, when the last look found no full line.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// How many times slower one counts that never asked anything: nothing is lost with it.
const NEVER_ASKED: u128 = 4;

/// What runs out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scarce {
    /// A place in the table.
    Places,
    /// Octets of the budget.
    Memory,
}

/// The slowest connections of a worker, the slowest last.
pub(super) struct Line {
    scarce: Scarce,
    slowest: Vec<Ranked>,
    /// When it is worth to look again.
    look_after: Option<Instant>,
}

/// Rank and token; the higher rank goes first.
type Ranked = (u128, u64);

impl Line {
    pub(super) fn new(scarce: Scarce) -> Self {
        Line { scarce, slowest: Vec::new(), look_after: None }
    }

    /// The place of the next that has to go, if any is slow: never that of `except`.
    pub(super) fn next(
        &mut self,
        connections: &[Option<Connection>],
        except: Option<u64>,
        now: Instant,
    ) -> Option<usize> {
        loop {
            while let Some((_, token)) = self.slowest.pop() {
                let place = usize::try_from(token & u64::from(u32::MAX)).ok()?;
                // It may have ended since, or asked something that we did not read yet.
                let slow = connections.get(place).and_then(Option::as_ref).is_some_and(|connection| {
                    connection.token() == token
                        && rank(self.scarce, connection, now).is_some()
                        && !connection.has_asked_unread()
                });
                if slow && Some(token) != except {
                    return Some(place);
                }
            }
            if self.look_after.is_some_and(|after| now < after) {
                return None;
            }
            self.look(connections, now);
            self.look_after = (self.slowest.len() < LINE).then(|| now + LOOK_PAUSE);
            if self.slowest.is_empty() {
                return None;
            }
        }
    }

    /// Lines up the slowest of all.
    fn look(&mut self, connections: &[Option<Connection>], now: Instant) {
        let mut heap: BinaryHeap<Reverse<Ranked>> = BinaryHeap::with_capacity(LINE + 1);
        for connection in connections.iter().flatten() {
            if let Some(rank) = rank(self.scarce, connection, now) {
                heap.push(Reverse((rank, connection.token())));
                if heap.len() > LINE {
                    heap.pop();
                }
            }
        }
        self.slowest.clear();
        while let Some(Reverse(ranked)) = heap.pop() {
            self.slowest.push(ranked);
        }
    }
}

/// How much sooner than others a connection has to go; `None` when it is not slow.
///
/// By time without progress. The size of its network weighs in by its logarithm: enough that of two that are as slow the
/// one of the larger crowd goes, too little for a few strangers to push out one of a large resolver that asked just
/// now. Where memory is scarce, what it holds beside its place counts as much as its time.
fn rank(scarce: Scarce, connection: &Connection, now: Instant) -> Option<u128> {
    let slow = connection.slow_for(now)?.as_micros();
    let crowd = u128::from(connection.network_connections().max(1).ilog2()) + 1;
    let stranger = if connection.has_asked() { 1 } else { NEVER_ASKED };
    let held = match scarce {
        Scarce::Places => 0,
        Scarce::Memory => connection.held_octets() as u128,
    };
    Some(slow * crowd * stranger * (1 + held))
}
