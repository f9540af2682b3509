//! Writes while the database server is away: each is kept in a file of this process, synced, and answered with 202 and the id of
//! its change; it is made when the database is back, in the order in which they came, or its conflict is reported.
//!
//! While the buffer holds anything, everything goes through it, so that nothing overtakes what was accepted before. Nothing
//! of it is served, and nobody but this process knows of it: a disk that is lost loses it.
//!
//! That nothing is made twice is decided by the id of the change, which the database takes once: a commit of which nobody knows
//! whether it came about may go to the buffer too.
//!
//! - [`entry`]: what is kept of a request;
//! - [`mod@file`]: the file and the thread that has it;
//! - [`replay`]: the task that makes changes of what is kept.

pub(crate) mod entry;
mod file;
pub(crate) mod replay;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use uuid::Uuid;

use crate::commit::Done;
use crate::error::{Cause, Code, Problem};
use crate::observe::metrics::{Limit, Metrics};
use crate::store::audit::Who;
use crate::store::{Place, now_us};
use entry::{Entry, Head, Key};
use file::{File, Message};

/// A write that has waited for so long asks whether the database answers at all.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a write waits for the buffer to be emptied, once the database is back, before it goes through it as well: those
/// who wait do not fill it.
const DRAIN_WAIT: Duration = Duration::from_secs(5);
/// The most characters that are shown of a request's target.
const MAX_SHOWN: usize = 300;

/// Where writes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    /// To the database.
    Direct,
    /// Into the buffer: the database did not answer when it was last asked.
    Away,
    /// Behind what is in the buffer, of which changes are being made.
    Draining,
}

/// How much it may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) octets: u64,
    pub(crate) changes: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Buffer {
    state: Arc<Mutex<State>>,
    mode: Arc<watch::Sender<Mode>>,
    /// The database was found away, or something was kept: the task that replays looks.
    woken: Notify,
    messages: mpsc::Sender<Message>,
    place: Place,
    bounds: Bounds,
    /// How long ago the database must have known a token that is taken without it.
    tokens_for: Duration,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    /// What is on the disk, in order.
    held: BTreeMap<u64, Held>,
    numbers: HashMap<Uuid, u64>,
    /// By caller and key.
    keys: HashMap<(String, String), u64>,
    last_number: u64,
    /// On their way to the disk.
    arriving: u64,
    /// Octets of both.
    octets: u64,
}

/// What is known of an entry without its file.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) change: Uuid,
    pub(crate) accepted_at_us: i64,
    /// Who asked, and how they came.
    pub(crate) who: Who,
    /// Method and the beginning of the target.
    pub(crate) request: String,
    octets: u64,
    key: Option<Key>,
}

impl Held {
    fn of(head: &Head, octets: u64) -> Held {
        let shown: String = head.target.chars().take(MAX_SHOWN).collect();
        Held {
            change: head.change,
            accepted_at_us: head.accepted_at_us,
            who: head.who(),
            request: format!("{} {shown}", head.method),
            octets,
            key: head.key.clone(),
        }
    }
}

/// What came of a write.
#[derive(Debug)]
pub(crate) enum Carried {
    /// It is committed.
    Made(Done),
    /// It is in the buffer.
    Accepted {
        change: Uuid,
        /// Whether it was there already, under the same key.
        again: bool,
    },
}

impl State {
    fn add(&mut self, number: u64, held: Held) {
        self.numbers.insert(held.change, number);
        if let Some(Key { key, .. }) = &held.key {
            self.keys.insert((held.who.actor.clone(), key.clone()), number);
        }
        self.held.insert(number, held);
    }

