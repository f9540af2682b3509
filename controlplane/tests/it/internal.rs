//! What data planes on other machines are given, who they must be for that, and what comes of what they say.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use godwit_controlplane::{Controlplane, FirstStart};
use godwit_wire::feed::{Announcement, Batch, Entry, Head, Index, VerifyingKey, ZoneBlob};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Answer, Server, config, folder};
use crate::node::{Node, hex};
use crate::replica::{KEY, Replica};

const HEAD: &str = "/internal/v1/head";
const SECOND: Duration = Duration::from_secs(1);

async fn put(server: &Server, query: &str, octet: u8) -> Answer {
    let body = json!({"type": "A", "value": [format!("192.0.2.{octet}")]});
    let path = format!("/api/v1/records/www.example.com.{query}");
    server.client.json("PUT", &path, &body).await.expect(200)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nobody_is_let_in_without_the_token_of_a_node() {
    let server = Server::start().await;
    let node = Node::add(&server, "ns1").await;
    node.get(HEAD).await.expect(200);
    let paths = [
        ("GET", HEAD),
        ("GET", "/internal/v1/batches?generation=1&epoch=0&sequence=0&chain=00"),
        ("GET", "/internal/v1/index"),
        ("POST", "/internal/v1/difference"),
        ("POST", "/internal/v1/zones"),
        ("POST", "/internal/v1/position"),
    ];
    let stranger = format!("gw_{}", "A".repeat(43));
    let almost = format!("{}A", &node.token[..45]);
    for (method, path) in paths {
        for token in [None, Some("gw_x"), Some(&*stranger), Some(&*almost), Some(&*server.client.token)] {
            if token == Some(&*node.token) {
                continue;
            }
            let refused = node.send(method, path, token, Vec::new()).await.expect(401);
            assert_eq!(refused.code(), "UNAUTHENTICATED");
            assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"godwit\"");
        }
    }
    // Nor is a node a caller of the API.
    let bearer = format!("Bearer {}", node.token);
    let api = server.client.send("GET", "/api/v1/domains", &[("authorization", &bearer)], Vec::new()).await;
    assert_eq!(api.expect(401).code(), "UNAUTHENTICATED");
    // What the API keeps of it shows no token.
    let nodes = server.client.get("/api/v1/nodes").await.expect(200).text;
    assert!(!nodes.contains(&node.token[3..]), "{nodes}");
}

#[tokio::test]
async fn a_removed_node_is_refused_within_a_second() {
    let server = Server::start().await;
    let node = Node::add(&server, "ns1").await;
    let again = server.client.json("POST", "/api/v1/nodes", &json!({"name": "ns1"})).await.expect(409);
    assert_eq!(again.code(), "NODE_EXISTS");
    node.get(HEAD).await.expect(200);
    node.report(&server, &json!({})).await;
    server.client.delete("/api/v1/nodes/ns1").await.expect(204);
    let removed = Instant::now();
    assert_eq!(put(&server, "?wait=applied", 3).await.header("godwit-applied"), "1/1");
    let refused = loop {
        let answer = node.get(HEAD).await;
        if answer.status == 401 {
            break answer;
        }
        assert!(removed.elapsed() < SECOND, "still let in");
    };
    assert_eq!(refused.code(), "TOKEN_REVOKED");
    assert_eq!(server.client.delete("/api/v1/nodes/ns1").await.expect(404).code(), "NODE_NOT_FOUND");
    // The name is free for another.
    let other = Node::add(&server, "ns1").await;
    assert_ne!(other.token, node.token);
    other.get(HEAD).await.expect(200);
    node.get(HEAD).await.expect(401);
}

#[tokio::test]
async fn names_and_parameters_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    for name in ["", "local", "a.b", "A", "-a"] {
        let body = json!({ "name": name });
        let refused = server.client.json("POST", "/api/v1/nodes", &body).await.expect(422);
        assert_eq!(refused.code(), "INVALID_NAME", "{name}");
    }
    let body = json!({"name": "ns1"});
    for query in ["?dry_run=true", "?wait=applied", "?zone=example.com."] {
        let path = format!("/api/v1/nodes{query}");
        server.client.json("POST", &path, &body).await.expect(400);
    }
    let nodes = server.client.get("/api/v1/nodes").await.expect(200).json();
    assert_eq!(nodes["items"].as_array().unwrap().len(), 1, "{nodes}");
    // Where nobody can ask, nobody can be added.
    let off = Server::start_in(folder(), Replica::default(), None, |config| {
        config.internal.listen = Some("off".to_owned());
    });
    let off = off.await;
    assert!(off.internal.is_none());
    assert_eq!(off.client.json("POST", "/api/v1/nodes", &body).await.expect(409).code(), "CONFLICT");
}

