//! The record cache is one place of the feed, signed, whatever happens to Redis and whoever writes there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use godwit_redis::{Connection, Place, Timeouts};
use godwit_testkit::servers::{Cluster, Redis};
use godwit_wire::feed::digest::zone_term;
use godwit_wire::feed::{CacheHead, CachedZone, Digest, DigestKey, Head, Index, IndexPlace, ZoneBlob};
use godwit_wire::name::Name;
use serde_json::json;

use crate::harness::{Server, folder};
use crate::node::{Node, octets};
use crate::replica::Replica;

const SOON: Duration = Duration::from_secs(60);
const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(10), response: Duration::from_secs(10) };
const INDEX: &str = "t:{cache}:index";
const HEAD: &str = "t:{cache}:head";

pub(crate) struct Running {
    pub(crate) server: Server,
    node: Node,
    key: DigestKey,
    connection: Connection,
}

/// What is in Redis; an error says what does not fit.
pub(crate) async fn read(running: &mut Running) -> Result<(IndexPlace, BTreeMap<Name, CachedZone>), String> {
    let mut pipeline = redis::pipe();
    pipeline.atomic().get(HEAD).hgetall(INDEX);
    type Fields = Vec<(Vec<u8>, Vec<u8>)>;
    let (head, fields): (Option<Vec<u8>>, Fields) =
        pipeline.query_async(&mut running.connection).await.map_err(|error| error.to_string())?;
    let head = head.ok_or("no head")?;
    CacheHead::verify(&head, &running.node.feed_keys).map_err(|error| error.to_string())?;
    let CacheHead { place, sum: signed } = CacheHead::decode(&head).unwrap();
    let (mut sum, mut zones) = (Digest::default(), BTreeMap::new());
    for (apex, value) in fields {
        let name = godwit_wire::name::NameRef::from_wire(&apex).map_err(|error| error.to_string())?;
        let zone = CachedZone::decode(&value).ok_or("no zone")?;
        sum.add(zone_term(&running.key, name, zone.version, zone.digest));
        zones.insert(name.to_owned(), zone);
    }
    if sum != signed {
        return Err("the index does not add up".to_owned());
    }
    Ok((place, zones))
}

/// One that keeps a cache there.
pub(crate) async fn start(
    folder: Arc<tempfile::TempDir>,
    replica: Replica,
    token: Option<String>,
    url: &str,
) -> Server {
    Server::start_in(folder, replica, token, |config| {
        config.redis.url = Some(url.to_owned());
        config.redis.prefix = "t:".to_owned();
    })
    .await
}

impl Running {
    async fn start(url: String) -> Running {
        Running::start_in(folder(), url).await
    }

    pub(crate) async fn start_in(folder: Arc<tempfile::TempDir>, url: String) -> Running {
        let server = start(folder, Replica::default(), None, &url).await;
        let node = Node::add(&server, "ns1").await;
        let key = DigestKey(octets(node.join["digest_key"].as_str().unwrap()));
        let connection = Place::parse(&url).unwrap().with_database(0).connect(TIMEOUTS).await.unwrap();
        Running { server, node, key, connection }
    }

    pub(crate) async fn zone(&self, name: &str) {
        let path = "/api/v1/domains?wait=applied&timeout=30s";
        self.server.client.json("POST", path, &json!({ "name": name })).await.expect(201);
    }

