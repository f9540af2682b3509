//! Makes changes of what the buffer holds, in its order, once the database is back: many go into one transaction.
//!
//! Each request is read and judged again as if it came now, under the id that it was given. What cannot be made is written
//! down as a conflict; only then it leaves the buffer. Killed in between, it finds in the database how far it had come.

use std::collections::{BTreeMap, HashMap, hash_map};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::entry::Entry;
use super::file::Message;
use super::{Buffer, Held, Mode};
use crate::api::envelope::{RequestId, caught};
use crate::api::write::{CHANGE, IDEMPOTENCY_KEY};
use crate::api::{self, App};
use crate::auth::limits::Limits;
use crate::auth::{self, Access, Caller};
use crate::commit::{Chain, Link};
use crate::error::{Cause, Code, Problem};
use crate::stop::{Stop, stopped};
use crate::store::batch::Batch;
use crate::store::buffered::{self, Outcome, Settled};
use crate::store::{audit, now_us};

/// How often a database that is away is asked whether it is back, and the pause before what failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// The pause after two transactions met, or while something is on its way to the disk.
const SOON: Duration = Duration::from_millis(20);
/// How often a request may fail inside the server before it is given up.
const TRIES: u32 = 3;

/// The most that are made together, and the octets of those, but for a single longer one.
const TOGETHER: usize = 256;
const TOGETHER_OCTETS: u64 = 4 << 20;

/// In the extensions of a request that is read again.
#[derive(Clone, Debug)]
pub(crate) struct Replays {
    /// The id of its change.
    pub(crate) change: Uuid,
    link: Arc<Mutex<Option<Link>>>,
}

impl Replays {
    /// Its place among those that are made together; given once.
    pub(crate) fn link(&self) -> Option<Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is found of one before it is made.
enum Found {
    /// It was made, or written down.
    Settled,
    /// It cannot be made.
    Not(Outcome),
    /// It is to be made.
    Entry(Box<Entry>, Access),
}

/// See the module.
pub(crate) struct Replay {
    buffer: Arc<Buffer>,
    app: Arc<App>,
    router: Router,
}

impl Replay {
    pub(crate) fn new(buffer: Arc<Buffer>, app: Arc<App>) -> Replay {
        let router = api::replayed(app.clone());
        Replay { buffer, app, router }
    }

