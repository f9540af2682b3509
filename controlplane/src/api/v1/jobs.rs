//! `/jobs`: what is done outside of requests, and having it tried again or not at all.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::App;
use super::super::cursor::{self, Page};
use super::super::envelope::ErrorBody;
use super::super::read::{Params, Segment};
use super::super::write::{self, Empty, Write, json_bodies};
use super::timestamp;
use crate::error::{Code, Problem};
use crate::mail::{MAIL_TEST, Recipient};
use crate::store::batch::Batch;
use crate::store::{audit, jobs};

/// A job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// What it is about.
    #[schema(example = "mail.test")]
    pub kind: String,
    /// `waiting` for its time or for a worker, `running`, `done`, `failed` (given up until it is retried), `cancelled`.
    #[schema(example = "waiting")]
    pub state: &'static str,
    /// For which account it is; null for what is nobody's.
    pub account: Option<String>,
    /// For which tenant it is; null for what is nobody's.
    pub tenant: Option<u32>,
    /// What it was added with.
    #[schema(value_type = Object)]
    pub payload: serde_json::Value,
    /// The cron pattern, in UTC, by whose next time it waits again when it ended.
    pub schedule: Option<String>,
    /// Attempts so far, the present one included.
    pub attempts: i64,
    /// After so many it is given up.
    pub max_attempts: i64,
    /// What the last attempt failed at.
    pub last_error: Option<String>,
    /// Before that it is not begun, or was not.
    pub run_at: String,
    /// When it was added.
    pub created_at: String,
    /// When it ended.
    pub finished_at: Option<String>,
}

impl From<jobs::Job> for Job {
    fn from(job: jobs::Job) -> Job {
        Job {
            id: job.id.to_string(),
            kind: job.kind,
            state: job.state.as_str(),
            account: job.account.map(|account| account.to_string()),
            tenant: job.tenant,
            payload: serde_json::from_str(&job.payload).unwrap_or_default(),
            schedule: job.schedule,
            // One more means that nobody is left to make it.
            attempts: job.attempts.min(job.max_attempts),
            max_attempts: job.max_attempts,
            last_error: job.last_error,
            run_at: timestamp(job.run_at_us),
            created_at: timestamp(job.created_at_us),
            finished_at: job.finished_at_us.map(timestamp),
        }
    }
}

/// Which jobs are listed.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobParams {
    /// Those in this state alone.
    pub state: Option<String>,
    /// Those of this kind alone.
    pub kind: Option<String>,
    /// Items of a page: 1 to 1000, 100 when left out.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// To whom a message is sent that says nothing.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MailTest {
    /// An address.
    #[schema(example = "hostmaster@example.net")]
    pub to: String,
}

json_bodies!(MailTest: write::SMALL);

/// The most octets of an address (RFC 5321 §4.5.3.1.3).
const MAX_ADDRESS: usize = 254;

/// Lists jobs, the latest first.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "operation", params(JobParams), responses(
    (status = 200, description = "A page of them", body = Page<Job>),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    Params(params): Params<JobParams>,
) -> Result<Response, Problem> {
    let limit = cursor::limit(params.limit)?;
    let unknown = || {
        let message = "\"state\": expected waiting, running, done, failed or cancelled";
        Problem::new(Code::MalformedRequest, message)
    };
    let state =
        params.state.as_deref().map(|state| jobs::State::parse(state).ok_or_else(unknown)).transpose()?;
    let before = cursor::before(params.cursor.as_deref())?;
    let filter = jobs::Filter { state, kind: params.kind.as_deref(), account: None };
    let mut connection = app.readers.acquire().await?;
    let found = jobs::list(&mut connection, filter, before, limit + 1).await?;
    drop(connection);
    Ok(Json(cursor::by_id(found, limit, |row| row.id, Job::from)).into_response())
}

