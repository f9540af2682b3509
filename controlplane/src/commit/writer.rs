//! The task that owns the writing connection.
//!
//! It takes in turn: the short requests that wait, as many as go into one transaction; then one long one, if any waits.
//! What the relay has published is written down with either, or on its own when nothing else comes.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use godwit_wire::feed::ChangeSet;

use super::plan::Plan;
use super::{
    COMMIT, Committed, Done, Handover, Job, Publications, Queues, RELEASE, ROLLBACK, ROLLBACK_TO, Reply,
    SAVEPOINT, begin, record,
};
use crate::error::{Code, Problem};
use crate::model::change::{Idempotency, Request};
use crate::observe::metrics::Metrics;
use crate::store::batch::Batch;
use crate::store::connection::is_lost;
use crate::store::database::OpenError;
use crate::store::{Connection, Place, changes, history, idempotency, now_us, relay};

/// The most requests of one transaction: bounds how long the first of them waits for the last.
const GROUP: usize = 256;
/// The same for the steps that they have together.
const GROUP_STEPS: usize = 4_000;
/// How long publications wait for a commit that takes them along, before they are written down on their own.
const NOTE_DELAY: Duration = Duration::from_millis(50);
/// The same after they could not be written: a database that fails is not asked without pause.
const NOTE_AGAIN: Duration = Duration::from_secs(1);
/// The pause between two pruning steps while there is more to delete: more comes in a minute than one step takes.
const PRUNE_AGAIN: Duration = Duration::from_millis(100);
/// How often what is past its time is looked for.
pub(crate) const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// The most rows of a table that one pruning step deletes, so that no request waits long behind it.
const PRUNE_STEP: i64 = 500;

/// See the module.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    /// Where the connection leads to, for another one when it breaks.
    pub(crate) place: Place,
    /// It broke, and no other was to be had yet.
    pub(crate) lost: bool,
    pub(crate) queues: Queues,
    pub(crate) handover: Handover,
    /// Resolves when no further request is taken.
    pub(crate) closed: oneshot::Receiver<()>,
    pub(crate) metrics: Metrics,
    /// How long changes and history are kept.
    pub(crate) history_kept: Duration,
    /// See [`PRUNE_EVERY`].
    pub(crate) prune_every: Duration,
}

/// A request that was carried out inside the open transaction; answered once that is committed.
struct Pending {
    done: oneshot::Sender<Result<Done, Problem>>,
    reply: Reply,
    replayed: bool,
    outbox: Option<(i64, ChangeSet)>,
}

impl Writer {
    /// Runs until it is closed and the queue is empty; gives the connection back.
    pub(crate) async fn run(mut self) -> Connection {
        let mut noted: Vec<Publications> = Vec::new();
        let mut note_at = Instant::now();
        let mut prune_at = Instant::now() + self.prune_every;
        let mut applied = 0;
        let mut open = true;
        loop {
            let queues = &mut self.queues;
            let mut long = None;
            let first = tokio::select! {
                biased;
                Some(job) = queues.jobs.recv() => Some(job),
                Some(job) = queues.long_jobs.recv() => {
                    long = Some(job);
                    None
                }
                // Both are empty: closed then means that there will be nothing more.
                () = std::future::ready(()), if queues.jobs.is_closed() && queues.long_jobs.is_closed() => break,
                _ = &mut self.closed, if open => {
                    open = false;
                    queues.jobs.close();
                    queues.long_jobs.close();
                    continue;
                }
                Some(publications) = queues.publications.recv() => {
                    if publications.written.is_some() {
                        note_at = Instant::now();
                    } else if noted.is_empty() {
                        note_at = Instant::now() + NOTE_DELAY;
                    }
                    noted.push(publications);
                    continue;
                }
                () = tokio::time::sleep_until(note_at), if !noted.is_empty() => None,
                () = tokio::time::sleep_until(prune_at) => {
                    prune_at = Instant::now() + self.prune(applied).await;
                    continue;
                }
            };
            let mut group: Vec<Job> = first.into_iter().collect();
            let mut steps = group.iter().map(|job| job.request.operations.len()).sum::<usize>();
            while group.len() < GROUP && steps < GROUP_STEPS {
                let Ok(job) = self.queues.jobs.try_recv() else { break };
                steps += job.request.operations.len();
                group.push(job);
            }
            // Also while requests never cease to come: unread, they would pile up.
            while let Ok(publications) = self.queues.publications.try_recv() {
                noted.push(publications);
            }
            applied = noted.last().map_or(applied, |last| last.applied);
            if !group.is_empty() || (long.is_none() && !noted.is_empty()) {
                self.transact(group, &mut noted).await;
            }
            if let Some(job) = long.or_else(|| self.queues.long_jobs.try_recv().ok()) {
                self.transact(vec![job], &mut noted).await;
            }
            if !noted.is_empty() {
                note_at = Instant::now() + NOTE_AGAIN;
            }
            if Instant::now() >= prune_at {
                prune_at = Instant::now() + self.prune(applied).await;
            }
        }
        while let Ok(publications) = self.queues.publications.try_recv() {
            noted.push(publications);
        }
        if !noted.is_empty() {
            self.transact(Vec::new(), &mut noted).await;
        }
        self.connection
    }

