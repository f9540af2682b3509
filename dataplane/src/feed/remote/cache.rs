//! The record cache in Redis: an index and whole zones, from which a node begins without asking the control plane, or while it is
//! away. Nothing depends on it: whatever is wrong, missing or older there is asked of the control plane.
//!
//! Who has Redis cannot change anything: the head is signed, the index adds up to the head's sum, and a blob is signed and taken
//! only at the version and digest that the index has, so that it is of the same place of the feed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use godwit_redis::{BadUrl, Connection, Place as Server, Timeouts};
use godwit_wire::feed::digest::zone_term;
use godwit_wire::feed::{
    CacheHead, CachedZone, Digest, DigestKey, Index, IndexEntry, MAX_INDEX_ZONES, VerifyingKey, ZoneBlob,
    ZoneBlobReader,
};
use godwit_wire::name::{Name, NameRef};
use serde::{Deserialize, Serialize};

use crate::feed::source::{ANSWER_OCTETS, ZoneState};

const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(4), response: Duration::from_secs(30) };
/// The pause after something was wrong.
const AGAIN: Duration = Duration::from_secs(2);
/// Octets of blobs that are asked for together, but for a single one that is longer.
const TOGETHER: usize = 8 << 20;
/// A longer one is left to the control plane: Redis has room for no more in one value.
const MAX_BLOB: usize = 512 << 20;

/// Where the cache is, as the control plane says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Place {
    /// URL of a user who can only read.
    pub url: String,
    /// The database, whichever the URL names.
    pub database: i64,
    /// Key of the index.
    pub index: String,
    /// Key of the head that the index adds up to.
    pub head: String,
    /// What keys of zones begin with.
    pub zones: String,
}

impl Place {
    /// What the URL says.
    ///
    /// # Errors
    /// It says no place.
    pub fn server(&self) -> Result<Server, BadUrl> {
        Ok(Server::parse(&self.url)?.with_database(self.database))
    }
}

/// What an index lists, whoever gave it, while the zones of it are fetched.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// In canonical order.
    zones: Vec<IndexEntry>,
    settled: u64,
}

impl Listed {
    pub(super) fn of(index: Index) -> Listed {
        Listed { zones: index.zones, settled: index.place.settled }
    }

    /// Version and digest of a zone.
    fn get(&self, apex: &Name) -> Option<(u64, Digest)> {
        let at = self.zones.binary_search_by(|entry| entry.zone.cmp(apex)).ok()?;
        self.zones.get(at).map(|entry| (entry.version, entry.digest))
    }
}

/// Why the cache is of no use now.
#[derive(Debug, thiserror::Error)]
enum Useless {
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error("there is none")]
    None,
    #[error("the head is not signed by a key of the deployment")]
    Unsigned,
    #[error("the index has {0} zones, which are too many")]
    TooMany(u64),
    #[error("an index of another form")]
    Form,
    #[error("the index does not add up to the sum of the head")]
    Sum,
    #[error("it is of an earlier history than when this node was added")]
    Earlier,
}

/// See the module.
pub(super) struct Cache {
    place: Place,
    server: Server,
    connection: Option<Connection>,
    not_before: Option<Instant>,
}

impl Cache {
    pub(super) fn new(place: Place) -> Result<Cache, BadUrl> {
        let server = place.server()?;
        Ok(Cache { place, server, connection: None, not_before: None })
    }

    /// The index at one place of the feed; `None`: ask the control plane. `generation` is the earliest history that is taken up.
    pub(super) async fn index(
        &mut self,
        keys: &[VerifyingKey],
        digest_key: &DigestKey,
        generation: u64,
    ) -> Option<Index> {
        if !self.is_time() {
            return None;
        }
        let read = self.read_index(keys, digest_key, generation).await;
        self.used(read)
    }

    /// Zones at the version that is listed; `None` for those that are not there as listed. Those that are not among them come next
    /// time; there are none where the cache is of no use.
    pub(super) async fn zones(
        &mut self,
        apexes: &[Name],
        listed: &Listed,
        keys: &[VerifyingKey],
    ) -> HashMap<Name, Option<ZoneState>> {
        if !self.is_time() || !apexes.iter().any(|apex| listed.get(apex).is_some()) {
            return HashMap::new();
        }
        let read = self.read_zones(apexes, listed, keys).await;
        self.used(read).unwrap_or_default()
    }

    fn is_time(&self) -> bool {
        self.not_before.is_none_or(|moment| Instant::now() >= moment)
    }

    fn used<T>(&mut self, read: Result<T, Useless>) -> Option<T> {
        read.inspect_err(|error| {
            tracing::warn!(%error, "the record cache is of no use now; the control plane is asked instead");
            self.connection = None;
            self.not_before = Some(Instant::now() + AGAIN);
        })
        .ok()
    }

