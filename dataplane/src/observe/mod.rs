//! What the data plane shows of itself: counts, metrics, health, logs. Nothing here is on the query path but the
//! counts of [`counter`], and, where it is on, the recorders of [`query_log`].

pub mod counter;
pub mod endpoint;
pub mod limited;
pub mod log;
pub mod metrics;
pub mod progress;
pub mod query_log;
pub mod status;
pub mod watchdog;
