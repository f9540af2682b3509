//! `jobs`: work that is done outside of the request that causes it. How it is done is decided in `jobs/`.
//!
//! A job that runs is held by a lease: by whom (new with each claim), in which attempt, and until when, by the clock of the
//! database. Whoever has lost it changes nothing any more: every statement that ends or prolongs an attempt names holder and
//! attempt.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::batch::Batch;
use super::{Connection, Kind, Row, damaged};

/// Attempts where nothing else is said.
pub const MAX_ATTEMPTS: u32 = 12;

macro_rules! columns {
    () => {
        "jobs.id, jobs.kind, jobs.account_id, jobs.tenant, jobs.payload, jobs.once, jobs.schedule, jobs.state, jobs.run_at_us, jobs.attempts, jobs.max_attempts, jobs.last_error, jobs.created_at_us, jobs.finished_at_us"
    };
}

/// Of a list of kinds, each between commas, whether it has that of a row.
macro_rules! known {
    ($kinds:literal) => {
        concat!("replace(", $kinds, ", ',' || kind || ',', '') <> ", $kinds)
    };
}

macro_rules! held {
    () => {
        "id = $1 AND state = 'running' AND holder = $2 AND attempts = $3"
    };
}

const BY_ID: &str = concat!("SELECT ", columns!(), " FROM jobs WHERE id = $1");
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM jobs WHERE id < $1 AND (state = $2 OR $2 IS NULL) AND (kind = $3 OR $3 IS NULL) AND (account_id = $4 OR $4 IS NULL) ORDER BY id DESC LIMIT $5"
);
const LIST_STATE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM jobs WHERE state = $2 AND id < $1 AND (kind = $3 OR $3 IS NULL) AND (account_id = $4 OR $4 IS NULL) ORDER BY id DESC LIMIT $5"
);
const COUNT: &str = "SELECT count(*) FROM jobs WHERE state = $1";
const PRUNE: &str = "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE finished_at_us < $1 AND finished_at_us IS NOT NULL ORDER BY finished_at_us LIMIT $2)";
const NEXT_OF: &str = "SELECT once, run_at_us FROM jobs WHERE state IN ('waiting', 'running') AND kind = $1 AND replace($2, ',' || once || ',', '') <> $2";
const TAKE_FROM_ALL: &str = "UPDATE jobs SET lease_until_us = 0 WHERE state = 'running'";
const MAKE_ROOM: &str = "UPDATE jobs SET once = NULL WHERE id = $1 AND schedule IS NULL";

/// Every statement of this file that both get.
pub const ALL: &[&str] = &[BY_ID, LIST, LIST_STATE, COUNT, PRUNE, NEXT_OF, TAKE_FROM_ALL, MAKE_ROOM];

/// The statements that ask for the time, which each database does in its own way.
struct Timed {
    enqueue: &'static str,
    due: &'static str,
    claim: &'static str,
    renew: &'static str,
    done: &'static str,
    failed: &'static str,
    again: &'static str,
    later: &'static str,
    next: &'static str,
    cancel: &'static str,
    hurry: &'static str,
    hurry_of_tenant: &'static str,
    retry: &'static str,
}

