//! The task that owns the writing connection.
//!
//! It takes in turn: the short requests that wait, as many as go into one transaction; then one long one, if any waits; then
//! one thing that is no change of records.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use godwit_wire::feed::DigestKey;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::known::Known;
use super::plan::Plan;
use super::record::With;
use super::{
    COMMIT, Done, Job, Queues, RELEASE, ROLLBACK, ROLLBACK_TO, Reply, Respond, SAVEPOINT, begin, record,
};
use crate::config::{Guard, Quotas};
use crate::error::{Cause, Code, Problem};
use crate::model::change::{Idempotency, Request};
use crate::names::Rules;
use crate::observe::metrics::Metrics;
use crate::relay::batches::{self, Made};
use crate::relay::log::Log;
use crate::store::batch::Batch;
use crate::store::changes::Waiting;
use crate::store::connection::is_lost;
use crate::store::relay::FeedState;
use crate::store::{Connection, Kind, Place, idempotency, log, now_us, relay, zones};

/// The most requests of one transaction: bounds how long the first of them waits for the last.
const GROUP: usize = 256;
/// The same for the steps that they have together.
const GROUP_STEPS: usize = 4_000;
/// The pause before what could not be written down is tried again: a database that fails is not asked without pause.
const NOTE_AGAIN: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Writer {
    pub(crate) line: Line,
    /// The one for tenants, where the database is to show them no more than theirs: opened when the first of them changes something.
    pub(crate) guarded: Option<Line>,
    /// For whom it acts while it is the one in use.
    pub(crate) acts_for: Option<Uuid>,
    /// Where the connections lead to, for others when they break.
    pub(crate) place: Place,
    pub(crate) queues: Queues,
    pub(crate) sequences: Sequences,
    /// What digests are keyed with.
    pub(crate) digest_key: DigestKey,
    /// Resolves when no further request is taken.
    pub(crate) closed: oneshot::Receiver<()>,
    pub(crate) metrics: Metrics,
    /// What has to be confirmed.
    pub(crate) guard: Guard,
    /// Which names tenants make zones of.
    pub(crate) rules: Arc<Rules>,
    /// How much they may have.
    pub(crate) quotas: Quotas,
}

/// A connection that writes.
pub(crate) struct Line {
    pub(crate) connection: Connection,
    /// It broke, and no other was to be had yet.
    pub(crate) lost: bool,
}

impl Line {
    pub(crate) fn of(connection: Connection) -> Line {
        Line { connection, lost: false }
    }
}

/// Who gives a change its sequence.
pub(crate) enum Sequences {
    /// This writer, in the transaction of the change: nobody else writes to this database.
    Here(Box<Here>),
    /// The relay, which this wakes, once it is committed.
    Afterwards(Arc<Notify>),
}

/// See [`Sequences::Here`].
pub(crate) struct Here {
    /// As the database has it.
    pub(crate) state: FeedState,
    /// The database may have more: a commit failed at its very end.
    pub(crate) doubtful: bool,
    pub(crate) log: Arc<Log>,
}

/// A request that was carried out inside the open transaction; answered once that is committed.
struct Pending {
    job: Job,
    reply: Reply,
    replayed: bool,
    has_effect: bool,
    sequence: Option<u64>,
    plan: Option<Box<Plan>>,
    confirm: Option<u64>,
}

/// How the requests of a transaction are kept apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    /// There is one: all of the transaction is its.
    Alone,
    /// They are plain: whatever fails before it writes leaves the others alone, and where writing fails all are carried out again.
    Together,
    /// Each behind a savepoint.
    Apart,
}

impl Manner {
    fn of(group: &[Job]) -> Manner {
        match group.len() {
            1 => Manner::Alone,
            _ if group.iter().all(|job| job.request.is_plain()) => Manner::Together,
            _ => Manner::Apart,
        }
    }
}

