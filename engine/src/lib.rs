//! Answers DNS queries from an immutable snapshot.

pub mod snapshot;
