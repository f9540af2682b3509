//! What the stream holds is the log, whatever happens to Redis, and whoever else writes to it.

use std::sync::Mutex;

use godwit_redis::Place;
use godwit_testkit::servers::{Cluster, Redis, Watched};
use godwit_wire::feed::{Digest, DigestKey, Head, SigningKey};
use tokio::sync::watch;

use super::*;
use crate::commit::{self, Queues};
use crate::relay::batches::readable;
use crate::relay::give;
use crate::relay::reader::Reader;
use crate::secrets::FeedKeys;
use crate::store::batch::Batch as SqlBatch;
use crate::store::testing;
use crate::store::{Database, Kind, changes, relay};

const SOON: Duration = Duration::from_secs(20);
/// The most entries that Redis keeps together.
const STEP: usize = 100;

fn key(octet: u8) -> SigningKey {
    SigningKey::from_seed(&[octet; 32]).unwrap()
}

/// A publisher at work, and what it works with.
struct Running<S = Redis> {
    server: S,
    /// Where the stream is.
    url: String,
    keys: Keys,
    log: Arc<Log>,
    term: watch::Sender<Option<u64>>,
    queues: Queues,
    /// Up to where all data planes that live have applied it.
    applied: Arc<Mutex<Option<u64>>>,
    running: tokio::task::JoinHandle<()>,
    database: Database,
    _place: testing::Place,
}

impl Running {
    async fn start(settings: &[&str]) -> Running {
        let server = Redis::start(settings).unwrap();
        let url = server.url(1);
        Running::on(server, url).await
    }
}

impl<S> Running<S> {
    async fn on(server: S, url: String) -> Running<S> {
        let (mut database, place) = testing::database(Kind::Sqlite).await;
        relay::start(&mut database.writer, &DigestKey([1; 32]), 7).await.unwrap();
        relay::raise_epoch(&mut database.writer).await.unwrap();
        let state = relay::read(&mut database.writer).await.unwrap().unwrap();
        let log = Arc::new(Log::new(state, Arc::default(), Metrics::default()));
        let keys = Keys::with_prefix("t:");
        let term = watch::Sender::new(Some(1));
        let (committer, queues) = commit::channel();
        let applied = Arc::new(Mutex::new(None));
        let by_all = applied.clone();
        let publisher = Publisher {
            holding: Holding {
                place: Place::parse(&url).unwrap(),
                reader: Some(Reader {
                    user: "node".to_owned(),
                    password: "secret".to_owned(),
                    keys: vec![keys.stream.clone(), keys.head.clone()],
                }),
                term: term.subscribe(),
            },
            keys: keys.clone(),
            log: log.clone(),
            readers: database.readers.clone(),
            signer: Arc::new(Signer::new(FeedKeys {
                signing: Arc::new(key(1)),
                trusted: [key(1).verifying_key(), key(2).verifying_key()],
                number: 1,
            })),
            overtaken: committer.overtaken(),
            applied: Box::new(move |_| *by_all.lock().unwrap()),
            stays: Duration::ZERO,
            metrics: Metrics::default(),
        };
        let running = tokio::spawn(crate::relay::terms::run(publisher));
        Running { server, url, keys, log, term, queues, applied, running, database, _place: place }
    }

    /// Commits changes, each a batch of its own.
    async fn commit(&mut self, count: u64) {
        let connection = &mut self.database.writer;
        for _ in 0..count {
            let id = uuid::Uuid::now_v7();
            let payload = readable(id, 1, Vec::new());
            let new = changes::New {
                id,
                at_us: 1,
                actor: "a",
                request_id: "",
                payload: &payload,
                settled_by: None,
            };
            connection.control(&[commit::begin_whole(Kind::Sqlite)]).await.unwrap();
            let mut batch = SqlBatch::of(connection);
            changes::insert(&mut batch, &new, Digest::default(), None);
            batch.run(connection).await.unwrap();
            let mut state = relay::hold(connection).await.unwrap();
            let made = give::to_all(connection, &mut state, commit::COMMIT).await.unwrap();
            self.log.add(made, state);
        }
    }

