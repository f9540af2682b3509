//! Giving up what only binding to port 53 needed: user, groups, capabilities, and the way back to any of them.
#![expect(unsafe_code, reason = "setgroups, setgid, setuid and prctl")]

use std::ffi::CString;
use std::io;

use anyhow::{Context, bail};
use caps::{CapSet, Capability};

use super::check;

/// A user of this system.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// As the operator wrote it.
    pub name: String,
    /// Number of the user.
    pub uid: libc::uid_t,
    /// Number of the user's own group.
    pub gid: libc::gid_t,
}

/// Finds a user by name.
///
/// # Errors
/// When there is none of that name.
pub fn user(name: &str) -> anyhow::Result<User> {
    let text = CString::new(name).context("a user's name cannot contain a zero octet")?;
    let mut buffer = vec![0u8; 16 * 1024];
    // SAFETY: `entry` is written before it is read; strings it points to go into `buffer`, whose size is stated, and
    // only numbers are taken out.
    let found = unsafe {
        let mut entry: libc::passwd = std::mem::zeroed();
        let mut result = std::ptr::null_mut();
        libc::getpwnam_r(
            text.as_ptr(),
            &raw mut entry,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            &raw mut result,
        );
        (!result.is_null()).then_some((entry.pw_uid, entry.pw_gid))
    };
    let Some((uid, gid)) = found else { bail!("there is no user \"{name}\" on this system") };
    Ok(User { name: name.to_owned(), uid, gid })
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Becomes `user` for good: no supplementary groups, no capabilities, nothing gained by executing a file. Called
/// after all sockets are bound and before any other thread exists. A process that is that user already only loses
/// its capabilities.
///
/// # Errors
/// When a step is refused, or when root could still be had back. The caller must stop then.
pub fn become_user(user: &User) -> anyhow::Result<()> {
    // While we still may: root alone can take them from itself.
    drop_bounding();
    // SAFETY: no pointers but that to an empty list.
    unsafe {
        if libc::geteuid() != user.uid || libc::getegid() != user.gid {
            check(libc::setgroups(0, std::ptr::null())).context("dropping supplementary groups")?;
            check(libc::setgid(user.gid)).context("changing the group")?;
            check(libc::setuid(user.uid)).context("changing the user")?;
        }
        if user.uid != 0 && libc::setuid(0) == 0 {
            bail!("still able to become root after changing to user \"{}\"", user.name);
        }
    }
    drop_capabilities()?;
    forbid_new_privileges().context("forbidding new privileges")
}

/// Gives up every capability, and where it may, those that executing a file could bring. Safe to call without any.
///
/// # Errors
/// When the kernel refuses, which it does for nobody who only gives up.
pub fn drop_capabilities() -> anyhow::Result<()> {
    drop_bounding();
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).with_context(|| format!("clearing the {set:?} capabilities"))?;
    }
    Ok(())
}

/// Empties the set that bounds what an executed file may bring. It takes a capability itself; for who has none of them,
/// no_new_privs does the same.
fn drop_bounding() {
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap_or(false) {
        let _ = caps::clear(None, CapSet::Bounding);
    }
}

/// Whether no capability is left that this thread could use, or pass to what it executes.
#[must_use]
pub fn has_no_capabilities() -> bool {
    [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted]
        .into_iter()
        .all(|set| caps::read(None, set).is_ok_and(|left| left.is_empty()))
}

/// Executing a file gives no rights from now on, whatever its mode says. For this thread and those that it starts.
///
/// # Errors
/// When the kernel refuses.
pub fn forbid_new_privileges() -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// Whether executing a file gives no rights.
#[must_use]
pub fn forbids_new_privileges() -> bool {
    // SAFETY: integers only.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name() {
        assert_eq!(user("root").unwrap().uid, 0);
        let error = user("no-such-user-here").unwrap_err().to_string();
        assert_eq!(error, "there is no user \"no-such-user-here\" on this system");
    }
}
