//! What applying a change may cost: the process, twice, and then the zones that the change names (R6).
//!
//! Before a batch, or whole zones, are applied it is noted on disk, and the note is taken back after. A note that a start
//! finds was left by a process that ended in between. A batch that it names is applied by single change sets from then on, and zones that were
//! applied together one by one; what a process ended at twice is not tried again: its zones are frozen, in quarantine at the state that they
//! have, and the rest goes on.
//!
//! - `record`: the notes, and what is known from earlier processes;
//! - [`watch`]: ends the process when applying takes too long, or too much memory;
//! - `planted`: harm for tests.
//!
//! A panic costs no process: it is caught, and what panicked is a change that could not be applied.
//!
//! A frozen zone thaws when it is removed or made anew by a change, or when it was fetched whole, at a later version, and could be
//! applied. Each later version is tried once, after a pause that is four times as long each time it ended a process.

#[cfg(debug_assertions)]
pub mod planted;
mod record;
pub mod watch;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use godwit_wire::feed::ChangeSet;
#[cfg(debug_assertions)]
use godwit_wire::feed::{OwnedRrset, RrsetChange, ZoneChangeKind};
use godwit_wire::name::{Name, NameRef};

use self::record::{Record, Unit};
use self::watch::Watched;
use crate::observe::status::now_us;

/// How often a process may end at the same change.
const MOST: u32 = 2;
/// The pause before a later version of a zone that is frozen is tried, and the longest.
const THAW: (Duration, Duration) = (Duration::from_secs(900), Duration::from_secs(86_400));

/// See the module. Clones share everything. The default one remembers nothing, and nobody watches it.
#[derive(Clone, Debug, Default)]
pub struct Attempts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    record: Mutex<Record>,
    watched: Watched,
    panics: AtomicU64,
    #[cfg(debug_assertions)]
    planted: Option<planted::Planted>,
}

/// Something is being applied until this is dropped.
#[derive(Debug)]
pub(super) struct Attempt<'a>(&'a Inner);

/// Why a whole zone is not tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the zone is frozen: applying version {version} ended the process {crashes} times")]
pub(super) struct Frozen {
    /// The version at which it was frozen.
    pub(super) version: u64,
    /// How often.
    pub(super) crashes: u32,
    /// When, in microseconds since the epoch.
    at_us: i64,
}

/// It panicked; what was there before is as it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("applying it panicked; the log has the place")]
pub(super) struct Panicked;

impl Attempts {
    /// Reads what an earlier process left in the state folder. `handover`: the process before us still lives, and its note is
    /// no sign of a crash.
    #[must_use]
    pub fn open(folder: &Path, handover: bool) -> Self {
        let record = Record::open(folder, handover, now_us());
        Attempts(Arc::new(Inner {
            record: Mutex::new(record),
            #[cfg(debug_assertions)]
            planted: planted::Planted::of_environment(),
            ..Inner::default()
        }))
    }

    /// These with harm in them, for tests.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    #[must_use]
    pub fn with_planted(self, planted: planted::Planted) -> Self {
        let record = Arc::into_inner(self.0).map(|inner| inner.record).unwrap_or_default();
        Attempts(Arc::new(Inner { record, planted: Some(planted), ..Inner::default() }))
    }

