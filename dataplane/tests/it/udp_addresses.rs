//! Which datagrams are answered, and from where.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use godwit_dataplane::observe::counter::{Dropped, WorkerCounters};
use godwit_dataplane::serve::udp::UdpWorker;
use godwit_dataplane::sys::datagrams::PACKET_OCTETS;
use godwit_dataplane::sys::socket::{self, UdpOptions};

use super::process::{PROGRAM, ZONE, is_root, zone_folder};
use super::reflector::{Reflector, Workers, eventually, query};

fn client(address: &str) -> UdpSocket {
    let client = UdpSocket::bind(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

#[test]
fn a_wildcard_bind_answers_from_the_address_asked() {
    let workers = Workers::udp(&["0.0.0.0:0", "[::]:0"]);
    let ipv4 = workers.address;
    for asked in ["127.0.0.1", "127.0.0.2", "127.9.9.9"] {
        let target = SocketAddr::new(asked.parse().unwrap(), ipv4.port());
        let client = client("127.0.0.1:0");
        client.send_to(&query(7, "a"), target).unwrap();
        let mut buffer = [0; 512];
        let (_, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(from, target);
    }
}

/// Loopback has one IPv6 address, so this takes a network of its own. dig does not take an answer from another address than it
/// asked, and that is what the kernel would pick: the client's own, being one of the host's.
#[test]
fn a_wildcard_bind_answers_from_the_ipv6_address_asked() {
    if !is_root() {
        eprintln!("not root here: no network can be made, and loopback has one IPv6 address only");
        return;
    }
    let folder = zone_folder(&[("example.org", ZONE)]);
    let script = format!(
        "set -e; ip link set lo up; for n in 1 2 3; do ip -6 address add fd00:53::$n/128 dev lo nodad; done; \
         coproc {PROGRAM} --listen '[::]:5300' --metrics off --workers 1 --zones {zones} 2>/dev/null; \
         trap 'kill $COPROC_PID' EXIT; \
         while read -r line <&\"${{COPROC[0]}}\" && [[ $line != serving* ]]; do :; done; \
         for asked in 2 3; do for how in +notcp +tcp; do \
         dig @fd00:53::$asked -b fd00:53::1 -p 5300 $how +short +tries=1 +timeout=5 www.example.org A; \
         done; done",
        zones = folder.path().display(),
    );
    let ended = Command::new("unshare").args(["--net", "bash", "-c", &script]).output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(said, "192.0.2.80\n".repeat(4), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// What the kernel had no room for is counted; what it had none for before the sockets were handed on is not ours.
#[test]
fn what_a_full_receive_queue_loses_is_counted() {
    for inherited in [false, true] {
        let options = UdpOptions { receive_buffer_octets: 4096, ..UdpOptions::default() };
        let socket = socket::bind_udp("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let address = socket.local_addr().unwrap();
        let (counters, stop) = (WorkerCounters::default(), Arc::new(AtomicBool::new(false)));
        let mut worker =
            UdpWorker::new(vec![socket], inherited, Reflector::default(), Arc::clone(&counters), stop)
                .unwrap();
        let client = client("127.0.0.1:0");
        let mut lost = 0;
        for _ in 0..2 {
            let answered = counters.answers[0].get();
            let ask = |id| client.send_to(&query(id, "a"), address).unwrap();
            assert_eq!((0..1000).map(ask).sum::<usize>(), 1000 * query(0, "a").len());
            worker.turn();
            // Told with the next that is let in.
            ask(1000);
            worker.turn();
            lost += 1001 - (counters.answers[0].get() - answered);
            let counted = counters.overflow.get();
            assert!(if inherited { counted < lost } else { counted == lost }, "{counted} of {lost}");
        }
        assert!(lost > 1000 && counters.overflow.get() > 0, "{lost} lost");
    }
}

#[test]
fn several_addresses_of_both_families_are_served_by_one_worker() {
    let workers = Workers::udp(&["127.0.0.1:0"]);
    let port = workers.address.port();
    drop(workers);
    let workers =
        Workers::udp(&[&format!("127.0.0.1:{port}"), &format!("127.0.0.2:{port}"), &format!("[::1]:{port}")]);
    for (from, to) in [("127.0.0.1:0", "127.0.0.1"), ("127.0.0.1:0", "127.0.0.2"), ("[::1]:0", "::1")] {
        let target = SocketAddr::new(to.parse().unwrap(), port);
        let client = client(from);
        for id in 0..100 {
            client.send_to(&query(id, "a"), target).unwrap();
        }
        let mut buffer = [0; 512];
        for id in 0..100 {
            assert_eq!(client.recv_from(&mut buffer).unwrap().1, target);
            assert_eq!(u16::from_be_bytes([buffer[0], buffer[1]]), id);
        }
    }
    assert_eq!(workers.counters.answers[0].get(), 300);
}

#[test]
fn p7_what_must_not_be_answered_is_counted_and_dropped() {
    let workers = Workers::udp(&["127.0.0.1:0"]);
    let client = client("127.0.0.1:0");
    client.send_to(&vec![0; PACKET_OCTETS + 1], workers.address).unwrap();
    let dropped = |reason: Dropped| workers.counters.dropped[reason as usize].get();
    eventually("an oversized datagram is counted", || dropped(Dropped::Oversized) == 1);

    // From port 0, and from the very address it is sent to: only a raw socket can say so.
    let raw = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::UDP));
    let Ok(raw) = raw else {
        eprintln!("no raw sockets here (needs root): port 0 and our own address were not tried");
        return;
    };
    let port = workers.address.port();
    let send = |source_port: u16| {
        let payload = query(1, "a");
        let mut datagram = source_port.to_be_bytes().to_vec();
        datagram.extend_from_slice(&port.to_be_bytes());
        datagram.extend_from_slice(&u16::try_from(payload.len() + 8).unwrap().to_be_bytes());
        // No checksum, which IPv4 allows.
        datagram.extend_from_slice(&[0, 0]);
        datagram.extend_from_slice(&payload);
        raw.send_to(&datagram, &workers.address.into()).unwrap();
    };
    send(0);
    eventually("port 0 is counted", || dropped(Dropped::PortZero) == 1);
    send(port);
    eventually("our own address is counted", || dropped(Dropped::Ourselves) == 1);
    assert_eq!(
        workers.counters.answers.iter().map(godwit_dataplane::observe::counter::Counter::get).sum::<u64>(),
        0
    );
}
