//! Makes the sockets of the workers, with every option they need. What `socket2` has no name for is set by hand.
#![expect(unsafe_code, reason = "options that socket2 does not know are set by setsockopt")]
#![expect(clippy::cast_possible_truncation, reason = "sizes of the system's own types")]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::check;

/// How long a worker waits for a datagram before it looks after its snapshot handle and whether it is to stop.
pub const RECEIVE_TIMEOUT: Duration = Duration::from_millis(100);
/// The longest a full send queue may hold a worker up.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// What an operator may set on UDP sockets.
#[derive(Clone, Debug)]
pub struct UdpOptions {
    /// Room for queries that wait, in octets as the kernel counts them (which doubles the figure).
    pub receive_buffer_octets: usize,
    /// Room for answers that wait, likewise.
    pub send_buffer_octets: usize,
}

impl Default for UdpOptions {
    fn default() -> Self {
        UdpOptions { receive_buffer_octets: 640 << 10, send_buffer_octets: 1 << 20 }
    }
}

/// Whether somebody listens at `address` already. Asked before binding, because `SO_REUSEPORT` would let a second
/// server of the same user take half of the first one's queries without a word.
///
/// # Errors
/// Why the address cannot be bound.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let udp = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    let tcp = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    tcp.set_reuse_address(true)?;
    for socket in [udp, tcp] {
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
    }
    Ok(())
}

/// A UDP socket at `address`, one of a group that shares the load (`SO_REUSEPORT`).
///
/// # Errors
/// Which the kernel reports for an option or for binding.
pub fn bind_udp(address: SocketAddr, options: &UdpOptions) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    prepare_udp(socket.as_fd(), address.ip(), options)?;
    Ok(socket.into())
}

/// Sets what a worker relies on. Also for sockets that were inherited: the one who bound them may not have.
///
/// # Errors
/// Which the kernel reports for an option.
pub fn prepare_udp(socket: BorrowedFd<'_>, address: IpAddr, options: &UdpOptions) -> io::Result<()> {
    let reference = socket2::SockRef::from(&socket);
    reference.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
    reference.set_write_timeout(Some(SEND_TIMEOUT))?;
    // The forced form goes beyond rmem_max and needs CAP_NET_ADMIN; without it the kernel gives what it allows. What an
    // inherited socket has already is not asked for again: its first owner may have been allowed more. (The kernel
    // reports twice what was set.)
    for (forced, plain, octets, has) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, options.receive_buffer_octets, reference.recv_buffer_size()?),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, options.send_buffer_octets, reference.send_buffer_size()?),
    ] {
        if has == octets.saturating_mul(2) {
            continue;
        }
        let octets = libc::c_int::try_from(octets).unwrap_or(libc::c_int::MAX);
        set(socket, libc::SOL_SOCKET, forced, octets)
            .or_else(|_| set(socket, libc::SOL_SOCKET, plain, octets))?;
    }
    set(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    // Fragments are an attacker's door (RFC 9715 §3.1): interface MTU only, forged path MTUs ignored.
    if address.is_ipv4() {
        set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT)?;
    } else {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT)?;
    }
    // Costs 0.1 µs a query, so only where the kernel could pick a wrong source address.
    match address {
        IpAddr::V4(address) if address.is_unspecified() => set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        IpAddr::V6(address) if address.is_unspecified() => {
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
        }
        _ => Ok(()),
    }
}

/// Prefers this socket of its group for datagrams that the kernel handled on `cpu` (`SO_INCOMING_CPU`).
///
/// # Errors
/// Which the kernel reports.
pub fn prefer_cpu(socket: BorrowedFd<'_>, cpu: usize) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_INCOMING_CPU, libc::c_int::try_from(cpu).unwrap_or(0))
}

/// Lets the CPU that received a datagram pick the socket: number n goes to the n-th socket bound. For the whole
/// group, so it is called once, on any of its sockets, after all are bound in the order of their CPUs.
///
/// # Errors
/// Which the kernel reports.
pub fn steer_by_cpu(socket: BorrowedFd<'_>) -> io::Result<()> {
    let load = u16::try_from(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS).unwrap_or_default();
    let give = u16::try_from(libc::BPF_RET | libc::BPF_A).unwrap_or_default();
    // SKF_AD_OFF + SKF_AD_CPU: the number of the CPU, read by an absolute load from a negative offset.
    let cpu = u32::from_ne_bytes((libc::SKF_AD_OFF + libc::SKF_AD_CPU).to_ne_bytes());
    let mut code = [
        libc::sock_filter { code: load, jt: 0, jf: 0, k: cpu },
        libc::sock_filter { code: give, jt: 0, jf: 0, k: 0 },
    ];
    let program = libc::sock_fprog { len: 2, filter: code.as_mut_ptr() };
    // SAFETY: the program and its two instructions live until the call returns; the kernel copies them.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// A TCP listener at `address`, one of a group that shares the load.
///
/// # Errors
/// Which the kernel reports for an option or for binding.
pub fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    prepare_tcp(socket.as_fd())?;
    Ok(socket.into())
}

