//! What is being served, immutable.
//!
//! [`index::Index`] finds an entry by name and [`order::OrderedSet`] keeps entries in canonical order; both share
//! what a change leaves alone.

pub mod index;
pub mod order;
mod page;
pub mod prefetch;
#[cfg(test)]
mod tests;