/// `$now`: microseconds since the epoch; `$ids`: the rows of a list in JSON; `$unheld`: leaves out what another transaction is about to
/// claim, without waiting for it.
macro_rules! timed {
    ($now:literal, $ids:literal, $unheld:literal) => {
        Timed {
            // Where one with the same `once` is not ended, nothing is added.
            enqueue: concat!(
                "INSERT INTO jobs (id, kind, account_id, tenant, payload, once, schedule, state, run_at_us, attempts, max_attempts, created_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, 'waiting', ",
                $now,
                " + $8, 0, $9, ",
                $now,
                ") ON CONFLICT (once) WHERE once IS NOT NULL AND state IN ('waiting', 'running') DO NOTHING"
            ),
            // Those whose worker is gone, and those whose time has come, by the time since when they could be claimed.
            due: concat!(
                "SELECT * FROM (SELECT id, tenant, attempts, lease_until_us AS at_us FROM jobs WHERE state = 'running' AND lease_until_us <= ",
                $now,
                " AND (lease_until_us, id) > ($2, $3) AND ",
                known!("$1"),
                " ORDER BY lease_until_us, id LIMIT $4) AS lost UNION ALL SELECT * FROM (SELECT id, tenant, attempts, run_at_us AS at_us FROM jobs WHERE state = 'waiting' AND run_at_us <= ",
                $now,
                " AND (run_at_us, id) > ($2, $3) AND ",
                known!("$1"),
                " ORDER BY run_at_us, id LIMIT $4) AS waiting ORDER BY at_us, id LIMIT $4"
            ),
            claim: concat!(
                "WITH due AS MATERIALIZED (SELECT id AS due_id FROM jobs WHERE id IN (SELECT ",
                $ids,
                ") AND (state = 'waiting' AND run_at_us <= ",
                $now,
                " OR state = 'running' AND lease_until_us <= ",
                $now,
                ")",
                $unheld,
                ") UPDATE jobs SET state = 'running', attempts = attempts + 1, holder = $1, lease_until_us = ",
                $now,
                " + $2 FROM due WHERE jobs.id = due.due_id RETURNING ",
                columns!()
            ),
            renew: concat!("UPDATE jobs SET lease_until_us = ", $now, " + $4 WHERE ", held!()),
            done: concat!(
                "UPDATE jobs SET state = 'done', holder = NULL, lease_until_us = NULL, last_error = NULL, finished_at_us = ",
                $now,
                " WHERE ",
                held!()
            ),
            failed: concat!(
                "UPDATE jobs SET state = 'failed', holder = NULL, lease_until_us = NULL, last_error = $4, finished_at_us = ",
                $now,
                " WHERE ",
                held!()
            ),
            again: concat!(
                "UPDATE jobs SET state = 'waiting', holder = NULL, lease_until_us = NULL, last_error = $4, run_at_us = ",
                $now,
                " + $5 WHERE ",
                held!()
            ),
            later: concat!(
                "UPDATE jobs SET state = 'waiting', attempts = attempts - 1, holder = NULL, lease_until_us = NULL, run_at_us = ",
                $now,
                " + $4 WHERE ",
                held!()
            ),
            next: concat!(
                "UPDATE jobs SET state = 'waiting', attempts = 0, holder = NULL, lease_until_us = NULL, last_error = $4, run_at_us = ",
                $now,
                " + $5 WHERE ",
                held!()
            ),
            cancel: concat!(
                "UPDATE jobs SET state = 'cancelled', holder = NULL, lease_until_us = NULL, finished_at_us = ",
                $now,
                " WHERE id = $1 AND state IN ('waiting', 'running')"
            ),
            hurry: concat!(
                "UPDATE jobs SET run_at_us = ",
                $now,
                " WHERE once = $1 AND state = 'waiting' AND run_at_us > ",
                $now
            ),
            hurry_of_tenant: concat!(
                "UPDATE jobs SET run_at_us = ",
                $now,
                " WHERE tenant = $1 AND state = 'waiting' AND run_at_us > ",
                $now
            ),
            retry: concat!(
                "UPDATE jobs SET state = 'waiting', attempts = 0, finished_at_us = NULL, run_at_us = ",
                $now,
                " WHERE id = $1 AND state = 'failed' AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.once = jobs.once AND other.once IS NOT NULL AND other.state IN ('waiting', 'running'))"
            ),
        }
    };
}

/// One process writes to the file: nobody else can be about to claim.
const SQLITE: Timed =
    timed!("CAST(unixepoch('subsec') * 1000000 AS INTEGER)", "unhex(value) FROM json_each($3)", "");
const POSTGRES: Timed = timed!(
    "(extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT",
    "value::UUID FROM json_array_elements_text($3::JSON)",
    " FOR UPDATE SKIP LOCKED"
);

/// Statements of this file that one of them gets.
pub(super) const SQLITE_ONLY: &[&str] = &SQLITE.all();
pub(super) const POSTGRES_ONLY: &[&str] = &POSTGRES.all();

impl Timed {
    const fn of(kind: Kind) -> &'static Timed {
        match kind {
            Kind::Sqlite => &SQLITE,
            Kind::Postgres => &POSTGRES,
        }
    }

    const fn all(&self) -> [&'static str; 13] {
        let Timed { enqueue, due, claim, renew, done, failed, again, later, next, cancel, .. } = *self;
        let Timed { hurry, hurry_of_tenant, retry, .. } = *self;
        [enqueue, due, claim, renew, done, failed, again, later, next, cancel, hurry, hurry_of_tenant, retry]
    }
}

