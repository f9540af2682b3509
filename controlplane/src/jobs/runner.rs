//! The task that claims jobs, has them done, a few at once, and writes down how they ended.

use std::sync::Arc;
use std::time::Duration;

use godwit_wire::presentation::Printable;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Claimed, Failure, Handle, Kinds, Lease, backoff, schedule};
use crate::api::envelope::caught;
use crate::commit::Committer;
use crate::config;
use crate::error::{Code, Problem};
use crate::observe::metrics::{JobOutcome, Metrics};
use crate::stop::{Stop, stopped};
use crate::store::batch::Batch;
use crate::store::jobs::{self, Attempt, End, Job, State};
use crate::store::{Connection, Pool, now_us};

/// How often jobs are looked for whose time has come, that other processes added, or whose worker is gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same while the database is away.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often jobs are counted.
const COUNT_EVERY: Duration = Duration::from_secs(15);
/// How long jobs that run get to end when it is time to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long giving back what did not end may take then.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause before an end that could not be written down is tried again.
const NOTE_AGAIN: Duration = Duration::from_millis(500);
/// The most octets of what an attempt failed at.
const MAX_ERROR_OCTETS: usize = 500;

/// See the module.
pub(crate) struct Runner {
    pub(crate) committer: Committer,
    pub(crate) readers: Pool,
    pub(crate) kinds: Kinds,
    pub(crate) handle: Handle,
    pub(crate) config: config::Jobs,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Stop,
}

impl Runner {
    /// Runs until it is time to stop. Then nothing more is claimed; what runs gets a moment, and what has not ended by then is given back,
    /// for another process to have at once.
    pub(crate) async fn run(self) {
        for kind in self.kinds.names() {
            self.metrics.job_kind(kind);
        }
        let names = jobs::kinds(self.kinds.names());
        let let_go = watch::Sender::new(false);
        let runner = Arc::new(self);
        let mut stop = std::pin::pin!(stopped(runner.stop.clone()));
        let mut running = JoinSet::new();
        let (mut look_at, mut count_at) = (Instant::now(), Instant::now());
        let mut is_begun = false;
        loop {
            let room = runner.config.workers.saturating_sub(running.len());
            if room > 0 && Instant::now() >= look_at {
                look_at = Instant::now() + LOOK_EVERY;
                let begun_and_claimed = async {
                    if !is_begun {
                        runner.begin().await?;
                    }
                    runner.claim(&names, room).await
                };
                let claimed = tokio::select! {
                    claimed = begun_and_claimed => claimed,
                    // What a silent database may have given all the same is somebody else's once its lease is over.
                    () = runner.is_late() => break,
                };
                match claimed {
                    Ok(claimed) => {
                        is_begun = true;
                        for (job, lease) in claimed {
                            running.spawn(runner.clone().attempt(job, lease, let_go.subscribe()));
                        }
                    }
                    // The cause is in the log already, where it is one to look at.
                    Err(error) => {
                        tracing::debug!(%error, "jobs could not be claimed");
                        look_at = Instant::now() + LOOK_AGAIN;
                    }
                }
            }
            if Instant::now() >= count_at {
                count_at = Instant::now() + COUNT_EVERY;
                tokio::select! {
                    () = runner.count() => {}
                    () = runner.is_late() => break,
                }
            }
            let is_full = running.len() >= runner.config.workers;
            tokio::select! {
                () = &mut stop => break,
                Some(_) = running.join_next(), if !running.is_empty() => look_at = Instant::now(),
                () = runner.handle.added.notified() => look_at = Instant::now(),
                () = tokio::time::sleep_until(look_at), if !is_full => {}
                () = tokio::time::sleep_until(count_at) => {}
            }
        }
        let ended = async |running: &mut JoinSet<()>| while running.join_next().await.is_some() {};
        if tokio::time::timeout(STOP_TIMEOUT, ended(&mut running)).await.is_err() {
            let_go.send_replace(true);
            let _ = tokio::time::timeout(RELEASE_TIMEOUT, ended(&mut running)).await;
        }
    }

    /// Has a job wait of each kind that is done by the clock: of those that wait already nothing is added.
    async fn begin(&self) -> Result<(), Problem> {
        let regular = self.kinds.regular();
        if regular.is_empty() {
            return Ok(());
        }
        let begin = self.committer.write(move |connection| {
            Box::pin(async move {
                let mut batch = Batch::of(connection);
                for new in &regular {
                    jobs::enqueue(&mut batch, new);
                }
                batch.run(connection).await?;
                Ok(())
            })
        });
        begin.await
    }

