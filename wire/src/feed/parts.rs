//! Zones in parts, with what those of each part add up to: who knows the sums of two stores knows which parts differ, and need not
//! look at the others.

use super::digest::{Digest, DigestKey, zone_term};
use crate::name::{MAX_NAME_OCTETS, NameRef};

/// How many parts there are.
pub const PARTS: u16 = 1_024;
/// Octets of a sum.
const SUM_OCTETS: usize = 32;
/// Octets of a set of parts: one bit for each.
pub(super) const SET_OCTETS: usize = PARTS as usize / 8;
/// First octet of what is hashed of a name, so that this never meets a term of a digest.
const PART_TERM: u8 = 3;

/// In which part a zone is. Keyed: nobody can choose names that are all in one.
#[must_use]
pub fn part_of(key: &DigestKey, apex: NameRef<'_>) -> u16 {
    let mut octets = Vec::with_capacity(1 + MAX_NAME_OCTETS);
    octets.push(PART_TERM);
    octets.extend_from_slice(apex.as_wire());
    let hash = blake3::keyed_hash(&key.0, &octets);
    let [low, high, ..] = *hash.as_bytes();
    u16::from_le_bytes([low, high]) % PARTS
}

/// Some of the parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parts([u8; SET_OCTETS]);

impl Default for Parts {
    fn default() -> Parts {
        Parts([0; SET_OCTETS])
    }
}

impl Parts {
    /// Reads one bit for each part, the lowest of the first octet first. Any octets are a set.
    #[must_use]
    pub fn from_bytes(octets: [u8; SET_OCTETS]) -> Parts {
        Parts(octets)
    }

    /// The same octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SET_OCTETS] {
        &self.0
    }

    /// Whether a part is one of them.
    #[must_use]
    pub fn contains(&self, part: u16) -> bool {
        self.0.get(usize::from(part / 8)).is_some_and(|octet| octet & 1 << (part % 8) != 0)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(|octet| octet.count_ones() as usize).sum()
    }

    fn insert(&mut self, part: u16) {
        if let Some(octet) = self.0.get_mut(usize::from(part / 8)) {
            *octet |= 1 << (part % 8);
        }
    }
}

/// What the zones of each part add up to, by [`zone_term`]; all parts together are the root digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartSums(Vec<Digest>);

/// Of no zones.
impl Default for PartSums {
    fn default() -> PartSums {
        PartSums(vec![Digest::default(); PARTS.into()])
    }
}

impl PartSums {
    /// Adds a zone; gives the part in which it is.
    pub fn add(&mut self, key: &DigestKey, apex: NameRef<'_>, version: u64, digest: Digest) -> u16 {
        let part = part_of(key, apex);
        if let Some(sum) = self.0.get_mut(usize::from(part)) {
            sum.add(zone_term(key, apex, version, digest));
        }
        part
    }

    /// Takes a zone away.
    pub fn sub(&mut self, key: &DigestKey, apex: NameRef<'_>, version: u64, digest: Digest) {
        if let Some(sum) = self.0.get_mut(usize::from(part_of(key, apex))) {
            sum.sub(zone_term(key, apex, version, digest));
        }
    }

    /// All parts together.
    #[must_use]
    pub fn total(&self) -> Digest {
        self.without(&Parts::default())
    }

    /// All parts together but for some.
    #[must_use]
    pub fn without(&self, parts: &Parts) -> Digest {
        let mut total = Digest::default();
        let others = (0..).zip(&self.0).filter(|(part, _)| !parts.contains(*part));
        others.for_each(|(_, sum)| total.add(*sum));
        total
    }

    /// Those in which two stores differ.
    #[must_use]
    pub fn differing(&self, other: &PartSums) -> Parts {
        let mut parts = Parts::default();
        let differing = (0..).zip(self.0.iter().zip(&other.0)).filter(|(_, (ours, theirs))| ours != theirs);
        differing.for_each(|(part, _)| parts.insert(part));
        parts
    }

    /// One sum behind the other, each as [`Digest::as_bytes`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|sum| sum.as_bytes()).collect()
    }

    /// Reads the same; `None` when it is anything else.
    #[must_use]
    pub fn decode(octets: &[u8]) -> Option<PartSums> {
        let (sums, []) = octets.as_chunks::<SUM_OCTETS>() else { return None };
        (sums.len() == usize::from(PARTS))
            .then(|| PartSums(sums.iter().map(|sum| Digest::from_bytes(*sum)).collect()))
    }

    /// Octets of an encoding.
    pub const OCTETS: usize = PARTS as usize * SUM_OCTETS;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    const KEY: DigestKey = DigestKey([7; 32]);

    fn apex(n: usize) -> Name {
        format!("z{n}.example.").parse().unwrap()
    }

    fn sums(versions: &[u64]) -> PartSums {
        let mut sums = PartSums::default();
        for (n, version) in versions.iter().enumerate() {
            sums.add(&KEY, apex(n).as_ref(), *version, Digest::default());
        }
        sums
    }

    #[test]
    fn what_differs_is_in_the_parts_that_differ() {
        let (ours, mut theirs) = (sums(&[1; 5_000]), sums(&[1; 5_000]));
        assert_eq!(ours.differing(&theirs).count(), 0);
        for n in [17, 4_000] {
            theirs.sub(&KEY, apex(n).as_ref(), 1, Digest::default());
            theirs.add(&KEY, apex(n).as_ref(), 2, Digest::default());
        }
        let parts = ours.differing(&theirs);
        assert_eq!(parts.count(), 2);
        assert!([17, 4_000].iter().all(|n| parts.contains(part_of(&KEY, apex(*n).as_ref()))));
        assert_eq!(ours.without(&parts), theirs.without(&parts));
        assert_ne!(ours.total(), theirs.total());
        assert_eq!(Parts::from_bytes(*parts.as_bytes()), parts);
        assert!(!parts.contains(PARTS) && !parts.contains(u16::MAX));
    }

    #[test]
    fn zones_are_in_all_parts_and_a_key_has_its_own() {
        let (mut counts, mut same) = ([0; PARTS as usize], 0);
        for n in 0..20 * usize::from(PARTS) {
            let part = part_of(&KEY, apex(n).as_ref());
            counts[usize::from(part)] += 1;
            same += usize::from(part_of(&DigestKey([8; 32]), apex(n).as_ref()) == part);
        }
        assert!(counts.iter().all(|count| (1..80).contains(count)), "{counts:?}");
        assert!(same < 80, "{same}");
    }

    #[test]
    fn the_total_is_the_root_digest_and_there_is_one_encoding() {
        let sums = sums(&[3, 4, 5]);
        let mut root = Digest::default();
        for (n, version) in [3, 4, 5].into_iter().enumerate() {
            root.add(zone_term(&KEY, apex(n).as_ref(), version, Digest::default()));
        }
        assert_eq!(sums.total(), root);
        let octets = sums.encode();
        assert_eq!((octets.len(), PartSums::decode(&octets)), (PartSums::OCTETS, Some(sums)));
        for len in [0, 32, PartSums::OCTETS - 32, PartSums::OCTETS - 1] {
            assert_eq!(PartSums::decode(&octets[..len]), None);
        }
        assert_eq!(PartSums::decode(&[octets.as_slice(), &[0; 32]].concat()), None);
    }
}
