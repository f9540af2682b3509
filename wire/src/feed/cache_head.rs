//! The signed statement of what the index of a record cache is: of which moment, and what its zones add up to.

use super::codec::{Cursor, DecodeError, Kind};
use super::digest::Digest;
use super::index::IndexPlace;
use super::signed::{Body, signed};

/// What the index of a record cache is. What it lists needs no signature of its own: its terms add up to the sum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CacheHead {
    /// Of which moment it is.
    pub place: IndexPlace,
    /// The sum of the zone terms of all zones as they are listed: see [`super::digest::zone_term`].
    pub sum: Digest,
}

signed!(CacheHead);

impl Body for CacheHead {
    const KIND: Kind = Kind::CacheHead;

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let place = IndexPlace::read(cursor)?;
        let sum = Digest::from_bytes(cursor.array()?);
        Ok(CacheHead { place, sum })
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.place.put(out);
        out.extend_from_slice(&self.sum.as_bytes());
    }
}
