//! What the data plane shows of itself: counts, metrics, health, logs. Nothing here is on the query path but the
//! counts of [`counter`].

pub mod counter;
pub mod endpoint;
pub mod limited;
pub mod log;
pub mod metrics;
pub mod progress;
pub mod status;
pub mod watchdog;
