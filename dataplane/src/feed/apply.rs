//! Change sets to snapshots. One that cannot be applied costs the zones that it names, and nothing else (P6).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use godwit_engine::snapshot::{Position, Snapshot};
use godwit_wire::feed::{Batch, ChangeSet, Entry, Head, ZoneChange, ZoneChangeKind};
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
    /// Everything was asked for, or began to come, and the head that says that all is there has not come. Such a snapshot,
    /// at its position, says that it has changes that it may lack, so it must not outlive this value.
    everything: Option<Everything>,
    /// Nothing has come since the start: the sender knows where we stood and may begin with everything.
    first: bool,
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

/// Everything, on its way.
struct Everything {
    /// Zones that were there when it was asked for and were not stated since.
    unstated: HashSet<Name>,
    /// Something was stated since.
    begun: bool,
    /// Any zone may lack changes: not only the ones that are in quarantine.
    uncertain: bool,
}

impl Applier {
    /// Goes on from a snapshot. One that lacks changes does not say of which zones: everything is asked for.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        let lacks_changes = snapshot.lacks_changes();
        let mut applier = Applier {
            snapshot,
            quarantined: HashMap::new(),
            quarantine: None,
            request: false,
            everything: None,
            first: true,
            newest_commit_us: None,
        };
        if lacks_changes {
            applier.ask(true);
        }
        applier
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

    /// Whether everything was asked for, or began to come, and has not all come.
    #[must_use]
    pub fn awaits_everything(&self) -> bool {
        self.everything.is_some()
    }

    /// Whether any zone may lack changes, as batches were missed, or as everything is still coming.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        self.everything.as_ref().is_some_and(|everything| everything.uncertain)
    }

    /// When the newest change since the last call was committed.
    pub fn take_newest_commit_us(&mut self) -> Option<i64> {
        self.newest_commit_us.take()
    }

    /// Takes an entry of the feed; whether there is a new snapshot to show.
    pub fn entry(&mut self, octets: &[u8]) -> bool {
        match Entry::decode(octets) {
            Ok(Entry::Batch(batch)) => self.batch(&batch),
            Ok(Entry::Head(head)) => self.head(&head),
            Err(error) => {
                // Which zones it names cannot be told, so nothing less than everything makes good for it.
                tracing::error!(%error, octets = octets.len(), "an entry cannot be decoded; asking for everything");
                self.ask(true);
                false
            }
        }
    }

    fn batch(&mut self, batch: &Batch) -> bool {
        let whole = batch.change_sets.iter().all(|change_set| change_set.zones.iter().all(is_whole));
        let first = std::mem::take(&mut self.first);
        let (mut gap, mut ask) = (false, false);
        let position = self.snapshot.position();
        match place::of(batch, &position) {
            // Who holds nothing is sent everything.
            Place::Next if position == Position::default() && whole => self.expect(true),
            Place::Next => {}
            Place::Repeated => return false,
            Place::Stale => {
                tracing::warn!(
                    generation = batch.generation,
                    epoch = batch.epoch,
                    first_sequence = batch.first_sequence,
                    "a batch of a past history or term is left out"
                );
                return false;
            }
            // The sender saw that it cannot go on from where we stand, and begins with everything.
            Place::Gap if whole && first => self.expect(true),
            Place::Gap => {
                tracing::warn!(
                    sequence = position.sequence,
                    first_sequence = batch.first_sequence,
                    "the feed has a gap; asking for everything"
                );
                (gap, ask) = (true, true);
            }
        }
        for change_set in &batch.change_sets {
            ask |= self.change_set(change_set);
        }
        self.stated(batch);
        // Last, so that this batch is not taken for a part of the answer.
        if ask {
            self.ask(gap);
        }
        self.advance(place::after(batch));
        true
    }

    /// What is to be held by now, from whoever knows.
    fn head(&mut self, head: &Head) -> bool {
        let position = self.snapshot.position();
        let at = Position {
            generation: head.generation,
            epoch: head.epoch,
            sequence: head.sequence,
            chain: head.chain,
        };
        let later = (head.generation, head.epoch) >= (position.generation, position.epoch);
        // Who holds nothing is at the start of every history.
        let here = position == Position::default() && head.sequence == 0
            || at == Position { epoch: head.epoch, ..position };
        if !later || (!here && head.generation == position.generation && head.sequence < position.sequence) {
            return false;
        }
        if !here {
            tracing::warn!(
                sequence = position.sequence,
                head = head.sequence,
                "the feed is not where we are; asking for everything"
            );
            self.ask(true);
            return false;
        }
        if !self.quarantined.is_empty() {
            // What is in quarantine is known to differ: the rest has come as far as it was sent.
            self.everything.take_if(|everything| everything.begun);
            return false;
        }
        let Some(next) = self.at_digest(head) else {
            tracing::error!(
                sequence = head.sequence,
                ours = %self.snapshot.root_digest(),
                theirs = %head.root_digest,
                "the records are not those of the feed; asking for everything"
            );
            self.ask(true);
            return false;
        };
        self.everything = None;
        self.snapshot = next;
        self.advance(at);
        true
    }

    /// What is there, if its root digest is that of the head; without the zones that were not stated, if it is then.
    fn at_digest(&self, head: &Head) -> Option<Snapshot> {
        if self.snapshot.root_digest() == head.root_digest {
            return Some(self.snapshot.clone());
        }
        let everything = self.everything.as_ref()?;
        let gone: Vec<Name> = everything.unstated.iter().cloned().collect();
        let next = self.snapshot.remove_zones(&gone);
        if next.root_digest() != head.root_digest {
            return None;
        }
        tracing::warn!(zones = gone.len(), "zones that the feed does not have are gone");
        Some(next)
    }

    /// Asks for everything, and expects it.
    fn ask(&mut self, uncertain: bool) {
        self.request = true;
        self.expect(uncertain);
    }

    fn expect(&mut self, uncertain: bool) {
        // All zones are gone through once for any number of requests that are not answered yet.
        if let Some(everything) = &mut self.everything
            && !everything.begun
        {
            everything.uncertain |= uncertain;
            return;
        }
        let uncertain = uncertain || self.is_uncertain();
        let unstated = self.snapshot.zones().map(|zone| zone.apex().to_owned()).collect();
        self.everything = Some(Everything { unstated, begun: false, uncertain });
    }

    /// Notes what a batch states whole.
    fn stated(&mut self, batch: &Batch) {
        let Some(everything) = &mut self.everything else { return };
        for change in batch.change_sets.iter().flat_map(|change_set| &change_set.zones) {
            if is_whole(change) {
                everything.unstated.remove(&change.zone);
                everything.begun = true;
            }
        }
    }

    fn advance(&mut self, position: Position) {
        let lacks_changes = !self.quarantined.is_empty();
        self.snapshot = self.snapshot.clone().with_position(position).with_lacks_changes(lacks_changes);
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
