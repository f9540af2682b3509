//! Opaque tokens: made, narrowed, listed, ended.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server};
use crate::keys::{change, operator};
use crate::office::{Office, PASSWORD};

/// A client with a new token, and what the API says of it.
async fn token(maker: &Client, body: &Value) -> (Client, Value) {
    let mut body = body.clone();
    body["password"] = json!(PASSWORD);
    let added = maker.json("POST", "/api/v1/tokens", &body).await.expect(201).json();
    (Client { token: added["token"].as_str().unwrap().to_owned(), ..maker.clone() }, added)
}

async fn put(client: &Client, name: &str, rtype: &str, value: &str) -> Answer {
    let put = json!({ "changes": [{ "op": "put", "name": name, "type": rtype, "value": [value] }] });
    client.json("POST", "/api/v1/changes", &put).await
}

#[tokio::test]
async fn a_token_points_a_name_where_it_may_and_nowhere_else() {
    let office = Office::open().await;
    let olga = operator(&office).await;
    let narrowed = json!({ "names": ["home.example.com."], "types": ["A"], "values": ["198.51.100.0/24"] });
    let router = json!({ "name": "router", "scope": "records:write", "narrowed": narrowed });
    let (router, about) = token(&olga.client, &router).await;
    assert_eq!((&about["name"], &about["narrowed"]), (&json!("router"), &narrowed));
    put(&router, "home.example.com.", "A", "198.51.100.7").await.expect(200);
    for (name, rtype, value) in [
        ("home.example.com.", "A", "198.51.101.7"),
        ("home.example.com.", "TXT", "\"x\""),
        ("www.example.com.", "A", "198.51.100.7"),
    ] {
        assert_eq!(
            put(&router, name, rtype, value).await.expect(403).code(),
            "FORBIDDEN",
            "{name} {rtype} {value}"
        );
    }
    let add = json!({ "changes": [{ "op": "add_value", "name": "home.example.com.", "type": "A", "value": ["203.0.113.1"] }] });
    router.json("POST", "/api/v1/changes", &add).await.expect(403);
    assert_eq!(
        router.get("/api/v1/records/home.example.com.").await.expect(403).code(),
        "INSUFFICIENT_SCOPE"
    );
    router.delete("/api/v1/records/home.example.com.?type=A").await.expect(204);
    office.server.stop().await;
}

