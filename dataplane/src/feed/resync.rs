//! From an index to a whole new state, aside: what is equal is kept, what differs is fetched, what is not there any more
//! goes. Nothing of it is seen before all of it is there (P2).

use std::collections::{BTreeMap, VecDeque};

use godwit_engine::snapshot::{Parted, Position, Snapshot, ZoneView};
use godwit_wire::feed::{IndexEntry, IndexPlace, Parts};
use godwit_wire::name::Name;

use super::attempts::Attempts;
use super::quarantine::Cause;
use super::source::ZoneState;
use super::whole::{self, Whole};

/// Zones that are asked for together.
pub(super) const GROUP: usize = 1_024;
/// How often a zone is asked for before all is shown without it.
const ATTEMPTS: u32 = 8;
/// How often it is begun once more, while zones cannot be had, for a connection that was lost.
const ROUNDS: u32 = 2;
/// How many answers may be older than the index before it is taken for one of another history, which has ended.
const OLDER: u32 = 8;

/// A new state that is being put together.
pub(super) struct Resync {
    /// What is there so far.
    pub(super) aside: Snapshot,
    /// Where it stands.
    pub(super) position: Position,
    /// Every change that is in it has a sequence up to here.
    pub(super) settled: u64,
    /// The connection was lost since the index came.
    interrupted: bool,
    /// How often it was begun before, for that.
    pub(super) round: u32,
    /// It began with nothing.
    pub(super) is_bootstrap: bool,
    /// What the index itself has a sequence up to: no answer may be older.
    pub(super) least_settled: u64,
    /// How many were older.
    older: u32,
    /// Zones that are to be fetched.
    wanted: VecDeque<Wanted>,
    /// Zones below whose version nothing is taken: what is held in the same history.
    pub(super) floor: Option<Snapshot>,
    /// Zones that were found to be gone, each with the version at which it went.
    pub(super) absent: BTreeMap<Name, u64>,
    /// Zones that could not be had, or not be served.
    pub(super) kept_back: BTreeMap<Name, (Cause, String)>,
    attempts: Attempts,
}

/// What an index is compared with.
pub(super) struct Base {
    /// What is held, or was fetched before; its digests have the key of the index.
    pub(super) snapshot: Snapshot,
    /// It began with nothing.
    pub(super) is_bootstrap: bool,
    /// See [`Resync::round`].
    pub(super) round: u32,
}

/// What an index says.
pub(super) struct Listed<'a> {
    /// By name in canonical order.
    pub(super) zones: &'a [IndexEntry],
    /// The parts whose zones these are, and what is held; `None`: all. What is held of other parts is known to be as it is there.
    pub(super) parts: Option<(&'a Parted, &'a Parts)>,
}

struct Wanted {
    zone: Name,
    /// The version that the index has.
    version: u64,
    attempts: u32,
}

