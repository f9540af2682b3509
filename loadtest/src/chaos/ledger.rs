//! What may be the value of each name: the ledger of everything that was asked for and acknowledged.
//!
//! Each write to a name has a number, one higher than the last, and its value says the number. A name belongs to one writer, and one
//! write of it is under way at a time; one whose answer never came may be carried out at any later moment, so its name is written no
//! more. Then it is plain what may be seen: never below what was acknowledged, once that is everywhere, and never above what was asked for.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Zones that names are in.
pub const ZONES: u32 = 20;
/// The most names that a run can need.
const MOST: usize = 200_000;
/// Numbers of writes are told apart up to here: they are an address' lower 24 bits.
const NUMBERS: u32 = 1 << 24;

/// One name.
#[derive(Debug, Default)]
pub struct Entry {
    /// The highest number that was sent.
    pub sent: AtomicU32,
    /// The highest that was acknowledged; 0 before the first.
    pub acknowledged: AtomicU32,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    entries: Vec<Entry>,
    /// Names below this one are in use.
    used: AtomicU32,
    /// Accepted and not committed when they were answered, to be followed up: name, number, id of the change.
    accepted: Mutex<Vec<(u32, u32, String)>>,
    /// Acknowledged writes.
    pub acknowledgements: AtomicU64,
    /// Writes that were accepted for later.
    pub acceptances: AtomicU64,
    /// Writes whose answer never came.
    pub doubts: AtomicU64,
    /// Writes that were refused.
    pub refusals: AtomicU64,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            entries: std::iter::repeat_with(Entry::default).take(MOST).collect(),
            used: AtomicU32::new(0),
            accepted: Mutex::default(),
            acknowledgements: AtomicU64::new(0),
            acceptances: AtomicU64::new(0),
            doubts: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
        }
    }
}

impl Ledger {
    /// Takes a name that nobody has.
    ///
    /// # Panics
    /// After more names than a run can need.
    pub fn take(&self) -> u32 {
        let name = self.used.fetch_add(1, Ordering::SeqCst);
        assert!((name as usize) < MOST, "more names than a run can need");
        name
    }

    /// Names in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::SeqCst)
    }

    /// One of them.
    #[must_use]
    pub fn of(&self, name: u32) -> &Entry {
        &self.entries[name as usize]
    }

    /// The number of the next write of a name, noted before it is sent.
    #[must_use]
    pub fn next(&self, name: u32) -> u32 {
        self.of(name).sent.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Notes an acknowledgement.
    pub fn acknowledge(&self, name: u32, number: u32) {
        self.of(name).acknowledged.fetch_max(number, Ordering::SeqCst);
        self.acknowledgements.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a write was accepted for later.
    pub fn accept(&self, name: u32, number: u32, change: String) {
        self.accepted().push((name, number, change));
        self.acceptances.fetch_add(1, Ordering::Relaxed);
    }

    /// Those that were accepted for later and are not settled.
    pub fn accepted(&self) -> MutexGuard<'_, Vec<(u32, u32, String)>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may be the value of a name once everything is everywhere: from, to.
    #[must_use]
    pub fn range(&self, name: u32) -> (u32, u32) {
        let entry = self.of(name);
        (entry.acknowledged.load(Ordering::SeqCst), entry.sent.load(Ordering::SeqCst))
    }
}

/// The name's presentation format, absolute.
#[must_use]
pub fn name(number: u32) -> String {
    format!("n{number}.{}", zone(number % ZONES))
}

/// The zone of this number.
#[must_use]
pub fn zone(number: u32) -> String {
    format!("z{number}.chaos.test.")
}

/// The number of a name in presentation format.
#[must_use]
pub fn number_of(name: &str) -> Option<u32> {
    name.strip_prefix('n')?.split_once('.')?.0.parse().ok()
}

/// The value of a write.
#[must_use]
pub fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0A00_0000 | (number % NUMBERS))
}

/// The number of the write that a value is of.
#[must_use]
pub fn number_in(address: Ipv4Addr) -> Option<u32> {
    let bits = u32::from(address);
    (bits >> 24 == 10).then_some(bits % NUMBERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_names_say_their_numbers() {
        for number in [0, 1, 255, 70_000, NUMBERS - 1] {
            assert_eq!(number_in(address(number)), Some(number));
            assert_eq!(number_of(&name(number)), Some(number));
        }
        assert_eq!(number_in(Ipv4Addr::new(192, 0, 2, 1)), None);
        assert_eq!(number_of("www.z0.chaos.test."), None);
    }

    #[test]
    fn a_value_is_between_the_acknowledged_and_the_last_asked_for() {
        let ledger = Ledger::default();
        let name = ledger.take();
        assert_eq!(ledger.range(name), (0, 0));
        let first = ledger.next(name);
        ledger.acknowledge(name, first);
        let _ = ledger.next(name);
        assert_eq!(ledger.range(name), (1, 2));
    }
}
