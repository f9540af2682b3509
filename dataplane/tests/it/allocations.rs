//! P3: the UDP path allocates nothing per query.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use godwit_dataplane::observe::counter::WorkerCounters;
use godwit_dataplane::serve::udp::UdpWorker;
use godwit_dataplane::sys::socket::{self, UdpOptions};

use super::allocations;
use super::reflector::{Reflector, query};

#[test]
fn p3_a_udp_worker_allocates_nothing() {
    // One socket and several are different paths; a wildcard bind adds control messages.
    for addresses in [&["127.0.0.1:0"][..], &["0.0.0.0:0", "[::1]:0"]] {
        let sockets: Vec<_> = addresses
            .iter()
            .map(|address| socket::bind_udp(address.parse().unwrap(), &UdpOptions::default()).unwrap())
            .collect();
        let port = sockets[0].local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(("127.0.0.1", port)).unwrap();
        let counters = WorkerCounters::default();
        let stop = Arc::new(AtomicBool::new(false));
        let mut worker =
            UdpWorker::new(sockets, false, Reflector::default(), Arc::clone(&counters), stop).unwrap();
        let mut buffer = [0; 512];
        for round in 0..50 {
            for id in 0..100 {
                client.send(&query(id, "a")).unwrap();
            }
            let before = allocations();
            while counters.answers[0].get() < (round + 1) * 100 {
                worker.turn();
            }
            assert_eq!(allocations() - before, 0, "round {round}");
            for _ in 0..100 {
                client.recv(&mut buffer).unwrap();
            }
        }
        // An idle turn allocates nothing either.
        let before = allocations();
        worker.turn();
        assert_eq!(allocations() - before, 0);
    }
}