impl Writer {
    /// Runs until it is closed and the queue is empty; gives the connection back.
    pub(crate) async fn run(mut self) -> Connection {
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
                Some(aside) = queues.asides.recv() => {
                    self.write_aside(aside).await;
                    continue;
                }
                // All are empty: closed then means that there will be nothing more.
                () = std::future::ready(()), if queues.jobs.is_closed() && queues.long_jobs.is_closed() => break,
                _ = &mut self.closed, if open => {
                    open = false;
                    queues.jobs.close();
                    queues.long_jobs.close();
                    queues.asides.close();
                    continue;
                }
                Ok(()) = queues.overtaken.changed() => {
                    self.note_overtaken().await;
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
            if self.queues.overtaken.has_changed().unwrap_or(false) {
                self.note_overtaken().await;
            }
            if !group.is_empty() {
                self.transact(group).await;
            }
            if let Some(job) = long.or_else(|| self.queues.long_jobs.try_recv().ok()) {
                self.transact(vec![job]).await;
            }
            if let Ok(aside) = self.queues.asides.try_recv() {
                self.write_aside(aside).await;
            }
        }
        self.line.connection
    }

    /// One transaction for all of a group, where the database keeps nobody from anything. Else one for those that come behind each
    /// other of the same tenant's account, or of none.
    async fn transact(&mut self, group: Vec<Job>) {
        if self.place.kind() == Kind::Sqlite {
            return self.transact_some(group).await;
        }
        let mut rest = group.into_iter().peekable();
        while let Some(first) = rest.next() {
            let account = first.request.access.account();
            let mut some = vec![first];
            while let Some(next) = rest.next_if(|next| next.request.access.account() == account) {
                some.push(next);
            }
            match account {
                Some(account) => self.transact_guarded(account, some).await,
                None => self.transact_some(some).await,
            }
        }
    }

    /// The same by the connection that is shown no more than who asks may see.
    async fn transact_guarded(&mut self, account: Uuid, group: Vec<Job>) {
        match self.go_guarded(account).await {
            Ok(own) => {
                self.transact_some(group).await;
                self.go_back(own);
            }
            Err(error) => refuse_all(group, &error),
        }
    }

    /// Goes on with the connection for tenants, for one account; gives the other one, for [`Writer::go_back`].
    pub(super) async fn go_guarded(&mut self, account: Uuid) -> sqlx::Result<Line> {
        let line = match self.guarded.take() {
            Some(line) => line,
            None => Line::of(self.place.connect_guarded().await.inspect_err(|error| {
                tracing::warn!(%error, "no connection for tenants is to be had");
            })?),
        };
        self.acts_for = Some(account);
        Ok(std::mem::replace(&mut self.line, line))
    }

    /// Goes on with the other one.
    pub(super) fn go_back(&mut self, own: Line) {
        self.acts_for = None;
        self.guarded = Some(std::mem::replace(&mut self.line, own));
    }

    /// One transaction for a group of requests, or another one where they could not be carried out together.
    async fn transact_some(&mut self, group: Vec<Job>) {
        let manner = Manner::of(&group);
        let again = self.attempt(group, manner).await;
        if !again.is_empty() {
            tracing::debug!(requests = again.len(), "carried out again, each behind a savepoint");
            self.attempt(again, Manner::Apart).await;
        }
    }

    /// Gives back those that are to be carried out again: nothing of them was made.
    async fn attempt(&mut self, group: Vec<Job>, manner: Manner) -> Vec<Job> {
        let mut pending = Vec::with_capacity(group.len());
        match self.carry_out(group, manner, &mut pending).await {
            Ok(again) => {
                for one in pending {
                    self.acknowledge(one);
                }
                again
            }
            Err(error) => {
                // Nothing of the group is true.
                self.line.lost |= is_lost(&error);
                let problem = Problem::from(error);
                if !self.line.lost
                    && let Err(error) = self.line.connection.control(&[ROLLBACK]).await
                {
                    self.line.lost |= is_lost(&error);
                    tracing::debug!(%error, "no transaction was left to roll back");
                }
                for one in pending {
                    one.job.give(Err(problem.clone()));
                }
                Vec::new()
            }
        }
    }

