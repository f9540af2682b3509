//! Every kept version of a zone is what the zone was, can be read page by page, and can be made the present again.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::harness::{Client, Server};

const ZONE: &str = "z.example.";

fn seed() -> u64 {
    std::env::var("GODWIT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7)
}

/// What a version was, as the API said it while it was the present.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    domain: Value,
    records: Vec<Value>,
    export: String,
}

fn with(path: &str, at: Option<&str>) -> String {
    let joined = if path.contains('?') { '&' } else { '?' };
    at.map_or_else(|| path.to_owned(), |at| format!("{path}{joined}at={at}"))
}

async fn records(client: &Client, at: Option<&str>, limit: usize) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/records?zone={ZONE}&limit={limit}{cursor}");
        let page = client.get(&with(&path, at)).await.expect(200).json();
        all.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

async fn seen(client: &Client, at: Option<&str>, limit: usize) -> Seen {
    let domain = client.get(&with(&format!("/api/v1/domains/{ZONE}"), at)).await.expect(200).json();
    let export = client.get(&with(&format!("/api/v1/domains/{ZONE}/export"), at)).await.expect(200).text;
    Seen { domain, records: records(client, at, limit).await, export }
}

/// Without what a rollback sets anew: version, serial, times.
fn content(seen: &Seen) -> (Vec<Value>, Value, Value) {
    let mut records = seen.records.clone();
    for record in records.iter_mut().filter(|record| record["type"] == "SOA") {
        let text = record["value"][0].as_str().unwrap();
        let mut fields: Vec<&str> = text.split(' ').collect();
        fields[2] = "serial";
        record["value"][0] = fields.join(" ").into();
    }
    let domain = &seen.domain;
    (records, domain["ttl_policy"].clone(), json!([domain["soa"], domain["ns"]]))
}

fn version(seen: &Seen) -> u64 {
    seen.domain["version"].as_u64().unwrap()
}

/// Changes the zone in a way of many, and says whether it is there afterwards.
async fn change(client: &Client, random: &mut ChaCha8Rng, there: bool) -> bool {
    let zone = format!("/api/v1/domains/{ZONE}");
    if !there {
        client.json("POST", "/api/v1/domains", &json!({"name": ZONE})).await.expect(201);
        return true;
    }
    let name = format!("n{}.{ZONE}", random.random_range(0..6));
    match random.random_range(0..20) {
        0 => {
            client.delete_zone(ZONE).await;
            return false;
        }
        1 => {
            let body = json!({"soa": {"refresh": random.random_range(1000..2000)}});
            client.json("PATCH", &zone, &body).await.expect(200);
        }
        2 => {
            client.json("PATCH", &zone, &json!({"ttl_policy": "keep"})).await.expect(200);
        }
        3 => {
            let records: Vec<Value> = (0..random.random_range(0..8))
                .map(|n| json!({"name": format!("w{n}"), "type": "TXT", "value": [format!("t{n}")]}))
                .collect();
            client.json("PUT", &zone, &json!({"records": records})).await.expect(200);
        }
        4..8 => {
            client.delete(&format!("/api/v1/records/{name}?all=true")).await;
        }
        _ => {
            let (rtype, value) = match random.random_range(0..3) {
                0 => ("A", format!("192.0.2.{}", random.random_range(0..9))),
                1 => ("TXT", format!("\"{}\"", random.random_range(0..9))),
                _ => ("MX", format!("{} mx.example.", random.random_range(0..9))),
            };
            let ttl = random.random_range(60..64);
            let step = json!({"op": "put", "name": name, "type": rtype, "ttl": ttl, "value": [value]});
            client.json("POST", "/api/v1/changes", &json!({"changes": [step]})).await.expect(200);
        }
    }
    true
}

