//! The feed from a control plane on another machine, over HTTPS: what is asked is what [`super::source`] says, and what comes is
//! believed because of who signed it, not because of the way it came.
//!
//! - [`join`]: what is known of the control plane;
//! - `tls`: the one key that is believed;
//! - `client`: requests;
//! - [`stream`]: batches from Redis, where the control plane says that there are some;
//! - `report`: where we stand, told to the control plane.

mod client;
pub mod join;
mod report;
pub mod stream;
mod tls;

use std::fmt::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::{Buf as _, Bytes};
use godwit_engine::snapshot::Position;
use godwit_wire::feed::{Entry, Index, VerifyingKey, ZoneBlob};
use godwit_wire::name::Name;
use hyper::{HeaderMap, Method, StatusCode};
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::sync::watch;

use super::follower::Applied;
use super::source::{Entries, Joined, Lost, Source, ZoneState};
use client::{Client, Response};
use join::Join;
use stream::{Place, Stream};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for the first one, at a start that waits for it.
const PATIENCE_START: Duration = Duration::from_secs(3);
/// The same for the index, which takes a look at every zone.
const PATIENCE_INDEX: Duration = Duration::from_secs(60);

/// How to get there, worked out while names can still be looked up.
#[derive(Clone, Debug)]
pub struct Remote {
    join: Arc<Join>,
    tls: Arc<ClientConfig>,
    addresses: Arc<[SocketAddr]>,
    stream: Option<Place>,
}

impl Remote {
    /// Looks up the addresses of the control plane, and asks it where there is a stream. Blocks for some seconds at most.
    ///
    /// # Errors
    /// TLS is not to be had. That the control plane is not to be had is no error: what is served does not depend on it.
    pub fn new(join: Join) -> anyhow::Result<Remote> {
        let addresses: Vec<SocketAddr> = match (join.host.as_str(), join.port).to_socket_addrs() {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                tracing::error!(host = join.host, %error, "the control plane's address is not known until a restart");
                Vec::new()
            }
        };
        let tls = tls::config(join.spki_sha256).context("TLS")?;
        let mut remote = Remote { join: Arc::new(join), tls, addresses: addresses.into(), stream: None };
        let mut client = remote.client()?;
        // On a thread of its own: whoever starts may have a runtime.
        let asked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let asked = runtime.block_on(client.ask(Method::GET, "/internal/v1/feed", None, PATIENCE_START));
            runtime.shutdown_background();
            asked
        });
        match asked.join() {
            Ok(Ok(response)) if response.status == StatusCode::OK => {
                remote.stream =
                    serde_json::from_slice::<Feed>(&response.body).ok().and_then(|feed| feed.redis);
            }
            // It has said so.
            _ => {}
        }
        Ok(remote)
    }

    /// TCP ports that are connected to.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let stream = self.stream.as_ref().and_then(Place::port);
        [self.join.port].into_iter().chain(stream).collect()
    }

    /// What is known of the control plane.
    #[must_use]
    pub fn join(&self) -> &Join {
        &self.join
    }

    /// The asking end.
    pub(super) fn source(&self) -> anyhow::Result<Https> {
        let stream = self.stream.clone().map(Stream::new).transpose().context("URL of the stream")?;
        Ok(Https { client: self.client()?, join: Arc::clone(&self.join), stream })
    }

    /// What tells the control plane where we stand, until the feed ends.
    pub(super) fn report(
        &self,
        applied: watch::Receiver<Applied>,
    ) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
        Ok(report::run(self.client()?, applied))
    }

    fn client(&self) -> anyhow::Result<Client> {
        Client::new(&self.join, Arc::clone(&self.tls), Arc::clone(&self.addresses))
    }
}

/// The feed over HTTPS.
pub(super) struct Https {
    client: Client,
    join: Arc<Join>,
    stream: Option<Stream>,
}

/// What a control plane says of the feed.
#[derive(Deserialize)]
struct Feed {
    redis: Option<Place>,
}

impl Https {
    async fn get(&mut self, path: &str, patience: Duration) -> Result<Response, Lost> {
        self.client.ask(Method::GET, path, None, patience).await.map_err(|_| Lost::Again)
    }

