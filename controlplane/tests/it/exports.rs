//! Zones as zone files, page by page: whole, of one moment, and at nobody's expense.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpSocket;

use crate::harness::{Client, Server, folder};
use crate::office::{Office, PASSWORD};
use crate::replica::Replica;
use crate::tenants::{id, join, with_tenant};

const ZONE: &str = "$TTL 300\n@ SOA ns h 1 7200 3600 1209600 60\n@ NS ns\nns A 192.0.2.53\n";

/// More of a zone than any buffer between server and client holds.
fn large_zone() -> String {
    let filler = "x".repeat(250);
    let mut text = ZONE.to_owned();
    for n in 0..60_000 {
        writeln!(text, "n{n} TXT {filler}").unwrap();
    }
    text
}

async fn with_large_zone(adjust: impl FnOnce(&mut godwit_controlplane::Config)) -> Server {
    let server = Server::start_in(folder(), Replica::default(), None, adjust).await;
    let path = "/api/v1/domains/large.test./import";
    server.client.send("POST", path, &[("content-type", "text/dns")], large_zone().into()).await.expect(201);
    server
}

/// An export that was begun and is not read.
async fn begun(client: &Client) -> hyper::Response<Incoming> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(client.address).await.unwrap();
    let mut http = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) = http.max_buf_size(8_192).handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/api/v1/domains/large.test./export")
        .header("host", "x")
        .header("authorization", format!("Bearer {}", client.token))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

/// What an export says is one state of the zone, also when the zone changes while it is read.
#[tokio::test]
async fn an_export_is_whole_and_of_one_moment() {
    let server = with_large_zone(|_| {}).await;
    let export = begun(&server.client).await;
    let etag = export.headers()["etag"].clone();
    // First and last in canonical order, and gone.
    let steps = json!({"changes": [
        {"op": "put", "name": "0.large.test.", "type": "A", "value": ["192.0.2.1"]},
        {"op": "put", "name": "zz.large.test.", "type": "A", "value": ["192.0.2.1"]},
        {"op": "delete", "name": "n7.large.test.", "type": "TXT"},
    ]});
    server.client.json("POST", "/api/v1/changes", &steps).await.expect(200);
    let text = export.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&text).unwrap();
    assert_eq!(etag, "\"1\"");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 60_003);
    assert!(
        lines[0].contains("SOA")
            && !lines[1..].iter().any(|line| line.contains("\tSOA") || line.contains(" SOA "))
    );
    assert!(lines.iter().any(|line| line.starts_with("n7.large.test.")));
    assert!(!text.contains("192.0.2.1\n"));
    // It reads back as what is there, but for what was changed since.
    let put = server.client.import("large.test.", text).await.expect(200).json();
    // And the SOA, for its serial.
    assert_eq!(put["changed"], 4);
    assert_eq!(put["rrsets"], 60_003);
}

/// Those who read slowly take connections that others do not need; one too many is told, and what does not end is cut.
#[tokio::test]
async fn exports_that_are_not_read_stop_nobody_else() {
    let server = with_large_zone(|config| {
        config.api.write_timeout_ms = 3_600_000;
        config.api.export_timeout_ms = 15_000;
        config.store.exports = 2;
        config.store.readers = 1;
    })
    .await;
    let (one, other) = (begun(&server.client).await, begun(&server.client).await);
    let third = server.client.get("/api/v1/domains/large.test./export").await.expect(503);
    assert_eq!((third.code().as_str(), third.header("retry-after")), ("DB_POOL_TIMEOUT", "1"));
    assert_eq!(server.limited("exports"), 1);
    server.client.get("/api/v1/domains/large.test.").await.expect(200);
    let body = json!({"type": "A", "value": ["192.0.2.9"]});
    server.client.json("PUT", "/api/v1/records/www.example.com.", &body).await.expect(200);
    server.until_limited("export_time").await;
    // Cut short, and seen to be: a part of a zone is never taken for the whole.
    assert!(one.into_body().collect().await.is_err());
    assert!(other.into_body().collect().await.is_err());
    let answered = async {
        while server.client.get("/api/v1/domains/example.com./export").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answered).await.expect("no place came free");
    server.stop().await;
}

