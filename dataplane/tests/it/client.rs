//! Queries with and without cookies, and what can be read from an answer.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use godwit_wire::message::Header;
use godwit_wire::name::Name;
use godwit_wire::query::Query;

use super::reflector::framed;

/// TYPE A.
pub(crate) const A: u16 = 1;

/// A query; with EDNS when it has a cookie.
pub(crate) fn query(name: &str, rtype: u16, cookie: Option<&[u8]>) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(cookie.is_some())];
    message.extend_from_slice(name.parse::<Name>().unwrap().as_wire());
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    if let Some(cookie) = cookie {
        let len = u8::try_from(cookie.len()).unwrap();
        message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, len + 4, 0, 10, 0, len]);
        message.extend_from_slice(cookie);
    }
    message
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer(pub(crate) Vec<u8>);

impl Answer {
    pub(crate) fn header(&self) -> Header {
        Header::read(&self.0).unwrap()
    }

    /// With its upper bits, which an OPT has.
    pub(crate) fn rcode(&self) -> u16 {
        let cookie = self.cookie().is_some();
        // The OPT record ends with its one option of 24 octets: its own 11 octets begin 28 before.
        let upper = if cookie { self.0[self.0.len() - 28 - 11 + 5] } else { 0 };
        u16::from(upper) << 4 | self.header().flags & 0xF
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.header().flags & 0x0200 != 0
    }

    /// All 24 octets of the cookie: the client's and the server's.
    pub(crate) fn cookie(&self) -> Option<Vec<u8>> {
        let query = Query::parse(&self.0, self.header()).unwrap();
        let cookie = query.edns?.cookie?;
        assert_eq!(cookie.server().len(), 16);
        Some([&cookie.client(), cookie.server()].concat())
    }
}

/// A client at an address of its own.
pub(crate) struct Client(UdpSocket);

impl Client {
    pub(crate) fn at(address: &str, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((address.parse::<IpAddr>().unwrap(), 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client(socket)
    }

    pub(crate) fn send(&self, message: &[u8]) {
        self.0.send(message).unwrap();
    }

    /// Waits for an answer.
    pub(crate) fn receive(&self) -> Answer {
        let mut buffer = [0; 4096];
        let len = self.0.recv(&mut buffer).expect("an answer");
        Answer(buffer[..len].to_vec())
    }

    /// What has come by now.
    pub(crate) fn received(&self) -> Vec<Answer> {
        self.0.set_nonblocking(true).unwrap();
        let mut answers = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(len) = self.0.recv(&mut buffer) {
            answers.push(Answer(buffer[..len].to_vec()));
        }
        self.0.set_nonblocking(false).unwrap();
        answers
    }

    pub(crate) fn ask(&self, message: &[u8]) -> Answer {
        self.send(message);
        self.receive()
    }
}

/// Asks over TCP.
pub(crate) fn ask_tcp(server: SocketAddr, message: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&framed(message)).unwrap();
    Answer(read_answer(&mut stream).unwrap())
}

/// The next message of a connection, without its length.
pub(crate) fn read_answer(client: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    client.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    client.read_exact(&mut answer)?;
    Ok(answer)
}
