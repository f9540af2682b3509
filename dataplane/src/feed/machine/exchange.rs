//! What goes in and out of the machine.

use std::time::Instant;

use bytes::Bytes;
use godwit_engine::snapshot::Position;
use godwit_wire::feed::PartSums;
use godwit_wire::name::Name;

use crate::feed::rescan::Found;
use crate::feed::source::{Entries, Joined, ZoneState};

/// What is to be fetched next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Want {
    /// What the other side's digests are keyed with.
    Join,
    /// The index of those parts of all zones that add up to something else than this.
    Difference(PartSums),
    /// The index of all zones.
    Index,
    /// These zones.
    Zones(Vec<Name>),
    /// What comes after this position.
    Entries(Position),
    /// Nothing before this moment.
    Wait(Instant),
}

/// What came.
#[derive(Clone, Debug)]
pub enum Got {
    /// For [`Want::Join`].
    Joined(Joined),
    /// For [`Want::Difference`]; `None`: there is none to be had.
    Difference(Option<Bytes>),
    /// For [`Want::Index`].
    Index(Bytes),
    /// For [`Want::Zones`]; `None` for those of which there was no answer.
    Zones(Vec<(Name, Option<ZoneState>)>),
    /// For [`Want::Entries`].
    Entries(Entries),
    /// Unasked: what is held is not what it was.
    Rescanned(Found),
    /// No answer.
    Lost,
    /// The moment that was waited for.
    Waited,
}

/// What follows from what came.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// There is another snapshot to show.
    pub show: bool,
    /// What is shown is known to be all there is.
    pub current: bool,
}

/// Whether what is held is what the feed says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Compared {
    /// The last time that it was compared, it was equal; `None`: never was, or something was found since that differs.
    pub equal: Option<bool>,
    /// The sequence at which a head was last compared.
    pub sequence: u64,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Comparisons with an index.
    pub resyncs: u64,
    /// Batches and heads of a past history or term.
    pub stale: u64,
    /// Heads whose root digest was not ours.
    pub digest_mismatches: u64,
}

/// What makes one machine's random numbers differ from another's.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// Of the name hash of snapshots that are begun anew: see [`SnapshotOptions`](godwit_engine::snapshot::SnapshotOptions).
    pub hash_key: [u8; 16],
    /// Of pauses.
    pub pauses: u64,
}
