//! The feed from a control plane on another machine, over HTTPS: what is asked is what [`super::source`] says, and what comes is
//! believed because of who signed it, not because of the way it came.
//!
//! - [`join`]: what is known of the control plane at first; `known`: what is learned since; `ways`: how it says so;
//! - `tls`: the one key that is believed;
//! - `client`: requests;
//! - [`stream`]: batches from Redis, where the control plane says that there are some; [`cache`]: zones and their index, likewise;
//!   `elsewhere`: where those are;
//! - `report`: where we stand, told to the control plane.

pub mod cache;
mod client;
mod elsewhere;
pub mod join;
mod known;
mod report;
pub mod stream;
mod tls;
mod ways;

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::{Buf as _, Bytes};
use godwit_engine::snapshot::Position;
use godwit_wire::feed::{Absence, Difference, Entry, Head, Index, PartSums, VerifyingKey, ZoneBlob};
use godwit_wire::name::Name;
use hyper::{Method, StatusCode};
use tokio::sync::watch;

use super::follower::Applied;
use super::source::{ANSWER_OCTETS, Entries, Joined, Lost, Source, ZoneState};
use cache::{Cache, Listed};
use client::{Client, Places, Response};
use join::{ControlPlane, Join};
use known::Known;
use report::Report;
use stream::Stream;
use ways::Ways;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for the first one, at a start that waits for it.
const PATIENCE_START: Duration = Duration::from_secs(3);
/// The same for the index, which takes a look at every zone.
const PATIENCE_INDEX: Duration = Duration::from_secs(60);

/// A cache that is so many change sets behind is not begun from.
const FAR: u64 = 10_000;

/// How to get there, worked out while names can still be looked up.
#[derive(Clone)]
pub struct Remote {
    join: Arc<Join>,
    known: Arc<Known>,
    places: Arc<Places>,
    ports: Vec<u16>,
}

/// Without secrets.
impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("join", &self.join).finish_non_exhaustive()
    }
}

impl Remote {
    /// Looks up the addresses of control planes, and asks one where there is a stream and which keys are trusted now. Blocks for
    /// some seconds at most. `state`: where what is learned is kept, if anywhere.
    ///
    /// # Errors
    /// TLS is not to be had. That no control plane is to be had is no error: what is served does not depend on it.
    pub fn new(join: Join, state: Option<&Path>) -> anyhow::Result<Remote> {
        let known = Arc::new(Known::load(&join, state));
        let control_planes = looked_up(known.control_planes(&join));
        let tls = tls::config(join.spki_sha256).context("TLS")?;
        let places = Places::new(tls, &control_planes, &join.token)?;
        // On a thread of its own: whoever starts may have a runtime.
        let told = {
            let (mut client, join, known) = (Client::new(&places), join.clone(), Arc::clone(&known));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let ports = runtime.block_on(told(&mut client, &join, &known));
                runtime.shutdown_background();
                Ok::<_, std::io::Error>(ports)
            })
        };
        // Where nothing is told, it was said why.
        let redis_ports = told.join().ok().and_then(Result::ok).unwrap_or_default();
        let ports = control_planes.iter().map(|(plane, _)| plane.port).chain(redis_ports).collect();
        Ok(Remote { join: Arc::new(join), known, places, ports })
    }

    /// TCP ports that are connected to.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.ports.clone()
    }

    /// What is known of the control plane.
    #[must_use]
    pub fn join(&self) -> &Join {
        &self.join
    }

    /// The asking end.
    pub(super) fn source(&self) -> anyhow::Result<Https> {
        let elsewhere = self.known.elsewhere();
        let stream = elsewhere.redis.map(Stream::new).transpose().context("URL of the stream")?;
        let cache = elsewhere.cache.map(Cache::new).transpose().context("URL of the record cache")?;
        let cached = cache.map(|cache| Cached { cache, listed: Listed::default(), was_used: false });
        let (join, known) = (Arc::clone(&self.join), Arc::clone(&self.known));
        Ok(Https { client: Client::new(&self.places), join, known, stream, cached })
    }

    /// What tells the control plane where we stand, until the feed ends.
    pub(super) fn report(
        &self,
        applied: watch::Receiver<Applied>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (client, known) = (Client::new(&self.places), Arc::clone(&self.known));
        let ways = Ways::of(&known, &self.join);
        Report { client, known, ways, applied }.run()
    }
}