    fn acknowledge(&self, one: Pending) {
        if one.has_effect {
            self.metrics.change(one.sequence.is_none());
        }
        let Pending { job, reply, replayed, sequence, plan, confirm, .. } = one;
        job.give(Ok(Done { reply, replayed, sequence, plan, confirm }));
    }

    /// Carries out everything inside one transaction and commits it, or takes all of it back and gives back what is to be carried out
    /// again. A request that is alone and fails, or only asks, takes the whole transaction back.
    async fn carry_out(
        &mut self,
        group: Vec<Job>,
        manner: Manner,
        pending: &mut Vec<Pending>,
    ) -> sqlx::Result<Vec<Job>> {
        let mut known = match self.begin_with(&group, manner).await {
            Ok(known) => known,
            Err(error) => {
                refuse_all(group, &error);
                return Err(error);
            }
        };
        let mut sequence = self.sequences.next();
        let mut waiting = Vec::new();
        let connection = &mut self.line.connection;
        let mut group = group.into_iter().peekable();
        while let Some(mut job) = group.next() {
            if job.is_withdrawn() {
                continue;
            }
            let with = With { digest_key: &self.digest_key, sequence, rules: &self.rules, now_us: now_us() };
            // What they may was looked up when the request came, and its body may have taken long.
            if connection.kind() == Kind::Sqlite && job.request.access.account().is_some() {
                match job.request.access.again(connection).await {
                    Ok(now) => job.request.access = now,
                    Err(error) => {
                        refuse_all(std::iter::once(job).chain(group).collect(), &error);
                        return Err(error);
                    }
                }
            }
            let is_known = (manner == Manner::Together).then_some(&mut known);
            let outcome = guarded(one(
                connection,
                &job.request,
                &job.respond,
                with,
                (self.guard, self.quotas),
                is_known,
            ))
            .await;
            let keep = outcome.is_ok() && !job.request.dry_run;
            let is_broken =
                outcome.as_ref().is_err_and(|problem| problem.may_have_broken() || known.is_writing);
            let end: &[&'static str] = match (manner, keep) {
                (Manner::Alone, false) => &[ROLLBACK],
                (Manner::Together, false) if is_broken => &[ROLLBACK],
                // The savepoint stays for the next one.
                (Manner::Apart, false) => &[ROLLBACK_TO],
                (Manner::Apart, true) if group.peek().is_some() => &[RELEASE, SAVEPOINT],
                // The commit ends savepoints too; and who is refused has not written anything.
                (_, true) | (Manner::Together, false) => &[],
            };
            if !end.is_empty()
                && let Err(error) = connection.control(end).await
            {
                let away = || {
                    let message = "the database is not available; nothing was changed; try again";
                    Problem::new(Code::DbUnavailable, message).because(Cause::of(&error))
                };
                job.give(Err(outcome.err().unwrap_or_else(away)));
                for job in group {
                    job.give(Err(away()));
                }
                return Err(error);
            }
            if manner == Manner::Together && is_broken {
                return Ok(pending.drain(..).map(|one| one.job).chain([job]).chain(group).collect());
            }
            match outcome {
                Ok(Outcome { reply, replayed, outbox, plan, confirm }) => {
                    let outbox = outbox.filter(|_| keep);
                    let has_effect = outbox.is_some();
                    pending.push(Pending {
                        job,
                        reply,
                        replayed,
                        has_effect,
                        sequence: sequence.filter(|_| has_effect),
                        plan,
                        confirm,
                    });
                    if let Some(one) = outbox {
                        waiting.push(one);
                        sequence = sequence.map(|sequence| sequence + 1);
                    }
                }
                Err(problem) => job.give(Err(problem)),
            }
            if manner == Manner::Alone && !keep {
                return Ok(Vec::new());
            }
        }
        if let Err(error) = self.sequences.commit(connection, &waiting).await {
            return Err(self.unconfirmed(pending, error));
        }
        Ok(Vec::new())
    }

