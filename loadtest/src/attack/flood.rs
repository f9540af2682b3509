//! A flood: bursts at a fixed rate from sockets that nobody reads, on the generator's own thread beside the queries that are
//! matched. Bounded in rate, time and count; to the server of the run only.

use std::cell::Cell;
use std::fmt;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use socket2::{Domain, Socket, Type};

use super::packets::Burst;
use crate::load::udp::Beside;

/// Bursts in one turn at most, so that honest queries are never late for long.
const BURSTS_PER_TURN: u64 = 2;
/// No flood sends more, whatever its rate and time.
pub const COUNT_LIMIT: u64 = 2_000_000_000;

/// Sends bursts.
pub struct Flood {
    sockets: Vec<Socket>,
    bursts: Vec<Burst>,
    per_second: f64,
    started: Option<Instant>,
    turns: u64,
    /// Whether the kernel cuts bursts apart.
    segments: bool,
    sent: Rc<Cell<u64>>,
}

impl fmt::Debug for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flood")
            .field("per_second", &self.per_second)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl Flood {
    /// From these addresses to the server, so many messages a second. It starts with its first turn.
    ///
    /// # Errors
    /// No sockets to be had.
    pub fn new(from: &[IpAddr], server: SocketAddr, bursts: Vec<Burst>, per_second: f64) -> Result<Self> {
        anyhow::ensure!(!bursts.is_empty(), "a flood of nothing");
        let sockets = from.iter().map(|&address| socket(address, server)).collect::<Result<_>>()?;
        let sent = Rc::default();
        Ok(Flood { sockets, bursts, per_second, started: None, turns: 0, segments: true, sent })
    }

    /// How many messages have left, to be read at any time.
    #[must_use]
    pub fn sent(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.sent)
    }

    fn burst(&mut self) -> Result<()> {
        let count = self.bursts.len() as u64;
        let burst = &mut self.bursts[(self.turns % count) as usize];
        let socket = &self.sockets[(self.turns % self.sockets.len() as u64) as usize];
        burst.vary(self.turns);
        self.turns += 1;
        let len = usize::from(burst.len);
        if self.segments {
            let control = [ControlMessage::UdpGsoSegments(&burst.len)];
            match send(socket, &burst.octets, &control)? {
                Sent::Yes => self.sent.set(self.sent.get() + (burst.octets.len() / len) as u64),
                Sent::Later => {}
                Sent::NotSo => self.segments = false,
            }
            return Ok(());
        }
        for message in burst.octets.chunks_exact(len) {
            if matches!(send(socket, message, &[])?, Sent::Yes) {
                self.sent.set(self.sent.get() + 1);
            }
        }
        Ok(())
    }
}

impl Beside for Flood {
    fn turn(&mut self, now: Instant) -> Result<()> {
        let started = *self.started.get_or_insert(now);
        let due = ((now - started).as_secs_f64() * self.per_second) as u64;
        for _ in 0..BURSTS_PER_TURN {
            // What could not be offered in time is not made up for in one go: at most what fits the turns is sent.
            if self.sent.get() >= due.min(COUNT_LIMIT) {
                break;
            }
            self.burst()?;
        }
        Ok(())
    }
}

enum Sent {
    Yes,
    Later,
    /// The kernel does not cut messages apart.
    NotSo,
}

fn send(socket: &Socket, octets: &[u8], control: &[ControlMessage<'_>]) -> Result<Sent> {
    match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(octets)], control, MsgFlags::MSG_DONTWAIT, None) {
        Ok(_) => Ok(Sent::Yes),
        Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ECONNREFUSED | Errno::EINTR | Errno::EHOSTUNREACH) => {
            Ok(Sent::Later)
        }
        Err(Errno::EINVAL | Errno::EIO | Errno::EOPNOTSUPP) if !control.is_empty() => Ok(Sent::NotSo),
        Err(error) => Err(error).context("sending a burst"),
    }
}

/// A socket for sending: its receive buffer is as small as the kernel allows, and what does not fit is lost.
fn socket(from: IpAddr, server: SocketAddr) -> Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(server), Type::DGRAM, None).context("opening a UDP socket")?;
    socket.set_recv_buffer_size(1)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(from, 0).into()).with_context(|| format!("binding {from}"))?;
    socket.connect(&server.into()).with_context(|| format!("connecting to {server}"))?;
    Ok(socket)
}
