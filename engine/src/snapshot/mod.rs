//! What is being served, immutable.
//!
//! [`Snapshot`] is everything at one moment. [`index`] finds a name's `node` and [`order`] keeps a `zone`'s nodes in canonical
//! order; both share what a change leaves alone. `load` makes a zone from records, `change` the next snapshot from a change
//! set, `restore` one from a local snapshot; what can be worked out of records beforehand is worked out in `derive`; `parts` and `recount` compare with another store, and with itself. [`store`] publishes snapshots to workers and takes
//! old ones back.

mod change;
#[cfg(test)]
mod change_tests;
pub(crate) mod derive;
pub mod index;
mod load;
pub(crate) mod node;
pub mod order;
mod page;
mod parts;
pub mod prefetch;
mod recount;
mod restore;
#[allow(clippy::module_inception, reason = "the file is named for what it holds")]
mod snapshot;
pub mod store;
#[cfg(all(loom, test))]
mod store_model;
#[cfg(test)]
mod tests;
mod tree;
pub(crate) mod zone;

pub use change::{ApplyError, ApplyFault};
pub use load::{LoadError, LoadFault, LoadedZone, MAX_NSEC3_ITERATIONS, MAX_NSEC3_SALT_OCTETS, ZoneLoader};
pub use parts::Parted;
pub use restore::{Restore, RestoreError};
pub use snapshot::{Position, Snapshot, SnapshotOptions};
pub use zone::ZoneView;