    /// Until the cache is what the database is, blobs included.
    pub(crate) async fn until_level(&mut self) -> BTreeMap<Name, CachedZone> {
        let deadline = Instant::now() + SOON;
        loop {
            let index = Index::decode(&self.node.get("/internal/v1/index").await.expect(200).body).unwrap();
            let now = Head::decode(&self.node.get("/internal/v1/head").await.expect(200).body).unwrap();
            let wrong = match read(self).await {
                // It may be a second old.
                _ if index.place.sequence != now.sequence => "the index that is compared is old".to_owned(),
                Ok((place, zones)) => match self.compare(&index, &place, &zones).await {
                    None => return zones,
                    Some(wrong) => wrong,
                },
                Err(wrong) => wrong,
            };
            assert!(Instant::now() < deadline, "{wrong}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn compare(
        &mut self,
        index: &Index,
        place: &IndexPlace,
        zones: &BTreeMap<Name, CachedZone>,
    ) -> Option<String> {
        if *place != index.place {
            return Some(format!("at {place:?}, where the log is at {:?}", index.place));
        }
        let listed: Vec<(Name, u64, Digest)> =
            index.zones.iter().map(|entry| (entry.zone.clone(), entry.version, entry.digest)).collect();
        let cached: Vec<(Name, u64, Digest)> =
            zones.iter().map(|(name, zone)| (name.clone(), zone.version, zone.digest)).collect();
        assert_eq!(cached, listed);
        for (name, zone) in zones {
            let key = [b"t:{cache}:zone:", name.as_wire()].concat();
            let blob: Option<Vec<u8>> =
                redis::cmd("GET").arg(key).query_async(&mut self.connection).await.ok().flatten();
            let Some(blob) = blob else { return Some(format!("no blob of {name}")) };
            if ZoneBlob::verify(&blob, &self.node.feed_keys).is_err() {
                return Some(format!("the blob of {name} is not signed"));
            }
            let blob = ZoneBlob::decode(&blob).unwrap();
            if (blob.version, blob.digest) != (zone.version, zone.digest) {
                return Some(format!("the blob of {name} is another version"));
            }
            assert_eq!(&blob.zone, name);
        }
        None
    }

    async fn keys(&mut self) -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> =
            redis::cmd("KEYS").arg("t:{cache}*").query_async(&mut self.connection).await.unwrap();
        keys.sort();
        keys
    }

    async fn do_it(&mut self, command: &redis::Cmd) {
        command.exec_async(&mut self.connection).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_is_one_place_of_the_feed_and_goes_with_it() {
    let redis = Redis::start(&[]).unwrap();
    let mut running = Running::start(redis.url(0)).await;
    assert_eq!(running.until_level().await.len(), 1, "the example zone");
    for name in ["a.test", "b.test", "c.test"] {
        running.zone(name).await;
        let record = json!({"name": format!("x.{name}."), "type": "A", "value": ["192.0.2.1"]});
        running.server.client.json("POST", "/api/v1/records", &record).await.expect(201);
    }
    assert_eq!(running.until_level().await.len(), 4);
    // While zones change, it is always one moment.
    let client = running.server.client.clone();
    let writing = tokio::spawn(async move {
        for octet in 0..200 {
            let body = json!({"type": "A", "value": [format!("192.0.2.{octet}")]});
            let name = ["a.test", "b.test", "c.test"][octet % 3];
            client.json("PUT", &format!("/api/v1/records/x.{name}."), &body).await.expect(200);
        }
    });
    let mut places = std::collections::BTreeSet::new();
    while !writing.is_finished() {
        places.insert(read(&mut running).await.unwrap().0.sequence);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    writing.await.unwrap();
    running.server.client.delete_zone("b.test").await;
    assert_eq!(running.until_level().await.len(), 3);
    assert_eq!(running.keys().await.len(), 5, "three zones, index and head: nothing is left of what went");
}

/// Emptied, put back to an older copy, written to by somebody else: it comes to what the database is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_cache_that_is_lost_or_foreign_is_filled_anew() {
    let redis = Redis::start(&[]).unwrap();
    let mut running = Running::start(redis.url(0)).await;
    running.zone("a.test").await;
    running.until_level().await;
    running.do_it(&redis::cmd("FLUSHALL")).await;
    running.until_level().await;
    // An older copy of all of it.
    let mut copy = Vec::new();
    for key in running.keys().await {
        let value: Vec<u8> = redis::cmd("DUMP").arg(&key).query_async(&mut running.connection).await.unwrap();
        copy.push((key, value));
    }
    running.zone("b.test").await;
    assert_eq!(running.until_level().await.len(), 3);
    for (key, value) in copy {
        running.do_it(redis::cmd("RESTORE").arg(key).arg(0).arg(value).arg("REPLACE")).await;
    }
    assert_eq!(running.until_level().await.len(), 3);
    // Somebody else, who has Redis: in each of the keys.
    let a_test: Name = "a.test.".parse().unwrap();
    let forged = CachedZone { version: 900, serial: 1, digest: Digest::from_bytes([7; 32]) };
    running.do_it(redis::cmd("HSET").arg(INDEX).arg(a_test.as_wire()).arg(forged.encode())).await;
    running.until_level().await;
    // Nothing but the sum tells that one is missing.
    running.do_it(redis::cmd("HDEL").arg(INDEX).arg(a_test.as_wire())).await;
    running.until_level().await;
    running.do_it(redis::cmd("HSET").arg(INDEX).arg("nonsense").arg("x")).await;
    running.until_level().await;
    running.do_it(redis::cmd("SET").arg(INDEX).arg("x")).await;
    running.until_level().await;
    running.do_it(redis::cmd("SET").arg(HEAD).arg("x")).await;
    running.until_level().await;
    let blob = [b"t:{cache}:zone:", a_test.as_wire()].concat();
    running.do_it(redis::cmd("SET").arg(&blob).arg("x")).await;
    running.until_level().await;
    running.do_it(redis::cmd("DEL").arg(&blob)).await;
    running.until_level().await;
    running.zone("c.test").await;
    assert_eq!(running.until_level().await.len(), 4);
    let text = running.server.metrics();
    assert!(!text.contains("godwit_controlplane_cache_errors_total 0"), "{text}");
}

/// What another start finds is gone on with; what is missing since is read off the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_from_what_is_there() {
    let redis = Redis::start(&[]).unwrap();
    let mut running = Running::start(redis.url(0)).await;
    running.until_level().await;
    let (folder, replica, token) = running.server.stop().await;
    let server = start(folder, replica, Some(token), &redis.url(0)).await;
    running.node.address = server.internal.unwrap();
    running.server = server;
    running.zone("a.test").await;
    running.until_level().await;
    assert!(running.server.metrics().contains("godwit_controlplane_cache_fills_total 0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_takes_the_cache() {
    let cluster = Cluster::start().unwrap();
    let mut running = Running::start(cluster.url()).await;
    running.zone("a.test").await;
    assert_eq!(running.until_level().await.len(), 2);
}

/// Where the configuration says so nothing of it is written, and nodes are told of the stream alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_off_nodes_are_told_of_none() {
    let redis = Redis::start(&[]).unwrap();
    let url = redis.url(0);
    let server = Server::start_in(folder(), Replica::default(), None, |config| {
        config.redis.cache = false;
        config.redis.url = Some(url.clone());
        config.redis.nodes_url = Some(redis.url(1));
        config.redis.prefix = "t:".to_owned();
    })
    .await;
    let node = Node::add(&server, "ns1").await;
    let told = node.get("/internal/v1/feed").await.expect(200).body;
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    assert!(told["redis"]["url"].is_string(), "{told}");
    assert!(told["cache"].is_null(), "{told}");
    // The stream is written as before; the cache would have been begun at the same time.
    let deadline = Instant::now() + SOON;
    while redis.command(1, &["EXISTS", "t:{feed}:head"]).unwrap().trim() != "1" {
        assert!(Instant::now() < deadline, "no stream");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(redis.command(0, &["KEYS", "t:{cache}*"]).unwrap().trim(), "");
}
