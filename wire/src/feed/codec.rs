//! The pieces that every encoding is made of: header, integers, lengths and names, written to a `Vec` and read by a
//! cursor that cannot leave its octets. What the pieces mean is said in the files that use them.

use crate::name::{self, NameError, NameRef};
use crate::rdata::RdataError;
use crate::rr::Rtype;

/// The only version of the format so far.
pub const FORMAT_VERSION: u8 = 1;

/// First octets of everything in the feed.
const MAGIC: &[u8; 4] = b"GDWT";
/// Flag of the header: a signature is the last part.
const FLAG_SIGNED: u16 = 1;
/// Octets of the header.
const HEADER_OCTETS: usize = 8;
/// Octets of an Ed25519 signature (RFC 8032 §5.1.6).
pub(super) const SIGNATURE_OCTETS: usize = 64;

/// What stands behind a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    ChangeSet = 1,
    Batch = 2,
    Head = 3,
    ZoneBlob = 4,
    Index = 5,
    Announcement = 6,
    CacheHead = 7,
    Difference = 8,
    Absence = 9,
}

/// Why octets are not what they should be, and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("at octet {offset}: {reason}")]
pub struct DecodeError {
    /// The first octet of the part that is wrong.
    pub offset: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a part of an encoding.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Reason {
    /// The octets end too early.
    #[error("the octets end here")]
    Short,
    /// Octets are left after the end.
    #[error("octets after the end")]
    Trailing,
    /// The first four octets are not those of the feed.
    #[error("not an encoding of the feed: its first octets must be GDWT")]
    Magic,
    /// Another kind of value than the one asked for.
    #[error("kind {found} where {expected} is expected")]
    Kind {
        /// The kind that is there.
        found: u8,
        /// The kind that was asked for.
        expected: u8,
    },
    /// A version of the format that this reader does not know.
    #[error("format version {0} is not known; version 1 is")]
    Version(u8),
    /// Flags that this reader does not know, or that this kind does not have.
    #[error("flags {0:#06x} are not known")]
    Flags(u16),
    /// A count or length that is not in its shortest form, or above 64 bits.
    #[error("a count or length that is not in its shortest form")]
    Varint,
    /// A count above its limit.
    #[error("{found} of {what}; at most {limit} are allowed")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// What the count says.
        found: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Nothing where there must be at least one.
    #[error("no {0}; there must be at least one")]
    Empty(&'static str),
    /// A number that says which form follows, and is none of them.
    #[error("{found} is not the number of a {what}")]
    Tag {
        /// What is chosen by the number.
        what: &'static str,
        /// The number.
        found: u8,
    },
    /// A name that is not one, or not in lower case.
    #[error("bad name: {0}")]
    Name(NameError),
    /// An owner name that is not in its zone.
    #[error("owner name outside its zone")]
    OutOfZone,
    /// A type that cannot be that of an RRset: none in a zone, or RRSIG, which stands beside the set it covers.
    #[error("type {0} cannot be that of an RRset")]
    Type(Rtype),
    /// A TTL above 2^31 - 1 (RFC 2181 §8).
    #[error("TTL {0} is above 2147483647")]
    Ttl(u32),
    /// RDATA that does not fit its type.
    #[error("{rtype}: {error}")]
    Rdata {
        /// The type.
        rtype: Rtype,
        /// How it does not fit; its octets count from the start of the RDATA.
        error: RdataError,
    },
    /// An RRSIG beside a set of another type.
    #[error("RRSIG covers {found}, beside an RRset of type {expected}")]
    Covers {
        /// The type covered field (RFC 4034 §3.1.1).
        found: Rtype,
        /// The type of the set.
        expected: Rtype,
    },
    /// Records, RRsets of a zone blob, or zones of an index, out of canonical order or repeated.
    #[error("{0} out of canonical order, or repeated")]
    Order(&'static str),
    /// A version that does not come after the one it is based on.
    #[error("zone version {version} does not follow base version {base}")]
    ZoneVersion {
        /// The new version.
        version: u64,
        /// The version it is based on.
        base: u64,
    },
    /// Removal of a zone that did not exist.
    #[error("removal of a zone with base version 0, which says that it did not exist")]
    RemovesNothing,
    /// Sequences start at 1 and end below 2^64.
    #[error("sequence out of range")]
    Sequence,
    /// A URL that is empty, too long, or not printable ASCII.
    #[error("a URL must be 1 to 512 printable octets of ASCII")]
    Url,
    /// A count that disagrees with what was read.
    #[error("the trailer counts {found} RRsets, where {expected} were read")]
    Count {
        /// What the trailer says.
        found: u64,
        /// What was read.
        expected: u64,
    },
    /// The checksum is not that of the octets before it.
    #[error("the checksum does not fit the octets before it")]
    Checksum,
}

/// Writes the header.
pub(super) fn put_header(out: &mut Vec<u8>, kind: Kind, signed: bool) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[kind as u8, FORMAT_VERSION]);
    out.extend_from_slice(&(if signed { FLAG_SIGNED } else { 0 }).to_be_bytes());
}

/// Writes LEB128 in its shortest form.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        // Seven bits are left, which no cast can lose.
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Writes a count.
pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    put_varint(out, u64::try_from(count).unwrap_or(u64::MAX));
}

