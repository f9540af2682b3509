//! Sizes and times at their limits.

use std::time::{Duration, Instant};

use godwit_controlplane::store::Kind;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Server, config, folder, hold};
use crate::replica::Replica;

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn bodies_that_are_too_long_are_refused_and_the_caller_is_told() {
    let server = Server::start().await;
    for (path, method, octets, expected) in [
        ("/api/v1/records", "POST", (1 << 20) - 2, 400),
        ("/api/v1/records", "POST", (1 << 20) + 1, 413),
        ("/api/v1/records", "POST", 10 << 20, 413),
        ("/api/v1/records/www.example.com.", "PUT", 10 << 20, 413),
        ("/api/v1/domains", "POST", 10 << 20, 413),
        ("/api/v1/changes", "POST", 10 << 20, 400),
        ("/api/v1/changes", "POST", (32 << 20) + 1, 413),
    ] {
        let answer = server.client.send(method, path, &[JSON], vec![b' '; octets]).await;
        let code = if expected == 413 { "TOO_LARGE" } else { "MALFORMED_REQUEST" };
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (expected, code),
            "{method} {path} {octets}"
        );
    }
    assert_eq!(server.client.get("/api/v1/domains/example.com.").await.json()["version"], 1);
}

#[tokio::test]
async fn a_url_that_is_too_long_is_refused() {
    let server = Server::start().await;
    let path = |octets: usize| format!("/api/v1/records?zone={}", "a".repeat(octets - 21));
    let longest = server.client.get(&path(8 << 10)).await;
    assert_eq!(longest.code(), "INVALID_NAME", "{}", longest.text);
    for path in [path((8 << 10) + 1), format!("/{}", "a".repeat(10_000))] {
        assert_eq!(server.client.get(&path).await.expect(414).code(), "URL_TOO_LONG");
    }
    assert_eq!(server.limited("url_octets"), 2);
}

/// Nothing of it is followed down.
#[tokio::test]
async fn json_that_is_deep_is_refused() {
    let server = Server::start().await;
    let deep = |open: &str| open.repeat(200_000);
    for body in [
        deep("["),
        deep("{\"a\":"),
        format!("{{\"changes\":{}", deep("[")),
        format!("{{\"changes\":[{}", deep("{\"changes\":[")),
        format!("{{\"name\":\"a.example.com.\",\"type\":\"A\",\"value\":{}", deep("[")),
    ] {
        for path in ["/api/v1/changes", "/api/v1/tokens"] {
            let answer = server.client.send("POST", path, &[JSON], body.clone().into()).await;
            let octets = &body[..30];
            let is_refused = matches!(answer.status.as_u16(), 400 | 413);
            assert!(is_refused, "{path} {octets}: {}", answer.text);
        }
    }
    server.client.get("/api/v1/domains").await.expect(200);
}

