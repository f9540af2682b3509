//! An RRset as octets that are ready to send, with its RRSIGs beside it.
//!
//! ```text
//! 0        2        4                  7       8
//! | u16    | u16    | u24              | u8    | octets          | octets         |
//! | number | number | octets in the    | flags | first part:     | second part:   |
//! | first  | second | first part       |       | the records     | their RRSIGs   |
//! ```
//!
//! Numbers are little-endian. Each part is a run of resource records as they stand in a message, class IN. What depends
//! on the message are the compression pointers. In an image they say what they point to, in one of two ways:
//!
//! - `0xC000 | 12 + k`: octet `k` of the owner name. Where the owner is the QNAME, which always stands at octet 12,
//!   that is the pointer itself, and composing is one copy.
//! - `0xE000 | n`: octet `n` of the first part. The flag [`SELF_POINTERS`] says that there are such.
//!
//! Only owner names and names in the RDATA of the types of RFC 1035 are compressed (RFC 3597 §4). A record's length
//! does not change when its pointers are set, so what an image takes in a message is known beforehand.
//!
//! A delegation's *referral image* has the NS records in its first part, and the glue below the cut in its second.
//!
//! This file reads images; [`build()`] makes them, [`place()`] puts them into messages.

mod build;
mod place;
#[cfg(test)]
mod tests;

pub use build::{Glue, build, build_from, build_referral, with_ttl};
pub use place::{Anchor, copy_name, first_rdata, place};

use crate::message::{read_u16, read_u32};
use crate::name::{self, NameRef};
use crate::query::QNAME_AT;
use crate::rdata::{self, Field};
use crate::rr::{Rrset, Rtype};

/// Octets of an image before its first part.
const HEADER_OCTETS: usize = 8;
/// Flag: the image holds pointers to octets of its own.
pub const SELF_POINTERS: u8 = 1;
/// The most octets of an image's first part.
pub const MAX_PART_OCTETS: usize = 0x00FF_FFFF;
/// Octets of a record before its RDATA when its owner is a pointer.
pub const FIXED_OCTETS: usize = 12;
const OWNER_POINTER: u16 = 0xC000;
const SELF_POINTER: u16 = 0xE000;
const SELF_POINTER_MAX: usize = 0x1FFF;

/// An RRset has more records or octets than an image can hold, far above what a message can.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("RRset too large: at most 65535 records and 16777215 octets")]
pub struct TooLarge;

/// An image, borrowed from the node that holds it.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    octets: &'a [u8],
    first: u16,
    second: u16,
    split: usize,
    flags: u8,
}

/// One of the two runs of records of an image.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// How many records.
    pub count: u16,
    /// The records.
    pub octets: &'a [u8],
    /// Whether a plain copy to a message whose QNAME is the owner needs no pointer set.
    pub plain: bool,
}

impl Part<'_> {
    /// No records.
    pub const NONE: Part<'static> = Part { count: 0, octets: &[], plain: true };
}

impl<'a> Image<'a> {
    /// Reads an image from the start of `octets`, which end where it ends.
    ///
    /// Total: octets that are no image give one without records.
    #[must_use]
    #[inline]
    pub fn read(octets: &'a [u8]) -> Image<'a> {
        let empty = Image { octets: &[], first: 0, second: 0, split: 0, flags: 0 };
        let Some((&[a, b, c, d, e, f, g, flags], body)) = octets.split_first_chunk::<HEADER_OCTETS>() else {
            return empty;
        };
        let split = u32::from_le_bytes([e, f, g, 0]);
        let Ok(split) = usize::try_from(split) else { return empty };
        if split > body.len() {
            return empty;
        }
        Image {
            octets: body,
            first: u16::from_le_bytes([a, b]),
            second: u16::from_le_bytes([c, d]),
            split,
            flags,
        }
    }

    /// The records.
    #[must_use]
    #[inline]
    pub fn first(&self) -> Part<'a> {
        Part {
            count: self.first,
            octets: self.octets.get(..self.split).unwrap_or_default(),
            plain: self.flags & SELF_POINTERS == 0,
        }
    }

