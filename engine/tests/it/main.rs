//! The engine as a whole, against the reference in `testkit` and against scenarios written from the RFCs.

mod bridge;
mod changes;
mod differential;
mod scenarios;