/// Connections that may wait to be accepted, until [`bound_waiting`] says otherwise.
const LISTEN_BACKLOG: i32 = 512;
/// The fewest and the most that it says (the kernel's own limit, `somaxconn`, applies too).
const LISTEN_BACKLOGS: std::ops::RangeInclusive<usize> = 16..=4096;
/// Room that the kernel gives a connection for what it was sent and we have not read. It counts twice that, for its
/// own overhead. Fixed, because the kernel would else let each connection grow to megabytes.
const TCP_RECEIVE_OCTETS: usize = 32 * 1024;
/// Room for one that waits to be accepted, or has said little so far: some dozens of queries. Those that wait are charged to
/// nobody, so they must not hold much.
const TCP_NARROW_OCTETS: usize = 4 * 1024;
/// Likewise for answers on their way: the longest one, and a little.
const TCP_SEND_OCTETS: usize = 96 * 1024;
/// The most that what a connection was sent and we have not read takes in the kernel, as it counts it.
pub const TCP_RECEIVE_QUEUE_OCTETS: usize = 2 * TCP_RECEIVE_OCTETS;
/// The same before it is given more room ([`widen`]).
pub const TCP_NARROW_QUEUE_OCTETS: usize = 2 * TCP_NARROW_OCTETS;
/// What one that waits to be accepted may take in the kernel: what it was sent, and the socket.
pub const TCP_WAITING_OCTETS: usize = TCP_NARROW_QUEUE_OCTETS + 4096;
/// Likewise for what we sent and the peer has not fetched.
pub const TCP_SEND_QUEUE_OCTETS: usize = 2 * TCP_SEND_OCTETS;
/// Both together.
pub const TCP_KERNEL_OCTETS: usize = TCP_RECEIVE_QUEUE_OCTETS + TCP_SEND_QUEUE_OCTETS;
/// The most that the kernel counts for a write of ours beside its octets, where each leaves as a segment of its own.
pub const TCP_SEGMENT_OCTETS: usize = 1280;

/// Sets what a worker relies on, also for listeners that were inherited.
///
/// # Errors
/// Which the kernel reports for an option.
pub fn prepare_tcp(listener: BorrowedFd<'_>) -> io::Result<()> {
    let reference = socket2::SockRef::from(&listener);
    reference.set_nonblocking(true)?;
    // Connections take these over from their listener. Answers are written coalesced, so nothing is won by waiting.
    reference.set_recv_buffer_size(TCP_NARROW_OCTETS)?;
    reference.set_send_buffer_size(TCP_SEND_OCTETS)?;
    reference.set_tcp_nodelay(true)
}

/// Gives an accepted connection its full room for what it sends.
///
/// # Errors
/// Which the kernel reports.
pub fn widen(connection: BorrowedFd<'_>) -> io::Result<()> {
    socket2::SockRef::from(&connection).set_recv_buffer_size(TCP_RECEIVE_OCTETS)?;
    // The window would else stay what it was when there was little room.
    let window = libc::c_int::try_from(TCP_RECEIVE_QUEUE_OCTETS).unwrap_or(libc::c_int::MAX);
    set(connection, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, window)
}

/// Lets so many connections at most wait to be accepted at all of these listeners together, each at its own.
///
/// # Errors
/// Which the kernel reports.
pub fn bound_waiting(listeners: &[BorrowedFd<'_>], connections: usize) -> io::Result<()> {
    let each = connections / listeners.len().max(1);
    let each =
        i32::try_from(each.clamp(*LISTEN_BACKLOGS.start(), *LISTEN_BACKLOGS.end())).unwrap_or(i32::MAX);
    // Of a socket that listens already this changes the number alone.
    listeners.iter().try_for_each(|listener| socket2::SockRef::from(listener).listen(each))
}

/// What the queues of a TCP connection take in the kernel at the moment, in octets as it counts them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KernelQueues {
    /// Sent by the peer and not read.
    pub receive_octets: usize,
    /// Sent by us and not fetched by the peer.
    pub send_octets: usize,
}

