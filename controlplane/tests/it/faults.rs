//! A database that cannot be had: what is said then, that nothing is half-done, and that it passes.

use serde_json::json;

use crate::harness::{Server, hold};

/// Another program holds the lock for longer than anybody waits for it.
#[tokio::test]
async fn a_database_that_another_program_holds_is_said_not_to_be_available() {
    let server = Server::start().await;
    let mut other = server.beside().await;
    hold(&mut other).await;
    let body = json!({"type": "A", "value": ["192.0.2.2"]});
    let path = "/api/v1/records/www.example.com.";
    let answer = server.client.json("PUT", path, &body).await.expect(503);
    assert_eq!((answer.code().as_str(), answer.header("retry-after")), ("DB_UNAVAILABLE", "1"));
    // What is there can be read meanwhile.
    let read = server.client.get(path).await.expect(200).json();
    assert_eq!(read["items"][0]["value"][0], "192.0.2.1");
    other.control(&["ROLLBACK"]).await.unwrap();
    server.client.json("PUT", path, &body).await.expect(200);
    assert_eq!(server.client.get("/api/v1/domains/example.com.").await.json()["version"], 2);
}

/// Not ready is what cannot do its work; alive is what can say so.
#[tokio::test]
async fn ready_says_when_the_database_does_not_answer_and_health_does_not_mind() {
    let server = Server::start().await;
    let mut other = server.beside().await;
    for (statement, ready) in
        [("ALTER TABLE zones RENAME TO hidden", 503), ("ALTER TABLE hidden RENAME TO zones", 200)]
    {
        other.control(&[statement]).await.unwrap();
        let answer = server.client.get("/ready").await.expect(ready);
        let expected = if ready == 200 { "ok" } else { "unavailable" };
        assert_eq!(answer.json()["status"], expected, "{}", answer.text);
        assert_eq!(answer.json()["reason"].is_string(), ready != 200, "{}", answer.text);
        assert_eq!(server.client.get("/health").await.expect(200).json()["status"], "ok");
    }
}