/// Learns what the control plane says, where it says something; what it said at an earlier start holds otherwise. TCP ports of the
/// servers of Redis that are there now.
async fn told(client: &mut Client, join: &Join, known: &Known) -> Vec<u16> {
    let asked = client.ask(Method::GET, ways::PATH, None, PATIENCE_START).await;
    if let Some(response) = asked.ok().filter(|response| response.status == StatusCode::OK) {
        Ways::of(known, join).learn(known, &response.body);
    }
    known.elsewhere().ports_now().await
}

/// Each with its addresses. All at once: one that takes long keeps no other waiting.
fn looked_up(control_planes: Vec<ControlPlane>) -> Vec<(ControlPlane, Vec<SocketAddr>)> {
    let look_up = |plane: ControlPlane| {
        let addresses = match (plane.host.as_str(), plane.port).to_socket_addrs() {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                tracing::error!(%plane, %error, "the control plane's address is not known until a restart");
                Vec::new()
            }
        };
        (plane, addresses)
    };
    let looking: Vec<_> =
        control_planes.into_iter().map(|plane| std::thread::spawn(move || look_up(plane))).collect();
    looking.into_iter().filter_map(|thread| thread.join().ok()).collect()
}

/// The feed over HTTPS.
pub(super) struct Https {
    client: Client,
    join: Arc<Join>,
    known: Arc<Known>,
    stream: Option<Stream>,
    cached: Option<Cached>,
}

/// The record cache, and what is being fetched.
struct Cached {
    cache: Cache,
    /// Of the last index.
    listed: Listed,
    /// The last index came from there: where that was not enough, the next comes from the control plane.
    was_used: bool,
}

impl Https {
    async fn get(&mut self, path: &str, patience: Duration) -> Result<Response, Lost> {
        self.client.ask(Method::GET, path, None, patience).await.map_err(|_| Lost::Again)
    }

    fn keys(&self) -> Vec<VerifyingKey> {
        self.known.keys()
    }
}

impl Source for Https {
    async fn join(&mut self) -> Result<Joined, Lost> {
        Ok(Joined { digest_key: self.join.digest_key.clone() })
    }

    /// A control plane that cannot say what differs may have an index.
    async fn difference(&mut self, held: &PartSums) -> Result<Option<Bytes>, Lost> {
        let body = Some(client::octets(held.encode()));
        let asked = self.client.ask(Method::POST, "/internal/v1/difference", body, PATIENCE).await;
        let Some(Response { body, .. }) = asked.ok().filter(|response| response.status == StatusCode::OK)
        else {
            return Ok(None);
        };
        let verified = Difference::verify(&body, &self.keys());
        let Ok(()) = verified.map_err(|error| unsigned("difference", &error)) else { return Ok(None) };
        let Ok(Difference { place, zones, .. }) = Difference::decode(&body) else { return Ok(None) };
        if self.is_earlier(place.generation) {
            return Ok(None);
        }
        if let Some(cached) = &mut self.cached {
            (cached.listed, cached.was_used) = (Listed::of(Index { place, zones }), false);
        }
        Ok(Some(body))
    }

    async fn index(&mut self) -> Result<Bytes, Lost> {
        let first = self.cached.as_ref().is_some_and(|cached| !cached.was_used);
        if first && let Some(index) = self.cached_index().await {
            return Ok(index);
        }
        match self.asked_index().await {
            Err(_) if !first => self.cached_index().await.ok_or(Lost::Again),
            asked => asked,
        }
    }

    async fn zones(&mut self, apexes: Vec<Name>) -> Result<Vec<(Name, Option<ZoneState>)>, Lost> {
        let keys = self.keys();
        let mut found = match &mut self.cached {
            Some(Cached { cache, listed, .. }) => cache.zones(&apexes, listed, &keys).await,
            None => HashMap::new(),
        };
        let (mut answers, mut left) = (Vec::with_capacity(apexes.len()), Vec::new());
        let is_of_use = !found.is_empty();
        for apex in apexes {
            match found.remove(&apex) {
                Some(Some(state)) => answers.push((apex, Some(state))),
                // It comes next time.
                None if is_of_use => {}
                Some(None) | None => left.push(apex),
            }
        }
        // Who asks for zones in quarantine asks for each of them seldom: all of them, as long as that is not too much.
        let mut octets = 0;
        while !left.is_empty() && octets < ANSWER_OCTETS {
            match self.asked_zones(&left).await {
                Ok(more) => {
                    octets +=
                        more.iter().filter_map(|(_, zone)| Some(zone.as_ref()?.octets())).sum::<usize>();
                    left.drain(..more.len());
                    answers.extend(more);
                }
                // What was found counts; the others are asked for again.
                Err(_) if !answers.is_empty() => break,
                Err(lost) => return Err(lost),
            }
        }
        Ok(answers)
    }

