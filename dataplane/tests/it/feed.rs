//! What the feed makes of what comes: in order, whole or not at all, and never at the price of another zone.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use godwit_dataplane::config::{Config, OrOff};
use godwit_dataplane::feed::apply::Applier;
use godwit_dataplane::feed::{Applied, Local};
use godwit_dataplane::{Server, Start};
use godwit_engine::snapshot::Snapshot;
use godwit_wire::feed::DigestKey;
use godwit_wire::rr::Rtype;

use super::snapshots::{Relay, address, name, options, removal, rrset, update, whole};

fn applier() -> (Applier, Relay) {
    let (mut applier, mut relay) = (Applier::new(Snapshot::empty(&options())), Relay::new());
    let first = relay.batch(vec![
        vec![whole("a.test", 1, [192, 0, 2, 1])],
        vec![whole("b.test", 1, [192, 0, 2, 2])],
        vec![whole("c.test", 1, [192, 0, 2, 3])],
    ]);
    assert!(applier.entry(&first));
    assert!(applier.awaits_everything() && applier.is_uncertain(), "who holds nothing is sent everything");
    assert!(applier.entry(&relay.head(applier.snapshot().root_digest())));
    assert!(!applier.awaits_everything());
    (applier, relay)
}

fn addresses(applier: &Applier) -> [Option<u8>; 3] {
    ["a.test", "b.test", "c.test"].map(|zone| address(applier.snapshot(), zone).map(|address| address[3]))
}

#[test]
fn p5_batches_are_applied_in_order_and_a_repetition_changes_nothing() {
    let (mut applier, mut relay) = applier();
    let first = relay.one(update("a.test", 1, [192, 0, 2, 11]));
    let second = relay.one(update("a.test", 2, [192, 0, 2, 12]));
    assert!(applier.entry(&first));
    assert!(applier.entry(&second));
    let digest = applier.snapshot().root_digest();
    assert!(!applier.entry(&first));
    assert_eq!(addresses(&applier), [Some(12), Some(2), Some(3)]);
    assert_eq!(applier.snapshot().position().sequence, 5);
    assert_eq!(applier.snapshot().position().chain, relay.chain);
    assert_eq!(applier.snapshot().root_digest(), digest);
    assert!(!applier.take_request());
    assert!(applier.entry(&relay.one(removal("b.test", 2))));
    assert_eq!(addresses(&applier), [Some(12), None, Some(3)]);
}

#[test]
fn p6_a_change_set_that_does_not_fit_costs_the_zones_it_names_and_nothing_else() {
    let (mut applier, mut relay) = applier();
    // The change to `a` fits, that to `b` is for a version that is not there: neither is seen.
    let batch = relay.batch(vec![
        vec![update("a.test", 1, [192, 0, 2, 11]), update("b.test", 7, [192, 0, 2, 12])],
        vec![update("c.test", 1, [192, 0, 2, 13])],
    ]);
    assert!(applier.entry(&batch));
    assert_eq!(addresses(&applier), [Some(1), Some(2), Some(13)]);
    assert_eq!((applier.quarantined(), applier.take_request()), (2, true));
    let kept_back = applier.kept_back();
    assert_eq!(kept_back.iter().collect::<Vec<_>>(), [(&name("a.test"), &1), (&name("b.test"), &1)]);
    // A zone in quarantine stays as it is, even where a change would fit; the rest goes on. Nothing is asked twice.
    let batch = relay
        .batch(vec![vec![update("a.test", 1, [192, 0, 2, 21])], vec![update("c.test", 2, [192, 0, 2, 23])]]);
    assert!(applier.entry(&batch));
    assert_eq!(addresses(&applier), [Some(1), Some(2), Some(23)]);
    assert_eq!((applier.quarantined(), applier.take_request()), (2, false));
    // Everything, as it was asked for.
    let batch = relay.batch(vec![
        vec![whole("a.test", 3, [192, 0, 2, 31])],
        vec![whole("b.test", 8, [192, 0, 2, 32])],
        vec![whole("c.test", 3, [192, 0, 2, 23])],
    ]);
    assert!(applier.entry(&batch));
    assert_eq!(addresses(&applier), [Some(31), Some(32), Some(23)]);
    assert_eq!((applier.quarantined(), applier.take_request()), (0, false));
    assert!(applier.kept_back().is_empty());
    assert!(
        applier.awaits_everything() && !applier.is_uncertain(),
        "only what is in quarantine lacked changes"
    );
    assert!(applier.entry(&relay.head(applier.snapshot().root_digest())));
    assert!(!applier.awaits_everything());
    assert!(applier.entry(&relay.one(update("a.test", 3, [192, 0, 2, 41]))));
    assert_eq!(addresses(&applier)[0], Some(41));
}

