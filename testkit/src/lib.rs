//! What tests need: the reference answers, generated zones and queries, real servers to compare with, scenario
//! files, and responses as values that can be compared.
//!
//! Used by tests only. Nothing here shares code with `engine`: of our own crates it takes names and record types
//! from `wire`, and reads and checks everything else by itself or through `domain`.

pub mod compare;
pub mod generate;
pub mod message;
pub mod reference;
pub mod scenario;
pub mod servers;
