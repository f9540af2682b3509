//! Indexes, of all zones and of the parts that differ, and what stands for a zone that is not there: as heads, and what is accepted
//! has each zone once and in order.

use godwit_wire::feed::{
    Absence, Difference, Digest, Index, IndexEntry, IndexPlace, PARTS, PartSums, Parts, VerifyingKey,
};

use crate::{Target, holding, names, samples};

/// Checks the properties.
pub fn run(data: &[u8]) {
    run_difference(data);
    run_absence(data);
    if let Some(sums) = PartSums::decode(data) {
        assert_eq!(sums.encode(), data, "accepted octets that are written differently");
    }
    assert!(Index::verify(data, &[VerifyingKey([9; 32])]).is_err(), "a forged signature is accepted");
    let Ok(index) = Index::decode(data) else { return };
    assert!(index.zones.is_sorted_by(|a, b| a.zone < b.zone), "zones out of order, or repeated");
    assert!(index.place.settled >= index.place.sequence, "settled below the sequence");
    if !samples::is_signed(data) {
        let again = samples::octets(|out| index.encode(out));
        assert_eq!(again, data, "accepted octets that are written differently");
    }
}

fn run_difference(data: &[u8]) {
    assert!(Difference::verify(data, &[VerifyingKey([9; 32])]).is_err(), "a forged signature is accepted");
    let Ok(difference) = Difference::decode(data) else { return };
    assert!(Index::decode(data).is_err(), "of two kinds");
    assert!(difference.zones.is_sorted_by(|a, b| a.zone < b.zone), "zones out of order, or repeated");
    assert!(difference.parts.count() <= usize::from(PARTS), "more parts than there are");
    if !samples::is_signed(data) {
        let again = samples::octets(|out| difference.encode(out));
        assert_eq!(again, data, "accepted octets that are written differently");
    }
}

fn run_absence(data: &[u8]) {
    assert!(Absence::verify(data, &[VerifyingKey([9; 32])]).is_err(), "a forged signature is accepted");
    if let Ok(absence) = Absence::decode(data)
        && !samples::is_signed(data)
    {
        let again = samples::octets(|out| absence.encode(out));
        assert_eq!(again, data, "accepted octets that are written differently");
    }
}

pub(crate) fn target() -> Target {
    Target {
        name: "index",
        run,
        classes: names(&["start", "later", "ahead", "empty", "zones", "signed", "difference", "absence"]),
        classify: |data| {
            if Difference::decode(data).is_ok() {
                return names(&["difference"]);
            }
            if Absence::decode(data).is_ok() {
                return names(&["absence"]);
            }
            Index::decode(data).map_or_else(
                |_| Vec::new(),
                |index| {
                    let signed = Index::verify(data, &[samples::signing_key().verifying_key()]).is_ok();
                    holding(&[
                        ("start", index.place.sequence == 0),
                        ("later", index.place.sequence > 0),
                        ("ahead", index.place.settled > index.place.sequence),
                        ("empty", index.zones.is_empty()),
                        ("zones", index.zones.len() > 1),
                        ("signed", signed),
                    ])
                },
            )
        },
        seeds: || {
            let entry = |zone, version| IndexEntry {
                zone: samples::name(zone),
                version,
                digest: Digest::from_bytes([5; 32]),
            };
            let place = IndexPlace { generation: 1, epoch: 2, sequence: 3, chain: [4; 32], settled: 3 };
            let empty = Index { place, zones: Vec::new() };
            let later = Index { zones: vec![entry("plain.test.", 2)], ..empty.clone() };
            let start = Index { place: IndexPlace { sequence: 0, chain: [0; 32], ..place }, ..later.clone() };
            let zones = [(".", 1), ("longer.example.", 2), ("new.test.", 1), ("a.new.test.", 7)];
            let zones =
                Index { zones: zones.map(|(zone, version)| entry(zone, version)).into(), ..empty.clone() };
            let ahead = Index { place: IndexPlace { settled: 9, ..place }, ..zones.clone() };
            let difference = Difference {
                place,
                sum: Digest::from_bytes([6; 32]),
                parts: Parts::from_bytes([1; PARTS as usize / 8]),
                zones: zones.zones.clone(),
            };
            let absence = Absence { zone: samples::name("gone.test."), version: 2, settled: 9 };
            vec![
                ("difference".to_owned(), samples::octets(|out| difference.encode(out))),
                ("absence".to_owned(), samples::octets(|out| absence.encode(out))),
                ("start".to_owned(), samples::octets(|out| start.encode(out))),
                ("later".to_owned(), samples::octets(|out| later.encode(out))),
                ("ahead".to_owned(), samples::octets(|out| ahead.encode(out))),
                ("empty".to_owned(), samples::octets(|out| empty.encode(out))),
                ("zones".to_owned(), samples::octets(|out| zones.encode(out))),
                (
                    "signed".to_owned(),
                    samples::octets(|out| zones.encode_signed(&samples::signing_key(), out)),
                ),
            ]
        },
    }
}
