//! Quotas: a tenant has so many zones, so many RRsets, and its zones are changed so often a day.

use serde_json::{Value, json};

use crate::harness::{Answer, Client};
use crate::office::Office;
use crate::tenants::{join, with_tenant, within_a_second, zone};

async fn office(zones: u32, records: u32, changes_a_day: u32) -> Office {
    Office::open_with(move |config| {
        config.quotas = godwit_controlplane::config::Quotas { zones, records, changes_a_day };
    })
    .await
}

async fn put(client: &Client, name: &str) -> Answer {
    let put = json!({ "op": "put", "name": name, "type": "A", "value": ["192.0.2.1"] });
    client.json("POST", "/api/v1/changes", &json!({ "changes": [put] })).await
}

/// So much at most, and so much is there.
async fn stands(client: &Client, tenant: u64, what: &str) -> (Value, Value) {
    let quotas = client.get(&format!("/api/v1/tenants/{tenant}/quotas")).await.expect(200).json();
    (quotas[what]["most"].clone(), quotas[what]["used"].clone())
}

async fn say(office: &Office, tenant: u64, quotas: Value) {
    let path = format!("/api/v1/tenants/{tenant}/quotas");
    office.client().json("PUT", &path, &quotas).await.expect(200);
}

#[tokio::test]
async fn a_tenant_has_so_many_zones_and_an_operator_gives_it_more() {
    let office = office(2, 0, 0).await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    for name in ["a.test.", "b.test."] {
        zone(&anna.client, name).await.expect(201);
    }
    let refused = zone(&anna.client, "c.test.").await.expect(409);
    assert_eq!(refused.code(), "QUOTA_EXCEEDED");
    assert!(refused.text.contains("2 zones of 2"), "{}", refused.text);
    // However it is tried: several at once, whole zones, a dry run.
    let text =
        "@ 300 IN SOA ns1.example.net. h.example.net. 1 7200 3600 1209600 60\n@ 300 IN NS ns1.example.net.\n";
    assert_eq!(anna.client.import("c.test.", text).await.expect(409).code(), "QUOTA_EXCEEDED");
    let dry = json!({ "name": "c.test.", "ns": ["ns1.example.net."] });
    let dry = anna.client.json("POST", "/api/v1/domains?dry_run=true", &dry).await.expect(409);
    assert_eq!(dry.code(), "QUOTA_EXCEEDED");
    assert_eq!(office.server.limited("tenant_zones"), 3);
    assert_eq!(stands(&anna.client, hers, "zones").await, (json!(2), json!(2)));
    // Nobody else's is less, and what is there is changed.
    zone(&bert.client, "bert.test.").await.expect(201);
    put(&anna.client, "www.a.test.").await.expect(200);
    // One that goes makes room.
    anna.client.delete_zone("b.test.").await;
    zone(&anna.client, "c.test.").await.expect(201);
    // Operators say otherwise, and nobody else does; what they do themselves is not bounded.
    let path = format!("/api/v1/tenants/{hers}/quotas");
    anna.client.json("PUT", &path, &json!({ "zones": 9 })).await.expect(403);
    bert.client.json("PUT", &path, &json!({ "zones": 9 })).await.expect(404);
    bert.client.get(&path).await.expect(404);
    office.client().json("PUT", &path, &json!({ "zones": -1 })).await.expect(400);
    let body = json!({ "name": "d.test.", "ns": ["ns1.example.net."] });
    office.client().json("POST", &format!("/api/v1/domains?tenant={hers}"), &body).await.expect(201);
    assert_eq!(stands(&anna.client, hers, "zones").await, (json!(2), json!(3)), "it keeps what it has");
    zone(&anna.client, "e.test.").await.expect(409);
    say(&office, hers, json!({ "zones": 4 })).await;
    zone(&anna.client, "e.test.").await.expect(201);
    zone(&anna.client, "f.test.").await.expect(409);
    say(&office, hers, json!({ "zones": 0 })).await;
    zone(&anna.client, "f.test.").await.expect(201);
    assert_eq!(stands(&anna.client, hers, "zones").await, (Value::Null, json!(5)));
    say(&office, hers, json!({})).await;
    zone(&anna.client, "g.test.").await.expect(409);
    assert_eq!(stands(office.client(), his, "zones").await, (json!(2), json!(1)));
}

