//! Writes while the database server is away: accepted, kept, made in their order when it is back, or reported.

use std::time::Duration;

use godwit_controlplane::{Config, Controlplane, FirstStart};
use godwit_testkit::servers::Postgres;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, config, hold};
use crate::keys::key;
use crate::office::{PASSWORD, Person};
use crate::replica::{KEY, Replica};
use crate::server_faults::on_its_own;
use crate::tenant_networks::{ask, behind_a_proxy};

const WWW: &str = "/api/v1/records/www.example.com.";
/// Until what is expected has happened.
const LIMIT: Duration = Duration::from_secs(90);

pub(crate) fn with_buffer(config: &mut Config) {
    config.buffer.enabled = true;
}

fn address(octet: u32) -> Value {
    json!({"type": "A", "value": [format!("192.0.2.{octet}")]})
}

/// One that is accepted; gives its change.
#[track_caller]
pub(crate) fn accepted(answer: Answer) -> String {
    let answer = answer.expect(202);
    let body = answer.json();
    assert_eq!(body["state"], "buffered");
    assert_eq!(body["id"], answer.header("godwit-change"));
    assert_eq!((answer.header("etag"), answer.header("godwit-applied")), ("", ""));
    body["id"].as_str().unwrap().to_owned()
}

/// Waits until everything that was accepted is settled.
pub(crate) async fn until_drained(client: &Client) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let listed = client.get("/api/v1/changes?state=buffered").await;
        if listed.status == 200 && listed.json()["items"] == json!([]) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{}", listed.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn state(client: &Client, change: &str) -> Value {
    client.get(&format!("/api/v1/changes/{change}")).await.expect(200).json()
}

async fn version(client: &Client) -> u64 {
    client.get("/api/v1/domains/example.com.").await.expect(200).json()["version"].as_u64().unwrap()
}

