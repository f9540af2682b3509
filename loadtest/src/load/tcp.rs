//! TCP load: connections that stay, some queries in flight on each. What a turn of the loop has to say on a connection is
//! written at once (RFC 7766 §6.2.1.1 asks clients and servers for this), with TCP_NODELAY.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::plan::Plan;
use super::queries::Queries;
use super::slots::{Flight, Slots};
use super::{Outcome, PATIENCE, Sampler, Stopwatch};

/// Octets asked of a connection at once.
const READ: usize = 65_536;
const EXPIRE_EVERY: Duration = Duration::from_millis(100);

/// Keeps `in_flight` queries on each of `connections` connections. A connection that the server closes is opened again;
/// what was in flight on it is lost.
///
/// # Errors
/// No connection can be made, or epoll fails.
pub fn saturate(
    plan: &Plan,
    connections: u16,
    in_flight: u16,
    queries: &Queries,
    cpu: &mut dyn FnMut() -> f64,
) -> Result<Outcome> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
    let mut pool = Vec::with_capacity(usize::from(connections));
    for number in 0..u64::from(connections) {
        let connection = Connection::open(plan.server, in_flight)?;
        epoll.add(&connection.stream, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
        pool.push(connection);
    }
    let mut tally = Tally { sampler: Sampler::new(plan.samples), sent: 0, matched: 0, lost: 0, strays: 0 };
    let mut query = 0;
    let mut stopwatch = Stopwatch::start(plan, cpu);
    let mut now = stopwatch.started();
    for connection in &mut pool {
        connection.refill(queries, &mut query, now, &mut tally);
    }
    let mut events = [EpollEvent::empty(); 64];
    let mut expire_at = now + EXPIRE_EVERY;
    while stopwatch.running(now, tally.matched) {
        let ready = wait(&epoll, &mut events)?;
        now = Instant::now();
        for event in &events[..ready] {
            let number = usize::try_from(event.data()).context("connection number")?;
            let connection = &mut pool[number];
            let alive = connection.read(queries, &mut tally) && {
                connection.refill(queries, &mut query, now, &mut tally);
                connection.flush()
            };
            if alive {
                connection.watch(&epoll, event.data())?;
            } else {
                tally.lost += connection.slots.in_flight() as u64;
                *connection = Connection::open(plan.server, in_flight)?;
                epoll.add(&connection.stream, EpollEvent::new(EpollFlags::EPOLLIN, event.data()))?;
                connection.refill(queries, &mut query, now, &mut tally);
            }
        }
        if now >= expire_at {
            for connection in &mut pool {
                tally.lost += connection.slots.expire(now, PATIENCE);
                connection.refill(queries, &mut query, now, &mut tally);
            }
            expire_at = now + EXPIRE_EVERY;
        }
    }
    drain(&epoll, &mut pool, queries, &mut tally)?;
    let (measured, seconds, cpu_seconds) = stopwatch.figures();
    Ok(Outcome {
        sent: tally.sent,
        matched: tally.matched,
        lost: tally.lost,
        strays: tally.strays,
        measured,
        seconds,
        cpu_seconds,
        samples: tally.sampler.samples,
        latency: None,
    })
}

/// Waits for what is still in flight and counts the rest as lost.
fn drain(epoll: &Epoll, pool: &mut [Connection], queries: &Queries, tally: &mut Tally) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut events = [EpollEvent::empty(); 64];
    while Instant::now() < end && pool.iter().any(|connection| connection.slots.in_flight() > 0) {
        let ready = wait(epoll, &mut events)?;
        for event in &events[..ready] {
            let connection = &mut pool[usize::try_from(event.data()).context("connection number")?];
            if !connection.read(queries, tally) || !connection.flush() {
                tally.lost += connection.slots.in_flight() as u64;
                connection.slots = Slots::new(1);
                epoll.delete(&connection.stream)?;
            }
        }
    }
    tally.lost += pool.iter().map(|connection| connection.slots.in_flight() as u64).sum::<u64>();
    Ok(())
}

pub(super) fn wait(epoll: &Epoll, events: &mut [EpollEvent]) -> Result<usize> {
    match epoll.wait(events, EpollTimeout::from(1_u8)) {
        Ok(ready) => Ok(ready),
        Err(nix::errno::Errno::EINTR) => Ok(0),
        Err(error) => Err(error).context("epoll_wait"),
    }
}

/// Counts of a run.
struct Tally {
    sampler: Sampler,
    sent: u64,
    matched: u64,
    lost: u64,
    strays: u64,
}

/// A connection with what is in flight on it, what was read and not yet a whole message, and what is still to be written.
struct Connection {
    stream: TcpStream,
    slots: Slots,
    inbox: Vec<u8>,
    filled: usize,
    outbox: Vec<u8>,
    watches_writing: bool,
}

impl Connection {
    fn open(server: SocketAddr, in_flight: u16) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, Duration::from_secs(2))
            .with_context(|| format!("connecting to {server} over TCP"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            slots: Slots::new(in_flight),
            inbox: vec![0; 2 * READ + 2],
            filled: 0,
            outbox: Vec::new(),
            watches_writing: false,
        })
    }

    /// Puts new queries for all free slots into the outbox and writes it. `query` is the next question's number.
    fn refill(&mut self, queries: &Queries, query: &mut u32, now: Instant, tally: &mut Tally) {
        while let Some(id) = self.slots.take(Flight { query: *query, due: now }) {
            let message = queries.message(*query);
            let len = u16::try_from(message.len()).expect("queries are short");
            self.outbox.extend(len.to_be_bytes());
            self.outbox.extend(id.to_be_bytes());
            self.outbox.extend(&message[2..]);
            *query = if *query + 1 == queries.len() { 0 } else { *query + 1 };
            tally.sent += 1;
        }
        self.flush();
    }

    /// Writes what there is; false when the connection is gone.
    fn flush(&mut self) -> bool {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(written) => drop(self.outbox.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads once and matches all whole messages; false when the connection is gone.
    fn read(&mut self, queries: &Queries, tally: &mut Tally) -> bool {
        match self.stream.read(&mut self.inbox[self.filled..]) {
            Ok(0) => return false,
            Ok(read) => self.filled += read,
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
        let mut at = 0;
        while self.filled - at >= 2 {
            let len = usize::from(u16::from_be_bytes([self.inbox[at], self.inbox[at + 1]]));
            if self.filled - at < 2 + len {
                break;
            }
            let answer = &self.inbox[at + 2..at + 2 + len];
            let id = if len >= 12 { u16::from_be_bytes([answer[0], answer[1]]) } else { 0 };
            match self.slots.find(id) {
                Some(flight) if queries.is_answer(flight.query, answer) => {
                    self.slots.release(id);
                    tally.matched += 1;
                    tally.sampler.offer(flight.query, answer);
                }
                _ => tally.strays += 1,
            }
            at += 2 + len;
        }
        self.inbox.copy_within(at..self.filled, 0);
        self.filled -= at;
        true
    }

    /// Asks epoll for writability only while something waits to be written.
    fn watch(&mut self, epoll: &Epoll, number: u64) -> Result<()> {
        let writing = !self.outbox.is_empty();
        if writing != self.watches_writing {
            let mut flags = EpollFlags::EPOLLIN;
            flags.set(EpollFlags::EPOLLOUT, writing);
            epoll.modify(&self.stream, &mut EpollEvent::new(flags, number))?;
            self.watches_writing = writing;
        }
        Ok(())
    }
}