/// What becomes of a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// For its time, or for a worker.
    Waiting,
    /// A worker has it.
    Running,
    /// It was done.
    Done,
    /// It was given up.
    Failed,
    /// Somebody did not want it any more.
    Cancelled,
}

impl State {
    /// Every one.
    pub const ALL: &[State] = &[State::Waiting, State::Running, State::Done, State::Failed, State::Cancelled];

    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Running => "running",
            State::Done => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    /// Reads [`State::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<State> {
        State::ALL.iter().copied().find(|state| state.as_str() == text)
    }
}

/// A job to be added.
#[derive(Clone, Debug)]
pub struct New {
    /// Which kind does it.
    pub kind: &'static str,
    /// For whom it is.
    pub account: Option<Uuid>,
    /// For which tenant it is.
    pub tenant: Option<u32>,
    /// JSON of at most 64 KiB, without secrets.
    pub payload: String,
    /// Where a job with the same text is not ended yet, this one is not added.
    pub once: Option<String>,
    /// When it ended, it waits again for the next time of this pattern.
    pub schedule: Option<String>,
    /// Not before so much time has passed.
    pub after: Duration,
    /// So many attempts, then it is given up.
    pub max_attempts: u32,
}

impl New {
    /// One that is to be done now, once.
    ///
    /// # Errors
    /// When the payload has no form in JSON.
    pub fn of(kind: &'static str, payload: &impl serde::Serialize) -> serde_json::Result<New> {
        Ok(New::plain(kind, serde_json::to_string(payload)?))
    }

    /// The same with a payload that is JSON already.
    #[must_use]
    pub fn plain(kind: &'static str, payload: String) -> New {
        New {
            kind,
            account: None,
            tenant: None,
            payload,
            once: None,
            schedule: None,
            after: Duration::ZERO,
            max_attempts: MAX_ATTEMPTS,
        }
    }
}

/// A job as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Job {
    /// Names it; those made later have greater ones.
    pub id: Uuid,
    /// Which kind does it.
    pub kind: String,
    /// For whom it is.
    pub account: Option<Uuid>,
    /// For which tenant it is.
    pub tenant: Option<u32>,
    /// JSON.
    pub payload: String,
    /// See [`New::once`].
    pub once: Option<String>,
    /// See [`New::schedule`].
    pub schedule: Option<String>,
    /// What became of it.
    pub state: State,
    /// Not before.
    pub run_at_us: i64,
    /// Attempts so far, the present one included.
    pub attempts: i64,
    /// At most.
    pub max_attempts: i64,
    /// What the last attempt failed at.
    pub last_error: Option<String>,
    /// When it was added.
    pub created_at_us: i64,
    /// When it ended.
    pub finished_at_us: Option<i64>,
}

/// An attempt that somebody holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// The job.
    pub job: Uuid,
    /// Who claimed it.
    pub holder: Uuid,
    /// Which one.
    pub number: i64,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// It is done.
    Done,
    /// It failed, and the job is given up.
    Failed {
        /// At what.
        error: &'a str,
    },
    /// It failed, and another one follows.
    Again {
        /// At what.
        error: &'a str,
        /// Not before.
        after: Duration,
    },
    /// As if it had not been tried: it was not brought to an end, or is not to be now.
    Later {
        /// Not before.
        after: Duration,
    },
    /// The job waits for the next time of its schedule, or goes on then.
    Next {
        /// At what it failed.
        error: Option<&'a str>,
        /// Until then.
        after: Duration,
    },
}

/// Which jobs are listed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// In this state.
    pub state: Option<State>,
    /// Of this kind.
    pub kind: Option<&'a str>,
    /// For this account.
    pub account: Option<Uuid>,
}

/// Adds a job, where none with the same `once` is not ended yet; gives what it is called then.
pub fn enqueue(batch: &mut Batch, new: &New) -> Uuid {
    let id = Uuid::now_v7();
    let values = batch.add(Timed::of(batch.kind()).enqueue).bind(id).bind(new.kind).bind(new.account);
    let values = values.bind(new.tenant.map(i64::from));
    let values = values.bind(new.payload.as_str()).bind(new.once.as_deref()).bind(new.schedule.as_deref());
    values.bind(us(new.after)).bind(i64::from(new.max_attempts.max(1)));
    id
}