#[tokio::test]
async fn it_is_tls_13_by_the_key_that_was_told() {
    let server = Server::start().await;
    let node = Node::add(&server, "ns1").await;
    assert_eq!(Some(node.address), server.internal);
    drop(node.connect(&[&rustls::version::TLS13]).await.unwrap());
    assert!(node.connect(&[&rustls::version::TLS12]).await.is_err(), "an earlier TLS");
    let other = Node { spki_sha256: [7; 32], ..node.clone() };
    assert!(other.connect(&[&rustls::version::TLS13]).await.is_err(), "another key");
    // In the clear there is no answer.
    let mut clear = TcpStream::connect(node.address).await.unwrap();
    let request = format!("GET {HEAD} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", node.token);
    clear.write_all(request.as_bytes()).await.unwrap();
    let mut octets = Vec::new();
    let _ = clear.read_to_end(&mut octets).await;
    assert!(!octets.starts_with(b"HTTP") && octets.len() < 32, "{}", String::from_utf8_lossy(&octets));
    // The same after a restart, for the node that was told before it; only the port is another here.
    let (folder, replica, token) = server.stop().await;
    let server = Server::start_in(folder, replica, Some(token), |_| {}).await;
    let node = Node { address: server.internal.unwrap(), ..node };
    node.get(HEAD).await.expect(200);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let server = Server::start_in(folder(), Replica::default(), None, |config| {
        config.internal.handshake_timeout_ms = 200;
        config.internal.max_connections_per_client = 1;
    });
    let server = server.await;
    let mut silent = TcpStream::connect(server.internal.unwrap()).await.unwrap();
    let mut second = TcpStream::connect(server.internal.unwrap()).await.unwrap();
    assert_eq!(second.read(&mut [0; 16]).await.unwrap_or(0), 0, "one client has so many connections");
    server.until_limited("connections_per_client").await;
    let ended = tokio::time::timeout(10 * SECOND, silent.read(&mut [0; 16])).await.expect("still open");
    assert_eq!(ended.unwrap_or(0), 0);
    server.until_limited("handshake_time").await;
}

/// Whether an entry is signed by one of the keys.
fn verified(entry: &[u8], keys: &[VerifyingKey]) -> bool {
    match Entry::decode(entry).unwrap() {
        Entry::Batch(_) => Batch::verify(entry, keys).is_ok(),
        Entry::Head(_) => Head::verify(entry, keys).is_ok(),
    }
}

