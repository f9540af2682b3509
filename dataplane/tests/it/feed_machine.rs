//! What the machine of the feed makes of what comes: in order, whole or not at all, never at the price of another zone, and
//! never back.

use std::time::Duration;

use godwit_dataplane::feed::Entries;
use godwit_dataplane::feed::machine::{Got, Want};
use godwit_engine::snapshot::Snapshot;

use super::feed_node::Node;
use super::relay::Relay;
use super::snapshots::{bad, name, options, removal, update, whole};

fn last(relay: &Relay) -> Vec<u8> {
    relay.log.last().unwrap().octets.clone()
}

#[test]
fn p5_batches_are_applied_in_order_and_a_repetition_changes_nothing() {
    let (mut node, mut relay) = Node::three();
    relay.change(vec![update("a.test", 1, [192, 0, 2, 11])]);
    let first = last(&relay);
    relay.change(vec![update("a.test", 2, [192, 0, 2, 12])]);
    let second = last(&relay);
    assert!(node.entries(vec![first.clone()]).show);
    assert!(node.entries(vec![second.clone()]).show);
    assert!(!node.entries(vec![first, second]).show);
    assert_eq!(node.addresses(), [Some(12), Some(2), Some(3)]);
    assert_eq!(node.position(), relay.position());
    assert_eq!(node.machine.snapshot().root_digest(), relay.zones.root_digest());
    relay.change(vec![removal("b.test", 1)]);
    node.settle(&relay);
    assert_eq!(node.addresses(), [Some(12), None, Some(3)]);
    assert_eq!(node.machine.counts().resyncs, 1, "batches were enough");
}

#[test]
fn p6_a_change_set_that_does_not_fit_costs_the_zones_it_names_and_nothing_else() {
    let (mut node, mut relay) = Node::three();
    node.fetched();
    // The change to `a` fits, that to `b` is for a version that is not there: neither is seen.
    relay.append(vec![
        vec![update("a.test", 1, [192, 0, 2, 11]), update("b.test", 7, [192, 0, 2, 12])],
        vec![update("c.test", 1, [192, 0, 2, 13])],
    ]);
    assert!(node.entries(vec![last(&relay)]).show);
    assert_eq!(node.addresses(), [Some(1), Some(2), Some(13)]);
    assert_eq!(node.quarantine(), [("a.test.".to_owned(), 1), ("b.test.".to_owned(), 1)]);
    assert!(node.machine.snapshot().lacks_changes());
    // A zone in quarantine stays as it is, even where a change would fit; the rest goes on.
    let change_sets = [update("a.test", 1, [192, 0, 2, 21]), update("c.test", 2, [192, 0, 2, 23])];
    relay.append(change_sets.map(|change| vec![change]).into());
    assert!(node.entries(vec![last(&relay)]).show);
    assert_eq!(node.addresses(), [Some(1), Some(2), Some(23)]);
    assert_eq!(node.position(), relay.position());
    // They alone are asked for, and come together.
    let mut healed = relay.clone();
    for zone in ["a.test", "b.test"] {
        let version = if zone == "a.test" { 1 } else { 7 };
        healed.zones = healed.zones.remove_zones(&[name(zone)]);
        healed.zones = healed
            .zones
            .apply(&super::snapshots::change_set(vec![whole(zone, version + 1, [192, 0, 2, 31])]))
            .unwrap();
    }
    let before = node.shown;
    let want = node.want();
    assert_eq!(want, Want::Zones(vec![name("a.test"), name("b.test")]));
    assert!(node.took(healed.answer(&want)).show);
    assert_eq!(node.addresses(), [Some(31), Some(31), Some(23)]);
    assert_eq!((node.quarantine(), node.shown), (vec![], before + 1));
    assert!(!node.machine.snapshot().lacks_changes());
    relay.append(vec![vec![update("a.test", 2, [192, 0, 2, 41])]]);
    assert!(node.entries(vec![last(&relay)]).show);
    assert_eq!(node.addresses()[0], Some(41));
    assert_eq!(node.machine.counts().resyncs, 1, "everything was compared at the start only");
}

