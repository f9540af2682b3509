//! `/ws`: what happens, through a WebSocket (RFC 6455), for programs and pages that have no server-sent events.
//!
//! A page cannot send a header with a WebSocket: it shows its token in the first message, or as a subprotocol; a program may send the
//! header that all requests have. A cookie counts from our own pages alone, as whoever opens a WebSocket reads what it says.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::header::SEC_WEBSOCKET_PROTOCOL;
use axum::http::{Extensions, HeaderMap};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::super::super::App;
use super::super::super::envelope::ErrorBody;
use super::super::super::read::Params;
use super::super::super::server::client_of;
use super::super::super::{let_in, whence};
use super::super::shown::Shown;
use super::EventParams;
use super::listener::{Gone, Listener, Tell, end};
use crate::auth::{Caller, cookie};
use crate::error::{Code, Problem};
use crate::events::told::Event;
use crate::observe::metrics::Limit;
use crate::places::Place;

/// The subprotocol that is spoken, and what a token has before it where it is named beside it.
const PROTOCOL: &str = "godwit.v1";
const BEARER: &str = "bearer.";
/// How long the first message may take to come.
const FIRST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest message that is taken.
const MESSAGE_OCTETS: usize = 16 << 10;
/// What is held of a socket, each way.
const BUFFER_OCTETS: usize = 8 << 10;
const UNSENT_OCTETS: usize = 1 << 20;
/// Who has not said anything for so long, though asked each 15 seconds, is gone.
const SILENCE: Duration = Duration::from_secs(50);
/// How long the last words may take: less than connections get that are cut.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// What a page says first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    token: String,
    topics: Option<String>,
    zone: Option<String>,
    after: Option<String>,
}

/// What happens, as it happens, through a WebSocket: the events of `/api/v1/events`, each a message of text
/// `{"event": …, "id": …, "data": …}`. Who sends no `Authorization` shows their token in the first message, `{"token": …}`, which may
/// have `topics`, `zone` and `after` beside it, or as the subprotocol `bearer.…` beside `godwit.v1`.
#[utoipa::path(get, path = "/api/v1/ws", tag = "changes", security((), ("token" = [])), params(EventParams), responses(
    (status = 101, description = "A WebSocket"),
    (status = 400, description = "MALFORMED_REQUEST: it is none that is asked for", body = ErrorBody),
    (status = 401, description = "UNAUTHENTICATED, TOKEN_REVOKED", body = ErrorBody),
    (status = 403, description = "INSUFFICIENT_SCOPE, FORBIDDEN", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE, INVALID_NAME", body = ErrorBody),
    (status = 429, description = "RATE_LIMITED: as many listen as may", body = ErrorBody),
))]
pub(crate) async fn listen(
    State(app): State<Arc<App>>,
    Params(params): Params<EventParams>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|rejection| {
        let message = format!("this is a WebSocket over HTTP/1.1, to be asked for as one: {rejection}");
        Problem::new(Code::MalformedRequest, message)
    })?;
    let upgrade = upgrade
        .read_buffer_size(BUFFER_OCTETS)
        .write_buffer_size(0)
        .max_write_buffer_size(UNSENT_OCTETS)
        .max_message_size(MESSAGE_OCTETS)
        .max_frame_size(MESSAGE_OCTETS)
        .protocols([PROTOCOL]);
    let extensions = parts.extensions;
    let Some(shown) = shown(&parts.headers) else {
        let place = unknown(&app, &extensions)?;
        return Ok(upgrade.on_upgrade(move |socket| introduced(app, extensions, socket, params, place)));
    };
    if matches!(shown, Shown::Cookie(_)) && !cookie::is_from_here(&parts.headers, &app.public_url) {
        return Err(Problem::new(Code::Forbidden, "a cookie opens a WebSocket from our own pages alone"));
    }
    let caller = who_is(&app, &extensions, &shown).await?;
    let (listener, place) = Listener::new(&app, shown, caller, &params, None).await?;
    Ok(upgrade.on_upgrade(move |socket| async move {
        listener.run(Socket::new(socket)).await;
        drop(place);
    }))
}

/// What somebody shows before the first message.
fn shown(headers: &HeaderMap) -> Option<Shown> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
    let mut named = lines.flat_map(|line| line.split(',')).map(str::trim);
    match Shown::of(headers) {
        Some(Shown::Token(token)) => Some(Shown::Token(token)),
        other => named
            .find_map(|name| name.strip_prefix(BEARER))
            .map(|token| Shown::Token(token.to_owned()))
            .or(other),
    }
}

