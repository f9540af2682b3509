//! A request that changes something: its body, its preconditions, and how it is answered.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Query, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, EXPECT, IF_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::admission::Taken;
use super::{App, buffered, compression, dry_run, served, whence};
use crate::auth::{Caller, Scope};
use crate::buffer::Carried;
use crate::buffer::entry::Entry;
use crate::buffer::replay::Replays;
use crate::commit::{Link, Reply, Respond};
use crate::error::{Code, Problem};
use crate::model::change::{self, Idempotency, IfMatch, Operation};
use crate::observe::metrics::Limit;
use crate::rates::Charge;
use crate::store::audit::Who;
use crate::store::deadline;

/// The most octets of an ordinary body.
pub const SMALL: usize = 1 << 20;
/// The most octets of an import or a list of changes.
pub const LARGE: usize = 32 << 20;
/// How much of a body that is too long is read and thrown away, so that the answer reaches a caller who still writes.
const MAX_DISCARDED: usize = 64 << 20;
/// From so many octets on a body is not read as JSON or text by a thread that answers others.
const READ_ASIDE: usize = 128 << 10;
/// The most characters of an `Idempotency-Key`.
const MAX_KEY: usize = 255;
/// How long `?wait=applied` waits when nothing is said, and at most.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

pub(crate) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) static CHANGE: HeaderName = HeaderName::from_static("godwit-change");
pub(super) static APPLIED: HeaderName = HeaderName::from_static("godwit-applied");
pub(super) static DRY_RUN: HeaderName = HeaderName::from_static("godwit-dry-run");
pub(super) static CONFIRM: HeaderName = HeaderName::from_static("godwit-confirm");
pub(super) static REPLAYED: HeaderName = HeaderName::from_static("godwit-replayed");

/// Query parameters of writes: `Write::takes` says which of those of `described` one has besides `described::Manner`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteParams {
    /// See `described::InZone`.
    pub zone: Option<String>,
    /// See `described::OfType`.
    #[serde(rename = "type")]
    pub rtype: Option<String>,
    /// See `described::ForTenant`.
    pub tenant: Option<u32>,
    /// See `described::All`.
    pub all: Option<bool>,
    /// See `described::Manner`, as of all that follow.
    pub dry_run: Option<bool>,
    /// How many names it may cost.
    pub confirm: Option<u64>,
    /// `applied`.
    pub wait: Option<String>,
    /// Of the wait.
    pub timeout: Option<String>,
}

/// The parameters of [`WriteParams`] as the OpenAPI document has them, in the parts in which writes take them.
#[allow(dead_code, reason = "they describe")]
pub(super) mod described {
    use utoipa::IntoParams;

    /// How a change is made.
    #[derive(IntoParams)]
    #[into_params(parameter_in = Query)]
    pub(crate) struct Manner {
        /// Judges the request, changes nothing, and says in `dry_run` of the answer which answers of DNS would change.
        dry_run: Option<bool>,
        /// Confirms a change that is refused with `CONFIRMATION_REQUIRED` without: how many names it costs, as the refusal says,
        /// and a dry run in `Godwit-Confirm`.
        confirm: Option<u64>,
        /// `applied`: answers when every data plane serves the change.
        wait: Option<String>,
        /// How long to wait for that, as `5s` or `500ms`; at most 30s.
        timeout: Option<String>,
    }

    /// In which zone.
    #[derive(IntoParams)]
    #[into_params(parameter_in = Query)]
    pub(crate) struct InZone {
        /// The zone that a name is relative to, or that shall hold it.
        zone: Option<String>,
    }

    /// Of which type.
    #[derive(IntoParams)]
    #[into_params(parameter_in = Query)]
    pub(crate) struct OfType {
        /// The type of the RRset.
        #[param(rename = "type")]
        rtype: Option<String>,
    }

    /// Of all types.
    #[derive(IntoParams)]
    #[into_params(parameter_in = Query)]
    pub(crate) struct All {
        /// Deletes all types of the name.
        all: Option<bool>,
    }

    /// For whom.
    #[derive(IntoParams)]
    #[into_params(parameter_in = Query)]
    pub(crate) struct ForTenant {
        /// Of a new zone: whose it is, by the tenant's number. To be said where you may make zones for several.
        tenant: Option<u32>,
    }
}

