//! The engine behind the workers' border: one answerer, one snapshot handle and one settings handle for each worker.

use std::sync::{Arc, Mutex, PoisonError};

use godwit_engine::answer::{self, Answerer, Batch, Client, Outcome, Readiness, Settings};
use godwit_engine::snapshot::store::{Handle, Store};
use godwit_engine::snapshot::{Position, Snapshot};

use super::respond::Respond;

/// How all workers answer, until it is swapped whole: a worker sees it with its next batch, as it does a snapshot.
pub struct Answering {
    serving: Settings,
    /// The same while there is no data to answer from.
    no_data: Settings,
}

impl Answering {
    /// Whatever `settings` says about readiness: that is for each batch to say.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Answering {
            no_data: Settings { ready: Readiness::NoData, ..settings.clone() },
            serving: Settings { ready: Readiness::Serving, ..settings },
        }
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.serving
    }

    fn when(&self, ready: Readiness) -> &Settings {
        match ready {
            Readiness::Serving => &self.serving,
            Readiness::NoData => &self.no_data,
        }
    }
}

/// What all workers answer by now, and the way to change a part of it: who reloads and the feed both do.
pub struct Current {
    store: Arc<Store<Answering>>,
    changing: Mutex<()>,
}

impl Current {
    /// Starts with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Current { store: Store::new(Answering::new(settings)), changing: Mutex::default() }
    }

    /// For the workers' handles.
    #[must_use]
    pub fn store(&self) -> &Arc<Store<Answering>> {
        &self.store
    }

    /// Changes what `change` makes other settings of; whether it did. What a worker still holds is freed the next time.
    pub fn change(&self, change: impl FnOnce(&Settings) -> Option<Settings>) -> bool {
        // A change is made of what is there: nobody else is to change it meanwhile.
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = change(self.store.load().settings());
        let changed = next.is_some();
        if let Some(next) = next {
            self.store.swap(Answering::new(next));
        }
        self.store.reap();
        changed
    }
}

/// Answers from the current snapshot.
pub struct Engine {
    snapshot: Handle<Snapshot>,
    answering: Handle<Answering>,
    answerer: Answerer,
    /// Whether a feed is to bring the data: until it has, there is nothing to answer from.
    fed: bool,
}

impl Engine {
    /// For one worker.
    #[must_use]
    pub fn new(store: &Arc<Store<Snapshot>>, answering: &Arc<Store<Answering>>, fed: bool) -> Self {
        Engine { snapshot: store.handle(), answering: answering.handle(), answerer: Answerer::new(), fed }
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
        let _ = self.snapshot.get();
        let _ = self.answering.get();
    }

    fn respond_batch<B: Batch>(&mut self, now: u32, batch: &mut B) {
        let snapshot = self.snapshot.get();
        let settings = self.answering.get().when(readiness(snapshot, self.fed));
        self.answerer.answer_batch(snapshot, settings, now, batch);
    }

    fn respond(&mut self, now: u32, client: &Client, packet: &[u8], out: &mut [u8]) -> Outcome {
        let snapshot = self.snapshot.get();
        let settings = self.answering.get().when(readiness(snapshot, self.fed));
        self.answerer.answer(snapshot, settings, client, now, packet, out)
    }

    fn shorten(&mut self, now: u32, client: &Client, packet: &[u8], out: &mut [u8]) -> Outcome {
        answer::shorten(self.answering.get().settings(), client, now, packet, out)
    }

    fn reset(&mut self) {
        self.answerer = Answerer::new();
    }
}
