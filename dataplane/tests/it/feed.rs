//! What the feed makes of what comes: in order, whole or not at all, and never at the price of another zone.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use godwit_dataplane::config::{Config, OrOff};
use godwit_dataplane::feed::apply::{Applier, Effect};
use godwit_dataplane::feed::{Applied, Local};
use godwit_dataplane::{Server, Start};
use godwit_engine::snapshot::Snapshot;
use godwit_wire::feed::DigestKey;
use godwit_wire::rr::Rtype;

use super::snapshots::{Relay, address, name, options, removal, rrset, update, whole};

const CHANGED: Effect = Effect { changed: true, partial: false };
const PARTIAL: Effect = Effect { changed: true, partial: true };

fn applier() -> (Applier, Relay) {
    let (mut applier, mut relay) = (Applier::new(Snapshot::empty(&options())), Relay::new());
    let first = relay.batch(vec![
        vec![whole("a.test", 1, [192, 0, 2, 1])],
        vec![whole("b.test", 1, [192, 0, 2, 2])],
        vec![whole("c.test", 1, [192, 0, 2, 3])],
    ]);
    assert_eq!(applier.batch(&first), CHANGED);
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
    assert_eq!(applier.batch(&first), CHANGED);
    assert_eq!(applier.batch(&second), CHANGED);
    let digest = applier.snapshot().root_digest();
    assert_eq!(applier.batch(&first), Effect::default());
    assert_eq!(addresses(&applier), [Some(12), Some(2), Some(3)]);
    assert_eq!(applier.snapshot().position().sequence, 5);
    assert_eq!(applier.snapshot().position().chain, relay.chain);
    assert_eq!(applier.snapshot().root_digest(), digest);
    assert!(!applier.take_request());
    assert_eq!(applier.batch(&relay.one(removal("b.test", 2))), CHANGED);
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
    assert_eq!(applier.batch(&batch), CHANGED);
    assert_eq!(addresses(&applier), [Some(1), Some(2), Some(13)]);
    assert_eq!((applier.quarantined(), applier.take_request()), (2, true));
    let kept_back = applier.kept_back();
    assert_eq!(kept_back.iter().collect::<Vec<_>>(), [(&name("a.test"), &1), (&name("b.test"), &1)]);
    // A zone in quarantine stays as it is, even where a change would fit; the rest goes on. Nothing is asked twice.
    let batch = relay
        .batch(vec![vec![update("a.test", 1, [192, 0, 2, 21])], vec![update("c.test", 2, [192, 0, 2, 23])]]);
    assert_eq!(applier.batch(&batch), CHANGED);
    assert_eq!(addresses(&applier), [Some(1), Some(2), Some(23)]);
    assert_eq!((applier.quarantined(), applier.take_request()), (2, false));
    // Everything, as it was asked for.
    let batch = relay.batch(vec![
        vec![whole("a.test", 3, [192, 0, 2, 31])],
        vec![whole("b.test", 8, [192, 0, 2, 32])],
        vec![whole("c.test", 3, [192, 0, 2, 23])],
    ]);
    assert_eq!(applier.batch(&batch), PARTIAL);
    assert_eq!(addresses(&applier), [Some(31), Some(32), Some(23)]);
    assert_eq!((applier.quarantined(), applier.take_request()), (0, false));
    assert!(applier.kept_back().is_empty());
    assert_eq!(applier.batch(&relay.one(update("a.test", 3, [192, 0, 2, 41]))), CHANGED);
    assert_eq!(addresses(&applier)[0], Some(41));
}

#[test]
fn p6_a_whole_zone_that_cannot_be_served_keeps_its_last_good_state_and_is_not_asked_for_again() {
    let (mut applier, mut relay) = applier();
    let mut bad = whole("a.test", 2, [192, 0, 2, 11]);
    let godwit_wire::feed::ZoneChangeKind::Replace(records) = &mut bad.kind else { unreachable!() };
    // A CNAME beside other data.
    records.push(rrset("www.a.test", Rtype::CNAME, name("b.test").as_wire()));
    assert_eq!(applier.batch(&relay.one(bad)), CHANGED);
    assert_eq!(addresses(&applier), [Some(1), Some(2), Some(3)]);
    assert_eq!((applier.quarantined(), applier.take_request()), (1, false));
    assert_eq!(applier.batch(&relay.one(update("a.test", 2, [192, 0, 2, 21]))), CHANGED);
    assert_eq!((applier.quarantined(), applier.take_request()), (1, false));
}

