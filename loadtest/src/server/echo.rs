//! The reflector: receives a batch, sets QR, appends 16 octets, sends the batch back. What it costs is what the kernel
//! costs; nothing that answers over sockets can be cheaper.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

/// Messages per system call.
const BATCH: usize = 64;
/// Longest message taken.
const ROOM: usize = 2_048;
/// What an answer's records add at the least.
const APPENDED: usize = 16;

/// Reflects until the process is ended.
///
/// # Errors
/// The address cannot be bound, or the socket fails.
pub fn run(listen: SocketAddrV4) -> Result<()> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("binding UDP {listen}"))?;
    let mut receive_headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut send_headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut buffers = vec![[0_u8; ROOM + APPENDED]; BATCH];
    let mut clients = [None; BATCH];
    let mut lens = [0; BATCH];
    loop {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            buffers.iter_mut().map(|buffer| [IoSliceMut::new(&mut buffer[..ROOM])]).collect();
        let received = recvmmsg(
            socket.as_raw_fd(),
            &mut receive_headers,
            slices.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        );
        let count = match received {
            Ok(messages) => messages
                .zip(clients.iter_mut().zip(&mut lens))
                .map(|(message, (client, len))| (*client, *len) = (message.address, message.bytes))
                .count(),
            Err(Errno::EINTR | Errno::ECONNREFUSED) => continue,
            Err(error) => return Err(error).context("recvmmsg"),
        };
        let slices: Vec<[IoSlice<'_>; 1]> = buffers
            .iter_mut()
            .zip(&lens[..count])
            .map(|(buffer, &len)| {
                buffer[2] |= 0x80;
                buffer[len..len + APPENDED].fill(0);
                [IoSlice::new(&buffer[..len + APPENDED])]
            })
            .collect();
        let mut first = 0;
        while first < count {
            let sent = sendmmsg(
                socket.as_raw_fd(),
                &mut send_headers,
                &slices[first..],
                &clients[first..count],
                [],
                MsgFlags::empty(),
            );
            // A message that cannot be sent is left out, as a server would.
            first += sent.map_or(1, |results| results.count().max(1));
        }
    }
}
