//! The signed statement that there is no zone of a name: what stands in the place of a [`ZoneBlob`](super::ZoneBlob).

use super::codec::{Cursor, DecodeError, Kind, split_signature};
use super::signature::{self, SignatureError, SigningKey, VerifyingKey};
use crate::name::Name;

/// There is no such zone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Absence {
    /// Its apex.
    pub zone: Name,
    /// The version at which it went; 0: there never was one.
    pub version: u64,
    /// What made it go has a sequence up to here.
    pub settled: u64,
}

impl Absence {
    /// Appends the encoding without a signature.
    pub fn encode(&self, out: &mut Vec<u8>) {
        signature::put(out, Kind::Absence, None, |out| self.put_body(out));
    }

    /// Appends the encoding with a signature. Same value, same key: same octets.
    pub fn encode_signed(&self, key: &SigningKey, out: &mut Vec<u8>) {
        signature::put(out, Kind::Absence, Some(key), |out| self.put_body(out));
    }

    /// Reads one encoding that takes all of `bytes`. A signature is stepped over: see [`Absence::verify`].
    ///
    /// # Errors
    /// [`DecodeError`] when they are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Absence, DecodeError> {
        let (octets, _) = split_signature(bytes, Kind::Absence)?;
        let mut cursor = Cursor::new(octets);
        cursor.header(Kind::Absence)?;
        let zone = cursor.name()?.to_owned();
        let (version, settled) = (cursor.u64()?, cursor.u64()?);
        cursor.end()?;
        Ok(Absence { zone, version, settled })
    }

    /// Checks the signature of an encoding against any of `keys`, without decoding it.
    ///
    /// # Errors
    /// [`SignatureError`] when there is none or none of the keys made it.
    pub fn verify(bytes: &[u8], keys: &[VerifyingKey]) -> Result<(), SignatureError> {
        signature::verify(bytes, Kind::Absence, keys)
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.zone.as_wire());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.settled.to_be_bytes());
    }
}