/// Known to the database a moment ago: its token is remembered.
async fn away(postgres: &Postgres, server: &Server) {
    server.client.get("/api/v1/domains").await.expect(200);
    postgres.kill().unwrap();
    while postgres.psql("postgres", "SELECT 1").is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whoever signs their own tokens is let in by keys that are remembered; what they are narrowed to holds when it is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_writes_while_the_database_is_away_what_it_may() {
    let (postgres, server) = on_its_own(with_buffer).await;
    let client = &server.client;
    let added = json!({ "email": "olga@example.org", "operator": true });
    let added = client.json("POST", "/api/v1/users", &added).await.expect(201).json();
    let reset = json!({ "token": added["token"], "password": PASSWORD });
    client.json("POST", "/api/v1/auth/password/reset", &reset).await.expect(204);
    let login = json!({ "email": "olga@example.org", "password": PASSWORD });
    let tokens = client.json("POST", "/api/v1/auth/login", &login).await.expect(200).json();
    let text = |key: &str| tokens[key].as_str().unwrap().to_owned();
    let olga = Person {
        client: Client { token: text("access_token"), ..client.clone() },
        refresh: text("refresh_token"),
        session: text("session"),
    };
    let (some, gone) = (key(&olga, &json!({})).await, key(&olga, &json!({})).await);
    let narrowed = json!({ "names": ["www.example.com."] });
    for signer in [&some, &gone] {
        signer.client(client, "domains:read", &Value::Null).get("/api/v1/domains").await.expect(200);
    }
    let opaque = json!({ "name": "x", "scope": "admin", "password": PASSWORD });
    let opaque = olga.client.json("POST", "/api/v1/tokens", &opaque).await.expect(201).json();
    let token = Client { token: opaque["token"].as_str().unwrap().to_owned(), ..client.clone() };
    token.get("/api/v1/domains").await.expect(200);
    away(&postgres, &server).await;
    // JWTs that nobody has seen before.
    let www = some.client(client, "records:write", &narrowed);
    let may = accepted(www.json("PUT", WWW, &address(77)).await);
    let new = json!({ "changes": [{ "op": "put", "name": "other.example.com.", "type": "A", "value": ["192.0.2.1"] }] });
    let may_not = accepted(www.json("POST", "/api/v1/changes", &new).await);
    let removed = gone.client(client, "records:write", &Value::Null);
    let of_removed = accepted(removed.json("PUT", WWW, &address(78)).await);
    let of_revoked = accepted(token.json("PUT", WWW, &address(79)).await);
    // The second key is removed before anything is made: as by another control plane.
    let (folder, replica, admin) = server.stop().await;
    postgres.again().unwrap();
    postgres.psql("test0", &format!("DELETE FROM keys WHERE id = '{}'", gone.kid())).unwrap();
    let revoke =
        format!("UPDATE tokens SET revoked_at_us = 1 WHERE id = '{}'", opaque["id"].as_str().unwrap());
    postgres.psql("test0", &revoke).unwrap();
    let server = Server::start_in(folder, replica, Some(admin), with_buffer).await;
    let client = &server.client;
    until_drained(client).await;
    let made = state(client, &may).await;
    assert!(made["committed_at"].is_string(), "{made}");
    // It is told as of who sent it, and from where that was.
    let told = client.get(&format!("/api/v1/audit?change={may}")).await.expect(200).json();
    let came_with = format!("key {}", some.kid());
    assert_eq!(told["items"][0]["came_with"], json!(came_with), "{told}");
    assert_eq!(
        (&told["items"][0]["client"], &told["items"][0]["action"]),
        (&json!("127.0.0.1"), &json!("record.put"))
    );
    let told = client.get("/api/v1/audit?outcome=refused&action=request").await.expect(200).json();
    let refused = told["items"].as_array().unwrap().iter().filter(|row| row["came_with"] == json!(came_with));
    let refused: Vec<&Value> = refused.map(|row| &row["code"]).collect();
    assert_eq!(refused, ["FORBIDDEN"], "{told}");
    assert_eq!(state(client, &may_not).await["conflict"]["code"], "FORBIDDEN");
    client.get("/api/v1/records/other.example.com.").await.expect(404);
    for refused in [of_removed, of_revoked] {
        assert_eq!(state(client, &refused).await["conflict"]["code"], "TOKEN_REVOKED");
    }
    server.stop().await;
}

/// What somebody asks for while it is not known what their tenant lets in is made as of where they asked from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_from_where_a_tenant_lets_nobody_in_is_not_made() {
    let adjust = |config: &mut Config| {
        with_buffer(config);
        behind_a_proxy(config);
    };
    let (postgres, server) = on_its_own(adjust).await;
    let client = &server.client;
    let added = json!({ "email": "anna@example.org" });
    let added = client.json("POST", "/api/v1/users", &added).await.expect(201).json();
    let reset = json!({ "token": added["token"], "password": PASSWORD });
    client.json("POST", "/api/v1/auth/password/reset", &reset).await.expect(204);
    let login = json!({ "email": "anna@example.org", "password": PASSWORD });
    let tokens = client.json("POST", "/api/v1/auth/login", &login).await.expect(200).json();
    let anna = Client { token: tokens["access_token"].as_str().unwrap().to_owned(), ..client.clone() };
    let tenants = anna.get("/api/v1/tenants").await.expect(200).json();
    let tenant = &tenants["items"][0]["number"];
    let zone = json!({ "name": "anna.test.", "ns": ["ns1.example.net."] });
    client.json("POST", &format!("/api/v1/domains?tenant={tenant}"), &zone).await.expect(201);
    let networks = json!({ "networks": { "allow": ["192.0.2.0/24"] } });
    client.json("PATCH", &format!("/api/v1/tenants/{tenant}"), &networks).await.expect(200);
    // It is heard of within a second, and whoever was remembered of the tenant is forgotten then: not after the next look.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    ask(&anna, "192.0.2.1", "GET", "/api/v1/domains/anna.test.", &Value::Null).await.expect(200);
    away(&postgres, &server).await;
    let put = |name: &str| json!({ "changes": [{ "op": "put", "name": name, "type": "A", "value": ["192.0.2.1"] }] });
    // The first may find out that the database is away, and is told to come again.
    let taken = async |from: &str, name: &str| loop {
        let answer = ask(&anna, from, "POST", "/api/v1/changes", &put(name)).await;
        if answer.status != 503 {
            return accepted(answer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let outside = taken("198.51.100.1", "a.anna.test.").await;
    let inside = taken("192.0.2.1", "b.anna.test.").await;
    postgres.again().unwrap();
    until_drained(client).await;
    let conflict = &state(client, &outside).await["conflict"];
    assert_eq!(conflict["code"], "FORBIDDEN", "{conflict}");
    assert!(state(client, &inside).await["committed_at"].is_string());
    client.get("/api/v1/records/a.anna.test.").await.expect(404);
    client.get("/api/v1/records/b.anna.test.").await.expect(200);
    server.stop().await;
}

/// The whole of it: what is accepted and what is not, what can be asked meanwhile, and that all is made, once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_what_is_accepted_while_the_database_is_away_is_made_once_and_in_order() {
    let (postgres, server) = on_its_own(with_buffer).await;
    let client = &server.client;
    let before = version(client).await;
    away(&postgres, &server).await;
    let mut changes = Vec::new();
    for octet in 2..=12 {
        // A wait is not for what is not made.
        let path = format!("{WWW}?wait=applied&timeout=20s");
        changes.push(accepted(client.json("PUT", &path, &address(octet)).await));
    }
    client.json("POST", "/api/v1/domains", &json!({"name": "example.org."})).await.expect(202);
    accepted(
        client
            .json(
                "POST",
                "/api/v1/records",
                &json!({"name": "new.example.org.", "type": "A", "value": ["192.0.2.1"]}),
            )
            .await,
    );
    let text = "@ SOA ns hostmaster 1 2h 1h 2w 1m\n NS ns\nns A 192.0.2.53\n";
    accepted(
        client
            .send("POST", "/api/v1/domains/example.net./import", &[("content-type", "text/dns")], text.into())
            .await,
    );
    // What needs no database is judged at once.
    let wrong = client.json("PUT", WWW, &json!({"type": "A", "value": ["x"]})).await.expect(422);
    assert_eq!(wrong.code(), "INVALID_VALUE");
    client.json("PUT", WWW, &json!({"type": "A"})).await.expect(400);
    // What is given out is not accepted, and nothing is judged against what is not there.
    client.json("POST", "/api/v1/nodes", &json!({"name": "ns1"})).await.expect(503);
    client.json("PUT", &format!("{WWW}?dry_run=true"), &address(99)).await.expect(503);
    client.get("/api/v1/domains").await.expect(503);
    assert_eq!(client.get("/ready").await.expect(503).json()["status"], "unavailable");
    assert_eq!(client.get("/ready?buffer=true").await.expect(200).json()["status"], "buffering");
    // Where they stand.
    for (place, change) in changes.iter().enumerate() {
        let state = state(client, change).await;
        assert_eq!((&state["state"], &state["behind"]), (&json!("buffered"), &json!(place)));
        assert!(state["accepted_at"].is_string() && state["committed_at"].is_null(), "{state}");
    }
    let listed = client.get("/api/v1/changes?state=buffered&limit=10").await.expect(200).json();
    let next = listed["next"].as_str().unwrap();
    let rest = client
        .get(&format!("/api/v1/changes?state=buffered&limit=10&cursor={next}"))
        .await
        .expect(200)
        .json();
    assert_eq!((listed["items"].as_array().unwrap().len(), rest["items"].as_array().unwrap().len()), (10, 4));
    assert_eq!(listed["items"][0]["request"], format!("PUT {WWW}?wait=applied&timeout=20s"));
    let metrics = server.metrics();
    assert!(metrics.contains("godwit_controlplane_buffer_depth 14\n"), "{metrics}");
    postgres.again().unwrap();
    until_drained(client).await;
    client.get("/ready?buffer=true").await.expect(200);
    assert_eq!(version(client).await, before + 11);
    assert_eq!(client.get(WWW).await.expect(200).json()["items"][0]["value"], json!(["192.0.2.12"]));
    client.get("/api/v1/records/new.example.org.").await.expect(200);
    client.get("/api/v1/domains/example.net.").await.expect(200);
    for change in &changes {
        let state = state(client, change).await;
        assert!(state["committed_at"].is_string() && state["accepted_at"].is_null(), "{state}");
    }
    let answer = client.json("PUT", &format!("{WWW}?wait=applied&timeout=20s"), &address(13)).await;
    assert_eq!(answer.expect(200).header("godwit-applied"), "1/1");
    let metrics = server.metrics();
    for line in [
        "buffer_depth 0",
        "buffer_octets 0",
        "buffer_accepted_total 14",
        "buffer_made_total 14",
        "buffer_conflicts_total 0",
    ] {
        assert!(metrics.contains(&format!("godwit_controlplane_{line}\n")), "{line}\n{metrics}");
    }
    server.replica.assert_content();
}

/// What cannot be made when the database is back is said on the change and in the list, also after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_conflict_is_reported() {
    let (postgres, server) = on_its_own(with_buffer).await;
    let client = &server.client;
    let first = version(client).await;
    away(&postgres, &server).await;
    let tag = format!("\"{first}\"");
    let made = accepted(client.json_with("PUT", WWW, &[("if-match", &tag)], &address(2)).await);
    let stale = accepted(client.json_with("PUT", WWW, &[("if-match", &tag)], &address(3)).await);
    let none = accepted(client.json_with("PUT", WWW, &[("if-match", "\"\u{e9}\"")], &address(4)).await);
    let exists = json!({"name": "www.example.com.", "type": "A", "value": ["192.0.2.5"]});
    let exists = accepted(client.json("POST", "/api/v1/records", &exists).await);
    let steps = json!({"changes": [{"op": "put", "name": "a.example.com.", "type": "A", "value": ["192.0.2.6"]},
        {"op": "delete", "name": "nowhere.example.com.", "type": "A"}]});
    let half = accepted(client.json("POST", "/api/v1/changes", &steps).await);
    postgres.again().unwrap();
    until_drained(client).await;
    assert_eq!(version(client).await, first + 1);
    assert_eq!(client.get(WWW).await.expect(200).json()["items"][0]["value"], json!(["192.0.2.2"]));
    client.get("/api/v1/records/a.example.com.").await.expect(404);
    let expected = [
        (&stale, "VERSION_CONFLICT"),
        (&none, "VERSION_CONFLICT"),
        (&exists, "RECORD_EXISTS"),
        (&half, "RECORD_NOT_FOUND"),
    ];
    let metrics = server.metrics();
    assert!(metrics.contains("godwit_controlplane_buffer_conflicts_total 4\n"), "{metrics}");
    assert!(metrics.contains("godwit_controlplane_buffer_made_total 1\n"), "{metrics}");
    let (folder, replica, token) = server.stop().await;
    let server = Server::start_in(folder, replica, Some(token), with_buffer).await;
    let client = &server.client;
    assert_ne!(state(client, &made).await["state"], "conflict");
    for (change, code) in expected {
        let state = state(client, change).await;
        assert_eq!(
            (&state["state"], &state["conflict"]["code"]),
            (&json!("conflict"), &json!(code)),
            "{state}"
        );
        assert!(state["conflict"]["error"].as_str().unwrap().len() > 10 && state["accepted_at"].is_string());
    }
    let listed = client.get("/api/v1/changes?state=conflict").await.expect(200).json();
    let ids: Vec<&str> =
        listed["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(ids, expected.map(|(change, _)| change.as_str()));
}

/// A request that is sent again under its key is the same change, before and after it is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_names_one_change_while_the_database_is_away_too() {
    let (postgres, server) = on_its_own(with_buffer).await;
    let client = &server.client;
    let (early, late) = ([("idempotency-key", "early")], [("idempotency-key", "late")]);
    let first = client.json_with("PUT", WWW, &early, &address(2)).await.expect(200);
    away(&postgres, &server).await;
    let change = accepted(client.json_with("PUT", WWW, &late, &address(3)).await);
    let again = client.json_with("PUT", WWW, &late, &address(3)).await;
    assert_eq!(again.header("godwit-replayed"), "true");
    assert_eq!(accepted(again), change);
    let other = client.json_with("PUT", WWW, &late, &address(4)).await.expect(422);
    assert_eq!(other.code(), "IDEMPOTENCY_MISMATCH");
    // Whether this was answered before is not known now.
    let repeated = accepted(client.json_with("PUT", WWW, &early, &address(2)).await);
    postgres.again().unwrap();
    until_drained(client).await;
    let again = client.json_with("PUT", WWW, &late, &address(3)).await.expect(200);
    assert_eq!((again.header("godwit-replayed"), again.header("godwit-change")), ("true", change.as_str()));
    let state = state(client, &repeated).await;
    assert_eq!((&state["id"], &state["repeats"]), (&json!(repeated), &json!(first.header("godwit-change"))));
    assert_eq!(version(client).await, 3);
}

/// An answer that the database does give is not taken for its absence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_answers_is_not_accepted_instead() {
    let (_postgres, server) = on_its_own(with_buffer).await;
    let mut other = server.beside().await;
    hold(&mut other).await;
    let answer = server.client.json("PUT", WWW, &address(2)).await.expect(503);
    assert_eq!(answer.code(), "DB_UNAVAILABLE");
    other.control(&["ROLLBACK"]).await.unwrap();
    server.client.json("PUT", WWW, &address(2)).await.expect(200);
    assert!(server.metrics().contains("godwit_controlplane_buffer_accepted_total 0\n"));
}

