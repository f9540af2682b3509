//! One transaction per group of changes: rows, zone versions, SOA serials, history, audit and outbox, or nothing.
//!
//! Requests that wait at the same time are grouped into one transaction (one disk sync for all), each with its own preconditions,
//! result and change set: one that fails leaves the others alone. Where all of them are plain changes of records, what they need
//! is read for all at once; where the database then fails at one, they are carried out again, each behind a savepoint, as all
//! others are from the start. A caller is answered after the commit is on disk, never before. A long change has a transaction of
//! its own, and those that came meanwhile are carried out before the next long one.
//!
//! - [`plan`]: what a request does to the zones that it names, worked out in memory and judged by `validate/`;
//! - [`record`](mod@record): writes a plan down and encodes its change set;
//! - [`known`]: what is read for all requests of a transaction at once;
//! - `undo`: what takes it back, kept with it;
//! - `guard`: what of it has to be confirmed;
//! - `quota`: how much of it its tenants may have;
//! - `aside`: what is written and is no change of records;
//! - [`writer`]: the task that owns the writing connection.

pub(crate) mod aside;
mod guard;
pub mod known;
pub mod plan;
mod quota;
pub mod record;
mod undo;
pub mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use godwit_wire::feed::ChangeSet;

use crate::error::{Code, Problem};
use crate::model::change::Request;
use crate::store::Kind;
use aside::Aside;
use plan::Plan;

/// Takes the write lock at once: one taken later, by the first write, could fail where others write too.
const BEGIN_SQLITE: &str = "BEGIN IMMEDIATE";
/// Each statement sees what was committed before it: zones are locked before they are read for a change.
const BEGIN_POSTGRES: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
/// All of it sees one state of the database.
const BEGIN_WHOLE_POSTGRES: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE";
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

/// Begins one that gives sequences.
pub(crate) fn begin_whole(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => BEGIN_SQLITE,
        Kind::Postgres => BEGIN_WHOLE_POSTGRES,
    }
}

/// Requests that may wait for the writer. Beyond it callers wait to be let in, up to their own deadline.
const QUEUE: usize = 1024;
/// The same for long ones, of which each holds its whole change in memory, and for what is no change of records.
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
    /// Its sequence, where that was given with the commit.
    pub sequence: Option<u64>,
    /// What would have been done, of a dry run.
    pub plan: Option<Box<Plan>>,
    /// What `confirm` has to be for it, where it needs that.
    pub confirm: Option<u64>,
}

/// Makes the reply from what was done; called inside the transaction, so that reply and change are kept together.
pub type Respond = Box<dyn Fn(&Plan, Uuid) -> Reply + Send + Sync>;

/// A request on its way to the writer.
pub struct Job {
    /// What to do.
    pub request: Request,
    /// Makes the answer.
    pub respond: Respond,
    /// Takes the result.
    pub done: oneshot::Sender<Result<Done, Problem>>,
    /// Of which it is one, where it must not be carried out when one before it was not.
    pub(crate) chain: Option<Chain>,
}

impl Job {
    /// Whether nobody waits for it, or one before it in its chain was not carried out.
    fn is_withdrawn(&self) -> bool {
        let is_gone = self.done.is_closed();
        let is_broken = |chain: &Chain| chain.0.fetch_or(is_gone, Ordering::Relaxed);
        self.chain.as_ref().is_some_and(is_broken) || is_gone
    }

    /// Tells for whom it waits, and what comes behind it. A caller whose deadline has passed does not listen any more; what was made is
    /// made all the same.
    fn give(self, result: Result<Done, Problem>) {
        if let Some(chain) = &self.chain {
            chain.see(&result);
        }
        let _ = self.done.send(result);
    }
}

/// Requests that are carried out in the order in which they come. Where one was not, for whatever reason, none behind it is: what is to
/// become of it comes first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain(Arc<AtomicBool>);

impl Chain {
    /// Takes notice of what became of one.
    fn see(&self, result: &Result<Done, Problem>) {
        if result.is_err() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// A place in a chain.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) chain: Chain,
    /// Told when the writer has it: the next one comes behind it.
    pub(crate) entered: oneshot::Sender<()>,
}

/// The way to the writer.
#[derive(Clone)]
pub struct Committer {
    jobs: mpsc::Sender<Job>,
    /// Long ones wait apart: a short one waits for one of them at most.
    long_jobs: mpsc::Sender<Job>,
    asides: mpsc::Sender<Aside>,
    overtaken: Overtaken,
}

impl Committer {
    /// Sends a request to the writer and waits for its commit.
    ///
    /// Cancelling (a deadline, a caller that went away) before the writer has begun with it withdraws the request.
    ///
    /// # Errors
    /// Whatever speaks against the change, or that the database failed.
    pub async fn commit(&self, request: Request, respond: Respond) -> Result<Done, Problem> {
        self.commit_linked(request, respond, None).await
    }

    /// The same for one of a chain, which waits with the short ones, however long it is.
    pub(crate) async fn commit_linked(
        &self,
        request: Request,
        respond: Respond,
        link: Option<Link>,
    ) -> Result<Done, Problem> {
        let (done, result) = oneshot::channel();
        let gone = || {
            Problem::new(
                Code::DbUnavailable,
                "the change could not be carried out; nothing was changed; try again",
            )
        };
        let queue = if request.is_long() && link.is_none() { &self.long_jobs } else { &self.jobs };
        let (chain, entered) = link.map(|link| (link.chain, link.entered)).unzip();
        queue.send(Job { request, respond, done, chain }).await.map_err(|_| gone())?;
        if let Some(entered) = entered {
            let _ = entered.send(());
        }
        result.await.map_err(|_| gone())?
    }

    /// Whether there is a writer.
    pub(crate) fn is_open(&self) -> bool {
        !self.jobs.is_closed()
    }

    /// See [`Overtaken`].
    pub(crate) fn overtaken(&self) -> Overtaken {
        self.overtaken.clone()
    }
}

/// Takes what a data plane is found to have that the database never knew, to be written down. It does not keep the writer
/// alive.
#[derive(Clone, Debug)]
pub(crate) struct Overtaken(watch::Sender<u64>);

impl Overtaken {
    /// A data plane has this sequence.
    pub(crate) fn found(&self, sequence: u64) {
        self.0.send_if_modified(|known| {
            let is_news = *known < sequence;
            *known = sequence.max(*known);
            is_news
        });
    }
}

/// What waits for [`writer::Writer`].
pub(crate) struct Queues {
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) long_jobs: mpsc::Receiver<Job>,
    pub(crate) asides: mpsc::Receiver<Aside>,
    pub(crate) overtaken: watch::Receiver<u64>,
}

/// The ends for [`writer::Writer`], and the handle.
pub(crate) fn channel() -> (Committer, Queues) {
    let (jobs, job_receiver) = mpsc::channel(QUEUE);
    let (long_jobs, long_job_receiver) = mpsc::channel(LONG_QUEUE);
    let (asides, aside_receiver) = mpsc::channel(LONG_QUEUE);
    let (found, overtaken) = watch::channel(0);
    let queues =
        Queues { jobs: job_receiver, long_jobs: long_job_receiver, asides: aside_receiver, overtaken };
    (Committer { jobs, long_jobs, asides, overtaken: Overtaken(found) }, queues)
}

/// A change set as the octets that are kept and published.
pub(crate) fn encode(change_set: &ChangeSet) -> Vec<u8> {
    let mut octets = Vec::new();
    change_set.encode(&mut octets);
    octets
}
