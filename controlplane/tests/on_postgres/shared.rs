//! What several control planes on one database share: their secrets, and what nodes say to any of them.

use std::time::{Duration, Instant};

use godwit_controlplane::{Controlplane, FirstStart};
use godwit_wire::feed::{Head, VerifyingKey};
use serde_json::{Value, json};

use crate::difference::{self, differs, listed, put};
use crate::harness::{Client, Server, URL_FILE, config, folder};
use crate::keys::key;
use crate::node::{Node, hex};
use crate::office::{Office, PASSWORD};
use crate::replica::{KEY, Replica};
use crate::replicas::pair;
use crate::tenant_networks::{ask, behind_a_proxy};
use crate::tenants::{with_tenant, zone};

const HEAD: &str = "/internal/v1/head";

/// A node speaks to one of them; any of them is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_says_to_one_is_known_to_all() {
    let (one, other) = pair().await;
    let node = Node::add(&one, "ns1").await;
    let there = Node { address: other.internal.unwrap(), ..node.clone() };
    for (name, server) in [("here", &node), ("there", &there)] {
        assert_eq!(server.get(HEAD).await.status, 200, "{name}");
    }
    // Whoever of them takes the write and whoever is told.
    for (octet, at, told) in [(2, &one, &there), (3, &other, &node), (4, &one, &node), (5, &other, &there)] {
        told.report(&one, &json!({})).await;
        let waited = Instant::now();
        let known = async || {
            let nodes = at.client.get("/api/v1/nodes").await.expect(200).json();
            nodes["items"][1]["live"] == true
        };
        while !known().await {
            assert!(waited.elapsed() < Duration::from_secs(3), "it is not known there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let body = json!({"type": "A", "value": [format!("192.0.2.{octet}")]});
        let path = "/api/v1/records/www.example.com.?wait=applied&timeout=20s";
        let writing = at.client.json("PUT", path, &body);
        let before = one.replica.applied.lock().unwrap().sequence;
        let reporting = async {
            while one.replica.applied.lock().unwrap().sequence == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            told.report(&one, &json!({})).await;
            Instant::now()
        };
        let (written, reported) = tokio::join!(writing, reporting);
        assert_eq!(written.expect(200).header("godwit-applied"), "2/2");
        assert!(reported.elapsed() < Duration::from_secs(2), "{:?}", reported.elapsed());
    }
    // Removed at one, refused at the other, and waited for by nobody.
    one.client.delete("/api/v1/nodes/ns1").await.expect(204);
    let removed = Instant::now();
    while there.get(HEAD).await.status != 401 {
        assert!(removed.elapsed() < Duration::from_secs(1), "still let in");
    }
    let body = json!({"type": "A", "value": ["192.0.2.9"]});
    let path = "/api/v1/records/www.example.com.?wait=applied&timeout=3s";
    let written = other.client.json("PUT", path, &body).await.expect(200);
    assert_eq!(written.header("godwit-applied"), "1/1");
}

/// What was changed through one is known to the other, also where it has listed all zones before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_any_of_them_says_what_differs() {
    let (one, other) = pair().await;
    let node = Node::add(&one, "ns1").await;
    let there = Node { address: other.internal.unwrap(), ..node.clone() };
    for n in 0..5 {
        one.client.json("POST", "/api/v1/domains", &json!({"name": difference::zone(n)})).await.expect(201);
    }
    let all = listed(&there).await;
    for (octet, n) in [(1, 3), (2, 3), (3, 1)] {
        put(if octet == 2 { &other } else { &one }, n, octet).await;
        let changed: &[usize] = if n == 3 { &[3] } else { &[1, 3] };
        for node in [&node, &there] {
            differs(node, &all, changed).await;
        }
    }
}

