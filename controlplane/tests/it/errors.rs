//! Every code that a caller can meet, with its status, and that nothing is half-done.

use godwit_controlplane::store::Kind;
use godwit_testkit::servers::Postgres;
use serde_json::{Value, json};

use crate::harness::{Server, URL_FILE};

struct Row {
    name: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
}

fn row(
    name: &'static str,
    method: &'static str,
    path: &str,
    body: &Value,
    status: u16,
    code: &'static str,
) -> Row {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let headers =
        if body.is_empty() { vec![] } else { vec![("content-type", "application/json".to_owned())] };
    Row { name, method, path: path.to_owned(), headers, body, status, code }
}

#[tokio::test]
async fn each_mistake_has_its_status_and_code() {
    let server = Server::start().await;
    let before = server.client.get("/api/v1/domains/example.com./export").await.expect(200).text;
    let a = |name: &str, value: &str| json!({"name": name, "type": "A", "value": [value]});
    let records = "/api/v1/records";
    let changes = "/api/v1/changes";
    let www = "/api/v1/records/www.example.com.";
    let long_label = format!("{}.example.com.", "a".repeat(64));
    let long_name = format!("{}example.com.", "a.".repeat(125));
    let with = |mut row: Row, name: &'static str, value: &str| {
        row.headers.retain(|(other, _)| *other != name);
        row.headers.push((name, value.to_owned()));
        row
    };
    let raw = |mut row: Row, body: &[u8]| {
        row.body = body.to_vec();
        row.headers = vec![("content-type", "application/json".to_owned())];
        row
    };
    let null = Value::Null;
    let rows = vec![
        raw(row("wrong JSON", "POST", records, &null, 400, "MALFORMED_REQUEST"), b"{\"name\":"),
        raw(row("not UTF-8", "POST", records, &null, 400, "MALFORMED_REQUEST"), b"{\"name\":\"\xff\"}"),
        row(
            "unknown field",
            "POST",
            records,
            &json!({"name": "a.example.com.", "type": "A", "value": ["192.0.2.1"], "x": 1}),
            400,
            "MALFORMED_REQUEST",
        ),
        row(
            "field of a wrong kind",
            "POST",
            records,
            &json!({"name": "a.example.com.", "type": "A", "ttl": "300", "value": ["192.0.2.1"]}),
            400,
            "MALFORMED_REQUEST",
        ),
        row(
            "negative TTL",
            "POST",
            records,
            &json!({"name": "a.example.com.", "type": "A", "ttl": -1, "value": ["192.0.2.1"]}),
            400,
            "MALFORMED_REQUEST",
        ),
        row(
            "missing field",
            "POST",
            records,
            &json!({"name": "a.example.com.", "value": ["192.0.2.1"]}),
            400,
            "MALFORMED_REQUEST",
        ),
        row("unknown parameter", "GET", "/api/v1/records?x=1", &null, 400, "MALFORMED_REQUEST"),
        row(
            "unknown parameter of a write",
            "POST",
            "/api/v1/records?x=1",
            &a("a.example.com.", "192.0.2.1"),
            400,
            "MALFORMED_REQUEST",
        ),
        row("limit", "GET", "/api/v1/records?limit=1001", &null, 400, "MALFORMED_REQUEST"),
        row("cursor", "GET", "/api/v1/records?cursor=!", &null, 400, "MALFORMED_REQUEST"),
        row("delete of what", "DELETE", www, &null, 400, "MALFORMED_REQUEST"),
        row("no changes", "POST", changes, &json!({"changes": []}), 400, "MALFORMED_REQUEST"),
        row(
            "unknown op",
            "POST",
            changes,
            &json!({"changes": [{"op": "drop", "name": "a.example.com.", "type": "A"}]}),
            400,
            "MALFORMED_REQUEST",
        ),
        row(
            "wait for what",
            "POST",
            "/api/v1/records?wait=x",
            &a("a.example.com.", "192.0.2.1"),
            400,
            "MALFORMED_REQUEST",
        ),
        with(
            row("If-Match", "POST", records, &a("a.example.com.", "192.0.2.1"), 400, "MALFORMED_REQUEST"),
            "if-match",
            "1",
        ),
        with(row("no token", "GET", records, &null, 401, "UNAUTHENTICATED"), "authorization", "Basic eDp5"),
        with(
            row("token of another", "GET", records, &null, 401, "UNAUTHENTICATED"),
            "authorization",
            "Bearer gw_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ),
        with(
            row(
                "token that is none",
                "POST",
                records,
                &a("a.example.com.", "192.0.2.1"),
                401,
                "UNAUTHENTICATED",
            ),
            "authorization",
            "Bearer gw_x",
        ),
        row(
            "record that is not there",
            "GET",
            "/api/v1/records/nope.example.com.",
            &null,
            404,
            "RECORD_NOT_FOUND",
        ),
        row(
            "type that is not there",
            "GET",
            "/api/v1/records/www.example.com.?type=AAAA",
            &null,
            404,
            "RECORD_NOT_FOUND",
        ),
        row(
            "put of what is not there",
            "PUT",
            "/api/v1/records/nope.example.com.",
            &json!({"type": "A", "value": ["192.0.2.1"]}),
            404,
            "RECORD_NOT_FOUND",
        ),
        row(
            "delete of what is not there",
            "DELETE",
            "/api/v1/records/nope.example.com.?type=A",
            &null,
            404,
            "RECORD_NOT_FOUND",
        ),
        row(
            "zone that is not there",
            "POST",
            records,
            &a("a.example.org.", "192.0.2.1"),
            404,
            "DOMAIN_NOT_FOUND",
        ),
        row("zone that is not there", "GET", "/api/v1/domains/example.org.", &null, 404, "DOMAIN_NOT_FOUND"),
        row(
            "zone that is not there",
            "DELETE",
            "/api/v1/domains/example.org.",
            &null,
            404,
            "DOMAIN_NOT_FOUND",
        ),
        row(
            "change that is not there",
            "GET",
            "/api/v1/changes/0199f3d2-7c1a-7d41-9e7b-3f0d5a1b2c3d",
            &null,
            404,
            "CHANGE_NOT_FOUND",
        ),
        row("nothing there", "GET", "/api/v1/nothing", &null, 404, "NOT_FOUND"),
        row("method", "PATCH", records, &null, 405, "METHOD_NOT_ALLOWED"),
        row(
            "record that is there",
            "POST",
            records,
            &a("www.example.com.", "192.0.2.1"),
            409,
            "RECORD_EXISTS",
        ),
        row(
            "zone that is there",
            "POST",
            "/api/v1/domains",
            &json!({"name": "example.com."}),
            409,
            "DOMAIN_EXISTS",
        ),
        row(
            "CNAME beside A",
            "POST",
            records,
            &json!({"name": "www.example.com.", "type": "CNAME", "value": ["a.example.com."]}),
            409,
            "CONFLICT",
        ),
        row("apex without NS", "DELETE", "/api/v1/records/example.com.?type=NS", &null, 409, "CONFLICT"),
        row(
            "apex without anything",
            "DELETE",
            "/api/v1/records/example.com.?all=true",
            &null,
            409,
            "CONFLICT",
        ),
        row(
            "put twice in a change",
            "POST",
            changes,
            &json!({"changes": [
            {"op": "put", "name": "a.example.com.", "type": "A", "value": ["192.0.2.1"]},
            {"op": "put", "name": "A.example.com.", "type": "A", "value": ["192.0.2.2"]}]}),
            409,
            "CONFLICT",
        ),
        with(
            row(
                "stale If-Match",
                "PUT",
                www,
                &json!({"type": "A", "value": ["192.0.2.7"]}),
                412,
                "VERSION_CONFLICT",
            ),
            "if-match",
            "\"99\"",
        ),
        with(
            row(
                "weak If-Match",
                "PUT",
                www,
                &json!({"type": "A", "value": ["192.0.2.7"]}),
                412,
                "VERSION_CONFLICT",
            ),
            "if-match",
            "W/\"1\"",
        ),
        with(
            row(
                "stale If-Match of a delete",
                "DELETE",
                "/api/v1/records/www.example.com.?type=A",
                &null,
                412,
                "VERSION_CONFLICT",
            ),
            "if-match",
            "\"0\"",
        ),
        with(
            row("no JSON", "POST", records, &a("a.example.com.", "192.0.2.1"), 415, "UNSUPPORTED_MEDIA_TYPE"),
            "content-type",
            "text/plain",
        ),
        with(
            row(
                "no zone file",
                "POST",
                "/api/v1/domains/example.org./import",
                &a("a", "b"),
                415,
                "UNSUPPORTED_MEDIA_TYPE",
            ),
            "content-type",
            "application/json",
        ),
        row(
            "type in queries only",
            "POST",
            records,
            &json!({"name": "a.example.com.", "type": "ANY", "value": ["x"]}),
            422,
            "INVALID_RECORD_TYPE",
        ),
        row(
            "type that is none",
            "POST",
            records,
            &json!({"name": "a.example.com.", "type": "NOPE", "value": ["x"]}),
            422,
            "INVALID_RECORD_TYPE",
        ),
        row(
            "signature",
            "POST",
            records,
            &json!({"name": "a.example.com.", "type": "RRSIG", "value": ["x"]}),
            422,
            "INVALID_RECORD_TYPE",
        ),
        row(
            "TTL 59",
            "POST",
            records,
            &json!({"name": "a.example.com.", "type": "A", "ttl": 59, "value": ["192.0.2.1"]}),
            422,
            "INVALID_TTL",
        ),
        row(
            "TTL 86401",
            "POST",
            records,
            &json!({"name": "a.example.com.", "type": "A", "ttl": 86401, "value": ["192.0.2.1"]}),
            422,
            "INVALID_TTL",
        ),
        row("relative name", "POST", records, &a("www", "192.0.2.1"), 422, "INVALID_NAME"),
        row("long label", "POST", records, &a(&long_label, "192.0.2.1"), 422, "INVALID_NAME"),
        row("long name", "POST", records, &a(&long_name, "192.0.2.1"), 422, "INVALID_NAME"),
        row("space in a name", "POST", records, &a("a b.example.com.", "192.0.2.1"), 422, "INVALID_NAME"),
        row(
            "name outside ASCII",
            "POST",
            records,
            &a("bücher.example.com.", "192.0.2.1"),
            422,
            "INVALID_NAME",
        ),
        row("two names", "PUT", www, &a("other.example.com.", "192.0.2.1"), 422, "INVALID_NAME"),
        row(
            "out of zone",
            "POST",
            "/api/v1/records?zone=example.com.",
            &a("a.example.org.", "192.0.2.1"),
            422,
            "INVALID_NAME",
        ),
        row(
            "value of another type",
            "POST",
            records,
            &a("a.example.com.", "2001:db8::1"),
            422,
            "INVALID_VALUE",
        ),
        row(
            "no value",
            "POST",
            records,
            &json!({"name": "a.example.com.", "type": "A", "value": []}),
            422,
            "INVALID_VALUE",
        ),
        row(
            "value twice",
            "POST",
            records,
            &json!({"name": "a.example.com.", "type": "A", "value": ["192.0.2.1", "192.0.2.1"]}),
            422,
            "INVALID_VALUE",
        ),
        row(
            "SOA below the apex",
            "POST",
            records,
            &json!({"name": "a.example.com.", "type": "SOA", "value": ["a. b. 1 2 3 4 5"]}),
            422,
            "INVALID_VALUE",
        ),
    ];
    for Row { name, method, path, headers, body, status, code } in rows {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = server.client.send(method, &path, &headers, body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{name}: {}",
            answer.text
        );
        let body = answer.json();
        assert!(body["error"].as_str().unwrap().len() > 10, "{name}");
        assert_eq!(body["request_id"], answer.header("x-request-id"), "{name}");
        assert_eq!(body.as_object().unwrap().len(), 3, "{name}");
    }
    let after = server.client.get("/api/v1/domains/example.com./export").await.expect(200).text;
    assert_eq!(before, after, "a refused request left something behind");
    assert_eq!(server.client.get("/api/v1/domains").await.json()["items"].as_array().unwrap().len(), 1);
    server.replica.assert_content();
}