#[test]
fn p6_a_whole_zone_that_cannot_be_served_keeps_its_last_good_state_and_is_seldom_asked_for() {
    let (mut node, mut relay) = Node::three();
    node.fetched();
    relay.append(vec![
        vec![removal("a.test", 1), bad("a.test", 3)],
        vec![update("c.test", 1, [192, 0, 2, 13])],
    ]);
    let sent = last(&relay);
    assert!(node.entries(vec![sent]).show);
    assert_eq!(node.addresses(), [Some(1), Some(2), Some(13)]);
    assert_eq!(node.quarantine(), [("a.test.".to_owned(), 1)]);
    assert!(node.machine.snapshot().lacks_changes());
    // It comes as octets that are no zone, however often: the rest goes on, and the pauses grow.
    let (start, mut asked) = (node.now, Vec::new());
    while node.now < start + Duration::from_secs(3600) {
        let want = node.want();
        if let Want::Zones(zones) = &want {
            asked.push(node.now);
            assert_eq!(*zones, [name("a.test")]);
            let mut state = relay.zone(&zones[0]);
            state.blob = Some(b"no zone".as_slice().into());
            node.took(Got::Zones(vec![(zones[0].clone(), Some(state))]));
        } else {
            node.took(relay.answer(&want));
        }
        node.now += Duration::from_millis(500);
    }
    assert!((8..30).contains(&asked.len()), "{}", asked.len());
    // Stated whole it is served again, and goes like any other.
    relay.append(vec![vec![removal("a.test", 3)], vec![whole("a.test", 5, [192, 0, 2, 51])]]);
    let sent = last(&relay);
    node.entries(vec![sent]);
    assert_eq!((node.addresses()[0], node.quarantine()), (Some(51), vec![]));
}

#[test]
fn p8_a_gap_is_noticed_and_only_what_differs_is_fetched_once() {
    let (mut node, mut relay) = Node::three();
    node.fetched();
    relay.change(vec![update("a.test", 1, [192, 0, 2, 11])]);
    relay.change(vec![update("b.test", 1, [192, 0, 2, 12])]);
    let after = last(&relay);
    relay.change(vec![removal("c.test", 1)]);
    // What comes after a gap is not applied, whatever it fits to.
    assert!(!node.entries(vec![after, last(&relay)]).show);
    assert_eq!(node.addresses(), [Some(1), Some(2), Some(3)]);
    // All at once: two zones fetched, one gone, one swap.
    let before = node.shown;
    node.settle(&relay);
    assert_eq!(node.addresses(), [Some(11), Some(12), None]);
    assert_eq!((node.position(), node.shown), (relay.position(), before + 1));
    assert_eq!(node.fetched(), (vec![name("a.test"), name("b.test")], 1));
    // Octets that are no entry hide what they were: the same.
    node.entries(vec![b"no batch".to_vec()]);
    node.now += Duration::from_secs(2);
    assert_eq!(node.want(), Want::Index);
    node.settle(&relay);
    // A log that does not reach back so far.
    relay.change(vec![update("a.test", 2, [192, 0, 2, 21])]);
    relay.change(vec![update("a.test", 3, [192, 0, 2, 22])]);
    relay.prune(5);
    node.settle(&relay);
    assert_eq!((node.addresses()[0], node.position()), (Some(22), relay.position()));
}

#[test]
fn p8_a_head_that_is_ahead_is_a_gap_when_nothing_leads_there() {
    let (mut node, mut relay) = Node::three();
    relay.change(vec![update("a.test", 1, [192, 0, 2, 11])]);
    let (batch, head) = (last(&relay), relay.head());
    // A head may overtake its batch.
    node.entries(vec![head.clone()]);
    assert!(matches!(node.want(), Want::Entries(_)));
    assert!(node.entries(vec![batch, head]).current);
    relay.change(vec![update("a.test", 2, [192, 0, 2, 12])]);
    node.entries(vec![relay.head()]);
    node.entries(vec![relay.head()]);
    node.now += Duration::from_secs(1);
    assert_eq!(node.want(), Want::Index);
    node.settle(&relay);
    assert_eq!(node.addresses()[0], Some(12));
}

