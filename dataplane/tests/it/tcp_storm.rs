//! Thousands of hostile connections at once, of every slow kind, against the program itself: memory stays within its
//! budget, each is closed for its own reason, and whoever asks honestly is answered all along (threat-model R12).
//!
//! 10,000 connections and a million queries with `GODWIT_LONG=1`, some hundreds and some thousands otherwise.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use godwit_dataplane::serve::limit::IDLE_OCTETS;
use socket2::{Domain, Protocol, Socket, Type};

use super::client::read_answer;
use super::process::{Process, ZONE, command, zone_folder};
use super::reflector::{eventually, framed};

/// Connections from one hostile network.
const NETWORK_CONNECTIONS: usize = 100;
/// How often every hostile connection does its next evil.
const EVIL_PAUSE: Duration = Duration::from_millis(50);
/// Between two hostile connections, where they come back again and again: an honest client asks as soon as it is
/// connected, but a test may be kept from its CPU meanwhile, and all places change hands.
const CONNECT_PAUSE: Duration = Duration::from_millis(1);
/// The honest client's address, in a network of its own.
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 200, 0, 1);

fn long() -> bool {
    std::env::var("GODWIT_LONG").is_ok_and(|value| value == "1")
}

/// An A query for `label.example.org`.
fn query(id: u16, label: &str, qtype: u8) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.push(u8::try_from(label.len()).unwrap());
    message.extend_from_slice(label.as_bytes());
    message.extend_from_slice(b"\x07example\x03org\x00\x00");
    message.extend_from_slice(&[qtype, 0, 1]);
    message
}

const TYPE_A: u8 = 1;
const TYPE_TXT: u8 = 16;

/// The usual names, and one whose answer takes some 50,000 octets.
fn zone() -> String {
    let mut zone = ZONE.to_owned();
    for number in 0..200 {
        zone.push_str(&format!("big IN TXT \"{number:0>240}\"\n"));
    }
    zone
}

/// A server with these settings of `[tcp]`, and its zone folder.
fn start(settings: &[(&str, usize)]) -> (tempfile::TempDir, Process) {
    let text = zone();
    let folder = zone_folder(&[("example.org", &text)]);
    let mut command = command();
    command.args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "2", "--zones"]);
    command.arg(folder.path());
    // Memory is weighed to the octet: with huge pages, each thread that first uses its heap would add 2 MiB.
    command.env("MIMALLOC_ALLOW_THP", "0");
    for (key, value) in settings {
        command.env(format!("GODWIT_TCP__{}", key.to_uppercase()), value.to_string());
    }
    let process = Process::spawn(&mut command);
    (folder, process)
}

fn closed(process: &Process, reason: &str) -> u64 {
    let name = format!("godwit_dataplane_tcp_connections_closed_total{{reason=\"{reason}\"}}");
    process.metric(&name).to_string().parse().unwrap()
}

/// Resident memory of a process that is its own, in octets: pages of the program come in as it does new things.
fn resident_octets(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// A connection from a source address of ours; `None` when it is refused or not taken in time.
fn connect(source: Ipv4Addr, address: SocketAddr, receive_octets: Option<usize>) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    if let Some(octets) = receive_octets {
        socket.set_recv_buffer_size(octets).unwrap();
    }
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect_timeout(&address.into(), Duration::from_secs(10)).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    Some(stream)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    /// Says nothing.
    Idle,
    /// Sends a message octet by octet, and never its last.
    Dripping,
    /// Sends half of a length.
    HalfLength,
    /// Sends most of the longest message.
    HalfMessage,
    /// Asks for much and fetches nothing.
    NotReading,
    /// Sends a length that none can have.
    Malformed,
}

/// A hostile client with one connection.
struct Hostile {
    class: Class,
    source: Ipv4Addr,
    stream: Option<TcpStream>,
    /// Octets of its message sent.
    sent: usize,
    /// When it was closed.
    closed: Option<Instant>,
}

impl Hostile {
    fn new(class: Class, number: usize) -> Self {
        let network = u8::try_from(number / NETWORK_CONNECTIONS).unwrap();
        let host = u8::try_from(number % NETWORK_CONNECTIONS % 4 + 1).unwrap();
        let source = Ipv4Addr::new(127, 100, network, host);
        Hostile { class, source, stream: None, sent: 0, closed: None }
    }

    fn connect(&mut self, address: SocketAddr) {
        let receive_octets = (self.class == Class::NotReading).then_some(4096);
        self.stream = connect(self.source, address, receive_octets);
        if let Some(stream) = &self.stream {
            stream.set_nonblocking(true).unwrap();
        }
        (self.sent, self.closed) = (0, None);
    }

