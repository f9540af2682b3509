//! Amplification over UDP: octets of the answer over octets of the query, with the question that an attacker would choose.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::zone;
use crate::data::record::name_wire;
use crate::interrupt;

/// How long an answer may take.
const WAIT: Duration = Duration::from_millis(250);
/// Tries for one question.
const TRIES: usize = 3;
/// IPv4 and UDP headers of a datagram.
const HEADERS: usize = 20 + 8;
/// What of a datagram fits a packet behind its own IP header, on Ethernet.
const FRAGMENT: usize = 1_480;
/// The UDP payload size that the attacker claims to take (RFC 6891 §6.2.5).
const CLAIMED: u16 = 4_096;

const A: u16 = 1;
const MX: u16 = 15;
const TXT: u16 = 16;
const DNSKEY: u16 = 48;
const ANY: u16 = 255;
/// Types tried at every name: A, NS, CNAME, SOA, MX, TXT, AAAA, SRV, DS, RRSIG, DNSKEY, NSEC3PARAM, ANY, CAA.
const TYPES: [u16; 14] = [A, 2, 5, 6, MX, TXT, 28, 33, 43, 46, DNSKEY, 51, ANY, 257];

/// What the OPT record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edns {
    None,
    Plain,
    /// With the DO bit (RFC 3225).
    Dnssec,
}

/// The rows: title, name below the apex, type, EDNS. A row without a name looks through all names and types.
const ROWS: [(&str, Option<&str>, u16, Edns); 14] = [
    ("worst name and type, no EDNS", None, 0, Edns::None),
    ("worst name and type, EDNS 4096", None, 0, Edns::Plain),
    ("worst name and type, EDNS 4096, DO", None, 0, Edns::Dnssec),
    ("ANY at the apex", Some(""), ANY, Edns::Plain),
    ("ANY at the apex, DO", Some(""), ANY, Edns::Dnssec),
    ("A, signed", Some("www."), A, Edns::Dnssec),
    ("NXDOMAIN, NSEC3", Some("nothing-here."), A, Edns::Dnssec),
    ("NODATA, NSEC3", Some("www."), MX, Edns::Dnssec),
    ("wildcard, signed, NSEC3", Some("x.wild."), TXT, Edns::Dnssec),
    ("referral, 13 name servers with glue", Some("below.cut."), A, Edns::Plain),
    ("referral with DS, signed", Some("secure."), A, Edns::Dnssec),
    ("TXT of 880 octets", Some("text."), TXT, Edns::Plain),
    ("TXT of 3,000 octets", Some("long."), TXT, Edns::Plain),
    ("DNSKEY, signed", Some(""), DNSKEY, Edns::Dnssec),
];

/// The titles of the rows, in their order.
#[must_use]
pub fn titles() -> Vec<&'static str> {
    ROWS.iter().map(|(title, ..)| *title).collect()
}

/// One answer against its query.
#[derive(Clone, Debug, Serialize)]
pub struct Factor {
    /// DNS message over DNS message.
    pub messages: f64,
    /// The same with the headers of IPv4 and UDP, fragments counted.
    pub packets: f64,
    /// Octets of query and answer.
    pub octets: [usize; 2],
    /// What was asked.
    pub asked: String,
}

/// Asks every row; a row that gets no answer at all amplifies nothing.
///
/// # Errors
/// The server gave no answer to anything.
pub fn run(server: SocketAddr) -> Result<BTreeMap<&'static str, Factor>> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("opening a UDP socket")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(WAIT))?;
    let mut asker = Asker { socket, id: 0, buffer: vec![0; 65_535] };
    let mut rows = BTreeMap::new();
    for (title, name, rtype, edns) in ROWS {
        interrupt::check()?;
        let factor = match name {
            Some(name) => asker.factor(&format!("{name}{}", zone::APEX), rtype, edns)?,
            None => asker.worst(edns)?,
        };
        if let Some(factor) = factor {
            rows.insert(title, factor);
        }
    }
    anyhow::ensure!(!rows.is_empty(), "no answer to any question for amplification");
    Ok(rows)
}

struct Asker {
    socket: UdpSocket,
    id: u16,
    buffer: Vec<u8>,
}

impl Asker {
    fn worst(&mut self, edns: Edns) -> Result<Option<Factor>> {
        let mut worst: Option<Factor> = None;
        for name in zone::names() {
            interrupt::check()?;
            for rtype in TYPES {
                let found = self.factor(&name, rtype, edns)?;
                worst =
                    worst.into_iter().chain(found).max_by(|one, other| one.packets.total_cmp(&other.packets));
            }
        }
        Ok(worst)
    }

    fn factor(&mut self, name: &str, rtype: u16, edns: Edns) -> Result<Option<Factor>> {
        for _ in 0..TRIES {
            self.id = self.id.wrapping_add(1);
            let query = query(self.id, name, rtype, edns);
            self.socket.send(&query).context("asking")?;
            let end = Instant::now() + WAIT;
            while Instant::now() < end {
                match self.socket.recv(&mut self.buffer) {
                    Ok(len) if len >= 12 && self.buffer[..2] == query[..2] => {
                        return Ok(Some(Factor {
                            messages: len as f64 / query.len() as f64,
                            packets: on_the_line(len) as f64 / on_the_line(query.len()) as f64,
                            octets: [query.len(), len],
                            asked: format!("{name} TYPE{rtype}"),
                        }));
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => interrupt::check()?,
                    Err(_) => break,
                }
            }
        }
        Ok(None)
    }
}

/// Octets of a datagram's packets, from the IP header on.
fn on_the_line(message: usize) -> usize {
    let fragments = (message + 8).div_ceil(FRAGMENT);
    message + HEADERS + (fragments - 1) * 20
}

fn query(id: u16, name: &str, rtype: u16, edns: Edns) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns != Edns::None)]);
    query.extend(name_wire(name));
    query.extend([rtype.to_be_bytes(), 1_u16.to_be_bytes()].concat());
    if edns != Edns::None {
        let dnssec = if edns == Edns::Dnssec { 0x80 } else { 0 };
        query.extend([0, 0, 41]);
        query.extend(CLAIMED.to_be_bytes());
        query.extend([0, 0, dnssec, 0, 0, 0]);
    }
    query
}

/// A burst's worth of messages with the questions that amplify most where a server gives them whole: what a reflected
/// attack is made of.
#[must_use]
pub fn attack(kind: &[(&str, u16)], count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| {
            let (name, rtype) = kind[number % kind.len()];
            query(number as u16, &format!("{name}{}", zone::APEX), rtype, Edns::Dnssec)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_fragments_count() {
        assert_eq!(on_the_line(40), 68);
        assert_eq!(on_the_line(1_472), 1_500);
        assert_eq!(on_the_line(1_473), 1_521);
    }

    #[test]
    fn queries_are_readable() {
        for edns in [Edns::None, Edns::Plain, Edns::Dnssec] {
            let message = crate::message::read(&query(7, "www.amp.test.", A, edns)).unwrap();
            assert_eq!(message.additional.len(), usize::from(edns != Edns::None));
        }
    }
}
