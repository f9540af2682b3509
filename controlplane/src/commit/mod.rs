//! One transaction per group of changes: rows, zone versions, SOA serials, history, audit and outbox, or nothing.
//!
//! Requests that wait at the same time are grouped into one transaction (one disk sync for all), each behind its own
//! savepoint with its own preconditions, result and change set: one that fails leaves the others alone. A caller is
//! answered after the commit is on disk, never before. A long change has a transaction of its own, and those that came
//! meanwhile are carried out before the next long one.
//!
//! - [`plan`]: what a request does to the zones that it names, worked out in memory and judged by `validate/`;
//! - [`record`](mod@record): writes a plan down and encodes its change set;
//! - [`writer`]: the task that owns the writing connection.

pub mod plan;
pub mod record;
pub mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use godwit_wire::feed::ChangeSet;

use crate::error::{Code, Problem};
use crate::model::change::Request;
use crate::store::Kind;
use crate::store::relay::FeedState;
use plan::Plan;

/// Takes the write lock at once: one taken later, by the first write, could fail where others write too.
const BEGIN_SQLITE: &str = "BEGIN IMMEDIATE";
/// Each statement sees what was committed before it: zones are locked before they are read for a change.
const BEGIN_POSTGRES: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
pub(crate) const COMMIT: &str = "COMMIT";
pub(crate) const ROLLBACK: &str = "ROLLBACK";
pub(crate) const SAVEPOINT: &str = "SAVEPOINT one_change";
pub(crate) const RELEASE: &str = "RELEASE SAVEPOINT one_change";
pub(crate) const ROLLBACK_TO: &str = "ROLLBACK TO SAVEPOINT one_change";

/// Every statement of this folder that both databases get.
pub const TRANSACTION_STATEMENTS: &[&str] = &[COMMIT, ROLLBACK, SAVEPOINT, RELEASE, ROLLBACK_TO];

/// Begins a transaction that writes.
pub(crate) fn begin(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => BEGIN_SQLITE,
        Kind::Postgres => BEGIN_POSTGRES,
    }
}

/// Requests that may wait for the writer. Beyond it callers wait to be let in, up to their own deadline.
const QUEUE: usize = 1024;
/// The same for long ones: each holds its whole change in memory.
const LONG_QUEUE: usize = 16;

/// What the caller gets for a change that was made; kept as it is for requests that are sent again.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// JSON; empty for 204.
    pub body: String,
    /// Version of the only zone that was named.
    pub version: Option<u64>,
    /// The change.
    pub change: Uuid,
}

/// A change that was made, or judged good in a dry run.
#[derive(Debug)]
pub struct Done {
    /// What to answer.
    pub reply: Reply,
    /// Whether this is the answer of an earlier request with the same key.
    pub replayed: bool,
    /// Gets the sequence when the change is published; `None` when there is nothing to publish.
    pub published: Option<oneshot::Receiver<u64>>,
}

/// Makes the reply from what was done; called inside the transaction, so that reply and change are kept together.
pub type Respond = Box<dyn FnOnce(&Plan, Uuid) -> Reply + Send>;

/// A request on its way to the writer.
pub struct Job {
    /// What to do.
    pub request: Request,
    /// Makes the answer.
    pub respond: Respond,
    /// Takes the result.
    pub done: oneshot::Sender<Result<Done, Problem>>,
}

/// A change set on its way from the commit to the relay.
#[derive(Debug)]
pub struct Committed {
    /// Its place in the order of commits.
    pub commit_number: i64,
    /// What to publish.
    pub change_set: ChangeSet,
    /// Takes the sequence.
    pub published: Option<oneshot::Sender<u64>>,
}

/// Publications to be written down.
#[derive(Debug)]
pub struct Publications {
    /// Commit number and sequence.
    pub marks: Vec<(i64, u64)>,
    /// When.
    pub at_us: i64,
    /// Where the feed stands after them.
    pub state: FeedState,
    /// Up to which sequence every data plane has applied.
    pub applied: u64,
    /// Resolves when it is on disk; given where that has to be waited for.
    pub written: Option<oneshot::Sender<()>>,
}

