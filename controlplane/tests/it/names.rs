//! Which names tenants make zones of: below suffixes of the operator, and never what is a public suffix, reserved, or was somebody
//! else's a short time ago.

use serde_json::json;

use crate::harness::{Answer, Client};
use crate::office::Office;
use crate::tenants::{with_tenant, zone};

async fn suffix(client: &Client, zone: &str, per_tenant: u32) -> Answer {
    client.json("PUT", &format!("/api/v1/suffixes/{zone}"), &json!({ "per_tenant": per_tenant })).await
}

/// Somebody's server with a suffix.
async fn shared(per_tenant: u32) -> Office {
    let office =
        Office::with_names(|names| names.reserved = vec!["shop".to_owned(), "pay*".to_owned()]).await;
    zone(office.client(), "dyn.example.").await.expect(201);
    suffix(office.client(), "dyn.example.", per_tenant).await.expect(200);
    office
}

async fn put(client: &Client, name: &str, zone: &str) -> Answer {
    let body = json!({ "name": name, "type": "A", "value": ["192.0.2.1"] });
    client.json("POST", &format!("/api/v1/records?zone={zone}"), &body).await
}

#[tokio::test]
async fn names_are_taken_one_label_below_a_suffix_and_so_many() {
    let office = shared(2).await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    let made = zone(&anna.client, "alice.dyn.example.").await.expect(201).json();
    assert_eq!(made["tenant"], json!(hers));
    assert_eq!(zone(&bert.client, "alice.dyn.example.").await.expect(409).code(), "DOMAIN_EXISTS");
    for foreign in ["x.alice.dyn.example.", "a.b.dyn.example.", "sub.example.com."] {
        assert_eq!(zone(&bert.client, foreign).await.expect(403).code(), "FORBIDDEN", "{foreign}");
    }
    // Inside of it she is at home, and that counts for nothing.
    for own in ["x.alice.dyn.example.", "y.alice.dyn.example.", "www.alice.dyn.example."] {
        zone(&anna.client, own).await.expect(201);
    }
    zone(&anna.client, "second.dyn.example.").await.expect(201);
    assert_eq!(zone(&anna.client, "third.dyn.example.").await.expect(409).code(), "QUOTA_EXCEEDED");
    anna.client.delete_zone("second.dyn.example.").await;
    zone(&anna.client, "third.dyn.example.").await.expect(201);
    zone(&bert.client, "fourth.dyn.example.").await.expect(201);
    // Of the operator there is no end, and it is asked for nothing.
    for name in
        ["o1.dyn.example.", "o2.dyn.example.", "o3.dyn.example.", "www.dyn.example.", "a.b.dyn.example."]
    {
        zone(office.client(), name).await.expect(201);
    }
    assert_eq!(suffix(office.client(), "dyn.example.", 3).await.expect(200).json()["per_tenant"], json!(3));
    zone(&anna.client, "fifth.dyn.example.").await.expect(201);
    // What is shared no more takes no further names, and those that are taken stay.
    office.client().delete("/api/v1/suffixes/dyn.example.").await.expect(204);
    office.client().delete("/api/v1/suffixes/dyn.example.").await.expect(404);
    assert_eq!(zone(&bert.client, "sixth.dyn.example.").await.expect(403).code(), "FORBIDDEN");
    anna.client.get("/api/v1/domains/alice.dyn.example.").await.expect(200);
    // What was taken meanwhile counts when it is shared again.
    suffix(office.client(), "dyn.example.", 3).await.expect(200);
    assert_eq!(zone(&anna.client, "seventh.dyn.example.").await.expect(409).code(), "QUOTA_EXCEEDED");
    office.server.stop().await;
}

