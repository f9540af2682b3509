//! Properties of the feed as a whole: one encoding of each value, one value of each encoding, errors for the rest.

use proptest::prelude::*;

use super::digest::{rrset_digest, zone_term};
use super::*;
use crate::name::{Name, NameRef};
use crate::rr::{MAX_TTL, Rrset, Rtype};

const ZONES: [&str; 4] = [".", "example.", "a\\000b.example.", "xn--bcher-kva.example.org."];

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32]).unwrap()
}

fn owner_in(zone: Name) -> impl Strategy<Value = Name> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6), 0..4).prop_map(move |labels| {
        let mut octets = Vec::new();
        for label in labels {
            octets.push(u8::try_from(label.len()).unwrap());
            octets.extend_from_slice(&label);
        }
        octets.extend_from_slice(zone.as_wire());
        Name::from_wire(&octets).unwrap()
    })
}

/// RDATA whose names are in any case, so that canonical form and stored form differ.
fn rdata_of(rtype: Rtype) -> BoxedStrategy<Box<[u8]>> {
    let target = prop::sample::select(vec![&b"\x01a\0"[..], b"\x01A\0", b"\x03Www\x07eXample\0", b"\0"]);
    match rtype {
        Rtype::A => any::<[u8; 4]>().prop_map(Into::into).boxed(),
        Rtype::MX => (any::<[u8; 2]>(), target).prop_map(|(p, t)| [&p, t].concat().into()).boxed(),
        Rtype::TXT => prop::collection::vec(any::<u8>(), 0..300)
            .prop_map(|text| {
                let strings = text
                    .chunks(255)
                    .flat_map(|c| std::iter::once(u8::try_from(c.len()).unwrap()).chain(c.iter().copied()));
                let octets: Vec<u8> = strings.collect();
                if octets.is_empty() { Box::from([0]) } else { octets.into() }
            })
            .boxed(),
        _ => prop::collection::vec(any::<u8>(), 0..20).prop_map(Into::into).boxed(),
    }
}

fn rrset() -> impl Strategy<Value = Rrset> {
    prop::sample::select(vec![Rtype::A, Rtype::MX, Rtype::TXT, Rtype(65_280)]).prop_flat_map(|rtype| {
        let records = prop::collection::vec(rdata_of(rtype), 1..5);
        let rrsigs = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..3);
        (records, rrsigs, 0..=MAX_TTL).prop_map(move |(records, tails, ttl)| {
            let rrsigs = tails.iter().map(|tail| {
                let mut octets = rtype.0.to_be_bytes().to_vec();
                octets.extend_from_slice(&[0; 16]);
                octets.extend_from_slice(b"\x07Example\0");
                octets.extend_from_slice(tail);
                octets.into()
            });
            Rrset::new(rtype, ttl, records, rrsigs.collect())
        })
    })
}

fn owned_in(zone: Name) -> impl Strategy<Value = OwnedRrset> {
    (owner_in(zone), rrset()).prop_map(|(owner, rrset)| OwnedRrset { owner, rrset })
}

fn zone() -> impl Strategy<Value = Name> {
    prop::sample::select(ZONES.to_vec()).prop_map(name)
}

fn zone_change() -> impl Strategy<Value = ZoneChange> {
    zone().prop_flat_map(|zone| {
        let change = prop_oneof![
            owned_in(zone.clone()).prop_map(RrsetChange::Put),
            owner_in(zone.clone()).prop_map(|owner| RrsetChange::Delete { owner, rtype: Rtype::AAAA }),
        ];
        let kind = prop_oneof![
            4 => prop::collection::vec(change, 0..4).prop_map(ZoneChangeKind::Update),
            2 => prop::collection::vec(owned_in(zone.clone()), 0..4).prop_map(ZoneChangeKind::Replace),
            1 => Just(ZoneChangeKind::Remove),
        ];
        (any::<u32>(), 1..u64::MAX, kind).prop_map(move |(owner, base_version, kind)| ZoneChange {
            zone: zone.clone(),
            owner,
            base_version,
            version: base_version + 1,
            kind,
        })
    })
}

fn change_set() -> impl Strategy<Value = ChangeSet> {
    (any::<[u8; 16]>(), any::<i64>(), prop::collection::vec(zone_change(), 0..4))
        .prop_map(|(id, committed_at_us, zones)| ChangeSet { id, committed_at_us, zones })
}

