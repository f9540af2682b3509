//! The load generator and the side-by-side comparison with other servers. What is measured and how stands in
//! `loadtest/README.md`. It sees servers as a client does and shares no code with the one under test.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people: counts and durations here stay far below the limits of their types"
)]

pub mod api;
pub mod attack;
pub mod chaos;
pub mod churn;
pub mod cli;
pub mod cluster;
pub mod compare;
pub mod course;
pub mod cpu;
pub mod data;
pub mod dnsperf;
pub mod goals;
pub mod http;
pub mod interrupt;
pub mod load;
pub mod measure;
pub mod message;
pub mod propagate;
pub mod query_log;
pub mod recover;
pub mod report;
pub mod rig;
pub mod server;
pub mod soak;
pub mod sysctl;
