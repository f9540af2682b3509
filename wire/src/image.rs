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
/// How many names of an image are remembered as targets for pointers, which keeps building linear.
const REMEMBERED_NAMES: usize = 8;
const OWNER_POINTER: u16 = 0xC000;
const SELF_POINTER: u16 = 0xE000;
const SELF_POINTER_MAX: usize = 0x1FFF;
/// The farthest octet that a pointer in a message can name.
const POINTER_MAX: usize = 0x3FFF;

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
        let mut rrset = Rrset { rtype, ttl: self.ttl(), rdata: Vec::new(), rrsigs: Vec::new() };
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

/// Where the RDATA of the record at `at` of a message begins.
#[must_use]
pub fn first_rdata(message: &[u8], at: usize) -> Option<usize> {
    let mut next = at;
    loop {
        let len = *message.get(next)?;
        match len {
            0 => return next.checked_add(11),
            0xC0..=0xFF => return next.checked_add(12),
            _ => next = next.checked_add(usize::from(len))?.checked_add(1)?,
        }
    }
}

/// Builds the image of an RRset into `out`, behind what is there.
///
/// # Errors
/// [`TooLarge`]; `out` then holds what it held before.
pub fn build(owner: NameRef<'_>, rrset: &Rrset, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    let records = rrset.rdata.iter().map(AsRef::as_ref);
    build_from(owner, rrset.rtype, rrset.ttl, records, rrset.rrsigs.iter().map(AsRef::as_ref), out)
}

/// As [`build`], from borrowed RDATA that is in canonical order already.
///
/// # Errors
/// [`TooLarge`].
pub fn build_from<'r>(
    owner: NameRef<'_>,
    rtype: Rtype,
    ttl: u32,
    rdata: impl Iterator<Item = &'r [u8]>,
    rrsigs: impl Iterator<Item = &'r [u8]>,
    out: &mut Vec<u8>,
) -> Result<(), TooLarge> {
    let mut builder = Builder::new(owner, out);
    for rdata in rdata {
        builder.push(OWNER_POINTER | 12, rtype, ttl, rdata)?;
    }
    builder.split();
    for rdata in rrsigs {
        builder.push(OWNER_POINTER | 12, Rtype::RRSIG, ttl, rdata)?;
    }
    builder.finish()
}

/// One set of addresses that stands below a zone cut.
#[derive(Clone, Copy, Debug)]
pub struct Glue<'a> {
    /// Which of the NS records has it as its target: an index into their RDATA.
    pub ns: usize,
    /// A or AAAA.
    pub rtype: Rtype,
    /// The image of the addresses.
    pub image: Image<'a>,
}

/// Builds a referral image: the NS RRset of a cut, and the glue for targets at or below it.
///
/// # Errors
/// [`TooLarge`].
pub fn build_referral(
    cut: NameRef<'_>,
    ns: &Rrset,
    glue: &[Glue<'_>],
    out: &mut Vec<u8>,
) -> Result<(), TooLarge> {
    let mut builder = Builder::new(cut, out);
    let mut targets = Vec::with_capacity(ns.rdata.len());
    for rdata in &ns.rdata {
        targets.push(builder.next_rdata_pointer());
        builder.push(OWNER_POINTER | 12, Rtype::NS, ns.ttl, rdata)?;
    }
    builder.split();
    for set in glue {
        // Behind more NS records than a message of usual size holds, a target is out of a pointer's reach: its glue
        // is left out, not the referral.
        let Some(&Some(target)) = targets.get(set.ns) else { continue };
        for record in records(set.image.first().octets) {
            builder.push(target, set.rtype, set.image.ttl(), record.rdata)?;
        }
    }
    builder.flags |= SELF_POINTERS;
    builder.finish()
}

struct Builder<'b> {
    owner: NameRef<'b>,
    out: &'b mut Vec<u8>,
    /// Where the image begins in `out`.
    start: usize,
    first: Option<u16>,
    split: usize,
    count: u16,
    flags: u8,
    /// Where names that were written stand, from the first part's beginning.
    names: [u16; REMEMBERED_NAMES],
    names_len: usize,
}

