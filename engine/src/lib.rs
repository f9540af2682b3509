//! Answers DNS queries from an immutable snapshot: no I/O, no clock, no runtime, no lock.
//!
//! The rules of the hot path, from a datagram's arrival to its answer's departure: no allocation, no lock, no shared counter,
//! no log line, no count of references touched; bounded work for any octets. What can be worked out when a snapshot is
//! built is worked out there, once.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod answer;
pub mod snapshot;
