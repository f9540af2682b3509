//! System calls that no crate of ours offers as they are needed here, behind safe functions. All unsafe code of the
//! data plane stands in this folder; what to do with the calls is decided elsewhere.

pub mod affinity;
pub mod attempt;
pub mod datagrams;
pub mod denied;
pub mod heap;
pub mod host;
pub mod inherit;
pub mod libraries;
pub mod limits;
pub mod memory;
pub mod privilege;
pub mod readiness;
pub mod signal;
pub mod socket;

use std::io;

/// Turns the −1 of a system call into the error it stands for.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
