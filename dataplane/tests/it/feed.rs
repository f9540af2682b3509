//! A data plane that follows the feed of its process: what it shows, keeps and says of itself.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use godwit_dataplane::config::{Config, OrOff};
use godwit_dataplane::feed::machine::{Got, Want};
use godwit_dataplane::feed::{Applied, Entries, Local, Request};
use godwit_dataplane::{Records, Server, Start};
use godwit_wire::feed::DigestKey;
use tokio::sync::{mpsc, watch};

use super::relay::Relay;
use super::snapshots::{bad, name, removal, update, whole};

pub(crate) fn start(state: Option<&Path>) -> (Server, Local, SocketAddr) {
    start_with(state, Some(DigestKey([2; 32])))
}

fn start_with(state: Option<&Path>, digest_key: Option<DigestKey>) -> (Server, Local, SocketAddr) {
    let mut config = Config::default();
    config.server.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.server.workers = std::num::NonZeroUsize::new(2);
    config.server.state = state.map(Into::into);
    config.metrics.listen = Some(OrOff::Off);
    let start = Start { records: Records::Local, digest_key, ..Start::default() };
    let mut server = Server::start(config, start).unwrap();
    let feed = server.take_feed().unwrap();
    let address = server.addresses()[0];
    (server, feed, address)
}

/// A relay that answers on a thread of its own, until this is dropped.
struct Answering {
    relay: Arc<Mutex<Relay>>,
    applied: watch::Receiver<Applied>,
    stop: Arc<AtomicBool>,
    /// Zones of which there is no answer.
    silent: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<mpsc::Receiver<Request>>>,
}

impl Answering {
    fn start(relay: &Arc<Mutex<Relay>>, feed: Local) -> Self {
        Answering::go_on(relay, feed.requests, feed.applied)
    }

