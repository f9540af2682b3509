//! A connection of HTTP/2 (RFC 9113): many requests at once, so the limits that a connection has are counted here.
//!
//! Beside what the library is told ([`http`]): whoever gives up request after request is cut off, in whichever way it is done;
//! so is whoever keeps an answer waiting until its last octet is written, which is no matter of the socket here but of
//! windows; and a connection without a request comes to its end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use hyper::Request;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::pieces::Pieces;
use super::Limits;
use super::patient::Patience;
use super::transport::Stream;
use crate::observe::metrics::{Limit, Metrics};

/// Requests at once.
const STREAMS: u32 = 100;
/// Requests that were given up before they were looked at, and errors of the client's that cost us one, before the connection
/// is ended.
const UNSEEN_RESETS: usize = 20;
const CAUSED_RESETS: usize = 100;
/// Requests that were given up while they were answered: so many at once, and so many a second.
const RESETS: u32 = 100;
const RESETS_PER_S: u32 = 10;
/// What a client may send ahead: of one request, and of all of its connection.
const WINDOW_OCTETS: u32 = 64 << 10;
const CONNECTION_WINDOW_OCTETS: u32 = 256 << 10;
/// What of an answer waits in the connection.
const BUFFER_OCTETS: usize = 64 << 10;
/// An answer is handed over in pieces of at most so many.
const PIECE_OCTETS: usize = 8 << 10;
/// How often it is looked who keeps something waiting.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the library is told.
pub(super) fn http(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.header_octets).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(CAUSED_RESETS)
        .initial_stream_window_size(WINDOW_OCTETS)
        .initial_connection_window_size(CONNECTION_WINDOW_OCTETS)
        .max_send_buf_size(BUFFER_OCTETS);
    http
}

/// Serves a connection until it ends, it is time to stop, or `cut` says now.
pub(super) async fn serve<S>(
    stream: Stream,
    http: &http2::Builder<TokioExecutor>,
    limits: &Limits,
    metrics: &Metrics,
    service: impl Fn(Request<Incoming>) -> S,
    mut stopping: watch::Receiver<()>,
    mut cut: watch::Receiver<()>,
) where
    S: Future<Output = Result<Response, Infallible>> + Send + 'static,
{
    let requests = Arc::new(Requests::new(limits));
    let counted = service_fn(|request: Request<Incoming>| {
        let (open, answering) = (Open::new(&requests), service(request));
        async move { answering.await.map(|response| response.map(|body| Answer::new(body, open))) }
    });
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), counted));
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // When it is cut where it has not ended by itself.
    let mut until: Option<Instant> = None;
    let mut is_stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection of HTTP/2 ended early");
                }
                return;
            }
            _ = cut.changed() => return,
            _ = stopping.changed(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = look.tick() => match requests.judge(limits) {
                Judged::Good => {}
                Judged::Idle => match until {
                    None => {
                        connection.as_mut().graceful_shutdown();
                        until = Some(Instant::now() + limits.header_timeout);
                    }
                    Some(until) if Instant::now() >= until => return,
                    Some(_) => {}
                },
                Judged::Over(limit) => {
                    metrics.limited(limit);
                    return;
                }
            },
        }
    }
}

/// The requests of one connection.
struct Requests {
    state: Mutex<State>,
    /// With an answer of which nothing was kept waiting so far.
    fresh: Patience,
    piece_octets: usize,
}

struct State {
    /// Those that are not answered to the end.
    open: HashMap<u64, Waiting>,
    next: u64,
    /// Since when there is none.
    idle_since: Instant,
    /// Those that may be given up still, and when that was worked out.
    resets_left: f64,
    resets_at: Instant,
}

