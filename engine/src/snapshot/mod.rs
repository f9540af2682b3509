//! What is being served, immutable.
//!
//! [`index::Index`] finds an entry by name and [`order::OrderedSet`] keeps entries in canonical order; both share
//! what a change leaves alone. [`store::Store`] publishes the whole to the workers.

pub mod index;
pub mod order;
mod page;
pub mod prefetch;
pub mod store;
#[cfg(test)]
mod tests;
