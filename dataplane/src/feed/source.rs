//! What a data plane asks for and is answered, whatever carries it.

use bytes::Bytes;
use godwit_engine::snapshot::Position;
use godwit_wire::feed::{DigestKey, PartSums};
use godwit_wire::name::Name;

/// What is to be known of the other side first.
#[derive(Clone, Debug)]
pub struct Joined {
    /// What the digests of this deployment are keyed with.
    pub digest_key: DigestKey,
}

/// One zone as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ZoneState {
    /// Octets of `wire::feed::ZoneBlob`; `None`: there is no such zone.
    pub blob: Option<Bytes>,
    /// The version of the zone that this is; of one that is gone, the version at which it went (0: never was).
    pub version: u64,
    /// Every change that the blob contains has a sequence up to here: see `wire::feed::Index::settled`.
    pub settled: u64,
}

impl ZoneState {
    /// Octets of its blob.
    pub(super) fn octets(&self) -> usize {
        self.blob.as_ref().map_or(0, Bytes::len)
    }
}

/// What comes after a position.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entries {
    /// Octets of `wire::feed::Entry` (batches, heads), in order.
    Next(Vec<Bytes>),
    /// It cannot be gone on from there: compare the index.
    Gone,
    /// The sender is older than who asks: nothing moves back.
    Behind,
}

/// From so many octets of zones on an answer has no more of them.
pub(super) const ANSWER_OCTETS: usize = 32 << 20;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lost {
    /// It may come when it is asked for again.
    Again,
    /// There will never be one.
    Ended,
}

/// Where the feed comes from. An answer that takes too long is lost: that is seen to here, and nowhere else.
pub(crate) trait Source {
    /// First of each connection, and after an answer was lost.
    async fn join(&mut self) -> Result<Joined, Lost>;

    /// The octets of `wire::feed::Difference` from zones that add up to `held`; `None`: the index is to be asked for instead.
    async fn difference(&mut self, held: &PartSums) -> Result<Option<Bytes>, Lost>;

    /// The octets of `wire::feed::Index`.
    async fn index(&mut self) -> Result<Bytes, Lost>;

    /// Zones, each with what is known of it; `None` for those of which there is no answer. Those that are not among them come when
    /// they are asked for again: see [`ANSWER_OCTETS`].
    async fn zones(&mut self, apexes: Vec<Name>) -> Result<Vec<(Name, Option<ZoneState>)>, Lost>;

    /// What comes after a position; it may be waited for a while.
    async fn entries(&mut self, after: Position) -> Result<Entries, Lost>;
}
