//! The task that claims jobs, has them done, a few at once, and writes down how they ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use godwit_wire::presentation::Printable;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Claimed, Failure, Handle, Kind, Lane, Lease, backoff, schedule};
use crate::api::envelope::caught;
use crate::commit::Committer;
use crate::config;
use crate::error::{Code, Problem};
use crate::observe::metrics::{JobOutcome, Metrics};
use crate::stop::{Stop, stopped};
use crate::store::batch::Batch;
use crate::store::jobs::{self, Attempt, Due, End, Job, State};
use crate::store::{Connection, Pool};

/// How often jobs are looked for whose time has come, that other processes added, or whose worker is gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same where another process had some of what was chosen: there may be more.
const LOOK_ON: Duration = Duration::from_millis(50);
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
/// Jobs that are looked at, at once, and so many times while there is room: those for which there is none are passed over.
const PAGE: i64 = 128;
const PAGES: usize = 16;

/// What was claimed.
struct Claims {
    claimed: Vec<(Job, Lease, Busy)>,
    /// Nothing of what was chosen is somebody else's.
    are_all: bool,
}

/// See the module.
pub(crate) struct Runner {
    pub(crate) committer: Committer,
    pub(crate) readers: Pool,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) handle: Handle,
    pub(crate) config: config::Jobs,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Stop,
}

/// One that is being done, or is about to be.
#[derive(Clone, Copy, Debug)]
struct Busy {
    lane: usize,
    tenant: Option<u32>,
    is_doubtful: bool,
}

/// Those that are being done.
#[derive(Debug, Default)]
struct Running {
    tasks: JoinSet<()>,
    busy: HashMap<Id, Busy>,
}

impl Running {
    fn in_lane(&self, lane: usize) -> Vec<Busy> {
        self.busy.values().filter(|busy| busy.lane == lane).copied().collect()
    }

    fn begin(&mut self, busy: Busy, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(task);
        self.busy.insert(task.id(), busy);
    }

    /// Waits for one to end; whether there was any.
    async fn ended(&mut self) -> bool {
        let Some(ended) = self.tasks.join_next_with_id().await else { return false };
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        self.busy.remove(&id);
        true
    }
}

impl Lane {
    /// Whether one more may be done beside these.
    fn has_room_for(&self, one: Busy, beside: &[Busy]) -> bool {
        let beside = || beside.iter();
        beside().len() < self.at_once
            && beside().filter(|busy| busy.tenant == one.tenant).count() < self.of_a_tenant
            && (!one.is_doubtful || beside().filter(|busy| busy.is_doubtful).count() < self.doubtful)
    }
}

