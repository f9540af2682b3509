//! Change sets applied step by step give what loading the zones anew gives: same digests, same records, same answers.

use std::collections::BTreeMap;

use godwit_engine::answer::Answerer;
use godwit_engine::snapshot::Snapshot;
use godwit_testkit::generate::{self, QueryOptions, WorldOptions};
use godwit_testkit::reference::{World, Zone};
use godwit_wire::feed::{ChangeSet, OwnedRrset, RrsetChange, ZoneChange, ZoneChangeKind};
use godwit_wire::name::Name;
use godwit_wire::rr::{Rrset, Rtype};

use crate::bridge;

const STEPS: u64 = 12;
const QUERIES_PER_STEP: u64 = 40;

#[test]
fn steps_equal_a_new_start() {
    let seed = generate::seed(2);
    let worlds = if generate::long() { 2_000 } else { 60 };
    for case in 0..worlds {
        run(seed, case);
    }
}

fn run(seed: u64, case: u64) {
    let options = WorldOptions { strict: false, signing: None };
    let queries = QueryOptions { plain: false, cookie_secret: [1; 16], now: 1_800_000_000 };
    let mut random = generate::random(seed, case);
    let mut world = generate::world(&mut random, &options);
    let mut versions: BTreeMap<Name, u64> = BTreeMap::new();
    let mut snapshot = bridge::empty();
    snapshot = step(&snapshot, &World::default(), &world, &mut versions);
    for number in 0..STEPS {
        let place = format!("GODWIT_SEED={seed} world {case} step {number}");
        let before = world.clone();
        generate::edit(&mut random, &options, &mut world);
        let old_digest = snapshot.root_digest();
        let next = step(&snapshot, &before, &world, &mut versions);
        assert_eq!(snapshot.root_digest(), old_digest, "{place}: the old snapshot changed");
        snapshot = next;
        snapshot.check().unwrap_or_else(|fault| panic!("{place}: {fault}"));
        let anew = rebuilt(&world, &versions);
        assert_eq!(snapshot.root_digest(), anew.root_digest(), "{place}: digest");
        assert_eq!(snapshot.root_digest(), snapshot.recompute_digest(), "{place}: digest from records");
        assert_eq!(snapshot.name_count(), anew.name_count(), "{place}: names");
        let settings = bridge::settings(&generate::settings(&mut random, [1; 16]));
        let (mut stepped, mut fresh) = (vec![0; 65_535], vec![0; 65_535]);
        let mut answerer = Answerer::new();
        for _ in 0..QUERIES_PER_STEP {
            let query = generate::query(&mut random, &queries, &world);
            let client = bridge::client(query.transport, query.address);
            let mut ask = |snapshot: &Snapshot, out: &mut [u8]| {
                answerer.answer(snapshot, &settings, &client, queries.now, &query.packet, out)
            };
            let (one, other) = (ask(&snapshot, &mut stepped), ask(&anew, &mut fresh));
            assert_eq!(one, other, "{place}: {} {}", query.qname, query.qtype);
            assert_eq!(stepped[..one.len], fresh[..other.len], "{place}: {} {}", query.qname, query.qtype);
        }
    }
}

/// All zones loaded at once, with the versions that the steps have given them.
fn rebuilt(world: &World, versions: &BTreeMap<Name, u64>) -> Snapshot {
    let zones = world.zones.iter().map(|zone| bridge::load(zone).with_version(versions[&zone.apex]));
    bridge::empty().replace_zones(zones.collect())
}

/// Applies the difference between two worlds as one change set, through its octets.
fn step(snapshot: &Snapshot, from: &World, to: &World, versions: &mut BTreeMap<Name, u64>) -> Snapshot {
    let mut zones = Vec::new();
    for zone in &to.zones {
        let old = from.zones.iter().find(|old| old.apex == zone.apex);
        let changes = differences(old, zone);
        if changes.is_empty() {
            continue;
        }
        let version = versions.entry(zone.apex.clone()).or_default();
        let base_version = *version;
        *version += 1;
        zones.push(ZoneChange {
            zone: zone.apex.clone(),
            owner: zone.owner_number,
            base_version,
            version: *version,
            kind: ZoneChangeKind::Update(changes),
        });
    }
    let mut octets = Vec::new();
    ChangeSet { id: [0; 16], committed_at_us: 0, zones }.encode(&mut octets);
    let change_set = ChangeSet::decode(&octets).expect("what was encoded decodes");
    snapshot.apply(&change_set).unwrap_or_else(|error| panic!("{error}\n{change_set:#?}"))
}

fn differences(old: Option<&Zone>, new: &Zone) -> Vec<RrsetChange> {
    let old = old.map(rrsets).unwrap_or_default();
    let new = rrsets(new);
    let gone = old
        .keys()
        .filter(|key| !new.contains_key(key))
        .map(|(owner, rtype)| RrsetChange::Delete { owner: owner.clone(), rtype: *rtype });
    let put = new.iter().filter(|(key, rrset)| old.get(key) != Some(rrset)).map(|((owner, _), rrset)| {
        RrsetChange::Put(OwnedRrset { owner: owner.clone(), rrset: rrset.clone() })
    });
    gone.chain(put).collect()
}

fn rrsets(zone: &Zone) -> BTreeMap<(Name, Rtype), Rrset> {
    let mut rrsets = BTreeMap::new();
    for record in zone.records.iter().filter(|record| record.rtype != Rtype::RRSIG) {
        rrsets.entry((record.owner.clone(), record.rtype)).or_insert_with(|| {
            let octets = |records: Vec<&godwit_testkit::reference::ZoneRecord>| {
                records.into_iter().map(|record| record.rdata.clone().into_boxed_slice()).collect()
            };
            Rrset::new(
                record.rtype,
                record.ttl,
                octets(zone.rrset(&record.owner, record.rtype)),
                octets(zone.rrsigs(&record.owner, record.rtype)),
            )
        });
    }
    rrsets
}
