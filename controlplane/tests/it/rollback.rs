//! Making everything what it was after a sequence.

use serde_json::{Value, json};

use crate::harness::{Client, Server};

/// All zones and records but for what each change sets anew.
async fn state(client: &Client) -> (Vec<Value>, Vec<Value>) {
    let zones = client.get("/api/v1/domains?limit=1000").await.expect(200).json();
    let zones = zones["items"].as_array().unwrap().iter();
    let zones = zones.map(|zone| json!([zone["name"], zone["ttl_policy"]])).collect();
    let listed = client.get("/api/v1/records?limit=1000").await.expect(200).json();
    let records = listed["items"].as_array().unwrap().iter().filter(|record| record["type"] != "SOA");
    let mut records: Vec<Value> = records.cloned().collect();
    records.sort_by_key(ToString::to_string);
    (zones, records)
}

async fn sequence(client: &Client, zone: &str) -> u64 {
    let listed = client.get(&format!("/api/v1/domains/{zone}/versions?limit=1")).await.expect(200).json();
    listed["items"][0]["sequence"].as_u64().unwrap()
}

async fn put(client: &Client, name: &str, octet: u8) {
    let step = json!({"op": "put", "name": name, "type": "A", "value": [format!("192.0.2.{octet}")]});
    client.json("POST", "/api/v1/changes?wait=applied", &json!({"changes": [step]})).await.expect(200);
}

#[tokio::test]
async fn everything_is_what_it_was_after_a_sequence() {
    let server = Server::start().await;
    let client = &server.client;
    for name in ["a.example.", "b.example.", "c.example."] {
        client.json("POST", "/api/v1/domains?wait=applied", &json!({"name": name})).await.expect(201);
        put(client, &format!("www.{name}"), 1).await;
    }
    client.delete_zone("c.example.").await;
    let to = sequence(client, "c.example.").await;
    let was = state(client).await;
    // One changed, one deleted, one made anew, one back, and one made and gone again.
    put(client, "www.a.example.", 2).await;
    put(client, "new.a.example.", 2).await;
    client.delete_zone("b.example.").await;
    client.json("POST", "/api/v1/domains?wait=applied", &json!({"name": "d.example."})).await.expect(201);
    client.json("POST", "/api/v1/domains?wait=applied", &json!({"name": "c.example."})).await.expect(201);
    client.json("POST", "/api/v1/domains?wait=applied", &json!({"name": "e.example."})).await.expect(201);
    client.delete_zone("e.example.").await;
    let changed = state(client).await;
    let before = *server.replica.change_sets.lock().unwrap();

    let dry = client.json("POST", "/api/v1/rollback?dry_run=true", &json!({"to": to})).await.expect(200);
    assert_eq!(state(client).await, changed, "tried and made");
    let made = client.json("POST", "/api/v1/rollback?wait=applied", &json!({"to": to})).await.expect(200);
    assert_eq!(state(client).await, was);
    let zones = |answer: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        answer["zones"]
            .as_array()
            .unwrap()
            .iter()
            .map(|zone| (text(&zone["name"]), text(&zone["kind"])))
            .collect()
    };
    let expected = [
        ("a.example.", "update"),
        ("b.example.", "create"),
        ("c.example.", "remove"),
        ("d.example.", "remove"),
    ];
    let expected: Vec<(String, String)> =
        expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    assert_eq!(zones(&made.json()), expected);
    assert_eq!(zones(&dry.json()), expected);
    assert_eq!(made.json()["left"], 0);
    assert_eq!(*server.replica.change_sets.lock().unwrap(), before + 1, "one change for all of it");
    server.replica.assert_content();

    // Again: it is so already.
    let again = client.json("POST", "/api/v1/rollback", &json!({"to": to})).await.expect(200).json();
    assert_eq!((&again["zones"], &again["left"]), (&json!([]), &json!(0)));
    // And forward again: what was taken back is in the history too.
    let last = sequence(client, "e.example.").await;
    let body = json!({"to": last});
    let refused = client.json("POST", "/api/v1/rollback?wait=applied", &body).await.expect(409);
    assert_eq!(refused.code(), "CONFIRMATION_REQUIRED", "it deletes a zone with records");
    let dry = client.json("POST", "/api/v1/rollback?dry_run=true", &body).await.expect(200);
    let path = format!("/api/v1/rollback?wait=applied&confirm={}", dry.header("godwit-confirm"));
    client.json("POST", &path, &body).await.expect(200);
    assert_eq!(state(client).await, changed);
    server.replica.assert_content();
}

#[tokio::test]
async fn a_sequence_that_is_not_there_is_refused() {
    let server = Server::start().await;
    let client = &server.client;
    put(client, "www.example.com.", 1).await;
    put(client, "www.example.com.", 2).await;
    let last = sequence(client, "example.com.").await;
    let later = client.json("POST", "/api/v1/rollback", &json!({"to": last + 1})).await;
    assert_eq!((later.status.as_u16(), later.code().as_str()), (404, "VERSION_NOT_FOUND"));
    let matched =
        client.json_with("POST", "/api/v1/rollback", &[("if-match", "*")], &json!({"to": last})).await;
    assert_eq!(matched.code(), "MALFORMED_REQUEST");
    client.json("POST", "/api/v1/rollback", &json!({})).await.expect(400);
    let mut database = server.beside().await;
    database.query("DELETE FROM outbox WHERE sequence <= 1").execute().await.unwrap();
    client.json("POST", "/api/v1/rollback?dry_run=true", &json!({"to": last - 1})).await.expect(200);
    let gone = client.json("POST", "/api/v1/rollback", &json!({"to": 0})).await;
    assert_eq!((gone.status.as_u16(), gone.code().as_str()), (410, "VERSION_GONE"));
}

/// What does not fit into one change goes into several, each whole; interrupted between them, the end is the same.
#[tokio::test]
async fn several_changes_come_to_the_same_end() {
    let server = Server::start().await;
    let client = &server.client;
    put(client, "www.example.com.", 1).await;
    let to = sequence(client, "example.com.").await;
    let was = state(client).await;
    for name in ["a.example.", "b.example.", "c.example."] {
        client.json("POST", "/api/v1/domains?wait=applied", &json!({"name": name})).await.expect(201);
    }
    put(client, "www.example.com.", 2).await;
    let mut left = Vec::new();
    for _ in 0..10 {
        let body = json!({"to": to, "max_zones": 1});
        let made = client.json("POST", "/api/v1/rollback?wait=applied", &body).await.expect(200).json();
        assert!(made["zones"].as_array().unwrap().len() <= 1, "{made}");
        left.push(made["left"].as_u64().unwrap());
        if left.last() == Some(&0) {
            break;
        }
    }
    assert_eq!(left, [3, 2, 1, 0]);
    assert_eq!(state(client).await, was);
    server.replica.assert_content();
    client.json("POST", "/api/v1/rollback", &json!({"to": to, "max_zones": 0})).await.expect(400);
}