/// Writes octets behind their length.
pub(super) fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    put_count(out, octets.len());
    out.extend_from_slice(octets);
}

/// Whether the header says that a signature is the last part; the header itself is checked.
pub(super) fn is_signed(octets: &[u8], kind: Kind) -> Result<bool, DecodeError> {
    Cursor::new(octets).header(kind)
}

/// The octets without the signature, and the signature if there is one; the header is checked.
pub(super) fn split_signature(
    octets: &[u8],
    kind: Kind,
) -> Result<(&[u8], Option<&[u8; SIGNATURE_OCTETS]>), DecodeError> {
    if !is_signed(octets, kind)? {
        return Ok((octets, None));
    }
    match octets.split_last_chunk::<SIGNATURE_OCTETS>() {
        Some((rest, signature)) if rest.len() >= HEADER_OCTETS => Ok((rest, Some(signature))),
        _ => Err(DecodeError { offset: octets.len(), reason: Reason::Short }),
    }
}

/// Reads octets from left to right.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    octets: &'a [u8],
    at: usize,
    /// Where `octets` stands in what the caller was given, so that offsets in errors are its own.
    base: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Cursor { octets, at: 0, base: 0 }
    }

    /// Where the next octet stands.
    pub(super) fn offset(&self) -> usize {
        self.base.saturating_add(self.at)
    }

    /// How many octets are left.
    pub(super) fn left(&self) -> usize {
        self.octets.len().saturating_sub(self.at)
    }

    /// An error about what stands here.
    pub(super) fn error(&self, reason: Reason) -> DecodeError {
        DecodeError { offset: self.offset(), reason }
    }

    fn short(&self) -> DecodeError {
        DecodeError { offset: self.base.saturating_add(self.octets.len()), reason: Reason::Short }
    }

    /// The next `len` octets.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.octets.get(self.at..).unwrap_or_default();
        let taken = rest.get(..len).ok_or_else(|| self.short())?;
        self.at = self.at.saturating_add(len);
        Ok(taken)
    }

    /// The next N octets as an array.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.octets.get(self.at..).unwrap_or_default();
        let taken = *rest.first_chunk::<N>().ok_or_else(|| self.short())?;
        self.at = self.at.saturating_add(N);
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[octet]| octet)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads LEB128; only its shortest form is accepted.
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let start = self.clone();
        let mut value = 0u64;
        for shift in (0..64u32).step_by(7) {
            let octet = self.u8()?;
            let bits = u64::from(octet & 0x7F);
            // The tenth octet has room for one bit; a last octet of zero would be padding.
            if (shift == 63 && octet > 1) || (octet == 0 && shift > 0) {
                return Err(start.error(Reason::Varint));
            }
            value |= bits.wrapping_shl(shift);
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(start.error(Reason::Varint))
    }

    /// Reads a count of things of which each takes at least `least` octets. It is refused when the octets that are left
    /// cannot hold as many, so that it is safe to reserve room for them.
    pub(super) fn count(
        &mut self,
        what: &'static str,
        limit: u64,
        least: usize,
    ) -> Result<usize, DecodeError> {
        let start = self.clone();
        let found = self.varint()?;
        if found > limit {
            return Err(start.error(Reason::TooMany { what, found, limit }));
        }
        let count = usize::try_from(found).unwrap_or(usize::MAX);
        if count > self.left().checked_div(least).unwrap_or_default() {
            return Err(self.short());
        }
        Ok(count)
    }

    /// Reads octets behind their length.
    pub(super) fn octets(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        self.take(len)
    }

    /// Reads octets behind their length as a cursor of their own.
    pub(super) fn nested(&mut self) -> Result<Cursor<'a>, DecodeError> {
        let octets = self.octets()?;
        let base = self.offset().saturating_sub(octets.len());
        Ok(Cursor { octets, at: 0, base })
    }

    /// Reads a name in lower case.
    pub(super) fn name(&mut self) -> Result<NameRef<'a>, DecodeError> {
        let rest = self.octets.get(self.at..).unwrap_or_default();
        let len = name::wire_len(rest).map_err(|error| match error {
            NameError::Short => self.short(),
            other => self.error(Reason::Name(other)),
        })?;
        let start = self.clone();
        let octets = self.take(len)?;
        NameRef::from_wire(octets).map_err(|error| start.error(Reason::Name(error)))
    }

    /// Reads and checks the header; says whether a signature is the last part.
    pub(super) fn header(&mut self, kind: Kind) -> Result<bool, DecodeError> {
        let start = self.clone();
        if self.array::<4>()? != *MAGIC {
            return Err(start.error(Reason::Magic));
        }
        let at = self.clone();
        let found = self.u8()?;
        if found != kind as u8 {
            return Err(at.error(Reason::Kind { found, expected: kind as u8 }));
        }
        let at = self.clone();
        let version = self.u8()?;
        if version != FORMAT_VERSION {
            return Err(at.error(Reason::Version(version)));
        }
        let at = self.clone();
        match self.u16()? {
            0 => Ok(false),
            // A change set is signed as part of its batch, and has no signature of its own.
            FLAG_SIGNED if kind != Kind::ChangeSet => Ok(true),
            flags => Err(at.error(Reason::Flags(flags))),
        }
    }

    /// Checks that nothing is left.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.left() == 0 { Ok(()) } else { Err(self.error(Reason::Trailing)) }
    }
}
