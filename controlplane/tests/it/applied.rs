//! What is said about a change being served is so.

use serde_json::{Value, json};

use crate::harness::{Answer, Server};

const SOON: &str = "?wait=applied&timeout=300ms";

async fn put(server: &Server, query: &str, headers: &[(&str, &str)], octet: u8) -> Answer {
    let body = json!({"type": "A", "value": [format!("192.0.2.{octet}")]});
    let path = format!("/api/v1/records/www.example.com.{query}");
    server.client.json_with("PUT", &path, headers, &body).await.expect(200)
}

async fn state(server: &Server, answer: &Answer) -> Value {
    let path = format!("/api/v1/changes/{}", answer.header("godwit-change"));
    server.client.get(&path).await.expect(200).json()
}

/// A write that finds everything as it wants it describes a state that may not be served yet: it waits for that.
#[tokio::test]
async fn a_write_that_changes_nothing_waits_for_what_it_found() {
    let server = Server::start().await;
    put(&server, "?wait=applied", &[], 7).await;
    let paused = server.replica.pause().await;
    let change = put(&server, "", &[], 8).await;
    let key = [("idempotency-key", "k")];
    let nothing = put(&server, SOON, &key, 8).await;
    assert_eq!(nothing.header("etag"), change.header("etag"), "it changed something");
    assert_eq!(nothing.header("godwit-applied"), "0/1");
    let said = state(&server, &nothing).await;
    assert_eq!((&said["state"], &said["nodes"][0]["applied"]), (&json!("committed"), &json!(false)));
    // The same when it is sent again, and after a restart.
    let again = put(&server, SOON, &key, 8).await;
    assert_eq!((again.header("godwit-replayed"), again.header("godwit-applied")), ("true", "0/1"));
    // Of another zone: nothing to do with it.
    server.client.json("POST", "/api/v1/domains", &json!({"name": "other.example."})).await.expect(201);

    drop(paused);
    let again = put(&server, "?wait=applied&timeout=30s", &[], 8).await;
    assert_eq!((again.header("etag"), again.header("godwit-applied")), (change.header("etag"), "1/1"));
    assert_eq!(put(&server, SOON, &key, 8).await.header("godwit-applied"), "1/1");
    let said = state(&server, &nothing).await;
    assert_eq!((&said["state"], &said["nodes"][0]["applied"]), (&json!("applied"), &json!(true)));

    let (folder, replica, token) = server.stop().await;
    let server = Server::start_in(folder, replica, Some(token), |_| {}).await;
    let again = put(&server, SOON, &key, 8).await;
    assert_eq!((again.header("godwit-replayed"), again.header("godwit-applied")), ("true", "1/1"));
}

/// Whether it is served is asked once the change is made: what goes wrong then is no reason to say that it is not.
#[tokio::test]
async fn a_change_that_is_made_is_not_refused_because_nobody_knows_who_serves_it() {
    let mut server = Server::start().await;
    server.fails_on_purpose();
    let key = [("idempotency-key", "k")];
    let made = put(&server, "?wait=applied", &key, 8).await;
    assert_eq!(made.header("godwit-applied"), "1/1");
    let mut beside = server.beside().await;
    beside.query("ALTER TABLE changes RENAME TO changes_away").execute().await.unwrap();
    // As an answer that was given before: 200.
    let again = put(&server, "?wait=applied", &key, 8).await;
    assert_eq!((again.header("godwit-replayed"), again.header("godwit-applied")), ("true", "0/1"));
    assert_eq!(again.header("etag"), made.header("etag"));
    beside.query("ALTER TABLE changes_away RENAME TO changes").execute().await.unwrap();
    let again = put(&server, "?wait=applied", &key, 8).await;
    assert_eq!(again.header("godwit-applied"), "1/1");
}

/// A zone that a data plane keeps back is not served there, whatever its position says; others are.
#[tokio::test]
async fn a_zone_in_quarantine_is_not_said_to_be_served() {
    let server = Server::start().await;
    let body = json!({"name": "other.example."});
    server.client.json("POST", "/api/v1/domains?wait=applied", &body).await.expect(201);
    let before = put(&server, "?wait=applied", &[], 7).await;
    let version: u64 = before.header("etag").trim_matches('"').parse().unwrap();
    let node = server.resync.as_ref().unwrap();
    node.keep_back(&[("example.com.", version)]);

    let change = put(&server, SOON, &[], 8).await;
    assert_eq!(change.header("godwit-applied"), "0/1");
    let nothing = put(&server, SOON, &[], 8).await;
    assert_eq!((nothing.header("etag"), nothing.header("godwit-applied")), (change.header("etag"), "0/1"));
    let said = state(&server, &change).await;
    assert_eq!(said["state"], "published", "{said}");
    let expected =
        json!({"node": "local", "applied": false, "applied_at": null, "quarantined": ["example.com."]});
    assert_eq!(said["nodes"][0], expected);
    assert_eq!(state(&server, &before).await["state"], "applied", "what was served before still is");
    let body =
        json!({"changes": [{"op": "put", "name": "a.other.example.", "type": "A", "value": ["192.0.2.1"]}]});
    let other = server.client.json("POST", "/api/v1/changes?wait=applied", &body).await.expect(200);
    assert_eq!(other.header("godwit-applied"), "1/1");
    let nodes = server.client.get("/api/v1/nodes").await.expect(200).json();
    assert_eq!(nodes["items"][0]["quarantined_zones"], 1);
    assert_eq!(nodes["items"][0]["quarantined"], json!(["example.com."]));
    let reload = server.client.send("POST", "/api/v1/reload", &[], vec![]).await.expect(422);
    assert!(reload.code() == "RELOAD_FAILED" && reload.text.contains("quarantine"), "{}", reload.text);

    // A wait that began while the zone was kept back ends when it is let go.
    let waiting = put(&server, "?wait=applied&timeout=30s", &[], 9);
    let healing = async {
        let published = || server.replica.rrset("www.example.com.", godwit_wire::rr::Rtype::A);
        while published().is_none_or(|set| set.rdata[0][3] != 9) {
            tokio::task::yield_now().await;
        }
        node.keep_back(&[]);
    };
    let (waited, ()) = tokio::join!(waiting, healing);
    assert_eq!(waited.header("godwit-applied"), "1/1");
    assert_eq!(state(&server, &change).await["state"], "applied");
    server.client.send("POST", "/api/v1/reload", &[], vec![]).await.expect(200);
}