#[tokio::test]
async fn suffixes_are_seen_by_everybody_and_made_by_operators_of_their_own_zones() {
    let office = shared(5).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let seen = anna.client.get("/api/v1/suffixes").await.expect(200).json();
    assert_eq!(
        (&seen["items"][0]["zone"], &seen["items"][0]["per_tenant"]),
        (&json!("dyn.example."), &json!(5))
    );
    assert_eq!(seen["items"].as_array().unwrap().len(), 1);
    let one = anna.client.get("/api/v1/suffixes/dyn.example.").await.expect(200).json();
    // Browsers would let its tenants share cookies.
    assert_eq!(one["listed"], json!(false));
    assert!(one["warning"].as_str().unwrap().contains("public suffix list"), "{one}");
    zone(office.client(), "github.io.").await.expect(201);
    let listed = suffix(office.client(), "github.io.", 5).await.expect(200).json();
    assert_eq!((&listed["listed"], listed.get("warning")), (&json!(true), None));
    anna.client.get("/api/v1/suffixes/example.com.").await.expect(404);
    zone(&anna.client, "anna.dyn.example.").await.expect(201);
    for zone in ["example.com.", "anna.dyn.example.", "dyn.example."] {
        assert_eq!(suffix(&anna.client, zone, 5).await.expect(403).code(), "INSUFFICIENT_SCOPE");
        anna.client.delete(&format!("/api/v1/suffixes/{zone}")).await.expect(403);
    }
    assert_eq!(suffix(office.client(), "anna.dyn.example.", 5).await.expect(409).code(), "CONFLICT");
    assert_eq!(suffix(office.client(), "none.example.", 5).await.expect(404).code(), "DOMAIN_NOT_FOUND");
    assert_eq!(suffix(office.client(), "example.com.", 2_000_000).await.expect(422).code(), "INVALID_VALUE");
    office.server.stop().await;
}

#[tokio::test]
async fn r9_reserved_labels_and_what_looks_like_another_are_not_taken() {
    let office = shared(1_000).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    for label in [
        "www",
        "WWW",
        "\\119ww",
        "ｗｗｗ",
        "mail",
        "ns",
        "ns1",
        "nsa",
        "mx",
        "api",
        "admin",
        "administrator",
        "root",
        "login",
        "postmaster",
        "hostmaster",
        "webmaster",
        "abuse",
        "security",
        "autoconfig",
        "autodiscover",
        "wpad",
        "isatap",
        "mta-sts",
        "localhost",
        "dashboard",
        "status",
        "acme",
        "shop",
        "payment",
        "rnail",
        "аpi",
    ] {
        let answer = zone(&anna.client, &format!("{label}.dyn.example.")).await;
        // A label of several scripts is none at all.
        let expected = if label == "аpi" { (422, "INVALID_NAME") } else { (403, "NAME_RESERVED") };
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), expected, "{label}");
    }
    for label in
        ["_dmarc", "*", "-a", "a-", "a_b", "ab--c", r"a\.b", r"\000a", "xn--", "xn--bcher-kv", "pаypal"]
    {
        let answer = zone(&anna.client, &format!("{label}.dyn.example.")).await;
        assert_eq!(answer.expect(422).code(), "INVALID_NAME", "{label}");
    }
    for (taken, like) in [
        ("alice", &["a1ice", "аӏісе"][..]),
        ("bücher", &["büchеr"]),
        ("modern", &["modem"]),
        ("bob0", &["bobo", "b0b0", "B0BO"]),
    ] {
        zone(&anna.client, &format!("{taken}.dyn.example.")).await.expect(201);
        for like in like {
            let answer = zone(&bert.client, &format!("{like}.dyn.example.")).await;
            let is_refused = [(403, "NAME_RESERVED"), (422, "INVALID_NAME")]
                .contains(&(answer.status.as_u16(), answer.code().as_str()));
            assert!(is_refused, "{like}: {}", answer.text);
        }
    }
    let shown = anna.client.get("/api/v1/domains/xn--bcher-kva.dyn.example.").await.expect(200).json();
    assert_eq!(shown["name"], json!("xn--bcher-kva.dyn.example."));
    zone(&bert.client, "bucher.dyn.example.").await.expect(201);
    // What the operator has below the suffix is the operator's.
    put(office.client(), "host.dyn.example.", "dyn.example.").await.expect(201);
    put(office.client(), "deep.cluster.dyn.example.", "dyn.example.").await.expect(201);
    for used in ["host.dyn.example.", "cluster.dyn.example."] {
        assert_eq!(zone(&bert.client, used).await.expect(403).code(), "NAME_RESERVED", "{used}");
    }
    zone(&bert.client, "hos.dyn.example.").await.expect(201);
    office.server.stop().await;
}