/// A body and how it is read.
pub trait Payload: Sized + Send + 'static {
    /// The most octets.
    const LIMIT: usize;

    /// Reads it.
    ///
    /// # Errors
    /// `UNSUPPORTED_MEDIA_TYPE` or `MALFORMED_REQUEST`.
    fn read(media_type: Option<&str>, body: Bytes) -> Result<Self, Problem>;
}

/// No body.
#[derive(Clone, Copy, Debug)]
pub struct Empty;

impl Payload for Empty {
    const LIMIT: usize = SMALL;

    fn read(_: Option<&str>, body: Bytes) -> Result<Empty, Problem> {
        if body.is_empty() {
            return Ok(Empty);
        }
        Err(Problem::new(Code::MalformedRequest, "this request takes no body"))
    }
}

/// Reads JSON of a type that refuses unknown fields.
pub(crate) fn json<T: DeserializeOwned>(media_type: Option<&str>, body: &[u8]) -> Result<T, Problem> {
    if media_type != Some("application/json") {
        let is = media_type.unwrap_or("missing");
        let message = format!("the content type is {is}; expected application/json");
        return Err(Problem::new(Code::UnsupportedMediaType, message));
    }
    // The library would take a list for an object, field by field.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::new(Code::MalformedRequest, "the body: expected a JSON object"));
    }
    serde_json::from_slice(body)
        .map_err(|error| Problem::new(Code::MalformedRequest, format!("the body: {error}")))
}

/// Bodies that are JSON, each with the most octets that it may have.
macro_rules! json_bodies {
    ($($body:ty: $limit:expr),* $(,)?) => {$(
        impl crate::api::write::Payload for $body {
            const LIMIT: usize = $limit;

            fn read(media_type: Option<&str>, body: axum::body::Bytes) -> Result<Self, crate::error::Problem> {
                crate::api::write::json(media_type, &body)
            }
        }
    )*};
}
pub(crate) use json_bodies;

/// A zone file.
#[derive(Clone, Debug)]
pub struct ZoneText(pub Bytes);

impl Payload for ZoneText {
    const LIMIT: usize = LARGE;

    fn read(media_type: Option<&str>, body: Bytes) -> Result<ZoneText, Problem> {
        match media_type {
            // RFC 4027.
            Some("text/dns" | "text/plain") => Ok(ZoneText(body)),
            other => {
                let is = other.unwrap_or("missing");
                let message = format!("the content type is {is}; expected text/dns or text/plain");
                Err(Problem::new(Code::UnsupportedMediaType, message))
            }
        }
    }
}

/// A request that changes something, read.
#[derive(Debug)]
pub struct Write<T> {
    /// Its body.
    pub body: T,
    /// Its query parameters.
    pub params: WriteParams,
    /// What its change is called.
    change: Uuid,
    caller: Caller,
    who: Who,
    if_match: Option<IfMatch>,
    idempotency: Option<Idempotency>,
    wait: Option<Duration>,
    answer_by: Option<Instant>,
    /// What the buffer takes where the database is away; `None` where there is none, or the request is not for it.
    kept: Option<Entry>,
    /// What it is counted for, unless it was before.
    charge: Option<Arc<Charge>>,
    /// Its place among those that are read again together.
    link: Option<Link>,
    _room: Taken,
}

