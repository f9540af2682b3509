//! P3: the UDP path allocates nothing per query.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use godwit_dataplane::config::query_log::{
    MIN_RING_OCTETS, QueryLog as Settings, QueryLogFormat, QueryLogMode,
};
use godwit_dataplane::observe::counter::WorkerCounters;
use godwit_dataplane::observe::query_log::{QueryLog, Recorder};
use godwit_dataplane::serve::udp::UdpWorker;
use godwit_dataplane::sys::socket::{self, UdpOptions};

use godwit_dataplane::serve::engine::Engine;
use godwit_engine::answer::{CookieSecrets, Settings as AnswerSettings};
use godwit_engine::snapshot::Snapshot;
use godwit_engine::snapshot::store::Store;

use super::allocations;
use super::reflector::{Reflector, eventually, query};
use super::snapshots::{change_set, options, whole};

#[test]
fn p3_a_udp_worker_allocates_nothing() {
    // One socket and several are different paths; a wildcard bind adds control messages.
    for addresses in [&["127.0.0.1:0"][..], &["0.0.0.0:0", "[::1]:0"]] {
        let sockets: Vec<_> = addresses
            .iter()
            .map(|address| socket::bind_udp(address.parse().unwrap(), &UdpOptions::default()).unwrap())
            .collect();
        let port = sockets[0].local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(("127.0.0.1", port)).unwrap();
        let counters = WorkerCounters::default();
        let stop = Arc::new(AtomicBool::new(false));
        let mut worker =
            UdpWorker::new(sockets, false, Reflector::default(), Arc::clone(&counters), stop).unwrap();
        let mut buffer = [0; 512];
        for round in 0..50 {
            for id in 0..100 {
                client.send(&query(id, "a")).unwrap();
            }
            let before = allocations();
            while counters.answers[0].get() < (round + 1) * 100 {
                worker.turn();
            }
            assert_eq!(allocations() - before, 0, "round {round}");
            for _ in 0..100 {
                client.recv(&mut buffer).unwrap();
            }
        }
        // An idle turn allocates nothing either.
        let before = allocations();
        worker.turn();
        assert_eq!(allocations() - before, 0);
    }
}

/// A query for A at `name` with EDNS and a client cookie.
fn edns_query(name: &str) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    message
}

/// A query log that takes everything from one worker, and the worker's end of it.
fn query_log(target: &str, format: QueryLogFormat) -> (QueryLog, Recorder) {
    let settings = Settings {
        mode: QueryLogMode::Full,
        format,
        target: Some(target.parse().unwrap()),
        ring_octets: MIN_RING_OCTETS,
        ..Settings::default()
    };
    let (log, mut recorders) = QueryLog::start(&settings, &["udp-0".to_owned()]).unwrap().unwrap();
    (log, recorders.remove(0))
}

#[test]
fn p3_a_udp_worker_with_the_engine_behind_it_allocates_nothing() {
    engine_worker(None);
}

#[test]
fn p3_a_udp_worker_that_logs_every_query_allocates_nothing() {
    // A sink that takes all of it, and one that is never there, so that the ring runs full.
    let (log, recorder) = query_log("/dev/null", QueryLogFormat::Json);
    engine_worker(Some(recorder));
    let counts = log.counts();
    eventually("all is accounted for", || counts.written.get() + counts.dropped(0) == 2_000);
    assert!(counts.written.get() > 0);
    let (log, recorder) = query_log("unix:/nonexistent/tap", QueryLogFormat::Dnstap);
    engine_worker(Some(recorder));
    let full = log.counts().dropped(0);
    assert!((1..2_000).contains(&full), "{full}");
    assert_eq!(log.counts().written.get(), 0);
}

/// 2,000 queries of four kinds through a worker with the engine behind it.
fn engine_worker(recorder: Option<Recorder>) {
    let zones: Vec<_> = (0..100).map(|i| whole(&format!("z{i}.test"), 1, [192, 0, 2, i])).collect();
    let snapshot = Snapshot::empty(&options()).apply(&change_set(zones)).unwrap();
    let store = Store::new(snapshot);
    let cookies = Some(CookieSecrets { current: [5; 16], previous: None, require: false });
    let settings = AnswerSettings { cookies, ..AnswerSettings::default() };
    let engine = Engine::new(&store, settings, true);
    let socket = socket::bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    let counters = WorkerCounters::default();
    let stop = Arc::new(AtomicBool::new(false));
    let mut worker = UdpWorker::new(vec![socket], false, engine, Arc::clone(&counters), stop).unwrap();
    if let Some(recorder) = recorder {
        worker.record(recorder);
    }
    let answered =
        || counters.answers.iter().map(godwit_dataplane::observe::counter::Counter::get).sum::<u64>();
    let mut buffer = [0; 4096];
    for round in 0..20u64 {
        let mut queries = Vec::new();
        for i in 0..25 {
            queries.push(edns_query(&format!("www.z{i}.test")));
            queries.push(edns_query(&format!("a.b.c.nothing.z{i}.test")));
            queries.push(edns_query(&format!("www.example{i}.com")));
            // Cut short: FORMERR.
            let whole = edns_query("www.z1.test");
            queries.push(whole[..whole.len() - 5].to_vec());
        }
        for query in &queries {
            client.send(query).unwrap();
        }
        // A change between two rounds: the worker lets go of the old snapshot, and frees nothing of it.
        let next = store
            .load()
            .apply(&change_set(vec![super::snapshots::update("z1.test", round + 1, [9; 4])]))
            .unwrap();
        store.swap(next);
        let before = allocations();
        while answered() < (round + 1) * 100 {
            worker.turn();
        }
        assert_eq!(allocations() - before, 0, "round {round}");
        for _ in 0..100 {
            client.recv(&mut buffer).unwrap();
        }
    }
    for (rcode, count) in [(0, 500), (1, 500), (3, 500), (5, 500)] {
        assert_eq!(counters.answers[rcode].get(), count, "rcode {rcode}");
    }
}