    fn keys(&self) -> &[VerifyingKey] {
        &self.join.feed_keys
    }
}

impl Source for Https {
    async fn join(&mut self) -> Result<Joined, Lost> {
        Ok(Joined { digest_key: self.join.digest_key.clone() })
    }

    async fn index(&mut self) -> Result<Bytes, Lost> {
        let Response { status, body, .. } = self.get("/internal/v1/index", PATIENCE_INDEX).await?;
        if status != StatusCode::OK {
            return Err(refused("index", status));
        }
        Index::verify(&body, self.keys()).map_err(|error| unsigned("index", &error))?;
        let generation = Index::decode(&body).map(|index| index.generation).unwrap_or_default();
        if generation < self.join.generation {
            tracing::error!(
                generation,
                joined = self.join.generation,
                "the control plane is in an earlier history than when this node was added; nothing is taken from it"
            );
            return Err(Lost::Again);
        }
        Ok(body)
    }

    async fn zones(&mut self, apexes: Vec<Name>) -> Result<Vec<(Name, Option<ZoneState>)>, Lost> {
        let mut answers = Vec::with_capacity(apexes.len());
        for apex in apexes {
            let state = self.zone(&apex).await;
            // One that cannot be had is asked for again; without a connection the others are not to be had either.
            let is_lost = state.is_err();
            answers.push((apex, state.ok()));
            if is_lost && answers.len() == 1 {
                return Err(Lost::Again);
            }
        }
        Ok(answers)
    }

    async fn entries(&mut self, after: Position) -> Result<Entries, Lost> {
        if let Some(stream) = &mut self.stream
            && let Some(entries) = stream.entries(after, &self.join.feed_keys).await
        {
            return Ok(Entries::Next(entries));
        }
        let Position { generation, epoch, sequence, chain } = after;
        let chain = hex(&chain);
        let path = format!(
            "/internal/v1/batches?generation={generation}&epoch={epoch}&sequence={sequence}&chain={chain}"
        );
        let Response { status, body, .. } = self.get(&path, PATIENCE).await?;
        match status {
            StatusCode::OK => {}
            StatusCode::GONE => return Ok(Entries::Gone),
            StatusCode::CONFLICT => return Ok(Entries::Behind),
            other => return Err(refused("batches", other)),
        }
        let mut entries = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let Ok(length) = rest.try_get_u32() else { return Err(Lost::Again) };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > rest.len() {
                return Err(Lost::Again);
            }
            let entry = rest.split_to(length);
            Entry::verify(&entry, self.keys()).map_err(|error| unsigned("entry", &error))?;
            entries.push(entry);
        }
        Ok(Entries::Next(entries))
    }
}

impl Https {
    async fn zone(&mut self, apex: &Name) -> Result<ZoneState, Lost> {
        // Any octet may stand in a label: the name in wire format says which, in hexadecimal.
        let path = format!("/internal/v1/zones/{}", in_path(apex));
        let Response { status, headers, body } = self.get(&path, PATIENCE).await?;
        let number = |name| number(&headers, name).ok_or_else(|| refused("zone", status));
        let (version, settled) = (number("godwit-zone-version")?, number("godwit-settled")?);
        let blob = match status {
            StatusCode::OK => {
                ZoneBlob::verify(&body, self.keys()).map_err(|error| unsigned("zone", &error))?;
                Some(body)
            }
            StatusCode::NOT_FOUND => None,
            other => return Err(refused("zone", other)),
        };
        Ok(ZoneState { blob, version, settled })
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn refused(what: &str, status: StatusCode) -> Lost {
    tracing::warn!(what, status = status.as_u16(), "the control plane does not give what was asked for");
    Lost::Again
}

fn unsigned(what: &str, error: &dyn std::fmt::Display) -> Lost {
    tracing::error!(what, %error, "WHAT CAME IS NOT SIGNED BY A KEY OF THE DEPLOYMENT; it is not used");
    Lost::Again
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// A name as part of a path: presentation format, and what is not unreserved there percent-encoded (RFC 3986 §2.3).
fn in_path(name: &Name) -> String {
    let mut text = String::new();
    for octet in name.to_string().bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            text.push(char::from(octet));
        } else {
            let _ = write!(text, "%{octet:02X}");
        }
    }
    text
}