    async fn connection(&self) -> Connection {
        let (place, deadline) = (Place::parse(&self.url).unwrap(), Instant::now() + SOON);
        loop {
            match place.connect(Publisher::TIMEOUTS).await {
                Ok(connection) => return connection,
                // Sentinel may take a while to name another.
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ids, and the batches that are ours.
    async fn entries(&self) -> Vec<(String, Option<Batch>)> {
        let mut connection = self.connection().await;
        let range: redis::RedisResult<Vec<(String, Vec<Vec<u8>>)>> =
            redis::cmd("XRANGE").arg(&self.keys.stream).arg("-").arg("+").query_async(&mut connection).await;
        let ours = |fields: &[Vec<u8>]| {
            let octets = fields.get(1)?;
            Batch::verify(octets, &[key(1).verifying_key()]).ok()?;
            Batch::decode(octets).ok()
        };
        range.unwrap_or_default().into_iter().map(|(id, fields)| (id, ours(&fields))).collect()
    }

    /// Until the stream is a gapless piece of the log up to its end.
    async fn until_level(&self) -> Vec<(String, Option<Batch>)> {
        let deadline = Instant::now() + SOON;
        loop {
            let entries = self.entries().await;
            let end = self.log.end();
            let last = entries.last().and_then(|(_, batch)| batch.as_ref());
            if last.is_some_and(|batch| batch.chain() == end.chain) {
                let batches: Vec<&Batch> = entries.iter().filter_map(|(_, batch)| batch.as_ref()).collect();
                assert_eq!(batches.len(), entries.len(), "something that is not ours is left");
                for pair in batches.windows(2) {
                    assert_eq!(pair[1].first_sequence, pair[0].last_sequence() + 1);
                    assert_eq!(pair[1].previous_chain, pair[0].chain());
                }
                return entries;
            }
            assert!(Instant::now() < deadline, "{:?} and {end:?}", entries.last());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn forge(&self, id: &str, octets: &[u8]) {
        let mut connection = self.connection().await;
        let mut forged = redis::cmd("XADD");
        forged.arg(&self.keys.stream).arg(id).arg(BATCH).arg(octets);
        forged.exec_async(&mut connection).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_come_in_order_under_ids_of_the_term_with_heads() {
    let mut running = Running::start(&[]).await;
    running.commit(3).await;
    running.until_level().await;
    running.term.send_replace(Some(4));
    running.commit(2).await;
    let entries = running.until_level().await;
    let ids: Vec<&str> = entries.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["1-1", "1-2", "1-3", "4-4", "4-5"]);
    let deadline = Instant::now() + SOON;
    loop {
        let mut connection = running.connection().await;
        let octets: Vec<u8> =
            redis::cmd("GET").arg(&running.keys.head).query_async(&mut connection).await.unwrap_or_default();
        if !octets.is_empty() {
            Head::verify(&octets, &[key(1).verifying_key()]).unwrap();
            if Head::decode(&octets).unwrap() == running.log.head() {
                break;
            }
        }
        assert!(Instant::now() < deadline, "no head of the end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nobody's term: nothing is published.
    running.term.send_replace(None);
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.commit(1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(running.entries().await.len(), 5);
    running.term.send_replace(Some(5));
    running.until_level().await;
    running.running.abort();
}

/// It holds what one that lives has not applied, and not much else; Redis forgets in steps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_that_live_have_applied_goes() {
    let mut running = Running::start(&[]).await;
    running.commit(250).await;
    running.until_level().await;
    // Nobody lives; one that lives has nothing.
    for applied in [None, Some(0)] {
        *running.applied.lock().unwrap() = applied;
        tokio::time::sleep(TICK + Duration::from_millis(500)).await;
        assert_eq!(running.entries().await.len(), 250, "{applied:?}");
    }
    for (applied, left) in [(120, 130), (230, 20), (900, 1)] {
        *running.applied.lock().unwrap() = Some(applied);
        let deadline = Instant::now() + SOON;
        loop {
            let found = running.entries().await.len();
            assert!(found >= left, "{found} are left with {applied} applied");
            if found < left + STEP {
                break;
            }
            assert!(Instant::now() < deadline, "{found} are left with {applied} applied");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    running.commit(1).await;
    let entries = running.until_level().await;
    assert!((2..STEP + 2).contains(&entries.len()), "it goes on from there: {}", entries.len());
    running.running.abort();
}

/// The user that data planes read as reads the feed and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p9_nodes_can_only_read() {
    let mut running = Running::start(&[]).await;
    running.commit(1).await;
    running.until_level().await;
    running.server.command(1, &["SET", "other", "x"]).unwrap();
    let url = format!("{}&user=node&pass=secret", running.server.url(1));
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let Keys { stream, head } = &running.keys;
    for (words, allowed) in [
        (&["XREVRANGE", stream, "+", "-", "COUNT", "1"][..], true),
        (&["XREAD", "COUNT", "1", "STREAMS", stream, "0-0"], true),
        (&["GET", head], true),
        (&["GET", "other"], false),
        (&["SET", head, "x"], false),
        (&["XADD", stream, "9-9", "b", "x"], false),
        (&["DEL", stream], false),
        (&["FLUSHALL"], false),
        (&["ACL", "LIST"], false),
        (&["CONFIG", "GET", "*"], false),
    ] {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        let done = command.query_async::<Value>(&mut connection).await;
        assert_eq!(done.is_ok(), allowed, "{words:?}: {done:?}");
    }
    running.running.abort();
}

/// Emptied, killed and started empty, out of memory, put back to an older state: it comes to the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_stream_that_lost_something_is_put_right() {
    let mut running = Running::start(&[]).await;
    running.commit(5).await;
    running.until_level().await;
    running.server.command(1, &["FLUSHALL"]).unwrap();
    assert_eq!(running.until_level().await.len(), 5);
    running.commit(1).await;
    running.until_level().await;

    running.server.kill().unwrap();
    running.commit(2).await;
    running.server.again().unwrap();
    assert_eq!(running.until_level().await.len(), 8);

    // An older copy: the last three never were.
    for id in ["1-6", "1-7", "1-8"] {
        running.server.command(1, &["XDEL", &running.keys.stream, id]).unwrap();
    }
    running.server.command(1, &["XSETID", &running.keys.stream, "1-5"]).unwrap();
    assert_eq!(running.until_level().await.len(), 8);

    running.server.command(1, &["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    running.commit(4).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(running.entries().await.len(), 8, "Redis takes nothing");
    running.server.command(1, &["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert_eq!(running.until_level().await.len(), 12);

    // It takes connections and says nothing.
    running.server.pause().unwrap();
    running.commit(1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    running.server.go_on().unwrap();
    assert_eq!(running.until_level().await.len(), 13);
    running.running.abort();
}

/// Somebody with all rights on Redis puts entries behind ours: none of it stays, and none of it stops us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p9_what_others_write_to_the_stream_does_not_stay() {
    let mut running = Running::start(&[]).await;
    running.commit(4).await;
    let entries = running.until_level().await;
    let octets = |batch: &Batch, key: &SigningKey| {
        let mut octets = Vec::new();
        batch.encode_signed(key, &mut octets);
        octets
    };
    let ours = entries[1].1.clone().unwrap();
    let foreign = Batch { first_sequence: 5, previous_chain: running.log.end().chain, ..ours.clone() };
    let past = Batch { generation: 1, ..foreign.clone() };
    for (what, id, octets) in [
        ("signed by somebody else", "1-5", octets(&foreign, &key(9))),
        ("not signed", "1-5", {
            let mut octets = Vec::new();
            foreign.encode(&mut octets);
            octets
        }),
        ("one of ours again, under a later id", "1-900", octets(&ours, &key(1))),
        ("one of ours again, of a later term", "900-2", octets(&ours, &key(1))),
        ("the last possible id", "18446744073709551615-18446744073709551615", octets(&ours, &key(1))),
        ("of an earlier history", "1-5", octets(&past, &key(1))),
        ("anything", "1-5", b"anything".to_vec()),
    ] {
        running.forge(id, &octets).await;
        let deadline = Instant::now() + SOON;
        while running.entries().await.iter().any(|(found, batch)| found == id || batch.is_none()) {
            assert!(Instant::now() < deadline, "{what}: it stays");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        running.until_level().await;
    }
    running.commit(1).await;
    running.until_level().await;
    assert_eq!(*running.queues.overtaken.borrow(), 0, "nobody stops us by what is in Redis");
    running.running.abort();
}

/// What we have signed and this database does not know was published by a newer copy of it: nothing more is published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_a_stream_that_is_ahead_of_the_database_is_left_alone() {
    let mut running = Running::start(&[]).await;
    running.commit(2).await;
    let entries = running.until_level().await;
    let lost =
        Batch { first_sequence: 3, previous_chain: running.log.end().chain, ..entries[1].1.clone().unwrap() };
    let mut octets = Vec::new();
    lost.encode_signed(&key(1), &mut octets);
    running.forge("1-3", &octets).await;
    let found = running.queues.overtaken.wait_for(|found| *found == 3);
    tokio::time::timeout(SOON, found).await.expect("it is not noticed").unwrap();
    assert_eq!(running.entries().await.len(), 3);
    running.running.abort();
}

/// The server is killed, and the one that Sentinel promotes goes on: what it had not got yet comes from the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_another_server_takes_over_and_the_log_fills_it() {
    let watched = Watched::start().unwrap();
    let url = watched.url(1);
    let mut running = Running::on(watched, url).await;
    running.commit(3).await;
    running.until_level().await;
    let [_, replica] = &running.server.servers;
    // It is cut off before the last ones: the failover loses them.
    replica.command(0, &["REPLICAOF", "NO", "ONE"]).unwrap();
    running.commit(2).await;
    running.server.fail_over().unwrap();
    running.commit(2).await;
    let ids: Vec<String> = running.until_level().await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, (1..=7).map(|last| format!("1-{last}")).collect::<Vec<_>>());
    assert!(running.server.servers[1].command(0, &["ACL", "LIST"]).unwrap().contains("user node"));
    running.running.abort();
}

/// All keys of a role are on one server of a cluster, whichever that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_takes_the_stream() {
    let cluster = Cluster::start().unwrap();
    let url = cluster.url();
    let mut running = Running::on(cluster, url).await;
    running.commit(4).await;
    assert_eq!(running.until_level().await.len(), 4);
    for server in &running.server.servers {
        assert!(server.command(0, &["ACL", "LIST"]).unwrap().contains("user node"));
        server.command(0, &["FLUSHALL"]).unwrap();
    }
    assert_eq!(running.until_level().await.len(), 4);
    running.running.abort();
}
