//! What every write takes and answers, whichever it is: a version, a dry run, a key, and a wait.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Answer, Server};

struct Row {
    method: &'static str,
    path: &'static str,
    body: Option<Value>,
    status: u16,
}

fn row(method: &'static str, path: &'static str, body: Value, status: u16) -> Row {
    Row { method, path, body: (!body.is_null()).then_some(body), status }
}

const ZONE: &str = "@ 60 IN SOA ns1 h 1 1 1 1 1\n@ 60 NS ns1\nns1 60 A 192.0.2.1\n";

/// In an order in which each finds what the ones before made.
fn rows() -> Vec<Row> {
    let a = |name: &str, value: &str| json!({"name": name, "type": "A", "value": [value]});
    let value = |value: &str| json!({"type": "A", "value": [value]});
    vec![
        row("POST", "/api/v1/records", a("a.example.com.", "192.0.2.1"), 201),
        row("POST", "/api/v1/dns-records", a("b.example.com.", "192.0.2.1"), 201),
        row("PUT", "/api/v1/records/a.example.com.", value("192.0.2.2"), 200),
        row("PUT", "/api/v1/dns-records/b.example.com.", value("192.0.2.2"), 200),
        row("DELETE", "/api/v1/records/a.example.com.?type=A", Value::Null, 204),
        row("DELETE", "/api/v1/dns-records/b.example.com.?all=true", Value::Null, 204),
        row(
            "POST",
            "/api/v1/changes",
            json!({"changes": [{"op": "put", "name": "c.example.com.", "type": "A", "value": ["192.0.2.1"]}]}),
            200,
        ),
        row("POST", "/api/v1/domains", json!({"name": "example.org."}), 201),
        row("PATCH", "/api/v1/domains/example.org.", json!({"soa": {"refresh": 1800}}), 200),
        row(
            "PUT",
            "/api/v1/domains/example.org.",
            json!({"records": [{"name": "www", "type": "A", "value": ["192.0.2.1"]}]}),
            200,
        ),
        row("POST", "/api/v1/domains/example.org./import", json!(ZONE), 200),
        row("POST", "/api/v1/domains/example.net./import", json!(ZONE), 201),
        row("DELETE", "/api/v1/domains/example.org.?confirm=2", Value::Null, 204),
    ]
}

impl Row {
    /// Sends it with more in the query and more headers.
    async fn send(&self, server: &Server, query: &str, headers: &[(&str, &str)]) -> Answer {
        let joined = if self.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{joined}{query}", self.path);
        // A text is a zone file.
        let (media_type, body) = match &self.body {
            None => ("", Vec::new()),
            Some(Value::String(text)) => ("text/dns", text.clone().into_bytes()),
            Some(value) => ("application/json", value.to_string().into_bytes()),
        };
        let mut all = headers.to_vec();
        if !media_type.is_empty() {
            all.push(("content-type", media_type));
        }
        server.client.send(self.method, &path, &all, body).await
    }
}

/// All zones with their versions, and all records.
async fn state(server: &Server) -> String {
    let zones = server.client.get("/api/v1/domains?limit=1000").await.expect(200);
    zones.text + &server.client.get("/api/v1/records?limit=1000").await.expect(200).text
}

#[tokio::test]
async fn every_write_takes_a_version_a_dry_run_a_key_and_a_wait() {
    let server = Server::start().await;
    for (number, row) in rows().into_iter().enumerate() {
        let what = format!("{} {}", row.method, row.path);
        let before = state(&server).await;

        let stale = row.send(&server, "wait=applied", &[("if-match", "\"4711\"")]).await;
        assert_eq!((stale.status.as_u16(), stale.code().as_str()), (412, "VERSION_CONFLICT"), "{what}");
        assert_eq!(state(&server).await, before, "{what}: refused and made");

        let dry = row.send(&server, "dry_run=true", &[]).await;
        // What has nothing else to say says which answers would change.
        let status = if row.status == 204 { 200 } else { row.status };
        assert_eq!(dry.status.as_u16(), status, "{what}: {}", dry.text);
        assert!(dry.json()["dry_run"]["answers"]["items"].is_array(), "{what}: {}", dry.text);
        assert_eq!((dry.header("godwit-dry-run"), dry.header("godwit-change")), ("true", ""), "{what}");
        assert_eq!(state(&server).await, before, "{what}: tried and made");

        let key = format!("key-{number}");
        let key = [("idempotency-key", key.as_str())];
        let made = row.send(&server, "wait=applied", &key).await;
        assert_eq!(made.status.as_u16(), row.status, "{what}: {}", made.text);
        let change = Uuid::try_parse(made.header("godwit-change")).unwrap();
        assert_eq!(change.get_version_num(), 7, "{what}");
        assert_eq!(made.header("godwit-applied"), "1/1", "{what}");
        let etag = made.header("etag");
        let version = etag.trim_matches('"').parse::<u64>();
        // Of a zone that is gone there is no version.
        assert_eq!(version.is_ok(), !what.starts_with("DELETE /api/v1/domains"), "{what}: {etag:?}");
        assert_eq!(made.text.is_empty(), row.status == 204, "{what}");
        let after = state(&server).await;
        assert_ne!(after, before, "{what}");

        let again = row.send(&server, "wait=applied", &key).await;
        assert_eq!((again.status, &again.text), (made.status, &made.text), "{what}");
        assert_eq!(again.header("godwit-change"), change.to_string(), "{what}");
        assert_eq!(again.header("godwit-replayed"), "true", "{what}");
        assert_eq!(state(&server).await, after, "{what}: made twice");
    }
    server.replica.assert_content();
}

#[tokio::test]
async fn a_reload_says_what_is_served() {
    let server = Server::start().await;
    let body = json!({"type": "A", "value": ["192.0.2.7"]});
    let put = server.client.json("PUT", "/api/v1/records/www.example.com.", &body).await.expect(200);
    let reload = server.client.send("POST", "/api/v1/reload", &[], vec![]).await.expect(200).json();
    let state = format!("/api/v1/changes/{}", put.header("godwit-change"));
    let state = server.client.get(&state).await.expect(200).json();
    assert_eq!((&state["state"], &state["sequence"]), (&json!("applied"), &reload["version"]), "{reload}");
    assert_eq!(reload["zones"], 1);
    assert!(reload["changed"].is_u64() && reload["ms"].is_u64(), "{reload}");
    assert_eq!(reload.as_object().unwrap().len(), 4, "{reload}");
}
