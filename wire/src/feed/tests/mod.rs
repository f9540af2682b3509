//! Properties of the feed as a whole: one encoding of each value, one value of each encoding, errors for the rest.

mod announcements;
mod refusals;
mod values;

use proptest::prelude::*;

use values::{absence, batch, cache_head, change_set, difference, head, index, owned_in, zone_blob};

use super::digest::{rrset_digest, zone_term};
use super::*;
use crate::name::{Name, NameRef};
use crate::rr::{Rrset, Rtype};

const ZONES: [&str; 4] = [".", "example.", "a\\000b.example.", "xn--bcher-kva.example.org."];

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32]).unwrap()
}

/// One kind of value with its ways in and out, so that each property is said once.
struct Codec<T> {
    encode: fn(&T, &mut Vec<u8>),
    encode_signed: Option<fn(&T, &SigningKey, &mut Vec<u8>)>,
    decode: fn(&[u8]) -> Result<T, DecodeError>,
    /// Makes the checksum right again, so that a changed octet reaches what is behind it.
    mend: fn(&mut [u8]),
}

const CHANGE_SET: Codec<ChangeSet> =
    Codec { encode: ChangeSet::encode, encode_signed: None, decode: ChangeSet::decode, mend: |_| {} };
const BATCH: Codec<Batch> = Codec::signed(Batch::encode, Batch::encode_signed, Batch::decode);
const HEAD: Codec<Head> = Codec::signed(Head::encode, Head::encode_signed, Head::decode);
const INDEX: Codec<Index> = Codec::signed(Index::encode, Index::encode_signed, Index::decode);
const CACHE_HEAD: Codec<CacheHead> =
    Codec::signed(CacheHead::encode, CacheHead::encode_signed, CacheHead::decode);
const DIFFERENCE: Codec<Difference> =
    Codec::signed(Difference::encode, Difference::encode_signed, Difference::decode);
const ABSENCE: Codec<Absence> = Codec::signed(Absence::encode, Absence::encode_signed, Absence::decode);
const ZONE_BLOB: Codec<ZoneBlob> = Codec {
    encode: ZoneBlob::encode,
    encode_signed: Some(ZoneBlob::encode_signed),
    decode: ZoneBlob::decode,
    mend: |octets| {
        if let Some((covered, checksum)) = octets.split_last_chunk_mut::<32>() {
            *checksum = *blake3::hash(covered).as_bytes();
        }
    },
};

impl<T> Codec<T> {
    /// Of values that may be signed and have no checksum.
    const fn signed(
        encode: fn(&T, &mut Vec<u8>),
        encode_signed: fn(&T, &SigningKey, &mut Vec<u8>),
        decode: fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Self {
        Codec { encode, encode_signed: Some(encode_signed), decode, mend: |_| {} }
    }
}

impl<T: PartialEq + std::fmt::Debug> Codec<T> {
    fn octets(&self, value: &T) -> Vec<u8> {
        let mut octets = Vec::new();
        (self.encode)(value, &mut octets);
        octets
    }

    /// decode ∘ encode is identity; so it is behind other octets and with a signature.
    fn reads_back(&self, value: &T) {
        let octets = self.octets(value);
        assert_eq!((self.decode)(&octets).as_ref(), Ok(value));
        let mut behind = b"before".to_vec();
        (self.encode)(value, &mut behind);
        assert_eq!(behind.strip_prefix(b"before"), Some(&octets[..]));
        // Signing is ring's, in assembly, which Miri cannot run.
        if let Some(encode_signed) = self.encode_signed
            && !cfg!(miri)
        {
            let (mut signed, mut behind) = (Vec::new(), b"before".to_vec());
            encode_signed(value, &key(), &mut signed);
            encode_signed(value, &key(), &mut behind);
            assert_eq!((self.decode)(&signed).as_ref(), Ok(value));
            assert_eq!(behind.strip_prefix(b"before"), Some(&signed[..]));
        }
    }

    /// Whatever is accepted would be written the same way: encode ∘ decode is identity.
    fn accepts_one_encoding(&self, octets: &[u8]) {
        if let Ok(value) = (self.decode)(octets) {
            let again = self.octets(&value);
            // A set signature flag is the one thing that a value does not keep.
            if octets[7] & 1 == 0 {
                assert_eq!(again, octets);
            }
        }
    }

