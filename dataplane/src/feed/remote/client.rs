//! HTTPS to the control plane: one connection that is kept, one request at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::join::Join;

/// How long it may take until there is a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// The most octets of an answer: an index of sixteen million zones.
const MAX_OCTETS: usize = 2 << 30;

/// What came back.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// See the module.
pub(super) struct Client {
    tls: TlsConnector,
    name: ServerName<'static>,
    host: String,
    /// Looked up when the process started: once it is confined it cannot look names up.
    addresses: Arc<[SocketAddr]>,
    authorization: String,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// Which of the addresses is tried next.
    turn: usize,
    /// Whether the last request was answered: a change of it is logged, not each request.
    reached: bool,
}

impl Client {
    pub(super) fn new(
        join: &Join,
        tls: Arc<ClientConfig>,
        addresses: Arc<[SocketAddr]>,
    ) -> anyhow::Result<Client> {
        let name = ServerName::try_from(join.host.clone()).context("host of the control plane")?;
        Ok(Client {
            tls: TlsConnector::from(tls),
            name,
            host: format!("{}:{}", join.host, join.port),
            addresses,
            authorization: format!("Bearer {}", join.token),
            connection: None,
            turn: 0,
            reached: true,
        })
    }

    /// Asks; anything but an answer in time is an error, after which the next request connects anew.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        patience: Duration,
    ) -> anyhow::Result<Response> {
        let answered = timeout(patience, self.try_ask(method, path, body)).await;
        let answered = answered.map_err(|_| anyhow::anyhow!("no answer in {patience:?}")).flatten();
        if answered.is_err() {
            self.connection = None;
        }
        let now = answered.is_ok();
        if std::mem::replace(&mut self.reached, now) != now {
            match &answered {
                Ok(_) => tracing::info!(host = self.host, "the control plane is reached again"),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        host = self.host,
                        error,
                        "the control plane is not reached; DNS is answered as before"
                    );
                }
            }
        }
        answered
    }

    async fn try_ask(&mut self, method: Method, path: &str, body: Option<Bytes>) -> anyhow::Result<Response> {
        let connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => self.connection.insert(connection),
            None => {
                let connection =
                    timeout(CONNECT, self.connect()).await.context("connecting took too long")??;
                self.connection.insert(connection)
            }
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host);
        request = request.header(AUTHORIZATION, &self.authorization);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default())).context("a request")?;
        connection.ready().await.context("sending a request")?;
        let (head, body) = connection.send_request(request).await.context("sending a request")?.into_parts();
        let body = Limited::new(body, MAX_OCTETS).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("reading an answer: {error}"))?.to_bytes();
        Ok(Response { status: head.status, headers: head.headers, body })
    }

    async fn connect(&mut self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let count = self.addresses.len().max(1);
        let address =
            self.addresses.get(self.turn % count).context("no address of the control plane is known")?;
        self.turn = self.turn.wrapping_add(1);
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true).context("connecting")?;
        let stream = self.tls.connect(self.name.clone(), stream).await;
        let stream = stream.with_context(|| format!("TLS with {address}"))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("HTTP")?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the control plane ended");
            }
        });
        Ok(sender)
    }
}
