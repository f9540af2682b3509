//! Zones that keep their last good state because what came for them could not be applied (P6), and when each of them is
//! asked for again, alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use godwit_engine::snapshot::Snapshot;
use godwit_wire::name::Name;

use super::spacing::Spacing;

/// The first pause before such a zone is asked for again.
const FIRST: Duration = Duration::from_secs(1);
/// The longest while nothing says that it would not help.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest when the whole zone came and could not be applied.
const LONGEST_WHOLE: Duration = Duration::from_secs(300);

/// Why a zone is quarantined.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    /// A change did not fit, or the zone could not be had. Asking for it may help.
    Change,
    /// Not even a whole statement of it could be applied. Asking again would bring the same for a while.
    Whole,
}

/// Zones in quarantine as others are told of them, each with the version that is served; 0 when none is.
pub type Quarantine = Arc<BTreeMap<Name, u64>>;

/// The zones in quarantine.
#[derive(Debug)]
pub(super) struct Quarantined {
    zones: BTreeMap<Name, Kept>,
    seed: u64,
}

#[derive(Debug)]
struct Kept {
    cause: Cause,
    spacing: Spacing,
    /// What is kept may be of another history, whose versions say nothing in this one.
    is_foreign: bool,
}

impl Quarantined {
    pub(super) fn new(seed: u64) -> Self {
        Quarantined { zones: BTreeMap::new(), seed }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    pub(super) fn contains(&self, zone: &Name) -> bool {
        self.zones.contains_key(zone)
    }

    /// Takes a zone in. One whose whole statement could not be applied waits before it is asked for.
    pub(super) fn put(&mut self, zone: &Name, cause: Cause, reason: &str, now: Instant) {
        let before = self.zones.get_mut(zone);
        let is_foreign = match before {
            Some(kept) if kept.cause == cause => return,
            // There is a later change: what is to be had by now is another version.
            Some(kept) if kept.cause == Cause::Whole => return kept.spacing.shorten(now, LONGEST),
            before => before.is_some_and(|kept| kept.is_foreign),
        };
        tracing::error!(%zone, reason, "the zone keeps its last good state");
        let longest = match cause {
            Cause::Change => LONGEST,
            Cause::Whole => LONGEST_WHOLE,
        };
        self.seed = self.seed.wrapping_add(1);
        let mut spacing = Spacing::new(FIRST, longest, self.seed);
        if cause == Cause::Whole {
            spacing.begin(now);
        }
        self.zones.insert(zone.clone(), Kept { cause, spacing, is_foreign });
    }

    /// What is kept of a zone may be of another history.
    pub(super) fn call_foreign(&mut self, zone: &Name) {
        if let Some(kept) = self.zones.get_mut(zone) {
            kept.is_foreign = true;
        }
    }

    /// Whether what is kept of a zone may be of another history.
    pub(super) fn is_foreign(&self, zone: &Name) -> bool {
        self.zones.get(zone).is_some_and(|kept| kept.is_foreign)
    }

    /// Lets a zone out; whether it was in.
    pub(super) fn take(&mut self, zone: &Name) -> bool {
        let was_in = self.zones.remove(zone).is_some();
        if was_in {
            tracing::info!(%zone, "the zone is out of quarantine");
        }
        was_in
    }

    /// Lets out all but these.
    pub(super) fn keep_only(&mut self, kept: &BTreeMap<Name, (Cause, String)>) {
        self.zones.retain(|zone, _| kept.contains_key(zone));
    }

    /// Those, up to so many, that are to be asked for now; each will be again after a pause.
    pub(super) fn due(&mut self, most: usize, now: Instant) -> Vec<Name> {
        let mut due = Vec::new();
        for (zone, kept) in &mut self.zones {
            if due.len() < most && kept.spacing.until(now).is_none() {
                kept.spacing.begin(now);
                due.push(zone.clone());
            }
        }
        due
    }

    /// Each with the version that a snapshot has of it; 0 without.
    pub(super) fn in_snapshot(&self, snapshot: &Snapshot) -> BTreeMap<Name, u64> {
        let version = |zone: &Name| snapshot.zone(zone.as_ref()).map_or(0, |zone| zone.version());
        self.zones.keys().map(|zone| (zone.clone(), version(zone))).collect()
    }
}