impl<T: Payload> FromRequest<Arc<App>> for Write<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Write<T>, Problem> {
        let (parts, body) = request.into_parts();
        let Query(params) = Query::<WriteParams>::try_from_uri(&parts.uri)
            .map_err(|rejection| Problem::new(Code::MalformedRequest, rejection.body_text()))?;
        let caller = parts.extensions.get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Problem::new(Code::Unauthenticated, "this needs a token"))?;
        let who = whence::who(&parts.extensions, &caller);
        let if_match = if_match(&parts.headers)?;
        let key = idempotency_key(&parts.headers)?;
        let wait = wait(&params)?;
        let charge = parts.extensions.get::<Arc<Charge>>().cloned();
        let answer_by = deadline::by();
        let (octets, room) = read_in_time(app, &parts.headers, body, T::LIMIT).await?;
        let octets = Bytes::from(octets);
        let is_long = octets.len() > READ_ASIDE;
        let replays = parts.extensions.get::<Replays>().cloned();
        let change = replays.as_ref().map_or_else(Uuid::now_v7, |replays| replays.change);
        // Of one that is read again, nobody waits for the answer.
        let wait = wait.filter(|_| replays.is_none());
        let idempotency = key.filter(|_| params.dry_run != Some(true)).map(|key| {
            let mut hasher = Sha256::new();
            hasher.update(parts.method.as_str());
            hasher.update([0]);
            hasher.update(parts.uri.path_and_query().map_or("", |path| path.as_str()));
            hasher.update([0]);
            hasher.update(&octets);
            Idempotency { key, request_hash: hasher.finalize().into() }
        });
        let kept = (app.buffer.is_some() && replays.is_none() && params.dry_run != Some(true))
            .then(|| buffered::entry(change, &caller, &who, &parts, idempotency.as_ref(), octets.clone()));
        let media_type = media_type(&parts.headers);
        // With the room that it takes: a caller that goes away meanwhile does not end the reading.
        let read = move || (T::read(media_type.as_deref(), octets), room);
        let (body, room) = if is_long {
            let read = tokio::task::spawn_blocking(read).await;
            read.map_err(|_| Problem::new(Code::Internal, "the body could not be read"))?
        } else {
            read()
        };
        Ok(Write {
            body: body?,
            params,
            change,
            caller,
            who,
            if_match,
            idempotency,
            wait,
            answer_by,
            kept,
            charge,
            link: replays.and_then(|replays| replays.link()),
            _room: room,
        })
    }
}

/// The media type without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// The body and the room that it takes.
pub(crate) async fn read_in_time(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<(Vec<u8>, Taken), Problem> {
    let mut room = app.body_room.begin();
    let read = tokio::time::timeout(app.body_timeout, read_body(headers, body, limit, &mut room)).await;
    let octets = read.unwrap_or_else(|_| {
        app.metrics.limited(Limit::BodyTime);
        Err(Problem::new(Code::Timeout, "the body did not come in time; nothing was changed"))
    });
    match octets {
        Ok(octets) => Ok((octets, room)),
        Err(problem) => {
            if problem.code == Code::TooLarge {
                app.metrics.limited(Limit::BodyLength);
            }
            Err(problem)
        }
    }
}

async fn read_body(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    room: &mut Taken,
) -> Result<Vec<u8>, Problem> {
    let too_large = || Problem::new(Code::TooLarge, format!("the body is longer than {limit} octets"));
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let declared = declared.unwrap_or(0);
    // Who asks first is told at once; who is writing already reads the answer only when done.
    let asks_first = headers.get(EXPECT).is_some();
    if declared > limit && (asks_first || declared > MAX_DISCARDED) {
        return Err(too_large());
    }
    let mut octets = Vec::new();
    let mut read = 0usize;
    let mut refused = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(Code::MalformedRequest, "the body ended early"))?;
        let Some(data) = frame.data_ref() else { continue };
        read = read.saturating_add(data.len());
        if read > MAX_DISCARDED {
            return Err(too_large());
        }
        if refused.is_none() {
            let room = if read > limit { Err(too_large()) } else { room.grow_to(read) };
            refused = room.err();
        }
        if refused.is_none() {
            octets.extend_from_slice(data);
        } else {
            octets = Vec::new();
            room.clear();
        }
    }
    refused.map_or(Ok(octets), Err)
}

/// RFC 9110 §13.1.1. Versions are strong entity tags; weak ones and tags that no version has ever been match nothing.
fn if_match(headers: &HeaderMap) -> Result<Option<IfMatch>, Problem> {
    let mut versions = Vec::new();
    let mut given = false;
    for value in headers.get_all(IF_MATCH) {
        given = true;
        let malformed = || {
            let message = "If-Match is not a list of ETags as a zone's version gives them, like \"17\"";
            Problem::new(Code::MalformedRequest, message)
        };
        if value.as_bytes().trim_ascii() == b"*" {
            return Ok(Some(IfMatch::Any));
        }
        for tag in entity_tags(value.as_bytes()).ok_or_else(malformed)? {
            versions.extend(tag.strong.then(|| version(tag.opaque)).flatten());
        }
    }
    Ok(given.then_some(IfMatch::Versions(versions)))
}

/// The version that a tag names: written as an answer writes it, not with a sign or zeros before it.
fn version(opaque: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(compression::unmarked(opaque)).ok()?;
    text.parse::<u64>().ok().filter(|version| version.to_string() == text)
}

/// One entity tag (RFC 9110 §8.8.3).
struct EntityTag<'a> {
    strong: bool,
    opaque: &'a [u8],
}