/// A history of a zone: what it was in each version, `None` where it was not there.
async fn live(client: &Client, random: &mut ChaCha8Rng, changes: usize) -> BTreeMap<u64, Option<Seen>> {
    let mut versions = BTreeMap::new();
    let mut there = false;
    for _ in 0..changes {
        let was = there;
        there = change(client, random, there).await;
        if there {
            let seen = seen(client, None, 1000).await;
            versions.insert(version(&seen), Some(seen));
        } else if was {
            let last = versions.keys().next_back().copied().unwrap_or(0);
            versions.insert(last + 1, None);
        }
    }
    if !there {
        change(client, random, false).await;
        let seen = seen(client, None, 1000).await;
        versions.insert(version(&seen), Some(seen));
    }
    versions
}

#[tokio::test]
async fn every_kept_version_reads_as_it_was() {
    let seed = seed();
    let server = Server::start().await;
    let client = &server.client;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let versions = live(client, &mut random, 60).await;
    for (number, was) in &versions {
        let at = number.to_string();
        let Some(was) = was else {
            let answer = client.get(&with(&format!("/api/v1/domains/{ZONE}"), Some(&at))).await;
            assert_eq!(
                (answer.status.as_u16(), answer.code().as_str()),
                (404, "DOMAIN_NOT_FOUND"),
                "seed {seed}"
            );
            continue;
        };
        let limit = random.random_range(1..6);
        assert_eq!(&seen(client, Some(&at), limit).await, was, "version {number}, seed {seed}");
        let time = was.domain["updated_at"].as_str().unwrap();
        assert_eq!(&seen(client, Some(time), 1000).await, was, "at {time}, seed {seed}");
        for record in &was.records {
            let (name, rtype) = (record["name"].as_str().unwrap(), record["type"].as_str().unwrap());
            let path = format!("/api/v1/records/{name}?zone={ZONE}&type={rtype}&at={number}");
            let answer = client.get(&path).await.expect(200);
            assert_eq!((&answer.json(), answer.header("etag")), (record, &*format!("\"{number}\"")));
        }
    }
}

#[tokio::test]
async fn a_rollback_is_a_new_version_with_what_was() {
    let seed = seed();
    let server = Server::start().await;
    let client = &server.client;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let versions = live(client, &mut random, 40).await;
    let path = format!("/api/v1/domains/{ZONE}/rollback?wait=applied");
    let mut present = seen(client, None, 1000).await;
    for (number, was) in versions.iter().rev() {
        let Some(was) = was else {
            let answer = client.json("POST", &path, &json!({"version": number})).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "DOMAIN_NOT_FOUND"));
            continue;
        };
        // One of them after the zone was deleted: it comes back.
        if random.random_range(0..6) == 0 {
            client.delete_zone(ZONE).await;
        }
        let body = match random.random_range(0..3) {
            0 => json!({"at": was.domain["updated_at"]}),
            _ => json!({"version": number}),
        };
        client.json("POST", &path, &body).await.expect(200);
        let now = seen(client, None, 1000).await;
        assert_eq!(content(&now), content(was), "version {number}, seed {seed}");
        assert!(version(&now) >= version(&present), "version {number}, seed {seed}");
        let serial = |seen: &Seen| seen.domain["serial"].as_u64().unwrap();
        assert!(serial(&now) >= serial(&present), "version {number}, seed {seed}");
        present = now;
    }
    server.replica.assert_content();
}

