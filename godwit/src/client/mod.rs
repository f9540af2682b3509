//! A client of the API: one connection, one request at a time, errors that say what to do.
//!
//! Every write carries an `Idempotency-Key`, so that it can be sent again when a connection breaks: it is carried out
//! once.

mod error;
mod target;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::CertificateError;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

pub(crate) use error::ClientError;
use target::Endpoint;
pub(crate) use target::encoded;

use crate::cli::Target;
use crate::output::say;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take: a zone of 32 MiB is checked and committed in it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// How long the next piece of a long answer may take.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer that is held whole: more than any that the API gives.
const MAX_ANSWER_OCTETS: usize = 64 << 20;
/// Pauses before a request is sent again: the server asked for patience, or the connection broke.
const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// A connection to the API, made when the first request needs it and again when it was lost.
pub(crate) struct Client {
    endpoint: Endpoint,
    runtime: Runtime,
    sender: Option<Connection>,
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
    status: StatusCode,
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

    pub(crate) fn patch(path: impl Into<String>, body: &Value) -> Self {
        Ask { method: Method::PATCH, ..Ask::post(path, body) }
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

    /// What its change is called, where that was accepted while the database is away and is not made yet.
    pub(crate) fn accepted(&self) -> Option<String> {
        if self.status != StatusCode::ACCEPTED {
            return None;
        }
        let said = self.json().ok().filter(|said| said["state"] == "buffered")?;
        said["id"].as_str().map(str::to_owned)
    }

    /// How many names would have to be confirmed, as a dry run says.
    pub(crate) fn to_be_confirmed(&self) -> Option<u64> {
        self.headers.get("godwit-confirm")?.to_str().ok()?.parse().ok()
    }

    /// Says on standard error when not every data plane serves the change yet.
    pub(crate) fn note_unapplied(&self) {
        let header = self.headers.get("godwit-applied").and_then(|value| value.to_str().ok());
        if let Some(applied) = header
            && let Some((have, all)) = applied.split_once('/')
            && have != all
        {
            say(format_args!("godwit: committed, but so far served by {have} of {all} data planes"));
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
        let Client { endpoint, runtime, sender } = self;
        again(|| runtime.block_on(whole(endpoint, sender, ask, &key)))
    }

    /// Asks for a long answer and gives it on piece by piece. It is asked for again only while nothing of it has come.
    ///
    /// # Errors
    /// What the API or the connection says, or `take`.
    pub(crate) fn fetch(
        &mut self,
        ask: &Ask,
        mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        let Client { endpoint, runtime, sender } = self;
        let begin = || runtime.block_on(began(endpoint, sender, ask, ""));
        let (mut body, connection) = again(begin)?;
        loop {
            let next = runtime.block_on(async { tokio::time::timeout(PIECE_TIMEOUT, body.frame()).await });
            let slow = ClientError::Slow { url: endpoint.url.clone(), seconds: PIECE_TIMEOUT.as_secs() };
            match next.map_err(|_| slow)? {
                None => break,
                Some(frame) => {
                    if let Ok(data) = frame.map_err(|error| lost(endpoint, &error))?.into_data() {
                        take(&data)?;
                    }
                }
            }
        }
        *sender = Some(connection);
        Ok(())
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

/// Tries again after a pause when the server cannot just now or the connection broke.
fn again<T>(mut once: impl FnMut() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let mut pauses = PAUSES.iter();
    let mut broken: Option<ClientError> = None;
    loop {
        let error = match once() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // A server that was there a moment ago is starting again, maybe.
        let is_gone = matches!(error, ClientError::Refused { .. } | ClientError::Unreachable { .. });
        let may_pass = error.may_pass() || (is_gone && broken.is_some());
        if matches!(error, ClientError::Lost { .. }) {
            broken = Some(error.clone());
        }
        match pauses.next() {
            Some(pause) if may_pass => std::thread::sleep(*pause),
            // What was sent then may have been done, whoever is there now.
            _ if is_gone => return Err(broken.unwrap_or(error)),
            _ => return Err(error),
        }
    }
}

fn lost(endpoint: &Endpoint, error: &dyn std::error::Error) -> ClientError {
    ClientError::Lost { url: endpoint.url.clone(), reason: error.to_string() }
}

type Connection = SendRequest<Full<Bytes>>;

/// Sends a request; the body of its answer is still to be read.
async fn sent(
    endpoint: &Endpoint,
    sender: &mut Option<Connection>,
    ask: &Ask,
    key: &str,
) -> Result<(Response<Incoming>, Connection), ClientError> {
    let mut connection = match sender.take() {
        Some(open) if !open.is_closed() => open,
        _ => connect(endpoint).await?,
    };
    connection.ready().await.map_err(|error| lost(endpoint, &error))?;
    let response = connection.send_request(request(endpoint, ask, key)?).await;
    Ok((response.map_err(|error| lost(endpoint, &error))?, connection))
}

/// A request and its whole answer.
async fn whole(
    endpoint: &Endpoint,
    sender: &mut Option<Connection>,
    ask: &Ask,
    key: &str,
) -> Result<Answer, ClientError> {
    let answered = async {
        let (response, connection) = sent(endpoint, sender, ask, key).await?;
        let (parts, body) = response.into_parts();
        Ok::<_, ClientError>((parts, held(endpoint, body).await?, connection))
    };
    let (parts, body, connection) = in_time(endpoint, answered).await?;
    *sender = Some(connection);
    if parts.status.is_success() {
        return Ok(Answer { status: parts.status, headers: parts.headers, body });
    }
    Err(refusal(endpoint, parts.status, &body))
}

/// A request and the beginning of its answer, if it is a good one.
async fn began(
    endpoint: &Endpoint,
    sender: &mut Option<Connection>,
    ask: &Ask,
    key: &str,
) -> Result<(Incoming, Connection), ClientError> {
    let (response, connection) = in_time(endpoint, sent(endpoint, sender, ask, key)).await?;
    let (parts, body) = response.into_parts();
    if parts.status.is_success() {
        return Ok((body, connection));
    }
    let body = in_time(endpoint, held(endpoint, body)).await?;
    Err(refusal(endpoint, parts.status, &body))
}

async fn held(endpoint: &Endpoint, body: Incoming) -> Result<Bytes, ClientError> {
    let collected = Limited::new(body, MAX_ANSWER_OCTETS).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            return ClientError::NotTheApi { reason: "an answer without end".to_owned() };
        }
        lost(endpoint, &*error)
    })
}

async fn in_time<T>(
    endpoint: &Endpoint,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let slow = |_| ClientError::Slow { url: endpoint.url.clone(), seconds: ANSWER_TIMEOUT.as_secs() };
    tokio::time::timeout(ANSWER_TIMEOUT, work).await.map_err(slow)?
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
    let Some((name, config)) = &endpoint.tls else { return spoken(endpoint, stream).await };
    let begun = TlsConnector::from(config.clone()).connect(name.clone(), stream);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, begun)
        .await
        .map_err(|_| unreachable(format!("TLS did not begin within {} s", CONNECT_TIMEOUT.as_secs())))?
        .map_err(|error| unreachable(told(&error)))?;
    spoken(endpoint, stream).await
}

/// Why TLS did not begin, for people.
fn told(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate comes from nobody who is known here: --ca (or GODWIT_CA) names a file with the certificate of \
             who made it"
                .to_owned()
        }
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS: http:// in place of https://?".to_owned(),
        _ => error.to_string(),
    }
}

/// HTTP/1.1 over a connection.
async fn spoken(
    endpoint: &Endpoint,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, ClientError> {
    let unreachable = |reason: String| ClientError::Unreachable { url: endpoint.url.clone(), reason };
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
