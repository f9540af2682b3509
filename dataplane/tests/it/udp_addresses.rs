//! Which datagrams are answered, and from where.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use godwit_dataplane::observe::counter::Dropped;
use godwit_dataplane::sys::datagrams::PACKET_OCTETS;

use super::reflector::{Workers, eventually, query};

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
