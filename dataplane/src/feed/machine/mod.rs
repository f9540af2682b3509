//! What a data plane does about the feed, decided without doing it: no I/O, no clock, nothing of a transport. Whoever drives
//! it asks what is wanted, fetches that, and says what came.
//!
//! ```text
//!                 ┌──────────────── another key ────────────────┐
//!                 ▼                                             │
//!   start ──▶ bootstrap ──index──▶ fetch ──all there──▶ follow ─┘
//!     │                             ▲  ▲                 │   ▲
//!     │                       index │  └──index, doubt───┤   │ batches, in order
//!     │                             │                    │   │
//!     │                          compare ◀──gap, fork────┘   │
//!     └──────────── a local snapshot ────────────────────────┘
//! ```
//!
//! - `exchange`: what goes in and out;
//! - `follow`: by batches;
//! - `compare`: by the index.
//!
//! What was worked out is shown when every change that is in it has its place in the feed behind it: a change set over two
//! zones, one of which was fetched when it had it and one before, is not seen by halves (P2).

mod compare;
mod exchange;
mod follow;

use std::sync::Arc;
use std::time::{Duration, Instant};

use godwit_engine::snapshot::{Parted, Position, Snapshot};
use godwit_wire::feed::DigestKey;

pub use exchange::{Compared, Counts, Got, Outcome, Seeds, Want};

use super::apply::Work;
use super::attempts::Attempts;
use super::place::Fence;
use super::quarantine::Quarantine;
use super::resync::Resync;
use super::source::Joined;
use super::spacing::Spacing;

/// Pauses between comparisons with the index.
const COMPARE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// With so many zones it is asked which parts of them differ: the sums of all parts take about as much as an index of fewer.
const DIFFERENCE_FROM: usize = 1_024;
/// Pauses after answers that were lost, or that say to come later.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Zones in quarantine that are asked for together.
const HEALED: usize = 64;
/// How long what was worked out is kept from being shown until the feed has reached all that is in it. Where nothing is
/// published for so long, to show it is better.
const CATCH_UP: Duration = Duration::from_secs(5);

/// See the module.
pub struct Machine {
    shown: Snapshot,
    kept_back: Quarantine,
    work: Work,
    /// There is something in `work` that is not in `shown`.
    dirty: bool,
    /// Every change that is in `work` has a sequence up to here.
    settled: u64,
    /// Until when it may wait to be shown for that.
    catch_up_until: Option<Instant>,
    state: State,
    /// What was fetched while the connection was lost: to be compared once more before it is taken.
    begun: Option<Box<Resync>>,
    /// Any zone may be another than the position says: all are to be compared with the index, and followed meanwhile.
    doubt: bool,
    /// There is proof of two histories in this generation: what is held may be of the other.
    forked: bool,
    fence: Fence,
    joined: bool,
    digest_key: DigestKey,
    hash_key: [u8; 16],
    compare: Spacing,
    again: Spacing,
    /// What was wanted last was the index, or what differs.
    asked_index: bool,
    /// See [`DIFFERENCE_FROM`].
    difference_from: usize,
    /// What was said to differ was of no use: the index of all zones is to be compared.
    whole_index: bool,
    /// What was held when it was asked what differs.
    parted: Option<Parted>,
    /// Zones in quarantine were wanted last: it is the turn of what comes after our place.
    asked_zones: bool,
    /// The last answer had a head that is ahead of us, and no batch that leads there.
    saw_head_ahead: bool,
    counts: Counts,
    compared: Compared,
}

enum State {
    /// Nothing is held that could be compared.
    Bootstrap,
    /// Batches are applied as they come.
    Follow,
    /// There is no way on by batches: the index is to be compared.
    Compare,
    /// It was compared, and what differs is fetched.
    Fetch(Box<Resync>),
}

impl Machine {
    /// Goes on from a snapshot. One that lacks changes does not say of which zones: it is compared first.
    #[must_use]
    pub fn new(snapshot: Snapshot, seeds: Seeds) -> Self {
        let position = snapshot.position();
        let state = if position == Position::default() { State::Bootstrap } else { State::Follow };
        Machine {
            kept_back: Quarantine::default(),
            dirty: false,
            settled: 0,
            catch_up_until: None,
            state,
            begun: None,
            doubt: snapshot.lacks_changes(),
            forked: false,
            fence: Fence::at(&position),
            joined: false,
            digest_key: snapshot.digest_key().clone(),
            hash_key: seeds.hash_key,
            compare: Spacing::new(COMPARE.0, COMPARE.1, seeds.pauses),
            again: Spacing::new(AGAIN.0, AGAIN.1, seeds.pauses.rotate_left(32)),
            asked_index: false,
            difference_from: DIFFERENCE_FROM,
            whole_index: false,
            parted: None,
            asked_zones: false,
            saw_head_ahead: false,
            counts: Counts::default(),
            compared: Compared::default(),
            work: Work::new(snapshot.clone(), seeds.pauses.rotate_left(16)),
            shown: snapshot,
        }
    }

    /// This, which notes what it applies, and does not try again what a process ended at.
    #[must_use]
    pub fn with_attempts(mut self, attempts: Attempts) -> Self {
        self.work.attempts = attempts;
        self
    }

