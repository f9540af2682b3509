//! Around every request: its id, the deadline, panics, the log line, the metric, and the form of errors.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use godwit_wire::presentation::Printable;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::whence::Asker;
use super::{App, deprecation};
use crate::error::{Code, Problem};
use crate::observe::metrics::Limit;
use crate::rates::Standing;
use crate::store::deadline;

/// Carries the request id, both ways.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The most characters of a request id that a caller brings along.
const MAX_REQUEST_ID: usize = 64;

/// The id of a request, in its extensions.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// The body of every error.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// A sentence for people.
    #[schema(example = "www.example.com. has no AAAA records")]
    pub error: String,
    /// For programs; stable.
    #[schema(example = "RECORD_NOT_FOUND")]
    pub code: String,
    /// Finds this request in the log.
    #[schema(example = "0199f3d2-7c1a-7d41-9e7b-3f0d5a1b2c3d")]
    pub request_id: String,
}

/// Only carries the problem outwards: [`around`] knows the request id and writes the body.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// See the module.
pub async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    // The deadline, less what it takes to say so.
    let answer_by = tokio::time::Instant::now() + app.request_timeout.mul_f32(0.9);
    let asker = Asker::default();
    request.extensions_mut().insert(asker.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is_docs = request.uri().path().starts_with("/docs");
    // The template, not the path: names of records stay out of logs and metrics.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let answering = deadline::until(answer_by, next.run(request));
    let answered = tokio::time::timeout(app.request_timeout, caught(answering)).await;
    let mut response = match answered {
        Ok(Some(response)) => response,
        Ok(None) => {
            app.metrics.panicked();
            tracing::error!(request_id = %id, %method, route, "a handler panicked");
            Problem::new(Code::Internal, "the request failed inside the server; the log has the cause")
                .into_response()
        }
        Err(_) => {
            app.metrics.limited(Limit::RequestTime);
            let message = "the request took too long; whether it was carried out is not known: ask, or send it again \
                           with the same Idempotency-Key";
            Problem::new(Code::Timeout, message).into_response()
        }
    };
    let standing = response.extensions_mut().remove::<Standing>();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        if let Some(limit) = problem.limit {
            app.metrics.limited(limit);
        }
        app.noted.refused(asker.who(&id), asker.is_outside(), method.as_str(), &path, &problem);
        // RFC 9110 §15.5.6: 405 says what is allowed.
        let allow = response.headers_mut().remove(ALLOW);
        response = with_body(&problem, &id);
        if let Some(allow) = allow {
            response.headers_mut().insert(ALLOW, allow);
        }
    }
    if let Some(standing) = standing {
        standing.write(response.headers_mut());
    }
    protect(response.headers_mut(), is_docs);
    deprecation::announce(&route, response.headers_mut());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    let status = response.status().as_u16();
    app.metrics.request(route.clone(), status);
    let elapsed_ms = started.elapsed().as_secs_f64() * 1_000.0;
    if route.starts_with("/internal/") {
        // Nodes ask again and again.
        tracing::debug!(request_id = %id, %method, route, status, elapsed_ms, "request");
    } else {
        tracing::info!(request_id = %id, %method, route, status, elapsed_ms, "request");
    }
    response
}

/// What a browser may do with an answer: the pages at `/docs` run their own scripts and nothing else, other pages say it
/// themselves, everything else is data that is no page, in no frame, and not kept. Which other origins may read it says [`super::cors`].
fn protect(headers: &mut HeaderMap, is_docs: bool) {
    let policy = if is_docs {
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    } else {
        "default-src 'none'; frame-ancestors 'none'"
    };
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(policy));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if !is_docs {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

fn with_body(problem: &Problem, id: &str) -> Response {
    let body = ErrorBody {
        // It may quote what was sent; whoever shows it to people may show it as it is.
        error: Printable(&problem.message).to_string(),
        code: problem.code.as_str().to_owned(),
        request_id: id.to_owned(),
    };
    let mut response = (problem.code.status(), Json(body)).into_response();
    match problem.code.status() {
        StatusCode::UNAUTHORIZED => {
            let challenge = HeaderValue::from_static("Bearer realm=\"godwit\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        // RFC 9110 §10.2.3, RFC 6585 §4.
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(problem.retry_after_s));
        }
        _ => {}
    }
    response
}

/// The answer to a request that is not let in as far as [`around`].
pub(super) fn alone(problem: &Problem) -> Response {
    let id = Uuid::now_v7().to_string();
    let mut response = with_body(problem, &id);
    protect(response.headers_mut(), false);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    response
}

/// The caller's id when it is harmless, else a new one.
fn request_id(request: &Request) -> String {
    let safe = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
    request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(safe))
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// The result of a future, or `None` when it panicked.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = Box::pin(work);
    std::future::poll_fn(|context| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(poll) => poll.map(Some),
            Err(_) => std::task::Poll::Ready(None),
        }
    })
    .await
}