    /// Its next evil.
    fn act(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let outcome = match self.class {
            Class::Idle => Ok(0),
            Class::Dripping => {
                let message = framed(&query(1, &"a".repeat(60), TYPE_A));
                let next = &message[self.sent.min(message.len() - 1)..(self.sent + 1).min(message.len() - 1)];
                stream.write(next)
            }
            Class::HalfLength => stream.write(if self.sent == 0 { &[0] } else { &[] }),
            Class::Malformed => stream.write(if self.sent == 0 { &[0, 1] } else { &[] }),
            Class::HalfMessage => {
                let rest = 60_000_usize.saturating_sub(self.sent);
                stream.write(&vec![0xFF; rest])
            }
            Class::NotReading => {
                let much: Vec<u8> = (0..64).flat_map(|id| framed(&query(id, "big", TYPE_TXT))).collect();
                stream.write(&much)
            }
        };
        // What was closed says so when it is read; one that must not fetch anything sees it when it writes.
        let over = match outcome {
            Ok(count) => {
                self.sent += count;
                self.class != Class::NotReading
                    && match stream.read(&mut [0; 64]) {
                        Ok(0) => true,
                        Ok(_) => false,
                        Err(error) => error.kind() != ErrorKind::WouldBlock,
                    }
            }
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        if over {
            self.stream = None;
            self.closed = Some(Instant::now());
        }
    }
}

/// Counts of what honest clients asked beside the storm; each query was answered.
#[derive(Debug, Default)]
struct Honest {
    over_tcp: AtomicU64,
    over_udp: AtomicU64,
}

impl Honest {
    /// Whether enough was asked to show something. A busy machine may need longer for that than a storm lasts.
    fn have_asked_enough(&self) -> bool {
        self.over_tcp.load(Ordering::Relaxed) >= 50 && self.over_udp.load(Ordering::Relaxed) >= 100
    }

