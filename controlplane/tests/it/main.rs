//! The control plane as its callers and its data plane see it: real HTTP over loopback, a real database, and a replica
//! that checks every batch that it is sent.

mod applied;
mod changes;
mod concurrency;
mod domains;
mod errors;
mod exports;
mod faults;
mod feed;
mod harness;
mod idempotency;
mod limits;
mod listener;
mod openapi;
mod program;
mod records;
mod replica;
mod writes;
