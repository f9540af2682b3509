//! Which CPUs this process may use, and how a thread stays on one of them or steps back behind the others.
#![expect(unsafe_code, reason = "CPU sets and priorities are system calls")]

use std::io;
use std::mem::size_of;

use super::check;

/// The CPUs that the calling thread may run on: what containers and `taskset` left of the machine. Never empty.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: a CPU set is an array of integers, for which zeros are a value (the empty set); the kernel writes at
    // most the size that is stated.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) < 0 {
            return vec![0];
        }
        set
    };
    let limit = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: the number is below CPU_SETSIZE.
    let cpus: Vec<usize> = (0..limit).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// When the process may not use that CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: as in `allowed_cpus`; the number was compared with CPU_SETSIZE.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)).map(drop)
    }
}

/// Lets the calling thread step back behind the workers where both want the same CPU: background work must not
/// show in the time an answer takes. Best effort; never fails where it matters.
pub fn step_back() {
    be_nice(BACKGROUND_NICE);
}

/// Lets workers for UDP go first on a CPU that is not enough for both: what connections cost, many of which only take room,
/// is not to be waited for by datagrams. Where these take all they can get, a quarter of the CPU is left. Best effort.
pub fn give_way() {
    be_nice(CONNECTIONS_NICE);
}

/// Lets the thread that takes in changes step back behind the workers, and still have its turn soon where others than these keep
/// the CPU busy: what it does is short, and each change waits for it. Best effort.
pub fn be_prompt() {
    be_nice(PROMPT_NICE);
    slice(PROMPT_SLICE_NS);
}

/// Lets the calling thread run as soon as it has something to do, also where another one has the CPU: it asks for shorter
/// time slices than others have. Since Linux 6.12 a thread that wakes takes the CPU from one with longer slices, where
/// otherwise it would wait for the end of that slice, some milliseconds. Its share of the CPU stays the same. Best effort.
pub fn run_at_once() {
    slice(SHORT_SLICE_NS);
}

fn be_nice(nice: libc::c_int) {
    // SAFETY: takes and returns integers only. On Linux, 0 means the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

fn slice(nanoseconds: u64) {
    let Ok(size) = u32::try_from(size_of::<libc::sched_attr>()) else { return };
    // SAFETY: integers only, for which zeros are a value; the kernel writes at most the size that is stated. 0 means the
    // calling thread.
    unsafe {
        let mut attributes: libc::sched_attr = std::mem::zeroed();
        if libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) < 0 {
            return;
        }
        // Who runs us under a real-time policy has decided already: with these flags that stays, and this is refused.
        attributes.size = size;
        attributes.sched_flags = libc::SCHED_FLAG_KEEP_POLICY as u64;
        attributes.sched_runtime = nanoseconds;
        let _ = libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
    }
}

/// The shortest slice there is.
const SHORT_SLICE_NS: u64 = 100_000;
/// A slice for [`be_prompt`]: about what applying one change takes. With its niceness, those of workers end before.
const PROMPT_SLICE_NS: u64 = 300_000;

/// Gets about a tenth of a CPU that a worker keeps busy, and all of one that is free.
const BACKGROUND_NICE: libc::c_int = 10;
/// The niceness of workers for TCP, and of the thread that takes in changes: a third of the weight of workers for UDP.
const CONNECTIONS_NICE: libc::c_int = 5;
const PROMPT_NICE: libc::c_int = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_pinned_to_an_allowed_cpu() {
        std::thread::spawn(|| {
            let last = *allowed_cpus().last().unwrap();
            pin(last).unwrap();
            assert_eq!(allowed_cpus(), [last]);
            assert!(pin(usize::MAX).is_err());
        })
        .join()
        .unwrap();
    }
}
