//! A DNS client: queries written by hand, responses read by the test kit's own parser.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use godwit_testkit::message::Message;

pub(crate) const A: u16 = 1;
pub(crate) const TXT: u16 = 16;

/// A datagram may be lost; loopback loses few.
const ATTEMPTS: usize = 20;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);

fn query(name: &str, qtype: u16) -> Vec<u8> {
    let mut octets = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        octets.push(u8::try_from(label.len()).unwrap());
        octets.extend_from_slice(label.as_bytes());
    }
    octets.push(0);
    octets.extend_from_slice(&qtype.to_be_bytes());
    octets.extend_from_slice(&1u16.to_be_bytes());
    octets
}

pub(crate) fn udp(server: SocketAddr, name: &str, qtype: u16) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(ATTEMPT_TIMEOUT)).unwrap();
    let mut buffer = [0; 4096];
    for _ in 0..ATTEMPTS {
        let received = socket.send(&query(name, qtype)).and_then(|_| socket.recv(&mut buffer));
        if let Ok(length) = received {
            return Message::parse(&buffer[..length]).unwrap();
        }
    }
    panic!("no answer for {name} from {server}");
}

pub(crate) fn tcp(server: SocketAddr, name: &str, qtype: u16) -> Message {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(ATTEMPT_TIMEOUT * 10)).unwrap();
    let query = query(name, qtype);
    let mut framed = u16::try_from(query.len()).unwrap().to_be_bytes().to_vec();
    framed.extend_from_slice(&query);
    stream.write_all(&framed).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    Message::parse(&answer).unwrap()
}

/// The addresses in an authoritative answer without error.
pub(crate) fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    assert!(message.aa && message.rcode == 0, "{message:?}");
    let a = message.answer.iter().filter(|record| record.rtype.0 == A);
    a.map(|record| Ipv4Addr::from(<[u8; 4]>::try_from(record.rdata.as_slice()).unwrap())).collect()
}

/// The first character strings of TXT records.
pub(crate) fn texts(message: &Message) -> Vec<String> {
    let txt = message.answer.iter().filter(|record| record.rtype.0 == TXT);
    txt.map(|record| String::from_utf8(record.rdata[1..=usize::from(record.rdata[0])].to_vec()).unwrap())
        .collect()
}
