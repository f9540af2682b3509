//! The digest that says whether two stores hold the same records, without comparing them.
//!
//! Per zone it is the sum modulo 2^256 of keyed BLAKE3 over (zone, owner, canonical RRset with TTL and signatures); of
//! the whole it is the same sum over (zone, version, zone digest). A sum can be kept up to date by subtracting what was
//! and adding what is, in any order. The key makes it useless to search for records with a chosen sum; it is one per
//! deployment, and never where records are stored.

use std::fmt;

use super::rrset::in_canonical_order;
use crate::name::{MAX_NAME_OCTETS, NameRef};
use crate::rdata;
use crate::rr::{Rrset, Rtype};

/// First octet of what is hashed, so that terms of RRsets and of zones never meet.
const RRSET_TERM: u8 = 1;
const ZONE_TERM: u8 = 2;
/// What is hashed of a zone: that octet, its name, version and digest.
const MAX_ZONE_TERM_OCTETS: usize = 1 + MAX_NAME_OCTETS + 8 + 32;
/// Stands before each record, so that records and signatures never meet.
const RDATA_PART: u8 = 1;
const RRSIG_PART: u8 = 2;

/// The secret key of a deployment.
#[derive(Clone)]
pub struct DigestKey(pub [u8; 32]);

/// Does not show the key.
impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

/// A number modulo 2^256; the default is zero, which is the digest of nothing.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct Digest([u64; 4]);

impl Digest {
    /// Reads 32 octets, the least significant first.
    #[must_use]
    pub fn from_bytes(octets: [u8; 32]) -> Digest {
        let mut limbs = [0; 4];
        for (limb, octets) in limbs.iter_mut().zip(octets.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*octets);
        }
        Digest(limbs)
    }

    /// 32 octets, the least significant first.
    #[must_use]
    pub fn as_bytes(self) -> [u8; 32] {
        let mut octets = [0; 32];
        for (octets, limb) in octets.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *octets = limb.to_le_bytes();
        }
        octets
    }

    /// Adds a term.
    pub fn add(&mut self, term: Digest) {
        let mut carry = false;
        for (ours, theirs) in self.0.iter_mut().zip(term.0) {
            let (sum, over) = ours.overflowing_add(theirs);
            let (sum, over_carry) = sum.overflowing_add(u64::from(carry));
            *ours = sum;
            carry = over | over_carry;
        }
    }

    /// Takes a term away.
    pub fn sub(&mut self, term: Digest) {
        let mut borrow = false;
        for (ours, theirs) in self.0.iter_mut().zip(term.0) {
            let (rest, under) = ours.overflowing_sub(theirs);
            let (rest, under_borrow) = rest.overflowing_sub(u64::from(borrow));
            *ours = rest;
            borrow = under | under_borrow;
        }
    }
}

/// Its 32 octets in hexadecimal.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// The term of one RRset, built record by record.
///
/// Records must come in canonical order and form (RFC 4034 §6), the set's own before its signatures; who has an
/// [`Rrset`] uses [`rrset_digest`], which sees to that.
///
/// What is hashed is collected first and hashed in one go: most sets fit into one block of the hash, and feeding that
/// piece by piece costs more than the hash itself.
#[derive(Debug)]
pub struct RrsetHasher<'s> {
    key: &'s DigestKey,
    octets: &'s mut Vec<u8>,
}

impl<'s> RrsetHasher<'s> {
    /// Starts the term of one RRset. `octets` is used as memory, whatever it holds; it grows to the size of the set.
    #[must_use]
    pub fn new(
        key: &'s DigestKey,
        zone: NameRef<'_>,
        owner: NameRef<'_>,
        rtype: Rtype,
        ttl: u32,
        octets: &'s mut Vec<u8>,
    ) -> Self {
        octets.clear();
        octets.push(RRSET_TERM);
        // Names end themselves, so that what follows cannot be taken for a part of them.
        octets.extend_from_slice(zone.as_wire());
        octets.extend_from_slice(owner.as_wire());
        octets.extend_from_slice(&rtype.0.to_be_bytes());
        octets.extend_from_slice(&ttl.to_be_bytes());
        RrsetHasher { key, octets }
    }

    /// Adds the canonical RDATA of the set's next record.
    pub fn rdata(&mut self, octets: &[u8]) {
        self.part(RDATA_PART, octets);
    }

    /// Adds the canonical RDATA of the next RRSIG that covers the set.
    pub fn rrsig(&mut self, octets: &[u8]) {
        self.part(RRSIG_PART, octets);
    }

    /// The term.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest::from_bytes(*blake3::keyed_hash(&self.key.0, self.octets).as_bytes())
    }

    fn part(&mut self, part: u8, octets: &[u8]) {
        let [a, b, c, d] = u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.octets.extend_from_slice(&[part, a, b, c, d]);
        self.octets.extend_from_slice(octets);
    }
}

/// The term of one RRset in its zone's digest. The same for every order and letter case in which the set may be kept.
#[must_use]
pub fn rrset_digest(key: &DigestKey, zone: NameRef<'_>, owner: NameRef<'_>, rrset: &Rrset) -> Digest {
    let mut octets = Vec::new();
    let mut hasher = RrsetHasher::new(key, zone, owner, rrset.rtype, rrset.ttl, &mut octets);
    for record in in_canonical_order(rrset.rtype, &rrset.rdata).iter() {
        hasher.rdata(&rdata::canonical(rrset.rtype, record));
    }
    for record in in_canonical_order(Rtype::RRSIG, &rrset.rrsigs).iter() {
        hasher.rrsig(&rdata::canonical(Rtype::RRSIG, record));
    }
    hasher.finish()
}

/// The term of one zone in the root digest.
#[must_use]
pub fn zone_term(key: &DigestKey, zone: NameRef<'_>, version: u64, zone_digest: Digest) -> Digest {
    let mut octets = Vec::with_capacity(MAX_ZONE_TERM_OCTETS);
    octets.push(ZONE_TERM);
    octets.extend_from_slice(zone.as_wire());
    octets.extend_from_slice(&version.to_be_bytes());
    octets.extend_from_slice(&zone_digest.as_bytes());
    Digest::from_bytes(*blake3::keyed_hash(&key.0, &octets).as_bytes())
}