#[tokio::test]
async fn a_rollback_is_a_write_like_others() {
    let server = Server::start().await;
    let client = &server.client;
    client.json("POST", "/api/v1/domains", &json!({"name": ZONE})).await.expect(201);
    for octet in [1, 2] {
        let step = json!({"op": "put", "name": format!("www.{ZONE}"), "type": "A", "ttl": 60 + octet, "value": [format!("192.0.2.{octet}")]});
        client.json("POST", "/api/v1/changes", &json!({"changes": [step]})).await.expect(200);
    }
    let path = format!("/api/v1/domains/{ZONE}/rollback");
    let body = json!({"version": 2});
    let stale = client.json_with("POST", &path, &[("if-match", "\"2\"")], &body).await.expect(412);
    assert_eq!(stale.code(), "VERSION_CONFLICT");
    let dry = client.json("POST", &format!("{path}?dry_run=true"), &body).await.expect(200);
    assert_eq!(dry.header("godwit-dry-run"), "true");
    assert_eq!(version(&seen(client, None, 100).await), 3, "tried and made");
    let headers = [("if-match", "\"3\""), ("idempotency-key", "back")];
    for replayed in ["", "true"] {
        let made =
            client.json_with("POST", &format!("{path}?wait=applied"), &headers, &body).await.expect(200);
        assert_eq!((made.header("godwit-replayed"), made.header("etag")), (replayed, "\"4\""));
        assert_eq!(made.header("godwit-applied"), "1/1");
    }
    let record = client.get(&format!("/api/v1/records/www.{ZONE}?type=A")).await.expect(200).json();
    assert_eq!((&record["ttl"], &record["value"]), (&json!(61), &json!(["192.0.2.1"])));
    // The present is no change.
    let made = client.json("POST", &path, &json!({"version": 4})).await.expect(200);
    assert_eq!(made.header("etag"), "\"4\"");
    let listed = client.get(&format!("/api/v1/domains/{ZONE}/versions")).await.expect(200).json();
    let newest = &listed["items"][0];
    assert_eq!(newest["action"], "domain.rollback");
    assert_eq!((&newest["put"], &newest["deleted"]), (&json!(2), &json!(0)), "SOA and one record: {newest}");

    for (body, status, code) in [
        (json!({"version": 9}), 404, "VERSION_NOT_FOUND"),
        (json!({"version": 0}), 404, "DOMAIN_NOT_FOUND"),
        (json!({"at": "2001-01-01T00:00:00Z"}), 404, "DOMAIN_NOT_FOUND"),
        (json!({"at": "yesterday"}), 400, "MALFORMED_REQUEST"),
        (json!({"at": "2"}), 400, "MALFORMED_REQUEST"),
        (json!({"at": "2001-01-01T00:00:00Z", "version": 1}), 400, "MALFORMED_REQUEST"),
        (json!({}), 400, "MALFORMED_REQUEST"),
    ] {
        let answer = client.json("POST", &path, &body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{body}");
    }
    let unknown = client.json("POST", "/api/v1/domains/no.example./rollback", &json!({"version": 1})).await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (404, "DOMAIN_NOT_FOUND"));
}