    /// One transaction: what was published since the last one, and a group of requests.
    async fn transact(&mut self, group: Vec<Job>, noted: &mut Vec<Publications>) {
        let mut pending = Vec::with_capacity(group.len());
        let mut done = self.carry_out(group, noted, &mut pending).await;
        if matches!(done, Ok(false)) && !noted.is_empty() {
            // What was published does not wait for a request that succeeds.
            done = self.carry_out(Vec::new(), noted, &mut Vec::new()).await;
        }
        match done {
            Ok(committed) => {
                if committed {
                    for publications in noted.drain(..) {
                        if let Some(written) = publications.written {
                            let _ = written.send(());
                        }
                    }
                }
                for one in pending {
                    self.acknowledge(one);
                }
            }
            Err(error) => {
                // Nothing of the group is true; publications stay noted for the next transaction.
                self.lost |= is_lost(&error);
                let problem = Problem::from(error);
                if !self.lost
                    && let Err(error) = self.connection.control(&[ROLLBACK]).await
                {
                    self.lost |= is_lost(&error);
                    tracing::debug!(%error, "no transaction was left to roll back");
                }
                for one in pending {
                    let _ = one.done.send(Err(problem.clone()));
                }
            }
        }
    }

    fn acknowledge(&self, one: Pending) {
        let mut published = None;
        if let Some((commit_number, change_set)) = one.outbox {
            self.metrics.change();
            let (sender, receiver) = oneshot::channel();
            published = Some(receiver);
            self.handover.give(Committed { commit_number, change_set, published: Some(sender) });
        }
        let done = Done { reply: one.reply, replayed: one.replayed, published };
        // A caller whose deadline has passed does not listen any more; the change is made all the same.
        let _ = one.done.send(Ok(done));
    }

    /// Carries out everything inside one transaction and commits it. Whether there was something to commit: a request
    /// that is alone and fails, or only asks, takes the whole transaction back; with others it has a savepoint of its
    /// own.
    async fn carry_out(
        &mut self,
        group: Vec<Job>,
        noted: &[Publications],
        pending: &mut Vec<Pending>,
    ) -> sqlx::Result<bool> {
        let alone = group.len() == 1;
        if let Err(error) = self.begin(group.len() > 1).await {
            for job in group {
                let _ = job
                    .done
                    .send(Err(Problem::new(Code::DbUnavailable, "the database is not available; try again")));
            }
            return Err(error);
        }
        let connection = &mut self.connection;
        let mut group = group.into_iter().peekable();
        while let Some(Job { request, respond, done }) = group.next() {
            if done.is_closed() {
                continue;
            }
            let outcome = guarded(one(connection, &request, respond)).await;
            let keep = outcome.is_ok() && !request.dry_run;
            let mut end = Batch::of(connection);
            match (alone, keep) {
                (true, false) => end.control(ROLLBACK),
                // The savepoint stays for the next one.
                (false, false) => end.control(ROLLBACK_TO),
                (false, true) if group.peek().is_some() => {
                    end.control(RELEASE);
                    end.control(SAVEPOINT);
                }
                // The commit ends savepoints too.
                (_, true) => {}
            }
            end.run(connection).await?;
            match outcome {
                Ok(Outcome { reply, replayed, outbox }) => {
                    pending.push(Pending { done, reply, replayed, outbox: outbox.filter(|_| keep) });
                }
                Err(problem) => {
                    let _ = done.send(Err(problem));
                }
            }
            if alone && !keep {
                return Ok(false);
            }
        }
        if let Err(error) = commit(connection, noted).await {
            // Mostly nothing of it is there. But where the disk failed at the very end, what stands in the log may be read
            // back by the next start.
            let message = "the database did not confirm the change; it is not made as far as is known: look, or send it \
                           again with the same Idempotency-Key";
            for one in pending.drain(..) {
                let _ = one.done.send(Err(Problem::new(Code::DbUnavailable, message)));
            }
            return Err(error);
        }
        Ok(true)
    }