    /// The RRSIGs; the glue in a referral image.
    #[must_use]
    #[inline]
    pub fn second(&self) -> Part<'a> {
        Part {
            count: self.second,
            octets: self.octets.get(self.split..).unwrap_or_default(),
            plain: self.flags & SELF_POINTERS == 0,
        }
    }

    /// The TTL of the first record; 0 without any.
    #[must_use]
    pub fn ttl(&self) -> u32 {
        read_u32(self.octets, 6).unwrap_or(0)
    }

    /// The records of both parts with RDATA uncompressed, as a value. `owner` is the name that the image was built for.
    #[must_use]
    pub fn to_rrset(&self, owner: NameRef<'_>, rtype: Rtype) -> Rrset {
        let [rdata, rrsigs] = [self.first, self.second].map(|count| Vec::with_capacity(usize::from(count)));
        let mut rrset = Rrset { rtype, ttl: self.ttl(), rdata, rrsigs };
        let mut scratch = Vec::new();
        self.each_rdata(owner, &mut scratch, |covering, octets| {
            let records = if covering { &mut rrset.rrsigs } else { &mut rrset.rdata };
            records.push(octets.into());
        });
        rrset
    }

    /// Calls `each` with the uncompressed RDATA of every record, in order, `true` beside those of the second part.
    ///
    /// `scratch` is used for RDATA that is compressed in the image; no other memory is taken.
    pub fn each_rdata(&self, owner: NameRef<'_>, scratch: &mut Vec<u8>, mut each: impl FnMut(bool, &[u8])) {
        for (part, second) in [(self.first(), false), (self.second(), true)] {
            for record in records(part.octets) {
                if rdata::fields(record.rtype).contains(&Field::CompressibleName) {
                    scratch.clear();
                    self.expand(owner, record, scratch);
                    each(second, scratch);
                } else {
                    each(second, record.rdata);
                }
            }
        }
    }

    /// Appends a record's RDATA with its names uncompressed.
    pub(crate) fn expand(&self, owner: NameRef<'_>, record: Record<'_>, out: &mut Vec<u8>) {
        let mut at = 0usize;
        for &field in rdata::fields(record.rtype) {
            let rest = record.rdata.get(at..).unwrap_or_default();
            let len = match field {
                Field::CompressibleName => {
                    self.expand_name(owner, rest, out);
                    compressed_len(rest).0
                }
                Field::Fixed(len) => {
                    let len = usize::from(len).min(rest.len());
                    out.extend_from_slice(rest.get(..len).unwrap_or_default());
                    len
                }
                _ => {
                    out.extend_from_slice(rest);
                    rest.len()
                }
            };
            at = at.saturating_add(len);
        }
    }

    /// The owner name that a pointer of this image stands for, in full.
    pub(crate) fn owner_of(
        &self,
        pointer: u16,
        owner: NameRef<'_>,
        anchor: &Anchor,
        message: &[u8],
    ) -> Option<Vec<u8>> {
        if pointer < SELF_POINTER {
            return anchor.name(message);
        }
        let mut name = Vec::with_capacity(name::MAX_NAME_OCTETS);
        self.expand_name(owner, &pointer.to_be_bytes(), &mut name);
        Some(name)
    }

    /// Appends the name that begins `octets`, pointers followed. At most 255 octets.
    fn expand_name(&self, owner: NameRef<'_>, octets: &[u8], out: &mut Vec<u8>) {
        let first_part = self.first().octets;
        let most = out.len().saturating_add(name::MAX_NAME_OCTETS);
        let mut rest = octets;
        loop {
            let Some(&len) = rest.first() else { return };
            if len >= 0xC0 {
                let pointer = read_u16(rest, 0).unwrap_or(0);
                if pointer >= SELF_POINTER {
                    rest = first_part.get(usize::from(pointer & 0x1FFF)..).unwrap_or_default();
                } else {
                    let skip = usize::from(pointer & 0x3FFF).saturating_sub(QNAME_AT);
                    out.extend_from_slice(owner.as_wire().get(skip..).unwrap_or_default());
                    return;
                }
            } else {
                let end = usize::from(len).saturating_add(1);
                out.extend_from_slice(rest.get(..end).unwrap_or_default());
                rest = rest.get(end..).unwrap_or_default();
                if len == 0 || out.len() >= most {
                    return;
                }
            }
        }
    }
}

/// A record of an image.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its type.
    pub rtype: Rtype,
    /// Its owner, class, TTL and so on, as they stand.
    pub fixed: &'a [u8; FIXED_OCTETS],
    /// Its RDATA, names compressed as the image has them.
    pub rdata: &'a [u8],
}

/// The records of a part, in order. Ends at the first that is not whole.
pub fn records(part: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = part;
    std::iter::from_fn(move || {
        let (fixed, behind) = rest.split_first_chunk::<FIXED_OCTETS>()?;
        let (rdata, behind) = behind.split_at_checked(usize::from(read_u16(fixed, 10)?))?;
        rest = behind;
        Some(Record { rtype: Rtype(read_u16(fixed, 2)?), fixed, rdata })
    })
}

/// Where the RDATA of each record of a part begins, from the part's first octet.
pub fn rdata_offsets(part: Part<'_>) -> impl Iterator<Item = usize> + use<'_> {
    let mut at = 0usize;
    records(part.octets).map(move |record| {
        let rdata_at = at.saturating_add(FIXED_OCTETS);
        at = rdata_at.saturating_add(record.rdata.len());
        rdata_at
    })
}

/// The RRsets of a referral image's glue, one part each: runs of one owner and type.
pub fn rrset_parts(part: Part<'_>) -> impl Iterator<Item = Part<'_>> {
    let mut rest = part.octets;
    std::iter::from_fn(move || {
        let kind = *rest.first_chunk::<4>()?;
        let mut octets = 0usize;
        let mut count = 0u16;
        for record in records(rest).take_while(|record| record.fixed.first_chunk::<4>() == Some(&kind)) {
            octets = octets.saturating_add(FIXED_OCTETS).saturating_add(record.rdata.len());
            count = count.saturating_add(1);
        }
        let (set, behind) = rest.split_at_checked(octets)?;
        rest = behind;
        (count > 0).then_some(Part { count, octets: set, plain: false })
    })
}

/// The octets that a possibly compressed name takes where it stands, and whether its last two are a pointer.
#[inline]
fn compressed_len(octets: &[u8]) -> (usize, bool) {
    let mut at = 0usize;
    while let Some(&len) = octets.get(at) {
        if len >= 0xC0 {
            return (at.saturating_add(2), true);
        }
        at = at.saturating_add(usize::from(len)).saturating_add(1);
        if len == 0 {
            return (at, false);
        }
    }
    (octets.len(), false)
}
