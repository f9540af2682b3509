//! From where who acts for a tenant is let in: whatever they come with, and nobody else by it.

use std::time::Duration;

use godwit_controlplane::Config;
use godwit_controlplane::config::Networks;
use serde_json::{Value, json};

use crate::events::{Listening, put as put_text, settled};
use crate::harness::{Answer, Client};
use crate::keys::key;
use crate::office::{Office, PASSWORD};
use crate::tenants::{id, join, with_tenant, zone};

/// An address that Anna's tenant lets in, and addresses that it does not.
const INSIDE: &str = "192.0.2.1";
const OUTSIDE: &str = "198.51.100.1";
const DENIED: &str = "192.0.2.66";

/// Whoever connects is a proxy that is believed whom it speaks for.
pub(crate) fn behind_a_proxy(config: &mut Config) {
    config.api.trusted_proxies = Networks::try_from(vec!["127.0.0.1".to_owned()]).unwrap();
}

/// A request from an address.
pub(crate) async fn ask(client: &Client, from: &str, method: &str, path: &str, body: &Value) -> Answer {
    let mut headers = vec![("x-forwarded-for", from)];
    if !body.is_null() {
        headers.push(("content-type", "application/json"));
    }
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    client.send(method, path, &headers, body).await
}

async fn get(client: &Client, from: &str, path: &str) -> Answer {
    ask(client, from, "GET", path, &Value::Null).await
}

/// Anna's tenant takes requests from documentation networks but one address of them.
fn some_networks() -> Value {
    json!({ "networks": { "allow": ["192.0.2.0/24", "2001:db8::/32"], "deny": [DENIED, "::ffff:192.0.2.67"] } })
}

/// Refused, with words that say which tenant does not let in which address.
#[track_caller]
fn refused(answer: Answer, tenant: u64, from: &str) {
    let answer = answer.expect(403);
    assert_eq!(answer.code(), "FORBIDDEN");
    let message = format!("tenant {tenant} does not let in requests from {from}");
    assert!(answer.text.contains(&message), "{}", answer.text);
}

