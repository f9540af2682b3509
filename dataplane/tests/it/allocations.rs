//! P3: the UDP path allocates nothing per query.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use godwit_dataplane::config::query_log::{
    MIN_RING_OCTETS, QueryLog as LogSettings, QueryLogFormat, QueryLogMode,
};
use godwit_dataplane::observe::counter::{Counter, Dropped, Limited, WorkerCounters};
use godwit_dataplane::observe::query_log::{QueryLog, Recorder};
use godwit_dataplane::serve::rate::{Limiter, RateLimits};
use godwit_dataplane::serve::udp::UdpWorker;
use godwit_dataplane::sys::socket::{self, UdpOptions};

use godwit_dataplane::serve::engine::{Answering, Engine};
use godwit_dataplane::serve::respond::Respond;
use godwit_engine::answer::{CookieSecrets, Settings};
use godwit_engine::snapshot::Snapshot;
use godwit_engine::snapshot::store::Store;
use godwit_testkit::generate::{self, Census, QueryOptions, WorldOptions};
use godwit_testkit::{reference, scenario};

use super::allocations;
use super::reflector::{Reflector, eventually, query};
use super::scenarios::bridge;
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
    let mut message = plain_query(name);
    message[11] = 1;
    message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    message
}

/// A query for A at `name` without EDNS.
fn plain_query(name: &str) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// A query log that takes everything from one worker, and the worker's end of it.
fn query_log(target: &str, format: QueryLogFormat) -> (QueryLog, Recorder) {
    let settings = LogSettings {
        mode: QueryLogMode::Full,
        format,
        target: Some(target.parse().unwrap()),
        ring_octets: MIN_RING_OCTETS,
        ..LogSettings::default()
    };
    let (log, mut recorders) = QueryLog::start(&settings, &["udp-0".to_owned()], || true).unwrap().unwrap();
    (log, recorders.remove(0))
}

#[test]
fn p3_a_udp_worker_that_logs_every_query_allocates_nothing() {
    // A sink that takes all of it, and one that is never there, so that the ring runs full.
    let (log, recorder) = query_log("/dev/null", QueryLogFormat::Json);
    rounds(None, Some(recorder), edns_query);
    let counts = log.counts();
    eventually("all is accounted for", || counts.written.get() + counts.dropped(0) == 2_000);
    assert!(counts.written.get() > 0);
    let (log, recorder) = query_log("unix:/nonexistent/tap", QueryLogFormat::Dnstap);
    rounds(None, Some(recorder), edns_query);
    let full = log.counts().dropped(0);
    assert!((1..2_000).contains(&full), "{full}");
    assert_eq!(log.counts().written.get(), 0);
}