impl<'b> Builder<'b> {
    fn new(owner: NameRef<'b>, out: &'b mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_OCTETS]);
        let (names, names_len) = ([0; REMEMBERED_NAMES], 0);
        Builder { owner, out, start, first: None, split: 0, count: 0, flags: 0, names, names_len }
    }

    fn body_len(&self) -> usize {
        self.out.len().saturating_sub(self.start).saturating_sub(HEADER_OCTETS)
    }

    /// The self-pointer that will name the next record's RDATA.
    fn next_rdata_pointer(&self) -> Option<u16> {
        let at = self.body_len().saturating_add(FIXED_OCTETS);
        let at = u16::try_from(at).ok().filter(|&at| usize::from(at) <= SELF_POINTER_MAX)?;
        Some(SELF_POINTER | at)
    }

    fn push(&mut self, owner: u16, rtype: Rtype, ttl: u32, rdata: &[u8]) -> Result<(), TooLarge> {
        self.count = self.count.checked_add(1).ok_or_else(|| self.fail())?;
        self.out.extend_from_slice(&owner.to_be_bytes());
        self.out.extend_from_slice(&rtype.0.to_be_bytes());
        self.out.extend_from_slice(&[0, 1]);
        self.out.extend_from_slice(&ttl.to_be_bytes());
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        if rdata::fields(rtype).contains(&Field::CompressibleName) {
            for span in rdata::spans(rtype, rdata).map_while(Result::ok) {
                let octets = rdata.get(span.start..span.end).unwrap_or_default();
                match span.field {
                    Field::CompressibleName => self.push_name(octets),
                    _ => self.out.extend_from_slice(octets),
                }
            }
        } else {
            self.out.extend_from_slice(rdata);
        }
        let len = self.out.len().saturating_sub(length_at).saturating_sub(2);
        let len = u16::try_from(len).map_err(|_| self.fail())?;
        if let Some(two) = self.out.get_mut(length_at..).and_then(|rest| rest.first_chunk_mut()) {
            *two = len.to_be_bytes();
        }
        if self.body_len() > MAX_PART_OCTETS {
            return Err(self.fail());
        }
        Ok(())
    }

    /// Takes back what was written.
    fn fail(&mut self) -> TooLarge {
        self.out.truncate(self.start);
        TooLarge
    }

    /// Writes a name, its longest known suffix as a pointer.
    fn push_name(&mut self, octets: &[u8]) {
        let written_at = self.body_len();
        let mut at = 0usize;
        loop {
            let suffix = octets.get(at..).unwrap_or_default();
            let Some(&len) = suffix.first() else { break };
            // A pointer is longer than the root label.
            if len == 0 {
                self.out.push(0);
                break;
            }
            if let Some(pointer) = self.pointer_to(suffix) {
                self.out.extend_from_slice(&pointer.to_be_bytes());
                break;
            }
            let end = usize::from(len).saturating_add(1);
            self.out.extend_from_slice(suffix.get(..end).unwrap_or_default());
            at = at.saturating_add(end);
        }
        if let Some(slot) = self.names.get_mut(self.names_len)
            && written_at <= SELF_POINTER_MAX
            && let Ok(position) = u16::try_from(written_at)
        {
            *slot = position;
            self.names_len = self.names_len.saturating_add(1);
        }
    }

    fn pointer_to(&mut self, suffix: &[u8]) -> Option<u16> {
        let owner = self.owner.as_wire();
        if let Some(skip) = owner.len().checked_sub(suffix.len())
            && owner.get(skip..).is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
            && self.owner_label_starts_at(skip)
            // A wildcard's own name is not in the messages that are synthesised from it.
            && !(skip == 0 && self.owner.is_wildcard())
        {
            return u16::try_from(skip.saturating_add(QNAME_AT)).ok().map(|k| OWNER_POINTER | k);
        }
        // Pointers into the image are for its own first part only: the second may be sent without it.
        if self.first.is_some() {
            return None;
        }
        let names = self.names.get(..self.names_len).unwrap_or_default();
        let found = names.iter().find_map(|&name| self.find_suffix(name, suffix))?;
        self.flags |= SELF_POINTERS;
        Some(SELF_POINTER | found)
    }

    fn owner_label_starts_at(&self, skip: usize) -> bool {
        let mut at = 0usize;
        while at < skip {
            let Some(&len) = self.owner.as_wire().get(at) else { return false };
            at = at.saturating_add(usize::from(len)).saturating_add(1);
        }
        at == skip
    }

    /// Whether the name written at `name` has `suffix` as a suffix that begins in its own labels: where.
    fn find_suffix(&self, name: u16, suffix: &[u8]) -> Option<u16> {
        let body_at = self.start.saturating_add(HEADER_OCTETS);
        let mut at = name;
        for _ in 0..name::MAX_LABELS {
            let len = *self.out.get(body_at.saturating_add(usize::from(at)))?;
            if len == 0 || len >= 0xC0 {
                return None;
            }
            if usize::from(at) <= SELF_POINTER_MAX && self.name_equals(at, suffix) {
                return Some(at);
            }
            at = at.checked_add(u16::from(len))?.checked_add(1)?;
        }
        None
    }

    /// Whether the name written at `at`, pointers followed, equals `name`.
    fn name_equals(&self, at: u16, name: &[u8]) -> bool {
        let body = self.out.get(self.start.saturating_add(HEADER_OCTETS)..).unwrap_or_default();
        let mut written = body.get(usize::from(at)..).unwrap_or_default();
        let mut rest = name;
        for _ in 0..=name::MAX_LABELS {
            let Some(&len) = written.first() else { return false };
            if len >= 0xC0 {
                let pointer = read_u16(written, 0).unwrap_or(0);
                if pointer < SELF_POINTER {
                    let skip = usize::from(pointer & 0x3FFF).saturating_sub(QNAME_AT);
                    return self
                        .owner
                        .as_wire()
                        .get(skip..)
                        .is_some_and(|tail| tail.eq_ignore_ascii_case(rest));
                }
                written = body.get(usize::from(pointer & 0x1FFF)..).unwrap_or_default();
                continue;
            }
            let end = usize::from(len).saturating_add(1);
            let (Some(ours), Some(theirs)) = (written.get(..end), rest.get(..end)) else { return false };
            if !ours.eq_ignore_ascii_case(theirs) {
                return false;
            }
            if len == 0 {
                return rest.len() == 1;
            }
            written = written.get(end..).unwrap_or_default();
            rest = rest.get(end..).unwrap_or_default();
        }
        false
    }

    fn split(&mut self) {
        self.first = Some(self.count);
        self.count = 0;
        self.split = self.body_len();
    }

    fn finish(mut self) -> Result<(), TooLarge> {
        let split = u32::try_from(self.split).map_err(|_| self.fail())?;
        let [a, b] = self.first.unwrap_or(0).to_le_bytes();
        let [c, d] = self.count.to_le_bytes();
        let [e, f, g, _] = split.to_le_bytes();
        let header = [a, b, c, d, e, f, g, self.flags];
        if let Some(octets) = self.out.get_mut(self.start..).and_then(|rest| rest.first_chunk_mut()) {
            *octets = header;
        }
        Ok(())
    }
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