    fn refuses_every_prefix_and_suffix(&self, value: &T) {
        let octets = self.octets(value);
        for len in 0..octets.len() {
            assert!((self.decode)(&octets[..len]).is_err(), "cut at {len}");
        }
        let mut longer = octets;
        longer.push(0);
        assert!((self.decode)(&longer).is_err());
        (self.mend)(&mut longer);
        assert!((self.decode)(&longer).is_err());
    }

    fn survives_changes(&self, value: &T, changes: &[(prop::sample::Index, u8)]) {
        let mut octets = self.octets(value);
        for (at, xor) in changes {
            let at = at.index(octets.len());
            octets[at] ^= xor;
            self.accepts_one_encoding(&octets);
            let mut mended = octets.clone();
            (self.mend)(&mut mended);
            self.accepts_one_encoding(&mended);
        }
    }

    fn holds(&self, value: &T, changes: &[(prop::sample::Index, u8)]) {
        self.reads_back(value);
        self.accepts_one_encoding(&self.octets(value));
        self.refuses_every_prefix_and_suffix(value);
        self.survives_changes(value, changes);
    }
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), 1..=u8::MAX), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

    #[test]
    fn change_sets_have_one_encoding(value in change_set(), changes in changes()) {
        CHANGE_SET.holds(&value, &changes);
    }

    #[test]
    fn batches_have_one_encoding(value in batch(), changes in changes()) {
        BATCH.holds(&value, &changes);
    }

    #[test]
    fn heads_have_one_encoding(value in head(), changes in changes()) {
        HEAD.holds(&value, &changes);
    }

    #[test]
    fn cache_heads_have_one_encoding(value in cache_head(), changes in changes()) {
        CACHE_HEAD.holds(&value, &changes);
    }

    #[test]
    fn indexes_have_one_encoding(value in index(), changes in changes()) {
        INDEX.holds(&value, &changes);
    }

    #[test]
    fn differences_have_one_encoding(value in difference(), changes in changes()) {
        DIFFERENCE.holds(&value, &changes);
    }

    #[test]
    fn absences_have_one_encoding(value in absence(), changes in changes()) {
        ABSENCE.holds(&value, &changes);
    }

    #[test]
    fn zone_blobs_have_one_encoding(value in zone_blob(), changes in changes()) {
        ZONE_BLOB.holds(&value, &changes);
    }

    #[test]
    fn change_sets_that_are_encoded_make_the_batch_of_their_values(value in batch()) {
        let place = BatchPlace {
            generation: value.generation,
            epoch: value.epoch,
            first_sequence: value.first_sequence,
            previous_chain: value.previous_chain,
        };
        prop_assert_eq!(value.place(), place);
        let encoded: Vec<_> = value.change_sets.iter().map(|set| CHANGE_SET.octets(set)).collect();
        let octets = BATCH.octets(&value);
        // Part by part, as `feed` has them: the encoder goes through `assemble` itself.
        let mut parts = [b"GDWT\x02\x01\0\0", &place.generation.to_be_bytes()[..]].concat();
        parts.extend([place.epoch, place.first_sequence].iter().flat_map(|number| number.to_be_bytes()));
        parts.extend(place.previous_chain);
        codec::put_count(&mut parts, encoded.len());
        encoded.iter().for_each(|set| codec::put_octets(&mut parts, set));
        prop_assert_eq!(&octets, &parts);
        let mut behind = b"before".to_vec();
        let chain = place.assemble(&encoded, None, &mut behind);
        prop_assert_eq!(behind.strip_prefix(b"before"), Some(&octets[..]));
        prop_assert_eq!(chain, value.chain());
        prop_assert_eq!(Batch::chain_of(&octets), Ok(chain));
        if !cfg!(miri) {
            let (mut signed, mut behind) = (Vec::new(), b"before".to_vec());
            value.encode_signed(&key(), &mut signed);
            prop_assert_eq!(place.assemble(&encoded, Some(&key()), &mut behind), chain);
            prop_assert_eq!(behind.strip_prefix(b"before"), Some(&signed[..]));
            prop_assert_eq!(Batch::chain_of(&signed), Ok(chain));
            prop_assert_eq!(Batch::verify(&signed, &[key().verifying_key()]), Ok(()));
        }
    }

    #[test]
    fn any_octets_give_a_value_or_an_error(kind in 1u8..=9, octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let octets = [b"GDWT", &[kind, 1, 0, 0][..], &octets].concat();
        CHANGE_SET.accepts_one_encoding(&octets);
        BATCH.accepts_one_encoding(&octets);
        HEAD.accepts_one_encoding(&octets);
        CACHE_HEAD.accepts_one_encoding(&octets);
        ZONE_BLOB.accepts_one_encoding(&octets);
        INDEX.accepts_one_encoding(&octets);
        DIFFERENCE.accepts_one_encoding(&octets);
        ABSENCE.accepts_one_encoding(&octets);
    }

    #[test]
    fn the_digest_is_that_of_the_set_and_not_of_its_form(
        owned in owned_in(name("example.")),
        seed in any::<u64>(),
        upper in any::<bool>(),
    ) {
        let key = DigestKey([1; 32]);
        let zone = name("example.");
        let of = |rrset: &Rrset| rrset_digest(&key, zone.as_ref(), owned.owner.as_ref(), rrset);
        let mut other = owned.rrset.clone();
        let count = other.rdata.len();
        other.rdata.rotate_left(usize::try_from(seed % 5).unwrap() % count);
        other.rrsigs.reverse();
        other.rdata.push(other.rdata[0].clone());
        if other.rtype == Rtype::MX && upper {
            for rdata in &mut other.rdata {
                rdata[2..].make_ascii_uppercase();
            }
        }
        prop_assert_eq!(of(&owned.rrset), of(&other));
        // The streaming form is the same term.
        let mut octets = vec![7];
        let owner = owned.owner.as_ref();
        let mut hasher = RrsetHasher::new(&key, zone.as_ref(), owner, other.rtype, other.ttl, &mut octets);
        for rdata in &owned.rrset.rdata {
            hasher.rdata(&crate::rdata::canonical(other.rtype, rdata));
        }
        for rrsig in &owned.rrset.rrsigs {
            hasher.rrsig(&crate::rdata::canonical(Rtype::RRSIG, rrsig));
        }
        prop_assert_eq!(hasher.finish(), of(&owned.rrset));
    }

    #[test]
    fn sums_are_those_of_wide_integers(a in any::<[u8; 32]>(), b in any::<[u8; 32]>()) {
        // By octets with carry, least significant first: the obvious way.
        let mut carry = 0u16;
        let mut expected = [0u8; 32];
        for i in 0..32 {
            let sum = u16::from(a[i]) + u16::from(b[i]) + carry;
            expected[i] = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        let mut sum = Digest::from_bytes(a);
        sum.add(Digest::from_bytes(b));
        prop_assert_eq!(sum.as_bytes(), expected);
        sum.sub(Digest::from_bytes(b));
        prop_assert_eq!(sum.as_bytes(), a);
    }
}