    /// Tells those of a transaction whose end is not known.
    fn unconfirmed(&mut self, pending: &mut Vec<Pending>, error: sqlx::Error) -> sqlx::Error {
        if let Sequences::Here(here) = &mut self.sequences {
            here.doubtful = true;
        }
        // Mostly nothing of it is there. But where the disk failed at the very end, what stands in the log may be read
        // back by the next start.
        let message = "the database did not confirm the change; it is not made as far as is known: look, or send it again with \
                       the same Idempotency-Key";
        for one in pending.drain(..) {
            let problem = Problem::new(Code::DbUnavailable, message);
            one.job.give(Err(problem.because(Cause::of(&error))));
        }
        error
    }

    /// Begins a transaction for these requests: locks what they change, reads it where they are carried out together, and sets the
    /// first savepoint where they are kept apart.
    async fn begin_with(&mut self, group: &[Job], manner: Manner) -> sqlx::Result<Known> {
        self.begin().await?;
        let requests = group.iter().map(|job| &job.request);
        let (zones, claimed) = match self.line.connection.kind() {
            Kind::Sqlite => (BTreeSet::new(), BTreeSet::new()),
            Kind::Postgres => (Plan::to_be_locked(requests.clone()), Plan::to_be_claimed(requests.clone())),
        };
        let connection = &mut self.line.connection;
        let mut known = Known::default();
        // Before any zone is locked: who waits for a claim holds nothing that another claimant wants.
        if !claimed.is_empty() {
            zones::claim(connection, &claimed).await?;
        }
        if !zones.is_empty() {
            let together = requests.filter(|_| manner == Manner::Together);
            known = Known::lock(connection, zones, together).await?;
        }
        if manner == Manner::Apart {
            connection.control(&[SAVEPOINT]).await?;
        }
        Ok(known)
    }

    /// Begins a transaction; on another connection when ours broke.
    pub(super) async fn begin(&mut self) -> sqlx::Result<()> {
        if self.line.lost {
            self.line.connection = match self.line.connection.is_guarded() {
                true => self.place.connect_guarded().await?,
                false => self.place.connect().await?,
            };
            self.line.lost = false;
            tracing::info!(place = %self.place, "connected to the database again");
        }
        if let Sequences::Here(here) = &mut self.sequences
            && here.doubtful
        {
            here.log.refresh(&mut self.line.connection).await?;
            here.state = here.log.end();
            here.doubtful = false;
        }
        self.line.connection.control(&[begin(self.line.connection.kind())]).await?;
        match self.acts_for {
            Some(account) => self.line.connection.act_for(account).await,
            None => Ok(()),
        }
    }

    /// Writes down that a data plane has what this database never knew: from here on nothing gets a sequence.
    async fn note_overtaken(&mut self) {
        let sequence = *self.queues.overtaken.borrow_and_update();
        if let Sequences::Here(here) = &mut self.sequences {
            here.state.ahead = here.state.ahead.max(sequence).max(here.state.sequence + 1);
            self.metrics.leader(false);
        }
        let noted = match self.begin().await {
            Ok(()) => relay::found_ahead(&mut self.line.connection, sequence).await,
            Err(error) => Err(error),
        };
        let end = if noted.is_ok() { COMMIT } else { ROLLBACK };
        if let Err(error) = noted.and(self.line.connection.control(&[end]).await) {
            self.line.lost |= is_lost(&error);
            tracing::error!(%error, "that a data plane is ahead could not be written down; it is tried again");
            tokio::time::sleep(NOTE_AGAIN).await;
            self.queues.overtaken.mark_changed();
        }
    }
}