    /// In the place of one before.
    fn go_on(
        relay: &Arc<Mutex<Relay>>,
        mut requests: mpsc::Receiver<Request>,
        applied: watch::Receiver<Applied>,
    ) -> Self {
        let (stop, silent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (relay, stopping, is_silent) = (Arc::clone(relay), Arc::clone(&stop), Arc::clone(&silent));
        let answering = Arc::clone(&relay);
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                match requests.try_recv() {
                    Ok(request) => answer(&answering, request, &stopping, is_silent.load(Ordering::Relaxed)),
                    Err(mpsc::error::TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(1)),
                    Err(mpsc::error::TryRecvError::Disconnected) => break,
                }
            }
            requests
        });
        Answering { relay, applied, stop, silent, thread: Some(thread) }
    }

    /// Ends it, and gives back what another may go on with.
    fn end(mut self) -> (mpsc::Receiver<Request>, watch::Receiver<Applied>) {
        self.stop.store(true, Ordering::Relaxed);
        (self.thread.take().unwrap().join().unwrap(), self.applied.clone())
    }

    fn relay(&self) -> std::sync::MutexGuard<'_, Relay> {
        self.relay.lock().unwrap()
    }

    /// Until the data plane stands where the relay does.
    fn settled(&self) -> Applied {
        let expected = self.relay().position();
        self.until(|applied| {
            (applied.generation, applied.sequence, applied.chain)
                == (expected.generation, expected.sequence, expected.chain)
        })
    }

    fn until(&self, is_so: impl Fn(&Applied) -> bool) -> Applied {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let applied = self.applied.borrow().clone();
            if is_so(&applied) {
                return applied;
            }
            assert!(Instant::now() < deadline, "{applied:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn answer(relay: &Mutex<Relay>, request: Request, stop: &AtomicBool, silent: bool) {
    let got = |want: &Want| relay.lock().unwrap().answer(want);
    match request {
        Request::Join { answer } => {
            if let Got::Joined(joined) = got(&Want::Join) {
                let _ = answer.send(joined);
            }
        }
        Request::Index { answer } => {
            if let Got::Index(octets) = got(&Want::Index) {
                let _ = answer.send(octets);
            }
        }
        Request::Zone { apex, answer } if !silent => {
            let _ = answer.send(relay.lock().unwrap().zone(&apex));
        }
        Request::Zone { .. } => {}
        Request::Entries { after, answer } => {
            let deadline = Instant::now() + Duration::from_secs(1);
            loop {
                let entries = relay.lock().unwrap().entries(&after);
                let is_news = !matches!(&entries, Entries::Next(entries) if entries.len() < 2);
                if is_news || Instant::now() > deadline || stop.load(Ordering::Relaxed) {
                    let _ = answer.send(entries);
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn relay() -> Arc<Mutex<Relay>> {
    Arc::new(Mutex::new(Relay::new()))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
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
    query.extend_from_slice(b"www");
    query.push(u8::try_from(label.len()).unwrap());
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
    let (server, feed, address) = start(Some(state.path()));
    // Nothing has come: that is no answer about names (design §4.3).
    assert_eq!(ask(&client(address), "a").0, 2);
    let answering = Answering::start(&relay(), feed);
    answering.relay().change(vec![whole("a.test", 1, [192, 0, 2, 1])]);
    answering.relay().change(vec![update("a.test", 1, [192, 0, 2, 11])]);
    let applied = answering.settled();
    assert_eq!((applied.generation, applied.epoch, applied.sequence), (1, 1, 2));
    assert!(applied.quarantined.is_empty());
    assert_eq!(ask(&client(address), "a"), (0, 11));
    server.stop();

    let (server, feed, address) = start(Some(state.path()));
    assert_eq!(ask(&client(address), "a"), (0, 11));
    assert_eq!(*feed.applied.borrow(), applied);
    // It goes on from there.
    let answering = Answering::start(&answering.relay, feed);
    answering.relay().change(vec![update("a.test", 2, [192, 0, 2, 21])]);
    answering.settled();
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

/// The deployment's key is found out from the other side, and the next start knows it.
#[test]
fn p1_a_snapshot_under_the_key_of_the_deployment_is_read_at_the_next_start() {
    let state = tempfile::tempdir().unwrap();
    let relay = relay();
    let (server, feed, _) = start_with(Some(state.path()), None);
    assert_ne!(feed.digest_key.0, [2; 32], "its own, until it knows");
    let answering = Answering::start(&relay, feed);
    answering.relay().change(vec![whole("a.test", 1, [192, 0, 2, 1])]);
    let applied = answering.settled();
    drop(answering);
    server.stop();
    let (server, feed, address) = start_with(Some(state.path()), None);
    assert_eq!((ask(&client(address), "a"), feed.digest_key.0), ((0, 1), [2; 32]));
    assert_eq!(*feed.applied.borrow(), applied);
    // Another deployment's takes its place when it has come whole, and both files can be read from then on.
    let mut other = Relay::with_key(9);
    other.generation = 2;
    other.change(vec![whole("a.test", 1, [192, 0, 2, 9])]);
    let answering = Answering::start(&Arc::new(Mutex::new(other)), feed);
    answering.settled();
    drop(answering);
    server.stop();
    let (server, feed, address) = start_with(Some(state.path()), None);
    assert_eq!((ask(&client(address), "a"), feed.digest_key.0), ((0, 9), [9; 32]));
    server.stop();
    std::fs::remove_file(state.path().join("current.snapshot")).unwrap();
    let (server, _feed, address) = start_with(Some(state.path()), None);
    assert_eq!(ask(&client(address), "a"), (0, 1));
    server.stop();
}

#[test]
fn p5_changes_that_are_missing_are_not_forgotten_by_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let relay = relay();
    let (server, feed, _) = start(Some(state.path()));
    let answering = Answering::start(&relay, feed);
    answering.relay().change(vec![whole("a.test", 1, [0; 4])]);
    answering.relay().change(vec![whole("b.test", 1, [0; 4])]);
    let before = answering.settled();
    drop(answering);
    server.stop();

    // Batches are lost on the way, and the zone that changed does not come: nothing of it is written, and the next start
    // begins where nothing was missing yet.
    let (server, feed, address) = start(Some(state.path()));
    assert_eq!(*feed.applied.borrow(), before);
    let answering = Answering::start(&relay, feed);
    answering.silent.store(true, Ordering::Relaxed);
    {
        let mut relay = answering.relay();
        relay.change(vec![update("a.test", 1, [192, 0, 2, 11])]);
        relay.change(vec![update("b.test", 1, [192, 0, 2, 12])]);
        relay.prune(3);
    }
    wait_until("it compares", || server.status().feed_resyncs.load(Ordering::Relaxed) > 0);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(answering.applied.borrow().sequence, 2);
    assert_eq!(ask(&client(address), "b"), (0, 0));
    drop(answering);
    server.stop();
    let (server, feed, address) = start(Some(state.path()));
    assert_eq!(*feed.applied.borrow(), before);
    // Once everything has come, it is written as ever.
    let answering = Answering::start(&relay, feed);
    answering.settled();
    wait_until("something is written", || server.status().snapshots_written.load(Ordering::Relaxed) > 0);
    assert_eq!((ask(&client(address), "a"), ask(&client(address), "b")), ((0, 11), (0, 12)));
    drop(answering);
    server.stop();
    let (server, feed, address) = start(Some(state.path()));
    assert_eq!((ask(&client(address), "a"), feed.applied.borrow().sequence), ((0, 11), 4));
    server.stop();
}

/// A snapshot is written at the latest when the server stops, if there is one to write.
#[test]
fn p6_a_zone_in_quarantine_keeps_nothing_else_from_the_disk_and_is_asked_for_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let relay = relay();
    let (server, feed, _) = start(Some(state.path()));
    let answering = Answering::start(&relay, feed);
    answering.relay().change(vec![whole("a.test", 1, [0; 4])]);
    answering.relay().change(vec![whole("b.test", 1, [0; 4])]);
    answering.settled();
    answering.silent.store(true, Ordering::Relaxed);
    // A change that does not fit what is held, though it would fit what is committed.
    answering.relay().commit(vec![update("a.test", 1, [192, 0, 2, 13])]);
    answering.relay().waiting.clear();
    answering.relay().append(vec![vec![update("a.test", 7, [192, 0, 2, 11])]]);
    answering.relay().commit(vec![update("b.test", 1, [192, 0, 2, 12])]);
    {
        let mut relay = answering.relay();
        relay.published = relay.zones.clone();
        let waiting = std::mem::take(&mut relay.waiting);
        relay.append(waiting);
    }
    let applied = answering.settled();
    assert_eq!(applied.quarantined.iter().collect::<Vec<_>>(), [(&name("a.test"), &1)]);
    drop(answering);
    server.stop();

    let (server, feed, address) = start(Some(state.path()));
    assert_eq!((ask(&client(address), "a"), ask(&client(address), "b")), ((0, 0), (0, 12)));
    assert_eq!(feed.applied.borrow().sequence, 4);
    // Nothing is forgotten by a stop before anybody answers.
    server.stop();
    let (server, feed, address) = start(Some(state.path()));
    let answering = Answering::start(&relay, feed);
    wait_until("the zone is fetched", || ask(&client(address), "a") == (0, 13));
    assert_eq!(server.status().feed_resyncs.load(Ordering::Relaxed), 1);
    assert_eq!(server.status().digest_mismatches.load(Ordering::Relaxed), 0);
    drop(answering);
    server.stop();
}

/// A zone that came and never could be served is not "no such name" of the zone above it, nor refused (I11).
#[test]
fn i11_a_zone_that_never_could_be_served_is_answered_from_no_other() {
    let (server, feed, address) = start(None);
    let answering = Answering::start(&relay(), feed);
    let send = |change: godwit_wire::feed::ZoneChange, is_good: bool| {
        if is_good {
            answering.relay().change(vec![change]);
        } else {
            answering.relay().append(vec![vec![change]]);
        }
        answering.settled();
    };
    send(whole("b.test", 1, [192, 0, 2, 12]), true);
    answering.silent.store(true, Ordering::Relaxed);
    assert_eq!(ask(&client(address), "a").0, 5, "not ours");
    send(bad("a.test", 1), false);
    assert_eq!(ask(&client(address), "a").0, 2, "ours, and not to be had");
    send(whole("test", 1, [192, 0, 2, 1]), true);
    assert_eq!(ask(&client(address), "a").0, 2, "the zone above does not know");
    assert_eq!(ask(&client(address), "b"), (0, 12));
    // Gone it is a name like any other; stated well it is served; bad again it keeps what it has.
    send(removal("a.test", 1), false);
    assert_eq!(ask(&client(address), "a").0, 3);
    send(bad("a.test", 3), false);
    assert_eq!(ask(&client(address), "a").0, 2);
    send(whole("a.test", 4, [192, 0, 2, 14]), false);
    assert_eq!(ask(&client(address), "a"), (0, 14));
    send(bad("a.test", 5), false);
    assert_eq!(ask(&client(address), "a"), (0, 14));
    drop(answering);
    server.stop();
}

/// Everything in several parts, and a stop between them: the part is not taken for the whole at the next start.
#[test]
fn p5_a_part_of_everything_never_reaches_the_disk() {
    let state = tempfile::tempdir().unwrap();
    let relay = relay();
    for number in 0..100 {
        relay.lock().unwrap().change(vec![whole(&format!("z{number}.test"), 1, [192, 0, 2, 1])]);
    }
    let (server, mut feed, address) = start(Some(state.path()));
    // Answers until the first zones have come, and no further.
    let mut zones = 0;
    while zones < 65 {
        let request = feed.requests.blocking_recv().unwrap();
        zones += usize::from(matches!(request, Request::Zone { .. }));
        answer(&relay, request, &AtomicBool::new(true), false);
    }
    assert_eq!((ask(&client(address), "z0").0, feed.applied.borrow().sequence), (2, 0));
    server.stop();
    let (server, feed, address) = start(Some(state.path()));
    assert_eq!(*feed.applied.borrow(), Applied::default());
    let answering = Answering::start(&relay, feed);
    answering.settled();
    assert_eq!((ask(&client(address), "z0"), server.store().load().zone_count()), ((0, 1), 100));
    drop(answering);
    server.stop();
}

#[test]
fn p2_a_change_set_over_two_zones_is_seen_whole_or_not_at_all() {
    let (server, feed, address) = start(None);
    let answering = Answering::start(&relay(), feed);
    answering.relay().change(vec![whole("a.test", 1, [0; 4]), whole("b.test", 1, [0; 4])]);
    answering.settled();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1..=500u64 {
                let address = u32::try_from(version).unwrap().to_be_bytes();
                let change = vec![update("a.test", version, address), update("b.test", version, address)];
                answering.relay().change(change);
                if version == 250 {
                    // Once by comparison with the index instead of by batches.
                    answering.relay().prune(1000);
                }
                // One by one, so that each is there to be seen.
                answering.settled();
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
    drop(answering);
    server.stop();
}

/// The control plane is opened anew in the same process: who comes after goes on with what was asked.
#[test]
fn p1_another_may_answer_in_the_place_of_one_that_has_gone() {
    let (server, feed, address) = start(None);
    let relay = relay();
    relay.lock().unwrap().change(vec![whole("a.test", 1, [192, 0, 2, 1])]);
    let answering = Answering::start(&relay, feed);
    answering.settled();
    let (mut requests, applied) = answering.end();
    // Some are taken, and dropped with their answers.
    for _ in 0..3 {
        drop(requests.blocking_recv());
    }
    assert_eq!(ask(&client(address), "a"), (0, 1));
    relay.lock().unwrap().change(vec![update("a.test", 1, [192, 0, 2, 11])]);
    let answering = Answering::go_on(&relay, requests, applied);
    answering.settled();
    assert_eq!(ask(&client(address), "a"), (0, 11));
    // Nobody will ever answer: what is served stays.
    drop(answering.end());
    assert_eq!(ask(&client(address), "a"), (0, 11));
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
