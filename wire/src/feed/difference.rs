//! The index of those parts of all zones in which two stores differ: what an [`Index`](super::Index) says, for a node that holds nearly
//! everything already.

use super::codec::{Cursor, DecodeError, Kind, split_signature};
use super::digest::Digest;
use super::index::{self, IndexEntry, IndexPlace};
use super::parts::Parts;
use super::signature::{self, SignatureError, SigningKey, VerifyingKey};

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

impl Difference {
    /// Appends the encoding without a signature.
    pub fn encode(&self, out: &mut Vec<u8>) {
        signature::put(out, Kind::Difference, None, |out| self.put_body(out));
    }

    /// Appends the encoding with a signature. Same value, same key: same octets.
    pub fn encode_signed(&self, key: &SigningKey, out: &mut Vec<u8>) {
        signature::put(out, Kind::Difference, Some(key), |out| self.put_body(out));
    }

    /// Reads one encoding that takes all of `bytes`. A signature is stepped over: see [`Difference::verify`].
    ///
    /// # Errors
    /// [`DecodeError`] when they are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Difference, DecodeError> {
        let (octets, _) = split_signature(bytes, Kind::Difference)?;
        let mut cursor = Cursor::new(octets);
        cursor.header(Kind::Difference)?;
        let place = IndexPlace::read(&mut cursor)?;
        let sum = Digest::from_bytes(cursor.array()?);
        let parts = Parts::from_bytes(cursor.array()?);
        let zones = index::read_zones(&mut cursor)?;
        cursor.end()?;
        Ok(Difference { place, sum, parts, zones })
    }

    /// Checks the signature of an encoding against any of `keys`, without decoding it.
    ///
    /// # Errors
    /// [`SignatureError`] when there is none or none of the keys made it.
    pub fn verify(bytes: &[u8], keys: &[VerifyingKey]) -> Result<(), SignatureError> {
        signature::verify(bytes, Kind::Difference, keys)
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        self.place.put(out);
        out.extend_from_slice(&self.sum.as_bytes());
        out.extend_from_slice(self.parts.as_bytes());
        index::put_zones(&self.zones, out);
    }
}
