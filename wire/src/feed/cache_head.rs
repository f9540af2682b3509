//! The signed statement of what the index of a record cache is: of which moment, and what its zones add up to.

use super::codec::{Cursor, DecodeError, Kind, split_signature};
use super::digest::Digest;
use super::index::IndexPlace;
use super::signature::{self, SignatureError, SigningKey, VerifyingKey};

/// What the index of a record cache is. What it lists needs no signature of its own: its terms add up to the sum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CacheHead {
    /// Of which moment it is.
    pub place: IndexPlace,
    /// The sum of the zone terms of all zones as they are listed: see [`super::digest::zone_term`].
    pub sum: Digest,
}

impl CacheHead {
    /// Appends the encoding without a signature.
    pub fn encode(&self, out: &mut Vec<u8>) {
        signature::put(out, Kind::CacheHead, None, |out| self.put_body(out));
    }

    /// Appends the encoding with a signature. Same value, same key: same octets.
    pub fn encode_signed(&self, key: &SigningKey, out: &mut Vec<u8>) {
        signature::put(out, Kind::CacheHead, Some(key), |out| self.put_body(out));
    }

    /// Reads one encoding that takes all of `bytes`. A signature is stepped over: see [`CacheHead::verify`].
    ///
    /// # Errors
    /// [`DecodeError`] when they are anything else.
    pub fn decode(bytes: &[u8]) -> Result<CacheHead, DecodeError> {
        let (octets, _) = split_signature(bytes, Kind::CacheHead)?;
        let mut cursor = Cursor::new(octets);
        cursor.header(Kind::CacheHead)?;
        let place = IndexPlace::read(&mut cursor)?;
        let sum = Digest::from_bytes(cursor.array()?);
        cursor.end()?;
        Ok(CacheHead { place, sum })
    }

    /// Checks the signature of an encoding against any of `keys`, without decoding it.
    ///
    /// # Errors
    /// [`SignatureError`] when there is none or none of the keys made it.
    pub fn verify(bytes: &[u8], keys: &[VerifyingKey]) -> Result<(), SignatureError> {
        signature::verify(bytes, Kind::CacheHead, keys)
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        self.place.put(out);
        out.extend_from_slice(&self.sum.as_bytes());
    }
}