/// Where the owner name of an image stands in a message.
///
/// The owner is a name that is in the message, or one of its suffixes; or it is a wildcard that a name of the message
/// was synthesised from.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    /// Where the name stands.
    name_at: usize,
    /// So many octets of the name, uncompressed, come before the suffix that is the owner.
    skip: usize,
    /// The name stands there in one piece (a QNAME); otherwise its pointers are followed.
    whole: bool,
    /// Synthesised: records are owned by the name itself, and its label or labels before `skip` replace the `*`.
    wildcard: bool,
}

impl Anchor {
    /// The QNAME itself.
    pub const QNAME: Anchor = Anchor { name_at: QNAME_AT, skip: 0, whole: true, wildcard: false };

    /// A name that begins at an octet of the message.
    #[must_use]
    pub fn at(name_at: usize) -> Anchor {
        Anchor { name_at, skip: 0, whole: name_at == QNAME_AT, wildcard: false }
    }

    /// The suffix of this name that is left behind its first `octets` octets.
    #[must_use]
    pub fn suffix(self, octets: usize) -> Anchor {
        Anchor { skip: self.skip.saturating_add(octets), ..self }
    }

    /// For the image of a wildcard that this name was synthesised from: its own name is longer by `octets`.
    #[must_use]
    pub fn synthesised(self, octets: usize) -> Anchor {
        Anchor { skip: self.skip.saturating_add(octets), wildcard: true, ..self }
    }

