//! What is refused, and for which reason.

use super::{
    CACHE_HEAD, INDEX, ZONE_BLOB, example_batch, example_cache_head, example_head, example_index,
    example_place, example_zone, name,
};
use crate::feed::*;
use crate::rr::{MAX_TTL, Rtype};

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
        // Without the change sets the same is known.
        assert_eq!(Batch::sequences_of(&octets).ok(), ok.then(|| first..=first + 1), "{first}");
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

fn reason_of(octets: &[u8]) -> Reason {
    Index::decode(octets).expect_err("accepted").reason
}

/// Encodes an index, lets `change` spoil the value, and gives the reason for which it is refused.
fn index_refusal(change: impl FnOnce(&mut Index)) -> Reason {
    let mut index = example_index();
    change(&mut index);
    reason_of(&INDEX.octets(&index))
}

#[test]
fn zones_of_an_index_out_of_order_or_repeated_are_refused() {
    let order = Reason::Order("zones of an index");
    assert_eq!(index_refusal(|index| index.zones.swap(0, 1)), order);
    // In the order of their octets, which is not the canonical one.
    assert_eq!(index_refusal(|index| index.zones.swap(1, 2)), order);
    assert_eq!(index_refusal(|index| index.zones[1] = index.zones[2].clone()), order);
    assert_eq!(index_refusal(|index| index.zones[1].zone = name(".")), order);
}

#[test]
fn the_sequences_of_an_index_fit_each_other() {
    for (sequence, settled, chain, ok) in [
        (0, 0, [0; 32], true),
        (0, 9, [0; 32], true),
        (0, 0, [1; 32], false),
        (1, 1, [0; 32], true),
        (1, 0, [1; 32], false),
        (11, 10, [1; 32], false),
        (11, 11, [1; 32], true),
        (u64::MAX, u64::MAX, [1; 32], true),
        (u64::MAX, 0, [1; 32], false),
    ] {
        let place = IndexPlace { sequence, settled, chain, ..example_place() };
        let expected = if ok { Ok(()) } else { Err(Reason::Sequence) };
        let octets = INDEX.octets(&Index { place, ..example_index() });
        let found = Index::decode(&octets).map(|_| ()).map_err(|error| error.reason);
        assert_eq!(found, expected, "{sequence} {settled} {}", chain[0]);
        let octets = CACHE_HEAD.octets(&CacheHead { place, ..example_cache_head() });
        let found = CacheHead::decode(&octets).map(|_| ()).map_err(|error| error.reason);
        assert_eq!(found, expected, "{sequence} {settled} {}", chain[0]);
    }
}

#[test]
fn the_count_of_an_index_is_that_of_its_zones() {
    // Header, generation, epoch, sequence, chain, settled.
    const COUNT: usize = 72;
    let octets = INDEX.octets(&example_index());
    assert_eq!(octets[COUNT], 3);
    for (count, reason) in [
        (&[2][..], Reason::Trailing),
        (&[4], Reason::Short),
        (&[0x7F], Reason::Short),
        // 2^24, which is the most there may be, and one more.
        (&[0x80, 0x80, 0x80, 8], Reason::Short),
        (
            &[0x81, 0x80, 0x80, 8],
            Reason::TooMany { what: "zones of an index", found: 16_777_217, limit: MAX_INDEX_ZONES },
        ),
    ] {
        let changed = [&octets[..COUNT], count, &octets[COUNT + 1..]].concat();
        assert_eq!(reason_of(&changed), reason, "{count:?}");
    }
    // The shortest entry there is.
    let shortest = Index { zones: example_index().zones[..1].to_vec(), ..example_index() };
    assert_eq!(Index::decode(&INDEX.octets(&shortest)), Ok(shortest));
    // Three entries with the octets that four have at least.
    let mut long = example_index();
    long.zones[2].zone = name(&format!("{}.test.", "a".repeat(60)));
    let mut changed = INDEX.octets(&long);
    changed[COUNT] = 4;
    assert_eq!(reason_of(&changed), Reason::Short);
    assert_eq!(reason_of(&[&octets[..], &[0]].concat()), Reason::Trailing);
}

#[test]
fn an_index_is_told_apart_by_its_header() {
    let good = INDEX.octets(&example_index());
    for (at, octet, reason) in
        [(4, 3, Reason::Kind { found: 3, expected: 5 }), (5, 2, Reason::Version(2)), (7, 2, Reason::Flags(2))]
    {
        let mut octets = good.clone();
        octets[at] = octet;
        assert_eq!(reason_of(&octets), reason);
    }
    let reason = Reason::Kind { found: 5, expected: 3 };
    assert_eq!(Head::decode(&good).expect_err("accepted").reason, reason);
    // A feed carries batches and heads.
    assert!(Entry::decode(&good).is_err());
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