    /// Begins a transaction, with a savepoint where there is more than one request; on another connection when ours broke.
    async fn begin(&mut self, savepoint: bool) -> sqlx::Result<()> {
        if self.lost {
            self.connection = match self.place.connect_writer().await {
                Ok(connection) => connection,
                Err(OpenError::Database(error)) => return Err(error),
                Err(in_use @ OpenError::InUse) => {
                    return Err(sqlx::Error::Io(std::io::Error::other(in_use)));
                }
            };
            self.lost = false;
            tracing::info!(place = %self.place, "connected to the database again");
        }
        let begin = begin(self.connection.kind());
        let statements: &[&'static str] = if savepoint { &[begin, SAVEPOINT] } else { &[begin] };
        self.connection.control(statements).await
    }

    /// Deletes a bounded number of rows that are past their time; how long to wait with the next.
    async fn prune(&mut self, applied: u64) -> Duration {
        let now = now_us();
        let kept = i64::try_from(self.history_kept.as_micros()).unwrap_or(i64::MAX);
        let before = now.saturating_sub(kept);
        if self.lost {
            return self.prune_every;
        }
        let connection = &mut self.connection;
        let pruned = async {
            let answers = idempotency::prune(connection, now, PRUNE_STEP).await?;
            let versions = history::prune(connection, before, PRUNE_STEP).await?;
            let sets = changes::prune(connection, before, applied, PRUNE_STEP).await?;
            Ok::<[u64; 3], sqlx::Error>([answers, versions, sets])
        };
        match pruned.await {
            Ok([0, 0, 0]) => self.prune_every,
            Ok(rows) => {
                tracing::debug!(?rows, "deleted what is past its time");
                let full = u64::try_from(PRUNE_STEP).unwrap_or(u64::MAX);
                if rows.iter().any(|rows| *rows >= full) { PRUNE_AGAIN } else { self.prune_every }
            }
            Err(error) => {
                self.lost |= is_lost(&error);
                tracing::warn!(%error, "could not delete what is past its time");
                self.prune_every
            }
        }
    }
}

/// Writes down what was published, and ends the transaction.
async fn commit(connection: &mut Connection, noted: &[Publications]) -> sqlx::Result<()> {
    let mut batch = Batch::of(connection);
    for publications in noted {
        for &(commit_number, sequence) in &publications.marks {
            changes::mark(&mut batch, commit_number, sequence, publications.at_us);
            if batch.is_full() {
                batch.run(connection).await?;
            }
        }
    }
    let last = noted.last();
    if let Some(last) = last {
        relay::write(&mut batch, &last.state);
    }
    batch.control(COMMIT);
    let written = batch.run(connection).await?;
    if let Some(last) = last
        && written.is_empty()
    {
        tracing::error!(epoch = last.state.epoch, "another relay has taken over");
    }
    Ok(())
}

/// What came of a request.
struct Outcome {
    reply: Reply,
    replayed: bool,
    outbox: Option<(i64, ChangeSet)>,
}

/// One request inside its savepoint.
async fn one(
    connection: &mut Connection,
    request: &Request,
    respond: super::Respond,
) -> Result<Outcome, Problem> {
    let now = now_us();
    if let Some(idempotency) = &request.idempotency
        && let Some(reply) = earlier_reply(connection, &request.actor, idempotency, now).await?
    {
        return Ok(Outcome { reply, replayed: true, outbox: None });
    }
    let mut plan = Plan::make(connection, request).await?;
    let mut batch = Batch::of(connection);
    let change_set = record::write(&mut batch, connection, request, &mut plan, now).await?;
    let reply = respond(&plan, request.id);
    if let Some(Idempotency { key, request_hash }) = &request.idempotency {
        let response = serde_json::to_vec(&reply)
            .map_err(|error| Problem::new(Code::Internal, format!("the answer cannot be kept: {error}")))?;
        idempotency::keep(&mut batch, &request.actor, key, request_hash, &response, now);
    }
    let rows = batch.run(connection).await?;
    let commit_number = rows.first().map(|row| row.get(0)).transpose()?;
    Ok(Outcome { reply, replayed: false, outbox: commit_number.zip(change_set) })
}

async fn earlier_reply(
    connection: &mut Connection,
    actor: &str,
    idempotency: &Idempotency,
    now: i64,
) -> Result<Option<Reply>, Problem> {
    let Some((hash, response)) = idempotency::find(connection, actor, &idempotency.key, now).await? else {
        return Ok(None);
    };
    if hash != idempotency.request_hash {
        let message = "this Idempotency-Key was used for another request";
        return Err(Problem::new(Code::IdempotencyMismatch, message));
    }
    let reply = serde_json::from_slice(&response)
        .map_err(|_| Problem::new(Code::Internal, "the kept answer cannot be read"))?;
    Ok(Some(reply))
}

/// A panic in one request fails that request; the others of its group go on.
async fn guarded<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(_) => {
                tracing::error!("a change panicked; it was rolled back");
                std::task::Poll::Ready(Err(Problem::new(
                    Code::Internal,
                    "the change failed inside the server; nothing of it was made",
                )))
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests;
