//! The packets of the volume over sockets, to a server that runs: the program as it is, its sockets and buffers, and what becomes of
//! its memory. Most over UDP, every sixteenth batch over TCP. Each answer gets the quick check; each packet that is due an answer
//! gets one, and no other gets any.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use godwit_engine::answer::{Settings, Transport};

use super::{BATCH_PACKETS, Random, expected_drop, make, quick};
use crate::zones;

/// The longest that an answer is waited for: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// One batch of so many goes over TCP.
const TCP_EVERY: u64 = 16;
/// Batches over one connection.
const CONNECTION_BATCHES: u64 = 1000;
/// The ID of the query behind each batch: answers come in the order of the queries, so its answer is the last.
const SENTINEL: u16 = 0xFFFF;
const HEADER_OCTETS: usize = 12;

/// A running server with all zones; ended when it is dropped.
pub struct Served<'c> {
    seed: u64,
    corpus: &'c [Vec<u8>],
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
    metrics: SocketAddr,
    udp: UdpSocket,
    tcp: TcpStream,
    tcp_batches: u64,
    packets: [Vec<u8>; BATCH_PACKETS],
    /// Packets sent, and answers that came.
    pub counts: (u64, u64),
}

impl<'c> Served<'c> {
    /// Starts the program on free ports of the loopback address, with one worker for each transport.
    ///
    /// # Errors
    /// When it does not start, or a socket cannot be had.
    pub fn start(program: &Path, seed: u64, corpus: &'c [Vec<u8>]) -> std::io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("godwit-served-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        for (origin, text) in zones::FILES {
            std::fs::write(folder.join(format!("{origin}.zone")), text)?;
        }
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "1", "--zones"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join("log"))?)
            .spawn()?;
        let (mut address, mut metrics) = (None, None);
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        for line in lines.map_while(Result::ok) {
            if let Some(rest) = line.strip_prefix("listening at ") {
                address = rest.split(' ').next().and_then(|text| text.parse().ok());
            } else if let Some(rest) = line.strip_prefix("metrics at http://") {
                metrics = rest.split('/').next().and_then(|text| text.parse().ok());
            } else if line.starts_with("serving ") {
                break;
            }
        }
        let (Some(address), Some(metrics)) = (address, metrics) else {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            return Err(std::io::Error::other(format!("it does not serve: {log}")));
        };
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        udp.connect(address)?;
        udp.set_read_timeout(Some(PATIENCE))?;
        let tcp = connect(address)?;
        let packets = std::array::from_fn(|_| Vec::new());
        Ok(Served {
            seed,
            corpus,
            child,
            folder,
            address,
            metrics,
            udp,
            tcp,
            tcp_batches: 0,
            packets,
            counts: (0, 0),
        })
    }

    /// The packets of the batch that was sent last, for a report of what failed.
    pub fn last_packets(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().map(Vec::as_slice)
    }

    /// Makes one batch, sends it, and checks each answer.
    ///
    /// # Panics
    /// When a property does not hold, or the server does not answer any more.
    pub fn batch(&mut self, number: u64) {
        make(&mut Random::of(self.seed, number), &mut self.packets, self.corpus);
        for (id, packet) in (0u16..).zip(&mut self.packets) {
            // By which an answer is known; what has no room for it gets none.
            if let Some(place) = packet.first_chunk_mut() {
                *place = id.to_be_bytes();
            }
        }
        if number.is_multiple_of(TCP_EVERY) { self.over_tcp() } else { self.over_udp() }
    }

    fn over_udp(&mut self) {
        for packet in &self.packets {
            self.udp.send(packet).expect("a packet can be sent");
        }
        self.udp.send(&sentinel()).expect("a packet can be sent");
        let mut answers: [Option<Vec<u8>>; BATCH_PACKETS] = std::array::from_fn(|_| None);
        let mut buffer = [0; 4096];
        loop {
            let len = self.udp.recv(&mut buffer).expect("the last packet of a batch is answered");
            let answer = &buffer[..len];
            if answer.starts_with(&SENTINEL.to_be_bytes()) {
                break;
            }
            let id = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
            let place = answers.get_mut(id).expect("an answer to what was asked");
            assert!(place.replace(answer.to_vec()).is_none(), "packet {id} is answered twice");
        }
        self.check(Transport::Udp, |_| true, &answers);
    }

    fn over_tcp(&mut self) {
        if self.tcp_batches == CONNECTION_BATCHES {
            self.tcp = connect(self.address).expect("it accepts connections");
            self.tcp_batches = 0;
        }
        self.tcp_batches += 1;
        let mut stream = Vec::new();
        // A message that has no header would end the connection, by right.
        let goes = |packet: &[u8]| packet.len() >= HEADER_OCTETS;
        for packet in self.packets.iter().map(Vec::as_slice).filter(|packet| goes(packet)) {
            stream.extend_from_slice(&(packet.len() as u16).to_be_bytes());
            stream.extend_from_slice(packet);
        }
        let last = sentinel();
        stream.extend_from_slice(&(last.len() as u16).to_be_bytes());
        stream.extend_from_slice(&last);
        self.tcp.write_all(&stream).expect("it reads");
        let mut answers: [Option<Vec<u8>>; BATCH_PACKETS] = std::array::from_fn(|_| None);
        loop {
            let mut length = [0; 2];
            self.tcp.read_exact(&mut length).expect("the last message of a batch is answered");
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            self.tcp.read_exact(&mut answer).expect("an answer comes whole");
            if answer.starts_with(&SENTINEL.to_be_bytes()) {
                break;
            }
            let id = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
            let place = answers.get_mut(id).expect("an answer to what was asked");
            assert!(place.replace(answer).is_none(), "message {id} is answered twice");
        }
        self.check(Transport::Tcp, goes, &answers);
    }

    fn check(
        &mut self,
        transport: Transport,
        goes: impl Fn(&[u8]) -> bool,
        answers: &[Option<Vec<u8>>; BATCH_PACKETS],
    ) {
        let udp_payload_max = Settings::default().udp_payload_max;
        for (packet, answer) in self.packets.iter().zip(answers) {
            let due = goes(packet) && expected_drop(packet).is_none();
            assert_eq!(answer.is_some(), due, "silence is for responses and what is no header");
            self.counts.0 += u64::from(goes(packet));
            if let Some(answer) = answer {
                quick::answered(packet, answer, transport, udp_payload_max);
                self.counts.1 += 1;
            }
        }
    }

    /// Octets of memory that the server has written to, without the pages of its program.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn memory_octets(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB") * 1024
    }

    /// How many panics it has caught.
    ///
    /// # Panics
    /// When it does not say.
    #[must_use]
    pub fn panics(&self) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).expect("it shows its metrics");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline can be set");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers with text");
        let line = text.lines().find_map(|line| line.strip_prefix("godwit_dataplane_panics_total "));
        line.expect("panics are counted").parse().expect("a count")
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A query for what is not ours.
fn sentinel() -> Vec<u8> {
    [&SENTINEL.to_be_bytes()[..], b"\0\0\0\x01\0\0\0\0\0\0\x07nowhere\0\0\x01\0\x01"].concat()
}
