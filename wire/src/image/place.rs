//! Puts images into messages: copies a part and sets its pointers for where the owner name stands there.

use super::{FIXED_OCTETS, OWNER_POINTER, Part, SELF_POINTER, compressed_len};
use crate::message::read_u16;
use crate::name;
use crate::query::QNAME_AT;
use crate::rr::Rtype;

/// The farthest octet that a pointer in a message can name.
const POINTER_MAX: usize = 0x3FFF;

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