fn names(answer: &Answer) -> Vec<String> {
    let items = answer.json();
    items["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// Everything that is refused, and is not from inside.
#[rustfmt::skip]
fn about_zones() -> Vec<(&'static str, &'static str, Value)> {
    let none = || Value::Null;
    let record = json!({ "name": "new.anna.test.", "type": "A", "value": ["192.0.2.1"] });
    let step = json!({ "changes": [{ "op": "put", "name": "x.anna.test.", "type": "A", "value": ["192.0.2.1"] }] });
    let steps = json!({ "changes": [
        { "op": "put", "name": "x.other.test.", "type": "A", "value": ["192.0.2.1"] },
        { "op": "put", "name": "x.anna.test.", "type": "A", "value": ["192.0.2.1"] },
    ] });
    vec![
        ("GET", "/api/v1/domains/anna.test.", none()),
        ("GET", "/api/v1/domains/anna.test.?at=1", none()),
        ("GET", "/api/v1/domains/anna.test./export", none()),
        ("GET", "/api/v1/domains/anna.test./export?at=1", none()),
        ("GET", "/api/v1/domains/anna.test./versions", none()),
        ("GET", "/api/v1/records?zone=anna.test.", none()),
        ("GET", "/api/v1/records?zone=anna.test.&at=1", none()),
        ("GET", "/api/v1/records/www.anna.test.", none()),
        ("GET", "/api/v1/records/www.anna.test.?type=A&zone=anna.test.&at=2", none()),
        ("GET", "/api/v1/dns-records/www.anna.test.", none()),
        // What is gone was theirs.
        ("GET", "/api/v1/domains/gone.test./versions", none()),
        ("POST", "/api/v1/records", record.clone()),
        ("PUT", "/api/v1/records/new.anna.test.?type=A", record.clone()),
        ("PUT", "/api/v1/records/new.anna.test.?type=A&dry_run=true", record),
        ("DELETE", "/api/v1/records/new.anna.test.?all=true", none()),
        ("POST", "/api/v1/changes", step),
        ("POST", "/api/v1/changes", steps),
        ("PATCH", "/api/v1/domains/anna.test.", json!({ "ttl_policy": "keep" })),
        ("PUT", "/api/v1/domains/anna.test.?dry_run=true", json!({ "records": [] })),
        ("POST", "/api/v1/domains/anna.test./rollback?dry_run=true", json!({ "version": 1 })),
        ("DELETE", "/api/v1/domains/anna.test.?dry_run=true", none()),
        ("POST", "/api/v1/domains?tenant=TENANT", json!({ "name": "more.test.", "ns": ["ns1.example.net."] })),
    ]
}

#[tokio::test]
async fn who_acts_for_a_tenant_is_let_in_from_its_networks_alone_whatever_they_come_with() {
    let office = Office::open_with(behind_a_proxy).await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let other = json!({ "name": "Other" });
    let other = anna.client.json("POST", "/api/v1/tenants", &other).await.expect(201).json();
    let other = other["number"].as_u64().unwrap();
    for (apex, tenant) in [("anna.test.", hers), ("gone.test.", hers), ("other.test.", other)] {
        let path = format!("/api/v1/domains?tenant={tenant}");
        let body = json!({ "name": apex, "ns": ["ns1.example.net."] });
        anna.client.json("POST", &path, &body).await.expect(201);
    }
    anna.client.delete_zone("gone.test.").await;
    let www = json!({ "name": "www.anna.test.", "type": "A", "value": ["192.0.2.1"] });
    anna.client.json("POST", "/api/v1/records", &www).await.expect(201);
    let scopes = "records:read records:write domains:read domains:write";
    let token = json!({ "name": "x", "scope": scopes, "password": PASSWORD });
    let token = anna.client.json("POST", "/api/v1/tokens", &token).await.expect(201).json();
    let token = Client { token: token["token"].as_str().unwrap().to_owned(), ..anna.client.clone() };
    let signed = key(&anna, &json!({})).await.client(&anna.client, scopes, &Value::Null);
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    // Everybody is remembered as they were.
    for client in [&anna.client, &token, &signed, &bert.client] {
        get(client, OUTSIDE, "/api/v1/domains").await.expect(200);
    }
    let tenant = format!("/api/v1/tenants/{hers}");
    let set = ask(&anna.client, INSIDE, "PATCH", &tenant, &some_networks()).await.expect(200).json();
    let shown =
        json!({ "allow": ["192.0.2.0/24", "2001:db8::/32"], "deny": ["192.0.2.66/32", "192.0.2.67/32"] });
    assert_eq!(set["networks"], shown);
    let mut count = 0;
    for from in [OUTSIDE, DENIED, "192.0.2.67", "2001:db9::1"] {
        for client in [&anna.client, &token, &signed] {
            for (method, path, body) in about_zones() {
                let path = path.replace("TENANT", &hers.to_string());
                refused(ask(client, from, method, &path, &body).await, hers, from);
                count += 1;
            }
            assert_eq!(names(&get(client, from, "/api/v1/domains").await.expect(200)), ["other.test."]);
            get(client, from, "/api/v1/domains/other.test.").await.expect(200);
        }
        for path in [tenant.clone(), format!("{tenant}/members")] {
            refused(get(&anna.client, from, &path).await, hers, from);
        }
        let renamed = json!({ "name": "x" });
        refused(ask(&anna.client, from, "PATCH", &tenant, &renamed).await, hers, from);
        refused(ask(&anna.client, from, "DELETE", &tenant, &Value::Null).await, hers, from);
        count += 4;
        let listed = get(&anna.client, from, "/api/v1/tenants").await.expect(200).json();
        let numbers: Vec<&Value> = listed["items"].as_array().unwrap().iter().map(|t| &t["number"]).collect();
        assert_eq!(numbers, [&json!(other)]);
        // Strangers learn nothing of it.
        let foreign = get(&bert.client, from, "/api/v1/domains/anna.test.").await.expect(404);
        assert_eq!(foreign.code(), "DOMAIN_NOT_FOUND");
        get(&bert.client, from, &tenant).await.expect(404);
        // Nor does it hold for operators.
        get(office.client(), from, "/api/v1/domains/anna.test.").await.expect(200);
        get(office.client(), from, &tenant).await.expect(200);
    }
    assert_eq!((office.server.limited("tenant_networks"), office.server.limited("networks")), (count, 0));
    for from in [INSIDE, "::ffff:192.0.2.1", "2001:db8::1"] {
        for client in [&anna.client, &token, &signed] {
            for (method, path, _) in about_zones() {
                if method == "GET" {
                    get(client, from, path).await.expect(200);
                }
            }
            assert_eq!(
                names(&get(client, from, "/api/v1/domains").await.expect(200)),
                ["anna.test.", "other.test."]
            );
            let put = json!({ "type": "A", "value": ["192.0.2.7"] });
            ask(client, from, "PUT", "/api/v1/records/www.anna.test.", &put).await.expect(200);
        }
        assert_eq!(get(&anna.client, from, &tenant).await.expect(200).json()["networks"], shown);
        get(&bert.client, from, "/api/v1/domains/anna.test.").await.expect(404);
    }
    // Any again.
    let none = json!({ "networks": { "allow": [], "deny": [] } });
    ask(&anna.client, INSIDE, "PATCH", &tenant, &none).await.expect(200);
    get(&token, OUTSIDE, "/api/v1/domains/anna.test.").await.expect(200);
    office.server.stop().await;
}

/// Of a zone that is granted both let in: who owns it, and who it is granted to.
#[tokio::test]
async fn what_is_granted_is_used_from_where_both_tenants_let_in() {
    let office = Office::open_with(behind_a_proxy).await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    zone(&anna.client, "anna.test.").await.expect(201);
    zone(&bert.client, "bert.test.").await.expect(201);
    let grant = json!({ "role": "admin" });
    let grants = format!("/api/v1/domains/anna.test./grants/{his}");
    anna.client.json("PUT", &grants, &grant).await.expect(200);
    get(&bert.client, OUTSIDE, "/api/v1/domains/anna.test.").await.expect(200);
    let of_anna = format!("/api/v1/tenants/{hers}");
    ask(&anna.client, INSIDE, "PATCH", &of_anna, &some_networks()).await.expect(200);
    let write = json!({ "name": "www.anna.test.", "type": "A", "value": ["192.0.2.7"] });
    for (method, path, body) in [
        ("GET", "/api/v1/domains/anna.test.", &Value::Null),
        ("GET", "/api/v1/records?zone=anna.test.", &Value::Null),
        ("POST", "/api/v1/records", &write),
    ] {
        refused(ask(&bert.client, OUTSIDE, method, path, body).await, hers, OUTSIDE);
        let answer = ask(&bert.client, INSIDE, method, path, body).await;
        assert!(answer.status.is_success(), "{method} {path}: {}", answer.text);
    }
    assert_eq!(names(&get(&bert.client, OUTSIDE, "/api/v1/domains").await), ["bert.test."]);
    assert_eq!(names(&get(&bert.client, INSIDE, "/api/v1/domains").await), ["anna.test.", "bert.test."]);
    // What is of both from here is of his from nowhere else.
    let body = json!({ "networks": { "allow": ["2001:db8::/32", "203.0.113.0/24"] } });
    let of_bert = format!("/api/v1/tenants/{his}");
    ask(&bert.client, "203.0.113.1", "PATCH", &of_bert, &body).await.expect(200);
    for (from, keeps_out) in [(INSIDE, his), ("203.0.113.1", hers)] {
        refused(get(&bert.client, from, "/api/v1/domains/anna.test.").await, keeps_out, from);
    }
    get(&bert.client, "2001:db8::1", "/api/v1/domains/anna.test.").await.expect(200);
    // A member of the owner is one from where that lets in, whatever else they are.
    join_from(&anna.client, hers, &bert.client, &id(&bert).await).await;
    get(&bert.client, INSIDE, "/api/v1/domains/anna.test.").await.expect(200);
    office.server.stop().await;
}

/// Anna asks from inside, and who is asked says yes from there.
async fn join_from(asking: &Client, tenant: u64, who: &Client, id: &str) {
    let path = format!("/api/v1/tenants/{tenant}/members/{id}");
    ask(asking, INSIDE, "PUT", &path, &json!({ "role": "viewer" })).await.expect(200);
    let asked = get(who, OUTSIDE, "/api/v1/tenants").await.expect(200).json();
    let asked = asked["items"].as_array().unwrap().iter().find(|of| of["number"] == json!(tenant)).unwrap();
    assert_eq!((&asked["accepted"], asked.get("networks")), (&json!(false), None), "{asked}");
    let accept = format!("/api/v1/tenants/{tenant}/accept");
    refused(ask(who, OUTSIDE, "POST", &accept, &Value::Null).await, tenant, OUTSIDE);
    ask(who, INSIDE, "POST", &accept, &Value::Null).await.expect(200);
}

#[tokio::test]
async fn admins_set_the_networks_and_shut_nobody_out_by_mistake() {
    let office = Office::open_with(behind_a_proxy).await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let editor = office.somebody("edna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    join(&anna.client, hers, &editor, "editor").await;
    let tenant = format!("/api/v1/tenants/{hers}");
    // Her own address would be outside.
    for networks in [json!({ "allow": ["192.0.2.0/24"] }), json!({ "deny": ["198.51.100.0/24"] })] {
        let body = json!({ "networks": networks, "name": "Renamed" });
        let answer = ask(&anna.client, OUTSIDE, "PATCH", &tenant, &body).await.expect(409);
        assert_eq!(answer.code(), "CONFLICT");
        assert!(answer.text.contains(OUTSIDE), "{}", answer.text);
    }
    let is = get(&anna.client, OUTSIDE, &tenant).await.expect(200).json();
    assert_eq!((&is["networks"], &is["name"]), (&json!({ "allow": [], "deny": [] }), &json!("Anna")));
    ask(&editor.client, INSIDE, "PATCH", &tenant, &some_networks()).await.expect(403);
    ask(&bert.client, INSIDE, "PATCH", &tenant, &some_networks()).await.expect(404);
    let many: Vec<String> = (0..101).map(|n| format!("10.0.0.{n}")).collect();
    for (networks, status) in [
        (json!({ "allow": ["192.0.2.0/33"] }), 422),
        (json!({ "deny": ["example.com"] }), 422),
        (json!({ "deny": ["::ffff:192.0.2.1/24"] }), 422),
        (json!({ "deny": many }), 422),
        (json!({ "alow": [] }), 400),
    ] {
        let body = json!({ "networks": networks });
        ask(&anna.client, INSIDE, "PATCH", &tenant, &body).await.expect(status);
    }
    // One list stays when the other is changed.
    ask(&anna.client, INSIDE, "PATCH", &tenant, &json!({ "networks": { "allow": ["192.0.2.0/24"] } }))
        .await
        .expect(200);
    let is = ask(&anna.client, INSIDE, "PATCH", &tenant, &json!({ "networks": { "deny": [DENIED] } })).await;
    let both = json!({ "allow": ["192.0.2.0/24"], "deny": ["192.0.2.66/32"] });
    assert_eq!(is.expect(200).json()["networks"], both);
    let told = office.client().get("/api/v1/audit?action=tenant.networks").await.expect(200).json();
    let told = told["items"].as_array().unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((&told[0]["object"], &told[0]["after"]), (&json!(hers.to_string()), &both));
    assert_eq!(told[0]["before"], json!({ "allow": ["192.0.2.0/24"], "deny": [] }));
    assert_eq!(told[1]["client"], json!(INSIDE));
    // An operator may, from anywhere; and helps who is shut out.
    let elsewhere = json!({ "networks": { "allow": ["203.0.113.0/24"] } });
    ask(office.client(), OUTSIDE, "PATCH", &tenant, &elsewhere).await.expect(200);
    refused(get(&anna.client, INSIDE, &tenant).await, hers, INSIDE);
    // Whoever is outside may leave all the same.
    let own = format!("{tenant}/members/{}", id(&editor).await);
    ask(&editor.client, OUTSIDE, "DELETE", &own, &Value::Null).await.expect(204);
    ask(office.client(), OUTSIDE, "PATCH", &tenant, &json!({ "networks": { "allow": [] } }))
        .await
        .expect(200);
    get(&anna.client, INSIDE, &tenant).await.expect(200);
    office.server.stop().await;
}

/// Who listens hears of the tenant from inside alone, and no more once the networks are others.
#[tokio::test]
async fn who_listens_from_outside_is_told_nothing_of_the_tenant() {
    let office = Office::open_with(behind_a_proxy).await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let other = json!({ "name": "Other" });
    let other = anna.client.json("POST", "/api/v1/tenants", &other).await.expect(201).json();
    for (apex, tenant) in [("anna.test.", json!(hers)), ("other.test.", other["number"].clone())] {
        let body = json!({ "name": apex, "ns": ["ns1.example.net."] });
        anna.client.json("POST", &format!("/api/v1/domains?tenant={tenant}"), &body).await.expect(201);
    }
    settled(office.client()).await;
    let listening = async |from| {
        Listening::to(&anna.client, "/api/v1/events?topics=record", &[("x-forwarded-for", from)]).await
    };
    let told = async |listening: &mut Listening| loop {
        let (_, _, data) = listening.next().await.expect("the end");
        if data["type"] == "TXT" {
            return data["name"].as_str().unwrap().to_owned();
        }
    };
    let tenant = format!("/api/v1/tenants/{hers}");
    let mut before = listening(OUTSIDE).await;
    put_text(office.client(), "one.anna.test.", "x").await;
    assert_eq!(told(&mut before).await, "one.anna.test.");
    ask(&anna.client, INSIDE, "PATCH", &tenant, &some_networks()).await.expect(200);
    let (mut inside, mut outside) = (listening(INSIDE).await, listening(OUTSIDE).await);
    // That is how long it may take to be heard of.
    tokio::time::sleep(Duration::from_secs(1)).await;
    put_text(office.client(), "two.anna.test.", "x").await;
    put_text(office.client(), "three.other.test.", "x").await;
    for listening in [&mut before, &mut outside] {
        assert_eq!(told(listening).await, "three.other.test.");
    }
    assert_eq!(told(&mut inside).await, "two.anna.test.");
    office.server.stop().await;
}