    /// Whether an image that needs no pointers set can be copied as it is.
    #[must_use]
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.whole && self.skip == 0 && self.name_at == QNAME_AT
    }

    /// Where a pointer to the owner name can point. `None` where none reaches.
    pub(crate) fn position(&self, message: &[u8]) -> Option<usize> {
        self.resolve(message, 0)
    }

    /// The owner name in full, read from the message.
    pub(crate) fn name(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut name = [0u8; name::MAX_NAME_OCTETS];
        let octets = self.copy_name(message, &mut name)?;
        Some(name.get(..octets)?.to_vec())
    }

    /// Copies the owner name, uncompressed and in the message's case; returns its length.
    pub fn copy_name(&self, message: &[u8], out: &mut [u8; name::MAX_NAME_OCTETS]) -> Option<usize> {
        let skip = if self.wildcard { 0 } else { self.skip };
        let at = follow(message, self.name_at, skip)?;
        copy_name(message, at, out).map(|(octets, _)| octets)
    }

    /// Where octet `k` of the owner name stands in `message`. `None` where no pointer reaches.
    #[inline]
    fn resolve(&self, message: &[u8], k: usize) -> Option<usize> {
        // RFC 4592 §3.3.1: the owner of a synthesised record is the name that was asked for.
        let skip = if self.wildcard && k == 0 { 0 } else { self.skip.saturating_add(k) };
        let at =
            if self.whole { self.name_at.saturating_add(skip) } else { follow(message, self.name_at, skip)? };
        (at <= POINTER_MAX).then_some(at)
    }
}

/// Walks `skip` octets into the possibly compressed name at `name_at`.
fn follow(message: &[u8], name_at: usize, skip: usize) -> Option<usize> {
    let mut at = name_at;
    let mut left = skip;
    for _ in 0..name::MAX_NAME_OCTETS {
        let len = *message.get(at)?;
        if len >= 0xC0 {
            at = usize::from(read_u16(message, at)? & 0x3FFF);
            continue;
        }
        if left == 0 {
            return Some(at);
        }
        let step = usize::from(len).saturating_add(1);
        left = left.checked_sub(step)?;
        at = at.saturating_add(step);
    }
    None
}

/// Copies the possibly compressed name at `at` in full; returns its length, and where it ends in the message.
#[must_use]
pub fn copy_name(message: &[u8], at: usize, out: &mut [u8; name::MAX_NAME_OCTETS]) -> Option<(usize, usize)> {
    let (mut at, mut octets) = (at, 0usize);
    let mut end = None;
    // A name has at most 127 labels; as many pointers again are more than anybody needs.
    for _ in 0..name::MAX_LABELS.saturating_mul(2) {
        let len = *message.get(at)?;
        if len >= 0xC0 {
            end.get_or_insert(at.checked_add(2)?);
            let target = usize::from(read_u16(message, at)? & 0x3FFF);
            // Strictly backwards, so that no chain of pointers comes round.
            at = (target < at).then_some(target)?;
            continue;
        }
        if usize::from(len) > name::MAX_LABEL_OCTETS {
            return None;
        }
        let next = at.checked_add(usize::from(len))?.checked_add(1)?;
        let label = message.get(at..next)?;
        let to = octets.checked_add(label.len())?;
        out.get_mut(octets..to)?.copy_from_slice(label);
        octets = to;
        at = next;
        if len == 0 {
            return Some((octets, *end.get_or_insert(at)));
        }
    }
    None
}

/// Copies a part to `message[at..]` and sets its pointers; returns where it ends.
///
/// `first_at` is where the image's first part begins in the message. `None`, with the message unchanged before `at`,
/// when the part does not fit or a pointer does not reach.
#[inline]
pub fn place(
    part: Part<'_>,
    anchor: &Anchor,
    first_at: usize,
    message: &mut [u8],
    at: usize,
) -> Option<usize> {
    let end = at.checked_add(part.octets.len())?;
    message.get_mut(at..end)?.copy_from_slice(part.octets);
    if !(part.plain && anchor.is_plain()) {
        set_pointers(anchor, first_at, message, at, end)?;
    }
    Some(end)
}

