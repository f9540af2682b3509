//! Which sockets the workers get: bound anew, or inherited from a supervisor or from the process before us.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, bail};
use socket2::{SockRef, Type};

use crate::sys::socket::{self, UdpOptions};

/// Tries to find a port that is free for both UDP and TCP, when any will do.
const PORT_TRIES: usize = 32;

/// Sockets that were open before this process.
#[derive(Debug, Default)]
pub struct Inherited {
    /// For DNS.
    pub dns: Vec<OwnedFd>,
    /// For metrics.
    pub metrics: Option<OwnedFd>,
    /// They come from the process that we replace, which has the same configuration (or an older one): sockets at
    /// addresses that are no longer configured are closed. A supervisor's sockets are all served.
    pub handover: bool,
}

/// The sockets of one UDP worker and one TCP worker.
#[derive(Debug, Default)]
pub struct WorkerSockets {
    /// At least one for each address.
    pub udp: Vec<UdpSocket>,
    /// Likewise.
    pub tcp: Vec<TcpListener>,
}

/// All sockets for DNS.
#[derive(Debug)]
pub struct Sockets {
    /// What is served, ports filled in.
    pub addresses: Vec<SocketAddr>,
    /// One entry for each worker.
    pub workers: Vec<WorkerSockets>,
    /// Whether any came from before this process.
    pub inherited: bool,
}

/// Sockets at one address.
struct Group {
    address: SocketAddr,
    udp: VecDeque<UdpSocket>,
    tcp: VecDeque<TcpListener>,
    /// Another process reads them until we do.
    in_use: bool,
}

impl Sockets {
    /// Opens sockets for `workers` workers at each address of `listen`; with none given, at those that are inherited,
    /// or else at `default`.
    ///
    /// # Errors
    /// Which address cannot be used, and why.
    pub fn open(
        listen: &[SocketAddr],
        default: SocketAddr,
        inherited: Inherited,
        workers: usize,
        options: &UdpOptions,
    ) -> anyhow::Result<Self> {
        let was_handed = !inherited.dns.is_empty();
        let mut groups = Vec::new();
        for fd in inherited.dns {
            sort_in(fd, &mut groups)?;
        }
        if inherited.handover && !listen.is_empty() {
            groups.retain(|group| listen.iter().any(|&wanted| fits(wanted, group.address)));
        }
        groups.iter_mut().for_each(|group| group.in_use = inherited.handover);
        let wanted =
            if listen.is_empty() && groups.is_empty() { std::slice::from_ref(&default) } else { listen };
        for &address in wanted {
            if !groups.iter().any(|group| fits(address, group.address)) {
                groups.push(bind(address, options)?);
            }
        }
        let addresses = groups.iter().map(|group| group.address).collect();
        let mut sockets = Sockets {
            addresses,
            workers: (0..workers).map(|_| WorkerSockets::default()).collect(),
            inherited: was_handed,
        };
        for group in groups {
            sockets.deal(group, options)?;
        }
        Ok(sockets)
    }

