//! By comparison with the index: what differs is fetched, and shown at once; and single zones in quarantine.

use std::time::Instant;

use godwit_engine::snapshot::{Snapshot, SnapshotOptions};
use godwit_wire::feed::digest::zone_term;
use godwit_wire::feed::{Difference, Index, IndexPlace, PARTS, part_of};
use godwit_wire::name::Name;

use super::{Machine, State};
use crate::feed::place::{Fence, is_behind};
use crate::feed::quarantine::Cause;
use crate::feed::rescan::Found;
use crate::feed::resync::{Base, Listed, Resync};
use crate::feed::source::ZoneState;
use crate::feed::whole::{self, Whole};

impl Machine {
    pub(super) fn index(&mut self, octets: &[u8], now: Instant) {
        if !self.is_index_wanted() {
            return;
        }
        match Index::decode(octets) {
            Ok(index) => self.compare_with(index.place, &Listed { zones: &index.zones, parts: None }, now),
            Err(error) => {
                tracing::error!(%error, octets = octets.len(), "an index cannot be decoded");
                self.compare.begin(now);
            }
        }
    }

    /// Some parts of an index, where what is held of the others adds up to the rest. Otherwise all of it is compared.
    pub(super) fn difference(&mut self, octets: Option<&[u8]>, now: Instant) {
        if !self.is_index_wanted() {
            return;
        }
        self.whole_index = true;
        let Some(octets) = octets else { return };
        let difference = match Difference::decode(octets) {
            Ok(difference) => difference,
            Err(error) => {
                tracing::error!(%error, octets = octets.len(), "what differs cannot be decoded");
                return;
            }
        };
        let asked = self.parted.take();
        let Some(held) = self.held() else { return };
        let parted = asked.filter(|parted| parted.is_of(held)).unwrap_or_else(|| held.parted());
        let Difference { place, sum, parts, zones } = difference;
        let key = held.digest_key();
        let mut total = parted.sums().without(&parts);
        for entry in &zones {
            total.add(zone_term(key, entry.zone.as_ref(), entry.version, entry.digest));
        }
        let are_of_parts = zones.iter().all(|entry| parts.contains(part_of(key, entry.zone.as_ref())));
        if total != sum || !are_of_parts {
            tracing::info!(sequence = place.sequence, "more differs than was said; all of it is compared");
            return;
        }
        self.whole_index = false;
        self.compare_with(place, &Listed { zones: &zones, parts: Some((&parted, &parts)) }, now);
    }

    fn is_index_wanted(&self) -> bool {
        let is_wanted = match self.state {
            State::Bootstrap | State::Compare => true,
            State::Follow => self.doubt,
            State::Fetch(_) => false,
        };
        is_wanted && self.joined
    }

    /// Goes on to fetch what differs, unless what is listed is older than what is held.
    fn compare_with(&mut self, place: IndexPlace, listed: &Listed<'_>, now: Instant) {
        let position = self.work.position();
        let same_history = place.generation == position.generation;
        // Read before what is held was: it knows less.
        let is_old = same_history && place.settled < self.settled;
        if is_old || is_behind(&place, &position, &self.fence) {
            tracing::warn!(
                generation = place.generation,
                epoch = place.epoch,
                sequence = place.sequence,
                ours = position.sequence,
                "the index is older than what is held; nothing moves back"
            );
            match self.state {
                State::Follow => self.compare.begin(now),
                _ => self.again.begin(now),
            }
            return;
        }
        self.again.end();
        self.compare.begin(now);
        self.counts.resyncs = self.counts.resyncs.saturating_add(1);
        let forked = self.forked || (place.sequence == position.sequence && place.chain != position.chain);
        // In doubt it is not known of which history a zone is.
        let is_ours = same_history && !forked && !self.doubt;
        let floor = is_ours.then(|| self.work.snapshot.clone());
        let epoch = if same_history { self.fence.epoch_at(place.epoch, place.sequence) } else { place.epoch };
        let base = self.base();
        let resync =
            Resync::new(IndexPlace { epoch, ..place }, listed, base, floor, self.work.attempts.clone());
        let (zones, parts) =
            (listed.zones.len(), listed.parts.map_or(PARTS.into(), |(_, parts)| parts.count()));
        tracing::info!(sequence = place.sequence, zones, parts, "comparing with the index");
        self.state = State::Fetch(Box::new(resync));
        self.finish(now);
    }

    /// What an index is compared with; `None` where there is nothing yet.
    pub(super) fn held(&self) -> Option<&Snapshot> {
        match (&self.begun, &self.state) {
            (Some(begun), _) => Some(&begun.aside),
            (None, State::Bootstrap) => None,
            (None, _) => Some(&self.work.snapshot),
        }
    }

    fn base(&mut self) -> Base {
        if let Some(begun) = self.begun.take() {
            let Resync { aside, is_bootstrap, round, .. } = *begun;
            return Base { snapshot: aside, is_bootstrap, round: round.saturating_add(1) };
        }
        let is_bootstrap = matches!(self.state, State::Bootstrap);
        let snapshot = if is_bootstrap {
            let digest_key = self.digest_key.clone();
            Snapshot::empty(&SnapshotOptions { hash_key: self.hash_key, digest_key })
        } else {
            self.work.snapshot.clone()
        };
        Base { snapshot, is_bootstrap, round: 0 }
    }