#[test]
fn p8_a_deposed_relay_and_a_past_history_change_nothing() {
    let (mut node, mut relay) = Node::three();
    relay.epoch = 2;
    relay.change(vec![update("b.test", 1, [192, 0, 2, 12])]);
    node.settle(&relay);
    node.fetched();
    let mut deposed = Relay { epoch: 1, ..relay.clone() };
    deposed.change(vec![update("a.test", 1, [192, 0, 2, 66])]);
    assert!(!node.entries(vec![last(&deposed), deposed.head()]).show);
    let mut past = Relay { generation: 0, epoch: 9, ..relay.clone() };
    past.change(vec![update("a.test", 1, [192, 0, 2, 66])]);
    assert!(!node.entries(vec![last(&past), past.head()]).show);
    assert_eq!(node.addresses(), [Some(1), Some(12), Some(3)]);
    assert_eq!((node.fetched().1, node.machine.counts().stale), (0, 4));
    // The feed goes on as if there had been nothing.
    relay.change(vec![update("a.test", 1, [192, 0, 2, 11])]);
    node.settle(&relay);
    assert_eq!((node.addresses()[0], node.fetched().1), (Some(11), 0));
}

#[test]
fn p8_a_later_term_that_was_heard_of_is_not_forgotten() {
    let (mut node, mut relay) = Node::three();
    let mut deposed = relay.clone();
    // A new relay has taken over and published nothing but a head; whoever carries the feed forgets it.
    relay.epoch = 2;
    assert!(node.entries(vec![relay.head()]).current);
    deposed.change(vec![update("a.test", 1, [192, 0, 2, 66])]);
    assert!(!node.entries(vec![last(&deposed), deposed.head()]).show);
    assert_eq!((node.addresses(), node.machine.counts().stale), ([Some(1), Some(2), Some(3)], 2));
    // Nor by a start anew from what was shown.
    let mut again = Node::new(node.machine.snapshot().clone());
    assert!(!again.entries(vec![last(&deposed)]).show);
    // Nor is its index taken.
    node.took(Got::Entries(Entries::Gone));
    node.now += Duration::from_secs(1);
    assert_eq!(node.want(), Want::Index);
    node.took(deposed.answer(&Want::Index));
    assert!(matches!(node.want(), Want::Wait(_)));
    relay.change(vec![update("a.test", 1, [192, 0, 2, 11])]);
    node.settle(&relay);
    assert_eq!((node.addresses()[0], node.position()), (Some(11), relay.position()));
}

#[test]
fn p8_of_two_histories_the_one_of_the_index_counts() {
    let (mut node, mut relay) = Node::three();
    let mut other = relay.clone();
    other.change(vec![update("a.test", 1, [192, 0, 2, 66])]);
    node.settle(&other);
    assert_eq!(node.addresses(), [Some(66), Some(2), Some(3)]);
    node.fetched();
    // Another change has that place, and what follows it does not follow what is held.
    relay.change(vec![update("b.test", 1, [192, 0, 2, 12])]);
    relay.change(vec![update("c.test", 1, [192, 0, 2, 13])]);
    assert!(!node.entries(vec![last(&relay)]).show);
    assert_eq!(node.addresses(), [Some(66), Some(2), Some(3)]);
    node.settle(&relay);
    assert_eq!(node.addresses(), [Some(1), Some(12), Some(13)]);
    assert_eq!(node.position(), relay.position());
    let zones = ["a.test", "b.test", "c.test"].map(name).to_vec();
    assert_eq!(node.fetched(), (zones, 1));
    // The same seen by a head alone.
    let mut other = relay.clone();
    other.change(vec![update("a.test", 1, [192, 0, 2, 67])]);
    node.settle(&other);
    relay.change(vec![update("b.test", 2, [192, 0, 2, 22])]);
    assert!(!node.entries(vec![relay.head()]).current);
    node.settle(&relay);
    assert_eq!(node.addresses(), [Some(1), Some(22), Some(13)]);
}