    async fn entries(&mut self, after: Position) -> Result<Entries, Lost> {
        if let Some(cached) = &mut self.cached {
            // All is there: what was listed is of no use any more.
            cached.listed = Listed::default();
        }
        if let Some(stream) = &mut self.stream
            && let Some(entries) = stream.entries(after, &self.known.keys()).await
        {
            return Ok(Entries::Next(entries));
        }
        let Position { generation, epoch, sequence, chain } = after;
        let chain = hex(&chain);
        let path = format!(
            "/internal/v1/batches?generation={generation}&epoch={epoch}&sequence={sequence}&chain={chain}"
        );
        let Response { status, body } = self.get(&path, PATIENCE).await?;
        match status {
            StatusCode::OK => {}
            StatusCode::GONE => return Ok(Entries::Gone),
            StatusCode::CONFLICT => return Ok(Entries::Behind),
            other => return Err(refused("batches", other)),
        }
        let (mut entries, keys) = (Vec::new(), self.keys());
        let mut rest = body;
        while !rest.is_empty() {
            let Ok(length) = rest.try_get_u32() else { return Err(Lost::Again) };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > rest.len() {
                return Err(Lost::Again);
            }
            let entry = rest.split_to(length);
            Entry::verify(&entry, &keys).map_err(|error| unsigned("entry", &error))?;
            entries.push(entry);
        }
        Ok(Entries::Next(entries))
    }
}

impl Https {
    /// The index of the record cache, where it is not far behind what the control plane says, if it says anything.
    async fn cached_index(&mut self) -> Option<Bytes> {
        let keys = self.known.keys();
        let Join { digest_key, generation, .. } = &*self.join;
        let cached = self.cached.as_mut()?;
        let index = cached.cache.index(&keys, digest_key, *generation).await?;
        let asked = self.client.ask(Method::GET, "/internal/v1/head", None, PATIENCE_START).await;
        let head = asked.ok().filter(|response| response.status == StatusCode::OK);
        let head = head.filter(|response| Head::verify(&response.body, &keys).is_ok());
        if let Some(Ok(head)) = head.map(|response| Head::decode(&response.body)) {
            let is_same = head.generation == index.place.generation;
            if !is_same || head.sequence.saturating_sub(index.place.sequence) > FAR {
                tracing::warn!(
                    sequence = index.place.sequence,
                    now = head.sequence,
                    "the record cache is far behind; the control plane is asked instead"
                );
                return None;
            }
        }
        let mut octets = Vec::new();
        index.encode(&mut octets);
        (cached.listed, cached.was_used) = (Listed::of(index), true);
        Some(octets.into())
    }

    /// As many of the first of these as one answer has.
    async fn asked_zones(&mut self, apexes: &[Name]) -> Result<Vec<(Name, Option<ZoneState>)>, Lost> {
        let names: Vec<u8> = apexes.iter().flat_map(Name::as_wire).copied().collect();
        let body = Some(client::octets(names));
        let asked = self.client.ask(Method::POST, "/internal/v1/zones", body, PATIENCE).await;
        let Response { status, body: mut rest } = asked.map_err(|_| Lost::Again)?;
        if status != StatusCode::OK {
            return Err(refused("zones", status));
        }
        let keys = self.keys();
        let mut answers = Vec::with_capacity(apexes.len());
        for apex in apexes {
            if rest.is_empty() {
                break;
            }
            let given = Given::next(&mut rest).ok_or_else(|| refused("whole zones", status))?;
            answers.push((apex.clone(), given.zone(apex, &keys)));
        }
        if answers.is_empty() { Err(refused("any zone", status)) } else { Ok(answers) }
    }

    /// Whether a generation is none that this node may follow.
    fn is_earlier(&self, generation: u64) -> bool {
        let joined = self.join.generation;
        if generation < joined {
            tracing::error!(
                generation,
                joined,
                "the control plane is in an earlier history than when this node was added; nothing is taken from it"
            );
        }
        generation < joined
    }

