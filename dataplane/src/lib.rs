//! The DNS server: sockets in front of the engine, the feed behind it.

pub mod config;
pub mod observe;
pub mod serve;
pub mod source;
pub mod sys;
