//! Every scenario over real sockets: each query, its exact reaction, and the count that it leaves behind.

#[path = "../../../engine/tests/it/bridge.rs"]
pub(crate) mod bridge;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use godwit_dataplane::observe::counter::{Closed, Counter, Counters, Dropped, WorkerCounters};
use godwit_dataplane::serve::engine::{Answering, Engine};
use godwit_dataplane::serve::limit::{Admission, TcpLimits};
use godwit_dataplane::serve::respond::{Batch, Client, Outcome, Respond};
use godwit_dataplane::serve::tcp::TcpWorker;
use godwit_dataplane::serve::udp::UdpWorker;
use godwit_dataplane::sys::socket::{self, UdpOptions};
use godwit_engine::snapshot::store::Store;
use godwit_testkit::reference::Transport;
use godwit_testkit::scenario::{self, Case, Scenario};

use super::client::read_answer;
use super::reflector::{eventually, framed, query};

/// The identifier of the query that is sent after each case: its answer says that the case was dealt with.
const SENTINEL: u16 = 0xFFFF;
const HEADER_OCTETS: usize = 12;

/// Answers at the time at which scenarios play, whatever the clock says.
struct AtTime(Engine);

impl Respond for AtTime {
    fn refresh(&mut self) {
        self.0.refresh();
    }

    fn respond_batch<B: Batch>(&mut self, _now: u32, batch: &mut B) {
        self.0.respond_batch(scenario::NOW, batch);
    }

