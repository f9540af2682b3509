//! A connection of HTTP/2 (RFC 9113): many requests at once, so the limits that a connection has are counted here.
//!
//! Beside what the library is told ([`http`]): whoever gives up request after request is cut off, in whichever way it is done;
//! so is whoever keeps an answer waiting, which is no matter of the socket here but of windows; and a connection
//! without a request comes to its end.

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
/// An answer is handed over in pieces of so many: what a client does not read stays here, where it is seen.
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
    let requests = Arc::new(Requests::new());
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
struct Requests(Mutex<State>);

struct State {
    /// Those that are not answered to the end; since when the client keeps the answer waiting.
    open: HashMap<u64, Option<Instant>>,
    next: u64,
    /// Since when there is none.
    idle_since: Instant,
    /// Those that may be given up still, and when that was worked out.
    resets_left: f64,
    resets_at: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Judged {
    Good,
    /// It has had no request for so long that it may go.
    Idle,
    Over(Limit),
}

impl Requests {
    fn new() -> Requests {
        let now = Instant::now();
        let state = State {
            open: HashMap::new(),
            next: 0,
            idle_since: now,
            resets_left: f64::from(RESETS),
            resets_at: now,
        };
        Requests(Mutex::new(state))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, limits: &Limits) -> Judged {
        let (state, now) = (self.state(), Instant::now());
        let waits_too_long = |since: &Instant| now.duration_since(*since) > limits.write_timeout;
        if state.resets_left < 0.0 {
            Judged::Over(Limit::Resets)
        } else if state.open.values().flatten().any(waits_too_long) {
            Judged::Over(Limit::WriteTime)
        } else if state.open.is_empty() && now.duration_since(state.idle_since) > limits.header_timeout {
            Judged::Idle
        } else {
            Judged::Good
        }
    }
}

/// A request that is not answered to the end.
struct Open {
    requests: Arc<Requests>,
    number: u64,
    is_done: bool,
}

impl Open {
    fn new(requests: &Arc<Requests>) -> Open {
        let mut state = requests.state();
        let number = state.next;
        state.next += 1;
        state.open.insert(number, None);
        Open { requests: requests.clone(), number, is_done: false }
    }

    /// The client has the next turn, or not.
    fn waits_for_client(&self, waits: bool) {
        let since = waits.then(Instant::now);
        self.requests.state().open.insert(self.number, since);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let (mut state, now) = (self.requests.state(), Instant::now());
        state.open.remove(&self.number);
        if state.open.is_empty() {
            state.idle_since = now;
        }
        if !self.is_done {
            let earned = now.duration_since(state.resets_at).as_secs_f64() * f64::from(RESETS_PER_S);
            state.resets_left = (state.resets_left + earned).min(f64::from(RESETS)) - 1.0;
            state.resets_at = now;
        }
    }
}

/// An answer in small pieces. Whoever is not asked for the next one waits for the client.
struct Answer {
    body: Pieces,
    open: Open,
}

impl Answer {
    fn new(body: Body, open: Open) -> Answer {
        // It is asked for the first piece once there is room for it.
        open.waits_for_client(true);
        Answer { body: Pieces::of(body, PIECE_OCTETS), open }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.open.is_done |= self.is_end_stream();
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
        this.open.waits_for_client(false);
        let given = ready!(Pin::new(&mut this.body).poll_frame(context));
        match &given {
            Some(Ok(frame)) if frame.is_data() => this.open.waits_for_client(true),
            Some(Ok(_)) => {}
            // An answer that breaks off does so by our own doing.
            None | Some(Err(_)) => this.open.is_done = true,
        }
        Poll::Ready(given)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