    fn remove(&mut self, number: u64) {
        let Some(held) = self.held.remove(&number) else { return };
        self.octets = self.octets.saturating_sub(held.octets);
        self.numbers.remove(&held.change);
        if let Some(Key { key, .. }) = held.key {
            let of_caller = (held.who.actor, key);
            if self.keys.get(&of_caller) == Some(&number) {
                self.keys.remove(&of_caller);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.arriving == 0
    }
}

impl Buffer {
    /// Opens the file, and its thread with it.
    ///
    /// # Errors
    /// When the file is in use, damaged, or cannot be opened.
    pub(crate) fn open(
        path: &Path,
        place: Place,
        bounds: Bounds,
        tokens_for: Duration,
        metrics: Metrics,
    ) -> anyhow::Result<Buffer> {
        let (file, found) = File::open(path)?;
        let mut state = State::default();
        for (number, octets, head) in found {
            state.last_number = number;
            state.octets += octets;
            state.add(number, Held::of(&head, octets));
        }
        if !state.held.is_empty() {
            tracing::warn!(
                changes = state.held.len(),
                "the buffer holds changes that were accepted and are not made yet"
            );
        }
        let (messages, receiver) = mpsc::channel();
        std::thread::Builder::new().name("buffer".to_owned()).spawn(move || file.run(&receiver))?;
        let mode = if state.is_empty() { Mode::Direct } else { Mode::Draining };
        let buffer = Buffer {
            state: Arc::new(Mutex::new(state)),
            mode: Arc::new(watch::Sender::new(mode)),
            woken: Notify::new(),
            messages,
            place,
            bounds,
            tokens_for,
            metrics,
        };
        buffer.count();
        Ok(buffer)
    }

    /// Closes the file: another process, or this one, may open it afterwards.
    pub(crate) async fn close(&self) {
        let (closed, done) = oneshot::channel();
        if self.messages.send(Message::Close { closed }).is_ok() {
            let _ = done.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database did not answer when it was last asked.
    pub(crate) fn is_away(&self) -> bool {
        *self.mode.borrow() == Mode::Away
    }

    /// Whether it would take a small write.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.state();
        let changes = u64::try_from(state.held.len()).unwrap_or(u64::MAX) + state.arriving;
        changes < self.bounds.changes && state.octets < self.bounds.octets
    }

    /// How long ago the database must have known a token that is taken without it.
    pub(crate) fn tokens_for(&self) -> Duration {
        self.tokens_for
    }

    /// The database does not answer: from here on writes are accepted and not made.
    pub(crate) fn found_away(&self) {
        let was = self.mode.send_replace(Mode::Away);
        if was == Mode::Direct {
            tracing::warn!(place = %self.place, "the database is away: writes go to the buffer");
        }
        self.woken.notify_one();
    }

    /// An accepted change that is not made yet, and how many there are before it.
    pub(crate) fn held(&self, change: Uuid) -> Option<(Held, usize)> {
        let state = self.state();
        let number = state.numbers.get(&change)?;
        Some((state.held.get(number)?.clone(), state.held.range(..number).count()))
    }

    /// Accepted changes behind one of them, in order.
    pub(crate) fn page(
        &self,
        after: Option<Uuid>,
        limit: usize,
        is_meant: impl Fn(&str) -> bool,
    ) -> Vec<Held> {
        let state = self.state();
        let after = after.and_then(|change| state.numbers.get(&change).copied());
        let first = after.map_or(0, |number| number + 1);
        let meant = state.held.range(first..).filter(|(_, held)| is_meant(&held.who.actor));
        meant.take(limit).map(|(_, held)| held.clone()).collect()
    }

    /// Has a write made, or keeps it where the database is away. `unchecked`: who asks is known from memory alone, which the
    /// replay looks into.
    ///
    /// # Errors
    /// What speaks against the change, or that it can neither be made nor kept.
    pub(crate) async fn carry(
        &self,
        entry: Entry,
        unchecked: bool,
        commit: impl Future<Output = Result<Done, Problem>>,
    ) -> Result<Carried, Problem> {
        if unchecked || !self.is_passed_by().await {
            return self.accept(entry).await;
        }
        let failed = tokio::select! {
            done = commit => match done {
                Ok(done) => return Ok(Carried::Made(done)),
                Err(problem) if problem.cause == Cause::Away => problem,
                Err(problem) => return Err(problem),
            },
            // What is given up here may be made yet: the replay will find that it is.
            () = self.silent() => Problem::new(
                Code::DbUnavailable,
                "the database does not answer; whether the change is made is not known",
            ),
        };
        self.found_away();
        self.accept(entry)
            .await
            .map_err(|problem| Problem::new(problem.code, format!("{}; {}", failed.message, problem.message)))
    }

    /// Whether a write goes to the database directly; waits a moment for a buffer that is being emptied.
    async fn is_passed_by(&self) -> bool {
        let mut mode = self.mode.subscribe();
        let settled = tokio::time::timeout(DRAIN_WAIT, mode.wait_for(|mode| *mode != Mode::Draining)).await;
        matches!(settled, Ok(Ok(mode)) if *mode == Mode::Direct)
    }

    /// Resolves when the database does not answer.
    async fn silent(&self) {
        loop {
            tokio::time::sleep(PATIENCE).await;
            if !self.answers().await {
                return;
            }
        }
    }

    /// Whether the database lets us in.
    async fn answers(&self) -> bool {
        match self.place.connect().await {
            // A connection of its own: one that is open already may have a statement under way.
            Ok(connection) => {
                drop(connection);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "the database does not answer");
                false
            }
        }
    }

    /// Keeps a write; it is on the disk then.
    async fn accept(&self, entry: Entry) -> Result<Carried, Problem> {
        let octets = entry.encode();
        let length = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        let held = Held::of(&entry.head, length);
        let (change, caller, key) = (held.change, held.who.actor.clone(), held.key.clone());
        let number = {
            let mut state = self.state();
            if let Some(key) = key
                && let Some(number) = state.keys.get(&(caller, key.key))
                && let Some(earlier) = state.held.get(number)
            {
                if earlier.key.as_ref().is_some_and(|earlier| earlier.request_hash != key.request_hash) {
                    let message = "this Idempotency-Key was used for another request";
                    return Err(Problem::new(Code::IdempotencyMismatch, message));
                }
                return Ok(Carried::Accepted { change: earlier.change, again: true });
            }
            let changes = u64::try_from(state.held.len()).unwrap_or(u64::MAX) + state.arriving;
            if changes >= self.bounds.changes || state.octets + length > self.bounds.octets {
                self.metrics.limited(Limit::Buffer);
                let message =
                    "the database is away and the buffer is full; nothing was changed; try again later";
                return Err(Problem::new(Code::BufferFull, message));
            }
            state.arriving += 1;
            state.octets += length;
            state.last_number += 1;
            state.last_number
        };
        let (told, kept) = oneshot::channel();
        let (state, mode) = (self.state.clone(), self.mode.clone());
        // Counted as on its way until it is known, also when nobody waits for it any more.
        let on_disk = Box::new(move |kept: bool| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.arriving -= 1;
            if kept {
                state.add(number, held);
                // It may have been emptied meanwhile: what comes after this one waits behind it.
                mode.send_if_modified(|mode| {
                    let was_direct = *mode == Mode::Direct;
                    if was_direct {
                        *mode = Mode::Draining;
                    }
                    was_direct
                });
            } else {
                state.octets = state.octets.saturating_sub(length);
            }
            drop(state);
            let _ = told.send(kept);
        });
        let sent = self.messages.send(Message::Append { number, octets, kept: on_disk });
        if sent.is_err() {
            self.state().arriving -= 1;
        }
        let kept = kept.await.unwrap_or(false);
        self.count();
        self.woken.notify_one();
        if !kept {
            self.metrics.limited(Limit::BufferDisk);
            let message =
                "the database is away and the buffer cannot be written; nothing was changed; try again later";
            return Err(Problem::new(Code::BufferUnavailable, message));
        }
        self.metrics.accepted();
        Ok(Carried::Accepted { change, again: false })
    }

    /// Shows how much it holds and for how long.
    fn count(&self) {
        let state = self.state();
        let oldest = state.held.first_key_value().map(|(_, held)| held.accepted_at_us);
        let age_us = oldest.map_or(0, |at| now_us().saturating_sub(at).max(0));
        self.metrics.buffer(state.held.len(), state.octets, Duration::from_micros(age_us.unsigned_abs()));
    }
}
