//! Attempts at what must be denied, made at each start. Each would be harmless if it were granted, and each part of the
//! sandbox is tried as soon as it is in place, so that no part can hide the lack of another.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use anyhow::bail;

use super::folders::Folders;
use crate::sys::attempt;

/// From here on binding ports needs no capability; the kernel's default is 1024, containers often set 0.
const UNPRIVILEGED_PORTS: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
/// The first landlock ABI with rules for TCP ports.
const ABI_WITH_PORTS: u8 = 4;

/// After all capabilities were given up.
pub(super) fn privileges() -> anyhow::Result<()> {
    if !crate::sys::privilege::has_no_capabilities() {
        bail!("self-test: capabilities: some are left");
    }
    if !crate::sys::privilege::forbids_new_privileges() {
        bail!("self-test: no_new_privs: it is not set");
    }
    denied("capabilities", "changing the root folder", attempt::change_root())?;
    let first: Option<u16> =
        std::fs::read_to_string(UNPRIVILEGED_PORTS).ok().and_then(|text| text.trim().parse().ok());
    if first.is_some_and(|first| first > 1) {
        denied("capabilities", "binding port 1", UdpSocket::bind("127.0.0.1:1"))?;
    }
    Ok(())
}

/// After the file system was closed.
pub(super) fn files(folders: &Folders, abi: u8) -> anyhow::Result<()> {
    let root = Path::new("/");
    // An operator may have opened everything.
    if !folders.cover(root) {
        denied("landlock", "listing /", File::open(root))?;
    }
    let null = Path::new("/dev/null");
    if null.exists() && !folders.write.iter().any(|open| null.starts_with(open)) {
        denied("landlock", "writing to /dev/null", OpenOptions::new().write(true).open(null))?;
    }
    if abi >= ABI_WITH_PORTS {
        denied("landlock", "binding a TCP port", TcpListener::bind("127.0.0.1:0"))?;
    }
    Ok(())
}

/// After the list of system calls was closed.
pub(super) fn calls() -> anyhow::Result<()> {
    denied("seccomp", "unshare", attempt::unshare_nothing())?;
    denied("seccomp", "ptrace", attempt::trace_nobody())?;
    denied("seccomp", "process_vm_readv", attempt::read_no_memory())?;
    denied("seccomp", "memory to write and execute", attempt::map_writable_code())?;
    denied("seccomp", "a new UDP socket", UdpSocket::bind("127.0.0.1:0"))
}

fn denied<T>(part: &str, what: &str, outcome: io::Result<T>) -> anyhow::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => bail!("self-test: {part}: {what} failed for another reason than permission: {error}"),
        Ok(_) => bail!("self-test: {part}: {what} was granted, but must be denied"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_denial_is_one() {
        let error = |code| io::Result::<()>::Err(io::Error::from_raw_os_error(code));
        assert!(denied("p", "w", error(libc::EPERM)).is_ok());
        assert!(denied("p", "w", error(libc::EACCES)).is_ok());
        assert!(denied("p", "w", error(libc::ENOENT)).is_err());
        assert!(denied("p", "w", Ok(())).unwrap_err().to_string().contains("w was granted"));
    }
}
