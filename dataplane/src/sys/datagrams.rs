//! Batched datagrams: `recvmmsg` and `sendmmsg` over arrays that live as long as their worker, so that nothing is
//! allocated or set up per query. What the datagrams mean is not looked at here.
#![expect(unsafe_code, reason = "recvmmsg and sendmmsg work on arrays of raw pointers")]
#![expect(
    clippy::cast_possible_truncation,
    reason = "sizes of our own arrays, which the system's types hold"
)]

use std::io;
use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// How many datagrams one system call receives or sends. Measured: 64 is where longer batches stop paying.
pub const BATCH: usize = 64;
/// The longest datagram received whole, in octets. No query comes near it; a longer one is cut and marked so.
pub const PACKET_OCTETS: usize = 2048;
/// Room for one answer, in octets.
pub const ANSWER_OCTETS: usize = 4096;

/// An odd number of cache lines between buffers, so that the first lines of all of them do not fall into the same
/// few sets of the cache.
const PACKET_STRIDE: usize = PACKET_OCTETS + 64;
const ANSWER_STRIDE: usize = ANSWER_OCTETS + 64;

/// Holds a `sockaddr_in` or a `sockaddr_in6`: a quarter of a `sockaddr_storage`.
#[repr(C, align(8))]
struct Address([u8; 32]);

/// Control messages of one datagram: packet information (40 octets at most) and the overflow counter (24).
#[repr(C, align(64))]
struct Control([u8; 64]);

#[repr(C, align(64))]
struct Arrays {
    receive: [libc::mmsghdr; BATCH],
    send: [libc::mmsghdr; BATCH],
    receive_iov: [libc::iovec; BATCH],
    send_iov: [libc::iovec; BATCH],
    addresses: [Address; BATCH],
    control: [Control; BATCH],
    send_control: [Control; BATCH],
    packets: [[u8; PACKET_STRIDE]; BATCH],
    answers: [[u8; ANSWER_STRIDE]; BATCH],
}

/// Whether to wait for the first datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// Until one arrives or the socket's receive timeout passes; then all that are there.
    First,
    /// Not at all.
    No,
}

/// What became of the answers of a batch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sent {
    /// Handed to the kernel.
    pub sent: usize,
    /// Refused by the kernel (no route, a port that may not be sent to, no room in time, …) and skipped.
    pub failed: usize,
}

/// The arrays of one worker: up to [`BATCH`] datagrams received, and the answers to them.
///
/// A datagram is named by its index in the batch. Cost: 400 KiB, touched only as far as traffic fills it.
pub struct Datagrams {
    /// Allocated by `Box`, accessed only through this pointer, because the kernel and the headers alias it.
    arrays: NonNull<Arrays>,
    received: usize,
    queued: usize,
    /// The socket's count of datagrams dropped for want of buffer space, as last reported.
    overflow: Option<u32>,
}

// SAFETY: the arrays are owned by this value alone; nothing else holds a pointer into them between calls.
unsafe impl Send for Datagrams {}

