//! How many requests somebody may send: from an address, of an account, with a token, and changes of a zone. Each has a bucket of its
//! own for what is read, what is changed, and logging in; a request takes one of each of its buckets, or of none.
//!
//! - `bucket`: what a bucket is, and how somebody stands;
//! - `local`: buckets of this process;
//! - `shared`: buckets in Redis, in which all control planes count;
//! - `zones`: which zones a change is about;
//! - `headers`: how somebody is told.
//!
//! A request is counted for its address by this process before anything else is done for it, so that who is over that costs nothing.
//! Once it is known who asks, all of its buckets are asked for at once: one way to Redis and back. A change of records asks when its
//! body is read, as that says which zones it is about; what ends before is counted when it ends. While Redis is away or late, and where
//! there is none, this process counts alone: from what Redis last said, so never without a limit, and never against who has room.

mod bucket;
mod headers;
mod local;
mod shared;
mod zones;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use godwit_redis::Place;
use godwit_wire::feed::DigestKey;
use godwit_wire::name::Name;
use ring::hmac;

use crate::api::App;
use crate::api::client::Client;
use crate::api::server::client_of;
use crate::auth::{Caller, Scope};
use crate::config;
use crate::error::{Code, Problem};
use crate::model::change::Operation;
use crate::observe::metrics::Metrics;
use crate::stop::Stop;
use bucket::{Answer, Bucket, Key, Of, Pace};
use local::Local;
use shared::Shared;

pub(crate) use bucket::Standing;
pub(crate) use headers::HEADERS;

/// What a request does, as far as it counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    Reads,
    Writes,
    Logins,
}

/// See the module.
pub(crate) struct Rates {
    limits: config::Limits,
    /// What buckets are named with: nobody who sees Redis learns who asks.
    key: hmac::Key,
    local: Local,
    shared: Option<Arc<Shared>>,
    metrics: Metrics,
}

impl Rates {
    /// That this process counts alone.
    pub(crate) fn new(limits: config::Limits, digest_key: &DigestKey, metrics: Metrics) -> Rates {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &digest_key.0), b"godwit rate limits");
        Rates {
            limits,
            key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
            local: Local::default(),
            shared: None,
            metrics,
        }
    }

    /// The same, counted in Redis until it is time to stop.
    pub(crate) fn shared(mut self, place: Place, prefix: &str, stop: Stop) -> Rates {
        if self.limits.enabled {
            let timeout = Duration::from_millis(self.limits.redis_timeout_ms);
            let shared = Arc::new(Shared::new(prefix, timeout, self.metrics.clone()));
            tokio::spawn(shared.clone().keep(place, stop));
            self.shared = Some(shared);
        }
        self
    }

    /// Begins to count a request: for its address, by this process.
    fn begin(self: &Arc<Rates>, client: IpAddr, class: Class) -> Result<Charge, Standing> {
        let address = || self.bucket(Of::Address, class, client_of(client).to_string().as_bytes());
        let buckets: Vec<Bucket> = if self.limits.enabled { address().into_iter().collect() } else { vec![] };
        let answer = self.local.take(&buckets);
        if !answer.taken
            && let Some(standing) = Standing::of(&buckets, &answer)
        {
            self.refused(standing);
            return Err(standing);
        }
        let stage = if self.limits.enabled { Stage::Open } else { Stage::Over };
        let state = Counted { buckets, stage, standing: None };
        Ok(Charge { rates: self.clone(), class, state: Mutex::new(state) })
    }

    fn bucket(&self, of: Of, class: Class, name: &[u8]) -> Option<Bucket> {
        let limits = &self.limits;
        let (rate, tag) = match (of, class) {
            (Of::Address, Class::Reads) => (limits.address_reads, 0),
            (Of::Address, Class::Writes) => (limits.address_writes, 1),
            (Of::Address, Class::Logins) => (limits.address_logins, 2),
            (Of::Account, Class::Reads) => (limits.account_reads, 3),
            (Of::Account, _) => (limits.account_writes, 4),
            (Of::Token, Class::Reads) => (limits.token_reads, 5),
            (Of::Token, _) => (limits.token_writes, 6),
            (Of::Zone, _) => (limits.zone_writes, 7),
        };
        let pace = Pace::of(rate)?;
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[tag]);
        context.update(name);
        let mut key = Key::default();
        key.copy_from_slice(&context.sign().as_ref()[..16]);
        Some(Bucket { of, key, pace, takes: 1 })
    }

    /// Takes of all of them; gives them as they were asked for.
    async fn take(&self, buckets: &[Bucket]) -> (Vec<Bucket>, Answer) {
        if let Some(shared) = &self.shared
            && let Some(answer) = shared.take(buckets).await
        {
            let takes =
                |bucket: &Bucket| if answer.taken { bucket.takes * bucket.pace.interval_us } else { 0 };
            let missing = buckets.iter().zip(&answer.missing_us);
            let after: Vec<i64> = missing.map(|(bucket, missing_us)| missing_us + takes(bucket)).collect();
            self.local.note(buckets, &after);
            return (buckets.to_vec(), answer);
        }
        let buckets = of_this_process(buckets);
        let answer = self.local.take(&buckets);
        (buckets, answer)
    }

    fn refused(&self, standing: Standing) {
        if let Some(of) = standing.refused {
            self.metrics.limited(of.limit());
        }
    }
}

/// The same as this process counts them, which has counted for the address before.
fn of_this_process(buckets: &[Bucket]) -> Vec<Bucket> {
    let counted = |bucket: &Bucket| if bucket.of == Of::Address { bucket.taking(0) } else { *bucket };
    buckets.iter().map(counted).collect()
}

