//! What nodes are given: the log after a position, where it ends, the index of zones, whole zones. All of it is signed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use godwit_wire::feed::{PARTS, PartSums};
use godwit_wire::name::{Name, NameRef, wire_len};
use hyper::body::{Frame, SizeHint};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{Caller, Internal};
use crate::api::admission;
use crate::api::read::Params;
use crate::api::write;
use crate::error::{Code, Problem};
use crate::hex;
use crate::observe::metrics::Limit;
use crate::relay::signer::Signer;
use crate::relay::{Entries, Position, ZoneState};
use crate::store::now_us;

/// Why there are no batches.
static FEED: HeaderName = HeaderName::from_static("godwit-feed");

/// Answers at once that may be of any length: held in memory until they are read.
const INDEXES: usize = 16;
const ZONES: usize = 8;
/// Zones that one request may ask for, and the octets of as many names as long as they may be.
const ASKED: usize = 1_024;
const ASKED_OCTETS: usize = ASKED * 255;
/// How long somebody waits to be one of them.
const TURN: Duration = Duration::from_secs(2);
/// An index that was made so long ago is given to the next who asks: it says itself which place of the feed it is of, and
/// many ask at once when something is wrong.
const INDEX_KEPT: Duration = Duration::from_secs(1);
/// A longer one is not kept.
const INDEX_KEPT_OCTETS: usize = 64 << 20;
/// How often it is said that a node is ahead.
const SAID_AGAIN_US: i64 = 60_000_000;

/// Bounds what indexes and zones take.
pub(super) struct Large {
    indexes: Arc<Semaphore>,
    zones: Arc<Semaphore>,
    index: Mutex<Option<(Instant, Bytes)>>,
    /// When it was last said that a node is ahead.
    said_us: AtomicI64,
}

impl Default for Large {
    fn default() -> Large {
        Large {
            indexes: Arc::new(Semaphore::new(INDEXES)),
            zones: Arc::new(Semaphore::new(ZONES)),
            index: Mutex::default(),
            said_us: AtomicI64::new(0),
        }
    }
}

/// The ways to the feed besides this listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ways {
    /// A stream; `None` where data planes are told of none.
    pub(crate) redis: Option<StreamPlace>,
    /// The record cache; `None` where data planes are told of none.
    pub(crate) cache: Option<CachePlace>,
    /// Listeners of all control planes, this one's with them.
    pub(crate) urls: Arc<[String]>,
    /// Signs what is said of the keys.
    pub(crate) signer: Option<Arc<Signer>>,
}

/// What a node is told of them.
#[derive(Serialize)]
struct Told<'a> {
    redis: Option<&'a StreamPlace>,
    cache: Option<&'a CachePlace>,
    /// `wire::feed::Announcement`, signed, in base64url: the keys of the feed, and where control planes are.
    announcement: Option<String>,
}

/// Where the record cache is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CachePlace {
    /// With a user who can only read, and the password.
    pub(crate) url: String,
    /// The database, whichever the URL names; 0 in a cluster.
    pub(crate) database: i64,
    /// Key of the index.
    pub(crate) index: String,
    /// Key of the head that the index adds up to.
    pub(crate) head: String,
    /// What keys of zones begin with.
    pub(crate) zones: String,
}

/// Where a stream is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StreamPlace {
    /// With a user who can only read, and the password.
    pub(crate) url: String,
    /// Key of the stream.
    pub(crate) stream: String,
    /// Key of the latest head.
    pub(crate) head: String,
}

/// The ways to the feed besides this listener, and what it is signed with.
pub(super) async fn ways(State(internal): State<Arc<Internal>>) -> Response {
    let Ways { redis, cache, urls, signer } = &internal.ways;
    let announced = signer.as_ref().map(|signer| signer.now().announcement(urls));
    let announcement = announced.map(|octets| URL_SAFE_NO_PAD.encode(octets));
    axum::Json(Told { redis: redis.as_ref(), cache: cache.as_ref(), announcement }).into_response()
}

/// Where the feed stands.
pub(super) async fn head(State(internal): State<Arc<Internal>>) -> Response {
    octets(internal.feed.head()).into_response()
}

/// A place in the log.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    generation: u64,
    epoch: u64,
    sequence: u64,
    chain: String,
}

/// What comes after a place in the log, each entry behind its length; waited for.
pub(super) async fn batches(
    State(internal): State<Arc<Internal>>,
    Extension(caller): Extension<Caller>,
    Params(after): Params<After>,
) -> Result<Response, Problem> {
    let After { generation, epoch, sequence, chain } = after;
    let chain = hex::decoded(&chain)
        .ok_or_else(|| Problem::new(Code::MalformedRequest, "chain: expected 64 hexadecimal digits"))?;
    match internal.feed.entries(Position { generation, epoch, sequence, chain }).await? {
        Entries::Next(entries) => Ok(octets(Body::new(Pieces::of(entries))).into_response()),
        Entries::Gone => Ok((StatusCode::GONE, [(&FEED, "gone")]).into_response()),
        Entries::Behind => {
            // Its word alone: the feed goes on.
            internal.app.metrics.node_ahead();
            let (now, said) = (now_us(), internal.large.said_us.load(Ordering::Relaxed));
            if now.saturating_sub(said) >= SAID_AGAIN_US {
                internal.large.said_us.store(now, Ordering::Relaxed);
                tracing::warn!(
                    node = caller.name,
                    sequence,
                    "a node says that it has what this database does not know: the database is an older copy, or the node \
                     is not what it was"
                );
            }
            Ok((StatusCode::CONFLICT, [(&FEED, "behind")]).into_response())
        }
    }
}

