//! What one worker counts. Each worker has its own cache lines and is their only writer, so that counting is a plain
//! load, add and store; a scrape sums them up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

/// A count with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; for the one writer only (two would lose counts, nothing worse).
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Mnemonics of the RCODEs that answers carry (IANA registry); others are counted as [`OTHER_RCODE`].
pub const RCODES: [&str; 24] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "DSOTYPENI",
    "RCODE12",
    "RCODE13",
    "RCODE14",
    "RCODE15",
    "BADVERS",
    "BADKEY",
    "BADTIME",
    "BADMODE",
    "BADNAME",
    "BADALG",
    "BADTRUNC",
    "BADCOOKIE",
];
/// The label of RCODEs above those.
pub const OTHER_RCODE: &str = "OTHER";

/// Why a message got no answer, or an answer did not leave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Dropped {
    /// Shorter than a header (RFC 1035 §4.1.1): there is nothing to answer to.
    Short,
    /// A response (QR set): answering those makes loops.
    Response,
    /// Sent from port 0, to which nothing can be sent.
    PortZero,
    /// Sent from the address it was sent to: forged, or our own echo.
    Ourselves,
    /// Longer than any query that we take over UDP.
    Oversized,
    /// The kernel refused to send the answer.
    Unsendable,
    /// The answer was over a rate limit.
    RateLimited,
    /// For another reason that the engine gave.
    Other,
}

/// The labels of [`Dropped`], in its order.
pub const DROPPED: [&str; 8] =
    ["short", "response", "port_zero", "ourselves", "oversized", "unsendable", "rate_limited", "other"];

/// What was done about an answer over a rate limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Limited {
    /// It was dropped.
    Drop,
    /// It went out short: with TC, or as it was where it had no records anyway.
    Slip,
    /// BADCOOKIE went out in its place.
    BadCookie,
    /// It went out, since limits are only counted.
    Log,
}

/// The labels of [`Limited`], in its order.
pub const LIMITED: [&str; 4] = ["drop", "slip", "badcookie", "log"];

/// Which rate limit an answer was over: that of its kind, or that of all answers to a client prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum LimitedBy {
    /// Records of one owner name.
    Answer,
    /// Referrals to one cut.
    Referral,
    /// NODATA in one zone.
    NoData,
    /// NXDOMAIN in one zone.
    NxDomain,
    /// Errors.
    Error,
    /// All answers to a client prefix.
    Total,
}

/// The labels of [`LimitedBy`], in its order.
pub const LIMITED_BY: [&str; 6] = ["answer", "referral", "nodata", "nxdomain", "error", "total"];

/// How a TCP connection ended, or why it was not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Closed {
    /// The client closed it, or it broke.
    Client,
    /// Nothing was asked for the idle timeout.
    Idle,
    /// A message did not come whole within its deadline.
    SlowMessage,
    /// Answers were not fetched in time.
    SlowReader,
    /// What it sent cannot be DNS over TCP.
    Malformed,
    /// It had asked as much as one connection may.
    QueryLimit,
    /// Too many connections of one client.
    ClientLimit,
    /// Too many connections of one network.
    NetworkLimit,
    /// Too many connections in all, and none to be closed for this one.
    TotalLimit,
    /// It was the slowest when places ran out.
    Evicted,
    /// The byte budget of all connections is spent: it was the slowest, or wanted more.
    Memory,
    /// We stop.
    Stopping,
}

/// The labels of [`Closed`], in its order.
pub const CLOSED: [&str; 12] = [
    "client",
    "idle",
    "slow_message",
    "slow_reader",
    "malformed",
    "query_limit",
    "client_limit",
    "network_limit",
    "total_limit",
    "evicted",
    "memory",
    "stopping",
];

/// The counts of one worker.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answers by RCODE; the last is for [`OTHER_RCODE`].
    pub answers: [Counter; RCODES.len() + 1],
    /// Messages without an answer, by [`Dropped`].
    pub dropped: [Counter; DROPPED.len()],
    /// Answers over a rate limit, by [`Limited`] and [`LimitedBy`].
    pub limited: [[Counter; LIMITED_BY.len()]; LIMITED.len()],
    /// Datagrams that the kernel dropped because the receive buffer was full.
    pub overflow: Counter,
    /// Panics caught.
    pub panics: Counter,
    /// TCP connections accepted.
    pub accepted: Counter,
    /// TCP connections ended, by [`Closed`].
    pub closed: [Counter; CLOSED.len()],
    /// Turns of the worker's loop, idle ones too: shows that it makes progress.
    pub turns: Counter,
}

impl Counters {
    /// Counts an answer.
    pub fn count_answer(&self, rcode: u16) {
        self.answers[usize::from(rcode).min(RCODES.len())].add(1);
    }

    /// Counts a message that gets no answer.
    pub fn count_drop(&self, reason: Dropped) {
        self.dropped[reason as usize].add(1);
    }

    /// Counts an answer over a rate limit.
    pub fn count_limited(&self, action: Limited, by: LimitedBy) {
        self.limited[action as usize][by as usize].add(1);
    }

    /// Counts a connection that ended.
    pub fn count_close(&self, reason: Closed) {
        self.closed[reason as usize].add(1);
    }
}

/// The counts of one worker on cache lines of their own.
pub type WorkerCounters = Arc<CachePadded<Counters>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rcodes_beyond_the_list_are_counted_together() {
        let counters = Counters::default();
        for rcode in [0, 0, 23, 24, 4095] {
            counters.count_answer(rcode);
        }
        let counts: Vec<u64> = counters.answers.iter().map(Counter::get).collect();
        assert_eq!((counts[0], counts[23], counts[24]), (2, 1, 2));
    }

    #[test]
    fn every_reason_has_a_label() {
        assert_eq!(DROPPED[Dropped::Other as usize], "other");
        assert_eq!(DROPPED.len(), Dropped::Other as usize + 1);
        assert_eq!(LIMITED[Limited::Log as usize], "log");
        assert_eq!(LIMITED.len(), Limited::Log as usize + 1);
        assert_eq!(LIMITED_BY[LimitedBy::Total as usize], "total");
        assert_eq!(LIMITED_BY.len(), LimitedBy::Total as usize + 1);
        assert_eq!(CLOSED[Closed::Evicted as usize], "evicted");
        assert_eq!(CLOSED[Closed::Stopping as usize], "stopping");
        assert_eq!(CLOSED.len(), Closed::Stopping as usize + 1);
    }
}