/// A value of each kind that has every part.
fn example_zone() -> ZoneBlob {
    let rrset = |rtype, rdata: &[&[u8]]| {
        Rrset::new(rtype, 300, rdata.iter().map(|&octets| octets.into()).collect(), Vec::new())
    };
    ZoneBlob {
        zone: name("example."),
        owner: 9,
        version: 4,
        digest: Digest::from_bytes([5; 32]),
        rrsets: vec![
            OwnedRrset { owner: name("example."), rrset: rrset(Rtype::NS, &[b"\x02ns\0"]) },
            OwnedRrset { owner: name("a.example."), rrset: rrset(Rtype::A, &[b"\x01\x02\x03\x04"]) },
            OwnedRrset { owner: name("a.example."), rrset: rrset(Rtype::TXT, &[b"\x01x"]) },
        ],
    }
}

fn example_batch() -> Batch {
    let zone = example_zone();
    let change_set = ChangeSet {
        id: [1; 16],
        committed_at_us: 1_700_000_000_000_000,
        zones: vec![
            ZoneChange {
                zone: zone.zone.clone(),
                owner: 1,
                base_version: 0,
                version: 1,
                kind: ZoneChangeKind::Replace(zone.rrsets.clone()),
            },
            ZoneChange {
                zone: zone.zone.clone(),
                owner: 1,
                base_version: 1,
                version: 2,
                kind: ZoneChangeKind::Update(vec![
                    RrsetChange::Put(zone.rrsets[1].clone()),
                    RrsetChange::Delete { owner: name("a.example."), rtype: Rtype::TXT },
                ]),
            },
            ZoneChange {
                zone: zone.zone,
                owner: 1,
                base_version: 2,
                version: 3,
                kind: ZoneChangeKind::Remove,
            },
        ],
    };
    Batch {
        generation: 1,
        epoch: 2,
        first_sequence: 10,
        previous_chain: [3; 32],
        change_sets: vec![change_set.clone(), change_set],
    }
}

