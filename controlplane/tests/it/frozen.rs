//! Zones of names whose proof is gone (threat model R10): they are served as before and changed by operators alone, until it is back or
//! they are released.

use std::time::{Duration, Instant};

use godwit_controlplane::store::Kind;
use serde_json::{Value, json};

use crate::claims::{Resolver, checked, claim, office, proof};
use crate::harness::{Answer, Client};
use crate::office::{Office, Person};
use crate::tenants::{id, with_tenant, zone};

const SOA: &str = "@ 300 IN SOA ns1.example.net. hostmaster.example.net. 1 7200 3600 1209600 60\n@ 300 IN NS ns1.example.net.\n";
const DAY_US: i64 = 86_400_000_000;

/// A name that somebody has proven.
async fn proven(client: &Client, resolvers: &[Resolver], apex: &str) -> Value {
    let made = claim(client, apex).await;
    is_there(resolvers, &made);
    let found = checked(client, &made).await;
    assert_eq!(found["state"], json!("verified"), "{found}");
    made
}

fn is_there(resolvers: &[Resolver], claim: &Value) {
    let (name, value) = proof(claim);
    resolvers.iter().for_each(|resolver| resolver.has(&name, &[&value]));
}

/// The proof of a claim has been gone for too long.
async fn lapse(office: &Office, client: &Client, resolvers: &[Resolver], claim: &Value) {
    let (name, _) = proof(claim);
    resolvers.iter().for_each(|resolver| resolver.has(&name, &["x"]));
    let mut beside = office.server.beside().await;
    let age = "UPDATE claims SET seen_at_us = seen_at_us - 15 * 86400000000 WHERE state = 'verified'";
    beside.query(age).execute().await.unwrap();
    drop(beside);
    assert_eq!(checked(client, claim).await["state"], json!("lapsed"));
}

async fn of(client: &Client, apex: &str) -> Value {
    client.get(&format!("/api/v1/domains/{apex}")).await.expect(200).json()
}

async fn put(client: &Client, name: &str) -> Answer {
    let put = json!({ "op": "put", "name": name, "type": "A", "value": ["192.0.2.1"] });
    client.json("POST", "/api/v1/changes", &json!({ "changes": [put] })).await
}

/// What the audit has of an action, the newest first.
async fn noted(office: &Office, action: &str) -> Vec<Value> {
    let page = office.client().get(&format!("/api/v1/audit?action={action}")).await.expect(200).json();
    page["items"].as_array().unwrap().clone()
}

/// Everything that changes a zone or makes one inside of it.
async fn changes(client: &Client, apex: &str, other: &str) -> Vec<(&'static str, Answer)> {
    let record = json!({ "name": format!("new.{apex}"), "type": "A", "value": ["192.0.2.9"] });
    let step = |name: String| json!({ "op": "put", "name": name, "type": "TXT", "value": ["\"x\""] });
    let both = json!({ "changes": [step(format!("new.{other}")), step(format!("new.{apex}"))] });
    let whole = json!({ "records": [{ "name": "@", "type": "TXT", "value": ["\"x\""] }] });
    let domain = format!("/api/v1/domains/{apex}");
    let www = format!("/api/v1/records/www.{apex}");
    vec![
        ("record.create", client.json("POST", "/api/v1/records", &record).await),
        ("record.put", client.json("PUT", &www, &json!({ "type": "A", "value": ["192.0.2.9"] })).await),
        ("record.delete", client.delete(&format!("{www}?type=A")).await),
        ("changes", client.json("POST", "/api/v1/changes", &both).await),
        ("domain.put", client.json("PUT", &domain, &whole).await),
        ("domain.patch", client.json("PATCH", &domain, &json!({ "ttl_policy": "keep" })).await),
        ("domain.import", client.import(apex, SOA).await),
        (
            "domain.rollback",
            client.json("POST", &format!("{domain}/rollback"), &json!({ "version": 1 })).await,
        ),
        ("domain.create", zone(client, &format!("inside.{apex}")).await),
    ]
}

