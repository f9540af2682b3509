//! Whether a requested change makes sense: one function per rule, each with its RFC section.
//!
//! [`record`] judges what needs no zone, when a request is read. [`zone`] judges a change against the zone as the
//! commit's transaction shows it.

pub mod name;
pub mod record;
pub mod zone;
pub mod zone_file;

/// Shortest TTL that a record may be written with.
pub const MIN_TTL_S: u32 = 60;
/// Longest TTL that a record may be written with.
pub const MAX_TTL_S: u32 = 86_400;
/// TTL of a record that is written without one.
pub const DEFAULT_TTL_S: u32 = 300;
/// The most records of an RRset.
pub const MAX_RECORDS_PER_RRSET: usize = 100;
/// The most types at one owner name.
pub const MAX_TYPES_PER_NAME: usize = 100;
/// The most name servers of a delegation: a referral with more fits no message of usual size.
pub const MAX_DELEGATION_NS: usize = 13;
/// The most octets that the records of an RRset take in a message: one that does not fit (65,535 octets with header,
/// question and OPT) could never be answered.
pub const MAX_RRSET_OCTETS: usize = 64_000;
/// The most additional iterations of NSEC3 (RFC 9276 §3.2): with more, data planes refuse the zone.
pub const MAX_NSEC3_ITERATIONS: u16 = 50;
/// The most octets of an NSEC3 salt (RFC 9276 §2.4): with more, data planes refuse the zone.
pub const MAX_NSEC3_SALT_OCTETS: u8 = 32;
