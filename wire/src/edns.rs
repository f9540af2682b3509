//! EDNS: the OPT pseudo-record of a query and the options we read in it (RFC 6891), and what of it goes into
//! responses.

use crate::message::read_u16;
use crate::query::PlainEdns;

/// Option codes (IANA "DNS EDNS0 Option Codes").
pub mod option {
    /// Name server identifier (RFC 5001).
    pub const NSID: u16 = 3;
    /// DNS cookie (RFC 7873).
    pub const COOKIE: u16 = 10;
    /// TCP keepalive (RFC 7828).
    pub const TCP_KEEPALIVE: u16 = 11;
    /// Extended DNS error (RFC 8914).
    pub const EXTENDED_ERROR: u16 = 15;
}

/// Info codes of Extended DNS Errors that we send (RFC 8914 §4).
pub mod ede {
    /// 14: the server has no data yet.
    pub const NOT_READY: u16 = 14;
    /// 18: the client may not do this here.
    pub const PROHIBITED: u16 = 18;
    /// 20: not authoritative for the name.
    pub const NOT_AUTHORITATIVE: u16 = 20;
}

/// Octets of an OPT record without options: root owner, type, class, TTL, RDLENGTH.
pub const OPT_OCTETS: usize = 11;
/// The most octets of a cookie: 8 of the client, 32 of the server (RFC 7873 §4).
pub const MAX_COOKIE_OCTETS: usize = 40;
/// Octets of the client part of a cookie.
pub const CLIENT_COOKIE_OCTETS: usize = 8;

/// A cookie as a client sent it: 8 octets of its own, then none or 8–32 of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cookie {
    octets: [u8; MAX_COOKIE_OCTETS],
    len: u8,
}

impl Cookie {
    /// `None` for a length that RFC 7873 §5.2.2 calls malformed: 0–7, 9–15 or above 40.
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Cookie> {
        if !matches!(octets.len(), 8 | 16..=40) {
            return None;
        }
        let mut cookie = Cookie { octets: [0; MAX_COOKIE_OCTETS], len: u8::try_from(octets.len()).ok()? };
        cookie.octets.get_mut(..octets.len())?.copy_from_slice(octets);
        Some(cookie)
    }

    /// The client's part.
    #[must_use]
    pub fn client(&self) -> [u8; CLIENT_COOKIE_OCTETS] {
        self.octets.first_chunk().copied().unwrap_or_default()
    }

    /// The server's part; empty when the client has none yet.
    #[must_use]
    pub fn server(&self) -> &[u8] {
        self.octets.get(CLIENT_COOKIE_OCTETS..usize::from(self.len)).unwrap_or_default()
    }
}

/// What the OPT record of a query says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Edns {
    /// The largest UDP payload that the client takes; below 512 means 512 (RFC 6891 §6.2.3).
    pub udp_payload_octets: u16,
    /// The version; we speak 0.
    pub version: u8,
    /// DNSSEC OK (RFC 3225).
    pub dnssec_ok: bool,
    /// The first COOKIE option; the rest are ignored (RFC 7873 §5.2).
    pub cookie: Option<Cookie>,
    /// NSID was asked for.
    pub nsid: bool,
    /// The TCP keepalive option was there.
    pub keepalive: bool,
}

impl From<PlainEdns> for Edns {
    fn from(plain: PlainEdns) -> Self {
        let PlainEdns { udp_payload_octets, dnssec_ok } = plain;
        Edns { udp_payload_octets, version: 0, dnssec_ok, cookie: None, nsid: false, keepalive: false }
    }
}

/// What is wrong with an OPT record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EdnsError {
    /// An option runs past the end of the record.
    Option,
    /// A COOKIE option of a length that cannot be (RFC 7873 §5.2.2).
    Cookie,
}

impl Edns {
    /// What the class and the TTL of an OPT record say.
    #[must_use]
    pub fn new(class: u16, ttl: u32) -> Edns {
        let [_, version, flags, _] = ttl.to_be_bytes();
        let dnssec_ok = flags & 0x80 != 0;
        Edns { udp_payload_octets: class, version, dnssec_ok, cookie: None, nsid: false, keepalive: false }
    }

    /// The same record with no options.
    #[must_use]
    pub fn without_options(self) -> Edns {
        Edns { cookie: None, nsid: false, keepalive: false, ..self }
    }

    /// Takes what the options say, the RDATA of the record; unknown ones are ignored (RFC 6891 §6.1.2). Those of a version
    /// that we do not know may mean anything, and are not read (§6.1.3).
    ///
    /// # Errors
    /// [`EdnsError`]; each makes the query FORMERR.
    pub fn read_options(&mut self, rdata: &[u8]) -> Result<(), EdnsError> {
        if self.version != 0 {
            return Ok(());
        }
        let mut at = 0usize;
        while at < rdata.len() {
            let code = read_u16(rdata, at).ok_or(EdnsError::Option)?;
            let len = read_u16(rdata, at.saturating_add(2)).ok_or(EdnsError::Option)?;
            let start = at.saturating_add(4);
            let end = start.saturating_add(usize::from(len));
            let value = rdata.get(start..end).ok_or(EdnsError::Option)?;
            match code {
                option::COOKIE if self.cookie.is_none() => {
                    self.cookie = Some(Cookie::read(value).ok_or(EdnsError::Cookie)?);
                }
                option::NSID => self.nsid = true,
                option::TCP_KEEPALIVE => self.keepalive = true,
                _ => {}
            }
            at = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_have_the_lengths_of_the_rfc() {
        for len in 0..64usize {
            let fits = len == 8 || (16..=40).contains(&len);
            assert_eq!(Cookie::read(&vec![7; len]).is_some(), fits, "{len}");
        }
        let cookie = Cookie::read(&(0..24).collect::<Vec<u8>>()).unwrap();
        assert_eq!(cookie.client(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(cookie.server(), (8..24).collect::<Vec<u8>>());
    }

    #[test]
    fn options_are_walked_to_the_end() {
        let rdata = [0, 3, 0, 0, 0xFF, 0xFF, 0, 1, 9, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 10, 0, 1, 0];
        let read = |ttl, rdata: &[u8]| {
            let mut edns = Edns::new(1232, ttl);
            edns.read_options(rdata).map(|()| edns)
        };
        let edns = read(0x0000_8000, &rdata).unwrap();
        assert!(edns.nsid && edns.dnssec_ok);
        assert_eq!(edns.cookie.unwrap().client(), [1, 2, 3, 4, 5, 6, 7, 8]);
        for cut in [1, 3, 7, 10, 15] {
            assert_eq!(read(0, &rdata[..cut]), Err(EdnsError::Option), "{cut}");
        }
        assert_eq!(read(0, &[0, 10, 0, 3, 1, 2, 3]), Err(EdnsError::Cookie));
        // Version 1 is answered BADVERS, whatever follows.
        assert_eq!(read(0x0001_0000, &[1]).unwrap().version, 1);
    }
}
