//! How the machine of the feed gets to where it cannot go by batches: an index is compared, what differs is fetched, and shown
//! in one swap.

use std::time::Duration;

use godwit_dataplane::feed::machine::{Got, Want};
use godwit_engine::snapshot::Snapshot;
use godwit_wire::feed::digest::zone_term;
use godwit_wire::feed::{Difference, Digest, IndexEntry, ZoneBlob, part_of};

use super::feed_node::Node;
use super::relay::Relay;
use super::snapshots::{name, options, removal, update, whole};

#[test]
fn p5_zones_that_are_ahead_step_over_what_they_have() {
    let (mut node, mut relay) = Node::three();
    relay.prune(3);
    relay.change(vec![update("c.test", 1, [192, 0, 2, 13])]);
    relay.prune(1);
    // Four changes are committed and not published when the node compares and fetches.
    relay.commit(vec![update("a.test", 1, [192, 0, 2, 11])]);
    relay.commit(vec![update("a.test", 2, [192, 0, 2, 12]), update("b.test", 1, [192, 0, 2, 12])]);
    relay.commit(vec![removal("c.test", 2)]);
    relay.commit(vec![update("a.test", 3, [192, 0, 2, 14])]);
    let before = node.shown;
    while !matches!(node.want(), Want::Entries(after) if after.sequence == 4) {
        let want = node.wanted.last().unwrap().clone();
        if let Want::Wait(until) = want {
            node.now = until;
        }
        node.took(relay.answer(&want));
    }
    // Half of what two zones changed together is not shown: it waits for its place in the feed.
    assert_eq!((node.addresses(), node.shown), ([Some(1), Some(2), Some(3)], before));
    node.fetched();
    relay.publish_some(2);
    node.step(&relay);
    assert_eq!(node.shown, before);
    relay.publish();
    relay.change(vec![whole("c.test", 4, [192, 0, 2, 15])]);
    node.settle(&relay);
    assert_eq!(node.addresses(), [Some(14), Some(12), Some(15)]);
    assert_eq!(node.fetched(), (vec![], 0), "nothing had to be fetched twice");
    assert_eq!(node.machine.snapshot().root_digest(), relay.zones.root_digest());
    assert_eq!(node.machine.counts().digest_mismatches, 0);
}

#[test]
fn p5_a_zone_that_went_ahead_of_the_feed_is_not_missed() {
    let (mut node, mut relay) = Node::three();
    // One is listed, and gone when it is fetched; one is not even listed any more.
    relay.change(vec![update("a.test", 1, [192, 0, 2, 11]), update("b.test", 1, [192, 0, 2, 11])]);
    relay.prune(4);
    relay.commit(vec![update("c.test", 1, [192, 0, 2, 13])]);
    relay.commit(vec![removal("c.test", 2)]);
    let want = node.until(&relay, |want| matches!(want, Want::Zones(_)));
    assert_eq!(want, Want::Zones(vec![name("a.test"), name("b.test")]));
    relay.commit(vec![update("b.test", 2, [192, 0, 2, 12])]);
    relay.commit(vec![removal("b.test", 3)]);
    node.took(relay.answer(&want));
    assert_eq!(node.addresses(), [Some(1), Some(2), Some(3)]);
    node.fetched();
    // The changes that led there make nothing, one by one as they come.
    for _ in 0..4 {
        relay.publish_some(1);
        node.step(&relay);
        node.step(&relay);
    }
    assert_eq!(node.addresses(), [Some(11), None, None]);
    // What comes again after that is new, also where its first change is not its last.
    relay.change(vec![whole("b.test", 7, [192, 0, 2, 22]), update("b.test", 7, [192, 0, 2, 23])]);
    relay.change(vec![whole("c.test", 7, [192, 0, 2, 33])]);
    node.settle(&relay);
    assert_eq!(node.addresses(), [Some(11), Some(23), Some(33)]);
    assert_eq!(node.fetched(), (vec![], 0), "nothing had to be fetched twice");
    assert_eq!(node.machine.counts().digest_mismatches, 0);
}