#[test]
fn p8_a_gap_is_noticed_and_everything_is_asked_for_once() {
    let (mut applier, mut relay) = applier();
    let _lost = relay.one(update("a.test", 1, [192, 0, 2, 11]));
    let after = relay.one(update("b.test", 1, [192, 0, 2, 12]));
    // What fits a zone's version is right whatever was missed; it is not for the disk.
    assert_eq!(applier.batch(&after), PARTIAL);
    assert_eq!(addresses(&applier), [Some(1), Some(12), Some(3)]);
    assert!(applier.take_request());
    let replay = relay.batch(vec![
        vec![removal("c.test", 4)],
        vec![whole("a.test", 2, [192, 0, 2, 11])],
        vec![whole("b.test", 2, [192, 0, 2, 12])],
    ]);
    assert_eq!(applier.batch(&replay), PARTIAL);
    assert_eq!(addresses(&applier), [Some(11), Some(12), None]);
    // More may come, until something else does.
    assert_eq!(applier.batch(&relay.one(whole("d.test", 1, [192, 0, 2, 4]))), PARTIAL);
    assert_eq!(applier.batch(&relay.one(update("a.test", 2, [192, 0, 2, 21]))), CHANGED);
    assert_eq!(applier.batch(&relay.one(whole("e.test", 1, [192, 0, 2, 5]))), CHANGED);
    assert!(!applier.take_request());
    // Octets that are no batch hide what they were: the same.
    assert_eq!(applier.batch(b"no batch"), Effect::default());
    assert!(applier.take_request());
}

#[test]
fn p8_a_deposed_relay_and_a_past_history_change_nothing() {
    let (mut applier, mut relay) = applier();
    let mut deposed = Relay { epoch: 0, ..Relay { chain: relay.chain, ..relay } };
    assert_eq!(applier.batch(&deposed.one(update("a.test", 1, [192, 0, 2, 66]))), Effect::default());
    let mut past = Relay { generation: 0, ..Relay { chain: relay.chain, epoch: 9, ..relay } };
    assert_eq!(applier.batch(&past.one(whole("a.test", 9, [192, 0, 2, 66]))), Effect::default());
    assert_eq!(addresses(&applier), [Some(1), Some(2), Some(3)]);
    assert!(!applier.take_request());
    // A new history, which an operator began after a restore: versions may be lower there.
    assert_eq!(applier.batch(&relay.one(update("a.test", 1, [192, 0, 2, 11]))), CHANGED);
    let mut restored = Relay { generation: 2, chain: [9; 32], ..relay };
    let mut restarted = Applier::new(applier.snapshot().clone());
    assert_eq!(applier.batch(&restored.one(whole("a.test", 1, [192, 0, 2, 1]))), PARTIAL);
    assert!(applier.take_request());
    assert_eq!(addresses(&applier), [Some(1), Some(2), Some(3)]);
    assert_eq!(applier.snapshot().zone(name("a.test").as_ref()).unwrap().version(), 1);
    // Who starts then is sent everything without asking.
    let mut restored = Relay { generation: 2, chain: [9; 32], sequence: 4, ..Relay::new() };
    assert_eq!(restarted.batch(&restored.one(whole("a.test", 1, [192, 0, 2, 1]))), PARTIAL);
    assert!(!restarted.take_request());
}

#[test]
fn p5_what_was_asked_for_is_owed_until_every_zone_was_stated() {
    let (mut applier, mut relay) = applier();
    assert!(applier.is_complete());
    let _lost = relay.one(update("a.test", 1, [192, 0, 2, 11]));
    applier.batch(&relay.one(update("b.test", 1, [192, 0, 2, 12])));
    assert!(!applier.is_complete());
    // A zone that is made meanwhile, and a change, are not the answer.
    applier.batch(&relay.one(whole("d.test", 1, [192, 0, 2, 4])));
    applier.batch(&relay.one(update("d.test", 1, [192, 0, 2, 14])));
    assert!(!applier.is_complete());
    applier.batch(&relay.batch(vec![vec![removal("c.test", 4)], vec![whole("a.test", 2, [192, 0, 2, 11])]]));
    assert!(!applier.is_complete());
    applier.batch(&relay.one(whole("b.test", 2, [192, 0, 2, 12])));
    assert!(applier.is_complete());
    // A zone in quarantine: until it is out.
    applier.batch(&relay.one(update("a.test", 7, [192, 0, 2, 21])));
    assert!(!applier.is_complete());
    let zones =
        [("a.test", 8), ("b.test", 3)].map(|(zone, version)| vec![whole(zone, version, [192, 0, 2, 9])]);
    applier.batch(&relay.batch(zones.into()));
    assert!(!applier.is_complete());
    applier.batch(&relay.one(whole("d.test", 3, [192, 0, 2, 9])));
    assert!(applier.is_complete());
    // One that cannot be served however it is stated: the answer has come, the zone still lacks its changes.
    let mut bad = whole("a.test", 9, [192, 0, 2, 11]);
    let godwit_wire::feed::ZoneChangeKind::Replace(records) = &mut bad.kind else { unreachable!() };
    records.push(rrset("www.a.test", Rtype::CNAME, name("b.test").as_wire()));
    applier.batch(&relay.one(bad));
    assert!(!applier.is_complete());
    applier.batch(&relay.one(removal("a.test", 10)));
    assert!(applier.is_complete());
}

fn start(state: Option<&std::path::Path>) -> (Server, Local, SocketAddr) {
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

fn client(address: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

/// RCODE, and the last octet of the answer, which is that of the address.
fn ask(client: &UdpSocket, label: &str) -> (u8, u8) {
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
    let applied = applied_within(&feed, 2);
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
    let before = applied_within(&feed, 2);
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
    applied_within(&feed, 7);
    // The parts of everything are held for a while after the last.
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