impl Default for Datagrams {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::into_raw` in `new` and is not used afterwards.
        drop(unsafe { Box::from_raw(self.arrays.as_ptr()) });
    }
}

impl Datagrams {
    /// Allocates the arrays and links the headers to their buffers, once.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: every field is made of integers, raw pointers and arrays of them, for which zeros are a value.
        let arrays = Box::into_raw(unsafe { Box::<Arrays>::new_zeroed().assume_init() });
        for i in 0..BATCH {
            // SAFETY: `arrays` is a live allocation and `i` is inside every array; places are formed by raw
            // pointers only, so the pointers stored in the headers stay valid as long as the allocation.
            unsafe {
                let iov = &raw mut (*arrays).receive_iov[i];
                (*iov).iov_base = (&raw mut (*arrays).packets[i]).cast();
                (*iov).iov_len = PACKET_OCTETS;
                let header = &raw mut (*arrays).receive[i].msg_hdr;
                (*header).msg_iov = iov;
                (*header).msg_iovlen = 1;
                (*header).msg_name = (&raw mut (*arrays).addresses[i]).cast();
                (*header).msg_namelen = size_of::<Address>() as libc::socklen_t;
                (*header).msg_control = (&raw mut (*arrays).control[i]).cast();
                (*header).msg_controllen = size_of::<Control>() as _;
            }
        }
        let arrays = NonNull::new(arrays).expect("a box is never null");
        Datagrams { arrays, received: 0, queued: 0, overflow: None }
    }

    /// Receives up to [`BATCH`] datagrams; forgets those of the batch before. 0 when none came in time.
    ///
    /// # Errors
    /// What `recvmmsg` reports, except that nothing is there, an interruption, and an error that an earlier answer
    /// met on its way (which belongs to nobody here): those give 0.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, wait: Wait) -> io::Result<usize> {
        self.queued = 0;
        let arrays = self.arrays.as_ptr();
        for i in 0..std::mem::take(&mut self.received) {
            // SAFETY: as in `new`. The kernel wrote over these fields at the last receive; over those of datagrams that
            // did not come it did not.
            unsafe {
                let entry = &raw mut (*arrays).receive[i];
                (*entry).msg_hdr.msg_namelen = size_of::<Address>() as libc::socklen_t;
                (*entry).msg_hdr.msg_controllen = size_of::<Control>() as _;
                (*entry).msg_hdr.msg_flags = 0;
            }
        }
        let flags = match wait {
            Wait::First => libc::MSG_WAITFORONE,
            Wait::No => libc::MSG_DONTWAIT,
        };
        // SAFETY: BATCH headers stand at the pointer, each linked to live buffers of the stated lengths.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                (&raw mut (*arrays).receive).cast(),
                BATCH as libc::c_uint,
                flags,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(
                    libc::EAGAIN | libc::EINTR | libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH,
                ) => Ok(0),
                _ => Err(error),
            };
        };
        self.received = count;
        // The counter only grows, so that of the last datagram is the newest.
        if let Some(last) = count.checked_sub(1)
            && let Some(overflow) = self.control_message(last, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 4)
        {
            self.overflow = overflow.first_chunk().map(|octets| u32::from_ne_bytes(*octets));
        }
        Ok(count)
    }

    /// How many datagrams the socket last received from has dropped for want of buffer space since it was made
    /// (modulo 2³²). `None` until it has dropped any, and until this is called again after a new report.
    pub fn take_overflow(&mut self) -> Option<u32> {
        self.overflow.take()
    }

    /// Who sent datagram `i`. `None` when the kernel gave no IP address.
    #[must_use]
    pub fn source(&self, i: usize) -> Option<SocketAddr> {
        assert!(i < self.received);
        // SAFETY: `i` is inside the arrays, and nothing writes to them while `self` is borrowed.
        let (octets, len) = unsafe {
            let arrays = self.arrays.as_ptr();
            (&(*arrays).addresses[i].0, (*arrays).receive[i].msg_hdr.msg_namelen as usize)
        };
        let family = libc::sa_family_t::from_ne_bytes(*octets.first_chunk()?);
        match libc::c_int::from(family) {
            libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => Some(read_ipv4(octets)),
            libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => Some(read_ipv6(octets)),
            _ => None,
        }
    }

    /// The address that datagram `i` was sent to. `None` where the socket is bound to one address.
    #[must_use]
    pub fn destination(&self, i: usize) -> Option<IpAddr> {
        if let Some(info) = self.control_message(i, libc::IPPROTO_IP, libc::IP_PKTINFO, 12) {
            let address = info.get(offset_of!(libc::in_pktinfo, ipi_spec_dst)..)?.first_chunk::<4>()?;
            return Some(IpAddr::V4(Ipv4Addr::from(*address)));
        }
        let info = self.control_message(i, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20)?;
        Some(IpAddr::V6(Ipv6Addr::from(*info.first_chunk::<16>()?)))
    }

    /// Whether datagram `i` was longer than [`PACKET_OCTETS`] and is cut.
    #[must_use]
    pub fn truncated(&self, i: usize) -> bool {
        assert!(i < self.received);
        // SAFETY: as in `source`.
        unsafe { (*self.arrays.as_ptr()).receive[i].msg_hdr.msg_flags & libc::MSG_TRUNC != 0 }
    }

    /// Datagram `i`, and the buffer for the answer to it.
    pub fn exchange(&mut self, i: usize) -> (&[u8], &mut [u8]) {
        assert!(i < self.received);
        // SAFETY: `i` is inside the arrays; the two buffers are different fields; the borrow of `self` keeps anyone
        // else from both while they are in use.
        unsafe {
            let arrays = self.arrays.as_ptr();
            let packet: &[u8; PACKET_STRIDE] = &(*arrays).packets[i];
            let answer: &mut [u8; ANSWER_STRIDE] = &mut (*arrays).answers[i];
            let len = ((*arrays).receive[i].msg_len as usize).min(PACKET_OCTETS);
            (&packet[..len], &mut answer[..ANSWER_OCTETS])
        }
    }

    /// Puts the first `len` octets of answer `i` into the line for [`send`](Self::send), to be sent from the address
    /// that was asked.
    pub fn queue(&mut self, i: usize, len: usize) {
        assert!(i < self.received && self.queued < BATCH && len <= ANSWER_OCTETS);
        let at = self.queued;
        let controllen = self.reply_control(i, at);
        let arrays = self.arrays.as_ptr();
        // SAFETY: `i` and `at` are inside the arrays; the pointers stored point into the same allocation.
        unsafe {
            let iov = &raw mut (*arrays).send_iov[at];
            (*iov).iov_base = (&raw mut (*arrays).answers[i]).cast();
            (*iov).iov_len = len;
            let header = &raw mut (*arrays).send[at].msg_hdr;
            (*header).msg_iov = iov;
            (*header).msg_iovlen = 1;
            (*header).msg_name = (&raw mut (*arrays).addresses[i]).cast();
            (*header).msg_namelen = (*arrays).receive[i].msg_hdr.msg_namelen;
            (*header).msg_control = match controllen {
                0 => std::ptr::null_mut(),
                _ => (&raw mut (*arrays).send_control[at]).cast(),
            };
            (*header).msg_controllen = controllen as _;
            (*header).msg_flags = 0;
        }
        self.queued += 1;
    }

    /// Sends what is in the line. One bad destination costs its own answer and no other. A send queue that stays full for
    /// the socket's send timeout costs the rest of the line: every further answer would wait as long again, and nothing
    /// is received meanwhile.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> Sent {
        let arrays = self.arrays.as_ptr();
        let mut result = Sent::default();
        let mut at = 0;
        // The call before ended early: this one is only to say why, and whatever it was waiting for was waited for.
        let mut again = false;
        while at < self.queued {
            let flags = libc::MSG_NOSIGNAL | if again { libc::MSG_DONTWAIT } else { 0 };
            // SAFETY: `queued - at` linked headers stand at the pointer.
            let count = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    (&raw mut (*arrays).send).cast::<libc::mmsghdr>().add(at),
                    (self.queued - at) as libc::c_uint,
                    flags,
                )
            };
            // Fewer than asked for means that the next one failed: asked again, it stands first and says why.
            if let Ok(count) = usize::try_from(count) {
                result.sent += count;
                at += count;
                again = true;
                continue;
            }
            match io::Error::last_os_error().kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    result.failed += self.queued - at;
                    break;
                }
                _ => {
                    result.failed += 1;
                    at += 1;
                    again = false;
                }
            }
        }
        self.queued = 0;
        result
    }

    /// Writes the packet information that makes answer `at` leave from where datagram `i` arrived; returns its length,
    /// 0 when the socket's own address will do.
    fn reply_control(&mut self, i: usize, at: usize) -> usize {
        let mut data = [0u8; 20];
        let (level, kind, len) =
            if let Some(info) = self.control_message(i, libc::IPPROTO_IP, libc::IP_PKTINFO, 12) {
                // ipi_ifindex, ipi_spec_dst, ipi_addr: the kernel reads the first two.
                let (interface, rest) = info.split_at(4);
                data[4..8].copy_from_slice(&rest[..4]);
                if rest.starts_with(&[169, 254]) {
                    data[..4].copy_from_slice(interface);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO, 12)
            } else if let Some(info) = self.control_message(i, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20) {
                // ipi6_addr, ipi6_ifindex. Routing picks the interface, except where an address means nothing without.
                data[..16].copy_from_slice(&info[..16]);
                if info[0] == 0xFE && info[1] & 0xC0 == 0x80 {
                    data[16..].copy_from_slice(&info[16..]);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20)
            } else {
                return 0;
            };
        // SAFETY: `at` < BATCH; a control message of 20 octets takes 40 of the 64, which are aligned for its header.
        unsafe {
            let control = (&raw mut (*self.arrays.as_ptr()).send_control[at]).cast::<libc::cmsghdr>();
            (*control).cmsg_level = level;
            (*control).cmsg_type = kind;
            (*control).cmsg_len = libc::CMSG_LEN(len) as _;
            std::ptr::copy_nonoverlapping(data.as_ptr(), libc::CMSG_DATA(control), len as usize);
            libc::CMSG_SPACE(len) as usize
        }
    }

    /// The data of a control message of datagram `i`, when it has one of that kind and of at least `len` octets.
    fn control_message(&self, i: usize, level: libc::c_int, kind: libc::c_int, len: usize) -> Option<&[u8]> {
        assert!(i < self.received);
        // SAFETY: `i` is inside the arrays; the kernel wrote `msg_controllen` octets of well-formed control messages
        // there, which the CMSG macros walk without leaving them; `cmsg_len` is compared before the data is formed.
        unsafe {
            let header = &raw const (*self.arrays.as_ptr()).receive[i].msg_hdr;
            let mut message = libc::CMSG_FIRSTHDR(header);
            while !message.is_null() {
                if (*message).cmsg_level == level && (*message).cmsg_type == kind {
                    let whole = (*message).cmsg_len as usize;
                    return (whole >= libc::CMSG_LEN(len as libc::c_uint) as usize)
                        .then(|| std::slice::from_raw_parts(libc::CMSG_DATA(message), len));
                }
                message = libc::CMSG_NXTHDR(header, message);
            }
        }
        None
    }
}

fn read_ipv4(octets: &[u8; 32]) -> SocketAddr {
    let port = u16::from_be_bytes([octets[2], octets[3]]);
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(octets[4], octets[5], octets[6], octets[7]), port))
}

fn read_ipv6(octets: &[u8; 32]) -> SocketAddr {
    let port = u16::from_be_bytes([octets[2], octets[3]]);
    let mut address = [0; 16];
    address.copy_from_slice(&octets[8..24]);
    let scope = u32::from_ne_bytes([octets[24], octets[25], octets[26], octets[27]]);
    SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(address), port, 0, scope))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;
    use crate::sys::socket::{self, UdpOptions};

    fn bound(address: &str) -> UdpSocket {
        socket::bind_udp(address.parse().unwrap(), &UdpOptions::default()).unwrap()
    }

    fn client(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    /// Echoes one batch, every datagram with an octet appended.
    fn echo(server: &UdpSocket, datagrams: &mut Datagrams) -> usize {
        let count = datagrams.receive(server.as_fd(), Wait::First).unwrap();
        for i in 0..count {
            let (packet, answer) = datagrams.exchange(i);
            let len = packet.len();
            answer[..len].copy_from_slice(packet);
            answer[len] = b'!';
            datagrams.queue(i, len + 1);
        }
        assert_eq!(datagrams.send(server.as_fd()), Sent { sent: count, failed: 0 });
        count
    }

    #[test]
    fn batches_come_and_go_whole() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let server = bound(address);
            let client = client(address);
            client.connect(server.local_addr().unwrap()).unwrap();
            let mut datagrams = Datagrams::new();
            for i in 0..200u8 {
                client.send(&[i; 20]).unwrap();
            }
            let mut echoed = 0;
            while echoed < 200 {
                let count = echo(&server, &mut datagrams);
                assert!(count <= BATCH);
                echoed += count;
            }
            let mut buffer = [0; 100];
            for i in 0..200u8 {
                assert_eq!(client.recv(&mut buffer).unwrap(), 21);
                assert_eq!((buffer[0], buffer[20]), (i, b'!'));
            }
        }
    }

    #[test]
    fn a_wildcard_socket_answers_from_the_address_asked() {
        for (wildcard, asked) in [("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "::1")] {
            let server = bound(wildcard);
            let port = server.local_addr().unwrap().port();
            let target = SocketAddr::new(asked.parse().unwrap(), port);
            let client = client(if target.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" });
            client.send_to(b"hello", target).unwrap();
            let mut datagrams = Datagrams::new();
            echo(&server, &mut datagrams);
            assert_eq!(datagrams.destination(0), Some(target.ip()));
            assert_eq!(datagrams.source(0), Some(client.local_addr().unwrap()));
            let mut buffer = [0; 100];
            let (len, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (&b"hello!"[..], target));
        }
    }

    #[test]
    fn a_datagram_too_long_is_marked() {
        let server = bound("127.0.0.1:0");
        let client = client("127.0.0.1:0");
        client.send_to(&[1; PACKET_OCTETS], server.local_addr().unwrap()).unwrap();
        client.send_to(&[2; PACKET_OCTETS + 1], server.local_addr().unwrap()).unwrap();
        let mut datagrams = Datagrams::new();
        assert_eq!(datagrams.receive(server.as_fd(), Wait::First).unwrap(), 2);
        assert!(!datagrams.truncated(0));
        assert!(datagrams.truncated(1));
        assert_eq!(datagrams.exchange(1).0.len(), PACKET_OCTETS);
    }

    #[test]
    fn one_bad_destination_costs_its_own_answer_only() {
        let server = bound("127.0.0.1:0");
        let client = client("127.0.0.1:0");
        for i in 0..5 {
            client.send_to(&[i], server.local_addr().unwrap()).unwrap();
        }
        let mut datagrams = Datagrams::new();
        assert_eq!(datagrams.receive(server.as_fd(), Wait::First).unwrap(), 5);
        // Port 0 cannot be sent to.
        // SAFETY: index 2 was received just now.
        unsafe { (&mut (*datagrams.arrays.as_ptr()).addresses[2].0)[2..4].fill(0) };
        for i in 0..5 {
            datagrams.exchange(i).1[0] = u8::try_from(i).unwrap();
            datagrams.queue(i, 1);
        }
        assert_eq!(datagrams.send(server.as_fd()), Sent { sent: 4, failed: 1 });
        let mut buffer = [0; 10];
        let got: Vec<u8> = (0..4).map(|_| (client.recv(&mut buffer).unwrap(), buffer[0]).1).collect();
        assert_eq!(got, [0, 1, 3, 4]);
    }

    #[test]
    fn a_full_send_queue_is_waited_for_once() {
        use std::os::unix::net::UnixDatagram;
        // A local socket stands for the interface: its queue fills, and stays full, when nobody reads.
        let timeout = Duration::from_millis(400);
        for room in [0, 2] {
            let server = bound("127.0.0.1:0");
            let client = client("127.0.0.1:0");
            for i in 0..20 {
                client.send_to(&[i], server.local_addr().unwrap()).unwrap();
            }
            let mut datagrams = Datagrams::new();
            assert_eq!(datagrams.receive(server.as_fd(), Wait::First).unwrap(), 20);
            for i in 0..20 {
                datagrams.queue(i, 1);
                // SAFETY: header `i` was linked just now. A connected local socket takes no address.
                unsafe {
                    let header = &raw mut (*datagrams.arrays.as_ptr()).send[i].msg_hdr;
                    (*header).msg_name = std::ptr::null_mut();
                    (*header).msg_namelen = 0;
                }
            }
            let (full, reader) = UnixDatagram::pair().unwrap();
            full.set_nonblocking(true).unwrap();
            while full.send(&[0]).is_ok() {}
            full.set_nonblocking(false).unwrap();
            full.set_write_timeout(Some(timeout)).unwrap();
            for _ in 0..room {
                reader.recv(&mut [0]).unwrap();
            }
            let started = std::time::Instant::now();
            assert_eq!(datagrams.send(full.as_fd()), Sent { sent: room, failed: 20 - room });
            let elapsed = started.elapsed();
            assert!(elapsed < timeout * 5, "waited {elapsed:?} for answers that each may wait {timeout:?}");
        }
    }

    #[test]
    fn overflow_of_the_receive_queue_is_reported() {
        let options = UdpOptions { receive_buffer_octets: 4096, ..UdpOptions::default() };
        let server = socket::bind_udp("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let client = client("127.0.0.1:0");
        for _ in 0..1000 {
            client.send_to(&[0; 100], server.local_addr().unwrap()).unwrap();
        }
        let mut datagrams = Datagrams::new();
        while datagrams.receive(server.as_fd(), Wait::No).unwrap() > 0 {}
        // Reported with the next datagram that is let in.
        client.send_to(&[0; 100], server.local_addr().unwrap()).unwrap();
        datagrams.receive(server.as_fd(), Wait::First).unwrap();
        assert!(datagrams.take_overflow().is_some_and(|dropped| (900..1000).contains(&dropped)));
        assert_eq!(datagrams.take_overflow(), None);
    }

    #[test]
    fn waiting_ends_at_the_timeout() {
        let server = bound("127.0.0.1:0");
        assert_eq!(Datagrams::new().receive(server.as_fd(), Wait::First).unwrap(), 0);
    }
}