/// A job.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "operation", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 200, description = "As it is", body = Job),
    (status = 404, description = "JOB_NOT_FOUND", body = ErrorBody),
))]
pub async fn look_up(State(app): State<Arc<App>>, Segment(id): Segment) -> Result<Response, Problem> {
    let id = read(&id)?;
    let mut connection = app.readers.acquire().await?;
    let job = jobs::by_id(&mut connection, id).await?.ok_or_else(unknown)?;
    Ok(Json(Job::from(job)).into_response())
}

/// Ends a job that waits or runs. What a running one has done so far stays done.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "operation", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 200, description = "Cancelled", body = Job),
    (status = 404, description = "JOB_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: it has ended already", body = ErrorBody),
))]
pub async fn cancel(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    write: Write<Empty>,
) -> Result<Response, Problem> {
    let (id, who) = (read(&id)?, write.by()?);
    let cancelled = app.committer.write(move |connection| {
        Box::pin(async move {
            if !jobs::cancel(connection, id).await? {
                jobs::by_id(connection, id).await?.ok_or_else(unknown)?;
                return Err(Problem::new(Code::Conflict, "the job has ended already"));
            }
            audit::note(connection, &who, "job.cancel", &id.to_string()).await?;
            jobs::by_id(connection, id).await?.ok_or_else(unknown)
        })
    });
    let cancelled = cancelled.await?;
    app.jobs.doubt();
    Ok(Json(Job::from(cancelled)).into_response())
}

/// Has a job that was given up tried again, at once and with all its attempts.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/retry", tag = "operation", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 200, description = "It waits", body = Job),
    (status = 404, description = "JOB_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: it was not given up, or another one is about the same", body = ErrorBody),
))]
pub async fn retry(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    write: Write<Empty>,
) -> Result<Response, Problem> {
    let (id, who) = (read(&id)?, write.by()?);
    let waiting = app.committer.write(move |connection| {
        Box::pin(async move {
            if !jobs::retry(connection, id).await? {
                let job = jobs::by_id(connection, id).await?.ok_or_else(unknown)?;
                let message = match job.state {
                    jobs::State::Failed => "another job that is about the same waits or runs",
                    _ => "the job was not given up",
                };
                return Err(Problem::new(Code::Conflict, message));
            }
            audit::note(connection, &who, "job.retry", &id.to_string()).await?;
            jobs::by_id(connection, id).await?.ok_or_else(unknown)
        })
    });
    let waiting = waiting.await?;
    app.jobs.wake();
    Ok(Json(Job::from(waiting)).into_response())
}

/// Has a message sent that says nothing, to see whether mail arrives; the answer is the job that does it.
#[utoipa::path(post, path = "/api/v1/mail/test", tag = "operation", request_body = MailTest, responses(
    (status = 202, description = "To be sent", body = Job),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub async fn mail_test(State(app): State<Arc<App>>, write: Write<MailTest>) -> Result<Response, Problem> {
    let who = write.by()?;
    let to = write.body.to;
    if to.len() > MAX_ADDRESS {
        let message = format!("\"to\": expected an address of at most {MAX_ADDRESS} octets");
        return Err(Problem::new(Code::InvalidValue, message));
    }
    let no_form = |_| Problem::new(Code::Internal, "the job cannot be written down");
    let new = jobs::New { max_attempts: 3, ..jobs::New::of(MAIL_TEST, &Recipient { to }).map_err(no_form)? };
    let added = app.committer.write(move |connection| {
        Box::pin(async move {
            let mut batch = Batch::of(connection);
            let id = jobs::enqueue(&mut batch, &new);
            audit::insert(&mut batch, &audit::Entry::done(&who, "mail.test", &id.to_string()));
            batch.run(connection).await?;
            jobs::by_id(connection, id).await?.ok_or_else(unknown)
        })
    });
    let added = added.await?;
    app.jobs.wake();
    Ok((StatusCode::ACCEPTED, Json(Job::from(added))).into_response())
}

fn read(id: &str) -> Result<Uuid, Problem> {
    id.parse().map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::new(Code::JobNotFound, "there is no such job, or it ended too long ago")
}