    /// Every descriptor, for a handover.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.workers
            .iter()
            .flat_map(|worker| worker.udp.iter().map(AsFd::as_fd).chain(worker.tcp.iter().map(AsFd::as_fd)))
    }

    /// Lets so many TCP connections at most wait to be accepted, at all listeners together.
    ///
    /// # Errors
    /// Which the kernel reports.
    pub fn bound_waiting(&self, connections: usize) -> std::io::Result<()> {
        let listeners: Vec<_> = self.workers.iter().flat_map(|worker| &worker.tcp).map(AsFd::as_fd).collect();
        socket::bound_waiting(&listeners, connections)
    }

    /// Copies of the descriptors, so that they can be handed over while workers own the originals.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn duplicate(&self) -> std::io::Result<Vec<OwnedFd>> {
        self.descriptors().map(|fd| fd.try_clone_to_owned()).collect()
    }

    /// Gives each worker a socket of the group, and makes more where there are too few. When there are more sockets
    /// than workers, some workers get several: one that nobody reads would swallow its share of the queries.
    ///
    /// For the same reason a group in use gets no more: the new socket would have its share from now on, and what waits in
    /// it would be lost should we never begin.
    fn deal(&mut self, mut group: Group, options: &UdpOptions) -> anyhow::Result<()> {
        let address = group.address;
        while group.udp.len() < self.workers.len() {
            // A port below 1024 cannot be bound again after the user was changed; then workers share a socket.
            let socket = match group.udp.front() {
                Some(first) if group.in_use => first.try_clone()?,
                first => match (socket::bind_udp(address, options), first) {
                    (Ok(socket), _) => socket,
                    (Err(_), Some(first)) => first.try_clone()?,
                    (Err(error), None) => {
                        return Err(error).with_context(|| format!("listening at {address} (UDP)"));
                    }
                },
            };
            group.udp.push_back(socket);
        }
        while group.tcp.len() < self.workers.len() {
            let listener = match group.tcp.front() {
                Some(first) if group.in_use => first.try_clone()?,
                first => match (socket::bind_tcp(address), first) {
                    (Ok(listener), _) => listener,
                    (Err(_), Some(first)) => first.try_clone()?,
                    (Err(error), None) => {
                        return Err(error).with_context(|| format!("listening at {address} (TCP)"));
                    }
                },
            };
            group.tcp.push_back(listener);
        }
        let count = self.workers.len();
        for (i, udp) in group.udp.into_iter().enumerate() {
            socket::prepare_udp(udp.as_fd(), address.ip(), options)?;
            self.workers[i % count].udp.push(udp);
        }
        for (i, tcp) in group.tcp.into_iter().enumerate() {
            socket::prepare_tcp(tcp.as_fd())?;
            self.workers[i % count].tcp.push(tcp);
        }
        Ok(())
    }
}

/// Whether a socket at `have` is what was asked for; port 0 asks for any.
fn fits(wanted: SocketAddr, have: SocketAddr) -> bool {
    wanted == have || (wanted.port() == 0 && wanted.ip() == have.ip())
}

/// Puts an inherited socket into the group of its address.
fn sort_in(fd: OwnedFd, groups: &mut Vec<Group>) -> anyhow::Result<()> {
    let reference = SockRef::from(&fd);
    let address = reference.local_addr().ok().and_then(|address| address.as_socket());
    let (Ok(kind), Some(address)) = (reference.r#type(), address) else {
        bail!("an inherited descriptor is not an IP socket");
    };
    let group = match groups.iter_mut().position(|group| group.address == address) {
        Some(at) => &mut groups[at],
        None => {
            groups.push(Group { address, udp: VecDeque::new(), tcp: VecDeque::new(), in_use: false });
            groups.last_mut().expect("just pushed")
        }
    };
    match kind {
        Type::DGRAM => group.udp.push_back(fd.into()),
        Type::STREAM if reference_is_listener(&fd) => group.tcp.push_back(fd.into()),
        _ => bail!("the inherited socket at {address} is neither a UDP socket nor a TCP listener"),
    }
    Ok(())
}

fn reference_is_listener(fd: &OwnedFd) -> bool {
    SockRef::from(fd).is_listener().unwrap_or(false)
}