fn example_head() -> Head {
    Head { generation: 1, epoch: 2, sequence: 11, chain: [4; 32], root_digest: Digest::from_bytes([6; 32]) }
}

fn example_place() -> IndexPlace {
    IndexPlace { generation: 1, epoch: 2, sequence: 11, chain: [4; 32], settled: 13 }
}

fn example_cache_head() -> CacheHead {
    CacheHead { place: example_place(), sum: Digest::from_bytes([6; 32]) }
}

/// The second and third names are in another order by their octets.
fn example_index() -> Index {
    let entry =
        |(zone, version)| IndexEntry { zone: name(zone), version, digest: Digest::from_bytes([7; 32]) };
    let zones = [(".", 3), ("longer.example.", 1), ("a.test.", 2)].map(entry).to_vec();
    Index { place: example_place(), zones }
}

fn example_difference() -> Difference {
    let Index { place, zones } = example_index();
    Difference {
        place,
        sum: Digest::from_bytes([6; 32]),
        parts: Parts::from_bytes([9; PARTS as usize / 8]),
        zones,
    }
}

fn example_absence() -> Absence {
    Absence { zone: name("a.test."), version: 2, settled: 13 }
}

/// The octets, once and for all: other versions have to read them.
#[test]
fn a_difference_and_an_absence_have_these_octets() {
    let place =
        [&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 11][..], &[4; 32]].concat();
    let zones = [
        [&b"\0"[..], &[0, 0, 0, 0, 0, 0, 0, 3], &[7; 32]].concat(),
        [&b"\x06longer\x07example\0"[..], &[0, 0, 0, 0, 0, 0, 0, 1], &[7; 32]].concat(),
        [&b"\x01a\x04test\0"[..], &[0, 0, 0, 0, 0, 0, 0, 2], &[7; 32]].concat(),
    ];
    let expected = [
        b"GDWT\x08\x01\0\0".to_vec(),
        place,
        vec![0, 0, 0, 0, 0, 0, 0, 13],
        vec![6; 32],
        vec![9; 128],
        vec![3],
        zones.concat(),
    ];
    assert_eq!(DIFFERENCE.octets(&example_difference()), expected.concat());
    let expected = b"GDWT\x09\x01\0\0\x01a\x04test\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x0d";
    assert_eq!(ABSENCE.octets(&example_absence()), expected);
}

#[cfg(not(miri))]
#[test]
fn signatures_cover_every_octet() {
    let keys = [SigningKey::from_seed(&[8; 32]).unwrap().verifying_key(), key().verifying_key()];
    type Verify = fn(&[u8], &[VerifyingKey]) -> Result<(), SignatureError>;
    let mut signed: [(Vec<u8>, Verify); 7] = [
        (Vec::new(), Batch::verify),
        (Vec::new(), Head::verify),
        (Vec::new(), ZoneBlob::verify),
        (Vec::new(), Index::verify),
        (Vec::new(), CacheHead::verify),
        (Vec::new(), Difference::verify),
        (Vec::new(), Absence::verify),
    ];
    example_batch().encode_signed(&key(), &mut signed[0].0);
    example_head().encode_signed(&key(), &mut signed[1].0);
    example_zone().encode_signed(&key(), &mut signed[2].0);
    example_index().encode_signed(&key(), &mut signed[3].0);
    example_cache_head().encode_signed(&key(), &mut signed[4].0);
    example_difference().encode_signed(&key(), &mut signed[5].0);
    example_absence().encode_signed(&key(), &mut signed[6].0);
    // A batch that is encoded already is signed as one that is not.
    let unsigned = BATCH.octets(&example_batch());
    for octets in [&unsigned, &signed[0].0] {
        assert_eq!(Batch::sign(octets, &key()).as_ref(), Ok(&signed[0].0));
    }
    assert!(Batch::sign(&signed[1].0, &key()).is_err());
    for (octets, verify) in &signed {
        assert_eq!(verify(octets, &keys), Ok(()));
        assert_eq!(verify(octets, &keys[..1]), Err(SignatureError::Invalid));
        assert_eq!(verify(octets, &[]), Err(SignatureError::Invalid));
        for at in 0..octets.len() {
            let mut changed = octets.clone();
            changed[at] ^= 1;
            assert!(verify(&changed, &keys).is_err(), "octet {at} is not covered");
        }
    }
    let mut unsigned = Vec::new();
    example_head().encode(&mut unsigned);
    assert_eq!(Head::verify(&unsigned, &keys), Err(SignatureError::Missing));
    assert_eq!(Index::verify(&INDEX.octets(&example_index()), &keys), Err(SignatureError::Missing));
    // A signature of one kind does not fit another.
    assert!(matches!(Head::verify(&signed[0].0, &keys), Err(SignatureError::Decode(_))));
    for (from, to) in [(1, 3), (3, 1), (1, 4), (4, 1)] {
        let mut octets = signed[from].0.clone();
        octets[4] = signed[to].0[4];
        assert_eq!(signed[to].1(&octets, &keys), Err(SignatureError::Invalid));
    }
}