/// Asks the kernel (`SO_MEMINFO`, Linux 4.12).
///
/// # Errors
/// Which the kernel reports.
pub fn kernel_queues(socket: BorrowedFd<'_>) -> io::Result<KernelQueues> {
    // SK_MEMINFO_RMEM_ALLOC and SK_MEMINFO_WMEM_QUEUED of <linux/sock_diag.h>: places in what is told.
    const RECEIVE: usize = 0;
    const SEND: usize = 5;
    let mut values = [0_u32; 9];
    let mut len = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the array has the stated length and lives until the call returns.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    Ok(KernelQueues { receive_octets: values[RECEIVE] as usize, send_octets: values[SEND] as usize })
}

/// Reads from a connected socket what is there, without waiting, whatever mode the socket is in.
///
/// # Errors
/// `WouldBlock` when nothing is there; else which the kernel reports.
pub fn receive_now(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer has the stated length and is written only up to the count returned.
    let count = unsafe {
        libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value lives until the call returns, and its size is stated.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_on_the_same_address_is_noticed() {
        let socket = bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(probe(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // Without the question, the kernel lets us in.
        bind_udp(address, &UdpOptions::default()).unwrap();
        let listener = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(probe(listener.local_addr().unwrap()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn what_a_connection_takes_in_the_kernel_is_bounded_and_told() {
        use std::io::{Read, Write};
        let listener = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        widen(socket.as_fd()).unwrap();
        assert_eq!(kernel_queues(socket.as_fd()).unwrap(), KernelQueues::default());
        // Both ways until the kernel takes no more; a window that opens late lets some more in.
        for _ in 0..20 {
            for stream in [&mut client, &mut socket] {
                while stream.write(&[0; 8192]).is_ok() {}
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let full = kernel_queues(socket.as_fd()).unwrap();
        assert!(full.receive_octets > 8 * 1024 && full.send_octets > 64 * 1024, "{full:?}");
        // The kernel takes the last segment whole.
        let most = TCP_KERNEL_OCTETS + 2 * 65_536;
        assert!(full.receive_octets + full.send_octets <= most, "{full:?}");
        let mut buffer = [0; 65_536];
        for _ in 0..20 {
            for stream in [&mut client, &mut socket] {
                while stream.read(&mut buffer).is_ok() {}
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(kernel_queues(socket.as_fd()).unwrap().receive_octets, 0);
        assert_eq!(kernel_queues(socket.as_fd()).unwrap().send_octets, 0);
    }

    #[test]
    fn answers_are_never_fragmented_nor_shortened_by_a_forged_path_mtu() {
        let get = |socket: &UdpSocket, level, option| {
            let (mut value, mut len) = (0, size_of::<libc::c_int>() as libc::socklen_t);
            // SAFETY: the value has the stated length and lives until the call returns.
            check(unsafe {
                libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut len)
            })
            .unwrap();
            value
        };
        for (address, level, option, expected) in [
            ("127.0.0.1:0", libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT),
            ("0.0.0.0:0", libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT),
            ("[::1]:0", libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT),
            ("[::]:0", libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT),
        ] {
            let socket = bind_udp(address.parse().unwrap(), &UdpOptions::default()).unwrap();
            assert_eq!(get(&socket, level, option), expected, "{address}");
        }
    }

    #[test]
    fn p7_connections_that_wait_to_be_accepted_are_few_and_hold_little() {
        use std::io::Write;
        use std::net::TcpStream;
        let listener = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let other = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        bound_waiting(&[listener.as_fd(), other.as_fd()], 48).unwrap();
        let address = listener.local_addr().unwrap();
        let limit = Duration::from_millis(200);
        let (mut clients, mut failed) = (Vec::new(), 0);
        // What is too much is not let in. The kernel may let in one more than it is told.
        while failed < 3 && clients.len() < 100 {
            match TcpStream::connect_timeout(&address, limit) {
                Ok(client) => clients.push(client),
                Err(_) => failed += 1,
            }
        }
        assert!((24..=26).contains(&clients.len()), "{} are let in", clients.len());
        for client in &mut clients {
            client.set_nonblocking(true).unwrap();
            while client.write(&[7; 8192]).is_ok() {}
        }
        for _ in &clients {
            let (socket, _) = listener.accept().unwrap();
            let held = kernel_queues(socket.as_fd()).unwrap().receive_octets;
            assert!(held > 0 && held <= TCP_NARROW_QUEUE_OCTETS, "{held} octets of one that waited");
        }
    }

    #[test]
    fn steering_is_accepted_by_the_kernel() {
        let socket = bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
        steer_by_cpu(socket.as_fd()).unwrap();
        prefer_cpu(socket.as_fd(), 0).unwrap();
    }
}
