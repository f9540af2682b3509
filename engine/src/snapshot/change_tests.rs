//! Change sets that must not be applied, and what a change leaves alone.

use godwit_wire::feed::digest::{self, DigestKey};
use godwit_wire::feed::{ChangeSet, OwnedRrset, RrsetChange, ZoneChange, ZoneChangeKind};
use godwit_wire::name::Name;
use godwit_wire::presentation;
use godwit_wire::rr::{Rrset, Rtype};

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn put(owner: &str, rtype: Rtype, rdata: &[&str]) -> OwnedRrset {
    let rdata = rdata.iter().map(|text| presentation::parse_rdata(rtype, text, None).unwrap()).collect();
    OwnedRrset { owner: name(owner), rrset: Rrset::new(rtype, 60, rdata, vec![]) }
}

fn zone(apex: &str) -> ZoneChange {
    let rrsets = vec![
        put(apex, Rtype::SOA, &["ns.other. host.other. 1 2 3 4 60"]),
        put(apex, Rtype::NS, &["ns.other."]),
        put(&format!("www.{apex}"), Rtype::A, &["192.0.2.1"]),
    ];
    change(apex, 0, 1, ZoneChangeKind::Replace(rrsets))
}

fn change(apex: &str, base_version: u64, version: u64, kind: ZoneChangeKind) -> ZoneChange {
    ZoneChange { zone: name(apex), owner: 0, base_version, version, kind }
}

fn update(apex: &str, base_version: u64, changes: Vec<RrsetChange>) -> ZoneChange {
    change(apex, base_version, base_version + 1, ZoneChangeKind::Update(changes))
}

fn set(zones: Vec<ZoneChange>) -> ChangeSet {
    ChangeSet { id: [0; 16], committed_at_us: 0, zones }
}

fn snapshot() -> Snapshot {
    let options = SnapshotOptions { hash_key: [1; 16], digest_key: DigestKey([2; 32]) };
    Snapshot::empty(&options).apply(&set(vec![zone("a."), zone("b.")])).unwrap()
}

/// P2: of a change set over two zones, one of them bad, nothing is to be seen.
#[test]
fn p2_a_change_set_applies_whole_or_not_at_all() {
    let before = snapshot();
    let good = update("a.", 1, vec![RrsetChange::Put(put("new.a.", Rtype::A, &["192.0.2.9"]))]);
    let bad = update("b.", 1, vec![RrsetChange::Put(put("new.a.", Rtype::A, &["192.0.2.9"]))]);
    let error = before.apply(&set(vec![good.clone(), bad])).err().unwrap();
    assert_eq!(error.zone, name("b."));
    assert_eq!(before.root_digest(), snapshot().root_digest());
    before.check().unwrap();
    let after = before.apply(&set(vec![good])).unwrap();
    after.check().unwrap();
    assert_eq!(before.root_digest(), snapshot().root_digest(), "the snapshot before stays as it was");
    assert_ne!(after.root_digest(), before.root_digest());
}

/// P8: a change for another version than the zone has is refused, an old one late above all.
#[test]
fn p8_a_change_for_another_version_is_refused() {
    let before = snapshot();
    let delete = || vec![RrsetChange::Delete { owner: name("www.a."), rtype: Rtype::A }];
    let once = before.apply(&set(vec![update("a.", 1, delete())])).unwrap();
    for (base_version, actual) in [(1, 2), (3, 2), (0, 2)] {
        let error = once.apply(&set(vec![update("a.", base_version, delete())])).err().unwrap();
        assert_eq!(error.reason, ApplyFault::BaseVersion { expected: base_version, actual });
    }
    let backwards = change("a.", 2, 2, ZoneChangeKind::Update(delete()));
    assert_eq!(once.apply(&set(vec![backwards])).err().unwrap().reason, ApplyFault::Version(2));
}