    fn respond(&mut self, _now: u32, client: &Client, packet: &[u8], out: &mut [u8]) -> Outcome {
        self.0.respond(scenario::NOW, client, packet, out)
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}

/// A UDP and a TCP worker that serve the world of a scenario.
struct Served {
    address: SocketAddr,
    udp: WorkerCounters,
    tcp: WorkerCounters,
    /// What the sentinel gets: no scenario has a zone for it.
    sentinel_rcode: u16,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Served {
    fn start(scenario: &Scenario) -> Self {
        let (udp_socket, listener) = sockets();
        let address = udp_socket.local_addr().unwrap();
        let store = Store::new(bridge::snapshot(&scenario.world));
        let answering = Store::new(Answering::new(bridge::settings(&scenario.settings)));
        let engine = || AtTime(Engine::new(&store, &answering, !scenario.settings.serving));
        let (udp, tcp) = (WorkerCounters::default(), WorkerCounters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let datagrams =
            UdpWorker::new(vec![udp_socket], false, engine(), Arc::clone(&udp), Arc::clone(&stop)).unwrap();
        let connections = TcpWorker::new(
            vec![listener],
            engine(),
            Admission::new(TcpLimits::default()),
            Arc::clone(&tcp),
            Arc::clone(&stop),
            Duration::from_secs(1),
        )
        .unwrap();
        let threads =
            vec![std::thread::spawn(move || datagrams.run()), std::thread::spawn(move || connections.run())];
        // RFC 1035 §4.1.1: REFUSED for what is not ours, SERVFAIL while nothing is known to be.
        let sentinel_rcode = if scenario.settings.serving { 5 } else { 2 };
        Served { address, udp, tcp, sentinel_rcode, stop, threads }
    }

    fn counters(&self, transport: Transport) -> &Counters {
        match transport {
            Transport::Udp => &self.udp,
            Transport::Tcp => &self.tcp,
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join().is_ok();
            assert!(ended || std::thread::panicking(), "a worker panicked");
        }
    }
}

/// Both at one port.
fn sockets() -> (UdpSocket, std::net::TcpListener) {
    loop {
        let udp =
            socket::bind_udp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &UdpOptions::default()).unwrap();
        if let Ok(tcp) = socket::bind_tcp(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

/// A client on loopback for each transport.
struct Asker {
    address: SocketAddr,
    udp: UdpSocket,
}

impl Asker {
    fn new(address: SocketAddr) -> Self {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        udp.connect(address).unwrap();
        udp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Asker { address, udp }
    }

    /// What came back before the sentinel's answer.
    fn ask(&self, transport: Transport, packet: &[u8]) -> Option<Vec<u8>> {
        match transport {
            Transport::Udp => self.over_udp(packet),
            Transport::Tcp => self.over_tcp(packet),
        }
    }

    fn over_udp(&self, packet: &[u8]) -> Option<Vec<u8>> {
        self.udp.send(packet).unwrap();
        self.udp.send(&query(SENTINEL, "a")).unwrap();
        let receive = || {
            let mut buffer = vec![0; 65_535];
            let len = self.udp.recv(&mut buffer).expect("the sentinel is answered");
            buffer.truncate(len);
            buffer
        };
        let first = receive();
        if first.starts_with(&SENTINEL.to_be_bytes()) {
            return None;
        }
        assert!(receive().starts_with(&SENTINEL.to_be_bytes()));
        Some(first)
    }

    /// Over a connection of its own, which a message without a header ends.
    fn over_tcp(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(&[framed(packet), framed(&query(SENTINEL, "a"))].concat()).unwrap();
        let mut receive = || read_answer(&mut client);
        let first = receive();
        if packet.len() < HEADER_OCTETS {
            assert!(first.is_err(), "{first:02x?}");
            return None;
        }
        let first = first.expect("an answer, if only to the sentinel");
        if first.starts_with(&SENTINEL.to_be_bytes()) {
            return None;
        }
        assert!(receive().expect("the sentinel is answered").starts_with(&SENTINEL.to_be_bytes()));
        Some(first)
    }
}

/// The count that a case must raise by one: its value so far.
fn count(counters: &Counters, transport: Transport, case: &Case) -> u64 {
    match (&case.reaction, transport) {
        (Some(reaction), _) => counters.answers[usize::from(reaction.rcode)].get(),
        (None, Transport::Tcp) if case.packet.len() < HEADER_OCTETS => {
            counters.closed[Closed::Malformed as usize].get()
        }
        (None, _) if case.packet.len() < HEADER_OCTETS => counters.dropped[Dropped::Short as usize].get(),
        (None, _) => counters.dropped[Dropped::Response as usize].get(),
    }
}

/// Plays a case over a transport; its fault, if there is one.
fn play(served: &Served, asker: &Asker, transport: Transport, name: &str, case: &Case) -> Option<String> {
    let counters = served.counters(transport);
    let before = count(counters, transport, case);
    let answers = total(counters);
    let response = asker.ask(transport, &case.packet);
    if let Err(fault) = case.check(name, response.as_deref()) {
        return Some(format!("{transport:?}: {fault}"));
    }
    if transport == Transport::Tcp && case.packet.len() < HEADER_OCTETS {
        // Counted when we have seen that the client is gone too. What followed in the connection is not looked at.
        eventually("the connection is counted", || count(counters, transport, case) == before + 1);
        return None;
    }
    // The sentinel is answered with the same RCODE as some cases are.
    let same = case.reaction.as_ref().is_some_and(|reaction| reaction.rcode == served.sentinel_rcode);
    let counted = count(counters, transport, case) - before - u64::from(same);
    let answered = total(counters) - answers - 1;
    ((counted, answered) != (1, u64::from(case.reaction.is_some()))).then(|| {
        format!("{transport:?}: {name}.scenario:{}: counted {counted}, {answered} answers", case.line)
    })
}

fn total(counters: &Counters) -> u64 {
    counters.answers.iter().map(Counter::get).sum()
}

#[test]
fn every_scenario_plays_over_sockets_and_is_counted() {
    let mut faults = Vec::new();
    let mut played = 0;
    for scenario in &scenario::all().unwrap_or_else(|error| panic!("{error:#}")) {
        let served = Served::start(scenario);
        let asker = Asker::new(served.address);
        for case in &scenario.cases {
            played += 1;
            faults.extend(play(&served, &asker, case.transport, &scenario.name, case));
        }
    }
    assert!(played >= 150, "{played} cases only");
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[test]
fn bad_input_has_the_same_reaction_over_either_transport() {
    let scenarios = scenario::all().unwrap_or_else(|error| panic!("{error:#}"));
    let bad_input = scenarios.iter().find(|scenario| scenario.name == "bad_input").unwrap();
    let served = Served::start(bad_input);
    let asker = Asker::new(served.address);
    let faults: Vec<String> = bad_input
        .cases
        .iter()
        .flat_map(|case| [(Transport::Udp, case), (Transport::Tcp, case)])
        .filter_map(|(transport, case)| play(&served, &asker, transport, &bad_input.name, case))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    // Longer than any query over UDP: not looked at.
    let before = served.udp.dropped[Dropped::Oversized as usize].get();
    let mut long = query(1, "a");
    long.resize(2_049, 0);
    assert_eq!(asker.over_udp(&long), None);
    assert_eq!(served.udp.dropped[Dropped::Oversized as usize].get(), before + 1);
    assert_eq!(served.udp.panics.get() + served.tcp.panics.get(), 0);
}