    async fn asked_index(&mut self) -> Result<Bytes, Lost> {
        let Response { status, body } = self.get("/internal/v1/index", PATIENCE_INDEX).await?;
        if status != StatusCode::OK {
            return Err(refused("index", status));
        }
        Index::verify(&body, &self.keys()).map_err(|error| unsigned("index", &error))?;
        let index = Index::decode(&body);
        let generation = index.as_ref().map(|index| index.place.generation).unwrap_or_default();
        if self.is_earlier(generation) {
            return Err(Lost::Again);
        }
        if let (Some(cached), Ok(index)) = (&mut self.cached, index) {
            (cached.listed, cached.was_used) = (Listed::of(index), false);
        }
        Ok(body)
    }
}

/// One zone of an answer.
struct Given {
    settled: u64,
    version: u64,
    /// `wire::feed::ZoneBlob`, or `wire::feed::Absence`; empty where it cannot be read.
    octets: Bytes,
}

impl Given {
    /// The next of an answer; `None` where there is no whole one.
    fn next(rest: &mut Bytes) -> Option<Given> {
        let (settled, version) = (rest.try_get_u64().ok()?, rest.try_get_u64().ok()?);
        let length = usize::try_from(rest.try_get_u32().ok()?).ok().filter(|length| *length <= rest.len())?;
        Some(Given { settled, version, octets: rest.split_to(length) })
    }

    /// What is believed of it.
    fn zone(self, apex: &Name, keys: &[VerifyingKey]) -> Option<ZoneState> {
        let Given { settled, version, octets } = self;
        if octets.is_empty() {
            return None;
        }
        if let Ok(Absence { zone, version, settled }) = Absence::decode(&octets) {
            let verified =
                Absence::verify(&octets, keys).map_err(|error| unsigned("absence of a zone", &error));
            let gone = ZoneState { blob: None, version, settled };
            return (verified.is_ok() && zone == *apex).then_some(gone);
        }
        let verified = ZoneBlob::verify(&octets, keys).map_err(|error| unsigned("zone", &error));
        verified.is_ok().then_some(ZoneState { blob: Some(octets), version, settled })
    }
}

fn refused(what: &str, status: StatusCode) -> Lost {
    tracing::warn!(what, status = status.as_u16(), "the control plane does not give what was asked for");
    Lost::Again
}

fn unsigned(what: &str, error: &dyn fmt::Display) -> Lost {
    tracing::error!(what, %error, "WHAT CAME IS NOT SIGNED BY A KEY OF THE DEPLOYMENT; it is not used");
    Lost::Again
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use godwit_wire::feed::SigningKey;

    use super::*;
    use crate::feed::testing::name;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    fn absent(zone: &str, signed_by: Option<u8>) -> Vec<u8> {
        let absence = Absence { zone: name(zone), version: 3, settled: 9 };
        let mut octets = Vec::new();
        match signed_by {
            Some(seed) => absence.encode_signed(&key(seed), &mut octets),
            None => absence.encode(&mut octets),
        }
        octets
    }

    #[test]
    fn p9_that_a_zone_is_not_there_is_believed_from_who_signs_alone() {
        let keys = [key(1).verifying_key(), key(2).verifying_key()];
        for (octets, believed) in [
            (absent("a.test", Some(1)), true),
            (absent("a.test", Some(2)), true),
            (absent("a.test", Some(3)), false),
            (absent("a.test", None), false),
            (absent("b.test", Some(1)), false),
            (Vec::new(), false),
            (b"GDWT".to_vec(), false),
        ] {
            let mut answer = vec![0; 16];
            answer.extend(u32::try_from(octets.len()).unwrap().to_be_bytes());
            answer.extend(&octets);
            let mut rest = Bytes::from(answer.clone());
            let zone = Given::next(&mut rest).expect("it is whole").zone(&name("a.test"), &keys);
            // What is said beside it, unsigned, is not what counts.
            let gone = ZoneState { blob: None, version: 3, settled: 9 };
            assert_eq!(zone, believed.then_some(gone), "{octets:?}");
            let mut short = Bytes::from(answer).slice(..19 + octets.len().saturating_sub(1).min(1));
            assert!(octets.is_empty() || Given::next(&mut short).is_none());
        }
    }
}