/// A server that is stopped in the middle of everything says nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_database_that_is_silent_is_away() {
    let (postgres, server) = on_its_own(with_buffer).await;
    let client = &server.client;
    let before = version(client).await;
    postgres.pause().unwrap();
    let mut changes = Vec::new();
    for octet in 2..5 {
        changes.push(accepted(client.json("PUT", WWW, &address(octet)).await));
    }
    postgres.go_on().unwrap();
    until_drained(client).await;
    // One of them may have been on its way into the database when it fell silent.
    assert_eq!(version(client).await, before + 3);
    for change in &changes {
        assert!(state(client, change).await["committed_at"].is_string());
    }
    assert_eq!(client.get(WWW).await.expect(200).json()["items"][0]["value"], json!(["192.0.2.4"]));
}

/// Killed after changes were settled and before they left the buffer: they are not made again, and not judged again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_change_that_comes_back_in_the_buffer_is_made_once() {
    let (postgres, server) = on_its_own(with_buffer).await;
    let before = version(&server.client).await;
    away(&postgres, &server).await;
    let (new, gone) = ("/api/v1/records/new.example.com.", "/api/v1/records/gone.example.com.?type=A");
    let record = |name: &str| json!({"name": name, "type": "A", "value": ["192.0.2.1"]});
    let made = accepted(server.client.json("POST", "/api/v1/records", &record("new.example.com.")).await);
    let refused = accepted(server.client.delete(gone).await);
    let (folder, _, token) = server.stop().await;
    let file = folder.path().join("buffer.redb");
    let kept = std::fs::read(&file).unwrap();
    postgres.again().unwrap();
    for round in 0..3 {
        std::fs::write(&file, &kept).unwrap();
        let server =
            Server::start_in(folder.clone(), Replica::default(), Some(token.clone()), with_buffer).await;
        let client = &server.client;
        until_drained(client).await;
        assert!(state(client, &made).await["committed_at"].is_string());
        assert_eq!(state(client, &refused).await["state"], "conflict");
        client.get(new).await.expect(200);
        if round == 0 {
            // From here on it could be made.
            client.json("POST", "/api/v1/records", &record("gone.example.com.")).await.expect(201);
        }
        client.get(gone).await.expect(200);
        assert_eq!(version(client).await, before + 2);
        server.stop().await;
    }
}