/// Who may not have it any more gets no more of it; whose right stands gets all.
#[tokio::test]
async fn an_export_ends_with_the_right_to_it() {
    let office = Office::open().await;
    let (anna, tenant) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    let path = "/api/v1/domains/large.test./import";
    anna.client.send("POST", path, &[("content-type", "text/dns")], large_zone().into()).await.expect(201);
    join(&anna.client, tenant, &bert, "viewer").await;
    let other = office.log_in("anna@example.org", PASSWORD).await;
    let (of_anna, of_other) = (begun(&anna.client).await, begun(&other.client).await);
    other.client.delete(&format!("/api/v1/users/me/sessions/{}", other.session)).await.expect(204);
    assert!(of_other.into_body().collect().await.is_err(), "the session has ended, and all was sent");
    // What has nothing to do with it goes on.
    let text = of_anna.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(std::str::from_utf8(&text).unwrap().lines().count(), 60_003);
    let of_bert = begun(&bert.client).await;
    let member = format!("/api/v1/tenants/{tenant}/members/{}", id(&bert).await);
    anna.client.delete(&member).await.expect(204);
    assert!(of_bert.into_body().collect().await.is_err(), "they are no member any more, and all was sent");
    office.server.stop().await;
}

/// A stop does not wait for who never reads, nor for what is read for them.
#[tokio::test]
async fn a_stop_cuts_who_does_not_read() {
    let server = with_large_zone(|config| {
        (config.api.drain_timeout_ms, config.api.write_timeout_ms) = (100, 3_600_000);
    })
    .await;
    let export = begun(&server.client).await;
    server.stop().await;
    assert!(export.into_body().collect().await.is_err());
}

/// A client that goes away ends its export.
#[tokio::test]
async fn an_export_ends_with_its_client() {
    let server = with_large_zone(|config| config.store.exports = 1).await;
    for _ in 0..3 {
        drop(begun(&server.client).await);
        let answered =
            async { while server.client.get("/api/v1/domains/example.com./export").await.status != 200 {} };
        tokio::time::timeout(Duration::from_secs(60), answered).await.expect("it holds its place");
    }
}

/// A page has fewer items where they are large, and the next one goes on behind it.
#[tokio::test]
async fn pages_are_bounded_in_octets() {
    let server = Server::start().await;
    let (value, mut steps) = (format!("\\# 60000 {}", "ab".repeat(60_000)), Vec::new());
    for n in 0..40 {
        let name = format!("n{n}.example.com.");
        steps.push(json!({"op": "put", "name": name, "type": "TYPE65280", "value": [value]}));
    }
    server.client.json("POST", "/api/v1/changes", &json!({ "changes": steps })).await.expect(200);
    let (mut seen, mut pages, mut cursor) = (std::collections::BTreeSet::new(), 0, String::new());
    loop {
        let path = format!("/api/v1/records?zone=example.com&type=TYPE65280&limit=1000{cursor}");
        let page = server.client.get(&path).await.expect(200);
        assert!(page.text.len() < 4 << 20, "{}", page.text.len());
        let page = page.json();
        for item in page["items"].as_array().unwrap() {
            assert!(seen.insert(item["name"].as_str().unwrap().to_owned()), "{} came twice", item["name"]);
        }
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), 40);
    assert!(pages > 1, "all in one page");
}

/// Names of any octets have their place, and it can be gone to.
#[tokio::test]
async fn locations_can_be_followed() {
    let server = Server::start().await;
    for name in [
        "a\\032b.test.",
        "a\\ b\\..test.",
        "a/b?c#d%e.test.",
        "*.test.",
        "\\\"\\;\\@\\$\\(.test.",
        "\\255\\000.test.",
    ] {
        let made = server.client.json("POST", "/api/v1/domains", &json!({ "name": name })).await.expect(201);
        let location = made.header("location").to_owned();
        assert!(location.parse::<hyper::Uri>().is_ok(), "{location}");
        let found = server.client.get(&location).await.expect(200);
        assert_eq!(found.json()["name"], made.json()["name"], "{name}");
        // And what is shown of a record can be asked for again.
        let record = json!({"name": "x", "type": "TXT", "value": ["v"]});
        let path = format!("/api/v1/records?zone={}", location.trim_start_matches("/api/v1/domains/"));
        let shown = server.client.json("POST", &path, &record).await.expect(201).json()["name"].clone();
        let again = json!({"changes": [{"op": "delete", "name": shown, "type": "TXT"}]});
        server.client.json("POST", "/api/v1/changes", &again).await.expect(200);
    }
}