fn batch() -> impl Strategy<Value = Batch> {
    (any::<[u64; 2]>(), 1..u64::MAX - 5, any::<[u8; 32]>(), prop::collection::vec(change_set(), 1..4))
        .prop_map(|([generation, epoch], first_sequence, previous_chain, change_sets)| Batch {
            generation,
            epoch,
            first_sequence,
            previous_chain,
            change_sets,
        })
}

fn head() -> impl Strategy<Value = Head> {
    (any::<[u64; 2]>(), 1..=u64::MAX, any::<[[u8; 32]; 2]>()).prop_map(
        |([generation, epoch], sequence, [chain, root])| Head {
            generation,
            epoch,
            sequence,
            chain,
            root_digest: Digest::from_bytes(root),
        },
    )
}

fn zone_blob() -> impl Strategy<Value = ZoneBlob> {
    zone().prop_flat_map(|zone| {
        (prop::collection::vec(owned_in(zone.clone()), 0..6), any::<(u32, u64)>(), any::<[u8; 32]>())
            .prop_map(move |(mut rrsets, (owner, version), digest)| {
                rrsets.sort_by(|a, b| (&a.owner, a.rrset.rtype).cmp(&(&b.owner, b.rrset.rtype)));
                rrsets.dedup_by(|a, b| a.owner == b.owner && a.rrset.rtype == b.rrset.rtype);
                ZoneBlob { zone: zone.clone(), owner, version, digest: Digest::from_bytes(digest), rrsets }
            })
    })
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
const BATCH: Codec<Batch> = Codec {
    encode: Batch::encode,
    encode_signed: Some(Batch::encode_signed),
    decode: Batch::decode,
    mend: |_| {},
};
const HEAD: Codec<Head> = Codec {
    encode: Head::encode,
    encode_signed: Some(Head::encode_signed),
    decode: Head::decode,
    mend: |_| {},
};
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
            let mut signed = b"before".to_vec();
            encode_signed(value, &key(), &mut signed);
            assert_eq!((self.decode)(&signed[6..]).as_ref(), Ok(value));
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
    fn zone_blobs_have_one_encoding(value in zone_blob(), changes in changes()) {
        ZONE_BLOB.holds(&value, &changes);
    }

    #[test]
    fn any_octets_give_a_value_or_an_error(kind in 1u8..=4, octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let octets = [b"GDWT", &[kind, 1, 0, 0][..], &octets].concat();
        CHANGE_SET.accepts_one_encoding(&octets);
        BATCH.accepts_one_encoding(&octets);
        HEAD.accepts_one_encoding(&octets);
        ZONE_BLOB.accepts_one_encoding(&octets);
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

#[cfg(not(miri))]
#[test]
fn signatures_cover_every_octet() {
    let keys = [SigningKey::from_seed(&[8; 32]).unwrap().verifying_key(), key().verifying_key()];
    type Verify = fn(&[u8], &[VerifyingKey]) -> Result<(), SignatureError>;
    let mut signed: [(Vec<u8>, Verify); 3] =
        [(Vec::new(), Batch::verify), (Vec::new(), Head::verify), (Vec::new(), ZoneBlob::verify)];
    example_batch().encode_signed(&key(), &mut signed[0].0);
    example_head().encode_signed(&key(), &mut signed[1].0);
    example_zone().encode_signed(&key(), &mut signed[2].0);
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
    // A signature of one kind does not fit another.
    assert!(matches!(Head::verify(&signed[0].0, &keys), Err(SignatureError::Decode(_))));
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

/// Encodes an A record set, lets `change` spoil the value, and gives the reason for which it is refused.
fn refusal(change: impl FnOnce(&mut ZoneChange)) -> Reason {
    let mut zone = ZoneChange {
        zone: name("example."),
        owner: 0,
        base_version: 1,
        version: 2,
        kind: ZoneChangeKind::Replace(vec![example_zone().rrsets[1].clone()]),
    };
    change(&mut zone);
    let mut octets = Vec::new();
    ChangeSet { id: [0; 16], committed_at_us: 0, zones: vec![zone] }.encode(&mut octets);
    ChangeSet::decode(&octets).expect_err("accepted").reason
}

fn set(zone: &mut ZoneChange) -> &mut OwnedRrset {
    match &mut zone.kind {
        ZoneChangeKind::Replace(rrsets) => &mut rrsets[0],
        _ => unreachable!("the value is a replacement"),
    }
}

#[test]
fn wrong_values_are_refused_by_name() {
    assert_eq!(refusal(|zone| set(zone).owner = name("other.")), Reason::OutOfZone);
    assert_eq!(refusal(|zone| set(zone).rrset.rtype = Rtype::ANY), Reason::Type(Rtype::ANY));
    assert_eq!(refusal(|zone| set(zone).rrset.rtype = Rtype::RRSIG), Reason::Type(Rtype::RRSIG));
    assert_eq!(refusal(|zone| set(zone).rrset.ttl = MAX_TTL + 1), Reason::Ttl(MAX_TTL + 1));
    assert_eq!(refusal(|zone| set(zone).rrset.rdata.clear()), Reason::Empty("records in an RRset"));
    assert!(matches!(refusal(|zone| set(zone).rrset.rdata[0] = [1; 3].into()), Reason::Rdata { .. }));
    let wrong: Box<[u8]> = [&[0, 2][..], &[0; 16], b"\0sig"].concat().into();
    assert_eq!(
        refusal(|zone| set(zone).rrset.rrsigs.push(wrong)),
        Reason::Covers { found: Rtype::NS, expected: Rtype::A }
    );
    assert_eq!(refusal(|zone| zone.version = 1), Reason::ZoneVersion { version: 1, base: 1 });
    assert_eq!(
        refusal(|zone| {
            zone.base_version = 0;
            zone.kind = ZoneChangeKind::Remove;
        }),
        Reason::RemovesNothing
    );
    assert_eq!(
        refusal(|zone| {
            zone.kind = ZoneChangeKind::Update(vec![RrsetChange::Delete {
                owner: name("example."),
                rtype: Rtype::OPT,
            }]);
        }),
        Reason::Type(Rtype::OPT)
    );
    let too_long: Box<[u8]> = vec![0; 65_536].into();
    assert!(matches!(
        refusal(|zone| {
            set(zone).rrset.rtype = Rtype(65_280);
            set(zone).rrset.rdata[0] = too_long;
        }),
        Reason::Rdata { .. }
    ));
}

#[test]
fn a_batch_has_one_to_a_thousand_change_sets() {
    let decode = |count: usize| {
        let mut batch = example_batch();
        batch.change_sets = vec![ChangeSet { id: [0; 16], committed_at_us: 0, zones: Vec::new() }; count];
        let mut octets = Vec::new();
        batch.encode(&mut octets);
        Batch::decode(&octets).map(|batch| batch.change_sets.len()).map_err(|error| error.reason)
    };
    assert_eq!(decode(0), Err(Reason::Empty("change set in a batch")));
    assert_eq!(decode(1_000), Ok(1_000));
    assert_eq!(decode(1_001), Err(Reason::TooMany { what: "change sets", found: 1_001, limit: 1_000 }));
}

#[test]
fn sequences_start_at_one_and_do_not_wrap() {
    for (first, ok) in [(0, false), (1, true), (u64::MAX - 1, true), (u64::MAX, false)] {
        let mut octets = Vec::new();
        Batch { first_sequence: first, ..example_batch() }.encode(&mut octets);
        assert_eq!(Batch::decode(&octets).is_ok(), ok, "{first}");
    }
}

#[test]
fn what_is_not_known_is_refused() {
    let mut good = Vec::new();
    example_head().encode(&mut good);
    for (at, octet, reason) in [
        (0, b'X', Reason::Magic),
        (4, 2, Reason::Kind { found: 2, expected: 3 }),
        (5, 2, Reason::Version(2)),
        (6, 0x80, Reason::Flags(0x8000)),
        (7, 2, Reason::Flags(2)),
    ] {
        let mut octets = good.clone();
        octets[at] = octet;
        assert_eq!(Head::decode(&octets).expect_err("accepted").reason, reason);
    }
    // A change set has no signature of its own.
    let mut octets = Vec::new();
    example_batch().change_sets[0].encode(&mut octets);
    octets[7] = 1;
    assert_eq!(ChangeSet::decode(&octets).expect_err("accepted").reason, Reason::Flags(1));
}

#[test]
fn errors_say_where() {
    let mut octets = Vec::new();
    example_batch().encode(&mut octets);
    // Inside the second change set, which stands in the batch: the offset counts from the start of the batch.
    let at = octets.len() - 1;
    octets[at] = 9;
    let error = Batch::decode(&octets).expect_err("accepted");
    assert_eq!(error.to_string(), format!("at octet {at}: 9 is not the number of a zone change"));
}

#[test]
fn records_out_of_order_or_repeated_are_refused() {
    let mut zone = example_zone();
    zone.rrsets[1].rrset.rdata = vec![[1; 4].into(), [2; 4].into()];
    let change = ZoneChange {
        zone: zone.zone.clone(),
        owner: 0,
        base_version: 0,
        version: 1,
        kind: ZoneChangeKind::Replace(vec![zone.rrsets[1].clone()]),
    };
    let mut octets = Vec::new();
    ChangeSet { id: [0; 16], committed_at_us: 0, zones: vec![change] }.encode(&mut octets);
    assert!(ChangeSet::decode(&octets).is_ok());
    // The octets end with both records, each behind its length, and no signatures.
    for records in [[4, 2, 2, 2, 2, 4, 1, 1, 1, 1], [4, 1, 1, 1, 1, 4, 1, 1, 1, 1]] {
        let mut wrong = octets.clone();
        let end = wrong.len() - 1;
        wrong[end - 10..end].copy_from_slice(&records);
        assert_eq!(
            ChangeSet::decode(&wrong).expect_err("accepted").reason,
            Reason::Order("records of an RRset")
        );
    }
}

#[test]
fn a_zone_blob_with_one_octet_changed_is_refused() {
    let octets = ZONE_BLOB.octets(&example_zone());
    for at in 0..octets.len() {
        let mut changed = octets.clone();
        changed[at] ^= 0x10;
        assert!(ZoneBlob::decode(&changed).is_err(), "octet {at}");
    }
}

#[test]
fn a_zone_blob_writer_sorts_types_and_refuses_repeats() {
    let zone = example_zone();
    let write = |order: &[usize]| {
        let mut out = Vec::new();
        let mut writer = ZoneBlobWriter::new(&mut out, zone.zone.as_ref(), 9, 4, None);
        for &i in order {
            writer.push(zone.rrsets[i].owner.as_ref(), &zone.rrsets[i].rrset);
        }
        writer.finish(zone.digest);
        ZoneBlob::decode(&out)
    };
    assert_eq!(write(&[0, 2, 1]).as_ref(), Ok(&zone));
    for order in [&[0, 1, 1][..], &[1, 0], &[0, 1, 0]] {
        assert_eq!(write(order).expect_err("accepted").reason, Reason::Order("RRsets of a zone"));
    }
}

#[test]
fn lengths_have_their_shortest_form_only() {
    for (octets, expected) in [
        (&[0][..], Some(0)),
        (&[0x7F], Some(127)),
        (&[0x80, 1], Some(128)),
        (&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1], Some(u64::MAX)),
        (&[0x80, 0], None),
        (&[0xFF, 0x80, 0], None),
        (&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2], None),
        (&[0x80; 11], None),
        (&[0x80], None),
        (&[], None),
    ] {
        assert_eq!(codec::Cursor::new(octets).varint().ok(), expected, "{octets:?}");
    }
    for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
        let mut out = Vec::new();
        codec::put_varint(&mut out, value);
        assert_eq!(codec::Cursor::new(&out).varint(), Ok(value));
    }
}