/// A job that can be claimed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Due {
    /// Names it.
    pub id: Uuid,
    /// For which tenant it is.
    pub tenant: Option<u32>,
    /// Attempts so far.
    pub attempts: i64,
    /// Since when it could be.
    pub at_us: i64,
}

/// Before every job that is due: see [`due`].
pub const FIRST: (i64, Uuid) = (i64::MIN, Uuid::nil());

/// Up to `limit` jobs of these [`kinds`] that can be claimed, behind one, those that could be for longest first. Of those whose worker is
/// gone some may have no attempt left.
///
/// # Errors
/// Of the database.
pub async fn due(
    connection: &mut Connection,
    kinds: &str,
    after: (i64, Uuid),
    limit: i64,
) -> sqlx::Result<Vec<Due>> {
    let due = Timed::of(connection.kind()).due;
    let query = connection.query(due).bind(kinds).bind(after.0).bind(after.1).bind(limit);
    let read = |row: &Row| {
        Ok(Due {
            id: row.get("id")?,
            tenant: tenant(row)?,
            attempts: row.get("attempts")?,
            at_us: row.get("at_us")?,
        })
    };
    query.fetch_all().await?.iter().map(read).collect()
}

/// Kinds as [`due`] takes them.
pub fn kinds<'k>(names: impl IntoIterator<Item = &'k str>) -> String {
    names.into_iter().fold(",".to_owned(), |all, name| all + name + ",")
}

/// Gives a holder those of these jobs that can still be claimed.
///
/// # Errors
/// Of the database.
pub async fn claim(
    connection: &mut Connection,
    holder: Uuid,
    ids: &[Uuid],
    lease: Duration,
) -> sqlx::Result<Vec<Job>> {
    let claim = Timed::of(connection.kind()).claim;
    let ids: Vec<String> = ids.iter().map(|id| format!("\"{}\"", id.simple())).collect();
    let query = connection.query(claim).bind(holder).bind(us(lease)).bind(format!("[{}]", ids.join(",")));
    query.fetch_all().await?.iter().map(read).collect()
}

/// Prolongs a lease; whether it was still held.
///
/// # Errors
/// Of the database.
pub async fn renew(connection: &mut Connection, attempt: Attempt, lease: Duration) -> sqlx::Result<bool> {
    let renew = Timed::of(connection.kind()).renew;
    let query = connection.query(renew).bind(attempt.job).bind(attempt.holder).bind(attempt.number);
    Ok(query.bind(us(lease)).execute().await? > 0)
}

/// Ends an attempt; whether its lease was still held: otherwise nothing was changed.
///
/// # Errors
/// Of the database.
pub async fn end(connection: &mut Connection, attempt: Attempt, end: End<'_>) -> sqlx::Result<bool> {
    let timed = Timed::of(connection.kind());
    let statement = match end {
        End::Done => timed.done,
        End::Failed { .. } => timed.failed,
        End::Again { .. } => timed.again,
        End::Later { .. } => timed.later,
        End::Next { .. } => timed.next,
    };
    let query = connection.query(statement).bind(attempt.job).bind(attempt.holder).bind(attempt.number);
    let query = match end {
        End::Done => query,
        End::Failed { error } => query.bind(error),
        End::Again { error, after } => query.bind(error).bind(us(after)),
        End::Later { after } => query.bind(us(after)),
        End::Next { error, after } => query.bind(error).bind(us(after)),
    };
    Ok(query.execute().await? > 0)
}

/// Ends a job that waits or runs, whoever holds it; whether there was one.
///
/// # Errors
/// Of the database.
pub async fn cancel(connection: &mut Connection, id: Uuid) -> sqlx::Result<bool> {
    let cancel = Timed::of(connection.kind()).cancel;
    Ok(connection.query(cancel).bind(id).execute().await? > 0)
}

/// Has the job of this [`New::once`] done now, where it waits for a later time.
///
/// # Errors
/// Of the database.
pub(crate) async fn hurry(connection: &mut Connection, once: &str) -> sqlx::Result<()> {
    let hurry = Timed::of(connection.kind()).hurry;
    connection.query(hurry).bind(once).execute().await.map(|_| ())
}

