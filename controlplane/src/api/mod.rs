//! HTTP in, HTTP out: no SQL, no rules.
//!
//! A request passes, in this order: the limits of its connection in [`server`], `cors` where it comes from a page of another
//! origin, [`envelope::around`] (request id, metrics, log, panics, deadline), `client` (from where), [`admission`] (how many at once), `rates` (how often), `authenticate`, its handler in `v1/`. Whatever goes wrong is a [`Problem`], which `envelope` turns into
//! `{"error", "code", "request_id"}`.

pub mod admission;
pub(crate) mod asked;
pub mod buffered;
pub(crate) mod client;
mod compression;
pub(crate) mod cors;
pub mod cursor;
mod deprecation;
mod described;
mod dry_run;
pub mod envelope;
pub mod health;
pub mod openapi;
mod pieces;
pub mod read;
mod served;
pub mod server;
pub mod v1;
pub(crate) mod whence;
pub mod write;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Extensions, Method};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::sync::Semaphore;

use godwit_wire::name::Name;

use crate::accounts::Accounts;
use crate::audit::noted::Noted;
use crate::auth::{self, Authenticator, Caller, Scope, Scopes, cookie};
use crate::buffer::Buffer;
use crate::commit::Committer;
use crate::error::{Code, Problem};
use crate::events::Hub;
use crate::events::latest::Latest;
use crate::internal::join::Join;
use crate::internal::planes::Planes;
use crate::jobs;
use crate::names::claims::Claims;
use crate::names::suffixes::Suffixes;
use crate::observe::metrics::Metrics;
use crate::places::Places;
use crate::rates::{self, Charge, Rates};
use crate::relay::log::Log;
use crate::relay::progress::Publications;
use crate::secrets::Vault;
use crate::stop::Stop;
use crate::store::{Pool, Views};
use crate::tenants::Tenants;
use crate::web;
use crate::webhooks::Webhooks;
use admission::BodyRoom;
use client::Access;
use server::certificate::Certificates;

/// What handlers work with.
pub struct App {
    /// The way to change something.
    pub committer: Committer,
    /// What takes writes while the database is away; `None` where nothing does.
    pub(crate) buffer: Option<Arc<Buffer>>,
    /// The way to look something up.
    pub readers: Pool,
    /// The way to look something up that not everybody sees.
    pub(crate) views: Views,
    /// What is published.
    pub(crate) log: Arc<Log>,
    /// Which changes were published a moment ago.
    pub publications: Arc<Publications>,
    /// Tells what happens.
    pub(crate) hub: Arc<Hub>,
    /// A place for each who listens, by account.
    pub(crate) listeners: Arc<Places<String>>,
    /// A place for each of whom it is not known yet who they are, by client.
    pub(crate) unknown: Arc<Places<IpAddr>>,
    /// Jobs as they are, for who listens.
    pub(crate) latest: Latest,
    /// Becomes true when it is time to stop.
    pub(crate) stop: Stop,
    /// Who serves what is published.
    pub planes: Planes,
    /// What nodes are told to join; `None` where they cannot ask.
    pub join: Option<Join>,
    /// What the API shows of itself; `None` without TLS.
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// Secrets.
    pub(crate) vault: Arc<Vault>,
    /// Counters.
    pub metrics: Metrics,
    /// Knows tokens.
    pub(crate) authenticator: Arc<Authenticator>,
    /// What changes nothing and is in the audit log all the same.
    pub(crate) noted: Noted,
    /// People.
    pub(crate) accounts: Accounts,
    /// Who owns zones.
    pub(crate) tenants: Tenants,
    /// Below which zones tenants take names.
    pub(crate) suffixes: Suffixes,
    /// Which names they prove to be theirs.
    pub(crate) claims: Claims,
    /// Who is told what happens.
    pub(crate) webhooks: Webhooks,
    /// How the API is reached.
    pub(crate) public_url: Arc<str>,
    /// Whose pages may speak to it beside its own.
    pub(crate) origins: Vec<String>,
    /// Who may ask, and which proxies are believed.
    pub(crate) access: Arc<Access>,
    /// How many requests somebody may send.
    pub(crate) rates: Arc<Rates>,
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
    /// Who does what is to be done outside of requests.
    pub jobs: jobs::Handle,
    /// Name servers of new zones.
    pub default_ns: Vec<Name>,
}

/// What every handler is given.
pub type Shared = State<Arc<App>>;

