//! Change sets in, snapshots out: verify, apply, swap, report.
//!
//! ```text
//!            Local: octets of wire::feed::Batch, bounded
//!                          │
//!                  decode, check place  ──── repeated: skip ──── gap: go on, ask for everything
//!                          │
//!        apply each change set to the working snapshot ──── refused: its zones are quarantined
//!                          │
//!             all that was waiting: one swap ── report the position
//! ```
//!
//! One thread is the only writer of snapshots. A change set is seen whole or not at all (P2), by every worker, because
//! workers see snapshots only.
//!
//! - [`place`]: whether a batch is the one that comes next;
//! - [`apply`]: change sets to snapshots, and what becomes of those that do not fit;
//! - [`local`]: the feed of the same process.

pub mod apply;
pub mod local;
pub mod place;

pub use local::{Applied, Local};
