//! What an intruder would find: a process that may read the zone files, write its state folder, answer on the sockets
//! it has, start its successor, and nothing else.
//!
//! The order is fixed: sockets are bound, then the user is changed and all capabilities are given up, then the file
//! system is closed (landlock), then the list of system calls (seccomp), each tried at once: what must be denied is
//! attempted, and a process in which it is granted does not start. Only then anything is read that others wrote, and
//! only then threads start, so that every thread is under it.
//!
//! A successor runs under what its predecessor closed, as both landlock and seccomp are kept by `execve`. It is told so
//! and does not add the same again: the kernel stacks at most 16 landlock domains and some hundred filters, and an
//! upgrade by handover must work the hundredth time too. The tests it makes all the same.
//!
//! - [`folders`]: what of the file system stays open; [`calls`]: which system calls do;
//! - `trial`: what is attempted; [`alarm`]: says what was denied later.

pub mod alarm;
pub mod calls;
pub mod folders;
mod trial;

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};

use crate::config::{Sandbox, SandboxMode};
use crate::sys::{denied, privilege};
use folders::Folders;

/// What the rules here were written and tested for. A kernel that knows more is asked for this much, one that knows less
/// for what it has.
const LANDLOCK_ABI: ABI = ABI::V7;
/// How long threads that looked something up at the start may take to be gone.
const ENDING: Duration = Duration::from_secs(2);

/// How a process tells its successor what it is under.
pub const VARIABLE: &str = "GODWIT_CONFINED";

/// What has taken effect, for the whole process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Confinement {
    /// No capability is left in any set that could be used.
    pub capabilities: bool,
    /// Executing a file gives no rights.
    pub no_new_privs: bool,
    /// The landlock ABI whose rules are enforced; 0: none.
    pub landlock: u8,
    /// The number of the list of system calls that is enforced, see [`calls::LIST`]; 0: none.
    pub seccomp: u32,
    /// What must be denied was attempted, and was denied.
    pub tried: bool,
}

impl Confinement {
    /// The parts by the names that the metrics use, and whether each is in effect.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, bool); 5] {
        [
            ("capabilities", self.capabilities),
            ("no_new_privs", self.no_new_privs),
            ("landlock", self.landlock > 0),
            ("seccomp", self.seccomp > 0),
            ("self_test", self.tried),
        ]
    }

    /// What a process is under that closed nothing itself.
    #[must_use]
    pub fn found() -> Self {
        Confinement {
            capabilities: privilege::has_no_capabilities(),
            no_new_privs: privilege::forbids_new_privileges(),
            ..Confinement::default()
        }
    }

    /// What the process before us says that it closed for both.
    ///
    /// # Errors
    /// When the variable holds what no version of this program writes.
    pub fn inherited() -> anyhow::Result<Option<Self>> {
        let Ok(value) = std::env::var(VARIABLE) else { return Ok(None) };
        Self::parse(&value).with_context(|| format!("{VARIABLE}={value}")).map(Some)
    }

    fn parse(value: &str) -> anyhow::Result<Self> {
        let mut confinement = Confinement::default();
        for part in value.split_whitespace() {
            match part.split_once('=') {
                Some(("landlock", abi)) => confinement.landlock = abi.parse()?,
                Some(("seccomp", list)) => confinement.seccomp = list.parse()?,
                // A newer predecessor may say more.
                Some(_) => {}
                None => bail!("expected part=number, not \"{part}\""),
            }
        }
        Ok(confinement)
    }
}

/// As a successor is told.
impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "landlock={} seccomp={}", self.landlock, self.seccomp)
    }
}

/// Gives up every capability, and what executing a file could give. Before anything is opened that only a capability
/// would open: what works now works later.
///
/// # Errors
/// When it is refused, or when what needed a capability is granted still.
pub fn give_up_privileges(config: &Sandbox) -> anyhow::Result<()> {
    // A successor is under the list of calls from its first instruction, and a denied call that nobody watches for ends it.
    denied::watch()?;
    if config.mode == SandboxMode::Off {
        return Ok(());
    }
    privilege::drop_capabilities()?;
    privilege::forbid_new_privileges().context("forbidding new privileges")?;
    trial::privileges()
}

/// Closes the process to all but `folders` and the calls of the list. Before the first thread is started.
///
/// # Errors
/// When something must be denied and is granted, when `mode = "required"` and the kernel lacks a part, and when we are
/// under a predecessor's confinement that denies what this configuration needs.
pub fn close(
    config: &Sandbox,
    folders: &Folders,
    inherited: Option<Confinement>,
) -> anyhow::Result<Confinement> {
    let before = inherited.unwrap_or_default();
    if config.mode == SandboxMode::Off && before == Confinement::default() {
        tracing::warn!("the sandbox is off (sandbox.mode)");
        return Ok(Confinement::found());
    }
    let mut confinement = Confinement::found();
    confinement.landlock = match before.landlock {
        0 if wanted(config, config.landlock) => close_files(folders)?,
        abi => abi,
    };
    if before.landlock > 0 {
        folders.are_open().context("the process before us closed what is configured now; restart instead")?;
    }
    if confinement.landlock > 0 {
        trial::files(folders, confinement.landlock)?;
    }
    confinement.seccomp = match before.seccomp {
        0 if wanted(config, config.seccomp) => close_calls(!folders.connect.is_empty())?,
        0 => 0,
        list if list < calls::LIST => bail!(
            "the process before us allows the system calls of list {list}, this version needs list {}; restart instead",
            calls::LIST
        ),
        list => list,
    };
    if confinement.seccomp > 0 {
        trial::calls()?;
        // What we tried ourselves is nobody's attempt.
        denied::forget();
    }
    confinement.tried = true;
    report(config, folders, &confinement)?;
    Ok(confinement)
}