#[tokio::test]
async fn a_revoked_token_is_refused_within_a_second() {
    let server = Server::start().await;
    server.client.get("/api/v1/domains").await.expect(200);
    let mut connection = server.beside().await;
    connection.query("UPDATE tokens SET revoked_at_us = 1").execute().await.unwrap();
    let started = std::time::Instant::now();
    loop {
        let answer = server.client.get("/api/v1/domains").await;
        if answer.status == 401 {
            assert_eq!(answer.code(), "TOKEN_REVOKED");
            break;
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(1), "still let in");
    }
}

/// A token of another scope, as later versions will make them.
#[tokio::test]
async fn a_token_of_another_scope_is_refused() {
    let server = Server::start().await;
    let mut connection = server.beside().await;
    connection.query("UPDATE tokens SET scope = 'records:read'").execute().await.unwrap();
    let answer = server.client.get("/api/v1/domains").await.expect(403);
    assert_eq!(answer.code(), "INSUFFICIENT_SCOPE");
}

/// What an answer quotes of a request is as short as a sentence.
#[tokio::test]
async fn errors_do_not_send_back_what_came() {
    let server = Server::start().await;
    let field = "x".repeat(500_000);
    let body = json!({field: 1});
    let answer = server.client.json("POST", "/api/v1/records", &body).await.expect(400);
    assert_eq!(answer.code(), "MALFORMED_REQUEST");
    assert!(answer.text.contains("unknown field") && answer.text.len() < 2_000, "{}", answer.text.len());
}

