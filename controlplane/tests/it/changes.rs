//! Several steps at once.

use std::time::Duration;

use godwit_wire::rr::Rtype;
use serde_json::{Value, json};

use crate::harness::{Server, folder};
use crate::replica::Replica;

#[tokio::test]
async fn steps_over_two_zones_commit_at_once_or_not_at_all() {
    let server = Server::start().await;
    let client = &server.client;
    client.json("POST", "/api/v1/domains", &json!({"name": "example.org."})).await.expect(201);
    let good = json!({"changes": [
        {"op": "put", "name": "a.example.com.", "type": "A", "ttl": 60, "value": ["192.0.2.1"]},
        {"op": "put", "name": "a.example.org.", "type": "A", "value": ["192.0.2.1"]},
        {"op": "add_value", "name": "www.example.com.", "type": "A", "value": ["192.0.2.1", "192.0.2.2"]},
    ]});
    let answer = client.json("POST", "/api/v1/changes?wait=applied", &good).await.expect(200);
    assert_eq!(answer.header("etag"), "", "two zones have no one version");
    let body = answer.json();
    assert_eq!(body["id"], answer.header("godwit-change"));
    assert_eq!(body["zones"][0]["name"], "example.com.");
    assert_eq!(body["zones"][0]["version"], 2);
    assert_eq!(server.replica.rrset("www.example.com.", Rtype::A).unwrap().rdata.len(), 2);
    // Both zones in one change set: seen at once or not at all.
    let state =
        client.get(&format!("/api/v1/changes/{}", answer.header("godwit-change"))).await.expect(200).json();
    assert_eq!(state["state"], "applied");
    assert!(state["sequence"].as_u64().unwrap() > 0);
    assert_eq!(state["nodes"][0]["node"], "local");

    let before = client.get("/api/v1/domains/example.com./export").await.text;
    let bad = json!({"changes": [
        {"op": "put", "name": "b.example.com.", "type": "A", "value": ["192.0.2.1"]},
        {"op": "delete", "name": "nope.example.org.", "type": "A"},
    ]});
    let answer = client.json("POST", "/api/v1/changes", &bad).await.expect(404);
    assert!(answer.json()["error"].as_str().unwrap().starts_with("change 1: "), "{}", answer.text);
    assert_eq!(before, client.get("/api/v1/domains/example.com./export").await.text);

    let values = json!({"changes": [
        {"op": "remove_value", "name": "www.example.com.", "type": "A", "value": ["192.0.2.1", "192.0.2.77"]},
        {"op": "remove_value", "name": "a.example.com.", "type": "A", "value": ["192.0.2.1"]},
        {"op": "delete", "name": "a.example.org.", "type": "A"},
    ]});
    client.json("POST", "/api/v1/changes?wait=applied", &values).await.expect(200);
    assert_eq!(server.replica.rrset("www.example.com.", Rtype::A).unwrap().rdata.len(), 1);
    assert_eq!(server.replica.rrset("a.example.com.", Rtype::A), None, "the last value took the set along");
    server.replica.assert_content();
}

/// A name that is an alias can become something else in one change.
#[tokio::test]
async fn rules_look_at_the_outcome_of_a_change() {
    let server = Server::start().await;
    let client = &server.client;
    let alias = json!({"name": "x.example.com.", "type": "CNAME", "value": ["www.example.com."]});
    client.json("POST", "/api/v1/records", &alias).await.expect(201);
    let a = json!({"name": "x.example.com.", "type": "A", "value": ["192.0.2.1"]});
    assert_eq!(client.json("POST", "/api/v1/records", &a).await.expect(409).code(), "CONFLICT");
    let both = json!({"changes": [
        {"op": "put", "name": "x.example.com.", "type": "A", "value": ["192.0.2.1"]},
        {"op": "delete", "name": "x.example.com.", "type": "CNAME"},
    ]});
    client.json("POST", "/api/v1/changes?wait=applied", &both).await.expect(200);
    server.replica.assert_content();
}

#[tokio::test]
async fn a_hundred_thousand_records_are_one_change_all_or_nothing() {
    let server = Server::start_in(folder(), Replica::default(), None, |config| {
        // In a test build on a busy machine this takes its time.
        config.api.request_timeout_ms = 300_000;
    })
    .await;
    let step = |n: u32| json!({"op": "put", "name": format!("h{n}.example.com."), "type": "A", "value": ["192.0.2.1"]});
    let mut steps: Vec<Value> = (0..100_000).map(step).collect();
    // The last one is wrong: nothing of it is made.
    steps.push(json!({"op": "put", "name": "h.example.org.", "type": "A", "value": ["192.0.2.1"]}));
    let answer = server.client.json("POST", "/api/v1/changes", &json!({"changes": steps})).await.expect(404);
    assert_eq!(answer.code(), "DOMAIN_NOT_FOUND");
    assert_eq!(server.client.get("/api/v1/domains/example.com.").await.json()["version"], 1);
    server.client.get("/api/v1/records/h5.example.com.").await.expect(404);

    steps.pop();
    let body = json!({"changes": steps});
    let started = std::time::Instant::now();
    let answer =
        server.client.json("POST", "/api/v1/changes?wait=applied&timeout=30s", &body).await.expect(200);
    println!("100,000 records in one change: {:?}", started.elapsed());
    assert_eq!(answer.json()["zones"][0]["version"], 2);
    let exported = server.client.get("/api/v1/domains/example.com./export").await.text;
    assert_eq!(exported.lines().count(), 100_004);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while server.replica.rrset("h99999.example.com.", Rtype::A).is_none() {
        assert!(std::time::Instant::now() < deadline, "not served");
        tokio::task::yield_now().await;
    }
    server.replica.assert_content();
}
