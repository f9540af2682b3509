//! `/metrics`, `/health` and `/ready` over HTTP, on a thread of its own so that nothing asked here can hold up an
//! answer. No other path exists, and nothing is changed through it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::metrics::Sources;
use super::progress::Progress;
use crate::sys::affinity;

/// Connections at the same time. One more takes the place of the oldest: those who ask are done within moments, and who only
/// connects keeps nobody out.
const MAX_CONNECTIONS: usize = 32;
/// How long a request may take to arrive, and a connection to be used.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How often workers are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Serves until `stop` changes or its sender is gone. Runs on the calling thread.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(
    listener: TcpListener,
    sources: Sources,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    affinity::step_back();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let state = Arc::new(State { progress: Progress::new(&sources.udp, &sources.tcp), sources });
        let mut open = VecDeque::<AbortHandle>::with_capacity(MAX_CONNECTIONS);
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = stop.changed() => return Ok(()),
                _ = look.tick() => state.progress.look(Instant::now()),
                stream = accept(&listener) => {
                    let Some(stream) = stream else { continue };
                    open.retain(|connection| !connection.is_finished());
                    if open.len() >= MAX_CONNECTIONS && let Some(oldest) = open.pop_front() {
                        oldest.abort();
                    }
                    open.push_back(tokio::spawn(connection(stream, Arc::clone(&state))).abort_handle());
                    // Its turn, before others come.
                    tokio::task::yield_now().await;
                }
            }
        }
    })
}

/// The next connection.
async fn accept(listener: &tokio::net::TcpListener) -> Option<tokio::net::TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(_) => {
            // Out of file descriptors, or the client is gone already: neither is worth spinning for.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(state.answer(&request)) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // One request a connection: a queue of them would be work for all who ask.
        .keep_alive(false)
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever goes wrong on a scraper's connection is the scraper's to notice.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, serving).await;
}

struct State {
    sources: Sources,
    progress: Progress,
}

impl State {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        }
        match request.uri().path() {
            "/metrics" => match self.sources.scrape() {
                Ok(metrics) => {
                    let mut response = text(StatusCode::OK, metrics);
                    response
                        .headers_mut()
                        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(OPENMETRICS));
                    response
                }
                Err(_) => {
                    text(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be composed\n".to_owned())
                }
            },
            "/health" => text(StatusCode::OK, "alive\n".to_owned()),
            "/ready" => match self.ready(request.uri().query(), Instant::now()) {
                Ok(()) => text(StatusCode::OK, "ready\n".to_owned()),
                Err((status, reason)) => text(status, format!("{reason}\n")),
            },
            _ => text(StatusCode::NOT_FOUND, "only /metrics, /health and /ready\n".to_owned()),
        }
    }

    /// Whether there is something to answer from and workers that do. Being behind does not make a node unready,
    /// unless the one who asks says how far is too far.
    fn ready(&self, query: Option<&str>, now: Instant) -> Result<(), (StatusCode, String)> {
        let unready = |reason: String| Err((StatusCode::SERVICE_UNAVAILABLE, reason));
        let status = &self.sources.status;
        if !status.has_snapshot.load(std::sync::atomic::Ordering::Relaxed) {
            return unready("no snapshot to answer from".to_owned());
        }
        if let Some(worker) = self.progress.stalled(now) {
            return unready(format!("{worker} makes no progress"));
        }
        let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(()) };
        let limit = query.strip_prefix("max_lag_seconds=").and_then(|value| value.parse::<f64>().ok());
        match limit {
            Some(limit) if limit >= 0.0 => {
                let lag = status.lag_seconds();
                if lag > limit { unready(format!("lag of {lag} s is above {limit} s")) } else { Ok(()) }
            }
            _ => Err((
                StatusCode::BAD_REQUEST,
                "expected ?max_lag_seconds=N, N a number of seconds".to_owned(),
            )),
        }
    }
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let plain = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::counter::WorkerCounters;
    use super::super::progress::STALLED;
    use super::*;
    use crate::serve::limit::{Admission, TcpLimits};

    #[test]
    fn ready_means_data_and_workers_that_move_and_lag_counts_for_who_asks() {
        let udp = vec![WorkerCounters::default()];
        let sources = Sources {
            udp: udp.clone(),
            tcp: Vec::new(),
            admission: Admission::new(TcpLimits::default()),
            status: Arc::default(),
            query_log: Arc::default(),
            beside: super::super::metrics::Beside::default(),
        };
        let state = State { progress: Progress::new(&sources.udp, &sources.tcp), sources };
        let start = Instant::now();
        let said = |query: Option<&str>, now: Instant| match state.ready(query, now) {
            Ok(()) => (200, String::new()),
            Err((status, reason)) => (status.as_u16(), reason),
        };
        assert_eq!(said(None, start), (503, "no snapshot to answer from".to_owned()));
        state.sources.status.has_snapshot.store(true, Ordering::Relaxed);
        state.sources.status.lag_us.store(60_000_000, Ordering::Relaxed);
        for (query, status) in [
            (None, 200),
            (Some(""), 200),
            (Some("max_lag_seconds=60"), 200),
            (Some("max_lag_seconds=59.5"), 503),
            (Some("max_lag_seconds=0"), 503),
            (Some("max_lag_seconds=-1"), 400),
            (Some("max_lag_seconds="), 400),
            (Some("max_lag=5"), 400),
        ] {
            assert_eq!(said(query, start).0, status, "{query:?}");
        }
        let later = start + STALLED + Duration::from_secs(1);
        assert_eq!(said(None, later), (503, "worker udp-0 makes no progress".to_owned()));
        udp[0].turns.add(1);
        state.progress.look(later);
        assert_eq!(said(None, later).0, 200);
    }
}
