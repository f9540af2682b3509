//! Outbox → feed: committed change sets get their place in the total order, in batches that never change again, and data
//! planes read them as a log.
//!
//! Where several processes write to one database, the sequence is given after the commit, by the one whose term it is (`lead`), in
//! transactions that hold the relay's row (`give`): drawn inside the writing transactions, it would let a reader skip one that commits
//! late. Where one connection is all that writes (SQLite), the order of commits is known, and the sequence is given in the same
//! transaction (`commit/`). Either way nothing has a sequence before that is on disk, and no batch is made twice.
//!
//! - `batches`: change sets to batches;
//! - `log`: the log, in memory and in the database;
//! - `lead`: who gives sequences, for how long;
//! - [`shadow`]: judges change sets before they get theirs, in a child process;
//! - `give`: gives them;
//! - `recount`: digests of what was there before they were kept, and every hour whether those that are kept are right;
//! - `feed`: what data planes ask for: the log after a position, the index of zones, whole zones;
//! - `stream`: the log on a Redis stream;
//! - `cache`: zones and their index in Redis, at one moment of the database;
//! - `terms`: how both are begun with each term of ours, and again after errors; `reader`: who data planes are there;
//! - `progress`: how far each change has come;
//! - `signer`: signs what leaves the process.

pub(crate) mod batches;
pub(crate) mod cache;
pub mod feed;
pub(crate) mod give;
pub(crate) mod lead;
pub(crate) mod log;
pub mod progress;
pub(crate) mod reader;
pub(crate) mod recount;
pub mod shadow;
pub(crate) mod signer;
pub(crate) mod stream;
pub(crate) mod terms;

use std::collections::BTreeMap;
use std::sync::Arc;

use godwit_wire::name::Name;
use tokio::sync::watch;

pub use feed::{Entries, FeedRequest, Position, ZoneState};

/// Where a data plane says that it stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// History that it follows; 0 when it never followed one.
    pub generation: u64,
    /// Term of the last batch that it applied.
    pub epoch: u64,
    /// The last sequence that it applied.
    pub sequence: u64,
    /// Chain hash after it.
    pub chain: [u8; 32],
    /// Zones that keep an earlier state than the position says, because a change of them could not be applied, each with
    /// the version that is served; 0 when none is.
    pub quarantined: Arc<BTreeMap<Name, u64>>,
}

/// The data plane of the same process: what it asks, and where it stands.
#[derive(Debug)]
pub struct FeedSink {
    /// What it asks, in order. One that is dropped is asked again.
    pub requests: tokio::sync::mpsc::Receiver<FeedRequest>,
    /// The data plane's position, watched.
    pub applied: watch::Receiver<Applied>,
}