#[test]
fn p2_what_is_ahead_is_shown_after_a_while_where_nothing_is_published() {
    let (mut node, mut relay) = (Node::new(Snapshot::empty(&options())), Relay::new());
    relay.commit(vec![whole("a.test", 1, [192, 0, 2, 1])]);
    for _ in 0..10 {
        node.step(&relay);
    }
    assert_eq!(node.shown, 0);
    node.now += Duration::from_secs(6);
    node.step(&relay);
    assert_eq!((node.shown, node.addresses()[0]), (1, Some(1)));
    // It says of itself that it is not quite as its position says.
    assert!(node.machine.snapshot().lacks_changes());
    relay.publish();
    node.settle(&relay);
    assert!(!node.machine.snapshot().lacks_changes());
    assert_eq!(node.machine.counts().digest_mismatches, 0);
}

#[test]
fn p2_half_a_resync_is_never_seen() {
    let (mut node, mut relay) = Node::three();
    let zones: Vec<String> = (0..2_500).map(|number| format!("z{number}.test")).collect();
    for zone in &zones {
        relay.change(vec![whole(zone, 1, [192, 0, 2, 1])]);
    }
    relay.change(vec![removal("a.test", 1)]);
    relay.prune(3_000);
    let before = (node.shown, node.position());
    let mut groups = 0;
    loop {
        let want = node.want();
        if let Want::Zones(zones) = &want {
            groups += 1;
            assert!(zones.len() <= 1_024, "a bounded number at a time");
        }
        if let Want::Wait(until) = want {
            node.now = until;
        }
        node.took(relay.answer(&want));
        if node.shown > before.0 {
            break;
        }
        assert_eq!((node.machine.snapshot().zone_count(), node.position()), (3, before.1));
    }
    assert_eq!((groups, node.shown), (3, before.0 + 1));
    assert_eq!(node.machine.snapshot().zone_count(), 2_502);
    assert_eq!(node.position(), relay.position());
    assert_eq!(node.machine.snapshot().root_digest(), relay.zones.root_digest());
}

#[test]
fn p5_a_zone_whose_digest_is_not_that_of_its_records_is_not_taken() {
    let (mut node, mut relay) = Node::three();
    relay.change(vec![update("a.test", 1, [192, 0, 2, 11]), update("b.test", 1, [192, 0, 2, 12])]);
    relay.prune(4);
    node.until(&relay, |want| matches!(want, Want::Zones(_)));
    // Its octets are whole, and what they hold is not what was hashed.
    let mut wrong = relay.clone();
    wrong.zones = wrong.zones.remove_zones(&[name("a.test")]);
    wrong.zones =
        wrong.zones.apply(&super::snapshots::change_set(vec![whole("a.test", 2, [192, 0, 2, 66])])).unwrap();
    let mut blob = ZoneBlob::decode(&wrong.zone(&name("a.test")).blob.unwrap()).unwrap();
    blob.digest = relay.zones.zone(name("a.test").as_ref()).unwrap().digest();
    let mut octets = Vec::new();
    blob.encode(&mut octets);
    let mut state = relay.zone(&name("a.test"));
    state.blob = Some(octets.into());
    node.took(Got::Zones(vec![
        (name("a.test"), Some(state)),
        (name("b.test"), Some(relay.zone(&name("b.test")))),
    ]));
    // It keeps what it has; the others go on.
    assert_eq!(node.addresses(), [Some(1), Some(12), Some(3)]);
    assert_eq!(node.quarantine(), [("a.test.".to_owned(), 1)]);
    node.now += Duration::from_secs(2);
    node.settle(&relay);
    assert_eq!((node.addresses()[0], node.quarantine()), (Some(11), vec![]));
}

#[test]
fn p6_one_zone_that_cannot_be_fetched_keeps_no_other_waiting() {
    let (mut node, mut relay) = (Node::new(Snapshot::empty(&options())), Relay::new());
    for zone in ["a.test", "b.test", "c.test"] {
        relay.change(vec![whole(zone, 1, [192, 0, 2, 1])]);
    }
    let start = node.now;
    while node.shown == 0 {
        let want = node.want();
        let mut got = relay.answer(&want);
        if let Got::Zones(zones) = &mut got {
            for (zone, state) in zones {
                state.take_if(|_| *zone == name("b.test"));
            }
        }
        if let Want::Wait(until) = want {
            node.now = until;
        }
        node.took(got);
        assert!(node.now < start + Duration::from_secs(120));
    }
    assert_eq!(node.addresses(), [Some(1), None, Some(1)]);
    assert_eq!(node.quarantine(), [("b.test.".to_owned(), 0)]);
    node.settle(&relay);
    assert_eq!(node.addresses(), [Some(1); 3]);
}

