//! `/events`: what happens, as it happens, as server-sent events (WHATWG HTML §9.2); `/ws`: the same through a WebSocket (RFC 6455).
//!
//! - `listener`: somebody who listens, however they are told;
//! - `socket`: through a WebSocket.

mod listener;
pub(crate) mod socket;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use http_body_util::channel::{Channel, Sender};
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::App;
use super::super::admission;
use super::super::envelope::ErrorBody;
use super::super::read::Params;
use super::shown::Shown;
use crate::auth::Caller;
use crate::error::{Code, Problem};
use crate::events::told::Event;
use listener::{Gone, Listener, Tell, end};

/// How long a browser waits before it comes back.
const RETRY_MS: u32 = 2_000;
/// What is told is sent in pieces of so many octets, or a little more; and so many wait for who listens.
const PIECE_OCTETS: usize = 8 << 10;
const PIECES: usize = 4;

pub(crate) static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What is listened to.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventParams {
    /// With commas between: `zone`, `record`, `change`, and for operators `node`, `job`. All that you may when left out.
    pub topics: Option<String>,
    /// Of this zone only.
    pub zone: Option<String>,
    /// To go on behind a change, by its id, as with the header `Last-Event-ID`.
    pub after: Option<String>,
}

/// What happens, as it happens: `zone`, `record` and `change` in the order of changes, across all control planes, `node` and `job`
/// as they are seen. A `resync` says that something may have been missed: read what you need anew, then go on listening. The `id` of
/// the last event that had one is where to go on: `Last-Event-ID`.
#[utoipa::path(get, path = "/api/v1/events", tag = "changes", params(EventParams), responses(
    (status = 200, description = "Events without end", body = String, content_type = "text/event-stream"),
    (status = 403, description = "INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE, INVALID_NAME", body = ErrorBody),
    (status = 429, description = "RATE_LIMITED: as many listen as may", body = ErrorBody),
))]
pub(crate) async fn listen(
    State(app): State<Arc<App>>,
    Params(params): Params<EventParams>,
    axum::Extension(caller): axum::Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let nobody = || Problem::new(Code::Unauthenticated, "this needs a token");
    let shown = Shown::of(&headers).ok_or_else(nobody)?;
    let came_back = headers.get(&LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let came_back = came_back.filter(|text| !text.is_empty());
    let (listener, place) = Listener::new(&app, shown, caller, &params, came_back).await?;
    let (sender, body) = Channel::new(PIECES);
    let stream = Stream { text: format!("retry: {RETRY_MS}\n\n"), sender };
    tokio::spawn(listener.run(stream));
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))];
    // What is in between is not to wait until there is enough for a page.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))];
    Ok(admission::holding((headers, unbuffered, Body::new(body)).into_response(), place))
}

/// An answer without end.
struct Stream {
    /// What is held back.
    text: String,
    sender: Sender<Bytes, Infallible>,
}

impl Tell for Stream {
    async fn event(&mut self, event: &Event) -> Result<(), Gone> {
        self.text.push_str(&written(event));
        if self.text.len() < PIECE_OCTETS { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        if self.text.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.text);
        self.sender.send_data(Bytes::from(text)).await.map_err(|_| Gone)
    }

    async fn beat(&mut self) -> Result<(), Gone> {
        self.text.push_str(": \n\n");
        self.flush().await
    }

    /// It is found out when something is said.
    async fn gone(&mut self) -> Gone {
        std::future::pending().await
    }

    async fn end(mut self, refused: Option<&Problem>) {
        if let Some(problem) = refused {
            self.text.push_str(&written(&end(problem)));
            let _ = self.flush().await;
        }
    }
}

/// As it is sent. JSON on one line has no line end inside, whatever names and values hold.
fn written(event: &Event) -> String {
    let id = event.id.as_ref().map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: {}\n{id}data: {}\n\n", event.name, event.data)
}
