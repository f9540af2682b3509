//! Limits that the system puts on the process.
#![expect(unsafe_code, reason = "getrlimit and setrlimit")]

/// Raises the number of open files to what the process may have, and returns it: each TCP connection is one.
#[must_use]
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write one rlimit that lives until they return.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) < 0 {
            return 1024;
        }
        let before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) < 0 {
            return before;
        }
    }
    limit.rlim_cur
}