#[test]
fn p6_a_whole_zone_that_cannot_be_served_keeps_its_last_good_state_and_is_not_asked_for_again() {
    let (mut applier, mut relay) = applier();
    let mut bad = whole("a.test", 2, [192, 0, 2, 11]);
    let godwit_wire::feed::ZoneChangeKind::Replace(records) = &mut bad.kind else { unreachable!() };
    // A CNAME beside other data.
    records.push(rrset("www.a.test", Rtype::CNAME, name("b.test").as_wire()));
    assert!(applier.entry(&relay.one(bad)));
    assert_eq!(addresses(&applier), [Some(1), Some(2), Some(3)]);
    assert_eq!((applier.quarantined(), applier.take_request()), (1, false));
    assert!(applier.snapshot().lacks_changes() && !applier.awaits_everything());
    assert!(applier.entry(&relay.one(update("a.test", 2, [192, 0, 2, 21]))));
    assert_eq!((applier.quarantined(), applier.take_request()), (1, false));
}

#[test]
fn p8_a_gap_is_noticed_and_everything_is_asked_for_once() {
    let (mut applier, mut relay) = applier();
    let _lost = relay.one(update("a.test", 1, [192, 0, 2, 11]));
    let after = relay.one(update("b.test", 1, [192, 0, 2, 12]));
    // What fits a zone's version is right whatever was missed; it is not for the disk.
    assert!(applier.entry(&after));
    assert_eq!(addresses(&applier), [Some(1), Some(12), Some(3)]);
    assert!(applier.take_request());
    let replay = relay.batch(vec![
        vec![removal("c.test", 4)],
        vec![whole("a.test", 2, [192, 0, 2, 11])],
        vec![whole("b.test", 2, [192, 0, 2, 12])],
    ]);
    assert!(applier.entry(&replay));
    assert_eq!(addresses(&applier), [Some(11), Some(12), None]);
    // More may come, until the head does; a change that comes first ends nothing.
    assert!(applier.entry(&relay.one(whole("d.test", 1, [192, 0, 2, 4]))));
    assert!(applier.entry(&relay.one(update("a.test", 2, [192, 0, 2, 21]))));
    assert!(applier.awaits_everything() && applier.is_uncertain());
    assert!(!applier.take_request());
    assert!(applier.entry(&relay.head(applier.snapshot().root_digest())));
    assert!(!applier.awaits_everything() && !applier.take_request());
    // Octets that are no batch hide what they were: the same.
    assert!(!applier.entry(b"no batch"));
    assert!(applier.take_request());
}

