//! `/events`: what happens, as it happens, as server-sent events (WHATWG HTML §9.2).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use http_body_util::channel::{Channel, Sender};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior};
use utoipa::IntoParams;
use uuid::Uuid;

use godwit_wire::name::Name;

use super::super::App;
use super::super::admission;
use super::super::envelope::ErrorBody;
use super::super::read::Params;
use crate::auth::{self, Caller, cookie};
use crate::error::{Code, Problem};
use crate::events::told::{Event, Topic, events};
use crate::events::{Message, Missed};
use crate::observe::metrics::Limit;
use crate::stop::{Stop, stopped};
use crate::store::jobs;
use crate::validate::name;

/// How often something is said where nothing happens: what is between keeps the connection open, and who is gone is found out.
const BEAT: Duration = Duration::from_secs(15);
/// How often it is looked at whether who listens still may, where nothing was heard of.
const LOOK: Duration = Duration::from_secs(30);
/// How often data planes and jobs are looked at.
const POLL: Duration = Duration::from_secs(1);
/// How long a browser waits before it comes back.
const RETRY_MS: u32 = 2_000;
/// Pieces that may wait for who listens.
const PIECES: usize = 16;

static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What is listened to.
#[derive(Clone, Debug, Deserialize, IntoParams)]
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

/// Where a listener is among all of them.
struct Listener {
    app: Arc<App>,
    /// Shows again and again that they may.
    shown: Shown,
    caller: Caller,
    topics: Vec<Topic>,
    zone: Option<Name>,
    /// Sequence of the last change that they were told, or passed over.
    last: u64,
    sender: Sender<Bytes, Infallible>,
    /// What was last told of data planes and jobs.
    planes: Vec<(String, u64)>,
    jobs: Option<Vec<(Uuid, String)>>,
}

/// What somebody came with.
enum Shown {
    Token(String),
    Cookie(String),
}

/// Why no more is told.
enum End {
    /// They are gone.
    Gone,
    /// They may not any more.
    Refused(Problem),
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
    let topics = topics(params.topics.as_deref(), &caller)?;
    let zone = params.zone.as_deref().map(name::absolute).transpose()?;
    if let Some(zone) = &zone {
        caller.limits.allow_zone(zone)?;
    }
    let after = after(&params, &headers)?;
    let shown = match (auth::bearer(&headers), cookie::value(&headers)) {
        (Some(token), _) => Shown::Token(token.to_owned()),
        (None, Some(value)) => Shown::Cookie(value.to_owned()),
        (None, None) => return Err(Problem::new(Code::Unauthenticated, "this needs a token")),
    };
    let full = || {
        app.metrics.limited(Limit::Listeners);
        Problem::new(Code::RateLimited, "as many listen as may; try again later")
    };
    let place = app.listeners.clone().try_acquire_owned().map_err(|_| full())?;
    // Before what was missed is looked for: nothing falls in between.
    let heard = app.hub.listen();
    let news = app.authenticator.news();
    let missed = match after {
        Some(change) => Some(app.hub.missed_since(&app.readers, change).await?),
        None => None,
    };
    let (sender, body) = Channel::new(PIECES);
    let stop = app.stop.clone();
    let listener =
        Listener { app, shown, caller, topics, zone, last: 0, sender, planes: Vec::new(), jobs: None };
    tokio::spawn(listener.run(heard, news, missed, stop));
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))];
    // What is in between is not to wait until there is enough for a page.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))];
    Ok(admission::holding((headers, unbuffered, Body::new(body)).into_response(), place))
}

/// Those that are asked for, or all that somebody may.
fn topics(text: Option<&str>, caller: &Caller) -> Result<Vec<Topic>, Problem> {
    let may = |topic: &Topic| {
        caller.scopes.require(topic.scope())?;
        match topic {
            // What is about everything.
            Topic::Node | Topic::Job => caller.limits.allow_everything(),
            _ => Ok(()),
        }
    };
    let Some(text) = text else {
        let topics: Vec<Topic> = Topic::ALL.into_iter().filter(|topic| may(topic).is_ok()).collect();
        let nothing = "the token may listen to nothing: that takes domains:read or records:read";
        return if topics.is_empty() {
            Err(Problem::new(Code::InsufficientScope, nothing))
        } else {
            Ok(topics)
        };
    };
    let topic = |word: &str| {
        let found = Topic::ALL.into_iter().find(|topic| topic.as_str() == word);
        let message = format!("\"topics\": {word} is none; expected zone, record, change, node, job");
        let found = found.ok_or_else(|| Problem::new(Code::InvalidValue, message))?;
        may(&found).map(|()| found)
    };
    text.split(',').map(topic).collect()
}

/// The change behind which they go on. A browser that comes back says it in the header.
fn after(params: &EventParams, headers: &HeaderMap) -> Result<Option<Uuid>, Problem> {
    let header =
        headers.get(&LAST_EVENT_ID).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let Some(text) = header.or(params.after.as_deref()) else { return Ok(None) };
    let message = "Last-Event-ID, or \"after\": expected the id of a change";
    text.parse().map(Some).map_err(|_| Problem::new(Code::InvalidValue, message))
}

impl Listener {
    async fn run(
        mut self,
        heard: broadcast::Receiver<Message>,
        news: watch::Receiver<u64>,
        missed: Option<Missed>,
        stop: Stop,
    ) {
        let told = tokio::select! {
            told = self.tell_all(heard, news, missed) => told,
            () = stopped(stop) => Ok(()),
        };
        if let Err(End::Refused(problem)) = told {
            let data = json!({ "error": problem.message, "code": problem.code.as_str() });
            let _ = self.tell(&[Event { name: "end", id: None, data }]).await;
        }
    }