impl Resync {
    /// Compares what is listed at a place with a base.
    ///
    /// **Cost**: one look-up for each zone of the base.
    pub(super) fn new(
        IndexPlace { generation, epoch, sequence, chain, settled }: IndexPlace,
        listed: &Listed<'_>,
        Base { snapshot: base, is_bootstrap, round }: Base,
        floor: Option<Snapshot>,
        attempts: Attempts,
    ) -> Self {
        // Both are in canonical order.
        let (mut wanted, mut gone) = (VecDeque::new(), Vec::new());
        let held: Box<dyn Iterator<Item = ZoneView<'_>>> = match listed.parts {
            Some((parted, parts)) => Box::new(parted.zones(parts)),
            None => Box::new(base.zones()),
        };
        let mut held = held.peekable();
        for entry in listed.zones {
            while let Some(zone) = held.next_if(|held| held.apex() < entry.zone.as_ref()) {
                gone.push(zone.name());
            }
            let same = held.next_if(|held| held.apex() == entry.zone.as_ref());
            if !same.is_some_and(|held| held.version() == entry.version && held.digest() == entry.digest) {
                wanted.push_back(Wanted { zone: entry.zone.clone(), version: entry.version, attempts: 0 });
            }
        }
        gone.extend(held.map(|zone| zone.name()));
        Resync {
            aside: base.remove_zones(&gone),
            position: Position { generation, epoch, sequence, chain },
            settled,
            interrupted: false,
            round,
            is_bootstrap,
            least_settled: settled,
            older: 0,
            wanted,
            floor,
            absent: BTreeMap::new(),
            kept_back: BTreeMap::new(),
            attempts,
        }
    }

    /// The zones to be asked for next; none once all is there.
    pub(super) fn wanted(&self) -> Vec<Name> {
        self.wanted.iter().take(GROUP).map(|wanted| wanted.zone.clone()).collect()
    }

    /// Takes what came of zones; whether there was any. What is older than the index counts as not answered.
    pub(super) fn take(&mut self, zones: &[(Name, Option<ZoneState>)]) -> bool {
        let (before, mut any_older) = (self.wanted.len(), false);
        let mut fitting = Vec::with_capacity(zones.len());
        for (zone, state) in zones {
            let place = self.wanted.iter().take(GROUP).position(|wanted| wanted.zone == *zone);
            let Some(mut wanted) = place.and_then(|at| self.wanted.remove(at)) else { continue };
            let is_older = state.as_ref().is_some_and(|state| state.settled < self.least_settled);
            any_older |= is_older;
            match state.as_ref().filter(|state| self.is_new(&wanted, state)) {
                Some(state) => fitting.push((zone, state)),
                None => {
                    // Others first: one zone that cannot be had must not keep them waiting.
                    wanted.attempts = wanted.attempts.saturating_add(u32::from(!is_older));
                    self.wanted.push_back(wanted);
                }
            }
        }
        self.older = self.older.saturating_add(u32::from(any_older));
        self.put(&fitting);
        let helps = self.wanted.len() < before;
        if self.wanted.iter().all(|wanted| wanted.attempts >= ATTEMPTS) {
            for Wanted { zone, .. } in self.wanted.drain(..) {
                self.kept_back.insert(zone, (Cause::Change, "the zone could not be fetched".to_owned()));
            }
        }
        helps
    }

    /// Whether it was read after the index was, and no zone goes back within its history (P8).
    fn is_new(&self, wanted: &Wanted, state: &ZoneState) -> bool {
        let least = self.held_version(&wanted.zone).max(wanted.version);
        state.settled >= self.least_settled && (state.blob.is_none() || state.version >= least)
    }

    fn held_version(&self, zone: &Name) -> u64 {
        let held = self.floor.as_ref().and_then(|floor| floor.zone(zone.as_ref()));
        held.map_or(0, |zone| zone.version())
    }

    fn put(&mut self, zones: &[(&Name, &ZoneState)]) {
        let (mut whole, mut gone) = (Vec::with_capacity(zones.len()), Vec::new());
        for &(apex, state) in zones {
            self.settled = self.settled.max(state.settled);
            match &state.blob {
                Some(blob) => whole.push(Whole { apex, version: state.version, blob }),
                None => {
                    self.absent.insert(apex.clone(), state.version.max(self.held_version(apex)));
                    gone.push(apex.clone());
                }
            }
        }
        let (aside, unfit) = whole::put_all(&self.aside.remove_zones(&gone), &whole, &self.attempts);
        self.aside = aside;
        for (apex, error) in unfit {
            self.kept_back.insert(apex.clone(), (Cause::Whole, error.to_string()));
        }
    }

    /// Whether who answers is not who gave the index, or has moved back since: it is to be compared anew.
    pub(super) fn is_outdated(&self) -> bool {
        self.older >= OLDER
    }

    /// Who answers from now on need not be who gave the index.
    pub(super) fn interrupt(&mut self) {
        self.interrupted = true;
    }

    /// Whether zones may have come from another than the index, which only another index can tell. Where some cannot be
    /// had, that would go on for ever.
    pub(super) fn may_be_of_two(&self) -> bool {
        let could_be_had = |(cause, _): &(Cause, String)| *cause != Cause::Change;
        self.interrupted && (self.round < ROUNDS || self.kept_back.values().all(could_be_had))
    }

    /// Whether all zones are there that can be had.
    pub(super) fn is_whole(&self) -> bool {
        self.wanted.is_empty()
    }
}