#[test]
fn p5_records_that_are_not_those_of_the_feed_are_found_and_one_zone_is_fetched() {
    let (node, relay) = Node::three();
    // One record is another one, as if it had been flipped where it was kept.
    let flipped = node.machine.snapshot().remove_zones(&[name("b.test")]);
    let flipped =
        flipped.apply(&super::snapshots::change_set(vec![whole("b.test", 1, [192, 0, 2, 66])])).unwrap();
    let mut node = Node::new(flipped);
    assert_eq!(node.addresses(), [Some(1), Some(66), Some(3)]);
    node.settle(&relay);
    assert_eq!(node.addresses(), [Some(1), Some(2), Some(3)]);
    assert_eq!(node.fetched(), (vec![name("b.test")], 1));
    assert_eq!(node.machine.counts().digest_mismatches, 1);
    // A zone that is missing, and one too many.
    let missing = node.machine.snapshot().remove_zones(&[name("c.test")]);
    let odd = missing.apply(&super::snapshots::change_set(vec![whole("d.test", 1, [192, 0, 2, 4])])).unwrap();
    let mut node = Node::new(odd);
    node.settle(&relay);
    assert_eq!((node.addresses(), node.machine.snapshot().zone_count()), ([Some(1), Some(2), Some(3)], 3));
    assert_eq!(node.fetched(), (vec![name("c.test")], 1));
    // Where comparing does not help it becomes rare, and batches are applied meanwhile.
    let mut relay = relay;
    let start = node.now;
    while node.now < start + Duration::from_secs(3600) {
        let want = node.want();
        match want {
            Want::Entries(_) if node.wanted.len().is_multiple_of(100) => {
                relay.change(vec![update("a.test", relay.version("a.test"), [192, 0, 2, 1])]);
                node.took(relay.answer(&want));
                assert_eq!(node.position(), relay.position());
            }
            Want::Entries(_) => {
                node.entries(vec![relay.head_of(Digest::default())]);
            }
            _ => drop(node.took(relay.answer(&want))),
        }
        node.now += Duration::from_secs(1);
    }
    let (zones, indexes) = node.fetched();
    assert!(zones.is_empty() && (8..30).contains(&indexes), "{indexes}");
}

#[test]
fn p5_under_another_key_everything_is_fetched_before_anything_changes() {
    let (mut node, _) = Node::three();
    let mut relay = Relay::with_key(9);
    relay.generation = 2;
    relay.change(vec![whole("a.test", 1, [192, 0, 2, 1])]);
    relay.change(vec![whole("b.test", 2, [192, 0, 2, 12])]);
    node.took(Got::Lost);
    node.fetched();
    let want = node.until(&relay, |want| matches!(want, Want::Zones(_)));
    assert_eq!(want, Want::Zones(vec![name("a.test"), name("b.test")]));
    assert_eq!(node.addresses(), [Some(1), Some(2), Some(3)], "what is served goes on");
    node.took(relay.answer(&want));
    assert_eq!(node.addresses(), [Some(1), Some(12), None]);
    assert_eq!(node.machine.snapshot().digest_key().0, [9; 32]);
    node.settle(&relay);
    assert_eq!(node.machine.counts().digest_mismatches, 0);
    // A zone that cannot be served there keeps the answers that it had.
    let mut third = Relay::with_key(8);
    third.generation = 3;
    third.change(vec![whole("a.test", 4, [192, 0, 2, 41])]);
    third.change(vec![whole("b.test", 4, [192, 0, 2, 42])]);
    node.took(Got::Lost);
    node.until(&third, |want| matches!(want, Want::Zones(_)));
    let mut unfit = third.zone(&name("b.test"));
    unfit.blob = Some(b"no zone".as_slice().into());
    let a = (name("a.test"), Some(third.zone(&name("a.test"))));
    assert!(node.took(Got::Zones(vec![a, (name("b.test"), Some(unfit))])).show);
    assert_eq!(node.addresses(), [Some(41), Some(12), None]);
    assert_eq!(node.quarantine(), [("b.test.".to_owned(), 2)]);
}

#[test]
fn p1_who_does_not_answer_is_asked_seldom_and_what_is_served_goes_on() {
    let (mut node, relay) = Node::three();
    let start = node.now;
    let mut asked = 0;
    while node.now < start + Duration::from_secs(3600) {
        match node.want() {
            Want::Wait(until) => node.now = until,
            _ => {
                asked += 1;
                assert!(!node.took(Got::Lost).show);
            }
        }
    }
    assert!((120..200).contains(&asked), "{asked}");
    assert_eq!(node.addresses(), [Some(1), Some(2), Some(3)]);
    node.settle(&relay);
}

