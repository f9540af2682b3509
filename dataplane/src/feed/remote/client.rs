//! HTTPS to control planes: a connection that is kept, one request at a time. Where one of them does not answer, the next is
//! asked; one that answers is kept to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::join::ControlPlane;

/// How long it may take until there is a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// The most octets of an answer: an index of sixteen million zones.
const MAX_OCTETS: usize = 2 << 30;
/// The longest pause before the next control plane is tried: all nodes lose one at the same moment.
const JITTER_MS: u64 = 250;

/// What is sent with a request.
#[derive(Clone, Debug)]
pub(super) struct Body {
    media_type: &'static str,
    octets: Bytes,
}

/// JSON.
pub(super) fn json(text: impl Into<Bytes>) -> Body {
    Body { media_type: "application/json", octets: text.into() }
}

/// What is no text.
pub(super) fn octets(octets: impl Into<Bytes>) -> Body {
    Body { media_type: "application/octet-stream", octets: octets.into() }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Whom to ask, and who we are. All clients of a node share it.
pub(super) struct Places {
    tls: TlsConnector,
    targets: Vec<Target>,
    authorization: String,
    /// Which of the targets is asked, modulo their number: the last that answered, or the one after the last that did not.
    turn: AtomicUsize,
    /// Whether the last request was answered: a change of it is logged, not each request.
    reached: AtomicBool,
}

/// One address of a control plane.
struct Target {
    name: ServerName<'static>,
    host: String,
    /// Looked up when the process started: once it is confined it cannot look names up.
    address: SocketAddr,
}

impl Places {
    /// Each control plane with its addresses, in the order in which they are tried.
    pub(super) fn new(
        tls: Arc<ClientConfig>,
        control_planes: &[(ControlPlane, Vec<SocketAddr>)],
        token: &str,
    ) -> anyhow::Result<Arc<Places>> {
        let mut targets = Vec::new();
        for (plane, addresses) in control_planes {
            let name = ServerName::try_from(plane.host.clone()).context("host of the control plane")?;
            targets.extend(addresses.iter().map(|address| Target {
                name: name.clone(),
                host: plane.to_string(),
                address: *address,
            }));
        }
        Ok(Arc::new(Places {
            tls: TlsConnector::from(tls),
            targets,
            authorization: format!("Bearer {token}"),
            turn: AtomicUsize::new(0),
            reached: AtomicBool::new(true),
        }))
    }

    /// Lets the target after this one be tried, unless another client has seen to that.
    fn pass(&self, turn: usize) {
        let _ = self.turn.compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn note(&self, answered: &anyhow::Result<Response>) {
        let now = answered.is_ok();
        if self.reached.swap(now, Ordering::Relaxed) == now {
            return;
        }
        match answered {
            Ok(_) => tracing::info!("the control plane is reached again"),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "no control plane is reached; DNS is answered as before");
            }
        }
    }
}

/// See the module.
pub(super) struct Client {
    places: Arc<Places>,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// Whose turn it was when it was made, or last tried.
    turn: usize,
}

impl Client {
    pub(super) fn new(places: &Arc<Places>) -> Client {
        Client { places: Arc::clone(places), connection: None, turn: 0 }
    }

    /// Asks; anything but an answer in time is an error, after which the next request goes elsewhere, if there is somebody.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Body>,
        patience: Duration,
    ) -> anyhow::Result<Response> {
        let answered = timeout(patience, self.try_in_turn(&method, path, body)).await;
        let answered = answered.map_err(|_| anyhow::anyhow!("no answer in {patience:?}")).flatten();
        let is_unable = answered.as_ref().is_ok_and(|response| response.status.is_server_error());
        if answered.is_err() || (is_unable && self.places.targets.len() > 1) {
            self.connection = None;
            self.places.pass(self.turn);
        }
        self.places.note(&answered);
        answered
    }

    /// Asks who is kept to, and who cannot be connected to is passed over: each is tried once.
    async fn try_in_turn(
        &mut self,
        method: &Method,
        path: &str,
        body: Option<Body>,
    ) -> anyhow::Result<Response> {
        let kept = self.connection.take_if(|connection| !connection.is_closed());
        let is_in_turn = self.turn == self.places.turn.load(Ordering::Relaxed);
        if let Some(mut connection) = kept.filter(|_| is_in_turn) {
            let answered = self.send(&mut connection, method, path, body.clone()).await;
            if answered.is_ok() {
                self.connection = Some(connection);
                return answered;
            }
            // It may have been closed for being idle: everything that we ask may be asked twice.
        }
        let mut left = self.places.targets.len();
        loop {
            left = left.saturating_sub(1);
            self.turn = self.places.turn.load(Ordering::Relaxed);
            let connected =
                timeout(CONNECT, self.connect()).await.context("connecting took too long").flatten();
            let error = match connected {
                Ok(mut connection) => {
                    let answered = self.send(&mut connection, method, path, body.clone()).await;
                    self.connection = answered.is_ok().then_some(connection);
                    return answered;
                }
                Err(error) => error,
            };
            if left == 0 {
                return Err(error);
            }
            self.places.pass(self.turn);
            tokio::time::sleep(Duration::from_millis(random() % JITTER_MS)).await;
        }
    }

    async fn send(
        &self,
        connection: &mut SendRequest<Full<Bytes>>,
        method: &Method,
        path: &str,
        body: Option<Body>,
    ) -> anyhow::Result<Response> {
        let target = self.target()?;
        let mut request = Request::builder().method(method).uri(path).header(HOST, &target.host);
        request = request.header(AUTHORIZATION, &self.places.authorization);
        if let Some(Body { media_type, .. }) = &body {
            request = request.header(CONTENT_TYPE, *media_type);
        }
        let body = body.map(|body| body.octets).unwrap_or_default();
        let request = request.body(Full::new(body)).context("a request")?;
        connection.ready().await.context("sending a request")?;
        let (head, body) = connection.send_request(request).await.context("sending a request")?.into_parts();
        let body = Limited::new(body, MAX_OCTETS).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("reading an answer: {error}"))?.to_bytes();
        Ok(Response { status: head.status, body })
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let Target { name, host, address } = self.target()?;
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("connecting to {host} at {address}"))?;
        stream.set_nodelay(true).context("connecting")?;
        let stream = self.places.tls.connect(name.clone(), stream).await;
        let stream = stream.with_context(|| format!("TLS with {host} at {address}"))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("HTTP")?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the control plane ended");
            }
        });
        Ok(sender)
    }

    /// Whose turn it is with us.
    fn target(&self) -> anyhow::Result<&Target> {
        let count = self.places.targets.len().max(1);
        self.places.targets.get(self.turn % count).context("no address of a control plane is known")
    }
}

/// What it is does not matter, as long as it is another on every node.
fn random() -> u64 {
    let mut octets = [0; 8];
    let _ = getrandom::fill(&mut octets);
    u64::from_ne_bytes(octets)
}
