//! Change sets to snapshots. One that cannot be applied costs the zones that it names, and nothing else (P6).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use godwit_engine::snapshot::{Position, Snapshot};
use godwit_wire::feed::{Batch, ChangeSet, ZoneChange, ZoneChangeKind};
use godwit_wire::name::Name;

use super::place::{self, Place};

/// Zones that keep an earlier state than the position says, each with the version that is served; 0 when none is.
pub type Quarantine = Arc<BTreeMap<Name, u64>>;

/// The state of the writer between swaps.
pub struct Applier {
    snapshot: Snapshot,
    /// Zones that keep their last good answers until a whole statement of them can be applied.
    quarantined: HashMap<Name, Cause>,
    /// The same for whoever is told, made when it is asked for; `None` once it is out of date.
    quarantine: Option<Quarantine>,
    /// Everything is to be asked for.
    request: bool,
    /// Since everything was asked for: what has not been stated whole yet. Such a snapshot, at its position, says that
    /// it has changes that it may lack, so it must not outlive this value.
    owed: Option<Owed>,
    /// Nothing has come since the start: the sender knows where we stood and may begin with everything.
    first: bool,
    everything: Everything,
    newest_commit_us: Option<i64>,
}

/// Why a zone is quarantined.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    /// A change did not fit. Asking for everything may help.
    Change,
    /// Not even a whole statement of it could be applied. Asking again would bring the same.
    Whole,
}

/// What an answer to a request for everything has yet to state.
struct Owed {
    zones: HashSet<Name>,
    /// Something was stated since the request.
    begun: bool,
}

/// Whether everything is being sent. Until all of it is there, what is served is not one state of the feed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Everything {
    /// It is not.
    No,
    /// It was asked for.
    Awaited,
    /// Whole zones come, and nothing else since they began.
    Coming,
}

/// What a batch did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Effect {
    /// Whether there is a new snapshot to show.
    pub changed: bool,
    /// It left a gap behind, or is one part of everything, of which more is to come.
    pub partial: bool,
}