#[cfg(not(miri))]
#[test]
fn the_chain_binds_everything_but_the_signature() {
    let batch = example_batch();
    let (mut plain, mut signed) = (Vec::new(), Vec::new());
    batch.encode(&mut plain);
    batch.encode_signed(&key(), &mut signed);
    assert_eq!(Batch::chain_of(&plain), Ok(batch.chain()));
    assert_eq!(Batch::chain_of(&signed), Ok(batch.chain()));
    assert_eq!(batch.last_sequence(), 11);
    for change in [
        |batch: &mut Batch| batch.generation += 1,
        |batch: &mut Batch| batch.epoch += 1,
        |batch: &mut Batch| batch.first_sequence += 1,
        |batch: &mut Batch| batch.previous_chain[31] ^= 1,
        |batch: &mut Batch| batch.change_sets[1].committed_at_us += 1,
        |batch: &mut Batch| batch.change_sets.truncate(1),
    ] {
        let mut other = batch.clone();
        change(&mut other);
        assert_ne!(other.chain(), batch.chain());
    }
}

#[test]
fn every_part_of_an_rrset_is_in_its_digest() {
    let rrsig: Box<[u8]> = [&[0, 1][..], &[0; 16], b"\x07example\0sig"].concat().into();
    let set = Rrset::new(Rtype::A, 60, vec![[1; 4].into(), [2; 4].into()], vec![rrsig]);
    let (key, zone, owner) = (DigestKey([1; 32]), name("example."), name("a.example."));
    let base = rrset_digest(&key, zone.as_ref(), owner.as_ref(), &set);
    let with = |change: fn(&mut Rrset)| {
        let mut set = set.clone();
        change(&mut set);
        rrset_digest(&key, zone.as_ref(), owner.as_ref(), &set)
    };
    let others = [
        rrset_digest(&DigestKey([2; 32]), zone.as_ref(), owner.as_ref(), &set),
        rrset_digest(&key, NameRef::ROOT, owner.as_ref(), &set),
        rrset_digest(&key, zone.as_ref(), zone.as_ref(), &set),
        with(|set| set.ttl = 61),
        with(|set| set.rtype = Rtype(65_280)),
        with(|set| set.rdata[1] = [3; 4].into()),
        with(|set| set.rdata.truncate(1)),
        with(|set| set.rrsigs.clear()),
        with(|set| set.rdata.append(&mut set.rrsigs)),
        zone_term(&key, zone.as_ref(), 1, base),
        zone_term(&key, zone.as_ref(), 2, base),
        zone_term(&key, owner.as_ref(), 1, base),
        zone_term(&key, zone.as_ref(), 1, Digest::default()),
        Digest::default(),
    ];
    for (i, other) in others.iter().enumerate() {
        assert_ne!(*other, base, "case {i}");
        assert!(!others[..i].contains(other), "case {i} equals an earlier one");
    }
}

#[test]
fn a_digest_prints_its_octets() {
    let mut octets = [0; 32];
    octets[0] = 0xAB;
    octets[31] = 1;
    let text = Digest::from_bytes(octets).to_string();
    assert_eq!((&text[..4], &text[60..], text.len()), ("ab00", "0001", 64));
}
