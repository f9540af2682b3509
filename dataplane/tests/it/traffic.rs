//! Honest and hostile traffic, to run while something is done to a server: no query may be lost, no connection reset, no
//! answer mix two versions of a zone, and no client see a version come back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use godwit_dataplane::sys::socket::{UdpOptions, prepare_udp};
use socket2::SockRef;

use super::client::read_answer;
use super::handover::{Cleanup, processes};
use super::process::{Process, dig, zone_folder};
use super::reflector::{eventually, framed};

/// Clients over UDP, so that every socket of the group gets its share.
const UDP_CLIENTS: usize = 16;
/// Queries that each has on their way when the peak is measured.
const WINDOW: usize = 16;
/// Queries by which the peak is measured.
const PEAK_QUERIES: usize = 40_000;
/// What the kernel charges a socket for a small datagram that waits (some 830), and as much again for hostile ones.
const CHARGE_OCTETS: usize = 1_660;
/// Slow connections at a time: fewer than one client may have.
const SLOW_CONNECTIONS: usize = 150;

/// A zone of which every record says which version it is of: 192.0.N.N.
fn zone(version: u64) -> String {
    let octet = version % 256;
    format!(
        "$TTL 60\n@ IN SOA ns1 hostmaster {version} 7200 3600 1209600 60\n@ IN NS ns1\nns1 IN A 192.0.2.1\n\
         www IN A 192.0.{octet}.1\nwww IN A 192.0.{octet}.2\nwww IN A 192.0.{octet}.3\n"
    )
}

/// Puts a new version in the place of the old one, whole.
pub(crate) fn publish(folder: &Path, version: u64) {
    publish_large(folder, version, 0);
}

/// Likewise, with so many names more: it takes its time to be read.
pub(crate) fn publish_large(folder: &Path, version: u64, names: u32) {
    let next = folder.join("next");
    let mut text = zone(version);
    if names > 0 {
        text.push_str(&format!("$GENERATE 1-{names} more$ A 192.0.2.7\n"));
    }
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, folder.join("example.org.zone")).unwrap();
}

/// A query for the addresses that tell the version.
pub(crate) fn query(id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(
        b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03org\x00\x00\x01\x00\x01",
    );
    message
}

/// The version that an answer is of; all its records must agree.
pub(crate) fn version_of(answer: &[u8]) -> u64 {
    assert_eq!((answer[3] & 0x0F, &answer[6..8]), (0, &[0, 3][..]), "{answer:02x?}");
    // Header and question, then `| pointer | type | class | TTL | 4 | address |` three times.
    let records = &answer[query(0).len()..];
    let versions: Vec<u8> = records.chunks_exact(16).take(3).map(|record| record[14]).collect();
    assert!(versions.len() == 3 && versions.iter().all(|version| *version == versions[0]), "{answer:02x?}");
    versions[0].into()
}

/// A server of a zone's first version, from a folder that marks its processes.
pub(crate) struct Serving {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) marker: String,
    pub(crate) process: Process,
    _cleanup: Cleanup,
}

impl Serving {
    pub(crate) fn start(start: &mut std::process::Command) -> Self {
        let folder = zone_folder(&[]);
        publish(folder.path(), 1);
        let marker = folder.path().to_str().unwrap().to_owned();
        let cleanup = Cleanup(marker.clone());
        start.args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "2"]);
        let process = Process::spawn(start.args(["--zones", &marker]));
        Serving { folder, marker, process, _cleanup: cleanup }
    }

    pub(crate) fn publish(&self, version: u64) {
        publish(self.folder.path(), version);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.process.address()
    }

    pub(crate) fn taken_over(&self, before: u32) -> u32 {
        taken_over(&self.marker, before)
    }
}

/// Waits until one process is left, and that is not `before`; its number.
pub(crate) fn taken_over(marker: &str, before: u32) -> u32 {
    eventually("the successor is alone", || {
        let alive = processes(marker);
        alive.len() == 1 && alive[0] != before
    });
    processes(marker)[0]
}