impl Runner {
    /// Runs until it is time to stop. Then nothing more is claimed; what runs gets a moment, and what has not ended by then is given back,
    /// for another process to have at once.
    pub(crate) async fn run(self) {
        for kind in self.lanes.iter().flat_map(|lane| lane.kinds.names()) {
            self.metrics.job_kind(kind);
        }
        let let_go = watch::Sender::new(false);
        let runner = Arc::new(self);
        let mut stop = std::pin::pin!(stopped(runner.stop.clone()));
        let mut running = Running::default();
        let (mut look_at, mut count_at) = (Instant::now(), Instant::now());
        let mut is_begun = false;
        loop {
            let has_room = runner.has_room(&running);
            if has_room && Instant::now() >= look_at {
                look_at = Instant::now() + LOOK_EVERY;
                let looked = async {
                    if !is_begun {
                        runner.begin().await?;
                    }
                    runner.look(&running).await
                };
                let looked = tokio::select! {
                    looked = looked => looked,
                    // What a silent database may have given all the same is somebody else's once its lease is over.
                    () = runner.is_late() => break,
                };
                match looked {
                    Ok(Claims { claimed, are_all }) => {
                        is_begun = true;
                        if !are_all {
                            look_at = Instant::now() + LOOK_ON;
                        }
                        for (job, lease, busy) in claimed {
                            running.begin(busy, runner.clone().attempt(job, lease, let_go.subscribe()));
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
            let has_room = runner.has_room(&running);
            tokio::select! {
                () = &mut stop => break,
                true = running.ended() => look_at = Instant::now(),
                () = runner.handle.added.notified() => look_at = Instant::now(),
                () = tokio::time::sleep_until(look_at), if has_room => {}
                () = tokio::time::sleep_until(count_at) => {}
            }
        }
        let ended = async |running: &mut Running| while running.ended().await {};
        if tokio::time::timeout(STOP_TIMEOUT, ended(&mut running)).await.is_err() {
            let_go.send_replace(true);
            let _ = tokio::time::timeout(RELEASE_TIMEOUT, ended(&mut running)).await;
        }
    }

    fn has_room(&self, running: &Running) -> bool {
        self.lanes.iter().enumerate().any(|(at, lane)| running.in_lane(at).len() < lane.at_once)
    }

    fn kind(&self, name: &str) -> Option<Arc<dyn Kind>> {
        self.lanes.iter().find_map(|lane| lane.kinds.get(name))
    }

    /// Takes what there is room for. Whether there is anything is asked of a connection that reads: while nothing is to be done nothing is
    /// written.
    async fn look(&self, running: &Running) -> Result<Claims, Problem> {
        let mut chosen = HashMap::new();
        for (at, lane) in self.lanes.iter().enumerate() {
            if let Err(error) = self.choose(at, lane, running, &mut chosen).await {
                tracing::debug!(%error, "jobs could not be looked for");
                return Err(Problem::new(Code::DbUnavailable, "the database is not available"));
            }
        }
        if chosen.is_empty() {
            Ok(Claims { claimed: Vec::new(), are_all: true })
        } else {
            self.claim(chosen).await
        }
    }

    /// Adds what a lane has room for, those that could be done for longest first.
    async fn choose(
        &self,
        at: usize,
        lane: &Lane,
        running: &Running,
        chosen: &mut HashMap<Uuid, Busy>,
    ) -> sqlx::Result<()> {
        let names = jobs::kinds(lane.kinds.names());
        let (mut busy, mut after) = (running.in_lane(at), jobs::FIRST);
        for _ in 0..PAGES {
            if busy.len() >= lane.at_once {
                return Ok(());
            }
            let due = jobs::due(&mut self.readers.acquire().await?, &names, after, PAGE).await?;
            for one in &due {
                let Due { id, tenant, attempts, at_us } = *one;
                after = (at_us, id);
                let one = Busy { lane: at, tenant, is_doubtful: attempts > 0 };
                if lane.has_room_for(one, &busy) {
                    busy.push(one);
                    chosen.insert(id, one);
                }
            }
            if i64::try_from(due.len()).is_ok_and(|due| due < PAGE) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Has a job wait of each kind that is done by the clock: of those that wait already nothing is added.
    async fn begin(&self) -> Result<(), Problem> {
        let regular = self.lanes.iter().flat_map(|lane| lane.kinds.regular()).collect::<Vec<_>>();
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

    /// Claims what was chosen: of it another process may have had some meanwhile.
    async fn claim(&self, chosen: HashMap<Uuid, Busy>) -> Result<Claims, Problem> {
        let lasts = Duration::from_secs(self.config.lease_seconds);
        let ids: Vec<Uuid> = chosen.keys().copied().collect();
        // New with each claim: whoever had one of these before, in this process too, is somebody else.
        let (holder, asked) = (Uuid::now_v7(), Instant::now());
        let claim = self.committer.write(move |connection| {
            Box::pin(async move {
                let claimed = jobs::claim(connection, holder, &ids, lasts).await?;
                let mut given_up = Vec::new();
                for job in claimed.iter().filter(|job| is_used_up(job)) {
                    given_up.push((job.id, give_up(connection, job, holder, LOST).await?));
                }
                Ok((claimed, given_up))
            })
        });
        let (claimed, given_up) = claim.await?;
        let are_all = claimed.len() == chosen.len();
        let mut held = Vec::new();
        for job in claimed {
            if given_up.iter().any(|(id, _)| *id == job.id) {
                self.failed(&job, LOST);
                continue;
            }
            let attempt = Attempt { job: job.id, holder, number: job.attempts };
            let lease = Lease::new(self.committer.clone(), attempt, asked, lasts);
            if let Some(busy) = chosen.get(&job.id) {
                held.push((job, lease, *busy));
            }
        }
        Ok(Claims { claimed: held, are_all })
    }

    /// Has one done.
    async fn attempt(self: Arc<Self>, job: Job, lease: Lease, mut let_go: watch::Receiver<bool>) {
        let (id, attempt) = (job.id, job.attempts);
        let Some(kind) = self.kind(&job.kind) else { return };
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
        match lease.outcome() {
            Some(outcome) => {
                self.metrics.job(kind.name(), outcome);
                tracing::debug!(job = %id, kind = kind.name(), attempt, ?outcome, "a job has come to an end");
            }
            None => self.ended(&job, &lease, result).await,
        }
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
    schedule::wait(job.schedule.as_deref()?)
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
            Noted::Released => End::Later { after: Duration::ZERO },
        }
    }
}
