//! The signed statement of where the feed stands. A node compares it with its own position and digest.

use super::codec::{Cursor, DecodeError, Kind, Reason};
use super::digest::Digest;
use super::signed::{Body, signed};

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

signed!(Head);

impl Body for Head {
    const KIND: Kind = Kind::Head;

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let generation = cursor.u64()?;
        let epoch = cursor.u64()?;
        let sequence = cursor.u64()?;
        let at_chain = cursor.clone();
        let chain = cursor.array()?;
        if sequence == 0 && chain != [0; 32] {
            return Err(at_chain.error(Reason::Sequence));
        }
        let root_digest = Digest::from_bytes(cursor.array()?);
        Ok(Head { generation, epoch, sequence, chain, root_digest })
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.chain);
        out.extend_from_slice(&self.root_digest.as_bytes());
    }
}
