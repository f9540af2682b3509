//! Where a Redis is, whatever form it has, and a connection to it: one server, the one that Sentinel names, or a cluster.
//!
//! Both planes use it, as they use `wire`: what is a place must mean the same to who publishes there and to who reads there.
//! It knows nothing of what is kept in Redis.
//!
//! - [`Place`]: what a URL says (`place.rs`), and how a connection is made of it (`connect.rs`);
//! - [`Connection`]: one of either kind, used as `redis` uses its own.

mod connect;
mod connection;
mod place;

pub use connect::Timeouts;
pub use connection::Connection;
pub use place::{BadUrl, Place};
