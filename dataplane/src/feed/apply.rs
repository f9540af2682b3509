//! Change sets to snapshots: each whole or not at all. One that cannot be applied costs the zones that it names, and
//! nothing else (P6).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use godwit_engine::snapshot::{Position, Snapshot};
use godwit_wire::feed::{Batch, ChangeSet, ZoneChange, ZoneChangeKind};
use godwit_wire::name::Name;

use super::attempts::Attempts;
use super::quarantine::{Cause, Quarantined};

/// What was applied, shown or not.
pub(super) struct Work {
    pub(super) snapshot: Snapshot,
    pub(super) quarantine: Quarantined,
    /// Zones that were found to be gone, each with the version at which it went: changes up to there may still come.
    pub(super) absent: BTreeMap<Name, u64>,
    /// Up to here, what changes a zone that is not held is from before it went: the index was without it.
    pub(super) unlisted_until: u64,
    /// When the newest change was committed.
    pub(super) newest_commit_us: Option<i64>,
    /// What is noted of it, and what must not be tried again.
    pub(super) attempts: Attempts,
}

impl Work {
    pub(super) fn new(snapshot: Snapshot, seed: u64) -> Self {
        let quarantine = Quarantined::new(seed);
        Work {
            snapshot,
            quarantine,
            absent: BTreeMap::new(),
            unlisted_until: 0,
            newest_commit_us: None,
            attempts: Attempts::default(),
        }
    }

    pub(super) fn position(&self) -> Position {
        self.snapshot.position()
    }

    pub(super) fn move_to(&mut self, position: Position) {
        self.snapshot = self.snapshot.clone().with_position(position);
    }

    /// Applies the batch that comes next, of so many octets, and moves to its end.
    pub(super) fn batch(&mut self, batch: &Batch, octets: usize, end: Position, now: Instant) {
        let attempts = self.attempts.clone();
        let (generation, first, last) = (batch.generation, batch.first_sequence, batch.last_sequence());
        let is_suspect = attempts.is_suspect(generation, first, last);
        let whole = (!is_suspect).then(|| attempts.sequences(generation, first, last, octets));
        for (sequence, change_set) in (batch.first_sequence..).zip(&batch.change_sets) {
            if let Some(crashes) = is_suspect.then(|| attempts.is_refused(generation, sequence)).flatten() {
                self.freeze(change_set, sequence, crashes, now);
                continue;
            }
            // One by one, a process that ends here says at which.
            let alone = is_suspect.then(|| attempts.sequences(generation, sequence, sequence, octets));
            self.change_set(change_set, sequence, now);
            drop(alone);
        }
        drop(whole);
        if is_suspect {
            attempts.passed(generation, first, last);
        }
        self.move_to(end);
    }

    /// Leaves the zones of a change set as they are, at which processes have ended.
    fn freeze(&mut self, change_set: &ChangeSet, sequence: u64, crashes: u32, now: Instant) {
        tracing::error!(sequence, crashes, "a change set is not tried again: its zones are frozen");
        let ahead: Vec<&ZoneChange> =
            change_set.zones.iter().filter(|change| !self.has(change, sequence)).collect();
        for change in &ahead {
            self.attempts.freeze(&change.zone, change.version, crashes);
        }
        self.keep_back(&ahead, "applying a change of it ended the process", now);
    }

    fn change_set(&mut self, change_set: &ChangeSet, sequence: u64, now: Instant) {
        // A zone that was fetched may be ahead of the feed: what it has is stepped over.
        let mut ahead: Vec<&ZoneChange> = Vec::with_capacity(change_set.zones.len());
        let mut made = BTreeSet::new();
        for change in &change_set.zones {
            if made.contains(&change.zone) || !self.has(change, sequence) {
                made.insert(&change.zone);
                ahead.push(change);
            }
        }
        // Whole statements heal, anything else waits with its zone.
        let waits = |change: &&ZoneChange| !is_whole(change) && self.quarantine.contains(&change.zone);
        if ahead.iter().any(waits) {
            self.keep_back(&ahead, "named by a change set together with a zone in quarantine", now);
            return;
        }
        let lowered: BTreeSet<Name> = ahead
            .iter()
            .filter(|change| is_whole(change) && self.quarantine.contains(&change.zone))
            .map(|change| change.zone.clone())
            .collect();
        let zones = without_first_removals(&ahead, &lowered);
        let fitted = ChangeSet { id: change_set.id, committed_at_us: change_set.committed_at_us, zones };
        let taken_out: Vec<Name> = lowered.into_iter().collect();
        let (attempts, before) = (self.attempts.clone(), &self.snapshot);
        let applied = attempts.guarded(|| {
            attempts.strike_at(&fitted);
            before.remove_zones(&taken_out).apply(&fitted)
        });
        match applied
            .map_err(|panicked| panicked.to_string())
            .and_then(|next| next.map_err(|error| error.to_string()))
        {
            Ok(next) => {
                self.snapshot = next;
                let newest = self.newest_commit_us.unwrap_or(i64::MIN).max(change_set.committed_at_us);
                self.newest_commit_us = Some(newest);
                for change in ahead {
                    if self.quarantine.take(&change.zone) {
                        attempts.thaw(&change.zone);
                    }
                    self.absent.remove(&change.zone);
                }
            }
            Err(reason) => self.keep_back(&ahead, &reason, now),
        }
    }

    /// Whether a change is in what is held.
    fn has(&self, change: &ZoneChange, sequence: u64) -> bool {
        let held = self.snapshot.zone(change.zone.as_ref()).map(|zone| zone.version());
        let known = held.or_else(|| self.absent.get(&change.zone).copied());
        let is_unlisted = change.base_version > 0 && sequence <= self.unlisted_until;
        known.map_or(is_unlisted, |version| change.version <= version)
    }

    /// Keeps zones as they are until they are stated whole.
    fn keep_back(&mut self, changes: &[&ZoneChange], reason: &str, now: Instant) {
        for change in changes {
            let cause = if is_whole(change) { Cause::Whole } else { Cause::Change };
            self.quarantine.put(&change.zone, cause, reason, now);
        }
    }
}

/// What is left to do where these zones were taken out already. One that came again in the same change set may go again.
fn without_first_removals(changes: &[&ZoneChange], taken_out: &BTreeSet<Name>) -> Vec<ZoneChange> {
    let mut begun = BTreeSet::new();
    let mut left = Vec::with_capacity(changes.len());
    for change in changes {
        let first = begun.insert(&change.zone);
        let is_removal = matches!(change.kind, ZoneChangeKind::Remove);
        if !(first && is_removal && taken_out.contains(&change.zone)) {
            left.push((*change).clone());
        }
    }
    left
}

/// Whether a change states its whole zone, whatever is there now: that it is gone, or what it begins with.
fn is_whole(change: &ZoneChange) -> bool {
    match change.kind {
        ZoneChangeKind::Remove => true,
        ZoneChangeKind::Replace(_) | ZoneChangeKind::Update(_) => change.base_version == 0,
    }
}