fn refused(apex: &str, answers: Vec<(&'static str, Answer)>) {
    for (what, answer) in answers {
        let text = answer.text.clone();
        assert_eq!(answer.expect(403).code(), "OWNERSHIP_REQUIRED", "{what} {apex}: {text}");
        assert!(text.contains("frozen") && text.contains("/api/v1/claims"), "{what}: {text}");
    }
}

async fn within_a_second(status: u16, ask: impl AsyncFn() -> Answer) -> Answer {
    let since = Instant::now();
    loop {
        let answer = ask().await;
        if answer.status.as_u16() == status {
            return answer;
        }
        assert!(since.elapsed() < Duration::from_secs(5), "{} {}", answer.status, answer.text);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Whoever speaks to the database as tenants do changes no frozen zone either.
async fn the_database_refuses(office: &Office, person: &Person, apex: &str) {
    if crate::DATABASE == Kind::Sqlite {
        return;
    }
    let version = i64::try_from(of(&person.client, apex).await["version"].as_u64().unwrap()).unwrap();
    let mut connection = office.server.beside().await;
    connection.query("SET ROLE godwit_tenant").execute().await.unwrap();
    let acts_for = "SELECT set_config('godwit.account', $1, false)";
    connection.query(acts_for).bind(id(person).await).fetch_value::<String>().await.unwrap();
    for frozen in [true, false] {
        let touch =
            "UPDATE zones SET version = version WHERE version = $1 AND (frozen_at_us IS NOT NULL) = $2";
        let touched = connection.query(touch).bind(version).bind(frozen).execute().await;
        let why = touched.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(touched.is_err(), frozen, "{why}");
        assert!(!frozen || why.contains("row-level security"), "{why}");
    }
    let thaw = "UPDATE zones SET frozen_at_us = NULL WHERE frozen_at_us IS NOT NULL";
    let refused = connection.query(thaw).execute().await.unwrap_err().to_string();
    assert!(refused.contains("permission denied"), "{refused}");
}

#[tokio::test]
async fn r10_zones_of_a_name_whose_proof_is_gone_are_changed_by_operators_alone_until_it_is_back() {
    let (office, resolvers) = office().await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    let kept = proven(&anna.client, &resolvers, "kept.example.").await;
    for apex in ["kept.example.", "sub.kept.example.", "deep.sub.kept.example.", "gone.kept.example."] {
        zone(&anna.client, apex).await.expect(201);
        put(&anna.client, &format!("www.{apex}")).await.expect(200);
    }
    // By another proof of hers; below what the operator shares; somebody else's; and not below it at all.
    proven(&anna.client, &resolvers, "own.kept.example.").await;
    zone(&anna.client, "own.kept.example.").await.expect(201);
    zone(&anna.client, "below.own.kept.example.").await.expect(201);
    zone(office.client(), "dyn.kept.example.").await.expect(201);
    let shared = json!({ "per_tenant": 5 });
    office.client().json("PUT", "/api/v1/suffixes/dyn.kept.example.", &shared).await.expect(200);
    zone(&anna.client, "alice.dyn.kept.example.").await.expect(201);
    zone(&anna.client, "below.alice.dyn.kept.example.").await.expect(201);
    proven(&anna.client, &resolvers, "akept.example.").await;
    zone(&anna.client, "akept.example.").await.expect(201);
    let grant = format!("/api/v1/domains/kept.example./grants/{his}");
    anna.client.json("PUT", &grant, &json!({ "role": "admin" })).await.expect(200);
    within_a_second(201, async || zone(&bert.client, "bert.kept.example.").await).await;
    let frozen = ["kept.example.", "sub.kept.example.", "deep.sub.kept.example.", "gone.kept.example."];
    let free = [
        "own.kept.example.",
        "below.own.kept.example.",
        "alice.dyn.kept.example.",
        "below.alice.dyn.kept.example.",
        "akept.example.",
    ];
    let before = of(&anna.client, "kept.example.").await;
    assert_eq!(before.get("frozen_at"), None, "{before}");
    lapse(&office, &anna.client, &resolvers, &kept).await;
    for apex in frozen {
        assert!(of(&anna.client, apex).await["frozen_at"].as_str().unwrap().ends_with('Z'), "{apex}");
    }
    for apex in free {
        assert_eq!(of(&anna.client, apex).await.get("frozen_at"), None, "{apex}");
    }
    assert_eq!(of(&bert.client, "bert.kept.example.").await.get("frozen_at"), None);
    let letter = office.letter("anna@example.org", "Zones of yours are frozen").await;
    assert!(letter.contains("kept.example.") && letter.contains("In 30 days"), "{letter}");
    assert!(letter.contains("or below it: 4"), "{letter}");
    let notes = noted(&office, "domain.freeze").await;
    assert_eq!(notes.len(), 1);
    assert_eq!((&notes[0]["actor"], &notes[0]["object"]), (&json!("godwit"), &json!(frozen_in_order())));
    // By nobody of the tenant, nor by who was granted something.
    for apex in frozen {
        refused(apex, changes(&anna.client, apex, "own.kept.example.").await);
    }
    refused("kept.example.", changes(&bert.client, "kept.example.", "bert.kept.example.").await);
    the_database_refuses(&office, &anna, "kept.example.").await;
    // As it was, and served so.
    let after = of(&anna.client, "kept.example.").await;
    assert_eq!((&after["version"], &after["serial"]), (&before["version"], &before["serial"]));
    anna.client.get("/api/v1/records/www.kept.example.").await.expect(200);
    // What does not rest on it is hers as before, and so is what somebody else has inside.
    for apex in free {
        put(&anna.client, &format!("www.{apex}")).await.expect(200);
    }
    put(&bert.client, "www.bert.kept.example.").await.expect(200);
    zone(&anna.client, "more.own.kept.example.").await.expect(201);
    // Operators change it, and nobody keeps a zone against their will.
    put(office.client(), "operator.kept.example.").await.expect(200);
    assert!(of(&anna.client, "kept.example.").await.get("frozen_at").is_some());
    anna.client.delete_zone("gone.kept.example.").await;
    // Once it is back everything is as it was, at once.
    is_there(&resolvers, &kept);
    assert_eq!(checked(&anna.client, &kept).await["state"], json!("verified"));
    for apex in &frozen[..3] {
        assert_eq!(of(&anna.client, apex).await.get("frozen_at"), None, "{apex}");
        put(&anna.client, &format!("back.{apex}")).await.expect(200);
    }
    zone(&anna.client, "inside.kept.example.").await.expect(201);
    let notes = noted(&office, "domain.thaw").await;
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0]["object"], json!("kept.example. sub.kept.example. deep.sub.kept.example."));
    // Of two proofs of hers either is enough.
    lapse(&office, &anna.client, &resolvers, &claimed(&anna.client, "own.kept.example.").await).await;
    assert_eq!(of(&anna.client, "own.kept.example.").await.get("frozen_at"), None);
    lapse(&office, &anna.client, &resolvers, &kept).await;
    assert!(of(&anna.client, "own.kept.example.").await.get("frozen_at").is_some());
    office.server.stop().await;
}

/// As the audit has it: what is above before what is below.
fn frozen_in_order() -> &'static str {
    "kept.example. gone.kept.example. sub.kept.example. deep.sub.kept.example."
}