    async fn tell_all(
        &mut self,
        mut heard: broadcast::Receiver<Message>,
        mut news: watch::Receiver<u64>,
        missed: Option<Missed>,
    ) -> Result<(), End> {
        self.say(format!("retry: {RETRY_MS}\n\n")).await?;
        match missed {
            Some(Missed::Changes(changes)) => {
                for change in changes {
                    self.change(&change).await?;
                }
            }
            Some(Missed::Unknown) => self.resync().await?,
            None => {}
        }
        let is_polled = self.topics.iter().any(|topic| matches!(topic, Topic::Node | Topic::Job));
        let [mut beat, mut look, mut poll] = [BEAT, LOOK, POLL].map(|every| {
            let mut interval = tokio::time::interval_at(Instant::now() + every, every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        self.poll().await?;
        loop {
            tokio::select! {
                message = heard.recv() => match message {
                    Ok(Message::Change(change)) => self.change(&change).await?,
                    Ok(Message::Gap) | Err(RecvError::Lagged(_)) => self.resync().await?,
                    Err(RecvError::Closed) => return Ok(()),
                },
                // Something was revoked, or somebody may other things than before.
                changed = news.changed() => match changed {
                    Ok(()) => self.look_again().await?,
                    Err(_) => return Ok(()),
                },
                _ = look.tick() => self.look_again().await?,
                _ = poll.tick(), if is_polled => self.poll().await?,
                _ = beat.tick() => self.say(": \n\n".to_owned()).await?,
            }
        }
    }

    /// Whether they still may, and what.
    async fn look_again(&mut self) -> Result<(), End> {
        let app = &self.app;
        let known = match &self.shown {
            Shown::Token(token) => app.authenticator.authenticate(&app.readers, token).await,
            Shown::Cookie(value) => app.authenticator.of_cookie(&app.readers, &app.committer, value).await,
        };
        match known {
            Ok(caller) => {
                self.caller = caller;
                let may = |topic: &Topic| self.caller.scopes.require(topic.scope());
                self.topics.iter().try_for_each(may).map_err(End::Refused)
            }
            // While the database is away what was known counts, as everywhere.
            Err(problem) if problem.is_open() => Ok(()),
            Err(problem) => Err(End::Refused(problem)),
        }
    }

    async fn change(&mut self, change: &crate::events::Published) -> Result<(), End> {
        if change.sequence <= self.last {
            return Ok(());
        }
        self.last = change.sequence;
        let events = events(change, &self.caller, &self.topics, self.zone.as_ref());
        self.tell(&events).await
    }

    /// What was missed is not known: from here on all is told again.
    async fn resync(&mut self) -> Result<(), End> {
        self.last = 0;
        let data = json!({ "reason": "something may have been missed: read what you need anew" });
        self.tell(&[Event { name: "resync", id: None, data }]).await
    }

    /// What has become of data planes and jobs.
    async fn poll(&mut self) -> Result<(), End> {
        let mut news = Vec::new();
        if self.topics.contains(&Topic::Node) {
            let live = self.app.planes.live();
            let now: Vec<(String, u64)> =
                live.into_iter().map(|plane| (plane.name, plane.applied.sequence)).collect();
            for (name, sequence) in now.iter().filter(|plane| !self.planes.contains(plane)) {
                news.push(node(name, "live", Some(*sequence)));
            }
            let is_gone = |before: &&(String, u64)| !now.iter().any(|(name, _)| *name == before.0);
            news.extend(self.planes.iter().filter(is_gone).map(|(name, _)| node(name, "gone", None)));
            self.planes = now;
        }
        if self.topics.contains(&Topic::Job) {
            news.extend(self.jobs().await);
        }
        self.tell(&news).await
    }

    /// Jobs that are not as they were; none while the database is away.
    async fn jobs(&mut self) -> Vec<Event> {
        const LATEST: i64 = 200;
        let latest = async {
            let mut connection = self.app.readers.acquire().await?;
            jobs::list(&mut connection, jobs::Filter::default(), Uuid::max(), LATEST).await
        };
        let Ok(latest) = latest.await else { return Vec::new() };
        let now: Vec<(Uuid, String)> =
            latest.iter().map(|job| (job.id, format!("{} {}", job.state.as_str(), job.attempts))).collect();
        // What was there before is no news.
        let is_news = |at: &usize| self.jobs.as_ref().is_some_and(|before| !before.contains(&now[*at]));
        let told = (0..now.len()).filter(is_news).map(|at| {
            let job = &latest[at];
            let data =
                json!({ "id": job.id, "kind": job.kind, "state": job.state.as_str(), "attempts": job.attempts });
            Event { name: Topic::Job.as_str(), id: None, data }
        });
        let told = told.collect();
        self.jobs = Some(now);
        told
    }

    async fn tell(&mut self, events: &[Event]) -> Result<(), End> {
        if events.is_empty() {
            return Ok(());
        }
        self.say(events.iter().map(written).collect()).await
    }

    async fn say(&mut self, text: String) -> Result<(), End> {
        self.sender.send_data(Bytes::from(text)).await.map_err(|_| End::Gone)
    }
}

fn node(name: &str, state: &str, sequence: Option<u64>) -> Event {
    let data: Value = json!({ "node": name, "state": state, "sequence": sequence });
    Event { name: Topic::Node.as_str(), id: None, data }
}

/// As it is sent. JSON on one line has no line end inside, whatever names and values hold.
fn written(event: &Event) -> String {
    let id = event.id.as_ref().map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: {}\n{id}data: {}\n\n", event.name, event.data)
}
