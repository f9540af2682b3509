//! HTTP in, HTTP out: no SQL, no rules.
//!
//! A request passes, in this order: the limits of its connection in [`server`], [`envelope::around`] (request id, metrics,
//! log, panics, deadline), [`admission`] (how many at once), `authenticate`, its handler in `v1/`. Whatever goes wrong is a [`Problem`], which `envelope` turns into
//! `{"error", "code", "request_id"}`.

pub mod admission;
pub mod cursor;
pub mod envelope;
pub mod health;
pub mod openapi;
pub mod read;
mod served;
pub mod server;
pub mod v1;
pub mod write;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::sync::Semaphore;

use godwit_wire::name::Name;

use crate::auth::Authenticator;
use crate::commit::Committer;
use crate::error::{Code, Problem};
use crate::observe::metrics::Metrics;
use crate::relay::progress::Progress;
use crate::store::Pool;
use admission::BodyRoom;

/// What handlers work with.
pub struct App {
    /// The way to change something.
    pub committer: Committer,
    /// The way to look something up.
    pub readers: Pool,
    /// The way to read a zone for longer than others can wait.
    pub exports: Pool,
    /// How far changes have come; `None` without a data plane.
    pub progress: Option<Arc<Progress>>,
    /// Counters.
    pub metrics: Metrics,
    /// Knows tokens.
    pub authenticator: Authenticator,
    /// How long a request may take until its answer begins.
    pub request_timeout: Duration,
    /// Of which its body may take so long to come.
    pub body_timeout: Duration,
    /// How long an export may take, slow reader included.
    pub export_timeout: Duration,
    /// A permit for each request that may be in flight.
    pub in_flight: Arc<Semaphore>,
    /// Room for bodies.
    pub body_room: BodyRoom,
    /// Name servers of new zones.
    pub default_ns: Vec<Name>,
}

/// What every handler is given.
pub type Shared = State<Arc<App>>;

/// The whole API.
pub fn router(app: Arc<App>) -> Router {
    let (protected, description) = openapi::routes(app.clone()).split_for_parts();
    let protected = protected
        .merge(v1::records::aliases(app.clone()))
        .route_layer(middleware::from_fn_with_state(app.clone(), authenticate));
    Router::new()
        .merge(protected)
        .merge(health::routes(app.clone()))
        .merge(openapi::pages(description))
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::MethodNotAllowed, "this method is not allowed here; see /docs")
        })
        .fallback(|| async { Problem::new(Code::NotFound, "there is nothing at this path; see /docs") })
        .layer(middleware::from_fn_with_state(app.clone(), admission::limit))
        .layer(middleware::from_fn_with_state(app, envelope::around))
}

/// Lets nobody in without a token.
async fn authenticate(State(app): Shared, mut request: Request, next: Next) -> Result<Response, Problem> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    // The scheme's case does not matter (RFC 9110 §11.1).
    let token = header
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let Some(token) = token else {
        let message = "this needs a token: send \"Authorization: Bearer gw_…\"";
        return Err(Problem::new(Code::Unauthenticated, message));
    };
    let caller = app.authenticator.authenticate(&app.readers, token).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}
