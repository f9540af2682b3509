//! The load generator as a user runs it, against a responder whose faults are known.

mod compare;
mod responder;
mod runs;
mod soak;
