//! Changes that end who applies them.

use godwit_dataplane::feed::attempts::Attempts;
use godwit_dataplane::feed::attempts::planted::{Harm, Planted};
use godwit_engine::snapshot::Snapshot;

use super::feed_node::Node;
use super::snapshots::{options, update, whole};

/// A panic costs the zone that it happens at, and neither the process nor anybody else's changes.
#[test]
fn r6_a_panic_costs_the_zone() {
    let (_, mut relay) = Node::three();
    let planted = Planted { owner: "www.b.test.".parse().unwrap(), harm: Harm::Panic };
    let node = Node::new(Snapshot::empty(&options()));
    let attempts = Attempts::default().with_planted(planted);
    let mut node = Node { machine: node.machine.with_attempts(attempts), ..node };
    for _ in 0..40 {
        node.step(&relay);
    }
    assert_eq!(node.addresses(), [Some(1), None, Some(3)], "the others are there");
    relay.change(vec![update("b.test", 1, [192, 0, 2, 22])]);
    relay.change(vec![update("c.test", 1, [192, 0, 2, 33])]);
    for _ in 0..10 {
        node.step(&relay);
    }
    assert_eq!(node.addresses(), [Some(1), None, Some(33)]);
    assert_eq!(node.position(), relay.position());
    assert_eq!(node.quarantine(), [("b.test.".to_owned(), 0)]);
}

/// The change set at which processes ended twice is left out; its zone stays as it was until it is there at a later version.
#[test]
fn r6_what_ended_two_processes_is_not_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let (node, mut relay) = Node::three();
    let before = node.machine.snapshot().clone();
    let (first, last) = (relay.position().sequence + 1, relay.position().sequence + 3);
    for (zone, last) in [("a.test", 11), ("b.test", 22), ("c.test", 33)] {
        relay.commit(vec![update(zone, 1, [192, 0, 2, last])]);
    }
    relay.publish();
    let generation = relay.position().generation;
    let left = |note: String| {
        std::fs::write(folder.path().join("applying"), note).unwrap();
        Attempts::open(folder.path(), false)
    };
    drop(left(format!("0 sequences {generation} {first} {last}\n")));
    let attempts = left(format!("0 sequences {generation} {0} {0}\n", first + 1));
    let mut node = Node::new(before);
    node.machine = node.machine.with_attempts(attempts);
    for _ in 0..40 {
        node.step(&relay);
    }
    assert_eq!(node.addresses(), [Some(11), Some(2), Some(33)]);
    assert_eq!(node.position(), relay.position());
    assert_eq!(node.quarantine(), [("b.test.".to_owned(), 1)]);
    // Stated whole by a change of its own, it is another matter.
    relay.change(vec![super::snapshots::removal("b.test", 2)]);
    relay.change(vec![whole("b.test", 4, [192, 0, 2, 44])]);
    node.settle(&relay);
    assert_eq!(node.addresses(), [Some(11), Some(44), Some(33)]);
    assert_eq!(std::fs::read_to_string(folder.path().join("crashes")).unwrap().matches("frozen").count(), 0);
}
