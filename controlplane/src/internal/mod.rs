//! Data planes on other machines: the listener that they ask, and what is known of them.
//!
//! A data plane was added by the operator ([`join`]) and shows its token with every request. What it is given is signed, as
//! everywhere outside this process; what it says of itself ([`position`]) is believed as far as it goes: it tells callers of
//! the API who serves a change, and decides nothing.
//!
//! - [`tls`]: who the listener is, to those that were told;
//! - [`feed`]: head, batches, index, zones;
//! - [`position`]: where a node says that it stands;
//! - [`nodes`]: what every node last said;
//! - [`planes`]: all data planes that live, that of the same process with them;
//! - [`exchange`]: what the control planes of one database tell each other of all this;
//! - [`join`]: what a node has to be told to join.

pub(crate) mod exchange;
pub(crate) mod feed;
pub(crate) mod join;
pub(crate) mod nodes;
pub(crate) mod planes;
mod position;
pub(crate) mod tls;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use godwit_wire::name::Name;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::api::client::{self, Access};
use crate::api::{App, admission, envelope};
use crate::auth::{self, Remembered, Token};
use crate::error::{Code, Problem};
use crate::relay::feed::Feed;
use crate::store;
use crate::validate::name;

/// What the handlers work with.
pub(crate) struct Internal {
    app: Arc<App>,
    feed: Feed,
    /// Tokens that were found good a moment ago.
    remembered: Remembered<Caller>,
    /// A permit for each request that may be in flight.
    in_flight: Arc<Semaphore>,
    large: feed::Large,
    /// The ways to the feed besides this listener.
    ways: feed::Ways,
}

/// The node that asks.
#[derive(Clone, Debug)]
struct Caller {
    id: Uuid,
    name: String,
    /// The latest feed key that it was known to trust a moment ago.
    last_key: Vec<u8>,
}

impl Internal {
    /// `feed` is one that signs.
    pub(crate) fn new(app: Arc<App>, feed: Feed, max_requests: usize, ways: feed::Ways) -> Arc<Internal> {
        Arc::new(Internal {
            app,
            feed,
            remembered: Remembered::default(),
            in_flight: Arc::new(Semaphore::new(max_requests)),
            large: feed::Large::default(),
            ways,
        })
    }

    /// Who holds this token.
    async fn holder(&self, token: &str) -> Result<Caller, Problem> {
        let unknown = || Problem::new(Code::Unauthenticated, "the token is that of no node");
        let hash = Token::parse(token).ok_or_else(unknown)?.hash();
        if let Some(caller) = self.remembered.get(&hash) {
            return Ok(caller);
        }
        let mut connection = self.app.readers.acquire().await?;
        let holder = store::nodes::by_hash(&mut connection, &hash.0).await?.ok_or_else(unknown)?;
        // The index has found it by its octets already; equality is decided here, in constant time.
        if !bool::from(holder.token_hash.ct_eq(&hash.0)) {
            return Err(unknown());
        }
        if holder.removed {
            return Err(Problem::new(Code::TokenRevoked, "the node was removed"));
        }
        let caller = Caller { id: holder.id, name: holder.name, last_key: holder.last_key };
        self.remembered.keep(hash, caller.clone());
        Ok(caller)
    }
}

/// All of the listener.
pub(crate) fn router(internal: Arc<Internal>, access: Access) -> Router {
    let app = internal.app.clone();
    Router::new()
        .route("/internal/v1/feed", get(feed::ways))
        .route("/internal/v1/head", get(feed::head))
        .route("/internal/v1/batches", get(feed::batches))
        .route("/internal/v1/index", get(feed::index))
        .route("/internal/v1/difference", post(feed::difference))
        .route("/internal/v1/zones", post(feed::zones))
        .route("/internal/v1/position", post(position::report))
        .route_layer(middleware::from_fn_with_state(internal.clone(), authenticate))
        .with_state(internal.clone())
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::MethodNotAllowed, "this method is not allowed here")
        })
        .fallback(|| async { Problem::new(Code::NotFound, "there is nothing at this path") })
        .layer(middleware::from_fn_with_state(internal, limit))
        .layer(middleware::from_fn_with_state(Arc::new(access), client::within))
        .layer(middleware::from_fn_with_state(app, envelope::around))
}

/// An apex as nodes write it, with whatever octets: they escape less than people have to.
fn apex(text: &str) -> Result<Name, Problem> {
    // Errors quote no more than a sentence takes.
    text.parse().or_else(|_| name::absolute(text))
}

/// Lets nobody in but nodes that were added and not removed.
async fn authenticate(
    State(internal): State<Arc<Internal>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(token) = auth::bearer(request.headers()) else {
        return Err(Problem::new(Code::Unauthenticated, "this needs the token of a node"));
    };
    let caller = internal.holder(token).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

async fn limit(State(internal): State<Arc<Internal>>, request: Request, next: Next) -> Response {
    admission::within(&internal.in_flight, &internal.app.metrics, request, next).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::shown;

    #[test]
    fn whatever_an_apex_is_it_is_read_as_it_is_written() {
        for octet in 0..=u8::MAX {
            let mut wire = vec![3, b'a', octet.to_ascii_lowercase(), b'b', 4];
            wire.extend_from_slice(b"test\0");
            let name = Name::from_wire(&wire).unwrap();
            assert_eq!(apex(&name.to_string()).as_ref(), Ok(&name), "{octet}: {name}");
            assert_eq!(apex(&shown(name.as_ref())).as_ref(), Ok(&name), "{octet}: {name}");
        }
        assert_eq!(apex(".").unwrap(), Name::root());
        assert!(apex("a..b").is_err() && apex("").is_err());
    }
}
