//! Waiting for sockets: `poll` over a worker's few UDP sockets or a single descriptor, `epoll` over TCP connections.
#![expect(unsafe_code, reason = "poll and epoll")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::check;

/// The sockets that one worker waits for.
pub struct PollSet(Vec<libc::pollfd>);

impl PollSet {
    /// Takes the numbers of the sockets; the caller keeps them open as long as this is used. (A closed number is
    /// reported as an error by the kernel, never touched.)
    #[must_use]
    pub fn new<'a>(sockets: impl Iterator<Item = BorrowedFd<'a>>) -> Self {
        PollSet(
            sockets
                .map(|socket| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 })
                .collect(),
        )
    }

    /// Waits until one can be read, at most `timeout`. Allocates nothing.
    pub fn wait(&mut self, timeout: Duration) {
        let count = self.0.len() as libc::nfds_t;
        // SAFETY: `count` entries stand at the pointer. An interruption is a wake-up like any other.
        unsafe { libc::poll(self.0.as_mut_ptr(), count, milliseconds(timeout)) };
    }
}

/// Waits until `fd` can be read or written without waiting, at most `timeout`; whether it can. A broken one can: what is
/// wrong with it is said by the call that follows.
#[must_use]
pub fn wait_for(fd: BorrowedFd<'_>, interest: Interest, timeout: Duration) -> bool {
    let events = match interest {
        Interest::Read => libc::POLLIN,
        Interest::Write => libc::POLLOUT,
    };
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one entry stands at the pointer. An interruption is a wake-up for nothing.
    unsafe { libc::poll(&raw mut entry, 1, milliseconds(timeout)) > 0 }
}

fn milliseconds(timeout: Duration) -> libc::c_int {
    libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX)
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Interest {
    /// Octets to read.
    Read,
    /// Room to write.
    Write,
}

/// A set of sockets of any size, level-triggered.
pub struct Epoll {
    fd: OwnedFd,
    events: Box<[libc::epoll_event]>,
    ready: usize,
}

impl Epoll {
    /// An empty set that reports up to `batch` events at a time.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new(batch: usize) -> io::Result<Self> {
        // SAFETY: no pointers; the number returned is new and ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; batch.max(1)].into(), ready: 0 })
    }

    /// Adds a socket.
    ///
    /// # Errors
    /// Which the kernel reports.
    pub fn add(&self, socket: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, token, interest)
    }

    /// Changes what a socket waits for.
    ///
    /// # Errors
    /// Which the kernel reports.
    pub fn change(&self, socket: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, token, interest)
    }

    /// Takes a socket out. Closing it does so too, when no copy of it is left in another process.
    ///
    /// # Errors
    /// Which the kernel reports.
    pub fn remove(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, socket, 0, Interest::Read)
    }

    /// Waits for events, at most `timeout`; returns how many there are.
    pub fn wait(&mut self, timeout: Duration) -> usize {
        let room = libc::c_int::try_from(self.events.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the array has the stated room. An interruption is an empty wake-up.
        let count = unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), room, milliseconds(timeout))
        };
        self.ready = usize::try_from(count).unwrap_or(0);
        self.ready
    }

    /// The token of the socket of event `i` of the last [`wait`](Self::wait).
    #[must_use]
    pub fn token(&self, i: usize) -> u64 {
        assert!(i < self.ready);
        self.events[i].u64
    }

    fn control(
        &self,
        action: libc::c_int,
        socket: BorrowedFd<'_>,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let events = match interest {
            Interest::Read => libc::EPOLLIN,
            Interest::Write => libc::EPOLLOUT,
        };
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token };
        // SAFETY: the event lives until the call returns.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), action, socket.as_raw_fd(), &raw mut event) })
            .map(drop)
    }
}