impl Sequences {
    /// The one that the next change gets.
    fn next(&self) -> Option<u64> {
        match self {
            Sequences::Here(here) if !here.state.is_overtaken() => Some(here.state.sequence + 1),
            Sequences::Here(_) | Sequences::Afterwards(_) => None,
        }
    }

    /// Ends the transaction with these change sets.
    async fn commit(&mut self, connection: &mut Connection, waiting: &[Waiting]) -> sqlx::Result<()> {
        match self {
            Sequences::Here(here) if !here.state.is_overtaken() => {
                let mut state = here.state;
                let made = batches::make(&mut state, waiting, now_us());
                commit(connection, &made, &state).await?;
                if !made.is_empty() {
                    here.state = state;
                    here.log.add(made, state);
                }
            }
            Sequences::Here(_) => connection.control(&[COMMIT]).await?,
            Sequences::Afterwards(woken) => {
                connection.control(&[COMMIT]).await?;
                if !waiting.is_empty() {
                    woken.notify_one();
                }
            }
        }
        Ok(())
    }
}

/// Writes down the batches of the transaction, and ends it.
async fn commit(connection: &mut Connection, made: &[Made], state: &FeedState) -> sqlx::Result<()> {
    let mut batch = Batch::of(connection);
    for one in made {
        log::append(&mut batch, &one.entry);
    }
    if !made.is_empty() {
        relay::write(&mut batch, state);
    }
    batch.control(COMMIT);
    batch.run(connection).await.map(|_| ())
}

fn refuse_all(group: Vec<Job>, error: &sqlx::Error) {
    for job in group {
        let problem = Problem::new(Code::DbUnavailable, "the database is not available; try again");
        job.give(Err(problem.because(Cause::of(error))));
    }
}

/// What came of a request.
struct Outcome {
    reply: Reply,
    replayed: bool,
    outbox: Option<Waiting>,
    /// Of a dry run.
    plan: Option<Box<Plan>>,
    /// See [`Done::confirm`].
    confirm: Option<u64>,
}

/// One request; `known`: what it need not read, and what others behind it need not.
async fn one(
    connection: &mut Connection,
    request: &Request,
    respond: &Respond,
    with: With<'_>,
    (guard, quotas): (Guard, Quotas),
    mut known: Option<&mut Known>,
) -> Result<Outcome, Problem> {
    let now = with.now_us;
    if let Some(idempotency) = &request.idempotency
        && let Some(reply) = earlier_reply(connection, &request.who.actor, idempotency, now).await?
    {
        return Ok(Outcome { reply, replayed: true, outbox: None, plan: None, confirm: None });
    }
    let nothing = Known::default();
    let mut plan = Plan::make(connection, request, known.as_deref().unwrap_or(&nothing), with.rules).await?;
    quotas.permit(connection, &plan, request, now).await?;
    let cost = guard.cost(connection, &plan).await?;
    let confirm = cost.as_ref().map(|cost| cost.names);
    if let Some(cost) = cost.filter(|_| request.confirm != confirm && !request.dry_run) {
        return Err(cost.problem(request.confirm));
    }
    if let Some(known) = &mut known {
        known.is_writing = true;
    }
    let mut batch = Batch::of(connection);
    let outbox = record::write(&mut batch, connection, request, &mut plan, with).await?;
    let reply = respond(&plan, request.id);
    if let Some(Idempotency { key, request_hash }) = &request.idempotency {
        let response = serde_json::to_vec(&reply)
            .map_err(|error| Problem::new(Code::Internal, format!("the answer cannot be kept: {error}")))?;
        idempotency::keep(&mut batch, &request.who.actor, key, request_hash, &response, now);
    }
    batch.run(connection).await?;
    let plan = match known {
        Some(known) => {
            known.became(plan);
            None
        }
        None => request.dry_run.then(|| Box::new(plan)),
    };
    Ok(Outcome { reply, replayed: false, outbox, plan, confirm })
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
pub(super) async fn guarded<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
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
