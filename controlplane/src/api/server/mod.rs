//! The listener: connections, their limits, and how they end.
//!
//! - `certificate`, `validity`: what the API shows of itself inside TLS, and another one when its files have changed;
//! - `clients`: how many connections there are, in all and for each client;
//! - `multiplexed`: a connection of HTTP/2;
//! - `patient`: a connection whose peer has to read what it asked for;
//! - `transport`: with TLS or without.
//!
//! How long a header may take to come, how long it may be, and how long a connection may stay idle between requests is
//! hyper's business; what a request may take is that of [`super::admission`].

pub(crate) mod certificate;
mod clients;
mod multiplexed;
mod patient;
mod transport;
mod validity;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::envelope;
use crate::error::{Code, Problem};
use crate::observe::metrics::{Limit, Metrics};
use clients::Clients;
pub(crate) use clients::client_of;
use patient::Patient;
pub use transport::Transport;

/// What hyper holds of one connection, each way, beside a header that is longer.
const BUFFER_OCTETS: usize = 64 << 10;
/// Connections over a limit that are told so at once; more are closed without a word.
const REFUSALS: usize = 64;
/// How long one of them gets to ask and to read the answer.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted: out of descriptors, mostly, which passes when connections end.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long connections that are cut at the end get to let go of what they hold.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Limits of the listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Of which one client may have so many.
    pub connections_per_client: usize,
    /// The longest header of a request, its first line included.
    pub header_octets: usize,
    /// How long a connection may be open, or idle after an answer, until a whole header has come.
    pub header_timeout: Duration,
    /// How long an answer may wait for a client that does not read.
    pub write_timeout: Duration,
    /// The slowest that a client may read, in octets a second, once its answer has to wait for it.
    pub read_octets_per_s: u32,
    /// How long open requests get to end after a stop was asked for.
    pub drain_timeout: Duration,
}

/// Serves until `stop` resolves, then lets open requests end, and cuts those that do not.
pub async fn serve(
    listener: TcpListener,
    transport: Transport,
    router: Router,
    limits: Limits,
    metrics: Metrics,
    stop: impl Future<Output = ()>,
) {
    let clients = Clients::new(limits.connections, limits.connections_per_client);
    let (cut, _) = watch::channel(());
    let (stopping, _) = watch::channel(());
    let refusal = Refusal::new(&limits);
    let (http, http2) = (http(&limits), multiplexed::http(&limits));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer): (TcpStream, SocketAddr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::select! {
                    () = &mut stop => break,
                    () = tokio::time::sleep(ACCEPT_AGAIN) => continue,
                }
            }
        };
        let place = match clients.admit(peer.ip()) {
            Ok(place) => place,
            Err(limit) => {
                metrics.limited(limit);
                // To say it inside TLS would cost as much as to let it in.
                if matches!(transport, Transport::Plain) {
                    refusal.tell(stream);
                }
                continue;
            }
        };
        // An answer is one small segment: waiting for more would only delay it.
        let _ = stream.set_nodelay(true);
        let stream = Patient::new(stream, &limits, metrics.clone(), place);
        let has_begun = stream.has_begun();
        let service = TowerToHyperService::new(router.clone());
        let service = move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            service.call(request)
        };
        let (http, http2) = (http.clone(), http2.clone());
        let transport = transport.clone();
        let (metrics, mut cut, mut stopping) = (metrics.clone(), cut.subscribe(), stopping.subscribe());
        tokio::spawn(async move {
            let begun = tokio::select! {
                begun = transport.begin(stream, &metrics) => begun,
                _ = stopping.changed() => return,
            };
            let stream = match begun {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection did not begin");
                    return;
                }
            };
            if stream.is_multiplexed() {
                multiplexed::serve(stream, &http2, &limits, &metrics, service, stopping, cut).await;
                return;
            }
            let connection = http.serve_connection(TokioIo::new(stream), service_fn(service));
            // What becomes a WebSocket goes on without this, and ends by itself.
            let mut connection = std::pin::pin!(connection.with_upgrades());
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = stopping.changed() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection => ended,
                        _ = cut.changed() => return,
                    }
                }
            };
            let Err(error) = ended else { return };
            if error.is_parse_too_large() {
                metrics.limited(Limit::HeaderOctets);
            } else if error.is_timeout() && has_begun.load(Ordering::Relaxed) {
                metrics.limited(Limit::HeaderTime);
            }
            tracing::debug!(%error, "a connection ended early");
        });
    }
    drop((listener, stopping));
    // Each connection holds a receiver until it ends, or becomes a WebSocket.
    if tokio::time::timeout(limits.drain_timeout, cut.closed()).await.is_err() {
        tracing::warn!("requests were still open when the time to end them was over");
    }
    drop(cut);
    if tokio::time::timeout(CUT_TIMEOUT, clients.gone()).await.is_err() {
        tracing::warn!("connections did not end when they were cut");
    }
}

fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.header_octets)
        .max_buf_size(BUFFER_OCTETS)
        // Who has closed their side is gone, and nobody needs the answer: it cannot be told from one who would still read.
        .half_close(false);
    http
}

/// What a connection over a limit hears.
struct Refusal {
    turns: Arc<Semaphore>,
    http: http1::Builder,
    router: Router,
}

impl Refusal {
    fn new(limits: &Limits) -> Refusal {
        let mut http = http(&Limits { header_timeout: REFUSAL_TIMEOUT, ..*limits });
        http.keep_alive(false);
        let answer = || async {
            envelope::alone(&Problem::new(
                Code::RateLimited,
                "too many connections are open; try again later",
            ))
        };
        Refusal { turns: Arc::new(Semaphore::new(REFUSALS)), http, router: Router::new().fallback(answer) }
    }

    fn tell(&self, stream: TcpStream) {
        let Ok(turn) = self.turns.clone().try_acquire_owned() else { return };
        let service = TowerToHyperService::new(self.router.clone());
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            let _turn = turn;
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, connection).await;
        });
    }
}
