//! Builds images: records one after the other, names compressed against the owner and what is in the first part.

use super::{
    FIXED_OCTETS, HEADER_OCTETS, Image, MAX_PART_OCTETS, OWNER_POINTER, SELF_POINTER, SELF_POINTER_MAX,
    SELF_POINTERS, TooLarge, records,
};
use crate::message::read_u16;
use crate::name::{self, NameRef};
use crate::query::QNAME_AT;
use crate::rdata::{self, Field};
use crate::rr::{Rrset, Rtype};

/// How many names of an image are remembered as targets for pointers, which keeps building linear.
const REMEMBERED_NAMES: usize = 8;

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

/// The same image with another TTL in all its records.
#[must_use]
pub fn with_ttl(image: Image<'_>, ttl: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_OCTETS.saturating_add(image.octets.len()));
    let header = header(image.first, image.second, image.split, image.flags);
    out.extend_from_slice(&header.unwrap_or_default());
    let ttl = ttl.to_be_bytes();
    // The second part stands right behind the first.
    for record in records(image.octets) {
        let (before, [_, _, _, _, length @ ..]) = record.fixed.split_at(6) else { continue };
        for octets in [before, &ttl, length, record.rdata] {
            out.extend_from_slice(octets);
        }
    }
    out
}

/// What an image begins with; `None` when the first part is too long.
fn header(first: u16, second: u16, split: usize, flags: u8) -> Option<[u8; HEADER_OCTETS]> {
    let [a, b] = first.to_le_bytes();
    let [c, d] = second.to_le_bytes();
    let [e, f, g, 0] = u32::try_from(split).ok()?.to_le_bytes() else { return None };
    Some([a, b, c, d, e, f, g, flags])
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
        let [a, b] = owner.to_be_bytes();
        let [c, d] = rtype.0.to_be_bytes();
        let [e, f, g, h] = ttl.to_be_bytes();
        // Class IN; the length is set when it is known.
        self.out.extend_from_slice(&[a, b, c, d, 0, 1, e, f, g, h, 0, 0]);
        let rdata_at = self.out.len();
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
        let len = self.out.len().saturating_sub(rdata_at);
        let len = u16::try_from(len).map_err(|_| self.fail())?;
        if let Some(two) = self.out.get_mut(..rdata_at).and_then(|fixed| fixed.last_chunk_mut()) {
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
        let header = header(self.first.unwrap_or(0), self.count, self.split, self.flags);
        let header = header.ok_or_else(|| self.fail())?;
        if let Some(octets) = self.out.get_mut(self.start..).and_then(|rest| rest.first_chunk_mut()) {
            *octets = header;
        }
        Ok(())
    }
}