#[test]
fn what_is_no_zone_is_refused() {
    let before = snapshot();
    let delete = |owner: &str, rtype| RrsetChange::Delete { owner: name(owner), rtype };
    let rows = [
        ("the SOA gone", vec![delete("a.", Rtype::SOA)]),
        ("NS gone", vec![delete("a.", Rtype::NS)]),
        ("CNAME beside A", vec![RrsetChange::Put(put("www.a.", Rtype::CNAME, &["x.a."]))]),
        ("two CNAMEs", vec![RrsetChange::Put(put("c.a.", Rtype::CNAME, &["x.a.", "y.a."]))]),
        ("SOA below the apex", vec![RrsetChange::Put(put("c.a.", Rtype::SOA, &["a. a. 1 2 3 4 5"]))]),
        ("out of zone", vec![RrsetChange::Put(put("c.b.", Rtype::A, &["192.0.2.1"]))]),
        ("many iterations", vec![RrsetChange::Put(put("a.", Rtype::NSEC3PARAM, &["1 0 51 -"]))]),
        (
            "a long salt",
            vec![RrsetChange::Put(put("a.", Rtype::NSEC3PARAM, &[&format!("1 0 0 {}", "ab".repeat(33))]))],
        ),
        (
            "no records",
            vec![RrsetChange::Put(OwnedRrset {
                owner: name("c.a."),
                rrset: Rrset::new(Rtype::A, 60, vec![], vec![]),
            })],
        ),
    ];
    for (what, changes) in rows {
        assert!(before.apply(&set(vec![update("a.", 1, changes)])).is_err(), "{what}");
    }
}

/// P5: a flipped bit shows when the digest is worked out from the records.
#[test]
fn p5_the_digest_is_that_of_the_records() {
    let before = snapshot();
    assert_eq!(before.recompute_digest(), before.root_digest());
    let other = |rdata| {
        before
            .apply(&set(vec![update("a.", 1, vec![RrsetChange::Put(put("www.a.", Rtype::A, &[rdata]))])]))
            .unwrap()
    };
    assert_ne!(other("192.0.2.2").root_digest(), other("192.0.2.3").root_digest());
    assert_eq!(other("192.0.2.2").root_digest(), other("192.0.2.2").root_digest());
    assert_eq!(other("192.0.2.2").recompute_digest(), other("192.0.2.2").root_digest());
}

/// P5: both planes hash the same octets, also where names are written in upper case (RFC 4034 §6.2).
#[test]
fn p5_the_digest_is_the_one_that_the_control_plane_works_out() {
    let key = DigestKey([2; 32]);
    let empty = Snapshot::empty(&SnapshotOptions { hash_key: [1; 16], digest_key: key.clone() });
    let signature = "MX 8 3 60 20300101000000 20200101000000 1 SIGNER.X. AAAA";
    let signature = presentation::parse_rdata(Rtype::RRSIG, signature, None).unwrap();
    let mut signed = put("WWW.x.", Rtype::MX, &["10 MAIL.x.", "20 b.x."]);
    signed.rrset.rrsigs.push(signature);
    let sets = vec![
        put("x.", Rtype::SOA, &["NS.other. host.other. 1 2 3 4 60"]),
        put("x.", Rtype::NS, &["ns.OTHER."]),
        signed,
    ];
    let term = |OwnedRrset { owner, rrset }: &OwnedRrset| {
        digest::rrset_digest(&key, name("x.").as_ref(), owner.as_ref(), rrset)
    };
    let mut zone_digest = digest::Digest::default();
    sets.iter().for_each(|set| zone_digest.add(term(set)));
    let snapshot = empty.apply(&set(vec![change("x.", 0, 1, ZoneChangeKind::Replace(sets))])).unwrap();
    assert_eq!(snapshot.root_digest(), digest::zone_term(&key, name("x.").as_ref(), 1, zone_digest));
}

