//! What follows the feed: a log of batches that never change, from which a data plane reads on from its place.
//!
//! ```text
//!   machine ── want ──▶ follower ── join, index, zones, entries ──▶ source ──▶ the other side
//!      ▲                   │  ▲                                        │
//!      └────── took ───────┘  └──────────── what came ◀────────────────┘
//!                          └──▶ one swap ── report the position
//! ```
//!
//! One thread is the only writer of snapshots. A change set is seen whole or not at all (P2), by every worker, because
//! workers see snapshots only.
//!
//! - [`machine`]: what is wanted next, and what follows from what came;
//! - [`place`]: whether what comes is newer than what was seen;
//! - [`rescan`]: whether records are what they were when they came;
//! - `apply`: change sets to snapshots, and what becomes of those that do not fit (`quarantine`);
//! - [`attempts`]: what applying a change may cost;
//! - `resync`: from an index to a whole new state; `whole`: one zone of it;
//! - [`spacing`]: pauses that grow while nothing helps;
//! - [`source`]: what any transport brings;
//! - [`local`]: the transport within one process; [`remote`]: the one from a control plane elsewhere;
//! - [`follower`]: the thread.

mod apply;
pub mod attempts;
pub mod follower;
pub mod local;
pub mod machine;
pub mod place;
mod quarantine;
pub mod remote;
pub mod rescan;
mod resync;
pub mod source;
pub mod spacing;
#[cfg(test)]
mod testing;
mod whole;

pub use follower::Applied;
pub use local::{Local, Request};
pub use quarantine::Quarantine;
pub use source::{Entries, Joined, ZoneState};
