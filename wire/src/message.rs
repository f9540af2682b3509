//! The fixed header of a message and the numbers that stand in it (RFC 1035 §4.1.1, RFC 6895 §2).

/// Octets of the header.
pub const HEADER_OCTETS: usize = 12;
/// The most octets of a message: what the length before it on TCP can say (RFC 7766 §8).
pub const MAX_MESSAGE_OCTETS: usize = 65_535;

/// The header of a message, as it was sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Header {
    /// Chosen by the client, echoed.
    pub id: u16,
    /// The second word, bit by bit; see [`flag`].
    pub flags: u16,
    /// Entries in the question section.
    pub qdcount: u16,
    /// Records in the answer section.
    pub ancount: u16,
    /// Records in the authority section.
    pub nscount: u16,
    /// Records in the additional section.
    pub arcount: u16,
}

/// Bits of the header's second word.
pub mod flag {
    /// This is a response.
    pub const QR: u16 = 0x8000;
    /// The four bits of the opcode.
    pub const OPCODE: u16 = 0x7800;
    /// Authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion desired.
    pub const RD: u16 = 0x0100;
    /// Recursion available.
    pub const RA: u16 = 0x0080;
    /// Authentic data.
    pub const AD: u16 = 0x0020;
    /// Checking disabled.
    pub const CD: u16 = 0x0010;
}

/// Operation codes (RFC 6895 §2.2).
pub mod opcode {
    /// A standard query.
    pub const QUERY: u8 = 0;
    /// Zone change notification (RFC 1996).
    pub const NOTIFY: u8 = 4;
    /// Dynamic update (RFC 2136).
    pub const UPDATE: u8 = 5;
}

/// Response codes (RFC 6895 §2.3); those above 15 need EDNS.
pub mod rcode {
    /// No error.
    pub const NOERROR: u16 = 0;
    /// The message does not parse.
    pub const FORMERR: u16 = 1;
    /// The server cannot answer now.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// The server does not do what the OPCODE asks for.
    pub const NOTIMP: u16 = 4;
    /// The server will not answer this.
    pub const REFUSED: u16 = 5;
    /// A name that must not exist does; also a DNAME substitution that is too long (RFC 6672 §2.2).
    pub const YXDOMAIN: u16 = 6;
    /// EDNS version not supported (RFC 6891 §9).
    pub const BADVERS: u16 = 16;
    /// Bad or missing server cookie (RFC 7873 §8).
    pub const BADCOOKIE: u16 = 23;
}

/// Classes (RFC 6895 §3.2).
pub mod class {
    /// The Internet.
    pub const IN: u16 = 1;
    /// Chaos, for questions about the server itself.
    pub const CH: u16 = 3;
    /// Any class.
    pub const ANY: u16 = 255;
}

impl Header {
    /// Reads the header; `None` when there are fewer than 12 octets.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Header> {
        let words: &[u8; HEADER_OCTETS] = message.first_chunk()?;
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *words;
        Some(Header {
            id: u16::from_be_bytes([a, b]),
            flags: u16::from_be_bytes([c, d]),
            qdcount: u16::from_be_bytes([e, f]),
            ancount: u16::from_be_bytes([g, h]),
            nscount: u16::from_be_bytes([i, j]),
            arcount: u16::from_be_bytes([k, l]),
        })
    }

    /// Writes the header over the first 12 octets; does nothing when there are fewer.
    pub fn write(&self, message: &mut [u8]) {
        if let Some(octets) = message.first_chunk_mut::<HEADER_OCTETS>() {
            let [a, b] = self.id.to_be_bytes();
            let [c, d] = self.flags.to_be_bytes();
            let [e, f] = self.qdcount.to_be_bytes();
            let [g, h] = self.ancount.to_be_bytes();
            let [i, j] = self.nscount.to_be_bytes();
            let [k, l] = self.arcount.to_be_bytes();
            *octets = [a, b, c, d, e, f, g, h, i, j, k, l];
        }
    }

    /// Whether QR is set: a response, which nobody answers.
    #[must_use]
    pub fn is_response(&self) -> bool {
        self.flags & flag::QR != 0
    }

    /// The opcode, 0–15.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.flags.to_be_bytes()[0] >> 3 & 0x0F
    }
}

/// Reads a big-endian u16 at `at`.
#[must_use]
#[inline]
pub fn read_u16(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|&two| u16::from_be_bytes(two))
}

/// Reads a big-endian u32 at `at`.
#[must_use]
#[inline]
pub fn read_u32(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|&four| u32::from_be_bytes(four))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        let octets: Vec<u8> = (1..=12).collect();
        let header = Header::read(&octets).unwrap();
        let mut out = [0; 12];
        header.write(&mut out);
        assert_eq!(out.to_vec(), octets);
        assert_eq!(Header::read(&octets[..11]), None);
        assert_eq!(Header { flags: 0x2800, ..Header::default() }.opcode(), opcode::UPDATE);
    }
}
