//! Shared set-up of the benchmarks: an allocator that counts, random names, entries like the store's, and rounds
//! that alternate between the candidates.
//!
//! The benchmarks themselves are in `benches/benches/`; how to read their results is in `benches/README.md`.

pub mod counting;
pub mod entry;
pub mod names;
pub mod rounds;