/// What is counted is what is there, whatever was done to it.
#[tokio::test]
async fn a_tenant_has_so_many_rrsets_in_all_of_its_zones() {
    let office = office(0, 8, 0).await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    // Each with SOA and NS.
    zone(&anna.client, "a.test.").await.expect(201);
    zone(&anna.client, "b.test.").await.expect(201);
    let used = async |tenant| stands(office.client(), tenant, "records").await.1;
    assert_eq!(used(hers).await, json!(4));
    for n in 0..4 {
        put(&anna.client, &format!("w{n}.a.test.")).await.expect(200);
    }
    let refused = put(&anna.client, "w4.a.test.").await.expect(409);
    assert_eq!(refused.code(), "QUOTA_EXCEEDED");
    assert!(refused.text.contains("8 RRsets of 8"), "{}", refused.text);
    assert_eq!(office.server.limited("tenant_records"), 1);
    // In its other zones, and by somebody who was granted them.
    put(&anna.client, "w.b.test.").await.expect(409);
    let grant = format!("/api/v1/domains/b.test./grants/{his}");
    anna.client.json("PUT", &grant, &json!({ "role": "editor" })).await.expect(200);
    within_a_second(409, async || put(&bert.client, "w.b.test.").await).await;
    // What is there already takes no more room, and what is exchanged in one change none either.
    put(&anna.client, "w0.a.test.").await.expect(200);
    let exchange = json!({ "changes": [
        { "op": "delete", "name": "w0.a.test.", "type": "A" },
        { "op": "put", "name": "w5.a.test.", "type": "TXT", "value": ["x"] },
    ] });
    anna.client.json("POST", "/api/v1/changes", &exchange).await.expect(200);
    assert_eq!(used(hers).await, json!(8));
    // A zone that is replaced has what it was replaced by; a rollback takes back what it had.
    let before = anna.client.get("/api/v1/domains/a.test.").await.expect(200).json()["version"].clone();
    let text = "@ 300 IN SOA ns1.example.net. h.example.net. 9 7200 3600 1209600 60\n@ 300 IN NS ns1.example.net.\nx 300 IN A 192.0.2.7\n";
    anna.client.import("a.test.", text).await.expect(200);
    assert_eq!(used(hers).await, json!(5));
    let rollback = "/api/v1/domains/a.test./rollback";
    anna.client.json("POST", rollback, &json!({ "version": before })).await.expect(200);
    assert_eq!(used(hers).await, json!(8));
    anna.client.import("a.test.", text).await.expect(200);
    for n in 0..3 {
        put(&anna.client, &format!("w{n}.b.test.")).await.expect(200);
    }
    let back = anna.client.json("POST", rollback, &json!({ "version": before })).await.expect(409);
    assert_eq!(back.code(), "QUOTA_EXCEEDED");
    anna.client.delete_zone("a.test.").await;
    assert_eq!(used(hers).await, json!(5));
    // The columns say what the rows do.
    let mut beside = office.server.beside().await;
    let differing =
        "SELECT count(*) FROM zones WHERE rrsets <> (SELECT count(*) FROM rrsets WHERE zone_id = zones.id)";
    assert_eq!(beside.query(differing).fetch_value::<i64>().await.unwrap(), 0);
}

#[tokio::test]
async fn zones_of_a_tenant_are_changed_so_often_a_day() {
    let office = office(0, 0, 5).await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    join(&anna.client, hers, &bert, "editor").await;
    zone(&anna.client, "a.test.").await.expect(201);
    for n in 0..3 {
        put(&anna.client, &format!("w{n}.a.test.")).await.expect(200);
    }
    // What changes nothing is no change.
    put(&anna.client, "w0.a.test.").await.expect(200);
    assert_eq!(stands(&anna.client, hers, "changes_a_day").await, (json!(5), json!(4)));
    // Whoever of the tenant; a change of two zones is two.
    let two = json!({ "changes": [
        { "op": "put", "name": "x.a.test.", "type": "A", "value": ["192.0.2.9"] },
        { "op": "put", "name": "x.b.test.", "type": "A", "value": ["192.0.2.9"] },
    ] });
    let body = json!({ "name": "b.test.", "ns": ["ns1.example.net."] });
    office.client().json("POST", &format!("/api/v1/domains?tenant={hers}"), &body).await.expect(201);
    let refused = anna.client.json("POST", "/api/v1/changes", &two).await.expect(429);
    assert_eq!(refused.code(), "RATE_LIMITED");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=86_401).contains(&wait), "{wait}");
    put(&bert.client, "w3.a.test.").await.expect(429);
    put(&bert.client, "w0.a.test.").await.expect(200);
    assert_eq!(office.server.limited("tenant_changes"), 2);
    // Neither a new zone nor a deletion is a way around it.
    zone(&anna.client, "c.test.").await.expect(429);
    let delete = anna.client.delete("/api/v1/domains/b.test.").await;
    assert!([409, 429].contains(&delete.status.as_u16()), "{}", delete.text);
    // Another tenant's are its own matter, also where the same account asks.
    let body = json!({ "name": "his.test.", "ns": ["ns1.example.net."] });
    bert.client.json("POST", &format!("/api/v1/domains?tenant={his}"), &body).await.expect(201);
    // It is another day: what was counted then counts no more.
    let mut beside = office.server.beside().await;
    beside.query("UPDATE tenant_changes SET day = day - 1").execute().await.unwrap();
    put(&anna.client, "w3.a.test.").await.expect(200);
    assert_eq!(stands(&anna.client, hers, "changes_a_day").await.1, json!(1));
    say(&office, hers, json!({ "changes_a_day": 1 })).await;
    put(&anna.client, "w4.a.test.").await.expect(429);
    say(&office, hers, json!({ "changes_a_day": 0 })).await;
    put(&anna.client, "w4.a.test.").await.expect(200);
}