#[test]
fn p8_a_deposed_relay_and_a_past_history_change_nothing() {
    let (mut applier, mut relay) = applier();
    let mut deposed = Relay { epoch: 0, ..Relay { chain: relay.chain, ..relay } };
    assert!(!applier.entry(&deposed.one(update("a.test", 1, [192, 0, 2, 66]))));
    let mut past = Relay { generation: 0, ..Relay { chain: relay.chain, epoch: 9, ..relay } };
    assert!(!applier.entry(&past.one(whole("a.test", 9, [192, 0, 2, 66]))));
    assert_eq!(addresses(&applier), [Some(1), Some(2), Some(3)]);
    assert!(!applier.take_request());
    // A new history, which an operator began after a restore: versions may be lower there.
    assert!(applier.entry(&relay.one(update("a.test", 1, [192, 0, 2, 11]))));
    let mut restored = Relay { generation: 2, chain: [9; 32], ..relay };
    let mut restarted = Applier::new(applier.snapshot().clone());
    assert!(applier.entry(&restored.one(whole("a.test", 1, [192, 0, 2, 1]))));
    assert!(applier.take_request());
    assert_eq!(addresses(&applier), [Some(1), Some(2), Some(3)]);
    assert_eq!(applier.snapshot().zone(name("a.test").as_ref()).unwrap().version(), 1);
    // Who starts then is sent everything without asking.
    let mut restored = Relay { generation: 2, chain: [9; 32], sequence: 4, ..Relay::new() };
    assert!(restarted.entry(&restored.one(whole("a.test", 1, [192, 0, 2, 1]))));
    assert!(!restarted.take_request());
}

#[test]
fn p5_everything_has_come_when_position_and_digest_are_those_of_the_head() {
    let (mut applier, mut relay) = applier();
    let root = |applier: &Applier| applier.snapshot().root_digest();
    let before = root(&applier);
    // A head that finds us where it says says nothing new; one from before or of a past term says nothing at all.
    applier.entry(&relay.head(before));
    assert!(!applier.entry(&Relay { epoch: 0, ..Relay { chain: [9; 32], ..relay } }.head(before)));
    assert!(!applier.entry(&Relay { sequence: 1, chain: [9; 32], ..relay }.head(before)));
    assert!(!applier.awaits_everything() && !applier.take_request());
    // One that is ahead of us shows that batches are missing.
    let lost = relay.one(update("a.test", 1, [192, 0, 2, 11]));
    assert!(!applier.entry(&relay.head(before)));
    assert!(applier.awaits_everything() && applier.is_uncertain() && applier.take_request());
    // They come after all: what is there is right, whatever was asked for.
    applier.entry(&lost);
    assert!(applier.awaits_everything());
    applier.entry(&relay.head(root(&applier)));
    assert!(!applier.awaits_everything());

    // Not all of it came, and not even what is not there any more can make up for that: everything once more.
    let _lost = relay.one(update("a.test", 2, [192, 0, 2, 12]));
    applier.entry(&relay.one(update("b.test", 1, [192, 0, 2, 12])));
    assert!(applier.take_request());
    applier.entry(&relay.one(whole("b.test", 2, [192, 0, 2, 12])));
    assert!(!applier.entry(&relay.head(before)));
    assert!(applier.awaits_everything() && applier.take_request());
    assert_eq!(addresses(&applier), [Some(11), Some(12), Some(3)]);
    // All came but for `c`, which the sender does not have and did not say so.
    let zones =
        [("a.test", 3), ("b.test", 2)].map(|(zone, version)| vec![whole(zone, version, [192, 0, 2, 31])]);
    applier.entry(&relay.batch(zones.into()));
    assert_eq!(addresses(&applier), [Some(31), Some(31), Some(3)]);
    let there = root(&Applier::new(applier.snapshot().remove_zones(&[name("c.test")])));
    assert!(applier.entry(&relay.head(there)));
    assert_eq!(addresses(&applier), [Some(31), Some(31), None]);
    assert!(!applier.awaits_everything() && !applier.take_request());
    // A flipped bit, or a fault of ours: the records are not those of the feed.
    assert!(!applier.entry(&relay.head(before)));
    assert!(applier.awaits_everything() && applier.take_request());
    applier.entry(&relay.head(there));

    // One that cannot be served however it is stated: the rest is as it should be, and is not waited for for ever.
    let mut bad = whole("a.test", 9, [192, 0, 2, 11]);
    let godwit_wire::feed::ZoneChangeKind::Replace(records) = &mut bad.kind else { unreachable!() };
    records.push(rrset("www.a.test", Rtype::CNAME, name("b.test").as_wire()));
    let _lost = relay.one(update("b.test", 2, [192, 0, 2, 32]));
    applier.entry(&relay.one(bad));
    assert!(applier.awaits_everything() && applier.take_request());
    applier.entry(&relay.head(before));
    assert!(applier.awaits_everything(), "what was asked for has not begun to come");
    applier.entry(&relay.one(whole("b.test", 3, [192, 0, 2, 33])));
    applier.entry(&relay.head(before));
    assert!(!applier.awaits_everything() && applier.snapshot().lacks_changes());
    applier.entry(&relay.one(removal("a.test", 10)));
    assert!(!applier.snapshot().lacks_changes());
}