    /// Notes that these change sets are about to be applied, of so many octets.
    pub(super) fn sequences(&self, generation: u64, first: u64, last: u64, octets: usize) -> Attempt<'_> {
        self.begin(&Unit::Sequences { generation, first, last }, octets)
    }

    fn begin(&self, unit: &Unit, octets: usize) -> Attempt<'_> {
        self.record().note(unit);
        self.0.watched.begin(octets);
        Attempt(&self.0)
    }

    /// Whether a process ended at one of these, so that they are to be applied one by one.
    pub(super) fn is_suspect(&self, generation: u64, first: u64, last: u64) -> bool {
        self.record().crashes_at(&Unit::Sequences { generation, first, last }) > 0
    }

    /// How often a process ended at this change set, when that is too often to try it again.
    pub(super) fn is_refused(&self, generation: u64, sequence: u64) -> Option<u32> {
        let unit = Unit::Sequences { generation, first: sequence, last: sequence };
        Some(self.record().crashes_of(&unit)).filter(|crashes| *crashes >= MOST)
    }

    /// All of these were applied, or are refused.
    pub(super) fn passed(&self, generation: u64, first: u64, last: u64) {
        self.record().passed(generation, first, last);
    }

    /// Freezes a zone at a version that ended a process so often.
    pub(super) fn freeze(&self, zone: &Name, version: u64, crashes: u32) {
        self.record().freeze(zone, Frozen { version, crashes, at_us: now_us() });
    }

    /// A zone was applied, or is gone.
    pub(super) fn thaw(&self, zone: &Name) {
        self.record().thaw(zone);
    }

    /// Applies a whole zone, unless it is frozen.
    pub(super) fn zone<T, E: From<Frozen> + From<Panicked>>(
        &self,
        zone: &Name,
        version: u64,
        octets: usize,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(frozen) = self.record().frozen().get(zone)
            && (version <= frozen.version || now_us() < frozen.until_us())
        {
            return Err((*frozen).into());
        }
        let attempt = self.begin(&Unit::Zone { zone: zone.clone(), version }, octets);
        let done = self.guarded(work);
        drop(attempt);
        let done = done??;
        self.thaw(zone);
        Ok(done)
    }

    /// Whether a whole zone may be applied together with others: no earlier process ended at it, or may have.
    pub(super) fn is_free(&self, zone: &Name, version: u64) -> bool {
        let (record, alone) = (self.record(), Unit::Zone { zone: zone.clone(), version });
        let ended = record.crashes_of(&alone) + record.crashes_of(&Unit::Zones);
        ended == 0 && !record.frozen().contains_key(zone)
    }

    /// Notes that one of several whole zones is about to be read.
    pub(super) fn one_of_zones(&self, zone: &Name, version: u64, octets: usize) -> Attempt<'_> {
        self.begin(&Unit::Zone { zone: zone.clone(), version }, octets)
    }

    /// Notes that several whole zones, which were read, are about to be put in, of so many octets.
    pub(super) fn zones(&self, octets: usize) -> Attempt<'_> {
        self.begin(&Unit::Zones, octets)
    }

    /// All whole zones that were to be applied were, or are frozen.
    pub(super) fn zones_passed(&self) {
        self.record().zones_passed();
    }

    /// A panic inside is an error.
    pub(super) fn guarded<T>(&self, work: impl FnOnce() -> T) -> Result<T, Panicked> {
        // Snapshots never change: what the work has seen is whole, whatever became of it.
        catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
            self.0.panics.fetch_add(1, Ordering::Relaxed);
            Panicked
        })
    }

    /// Harm that a test has planted for this owner name.
    #[cfg(debug_assertions)]
    pub(super) fn strike(&self, owner: NameRef<'_>) {
        if let Some(planted) = &self.0.planted {
            planted.strike(owner);
        }
    }

    /// The same for those that a change set puts.
    #[cfg(debug_assertions)]
    pub(super) fn strike_at(&self, change_set: &ChangeSet) {
        for change in &change_set.zones {
            match &change.kind {
                ZoneChangeKind::Replace(sets) => sets.iter().for_each(|set| self.strike(set.owner.as_ref())),
                ZoneChangeKind::Update(steps) => {
                    for step in steps {
                        if let RrsetChange::Put(OwnedRrset { owner, .. }) = step {
                            self.strike(owner.as_ref());
                        }
                    }
                }
                ZoneChangeKind::Remove => {}
            }
        }
    }

    /// In a release there is none.
    #[cfg(not(debug_assertions))]
    pub(super) fn strike(&self, _: NameRef<'_>) {}

    /// In a release there is none.
    #[cfg(not(debug_assertions))]
    pub(super) fn strike_at(&self, _: &ChangeSet) {}

    /// Panics that were caught.
    pub(super) fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    /// Zones that are frozen.
    pub(super) fn frozen(&self) -> usize {
        self.record().frozen().len()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.watched.end();
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Frozen {
    /// Until when no later version is tried, in microseconds since the epoch.
    fn until_us(&self) -> i64 {
        let times = 4_u32.saturating_pow(self.crashes.saturating_sub(MOST).min(8));
        let pause = THAW.0.saturating_mul(times).min(THAW.1);
        self.at_us.saturating_add(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Zones that are frozen, by name.
type FrozenZones = BTreeMap<Name, Frozen>;

#[cfg(test)]
mod tests;
