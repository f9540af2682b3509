//! TCP load: one connection per query, some at a time. The client closes first, with FIN, as resolvers do; so that its
//! ports in TIME-WAIT (RFC 9293 §3.3.2) do not run out, connections come from many loopback addresses in turn.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use socket2::{Domain, Protocol, Socket, Type};

use super::plan::Plan;
use super::queries::Queries;
use super::tcp::wait;
use super::{Outcome, PATIENCE, Sampler, Stopwatch};

/// Source addresses: 127.1.0.1 and the next ones.
const SOURCES: u32 = 240;
/// No answer of the TCP workloads is longer.
const ANSWER: usize = 4_096;

/// Keeps `concurrent` connections under way, each for one query.
///
/// # Errors
/// The server's address is not on IPv4 loopback, or sockets fail.
pub fn saturate(
    plan: &Plan,
    concurrent: u16,
    queries: &Queries,
    cpu: &mut dyn FnMut() -> f64,
) -> Result<Outcome> {
    anyhow::ensure!(
        matches!(plan.server, SocketAddr::V4(server) if server.ip().is_loopback()),
        "one connection per query is only offered to 127.0.0.0/8, not to {}",
        plan.server
    );
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
    let mut source = 0;
    let mut sampler = Sampler::new(plan.samples);
    let (mut sent, mut matched, mut lost, mut strays) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut stopwatch = Stopwatch::start(plan, cpu);
    let mut now = stopwatch.started();
    let mut pool = Vec::with_capacity(usize::from(concurrent));
    for number in 0..u64::from(concurrent) {
        pool.push(Visit::start(plan.server, &epoll, number, &mut source, &mut sent, queries, now)?);
    }
    let mut events = [EpollEvent::empty(); 64];
    let mut expire_at = now + PATIENCE;
    while stopwatch.running(now, matched) {
        let ready = wait(&epoll, &mut events)?;
        now = Instant::now();
        for event in &events[..ready] {
            let visit = &mut pool[usize::try_from(event.data()).context("connection number")?];
            let end = match visit.advance(&epoll, event.data(), queries) {
                Progress::Waiting => continue,
                Progress::Answered => {
                    matched += 1;
                    sampler.offer(visit.query, &visit.inbox[2..visit.filled]);
                    0
                }
                Progress::Failed => 1,
                Progress::Stray => {
                    strays += 1;
                    1
                }
            };
            lost += end;
            *visit = Visit::start(plan.server, &epoll, event.data(), &mut source, &mut sent, queries, now)?;
        }
        if now >= expire_at {
            for (number, visit) in (0..).zip(&mut pool) {
                if now - visit.started > PATIENCE {
                    lost += 1;
                    *visit = Visit::start(plan.server, &epoll, number, &mut source, &mut sent, queries, now)?;
                }
            }
            expire_at = now + PATIENCE;
        }
    }
    let (measured, seconds, cpu_seconds) = stopwatch.figures();
    // What is under way when time is up is neither answered nor lost.
    sent -= pool.len() as u64;
    let samples = sampler.samples;
    Ok(Outcome { sent, matched, lost, strays, measured, seconds, cpu_seconds, samples, latency: None })
}

enum Progress {
    Waiting,
    Answered,
    Stray,
    Failed,
}

/// One connection, one query. Dropping it closes the connection and takes it out of epoll.
struct Visit {
    stream: TcpStream,
    query: u32,
    started: Instant,
    written: bool,
    inbox: Vec<u8>,
    filled: usize,
}

impl Visit {
    fn start(
        server: SocketAddr,
        epoll: &Epoll,
        number: u64,
        source: &mut u32,
        sent: &mut u64,
        queries: &Queries,
        now: Instant,
    ) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        let host = u32::from(Ipv4Addr::new(127, 1, 0, 1)) + *source % SOURCES;
        *source = source.wrapping_add(1);
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket
            .bind(&SocketAddrV4::new(Ipv4Addr::from(host), 0).into())
            .context("binding a source address of 127.0.0.0/8")?;
        match socket.connect(&server.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
            Err(error) => return Err(error).with_context(|| format!("connecting to {server}")),
        }
        let stream = TcpStream::from(socket);
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLOUT, number))?;
        let query = u32::try_from(*sent % u64::from(queries.len())).expect("below a 32-bit count");
        *sent += 1;
        Ok(Visit { stream, query, started: now, written: false, inbox: vec![0; ANSWER], filled: 0 })
    }

    fn advance(&mut self, epoll: &Epoll, number: u64, queries: &Queries) -> Progress {
        if !self.written {
            let message = queries.message(self.query);
            let len = u16::try_from(message.len()).expect("queries are short");
            let whole = [&len.to_be_bytes()[..], message].concat();
            // A fresh connection's buffer takes a whole query.
            if self.stream.write(&whole).ok() != Some(whole.len())
                || epoll.modify(&self.stream, &mut EpollEvent::new(EpollFlags::EPOLLIN, number)).is_err()
            {
                return Progress::Failed;
            }
            self.written = true;
            return Progress::Waiting;
        }
        match self.stream.read(&mut self.inbox[self.filled..]) {
            Ok(0) => return Progress::Failed,
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waiting,
            Err(_) => return Progress::Failed,
        }
        let wanted = 2 + usize::from(u16::from_be_bytes([self.inbox[0], self.inbox[1]]));
        if self.filled < 2 || self.filled < wanted {
            Progress::Waiting
        } else if self.filled == wanted && queries.is_answer(self.query, &self.inbox[2..wanted]) {
            Progress::Answered
        } else {
            Progress::Stray
        }
    }
}
