//! Connections that only take room: idle, dripping, never reading, stopped in the middle of a length prefix. Each that the server
//! closes is opened again, at a bounded rate. From many addresses of 127.0.0.0/8, as a botnet is.

use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::Serialize;
use socket2::{Domain, Socket, Type};

use crate::load::udp::Beside;

/// Different networks (/24) that connections come from: few enough from each that no limit for one client is met.
const NETWORKS: usize = 64;
/// New connections a second while queries are measured.
const CONNECTS_PER_SECOND: u32 = 1_000;
/// Between two octets of a dripping connection, and two tries of a full one.
const DRIP_EVERY: Duration = Duration::from_millis(1_000);
/// Places looked at in one turn.
const LOOKED_AT: usize = 16;
/// How often the kernel is asked what happened.
const EVENTS_EVERY: Duration = Duration::from_micros(250);
/// Events taken at once.
const EVENTS: usize = 16;
/// What a connection that never reads has room for: as little as the kernel allows.
const NO_ROOM: usize = 1;
/// Queries that a connection that never reads sends in one go.
const PIPELINED: usize = 32;

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Nothing.
    Idle,
    /// One octet of a query each second.
    Dripping,
    /// Asks and asks, and never reads.
    NotReading,
    /// One octet of the length, then nothing.
    HalfLength,
}

/// A quarter of the fleet each.
const MANNERS: [Manner; 4] = [Manner::Idle, Manner::Dripping, Manner::NotReading, Manner::HalfLength];

struct Slow {
    socket: Socket,
    manner: Manner,
    established: bool,
    written: usize,
    next: Instant,
}

/// What became of the connections.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Opened.
    pub opened: u64,
    /// Closed by the server.
    pub closed: u64,
    /// Refused, or not to be had.
    pub refused: u64,
}

/// The connections.
pub struct Fleet {
    server: SocketAddr,
    /// A query with its length prefix, whose answer is as long as the zone allows.
    query: Vec<u8>,
    places: Vec<Option<Slow>>,
    epoll: Epoll,
    look_at: usize,
    next_connect: Option<Instant>,
    next_events: Option<Instant>,
    /// What happened so far.
    pub counts: Counts,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("places", &self.places.len())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Fleet {
    /// Places for so many; nothing is opened yet. `message` is what those ask that ask.
    ///
    /// # Errors
    /// No epoll to be had.
    pub fn new(server: SocketAddr, message: &[u8], size: usize) -> Result<Self> {
        let len = u16::try_from(message.len()).context("a query longer than a message")?;
        Ok(Fleet {
            server,
            query: [&len.to_be_bytes()[..], message].concat(),
            places: (0..size).map(|_| None).collect(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?,
            look_at: 0,
            next_connect: None,
            next_events: None,
            counts: Counts::default(),
        })
    }

    /// Opens connections as fast as the server takes them, until all are there or the time is over.
    ///
    /// # Errors
    /// A socket failed.
    pub fn fill(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        let (mut place, count) = (0, self.places.len());
        while Instant::now() < end && self.established() < count {
            crate::interrupt::check()?;
            for _ in 0..64 {
                self.tend(place % count, Instant::now(), true)?;
                place += 1;
            }
            self.events()?;
        }
        Ok(())
    }

    /// Connections that stand.
    #[must_use]
    pub fn established(&self) -> usize {
        self.places.iter().flatten().filter(|slow| slow.established).count()
    }

    /// Looks at one place: fills it when it is empty and that is allowed, or does what is due there.
    fn tend(&mut self, place: usize, now: Instant, may_connect: bool) -> Result<()> {
        let Some(slow) = &mut self.places[place] else {
            return if may_connect { self.connect(place, now) } else { Ok(()) };
        };
        if !slow.established || now < slow.next {
            return Ok(());
        }
        slow.next = now + DRIP_EVERY;
        let octets = match slow.manner {
            Manner::Idle => return Ok(()),
            Manner::HalfLength if slow.written > 0 => return Ok(()),
            Manner::HalfLength => &self.query[..1],
            Manner::Dripping => {
                let at = slow.written % self.query.len();
                &self.query[at..=at]
            }
            Manner::NotReading => {
                // From where the last write stopped, whole queries behind one another.
                let at = slow.written % self.query.len();
                &self.query.repeat(PIPELINED)[at..]
            }
        };
        match (&slow.socket).write(octets) {
            Ok(written) => slow.written += written,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.close(place),
        }
        Ok(())
    }

    fn connect(&mut self, place: usize, now: Instant) -> Result<()> {
        let manner = MANNERS[place % MANNERS.len()];
        let network = place / MANNERS.len() % NETWORKS;
        let from = Ipv4Addr::new(127, 64 + (network / 8) as u8, (network % 8 * 32) as u8, 7);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("opening a TCP socket")?;
        socket.set_nonblocking(true)?;
        if manner == Manner::NotReading {
            socket.set_recv_buffer_size(NO_ROOM)?;
        }
        if self.server.ip().is_loopback() {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        let connected = socket.connect(&self.server.into());
        let pending =
            connected.as_ref().is_err_and(|error| error.raw_os_error() == Some(nix::libc::EINPROGRESS));
        if connected.is_err() && !pending {
            self.counts.refused += 1;
            return Ok(());
        }
        let interest = EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.epoll.add(&socket, EpollEvent::new(interest, place as u64))?;
        // The first octets of different connections are spread over the second.
        let spread = Duration::from_micros(place as u64 * 97 % 1_000_000);
        self.places[place] =
            Some(Slow { socket, manner, established: !pending, written: 0, next: now + spread });
        self.counts.opened += u64::from(!pending);
        Ok(())
    }

    fn close(&mut self, place: usize) {
        if let Some(slow) = self.places[place].take() {
            if slow.established {
                self.counts.closed += 1;
            } else {
                self.counts.refused += 1;
            }
        }
    }

    fn events(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error).context("epoll_wait"),
        };
        for event in &events[..count] {
            let place = event.data() as usize;
            let over = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
            if event.events().intersects(over) {
                self.close(place);
            } else if let Some(slow) = &mut self.places[place]
                && !slow.established
            {
                slow.established = true;
                self.counts.opened += 1;
            }
        }
        Ok(())
    }
}

impl Beside for Fleet {
    fn turn(&mut self, now: Instant) -> Result<()> {
        // One thing in a turn, so that no query waits for long.
        if self.next_events.is_none_or(|at| now >= at) {
            self.next_events = Some(now + EVENTS_EVERY);
            return self.events();
        }
        let mut may_connect = self.next_connect.is_none_or(|at| now >= at);
        for _ in 0..LOOKED_AT.min(self.places.len()) {
            let place = self.look_at;
            self.look_at = (place + 1) % self.places.len();
            let empty = self.places[place].is_none();
            self.tend(place, now, may_connect)?;
            if empty && may_connect {
                may_connect = false;
                self.next_connect = Some(now + Duration::from_secs(1) / CONNECTS_PER_SECOND);
            }
        }
        Ok(())
    }
}
