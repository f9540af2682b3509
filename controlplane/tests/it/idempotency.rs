//! The same request again: the same answer, and nothing happens twice.

use serde_json::json;

use crate::harness::Server;

#[tokio::test]
async fn the_same_key_gives_the_same_answer_and_one_change() {
    let server = Server::start().await;
    let key = [("idempotency-key", "k-1")];
    let body = json!({"name": "a.example.com.", "type": "A", "value": ["192.0.2.1"]});
    let first = server.client.json_with("POST", "/api/v1/records", &key, &body).await.expect(201);
    let again = server.client.json_with("POST", "/api/v1/records", &key, &body).await.expect(201);
    assert_eq!(first.text, again.text);
    for header in ["godwit-change", "etag"] {
        assert_eq!(first.header(header), again.header(header), "{header}");
        assert!(!first.header(header).is_empty(), "{header}");
    }
    assert_eq!((first.header("godwit-replayed"), again.header("godwit-replayed")), ("", "true"));
    assert_eq!(server.client.get("/api/v1/domains/example.com.").await.json()["version"], 2);

    // Also after a restart, and with waiting.
    let (folder, replica, token) = server.stop().await;
    let server = Server::start_in(folder, replica, Some(token), |_| {}).await;
    let again = server.client.json_with("POST", "/api/v1/records", &key, &body).await.expect(201);
    assert_eq!(first.header("godwit-change"), again.header("godwit-change"));

    // The same key for something else.
    let other = json!({"name": "b.example.com.", "type": "A", "value": ["192.0.2.1"]});
    let answer = server.client.json_with("POST", "/api/v1/records", &key, &other).await.expect(422);
    assert_eq!(answer.code(), "IDEMPOTENCY_MISMATCH");
    let answer =
        server.client.json_with("POST", "/api/v1/records?wait=applied", &key, &body).await.expect(422);
    assert_eq!(answer.code(), "IDEMPOTENCY_MISMATCH");
    server.client.get("/api/v1/records/b.example.com.").await.expect(404);
}

/// A refused request changed nothing, so its key may be used for the corrected one.
#[tokio::test]
async fn refusals_are_not_kept() {
    let server = Server::start().await;
    let key = [("idempotency-key", "k-1")];
    let wrong = json!({"name": "a.example.com.", "type": "A", "value": ["x"]});
    server.client.json_with("POST", "/api/v1/records", &key, &wrong).await.expect(422);
    let right = json!({"name": "a.example.com.", "type": "A", "value": ["192.0.2.1"]});
    server.client.json_with("POST", "/api/v1/records", &key, &right).await.expect(201);
}

#[tokio::test]
async fn many_at_once_with_one_key_make_one_change() {
    let server = Server::start().await;
    let body =
        json!({"changes": [{"op": "add_value", "name": "a.example.com.", "type": "TXT", "value": ["x"]}]});
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, body) = (server.client.clone(), body.clone());
        tasks.spawn(async move {
            let key = [("idempotency-key", "same")];
            let answer = client.json_with("POST", "/api/v1/changes", &key, &body).await.expect(200);
            answer.header("godwit-change").to_owned()
        });
    }
    let mut ids = tasks.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1);
}