/// While what was accepted is being made, nothing overtakes it, whoever waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_nothing_overtakes_what_was_accepted() {
    let (postgres, server) = on_its_own(with_buffer).await;
    let client = &server.client;
    let before = version(client).await;
    away(&postgres, &server).await;
    accepted(client.json("PUT", WWW, &address(2)).await);
    let (folder, _, token) = server.stop().await;
    postgres.again().unwrap();
    let mut other = crate::harness::beside(folder.path()).await;
    hold(&mut other).await;
    let server = Server::start_in(folder, Replica::default(), Some(token), with_buffer).await;
    let client = &server.client;
    // It waits for its turn, and then goes the same way.
    let second = accepted(client.json("PUT", WWW, &address(3)).await);
    assert_eq!(state(client, &second).await["behind"], 1);
    other.control(&["ROLLBACK"]).await.unwrap();
    until_drained(client).await;
    assert_eq!(client.get(WWW).await.expect(200).json()["items"][0]["value"], json!(["192.0.2.3"]));
    assert_eq!(version(client).await, before + 2);
    let direct = client.json("PUT", WWW, &address(4)).await;
    assert_eq!(direct.expect(200).header("etag"), format!("\"{}\"", before + 3));
}

/// The buffer has bounds, and says so at them; what it holds stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_buffer_takes_nothing_more() {
    let (postgres, server) = on_its_own(|config| {
        with_buffer(config);
        config.buffer.max_changes = 3;
        config.buffer.max_octets = 4_000;
    })
    .await;
    let client = &server.client;
    away(&postgres, &server).await;
    accepted(client.json("PUT", WWW, &address(2)).await);
    let large = json!({"name": "t.example.com.", "type": "TXT", "value": (0..16).map(|n| format!("{n:0250}")).collect::<Vec<_>>()});
    let full = client.json("POST", "/api/v1/records", &large).await.expect(503);
    assert_eq!((full.code().as_str(), full.header("retry-after")), ("BUFFER_FULL", "1"));
    accepted(client.json("PUT", WWW, &address(3)).await);
    accepted(client.json("PUT", WWW, &address(4)).await);
    let full = client.json("PUT", WWW, &address(5)).await.expect(503);
    assert_eq!(full.code(), "BUFFER_FULL");
    assert_eq!(server.limited("buffer"), 2);
    client.get("/ready?buffer=true").await.expect(503);
    postgres.again().unwrap();
    until_drained(client).await;
    assert_eq!(client.get(WWW).await.expect(200).json()["items"][0]["value"], json!(["192.0.2.4"]));
}