    pub(super) fn zones(&mut self, zones: &[(Name, Option<ZoneState>)], now: Instant) {
        let mut helps = zones.iter().any(|(_, state)| state.is_some());
        if let State::Fetch(resync) = &mut self.state {
            helps = resync.take(zones);
            if resync.is_outdated() {
                let begin_anew = if resync.is_bootstrap { State::Bootstrap } else { State::Compare };
                tracing::warn!("zones come as they were before the index; comparing once more");
                self.state = begin_anew;
            }
            self.finish(now);
        } else if matches!(self.state, State::Follow) {
            self.heal_all(zones, now);
        }
        if helps { self.again.end() } else { self.lost(now) }
    }

    /// Records are not what they were: the zone is fetched anew, alone. Where a zone is gone, or one too many is there, only a
    /// comparison of all tells which. While we do not follow, that is found again.
    pub(super) fn rescanned(&mut self, found: &Found, now: Instant) {
        if !matches!(self.state, State::Follow) {
            return;
        }
        match found {
            Found::Zone { apex, version, digest } => {
                let held = self.work.snapshot.zone(apex.as_ref());
                if !held.is_some_and(|held| held.version() == *version && held.digest() == *digest) {
                    return;
                }
                let reason = "its records are not those of its digest any more";
                self.work.quarantine.put(apex, Cause::Change, reason, now);
            }
            Found::Root => {
                let recounted = self.work.snapshot.clone().with_root_recounted();
                if recounted.root_digest() == self.work.snapshot.root_digest() {
                    return;
                }
                self.work.snapshot = recounted;
                self.doubt = true;
            }
        }
        self.compared.equal = Some(false);
        self.dirty = true;
    }

    fn heal_all(&mut self, zones: &[(Name, Option<ZoneState>)], now: Instant) {
        for (zone, state) in zones {
            if let Some(state) = state
                && self.work.quarantine.contains(zone)
            {
                self.heal(zone, state, now);
            }
        }
    }

    /// Puts a zone in quarantine to what it is now.
    fn heal(&mut self, zone: &Name, state: &ZoneState, now: Instant) {
        let held = self.work.snapshot.zone(zone.as_ref()).map_or(0, |zone| zone.version());
        let least = if self.work.quarantine.is_foreign(zone) { 0 } else { held };
        let is_lower = state.blob.is_some() && state.version < least;
        if state.settled < self.work.position().sequence || is_lower {
            tracing::warn!(%zone, version = state.version, held, "the zone came as it was before");
            return;
        }
        let next = match &state.blob {
            Some(blob) => {
                let whole = Whole { apex: zone, version: state.version, blob };
                whole::put(&self.work.snapshot, &whole, &self.work.attempts)
            }
            None => Ok(self.work.snapshot.remove_zones(std::slice::from_ref(zone))),
        };
        match next {
            Ok(next) => self.work.snapshot = next,
            Err(error) => {
                self.work.quarantine.put(zone, Cause::Whole, &error.to_string(), now);
                return;
            }
        }
        if state.blob.is_none() {
            self.work.absent.insert(zone.clone(), state.version.max(held));
            self.work.attempts.thaw(zone);
        }
        self.work.quarantine.take(zone);
        self.settled = self.settled.max(state.settled);
        self.dirty = true;
    }

    /// Goes over to what was fetched, once all of it is there.
    fn finish(&mut self, now: Instant) {
        let State::Fetch(resync) = &mut self.state else { return };
        if !resync.is_whole() {
            return;
        }
        let resync = std::mem::replace(&mut self.state, State::Follow);
        let State::Fetch(resync) = resync else { return };
        self.work.attempts.zones_passed();
        if resync.may_be_of_two() {
            (self.begun, self.state) = (Some(resync), State::Compare);
            return;
        }
        let is_foreign = resync.floor.is_none();
        let Resync { mut aside, position, settled, least_settled, absent, kept_back, .. } = *resync;
        for zone in kept_back.keys() {
            // Of a snapshot with another key nothing was there to be kept.
            if aside.zone(zone.as_ref()).is_none()
                && let Some(held) = self.work.snapshot.zone(zone.as_ref())
                && let Ok(next) = whole::carry(&aside, &held)
            {
                aside = next;
            }
        }
        self.work.quarantine.keep_only(&kept_back);
        for (zone, (cause, reason)) in &kept_back {
            self.work.quarantine.put(zone, *cause, reason, now);
            if is_foreign {
                self.work.quarantine.call_foreign(zone);
            }
        }
        if position.generation != self.work.position().generation {
            self.fence = Fence::at(&position);
        } else {
            self.fence.see(position.epoch, position.sequence, position.chain);
        }
        self.work.snapshot = aside.with_position(position);
        (self.work.absent, self.work.unlisted_until) = (absent, least_settled);
        (self.settled, self.catch_up_until, self.whole_index) = (settled, None, false);
        (self.doubt, self.forked, self.saw_head_ahead, self.dirty) = (false, false, false, true);
    }
}