fn set_pointers(anchor: &Anchor, first_at: usize, message: &mut [u8], at: usize, end: usize) -> Option<()> {
    let mut record_at = at;
    while record_at < end {
        set_pointer(anchor, first_at, message, record_at)?;
        let rtype = Rtype(read_u16(message, record_at.saturating_add(2))?);
        let rdata_at = record_at.saturating_add(FIXED_OCTETS);
        let length = read_u16(message, record_at.saturating_add(10))?;
        // The types with names to set, each with what stands before the first one.
        let (mut name_at, names) = match rtype {
            Rtype::A | Rtype::AAAA | Rtype::RRSIG => (rdata_at, 0),
            Rtype::NS | Rtype::CNAME | Rtype::PTR => (rdata_at, 1),
            Rtype::MX => (rdata_at.saturating_add(2), 1),
            Rtype::SOA | Rtype::MINFO => (rdata_at, 2),
            Rtype::MD | Rtype::MF | Rtype::MB | Rtype::MG | Rtype::MR => (rdata_at, 1),
            _ => (rdata_at, 0),
        };
        for _ in 0..names {
            let (len, has_pointer) = compressed_len(message.get(name_at..)?);
            name_at = name_at.saturating_add(len);
            if has_pointer {
                set_pointer(anchor, first_at, message, name_at.saturating_sub(2))?;
            }
        }
        record_at = rdata_at.saturating_add(usize::from(length));
    }
    Some(())
}