fn wanted(config: &Sandbox, part: bool) -> bool {
    config.mode != SandboxMode::Off && part
}

/// Says which parts took effect; whether those that are missing may be.
fn report(config: &Sandbox, folders: &Folders, confinement: &Confinement) -> anyhow::Result<()> {
    let part = |wanted: bool, value: u32| match (wanted, value) {
        (_, 1..) => value.to_string(),
        (true, 0) => "the kernel has none".to_owned(),
        (false, 0) => "off".to_owned(),
    };
    let landlock = part(config.landlock, u32::from(confinement.landlock));
    let seccomp = part(config.seccomp, confinement.seccomp);
    let lacks =
        (config.landlock && confinement.landlock == 0) || (config.seccomp && confinement.seccomp == 0);
    let Confinement { capabilities, no_new_privs, .. } = *confinement;
    if lacks && config.mode == SandboxMode::Required {
        bail!("sandbox.mode = \"required\": landlock: {landlock}; seccomp: {seccomp}");
    }
    if lacks {
        tracing::warn!(
            capabilities_dropped = capabilities,
            no_new_privs,
            landlock_abi = landlock,
            seccomp_list = seccomp,
            "the sandbox has holes: this kernel lacks a part of it"
        );
    } else {
        tracing::info!(
            capabilities_dropped = capabilities,
            no_new_privs,
            landlock_abi = landlock,
            seccomp_list = seccomp,
            read = ?folders.read,
            write = ?folders.write,
            execute = ?folders.execute,
            "confined; what must be denied was tried and is denied"
        );
    }
    Ok(())
}

/// The ABI that is enforced; 0 where the kernel has no landlock.
fn close_files(folders: &Folders) -> anyhow::Result<u8> {
    // A domain is of the thread that enters it and of those it starts from then on.
    if !is_alone(threads) {
        bail!("landlock: other threads run already");
    }
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Truncate;
    let execute = AccessFs::ReadFile | AccessFs::Execute;
    let close = || -> anyhow::Result<LandlockStatus> {
        // Network rights and scopes without a rule: no TCP port is bound or connected to, but for those of the query
        // log's reader and of a control plane, and no process outside gets a signal from us.
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(LANDLOCK_ABI))?
            .handle_access(AccessNet::from_all(LANDLOCK_ABI))?
            .scope(scopes())?
            .create()?;
        let parts: [(&[_], BitFlags<AccessFs>); 3] =
            [(&folders.read, read), (&folders.write, write), (&folders.execute, execute)];
        for (paths, access) in parts {
            for path in paths {
                rules = rules.add_rule(PathBeneath::new(PathFd::new(path)?, access))?;
            }
        }
        for &port in &folders.connect {
            rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
        }
        Ok(rules.restrict_self()?.landlock)
    };
    match close().context("landlock (sandbox.landlock = false does without)")? {
        LandlockStatus::Available { effective_abi, .. } => {
            Ok(u8::try_from(effective_abi.min(LANDLOCK_ABI) as i32).unwrap_or(0))
        }
        _ => Ok(0),
    }
}

/// Signals stay among us. Abstract sockets do too, unless the supervisor's is one.
fn scopes() -> BitFlags<Scope> {
    let supervisor = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    if supervisor.as_encoded_bytes().first() == Some(&b'@') {
        Scope::Signal.into()
    } else {
        Scope::Signal | Scope::AbstractUnixSocket
    }
}

/// Whether there is one thread, at last: one that has ended, and was waited for, may be listed for a moment more.
fn is_alone(mut threads: impl FnMut() -> Option<usize>) -> bool {
    let end = Instant::now() + ENDING;
    while threads().is_some_and(|count| count > 1) {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(ENDING / 1_000);
    }
    true
}

/// How many threads this process has; unknown where /proc is not to be seen.
fn threads() -> Option<usize> {
    Some(Path::new("/proc/self/task").read_dir().ok()?.count())
}

/// The number of the list that is enforced; 0 where the kernel has no seccomp, or we have no list for this processor.
fn close_calls(connects: bool) -> anyhow::Result<u32> {
    let Some(filters) = calls::filters(connects)? else { return Ok(0) };
    for filter in &filters {
        // On all threads, should there be others.
        match seccompiler::apply_filter_all_threads(filter) {
            Ok(()) => {}
            Err(seccompiler::Error::Seccomp(error))
                if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) =>
            {
                return Ok(0);
            }
            Err(error) => return Err(error).context("seccomp (sandbox.seccomp = false does without)"),
        }
    }
    Ok(calls::LIST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_are_ending_are_waited_for_and_others_are_not() {
        for (counts, alone) in [(&[Some(1)][..], true), (&[Some(3), Some(2), Some(1)], true), (&[None], true)]
        {
            let mut counts = counts.iter();
            assert_eq!(is_alone(|| *counts.next().unwrap()), alone);
        }
        assert!(!is_alone(|| Some(2)));
    }

    #[test]
    fn a_successor_understands_what_it_is_told() {
        let told = Confinement { landlock: 7, seccomp: 1, ..Confinement::default() };
        assert_eq!(Confinement::parse(&told.to_string()).unwrap(), told);
        // From a newer version, and from nobody that we know.
        assert_eq!(Confinement::parse("landlock=7 more=3 seccomp=1").unwrap(), told);
        for wrong in ["landlock", "landlock=x", "seccomp=-1"] {
            assert!(Confinement::parse(wrong).is_err(), "{wrong}");
        }
    }
}
