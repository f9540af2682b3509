//! By batches, one after the other, and what heads say of where they lead.

use std::time::Instant;

use godwit_engine::snapshot::Position;
use godwit_wire::feed::{Batch, Entry, Head};

use super::{Compared, Machine, State};
use crate::feed::place::{self, Place};
use crate::feed::source::Entries;

impl Machine {
    /// Whether they say that we hold all there is.
    pub(super) fn entries(&mut self, entries: Entries, now: Instant) -> bool {
        let State::Follow = self.state else { return false };
        let entries = match entries {
            Entries::Next(entries) => entries,
            Entries::Gone => {
                self.cannot_go_on("there is no way on from here");
                return false;
            }
            Entries::Behind => {
                tracing::warn!("the feed is older than what is held; nothing moves back");
                self.again.begin(now);
                return false;
            }
        };
        self.again.end();
        let before = self.work.position().sequence;
        let mut current = false;
        let saw_head_ahead = std::mem::take(&mut self.saw_head_ahead);
        for octets in entries {
            match Entry::decode(&octets) {
                Ok(Entry::Batch(batch)) => self.batch(&batch, &octets, now),
                Ok(Entry::Head(head)) => current = self.head(&head),
                Err(error) => {
                    tracing::error!(%error, octets = octets.len(), "an entry cannot be decoded");
                    self.cannot_go_on("an entry cannot be decoded");
                }
            }
            if !matches!(self.state, State::Follow) {
                return false;
            }
        }
        self.saw_head_ahead &= self.work.position().sequence == before;
        if saw_head_ahead && self.saw_head_ahead {
            self.cannot_go_on("the feed is ahead, and nothing leads there");
        }
        current
    }

    fn batch(&mut self, batch: &Batch, octets: &[u8], now: Instant) {
        let chain = Batch::chain_of(octets).unwrap_or_else(|_| batch.chain());
        match place::of(batch, &chain, &self.work.position(), &self.fence) {
            Place::Next => {
                let end = Position {
                    generation: batch.generation,
                    epoch: self.fence.epoch_at(batch.epoch, batch.last_sequence()),
                    sequence: batch.last_sequence(),
                    chain,
                };
                self.fence.see(batch.epoch, end.sequence, chain);
                self.work.batch(batch, octets.len(), end, now);
                self.dirty = true;
            }
            Place::Repeated => {}
            Place::Stale => {
                self.counts.stale = self.counts.stale.saturating_add(1);
                tracing::warn!(
                    generation = batch.generation,
                    epoch = batch.epoch,
                    first_sequence = batch.first_sequence,
                    "a batch of a past history or term is left out"
                );
            }
            Place::Gap => self.cannot_go_on("the feed has a gap"),
            Place::Fork => {
                self.forked = true;
                self.cannot_go_on("the feed goes on from another history");
            }
        }
    }

    /// What is to be held by now, from whoever knows; whether it is.
    fn head(&mut self, head: &Head) -> bool {
        let position = self.work.position();
        let is_past = head.generation == position.generation
            && self.fence.refuses(head.epoch, head.sequence, &head.chain);
        if head.generation < position.generation || is_past {
            self.counts.stale = self.counts.stale.saturating_add(1);
            return false;
        }
        if head.generation > position.generation {
            self.cannot_go_on("there is a new history");
            return false;
        }
        self.fence.see(head.epoch, head.sequence, head.chain);
        if head.sequence != position.sequence {
            self.saw_head_ahead |= head.sequence > position.sequence;
            return false;
        }
        if head.chain != position.chain {
            self.forked = true;
            self.cannot_go_on("the feed has another history behind it");
            return false;
        }
        if head.epoch > position.epoch {
            self.work.move_to(Position { epoch: head.epoch, ..position });
            self.dirty = true;
        }
        // What is in quarantine is known to differ, and what is ahead of the feed has to.
        if position.sequence < self.settled || !self.work.quarantine.is_empty() {
            return false;
        }
        let ours = self.work.snapshot.root_digest();
        let equal = Some(ours == head.root_digest);
        self.compared = Compared { equal, sequence: head.sequence };
        if ours == head.root_digest {
            self.dirty |= std::mem::take(&mut self.doubt);
            return true;
        }
        if !self.doubt {
            self.counts.digest_mismatches = self.counts.digest_mismatches.saturating_add(1);
            let (sequence, theirs) = (head.sequence, head.root_digest);
            tracing::error!(sequence, %ours, %theirs, "the records are not those of the feed; comparing zone by zone");
            (self.doubt, self.dirty) = (true, true);
        }
        false
    }
}
