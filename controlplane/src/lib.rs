//! The API and the database behind the data planes: decides what is true and tells the world.
//!
//! A change passes `api` → `validate` → `commit` (one transaction: rows, history, audit, outbox) → `relay` (order, batches)
//! → a data plane: that of the same process, or those on other machines, which ask `internal`. Nothing points backwards. Who
//! may what is decided in `auth` for each request, and for tenants by the database as well.

mod accounts;
pub mod api;
pub mod audit;
pub mod auth;
pub mod backup;
mod buffer;
mod cleanup;
pub mod commit;
pub mod compare;
pub mod config;
pub mod egress;
pub mod error;
mod events;
mod hex;
mod instance;
mod internal;
pub mod jobs;
pub mod mail;
pub mod model;
mod names;
pub mod observe;
pub mod past;
mod places;
mod rates;
pub mod relay;
mod secrets;
mod start;
mod stop;
pub mod store;
mod tenants;
pub mod validate;
mod web;
mod webhooks;

pub use config::Config;
pub use instance::Controlplane;
pub use relay::shadow::Program;
pub use relay::{Applied, Entries, FeedRequest, FeedSink, Position, ZoneState};
pub use secrets::make_master_key;
pub use start::FirstStart;
pub use stop::{Stop, on_signals};

/// Opens the database, serves the API, and publishes to `sink` until `stop` says so.
///
/// # Errors
/// When it cannot start: the folder is in use, the database cannot be opened, the address is taken.
pub async fn run(config: Config, sink: Option<FeedSink>, stop: Stop) -> anyhow::Result<()> {
    Controlplane::open(config, FirstStart::Empty, None).await?.serve(sink, stop).await
}
