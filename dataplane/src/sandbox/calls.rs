//! Which system calls a confined process may make: those it makes in all that it does (answering, reloading, writing
//! its snapshot, metrics, handing over, stopping), found by tracing it, and their close kin that another libc or kernel
//! would use instead.
//!
//! Everything else is denied with EPERM, counted (`godwit_dataplane_denied_calls_total`) and logged, and nothing is
//! killed. A call that we forgot, or that a new libc makes, then costs one function and raises an alarm; killed, it would
//! take the name server down, and a message that provokes it would do so wherever it is sent. An intruder gains nothing
//! by it: what is denied is denied, however often. `clone3` and calls newer than this list get ENOSYS, by which libc
//! falls back to what can be looked into here.
//!
//! The calls of the query path stand here without conditions, so that the kernel (from 5.11) keeps in a bitmap that they
//! are allowed, and does not run the filter for them.

use std::collections::BTreeMap;

use anyhow::Context;
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::sys::denied;

/// The number of this list. Raised with every call that is added after a release: under the list of an older version a
/// new one may lack something, and says so instead of taking over.
pub const LIST: u32 = 1;

/// Allowed whatever their arguments are. What they reach is limited otherwise: files by landlock, sockets by there being
/// no way to make others, other processes by user and landlock.
const ALLOWED: &[c_long] = &[
    // Answering, and the metrics.
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_epoll_pwait,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    // Time, threads, memory.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_setattr,
    libc::SYS_setpriority,
    libc::SYS_getcpu,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // Who and what we are.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_capget,
    libc::SYS_capset,
    // Zone files and the local snapshot.
    libc::SYS_openat,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_flock,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    // Starting a successor and waiting for it, and ending. What is executed stays under all of this.
    libc::SYS_execve,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Closing more than is closed already, as a successor may.
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
];

/// The forms that only this processor has, and that some libc uses.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_accept,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_time,
    libc::SYS_vfork,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[libc::SYS_accept];

/// New namespaces: the way to capabilities of another kind.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Requests that the standard library makes: non-blocking sockets, and whether a log goes to a terminal and how wide it
/// is. Others would type into that terminal.
const REQUESTS: &[libc::Ioctl] = &[libc::FIONBIO, libc::FIOCLEX, libc::TCGETS, libc::TIOCGWINSZ];

/// The bits of a socket's type; the rest are flags.
const SOCKET_TYPE: u64 = 0xF;

/// What a thread may ask about itself, and may give up.
const PROCESS_OPTIONS: &[libc::c_int] = &[
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_CAPBSET_READ,
    libc::PR_CAPBSET_DROP,
    libc::PR_CAP_AMBIENT,
    libc::PR_SET_VMA,
];

/// The filters, to be installed in this order; `None` where there is no list for the processor. `connects`: the query
/// log is read over TCP, or there is a control plane elsewhere.
///
/// # Errors
/// When they do not compile, which a test rules out.
pub fn filters(connects: bool) -> anyhow::Result<Option<[BpfProgram; 2]>> {
    let Ok(processor) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(None) };
    let filter = |rules, mismatch, on_match| -> anyhow::Result<BpfProgram> {
        Ok(SeccompFilter::new(rules, mismatch, on_match, processor)?.try_into()?)
    };
    // Two, as one filter has two outcomes. Of both the stricter holds, and a signal is stricter than an error.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let clone3 = filter(unknown, SeccompAction::Allow, errno(libc::ENOSYS))?;
    let deny = if denied::CAN_WATCH { SeccompAction::Trap } else { errno(libc::EPERM) };
    let list = filter(allowed(connects).context("the list of system calls")?, deny, SeccompAction::Allow)?;
    Ok(Some([clone3, list]))
}

fn errno(code: libc::c_int) -> SeccompAction {
    SeccompAction::Errno(code.unsigned_abs())
}

fn allowed(connects: bool) -> Result<BTreeMap<c_long, Vec<SeccompRule>>, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|&call| (call, Vec::new())).collect();
    // The first filter answers this one.
    rules.insert(libc::SYS_clone3, Vec::new());
    // The supervisor's socket, the signals' pair, the query log's reader, a control plane: no other kind is made any more.
    let mut sockets = vec![argument(0, Eq, value(libc::AF_UNIX))?];
    if connects {
        sockets.push(argument(1, MaskedEq(SOCKET_TYPE), value(libc::SOCK_STREAM))?);
    }
    rules.insert(libc::SYS_socket, sockets);
    rules.insert(libc::SYS_clone, vec![argument(0, MaskedEq(value(NAMESPACES)), 0)?]);
    // Our own limits, not those of others.
    rules.insert(libc::SYS_prlimit64, vec![argument(0, Eq, 0)?]);
    // Memory is for code or for data: a loader maps code from files, and nobody makes it.
    let (write, execute) = (value(libc::PROT_WRITE), value(libc::PROT_EXEC));
    let either = |protection| argument(2, MaskedEq(write | execute), protection);
    rules.insert(libc::SYS_mmap, vec![either(0)?, either(write)?, either(execute)?]);
    rules.insert(libc::SYS_mprotect, vec![argument(2, MaskedEq(execute), 0)?]);
    let requests = REQUESTS.iter().map(|&request| argument(1, Eq, request & u64::from(u32::MAX)));
    rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    let options = PROCESS_OPTIONS.iter().map(|&option| argument(0, Eq, value(option)));
    rules.insert(libc::SYS_prctl, options.collect::<Result<_, _>>()?);
    Ok(rules)
}

/// A flag or number of the C interface as the kernel compares it: 32 bits.
fn value(number: libc::c_int) -> u64 {
    u64::from(number.cast_unsigned())
}

fn argument(
    index: u8,
    comparison: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, comparison, value)?;
    SeccompRule::new(vec![condition])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile() {
        assert!(filters(false).unwrap().is_some() && filters(true).unwrap().is_some());
    }

    /// What an intruder would want most.
    #[test]
    fn nothing_that_reaches_beyond_the_process_is_on_the_list() {
        let rules = allowed(false).unwrap();
        for call in [
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_setuid,
            libc::SYS_setgid,
            libc::SYS_setresuid,
            libc::SYS_setgroups,
            libc::SYS_open_by_handle_at,
            libc::SYS_memfd_create,
            libc::SYS_execveat,
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_personality,
            libc::SYS_pkey_mprotect,
            libc::SYS_shmat,
            libc::SYS_symlinkat,
            libc::SYS_linkat,
            libc::SYS_mknodat,
            libc::SYS_fchmod,
            libc::SYS_fchown,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
    }

    /// What answers queries is decided without looking at arguments, or the kernel could not remember it.
    #[test]
    fn calls_of_the_query_path_have_no_conditions() {
        let rules = allowed(false).unwrap();
        for call in [libc::SYS_recvmmsg, libc::SYS_sendmmsg, libc::SYS_epoll_pwait, libc::SYS_clock_gettime] {
            assert_eq!(rules.get(&call).map(Vec::len), Some(0), "{call}");
        }
    }
}
