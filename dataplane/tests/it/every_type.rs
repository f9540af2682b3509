//! P7: every type, class and OPCODE there can be, over UDP and TCP, to a running server: the exact reaction of docs/answers.md §1
//! each time, no growth of memory, and it still answers.
//!
//! A plain run asks for all 65,536 types in class IN, for all 65,536 classes of type A, with all 16 OPCODEs for a choice of types and
//! classes, and for some random combinations. A long run (`GODWIT_LONG=1`) asks for every type in eight classes with every
//! OPCODE: 8,388,608 queries over each transport.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use godwit_dataplane::sys::datagrams::BATCH;

use super::chance::{Random, is_long};
use super::client::read_answer;
use super::process::{Process, ZONE, zone_folder};

/// Queries that are under way together over UDP; few enough for the socket's queue.
const WINDOW: usize = 64;
/// The same over TCP, where the server reads only as fast as answers are fetched.
const PIPELINE: usize = 256;
/// So often everything is asked at most.
const ROUNDS: usize = 5;
/// Classes of RFC 1035 §3.2.4, RFC 2136 §2.4 and RFC 6895 §3.2, and what is none.
const CLASSES: [u16; 8] = [1, 3, 4, 254, 255, 0, 65_535, 4660];

#[derive(Clone, Copy, Debug)]
struct Question {
    opcode: u16,
    qtype: u16,
    qclass: u16,
}

const QNAME: &[u8] = b"\x03www\x07example\x03org\x00";

impl Question {
    fn octets(self, id: u16) -> Vec<u8> {
        let mut octets = Vec::with_capacity(33);
        for word in [id, self.opcode << 11, 1, 0, 0, 0] {
            octets.extend_from_slice(&word.to_be_bytes());
        }
        octets.extend_from_slice(QNAME);
        octets.extend_from_slice(&self.qtype.to_be_bytes());
        octets.extend_from_slice(&self.qclass.to_be_bytes());
        octets
    }

    /// RCODE, AA, and how many records the answer section has, as docs/answers.md says: the first row of §1 that applies, else
    /// §5 for `www` of [`ZONE`], which has an A and an AAAA record.
    fn expected(self, transport: &str) -> (u8, bool, u16) {
        match (self.opcode, self.qclass, self.qtype) {
            // Rows 3 and 4.
            (4 | 5, ..) => (5, false, 0),
            (1.., ..) => (4, false, 0),
            // Row 14: before anything that the type decides.
            (0, 2.. | 0, _) => (5, false, 0),
            // Row 15: IXFR and AXFR.
            (.., 251 | 252) => (5, false, 0),
            // Row 16: MAILB and MAILA.
            (.., 253 | 254) => (4, false, 0),
            // Row 17: OPT, TKEY and TSIG.
            (.., 41 | 249 | 250) => (1, false, 0),
            // ANY gets one RRset, from whom an address may be forged (RFC 8482 §4.1).
            (.., 255) if transport == "TCP" => (0, true, 2),
            (.., 1 | 28 | 255) => (0, true, 1),
            _ => (0, true, 0),
        }
    }

    fn check(self, id: u16, answer: &[u8], transport: &str) {
        let word = |at: usize| u16::from_be_bytes([answer[at], answer[at + 1]]);
        assert_eq!(word(0), id, "{self:?} over {transport}");
        let flags = word(2);
        assert_eq!(flags & 0xF800, 0x8000 | self.opcode << 11, "{self:?} over {transport}");
        assert_eq!(flags & 0x03F0, 0, "TC, RD, RA, Z, AD and CD: {self:?} over {transport}");
        let is_authoritative = flags & 0x0400 != 0;
        let rcode = u8::try_from(flags & 0xF).unwrap();
        assert_eq!(
            (rcode, is_authoritative, word(6)),
            self.expected(transport),
            "{self:?} over {transport}: {answer:?}"
        );
        if self.opcode != 0 {
            assert_eq!(answer.len(), 12, "header only: {self:?} over {transport}");
            return;
        }
        let question = self.octets(id);
        assert_eq!(answer.get(12..question.len()), Some(&question[12..]), "{self:?} over {transport}");
        // NODATA has a SOA record, nothing else an authority section.
        assert_eq!(word(8), u16::from(rcode == 0 && word(6) == 0), "{self:?} over {transport}");
    }
}

