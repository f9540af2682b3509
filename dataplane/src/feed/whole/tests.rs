//! Together or alone, the same comes of it: what can be taken is, whatever becomes of the others.

use godwit_engine::snapshot::SnapshotOptions;
use godwit_wire::feed::{DigestKey, ZoneBlob};

use super::*;
use crate::feed::attempts::planted::{Harm, Planted};
use crate::feed::testing::{self, name};

const APEXES: [&str; 4] = ["a.test.", "b.test.", "c.test.", "d.test."];

/// A zone whose `www` has an address of its version.
fn zone(apex: &str, version: u8) -> LoadedZone {
    testing::zone(apex, version, version.into())
}

fn with(zones: Vec<LoadedZone>) -> Snapshot {
    let options = SnapshotOptions { hash_key: [1; 16], digest_key: DigestKey([2; 32]) };
    Snapshot::empty(&options).replace_zones(zones)
}

/// The same, encoded.
fn blob(apex: &str, version: u8, adjust: impl FnOnce(&mut ZoneBlob)) -> Vec<u8> {
    let snapshot = with(vec![zone(apex, version)]);
    let view = snapshot.zone(name(apex).as_ref()).unwrap();
    let mut blob = testing::blob(&view);
    adjust(&mut blob);
    let mut octets = Vec::new();
    blob.encode(&mut octets);
    octets
}

/// Puts version 5 of all zones over version 2 of two of them, with this as the blob of `b.test.`: the version of `b.test.` that is
/// there then.
fn taken(octets: Vec<u8>, attempts: &Attempts) -> u64 {
    let before = with(vec![zone("b.test.", 2), zone("c.test.", 2)]);
    let apexes = APEXES.map(name);
    let mut blobs = APEXES.map(|apex| blob(apex, 5, |_| {}));
    blobs[1] = octets;
    let zones: Vec<Whole<'_>> =
        apexes.iter().zip(&blobs).map(|(apex, blob)| Whole { apex, version: 5, blob }).collect();
    let (next, unfit) = put_all(&before, &zones, attempts);
    let version = next.zone(apexes[1].as_ref()).unwrap().version();
    let unfit: Vec<&Name> = unfit.into_iter().map(|(apex, _)| apex).collect();
    assert_eq!(unfit, if version == 5 { vec![] } else { vec![&apexes[1]] });
    let expected = with(vec![
        zone("a.test.", 5),
        zone("b.test.", u8::try_from(version).unwrap()),
        zone("c.test.", 5),
        zone("d.test.", 5),
    ]);
    assert_eq!(
        (next.root_digest(), next.recompute_digest()),
        (expected.root_digest(), expected.root_digest())
    );
    version
}

#[test]
fn p6_one_zone_that_cannot_be_taken_costs_no_other() {
    let (apex, attempts) = ("b.test.", Attempts::default());
    assert_eq!(taken(blob(apex, 5, |_| {}), &attempts), 5);
    for (what, octets) in [
        ("no blob", b"x".to_vec()),
        ("another zone", blob("x.test.", 5, |_| {})),
        ("another version", blob(apex, 6, |_| {})),
        ("another digest", blob(apex, 5, |blob| blob.digest = Digest::default())),
        ("other records", blob(apex, 5, |blob| blob.rrsets.truncate(2))),
        ("no records", blob(apex, 5, |blob| blob.rrsets.clear())),
    ] {
        assert_eq!(taken(octets, &attempts), 2, "{what}");
    }
    let planted = Planted { owner: name("www.b.test."), harm: Harm::Panic };
    assert_eq!(taken(blob(apex, 5, |_| {}), &attempts.with_planted(planted)), 2, "a panic");
}