/// A worker with the engine behind it; after each of 20 changes it gets 100 messages, and allocates nothing.
fn rounds(
    limiter: Option<Limiter>,
    recorder: Option<Recorder>,
    query: fn(&str) -> Vec<u8>,
) -> WorkerCounters {
    let zones: Vec<_> = (0..100).map(|i| whole(&format!("z{i}.test"), 1, [192, 0, 2, i])).collect();
    let snapshot = Snapshot::empty(&options()).apply(&change_set(zones)).unwrap();
    let store = Store::new(snapshot);
    let cookies = Some(CookieSecrets { current: [5; 16], previous: None, require: false });
    let answering = Store::new(Answering::new(Settings { cookies, ..Settings::default() }));
    let engine = Engine::new(&store, &answering, true);
    let socket = socket::bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    let counters = WorkerCounters::default();
    let stop = Arc::new(AtomicBool::new(false));
    let mut worker = UdpWorker::new(vec![socket], false, engine, Arc::clone(&counters), stop).unwrap();
    if let Some(limiter) = limiter {
        worker = worker.limited(limiter);
    }
    if let Some(recorder) = recorder {
        worker.record(recorder);
    }
    let answered = || counters.answers.iter().map(Counter::get).sum::<u64>();
    let dropped = || counters.dropped[Dropped::RateLimited as usize].get();
    let mut received = 0;
    let mut buffer = [0; 4096];
    for round in 0..20u64 {
        let mut queries = Vec::new();
        for i in 0..25 {
            queries.push(query(&format!("www.z{i}.test")));
            queries.push(query(&format!("a.b.c.nothing.z{i}.test")));
            queries.push(query(&format!("www.example{i}.com")));
            // Cut short: FORMERR.
            let whole = query("www.z1.test");
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
        while answered() + dropped() < (round + 1) * 100 {
            worker.turn();
        }
        assert_eq!(allocations() - before, 0, "round {round}");
        while received < answered() {
            client.recv(&mut buffer).unwrap();
            received += 1;
        }
    }
    counters
}

#[test]
fn p3_a_udp_worker_with_the_engine_behind_it_allocates_nothing() {
    let counters = rounds(None, None, edns_query);
    for (rcode, count) in [(0, 500), (1, 500), (3, 500), (5, 500)] {
        assert_eq!(counters.answers[rcode].get(), count, "rcode {rcode}");
    }
}

/// Nor where limits bite, in each way in which they do.
#[test]
fn p3_rate_limits_allocate_nothing() {
    let limits = RateLimits {
        answers_per_second: 1,
        total_per_second: 40,
        exempt_loopback: false,
        table_entries: 1024,
        ..RateLimits::default()
    };
    let limiter = || Limiter::new(&limits, 1, [1, 3, 5, 7]);
    for (query, short) in
        [(edns_query as fn(&str) -> Vec<u8>, Limited::BadCookie), (plain_query, Limited::Slip)]
    {
        let counters = rounds(Some(limiter()), None, query);
        let limited =
            |action: Limited| counters.limited[action as usize].iter().map(Counter::get).sum::<u64>();
        assert!(limited(short) > 0 && limited(Limited::Drop) > 0, "{short:?}");
        assert_eq!(limited(Limited::Drop), counters.dropped[Dropped::RateLimited as usize].get());
    }
}

/// Whatever is asked, and however zones are signed: every kind of answer that the reference knows, and each message of the
/// scenarios.
#[test]
fn p3_no_kind_of_answer_allocates() {
    const WORLDS: u64 = 100;
    const QUERIES: usize = 50;
    let seed = generate::seed(17);
    let mut census = Census::default();
    for case in 0..WORLDS {
        let mut random = generate::random(seed, case);
        let world = generate::world(&mut random, &WorldOptions { strict: false, signing: None });
        let settings = generate::settings(&mut random, scenario::COOKIE_SECRET);
        let mut answers = Answers::new(&world, &settings);
        for _ in 0..QUERIES {
            let options =
                QueryOptions { plain: false, cookie_secret: scenario::COOKIE_SECRET, now: scenario::NOW };
            let query = generate::query(&mut random, &options, &world);
            let client = reference::Client { address: query.address, transport: query.transport };
            let expected = reference::answer(&world, &settings, &client, scenario::NOW, &query.packet);
            census.count(&world, &query, expected.as_ref());
            let count = answers.allocations_for(&client, &query.packet);
            assert_eq!(count, 0, "GODWIT_SEED={seed} world {case}: {} {}", query.qname, query.qtype);
        }
    }
    println!("GODWIT_SEED={seed}: {census}");
    assert_eq!(census.missing(), [], "GODWIT_SEED={seed}");
    for scenario in scenario::all().unwrap_or_else(|error| panic!("{error:#}")) {
        let mut answers = Answers::new(&scenario.world, &scenario.settings);
        for case in &scenario.cases {
            let client = reference::Client { address: scenario::CLIENT, transport: case.transport };
            let count = answers.allocations_for(&client, &case.packet);
            assert_eq!(count, 0, "{}.scenario:{}: {}", scenario.name, case.line, case.title);
        }
    }
}

/// What a worker has to answer with.
struct Answers {
    engine: Engine,
    out: Vec<u8>,
}

impl Answers {
    fn new(world: &reference::World, settings: &reference::Settings) -> Self {
        let store = Store::new(bridge::snapshot(world));
        let answering = Store::new(Answering::new(bridge::settings(settings)));
        Answers { engine: Engine::new(&store, &answering, !settings.serving), out: vec![0; 65_535] }
    }

    /// Answers a message, whole and in the form for who asks too much; how often memory was taken or given back for that.
    fn allocations_for(&mut self, client: &reference::Client, packet: &[u8]) -> u64 {
        let client = bridge::client(client.transport, client.address);
        let before = allocations();
        self.engine.respond(scenario::NOW, &client, packet, &mut self.out);
        self.engine.shorten(scenario::NOW, &client, packet, &mut self.out);
        allocations() - before
    }
}