impl Standing {
    /// What who is refused is told.
    fn problem(&self) -> Option<Problem> {
        let (of, seconds) = (self.refused?, self.reset_s);
        let message = format!("too many requests {of}; try again in {seconds} s");
        Some(Problem::new(Code::RateLimited, message).after(u64::try_from(seconds).unwrap_or(1)))
    }
}

/// What one request is counted for.
pub(crate) struct Charge {
    rates: Arc<Rates>,
    class: Class,
    state: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    buckets: Vec<Bucket>,
    stage: Stage,
    standing: Option<Standing>,
}

/// How far a request is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// For its address alone, by this process alone.
    Open,
    /// For all that it is counted for, or for nothing.
    Over,
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge")
            .field("class", &self.class)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Charge {
    /// It is known who asks: what may be done without bounds is not counted.
    pub(crate) fn is_of(&self, caller: &Caller) {
        let mut state = self.state();
        if state.stage == Stage::Over {
            return;
        }
        let may_everything = caller.scopes.has(Scope::Admin) && caller.limits.is_empty();
        if may_everything && !self.rates.limits.operators {
            let back: Vec<Bucket> = state.buckets.drain(..).map(|bucket| bucket.taking(-1)).collect();
            self.rates.local.take(&back);
            state.stage = Stage::Over;
            return;
        }
        if caller.is_of_account() {
            state.buckets.extend(self.rates.bucket(Of::Account, self.class, caller.id.as_bytes()));
        }
        let token = caller.came_with().map_or_else(|| caller.id.clone(), |id| id.to_string());
        state.buckets.extend(self.rates.bucket(Of::Token, self.class, token.as_bytes()));
    }

    /// Refuses who has no room, as far as this process knows, and takes nothing: for what is counted later.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(crate) fn look(&self) -> Result<(), Problem> {
        let mut state = self.state();
        if state.stage == Stage::Over {
            return Ok(());
        }
        let buckets = of_this_process(&state.buckets);
        let answer = self.rates.local.look(&buckets);
        if answer.taken {
            return Ok(());
        }
        state.stage = Stage::Over;
        state.standing = Standing::of(&buckets, &answer);
        self.refuse(state.standing)
    }

    /// Counts it for all that it is counted for.
    ///
    /// # Errors
    /// `RATE_LIMITED`: it is counted for nothing.
    pub(crate) async fn take(&self) -> Result<(), Problem> {
        self.take_with(&[]).await
    }

    /// The same for a change, and for the zones that it is about, as far as who asks may change them.
    ///
    /// # Errors
    /// `RATE_LIMITED`: it is counted for nothing.
    pub(crate) async fn take_of_zones(
        &self,
        app: &App,
        operations: &[Operation],
        caller: &Caller,
    ) -> Result<(), Problem> {
        // Who is over what is counted by now does not have the database asked.
        self.look()?;
        if self.state().stage == Stage::Over {
            return Ok(());
        }
        let zones = match self.rates.limits.zone_writes.per_minute {
            0 => Vec::new(),
            _ => zones::of(app, operations, caller).await,
        };
        self.take_with(&zones).await
    }

    async fn take_with(&self, zones: &[Name]) -> Result<(), Problem> {
        let standing = self.charge(zones).await;
        self.refuse(standing)
    }

    async fn charge(&self, zones: &[Name]) -> Option<Standing> {
        let buckets = {
            let mut state = self.state();
            if state.stage == Stage::Over {
                return None;
            }
            state.stage = Stage::Over;
            let bucket = |zone: &Name| self.rates.bucket(Of::Zone, self.class, zone.as_ref().as_wire());
            state.buckets.extend(zones.iter().filter_map(bucket));
            state.buckets.clone()
        };
        let (buckets, answer) = self.rates.take(&buckets).await;
        let standing = Standing::of(&buckets, &answer);
        self.state().standing = standing;
        standing
    }

    fn refuse(&self, standing: Option<Standing>) -> Result<(), Problem> {
        let Some((standing, problem)) = standing.and_then(|standing| Some((standing, standing.problem()?)))
        else {
            return Ok(());
        };
        self.rates.refused(standing);
        Err(problem)
    }

    fn state(&self) -> MutexGuard<'_, Counted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts every request but probes, and says with every answer how somebody stands.
pub(crate) async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let Some(client) = request.extensions().get::<Client>().map(|client| client.0) else {
        return Problem::new(Code::Internal, "it is not known where this comes from").into_response();
    };
    if matches!(request.uri().path(), "/health" | "/ready") {
        return next.run(request).await;
    }
    let charge = match app.rates.begin(client, class_of(&request)) {
        Ok(charge) => Arc::new(charge),
        Err(standing) => return told(refusal(standing), Some(standing)),
    };
    if charge.class == Class::Logins
        && let Err(problem) = charge.take().await
    {
        return told(problem.into_response(), charge.state().standing);
    }
    request.extensions_mut().insert(charge.clone());
    let response = next.run(request).await;
    // Who was not let in, and what ended before it was known what it is about.
    charge.charge(&[]).await;
    let standing = charge.state().standing;
    told(response, standing)
}

fn refusal(standing: Standing) -> Response {
    let problem = standing.problem();
    problem.unwrap_or_else(|| Problem::new(Code::RateLimited, "too many requests; try again")).into_response()
}

fn told(mut response: Response, standing: Option<Standing>) -> Response {
    if let Some(standing) = standing {
        response.extensions_mut().insert(standing);
    }
    response
}

fn class_of(request: &Request) -> Class {
    let path = request.uri().path();
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        Class::Reads
    } else if path.starts_with("/api/v1/auth/") || path.starts_with("/account/") {
        Class::Logins
    } else {
        Class::Writes
    }
}