    /// Runs until it is time to stop; what it was about then is gone on with by the next start.
    pub(crate) async fn run(self, stop: Stop) {
        tokio::select! {
            () = stopped(stop) => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        loop {
            self.buffer.count();
            let mode = *self.buffer.mode.borrow();
            match mode {
                Mode::Direct => self.buffer.woken.notified().await,
                Mode::Away if self.buffer.answers().await => self.buffer.found_back(),
                Mode::Away => tokio::time::sleep(AGAIN).await,
                Mode::Draining => match self.buffer.first() {
                    first if !first.is_empty() => self.settle_all(first).await,
                    _ if self.buffer.is_drained() => {}
                    _ => tokio::time::sleep(SOON).await,
                },
            }
        }
    }

    /// Makes several. All are on their way to the writer at once, each behind the one before it; the first of which it cannot be
    /// said yet what becomes of it is made alone, and those behind it come later.
    async fn settle_all(&self, first: Vec<(u64, Held)>) {
        let mut made = match self.find_all(&first).await {
            Ok(found) => self.make_all(first.iter().map(|(number, _)| *number).zip(found)).await,
            Err(_) => BTreeMap::new(),
        };
        for (number, held) in first {
            let Some(result) = made.remove(&number) else { return self.settle(number, &held).await };
            match self.became(&held, result).await {
                Ok(Ok(outcome)) => self.settled(number, &held, outcome).await,
                Ok(Err(_)) => return self.settle(number, &held).await,
                Err(problem) => return self.pause(&held, &problem).await,
            }
        }
    }

    /// What became of those that were tried, by number: all in front of the first that is not to be made.
    async fn make_all(
        &self,
        first: impl Iterator<Item = (u64, Found)>,
    ) -> BTreeMap<u64, Result<Uuid, Problem>> {
        let (mut making, mut made, mut early) = (JoinSet::new(), BTreeMap::new(), None);
        let chain = Chain::default();
        for (number, found) in first {
            let Found::Entry(entry, access) = found else { break };
            let (entered, has_entered) = oneshot::channel();
            let link = Link { chain: chain.clone(), entered };
            let router = self.router.clone();
            making.spawn(async move { (number, make(router, &entry, access, Some(link)).await) });
            if has_entered.await.is_err() {
                // What came of it did so before those in front of it were made: it is made alone.
                early = Some(number);
                break;
            }
        }
        while let Some(one) = making.join_next().await {
            made.extend(one.ok().filter(|(number, _)| early != Some(*number)));
        }
        made
    }

    /// Makes one, or writes down that it cannot be made.
    async fn settle(&self, number: u64, held: &Held) {
        match self.judge(number, held).await {
            Ok(outcome) => self.settled(number, held, outcome).await,
            Err(problem) => self.pause(held, &problem).await,
        }
    }

    /// One was made, or cannot be.
    async fn settled(&self, number: u64, held: &Held, outcome: Option<Outcome>) {
        let made = match outcome {
            None => true,
            Some(outcome) => self.write_down(held, outcome).await,
        };
        self.app.metrics.settled(made);
        self.buffer.remove(number);
    }

    /// Tries to make one; gives what became of it otherwise.
    ///
    /// # Errors
    /// When that cannot be said yet.
    async fn judge(&self, number: u64, held: &Held) -> Result<Option<Outcome>, Problem> {
        let alone = (number, held.clone());
        let found = self.find_all(std::slice::from_ref(&alone)).await?.pop();
        let (entry, access) = match found.ok_or_else(unreadable)? {
            Found::Settled => return Ok(None),
            Found::Not(outcome) => return Ok(Some(outcome)),
            Found::Entry(entry, access) => (entry, access),
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let result = make(self.router.clone(), &entry, access.clone(), None).await;
            match self.became(held, result).await? {
                Ok(outcome) => return Ok(outcome),
                Err(problem) if problem.is_passing() => return Err(problem),
                Err(problem) if tries >= TRIES => return Ok(Some(conflict(&problem))),
                Err(_) => tokio::time::sleep(SOON).await,
            }
        }
    }

    /// What became of one that was tried, `None` where it was made; the inner error where it may still be made.
    ///
    /// # Errors
    /// When that cannot be said yet.
    async fn became(
        &self,
        held: &Held,
        result: Result<Uuid, Problem>,
    ) -> Result<Result<Option<Outcome>, Problem>, Problem> {
        Ok(match result {
            Ok(change) if change == held.change => Ok(None),
            Ok(other) => Ok(Some(Outcome::Repeats(other))),
            // An earlier attempt may have come to its end after all, and be what speaks against this one.
            Err(_) if self.is_settled(held.change).await? => Ok(None),
            Err(problem) if problem.is_open() => Err(problem),
            Err(problem) => Ok(Some(conflict(&problem))),
        })
    }

    /// What is found of each, in this order. Who asked for many is looked up once.
    ///
    /// # Errors
    /// Of the database, or of the buffer.
    async fn find_all(&self, first: &[(u64, Held)]) -> Result<Vec<Found>, Problem> {
        let entries = self.read(first.iter().map(|(number, _)| *number).collect()).await?;
        let mut connection = self.app.readers.acquire().await?;
        let changes = first.iter().map(|(_, held)| held.change);
        let settled = buffered::settled_of(&mut connection, changes).await?;
        let mut may = HashMap::new();
        let mut all = Vec::with_capacity(first.len());
        for ((_, held), octets) in first.iter().zip(entries) {
            all.push(match Entry::decode(&octets) {
                _ if settled.contains(&held.change) => Found::Settled,
                Ok(entry) => {
                    let head = &entry.head;
                    // They may have been taken from memory.
                    let may = match may.entry((head.caller.clone(), head.came_with)) {
                        hash_map::Entry::Occupied(known) => known.into_mut(),
                        hash_map::Entry::Vacant(place) => place
                            .insert(auth::still_may(&mut connection, &head.caller, head.came_with).await?),
                    };
                    match may {
                        Err(problem) => Found::Not(conflict(problem)),
                        Ok(access) => {
                            let access = access.clone().asking_from(head.client);
                            Found::Entry(Box::new(entry), access)
                        }
                    }
                }
                Err(why) => {
                    let message = format!("what was kept of the request is damaged: {why}");
                    Found::Not(conflict(&Problem::new(Code::Internal, message)))
                }
            });
        }
        Ok(all)
    }

    async fn is_settled(&self, change: Uuid) -> Result<bool, Problem> {
        let mut connection = self.app.readers.acquire().await?;
        Ok(!buffered::settled_of(&mut connection, std::iter::once(change)).await?.is_empty())
    }

    async fn read(&self, numbers: Vec<u64>) -> Result<Vec<Vec<u8>>, Problem> {
        let (read, entries) = oneshot::channel();
        let sent = self.buffer.messages.send(Message::Read { numbers, read });
        let entries = if sent.is_ok() { entries.await.ok().flatten() } else { None };
        entries.ok_or_else(unreadable)
    }

    /// Writes down what became of one that is not made, until that is done; whether it is made all the same.
    async fn write_down(&self, held: &Held, outcome: Outcome) -> bool {
        let is_conflict = matches!(outcome, Outcome::Conflict { .. });
        if let Outcome::Conflict { code, .. } = &outcome {
            // Without the sentence: names of records stay out of logs.
            tracing::warn!(change = %held.change, request_id = held.who.request_id, code, "an accepted change could not be made");
        }
        let settled = Settled {
            change: held.change,
            accepted_at_us: held.accepted_at_us,
            settled_at_us: now_us(),
            actor: held.who.actor.clone(),
            request_id: held.who.request_id.clone(),
            request: held.request.clone(),
            outcome,
        };
        loop {
            let (settled, who) = (settled.clone(), held.who.clone());
            let written = self.app.committer.write(move |connection| {
                Box::pin(async move {
                    let mut batch = Batch::of(connection);
                    buffered::insert(&mut batch, &settled);
                    if let Outcome::Conflict { code, .. } = &settled.outcome {
                        let done = audit::Entry::done(&who, "request", &settled.request);
                        audit::insert(&mut batch, &audit::Entry { refused: Some(code), ..done });
                    }
                    Ok(batch.run(connection).await.map(|_| ())?)
                })
            });
            match written.await {
                Ok(()) => return !is_conflict,
                Err(problem) => self.pause(held, &problem).await,
            }
        }
    }

    async fn pause(&self, held: &Held, problem: &Problem) {
        self.buffer.count();
        if problem.cause == Cause::Met {
            return tokio::time::sleep(SOON).await;
        }
        if problem.cause == Cause::Away {
            self.buffer.found_away();
        }
        tracing::warn!(change = %held.change, code = problem.code.as_str(), "an accepted change waits");
        tokio::time::sleep(AGAIN).await;
    }
}

/// Carries out a request; gives the change that made it true.
async fn make(router: Router, entry: &Entry, access: Access, link: Option<Link>) -> Result<Uuid, Problem> {
    let head = &entry.head;
    let damaged = |_| Problem::new(Code::Internal, "what was kept of the request makes no request");
    let mut request = Request::builder()
        .method(head.method.as_str())
        .uri(&head.target)
        .header("x-request-id", &head.request_id);
    if let Some(content_type) = &head.content_type {
        request = request.header(CONTENT_TYPE, content_type);
    }
    for line in &head.if_match {
        request = request.header(IF_MATCH, line);
    }
    if let Some(key) = &head.key {
        request = request.header(&IDEMPOTENCY_KEY, &key.key);
    }
    let limits = Limits::of(&head.narrowed).map(Arc::new)?;
    let mut request = request.body(Body::from(entry.body.clone())).map_err(damaged)?;
    let extensions = request.extensions_mut();
    extensions.insert(Caller::checked_before(head.caller.clone(), limits, access));
    extensions.insert(RequestId(head.request_id.clone()));
    extensions.insert(head.who());
    extensions.insert(Replays { change: head.change, link: Arc::new(Mutex::new(link)) });
    let failed =
        || Problem::new(Code::Internal, "the request failed inside the server; the log has the cause");
    let answered = caught(router.oneshot(request)).await.ok_or_else(failed)?;
    let mut response = answered.unwrap_or_else(|never| match never {});
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Err(problem);
    }
    let change = response.headers().get(&CHANGE).and_then(|value| value.to_str().ok()?.parse().ok());
    change.filter(|_| response.status().is_success()).ok_or_else(failed)
}

fn unreadable() -> Problem {
    Problem::new(Code::BufferUnavailable, "the buffer cannot be read")
}

fn conflict(problem: &Problem) -> Outcome {
    Outcome::Conflict { code: problem.code.as_str().to_owned(), message: problem.message.clone() }
}

impl Buffer {
    /// The database answers again: what is held is made now.
    fn found_back(&self) {
        self.mode.send_if_modified(|mode| {
            let was_away = *mode == Mode::Away;
            if was_away {
                *mode = Mode::Draining;
            }
            was_away
        });
        tracing::info!(place = %self.place, changes = self.state().held.len(), "the database is back");
    }

    /// Those that are made together next.
    fn first(&self) -> Vec<(u64, Held)> {
        let (state, mut octets) = (self.state(), 0);
        let fits = |(_, held): &(&u64, &Held)| {
            let is_first = octets == 0;
            octets += held.octets.max(1);
            is_first || octets <= TOGETHER_OCTETS
        };
        let first = state.held.iter().take(TOGETHER).take_while(fits);
        first.map(|(number, held)| (*number, held.clone())).collect()
    }

    /// When it holds nothing, writes go to the database again.
    fn is_drained(&self) -> bool {
        // Under the same lock as what arrives.
        let state = self.state();
        let is_empty = state.is_empty();
        if is_empty {
            self.mode.send_if_modified(|mode| {
                let is_drained = *mode == Mode::Draining;
                if is_drained {
                    *mode = Mode::Direct;
                }
                is_drained
            });
        }
        is_empty
    }

    fn remove(&self, number: u64) {
        self.state().remove(number);
        // Not waited for: what comes back is found to be settled.
        let _ = self.messages.send(Message::Remove { number });
    }
}
