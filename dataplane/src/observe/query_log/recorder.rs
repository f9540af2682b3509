//! A worker's end of the query log. The rules of the query path hold here: no allocation, no lock, no system call but
//! the clock once or twice per batch, and no waiting: what has no room is counted.

use std::sync::Arc;

use crossbeam::utils::CachePadded;
use rtrb::Producer;

use super::record::{Exchange, Head, Keep, Times};
use crate::observe::counter::Counter;
use crate::observe::status::now_us;

/// Writes what one worker did into its ring. The worker has none while the log is off.
#[derive(Debug)]
pub struct Recorder {
    ring: Producer<u8>,
    full: Arc<CachePadded<Counter>>,
    sample: Sample,
    keep: Keep,
    times: Times,
}

impl Recorder {
    /// `seed`: not 0.
    pub(super) fn new(
        ring: Producer<u8>,
        full: Arc<CachePadded<Counter>>,
        one_in: u32,
        seed: u64,
        keep: Keep,
    ) -> Self {
        Recorder { ring, full, sample: Sample::new(one_in, seed), keep, times: Times::default() }
    }

    /// The messages recorded from now on came now.
    pub fn received(&mut self) {
        let now = now_us();
        self.times = Times { received_us: now, answered_us: now };
    }

    /// The answers recorded from now on were ready now. Only dnstap tells.
    pub fn answered(&mut self) {
        if self.keep == Keep::Whole {
            self.times.answered_us = now_us();
        }
    }

    /// Whether the next message is drawn and has room; counts one that has none. To be asked before anything is looked
    /// up for [`record`](Self::record), since mostly the answer is no where it matters: when sampling, and when nobody
    /// takes what is logged.
    pub fn admits(&mut self, query_octets: usize, response_octets: usize) -> bool {
        if !self.sample.draws() {
            return false;
        }
        // Whole or not at all. The room seen here can only grow until it is used: nobody else writes.
        if self.ring.slots() < self.keep.record_octets(query_octets, response_octets) {
            self.full.add(1);
            return false;
        }
        true
    }

    /// Records a message that was admitted.
    pub fn record(&mut self, exchange: &Exchange<'_>) {
        let (head, query, response) = Head::of(exchange, self.times, self.keep);
        debug_assert!(self.ring.slots() >= head.total(), "not admitted");
        for part in [&head.to_octets()[..], query, response] {
            let _has_room = self.ring.push_entire_slice(part);
        }
    }
}

/// Draws one message in `one_in`, at random, so that traffic with a rhythm of its own does not fool it.
#[derive(Debug)]
struct Sample {
    one_in: u32,
    /// Messages until the next one that is drawn.
    left: u32,
    /// State of a xorshift generator (Marsaglia 2003). Who guesses it knows which queries are logged, and no more.
    random: u64,
}

impl Sample {
    fn new(one_in: u32, seed: u64) -> Self {
        let mut sample = Sample { one_in, left: 0, random: seed | 1 };
        sample.left = sample.pause();
        sample
    }

    fn draws(&mut self) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.left = self.pause();
        true
    }

    /// How many messages to pass over: 0 to twice as many as would be regular, evenly.
    fn pause(&mut self) -> u32 {
        if self.one_in <= 1 {
            return 0;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let span = u64::from(self.one_in) * 2 - 1;
        // Below 2^32, as `span` is at most that.
        u32::try_from((self.random >> 32) % span).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_is_drawn_and_not_in_a_rhythm() {
        for (one_in, from, to) in [(1, 100_000, 100_000), (2, 49_000, 51_000), (10, 9_500, 10_500)] {
            let mut sample = Sample::new(one_in, 0x9E37_79B9_7F4A_7C15);
            let drawn: Vec<bool> = (0..100_000).map(|_| sample.draws()).collect();
            let count = drawn.iter().filter(|drawn| **drawn).count();
            assert!((from..=to).contains(&count), "one in {one_in}: {count} of 100000");
            // Of each residue some are drawn.
            let step = usize::try_from(one_in).unwrap();
            for residue in 0..step {
                assert!(drawn.iter().skip(residue).step_by(step).any(|drawn| *drawn), "{one_in} {residue}");
            }
        }
    }
}
