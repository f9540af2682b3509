//! Zones as plain lists of records, and the questions that the algorithm of RFC 1034 §4.3.2 asks of them.

use std::collections::BTreeSet;
use std::fmt;

use godwit_wire::name::{Name, NameRef};
use godwit_wire::rr::Rtype;

use crate::message::{Record, canonical_rdata};

/// One record of a zone; RRSIGs are records like others.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ZoneRecord {
    /// Owner.
    pub owner: Name,
    /// Type.
    pub rtype: Rtype,
    /// Seconds.
    pub ttl: u32,
    /// RDATA, names in it uncompressed.
    pub rdata: Vec<u8>,
}

/// As a line of a zone file.
impl fmt::Display for ZoneRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (owner, rtype, ttl) = (self.owner.clone(), self.rtype, self.ttl);
        Record { owner, rtype, class: 1, ttl, rdata: canonical_rdata(rtype, &self.rdata) }.fmt(f)
    }
}

/// A zone: its records in any order.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The apex.
    pub apex: Name,
    /// Who owns it; aliases are followed between zones of one owner only.
    pub owner_number: u32,
    /// All records.
    pub records: Vec<ZoneRecord>,
}

/// All zones that are held.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// In any order, apexes distinct.
    pub zones: Vec<Zone>,
}

impl World {
    /// The zone that answers for `qname` (`docs/answers.md` §4).
    #[must_use]
    pub fn zone_for(&self, qname: &Name, qtype: Rtype) -> Option<&Zone> {
        let closest = self.closest_zone(qname)?;
        // RFC 4035 §3.1.4.1: DS belongs to the parent side of the cut.
        if qtype == Rtype::DS && closest.apex == *qname {
            let above = qname.as_ref().parent().map(NameRef::to_owned);
            return above.and_then(|above| self.closest_zone(&above)).or(Some(closest));
        }
        Some(closest)
    }

    /// The zone with the longest apex at or above the name (RFC 1034 §4.3.2 step 2).
    #[must_use]
    pub fn closest_zone(&self, name: &Name) -> Option<&Zone> {
        self.zones
            .iter()
            .filter(|zone| name.as_ref().is_at_or_below(zone.apex.as_ref()))
            .max_by_key(|zone| zone.apex.as_wire().len())
    }
}

impl Zone {
    /// The records at a name, as they stand in the list.
    pub fn at<'z>(&'z self, name: &'z Name) -> impl Iterator<Item = &'z ZoneRecord> {
        self.records.iter().filter(move |record| record.owner == *name)
    }

    /// The records of one RRset, without RRSIGs.
    #[must_use]
    pub fn rrset(&self, name: &Name, rtype: Rtype) -> Vec<&ZoneRecord> {
        self.records.iter().filter(|record| record.owner == *name && record.rtype == rtype).collect()
    }

    /// Whether the name has this RRset.
    #[must_use]
    pub fn has(&self, name: &Name, rtype: Rtype) -> bool {
        self.at(name).any(|record| record.rtype == rtype)
    }

    /// The RRSIGs at a name that cover a type (RFC 4034 §3.1.1: the first field).
    #[must_use]
    pub fn rrsigs(&self, name: &Name, covered: Rtype) -> Vec<&ZoneRecord> {
        let mut signatures = self.rrset(name, Rtype::RRSIG);
        signatures.retain(|record| covered_type(&record.rdata) == covered);
        signatures
    }

    /// The types at a name, RRSIG left out.
    #[must_use]
    pub fn types(&self, name: &Name) -> BTreeSet<Rtype> {
        self.at(name).map(|record| record.rtype).filter(|rtype| *rtype != Rtype::RRSIG).collect()
    }

    /// Whether the name exists: has records, or a name below it has (RFC 4592 §2.2.2).
    #[must_use]
    pub fn exists(&self, name: &Name) -> bool {
        self.records.iter().any(|record| {
            record.owner.as_ref().is_at_or_below(name.as_ref()) && !self.is_hashed_owner(&record.owner)
        })
    }

    /// RFC 5155 §7.2.8: an owner of nothing but NSEC3 is no name of the zone.
    fn is_hashed_owner(&self, name: &Name) -> bool {
        self.has(name, Rtype::NSEC3) && self.types(name).len() == 1
    }

    /// The names from the apex down to `name`, both included.
    #[must_use]
    pub fn path(&self, name: &Name) -> Vec<Name> {
        let mut path = vec![name.clone()];
        let mut at = name.as_ref();
        while at != self.apex.as_ref() {
            at = at.parent().expect("the name is at or below the apex");
            path.push(at.to_owned());
        }
        path.reverse();
        path
    }

    /// The lowest existing name at or above `name` (RFC 4592 §3.3.1).
    #[must_use]
    pub fn closest_encloser(&self, name: &Name) -> Name {
        self.path(name)
            .into_iter()
            .rev()
            .find(|above| self.exists(above) || *above == self.apex)
            .expect("the apex exists")
    }

    /// The first zone cut on the way from the apex to `name` (RFC 1034 §4.3.2 step 3b).
    #[must_use]
    pub fn cut_above(&self, name: &Name) -> Option<Name> {
        self.path(name).into_iter().skip(1).find(|below| self.has(below, Rtype::NS))
    }

    /// Whether the name lies below a cut or a DNAME, or is a cut: its data, but DS, is not authoritative here.
    #[must_use]
    pub fn is_hidden(&self, name: &Name) -> bool {
        let path = self.path(name);
        path.iter().skip(1).any(|above| self.has(above, Rtype::NS))
            || path.iter().any(|above| above != name && self.has(above, Rtype::DNAME))
    }

    /// The SOA record.
    #[must_use]
    pub fn soa(&self) -> &ZoneRecord {
        self.at(&self.apex).find(|record| record.rtype == Rtype::SOA).expect("a zone has an SOA")
    }
}

/// The type that an RRSIG covers.
#[must_use]
pub(super) fn covered_type(rrsig: &[u8]) -> Rtype {
    Rtype(u16::from_be_bytes([rrsig[0], rrsig[1]]))
}

/// The wildcard right below a name; `None` when no such name can exist.
pub(super) fn wildcard_below(name: NameRef<'_>) -> Option<Name> {
    let mut octets = vec![1, b'*'];
    octets.extend_from_slice(name.as_wire());
    Name::from_wire(&octets).ok()
}