/// Who asks is taken from memory for a while, and looked up again before anything is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_looked_up_before_what_it_asked_for_is_made() {
    let (postgres, server) = on_its_own(|config| {
        with_buffer(config);
        config.buffer.token_seconds = 20;
    })
    .await;
    let client = server.client.clone();
    let before = version(&client).await;
    away(&postgres, &server).await;
    let change = accepted(client.json("PUT", WWW, &address(2)).await);
    let unknown = Client { token: format!("gw_{}", "A".repeat(43)), ..client.clone() };
    unknown.json("PUT", WWW, &address(3)).await.expect(503);
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let answer = client.json("PUT", WWW, &address(2)).await;
        if answer.status == 503 {
            assert_eq!(answer.code(), "DB_UNAVAILABLE");
            break;
        }
        accepted(answer);
        assert!(tokio::time::Instant::now() < deadline, "the token is taken for ever");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (folder, replica, _) = server.stop().await;
    postgres.again().unwrap();
    postgres.psql("test0", "UPDATE tokens SET revoked_at_us = 1").unwrap();
    let token = Controlplane::create_token(&config(folder.path()).store, "admin").await.unwrap();
    let server = Server::start_in(folder, replica, Some(token.reveal()), with_buffer).await;
    until_drained(&server.client).await;
    assert_eq!(version(&server.client).await, before);
    let state = state(&server.client, &change).await;
    assert_eq!(state["conflict"]["code"], "TOKEN_REVOKED", "{state}");
}