impl Applier {
    /// Goes on from a snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Applier {
            snapshot,
            quarantined: HashMap::new(),
            quarantine: None,
            request: false,
            owed: None,
            first: true,
            everything: Everything::No,
            newest_commit_us: None,
        }
    }

    /// The snapshot with all that was applied.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether everything is to be asked for since the last call.
    #[must_use]
    pub fn take_request(&mut self) -> bool {
        std::mem::take(&mut self.request)
    }

    /// Zones in quarantine.
    #[must_use]
    pub fn quarantined(&self) -> usize {
        self.quarantined.len()
    }

    /// Zones in quarantine, with what is served of them.
    ///
    /// **Cost**: one look-up for each of them when they have changed since the last call, otherwise none.
    pub fn kept_back(&mut self) -> Quarantine {
        let served = |zone: &Name| self.snapshot.zone(zone.as_ref()).map_or(0, |zone| zone.version());
        let made = || Arc::new(self.quarantined.keys().map(|zone| (zone.clone(), served(zone))).collect());
        Arc::clone(self.quarantine.get_or_insert_with(made))
    }

    /// Whether the snapshot is all that its position says: no zone in quarantine, nothing asked for that did not come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.owed.is_none() && self.quarantined.is_empty()
    }

    /// When the newest change since the last call was committed.
    pub fn take_newest_commit_us(&mut self) -> Option<i64> {
        self.newest_commit_us.take()
    }

    /// Applies a batch.
    pub fn batch(&mut self, octets: &[u8]) -> Effect {
        let batch = match Batch::decode(octets) {
            Ok(batch) => batch,
            Err(error) => {
                // Which zones it names cannot be told, so nothing less than everything makes good for it.
                tracing::error!(%error, octets = octets.len(), "a batch cannot be decoded; asking for everything");
                self.ask();
                return Effect::default();
            }
        };
        let whole = batch.change_sets.iter().all(|change_set| change_set.zones.iter().all(is_whole));
        let first = std::mem::take(&mut self.first);
        let (mut gap, mut ask) = (false, false);
        match place::of(&batch, &self.snapshot.position()) {
            Place::Next => {}
            Place::Repeated => return Effect::default(),
            Place::Stale => {
                tracing::warn!(
                    generation = batch.generation,
                    epoch = batch.epoch,
                    first_sequence = batch.first_sequence,
                    "a batch of a past history or term is left out"
                );
                return Effect::default();
            }
            // The sender saw that it cannot go on from where we stand, and begins with everything.
            Place::Gap if whole && first => (gap, self.everything) = (true, Everything::Coming),
            Place::Gap => {
                tracing::warn!(
                    sequence = self.snapshot.position().sequence,
                    first_sequence = batch.first_sequence,
                    "the feed has a gap; asking for everything"
                );
                (gap, ask) = (true, true);
            }
        }
        self.everything = match self.everything {
            Everything::Awaited | Everything::Coming if whole => Everything::Coming,
            Everything::Awaited => Everything::Awaited,
            Everything::No | Everything::Coming => Everything::No,
        };
        for change_set in &batch.change_sets {
            ask |= self.change_set(change_set);
        }
        self.stated(&batch);
        // Last, so that this batch is not taken for a part of the answer.
        if ask {
            self.ask();
        }
        self.advance(place::after(&batch));
        Effect { changed: true, partial: gap || self.everything == Everything::Coming }
    }

    fn ask(&mut self) {
        self.request = true;
        self.everything = Everything::Awaited;
        // All zones are gone through once for any number of requests that are not answered yet.
        if self.owed.as_ref().is_none_or(|owed| owed.begun) {
            let zones = self.snapshot.zones().map(|zone| zone.apex().to_owned()).collect();
            self.owed = Some(Owed { zones, begun: false });
        }
    }

    /// Takes what a batch states whole off what is owed.
    fn stated(&mut self, batch: &Batch) {
        let Some(owed) = &mut self.owed else { return };
        for change in batch.change_sets.iter().flat_map(|change_set| &change_set.zones) {
            if is_whole(change) {
                owed.zones.remove(&change.zone);
                owed.begun = true;
            }
        }
        if owed.begun && owed.zones.is_empty() {
            self.owed = None;
        }
    }

    fn advance(&mut self, position: Position) {
        self.snapshot = self.snapshot.clone().with_position(position);
    }

    /// Applies a change set, whole or not at all; whether everything is to be asked for.
    fn change_set(&mut self, change_set: &ChangeSet) -> bool {
        // Whole statements heal, anything else waits with its zone.
        let waits = |change: &ZoneChange| !is_whole(change) && self.quarantined.contains_key(&change.zone);
        if change_set.zones.iter().any(waits) {
            return self.quarantine(change_set, None);
        }
        let zones = change_set.zones.iter().filter_map(|change| self.fit(change.clone())).collect();
        let fitted = ChangeSet { id: change_set.id, committed_at_us: change_set.committed_at_us, zones };
        match self.base(&fitted).apply(&fitted) {
            Ok(next) => {
                self.snapshot = next;
                for change in &change_set.zones {
                    if is_whole(change) && self.quarantined.remove(&change.zone).is_some() {
                        self.quarantine = None;
                        tracing::info!(zone = %change.zone, "the zone is out of quarantine");
                    }
                }
                let newest = self.newest_commit_us.unwrap_or(i64::MIN).max(change_set.committed_at_us);
                self.newest_commit_us = Some(newest);
                false
            }
            Err(error) => self.quarantine(change_set, Some(&error.to_string())),
        }
    }

    /// Fits a zone's change to what is there; `None` when it is there already.
    ///
    /// A replacement "from nothing" states the whole zone, and a removal that there is none, whatever is there now. An
    /// update at or below the version that is there was applied before.
    fn fit(&self, mut change: ZoneChange) -> Option<ZoneChange> {
        let actual = self.snapshot.zone(change.zone.as_ref()).map_or(0, |zone| zone.version());
        match change.kind {
            ZoneChangeKind::Remove => {
                change.base_version = actual;
                change.version = change.version.max(actual.saturating_add(1));
                (actual > 0).then_some(change)
            }
            ZoneChangeKind::Replace(_) if change.base_version == 0 => {
                // At or below the version that is there: see `base`.
                if change.version > actual {
                    change.base_version = actual;
                }
                Some(change)
            }
            ZoneChangeKind::Replace(_) | ZoneChangeKind::Update(_) => {
                (change.version > actual).then_some(change)
            }
        }
    }

    /// What a fitted change set is applied to: the working snapshot, without zones that are stated whole at a version
    /// that is not above ours (a history that was restored), so that they can take the lower version.
    fn base(&self, change_set: &ChangeSet) -> Snapshot {
        let lowered: Vec<Name> = change_set
            .zones
            .iter()
            .filter(|change| change.base_version == 0 && is_whole(change))
            .filter(|change| self.snapshot.zone(change.zone.as_ref()).is_some())
            .map(|change| change.zone.clone())
            .collect();
        if lowered.is_empty() { self.snapshot.clone() } else { self.snapshot.remove_zones(&lowered) }
    }

    /// Keeps the zones of a change set as they are, until they are stated whole; whether asking for that may help.
    fn quarantine(&mut self, change_set: &ChangeSet, reason: Option<&str>) -> bool {
        let mut ask = false;
        self.quarantine = None;
        for change in &change_set.zones {
            let cause = if is_whole(change) { Cause::Whole } else { Cause::Change };
            let before = self.quarantined.insert(change.zone.clone(), cause);
            if before == Some(Cause::Whole) {
                self.quarantined.insert(change.zone.clone(), Cause::Whole);
            }
            ask |= cause == Cause::Change && before.is_none();
            if before.is_none() {
                let reason = reason.unwrap_or("named by a change set together with a zone in quarantine");
                tracing::error!(zone = %change.zone, reason, "the zone keeps its last good state");
            }
        }
        ask
    }
}

/// Whether a change states its whole zone, whatever is there now.
fn is_whole(change: &ZoneChange) -> bool {
    match change.kind {
        ZoneChangeKind::Remove => true,
        ZoneChangeKind::Replace(_) => change.base_version == 0,
        ZoneChangeKind::Update(_) => false,
    }
}
