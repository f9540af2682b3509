//! Signals that we send: to a thread of ours that waits in the kernel, and to the process that takes our place.
#![expect(unsafe_code, reason = "sigaction, pthread_kill and kill")]

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

use super::check;

/// Ignored unless somebody listens, so that one too many does no harm.
const INTERRUPT: libc::c_int = libc::SIGURG;

/// Makes [`interrupt`] work: without it, the signal is ignored, and wakes nobody. Once for the process.
///
/// # Errors
/// Which the kernel reports.
pub fn prepare_interrupts() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: all zeros is a valid sigaction: no flags, so that no call is begun anew, and no signal masked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    // SAFETY: the action lives until the call returns; its handler does nothing, which is safe anywhere.
    check(unsafe { libc::sigaction(INTERRUPT, &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// Ends the wait of a thread in the kernel, if it is in one at this moment.
pub fn interrupt<T>(thread: &JoinHandle<T>) {
    // SAFETY: a thread that was not joined has a valid number, also after it has ended.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), INTERRUPT) };
}

/// Asks a process to reload (SIGHUP).
///
/// # Errors
/// When it is gone.
pub fn hang_up(process: u32) -> io::Result<()> {
    let process = libc::pid_t::try_from(process).map_err(io::Error::other)?;
    // SAFETY: no pointers.
    check(unsafe { libc::kill(process, libc::SIGHUP) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_that_waits_for_a_datagram_is_interrupted() {
        prepare_interrupts().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let waiting = std::thread::spawn(move || socket.recv(&mut [0]).unwrap_err().kind());
        while !waiting.is_finished() {
            interrupt(&waiting);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(waiting.join().unwrap(), io::ErrorKind::Interrupted);
    }
}
