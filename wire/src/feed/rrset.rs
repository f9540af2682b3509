//! One RRset with its owner name, as the feed writes it. Which RRsets a zone may hold together is judged by who builds
//! the zone.

use std::borrow::Cow;

use super::codec::{Cursor, DecodeError, Reason, put_count, put_octets};
use crate::name::{Name, NameRef};
use crate::rdata;
use crate::rr::{MAX_TTL, Rrset, Rtype};

/// The most RRsets in one zone change or zone blob.
pub const MAX_RRSETS: u64 = 1 << 28;
/// The most records in one RRset, and the most signatures beside it. An answer cannot hold as many, since a message
/// ends at 65,535 octets (RFC 1035 §4.2.2) and a record takes at least eleven.
pub const MAX_RDATA: u64 = 65_535;

/// The fewest octets that an owned RRset takes: root name, type, TTL, two counts, one empty RDATA.
pub(super) const LEAST_OCTETS: usize = 10;

/// An RRset and the name that it belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnedRrset {
    /// Where it stands; at or below the apex of its zone.
    pub owner: Name,
    /// What stands there.
    pub rrset: Rrset,
}

/// Writes owner and RRset. Records that are not in canonical order are put into it.
pub(super) fn put_owned_rrset(out: &mut Vec<u8>, owner: NameRef<'_>, rrset: &Rrset) {
    out.extend_from_slice(owner.as_wire());
    out.extend_from_slice(&rrset.rtype.0.to_be_bytes());
    out.extend_from_slice(&rrset.ttl.to_be_bytes());
    put_records(out, rrset.rtype, &rrset.rdata);
    put_records(out, Rtype::RRSIG, &rrset.rrsigs);
}

fn put_records(out: &mut Vec<u8>, rtype: Rtype, records: &[Box<[u8]>]) {
    let records = in_canonical_order(rtype, records);
    put_count(out, records.len());
    for record in records.iter() {
        put_octets(out, record);
    }
}

/// The records in canonical order without repeats; borrowed when they are so already, which they are when the set was
/// built by [`Rrset::new`].
pub(super) fn in_canonical_order(rtype: Rtype, records: &[Box<[u8]>]) -> Cow<'_, [Box<[u8]>]> {
    let ordered = records.windows(2).all(|pair| match pair {
        [a, b] => rdata::canonical(rtype, a) < rdata::canonical(rtype, b),
        _ => true,
    });
    if ordered {
        return Cow::Borrowed(records);
    }
    let mut sorted = records.to_vec();
    rdata::sort_canonical(rtype, &mut sorted);
    Cow::Owned(sorted)
}

/// Reads owner and RRset of a zone, and checks all that one RRset can be checked for.
pub(super) fn read_owned_rrset<'a>(
    cursor: &mut Cursor<'a>,
    zone: NameRef<'_>,
) -> Result<(NameRef<'a>, Rrset), DecodeError> {
    let owner = read_owner(cursor, zone)?;
    let rtype = read_rtype(cursor)?;
    let at = cursor.clone();
    let ttl = cursor.u32()?;
    if ttl > MAX_TTL {
        return Err(at.error(Reason::Ttl(ttl)));
    }
    let at = cursor.clone();
    let rdata = read_records(cursor, "records of an RRset", rtype, None)?;
    if rdata.is_empty() {
        return Err(at.error(Reason::Empty("records in an RRset")));
    }
    let rrsigs = read_records(cursor, "signatures of an RRset", Rtype::RRSIG, Some(rtype))?;
    Ok((owner, Rrset { rtype, ttl, rdata, rrsigs }))
}

/// Reads an owner name and checks that it is in the zone.
pub(super) fn read_owner<'a>(cursor: &mut Cursor<'a>, zone: NameRef<'_>) -> Result<NameRef<'a>, DecodeError> {
    let at = cursor.clone();
    let owner = cursor.name()?;
    if !owner.is_at_or_below(zone) {
        return Err(at.error(Reason::OutOfZone));
    }
    Ok(owner)
}

/// Reads a type that an RRset can have.
pub(super) fn read_rtype(cursor: &mut Cursor<'_>) -> Result<Rtype, DecodeError> {
    let at = cursor.clone();
    let rtype = Rtype(cursor.u16()?);
    if !rtype.is_data() || rtype == Rtype::RRSIG {
        return Err(at.error(Reason::Type(rtype)));
    }
    Ok(rtype)
}

fn read_records(
    cursor: &mut Cursor<'_>,
    what: &'static str,
    rtype: Rtype,
    covered: Option<Rtype>,
) -> Result<Vec<Box<[u8]>>, DecodeError> {
    // Each record takes at least its length.
    let count = cursor.count(what, MAX_RDATA, 1)?;
    let mut records: Vec<Box<[u8]>> = Vec::with_capacity(count);
    let mut previous: Option<Cow<'_, [u8]>> = None;
    for _ in 0..count {
        let at = cursor.clone();
        let octets = cursor.octets()?;
        rdata::validate(rtype, octets).map_err(|error| at.error(Reason::Rdata { rtype, error }))?;
        if let Some(expected) = covered {
            let found = octets.first_chunk().map_or(Rtype(0), |&octets| Rtype(u16::from_be_bytes(octets)));
            if found != expected {
                return Err(at.error(Reason::Covers { found, expected }));
            }
        }
        if count > 1 {
            let canonical = rdata::canonical(rtype, octets);
            // Canonical order, and a record is in its set once (RFC 4034 §6.3, RFC 2181 §5).
            if previous.as_ref().is_some_and(|previous| *previous >= canonical) {
                return Err(at.error(Reason::Order("records of an RRset")));
            }
            previous = Some(canonical);
        }
        records.push(octets.into());
    }
    Ok(records)
}