#[test]
fn a_feed_without_zones_is_something_to_answer_from() {
    let mut applier = Applier::new(Snapshot::empty(&options()));
    let relay = Relay::new();
    assert!(applier.entry(&relay.head(godwit_wire::feed::Digest::default())));
    assert_eq!(applier.snapshot().position().generation, 1);
    assert!(!applier.awaits_everything());
}

pub(crate) fn start(state: Option<&std::path::Path>) -> (Server, Local, SocketAddr) {
    let mut config = Config::default();
    config.server.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.server.workers = std::num::NonZeroUsize::new(2);
    config.server.state = state.map(Into::into);
    config.metrics.listen = Some(OrOff::Off);
    let start = Start { feed: true, digest_key: Some(DigestKey([2; 32])), ..Start::default() };
    let mut server = Server::start(config, start).unwrap();
    let feed = server.take_feed().unwrap();
    let address = server.addresses()[0];
    (server, feed, address)
}

fn applied_within(feed: &Local, sequence: u64) -> Applied {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let applied = feed.applied.borrow().clone();
        if applied.sequence >= sequence {
            return applied;
        }
        assert!(Instant::now() < deadline, "{applied:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Says that all has come, and waits until that was seen.
fn settle(server: &Server, feed: &Local, relay: &Relay) -> Applied {
    applied_within(feed, relay.sequence);
    let root = server.store().load().root_digest();
    feed.batches.blocking_send(relay.head(root).into()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while feed.applied.borrow().awaits_everything {
        assert!(Instant::now() < deadline, "{:?}", feed.applied.borrow());
        std::thread::sleep(Duration::from_millis(1));
    }
    feed.applied.borrow().clone()
}

pub(crate) fn client(address: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

/// RCODE, and the last octet of the answer, which is that of the address.
pub(crate) fn ask(client: &UdpSocket, label: &str) -> (u8, u8) {
    let (rcode, [.., last]) = ask_address(client, label);
    (rcode, last)
}

/// RCODE, and the last four octets of the answer.
fn ask_address(client: &UdpSocket, label: &str) -> (u8, [u8; 4]) {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3];
    query.extend_from_slice(b"www\x01");
    query.extend_from_slice(label.as_bytes());
    query.extend_from_slice(b"\x04test\x00\x00\x01\x00\x01");
    client.send(&query).unwrap();
    let mut buffer = [0; 512];
    let len = client.recv(&mut buffer).unwrap();
    (buffer[3] & 0x0F, *buffer[..len].last_chunk().unwrap())
}

#[test]
fn p1_a_start_from_the_local_snapshot_needs_nothing_else() {
    let state = tempfile::tempdir().unwrap();
    let mut relay = Relay::new();
    let (server, feed, address) = start(Some(state.path()));
    // Nothing has come: that is no answer about names (design §4.3).
    assert_eq!(ask(&client(address), "a").0, 2);
    feed.batches.blocking_send(relay.one(whole("a.test", 1, [192, 0, 2, 1])).into()).unwrap();
    feed.batches.blocking_send(relay.one(update("a.test", 1, [192, 0, 2, 11])).into()).unwrap();
    let applied = settle(&server, &feed, &relay);
    assert_eq!((applied.generation, applied.epoch, applied.chain), (1, 1, relay.chain));
    assert!(applied.quarantined.is_empty());
    assert_eq!(ask(&client(address), "a"), (0, 11));
    server.stop();

    let (server, feed, address) = start(Some(state.path()));
    assert_eq!(ask(&client(address), "a"), (0, 11));
    assert_eq!(*feed.applied.borrow(), Applied { resyncs: 0, ..applied });
    // It goes on from there.
    feed.batches.blocking_send(relay.one(update("a.test", 2, [192, 0, 2, 21])).into()).unwrap();
    applied_within(&feed, 3);
    assert_eq!(ask(&client(address), "a"), (0, 21));
    server.stop();

    // The newest is damaged: the one before serves. Both are: nothing is made up.
    let current = state.path().join("current.snapshot");
    let mut octets = std::fs::read(&current).unwrap();
    *octets.last_mut().unwrap() ^= 1;
    std::fs::write(&current, octets).unwrap();
    let (server, feed, address) = start(Some(state.path()));
    assert_eq!((ask(&client(address), "a"), feed.applied.borrow().sequence), ((0, 11), 2));
    server.stop();
    for file in ["current.snapshot", "previous.snapshot"] {
        let path = state.path().join(file);
        let mut octets = std::fs::read(&path).unwrap();
        let middle = octets.len() / 2;
        octets[middle] ^= 0x20;
        std::fs::write(path, octets).unwrap();
    }
    let (server, feed, address) = start(Some(state.path()));
    assert_eq!((ask(&client(address), "a").0, feed.applied.borrow().sequence), (2, 0));
    server.stop();
}

#[test]
fn p5_changes_that_are_missing_are_not_forgotten_by_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let mut relay = Relay::new();
    let (server, feed, _) = start(Some(state.path()));
    let send = |feed: &Local, batch: Vec<u8>| feed.batches.blocking_send(batch.into()).unwrap();
    send(&feed, relay.batch(vec![vec![whole("a.test", 1, [0; 4])], vec![whole("b.test", 1, [0; 4])]]));
    let before = settle(&server, &feed, &relay);
    server.stop();

    // A change that does not fit, and one that is lost on the way: what is served goes on, and what the next start
    // reports is where nothing was missing yet, so that the sender begins there.
    for lose in [false, true] {
        let mut relay = Relay { chain: relay.chain, ..relay };
        let (server, feed, address) = start(Some(state.path()));
        assert_eq!(*feed.applied.borrow(), before);
        let missing = relay.one(update("a.test", if lose { 1 } else { 7 }, [192, 0, 2, 11]));
        if !lose {
            send(&feed, missing);
        }
        send(&feed, relay.one(update("b.test", 1, [192, 0, 2, 12])));
        let applied = applied_within(&feed, 4);
        assert_eq!(applied.resyncs, 1);
        // A zone that is kept back is known at the latest with the position that it does not have.
        let kept_back: Vec<_> = applied.quarantined.keys().map(ToString::to_string).collect();
        assert_eq!(kept_back, if lose { vec![] } else { vec!["a.test."] });
        assert_eq!(ask(&client(address), "b"), (0, 12));
        server.stop();
    }
    let (server, feed, _) = start(Some(state.path()));
    assert_eq!(*feed.applied.borrow(), before);
    // Once everything has come, it is written as ever.
    let _lost = relay.one(update("a.test", 1, [192, 0, 2, 11]));
    send(&feed, relay.one(update("b.test", 1, [192, 0, 2, 12])));
    let zones = ["a.test", "b.test"].map(|zone| vec![whole(zone, 2, [192, 0, 2, 12])]);
    send(&feed, relay.batch(zones.into()));
    send(&feed, relay.one(update("a.test", 2, [192, 0, 2, 13])));
    settle(&server, &feed, &relay);
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.status().snapshots_written.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < deadline, "nothing was written");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.stop();
    let (server, feed, address) = start(Some(state.path()));
    assert_eq!((ask(&client(address), "a"), feed.applied.borrow().sequence), ((0, 13), 7));
    server.stop();
}

/// A snapshot is written at the latest when the server stops, if there is one to write.
#[test]
fn p6_a_zone_in_quarantine_keeps_nothing_else_from_the_disk_and_is_asked_for_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let mut relay = Relay::new();
    let (server, feed, _) = start(Some(state.path()));
    let send = |feed: &Local, batch: Vec<u8>| feed.batches.blocking_send(batch.into()).unwrap();
    send(&feed, relay.batch(vec![vec![whole("a.test", 1, [0; 4])], vec![whole("b.test", 1, [0; 4])]]));
    settle(&server, &feed, &relay);
    let mut bad = whole("a.test", 2, [192, 0, 2, 11]);
    let godwit_wire::feed::ZoneChangeKind::Replace(records) = &mut bad.kind else { unreachable!() };
    records.push(rrset("www.a.test", Rtype::CNAME, name("b.test").as_wire()));
    send(&feed, relay.one(bad));
    send(&feed, relay.one(update("b.test", 1, [192, 0, 2, 12])));
    let before = applied_within(&feed, 4);
    assert!(!before.awaits_everything && before.quarantined.contains_key(&name("a.test")));
    server.stop();

    let (server, feed, address) = start(Some(state.path()));
    assert_eq!((ask(&client(address), "a"), ask(&client(address), "b")), ((0, 0), (0, 12)));
    let after = feed.applied.borrow().clone();
    assert_eq!((after.sequence, after.chain), (4, relay.chain));
    assert!(after.awaits_everything && after.uncertain && after.resyncs == 1, "{after:?}");
    // Nothing is forgotten by a stop before that is answered.
    server.stop();
    let (server, feed, address) = start(Some(state.path()));
    assert_eq!(feed.applied.borrow().resyncs, 1);
    let zones = ["a.test", "b.test"].map(|zone| vec![whole(zone, 3, [192, 0, 2, 13])]);
    send(&feed, relay.batch(zones.into()));
    settle(&server, &feed, &relay);
    server.stop();
    let (server, feed, _) = start(Some(state.path()));
    assert!(!feed.applied.borrow().awaits_everything && feed.applied.borrow().resyncs == 0);
    assert_eq!((ask(&client(server.addresses()[0]), "a"), feed.applied.borrow().sequence), ((0, 13), 6));
    drop((server, address));
}