#[tokio::test]
async fn tokens_are_listed_revoked_and_end() {
    let office = Office::open().await;
    let olga = operator(&office).await;
    let admin = office.client();
    let read = json!({ "name": "reader", "scope": "domains:read" });
    let (reader, about) = token(&olga.client, &read).await;
    reader.get("/api/v1/domains").await.expect(200);
    // It is listed without its secret, and by nobody else.
    let listed = olga.client.get("/api/v1/tokens").await.expect(200);
    assert!(!listed.text.contains(&reader.token[3..]), "{}", listed.text);
    assert_eq!(listed.json()["items"][0]["id"], about["id"]);
    let of_nobody = admin.get("/api/v1/tokens").await.expect(200).json();
    assert_eq!(of_nobody["items"].as_array().unwrap().len(), 1, "that of the first start");
    let path = format!("/api/v1/tokens/{}", about["id"].as_str().unwrap());
    assert_eq!(admin.delete(&path).await.expect(404).code(), "TOKEN_NOT_FOUND");
    let anna = office.somebody("anna@example.org").await;
    assert_eq!(anna.client.delete(&path).await.expect(404).code(), "TOKEN_NOT_FOUND");
    // A token makes no other.
    let (all, _) = token(&olga.client, &json!({ "name": "all", "scope": "admin" })).await;
    all.get("/api/v1/nodes").await.expect(200);
    assert_eq!(all.json("POST", "/api/v1/tokens", &read).await.expect(403).code(), "FORBIDDEN");
    assert_eq!(all.get("/api/v1/tokens").await.expect(403).code(), "FORBIDDEN");
    let (narrow, _) =
        token(admin, &json!({ "name": "x", "scope": "admin", "narrowed": { "zones": ["example.com."] } }))
            .await;
    narrow.json("POST", "/api/v1/tokens", &read).await.expect(403);
    reader.json("POST", "/api/v1/tokens", &read).await.expect(403);
    let soon = json!({ "name": "x", "scope": "admin", "expires_at": "2099-01-01T00:00:00Z" });
    let (ends, _) = token(admin, &soon).await;
    assert_eq!(ends.json("POST", "/api/v1/tokens", &read).await.expect(403).code(), "FORBIDDEN");
    // Nor does a session that is borrowed.
    for password in [json!("wrong password"), Value::Null] {
        let body = json!({ "name": "x", "scope": "domains:read", "password": password });
        assert_eq!(olga.client.json("POST", "/api/v1/tokens", &body).await.expect(403).code(), "FORBIDDEN");
    }
    // What the account may not, its tokens may not.
    let (of_anna, _) = token(&anna.client, &json!({ "name": "x", "scope": "admin" })).await;
    assert_eq!(of_anna.get("/api/v1/nodes").await.expect(403).code(), "INSUFFICIENT_SCOPE");
    // Revoked.
    olga.client.delete(&path).await.expect(204);
    let since = Instant::now();
    while reader.get("/api/v1/domains").await.status != 401 {
        assert!(since.elapsed() < Duration::from_secs(1), "it is taken after a second");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(reader.get("/api/v1/domains").await.expect(401).code(), "TOKEN_REVOKED");
    assert_eq!(olga.client.delete(&path).await.expect(404).code(), "TOKEN_NOT_FOUND");
    // It ends.
    let soon = time::OffsetDateTime::now_utc() + Duration::from_secs(2);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    let (ending, _) =
        token(&olga.client, &json!({ "name": "x", "scope": "domains:read", "expires_at": soon })).await;
    ending.get("/api/v1/domains").await.expect(200);
    tokio::time::sleep(Duration::from_millis(2_600)).await;
    assert_eq!(ending.get("/api/v1/domains").await.expect(401).code(), "TOKEN_REVOKED");
    // A suspended account's.
    let spare = json!({ "email": "spare@example.org", "operator": true });
    admin.json("POST", "/api/v1/users", &spare).await.expect(201);
    let me = olga.client.get("/api/v1/users/me").await.expect(200).json();
    let of_olga = format!("/api/v1/users/{}", me["id"].as_str().unwrap());
    admin.json("PATCH", &of_olga, &json!({ "suspended": true })).await.expect(200);
    let since = Instant::now();
    while all.get("/api/v1/nodes").await.status != 403 {
        assert!(since.elapsed() < Duration::from_secs(1), "it is taken after a second");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for wrong in [
        json!({ "name": "x", "scope": "" }),
        json!({ "name": "x", "scope": "everything" }),
        json!({ "name": "x", "scope": "admin", "expires_at": "2020-01-01T00:00:00Z" }),
        json!({ "name": "x", "scope": "admin", "narrowed": { "types": ["NOPE"] } }),
        json!({ "name": "x", "scope": "admin", "narrowed": { "networks": ["x"] } }),
    ] {
        assert_eq!(admin.json("POST", "/api/v1/tokens", &wrong).await.status.as_u16(), 422, "{wrong}");
    }
    for malformed in
        [json!({ "name": "x", "scope": "admin", "narrowed": { "zone": [] } }), json!({ "name": "x" })]
    {
        admin.json("POST", "/api/v1/tokens", &malformed).await.expect(400);
    }
    office.server.stop().await;
}

/// When it was used is written down beside the requests, and at the end.
#[tokio::test]
async fn when_a_token_was_used_is_known() {
    let server = Server::start().await;
    let (reader, about) = token(&server.client, &json!({ "name": "reader", "scope": "domains:read" })).await;
    assert_eq!(about["used_at"], Value::Null);
    reader.get("/api/v1/domains").await.expect(200);
    let (folder, replica, token) = server.stop().await;
    let again = Server::start_in(folder, replica, Some(token), |_| {}).await;
    let listed = again.client.get("/api/v1/tokens").await.expect(200).json();
    let items = listed["items"].as_array().unwrap();
    let used = items.iter().find(|item| item["id"] == about["id"]).unwrap();
    assert!(used["used_at"].is_string(), "{used}");
    change(&again.client, "a.example.com.", "A").await.expect(200);
    again.stop().await;
}
