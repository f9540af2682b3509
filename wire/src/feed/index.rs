//! What zones there are, at which version and with which digest, at one place of the feed: a node compares it with what it
//! holds and fetches the zones that differ.

use super::codec::{Cursor, DecodeError, Kind, Reason, put_count};
use super::digest::Digest;
use super::signed::{Body, signed};
use crate::name::Name;

/// The most zones of an index.
pub const MAX_INDEX_ZONES: u64 = 16_777_216;

/// The fewest octets of an entry: the root's name, version, digest.
const LEAST_ENTRY_OCTETS: usize = 41;

/// One zone of an [`Index`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IndexEntry {
    /// The apex.
    pub zone: Name,
    /// Its version.
    pub version: u64,
    /// Its digest at that version: see [`super::digest::rrset_digest`].
    pub digest: Digest,
}

/// Of which moment an index is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct IndexPlace {
    /// Which unbroken history this belongs to.
    pub generation: u64,
    /// The term of the relay that made the batch that ends with `sequence`.
    pub epoch: u64,
    /// Every change set up to this sequence is in it; 0 before the first.
    pub sequence: u64,
    /// The chain hash of the batch that ends with it; zeros before the first.
    pub chain: [u8; 32],
    /// Zones may be ahead of `sequence` by changes that had no sequence yet; all of them have one up to here.
    pub settled: u64,
}

impl IndexPlace {
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<IndexPlace, DecodeError> {
        let generation = cursor.u64()?;
        let epoch = cursor.u64()?;
        let at_sequence = cursor.clone();
        let sequence = cursor.u64()?;
        let chain = cursor.array()?;
        let settled = cursor.u64()?;
        if settled < sequence || (sequence == 0 && chain != [0; 32]) {
            return Err(at_sequence.error(Reason::Sequence));
        }
        Ok(IndexPlace { generation, epoch, sequence, chain, settled })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.chain);
        out.extend_from_slice(&self.settled.to_be_bytes());
    }
}

/// All zones at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Index {
    /// Of which moment.
    pub place: IndexPlace,
    /// By name in canonical order, each once.
    pub zones: Vec<IndexEntry>,
}

signed!(Index);

impl Body for Index {
    const KIND: Kind = Kind::Index;

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let place = IndexPlace::read(cursor)?;
        let zones = read_zones(cursor)?;
        Ok(Index { place, zones })
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.place.put(out);
        put_zones(&self.zones, out);
    }
}

pub(super) fn read_zones(cursor: &mut Cursor<'_>) -> Result<Vec<IndexEntry>, DecodeError> {
    let count = cursor.count("zones of an index", MAX_INDEX_ZONES, LEAST_ENTRY_OCTETS)?;
    let mut zones: Vec<IndexEntry> = Vec::with_capacity(count);
    for _ in 0..count {
        let at = cursor.clone();
        let zone = cursor.name()?;
        if zones.last().is_some_and(|last| last.zone.as_ref() >= zone) {
            return Err(at.error(Reason::Order("zones of an index")));
        }
        let (version, digest) = (cursor.u64()?, Digest::from_bytes(cursor.array()?));
        zones.push(IndexEntry { zone: zone.to_owned(), version, digest });
    }
    Ok(zones)
}

pub(super) fn put_zones(zones: &[IndexEntry], out: &mut Vec<u8>) {
    put_count(out, zones.len());
    for entry in zones {
        out.extend_from_slice(entry.zone.as_wire());
        out.extend_from_slice(&entry.version.to_be_bytes());
        out.extend_from_slice(&entry.digest.as_bytes());
    }
}
