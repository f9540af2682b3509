//! What RDATA of each type looks like inside: one table for every type that holds a name or has a fixed shape,
//! opaque for the rest (RFC 3597).
//!
//! From the table come validation, the lower-casing of the canonical form (RFC 4034 §6.2), and where names stand, for
//! those who compress them. Presentation format is not here.

use std::borrow::Cow;

use crate::name::{self, NameError};
use crate::presentation;
use crate::rr::Rtype;

/// The most octets of one RDATA: what its length field can say.
pub const MAX_RDATA_OCTETS: usize = 65_535;

/// One piece of RDATA.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Field {
    /// So many octets.
    Fixed(u8),
    /// A name that may be compressed in messages: only in the types of RFC 1035 (RFC 3597 §4).
    CompressibleName,
    /// A name that is never compressed, and lower-cased in the canonical form.
    Name,
    /// A name that is never compressed and keeps its case even in the canonical form.
    OpaqueName,
    /// One octet of length, then so many octets (RFC 1035 §3.3).
    CharacterString,
    /// One or more character strings up to the end.
    CharacterStrings,
    /// At least so many octets up to the end.
    Rest(u8),
}

/// Why RDATA does not fit its type.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RdataError {
    /// It ends inside a field.
    #[error("RDATA ends too early, at octet {0}")]
    Short(usize),
    /// Octets are left after its last field.
    #[error("RDATA has octets after its end, at octet {0}")]
    Trailing(usize),
    /// A name in it is not one.
    #[error("bad name in RDATA at octet {0}: {1}")]
    Name(usize, NameError),
    /// What its last field holds is not what readers of the type take.
    #[error("RDATA of {0} holds {1}")]
    Content(Rtype, &'static str),
    /// More than 65,535 octets.
    #[error("RDATA longer than 65535 octets")]
    TooLong,
    /// The type cannot be the type of a record.
    #[error("type {0} cannot stand in a zone")]
    NotData(u16),
}

/// The fields of RDATA of a type, in order. Types not listed are opaque.
#[must_use]
pub fn fields(rtype: Rtype) -> &'static [Field] {
    use Field::{CharacterString, CharacterStrings, CompressibleName, Fixed, Name, OpaqueName, Rest};
    match rtype {
        Rtype::A => &[Fixed(4)],
        Rtype::AAAA => &[Fixed(16)],
        Rtype::NS | Rtype::MD | Rtype::MF | Rtype::CNAME | Rtype::MB | Rtype::MG | Rtype::MR | Rtype::PTR => {
            &[CompressibleName]
        }
        Rtype::SOA => &[CompressibleName, CompressibleName, Fixed(20)],
        Rtype::MINFO => &[CompressibleName, CompressibleName],
        Rtype::MX => &[Fixed(2), CompressibleName],
        Rtype::RP => &[Name, Name],
        Rtype::AFSDB | Rtype::RT | Rtype::KX => &[Fixed(2), Name],
        Rtype::PX => &[Fixed(2), Name, Name],
        Rtype::SRV => &[Fixed(6), Name],
        Rtype::NAPTR => &[Fixed(4), CharacterString, CharacterString, CharacterString, Name],
        Rtype::DNAME => &[Name],
        Rtype::NXT => &[Name, Rest(0)],
        Rtype::SIG | Rtype::RRSIG => &[Fixed(18), Name, Rest(0)],
        // RFC 6840 §5.1: the names of NSEC keep their case.
        Rtype::NSEC => &[OpaqueName, Rest(0)],
        Rtype::SVCB | Rtype::HTTPS => &[Fixed(2), OpaqueName, Rest(0)],
        Rtype::LP => &[Fixed(2), OpaqueName],
        Rtype::TALINK => &[OpaqueName, OpaqueName],
        Rtype::HINFO => &[CharacterString, CharacterString],
        Rtype::TXT | Rtype::SPF => &[CharacterStrings],
        Rtype::CAA => &[Fixed(1), CharacterString, Rest(0)],
        Rtype::DS | Rtype::CDS => &[Rest(4)],
        Rtype::DNSKEY | Rtype::CDNSKEY | Rtype::KEY => &[Rest(4)],
        Rtype::NSEC3 => &[Fixed(4), CharacterString, CharacterString, Rest(0)],
        Rtype::NSEC3PARAM => &[Fixed(4), CharacterString],
        Rtype::SSHFP => &[Rest(2)],
        Rtype::TLSA | Rtype::SMIMEA => &[Rest(3)],
        Rtype::URI => &[Rest(5)],
        Rtype::LOC => &[Fixed(16)],
        Rtype::EUI48 => &[Fixed(6)],
        Rtype::EUI64 => &[Fixed(8)],
        Rtype::L32 => &[Fixed(6)],
        Rtype::L64 | Rtype::NID => &[Fixed(10)],
        Rtype::CERT => &[Rest(5)],
        Rtype::CSYNC => &[Rest(6)],
        Rtype::ZONEMD => &[Rest(6)],
        _ => &[Rest(0)],
    }
}