/// The version served at the moment, as dig sees it.
pub(crate) fn served(address: SocketAddr) -> u64 {
    let text = dig(address, &["+short", "www.example.org"]);
    // What dig complains of stands there too.
    let octet = text.lines().find_map(|line| line.strip_prefix("192.0.")?.split('.').next());
    octet.unwrap_or_else(|| panic!("no answer: {text:?}")).parse().unwrap()
}

/// Runs `upgrades` while clients ask over UDP at half the rate that the server was measured to answer, others over TCP, and
/// hostile ones interfere; nothing may be lost.
pub(crate) fn under_fire(address: SocketAddr, upgrades: impl FnOnce()) {
    let clients = clients(address);
    let rate = peak(&clients) / 2;
    let dropped = dropped_on_the_way();
    let traffic = Traffic::default();
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&traffic.stop);
        let threads = [
            scope.spawn(|| traffic.send_udp(&clients, rate)),
            scope.spawn(|| traffic.receive_udp(&clients)),
            scope.spawn(|| traffic.ask_tcp(address)),
            scope.spawn(|| traffic.interfere(address)),
        ];
        upgrades();
        traffic.stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let [sent, answered, over_tcp] =
        [&traffic.sent, &traffic.answered, &traffic.over_tcp].map(|count| count.load(Ordering::Relaxed));
    println!("{answered} of {sent} queries answered over UDP at {rate} a second, {over_tcp} over TCP");
    assert!(sent > 0 && over_tcp > 0, "{sent} queries over UDP and {over_tcp} over TCP only");
    // Exactly none, where the kernel has dropped nothing.
    let dropped = dropped_on_the_way() - dropped;
    assert!(
        sent - answered <= dropped,
        "{} queries over UDP were lost, {dropped} of them on the way",
        sent - answered
    );
}

/// Queries that the socket of a worker holds. The server has asked for as much as we do here: what we get says what it got.
fn room() -> u64 {
    let like_theirs = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    prepare_udp(like_theirs.as_fd(), Ipv4Addr::LOCALHOST.into(), &UdpOptions::default()).unwrap();
    (SockRef::from(&like_theirs).recv_buffer_size().unwrap() / CHARGE_OCTETS) as u64
}

/// How many packets of all were dropped between two sockets of this machine: what was sent waits in a queue of the CPU, not of a
/// socket, and where others fill that, packets are lost that no server has ever had.
fn dropped_on_the_way() -> u64 {
    // One line for each CPU, hexadecimal: handled, dropped, ….
    let text = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let dropped = |line: &str| u64::from_str_radix(line.split(' ').nth(1)?, 16).ok();
    text.lines().filter_map(dropped).sum()
}

/// Sockets that ask, with room for the answers should this test be kept from its CPU for a while.
fn clients(address: SocketAddr) -> Vec<UdpSocket> {
    let options = UdpOptions { receive_buffer_octets: 8 << 20, ..UdpOptions::default() };
    let client = |_| {
        // Not of a group that shares its port, or another program's socket could come to share it.
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        prepare_udp(client.as_fd(), Ipv4Addr::LOCALHOST.into(), &options).unwrap();
        client.connect(address).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    };
    (0..UDP_CLIENTS).map(client).collect()
}

/// How many queries a second are answered when each answer brings the next query.
fn peak(clients: &[UdpSocket]) -> u64 {
    let (mut sent, mut answered) = (0, 0);
    let mut ask = |client: &UdpSocket| {
        if sent < PEAK_QUERIES {
            client.send(&query(u16::try_from(sent & 0xFFFF).unwrap())).unwrap();
            sent += 1;
        }
    };
    let start = Instant::now();
    clients.iter().cycle().take(WINDOW * clients.len()).for_each(&mut ask);
    let mut buffer = [0; 512];
    while answered < PEAK_QUERIES {
        for client in clients {
            while client.recv(&mut buffer).is_ok() {
                answered += 1;
                ask(client);
            }
        }
        assert!(start.elapsed() < Duration::from_mins(2), "{answered} of {sent} queries answered");
    }
    let microseconds = start.elapsed().as_micros().max(1);
    u64::try_from(PEAK_QUERIES as u128 * 1_000_000 / microseconds).unwrap()
}

