//! The DNS server: sockets in front of the engine, the feed behind it.
//!
//! [`run::run`] is the whole process; [`server::Server`] is a data plane within one. One packet goes through `serve/`
//! and the engine and back; one change through `feed/` or `source/` into a new snapshot. What the process may still do
//! besides is decided in `sandbox/`.

pub mod config;
pub mod feed;
pub mod observe;
pub mod run;
pub mod sandbox;
pub mod serve;
pub mod server;
pub mod source;
pub mod state;
pub mod sys;

pub use config::Config;
pub use run::{Shutdown, run};
pub use server::{Records, Server, Start};
