//! The index of those parts of all zones in which two stores differ: what an [`Index`](super::Index) says, for a node that holds nearly
//! everything already.

use super::codec::{Cursor, DecodeError, Kind};
use super::digest::Digest;
use super::index::{self, IndexEntry, IndexPlace};
use super::parts::Parts;
use super::signed::{Body, signed};

/// All zones of some parts at one moment, and what all zones of all parts add up to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Of which moment.
    pub place: IndexPlace,
    /// The sum of the zone terms of all zones of all parts: see [`super::digest::zone_term`]. Whoever holds the other parts knows by it
    /// whether they are equal.
    pub sum: Digest,
    /// Which parts are listed.
    pub parts: Parts,
    /// Their zones, by name in canonical order, each once. Which zones are of a part is for who has the digest key.
    pub zones: Vec<IndexEntry>,
}

signed!(Difference);

impl Body for Difference {
    const KIND: Kind = Kind::Difference;

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let place = IndexPlace::read(cursor)?;
        let sum = Digest::from_bytes(cursor.array()?);
        let parts = Parts::from_bytes(cursor.array()?);
        let zones = index::read_zones(cursor)?;
        Ok(Difference { place, sum, parts, zones })
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.place.put(out);
        out.extend_from_slice(&self.sum.as_bytes());
        out.extend_from_slice(self.parts.as_bytes());
        index::put_zones(&self.zones, out);
    }
}