    /// This, which asks what differs from so many zones on. For tests.
    #[must_use]
    pub fn with_difference_from(mut self, zones: usize) -> Self {
        self.difference_from = zones;
        self
    }

    /// What is to be seen.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.shown
    }

    /// Zones of it that are in quarantine, with the version that is served.
    #[must_use]
    pub fn kept_back(&self) -> &Quarantine {
        &self.kept_back
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether it was equal to what the feed says, when a head last said so.
    #[must_use]
    pub fn compared(&self) -> Compared {
        self.compared
    }

    /// When the newest change that was shown since the last call was committed.
    pub fn take_newest_commit_us(&mut self) -> Option<i64> {
        self.work.newest_commit_us.take()
    }

    /// What is to be fetched now.
    pub fn want(&mut self, now: Instant) -> Want {
        self.asked_index = false;
        if let Some(until) = self.again.until(now) {
            return Want::Wait(until);
        }
        if !self.joined {
            return Want::Join;
        }
        let index_at = self.compare.until(now).filter(|_| self.begun.is_none());
        match (&self.state, index_at) {
            (State::Fetch(resync), _) => return Want::Zones(resync.wanted()),
            (State::Bootstrap | State::Compare, Some(at)) => return Want::Wait(at),
            (State::Follow, index_at) if !self.doubt || index_at.is_some() => {}
            (State::Bootstrap | State::Compare | State::Follow, _) => {
                self.asked_index = true;
                return self.want_index();
            }
        }
        // In turn: zones that cannot be had must not keep everything else waiting.
        let most = if self.asked_zones { 0 } else { HEALED };
        let zones = self.work.quarantine.due(most, now);
        self.asked_zones = !zones.is_empty();
        if self.asked_zones { Want::Zones(zones) } else { Want::Entries(self.work.position()) }
    }

    /// Who holds nearly everything asks for what differs.
    fn want_index(&mut self) -> Want {
        match self.held() {
            Some(held) if !self.whole_index && held.zone_count() >= self.difference_from => {
                let parted = held.parted();
                let sums = parted.sums().clone();
                self.parted = Some(parted);
                Want::Difference(sums)
            }
            _ => Want::Index,
        }
    }

    /// Takes what came. It need not be what was wanted last: answers may come late, twice, or in another order.
    pub fn took(&mut self, got: Got, now: Instant) -> Outcome {
        let mut current = false;
        if !matches!(got, Got::Difference(_) | Got::Waited) {
            // It would keep what was held in memory.
            self.parted = None;
        }
        match got {
            Got::Joined(joined) => self.join(joined),
            Got::Difference(octets) => self.difference(octets.as_deref(), now),
            Got::Index(octets) => self.index(&octets, now),
            Got::Zones(zones) => self.zones(&zones, now),
            Got::Entries(entries) => current = self.entries(entries, now),
            Got::Rescanned(found) => self.rescanned(&found, now),
            Got::Lost => self.lost(now),
            Got::Waited => {}
        }
        let show = self.dirty && self.publish(now);
        Outcome { show, current: current && !self.dirty }
    }

    /// Shows what was worked out, unless it is to wait.
    fn publish(&mut self, now: Instant) -> bool {
        let is_ahead = self.work.position().sequence < self.settled;
        if is_ahead {
            let until = *self.catch_up_until.get_or_insert(now + CATCH_UP);
            if now < until {
                return false;
            }
        } else {
            self.catch_up_until = None;
            self.work.absent.clear();
        }
        let kept_back = self.work.quarantine.in_snapshot(&self.work.snapshot);
        let lacks_changes = is_ahead || self.doubt || !kept_back.is_empty();
        self.shown = self.work.snapshot.clone().with_lacks_changes(lacks_changes);
        if *self.kept_back != kept_back {
            self.kept_back = Arc::new(kept_back);
        }
        self.dirty = false;
        true
    }

    fn join(&mut self, Joined { digest_key }: Joined) {
        self.joined = true;
        // Whose zones they are shows in what comes after our place: that first.
        self.asked_zones = true;
        if digest_key.0 == self.digest_key.0 {
            return;
        }
        let is_ours = digest_key.0 == self.work.snapshot.digest_key().0;
        self.digest_key = digest_key;
        let holds_something = self.work.position() != Position::default();
        self.state = if is_ours && holds_something { State::Follow } else { State::Bootstrap };
        self.begun = None;
        self.compare.end();
        if !is_ours {
            tracing::warn!("digests have another key here; everything is fetched once more");
        }
    }

    fn cannot_go_on(&mut self, reason: &str) {
        tracing::warn!(
            sequence = self.work.position().sequence,
            reason,
            "comparing everything with the index"
        );
        self.state = State::Compare;
    }

    /// Nothing came: after a pause, whoever is there then is asked from the start.
    fn lost(&mut self, now: Instant) {
        self.joined = false;
        self.again.begin(now);
        if let State::Fetch(resync) = &mut self.state {
            resync.interrupt();
        }
        if self.asked_index && matches!(self.state, State::Follow) {
            // Meanwhile it can be followed.
            self.compare.begin(now);
        }
    }
}