/// A zone with data at and below every apex below its own.
fn around(apex: &str, apexes: &[&str]) -> LoadedZone {
    let mut sets = vec![
        put(apex, Rtype::SOA, &["ns.other. host.other. 1 2 3 4 60"]),
        put(apex, Rtype::NS, &["ns.other."]),
        put(&format!("www.{apex}"), Rtype::A, &["192.0.2.1"]),
    ];
    for below in apexes.iter().filter(|below| name(below).as_ref().is_below(name(apex).as_ref())) {
        sets.push(put(below, Rtype::TXT, &["hidden"]));
        sets.push(put(&format!("hidden.{below}"), Rtype::TXT, &["hidden"]));
    }
    let mut loader = ZoneLoader::new(name(apex), 0);
    for OwnedRrset { owner, rrset } in &sets {
        loader.record(owner.as_ref(), rrset.rtype, rrset.ttl, &rrset.rdata[0], 0).unwrap();
    }
    loader.finish().unwrap()
}

#[test]
fn zones_put_in_together_are_as_those_put_in_one_by_one() {
    let apexes = ["x.", "sub.x.", "deep.sub.x.", "y.", "a.sub.y.", "yy."];
    let zones = || apexes.iter().map(|apex| around(apex, &apexes)).collect::<Vec<_>>();
    assert!(zones().is_sorted_by(|a, b| a.apex() < b.apex()));
    let empty = Snapshot::empty(&SnapshotOptions { hash_key: [1; 16], digest_key: DigestKey([2; 32]) });
    let together = empty.replace_zones(zones());
    together.check().unwrap();
    let answering = apexes.len() * 2;
    let around_a_sub_y = ["sub.y."].len();
    assert_eq!((together.zone_count(), together.name_count()), (apexes.len(), answering + around_a_sub_y));
    let out_of_order = empty.replace_zones(zones().into_iter().rev().collect());
    let one_by_one = zones().into_iter().fold(empty, |snapshot, zone| snapshot.replace_zones(vec![zone]));
    for other in [out_of_order, one_by_one] {
        other.check().unwrap();
        assert_eq!(other.root_digest(), together.root_digest());
        assert_eq!((other.zone_count(), other.name_count()), (together.zone_count(), together.name_count()));
    }
}

/// Where a zone is read again, what is the same is shared, and a zone in which nothing differs stays what it was.
#[test]
fn a_zone_that_is_read_again_changes_by_what_differs() {
    let read = |www: &str| {
        let mut loader = ZoneLoader::new(name("a."), 0);
        for (owner, rtype, text) in [
            ("a.", Rtype::SOA, "ns.other. host.other. 1 2 3 4 60"),
            ("a.", Rtype::NS, "ns.other."),
            ("www.a.", Rtype::A, www),
            ("deep.down.a.", Rtype::A, "192.0.2.7"),
        ] {
            let rdata = presentation::parse_rdata(rtype, text, None).unwrap();
            loader.record(name(owner).as_ref(), rtype, 60, &rdata, 0).unwrap();
        }
        loader.finish().unwrap()
    };
    let first = snapshot().replace_zones(vec![read("192.0.2.1")]);
    let again = first.replace_zones(vec![read("192.0.2.1")]);
    let other = first.replace_zones(vec![read("192.0.2.2")]);
    let version = |snapshot: &Snapshot| snapshot.zone(name("a.").as_ref()).unwrap().version();
    assert_eq!((version(&again), version(&other)), (version(&first), version(&first) + 1));
    assert_eq!(again.root_digest(), first.root_digest());
    // Where a node lies says whether it is the same one.
    let place = |snapshot: &Snapshot, owner| {
        snapshot.names().get(name(owner).as_wire()).unwrap().name().as_wire().as_ptr()
    };
    for (owner, changes) in
        [("www.a.", true), ("deep.down.a.", false), ("down.a.", false), ("www.b.", false), ("b.", false)]
    {
        assert_eq!(place(&again, owner), place(&first, owner), "{owner}");
        assert_eq!(place(&other, owner) != place(&first, owner), changes, "{owner}");
    }
    assert_eq!(place(&again, "a."), place(&first, "a."));
    other.check().unwrap();
}