/// Who reads it next might take the other one.
#[tokio::test]
async fn keys_that_come_twice_are_refused() {
    let server = Server::start().await;
    for (method, path, body) in [
        (
            "POST",
            "/api/v1/records",
            r#"{"name":"a.example.com.","type":"A","type":"A","value":["192.0.2.1"]}"#,
        ),
        (
            "PUT",
            "/api/v1/records/www.example.com.",
            r#"{"type":"A","value":["192.0.2.1"],"value":["192.0.2.2"]}"#,
        ),
        ("POST", "/api/v1/changes", r#"{"changes":[],"changes":[]}"#),
        (
            "POST",
            "/api/v1/changes",
            r#"{"changes":[{"op":"put","op":"delete","name":"a.example.com.","type":"A"}]}"#,
        ),
        (
            "POST",
            "/api/v1/changes",
            r#"{"changes":[{"op":"put","name":"a.example.com.","name":"b.example.com.","type":"A","value":["192.0.2.1"]}]}"#,
        ),
        ("POST", "/api/v1/domains", r#"{"name":"a.test","name":"b.test"}"#),
        ("PATCH", "/api/v1/domains/example.com.", r#"{"ttl_policy":"keep","ttl_policy":"bounded"}"#),
        ("POST", "/api/v1/tokens", r#"{"name":"x","scope":"records:read","scope":"admin"}"#),
        (
            "POST",
            "/api/v1/tokens",
            r#"{"name":"x","scope":"records:read","narrowed":{"zones":["a.test"],"zones":["b.test"]}}"#,
        ),
        ("POST", "/api/v1/users", r#"{"email":"a@example.org","email":"b@example.org"}"#),
        ("POST", "/api/v1/auth/login", r#"{"email":"a@example.org","password":"x","password":"y"}"#),
        ("POST", "/api/v1/nodes", r#"{"name":"ns1","name":"ns2"}"#),
    ] {
        let answer = server.client.send(method, path, &[JSON], body.into()).await.expect(400);
        assert_eq!(answer.code(), "MALFORMED_REQUEST", "{body}");
        assert!(answer.text.contains("duplicate field"), "{body}: {}", answer.text);
    }
    let twice = server.client.get("/api/v1/records?zone=example.com.&zone=example.org.").await.expect(400);
    assert_eq!(twice.code(), "MALFORMED_REQUEST");
}

/// Who announces a length and asks first is told before anything is sent.
#[tokio::test]
async fn who_asks_first_is_refused_at_once() {
    let server = Server::start().await;
    let mut stream = tokio::net::TcpStream::connect(server.client.address).await.unwrap();
    let head = format!(
        "POST /api/v1/records HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\ncontent-length: 10000000\r\n\r\n",
        server.client.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read =
        tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answer)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
}

#[tokio::test]
async fn a_client_that_never_ends_its_header_is_dropped() {
    let server = Server::start_in(folder(), Replica::default(), None, |config| {
        config.api.header_timeout_ms = 200;
    })
    .await;
    let mut stream = tokio::net::TcpStream::connect(server.client.address).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let started = Instant::now();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "still open after {:?}", started.elapsed());
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered() {
    let server = Server::start_in(folder(), Replica::default(), None, |config| {
        config.api.request_timeout_ms = 300;
    })
    .await;
    // Another program holds the database: the writer waits for it, the caller only for so long.
    let mut other = server.beside().await;
    hold(&mut other).await;
    let body = json!({"type": "A", "value": ["192.0.2.2"]});
    let answer = server.client.json("PUT", "/api/v1/records/www.example.com.", &body).await.expect(504);
    assert_eq!(answer.code(), "TIMEOUT");
    other.control(&["ROLLBACK"]).await.unwrap();
    // And it goes on.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = server.client.json("PUT", "/api/v1/records/www.example.com.", &body).await;
        if answer.status == 200 {
            break;
        }
        assert!(Instant::now() < deadline, "{}", answer.text);
    }
}

/// A database of a server may have any number of control planes.
#[tokio::test]
async fn a_folder_has_one_owner() {
    if crate::DATABASE != Kind::Sqlite {
        return;
    }
    let server = Server::start().await;
    let config = config(server.folder.path());
    let store = config.store.clone();
    let second =
        godwit_controlplane::Controlplane::open(config, godwit_controlplane::FirstStart::Empty, None).await;
    let error = format!("{:#}", second.unwrap_err());
    assert!(error.contains("in use by another process"), "{error}");
    let token = godwit_controlplane::Controlplane::create_token(&store, "admin").await;
    assert!(token.is_err());
    let (folder, replica, _) = server.stop().await;
    let token = godwit_controlplane::Controlplane::create_token(&store, "admin").await.unwrap();
    let server = Server::start_in(folder, replica, Some(token.reveal()), |_| {}).await;
    server.client.get("/api/v1/domains").await.expect(200);
}

#[tokio::test]
async fn health_needs_no_token() {
    let server = Server::start().await;
    for path in ["/health", "/ready", "/api/v1/openapi.json", "/docs/"] {
        let answer = server.client.send("GET", path, &[("authorization", "")], vec![]).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    let nodes = server.client.get("/api/v1/nodes").await.expect(200).json();
    assert_eq!(nodes["items"][0]["node"], "local");
}

/// What a browser is told, and that no other origin is let in.
#[tokio::test]
async fn answers_are_closed_to_pages_of_others() {
    let server = Server::start().await;
    let origin = ("origin", "https://elsewhere.test");
    for (method, path, status) in [
        ("GET", "/docs/", 200),
        ("GET", "/api/v1/domains", 200),
        ("HEAD", "/api/v1/domains", 200),
        ("GET", "/api/v1/nothing", 404),
        ("OPTIONS", "/api/v1/domains", 405),
    ] {
        let answer = server.client.send(method, path, &[origin], vec![]).await.expect(status);
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{path}");
        assert_eq!(answer.header("cache-control") == "no-store", path != "/docs/", "{path}");
    }
    let answer = server.client.send("PATCH", "/api/v1/domains", &[], vec![]).await.expect(405);
    assert!(answer.header("allow").contains("GET") && answer.header("allow").contains("POST"), "{answer:?}");
}