/// A zone that came and never could be served is not "no such name" of the zone above it, nor refused (I11).
#[test]
fn i11_a_zone_that_never_could_be_served_is_answered_from_no_other() {
    let mut relay = Relay::new();
    let (server, feed, address) = start(None);
    let mut send = |zone| {
        let batch = relay.one(zone);
        feed.batches.blocking_send(batch.into()).unwrap();
        applied_within(&feed, relay.sequence)
    };
    let bad = |version| {
        let mut bad = whole("a.test", version, [192, 0, 2, 11]);
        let godwit_wire::feed::ZoneChangeKind::Replace(records) = &mut bad.kind else { unreachable!() };
        records.push(rrset("www.a.test", Rtype::CNAME, name("b.test").as_wire()));
        bad
    };
    send(whole("b.test", 1, [192, 0, 2, 12]));
    assert_eq!(ask(&client(address), "a").0, 5, "not ours");
    send(bad(1));
    assert_eq!(ask(&client(address), "a").0, 2, "ours, and not to be had");
    send(whole("test", 1, [192, 0, 2, 1]));
    assert_eq!(ask(&client(address), "a").0, 2, "the zone above does not know");
    assert_eq!(ask(&client(address), "b"), (0, 12));
    // Gone it is a name like any other; stated well it is served; bad again it keeps what it has.
    send(removal("a.test", 2));
    assert_eq!(ask(&client(address), "a").0, 3);
    send(bad(3));
    assert_eq!(ask(&client(address), "a").0, 2);
    send(whole("a.test", 4, [192, 0, 2, 14]));
    assert_eq!(ask(&client(address), "a"), (0, 14));
    send(bad(5));
    assert_eq!(ask(&client(address), "a"), (0, 14));
    server.stop();
}

