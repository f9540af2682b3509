//! The nouns of the control plane, valid by construction. No SQL, no HTTP.

pub mod change;
pub mod name_key;
pub mod role;
pub mod soa;
pub mod zone;
