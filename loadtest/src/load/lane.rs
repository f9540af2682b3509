//! One connected UDP socket with its queries in flight and its buffers: a batch out by sendmmsg, a batch in by recvmmsg.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};

use super::queries::Queries;
use super::slots::{Flight, Slots};

/// Messages per system call, both ways.
pub const BATCH: usize = 64;
/// No answer of any workload is longer.
const ANSWER: usize = 4_096;
/// No query of any workload is longer: header, name, type and class, OPT.
const QUERY: usize = 12 + 255 + 4 + 11;

/// A socket, what is in flight on it, and room for one batch each way.
pub struct Lane {
    socket: UdpSocket,
    /// What is in flight.
    pub slots: Slots,
    send_headers: MultiHeaders<()>,
    receive_headers: MultiHeaders<()>,
    outgoing: Vec<[u8; QUERY]>,
    incoming: Vec<Vec<u8>>,
}

/// What [`Lane::receive`] found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Answers that matched.
    pub matched: u64,
    /// Those that matched nothing.
    pub strays: u64,
}

impl Lane {
    /// Connects to the server.
    ///
    /// # Errors
    /// No socket to be had.
    pub fn connect(server: SocketAddr, window: u16) -> Result<Self> {
        let local: SocketAddr = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse()?;
        let socket = UdpSocket::bind(local).context("opening a UDP socket")?;
        socket.connect(server).with_context(|| format!("connecting a UDP socket to {server}"))?;
        socket.set_nonblocking(true)?;
        Ok(Lane {
            socket,
            slots: Slots::new(window),
            send_headers: MultiHeaders::preallocate(BATCH, None),
            receive_headers: MultiHeaders::preallocate(BATCH, None),
            outgoing: vec![[0; QUERY]; BATCH],
            incoming: vec![vec![0; ANSWER]; BATCH],
        })
    }

    /// Sends up to `count` queries, at most a batch and at most the free slots; `next` says which one and when it is due.
    /// Gives back how many left.
    ///
    /// # Errors
    /// The socket failed for another reason than being full or refused (no server yet).
    pub fn send(
        &mut self,
        queries: &Queries,
        count: usize,
        next: &mut dyn FnMut() -> Flight,
    ) -> Result<usize> {
        let count = count.min(BATCH).min(self.slots.free());
        let mut ids = [0_u16; BATCH];
        let mut lens = [0_usize; BATCH];
        for place in 0..count {
            let flight = next();
            let id = self.slots.take(flight).expect("no more than the free slots are asked for");
            let message = queries.message(flight.query);
            let buffer = &mut self.outgoing[place];
            buffer[..message.len()].copy_from_slice(message);
            buffer[..2].copy_from_slice(&id.to_be_bytes());
            (ids[place], lens[place]) = (id, message.len());
        }
        if count == 0 {
            return Ok(0);
        }
        let slices: Vec<[IoSlice<'_>; 1]> =
            (0..count).map(|place| [IoSlice::new(&self.outgoing[place][..lens[place]])]).collect();
        let addresses = [None::<()>; BATCH];
        let sent = match sendmmsg(
            self.socket.as_raw_fd(),
            &mut self.send_headers,
            &slices,
            &addresses[..count],
            [],
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(results) => results.count(),
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ECONNREFUSED | Errno::EINTR) => 0,
            Err(error) => return Err(error).context("sendmmsg"),
        };
        for &id in &ids[sent..count] {
            self.slots.release(id);
        }
        Ok(sent)
    }

    /// Takes in up to a batch of what has arrived, without waiting, and calls `answered` for each answer that matches
    /// a query in flight by ID and question.
    ///
    /// # Errors
    /// The socket failed for another reason than being empty or refused.
    pub fn receive(
        &mut self,
        queries: &Queries,
        answered: &mut dyn FnMut(Flight, &[u8]),
    ) -> Result<Received> {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.incoming.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let mut lens = [0_usize; BATCH];
        let arrived = match recvmmsg(
            self.socket.as_raw_fd(),
            &mut self.receive_headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        ) {
            Ok(results) => results.zip(&mut lens).map(|(message, len)| *len = message.bytes).count(),
            Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::EINTR) => 0,
            Err(error) => return Err(error).context("recvmmsg"),
        };
        let mut received = Received::default();
        for (buffer, &len) in self.incoming.iter().zip(&lens[..arrived]) {
            let answer = &buffer[..len];
            let id = if len >= 12 { u16::from_be_bytes([answer[0], answer[1]]) } else { 0 };
            match self.slots.find(id) {
                Some(flight) if queries.is_answer(flight.query, answer) => {
                    self.slots.release(id);
                    received.matched += 1;
                    answered(flight, answer);
                }
                _ => received.strays += 1,
            }
        }
        Ok(received)
    }

    /// Gives up on queries that have waited too long.
    pub fn expire(&mut self, now: Instant) -> u64 {
        self.slots.expire(now, super::PATIENCE)
    }
}
