//! Record types and RRsets as values: what change sets carry, what zone files and the API produce, what the
//! store is built from. The query path works on images instead.

use std::fmt;
use std::str::FromStr;

use domain::base::iana;

use crate::rdata;

/// A resource record type (RFC 1035 §3.2.2). Any number is one: unknown types pass through opaque (RFC 3597).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Rtype(pub u16);

macro_rules! rtypes {
    ($($name:ident = $value:literal),* $(,)?) => {
        #[allow(missing_docs, reason = "the names are those of the IANA registry")]
        impl Rtype { $(pub const $name: Rtype = Rtype($value);)* }
    };
}

rtypes! {
    A = 1, NS = 2, MD = 3, MF = 4, CNAME = 5, SOA = 6, MB = 7, MG = 8, MR = 9, NULL = 10, WKS = 11, PTR = 12,
    HINFO = 13, MINFO = 14, MX = 15, TXT = 16, RP = 17, AFSDB = 18, RT = 21, SIG = 24, KEY = 25, PX = 26, AAAA = 28,
    LOC = 29, NXT = 30, SRV = 33, NAPTR = 35, KX = 36, CERT = 37, A6 = 38, DNAME = 39, OPT = 41, APL = 42, DS = 43,
    SSHFP = 44, IPSECKEY = 45, RRSIG = 46, NSEC = 47, DNSKEY = 48, DHCID = 49, NSEC3 = 50, NSEC3PARAM = 51,
    TLSA = 52, SMIMEA = 53, HIP = 55, TALINK = 58, CDS = 59, CDNSKEY = 60, OPENPGPKEY = 61, CSYNC = 62, ZONEMD = 63,
    SVCB = 64, HTTPS = 65, DSYNC = 66, SPF = 99, NID = 104, L32 = 105, L64 = 106, LP = 107, EUI48 = 108, EUI64 = 109,
    TKEY = 249, TSIG = 250, IXFR = 251, AXFR = 252, MAILB = 253, MAILA = 254, ANY = 255, URI = 256, CAA = 257,
}

impl Rtype {
    /// Whether the number may be the type of a record in a zone: not 0, not OPT, and none of those that exist
    /// in queries or messages only (128–255, RFC 6895 §3.1).
    #[must_use]
    pub fn is_data(self) -> bool {
        !matches!(self.0, 0 | 41 | 128..=255)
    }
}

/// The mnemonic, or `TYPE65534` (RFC 3597 §5).
impl fmt::Display for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // Registered after, or left out of, the list that `domain` has.
            66 => f.write_str("DSYNC"),
            _ => iana::Rtype::from_int(self.0).fmt(f),
        }
    }
}

/// The text is neither a mnemonic nor `TYPEnnn`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a record type")]
pub struct RtypeError;

impl FromStr for Rtype {
    type Err = RtypeError;

    /// Reads a mnemonic or `TYPEnnn`, in any case.
    fn from_str(text: &str) -> Result<Self, RtypeError> {
        if text.eq_ignore_ascii_case("DSYNC") {
            return Ok(Rtype::DSYNC);
        }
        iana::Rtype::from_str(text).map(|rtype| Rtype(rtype.to_int())).map_err(|_| RtypeError)
    }
}

/// The largest TTL (RFC 2181 §8).
pub const MAX_TTL: u32 = 0x7FFF_FFFF;

/// The records of one owner and type, with the signatures that cover them beside them.
///
/// Shape: `rdata` is sorted canonically (RFC 4034 §6.3) without duplicates, each at most 65,535 octets, names in it
/// uncompressed; every RRSIG's TTL is that of the set (RFC 4034 §3). Build it with [`Rrset::new`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rrset {
    /// The type of the records; never RRSIG, which stands in `rrsigs` of the set that it covers.
    pub rtype: Rtype,
    /// Seconds, 0 to [`MAX_TTL`].
    pub ttl: u32,
    /// RDATA of each record; never empty.
    pub rdata: Vec<Box<[u8]>>,
    /// RDATA of each RRSIG that covers this set, sorted.
    pub rrsigs: Vec<Box<[u8]>>,
}

impl Rrset {
    /// Puts RDATA into canonical order and drops repeated records (RFC 2181 §5).
    #[must_use]
    pub fn new(rtype: Rtype, ttl: u32, mut rdata: Vec<Box<[u8]>>, mut rrsigs: Vec<Box<[u8]>>) -> Self {
        rdata::sort_canonical(rtype, &mut rdata);
        rdata::sort_canonical(Rtype::RRSIG, &mut rrsigs);
        Rrset { rtype, ttl, rdata, rrsigs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_and_print() {
        for (text, number) in [
            ("A", 1),
            ("TYPE65534", 65534),
            ("https", 65),
            ("TYPE1", 1),
            ("SMIMEA", 53),
            ("DSYNC", 66),
            ("LOC", 29),
        ] {
            assert_eq!(text.parse::<Rtype>(), Ok(Rtype(number)), "{text}");
        }
        assert_eq!(Rtype(65534).to_string(), "TYPE65534");
        assert_eq!(Rtype::DSYNC.to_string(), "DSYNC");
        assert!("NOPE".parse::<Rtype>().is_err());
    }
}