/// The whole API.
pub fn router(app: Arc<App>) -> Router {
    let authenticated = || middleware::from_fn_with_state(app.clone(), authenticate);
    let scoped = openapi::routes(app.clone()).route_layer(middleware::from_fn(within_scope));
    let aliases = v1::records::aliases(app.clone()).route_layer(middleware::from_fn(within_scope));
    let compressed = || middleware::from_fn(compression::around);
    let api = scoped
        .merge(openapi::of_people(app.clone()))
        .route_layer(middleware::map_response(compression::ended))
        .route_layer(compression::layer())
        .route_layer(compressed())
        .route_layer(authenticated())
        .merge(openapi::of_strangers(app.clone()));
    let aliases = aliases.route_layer(compression::layer()).route_layer(compressed());
    let (api, mut description) = api.split_for_parts();
    described::complete(&mut description);
    let origins = cors::layer(&app.origins);
    let router = Router::new()
        .merge(api)
        .merge(aliases.route_layer(authenticated()))
        .merge(health::routes(app.clone()))
        .merge(web::links::routes(app.clone()))
        .merge(openapi::pages(description))
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::MethodNotAllowed, "this method is not allowed here; see /docs")
        })
        .fallback(|| async { Problem::new(Code::NotFound, "there is nothing at this path; see /docs") })
        .layer(middleware::from_fn_with_state(app.clone(), rates::around))
        .layer(middleware::from_fn_with_state(app.clone(), admission::limit))
        .layer(middleware::from_fn_with_state(app.access.clone(), client::within))
        .layer(middleware::from_fn_with_state(app, envelope::around));
    // Outermost: an error has to say who may read it, too.
    match origins {
        Some(origins) => router.layer(origins),
        None => router,
    }
}

/// Lets in who has the scope that a route takes.
async fn within_scope(request: Request, next: Next) -> Result<Response, Problem> {
    let caller = request.extensions().get::<Caller>();
    let caller = caller.ok_or_else(|| Problem::new(Code::Unauthenticated, "this needs a token"))?;
    let scope = scope_of(&request);
    caller.scopes.require(scope)?;
    if matches!(scope, Scope::Admin | Scope::AuditRead) {
        caller.limits.allow_everything()?;
    }
    Ok(next.run(request).await)
}

/// The scope that a route takes; whatever is not named here takes all of them.
fn scope_of(request: &Request) -> Scope {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let below = |prefix: &str| {
        route.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if below("/api/v1/records") || below("/api/v1/dns-records") || below("/api/v1/changes") {
        if is_read { Scope::RecordsRead } else { Scope::RecordsWrite }
    } else if below("/api/v1/domains") {
        if is_read { Scope::DomainsRead } else { Scope::DomainsWrite }
    } else if below("/api/v1/audit") {
        Scope::AuditRead
    } else {
        Scope::Admin
    }
}

/// The same for requests that were let in before and are read again.
pub(crate) fn replayed(app: Arc<App>) -> Router {
    let (routes, _) = openapi::routes(app.clone()).split_for_parts();
    routes.merge(v1::records::aliases(app))
}

/// Lets nobody in without a token.
async fn authenticate(State(app): Shared, mut request: Request, next: Next) -> Result<Response, Problem> {
    // No name, id or word of ours has it; a database may not take it in a text.
    let asked = request.uri().path_and_query().map_or("", |target| target.as_str());
    if asked.contains("%00") {
        return Err(Problem::new(
            Code::MalformedRequest,
            "a zero octet (%00) is in no path and no parameter",
        ));
    }
    let caller = match (auth::bearer(request.headers()), cookie::value(request.headers())) {
        (Some(token), _) => match buffered::takes(&app, &request) {
            Some(buffer) => buffered::authenticate(&app, buffer, token).await?,
            None => app.authenticator.authenticate(&app.readers, token).await?,
        },
        (None, Some(value)) => {
            let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
            if !is_read && !cookie::is_from_here(request.headers(), &app.public_url) {
                let message = "a cookie changes something from our own pages alone";
                return Err(Problem::new(Code::Forbidden, message));
            }
            app.authenticator.of_cookie(&app.readers, Some(&app.committer), value).await?
        }
        (None, None) => {
            let message = "this needs a token: send \"Authorization: Bearer …\"";
            return Err(Problem::new(Code::Unauthenticated, message));
        }
    };
    let caller = let_in(&app, request.extensions(), caller, buffered::is_change(&request)).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Lets somebody in who is known, as what they are from where they are, and counts what they do. `is_change`: it is counted once its
/// body says which zones it is about.
///
/// # Errors
/// `FORBIDDEN`, `INSUFFICIENT_SCOPE`, `RATE_LIMITED`, `TOKEN_REVOKED`, or the database's.
async fn let_in(
    app: &Arc<App>,
    extensions: &Extensions,
    caller: Caller,
    is_change: bool,
) -> Result<Caller, Problem> {
    let who = whence::who(extensions, &caller);
    if let Some(asker) = extensions.get::<whence::Asker>() {
        asker.is(&who);
    }
    let peer = whence::client(extensions);
    if !peer.is_some_and(|peer| caller.limits.allows_from(peer)) {
        return Err(Problem::new(
            Code::Forbidden,
            "this token is not good from where the request comes from",
        ));
    }
    if let Some(charge) = extensions.get::<Arc<Charge>>() {
        charge.is_of(&caller);
        if is_change { charge.look()? } else { charge.take().await? }
    }
    if caller.spends {
        // Where there is nothing that it may, nothing is used up.
        if caller.scopes == Scopes::NONE {
            return Err(Problem::new(Code::InsufficientScope, "the token may do nothing"));
        }
        app.accounts.spends(&caller)?;
        app.authenticator.spend(&app.committer, &caller).await?;
    }
    if caller.login.is_none() {
        app.noted.used(&who);
    }
    Ok(Caller { access: caller.access.asking_from(peer), ..caller })
}
