//! Memory that fails under a running feed: a record becomes another, a zone is gone. All that is kept of them says what it said,
//! so that no head tells.

use godwit_engine::answer::Settings;
use godwit_engine::snapshot::{LoadedZone, Position, SnapshotOptions};
use godwit_wire::feed::{DigestKey, Head, Index, IndexEntry, IndexPlace};
use tokio::sync::watch;

use super::*;
use crate::feed::attempts::Attempts;
use crate::feed::follower::Follower;
use crate::feed::local::{Local, Request};
use crate::feed::machine::Seeds;
use crate::feed::source::{Entries, Joined, ZoneState};
use crate::feed::testing::{self, name};
use crate::serve::engine::Current;

const SOON: Duration = Duration::from_secs(120);
const POSITION: Position = Position { generation: 1, epoch: 1, sequence: 3, chain: [3; 32] };

/// A zone whose `www` has this address.
fn zone(apex: &str, octet: u8) -> LoadedZone {
    testing::zone(apex, octet, 7)
}

fn good() -> Snapshot {
    let options = SnapshotOptions { hash_key: [1; 16], digest_key: DigestKey([2; 32]) };
    let zones = vec![zone("a.test.", 1), zone("b.test.", 2), zone("c.test.", 3)];
    Snapshot::empty(&options).replace_zones(zones).with_position(POSITION)
}

/// What a control plane answers that has these zones.
fn answer(good: &Snapshot, request: Request) {
    let Position { generation, epoch, sequence, chain } = POSITION;
    match request {
        Request::Join { answer } => {
            let _ = answer.send(Joined { digest_key: good.digest_key().clone() });
        }
        Request::Index { answer } => {
            let entry = |zone: ZoneView<'_>| IndexEntry {
                zone: zone.name(),
                version: zone.version(),
                digest: zone.digest(),
            };
            let zones = good.zones().map(entry).collect();
            let mut octets = Vec::new();
            let place = IndexPlace { generation, epoch, sequence, chain, settled: sequence };
            Index { place, zones }.encode(&mut octets);
            let _ = answer.send(octets.into());
        }
        Request::Zone { apex, answer } => {
            let zone = good.zone(apex.as_ref()).unwrap();
            let mut octets = Vec::new();
            testing::blob(&zone).encode(&mut octets);
            let blob = Some(octets.into());
            let _ = answer.send(ZoneState { blob, version: zone.version(), settled: sequence });
        }
        Request::Entries { answer, .. } => {
            std::thread::sleep(Duration::from_millis(50));
            let root_digest = good.root_digest();
            let mut head = Vec::new();
            Head { generation, epoch, sequence, chain, root_digest }.encode(&mut head);
            let _ = answer.send(Entries::Next(vec![head.into()]));
        }
    }
}

/// Starts from a snapshot that memory has spoiled, and waits until it holds what is right: which zones were fetched.
fn healed(spoiled: Snapshot) -> (Vec<String>, u64) {
    let good = good();
    assert_eq!(spoiled.root_digest(), good.root_digest(), "a head would tell");
    assert_ne!(spoiled.recompute_digest(), good.root_digest());
    let (stop, stopped) = watch::channel(false);
    let (store, status) = (Store::new(spoiled), Arc::<Status>::default());
    let follower = Follower {
        store: Arc::clone(&store),
        answering: Arc::new(Current::new(Settings::default())),
        status: Arc::clone(&status),
        seeds: Seeds { hash_key: [1; 16], pauses: 7 },
        attempts: Attempts::default(),
        bounds: crate::config::Feed::default().bounds(),
        stop: stopped,
    };
    let (mut local, thread) = follower.start().unwrap();
    let deadline = Instant::now() + SOON;
    let mut fetched = Vec::new();
    let is_healed = |local: &Local| {
        let snapshot = store.load();
        let is_right = snapshot.recompute_digest() == good.root_digest();
        is_right && snapshot.check().is_ok() && local.applied.borrow().compared.equal == Some(true)
    };
    while !is_healed(&local) || fetched.is_empty() {
        assert!(Instant::now() < deadline, "it is not found, or not healed; fetched: {fetched:?}");
        let Ok(request) = local.requests.try_recv() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        if let Request::Zone { apex, .. } = &request {
            fetched.push(apex.to_string());
        }
        answer(&good, request);
    }
    assert_eq!(local.applied.borrow().compared.sequence, POSITION.sequence);
    assert!(local.applied.borrow().quarantined.is_empty());
    stop.send_replace(true);
    thread.join().unwrap();
    (fetched, status.rescan_differences.load(Ordering::Relaxed))
}

#[test]
fn r8_a_record_that_became_another_is_found_and_the_zone_fetched_alone() {
    let spoiled = good().spoiled(zone("b.test.", 99)).with_position(POSITION);
    let (fetched, differences) = healed(spoiled);
    assert_eq!(fetched, ["b.test."]);
    assert!(differences >= 1);
}

#[test]
fn r8_a_zone_that_is_gone_is_found_and_fetched_alone() {
    let (fetched, differences) = healed(good().bereft(name("b.test.").as_ref()));
    assert_eq!(fetched, ["b.test."]);
    assert!(differences >= 1);
}

/// All is looked at, in slices, and nothing is found where nothing is wrong.
#[test]
fn what_is_right_is_left_alone() {
    let (store, status) = (Store::new(good()), Arc::<Status>::default());
    let ((sender, mut found), (end, stop)) = (mpsc::channel(FOUND), std::sync::mpsc::channel());
    let rescan = Rescan { store, status: Arc::clone(&status), found: sender, stop, began: Instant::now() };
    let thread = std::thread::spawn(move || rescan.run());
    let deadline = Instant::now() + SOON;
    while status.rescan_rounds.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(end);
    thread.join().unwrap();
    assert_eq!(status.rescan_zones.load(Ordering::Relaxed), 3);
    assert!(found.try_recv().is_err());
}
