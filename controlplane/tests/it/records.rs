//! Records from making to deleting, and lists.

use godwit_wire::rr::Rtype;
use serde_json::{Value, json};

use crate::harness::Server;

#[tokio::test]
async fn a_record_lives_through_the_api_and_is_served() {
    let server = Server::start().await;
    let client = &server.client;
    let made = client
        .json("POST", "/api/v1/records?wait=applied", &json!({"name": "Host.example.com.", "type": "a", "ttl": 60, "value": ["192.0.2.9", "192.0.2.8"]}))
        .await
        .expect(201);
    assert_eq!(
        made.json(),
        json!({"name": "host.example.com.", "type": "A", "ttl": 60, "value": ["192.0.2.8", "192.0.2.9"]})
    );
    assert_eq!(made.header("godwit-applied"), "1/1");
    assert_eq!(made.header("etag"), "\"2\"");
    assert_eq!(server.replica.rrset("host.example.com.", Rtype::A).unwrap().rdata.len(), 2);

    let put = client
        .json(
            "PUT",
            "/api/v1/records/host.example.com.?wait=applied",
            &json!({"type": "A", "value": ["192.0.2.7"]}),
        )
        .await
        .expect(200);
    assert_eq!(put.json()["ttl"], 60, "the TTL stays when none is given");
    assert_eq!(put.header("etag"), "\"3\"");
    assert_eq!(&*server.replica.rrset("host.example.com.", Rtype::A).unwrap().rdata[0], &[192, 0, 2, 7]);

    // The same under the other path, by ?type= and as a page of all types.
    let one = client.get("/api/v1/dns-records/host.example.com.?type=A").await.expect(200);
    assert_eq!(one.json(), put.json());
    assert_eq!(one.header("etag"), "\"3\"");
    let all = client.get("/api/v1/records/host?zone=example.com").await.expect(200);
    assert_eq!(all.json()["items"], json!([put.json()]));

    let gone = client.delete("/api/v1/records/host.example.com.?type=A&wait=applied").await.expect(204);
    assert_eq!(gone.text, "");
    assert_eq!(server.replica.rrset("host.example.com.", Rtype::A), None);
    client.get("/api/v1/records/host.example.com.").await.expect(404);

    // Every change raised the serial, as it is served.
    let soa = server.replica.rrset("example.com.", Rtype::SOA).unwrap();
    let serial = u32::from_be_bytes(*soa.rdata[0].last_chunk::<20>().unwrap().first_chunk().unwrap());
    assert_eq!(client.get("/api/v1/domains/example.com.").await.json()["serial"], serial);
    server.replica.assert_content();
}

#[tokio::test]
async fn a_put_that_changes_nothing_raises_nothing() {
    let server = Server::start().await;
    let body = json!({"type": "A", "ttl": 300, "value": ["192.0.2.1"]});
    let answer =
        server.client.json("PUT", "/api/v1/records/www.example.com.?wait=applied", &body).await.expect(200);
    assert_eq!((answer.header("etag"), answer.header("godwit-applied")), ("\"1\"", "1/1"));
    let change = answer.header("godwit-change").to_owned();
    let state = server.client.get(&format!("/api/v1/changes/{change}")).await.expect(200).json();
    assert_eq!(state["state"], "applied");
}

#[tokio::test]
async fn a_dry_run_judges_and_changes_nothing() {
    let server = Server::start().await;
    let body = json!({"name": "new.example.com.", "type": "A", "value": ["192.0.2.1"]});
    let answer = server.client.json("POST", "/api/v1/records?dry_run=true", &body).await.expect(201);
    assert_eq!((answer.header("godwit-dry-run"), answer.header("godwit-change")), ("true", ""));
    server.client.get("/api/v1/records/new.example.com.").await.expect(404);
    let body = json!({"name": "www.example.com.", "type": "A", "value": ["192.0.2.1"]});
    server.client.json("POST", "/api/v1/records?dry_run=true", &body).await.expect(409);
    assert_eq!(server.client.get("/api/v1/domains/example.com.").await.json()["version"], 1);
}

#[tokio::test]
async fn types_without_a_form_of_their_own_pass_through() {
    let server = Server::start().await;
    for (rtype, value) in [
        ("TYPE65280", "\\# 3 abcdef"),
        ("URI", "10 1 \"https://example.com/\""),
        ("LOC", "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m"),
        ("CAA", "0 issue \"ca.example.net\""),
        ("HTTPS", "1 . alpn=h2"),
        ("TXT", "\"a \\\"quoted\\\" text\" \"and more\""),
    ] {
        let body = json!({"name": "t.example.com.", "type": rtype, "value": [value]});
        let made = server.client.json("POST", "/api/v1/records", &body).await.expect(201).json();
        // What is read back can be written again, and is the same.
        let body = json!({"type": rtype, "value": made["value"]});
        let again =
            server.client.json("PUT", "/api/v1/records/t.example.com.", &body).await.expect(200).json();
        assert_eq!(made["value"], again["value"]);
    }
}

#[tokio::test]
async fn lists_go_on_where_they_stopped() {
    let server = Server::start().await;
    let steps: Vec<Value> = (0..25)
        .map(|n| json!({"op": "put", "name": format!("h{n:02}.example.com."), "type": "A", "value": ["192.0.2.1"]}))
        .collect();
    server.client.json("POST", "/api/v1/changes", &json!({"changes": steps})).await.expect(200);
    for (query, expected) in
        [("", 29), ("&zone=example.com.", 29), ("&type=A", 27), ("&zone=example.com.&type=SOA", 1)]
    {
        let mut names = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = server
                .client
                .get(&format!("/api/v1/records?limit=7{query}{cursor}"))
                .await
                .expect(200)
                .json();
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 7);
            names.extend(items.iter().map(|item| (item["name"].clone(), item["type"].clone())));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(names.len(), expected, "{query}");
        names.dedup();
        assert_eq!(names.len(), expected, "{query}: an item came twice");
    }
}

#[tokio::test]
async fn a_delegation_signer_belongs_to_the_parent() {
    let server = Server::start().await;
    server.client.json("POST", "/api/v1/domains", &json!({"name": "sub.example.com."})).await.expect(201);
    let ds = json!({"name": "sub.example.com.", "type": "DS", "value": ["12345 13 2 0123456789012345678901234567890123456789012345678901234567890123"]});
    let made = server.client.json("POST", "/api/v1/records?wait=applied", &ds).await.expect(201);
    assert_eq!(made.header("etag"), "\"2\"", "it is the parent that changed");
    server.client.get("/api/v1/records/sub.example.com.?type=DS").await.expect(200);
    let a = json!({"name": "a.sub.example.com.", "type": "A", "value": ["192.0.2.1"]});
    server.client.json("POST", "/api/v1/records?wait=applied", &a).await.expect(201);
    let domains = server.client.get("/api/v1/domains").await.json();
    let versions: Vec<&Value> =
        domains["items"].as_array().unwrap().iter().map(|one| &one["version"]).collect();
    assert_eq!(versions, [2, 2]);
    server.replica.assert_content();
}