/// All that leaves the process is signed by the first of the keys that the node was told, and says what the database has.
#[tokio::test]
async fn p9_what_nodes_are_given_is_signed_and_what_the_database_has() {
    let server = Server::start().await;
    let node = Node::add(&server, "ns1").await;
    let keys = &node.feed_keys[..1];
    for octet in 2..5 {
        put(&server, "?wait=applied", octet).await;
    }
    server.client.json("POST", "/api/v1/domains", &json!({"name": "gone.example."})).await.expect(201);
    let gone = server.client.delete("/api/v1/domains/gone.example.?wait=applied").await.expect(204);
    let applied = server.replica.applied.lock().unwrap().clone();
    assert_eq!(node.join["generation"], applied.generation);
    assert_eq!((&node.join["name"], &node.join["digest_key"]), (&json!("ns1"), &json!(hex(&KEY.0))));

    let head = node.get(HEAD).await.expect(200);
    assert_eq!(head.header("content-type"), "application/octet-stream");
    Head::verify(&head.body, keys).expect("the head is not signed by the key that was told");
    let read = Head::decode(&head.body).unwrap();
    assert_eq!((read.generation, read.sequence), (applied.generation, applied.sequence));
    assert_eq!(read.chain, applied.chain);

    // The whole log, and the same again out of what was signed before.
    for _ in 0..2 {
        let mut at = (0, [0; 32]);
        let mut last = None;
        while at.0 < applied.sequence {
            let given = node.batches(applied.generation, 0, at.0, &at.1).await.expect(200);
            for entry in given.entries() {
                assert!(verified(&entry, keys), "an entry is not signed by the key that was told");
                assert!(!verified(&entry, &node.feed_keys[1..]));
                match Entry::decode(&entry).unwrap() {
                    Entry::Batch(batch) => {
                        assert_eq!((batch.first_sequence, batch.previous_chain), (at.0 + 1, at.1));
                        at = (batch.last_sequence(), batch.chain());
                    }
                    Entry::Head(head) => last = Some(head),
                }
            }
        }
        assert_eq!(at, (applied.sequence, applied.chain));
        assert_eq!(last, Some(read), "the head comes at the end");
    }
    // Who has everything is kept waiting, and told where the feed stands.
    let asked = Instant::now();
    let given = node.batches(applied.generation, applied.epoch, applied.sequence, &applied.chain).await;
    let entries = given.expect(200).entries();
    assert!(asked.elapsed() > SECOND / 2 && entries.len() == 1, "{:?}", asked.elapsed());
    assert!(verified(&entries[0], keys));
    // What comes meanwhile ends the wait.
    let waiting = node.batches(applied.generation, applied.epoch, applied.sequence, &applied.chain);
    let (given, change) = tokio::join!(waiting, put(&server, "?wait=applied", 9));
    assert!(given.expect(200).entries().iter().any(|entry| {
        matches!(Entry::decode(entry), Ok(Entry::Batch(batch)) if batch.first_sequence == applied.sequence + 1)
    }));

    let index = node.get("/internal/v1/index").await.expect(200).body;
    Index::verify(&index, keys).expect("the index is not signed by the key that was told");
    let index = Index::decode(&index).unwrap();
    let zones: Vec<String> = index.zones.iter().map(|entry| entry.zone.to_string()).collect();
    assert_eq!(zones, ["example.com."]);
    assert_eq!(change.header("etag"), format!("\"{}\"", index.zones[0].version));

    let zones = node.zones(&["example.com.", "gone.example.", "never.example."]).await;
    let [zone, absent, never] = &zones[..] else { panic!("{zones:?}") };
    let octets = zone.blob.as_ref().expect("there is such a zone");
    ZoneBlob::verify(octets, keys).expect("the zone is not signed by the key that was told");
    let blob = ZoneBlob::decode(octets).unwrap();
    assert_eq!((blob.digest, blob.version), (index.zones[0].digest, zone.version));
    assert!(zone.settled > applied.sequence);
    assert!(absent.blob.is_none() && absent.version > 1, "{absent:?}, {:?}", gone.headers);
    assert_eq!((never.blob.as_ref(), never.version, never.settled), (None, 0, zone.settled));
    assert_eq!(node.zones(&["example.com."]).await[0], *zone, "one alone is the same");
    server.replica.assert_content();
}

/// A node hears which keys there are, signed by the one that it trusts, and where all control planes are; one of an earlier
/// version reads the first of the URLs, and that there is a stream.
#[tokio::test]
async fn p9_what_is_said_of_keys_and_places_is_signed() {
    let urls = ["https://a.example:8054", "https://[2001:db8::1]:8054"];
    let server = Server::start_in(folder(), Replica::default(), None, |config| {
        config.internal.url = Some(urls.join(" ,"));
    });
    let server = server.await;
    let added = server.client.json("POST", "/api/v1/nodes", &json!({"name": "ns1"})).await.expect(201);
    let told = Node::content(added.json()["join"].as_str().unwrap());
    assert_eq!((&told["url"], &told["urls"]), (&json!(urls[0]), &json!(urls)));
    let node = Node::with(&told, server.internal.unwrap());
    let said: Value = serde_json::from_slice(&node.get("/internal/v1/feed").await.expect(200).body).unwrap();
    assert_eq!(said["redis"], Value::Null);
    let octets = URL_SAFE_NO_PAD.decode(said["announcement"].as_str().unwrap()).unwrap();
    Announcement::verify(&octets, &node.feed_keys[..1]).expect("the key that signs signs this too");
    let announcement = Announcement::decode(&octets).unwrap();
    assert_eq!(
        (&announcement.keys[..], &announcement.urls[..]),
        (&node.feed_keys[..], &urls.map(str::to_owned)[..])
    );
    assert!(announcement.number > 0);
}

