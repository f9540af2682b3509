//! A client of the API: one connection, one request at a time, errors that say what to do.
//!
//! Every write carries an `Idempotency-Key`, so that it can be sent again when a connection breaks: it is carried out
//! once. No TLS yet: the API listens on this machine, or behind something that has it.

mod error;
mod target;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

pub(crate) use error::ClientError;
use target::Endpoint;
pub(crate) use target::encoded;

use crate::cli::Target;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take: a zone of 32 MiB is checked and committed in it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// Pauses before a request is sent again: the server asked for patience, or the connection broke.
const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// A connection to the API, made when the first request needs it and again when it was lost.
pub(crate) struct Client {
    endpoint: Endpoint,
    runtime: Runtime,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What to ask.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query, below the URL, encoded.
    pub(crate) path: String,
    pub(crate) body: Bytes,
    pub(crate) media_type: Option<&'static str>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Ask {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Ask { method: Method::GET, path: path.into(), body: Bytes::new(), media_type: None }
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Ask { method: Method::DELETE, ..Ask::get(path) }
    }

    pub(crate) fn post(path: impl Into<String>, body: &Value) -> Self {
        Ask {
            method: Method::POST,
            path: path.into(),
            body: body.to_string().into(),
            media_type: Some("application/json"),
        }
    }

    pub(crate) fn post_text(path: impl Into<String>, text: Bytes) -> Self {
        Ask { method: Method::POST, path: path.into(), body: text, media_type: Some("text/dns") }
    }
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<Value, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| ClientError::NotTheApi { reason: error.to_string() })
    }

    /// Says on standard error when not every data plane serves the change yet.
    pub(crate) fn note_unapplied(&self) {
        let header = self.headers.get("godwit-applied").and_then(|value| value.to_str().ok());
        if let Some(applied) = header
            && let Some((have, all)) = applied.split_once('/')
            && have != all
        {
            eprintln!("godwit: committed, but so far served by {have} of {all} data planes");
        }
    }
}

impl Client {
    /// For the API that the command line names. Connects at the first request.
    pub(crate) fn new(target: &Target) -> anyhow::Result<Self> {
        let endpoint = Endpoint::of(target)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Client { endpoint, runtime, sender: None })
    }

    /// Asks, and again after a pause when the server cannot just now or the connection broke.
    pub(crate) fn ask(&mut self, ask: &Ask) -> Result<Answer, ClientError> {
        let key = uuid::Uuid::now_v7().to_string();
        let mut pauses = PAUSES.iter();
        loop {
            let error = match self.runtime.block_on(once(&self.endpoint, &mut self.sender, ask, &key)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match pauses.next() {
                Some(pause) if error.may_pass() => std::thread::sleep(*pause),
                _ => return Err(error),
            }
        }
    }

    /// All items of a list, page after page.
    pub(crate) fn list(
        &mut self,
        path: &str,
        mut item: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut cursor: Option<String> = None;
        loop {
            let joined = if path.contains('?') { '&' } else { '?' };
            let mut page = format!("{path}{joined}limit=1000");
            if let Some(cursor) = &cursor {
                page.push_str("&cursor=");
                page.push_str(&encoded(cursor));
            }
            let mut answer = self.ask(&Ask::get(page))?.json()?;
            let Value::Array(items) = answer["items"].take() else {
                return Err(ClientError::NotTheApi { reason: "a list without items".to_owned() }.into());
            };
            items.into_iter().try_for_each(&mut item)?;
            match answer["next"].take() {
                Value::String(next) => cursor = Some(next),
                _ => return Ok(()),
            }
        }
    }
}

async fn once(
    endpoint: &Endpoint,
    sender: &mut Option<SendRequest<Full<Bytes>>>,
    ask: &Ask,
    key: &str,
) -> Result<Answer, ClientError> {
    let mut connection = match sender.take() {
        Some(open) if !open.is_closed() => open,
        _ => connect(endpoint).await?,
    };
    let lost =
        |error: hyper::Error| ClientError::Lost { url: endpoint.url.clone(), reason: error.to_string() };
    connection.ready().await.map_err(lost)?;
    let request = request(endpoint, ask, key)?;
    let answered = async {
        let response = connection.send_request(request).await.map_err(lost)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(lost)?.to_bytes();
        Ok((parts, body))
    };
    let (parts, body) = tokio::time::timeout(ANSWER_TIMEOUT, answered)
        .await
        .map_err(|_| ClientError::Slow { url: endpoint.url.clone(), seconds: ANSWER_TIMEOUT.as_secs() })??;
    *sender = Some(connection);
    if parts.status.is_success() {
        return Ok(Answer { headers: parts.headers, body });
    }
    Err(refusal(endpoint, parts.status, &body))
}

async fn connect(endpoint: &Endpoint) -> Result<SendRequest<Full<Bytes>>, ClientError> {
    let unreachable = |reason: String| ClientError::Unreachable { url: endpoint.url.clone(), reason };
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&endpoint.authority))
        .await
        .map_err(|_| unreachable(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())))?
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => ClientError::Refused { url: endpoint.url.clone() },
            _ => unreachable(error.to_string()),
        })?;
    // A request is written in one piece: waiting for more would only delay it.
    let _ = stream.set_nodelay(true);
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(error.to_string()))?;
    // What breaks a connection is told to the request that it breaks.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

fn request(endpoint: &Endpoint, ask: &Ask, key: &str) -> Result<Request<Full<Bytes>>, ClientError> {
    let mut request = Request::builder()
        .method(ask.method.clone())
        .uri(format!("{}{}", endpoint.base, ask.path))
        .header(HOST, &endpoint.authority)
        .header(hyper::header::USER_AGENT, concat!("godwit/", env!("CARGO_PKG_VERSION")));
    if let Some(token) = &endpoint.token {
        request = request.header(AUTHORIZATION, token.clone());
    }
    if let Some(media_type) = ask.media_type {
        request = request.header(CONTENT_TYPE, media_type);
    }
    if ask.method != Method::GET {
        request = request.header("idempotency-key", key);
    }
    request
        .body(Full::new(ask.body.clone()))
        .map_err(|error| ClientError::NotTheApi { reason: format!("no request can be made: {error}") })
}

/// What the API says when it does not do what was asked (design §5.4).
fn refusal(endpoint: &Endpoint, status: StatusCode, body: &[u8]) -> ClientError {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| said[key].as_str().map(str::to_owned);
    let (Some(message), Some(code)) = (text("error"), text("code")) else {
        let reason = format!("{} answered {status} and no error of the API", endpoint.url);
        return ClientError::NotTheApi { reason };
    };
    ClientError::Api {
        status: status.as_u16(),
        message,
        code,
        request_id: text("request_id"),
        had_token: endpoint.token.is_some(),
    }
}