/// A rotation takes effect while control planes run, and a node that was added before it takes what is signed after it.
#[tokio::test]
async fn a_rotation_reaches_all_that_run() {
    let (one, other) = pair().await;
    let node = Node::add(&one, "ns1").await;
    let there = Node { address: other.internal.unwrap(), ..node.clone() };
    let store = config(one.folder.path()).store;
    Controlplane::rotate_feed_key(&store).await.unwrap();
    for server in [&node, &there] {
        let rotated = Instant::now();
        loop {
            let head = server.get(HEAD).await.expect(200).body;
            Head::verify(&head, &node.feed_keys).expect("a node that knows both keys refuses it");
            if Head::verify(&head, &node.feed_keys[1..]).is_ok() {
                break;
            }
            assert!(rotated.elapsed() < Duration::from_secs(5), "it is signed as before");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let later = Node::add(&other, "ns2").await;
    assert_eq!(later.feed_keys[0], node.feed_keys[1]);
    let error = Controlplane::rotate_feed_key(&store).await.unwrap_err().to_string();
    assert!(error.contains("ns1") && !error.contains("ns2"), "{error}");
    // Until it says that it has learned the next key; that it knows others is of no use.
    let said = |key: &VerifyingKey| json!({"generation": 0, "epoch": 0, "sequence": 0, "chain": "00".repeat(32), "feed_keys": ["x", hex(&key.0)]});
    node.say(&said(&node.feed_keys[1])).await.expect(204);
    assert!(Controlplane::rotate_feed_key(&store).await.is_err());
    there.say(&said(&later.feed_keys[1])).await.expect(204);
    Controlplane::rotate_feed_key(&store).await.unwrap();
}

/// Two that start at once with a folder each: one makes the secrets, the other says what it lacks and starts with it.
#[tokio::test]
async fn of_two_first_starts_one_makes_the_secrets() {
    let first = folder();
    let second = tempfile::tempdir().unwrap();
    std::fs::copy(first.path().join(URL_FILE), second.path().join(URL_FILE)).unwrap();
    let open = |folder| Controlplane::open(config(folder), FirstStart::ExampleZone, Some(KEY));
    let (one, other) = tokio::join!(open(first.path()), open(second.path()));
    let failed = match (one, other) {
        (Ok(_), Err(error)) => (error, first.path(), second.path()),
        (Err(error), Ok(_)) => (error, second.path(), first.path()),
        (one, other) => panic!("{one:?} and {other:?}"),
    };
    let (error, with, without) = failed;
    let error = format!("{error:#}");
    assert!(error.contains("copy secrets.key"), "{error}");
    assert!(!without.join("secrets.key").exists());
    std::fs::copy(with.join("secrets.key"), without.join("secrets.key")).unwrap();
    open(without).await.unwrap();
}

/// What one is told about a tenant's networks counts at the other within a second, for whom it has let in before.
#[tokio::test]
async fn networks_of_a_tenant_count_everywhere_within_a_second() {
    let office = Office::open_with(behind_a_proxy).await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    zone(&anna.client, "anna.test.").await.expect(201);
    let token = json!({ "name": "x", "scope": "domains:read", "password": PASSWORD });
    let token = anna.client.json("POST", "/api/v1/tokens", &token).await.expect(201).json();
    let signed = key(&anna, &json!({})).await.client(&anna.client, "domains:read", &Value::Null);
    let folder = office.server.folder.clone();
    let admin = Some(office.client().token.clone());
    let public = format!("http://{}", office.client().address);
    let other = Server::start_in(folder, Replica::default(), admin, |config| {
        config.api.public_url = Some(public);
        behind_a_proxy(config);
    });
    let other = other.await;
    let there = |token: &str| Client { token: token.to_owned(), ..other.client.clone() };
    let clients = [anna.client.token.as_str(), token["token"].as_str().unwrap(), &signed.token].map(there);
    let path = "/api/v1/domains/anna.test.";
    for client in &clients {
        ask(client, "198.51.100.1", "GET", path, &Value::Null).await.expect(200);
    }
    let body = json!({ "networks": { "allow": ["192.0.2.0/24"] } });
    ask(&anna.client, "192.0.2.1", "PATCH", &format!("/api/v1/tenants/{hers}"), &body).await.expect(200);
    for client in &clients {
        until_refused(client, "198.51.100.1", path).await;
        ask(client, "192.0.2.1", "GET", path, &Value::Null).await.expect(200);
    }
}

/// Until something is refused; not for longer than a second.
async fn until_refused(client: &Client, from: &str, path: &str) {
    let since = Instant::now();
    loop {
        let answer = ask(client, from, "GET", path, &Value::Null).await;
        if answer.status == 403 {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(1), "after a second: {}", answer.text);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