#[test]
fn entries_are_told_apart_by_their_kind() {
    let (batch, head) = (example_batch(), example_head());
    let (mut of_batch, mut of_head) = (Vec::new(), Vec::new());
    batch.encode(&mut of_batch);
    head.encode(&mut of_head);
    assert_eq!(Entry::decode(&of_batch), Ok(Entry::Batch(batch)));
    assert_eq!(Entry::decode(&of_head), Ok(Entry::Head(head)));
    // A head that cannot be read is not called a bad batch.
    assert_eq!(Entry::decode(&of_head[..20]).map_err(|error| error.reason), Err(Reason::Short));
    of_head[5] = 9;
    assert_eq!(Entry::decode(&of_head).map_err(|error| error.reason), Err(Reason::Version(9)));
    for (octets, reason) in
        [(&b"GDWT\x04\x01"[..], Reason::Kind { found: 4, expected: 2 }), (b"", Reason::Short)]
    {
        assert_eq!(Entry::decode(octets).map_err(|error| error.reason), Err(reason));
    }
}

#[test]
fn the_last_sequence_is_right_at_the_end_of_the_numbers() {
    let mut batch = example_batch();
    batch.change_sets.truncate(1);
    batch.first_sequence = u64::MAX;
    assert_eq!(batch.last_sequence(), u64::MAX);
    batch.first_sequence = 7;
    assert_eq!(batch.last_sequence(), 7);
}
