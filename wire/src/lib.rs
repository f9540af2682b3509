//! Every format that crosses a process boundary, as bytes and as values: DNS messages, RRset images, and the
//! feed between the planes. Bytes in, values out: no I/O, no clock, no runtime, no unsafe.
//!
//! Whatever reads bytes from outside is total (any bytes give a value or an error), never panics, and does work
//! linear in the size of its input.
//!
//! | you have | use |
//! |---|---|
//! | an owner name | [`name::Name`], [`name::NameRef`] |
//! | a set of records | [`rr::Rrset`] |
//! | a packet from a client | [`query::Query`] |
//! | octets of a TCP connection | [`framing`] |
//! | an RRset to keep ready to send | [`image`] |
//! | a response to write | [`response::Response`] |
//! | RDATA octets to check or to canonicalise | [`rdata`] |
//! | changes, batches and digests that cross between the planes | [`feed`] |
//! | RDATA as people write it | [`presentation`] |
//! | a zone file | [`zonefile`] |
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod edns;
pub mod feed;
pub mod framing;
pub mod image;
pub mod message;
pub mod name;
pub mod nsec3;
pub mod presentation;
pub mod query;
pub mod rdata;
pub mod response;
pub mod rr;
pub mod zonefile;