#[tokio::test]
async fn r9_no_wildcard_stands_right_below_a_suffix() {
    let office = shared(5).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    zone(&anna.client, "alice.dyn.example.").await.expect(201);
    put(&anna.client, "*.alice.dyn.example.", "alice.dyn.example.").await.expect(201);
    assert_eq!(put(office.client(), "*.dyn.example.", "dyn.example.").await.expect(409).code(), "CONFLICT");
    let change = json!({ "changes": [
        { "op": "put", "name": "a.dyn.example.", "type": "A", "value": ["192.0.2.1"] },
        { "op": "add_value", "name": "*.dyn.example.", "type": "A", "value": ["192.0.2.1"] },
    ] });
    office.client().json("POST", "/api/v1/changes", &change).await.expect(409);
    let whole = json!({ "records": [{ "name": "*", "type": "TXT", "value": ["\"x\""] }] });
    office.client().json("PUT", "/api/v1/domains/dyn.example.", &whole).await.expect(409);
    let text = "@ 300 IN SOA ns1.example.net. hostmaster.example.net. 1 7200 3600 1209600 60\n@ 300 IN NS ns1.example.net.\n* 300 IN A 192.0.2.1\n";
    office.client().import("dyn.example.", text).await.expect(409);
    zone(office.client(), "wild.example.").await.expect(201);
    put(office.client(), "*.wild.example.", "wild.example.").await.expect(201);
    assert_eq!(suffix(office.client(), "wild.example.", 5).await.expect(409).code(), "CONFLICT");
    office.client().delete("/api/v1/records/*.wild.example.?all=true").await.expect(204);
    suffix(office.client(), "wild.example.", 5).await.expect(200);
    office.server.stop().await;
}

#[tokio::test]
async fn r9_a_name_that_was_given_up_is_kept_for_whom_it_was() {
    let office = shared(5).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    zone(&anna.client, "alice.dyn.example.").await.expect(201);
    anna.client.delete_zone("alice.dyn.example.").await;
    let refused = zone(&bert.client, "alice.dyn.example.").await.expect(409);
    assert_eq!(refused.code(), "NAME_QUARANTINED");
    assert!(refused.text.contains("200 more days"), "{}", refused.text);
    let text = "@ 300 IN SOA ns1.example.net. hostmaster.example.net. 1 7200 3600 1209600 60\n@ 300 IN NS ns1.example.net.\n";
    assert_eq!(bert.client.import("alice.dyn.example.", text).await.expect(409).code(), "NAME_QUARANTINED");
    // The database keeps it by itself, whatever program asks.
    let key = "X'6578616D706C65000064796E0000616C6963650000'";
    let insert = format!(
        "INSERT INTO zones (name_key, owner_number, version, serial, ttl_policy, presigned, created_at_us, updated_at_us) VALUES ({key}, {his}, 9, 9, 'bounded', FALSE, 1, 1)"
    );
    let insert = match crate::DATABASE {
        godwit_controlplane::store::Kind::Sqlite => insert,
        godwit_controlplane::store::Kind::Postgres => {
            insert.replace(key, "decode('6578616D706C65000064796E0000616C6963650000', 'hex')")
        }
    };
    let insert: &'static str = Box::leak(insert.into_boxed_str());
    let mut beside = office.server.beside().await;
    let refused = beside.query(insert).execute().await.unwrap_err();
    assert!(refused.to_string().contains("released by somebody else"), "{refused}");
    // Whose it was takes it back.
    zone(&anna.client, "alice.dyn.example.").await.expect(201);
    anna.client.delete_zone("alice.dyn.example.").await;
    anna.client
        .json("POST", "/api/v1/domains/alice.dyn.example./rollback", &json!({ "version": 3 }))
        .await
        .expect(200);
    anna.client.delete_zone("alice.dyn.example.").await;
    zone(&bert.client, "alice.dyn.example.").await.expect(409);
    // An operator gives it to whom it wants.
    let given = json!({ "name": "alice.dyn.example.", "ns": ["ns1.example.net."] });
    office.client().json("POST", &format!("/api/v1/domains?tenant={his}"), &given).await.expect(201);
    bert.client.delete_zone("alice.dyn.example.").await;
    zone(&anna.client, "alice.dyn.example.").await.expect(409);
    let age = "UPDATE quarantined_names SET until_us = 1";
    assert_eq!(beside.query(age).execute().await.unwrap(), 1);
    drop(beside);
    zone(&anna.client, "alice.dyn.example.").await.expect(201);
    // Inside of somebody's zone that one decides.
    zone(&anna.client, "sub.alice.dyn.example.").await.expect(201);
    anna.client.delete_zone("sub.alice.dyn.example.").await;
    zone(&anna.client, "sub.alice.dyn.example.").await.expect(201);
    office.server.stop().await;
}

