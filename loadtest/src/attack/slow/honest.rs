//! Honest clients that come while all places are taken: a new connection each, one question, the answer compared.

use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::Serialize;
use socket2::{Domain, Socket, Type};

use crate::data::truth::compare;
use crate::data::{Source, Workload};
use crate::load::queries::Queries;
use crate::load::udp::Beside;

/// Between two connections.
const EVERY: Duration = Duration::from_millis(20);
/// Who is not answered by then is not served. Most resolvers wait no longer.
const DEADLINE: Duration = Duration::from_secs(2);
/// Connections under way at most: those of one deadline.
const PLACES: usize = 101;
/// How often the kernel is asked what happened.
const EVENTS_EVERY: Duration = Duration::from_micros(500);
/// The longest answer, with its length prefix.
const ANSWER: usize = 2 + 4_096;

struct Attempt {
    socket: Socket,
    query: u32,
    started: Instant,
    /// Whether the query has left.
    asked: bool,
    answer: Vec<u8>,
}

/// What became of them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Connections begun.
    pub begun: u64,
    /// Answered rightly in time.
    pub served: u64,
    /// Answered wrongly.
    pub wrong: u64,
    /// What the first of these said.
    pub difference: Option<String>,
    /// The longest time from the first packet to the whole answer, µs.
    pub longest_us: f64,
}

/// The honest clients.
pub struct Honest {
    server: SocketAddr,
    source: Source,
    queries: Queries,
    places: Vec<Option<Attempt>>,
    epoll: Epoll,
    next: Option<Instant>,
    next_events: Option<Instant>,
    asked: u32,
    /// What happened so far.
    pub counts: Counts,
}

impl fmt::Debug for Honest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Honest").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Honest {
    /// For a server that has the small zone.
    ///
    /// # Errors
    /// No epoll to be had.
    pub fn new(server: SocketAddr, source: &Source) -> Result<Self> {
        Ok(Honest {
            server,
            source: *source,
            queries: Queries::of(source, Workload::Small),
            places: (0..PLACES).map(|_| None).collect(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?,
            next: None,
            next_events: None,
            asked: 0,
            counts: Counts::default(),
        })
    }

    /// Waits for those that are under way.
    ///
    /// # Errors
    /// A socket failed.
    pub fn finish(&mut self) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end && self.places.iter().any(Option::is_some) {
            crate::interrupt::check()?;
            self.events(EpollTimeout::from(10_u8))?;
        }
        Ok(())
    }

    fn begin(&mut self, now: Instant) -> Result<()> {
        let Some(place) = self
            .places
            .iter()
            .position(|place| place.as_ref().is_none_or(|attempt| now - attempt.started > DEADLINE))
        else {
            return Ok(());
        };
        self.counts.begun += 1;
        self.places[place] = None;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("opening a TCP socket")?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if self.server.ip().is_loopback() {
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        }
        match socket.connect(&self.server.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
            Err(_) => return Ok(()),
        }
        let interest =
            EpollFlags::EPOLLOUT | EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.epoll.add(&socket, EpollEvent::new(interest, place as u64))?;
        let query = self.asked % self.queries.len();
        self.asked += 1;
        self.places[place] = Some(Attempt { socket, query, started: now, asked: false, answer: Vec::new() });
        Ok(())
    }

    fn events(&mut self, timeout: EpollTimeout) -> Result<()> {
        let mut events = [EpollEvent::empty(); 8];
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error).context("epoll_wait"),
        };
        for event in &events[..count] {
            let place = event.data() as usize;
            if self.advance(place).is_none() {
                self.places[place] = None;
            }
        }
        Ok(())
    }

    /// Asks, reads, and judges once the answer is whole. Nothing when the connection is done with.
    fn advance(&mut self, place: usize) -> Option<()> {
        let attempt = self.places[place].as_mut()?;
        let message = self.queries.message(attempt.query);
        if !attempt.asked {
            let len = u16::try_from(message.len()).ok()?;
            match (&attempt.socket).write(&[&len.to_be_bytes()[..], message].concat()) {
                Ok(_) => attempt.asked = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(_) => return None,
            }
        }
        let mut chunk = [0; ANSWER];
        loop {
            match (&attempt.socket).read(&mut chunk) {
                Ok(0) => return None,
                Ok(read) => attempt.answer.extend(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(_) => return None,
            }
            let Some((len, answer)) = attempt.answer.split_first_chunk::<2>() else { continue };
            if answer.len() < usize::from(u16::from_be_bytes(*len)) {
                continue;
            }
            let elapsed = attempt.started.elapsed();
            if elapsed > DEADLINE {
                return None;
            }
            let expected = self.source.question(Workload::Small, attempt.query).expected;
            match compare(message, answer, &expected) {
                Ok(()) => self.counts.served += 1,
                Err(difference) => {
                    self.counts.wrong += 1;
                    self.counts.difference.get_or_insert(difference);
                }
            }
            self.counts.longest_us = self.counts.longest_us.max(elapsed.as_secs_f64() * 1e6);
            return None;
        }
    }
}

impl Beside for Honest {
    fn turn(&mut self, now: Instant) -> Result<()> {
        if self.next.is_none_or(|at| now >= at) {
            self.next = Some(now + EVERY);
            return self.begin(now);
        }
        if self.next_events.is_none_or(|at| now >= at) {
            self.next_events = Some(now + EVENTS_EVERY);
            self.events(EpollTimeout::ZERO)?;
        }
        Ok(())
    }
}
