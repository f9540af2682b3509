//! A message that makes the engine panic costs its own answer, and nothing else.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use godwit_dataplane::serve::limit::TcpLimits;

use super::client::read_answer;
use super::reflector::{Workers, framed, query};

#[test]
fn p7_a_panic_over_udp_is_answered_servfail_and_the_rest_of_the_batch_as_usual() {
    let workers = Workers::udp(&["127.0.0.1:0"]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(workers.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // Sent in one go, so that they come in as few batches as may be.
    for id in 0..40 {
        client.send(&query(id, if id % 10 == 3 { "poison" } else { "fine" })).unwrap();
    }
    let mut buffer = [0; 512];
    for _ in 0..40 {
        let len = client.recv(&mut buffer).unwrap();
        let id = u16::from_be_bytes([buffer[0], buffer[1]]);
        let rcode = buffer[3] & 0x0F;
        assert_eq!(rcode, if id % 10 == 3 { 2 } else { 0 }, "id {id}");
        assert_eq!(buffer[2] & 0x80, 0x80);
        // The question is echoed in both cases.
        assert_eq!(buffer[12..len], query(id, if id % 10 == 3 { "poison" } else { "fine" })[12..]);
    }
    assert_eq!(workers.counters.panics.get(), 4);
    assert_eq!(workers.counters.answers[2].get(), 4);
    assert_eq!(workers.counters.answers[0].get(), 36);
}

#[test]
fn p7_a_panic_over_tcp_is_answered_servfail_and_the_connection_goes_on() {
    let workers = Workers::tcp(TcpLimits::default());
    let mut client = TcpStream::connect(workers.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    for id in 0..3 {
        client.write_all(&framed(&query(id, if id == 1 { "poison" } else { "fine" }))).unwrap();
    }
    for id in 0..3 {
        let answer = read_answer(&mut client).unwrap();
        assert_eq!((answer[1], answer[3] & 0x0F), (id, if id == 1 { 2 } else { 0 }));
    }
    assert_eq!(workers.counters.panics.get(), 1);
}
