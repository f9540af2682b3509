//! Another process that has SQLite's database: it holds the lock that every writer needs, as `BEGIN IMMEDIATE` in a shell would.
//! In WAL mode that is the octet WAL_WRITE_LOCK of the index file (SQLite, "WAL-mode File Format", §2.3.1 Locks), by fcntl.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Where the lock stands.
const WAL_WRITE_LOCK: libc::off_t = 120;
/// A writer holds it for milliseconds only.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lock; dropping it gives it back.
#[derive(Debug)]
pub struct WriteLock {
    _index: File,
}

impl WriteLock {
    /// Takes it as soon as no writer has it.
    ///
    /// # Errors
    /// There is no index file beside the database, or it is never free.
    pub fn take(database: &Path) -> Result<Self> {
        let mut path = database.as_os_str().to_owned();
        path.push("-shm");
        let index =
            OpenOptions::new().read(true).write(true).open(&path).context("opening the index of the WAL")?;
        let lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: WAL_WRITE_LOCK,
            l_len: 1,
            l_pid: 0,
        };
        let end = Instant::now() + PATIENCE;
        loop {
            match fcntl(&index, FcntlArg::F_SETLK(&lock)) {
                Ok(_) => return Ok(WriteLock { _index: index }),
                Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error).context("locking the database"),
            }
        }
    }
}
