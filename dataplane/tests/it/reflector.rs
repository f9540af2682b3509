//! A responder for tests of the sockets alone: sends each message back with QR set. And the workers around it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use godwit_dataplane::observe::counter::WorkerCounters;
use godwit_dataplane::serve::limit::{Admission, TcpLimits};
use godwit_dataplane::serve::respond::{Batch, Client, Kind, Outcome, Respond, Slot};
use godwit_dataplane::serve::tcp::TcpWorker;
use godwit_dataplane::serve::udp::UdpWorker;
use godwit_dataplane::sys::socket::{self, UdpOptions};

/// A message that contains this makes [`Reflector`] panic.
pub(crate) const POISON: &[u8] = b"\x06poison";
/// A message that contains this is answered with 40,000 octets.
pub(crate) const LARGE: &[u8] = b"\x05large";
const LARGE_OCTETS: usize = 40_000;

/// Sends back what it gets.
#[derive(Default)]
pub(crate) struct Reflector {
    /// How often it was told to throw away its scratch space.
    pub resets: u32,
}

impl Respond for Reflector {
    fn refresh(&mut self) {}

    fn respond_batch<B: Batch>(&mut self, now: u32, batch: &mut B) {
        for i in 0..batch.len() {
            let Slot { client, packet, out } = batch.slot(i);
            let outcome = self.respond(now, &client, packet, out);
            batch.done(i, outcome);
        }
    }

    fn respond(&mut self, _now: u32, _client: &Client, packet: &[u8], out: &mut [u8]) -> Outcome {
        let contains = |what: &[u8]| packet.windows(what.len()).any(|window| window == what);
        assert!(!contains(POISON), "poison");
        let len = if contains(LARGE) { LARGE_OCTETS } else { packet.len() };
        out[..packet.len()].copy_from_slice(packet);
        out[2] |= 0x80;
        Outcome { len, kind: Kind::Answer, ..Outcome::NOTHING }
    }

    fn reset(&mut self) {
        self.resets += 1;
    }
}

/// A query for `name` (one label) with this id.
pub(crate) fn query(id: u16, label: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.push(u8::try_from(label.len()).unwrap());
    message.extend_from_slice(label.as_bytes());
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// The message with its length in front.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut octets = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    octets.extend_from_slice(message);
    octets
}

/// Running workers; they stop when it is dropped.
pub(crate) struct Workers {
    pub address: SocketAddr,
    pub counters: WorkerCounters,
    pub admission: Arc<Admission>,
    pub stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    pub(crate) fn tcp(limits: TcpLimits) -> Self {
        let listener = socket::bind_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (counters, stop) = (WorkerCounters::default(), Arc::new(AtomicBool::new(false)));
        let admission = Admission::new(limits);
        let worker = TcpWorker::new(
            vec![listener],
            Reflector::default(),
            Arc::clone(&admission),
            Arc::clone(&counters),
            Arc::clone(&stop),
            Duration::from_secs(5),
        );
        let thread = Some(std::thread::spawn(move || worker.unwrap().run()));
        Workers { address, counters, admission, stop, thread }
    }

    pub(crate) fn udp(addresses: &[&str]) -> Self {
        let sockets: Vec<_> = addresses
            .iter()
            .map(|address| socket::bind_udp(address.parse().unwrap(), &UdpOptions::default()).unwrap())
            .collect();
        let address = sockets[0].local_addr().unwrap();
        let (counters, stop) = (WorkerCounters::default(), Arc::new(AtomicBool::new(false)));
        let worker =
            UdpWorker::new(sockets, false, Reflector::default(), Arc::clone(&counters), Arc::clone(&stop));
        let thread = Some(std::thread::spawn(move || worker.unwrap().run()));
        let admission = Admission::new(TcpLimits::default());
        Workers { address, counters, admission, stop, thread }
    }

    /// Tells the worker to stop and waits for its end.
    pub(crate) fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A test that fails already must not panic again here.
            let ended = thread.join().is_ok();
            assert!(ended || std::thread::panicking(), "the worker panicked");
        }
    }
}

/// Waits until something is so, at most ten seconds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
