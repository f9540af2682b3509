//! File descriptors that come from a parent process, and those that go to a child.
#![expect(unsafe_code, reason = "a descriptor named in the environment becomes an owned one")]

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use super::check;

/// Descriptors taken already: each may have one owner only.
static TAKEN: Mutex<Option<HashSet<RawFd>>> = Mutex::new(None);

/// Takes over a descriptor whose number the parent process told us, and keeps it from our own children.
///
/// # Errors
/// When no such descriptor is open, it is one of the three standard ones, or it was taken before.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::other(format!("descriptor {number} is a standard stream, not a socket")));
    }
    // SAFETY: asks about a number, open or not.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !taken.get_or_insert_default().insert(number) {
        return Err(io::Error::other(format!("descriptor {number} was named twice")));
    }
    // SAFETY: it is open, and the set above shows that nobody here owns it yet: it is named by the environment, which
    // is read before anything else opens descriptors that could have got this number.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    set_inheritable(std::os::fd::AsFd::as_fd(&owned), false)?;
    Ok(owned)
}

/// Whether children get a copy of this descriptor.
///
/// # Errors
/// Which the kernel reports.
pub fn set_inheritable(fd: BorrowedFd<'_>, inheritable: bool) -> io::Result<()> {
    let flags = if inheritable { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: changes a flag of an open descriptor.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, flags) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn a_descriptor_is_taken_once() {
        let (reader, _writer) = io::pipe().unwrap();
        let number = OwnedFd::from(reader).into_raw_fd();
        let owned = take(number).unwrap();
        assert!(take(number).is_err());
        assert_eq!(owned.as_raw_fd(), number);
        assert!(take(2).is_err());
        assert!(take(1_000_000).is_err());
    }
}