/// The way to the writer.
#[derive(Clone)]
pub struct Committer {
    jobs: mpsc::Sender<Job>,
    /// Long ones wait apart: a short one waits for one of them at most.
    long_jobs: mpsc::Sender<Job>,
    publications: mpsc::UnboundedSender<Publications>,
}

impl Committer {
    /// Sends a request to the writer and waits for its commit.
    ///
    /// Cancelling (a deadline, a caller that went away) before the writer has begun with it withdraws the request.
    ///
    /// # Errors
    /// Whatever speaks against the change, or that the database failed.
    pub async fn commit(&self, request: Request, respond: Respond) -> Result<Done, Problem> {
        let (done, result) = oneshot::channel();
        let gone = || {
            Problem::new(
                Code::DbUnavailable,
                "the change could not be carried out; nothing was changed; try again",
            )
        };
        let queue = if request.is_long() { &self.long_jobs } else { &self.jobs };
        queue.send(Job { request, respond, done }).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Whether there is a writer.
    pub(crate) fn is_open(&self) -> bool {
        !self.jobs.is_closed()
    }

    /// The way for the relay to have publications written down. It does not keep the writer alive.
    pub(crate) fn notes(&self) -> Notes {
        Notes(self.publications.clone())
    }
}

/// See [`Committer::notes`].
#[derive(Clone)]
pub(crate) struct Notes(mpsc::UnboundedSender<Publications>);

impl Notes {
    /// Has publications written down with the next commit, or on their own when nothing else comes soon.
    pub(crate) fn note(&self, publications: Publications) {
        // Bounded by the relay: one per batch, and the relay waits for the data plane. A writer that is gone wrote
        // down less than was published: the next start finds out from the data plane's position.
        let _ = self.0.send(publications);
    }
}

/// What waits for [`writer::Writer`].
pub(crate) struct Queues {
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) long_jobs: mpsc::Receiver<Job>,
    pub(crate) publications: mpsc::UnboundedReceiver<Publications>,
}

/// The ends for [`writer::Writer`], and the handle.
pub(crate) fn channel() -> (Committer, Queues) {
    let (jobs, job_receiver) = mpsc::channel(QUEUE);
    let (long_jobs, long_job_receiver) = mpsc::channel(LONG_QUEUE);
    let (publications, publication_receiver) = mpsc::unbounded_channel();
    let queues =
        Queues { jobs: job_receiver, long_jobs: long_job_receiver, publications: publication_receiver };
    (Committer { jobs, long_jobs, publications }, queues)
}

/// The way from the writer to the relay: change sets in commit order.
#[derive(Debug)]
pub(crate) struct Handover {
    sender: mpsc::Sender<Committed>,
    backlog: Backlog,
}

/// Whether something found no room on the way to the relay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog {
    missed: Arc<tokio::sync::Notify>,
    behind: Arc<AtomicBool>,
}

impl Handover {
    pub(crate) fn new(capacity: usize) -> (Handover, mpsc::Receiver<Committed>, Backlog) {
        let (sender, receiver) = mpsc::channel(capacity);
        let backlog = Backlog::default();
        (Handover { sender, backlog: backlog.clone() }, receiver, backlog)
    }

    /// Hands over without waiting: a commit never waits for a data plane. What finds no room is read back from the
    /// outbox by the relay, together with everything after it.
    pub(crate) fn give(&self, committed: Committed) {
        let behind = &self.backlog.behind;
        if behind.load(Ordering::Acquire) || self.sender.try_send(committed).is_err() {
            behind.store(true, Ordering::Release);
            self.backlog.missed.notify_one();
        }
    }
}

impl Backlog {
    /// Resolves when something found no room.
    pub(crate) async fn missed(&self) {
        self.missed.notified().await;
    }

    /// Says that the relay is about to read the outbox: from here on hand-overs go through the channel again. What was
    /// given before is committed, so the reading finds it.
    pub(crate) fn clear(&self) {
        self.behind.store(false, Ordering::Release);
    }
}

/// A change set as the octets that are kept and published.
pub(crate) fn encode(change_set: &ChangeSet) -> Bytes {
    let mut octets = Vec::new();
    change_set.encode(&mut octets);
    octets.into()
}
