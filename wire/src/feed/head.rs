//! The signed statement of where the feed stands. A node compares it with its own position and digest.

use super::codec::{Cursor, DecodeError, Kind, Reason, split_signature};
use super::digest::Digest;
use super::signature::{self, SignatureError, SigningKey, VerifyingKey};

/// Where the feed stands, and what a node that applied everything up to there holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Which unbroken history this belongs to.
    pub generation: u64,
    /// The term of the relay that says so.
    pub epoch: u64,
    /// The last sequence published; 0 before the first.
    pub sequence: u64,
    /// The chain hash of the batch that ends with it; zeros before the first.
    pub chain: [u8; 32],
    /// The sum of the zone terms of all zones at that sequence: see [`super::digest::zone_term`].
    pub root_digest: Digest,
}

impl Head {
    /// Appends the encoding without a signature.
    pub fn encode(&self, out: &mut Vec<u8>) {
        signature::put(out, Kind::Head, None, |out| self.put_body(out));
    }

    /// Appends the encoding with a signature. Same value, same key: same octets.
    pub fn encode_signed(&self, key: &SigningKey, out: &mut Vec<u8>) {
        signature::put(out, Kind::Head, Some(key), |out| self.put_body(out));
    }

    /// Reads one encoding that takes all of `bytes`. A signature is stepped over: see [`Head::verify`].
    ///
    /// # Errors
    /// [`DecodeError`] when they are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Head, DecodeError> {
        let (octets, _) = split_signature(bytes, Kind::Head)?;
        let mut cursor = Cursor::new(octets);
        cursor.header(Kind::Head)?;
        let generation = cursor.u64()?;
        let epoch = cursor.u64()?;
        let sequence = cursor.u64()?;
        let at_chain = cursor.clone();
        let chain = cursor.array()?;
        if sequence == 0 && chain != [0; 32] {
            return Err(at_chain.error(Reason::Sequence));
        }
        let root_digest = Digest::from_bytes(cursor.array()?);
        cursor.end()?;
        Ok(Head { generation, epoch, sequence, chain, root_digest })
    }

    /// Checks the signature of an encoding against any of `keys`, without decoding it.
    ///
    /// # Errors
    /// [`SignatureError`] when there is none or none of the keys made it.
    pub fn verify(bytes: &[u8], keys: &[VerifyingKey]) -> Result<(), SignatureError> {
        signature::verify(bytes, Kind::Head, keys)
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.chain);
        out.extend_from_slice(&self.root_digest.as_bytes());
    }
}