/// Where a field of RDATA stands: `octets[start..end]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// What it is.
    pub field: Field,
    /// Its first octet.
    pub start: usize,
    /// One past its last octet.
    pub end: usize,
}

/// Walks RDATA field by field; stops after the first error.
#[derive(Clone, Debug)]
pub struct Spans<'a> {
    rdata: &'a [u8],
    fields: std::slice::Iter<'static, Field>,
    at: usize,
    failed: bool,
}

/// The fields of `rdata` with their places. Names are checked to be uncompressed names.
#[must_use]
pub fn spans(rtype: Rtype, rdata: &[u8]) -> Spans<'_> {
    Spans { rdata, fields: fields(rtype).iter(), at: 0, failed: false }
}

impl Iterator for Spans<'_> {
    type Item = Result<Span, RdataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = match self.fields.next() {
            Some(&field) => self.step(field),
            None if self.at < self.rdata.len() => Err(RdataError::Trailing(self.at)),
            None => return None,
        };
        match item {
            Ok(span) => self.at = span.end,
            Err(_) => self.failed = true,
        }
        Some(item)
    }
}

impl Spans<'_> {
    fn step(&self, field: Field) -> Result<Span, RdataError> {
        let start = self.at;
        let rest = self.rdata.get(start..).unwrap_or_default();
        let len = match field {
            Field::Fixed(len) => usize::from(len),
            Field::CompressibleName | Field::Name | Field::OpaqueName => {
                name::wire_len(rest).map_err(|error| RdataError::Name(start, error))?
            }
            Field::CharacterString => character_string_len(rest).ok_or(RdataError::Short(start))?,
            Field::CharacterStrings => character_strings_len(rest).ok_or(RdataError::Short(start))?,
            Field::Rest(least) if rest.len() < usize::from(least) => return Err(RdataError::Short(start)),
            Field::Rest(_) => rest.len(),
        };
        if len > rest.len() {
            return Err(RdataError::Short(start));
        }
        Ok(Span { field, start, end: start.saturating_add(len) })
    }
}

fn character_string_len(octets: &[u8]) -> Option<usize> {
    let len = usize::from(*octets.first()?).saturating_add(1);
    (len <= octets.len()).then_some(len)
}

fn character_strings_len(octets: &[u8]) -> Option<usize> {
    let mut rest = octets;
    loop {
        rest = rest.get(character_string_len(rest)?..)?;
        if rest.is_empty() {
            return Some(octets.len());
        }
    }
}

/// Checks that `rdata` is well formed for its type and may stand in a zone.
///
/// # Errors
/// [`RdataError`] with the place.
pub fn validate(rtype: Rtype, rdata: &[u8]) -> Result<(), RdataError> {
    if !rtype.is_data() {
        return Err(RdataError::NotData(rtype.0));
    }
    if rdata.len() > MAX_RDATA_OCTETS {
        return Err(RdataError::TooLong);
    }
    spans(rtype, rdata).try_for_each(|span| span.map(|_| ()))
}