/// How an answer stands with its client.
struct Waiting {
    /// With who keeps it waiting.
    patience: Patience,
    /// Pieces that were handed over and are not written yet.
    pieces: usize,
    /// Since when the oldest of them is waited for.
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Judged {
    Good,
    /// It has had no request for so long that it may go.
    Idle,
    Over(Limit),
}

impl Requests {
    fn new(limits: &Limits) -> Requests {
        let now = Instant::now();
        let state = State {
            open: HashMap::new(),
            next: 0,
            idle_since: now,
            resets_left: f64::from(RESETS),
            resets_at: now,
        };
        // Who reads just as fast as is asked has read one in half of the time that there is.
        let read = limits.write_timeout.as_millis() * u128::from(limits.read_octets_per_s) / 2_000;
        let piece_octets = usize::try_from(read).unwrap_or(PIECE_OCTETS).clamp(1, PIECE_OCTETS);
        Requests { state: Mutex::new(state), fresh: Patience::new(limits), piece_octets }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, limits: &Limits) -> Judged {
        let (state, now) = (self.state(), Instant::now());
        let waits_too_long = |waiting: &Waiting| {
            waiting.since.is_some_and(|since| waiting.patience.is_over(now.duration_since(since)))
        };
        if state.resets_left < 0.0 {
            Judged::Over(Limit::Resets)
        } else if state.open.values().any(waits_too_long) {
            Judged::Over(Limit::WriteTime)
        } else if state.open.is_empty() && now.duration_since(state.idle_since) > limits.header_timeout {
            Judged::Idle
        } else {
            Judged::Good
        }
    }
}

/// A request that is not answered to the end: until the last piece of its answer is written.
struct Open {
    requests: Arc<Requests>,
    number: u64,
    /// What the answer holds, as its place among those in flight, when nothing of it is to be handed over any more. It is let
    /// go of where the library writes, under a lock of its own, so an answer holds nothing of the connection, as the
    /// body of its request.
    ended: Mutex<Option<Pieces>>,
}

impl Open {
    fn new(requests: &Arc<Requests>) -> Open {
        let mut state = requests.state();
        let number = state.next;
        state.next += 1;
        state.open.insert(number, Waiting { patience: requests.fresh, pieces: 0, since: None });
        Open { requests: requests.clone(), number, ended: Mutex::default() }
    }

    /// A piece was handed over: the client has the next turn.
    fn hands_over(&self) {
        if let Some(waiting) = self.requests.state().open.get_mut(&self.number) {
            waiting.pieces += 1;
            waiting.since.get_or_insert_with(Instant::now);
        }
    }

    /// A piece was written, or given up with its request.
    fn has_written(&self, octets: usize) {
        if let Some(waiting) = self.requests.state().open.get_mut(&self.number) {
            let now = Instant::now();
            waiting.pieces = waiting.pieces.saturating_sub(1);
            let since = std::mem::replace(&mut waiting.since, (waiting.pieces > 0).then_some(now));
            waiting.patience.after(since.map_or(Duration::ZERO, |since| now.duration_since(since)), octets);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let (mut state, now) = (self.requests.state(), Instant::now());
        state.open.remove(&self.number);
        if state.open.is_empty() {
            state.idle_since = now;
        }
        if self.ended.get_mut().unwrap_or_else(PoisonError::into_inner).is_none() {
            let earned = now.duration_since(state.resets_at).as_secs_f64() * f64::from(RESETS_PER_S);
            state.resets_left = (state.resets_left + earned).min(f64::from(RESETS)) - 1.0;
            state.resets_at = now;
        }
    }
}

/// A piece of an answer, which the library keeps until there is a window for it and it is written. That is where an answer
/// waits for its client: the library takes the last piece of one as soon as there is room for a single octet, and lets go of
/// its body.
struct Piece {
    octets: Bytes,
    open: Arc<Open>,
}

impl Piece {
    fn hand_over(octets: Bytes, open: &Arc<Open>) -> Bytes {
        open.hands_over();
        Bytes::from_owner(Piece { octets, open: open.clone() })
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.open.has_written(self.octets.len());
    }
}

/// An answer in small pieces.
struct Answer {
    body: Pieces,
    open: Arc<Open>,
}

impl Answer {
    fn new(body: Body, open: Open) -> Answer {
        Answer { body: Pieces::of(body, open.requests.piece_octets), open: Arc::new(open) }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Also one that breaks off: that is our own doing.
        if self.is_end_stream() {
            let body = std::mem::replace(&mut self.body, Pieces::of(Body::empty(), 1));
            *self.open.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let given = ready!(Pin::new(&mut this.body).poll_frame(context));
        let handed = |frame: Frame<Bytes>| frame.map_data(|octets| Piece::hand_over(octets, &this.open));
        Poll::Ready(given.map(|given| given.map(handed)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