/// The same with all that are for a tenant.
///
/// # Errors
/// Of the database.
pub(crate) async fn hurry_of_tenant(connection: &mut Connection, tenant: u32) -> sqlx::Result<()> {
    let hurry = Timed::of(connection.kind()).hurry_of_tenant;
    connection.query(hurry).bind(i64::from(tenant)).execute().await.map(|_| ())
}

/// When those of a list of [`New::once`] are done that wait or run.
///
/// # Errors
/// Of the database.
pub(crate) async fn next_of(
    connection: &mut Connection,
    kind: &str,
    once: &[String],
) -> sqlx::Result<HashMap<String, i64>> {
    let list = once.iter().fold(",".to_owned(), |all, once| all + once + ",");
    let rows = connection.query(NEXT_OF).bind(kind).bind(list).fetch_all().await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Has a job that was given up tried again, with all its attempts; whether there was one, and none that stands in its way.
///
/// # Errors
/// Of the database.
pub async fn retry(connection: &mut Connection, id: Uuid) -> sqlx::Result<bool> {
    let retry = Timed::of(connection.kind()).retry;
    Ok(connection.query(retry).bind(id).execute().await? > 0)
}

/// Up to `limit` jobs that were made before another one, the latest first.
///
/// # Errors
/// Of the database.
pub async fn list(
    connection: &mut Connection,
    filter: Filter<'_>,
    before: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Job>> {
    let list = if filter.state.is_some() { LIST_STATE } else { LIST };
    let query = connection.query(list).bind(before).bind(filter.state.map(State::as_str));
    let rows = query.bind(filter.kind).bind(filter.account).bind(limit).fetch_all().await?;
    rows.iter().map(read).collect()
}

/// A job.
///
/// # Errors
/// Of the database.
pub async fn by_id(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<Job>> {
    connection.query(BY_ID).bind(id).fetch_optional().await?.as_ref().map(read).transpose()
}

/// How many are in a state.
///
/// # Errors
/// Of the database.
pub async fn count(connection: &mut Connection, state: State) -> sqlx::Result<i64> {
    connection.query(COUNT).bind(state.as_str()).fetch_value().await
}

/// Ends every lease, so that jobs that run are claimed at once: for a process that has just got the database for itself.
///
/// # Errors
/// Of the database.
pub(crate) async fn take_from_all(connection: &mut Connection) -> sqlx::Result<()> {
    connection.query(TAKE_FROM_ALL).execute().await.map(|_| ())
}

/// Lets others with the same `once` be added beside one that has begun and has no schedule: what they are about may be behind what this
/// one still looks at.
///
/// # Errors
/// Of the database.
pub(crate) async fn make_room(connection: &mut Connection, id: Uuid) -> sqlx::Result<()> {
    connection.query(MAKE_ROOM).bind(id).execute().await.map(|_| ())
}

/// Forgets jobs that ended before a time, at most `limit` at once. Gives how many.
///
/// # Errors
/// Of the database.
pub async fn prune(connection: &mut Connection, before_us: i64, limit: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(before_us).bind(limit).execute().await
}

fn read(row: &Row) -> sqlx::Result<Job> {
    Ok(Job {
        id: row.get("id")?,
        kind: row.get("kind")?,
        account: row.get("account_id")?,
        tenant: tenant(row)?,
        payload: row.get("payload")?,
        once: row.get("once")?,
        schedule: row.get("schedule")?,
        state: State::parse(row.get("state")?).ok_or_else(|| damaged("jobs", "state"))?,
        run_at_us: row.get("run_at_us")?,
        attempts: row.get("attempts")?,
        max_attempts: row.get("max_attempts")?,
        last_error: row.get("last_error")?,
        created_at_us: row.get("created_at_us")?,
        finished_at_us: row.get("finished_at_us")?,
    })
}

fn tenant(row: &Row) -> sqlx::Result<Option<u32>> {
    let tenant = row.get::<Option<i64>, _>("tenant")?.map(u32::try_from).transpose();
    tenant.map_err(|_| damaged("jobs", "tenant"))
}

fn us(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests;