    /// Connects anew for every query, until told to stop.
    fn ask_over_tcp(&self, address: SocketAddr, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let number = self.over_tcp.load(Ordering::Relaxed);
            let mut client = connect(HONEST, address, None).expect("an honest client is let in");
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            client.write_all(&framed(&query(7, "www", TYPE_A))).unwrap();
            let answer = read_answer(&mut client);
            let answer = answer.unwrap_or_else(|error| panic!("honest query {number} over TCP: {error}"));
            assert!(answer.ends_with(&[192, 0, 2, 80]));
            self.over_tcp.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ask_over_udp(&self, address: SocketAddr, stop: &AtomicBool) {
        let client = UdpSocket::bind((HONEST, 0)).unwrap();
        client.connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut buffer = [0; 512];
        while !stop.load(Ordering::Relaxed) {
            client.send(&query(8, "www", TYPE_A)).unwrap();
            let len = client.recv(&mut buffer).expect("a query over UDP is answered");
            assert!(buffer[..len].ends_with(&[192, 0, 2, 80]));
            self.over_udp.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Stops the threads of a scope also when the test fails: a scope waits for them.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `storm` while honest clients ask, each of which must be answered at its first try.
fn beside_honest_clients(process: &Process, storm: impl FnOnce(&Honest)) {
    let (honest, stop) = (Honest::default(), AtomicBool::new(false));
    let address = process.address();
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        let tcp = scope.spawn(|| honest.ask_over_tcp(address, &stop));
        let udp = scope.spawn(|| honest.ask_over_udp(address, &stop));
        storm(&honest);
        stop.store(true, Ordering::Relaxed);
        tcp.join().unwrap();
        udp.join().unwrap();
    });
    assert!(honest.over_tcp.into_inner() > 0 && honest.over_udp.into_inner() > 0);
}

/// Makes the workers touch all their buffers, so that what grows afterwards is what connections hold.
fn warm_up(process: &Process) {
    for _ in 0..8 {
        let mut client = connect(HONEST, process.address(), None).unwrap();
        let all: Vec<u8> = (0..64).flat_map(|id| framed(&query(id, "big", TYPE_TXT))).collect();
        client.write_all(&all).unwrap();
        for _ in 0..64 {
            read_answer(&mut client).unwrap();
        }
    }
    eventually("all have gone", || process.metric("godwit_dataplane_tcp_connections") < 0.5);
}

#[test]
fn p7_each_kind_of_slow_connection_is_closed_for_its_own_reason() {
    let _ = godwit_dataplane::sys::limits::raise_open_files();
    let count = if long() { 10_000 } else { 600 };
    let (_folder, process) = start(&[
        // Time for all to be there at once, and places for all.
        ("max_connections", 2 * count),
        ("max_memory_octets", 2 << 30),
        ("idle_timeout_ms", 6_000),
        ("message_deadline_ms", 4_000),
        ("send_deadline_ms", 4_000),
    ]);
    warm_up(&process);
    let base = resident_octets(&process);
    let client_closed = closed(&process, "client");
    beside_honest_clients(&process, |_| {
        // Of what an idle connection is charged, at most a quarter is ours; the kernel has the rest.
        let mut hostile: Vec<Hostile> = (0..count).map(|number| Hostile::new(Class::Idle, number)).collect();
        hostile.iter_mut().for_each(|hostile| hostile.connect(process.address()));
        let grown = resident_octets(&process).saturating_sub(base);
        assert!(
            grown <= count * IDLE_OCTETS / 4 + (1 << 20),
            "{} octets for an idle connection",
            grown / count
        );
        // Most of them begin something that they will not end. An eighth fetches nothing: that costs most.
        for (number, hostile) in hostile.iter_mut().enumerate() {
            hostile.class = match number % 8 {
                0 | 1 => Class::Idle,
                2..5 => Class::Dripping,
                5 | 6 => Class::HalfLength,
                _ => Class::NotReading,
            };
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut most = 0;
        while hostile.iter().any(|hostile| hostile.stream.is_some()) {
            hostile.iter_mut().for_each(Hostile::act);
            let open = hostile.iter().filter(|hostile| hostile.stream.is_some()).count();
            assert!(Instant::now() < deadline, "{open} are still open");
            most = most.max(open);
            std::thread::sleep(EVIL_PAUSE);
        }
        assert_eq!(most, count, "not all were there at once");
    });
    for (reason, eighths) in [("idle", 2), ("slow_message", 5), ("slow_reader", 1)] {
        assert_eq!(closed(&process, reason), (eighths * count / 8) as u64, "{reason}");
    }
    for reason in
        ["malformed", "query_limit", "client_limit", "network_limit", "total_limit", "evicted", "memory"]
    {
        assert_eq!(closed(&process, reason), 0, "{reason}");
    }
    assert!(closed(&process, "client") > client_closed);
    eventually("all is given back", || process.metric("godwit_dataplane_tcp_memory_octets") < 0.5);
}

#[test]
fn p7_memory_and_places_are_kept_for_the_honest_when_a_storm_wants_them_all() {
    let _ = godwit_dataplane::sys::limits::raise_open_files();
    // Many more than have places, and what they would hold is a multiple of the budget. (A test connects some hundred a
    // second on a busy machine, and deadlines free their places: more could stay empty.)
    let (count, places, budget, time) = if long() {
        (10_000, 250, 20 << 20, Duration::from_secs(30))
    } else {
        (1_000, 100, 8 << 20, Duration::from_secs(4))
    };
    let (_folder, process) = start(&[("max_connections", places), ("max_memory_octets", budget)]);
    warm_up(&process);
    let base = resident_octets(&process);
    let mut most = (0, 0, 0);
    beside_honest_clients(&process, |honest| {
        let classes = [
            Class::Idle,
            Class::Dripping,
            Class::HalfLength,
            Class::HalfMessage,
            Class::NotReading,
            Class::Malformed,
        ];
        let mut hostile: Vec<Hostile> =
            (0..count).map(|number| Hostile::new(classes[number % classes.len()], number)).collect();
        let start = Instant::now();
        while start.elapsed() < time || !honest.have_asked_enough() {
            assert!(start.elapsed() < 10 * time, "{honest:?} were answered only");
            for hostile in &mut hostile {
                // Who was closed comes back after a second.
                let again = hostile.closed.is_none_or(|closed| closed.elapsed() > Duration::from_secs(1));
                if hostile.stream.is_none() && again {
                    hostile.connect(process.address());
                    std::thread::sleep(CONNECT_PAUSE);
                }
                hostile.act();
            }
            let memory = process.metric("godwit_dataplane_tcp_memory_octets");
            let open = process.metric("godwit_dataplane_tcp_connections");
            most.0 = most.0.max(resident_octets(&process).saturating_sub(base));
            most.1 = most.1.max(memory.to_string().parse::<usize>().unwrap());
            most.2 = most.2.max(open.to_string().parse::<usize>().unwrap());
            std::thread::sleep(EVIL_PAUSE);
        }
    });
    let (grown, charged, open) = most;
    eprintln!("grown by {grown}, charged {charged} of {budget}, {open} connections");
    assert!(grown <= budget / 100 * 105, "the process grew by {grown} octets, its budget is {budget}");
    assert!(charged <= budget / 100 * 105, "{charged} octets were charged, the budget is {budget}");
    assert!(open <= places, "{open} connections");
    // The storm was one: it hit every bound.
    for reason in ["evicted", "memory", "slow_message"] {
        assert!(closed(&process, reason) > 0, "none was closed for {reason}");
    }
}

#[test]
fn p7_who_asked_during_a_pause_of_ours_is_answered() {
    // More for each of two workers than it lines up at once.
    const COUNT: u16 = 600;
    let _ = godwit_dataplane::sys::limits::raise_open_files();
    let (_folder, process) = start(&[
        ("max_connections", usize::from(COUNT) / 15 * 16),
        ("max_connections_per_client", 1_000),
        // So many that the idle have a quarter of this.
        ("idle_timeout_ms", 120_000),
        ("max_memory_octets", 64 << 20),
    ]);
    let address = process.address();
    let mut honest: Vec<TcpStream> = (0..COUNT).map(|_| connect(HONEST, address, None).unwrap()).collect();
    let ask = |honest: &mut [TcpStream]| {
        for (id, client) in (0..COUNT).zip(honest) {
            client.write_all(&framed(&query(id, "www", TYPE_A))).unwrap();
        }
    };
    let are_answered = |honest: &mut [TcpStream]| {
        for (id, client) in (0..COUNT).zip(honest) {
            let answer = read_answer(client).unwrap_or_else(|error| panic!("query {id}: {error}"));
            assert_eq!(answer[..2], id.to_be_bytes());
        }
    };
    ask(&mut honest);
    are_answered(&mut honest);
    process.signal("STOP");
    // By our clock all have been quiet for long, and those that we see first want more places than there are.
    std::thread::sleep(Duration::from_millis(300));
    let strangers: Vec<_> =
        (0..100).map(|host| connect(Ipv4Addr::new(127, 100, host, 1), address, None)).collect();
    assert!(strangers.iter().all(Option::is_some), "the kernel takes them in");
    ask(&mut honest);
    process.signal("CONT");
    eventually("they have come", || closed(&process, "evicted") + closed(&process, "total_limit") >= 60);
    are_answered(&mut honest);
}

#[test]
fn p7_one_network_cannot_take_all_places() {
    let (_folder, process) = start(&[("max_connections_per_network", 20), ("network_ipv4_bits", 16)]);
    let address = process.address();
    let taken = |second: u8| -> Vec<TcpStream> {
        let sources = (0..20).map(|host| Ipv4Addr::new(127, second, host, 1));
        sources.map(|source| connect(source, address, None).unwrap()).collect()
    };
    let first = taken(50);
    eventually("all are in", || process.metric("godwit_dataplane_tcp_connections") > 19.5);
    // Another address of the full network, and one of another network.
    let mut refused = connect(Ipv4Addr::new(127, 50, 99, 9), address, None).unwrap();
    refused.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(closed(&process, "network_limit"), 1);
    let mut honest = connect(HONEST, address, None).unwrap();
    honest.write_all(&framed(&query(1, "www", TYPE_A))).unwrap();
    assert!(read_answer(&mut honest).unwrap().ends_with(&[192, 0, 2, 80]));
    drop(first);
    eventually("they have gone", || process.metric("godwit_dataplane_tcp_connections") < 1.5);
    let second = taken(50);
    eventually("all are in", || process.metric("godwit_dataplane_tcp_connections") > 20.5);
    assert_eq!(closed(&process, "network_limit"), 1);
    assert!(second.iter().all(|stream| stream.as_raw_fd() > 2));
}

#[test]
fn p7_a_million_queries_on_one_connection_cost_no_memory_and_starve_nobody() {
    let count: u32 = if long() { 1_000_000 } else { 100_000 };
    let (_folder, process) = start(&[("max_queries_per_connection", 2_000_000)]);
    warm_up(&process);
    beside_honest_clients(&process, |honest| {
        let mut writer = connect(Ipv4Addr::LOCALHOST, process.address(), None).unwrap();
        let mut reader = writer.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            for number in 0..count {
                writer.write_all(&framed(&query(u16::try_from(number & 0xFFFF).unwrap(), "www", TYPE_A)))?;
            }
            std::io::Result::Ok(())
        });
        let mut reader = std::io::BufReader::with_capacity(1 << 16, &mut reader);
        // After a part of them every buffer of the workers was used.
        let (mut early, mut grown) = (0, 0);
        for number in 0..count {
            let mut length = [0; 2];
            reader.read_exact(&mut length).unwrap();
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            reader.read_exact(&mut answer).unwrap();
            assert_eq!(answer[..2], u16::try_from(number & 0xFFFF).unwrap().to_be_bytes());
            assert!(answer.ends_with(&[192, 0, 2, 80]));
            if number == count / 4 {
                early = resident_octets(&process);
            } else if number > count / 4 && number % 1024 == 0 {
                grown = grown.max(resident_octets(&process).saturating_sub(early));
            }
        }
        writing.join().unwrap().unwrap();
        // What was asked and answered is a multiple.
        assert!(grown <= 1 << 20, "the process grew by {grown} octets");
        // The others got their turns for as long as this took; some more, so that a short run shows it too.
        eventually("the others have asked enough", || honest.have_asked_enough());
    });
}
