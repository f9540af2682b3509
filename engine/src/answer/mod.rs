//! Query and snapshot → response. A pure function: no I/O, no clock, no lock, no allocation, no panic.
//!
//! A query goes through three steps: `admit` settles what needs no zone; the index is asked for the longest name at or
//! above QNAME that exists; `reply` turns what was found into sections. What is answered in each case is written down in
//! `docs/answers.md`, with the RFC section that decides it.
//!
//! Look-ups of a batch are made together, in stages with prefetch, so that their cache misses overlap: this is most
//! of what makes a large zone as quick as a small one.

mod admit;
mod alias;
mod cookie;
mod denial;
mod lookup;
mod reply;
mod settings;
mod shorten;
#[cfg(test)]
mod tests;
mod without_data;

pub use settings::{
    AnyPolicy, Client, CookieSecrets, DropReason, Kind, MAX_LINKS, Outcome, Readiness, Settings, Transport,
};
pub use shorten::shorten;
pub use without_data::WithoutData;

use arrayvec::ArrayVec;
use godwit_wire::name::NameRef;

use crate::snapshot::Snapshot;
use crate::snapshot::index::Place;
use crate::snapshot::node::Node;
use admit::{Frame, Question};
use lookup::Closest;

/// The most messages of a batch that are looked up together.
pub const BATCH: usize = 64;

/// One message of a batch.
pub struct Slot<'b> {
    /// Who asks.
    pub client: Client,
    /// The message.
    pub packet: &'b [u8],
    /// Where its answer goes: at least 512 octets for UDP; what does not fit is truncated.
    pub out: &'b mut [u8],
}

/// A received batch of messages.
pub trait Batch {
    /// How many there are; more than [`BATCH`] are answered in runs of so many.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message at `index`, below [`Batch::len`]. Called more than once for one index; `out` keeps its octets
    /// between the calls.
    fn slot(&mut self, index: usize) -> Slot<'_>;

    /// What came of it. Called once for each index.
    fn done(&mut self, index: usize, outcome: Outcome);
}

/// Answers queries; one for each worker, with all the memory that answering takes.
pub struct Answerer {
    questions: Box<[Question]>,
}

impl Default for Answerer {
    fn default() -> Self {
        Answerer::new()
    }
}

/// A look-up under way: the index of its message, and the suffix of QNAME whose turn it is.
#[derive(Clone, Copy)]
struct Pending<'s> {
    index: usize,
    /// Where in QNAME the suffix begins.
    at: usize,
    /// The suffix's hash.
    hash: u64,
    /// Where the suffix is, if it is anywhere.
    place: Place<'s, Node>,
}

impl Answerer {
    /// Takes all the memory it will need.
    #[must_use]
    pub fn new() -> Self {
        Answerer { questions: vec![Question::blank(); BATCH].into() }
    }

    /// Answers one message. `now`: seconds since the epoch, for cookies.
    ///
    /// `out`: 65,535 octets for TCP, at least the configured payload size for UDP.
    pub fn answer(
        &mut self,
        snapshot: &Snapshot,
        settings: &Settings,
        client: &Client,
        now: u32,
        packet: &[u8],
        out: &mut [u8],
    ) -> Outcome {
        let mut one = One { client: *client, packet, out, outcome: None };
        self.answer_batch(snapshot, settings, now, &mut one);
        one.outcome.unwrap_or(Outcome::dropped(DropReason::NoRoom))
    }

    /// Answers a batch of messages. `now`: seconds since the epoch, for cookies.
    pub fn answer_batch<B: Batch>(
        &mut self,
        snapshot: &Snapshot,
        settings: &Settings,
        now: u32,
        batch: &mut B,
    ) {
        let len = batch.len();
        let mut from = 0;
        while from < len {
            let to = len.min(from + BATCH);
            self.answer_run(snapshot, settings, now, batch, from, to);
            from = to;
        }
    }

    /// Answers `batch[from..to]`, at most [`BATCH`] messages.
    fn answer_run<B: Batch>(
        &mut self,
        snapshot: &Snapshot,
        settings: &Settings,
        now: u32,
        batch: &mut B,
        from: usize,
        to: usize,
    ) {
        let index = snapshot.names();
        let mut pending = ArrayVec::<Pending<'_>, BATCH>::new();
        let mut admitted = [false; BATCH];
        for (place, (question, admitted)) in
            self.questions.iter_mut().zip(&mut admitted).enumerate().take(to - from)
        {
            let Slot { client, packet, out } = batch.slot(from + place);
            let frame = Frame { settings, client, now };
            if let Err(outcome) = admit::admit(&frame, packet, out, question) {
                batch.done(from + place, Outcome { proven: question.proven, ..outcome });
                continue;
            }
            *admitted = true;
            let name = question.name();
            let start = lookup::skip_labels(name, usize::from(question.labels), snapshot.max_labels());
            let at = name.as_wire().len() - start.as_wire().len();
            let hash = index.hash(start.as_wire());
            let found = index.place(hash);
            let _bounded_by_batch = pending.try_push(Pending { index: place, at, hash, place: found });
        }
        let closest = self.look_up(snapshot, &mut pending);
        for (place, (question, found)) in self.questions.iter().zip(&closest).enumerate().take(to - from) {
            if admitted.get(place) == Some(&true) {
                let Slot { client, packet, out } = batch.slot(from + place);
                let frame = Frame { settings, client, now };
                let outcome = reply::respond(snapshot, &frame, question, *found, packet, out);
                batch.done(from + place, outcome);
            }
        }
    }

    /// For each question the longest name at or above QNAME that exists. Each round looks up one suffix of every QNAME still
    /// open; bounded by the labels that names have.
    fn look_up<'s>(
        &self,
        snapshot: &'s Snapshot,
        pending: &mut ArrayVec<Pending<'s>, BATCH>,
    ) -> [Option<Closest<'s>>; BATCH] {
        let index = snapshot.names();
        let mut closest = [None; BATCH];
        while !pending.is_empty() {
            for look_up in &*pending {
                look_up.place.prefetch_page();
            }
            for look_up in &mut *pending {
                look_up.place.prefetch_entry();
            }
            pending.retain(|look_up| {
                let Some(question) = self.questions.get(look_up.index) else { return false };
                let suffix = question.name().as_wire().get(look_up.at..).unwrap_or_default();
                if let Some(node) = look_up.place.get(suffix) {
                    if let Some(slot) = closest.get_mut(look_up.index) {
                        *slot = Some(Closest { node, hash: look_up.hash });
                    }
                    return false;
                }
                let Some(parent) = NameRef::from_checked(suffix).parent() else { return false };
                look_up.at += suffix.len() - parent.as_wire().len();
                look_up.hash = index.hash(parent.as_wire());
                look_up.place = index.place(look_up.hash);
                true
            });
        }
        closest
    }
}

/// A batch of one.
struct One<'b> {
    client: Client,
    packet: &'b [u8],
    out: &'b mut [u8],
    outcome: Option<Outcome>,
}

impl Batch for One<'_> {
    fn len(&self) -> usize {
        1
    }

    fn slot(&mut self, _index: usize) -> Slot<'_> {
        Slot { client: self.client, packet: self.packet, out: self.out }
    }

    fn done(&mut self, _index: usize, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}