#[tokio::test]
async fn tokens_are_not_stored() {
    let server = Server::start().await;
    let token = server.client.token.clone();
    let (folder, ..) = server.stop().await;
    let url = std::fs::read_to_string(folder.path().join(URL_FILE)).ok();
    let dump = url.map(|url| Postgres::shared().dump(&url).unwrap().into_bytes());
    let files = std::fs::read_dir(folder.path()).unwrap();
    let mut looked = 0;
    for octets in files.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).chain(dump) {
        looked += octets.len();
        assert!(!octets.windows(20).any(|window| window == &token.as_bytes()[3..23]));
    }
    // The text of a dump is shorter than the pages of a file.
    assert!(looked > if crate::DATABASE == Kind::Sqlite { 10_000 } else { 5_000 });
}

#[tokio::test]
async fn request_ids_are_taken_over_when_harmless() {
    let server = Server::start().await;
    for (sent, kept) in
        [("abc-123_X.y", true), ("has space", false), ("a\"b", false), (&"x".repeat(65), false)]
    {
        let answer = server.client.send("GET", "/api/v1/domains", &[("x-request-id", sent)], vec![]).await;
        assert_eq!(answer.header("x-request-id") == sent, kept, "{sent}");
        assert!(!answer.header("x-request-id").is_empty());
    }
}
