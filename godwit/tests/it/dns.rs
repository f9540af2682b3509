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
    numbered(0x1234, name, qtype)
}

fn numbered(id: u16, name: &str, qtype: u16) -> Vec<u8> {
    let mut octets = id.to_be_bytes().to_vec();
    octets.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
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
    let mut stream = connection(server);
    send_framed(&mut stream, &query(name, qtype));
    receive_framed(&mut stream)
}

fn connection(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(ATTEMPT_TIMEOUT * 10)).unwrap();
    stream
}

fn send_framed(stream: &mut TcpStream, query: &[u8]) {
    let mut framed = u16::try_from(query.len()).unwrap().to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).unwrap();
}

fn receive_framed(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    Message::parse(&answer).unwrap()
}

/// Many sockets and connections that stay open: each has one worker behind it, and together they have all.
pub(crate) struct Everywhere {
    sockets: Vec<UdpSocket>,
    connections: Vec<TcpStream>,
    /// Of the last query: a late answer to an earlier one is not taken for the answer to this one.
    id: u16,
}

impl Everywhere {
    pub(crate) fn connect(server: SocketAddr, count: usize) -> Self {
        let socket = |_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(server).unwrap();
            socket.set_read_timeout(Some(ATTEMPT_TIMEOUT)).unwrap();
            socket
        };
        Everywhere {
            sockets: (0..count).map(socket).collect(),
            connections: (0..count).map(|_| connection(server)).collect(),
            id: 0,
        }
    }

    /// Asks through all of them at once; every answer, by UDP first.
    pub(crate) fn ask(&mut self, name: &str, qtype: u16) -> Vec<Message> {
        self.id = self.id.wrapping_add(1);
        let query = numbered(self.id, name, qtype);
        // A refusal of the system to send is a datagram lost: it is sent again below.
        self.sockets.iter().for_each(|socket| drop(socket.send(&query)));
        self.connections.iter_mut().for_each(|connection| send_framed(connection, &query));
        let by_udp = self.sockets.iter().map(|socket| answer_to(socket, &query));
        by_udp.chain(self.connections.iter_mut().map(receive_framed)).collect()
    }
}

fn answer_to(socket: &UdpSocket, query: &[u8]) -> Message {
    let mut buffer = [0; 4096];
    for _ in 0..ATTEMPTS {
        while let Ok(length) = socket.recv(&mut buffer) {
            if buffer[..2] == query[..2] {
                return Message::parse(&buffer[..length]).unwrap();
            }
        }
        let _ = socket.send(query);
    }
    panic!("no answer at {socket:?}");
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