    /// Takes up to `room` jobs. Whether there are any is asked of a connection that reads: while nothing is to be done nothing is written.
    async fn claim(&self, names: &str, room: usize) -> Result<Vec<(Job, Lease)>, Problem> {
        let due = async { jobs::due(&mut self.readers.acquire().await?, names).await };
        match due.await {
            Ok(true) => {}
            Ok(false) => return Ok(Vec::new()),
            Err(error) => {
                tracing::debug!(%error, "jobs could not be looked for");
                return Err(Problem::new(Code::DbUnavailable, "the database is not available"));
            }
        }
        let lasts = Duration::from_secs(self.config.lease_seconds);
        let (names, room) = (names.to_owned(), i64::try_from(room).unwrap_or(i64::MAX));
        // New with each claim: whoever had one of these before, in this process too, is somebody else.
        let (holder, asked) = (Uuid::now_v7(), Instant::now());
        let claim = self.committer.write(move |connection| {
            Box::pin(async move {
                let claimed = jobs::claim(connection, holder, &names, lasts, room).await?;
                let mut given_up = Vec::new();
                for job in claimed.iter().filter(|job| is_used_up(job)) {
                    given_up.push((job.id, give_up(connection, job, holder, LOST).await?));
                }
                Ok((claimed, given_up))
            })
        });
        let (claimed, given_up) = claim.await?;
        let mut held = Vec::new();
        for job in claimed {
            if given_up.iter().any(|(id, _)| *id == job.id) {
                self.failed(&job, LOST);
                continue;
            }
            let attempt = Attempt { job: job.id, holder, number: job.attempts };
            let lease = Lease::new(self.committer.clone(), attempt, asked, lasts);
            held.push((job, lease));
        }
        Ok(held)
    }

    /// Has one done.
    async fn attempt(self: Arc<Self>, job: Job, lease: Lease, mut let_go: watch::Receiver<bool>) {
        let (id, attempt) = (job.id, job.attempts);
        let Some(kind) = self.kinds.get(&job.kind) else { return };
        let claimed = Claimed { id, account: job.account, attempt, payload: job.payload.clone() };
        let done = tokio::select! {
            // In here, so that a panic before its first step is one too.
            done = caught(async { kind.run(&claimed, &lease).await }) => Some(done),
            () = lease.keep(self.handle.doubted.subscribe()) => {
                self.metrics.job(kind.name(), JobOutcome::Lost);
                tracing::warn!(job = %id, kind = kind.name(), attempt, "a job's lease was lost or ended; it is let go");
                return;
            }
            _ = let_go.wait_for(|let_go| *let_go) => None,
        };
        let result = match done {
            Some(Some(result)) => result,
            Some(None) => {
                tracing::error!(job = %id, kind = kind.name(), attempt, "a job panicked");
                Err(Failure::Passing("it panicked".to_owned()))
            }
            None => {
                tracing::info!(job = %id, kind = kind.name(), attempt, "a job was not done when it was time to stop; it is given back");
                self.note(&lease, Noted::Released).await;
                self.metrics.job(kind.name(), JobOutcome::Released);
                return;
            }
        };
        self.ended(&job, &lease, result).await;
    }

    /// Writes down how an attempt ended.
    async fn ended(&self, job: &Job, lease: &Lease, result: Result<(), Failure>) {
        let kind = job.kind.as_str();
        let (noted, outcome, error) = match result {
            Ok(()) => match next(job) {
                Some(after) => (Noted::Next { error: None, after }, JobOutcome::Done, String::new()),
                None => (Noted::Done, JobOutcome::Done, String::new()),
            },
            Err(Failure::Passing(error)) if job.attempts < job.max_attempts => {
                let error = shown(&error);
                let random = getrandom::u32().unwrap_or(u32::MAX / 2);
                let after = backoff::pause(job.attempts, random);
                (Noted::Again { error: error.clone(), after }, JobOutcome::Retried, error)
            }
            Err(Failure::Passing(error) | Failure::Final(error)) => {
                let error = shown(&error);
                let noted = match next(job) {
                    Some(after) => Noted::Next { error: Some(error.clone()), after },
                    None => Noted::Failed { error: error.clone() },
                };
                (noted, JobOutcome::Failed, error)
            }
        };
        if !self.note(lease, noted).await {
            self.metrics.job(kind, JobOutcome::Lost);
            tracing::warn!(job = %job.id, kind, attempt = job.attempts, "a job ended when its lease was lost already");
            return;
        }
        match outcome {
            JobOutcome::Failed => self.failed(job, &error),
            outcome => {
                self.metrics.job(kind, outcome);
                if outcome == JobOutcome::Retried {
                    tracing::warn!(job = %job.id, kind, attempt = job.attempts, error, "a job failed; it is tried again");
                } else if job.schedule.is_some() {
                    tracing::debug!(job = %job.id, kind, attempt = job.attempts, "a job is done, until its next time");
                } else {
                    tracing::info!(job = %job.id, kind, attempt = job.attempts, "a job is done");
                }
            }
        }
    }

