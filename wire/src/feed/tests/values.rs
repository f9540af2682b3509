//! Values of the feed, drawn at random.

use proptest::prelude::*;

use super::{ZONES, name};
use crate::feed::*;
use crate::name::Name;
use crate::rr::{MAX_TTL, Rrset, Rtype};

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

pub(super) fn owned_in(zone: Name) -> impl Strategy<Value = OwnedRrset> {
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

pub(super) fn change_set() -> impl Strategy<Value = ChangeSet> {
    (any::<[u8; 16]>(), any::<i64>(), prop::collection::vec(zone_change(), 0..4))
        .prop_map(|(id, committed_at_us, zones)| ChangeSet { id, committed_at_us, zones })
}

pub(super) fn batch() -> impl Strategy<Value = Batch> {
    (any::<[u64; 2]>(), 1..u64::MAX - 5, any::<[u8; 32]>(), prop::collection::vec(change_set(), 1..4))
        .prop_map(|([generation, epoch], first_sequence, previous_chain, change_sets)| Batch {
            generation,
            epoch,
            first_sequence,
            previous_chain,
            change_sets,
        })
}

pub(super) fn head() -> impl Strategy<Value = Head> {
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

fn index_place() -> impl Strategy<Value = IndexPlace> {
    let at = prop_oneof![
        1 => Just((0, [0; 32])),
        3 => (1..=u64::MAX, any::<[u8; 32]>()),
    ];
    let at = at.prop_flat_map(|(sequence, chain)| (Just((sequence, chain)), sequence..=u64::MAX));
    (any::<[u64; 2]>(), at).prop_map(|([generation, epoch], ((sequence, chain), settled))| IndexPlace {
        generation,
        epoch,
        sequence,
        chain,
        settled,
    })
}

pub(super) fn cache_head() -> impl Strategy<Value = CacheHead> {
    (index_place(), any::<[u8; 32]>())
        .prop_map(|(place, sum)| CacheHead { place, sum: Digest::from_bytes(sum) })
}

pub(super) fn index() -> impl Strategy<Value = Index> {
    let entry = (zone().prop_flat_map(owner_in), any::<u64>(), any::<[u8; 32]>())
        .prop_map(|(zone, version, digest)| IndexEntry { zone, version, digest: Digest::from_bytes(digest) });
    (index_place(), prop::collection::vec(entry, 0..6)).prop_map(|(place, mut zones)| {
        zones.sort_by(|a, b| a.zone.cmp(&b.zone));
        zones.dedup_by(|a, b| a.zone == b.zone);
        Index { place, zones }
    })
}

pub(super) fn difference() -> impl Strategy<Value = Difference> {
    (index(), any::<[u8; 32]>(), prop::collection::vec(any::<u8>(), PARTS as usize / 8)).prop_map(
        |(index, sum, parts)| {
            let parts = Parts::from_bytes(parts.try_into().unwrap());
            Difference { place: index.place, sum: Digest::from_bytes(sum), parts, zones: index.zones }
        },
    )
}

pub(super) fn absence() -> impl Strategy<Value = Absence> {
    (zone(), any::<u64>(), any::<u64>()).prop_map(|(zone, version, settled)| Absence {
        zone,
        version,
        settled,
    })
}

pub(super) fn zone_blob() -> impl Strategy<Value = ZoneBlob> {
    zone().prop_flat_map(|zone| {
        (prop::collection::vec(owned_in(zone.clone()), 0..6), any::<(u32, u64)>(), any::<[u8; 32]>())
            .prop_map(move |(mut rrsets, (owner, version), digest)| {
                rrsets.sort_by(|a, b| (&a.owner, a.rrset.rtype).cmp(&(&b.owner, b.rrset.rtype)));
                rrsets.dedup_by(|a, b| a.owner == b.owner && a.rrset.rtype == b.rrset.rtype);
                ZoneBlob { zone: zone.clone(), owner, version, digest: Digest::from_bytes(digest), rrsets }
            })
    })
}
