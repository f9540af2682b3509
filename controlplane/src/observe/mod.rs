//! Counters and logs.

pub mod endpoint;
pub mod log;
pub mod metrics;