/// To be let into a zone of the operator's is not to be given what was somebody else's there.
#[tokio::test]
async fn r9_a_name_in_a_granted_zone_is_kept_too() {
    let office = shared(5).await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    zone(office.client(), "corp.example.").await.expect(201);
    for tenant in [hers, his] {
        let grant = format!("/api/v1/domains/corp.example./grants/{tenant}");
        office.client().json("PUT", &grant, &json!({ "role": "admin" })).await.expect(200);
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while zone(&anna.client, "x.corp.example.").await.status != 201 {
        assert!(std::time::Instant::now() < deadline, "she was granted it");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // What is inside of hers is hers to decide about, and nothing of it is kept.
    zone(&anna.client, "in.x.corp.example.").await.expect(201);
    anna.client.delete_zone("in.x.corp.example.").await;
    anna.client.delete_zone("x.corp.example.").await;
    let refused = zone(&bert.client, "x.corp.example.").await.expect(409);
    assert_eq!(refused.code(), "NAME_QUARANTINED");
    let mut beside = office.server.beside().await;
    let kept: i64 = beside.query("SELECT count(*) FROM quarantined_names").fetch_value().await.unwrap();
    assert_eq!(kept, 1);
    drop(beside);
    zone(&bert.client, "y.corp.example.").await.expect(201);
    zone(&anna.client, "x.corp.example.").await.expect(201);
    office.server.stop().await;
}

/// Else whoever takes and gives up name after name has all of them.
#[tokio::test]
async fn r9_so_many_names_are_kept_for_one_and_no_more() {
    let office = shared(2).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    for name in ["a1.dyn.example.", "a2.dyn.example.", "a3.dyn.example.", "a4.dyn.example."] {
        zone(&anna.client, name).await.expect(201);
        anna.client.delete_zone(name).await;
    }
    let refused = zone(&anna.client, "a5.dyn.example.").await.expect(409);
    assert_eq!(refused.code(), "QUOTA_EXCEEDED");
    assert!(refused.text.contains("take one of those back"), "{}", refused.text);
    zone(&anna.client, "a3.dyn.example.").await.expect(201);
    zone(&bert.client, "a5.dyn.example.").await.expect(201);
    office.server.stop().await;
}

#[tokio::test]
async fn r9_nobody_takes_a_name_below_which_others_register() {
    // Also where tenants are trusted with names.
    let office = Office::with_names(|names| names.require_proof = false).await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    for public in [".", "com.", "CO.UK.", "github.io.", "nowhere.", "рф.", "anything.ck."] {
        assert_eq!(zone(&anna.client, public).await.expect(403).code(), "NAME_RESERVED", "{public}");
        let claim = anna.client.json("POST", "/api/v1/claims", &json!({ "name": public })).await;
        assert_eq!(claim.expect(403).code(), "NAME_RESERVED", "{public}");
    }
    for own in ["example.co.uk.", "anna.github.io.", "anna.nowhere.", "www.ck.", "bücher.example."] {
        zone(&anna.client, own).await.expect(201);
    }
    for none in ["xn--bcher-kv.example.", "xn--.example.", "pаypal.example.", "a\u{200D}b.example."] {
        assert_eq!(zone(&anna.client, none).await.expect(422).code(), "INVALID_NAME", "{none}");
    }
    // An operator may.
    for any in ["com.", "nowhere.", "xn--bcher-kv.example."] {
        zone(office.client(), any).await.expect(201);
    }
    office.server.stop().await;
}

#[tokio::test]
async fn a_public_suffix_list_of_a_file_counts_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.dat");
    let write = |rules: &str| {
        let text = format!("// ===BEGIN ICANN DOMAINS===\n{rules}\n// ===END ICANN DOMAINS===\n");
        std::fs::write(&file, text).unwrap();
    };
    write("example\nparts.example");
    let list = file.clone();
    let office = Office::with_names(|names| {
        names.require_proof = false;
        names.public_suffix_list = Some(list);
    })
    .await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    zone(&anna.client, "parts.example.").await.expect(403);
    zone(&anna.client, "new.example.").await.expect(201);
    write("example\nparts.example\nlater.example");
    zone(&anna.client, "later.example.").await.expect(403);
    office.server.stop().await;
}