#[test]
fn a_feed_without_zones_is_something_to_answer_from() {
    let (mut node, relay) = (Node::new(Snapshot::empty(&options())), Relay::new());
    node.settle(&relay);
    assert_eq!((node.position().generation, node.shown), (1, 1));
}

/// A node that holds two and a half thousand zones, and a control plane with one of them changed, one gone and a new one, of which
/// the log does not tell.
fn nearly_all() -> (Node, Relay) {
    let (mut node, mut relay) = (Node::new(Snapshot::empty(&options())), Relay::new());
    for number in 0..2_500 {
        relay.change(vec![whole(&format!("z{number}.test"), 1, [192, 0, 2, 1])]);
    }
    node.settle(&relay);
    node.fetched();
    relay.change(vec![update("z7.test", 1, [192, 0, 2, 2])]);
    relay.change(vec![removal("z8.test", 1), whole("a.test", 1, [192, 0, 2, 3])]);
    relay.prune(10_000);
    (node, relay)
}

fn is_level(node: &Node, relay: &Relay) {
    assert_eq!(node.machine.snapshot().root_digest(), relay.zones.root_digest());
    assert_eq!((node.position(), node.quarantine()), (relay.position(), vec![]));
    assert_eq!(node.machine.counts().digest_mismatches, 0);
}

#[test]
fn p5_who_holds_nearly_everything_asks_for_what_differs() {
    let (mut node, relay) = nearly_all();
    let want = node.until(&relay, |want| matches!(want, Want::Difference(_)));
    let Got::Difference(Some(octets)) = relay.answer(&want) else { panic!("{want:?}") };
    assert!(octets.len() < relay.index().len() / 50, "{} octets are nearly an index", octets.len());
    node.settle(&relay);
    is_level(&node, &relay);
    assert!(!node.wanted.contains(&Want::Index));
    let (mut zones, _) = node.fetched();
    zones.sort();
    assert_eq!(zones, [name("a.test"), name("z7.test")]);
}

#[test]
fn p5_a_difference_that_is_not_all_of_it_is_not_believed() {
    let of_others = {
        // What would be right for somebody else: all the same as here, but for one zone.
        let (_, relay) = nearly_all();
        relay.difference(relay.zones.remove_zones(&[name("z9.test")]).parted().sums())
    };
    for octets in [None, Some(b"GDWT".to_vec()), Some(of_others)] {
        let (mut node, relay) = nearly_all();
        node.until(&relay, |want| matches!(want, Want::Difference(_)));
        let shown = node.shown;
        node.took(Got::Difference(octets.map(Into::into)));
        assert_eq!((node.want(), node.shown), (Want::Index, shown));
        node.settle(&relay);
        is_level(&node, &relay);
        // That was once: it is asked for again when something else is wrong.
        let mut relay = relay;
        relay.change(vec![update("z7.test", 2, [192, 0, 2, 9])]);
        relay.prune(10_000);
        node.until(&relay, |want| matches!(want, Want::Difference(_)));
        node.settle(&relay);
        is_level(&node, &relay);
    }
}

/// Zones of parts that are not listed stay as they are only where they are proven to be the same: one that is listed and is not of
/// the parts would be counted twice.
#[test]
fn p5_a_difference_lists_zones_of_its_parts_alone() {
    let (mut node, relay) = nearly_all();
    let want = node.until(&relay, |want| matches!(want, Want::Difference(_)));
    let Got::Difference(Some(octets)) = relay.answer(&want) else { panic!("{want:?}") };
    let mut difference = Difference::decode(&octets).unwrap();
    let key = relay.zones.digest_key();
    let odd = relay.zones.zones().find(|zone| !difference.parts.contains(part_of(key, zone.apex()))).unwrap();
    let entry = IndexEntry { zone: odd.name(), version: 2, digest: Digest::default() };
    let at = difference.zones.partition_point(|listed| listed.zone < entry.zone);
    difference.zones.insert(at, entry.clone());
    difference.sum.add(zone_term(key, entry.zone.as_ref(), entry.version, entry.digest));
    let mut octets = Vec::new();
    difference.encode(&mut octets);
    node.took(Got::Difference(Some(octets.into())));
    assert_eq!(node.want(), Want::Index);
}
