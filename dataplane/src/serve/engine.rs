//! The engine behind the workers' border: one answerer and one snapshot handle for each worker.

use std::sync::Arc;

use godwit_engine::answer::{Answerer, Batch, Client, Outcome, Readiness, Settings};
use godwit_engine::snapshot::store::{Handle, Store};
use godwit_engine::snapshot::{Position, Snapshot};

use super::respond::Respond;

/// Answers from the current snapshot.
pub struct Engine {
    handle: Handle<Snapshot>,
    answerer: Answerer,
    settings: Settings,
    /// Whether a feed is to bring the data: until it has, there is nothing to answer from.
    fed: bool,
}

impl Engine {
    /// For one worker.
    #[must_use]
    pub fn new(store: &Arc<Store<Snapshot>>, settings: Settings, fed: bool) -> Self {
        Engine { handle: store.handle(), answerer: Answerer::new(), settings, fed }
    }
}

/// Whether there is data, as the answers must show it.
fn readiness(snapshot: &Snapshot, fed: bool) -> Readiness {
    if fed && snapshot.zone_count() == 0 && snapshot.position() == Position::default() {
        Readiness::NoData
    } else {
        Readiness::Serving
    }
}

impl Respond for Engine {
    fn refresh(&mut self) {
        let _ = self.handle.get();
    }

    fn respond_batch<B: Batch>(&mut self, now: u32, batch: &mut B) {
        let snapshot = self.handle.get();
        self.settings.ready = readiness(snapshot, self.fed);
        self.answerer.answer_batch(snapshot, &self.settings, now, batch);
    }

    fn respond(&mut self, now: u32, client: &Client, packet: &[u8], out: &mut [u8]) -> Outcome {
        let snapshot = self.handle.get();
        self.settings.ready = readiness(snapshot, self.fed);
        self.answerer.answer(snapshot, &self.settings, client, now, packet, out)
    }

    fn reset(&mut self) {
        self.answerer = Answerer::new();
    }
}
