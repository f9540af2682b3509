//! What of the API goes on while the database is away: writes of records and zones, and looking up what became of them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::write::{CHANGE, REPLAYED};
use crate::auth::Caller;
use crate::buffer::Buffer;
use crate::buffer::entry::{Entry, Head, Key};
use crate::error::{Cause, Problem};
use crate::model::change::Idempotency;
use crate::store::audit::Who;
use crate::store::now_us;

/// What a path begins with whose writes the buffer takes. Nodes, users, keys and tokens are not among them: what they are given
/// is made once, and known to nobody before.
const TAKEN: &[&str] = &["/api/v1/records", "/api/v1/dns-records", "/api/v1/domains", "/api/v1/changes"];
/// What a path begins with that is read without the database.
const READ: &str = "/api/v1/changes";

/// The answer to a write that was accepted and is not made yet.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// What its change is called: `GET /changes/{id}`.
    pub id: String,
    /// Always `buffered`.
    #[schema(example = "buffered")]
    pub state: &'static str,
}

/// The buffer, where it has to do with a request.
pub(super) fn takes<'a>(app: &'a App, request: &Request) -> Option<&'a Arc<Buffer>> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_taken = is_change(request) || is_read && is_below(request, READ);
    app.buffer.as_ref().filter(|_| is_taken)
}

/// Whether a request is to change records or zones.
pub(super) fn is_change(request: &Request) -> bool {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    !is_read && TAKEN.iter().any(|prefix| is_below(request, prefix))
}

fn is_below(request: &Request, prefix: &str) -> bool {
    let rest = request.uri().path().strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Who holds a token: by the database, or from memory where that is away.
///
/// # Errors
/// As of the database's word, which it is where memory has none.
pub(super) async fn authenticate(app: &App, buffer: &Buffer, token: &str) -> Result<Caller, Problem> {
    let remembered = || app.authenticator.remembered(token, buffer.tokens_for());
    if buffer.is_away()
        && let Some(caller) = remembered()
    {
        return Ok(caller);
    }
    match app.authenticator.authenticate(&app.readers, token).await {
        Err(problem) if problem.cause == Cause::Away => {
            buffer.found_away();
            remembered().ok_or(problem)
        }
        known => known,
    }
}

/// What the buffer keeps of a write.
pub(super) fn entry(
    change: Uuid,
    caller: &Caller,
    who: &Who,
    parts: &Parts,
    idempotency: Option<&Idempotency>,
    body: Bytes,
) -> Entry {
    let text = |value: &HeaderValue| value.to_str().ok().map(ToOwned::to_owned);
    // A tag that is no text matches no version: it becomes one that matches none either.
    let tags = |value: &HeaderValue| text(value).unwrap_or_else(|| "\"\"".to_owned());
    let head = Head {
        change,
        accepted_at_us: now_us(),
        caller: caller.id.clone(),
        narrowed: caller.limits.narrowed().clone(),
        came_with: caller.came_with(),
        client: who.client,
        brought: who.came_with.clone(),
        request_id: who.request_id.clone(),
        method: parts.method.as_str().to_owned(),
        target: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        content_type: parts.headers.get(CONTENT_TYPE).and_then(text),
        if_match: parts.headers.get_all(IF_MATCH).iter().map(tags).collect(),
        key: idempotency.map(|given| Key { key: given.key.clone(), request_hash: given.request_hash }),
    };
    Entry { head, body }
}

/// 202; `again`: the same was accepted before, under the same key.
pub(super) fn accepted(change: Uuid, again: bool) -> Response {
    let body = Accepted { id: change.to_string(), state: "buffered" };
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&change.to_string()) {
        headers.insert(CHANGE.clone(), value);
    }
    if again {
        headers.insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    }
    response
}