/// As [`validate`], and no reader refuses a whole message over it: of such a type, what its text cannot say. For what is written anew:
/// what is kept already, and what other versions send, goes on to be served as it is.
///
/// # Errors
/// [`RdataError`] with the place, or with what is wrong inside.
pub fn validate_new(rtype: Rtype, rdata: &[u8]) -> Result<(), RdataError> {
    validate(rtype, rdata)?;
    let wrong = match rtype {
        Rtype::SVCB | Rtype::HTTPS => {
            "service parameters that are cut off, or not in the order of their keys, or not of their form (RFC 9460)"
        }
        Rtype::NSEC | Rtype::NSEC3 | Rtype::CSYNC => "a type bitmap that is none (RFC 4034 section 4.1.2)",
        Rtype::APL => "an address prefix that is none (RFC 3123 section 4)",
        Rtype::HIP => "no host identity that fits into it (RFC 8005 section 5)",
        Rtype::IPSECKEY => "no gateway of its gateway type (RFC 4025 section 2.3)",
        Rtype::DS | Rtype::CDS | Rtype::TLSA | Rtype::SMIMEA | Rtype::SSHFP | Rtype::OPENPGPKEY => {
            "nothing behind its first fields"
        }
        // It has no text.
        Rtype::WKS if rdata.len() < 5 => {
            return Err(RdataError::Content(rtype, "less than its first fields"));
        }
        _ => return Ok(()),
    };
    if presentation::has_text(rtype, rdata) { Ok(()) } else { Err(RdataError::Content(rtype, wrong)) }
}

/// The canonical form (RFC 4034 §6.2): names of the listed types in lower case. Borrowed where nothing changes.
#[must_use]
pub fn canonical(rtype: Rtype, rdata: &[u8]) -> Cow<'_, [u8]> {
    let mut octets = Cow::Borrowed(rdata);
    let has_names = fields(rtype).iter().any(|field| matches!(field, Field::Name | Field::CompressibleName));
    // Nearly all names are in lower case already: seen at once, without looking for where they begin and end.
    if !has_names || !rdata.iter().any(u8::is_ascii_uppercase) {
        return octets;
    }
    for span in spans(rtype, rdata).map_while(Result::ok) {
        if !matches!(span.field, Field::Name | Field::CompressibleName) {
            continue;
        }
        let upper =
            rdata.get(span.start..span.end).is_some_and(|name| name.iter().any(u8::is_ascii_uppercase));
        if upper && let Some(name) = octets.to_mut().get_mut(span.start..span.end) {
            name.make_ascii_lowercase();
        }
    }
    octets
}

