//! Real servers: NSD, Knot DNS, BIND and Godwit itself on loopback, each with its own configuration and zone files in a
//! folder of its own that goes away with it, and PostgreSQL and Redis.
//!
//! They run as they are installed. A program that is missing is an error that says what to install; tests do not pass
//! without them.

mod bind;
mod godwit;
mod keeper;
mod knot;
mod nsd;
mod postgres;
mod process;
mod redis;
mod redis_groups;
mod sign;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::reference::{World, Zone};

pub use postgres::Postgres;
pub use process::{Process, run};
pub use redis::Redis;
pub use redis_groups::{Cluster, Watched};
pub use sign::{LdnsSigning, ldns_sign};

/// How long a server may take until it answers for all its zones.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Which program.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Peer {
    /// NSD.
    Nsd,
    /// Knot DNS.
    Knot,
    /// BIND.
    Bind,
    /// `godwit-dataplane` of this workspace.
    Godwit,
}

impl Peer {
    /// Those that are not ours.
    pub const OTHERS: [Peer; 3] = [Peer::Nsd, Peer::Knot, Peer::Bind];
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    process: Process,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts a peer with all zones of a world and waits until it answers for each.
    ///
    /// # Errors
    /// When it is not installed, does not start, or refuses a zone; its own words are in the error.
    pub fn start(peer: Peer, world: &World) -> Result<Server> {
        let folder = tempfile::tempdir().context("folder for a server")?;
        let mut zones = Vec::new();
        for (number, zone) in world.zones.iter().enumerate() {
            let file = folder.path().join(format!("{number}.zone"));
            std::fs::write(&file, zone_file(zone)).with_context(|| format!("writing {}", file.display()))?;
            zones.push((zone.apex.to_string(), file));
        }
        let port = free_port()?;
        let command = match peer {
            Peer::Nsd => nsd::command(folder.path(), port, &zones)?,
            Peer::Knot => knot::command(folder.path(), port, &zones)?,
            Peer::Bind => bind::command(folder.path(), port, &zones)?,
            Peer::Godwit => godwit::command(port, &zones)?,
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let log = folder.path().join("log");
        let process = Process::start(command, &log)?;
        let mut server = Server { address, process, folder };
        server.wait_for(world).with_context(|| format!("{peer:?}:\n{}", server.log()))?;
        Ok(server)
    }

    /// Where it answers, UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Asks over UDP, and over TCP when the answer is truncated.
    ///
    /// # Errors
    /// When there is no answer in five seconds.
    pub fn ask(&self, packet: &[u8]) -> Result<Vec<u8>> {
        let response = ask_udp(self.address, packet)?;
        // TC (RFC 1035 §4.1.1).
        if response.get(2).is_some_and(|flags| flags & 2 != 0) {
            return ask_tcp(self.address, packet);
        }
        Ok(response)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_else(|error| error.to_string())
    }

    /// Polls with SOA queries until every zone is answered with authority.
    fn wait_for(&mut self, world: &World) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        for zone in &world.zones {
            let packet = soa_query(zone);
            loop {
                if let Some(status) = self.process.ended()? {
                    bail!("ended with {status} before it answered for {}", zone.apex);
                }
                let authoritative = ask_udp(self.address, &packet).is_ok_and(|response| {
                    response.len() > 12 && response[2] & 4 != 0 && response[3] & 15 == 0
                });
                if authoritative {
                    break;
                }
                ensure!(Instant::now() < deadline, "no authoritative answer for {} in time", zone.apex);
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        Ok(())
    }
}

/// Asks once over UDP.
///
/// # Errors
/// When there is no answer with the right ID in time.
pub fn ask_udp(address: SocketAddr, packet: &[u8]) -> Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("UDP socket")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    socket.send(packet)?;
    let mut octets = vec![0; 65_535];
    loop {
        let len = socket.recv(&mut octets).with_context(|| format!("no UDP answer from {address}"))?;
        if octets[..len].starts_with(&packet[..2]) {
            octets.truncate(len);
            return Ok(octets);
        }
    }
}

/// Asks once over TCP (RFC 7766 §8).
///
/// # Errors
/// When there is no answer in time.
pub fn ask_tcp(address: SocketAddr, packet: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT).context("TCP connection")?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut framed = u16::try_from(packet.len())?.to_be_bytes().to_vec();
    framed.extend_from_slice(packet);
    stream.write_all(&framed)?;
    let mut len = [0; 2];
    stream.read_exact(&mut len).with_context(|| format!("no TCP answer from {address}"))?;
    let mut octets = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut octets)?;
    Ok(octets)
}

/// A loopback port that nothing listened at a moment ago, on UDP and TCP.
///
/// # Errors
/// When none can be had.
pub fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("UDP socket")?;
        let port = udp.local_addr()?.port();
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free for both UDP and TCP")
}

/// A zone as a master file, RDATA in the form of unknown types (RFC 3597 §5) so that nothing depends on how a server reads
/// presentation format. The SOA comes first, as NSD and BIND want it.
#[must_use]
pub fn zone_file(zone: &Zone) -> String {
    let mut records: Vec<_> = zone.records.iter().collect();
    records.sort_by_key(|record| record.rtype != godwit_wire::rr::Rtype::SOA);
    let mut text = String::new();
    for record in records {
        text.push_str(&format!(
            "{} {} IN TYPE{} \\# {} ",
            record.owner,
            record.ttl,
            record.rtype.0,
            record.rdata.len()
        ));
        text.extend(record.rdata.iter().map(|octet| format!("{octet:02x}")));
        text.push('\n');
    }
    text
}

fn soa_query(zone: &Zone) -> Vec<u8> {
    let mut packet = vec![0x50, 0x41, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(zone.apex.as_wire());
    packet.extend_from_slice(&[0, 6, 0, 1]);
    packet
}

/// Writes a configuration file and gives its path.
fn write_configuration(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