/// The first sockets at an address that nobody uses yet.
fn bind(address: SocketAddr, options: &UdpOptions) -> anyhow::Result<Group> {
    let explain = |protocol: &str| {
        let hint = match address.ip() {
            _ if address.port() != 0 && address.port() < 1024 => {
                " (ports below 1024 need root, or CAP_NET_BIND_SERVICE)"
            }
            IpAddr::V6(_) | IpAddr::V4(_) => "",
        };
        format!("listening at {address} ({protocol}){hint}")
    };
    socket::probe(address).with_context(|| explain("UDP and TCP"))?;
    let mut tries = 0;
    loop {
        let udp = socket::bind_udp(address, options).with_context(|| explain("UDP"))?;
        let bound = udp.local_addr()?;
        match socket::bind_tcp(bound) {
            Ok(tcp) => {
                return Ok(Group { address: bound, udp: [udp].into(), tcp: [tcp].into(), in_use: false });
            }
            // The kernel picked a port that is free for UDP only.
            Err(_) if address.port() == 0 && tries < PORT_TRIES => tries += 1,
            Err(error) => return Err(error).with_context(|| explain("TCP")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn open(listen: &[&str], inherited: Inherited, workers: usize) -> anyhow::Result<Sockets> {
        let listen: Vec<SocketAddr> = listen.iter().map(|text| text.parse().unwrap()).collect();
        Sockets::open(&listen, "127.0.0.1:0".parse().unwrap(), inherited, workers, &UdpOptions::default())
    }

    #[test]
    fn every_worker_gets_a_socket_of_every_address() {
        let sockets = open(&["127.0.0.1:0", "[::1]:0"], Inherited::default(), 3).unwrap();
        assert_eq!(sockets.addresses.len(), 2);
        for worker in &sockets.workers {
            let udp: Vec<_> = worker.udp.iter().map(|socket| socket.local_addr().unwrap()).collect();
            let tcp: Vec<_> = worker.tcp.iter().map(|socket| socket.local_addr().unwrap()).collect();
            assert_eq!((&udp, &tcp), (&sockets.addresses, &sockets.addresses));
        }
    }

    /// Which sockets they are, whatever their descriptors.
    fn inodes(sockets: &Sockets) -> BTreeSet<u64> {
        let inode = |fd: OwnedFd| std::fs::File::from(fd).metadata().unwrap().ino();
        sockets.duplicate().unwrap().into_iter().map(inode).collect()
    }

    #[test]
    fn inherited_sockets_are_all_served_whatever_the_number_of_workers() {
        let before = open(&["127.0.0.1:0"], Inherited::default(), 3).unwrap();
        assert_eq!(inodes(&before).len(), 6);
        for (workers, handover) in [(1, true), (3, true), (5, true), (5, false)] {
            let inherited = Inherited { dns: before.duplicate().unwrap(), handover, metrics: None };
            let after = open(&["127.0.0.1:0"], inherited, workers).unwrap();
            assert_eq!(after.addresses, before.addresses);
            assert_eq!(after.workers.len(), workers);
            assert_eq!(after.descriptors().count(), workers.max(3) * 2);
            // While another process reads them, there are no others.
            assert_eq!(inodes(&after) == inodes(&before), handover, "{workers} workers");
            assert!(after.workers.iter().all(|worker| !worker.udp.is_empty() && !worker.tcp.is_empty()));
        }
    }

    #[test]
    fn an_address_no_longer_configured_is_let_go_and_a_new_one_bound() {
        let before = open(&["127.0.0.1:0", "127.0.0.2:0"], Inherited::default(), 1).unwrap();
        let inherited = || Inherited { dns: before.duplicate().unwrap(), handover: true, metrics: None };
        let after = open(&["127.0.0.2:0", "[::1]:0"], inherited(), 1).unwrap();
        assert_eq!(after.addresses[0], before.addresses[1]);
        assert!(after.addresses[1].is_ipv6());
        assert_eq!(after.addresses.len(), 2);
        // A supervisor's sockets stay, and without a list they are all there is.
        let supervised = Inherited { handover: false, ..inherited() };
        assert_eq!(open(&["[::1]:0"], supervised, 1).unwrap().addresses.len(), 3);
        assert_eq!(open(&[], inherited(), 1).unwrap().addresses, before.addresses);
    }

    #[test]
    fn an_address_in_use_is_named() {
        let before = open(&["127.0.0.1:0"], Inherited::default(), 1).unwrap();
        let address = before.addresses[0].to_string();
        let error = open(&[&address], Inherited::default(), 1).unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
        let (reader, _writer) = std::io::pipe().unwrap();
        let inherited = Inherited { dns: vec![reader.into()], ..Inherited::default() };
        assert!(open(&[], inherited, 1).unwrap_err().to_string().contains("not an IP socket"));
    }
}