/// What a node says to have is its word alone: others are served as before.
#[tokio::test]
async fn a_node_that_is_elsewhere_is_told_so_and_stops_nobody() {
    let server = Server::start().await;
    let node = Node::add(&server, "ns1").await;
    put(&server, "?wait=applied", 2).await;
    let applied = server.replica.applied.lock().unwrap().clone();
    let (generation, epoch, sequence) = (applied.generation, applied.epoch, applied.sequence);
    let earlier = node.batches(generation - 1, epoch, sequence, &applied.chain).await.expect(410);
    assert_eq!(earlier.header("godwit-feed"), "gone");
    for (generation, epoch, sequence, chain) in [
        (generation, epoch, sequence + 5, [3; 32]),
        (generation + 1, epoch, sequence, applied.chain),
        (generation, epoch + 9, sequence, applied.chain),
        (generation, epoch, sequence, [3; 32]),
    ] {
        let ahead = node.batches(generation, epoch, sequence, &chain).await.expect(409);
        assert_eq!(ahead.header("godwit-feed"), "behind");
    }
    let metrics = server.metrics();
    assert!(metrics.contains("godwit_controlplane_nodes_ahead_total 4"), "{metrics}");
    assert_eq!(put(&server, "?wait=applied", 3).await.header("godwit-applied"), "1/1");
    for query in ["", "?generation=1", "?generation=1&epoch=0&sequence=0&chain=zz"] {
        node.get(&format!("/internal/v1/batches{query}")).await.expect(400);
    }
    let many = b"\x04test\0".repeat(1_025);
    for names in [&b""[..], b"\x04test", b"\x04TEST\0", &many] {
        node.send("POST", "/internal/v1/zones", Some(&node.token), names.to_vec()).await.expect(400);
    }
}

