//! The audit log: who did what, when, from where and with what, what came of it, and that nobody changes any of it unseen.
//!
//! Rows are written in the transaction of what they tell (`store::audit`), so that there is none without the other. They cannot be
//! chained there: each would wait for the one before. The process that gives sequences does so a moment later, in the order in
//! which it finds them.
//!
//! - `chain`: what is hashed, and with what;
//! - `keeper`: chains what was written, deletes what is past its time, and writes the head down outside of the database;
//! - `anchors`: the file for that;
//! - [`verify`](mod@verify): whether all of it is as it was written;
//! - `noted`: what is no change and is written down all the same: refusals, and that keys are used.

pub(crate) mod anchors;
mod chain;
pub(crate) mod keeper;
pub(crate) mod noted;
#[cfg(test)]
mod tests;
pub mod verify;

pub(crate) use chain::ChainKey;
pub use verify::{Report, Wrong, verify};