    /// Whether the lease was held so long. Where the database is away it is tried until the lease is over: then somebody else has the job.
    async fn note(&self, lease: &Lease, noted: Noted) -> bool {
        let attempt = lease.attempt();
        loop {
            let noting = noted.clone();
            let written = self.committer.write(move |connection| {
                Box::pin(async move { Ok(jobs::end(connection, attempt, noting.as_end()).await?) })
            });
            match tokio::time::timeout_at(lease.until(), written).await {
                Ok(Ok(held)) => return held,
                Ok(Err(_)) if Instant::now() + NOTE_AGAIN < lease.until() => {
                    tokio::time::sleep(NOTE_AGAIN).await;
                }
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    }

    fn failed(&self, job: &Job, error: &str) {
        self.metrics.job(&job.kind, JobOutcome::Failed);
        tracing::error!(job = %job.id, kind = job.kind, attempts = job.attempts.min(job.max_attempts), error, "a job failed and is given up");
    }

    /// Until it was time to stop some time ago.
    async fn is_late(&self) {
        stopped(self.stop.clone()).await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    }

    async fn count(&self) {
        let counted = async {
            let mut connection = self.readers.acquire().await?;
            let waiting = jobs::count(&mut connection, State::Waiting).await?;
            Ok::<_, sqlx::Error>((waiting, jobs::count(&mut connection, State::Failed).await?))
        };
        match counted.await {
            Ok((waiting, failed)) => self.metrics.jobs(waiting, failed),
            Err(error) => tracing::debug!(%error, "jobs could not be counted"),
        }
    }
}

/// Why a job without another attempt is given up that nobody brought to an end.
const LOST: &str = "its last worker was lost";

/// Whether the attempts of one that was taken over are all made.
fn is_used_up(job: &Job) -> bool {
    job.attempts > job.max_attempts
}

async fn give_up(connection: &mut Connection, job: &Job, holder: Uuid, error: &str) -> sqlx::Result<bool> {
    let end = match next(job) {
        Some(after) => End::Next { error: Some(error), after },
        None => End::Failed { error },
    };
    jobs::end(connection, Attempt { job: job.id, holder, number: job.attempts }, end).await
}

/// How long it is to the next time of a job's schedule, where it has one.
fn next(job: &Job) -> Option<Duration> {
    let now = now_us();
    let next = schedule::next_us(job.schedule.as_deref()?, now)?;
    Some(Duration::from_micros(u64::try_from(next - now).unwrap_or(0)))
}

/// What an attempt failed at, as everybody may be shown it.
fn shown(error: &str) -> String {
    let mut text = Printable(error).to_string();
    if text.len() > MAX_ERROR_OCTETS {
        text.truncate(text.floor_char_boundary(MAX_ERROR_OCTETS));
        text.push('…');
    }
    text
}

/// See [`End`], on its way to the writer.
#[derive(Clone, Debug)]
enum Noted {
    Done,
    Failed { error: String },
    Again { error: String, after: Duration },
    Next { error: Option<String>, after: Duration },
    Released,
}

impl Noted {
    fn as_end(&self) -> End<'_> {
        match self {
            Noted::Done => End::Done,
            Noted::Failed { error } => End::Failed { error },
            Noted::Again { error, after } => End::Again { error, after: *after },
            Noted::Next { error, after } => End::Next { error: error.as_deref(), after: *after },
            Noted::Released => End::Released,
        }
    }
}