    async fn connected(&mut self) -> Result<Connection, Useless> {
        Ok(match &self.connection {
            Some(connection) => connection.clone(),
            None => self.connection.insert(self.server.connect(TIMEOUTS).await?).clone(),
        })
    }

    async fn read_index(
        &mut self,
        keys: &[VerifyingKey],
        digest_key: &DigestKey,
        generation: u64,
    ) -> Result<Index, Useless> {
        let mut connection = self.connected().await?;
        let count: u64 = redis::cmd("HLEN").arg(&self.place.index).query_async(&mut connection).await?;
        if count > MAX_INDEX_ZONES {
            return Err(Useless::TooMany(count));
        }
        let mut both = redis::pipe();
        both.atomic().get(&self.place.head).hgetall(&self.place.index);
        type Fields = Vec<(Vec<u8>, Vec<u8>)>;
        let (head, fields): (Option<Vec<u8>>, Fields) = both.query_async(&mut connection).await?;
        let head = head.ok_or(Useless::None)?;
        CacheHead::verify(&head, keys).map_err(|_| Useless::Unsigned)?;
        let CacheHead { place, sum: signed } = CacheHead::decode(&head).map_err(|_| Useless::Form)?;
        if place.generation < generation {
            return Err(Useless::Earlier);
        }
        let (mut sum, mut zones) = (Digest::default(), Vec::with_capacity(fields.len()));
        for (apex, value) in fields {
            let entry = entry(&apex, &value).ok_or(Useless::Form)?;
            sum.add(zone_term(digest_key, entry.zone.as_ref(), entry.version, entry.digest));
            zones.push(entry);
        }
        if sum != signed {
            return Err(Useless::Sum);
        }
        zones.sort_by(|a, b| a.zone.cmp(&b.zone));
        tracing::info!(
            sequence = place.sequence,
            zones = zones.len(),
            "the index comes from the record cache"
        );
        Ok(Index { place, zones })
    }

    async fn read_zones(
        &mut self,
        apexes: &[Name],
        listed: &Listed,
        keys: &[VerifyingKey],
    ) -> Result<HashMap<Name, Option<ZoneState>>, Useless> {
        let mut connection = self.connected().await?;
        let mut lengths = redis::pipe();
        for apex in apexes {
            lengths.strlen(self.key(apex));
        }
        let lengths: Vec<usize> = lengths.query_async(&mut connection).await?;
        let mut found = HashMap::with_capacity(apexes.len());
        let (mut group, mut octets, mut all) = (Vec::new(), 0, 0);
        for (apex, length) in apexes.iter().zip(lengths) {
            if all + length > ANSWER_OCTETS && all > 0 {
                break;
            }
            found.insert(apex.clone(), None);
            if length == 0 || length > MAX_BLOB || listed.get(apex).is_none() {
                continue;
            }
            if octets + length > TOGETHER && !group.is_empty() {
                self.read_group(&mut connection, &std::mem::take(&mut group), listed, keys, &mut found)
                    .await?;
                octets = 0;
            }
            group.push(apex);
            (octets, all) = (octets + length, all + length);
        }
        self.read_group(&mut connection, &group, listed, keys, &mut found).await?;
        Ok(found)
    }

    async fn read_group(
        &self,
        connection: &mut Connection,
        group: &[&Name],
        listed: &Listed,
        keys: &[VerifyingKey],
        found: &mut HashMap<Name, Option<ZoneState>>,
    ) -> Result<(), Useless> {
        if group.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("MGET");
        for apex in group {
            command.arg(self.key(apex));
        }
        let blobs: Vec<Option<Vec<u8>>> = command.query_async(connection).await?;
        for (apex, blob) in group.iter().zip(blobs) {
            let Some((blob, (version, digest))) = blob.zip(listed.get(apex)) else { continue };
            let is_it = ZoneBlob::verify(&blob, keys).is_ok()
                && ZoneBlobReader::new(&blob).is_ok_and(|read| {
                    (read.zone(), read.version(), read.digest()) == (apex.as_ref(), version, digest)
                });
            if is_it {
                let state = ZoneState { blob: Some(Bytes::from(blob)), version, settled: listed.settled };
                found.insert((*apex).clone(), Some(state));
            }
        }
        Ok(())
    }

    fn key(&self, apex: &Name) -> Vec<u8> {
        [self.place.zones.as_bytes(), apex.as_wire()].concat()
    }
}

fn entry(apex: &[u8], value: &[u8]) -> Option<IndexEntry> {
    let zone = NameRef::from_wire(apex).ok()?;
    let CachedZone { version, digest, .. } = CachedZone::decode(value)?;
    Some(IndexEntry { zone: zone.to_owned(), version, digest })
}

#[cfg(test)]
mod tests;