/// Honest traffic and what became of it.
#[derive(Default)]
struct Traffic {
    stop: AtomicBool,
    /// Nothing more is sent over UDP.
    all_sent: AtomicBool,
    sent: AtomicU64,
    answered: AtomicU64,
    over_tcp: AtomicU64,
}

/// Stops the threads of a scope also when the test fails: a scope waits for them.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Traffic {
    /// Queries over UDP on their way.
    fn in_flight(&self) -> u64 {
        // In this order, as others go on counting.
        let answered = self.answered.load(Ordering::Relaxed);
        self.sent.load(Ordering::Relaxed) - answered
    }

    /// At this rate, and below it while as much is on its way as the socket of one worker holds: on a machine too busy for that,
    /// more would be lost whoever serves.
    fn send_udp(&self, clients: &[UdpSocket], rate: u64) {
        let (start, mut begun) = (Instant::now(), 0);
        let room = room();
        let mut clients = clients.iter().cycle();
        while !self.stop.load(Ordering::Relaxed) {
            let due = u64::try_from(start.elapsed().as_micros()).unwrap() * rate / 1_000_000;
            while begun < due {
                begun += 1;
                if self.in_flight() < room {
                    let id = u16::try_from(begun & 0xFFFF).unwrap();
                    // Before it is, or an answer could be counted first.
                    self.sent.fetch_add(1, Ordering::Relaxed);
                    clients.next().unwrap().send(&query(id)).unwrap();
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.all_sent.store(true, Ordering::Release);
    }

    /// Until all is answered, or ten seconds have passed without an answer after the last query.
    fn receive_udp(&self, clients: &[UdpSocket]) {
        const PATIENCE: Duration = Duration::from_secs(10);
        let mut buffer = [0; 512];
        let mut newest = vec![0; clients.len()];
        let mut quiet_since = Instant::now();
        while !self.all_sent.load(Ordering::Acquire)
            || (self.in_flight() > 0 && quiet_since.elapsed() < PATIENCE)
        {
            for (client, newest) in clients.iter().zip(&mut newest) {
                while let Ok(len) = client.recv(&mut buffer) {
                    let version = version_of(&buffer[..len]);
                    assert!(version >= *newest, "version {version} after {newest}");
                    *newest = version;
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    quiet_since = Instant::now();
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Connects anew for every few queries: none is refused or reset.
    fn ask_tcp(&self, address: SocketAddr) {
        let mut newest = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            for id in 0..3u16 {
                client.write_all(&framed(&query(id))).unwrap();
                let answer = read_answer(&mut client).unwrap();
                let version = version_of(&answer);
                assert!(version >= newest, "version {version} over TCP after {newest}");
                newest = version;
                self.over_tcp.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What no server likes: broken messages over UDP, and connections that are slow in every way.
    fn interfere(&self, address: SocketAddr) {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect(address).unwrap();
        udp.set_nonblocking(true).unwrap();
        let mut slow: Vec<TcpStream> = Vec::new();
        let mut round: usize = 0;
        let room = room();
        while !self.stop.load(Ordering::Relaxed) {
            let sound = query(1);
            let broken = [
                &sound[..round % sound.len()],
                &[&sound[..], b"junk"].concat(),
                &[&sound[..2], &[0x81], &sound[3..]].concat(),
                &[&sound[..12], &[0xC0, 12, 0, 1, 0, 1]].concat(),
                &[0xFF; 600],
            ];
            if self.in_flight() < room / 2 {
                for message in broken {
                    let _ = udp.send(message);
                }
            }
            while udp.recv(&mut [0; 512]).is_ok() {}
            if slow.len() < SLOW_CONNECTIONS
                && let Ok(mut stream) = TcpStream::connect(address)
            {
                let begun: &[u8] = [&[][..], &[0], &[0xFF, 0xFF, 1, 2, 3], &[0, 3, 1]][round % 4];
                let _ = stream.write_all(begun);
                stream.set_nonblocking(true).unwrap();
                slow.push(stream);
            }
            for stream in &mut slow {
                // Every second one drips on.
                let _ = stream.write(if round.is_multiple_of(2) { &[0] } else { &[] });
            }
            slow.retain_mut(|stream| match stream.read(&mut [0; 64]) {
                Ok(count) => count > 0,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            });
            round += 1;
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}