#[test]
fn p8_an_older_copy_moves_nothing_back() {
    let (mut node, mut relay) = Node::three();
    let old = relay.clone();
    relay.change(vec![update("a.test", 1, [192, 0, 2, 11])]);
    node.settle(&relay);
    let (before, position) = (node.addresses(), node.position());
    node.fetched();
    // For an hour, by entries, and after a start anew by index too.
    for doubt in [false, true] {
        node = Node::new(node.machine.snapshot().clone().with_lacks_changes(doubt));
        let start = node.now;
        while node.now < start + Duration::from_secs(3600) {
            assert!(!node.step(&old).show);
        }
        assert_eq!((node.addresses(), node.position()), (before, position));
        assert!(node.fetched().1 < 30 * usize::from(doubt) + 1);
    }
    node.settle(&relay);
    // An operator who wants it all the same begins a new generation: its versions may be lower.
    let mut restored = old;
    restored.begin_generation(position.sequence);
    node.settle(&restored);
    assert_eq!(node.addresses(), [Some(1), Some(2), Some(3)]);
    assert_eq!(node.position(), restored.position());
    let zone = node.machine.snapshot().zone(name("a.test").as_ref()).unwrap();
    assert_eq!(zone.version(), 1);
    // The old one says nothing to us any more, however far it goes.
    for octet in 0..9 {
        relay.change(vec![update("a.test", relay.version("a.test"), [192, 0, 2, octet])]);
    }
    assert!(!node.entries(vec![last(&relay), relay.head()]).show);
    restored.change(vec![update("a.test", 1, [192, 0, 2, 77])]);
    node.settle(&restored);
    assert_eq!(node.addresses()[0], Some(77));
}

#[test]
fn p8_no_zone_goes_back_within_its_history() {
    let (mut node, mut relay) = Node::three();
    let zone = name("a.test");
    relay.change(vec![update("a.test", 1, [192, 0, 2, 11])]);
    let mut lower = relay.zone(&zone);
    relay.change(vec![update("a.test", 2, [192, 0, 2, 12])]);
    let older = relay.zone(&zone);
    node.settle(&relay);
    // The zone is asked for alone. What comes is a version that is held no more, or was read before what does not fit came.
    relay.append(vec![vec![update("a.test", 9, [192, 0, 2, 66])]]);
    node.entries(vec![last(&relay)]);
    lower.settled = 100;
    for state in [lower.clone(), older.clone()] {
        node.now += Duration::from_secs(60);
        node.until(&relay, |want| *want == Want::Zones(vec![zone.clone()]));
        node.took(Got::Zones(vec![(zone.clone(), Some(state))]));
        assert_eq!((node.addresses()[0], node.quarantine().len()), (Some(12), 1));
    }
    // The same in a comparison.
    node.took(Got::Entries(Entries::Gone));
    relay.commit(vec![update("a.test", 3, [192, 0, 2, 13])]);
    for state in [lower, older] {
        node.until(&relay, |want| matches!(want, Want::Zones(_)));
        node.took(Got::Zones(vec![(zone.clone(), Some(state))]));
        assert_eq!((node.addresses()[0], node.quarantine().len()), (Some(12), 1));
    }
    relay.publish();
    node.settle(&relay);
    assert_eq!((node.addresses()[0], node.quarantine()), (Some(13), vec![]));
}

#[test]
fn p8_what_came_after_a_lost_connection_is_compared_once_more() {
    let (mut node, mut relay) = (Node::new(Snapshot::empty(&options())), Relay::new());
    relay.change(vec![whole("a.test", 1, [192, 0, 2, 1])]);
    relay.change(vec![whole("b.test", 1, [192, 0, 2, 2])]);
    node.until(&relay, |want| matches!(want, Want::Zones(_)));
    node.took(Got::Lost);
    // Who answers from then on is another: the zones are not those of the index.
    let mut other = relay.clone();
    other.commit(vec![update("a.test", 1, [192, 0, 2, 11])]);
    other.begin_generation(2);
    let want = node.until(&other, |want| matches!(want, Want::Zones(_)));
    node.took(other.answer(&want));
    assert_eq!(node.shown, 0);
    node.fetched();
    node.settle(&other);
    assert_eq!((node.addresses(), node.position()), ([Some(11), Some(2), None], other.position()));
    // Nothing is fetched twice for that.
    assert_eq!(node.fetched(), (vec![], 1));
}