#[inline]
fn set_pointer(anchor: &Anchor, first_at: usize, message: &mut [u8], at: usize) -> Option<()> {
    let pointer = read_u16(message, at)?;
    let target = if pointer >= SELF_POINTER {
        let target = first_at.saturating_add(usize::from(pointer & 0x1FFF));
        (target <= POINTER_MAX).then_some(target)?
    } else {
        anchor.resolve(message, usize::from(pointer & 0x3FFF).saturating_sub(QNAME_AT))?
    };
    let pointer = OWNER_POINTER | u16::try_from(target).ok()?;
    *message.get_mut(at..)?.first_chunk_mut()? = pointer.to_be_bytes();
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn wire(text: &str) -> Box<[u8]> {
        name(text).as_wire().into()
    }

    fn mx(preference: u8, target: &str) -> Box<[u8]> {
        [&[0, preference], name(target).as_wire()].concat().into()
    }

    fn image_of(owner: &str, rrset: &Rrset) -> Vec<u8> {
        let mut octets = Vec::new();
        build(name(owner).as_ref(), rrset, &mut octets).unwrap();
        octets
    }

    #[test]
    fn images_read_back() {
        let soa = [&*wire("ns.Example."), &*wire("host.example."), &[7; 20]].concat().into_boxed_slice();
        let rows = [
            (
                "www.example.",
                Rrset::new(Rtype::A, 60, vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()], vec![]),
            ),
            (
                "example.",
                Rrset::new(
                    Rtype::NS,
                    1,
                    vec![wire("ns1.example."), wire("ns2.other."), wire("ns3.other.")],
                    vec![],
                ),
            ),
            (
                "example.",
                Rrset::new(
                    Rtype::MX,
                    1,
                    vec![mx(1, "a.b.c."), mx(2, "x.b.c."), mx(3, "b.c."), mx(4, ".")],
                    vec![],
                ),
            ),
            ("example.", Rrset::new(Rtype::SOA, 1, vec![soa], vec![vec![9; 40].into()])),
            ("*.example.", Rrset::new(Rtype::CNAME, 1, vec![wire("*.example.")], vec![])),
            (".", Rrset::new(Rtype::NS, 1, vec![wire("a.root."), wire("b.root.")], vec![])),
            ("e.", Rrset::new(Rtype(65534), 1, vec![Box::new([])], vec![])),
        ];
        for (owner, rrset) in rows {
            let octets = image_of(owner, &rrset);
            let back = Image::read(&octets).to_rrset(name(owner).as_ref(), rrset.rtype);
            let lower = |set: &Rrset| {
                set.rdata
                    .iter()
                    .map(|rdata| rdata::canonical(set.rtype, rdata).into_owned())
                    .collect::<Vec<_>>()
            };
            assert_eq!(lower(&back), lower(&rrset), "{owner}");
            assert_eq!((back.ttl, back.rrsigs), (rrset.ttl, rrset.rrsigs));
        }
    }

    #[test]
    fn suffixes_are_shared() {
        let set = Rrset::new(
            Rtype::NS,
            1,
            vec![wire("ns1.long-provider.net."), wire("ns2.long-provider.net.")],
            vec![],
        );
        let octets = image_of("example.", &set);
        // The second target is a label and a pointer: 4 + 2 octets.
        let lengths: Vec<usize> =
            records(Image::read(&octets).first().octets).map(|record| record.rdata.len()).collect();
        assert_eq!(lengths, [23, 6]);
    }

    /// The name at `at` of a message, pointers followed.
    fn name_in(message: &[u8], at: usize) -> String {
        let (mut at, mut out) = (at, Vec::new());
        loop {
            match message[at] {
                0 => break out.push(0),
                len @ 1..=63 => {
                    out.extend_from_slice(&message[at..=at + usize::from(len)]);
                    at += usize::from(len) + 1;
                }
                _ => at = usize::from(read_u16(message, at).unwrap() & 0x3FFF),
            }
        }
        Name::from_wire(&out).unwrap().to_string()
    }

    #[test]
    fn pointers_are_set_for_where_the_owner_stands() {
        let set = Rrset::new(
            Rtype::MX,
            1,
            vec![mx(1, "mail.example."), mx(2, "mx.other."), mx(3, "m2.other.")],
            vec![],
        );
        let octets = image_of("example.", &set);
        let part = Image::read(&octets).first();
        for (qname, skip) in [("example.", 0), ("a.b.example.", 4)] {
            let mut message = vec![0; 12];
            message.extend_from_slice(name(qname).as_wire());
            message.resize(message.len() + 4, 0);
            let at = message.len();
            message.resize(512, 0);
            let end = place(part, &Anchor::QNAME.suffix(skip), at, &mut message, at).unwrap();
            assert_eq!(end - at, part.octets.len());
            let mut record_at = at;
            for target in ["mail.example.", "mx.other.", "m2.other."] {
                assert_eq!(name_in(&message, record_at), "example.");
                assert_eq!(name_in(&message, record_at + 14), target);
                record_at += 12 + usize::from(read_u16(&message, record_at + 10).unwrap());
            }
        }
    }

    #[test]
    fn wildcards_take_the_name_that_was_asked_for() {
        let set = Rrset::new(Rtype::CNAME, 1, vec![wire("t.example.")], vec![]);
        let octets = image_of("*.example.", &set);
        let mut message = vec![0; 12];
        message.extend_from_slice(name("x.yy.example.").as_wire());
        let at = message.len();
        message.resize(512, 0);
        let skip = name("x.yy.example.").as_wire().len() - name("*.example.").as_wire().len();
        place(Image::read(&octets).first(), &Anchor::QNAME.synthesised(skip), at, &mut message, at).unwrap();
        assert_eq!(name_in(&message, at), "x.yy.example.");
        assert_eq!(name_in(&message, at + 12), "t.example.");
    }

    #[test]
    fn a_label_that_ends_like_a_pointer_is_none() {
        let set = Rrset::new(Rtype::NS, 1, vec![[2, b'a', 0xC3, 0].into()], vec![]);
        let octets = image_of("example.", &set);
        let mut message = [0; 100];
        let at = 12;
        place(Image::read(&octets).first(), &Anchor::at(80), at, &mut message, at).unwrap();
        assert_eq!(message[24..28], [2, b'a', 0xC3, 0]);
    }

    #[test]
    fn what_is_too_large_is_refused_whole() {
        let set =
            Rrset { rtype: Rtype(65280), ttl: 0, rdata: vec![vec![0; 65_535].into(); 257], rrsigs: vec![] };
        let mut out = vec![1, 2, 3];
        assert_eq!(build(name("a.").as_ref(), &set, &mut out), Err(TooLarge));
        assert_eq!(out, [1, 2, 3]);
    }
}