/// The claim that somebody has of a name.
async fn claimed(client: &Client, name: &str) -> Value {
    let all = client.get("/api/v1/claims").await.expect(200).json();
    let items = all["items"].as_array().unwrap();
    items.iter().find(|claim| claim["name"] == json!(name)).unwrap().clone()
}

/// Has what is frozen be so for longer, and the job look at it.
async fn later(office: &Office, days: i64) {
    let mut beside = office.server.beside().await;
    let age = "UPDATE zones SET frozen_at_us = frozen_at_us - $1 WHERE frozen_at_us IS NOT NULL";
    beside.query(age).bind(days * DAY_US + 1).execute().await.unwrap();
}

async fn until_gone(client: &Client, apex: &str) {
    let since = Instant::now();
    while client.get(&format!("/api/v1/domains/{apex}")).await.status != 404 {
        assert!(since.elapsed() < Duration::from_secs(30), "{apex} is still there");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

#[tokio::test]
async fn r10_what_was_frozen_for_too_long_is_released_and_kept_from_others() {
    let (office, resolvers) = office().await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    let kept = proven(&anna.client, &resolvers, "kept.example.").await;
    let other = proven(&anna.client, &resolvers, "other.example.").await;
    for apex in ["kept.example.", "sub.kept.example.", "other.example.", "fine.other.example."] {
        zone(&anna.client, apex).await.expect(201);
        put(&anna.client, &format!("www.{apex}")).await.expect(200);
    }
    lapse(&office, &anna.client, &resolvers, &kept).await;
    later(&office, 29).await;
    checked(&anna.client, &other).await;
    lapse(&office, &anna.client, &resolvers, &other).await;
    assert!(of(&anna.client, "kept.example.").await.get("frozen_at").is_some());
    later(&office, 1).await;
    // A look at whatever claim releases what is due, and nothing else.
    is_there(&resolvers, &other);
    checked(&anna.client, &other).await;
    for apex in ["kept.example.", "sub.kept.example."] {
        until_gone(&anna.client, apex).await;
    }
    for apex in ["other.example.", "fine.other.example."] {
        put(&anna.client, &format!("www.{apex}")).await.expect(200);
    }
    let letter = office.letter("anna@example.org", "Zones of yours were deleted").await;
    assert!(letter.contains("kept.example.\r\nsub.kept.example.\r\n"), "{letter}");
    // By a change like any other.
    let notes = noted(&office, "domain.release").await;
    let objects: Vec<&Value> = notes.iter().map(|note| &note["object"]).collect();
    assert_eq!(objects, [&json!("sub.kept.example."), &json!("kept.example.")]);
    for note in &notes {
        assert_eq!(note["actor"], json!("godwit"));
        let change = format!("/api/v1/changes/{}", note["change"].as_str().unwrap());
        office.client().get(&change).await.expect(200);
    }
    let versions = anna.client.get("/api/v1/domains/kept.example./versions?limit=1").await.expect(200).json();
    let last = &versions["items"][0];
    assert_eq!((&last["kind"], &last["action"]), (&json!("remove"), &json!("domain.release")), "{last}");
    // Whoever proves the name now has to wait, for what was inside of it, too.
    let his = proven(&bert.client, &resolvers, "kept.example.").await;
    for apex in ["kept.example.", "sub.kept.example."] {
        assert_eq!(zone(&bert.client, apex).await.expect(409).code(), "NAME_QUARANTINED", "{apex}");
    }
    bert.client.delete(&format!("/api/v1/claims/{}", his["id"].as_str().unwrap())).await.expect(204);
    // Whose it was has it back as it was.
    let back = json!({ "version": 2 });
    let rollback = "/api/v1/domains/kept.example./rollback";
    assert_eq!(
        anna.client.json("POST", rollback, &back).await.expect(403).code(),
        "OWNERSHIP_REQUIRED",
        "it is proven by nobody"
    );
    proven(&anna.client, &resolvers, "kept.example.").await;
    anna.client.json("POST", rollback, &back).await.expect(200);
    anna.client.get("/api/v1/records/www.kept.example.").await.expect(200);
    assert_eq!(of(&anna.client, "kept.example.").await.get("frozen_at"), None);
    office.server.stop().await;
}

#[tokio::test]
async fn r10_where_nothing_is_released_or_no_proof_is_asked_for_zones_stay() {
    let resolvers = [Resolver::start().await, Resolver::start().await];
    let addresses: Vec<String> = resolvers.iter().map(Resolver::address).collect();
    let office = Office::with_names(|names| {
        names.resolvers.clone_from(&addresses);
        names.frozen_days = 0;
    })
    .await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let kept = proven(&anna.client, &resolvers, "kept.example.").await;
    zone(&anna.client, "kept.example.").await.expect(201);
    lapse(&office, &anna.client, &resolvers, &kept).await;
    let letter = office.letter("anna@example.org", "Zones of yours are frozen").await;
    assert!(!letter.contains("days they are deleted"), "{letter}");
    later(&office, 10_000).await;
    let other = claim(&anna.client, "other.example.").await;
    for _ in 0..2 {
        checked(&anna.client, &other).await;
    }
    assert!(of(&anna.client, "kept.example.").await.get("frozen_at").is_some());
    office.server.stop().await;
    // Tenants that are trusted are asked for nothing.
    let office = Office::with_names(|names| {
        names.resolvers = addresses;
        names.require_proof = false;
    })
    .await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let kept = proven(&anna.client, &resolvers, "kept.example.").await;
    zone(&anna.client, "kept.example.").await.expect(201);
    zone(&anna.client, "unproven.example.").await.expect(201);
    let mut beside = office.server.beside().await;
    // From when that was otherwise.
    assert_eq!(
        beside.query("UPDATE zones SET frozen_at_us = 1 WHERE owner_number > 0").execute().await.unwrap(),
        2
    );
    drop(beside);
    lapse(&office, &anna.client, &resolvers, &kept).await;
    let since = Instant::now();
    for apex in ["kept.example.", "unproven.example."] {
        while of(&anna.client, apex).await.get("frozen_at").is_some() {
            assert!(since.elapsed() < Duration::from_secs(30), "{apex} is frozen");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        put(&anna.client, &format!("www.{apex}")).await.expect(200);
    }
    office.server.stop().await;
}