async fn nodes(server: &Server) -> Vec<Value> {
    let nodes = server.client.get("/api/v1/nodes").await.expect(200).json();
    nodes["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_write_waits_for_every_node_that_lives() {
    let server = Server::start().await;
    let soon = "?wait=applied&timeout=300ms";
    let node = Node::add(&server, "ns1").await;
    // It has said nothing yet.
    assert_eq!(put(&server, soon, 2).await.header("godwit-applied"), "1/1");
    let silent = &nodes(&server).await[1];
    assert_eq!((&silent["node"], &silent["live"]), (&json!("ns1"), &json!(false)), "{silent}");
    assert_eq!((&silent["version"], &silent["silent_seconds"]), (&Value::Null, &Value::Null));

    node.report(&server, &json!({})).await;
    let change = put(&server, soon, 3).await;
    assert_eq!(change.header("godwit-applied"), "1/2");
    let path = format!("/api/v1/changes/{}", change.header("godwit-change"));
    let state = server.client.get(&path).await.expect(200).json();
    assert_eq!(state["state"], "published", "{state}");
    assert_eq!(state["nodes"][1], json!({"node": "ns1", "applied": false, "applied_at": null}));
    let all = nodes(&server).await;
    assert_eq!((&all[0]["node"], &all[0]["lag_sequences"]), (&json!("local"), &json!(0)));
    let one = &all[1];
    assert_eq!(
        (&one["live"], &one["version"], &one["lag_sequences"]),
        (&json!(true), &json!("9.8.7"), &json!(1))
    );
    assert_eq!(one["address"], "127.0.0.1");
    assert!(one["silent_seconds"].as_f64().unwrap() < 5.0, "{one}");

    // A wait ends as soon as it says that it is there.
    let waiting = put(&server, "?wait=applied&timeout=20s", 4);
    let reporting = async {
        let before = server.replica.applied.lock().unwrap().sequence;
        until("it is published", async || server.replica.applied.lock().unwrap().sequence > before).await;
        node.report(&server, &json!({})).await;
    };
    let started = Instant::now();
    let (waited, ()) = tokio::join!(waiting, reporting);
    assert_eq!(waited.header("godwit-applied"), "2/2");
    assert!(started.elapsed() < 4 * SECOND, "{:?}", started.elapsed());
    let state = server.client.get(&path).await.expect(200).json();
    assert_eq!(state["state"], "applied", "{state}");
    assert!(state["nodes"][1]["applied_at"].is_string(), "{state}");

    // A zone that it keeps back is not served there.
    let version: u64 = waited.header("etag").trim_matches('"').parse().unwrap();
    put(&server, "", 5).await;
    server.client.send("POST", "/api/v1/reload", &[], vec![]).await;
    node.report(&server, &json!({"example.com.": version})).await;
    assert_eq!(put(&server, soon, 5).await.header("godwit-applied"), "1/2");
    assert_eq!(nodes(&server).await[1]["quarantined"], json!(["example.com."]));
    let reload = server.client.send("POST", "/api/v1/reload", &[], vec![]).await.expect(422);
    assert!(reload.text.contains("ns1"), "{}", reload.text);
    node.report(&server, &json!({})).await;
    assert_eq!(put(&server, soon, 5).await.header("godwit-applied"), "2/2");
    server.client.send("POST", "/api/v1/reload", &[], vec![]).await.expect(200);
}

#[tokio::test]
async fn a_dead_node_is_not_waited_for() {
    let server = Server::start().await;
    let node = Node::add(&server, "ns1").await;
    node.report(&server, &json!({})).await;
    let started = Instant::now();
    let waited = put(&server, "?wait=applied&timeout=20s", 7).await;
    assert_eq!(waited.header("godwit-applied"), "1/1");
    assert!(started.elapsed() > 3 * SECOND && started.elapsed() < 10 * SECOND, "{:?}", started.elapsed());
    let path = format!("/api/v1/changes/{}", waited.header("godwit-change"));
    let state = server.client.get(&path).await.expect(200).json();
    assert_eq!(
        (&state["state"], state["nodes"].as_array().unwrap().len()),
        (&json!("applied"), 1),
        "{state}"
    );
    assert_eq!(nodes(&server).await[1]["live"], false);
}

/// Without a data plane in the process, nodes are all there is.
#[tokio::test]
async fn nodes_alone_are_counted_and_without_any_there_is_nothing_to_wait_for() {
    let first = Server::start().await;
    let node = Node::add(&first, "ns1").await;
    put(&first, "?wait=applied", 2).await;
    let applied = first.replica.applied.lock().unwrap().clone();
    let (folder, replica, token) = first.stop().await;
    let server = Server::start_with(folder, replica, None, Some(token), |_| {}).await;
    let node = Node { address: server.internal.unwrap(), ..node };
    assert_eq!(put(&server, "?wait=applied", 3).await.header("godwit-applied"), "0/0");
    node.report(&server, &json!({})).await;
    let change = put(&server, "?wait=applied&timeout=300ms", 4).await;
    assert_eq!(change.header("godwit-applied"), "0/1");
    let said = json!({"generation": applied.generation, "epoch": 99, "sequence": applied.sequence + 2,
                      "chain": hex(&[1; 32]), "quarantined": {}, "version": "1"});
    node.say(&said).await.expect(204);
    let again = put(&server, "?wait=applied&timeout=20s", 4).await;
    assert_eq!(again.header("godwit-applied"), "1/1");
    let path = format!("/api/v1/changes/{}", change.header("godwit-change"));
    assert_eq!(server.client.get(&path).await.expect(200).json()["state"], "applied");
}

#[tokio::test]
async fn positions_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    let node = Node::add(&server, "ns1").await;
    let good = json!({"generation": 1, "epoch": 1, "sequence": 1, "chain": hex(&[0; 32]), "quarantined": {}, "version": "1"});
    node.say(&good).await.expect(204);
    for (key, value, status) in [
        ("generation", json!(-1), 400),
        ("sequence", json!("1"), 400),
        ("chain", json!("00"), 400),
        ("version", json!("a b"), 400),
        ("version", json!("1".repeat(65)), 400),
        ("quarantined", json!({"a..b": 1}), 422),
        ("quarantined", json!([]), 400),
    ] {
        let mut said = good.clone();
        said[key] = value;
        node.say(&said).await.expect(status);
    }
    node.send("POST", "/internal/v1/position", Some(&node.token), vec![b' '; 5 << 20]).await.expect(413);
    // What it says of the time is not believed beyond reason.
    let mut said = good.clone();
    said["applied_at_us"] = json!(i64::MAX);
    node.say(&said).await.expect(204);
}

/// Without the key to its secrets a database is of no use, and the start says what to do.
#[tokio::test]
async fn a_start_without_the_key_to_the_secrets_says_what_to_copy() {
    let server = Server::start().await;
    let (folder, ..) = server.stop().await;
    let key = folder.path().join("secrets.key");
    let octets = std::fs::read(&key).unwrap();
    for wrong in [None, Some([7; 32])] {
        match wrong {
            None => std::fs::remove_file(&key).unwrap(),
            Some(octets) => std::fs::write(&key, octets).unwrap(),
        }
        let opened = Controlplane::open(config(folder.path()), FirstStart::Empty, Some(KEY)).await;
        let error = format!("{:#}", opened.unwrap_err());
        assert!(error.contains("copy secrets.key") && !error.contains('\n'), "{error}");
    }
    // From another place, as it is named.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("key"), octets).unwrap();
    let mut config = config(folder.path());
    config.store.secrets_key_file = Some(elsewhere.path().join("key"));
    Controlplane::open(config, FirstStart::Empty, Some(KEY)).await.unwrap();
}