/// All zones with version and digest.
pub(super) async fn index(State(internal): State<Arc<Internal>>) -> Result<Response, Problem> {
    let turn = turn(&internal, &internal.large.indexes).await?;
    let mut kept = internal.large.index.lock().await;
    let recent = kept.take().filter(|(made, _)| made.elapsed() < INDEX_KEPT);
    let (made, index) = match recent {
        Some(recent) => recent,
        // As old as what was read first.
        None => (Instant::now(), internal.feed.index().await?),
    };
    if index.len() <= INDEX_KEPT_OCTETS {
        *kept = Some((made, index.clone()));
    }
    drop(kept);
    Ok(admission::holding(octets(index).into_response(), turn))
}

/// All zones of those parts in which they add up to something else than what is held: `wire::feed::PartSums` gives
/// `wire::feed::Difference`.
pub(super) async fn difference(
    State(internal): State<Arc<Internal>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (sums, _room) = write::read_in_time(&internal.app, &parts.headers, body, PartSums::OCTETS).await?;
    let held = PartSums::decode(&sums).ok_or_else(|| {
        Problem::new(Code::MalformedRequest, format!("expected {PARTS} sums, {} octets", PartSums::OCTETS))
    })?;
    let turn = turn(&internal, &internal.large.indexes).await?;
    let difference = internal
        .feed
        .difference(&held)
        .await?
        .ok_or_else(|| Problem::new(Code::NotFound, "ask for the index"))?;
    Ok(admission::holding(octets(difference).into_response(), turn))
}

/// Whole zones: the first of those that are asked for, as many as one answer has. Each behind the sequence at which it is
/// settled, its version, and its length, which is 0 where it cannot be read. Where there is no such zone that is said, and signed.
pub(super) async fn zones(
    State(internal): State<Arc<Internal>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (octets_asked, _room) =
        write::read_in_time(&internal.app, &parts.headers, body, ASKED_OCTETS).await?;
    let apexes = apexes(&octets_asked).ok_or_else(|| {
        let expected =
            format!("expected 1 to {ASKED} names in wire format, lower case, one behind the other");
        Problem::new(Code::MalformedRequest, expected)
    })?;
    let turn = turn(&internal, &internal.large.zones).await?;
    let zones = internal.feed.zones(&apexes).await?.into_iter().zip(&apexes);
    let zones = zones.map(|(state, apex)| {
        let ZoneState { settled, version, blob } = state?;
        let octets = blob.unwrap_or_else(|| internal.feed.absence(apex, version, settled));
        Some(Zone { settled, version, octets })
    });
    let zones = zones.map(Option::unwrap_or_default).collect();
    Ok(admission::holding(octets(Body::new(Pieces::of_zones(zones))).into_response(), turn))
}

fn apexes(mut octets: &[u8]) -> Option<Vec<Name>> {
    let mut apexes = Vec::new();
    while !octets.is_empty() {
        let (name, rest) = octets.split_at_checked(wire_len(octets).ok()?)?;
        apexes.push(NameRef::from_wire(name).ok()?.to_owned());
        octets = rest;
    }
    (1..=ASKED).contains(&apexes.len()).then_some(apexes)
}

async fn turn(internal: &Internal, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    match tokio::time::timeout(TURN, places.clone().acquire_owned()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => {
            internal.app.metrics.limited(Limit::Resyncs);
            Err(Problem::new(Code::DbPoolTimeout, "others read zones just now; try again"))
        }
    }
}

fn octets<T>(body: T) -> ([(HeaderName, &'static str); 1], T) {
    ([(CONTENT_TYPE, "application/octet-stream")], body)
}

/// One zone of an answer.
#[derive(Default)]
struct Zone {
    settled: u64,
    version: u64,
    /// `wire::feed::ZoneBlob`, or `wire::feed::Absence`; empty where it cannot be read.
    octets: Bytes,
}

/// Octets in pieces, which many answers may share.
struct Pieces(VecDeque<Bytes>);

impl Pieces {
    /// Entries, each behind its length in four octets.
    fn of(entries: Vec<Bytes>) -> Pieces {
        let mut pieces = VecDeque::with_capacity(entries.len() * 2);
        for entry in entries {
            // An entry is a batch, of some megabytes at most.
            let len = u32::try_from(entry.len()).unwrap_or(u32::MAX);
            pieces.push_back(Bytes::copy_from_slice(&len.to_be_bytes()));
            pieces.push_back(entry);
        }
        Pieces(pieces)
    }

    fn of_zones(zones: Vec<Zone>) -> Pieces {
        let mut pieces = VecDeque::with_capacity(zones.len() * 2);
        for Zone { settled, version, octets } in zones {
            let len = u32::try_from(octets.len()).unwrap_or(u32::MAX);
            let head = [&settled.to_be_bytes()[..], &version.to_be_bytes(), &len.to_be_bytes()].concat();
            pieces.push_back(head.into());
            pieces.push_back(octets);
        }
        Pieces(pieces)
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}
