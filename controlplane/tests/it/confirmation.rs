//! Large and destructive changes have to be confirmed (R18).

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::harness::{Answer, Server, folder};
use crate::replica::Replica;

const ZONE: &str = "/api/v1/domains/example.org.";

/// A zone with so many names below its apex, all with this address.
fn text(names: usize, address: &str) -> String {
    let mut text = "@ 60 IN SOA ns1 h 1 1 1 1 1\n@ 60 NS ns1\n".to_owned();
    for name in 0..names {
        writeln!(text, "n{name} 60 A {address}").unwrap();
    }
    text
}

/// Changes the first so many names of it.
fn steps(names: usize, address: &str) -> Value {
    let step = |name| json!({"op": "put", "name": format!("n{name}"), "type": "A", "value": [address]});
    json!({"changes": (0..names).map(step).collect::<Vec<_>>()})
}

/// Refused, with how much it would cost.
#[track_caller]
fn refused(answer: Answer, sentence: &str) {
    let answer = answer.expect(409);
    assert_eq!(answer.code(), "CONFIRMATION_REQUIRED", "{}", answer.text);
    let said = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(said.contains(sentence), "{said}");
}

async fn version(server: &Server) -> Value {
    server.client.get(ZONE).await.expect(200).json()["version"].clone()
}

#[tokio::test]
async fn r18_a_zone_with_records_is_deleted_when_that_is_confirmed() {
    let server = Server::start().await;
    let client = &server.client;
    client.import("example.org.", &text(3, "192.0.2.1")).await.expect(201);
    refused(client.delete(ZONE).await, "delete the zone example.org. with its 4 names");
    refused(client.delete(&format!("{ZONE}?confirm=3")).await, "confirm=3 does not confirm");
    assert_eq!(version(&server).await, 1, "refused and made");
    let dry = client.delete(&format!("{ZONE}?dry_run=true")).await.expect(200);
    assert_eq!(dry.header("godwit-confirm"), "4");
    for wrong in ["yes", "example.org.", "-1", ""] {
        let answer = client.delete(&format!("{ZONE}?confirm={wrong}")).await.expect(400);
        assert_eq!(answer.code(), "MALFORMED_REQUEST", "{wrong}");
    }
    // What was right a moment ago is not when the zone is another.
    let one_more = json!({"name": "more.example.org.", "type": "A", "value": ["192.0.2.9"]});
    client.json("POST", "/api/v1/records", &one_more).await.expect(201);
    refused(client.delete(&format!("{ZONE}?confirm=4")).await, "its 5 names");
    client.delete(&format!("{ZONE}?wait=applied&confirm=5")).await.expect(204);
    client.get(ZONE).await.expect(404);
    server.replica.assert_content();
}

/// Who says `?type=A` to what deletes a zone means something else.
#[tokio::test]
async fn r18_a_parameter_that_would_choose_nothing_is_refused() {
    let server = Server::start().await;
    let client = &server.client;
    client.json("POST", "/api/v1/domains", &json!({"name": "p.example"})).await.expect(201);
    for (method, path, body) in [
        ("DELETE", "/api/v1/domains/p.example.?type=A", None),
        ("DELETE", "/api/v1/domains/p.example.?zone=other.example.", None),
        ("DELETE", "/api/v1/domains/p.example.?all=true", None),
        ("DELETE", "/api/v1/domains/p.example.?tenant=2", None),
        ("POST", "/api/v1/domains?type=A", Some(json!({"name": "q.example"}))),
        (
            "PUT",
            "/api/v1/records/www.example.com.?all=true",
            Some(json!({"type": "A", "value": ["192.0.2.1"]})),
        ),
        ("POST", "/api/v1/changes?type=A", Some(json!({"changes": []}))),
    ] {
        let answer = match body {
            Some(body) => client.json(method, path, &body).await,
            None => client.delete(path).await,
        };
        assert!(answer.expect(400).text.contains("means nothing here"), "{method} {path}");
    }
    client.get("/api/v1/domains/p.example.").await.expect(200);
}

