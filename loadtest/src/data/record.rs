//! A record as the generated zone files hold it, in presentation format for the file and as octets for comparing.
//! Only the types that the workloads use; names are lower-case letters, digits and dots, so nothing needs an escape.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// TYPE values (RFC 1035 §3.2.2, RFC 3596, RFC 2782).
pub mod rtype {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Name server.
    pub const NS: u16 = 2;
    /// Canonical name.
    pub const CNAME: u16 = 5;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Mail exchange.
    pub const MX: u16 = 15;
    /// Text.
    pub const TXT: u16 = 16;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// Service location.
    pub const SRV: u16 = 33;
    /// The OPT pseudo-record (RFC 6891).
    pub const OPT: u16 = 41;

    /// The mnemonic of a type in this module.
    #[must_use]
    pub fn mnemonic(rtype: u16) -> &'static str {
        match rtype {
            A => "A",
            NS => "NS",
            CNAME => "CNAME",
            SOA => "SOA",
            MX => "MX",
            TXT => "TXT",
            AAAA => "AAAA",
            SRV => "SRV",
            OPT => "OPT",
            _ => "TYPE?",
        }
    }
}

/// One record of a generated zone. Names are absolute, lower-case, with the final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Owner name.
    pub owner: String,
    /// Seconds.
    pub ttl: u32,
    /// Type and RDATA.
    pub data: Data,
}

/// RDATA of the types that the workloads use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// A name server.
    Ns(String),
    /// The canonical name.
    Cname(String),
    /// Preference and exchange.
    Mx(u16, String),
    /// One character string of at most 255 octets, without quotes or backslashes.
    Txt(String),
    /// Priority, weight, port, target.
    Srv(u16, u16, u16, String),
    /// MNAME, RNAME, serial, refresh, retry, expire, minimum.
    Soa(String, String, [u32; 5]),
}

impl Data {
    /// The TYPE value.
    #[must_use]
    pub fn rtype(&self) -> u16 {
        match self {
            Data::A(_) => rtype::A,
            Data::Aaaa(_) => rtype::AAAA,
            Data::Ns(_) => rtype::NS,
            Data::Cname(_) => rtype::CNAME,
            Data::Mx(..) => rtype::MX,
            Data::Txt(_) => rtype::TXT,
            Data::Srv(..) => rtype::SRV,
            Data::Soa(..) => rtype::SOA,
        }
    }

    /// RDATA in wire format, names uncompressed.
    #[must_use]
    pub fn wire(&self) -> Vec<u8> {
        match self {
            Data::A(address) => address.octets().to_vec(),
            Data::Aaaa(address) => address.octets().to_vec(),
            Data::Ns(name) | Data::Cname(name) => name_wire(name),
            Data::Mx(preference, exchange) => [&preference.to_be_bytes()[..], &name_wire(exchange)].concat(),
            Data::Txt(text) => {
                let len = u8::try_from(text.len()).expect("generated texts are short");
                [&[len], text.as_bytes()].concat()
            }
            Data::Srv(priority, weight, port, target) => {
                [&priority.to_be_bytes()[..], &weight.to_be_bytes(), &port.to_be_bytes(), &name_wire(target)]
                    .concat()
            }
            Data::Soa(mname, rname, numbers) => {
                let mut wire = name_wire(mname);
                wire.extend(name_wire(rname));
                for number in numbers {
                    wire.extend(number.to_be_bytes());
                }
                wire
            }
        }
    }
}

impl fmt::Display for Record {
    /// The line of a zone file (RFC 1035 §5.1), without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} IN {} {}", self.owner, self.ttl, rtype::mnemonic(self.data.rtype()), self.data)
    }
}

impl fmt::Display for Data {
    /// RDATA in presentation format.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::A(address) => write!(f, "{address}"),
            Data::Aaaa(address) => write!(f, "{address}"),
            Data::Ns(name) | Data::Cname(name) => write!(f, "{name}"),
            Data::Mx(preference, exchange) => write!(f, "{preference} {exchange}"),
            Data::Txt(text) => write!(f, "\"{text}\""),
            Data::Srv(priority, weight, port, target) => write!(f, "{priority} {weight} {port} {target}"),
            Data::Soa(mname, rname, [serial, refresh, retry, expire, minimum]) => {
                write!(f, "{mname} {rname} {serial} {refresh} {retry} {expire} {minimum}")
            }
        }
    }
}

/// An absolute name in wire format.
///
/// # Panics
/// On a label longer than 63 octets or an empty one: the generator makes none.
#[must_use]
pub fn name_wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::with_capacity(name.len() + 1);
    for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..64).contains(len));
        wire.push(len.expect("generated labels have 1 to 63 octets"));
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_line_and_octets() {
        let record =
            Record { owner: "a.test.".to_owned(), ttl: 60, data: Data::Mx(10, "m.test.".to_owned()) };
        assert_eq!(record.to_string(), "a.test. 60 IN MX 10 m.test.");
        assert_eq!(record.data.wire(), b"\x00\x0a\x01m\x04test\x00");
        assert_eq!(name_wire("."), [0]);
    }
}
