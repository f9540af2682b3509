//! System calls that seccomp denied: each comes back as a signal to the thread that made it, is counted here, and fails
//! with EPERM (or ENOSYS, when it is newer than we are, so that libc does without).
#![expect(unsafe_code, reason = "a signal handler that writes the result of a system call")]

use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::check;

/// Whether calls that are denied can be seen on this processor. Elsewhere they fail all the same.
pub const CAN_WATCH: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// The last system call that existed when the list was written (Linux 6.18).
const NEWEST: i64 = 470;
/// `si_code` of a SIGSYS that comes from seccomp.
const SYS_SECCOMP: libc::c_int = 1;

static COUNT: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicI64 = AtomicI64::new(-1);

/// How many calls were denied.
#[must_use]
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// The number of the last one.
#[must_use]
pub fn last() -> i64 {
    LAST.load(Ordering::Relaxed)
}

/// Counts from 0 again.
pub fn forget() {
    COUNT.store(0, Ordering::Relaxed);
    LAST.store(-1, Ordering::Relaxed);
}

/// From now on denied calls are counted, on every thread. Without this, one would end the process.
///
/// # Errors
/// Which the kernel reports.
pub fn watch() -> io::Result<()> {
    if !CAN_WATCH {
        return Ok(());
    }
    // SAFETY: zeros are a value of the structure (no flags, an empty mask); the handler has the form that SA_SIGINFO
    // asks for, and does only what a handler may (see there).
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_denied as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        check(libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut())).map(drop)
    }
}

/// Touches two atomics and the saved registers: nothing that a signal must not.
extern "C" fn on_denied(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes both, for the time of this call.
    let (code, context) = unsafe { ((*info).si_code, &mut *context.cast::<libc::ucontext_t>()) };
    // Somebody may send the signal as any other.
    if code != SYS_SECCOMP {
        return;
    }
    let number = call(context);
    COUNT.fetch_add(1, Ordering::Relaxed);
    LAST.store(number, Ordering::Relaxed);
    fail(context, if number > NEWEST { libc::ENOSYS } else { libc::EPERM });
}

/// The number of the call: the kernel has put the registers back to how it was made.
#[cfg(target_arch = "x86_64")]
fn call(context: &libc::ucontext_t) -> i64 {
    context.uc_mcontext.gregs[libc::REG_RAX as usize]
}

/// Lets the call return this error.
#[cfg(target_arch = "x86_64")]
fn fail(context: &mut libc::ucontext_t, error: libc::c_int) {
    context.uc_mcontext.gregs[libc::REG_RAX as usize] = -i64::from(error);
}

#[cfg(target_arch = "aarch64")]
fn call(context: &libc::ucontext_t) -> i64 {
    context.uc_mcontext.regs[8].cast_signed()
}

#[cfg(target_arch = "aarch64")]
fn fail(context: &mut libc::ucontext_t, error: libc::c_int) {
    context.uc_mcontext.regs[0] = (-i64::from(error)).cast_unsigned();
}

/// Never called: nothing is watched there.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn call(_: &libc::ucontext_t) -> i64 {
    -1
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn fail(_: &mut libc::ucontext_t, _: libc::c_int) {}