#[tokio::test]
async fn r18_a_fresh_zone_needs_no_confirmation() {
    let server = Server::start().await;
    let client = &server.client;
    client.json("POST", "/api/v1/domains", &json!({"name": "example.org."})).await.expect(201);
    // As for an ACME challenge: one name comes and goes.
    let name = "_acme-challenge.example.org.";
    let challenge = json!({"name": name, "type": "TXT", "value": ["\"x\""]});
    client.json("POST", "/api/v1/records", &challenge).await.expect(201);
    client.delete(&format!("/api/v1/records/{name}?type=TXT")).await.expect(204);
    let dry = client.delete(&format!("{ZONE}?dry_run=true")).await.expect(200);
    assert_eq!(dry.header("godwit-confirm"), "");
    client.delete(ZONE).await.expect(204);
}

#[tokio::test]
async fn r18_a_zone_is_emptied_when_that_is_confirmed() {
    let server = Server::start().await;
    let client = &server.client;
    client.import("example.org.", &text(3, "192.0.2.1")).await.expect(201);
    let nothing = json!({"records": []});
    let all = (0..3).map(|name| json!({"op": "delete", "name": format!("n{name}"), "type": "A"}));
    let all = json!({"changes": all.collect::<Vec<_>>()});
    let changes = "/api/v1/changes?zone=example.org.";
    let sentence = "empty the zone example.org. of its 3 names";
    refused(client.json("PUT", ZONE, &nothing).await, sentence);
    refused(client.import("example.org.", &text(0, "")).await, sentence);
    refused(client.json("POST", changes, &all).await, sentence);
    let dry = client.json("PUT", &format!("{ZONE}?dry_run=true"), &nothing).await.expect(200);
    assert_eq!(dry.header("godwit-confirm"), "3");
    assert_eq!(version(&server).await, 1, "refused and made");
    // Two of three go unasked.
    let two = json!({"changes": all["changes"].as_array().unwrap()[..2]});
    client.json("POST", changes, &two).await.expect(200);
    client.import("example.org.", &text(3, "192.0.2.1")).await.expect(200);
    client.json("POST", &format!("{changes}&wait=applied&confirm=3"), &all).await.expect(200);
    server.replica.assert_content();
}

#[tokio::test]
async fn r18_much_of_a_large_zone_changes_when_that_is_confirmed() {
    let server = Server::start().await;
    let client = &server.client;
    // New names take nothing from anybody.
    client.import("example.org.", &text(6_000, "192.0.2.1")).await.expect(201);
    let changes = "/api/v1/changes?zone=example.org.";
    // A fifth, and more than a thousand: 1,200 of 6,001 are fewer than 20 percent.
    client.json("POST", changes, &steps(1_200, "192.0.2.2")).await.expect(200);
    let sentence = "change or take away 1201 of the 6001 names of the zone example.org.";
    refused(client.json("POST", changes, &steps(1_201, "192.0.2.3")).await, sentence);
    let sentence = "change or take away 4800 of the 6001 names";
    refused(client.import("example.org.", &text(1_500, "192.0.2.2")).await, sentence);
    let confirmed = format!("{changes}&wait=applied&confirm=1201");
    client.json("POST", &confirmed, &steps(1_201, "192.0.2.3")).await.expect(200);
    // More than half of a small zone.
    client.import("example.net.", &text(1_000, "192.0.2.1")).await.expect(201);
    client.import("example.net.", &text(1_000, "192.0.2.2")).await.expect(200);
    server.replica.assert_content();
}

#[tokio::test]
async fn r18_the_limits_are_those_of_the_configuration() {
    let server = Server::start_in(folder(), Replica::default(), None, |config| {
        config.guard.changed_names = 2;
        config.guard.changed_percent = 50;
        config.guard.emptied_names = 5;
    })
    .await;
    let client = &server.client;
    client.import("example.org.", &text(4, "192.0.2.1")).await.expect(201);
    refused(client.import("example.org.", &text(4, "192.0.2.2")).await, "4 of the 5 names");
    let changes = "/api/v1/changes?zone=example.org.";
    client.json("POST", changes, &steps(2, "192.0.2.2")).await.expect(200);
    refused(client.import("example.org.", &text(1, "192.0.2.2")).await, "3 of the 5 names");
}
