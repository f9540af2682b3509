//! Names that tenants prove to be theirs (threat model R10): by a record that two resolvers have seen, and that stays.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::{TcpListener, UdpSocket};

use crate::harness::Client;
use crate::office::{Office, Person};
use crate::responder::{asked, serve};
use crate::tenants::{with_tenant, zone};

/// How a resolver answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    Plain,
    /// Cut by UDP.
    Cut,
    /// With SERVFAIL.
    Broken,
    /// Not at all.
    Silent,
    /// Another one's answer comes first, which says that all is well.
    Forged,
}

/// A resolver that knows some TXT records.
#[derive(Clone)]
pub(crate) struct Resolver {
    address: SocketAddr,
    /// By name, small, with its final dot.
    texts: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    manner: Arc<Mutex<Manner>>,
}

impl Resolver {
    pub(crate) async fn start() -> Resolver {
        // One port for both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let resolver = Resolver {
            address: udp.local_addr().unwrap(),
            texts: Arc::default(),
            manner: Arc::new(Mutex::new(Manner::Plain)),
        };
        let answering = resolver.clone();
        serve(udp, tcp, move |question, is_udp| answering.answers(question, is_udp));
        resolver
    }

    fn answers(&self, question: &[u8], is_udp: bool) -> Vec<Vec<u8>> {
        let (name, end) = asked(question);
        let texts = self.texts.lock().unwrap().get(&name).cloned();
        let manner = *self.manner.lock().unwrap();
        let answer = |texts: &[String], rcode: u8| {
            let mut answer = question[..end + 4].to_vec();
            answer[2] = 0x81;
            answer[3] = 0x80 | rcode;
            answer[7] = u8::try_from(texts.len()).unwrap();
            for text in texts {
                answer.extend_from_slice(&[0xC0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
                answer.extend_from_slice(&u16::try_from(text.len() + 1).unwrap().to_be_bytes());
                answer.push(u8::try_from(text.len()).unwrap());
                answer.extend_from_slice(text.as_bytes());
            }
            answer
        };
        let plain = match &texts {
            Some(texts) => answer(texts, 0),
            None => answer(&[], 3),
        };
        match manner {
            Manner::Plain => vec![plain],
            Manner::Cut if is_udp => {
                let mut cut = answer(&[], 0);
                cut[2] |= 2;
                vec![cut]
            }
            Manner::Cut => vec![plain],
            Manner::Broken => vec![answer(&[], 2)],
            Manner::Silent => Vec::new(),
            Manner::Forged => {
                let mut forged = plain;
                forged[1] = !forged[1];
                vec![forged, answer(&[], 3)]
            }
        }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn has(&self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        self.texts.lock().unwrap().insert(name.to_owned(), texts);
    }

    fn answers_so(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

/// A server that asks two resolvers of the test.
pub(crate) async fn office() -> (Office, [Resolver; 2]) {
    let resolvers = [Resolver::start().await, Resolver::start().await];
    let addresses = resolvers.iter().map(|resolver| resolver.address.to_string()).collect();
    (Office::with_names(|names| names.resolvers = addresses).await, resolvers)
}

pub(crate) async fn claim(client: &Client, name: &str) -> Value {
    client.json("POST", "/api/v1/claims", &json!({ "name": name })).await.expect(201).json()
}

pub(crate) fn path(claim: &Value) -> String {
    format!("/api/v1/claims/{}", claim["id"].as_str().unwrap())
}

pub(crate) fn proof(claim: &Value) -> (String, String) {
    let text = |field: &str| claim["txt"][field].as_str().unwrap().to_owned();
    (text("name"), text("value"))
}

/// The claim once it was looked for again.
pub(crate) async fn checked(client: &Client, claim: &Value) -> Value {
    let before = client.get(&path(claim)).await.expect(200).json();
    client.send("POST", &format!("{}/check", path(claim)), &[], Vec::new()).await.expect(202);
    looked_at(client, claim, &before["checked_at"]).await
}

/// The same without asking for it.
pub(crate) async fn looked_at(client: &Client, claim: &Value, before: &Value) -> Value {
    let since = Instant::now();
    loop {
        let now = client.get(&path(claim)).await.expect(200).json();
        if now["checked_at"] != *before || now["state"] == json!("failed") {
            return now;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "it is not looked for: {now}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn refused(person: &Person, apex: &str) {
    let answer = zone(&person.client, apex).await.expect(403);
    assert_eq!(answer.code(), "OWNERSHIP_REQUIRED", "{}", answer.text);
    assert!(answer.text.contains("POST /api/v1/claims"), "{}", answer.text);
}

#[tokio::test]
async fn r10_a_name_is_ones_own_once_two_resolvers_have_seen_the_proof() {
    let (office, [one, other]) = office().await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    refused(&anna, "custom.example.").await;
    let made = claim(&anna.client, "custom.example.").await;
    assert_eq!(
        (&made["state"], &made["tenant"], &made["name"]),
        (&json!("pending"), &json!(hers), &json!("custom.example."))
    );
    let (name, value) = proof(&made);
    assert_eq!(name, "_godwit-challenge.custom.example.");
    let token = value.strip_prefix("godwit=").unwrap();
    assert!(token.len() == 32 && token.bytes().all(|octet| octet.is_ascii_hexdigit()), "{value}");
    refused(&anna, "custom.example.").await;
    let again = anna.client.json("POST", "/api/v1/claims", &json!({ "name": "CUSTOM.example" })).await;
    assert_eq!(again.expect(409).code(), "CONFLICT");
    // Nothing is there.
    let found = checked(&anna.client, &made).await;
    assert_eq!(found["state"], json!("pending"));
    assert!(found["found"].as_str().unwrap().contains("0 of 2"), "{found}");
    // Not what it has to be; somebody else's; below another name; at one resolver alone.
    let (_, his) = proof(&claim(&bert.client, "custom.example.").await);
    assert_ne!(his, value);
    let (_, of_another) = proof(&claim(&anna.client, "other.example.").await);
    let shorter = &value[..value.len() - 1];
    let longer = format!("{value}0");
    let upper = value.to_uppercase();
    for wrong in [shorter, &longer, &upper, &his, &of_another, "", "godwit="] {
        one.has(&name, &[wrong]);
        other.has(&name, &[wrong]);
        let found = checked(&anna.client, &made).await;
        assert_eq!(found["state"], json!("pending"), "{wrong}");
    }
    one.has("custom.example.", &[&value]);
    other.has("custom.example.", &[&value]);
    one.has(&name, &["v=spf1 -all", &value]);
    let found = checked(&anna.client, &made).await;
    assert_eq!(found["state"], json!("pending"));
    assert!(found["found"].as_str().unwrap().contains("1 of 2"), "{found}");
    refused(&anna, "custom.example.").await;
    for manner in [Manner::Broken, Manner::Silent, Manner::Forged] {
        other.has(&name, &[&value]);
        other.answers_so(manner);
        assert_eq!(checked(&anna.client, &made).await["state"], json!("pending"), "{manner:?}");
    }
    other.answers_so(Manner::Cut);
    let found = checked(&anna.client, &made).await;
    assert_eq!(found["state"], json!("verified"), "{found}");
    assert!(found["found"].as_str().unwrap().contains("2 of 2"), "{found}");
    // At and below it, and nowhere else; and for nobody else.
    for taken in ["deep.below.custom.example.", "custom.example.", "www.custom.example."] {
        zone(&anna.client, taken).await.expect(201);
    }
    refused(&anna, "other.example.").await;
    refused(&anna, "acustom.example.").await;
    refused(&bert, "more.example.").await;
    zone(&bert.client, "free.custom.example.").await.expect(403);
    // It stands by its claim.
    assert_eq!(anna.client.delete(&path(&made)).await.expect(409).code(), "CONFLICT");
    for apex in ["deep.below.custom.example.", "custom.example.", "www.custom.example."] {
        anna.client.delete_zone(apex).await;
    }
    anna.client.delete(&path(&made)).await.expect(204);
    refused(&anna, "custom.example.").await;
    // Another claim is proven by another record.
    let anew = claim(&anna.client, "custom.example.").await;
    assert_ne!(proof(&anew).1, value);
    one.has(&name, &[&value]);
    other.answers_so(Manner::Plain);
    assert_eq!(checked(&anna.client, &anew).await["state"], json!("pending"));
    office.server.stop().await;
}

#[tokio::test]
async fn r10_of_several_that_prove_a_name_the_first_wins() {
    let (office, resolvers) = office().await;
    let mut claims = Vec::new();
    for email in ["anna@example.org", "bert@example.org", "carl@example.org", "dora@example.org"] {
        let (person, _) = with_tenant(&office, email).await;
        let made = claim(&person.client, "wanted.example.").await;
        claims.push((person, made));
    }
    let values: Vec<String> = claims.iter().map(|(_, claim)| proof(claim).1).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for resolver in &resolvers {
        resolver.has("_godwit-challenge.wanted.example.", &values);
    }
    let mut checking = tokio::task::JoinSet::new();
    for (person, made) in &claims {
        let (client, made) = (person.client.clone(), made.clone());
        checking.spawn(async move {
            let asked = client.send("POST", &format!("{}/check", path(&made)), &[], Vec::new()).await;
            // Who has lost by then is told so.
            assert!([202, 409].contains(&asked.status.as_u16()), "{}", asked.text);
            looked_at(&client, &made, &Value::Null).await
        });
    }
    checking.join_all().await;
    let mut states = Vec::new();
    for (person, made) in &claims {
        let found = person.client.get(&path(made)).await.expect(200).json();
        let state = found["state"].as_str().unwrap().to_owned();
        let answer = zone(&person.client, "wanted.example.").await;
        let expected = if state == "verified" { 201 } else { 403 };
        // Who won may have made it before.
        assert!([expected, 409].contains(&answer.status.as_u16()), "{state}: {}", answer.text);
        assert!(state == "verified" || answer.status.as_u16() != 201, "{state}");
        states.push(state);
    }
    states.sort();
    assert_eq!(states, ["failed", "failed", "failed", "verified"]);
    // Who comes later has lost before.
    let (emil, _) = with_tenant(&office, "emil@example.org").await;
    let late = claim(&emil.client, "wanted.example.").await;
    for resolver in &resolvers {
        resolver.has("_godwit-challenge.wanted.example.", &[&proof(&late).1]);
    }
    assert_eq!(checked(&emil.client, &late).await["state"], json!("failed"));
    let ended = emil.client.send("POST", &format!("{}/check", path(&late)), &[], Vec::new()).await;
    assert_eq!(ended.expect(409).code(), "CONFLICT");
    // Below it somebody else's proof counts more than that of above.
    let below = claim(&emil.client, "below.wanted.example.").await;
    for resolver in &resolvers {
        resolver.has("_godwit-challenge.below.wanted.example.", &[&proof(&below).1]);
    }
    assert_eq!(checked(&emil.client, &below).await["state"], json!("verified"));
    office.server.stop().await;
}

/// What one control plane ends while another is asked for it is not looked for again and again.
#[tokio::test]
async fn a_claim_that_has_ended_is_looked_for_no_more() {
    let (office, _resolvers) = office().await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let ended = claim(&anna.client, "ended.example.").await;
    let other = claim(&anna.client, "other.example.").await;
    let mut beside = office.server.beside().await;
    let end = "UPDATE claims SET state = 'expired', found = 'ended', check_at_us = 1 WHERE id = (SELECT id FROM claims ORDER BY id LIMIT 1)";
    assert_eq!(beside.query(end).execute().await.unwrap(), 1);
    checked(&anna.client, &other).await;
    let since = Instant::now();
    loop {
        let waiting: i64 = beside
            .query("SELECT count(*) FROM claims WHERE state = 'expired' AND check_at_us IS NOT NULL")
            .fetch_value()
            .await
            .unwrap();
        if waiting == 0 {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "it is looked for again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = anna.client.get(&path(&ended)).await.expect(200).json();
    assert_eq!((&found["state"], &found["found"]), (&json!("expired"), &json!("ended")));
    drop(beside);
    office.server.stop().await;
}

/// Where no proof is asked for, what somebody has proven is theirs all the same.
#[tokio::test]
async fn r10_what_is_proven_is_nobody_elses_without_proof() {
    let resolvers = [Resolver::start().await, Resolver::start().await];
    let addresses = resolvers.iter().map(|resolver| resolver.address.to_string()).collect();
    let office = Office::with_names(|names| {
        names.resolvers = addresses;
        names.require_proof = false;
    })
    .await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    let proven = claim(&anna.client, "proven.example.").await;
    let (name, value) = proof(&proven);
    resolvers.iter().for_each(|resolver| resolver.has(&name, &[&value]));
    assert_eq!(checked(&anna.client, &proven).await["state"], json!("verified"));
    refused(&bert, "proven.example.").await;
    refused(&bert, "below.proven.example.").await;
    zone(&bert.client, "nobodys.example.").await.expect(201);
    zone(&anna.client, "below.proven.example.").await.expect(201);
    office.server.stop().await;
}

#[tokio::test]
async fn r10_a_proof_comes_in_time_and_stays() {
    let (office, resolvers) = office().await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let kept = claim(&anna.client, "kept.example.").await;
    let late = claim(&anna.client, "late.example.").await;
    for claim in [&late, &kept] {
        let (name, value) = proof(claim);
        resolvers.iter().for_each(|resolver| resolver.has(&name, &[&value]));
    }
    let mut beside = office.server.beside().await;
    let age =
        "UPDATE claims SET expires_at_us = 1 WHERE id = (SELECT id FROM claims ORDER BY id DESC LIMIT 1)";
    assert_eq!(beside.query(age).execute().await.unwrap(), 1);
    assert_eq!(checked(&anna.client, &late).await["state"], json!("expired"));
    refused(&anna, "late.example.").await;
    let found = checked(&anna.client, &kept).await;
    assert_eq!(found["state"], json!("verified"));
    zone(&anna.client, "kept.example.").await.expect(201);
    // Gone for a moment is nothing; and what nobody can say is no proof of the opposite.
    let (name, value) = proof(&kept);
    resolvers.iter().for_each(|resolver| resolver.has(&name, &["x"]));
    assert_eq!(checked(&anna.client, &kept).await["state"], json!("verified"));
    let grace = "UPDATE claims SET seen_at_us = seen_at_us - 14 * 86400000000 - 1 WHERE state = 'verified'";
    assert_eq!(beside.query(grace).execute().await.unwrap(), 1);
    resolvers[1].answers_so(Manner::Broken);
    assert_eq!(checked(&anna.client, &kept).await["state"], json!("verified"));
    zone(&anna.client, "more.kept.example.").await.expect(201);
    resolvers[1].answers_so(Manner::Plain);
    let found = checked(&anna.client, &kept).await;
    assert_eq!(found["state"], json!("lapsed"), "{found}");
    anna.client.delete_zone("more.kept.example.").await;
    anna.client.delete_zone("kept.example.").await;
    refused(&anna, "kept.example.").await;
    let back = json!({ "version": 1 });
    let back = anna.client.json("POST", "/api/v1/domains/kept.example./rollback", &back).await;
    assert_eq!(back.expect(403).code(), "OWNERSHIP_REQUIRED");
    resolvers.iter().for_each(|resolver| resolver.has(&name, &[&value]));
    assert_eq!(checked(&anna.client, &kept).await["state"], json!("verified"));
    zone(&anna.client, "kept.example.").await.expect(201);
    // By the clock, too: a job stands for that.
    let jobs = office.client().get("/api/v1/jobs?kind=claims.check&state=waiting").await.expect(200).json();
    let regular: Vec<&Value> =
        jobs["items"].as_array().unwrap().iter().filter(|job| job["schedule"] != Value::Null).collect();
    assert_eq!(regular.len(), 1, "{jobs}");
    let now = anna.client.get(&path(&kept)).await.expect(200).json();
    assert_ne!(now["check_at"], Value::Null, "{now}");
    resolvers.iter().for_each(|resolver| resolver.has(&name, &["x"]));
    beside
        .query("UPDATE claims SET seen_at_us = 1, check_at_us = 1 WHERE state = 'verified'")
        .execute()
        .await
        .unwrap();
    beside
        .query("UPDATE jobs SET run_at_us = 1 WHERE kind = 'claims.check' AND schedule IS NOT NULL AND state = 'waiting'")
        .execute()
        .await
        .unwrap();
    let found = looked_at(&anna.client, &kept, &now["checked_at"]).await;
    assert_eq!(found["state"], json!("lapsed"), "{found}");
    drop(beside);
    office.server.stop().await;
}

#[tokio::test]
async fn claims_are_seen_by_their_tenants_and_made_by_admins() {
    let (office, _) = office().await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    let made = claim(&anna.client, "bücher.example").await;
    assert_eq!(made["name"], json!("xn--bcher-kva.example."));
    crate::tenants::join(&anna.client, hers, &bert, "viewer").await;
    let since = Instant::now();
    while bert.client.get("/api/v1/claims").await.expect(200).json()["items"].as_array().unwrap().is_empty() {
        assert!(since.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    bert.client.get(&path(&made)).await.expect(200);
    bert.client.delete(&path(&made)).await.expect(403);
    bert.client.send("POST", &format!("{}/check", path(&made)), &[], Vec::new()).await.expect(403);
    let body = json!({ "name": "more.example.", "tenant": hers });
    assert_eq!(bert.client.json("POST", "/api/v1/claims", &body).await.expect(403).code(), "FORBIDDEN");
    let other = claim(&bert.client, "bert.example.").await;
    assert_eq!(other["tenant"], json!(his));
    anna.client.get(&path(&other)).await.expect(404);
    let all = office.client().get("/api/v1/claims?limit=1").await.expect(200).json();
    assert_eq!(all["items"][0]["id"], made["id"]);
    let next = format!("/api/v1/claims?cursor={}", all["next"].as_str().unwrap());
    assert_eq!(office.client().get(&next).await.expect(200).json()["items"][0]["id"], other["id"]);
    let of_one = office.client().get(&format!("/api/v1/claims?tenant={his}")).await.expect(200).json();
    assert_eq!(of_one["items"].as_array().unwrap().len(), 1);
    for (body, status, code) in [
        (json!({ "name": "a..b" }), 422, "INVALID_NAME"),
        (json!({ "name": format!("{}example", "a.".repeat(122)) }), 422, "INVALID_NAME"),
        (json!({ "name": "x.example.", "tenant": 999_999 }), 403, "FORBIDDEN"),
        (json!({ "nam": "x.example." }), 400, "MALFORMED_REQUEST"),
    ] {
        assert_eq!(
            anna.client.json("POST", "/api/v1/claims", &body).await.expect(status).code(),
            code,
            "{body}"
        );
    }
    let operators = json!({ "name": "x.example." });
    assert_eq!(
        office.client().json("POST", "/api/v1/claims", &operators).await.expect(422).code(),
        "INVALID_VALUE"
    );
    let nobodys = json!({ "name": "x.example.", "tenant": 999_999 });
    assert_eq!(
        office.client().json("POST", "/api/v1/claims", &nobodys).await.expect(404).code(),
        "TENANT_NOT_FOUND"
    );
    let given = json!({ "name": "x.example.", "tenant": hers });
    office.client().json("POST", "/api/v1/claims", &given).await.expect(201);
    for none in ["nothing", "00000000-0000-0000-0000-000000000000"] {
        assert_eq!(
            anna.client.get(&format!("/api/v1/claims/{none}")).await.expect(404).code(),
            "CLAIM_NOT_FOUND"
        );
    }
    office.server.stop().await;
}