/// Everything in two parts, and a stop between them: the part is not taken for the whole at the next start.
#[test]
fn p5_a_part_of_everything_never_reaches_the_disk() {
    let state = tempfile::tempdir().unwrap();
    let mut relay = Relay::new();
    let (server, feed, _) = start(Some(state.path()));
    let send = |feed: &Local, batch: Vec<u8>| feed.batches.blocking_send(batch.into()).unwrap();
    send(&feed, relay.one(whole("a.test", 1, [192, 0, 2, 1])));
    applied_within(&feed, 1);
    server.stop();
    let (server, feed, _) = start(Some(state.path()));
    assert_eq!(*feed.applied.borrow(), Applied::default());
    // In two parts once more, and to the end.
    let mut relay = Relay::new();
    send(&feed, relay.one(whole("a.test", 1, [192, 0, 2, 1])));
    send(&feed, relay.one(whole("b.test", 1, [192, 0, 2, 2])));
    settle(&server, &feed, &relay);
    server.stop();
    let (server, feed, address) = start(Some(state.path()));
    assert_eq!((ask(&client(address), "b"), feed.applied.borrow().sequence), ((0, 2), 2));
    server.stop();
}

#[test]
fn p2_a_change_set_over_two_zones_is_seen_whole_or_not_at_all() {
    let (server, feed, address) = start(None);
    let mut relay = Relay::new();
    let first = relay.batch(vec![vec![whole("a.test", 1, [0; 4])], vec![whole("b.test", 1, [0; 4])]]);
    feed.batches.blocking_send(first.into()).unwrap();
    applied_within(&feed, 2);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1..=500u64 {
                let address = u32::try_from(version).unwrap().to_be_bytes();
                let change = vec![update("a.test", version, address), update("b.test", version, address)];
                feed.batches.blocking_send(relay.batch(vec![change]).into()).unwrap();
                // One by one, so that each is there to be seen.
                applied_within(&feed, version + 2);
            }
            stop.store(true, Ordering::Relaxed);
        });
        // `a` is asked before `b`: what `b` shows can be newer, never older.
        let client = client(address);
        let mut seen = std::collections::BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            let [a, b] = ["a", "b"].map(|zone| u32::from_be_bytes(ask_address(&client, zone).1));
            assert!(a <= b, "a {a}, then b {b}");
            seen.insert(a);
        }
        assert!(seen.len() > 3, "changes were watched: {}", seen.len());
    });
    // In one snapshot the two are always the same.
    let snapshot = server.store().load();
    assert_eq!(
        super::snapshots::address(&snapshot, "a.test"),
        super::snapshots::address(&snapshot, "b.test")
    );
    server.stop();
}

#[test]
fn p1_a_snapshot_of_zone_files_is_never_taken_for_that_of_a_feed() {
    let folder = super::process::zone_folder(&[("a.test", super::process::ZONE)]);
    let state = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.server.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.server.state = Some(state.path().into());
    config.zones.path = Some(folder.path().into());
    config.metrics.listen = Some(OrOff::Off);
    // With the same key, so that nothing but the origin tells them apart.
    let start_of_files = Start { digest_key: Some(DigestKey([2; 32])), ..Start::default() };
    Server::start(config, start_of_files).unwrap().stop();
    assert!(state.path().join("current.snapshot").exists());
    let (server, feed, address) = start(Some(state.path()));
    assert_eq!((ask(&client(address), "a").0, feed.applied.borrow().sequence), (2, 0));
    server.stop();
}