/// A list of entity tags, which may have commas inside (RFC 9110 §5.6.1: empty elements are passed over); `None` when it is
/// none.
fn entity_tags(mut rest: &[u8]) -> Option<Vec<EntityTag<'_>>> {
    let mut tags = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return (!tags.is_empty()).then_some(tags);
        }
        let weak = rest.strip_prefix(b"W/");
        let opened = weak.unwrap_or(rest).strip_prefix(b"\"")?;
        let end = opened.iter().position(|&octet| octet == b'"')?;
        let (opaque, after) = opened.split_at(end);
        // etagc: no spaces and no controls.
        if !opaque.iter().all(|&octet| octet == 0x21 || (octet >= 0x23 && octet != 0x7F)) {
            return None;
        }
        tags.push(EntityTag { strong: weak.is_none(), opaque });
        rest = after[1..].trim_ascii_start();
        if !(rest.is_empty() || rest.starts_with(b",")) {
            return None;
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(&IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=MAX_KEY).contains(&key.len()));
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        let message = format!("Idempotency-Key is not 1 to {MAX_KEY} printable ASCII characters");
        Problem::new(Code::MalformedRequest, message)
    })
}

fn wait(params: &WriteParams) -> Result<Option<Duration>, Problem> {
    let malformed = |message: &str| Err(Problem::new(Code::MalformedRequest, message));
    match params.wait.as_deref() {
        None if params.timeout.is_some() => malformed("timeout goes with wait=applied"),
        None => Ok(None),
        Some("applied") => match params.timeout.as_deref().map(duration) {
            None => Ok(Some(DEFAULT_WAIT)),
            Some(Some(timeout)) => Ok(Some(timeout)),
            Some(None) => malformed("timeout is not a time like 5s or 500ms, at most 30s"),
        },
        Some(_) => malformed("wait can be \"applied\" only"),
    }
}

fn duration(text: &str) -> Option<Duration> {
    let duration = match text.strip_suffix("ms") {
        Some(number) => Duration::from_millis(number.parse().ok()?),
        None => Duration::from_secs(text.strip_suffix('s')?.parse().ok()?),
    };
    (duration <= Duration::from_secs(30)).then_some(duration)
}

impl<T> Write<T> {
    /// Refuses parameters that choose among records or tenants, but those named, where they would choose nothing: who gave one meant
    /// something by it.
    ///
    /// # Errors
    /// `MALFORMED_REQUEST` when there is one.
    pub(super) fn takes(&self, taken: &[&str]) -> Result<(), Problem> {
        let WriteParams { zone, rtype, tenant, all, .. } = &self.params;
        let given = [
            ("zone", zone.is_some()),
            ("type", rtype.is_some()),
            ("tenant", tenant.is_some()),
            ("all", all.is_some()),
        ];
        match given.iter().find(|(name, given)| *given && !taken.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                Err(Problem::new(Code::MalformedRequest, format!("?{name}= means nothing here")))
            }
        }
    }

    /// Who asks, and how they came: for what is no change of records, and takes none of the
    /// parameters that go with one.
    ///
    /// # Errors
    /// `MALFORMED_REQUEST` when there is one.
    pub(super) fn by(&self) -> Result<Who, Problem> {
        let is_plain = matches!(
            &self.params,
            WriteParams {
                zone: None,
                rtype: None,
                tenant: None,
                all: None,
                dry_run: None,
                confirm: None,
                wait: None,
                timeout: None
            }
        );
        if self.caller.unchecked {
            return Err(unavailable());
        }
        if !is_plain || self.if_match.is_some() {
            let message = "this takes no parameters and no If-Match";
            return Err(Problem::new(Code::MalformedRequest, message));
        }
        Ok(self.who.clone())
    }

    /// Commits operations, and answers when that is on disk, or applied where the caller waits for it.
    ///
    /// # Errors
    /// What speaks against the change.
    pub async fn commit(
        self,
        app: &App,
        action: &'static str,
        operations: Vec<Operation>,
        respond: Respond,
    ) -> Result<Response, Problem> {
        if let Some(charge) = &self.charge {
            charge.take_of_zones(app, &operations, &self.caller).await?;
        }
        let dry_run = self.params.dry_run == Some(true);
        if dry_run {
            // It shows what is there, also where the change itself does not reach.
            self.caller.scopes.require(Scope::RecordsRead)?;
            self.caller.limits.allow_everything()?;
        }
        let access = self.caller.access.clone();
        let request = change::Request {
            id: self.change,
            who: self.who,
            action,
            limits: self.caller.limits.clone(),
            access: self.caller.access.clone(),
            operations,
            if_match: self.if_match,
            idempotency: self.idempotency,
            dry_run,
            confirm: self.params.confirm,
        };
        if self.caller.unchecked && self.kept.is_none() {
            return Err(unavailable());
        }
        let commit = app.committer.commit_linked(request, respond, self.link);
        let carried = match (&app.buffer, self.kept) {
            (Some(buffer), Some(kept)) => buffer.carry(kept, self.caller.unchecked, commit).await,
            _ => commit.await.map(Carried::Made),
        };
        let mut done = match carried? {
            Carried::Made(done) => done,
            Carried::Accepted { change, again } => return Ok(buffered::accepted(change, again)),
        };
        if let Some(plan) = done.plan.take() {
            done.reply.body = dry_run::describe(app, &access, *plan, &done.reply.body, self.answer_by).await;
            // 204 has no room for it.
            done.reply.status = if done.reply.status == 204 { 200 } else { done.reply.status };
        }
        let mut response = of_reply(&done.reply, dry_run);
        let headers = response.headers_mut();
        if let (true, Some(confirm)) = (dry_run, done.confirm) {
            headers.insert(CONFIRM.clone(), HeaderValue::from(confirm));
        }
        if done.replayed {
            headers.insert(REPLAYED.clone(), HeaderValue::from_static("true"));
        }
        if let (Some(timeout), false) = (self.wait, dry_run) {
            // The change is made: whatever the wait brings has to be said before the deadline of the request.
            let left = self.answer_by.map(|by| by.saturating_duration_since(Instant::now()));
            let timeout = left.map_or(timeout, |left| timeout.min(left));
            let served = served::wait(app, done.sequence, done.reply.change, timeout).await;
            headers.insert(APPLIED.clone(), served.header());
        }
        Ok(response)
    }
}

