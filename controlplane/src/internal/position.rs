//! Where a node says that it stands.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Extension;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use godwit_wire::name::Name;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::nodes::{Digests, Report};
use super::{Caller, Internal};
use crate::api::v1::shown;
use crate::api::write;
use crate::error::{Code, Problem};
use crate::hex;
use crate::relay::Applied;
use crate::store::{nodes, now_us};

/// The most octets of a report: it names each zone in quarantine.
const LIMIT: usize = 4 << 20;
/// The most characters of a version.
const MAX_VERSION: usize = 64;
/// The most feed keys of a report that are looked at.
const MOST_KEYS: usize = 8;
/// A node's word for when it applied something is taken when it is not older than this, and not of the future.
const BELIEVED_US: i64 = 60_000_000;

/// A report as it is sent, and as control planes keep it for each other. Fields that are not known are those of a later
/// version.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Said {
    generation: u64,
    epoch: u64,
    sequence: u64,
    /// Hexadecimal.
    chain: String,
    /// Zones and the versions that are served of them.
    #[serde(default)]
    quarantined: BTreeMap<String, u64>,
    /// Of the program.
    #[serde(default)]
    version: String,
    /// When it applied the sequence, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    applied_at_us: Option<i64>,
    /// Whether what it serves was equal to the last head that it could be compared with, and the sequence of that.
    #[serde(default)]
    digests: Digests,
    #[serde(default)]
    compared_sequence: u64,
    /// The feed keys that it trusts, hexadecimal. Not kept: what is of use of it is in the node's row.
    #[serde(default, skip_serializing)]
    feed_keys: Vec<String>,
    /// Where it came from; what a node says of this itself is not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
}

impl Said {
    pub(super) fn of(report: &Report) -> Said {
        let Report { applied, version, address, applied_at_us, digests, compared_sequence } = report;
        let quarantined = applied.quarantined.iter();
        Said {
            generation: applied.generation,
            epoch: applied.epoch,
            sequence: applied.sequence,
            chain: hex::encoded(&applied.chain),
            quarantined: quarantined.map(|(zone, version)| (shown(zone.as_ref()), *version)).collect(),
            version: version.clone(),
            applied_at_us: Some(*applied_at_us),
            digests: *digests,
            compared_sequence: *compared_sequence,
            feed_keys: Vec::new(),
            address: *address,
        }
    }

    /// What it says, read at `now`.
    pub(super) fn read(self, now: i64) -> Result<Report, Problem> {
        let malformed = |message: &str| Problem::new(Code::MalformedRequest, message);
        let chain = hex::decoded(&self.chain)
            .ok_or_else(|| malformed("\"chain\": expected 64 hexadecimal digits"))?;
        let is_shown = |version: &str| version.bytes().all(|octet| octet.is_ascii_graphic());
        if self.version.len() > MAX_VERSION || !is_shown(&self.version) {
            return Err(malformed("\"version\": expected a version like 1.2.3"));
        }
        let quarantined: Result<BTreeMap<Name, u64>, Problem> = self
            .quarantined
            .iter()
            .map(|(zone, version)| super::apex(zone).map(|zone| (zone, *version)))
            .collect();
        let Said { generation, epoch, sequence, version, address, digests, compared_sequence, .. } = self;
        let applied = Applied { generation, epoch, sequence, chain, quarantined: Arc::new(quarantined?) };
        let believed = (now - BELIEVED_US)..=now;
        let applied_at_us = self.applied_at_us.filter(|at| believed.contains(at)).unwrap_or(now);
        Ok(Report { applied, version, address, applied_at_us, digests, compared_sequence })
    }
}

/// Takes a report.
pub(super) async fn report(
    State(internal): State<Arc<Internal>>,
    Extension(caller): Extension<Caller>,
    Extension(ConnectInfo(peer)): Extension<ConnectInfo<SocketAddr>>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let heard = Instant::now();
    let (parts, body) = request.into_parts();
    let (octets, _room) = write::read_in_time(&internal.app, &parts.headers, body, LIMIT).await?;
    let mut said: Said = write::json(write::media_type(&parts.headers).as_deref(), &octets)?;
    let keys = std::mem::take(&mut said.feed_keys);
    let report = Said { address: Some(peer.ip().to_canonical()), ..said }.read(now_us())?;
    internal.app.planes.nodes().heard(caller.id, &caller.name, report, heard, true);
    note_key(&internal, &caller, &keys).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Keeps it that a node knows the key that will sign: a rotation is refused until all do. Nothing else that it says of keys is
/// looked at, and what is known already is not written again.
async fn note_key(internal: &Internal, caller: &Caller, keys: &[String]) {
    let Some(signer) = &internal.ways.signer else { return };
    let next = signer.now().trusted()[1].0;
    let knows = keys.iter().take(MOST_KEYS).any(|key| hex::decoded(key) == Some(next));
    if !knows || caller.last_key == next {
        return;
    }
    let id = caller.id;
    let learn = internal
        .app
        .committer
        .write(move |connection| Box::pin(async move { Ok(nodes::learn(connection, id, &next).await?) }));
    match learn.await {
        Ok(()) => tracing::info!(node = caller.name, "the node knows the next key of the feed"),
        // It says so again.
        Err(problem) => {
            tracing::warn!(node = caller.name, ?problem, "that a node knows the next key is not kept");
        }
    }
}