/// A place for somebody of whom it is not known who they are.
fn unknown(app: &App, extensions: &Extensions) -> Result<Place<IpAddr>, Problem> {
    let client = whence::client(extensions);
    let client =
        client.ok_or_else(|| Problem::new(Code::Internal, "it is not known where this comes from"))?;
    app.unknown.admit(client_of(client)).map_err(|_| {
        app.metrics.limited(Limit::Listeners);
        let message = "too many have opened a WebSocket and not said yet who they are; try again later";
        Problem::new(Code::RateLimited, message)
    })
}

async fn who_is(app: &Arc<App>, extensions: &Extensions, shown: &Shown) -> Result<Caller, Problem> {
    let caller = shown.who(app, Some(&app.committer)).await?;
    let_in(app, extensions, caller, false).await
}

/// Somebody who says who they are in the first message.
async fn introduced(
    app: Arc<App>,
    extensions: Extensions,
    socket: WebSocket,
    params: EventParams,
    place: Place<IpAddr>,
) {
    let mut socket = Socket::new(socket);
    let begun = tokio::select! {
        first = tokio::time::timeout(FIRST_TIMEOUT, socket.first()) => match first {
            Ok(Ok(first)) => begin(&app, &extensions, first, params).await,
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err(Some(Problem::new(Code::Timeout, "the first message, with a token, has not come"))),
        },
        () = crate::stop::stopped(app.stop.clone()) => return socket.end(None).await,
    };
    drop(place);
    match begun {
        Ok((listener, place)) => {
            listener.run(socket).await;
            drop(place);
        }
        Err(Some(problem)) => {
            if let Some(asker) = extensions.get::<whence::Asker>() {
                let who = asker.who(&whence::request_id(&extensions));
                app.noted.refused(who, false, "GET", "/api/v1/ws", &problem);
            }
            socket.end(Some(&problem)).await;
        }
        Err(None) => {}
    }
}

async fn begin(
    app: &Arc<App>,
    extensions: &Extensions,
    first: First,
    params: EventParams,
) -> Result<(Listener, Place<String>), Option<Problem>> {
    let First { token, topics, zone, after } = first;
    let shown = Shown::Token(token);
    let params = EventParams {
        topics: topics.or(params.topics),
        zone: zone.or(params.zone),
        after: after.or(params.after),
    };
    let caller = who_is(app, extensions, &shown).await?;
    Ok(Listener::new(app, shown, caller, &params, None).await?)
}

/// A WebSocket.
struct Socket {
    socket: WebSocket,
    /// When something came last.
    heard_at: Instant,
}

impl Socket {
    fn new(socket: WebSocket) -> Socket {
        Socket { socket, heard_at: Instant::now() }
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        self.socket.send(message).await.map_err(|_| Gone)
    }

    /// The first message. The error: what is wrong with it; `None` where who was to send it is gone.
    async fn first(&mut self) -> Result<First, Option<Problem>> {
        let wrong = |why: String| {
            let message =
                format!("the first message: expected {{\"token\": …}}, and topics, zone, after: {why}");
            Some(Problem::new(Code::MalformedRequest, message))
        };
        loop {
            match self.socket.recv().await {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text).map_err(|error| wrong(error.to_string()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(_))) => return Err(wrong("it is no text".to_owned())),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(None),
            }
        }
    }
}

impl Tell for Socket {
    async fn event(&mut self, event: &Event) -> Result<(), Gone> {
        let mut message = json!({ "event": event.name, "data": event.data });
        if let Some(id) = &event.id {
            message["id"] = json!(id);
        }
        self.send(Message::text(message.to_string())).await
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), Gone> {
        if self.heard_at.elapsed() > SILENCE {
            return Err(Gone);
        }
        self.send(Message::Ping(axum::body::Bytes::new())).await
    }

    async fn gone(&mut self) -> Gone {
        loop {
            match self.socket.recv().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => self.heard_at = Instant::now(),
                // They have nothing to say any more.
                Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                    let frame = CloseFrame { code: close_code::POLICY, reason: "nothing is expected".into() };
                    let close = self.send(Message::Close(Some(frame)));
                    let _ = tokio::time::timeout(END_TIMEOUT, close).await;
                    return Gone;
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Gone,
            }
        }
    }

    async fn end(mut self, refused: Option<&Problem>) {
        let (code, reason) = match refused {
            Some(problem) => (close_code::POLICY, problem.code.as_str()),
            None => (close_code::AWAY, "the server ends"),
        };
        let words = async {
            if let Some(problem) = refused {
                self.event(&end(problem)).await?;
            }
            self.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
            // Until they close it too, so that what was said last is read.
            while let Some(Ok(_)) = self.socket.recv().await {}
            Ok::<(), Gone>(())
        };
        let _ = tokio::time::timeout(END_TIMEOUT, words).await;
    }
}