/// All that are asked in this run.
fn questions() -> Box<dyn Iterator<Item = Question>> {
    let all = || 0..=u16::MAX;
    if is_long() {
        return Box::new(all().flat_map(|qtype| {
            CLASSES
                .into_iter()
                .flat_map(move |qclass| (0..16).map(move |opcode| Question { opcode, qtype, qclass }))
        }));
    }
    let types = all().map(|qtype| Question { opcode: 0, qtype, qclass: 1 });
    let classes = all().map(|qclass| Question { opcode: 0, qtype: 1, qclass });
    // What has a meaning, and what stands beside it.
    let choice = [0, 1, 2, 5, 6, 28, 41, 46, 50, 249, 250, 251, 252, 253, 254, 255, 256, 65_280, 65_535];
    let opcodes = choice.into_iter().flat_map(|qtype| {
        CLASSES
            .into_iter()
            .flat_map(move |qclass| (0..16).map(move |opcode| Question { opcode, qtype, qclass }))
    });
    let mut random = Random::seeded();
    let others = (0..20_000).map(move |_| {
        let [a, b, c, d, e, ..] = random.next().to_le_bytes();
        let (qtype, qclass) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        Question { opcode: u16::from(e & 15), qtype, qclass }
    });
    Box::new(types.chain(classes).chain(opcodes).chain(others))
}

fn over_udp(address: SocketAddr) -> u64 {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut buffer = [0; 1500];
    let mut asked = 0;
    let mut questions = questions();
    loop {
        let window: Vec<Question> = questions.by_ref().take(WINDOW).collect();
        if window.is_empty() {
            return asked;
        }
        for (id, question) in (0u16..).zip(&window) {
            client.send(&question.octets(id)).unwrap();
        }
        let mut missing = vec![true; window.len()];
        while missing.contains(&true) {
            let len = client.recv(&mut buffer).expect("every query has an answer");
            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
            let place = usize::from(id);
            assert!(std::mem::take(&mut missing[place]), "answered twice: {:?}", window[place]);
            window[place].check(id, &buffer[..len], "UDP");
        }
        asked += window.len() as u64;
    }
}

fn over_tcp(address: SocketAddr) -> u64 {
    let connect = || {
        let client = TcpStream::connect(address).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    };
    let mut client = connect();
    let mut asked = 0;
    let mut questions = questions();
    loop {
        let window: Vec<Question> = questions.by_ref().take(PIPELINE).collect();
        if window.is_empty() {
            return asked;
        }
        // A client may come back with a new connection.
        if asked % 8192 == 0 {
            client = connect();
        }
        let mut stream = Vec::new();
        for (id, question) in (0u16..).zip(&window) {
            let octets = question.octets(id);
            stream.extend_from_slice(&u16::try_from(octets.len()).unwrap().to_be_bytes());
            stream.extend_from_slice(&octets);
        }
        client.write_all(&stream).unwrap();
        for (id, question) in (0u16..).zip(&window) {
            let answer = read_answer(&mut client).expect("every query has an answer");
            question.check(id, &answer, "TCP");
        }
        asked += window.len() as u64;
    }
}

/// Octets of memory that a process has written to. Without the pages of its program, which the system takes away and gives
/// back as it likes.
fn resident_octets(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Lets a worker find as much as it takes at once. How much it finds of what comes one by one is chance, and the buffers
/// behind that are untouched until it finds more.
fn fill_a_batch(process: &Process) {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(process.address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let question = Question { opcode: 0, qtype: 1, qclass: 1 };
    // The call that it waits in may still take what was there, or the first.
    let count = u16::try_from(2 * BATCH).unwrap();
    process.signal("STOP");
    for id in 0..count {
        client.send(&question.octets(id)).unwrap();
    }
    process.signal("CONT");
    let mut buffer = [0; 1500];
    for _ in 0..count {
        let len = client.recv(&mut buffer).expect("every query has an answer");
        question.check(u16::from_be_bytes([buffer[0], buffer[1]]), &buffer[..len], "UDP");
    }
}

#[test]
fn p7_every_type_class_and_opcode_has_its_reaction() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let zones = folder.path().to_str().unwrap();
    let process = Process::start(&[
        "--listen",
        "127.0.0.1:0",
        "--metrics",
        "127.0.0.1:0",
        "--workers",
        "1",
        "--zones",
        zones,
    ]);
    // The first round also takes what memory a worker ever takes: its buffers are touched as far as answers reach.
    fill_a_batch(&process);
    let (mut udp, mut tcp) = (over_udp(process.address()), over_tcp(process.address()));
    let mut memory = vec![resident_octets(process.child.id())];
    // How far those of TCP reach depends on who is how fast: that ends; what is lost with each query does not.
    let is_steady = |memory: &[u64]| memory.windows(2).any(|pair| pair[1] < pair[0] + pair[0] / 100);
    while !is_steady(&memory) && memory.len() < ROUNDS {
        udp += over_udp(process.address());
        tcp += over_tcp(process.address());
        memory.push(resident_octets(process.child.id()));
    }
    println!("{udp} over UDP, {tcp} over TCP; octets of memory after each round: {memory:?}");
    assert!(is_steady(&memory), "memory grows with every round: {memory:?}");
    assert_eq!(process.dig(&["+short", "www.example.org"]), "192.0.2.80\n");
    assert!(process.metric("godwit_dataplane_panics_total").abs() < 0.1);
}
