//! Whether this program lives, and whether it can do its work. Open to everybody, as probes have no token.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::read::Params;
use crate::error::{Cause, Problem};

/// The body of both.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, `buffering` or `unavailable`.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// What is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

pub(super) fn routes(app: Arc<App>) -> Router {
    Router::new().route("/health", get(health)).route("/ready", get(ready)).with_state(app)
}

/// The process lives.
pub(super) async fn health() -> Response {
    Json(Health { status: "ok", reason: None }).into_response()
}

/// Query parameters of `/ready`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct ReadyParams {
    /// Whether it is enough that writes are accepted.
    #[serde(default)]
    buffer: bool,
}

/// The database answers, and changes can be made; or, for who says so, they are accepted.
pub(super) async fn ready(
    State(app): State<Arc<App>>,
    Params(params): Params<ReadyParams>,
) -> Result<Response, Problem> {
    if params.buffer && app.buffer.as_ref().is_some_and(|buffer| buffer.is_away() && buffer.has_room()) {
        return Ok(Json(Health { status: "buffering", reason: None }).into_response());
    }
    Ok(without_buffer(&app).await)
}

async fn without_buffer(app: &App) -> Response {
    if !app.committer.is_open() {
        tracing::error!("not ready: the writer has ended");
        return unavailable("no change can be made; the log has the cause");
    }
    let asked = async {
        let mut connection = app.readers.acquire().await?;
        crate::store::zones::by_name(&mut connection, godwit_wire::name::NameRef::ROOT).await
    };
    match asked.await {
        Ok(_) => Json(Health { status: "ok", reason: None }).into_response(),
        Err(error) => {
            if let Some(buffer) = app.buffer.as_ref().filter(|_| Cause::of(&error) == Cause::Away) {
                buffer.found_away();
            }
            tracing::warn!(%error, "not ready");
            unavailable("the database does not answer")
        }
    }
}

fn unavailable(reason: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "unavailable", reason: Some(reason) }))
        .into_response()
}
