//! Attempts at system calls that a confined process must be denied. Granted, each of them does nothing.
#![expect(unsafe_code, reason = "no crate offers calls that are meant to fail")]

use std::io;

use super::check;

/// Makes the root folder the root folder: needs a capability, changes nothing.
///
/// # Errors
/// Which the kernel reports; `PermissionDenied` is hoped for.
pub fn change_root() -> io::Result<()> {
    // SAFETY: the path ends with a zero octet. (Its working folder could then lie outside only if it did before.)
    check(unsafe { libc::chroot(c"/".as_ptr()) }).map(drop)
}

/// Leaves no namespace: anybody may.
///
/// # Errors
/// As for [`change_root`].
pub fn unshare_nothing() -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::unshare(0) }).map(drop)
}

/// Looks into a process that does not exist: no process has the number 0.
///
/// # Errors
/// As for [`change_root`]; `ESRCH` where the call is allowed.
pub fn trace_nobody() -> io::Result<()> {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: no process is found, so nothing is read; errno says whether it failed, as −1 could be a value.
    let result = unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, 0, nothing, nothing) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads no octets of our own memory: anybody may.
///
/// # Errors
/// As for [`change_root`].
pub fn read_no_memory() -> io::Result<()> {
    let none = std::ptr::null();
    // SAFETY: both lists are empty.
    let count = unsafe { libc::process_vm_readv(libc::getpid(), none, 0, none, 0, 0) };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Maps a page that can be written and executed, and gives it back.
///
/// # Errors
/// As for [`change_root`].
pub fn map_writable_code() -> io::Result<()> {
    const OCTETS: usize = 4096;
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: a new mapping, at an address that the kernel picks, is given back unused.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), OCTETS, protection, flags, -1, 0);
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        check(libc::munmap(page, OCTETS)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_a_sandbox_they_do_nothing() {
        unshare_nothing().unwrap();
        read_no_memory().unwrap();
        map_writable_code().unwrap();
        assert_eq!(trace_nobody().unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
