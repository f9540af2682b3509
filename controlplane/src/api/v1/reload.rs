//! `/reload`: everything that is committed reaches the data planes now, and the caller learns when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::App;
use super::super::envelope::ErrorBody;
use crate::error::{Code, Problem};
use crate::store::{changes, zones};

/// How long the data plane gets.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How often the outbox is looked at while it empties.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What a reload found.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Reloaded {
    /// Zones that are served.
    pub zones: i64,
    /// Changes that the data plane did not serve before.
    pub changed: u64,
    /// The sequence that the data plane serves.
    pub version: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// Waits until the data plane serves all that is committed. Changes reach it by themselves: this only says when, and
/// fails where they do not.
#[utoipa::path(post, path = "/api/v1/reload", tag = "operation", responses(
    (status = 200, description = "All is served", body = Reloaded),
    (status = 422, description = "RELOAD_FAILED", body = ErrorBody),
))]
pub async fn reload(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let started = Instant::now();
    let failed = |message: &str| Problem::new(Code::ReloadFailed, message);
    let Some(progress) = &app.progress else {
        return Err(failed("no data plane is connected"));
    };
    let before = progress.position().sequence;
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    // The relay is never idle while the outbox has something; that it empties is what there is to wait for.
    let zones = loop {
        let mut connection = app.readers.acquire().await?;
        let unpublished = changes::unpublished_count(&mut connection).await?;
        if unpublished == 0 {
            break zones::count(&mut connection).await?;
        }
        drop(connection);
        if tokio::time::Instant::now() > deadline {
            return Err(failed("the relay has not published all changes in time; the log has the cause"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let mut connection = app.readers.acquire().await?;
    let target = changes::last_sequence(&mut connection).await?;
    if !progress.wait(deadline, |applied| applied.has(target)).await {
        return Err(failed("the data plane has not applied all changes in time; the log has the cause"));
    }
    let count = progress.position().quarantined.len();
    if count > 0 {
        let message =
            format!("the data plane keeps {count} zones in quarantine; GET /api/v1/nodes names them");
        return Err(failed(&message));
    }
    let version = progress.position().sequence;
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Json(Reloaded { zones, changed: version.saturating_sub(before), version, ms }).into_response())
}