/// Canonical order of the records of a set (RFC 4034 §6.3), repeated records dropped.
pub fn sort_canonical(rtype: Rtype, rdata: &mut Vec<Box<[u8]>>) {
    if rdata.len() > 1 {
        rdata.sort_by(|a, b| canonical(rtype, a).cmp(&canonical(rtype, b)));
        rdata.dedup_by(|a, b| canonical(rtype, a) == canonical(rtype, b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_checked() {
        for (rtype, rdata, expected) in [
            (Rtype::A, &[1, 2, 3, 4][..], Ok(())),
            (Rtype::A, &[1, 2, 3], Err(RdataError::Short(0))),
            (Rtype::A, &[1, 2, 3, 4, 5], Err(RdataError::Trailing(4))),
            (Rtype::MX, &[0, 10, 1, b'a', 0], Ok(())),
            (Rtype::MX, &[0, 10, 0xC0, 0], Err(RdataError::Name(2, NameError::BadLabel))),
            (Rtype::TXT, &[], Err(RdataError::Short(0))),
            (Rtype::TXT, &[0], Ok(())),
            (Rtype::TXT, &[1, b'a', 2, b'b'], Err(RdataError::Short(0))),
            (Rtype(65534), &[], Ok(())),
            (Rtype::ANY, &[], Err(RdataError::NotData(255))),
            (Rtype::OPT, &[], Err(RdataError::NotData(41))),
        ] {
            assert_eq!(validate(rtype, rdata), expected, "{rtype} {rdata:?}");
        }
        assert_eq!(validate(Rtype(65280), &vec![0; 65_536]), Err(RdataError::TooLong));
    }

    #[test]
    fn canonical_form_lowers_names_only() {
        assert_eq!(&*canonical(Rtype::MX, &[b'A', b'A', 1, b'A', 0]), &[b'A', b'A', 1, b'a', 0]);
        assert_eq!(&*canonical(Rtype::NSEC, &[1, b'A', 0, 0]), &[1, b'A', 0, 0]);
        assert!(matches!(canonical(Rtype::TXT, &[1, b'A']), Cow::Borrowed(_)));
    }

    #[test]
    fn sets_are_sorted_without_repeats() {
        let mut set: Vec<Box<[u8]>> = vec![[1, b'b', 0].into(), [1, b'A', 0].into(), [1, b'a', 0].into()];
        sort_canonical(Rtype::NS, &mut set);
        assert_eq!(set.len(), 2);
        assert_eq!(&*set[1], &[1, b'b', 0]);
    }

    #[test]
    fn what_readers_refuse_a_message_over_is_refused() {
        let svcb = |parameters: &[u8]| [&[0, 1, 0], parameters].concat();
        for (rtype, rdata, is_right) in [
            (Rtype::SVCB, svcb(&[]), true),
            (Rtype::SVCB, svcb(&[0, 1, 0, 3, 2, b'h', b'2', 0, 3, 0, 2, 1, 187]), true),
            (Rtype::HTTPS, svcb(&[0, 3, 0, 2, 1, 187, 0, 1, 0, 3, 2, b'h', b'2']), false),
            (Rtype::HTTPS, svcb(&[0, 3, 0, 2, 1, 187, 0, 3, 0, 2, 1, 187]), false),
            (Rtype::HTTPS, svcb(&[0, 3, 0, 1, 1]), false),
            (Rtype::HTTPS, svcb(&[0, 3, 0, 2, 1]), false),
            (Rtype::HTTPS, svcb(&[0, 1, 0, 3, b'a', b'b', b'c']), false),
            (Rtype::HTTPS, svcb(&[0, 1, 0, 1, 0]), false),
            (Rtype::HTTPS, svcb(&[0, 2, 0, 0]), false),
            (Rtype::HTTPS, svcb(&[0, 1, 0, 3, 2, b'h', b'2', 0, 2, 0, 0]), true),
            (Rtype::HTTPS, svcb(&[0, 0, 0, 2, 0, 3, 0, 3, 0, 2, 1, 187]), true),
            (Rtype::HTTPS, svcb(&[0, 0, 0, 2, 0, 4, 0, 3, 0, 2, 1, 187]), false),
            (Rtype::HTTPS, svcb(&[0, 0, 0, 0]), false),
            (Rtype::HTTPS, svcb(&[0, 4, 0, 5, 1, 2, 3, 4, 5]), false),
            (Rtype::HTTPS, svcb(&[0, 6, 0, 0]), false),
            (Rtype::HTTPS, svcb(&[255, 0, 0, 1, 7]), true),
            (Rtype::NSEC, vec![0, 0, 1, 0x40], true),
            (Rtype::NSEC, vec![0], true),
            (Rtype::NSEC, vec![0, 0, 2, 0x40], false),
            (Rtype::NSEC, vec![0, 0, 0], false),
            (Rtype::NSEC, vec![0, 1, 1, 1, 0, 1, 1], false),
            (Rtype::CSYNC, vec![0, 0, 0, 1, 0, 3, 0, 1, 0x40], true),
            (Rtype::CSYNC, vec![0, 0, 0, 1, 0, 3, 0], false),
            (Rtype::APL, vec![], true),
            (Rtype::APL, vec![0, 1, 24, 3, 192, 0, 2], true),
            (Rtype::APL, vec![0, 1, 24, 0x83, 192, 0, 2], true),
            (Rtype::APL, vec![0, 1, 33, 3, 192, 0, 2], false),
            (Rtype::APL, vec![0, 1, 24, 4, 192, 0, 2], false),
            (Rtype::HIP, vec![1, 2, 0, 1, 7, 8, 1, b'a', 0], true),
            (Rtype::HIP, vec![1, 2, 0, 2, 7, 8], false),
            (Rtype::HIP, vec![1, 2, 0, 1, 7, 8, 1, b'a'], false),
            (Rtype::IPSECKEY, vec![10, 1, 2, 192, 0, 2, 1, 9], true),
            (Rtype::IPSECKEY, vec![10, 2, 2, 192, 0, 2, 1, 9], false),
            (Rtype::IPSECKEY, vec![10, 4, 2], false),
            (Rtype::DS, vec![0, 0, 0, 0], false),
            (Rtype::DS, vec![0, 0, 0, 0, 0], true),
            (Rtype::TLSA, vec![3, 1, 1], false),
            (Rtype::OPENPGPKEY, vec![], false),
        ] {
            let checked = validate_new(rtype, &rdata);
            assert_eq!(checked.is_ok(), is_right, "{rtype} {rdata:?}: {checked:?}");
        }
    }
}
