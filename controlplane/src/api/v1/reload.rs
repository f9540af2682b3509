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
use crate::store::{changes, relay, zones};

/// How long data planes get.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How often the outbox is looked at while it empties.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What a reload found.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Reloaded {
    /// Zones that are served.
    pub zones: i64,
    /// Changes that not every data plane served before.
    pub changed: u64,
    /// The sequence that every data plane serves.
    pub version: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// Reads the API's certificate again, and waits until every data plane that lives serves all that is committed. Changes reach it by themselves: this only says when, and
/// fails where they do not.
#[utoipa::path(post, path = "/api/v1/reload", tag = "operation", responses(
    (status = 200, description = "All is served", body = Reloaded),
    (status = 422, description = "RELOAD_FAILED", body = ErrorBody),
))]
pub async fn reload(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let started = Instant::now();
    let failed = |message: &str| Problem::new(Code::ReloadFailed, message);
    if let Some(certificates) = &app.certificates {
        certificates
            .look()
            .map_err(|error| failed(&format!("{error:#}; the certificate of before is shown")))?;
    }
    let planes = &app.planes;
    // What every one of them has.
    let lowest = || planes.live().iter().map(|plane| plane.applied.sequence).min();
    let Some(before) = lowest() else {
        return Err(failed("no data plane is connected"));
    };
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    let mut connection = app.readers.acquire().await?;
    let committed = changes::last_unsequenced(&mut connection).await?;
    drop(connection);
    // The relay is never idle while the outbox has something: what there is now gets its sequence.
    let (zones, target) = loop {
        let mut connection = app.readers.acquire().await?;
        if changes::unsequenced_up_to(&mut connection, committed).await? == 0 {
            let state = relay::read(&mut connection).await?.unwrap_or_default();
            break (zones::count(&mut connection).await?, state.sequence);
        }
        drop(connection);
        if tokio::time::Instant::now() > deadline {
            return Err(failed("the relay has not published all changes in time; the log has the cause"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let mut watch = planes.watch();
    let live = loop {
        let live = planes.live();
        let Some(late) = live.iter().find(|plane| !planes.has(plane, target)) else { break live };
        if tokio::time::Instant::now() >= deadline {
            let message = format!(
                "data plane {} has not applied all changes in time; the log has the cause",
                late.name
            );
            return Err(failed(&message));
        }
        watch.changed(deadline).await;
    };
    if let Some(plane) = live.iter().find(|plane| !plane.applied.quarantined.is_empty()) {
        let count = plane.applied.quarantined.len();
        let message = format!(
            "data plane {} keeps {count} zones in quarantine; GET /api/v1/nodes names them",
            plane.name
        );
        return Err(failed(&message));
    }
    let version = lowest().unwrap_or(target);
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Json(Reloaded { zones, changed: version.saturating_sub(before), version, ms }).into_response())
}