#[tokio::test]
async fn versions_are_listed_the_newest_first() {
    let server = Server::start().await;
    let client = &server.client;
    let token = client.get("/api/v1/domains/example.com./versions").await.expect(200).json();
    assert_eq!(token["items"][0]["actor"], "local");
    client.json("POST", "/api/v1/domains", &json!({"name": ZONE})).await.expect(201);
    for octet in 1..5 {
        let step = json!({"op": "put", "name": format!("www.{ZONE}"), "type": "A", "value": [format!("192.0.2.{octet}")]});
        client.json("POST", "/api/v1/changes?wait=applied", &json!({"changes": [step]})).await.expect(200);
    }
    client.delete_zone(ZONE).await;
    let mut items = Vec::new();
    let mut path = format!("/api/v1/domains/{ZONE}/versions?limit=2");
    loop {
        let page = client.get(&path).await.expect(200).json();
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/domains/{ZONE}/versions?limit=2&cursor={next}");
    }
    let kinds: Vec<(u64, &str, bool)> = items
        .iter()
        .map(|item| {
            let kind = item["kind"].as_str().unwrap();
            (item["version"].as_u64().unwrap(), kind, item["readable"].as_bool().unwrap())
        })
        .collect();
    let update = |version| (version, "update", true);
    assert_eq!(
        kinds,
        [(6, "remove", false), update(5), update(4), update(3), update(2), (1, "create", true)]
    );
    assert_eq!(items[1]["action"], "changes");
    assert!(items.iter().all(|item| item["change"].is_string() && item["actor"].is_string()));
    let sequences: Vec<u64> = items.iter().map(|item| item["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.is_sorted_by(|a, b| a > b), "{sequences:?}");
    let unknown = client.get("/api/v1/domains/no.example./versions").await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (404, "DOMAIN_NOT_FOUND"));
    for query in ["limit=0", "cursor=AAAA", "at=1"] {
        client.get(&format!("/api/v1/domains/{ZONE}/versions?{query}")).await.expect(400);
    }
}

/// All pages of a list are of one version, whatever is changed between them.
#[tokio::test]
async fn pages_of_the_past_are_of_one_version() {
    let server = Server::start().await;
    let client = &server.client;
    client.json("POST", "/api/v1/domains", &json!({"name": ZONE})).await.expect(201);
    let records: Vec<Value> = (0..20)
        .map(|n| json!({"name": format!("w{n}"), "type": "A", "value": [format!("192.0.2.{n}")]}))
        .collect();
    let zone = format!("/api/v1/domains/{ZONE}");
    client.json("PUT", &zone, &json!({"records": records})).await.expect(200);
    let was = seen(client, None, 1000).await;
    // What is changed between pages is another value each time: nothing is a change that is there already.
    for (at, value) in
        [(version(&was).to_string(), "192.0.2.9"), ("2999-01-01T00:00:00Z".to_owned(), "192.0.2.10")]
    {
        let was = seen(client, None, 1000).await;
        let mut read = Vec::new();
        let mut cursor = String::new();
        for n in 0.. {
            let path = format!("/api/v1/records?zone={ZONE}&limit=3&at={at}{cursor}");
            let page = client.get(&path).await.expect(200).json();
            read.extend(page["items"].as_array().unwrap().iter().cloned());
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
            let new = json!({"op": "put", "name": format!("w{n}a.{ZONE}"), "type": "A", "value": [value]});
            let other = json!({"op": "put", "name": format!("w{n}.{ZONE}"), "type": "A", "value": [value]});
            client.json("POST", "/api/v1/changes", &json!({"changes": [new, other]})).await.expect(200);
            client.delete(&format!("/api/v1/records/w1{n}.{ZONE}?all=true")).await;
        }
        assert_eq!(read, was.records, "{at}");
    }
    client.get("/api/v1/records?at=1").await.expect(400);
    client.get(&format!("/api/v1/records?zone={ZONE}&at=one")).await.expect(400);
}

/// What is not kept any more is said to be gone, with the oldest version that is there; nothing is made up.
#[tokio::test]
async fn what_is_not_kept_is_gone() {
    let server = Server::start().await;
    let client = &server.client;
    client.json("POST", "/api/v1/domains", &json!({"name": ZONE})).await.expect(201);
    for octet in 2..6 {
        let step = json!({"op": "put", "name": format!("www.{ZONE}"), "type": "A", "value": [format!("192.0.2.{octet}")]});
        client.json("POST", "/api/v1/changes", &json!({"changes": [step]})).await.expect(200);
    }
    // As a pruning leaves it: the change that made version 3 is forgotten, what it made is not.
    let mut database = server.beside().await;
    let pruned = database.query("DELETE FROM history WHERE version <= 3 AND kind <> 'remove' AND change_id IN (SELECT change_id FROM history WHERE version < 4)").execute().await;
    assert!(pruned.unwrap() >= 3);
    let www = |at: &str| format!("/api/v1/records/www.{ZONE}?type=A&at={at}");
    for (at, octet) in [(5, 5), (4, 4), (3, 3)] {
        let record = client.get(&www(&at.to_string())).await.expect(200).json();
        assert_eq!(record["value"], json!([format!("192.0.2.{octet}")]));
    }
    for at in ["2", "1", "2001-01-01T00:00:00Z"] {
        let answer = client.get(&www(at)).await.expect(410);
        assert_eq!(answer.code(), "VERSION_GONE");
        assert!(answer.text.contains("its oldest version here is 3"), "{}", answer.text);
    }
    let back = client.json("POST", &format!("/api/v1/domains/{ZONE}/rollback"), &json!({"version": 2})).await;
    assert_eq!((back.status.as_u16(), back.code().as_str()), (410, "VERSION_GONE"));
    let listed = client.get(&format!("/api/v1/domains/{ZONE}/versions")).await.expect(200).json();
    let versions: Vec<&Value> =
        listed["items"].as_array().unwrap().iter().map(|item| &item["version"]).collect();
    assert_eq!(versions, [5, 4, 3], "{listed}");
    assert!(listed["items"][2]["change"].is_null() && listed["items"][2]["readable"] == true, "{listed}");
    // Rows of a time when nothing was kept that leads back.
    database.query("UPDATE history SET undo = NULL WHERE version = 5").execute().await.unwrap();
    let answer = client.get(&www("4")).await.expect(410);
    assert!(answer.text.contains("its oldest version here is 5"), "{}", answer.text);
    let listed = client.get(&format!("/api/v1/domains/{ZONE}/versions")).await.expect(200).json();
    assert_eq!(listed["items"][1]["readable"], false, "{listed}");
    for at in ["6", "99"] {
        assert_eq!(client.get(&www(at)).await.expect(404).code(), "VERSION_NOT_FOUND");
    }
}

/// A zone that belonged to somebody else is not taken from who has it now.
#[tokio::test]
async fn a_zone_of_somebody_else_does_not_come_back() {
    let server = Server::start().await;
    let client = &server.client;
    let mut database = server.beside().await;
    for name in ["a.example.", "b.a.example."] {
        client.json("POST", "/api/v1/domains", &json!({"name": name})).await.expect(201);
    }
    let owner = "INSERT INTO tenants (name, created_at_us) VALUES ('x', 1) RETURNING number";
    let owner: i64 = database.query(owner).fetch_value().await.unwrap();
    // Below the operator's: it comes back to whom it belonged.
    client.delete_zone("b.a.example.").await;
    database
        .query("UPDATE history SET before_owner_number = $1 WHERE version = 2")
        .bind(owner)
        .execute()
        .await
        .unwrap();
    let back =
        async || client.json("POST", "/api/v1/domains/b.a.example./rollback", &json!({"version": 1})).await;
    let dry = client
        .json("POST", "/api/v1/domains/b.a.example./rollback?dry_run=true", &json!({"version": 1}))
        .await;
    dry.expect(200);
    database.query("UPDATE zones SET owner_number = 5").execute().await.unwrap();
    let refused = back().await.expect(409);
    assert!(refused.text.contains("a.example. belongs to somebody else by now"), "{}", refused.text);
    database.query("UPDATE zones SET owner_number = $1").bind(owner).execute().await.unwrap();
    back().await.expect(200);
    // And one that changed hands since does not go back.
    database.query("UPDATE zones SET owner_number = 5").execute().await.unwrap();
    let refused = back().await.expect(409);
    assert!(refused.text.contains("belonged to somebody else"), "{}", refused.text);
}

/// Nothing is brought back that the digest of then does not vouch for.
#[tokio::test]
async fn a_damaged_version_is_not_brought_back() {
    let server = Server::start().await;
    let client = &server.client;
    let path = "/api/v1/domains/example.com./rollback";
    let put = json!({"type": "A", "value": ["192.0.2.7"]});
    client.json("PUT", "/api/v1/records/www.example.com.", &put).await.expect(200);
    client.json("POST", &format!("{path}?dry_run=true"), &json!({"version": 1})).await.expect(200);
    let mut database = server.beside().await;
    // As if something else of the zone had been there.
    let other: Vec<u8> = vec![7; 32];
    let damage = database.query("UPDATE history SET before_digest = $1 WHERE version = 2").bind(other);
    assert_eq!(damage.execute().await.unwrap(), 1);
    let refused = client.json("POST", path, &json!({"version": 1})).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (410, "VERSION_GONE"));
    let record = client.get("/api/v1/records/www.example.com.?type=A").await.expect(200).json();
    assert_eq!(record["value"], json!(["192.0.2.7"]));
}