/// Who asks is known from memory alone, and this is not for the buffer.
fn unavailable() -> Problem {
    Problem::new(Code::DbUnavailable, "the database is not available; nothing was changed")
}

fn of_reply(reply: &Reply, dry_run: bool) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let mut response = if reply.body.is_empty() {
        status.into_response()
    } else {
        (status, [(CONTENT_TYPE, "application/json")], reply.body.clone()).into_response()
    };
    let headers = response.headers_mut();
    if let Some(version) = reply.version
        && let Ok(value) = HeaderValue::from_str(&format!("\"{version}\""))
    {
        headers.insert(ETAG, value);
    }
    if dry_run {
        headers.insert(DRY_RUN.clone(), HeaderValue::from_static("true"));
    } else if let Ok(value) = HeaderValue::from_str(&reply.change.to_string()) {
        headers.insert(CHANGE.clone(), value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_is_read() {
        for (value, expected) in [
            ("\"17\"", Some(IfMatch::Versions(vec![17]))),
            // Of an answer that was compressed.
            ("\"17-gzip\"", Some(IfMatch::Versions(vec![17]))),
            ("\"17-gzip-gzip\", \"17-br\"", Some(IfMatch::Versions(vec![]))),
            ("\"1\", \"2\"", Some(IfMatch::Versions(vec![1, 2]))),
            ("*", Some(IfMatch::Any)),
            ("\"other\"", Some(IfMatch::Versions(vec![]))),
            ("W/\"17\"", Some(IfMatch::Versions(vec![]))),
            ("W/\"17\", \"18\"", Some(IfMatch::Versions(vec![18]))),
            ("\"a,b\",, \"3\" ,", Some(IfMatch::Versions(vec![3]))),
            ("\"+1\", \"01\", \"\"", Some(IfMatch::Versions(vec![]))),
            ("17", None),
            ("", None),
            (",", None),
            ("\"17", None),
            ("\"1\" \"2\"", None),
            ("\"1 2\"", None),
            ("w/\"17\"", None),
            ("*, \"1\"", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MATCH, HeaderValue::from_static(value));
            let read = if_match(&headers);
            assert_eq!(read.is_err(), expected.is_none(), "{value}");
            assert_eq!(read.ok().flatten(), expected, "{value}");
        }
        assert_eq!(if_match(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn times_are_read() {
        assert_eq!(duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        for text in ["", "5", "s", "31s", "-1s", "5m"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