/// A buffer that lost something is not taken for one that is empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_damaged_buffer_is_not_passed_over() {
    let (postgres, server) = on_its_own(with_buffer).await;
    away(&postgres, &server).await;
    accepted(server.client.json("PUT", WWW, &address(2)).await);
    let (folder, _, _) = server.stop().await;
    postgres.again().unwrap();
    let mut config = config(folder.path());
    with_buffer(&mut config);
    let file = folder.path().join("buffer.redb");
    let kept = std::fs::read(&file).unwrap();
    let at = kept.windows(9).position(|part| part == b"192.0.2.2").expect("the request stands in it");
    let mut damaged = kept.clone();
    damaged[at] ^= 1;
    for damaged in [damaged, b"not a buffer".repeat(1_000), vec![0; kept.len()]] {
        std::fs::write(&file, &damaged).unwrap();
        let refused = Controlplane::open(config.clone(), FirstStart::Never, Some(KEY)).await.unwrap_err();
        let refused = format!("{refused:#}");
        assert!(refused.contains("buffer.redb is damaged") && refused.contains("move it away"), "{refused}");
    }
    std::fs::write(&file, &kept).unwrap();
    let controlplane = Controlplane::open(config.clone(), FirstStart::Never, Some(KEY)).await.unwrap();
    let second = Controlplane::open(config, FirstStart::Never, Some(KEY)).await.unwrap_err();
    assert!(format!("{second:#}").contains("in use by another process"), "{second:#}");
    drop(controlplane);
}
