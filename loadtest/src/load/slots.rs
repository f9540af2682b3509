//! Queries in flight on one socket or connection: a query's ID names its slot and how often the slot was used, so an
//! answer finds its query in one step and a late one does not pass for another.

use std::time::{Duration, Instant};

/// A query in flight.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    /// Which question.
    pub query: u32,
    /// When it was due (open loop) or sent (closed loop).
    pub due: Instant,
}

/// The slots: a power of two of them, at most 2¹⁵.
#[derive(Debug)]
pub struct Slots {
    flights: Vec<Option<Flight>>,
    /// How often each slot was used: the upper bits of its ID.
    uses: Vec<u16>,
    free: Vec<u16>,
    bits: u32,
}

impl Slots {
    /// At least this many slots.
    #[must_use]
    pub fn new(at_least: u16) -> Self {
        let count = at_least.clamp(1, 1 << 15).next_power_of_two();
        Slots {
            flights: vec![None; usize::from(count)],
            uses: vec![0; usize::from(count)],
            // Only as many are handed out as were asked for.
            free: (0..at_least.clamp(1, count)).collect(),
            bits: count.trailing_zeros(),
        }
    }

    /// How many queries could be sent now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes a slot and gives the ID to send; none when all are in flight.
    pub fn take(&mut self, flight: Flight) -> Option<u16> {
        let slot = self.free.pop()?;
        let index = usize::from(slot);
        self.flights[index] = Some(flight);
        self.uses[index] = self.uses[index].wrapping_add(1);
        Some(slot | self.uses[index].wrapping_shl(self.bits))
    }

    /// The query in flight under this ID.
    #[must_use]
    pub fn find(&self, id: u16) -> Option<Flight> {
        let index = usize::from(id) & (self.flights.len() - 1);
        let flight = self.flights[index]?;
        (id >> self.bits == self.uses[index].wrapping_shl(self.bits) >> self.bits).then_some(flight)
    }

    /// Ends the query in flight under this ID: answered, or not sent after all.
    pub fn release(&mut self, id: u16) {
        let index = usize::from(id) & (self.flights.len() - 1);
        if self.flights[index].take().is_some() {
            self.free.push(u16::try_from(index).expect("at most 2^15 slots"));
        }
    }

    /// Ends all queries older than `patience` and says how many these were. Linear in the slots: call it now and then.
    pub fn expire(&mut self, now: Instant, patience: Duration) -> u64 {
        let mut expired = 0;
        self.expire_each(now, patience, &mut |_| expired += 1);
        expired
    }

    /// As [`Slots::expire`], and tells of each query that it ends.
    pub fn expire_each(&mut self, now: Instant, patience: Duration, expired: &mut dyn FnMut(Flight)) {
        for index in 0..self.flights.len() {
            let old = |flight: &Flight| now.saturating_duration_since(flight.due) > patience;
            if let Some(flight) = self.flights[index].take_if(|flight| old(flight)) {
                self.free.push(u16::try_from(index).expect("at most 2^15 slots"));
                expired(flight);
            }
        }
    }

    /// How many are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_finds_its_query_and_a_late_one_does_not() {
        let now = Instant::now();
        let mut slots = Slots::new(3);
        let ids: Vec<u16> = (0..3).map(|query| slots.take(Flight { query, due: now }).unwrap()).collect();
        assert!(slots.take(Flight { query: 9, due: now }).is_none(), "three were asked for");
        assert_eq!(slots.find(ids[1]).unwrap().query, 1);
        slots.release(ids[1]);
        assert!(slots.find(ids[1]).is_none(), "answered twice");
        let again = slots.take(Flight { query: 7, due: now }).unwrap();
        assert_ne!(again, ids[1]);
        assert!(slots.find(ids[1]).is_none(), "the slot is another query's now");
        assert_eq!(slots.find(again).unwrap().query, 7);
    }

    #[test]
    fn old_queries_expire() {
        let now = Instant::now();
        let mut slots = Slots::new(4);
        let id = slots.take(Flight { query: 0, due: now }).unwrap();
        assert_eq!(slots.expire(now, Duration::from_secs(1)), 0);
        assert_eq!(slots.expire(now + Duration::from_secs(2), Duration::from_secs(1)), 1);
        assert!(slots.find(id).is_none());
        assert_eq!(slots.free(), 4);
    }
}
