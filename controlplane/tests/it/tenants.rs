//! Tenants: their zones are theirs, members may what they are, and others what they are granted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Client};
use crate::keys::{key, operator};
use crate::office::{Office, PASSWORD, Person};

const SOA: &str = "@ 300 IN SOA ns1.example.net. hostmaster.example.net. 1 7200 3600 1209600 60\n@ 300 IN NS ns1.example.net.\n";

/// Somebody, and the number of their own tenant.
pub(crate) async fn with_tenant(office: &Office, email: &str) -> (Person, u64) {
    let person = office.somebody(email).await;
    let tenants = person.client.get("/api/v1/tenants").await.expect(200).json();
    let own = &tenants["items"][0];
    assert_eq!((&own["role"], &own["suspended_at"]), (&json!("owner"), &Value::Null), "{tenants}");
    (person, own["number"].as_u64().unwrap())
}

pub(crate) async fn id(person: &Person) -> String {
    let me = person.client.get("/api/v1/users/me").await.expect(200).json();
    me["id"].as_str().unwrap().to_owned()
}

/// Somebody is asked to be a member, and says yes.
pub(crate) async fn join(asking: &Client, tenant: u64, person: &Person, role: &str) {
    let path = format!("/api/v1/tenants/{tenant}/members/{}", id(person).await);
    let asked = asking.json("PUT", &path, &json!({ "role": role })).await.expect(200).json();
    assert_eq!((&asked["role"], &asked["since"]), (&json!(role), &Value::Null));
    let accept = format!("/api/v1/tenants/{tenant}/accept");
    person.client.send("POST", &accept, &[], Vec::new()).await.expect(200);
}

pub(crate) async fn zone(client: &Client, apex: &str) -> Answer {
    client.json("POST", "/api/v1/domains", &json!({ "name": apex, "ns": ["ns1.example.net."] })).await
}

async fn put(client: &Client, name: &str) -> Answer {
    let body = json!({ "name": name, "type": "A", "value": ["192.0.2.1"] });
    client.json("POST", "/api/v1/records", &body).await
}

async fn names(client: &Client, path: &str) -> Vec<String> {
    let page = client.get(path).await.expect(200).json();
    let names = page["items"].as_array().unwrap().iter();
    names.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// Until something has a status; not for longer than a second.
pub(crate) async fn within_a_second(status: u16, ask: impl AsyncFn() -> Answer) {
    let since = Instant::now();
    loop {
        let answer = ask().await;
        if answer.status.as_u16() == status {
            return;
        }
        assert!(
            since.elapsed() < Duration::from_secs(1),
            "after a second: {} {}",
            answer.status,
            answer.text
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

#[tokio::test]
async fn zones_are_their_tenants_and_to_others_they_are_not_there() {
    let office = Office::open().await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    assert_ne!(hers, his);
    let made = zone(&anna.client, "anna.test.").await.expect(201).json();
    assert_eq!(made["tenant"], json!(hers));
    put(&anna.client, "www.anna.test.").await.expect(201);
    for client in [&anna.client, office.client()] {
        let seen = client.get("/api/v1/domains/anna.test.").await.expect(200).json();
        assert_eq!(seen["tenant"], json!(hers));
        client.get("/api/v1/records/www.anna.test.").await.expect(200);
    }
    for (method, path) in [
        ("GET", "/api/v1/domains/anna.test."),
        ("GET", "/api/v1/domains/anna.test./export"),
        ("GET", "/api/v1/domains/anna.test./versions"),
        ("GET", "/api/v1/domains/anna.test.?at=1"),
        ("GET", "/api/v1/domains/anna.test./grants"),
        ("GET", "/api/v1/records?zone=anna.test."),
        ("GET", "/api/v1/records?zone=anna.test.&at=1"),
        ("GET", "/api/v1/records/www.anna.test."),
        ("GET", "/api/v1/records/www.anna.test.?at=2&zone=anna.test."),
        ("DELETE", "/api/v1/records/www.anna.test.?all=true"),
        ("DELETE", "/api/v1/domains/anna.test."),
    ] {
        let foreign = bert.client.send(method, path, &[], Vec::new()).await.expect(404);
        let nothing =
            bert.client.send(method, &path.replace("anna", "none"), &[], Vec::new()).await.expect(404);
        let said = |answer: &Answer| answer.json()["error"].as_str().unwrap().replace("none", "anna");
        assert_eq!((foreign.code(), said(&foreign)), (nothing.code(), said(&nothing)), "{method} {path}");
    }
    assert_eq!(put(&bert.client, "more.anna.test.").await.expect(404).code(), "DOMAIN_NOT_FOUND");
    assert_eq!(names(&bert.client, "/api/v1/domains").await, [""; 0]);
    assert_eq!(names(&anna.client, "/api/v1/domains").await, ["anna.test."]);
    let all = names(office.client(), "/api/v1/domains").await;
    assert!(all.contains(&"anna.test.".to_owned()) && all.contains(&"example.com.".to_owned()));
    assert_eq!(names(office.client(), &format!("/api/v1/domains?tenant={hers}")).await, ["anna.test."]);
    assert_eq!(names(office.client(), "/api/v1/domains?tenant=0").await, ["example.com."]);
    assert_eq!(anna.client.get("/api/v1/records").await.expect(400).code(), "MALFORMED_REQUEST");
    // What runs the platform is for operators.
    for path in ["/api/v1/nodes", "/api/v1/jobs", "/api/v1/users"] {
        assert_eq!(anna.client.get(path).await.expect(403).code(), "INSUFFICIENT_SCOPE");
    }
    anna.client.json("POST", "/api/v1/rollback", &json!({ "to": 1 })).await.expect(403);
    office.server.stop().await;
}

#[tokio::test]
async fn nobody_gets_above_or_below_what_is_somebody_elses() {
    let office = Office::open().await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    zone(&anna.client, "a.anna.test.").await.expect(201);
    zone(&anna.client, "sub.a.anna.test.").await.expect(201);
    assert_eq!(zone(&bert.client, "a.anna.test.").await.expect(409).code(), "DOMAIN_EXISTS");
    assert_eq!(bert.client.import("a.anna.test.", SOA).await.expect(409).code(), "DOMAIN_EXISTS");
    for below in ["b.a.anna.test.", "x.sub.a.anna.test.", "a.b.c.a.anna.test.", "sub.example.com."] {
        assert_eq!(zone(&bert.client, below).await.expect(403).code(), "FORBIDDEN", "{below}");
    }
    assert_eq!(zone(&bert.client, "anna.test.").await.expect(409).code(), "CONFLICT");
    assert_eq!(zone(&bert.client, "test.").await.expect(403).code(), "NAME_RESERVED");
    // Beside is no overlap, also where the octets begin alike.
    for beside in ["aa.anna.test.", "a-a.anna.test.", "b.test.", r"\000a.anna.test.", r"a\000.anna.test."] {
        zone(&bert.client, beside).await.expect(201);
    }
    zone(&anna.client, "anna.test.").await.expect(409);
    // A record below somebody else's zone is in that one, whatever zone of one's own is above.
    let grant = json!({ "role": "admin" });
    anna.client.json("PUT", &format!("/api/v1/domains/a.anna.test./grants/{his}"), &grant).await.expect(200);
    within_a_second(201, || zone(&bert.client, "b.a.anna.test.")).await;
    assert_eq!(put(&anna.client, "www.b.a.anna.test.").await.expect(404).code(), "DOMAIN_NOT_FOUND");
    assert_eq!(
        anna.client.get("/api/v1/records/www.b.a.anna.test.").await.expect(404).code(),
        "DOMAIN_NOT_FOUND"
    );
    let two = json!({ "changes": [
        { "op": "put", "name": "x.a.anna.test.", "type": "A", "value": ["192.0.2.1"] },
        { "op": "put", "name": "x.b.a.anna.test.", "type": "A", "value": ["192.0.2.1"] },
    ] });
    assert_eq!(
        anna.client.json("POST", "/api/v1/changes", &two).await.expect(404).code(),
        "DOMAIN_NOT_FOUND"
    );
    put(&bert.client, "www.b.a.anna.test.").await.expect(201);
    // Operators stand above that.
    office
        .client()
        .json("POST", "/api/v1/domains", &json!({ "name": "test.", "ns": ["ns1.example.net."] }))
        .await
        .expect(201);
    office.server.stop().await;
}

/// What takes which role, in a zone of the tenant's.
fn of_roles() -> Vec<(&'static str, String, Value, u16)> {
    let record = |name: &str| json!({ "name": name, "type": "A", "value": ["192.0.2.9"] });
    let role = json!({ "role": "viewer" });
    vec![
        // What takes it, method and path, body, and its status where it is allowed.
        ("viewer", "GET /api/v1/domains/work.test.".to_owned(), Value::Null, 200),
        ("viewer", "GET /api/v1/domains/work.test./export".to_owned(), Value::Null, 200),
        ("viewer", "GET /api/v1/domains/work.test./versions".to_owned(), Value::Null, 200),
        ("viewer", "GET /api/v1/records?zone=work.test.".to_owned(), Value::Null, 200),
        ("viewer", "GET /api/v1/records/www.work.test.".to_owned(), Value::Null, 200),
        ("viewer", "GET /api/v1/tenants/TENANT".to_owned(), Value::Null, 200),
        ("viewer", "GET /api/v1/tenants/TENANT/members".to_owned(), Value::Null, 200),
        ("editor", "POST /api/v1/records".to_owned(), record("new-ROLE.work.test."), 201),
        ("editor", "PUT /api/v1/records/www.work.test.?type=A".to_owned(), record("www.work.test."), 200),
        ("editor", "DELETE /api/v1/records/new-ROLE.work.test.?type=A".to_owned(), Value::Null, 204),
        ("editor", "PUT /api/v1/domains/work.test.".to_owned(), json!({ "records": [record("www")] }), 200),
        ("editor", "POST /api/v1/domains/work.test./rollback".to_owned(), json!({ "version": 2 }), 200),
        ("editor", "PATCH /api/v1/domains/work.test.".to_owned(), json!({ "soa": { "minimum": 90 } }), 200),
        ("admin", "GET /api/v1/domains/work.test./grants".to_owned(), Value::Null, 200),
        ("admin", "PUT /api/v1/domains/work.test./grants/OTHER".to_owned(), role.clone(), 200),
        ("admin", "DELETE /api/v1/domains/work.test./grants/OTHER".to_owned(), Value::Null, 204),
        ("admin", "PUT /api/v1/tenants/TENANT/members/STRANGER".to_owned(), role, 200),
        ("admin", "DELETE /api/v1/tenants/TENANT/members/STRANGER".to_owned(), Value::Null, 204),
        ("admin", "GET /api/v1/tenants/TENANT/invitations".to_owned(), Value::Null, 200),
        (
            "admin",
            "POST /api/v1/tenants/TENANT/invitations".to_owned(),
            json!({ "email": "new-ROLE@example.org", "role": "admin" }),
            201,
        ),
        (
            "owner",
            "POST /api/v1/tenants/TENANT/invitations".to_owned(),
            json!({ "email": "owner-ROLE@example.org", "role": "owner" }),
            201,
        ),
        ("admin", "PATCH /api/v1/tenants/TENANT".to_owned(), json!({ "name": "Work" }), 200),
        (
            "admin",
            "POST /api/v1/domains?tenant=TENANT".to_owned(),
            json!({ "name": "made-ROLE.test.", "ns": ["ns1.example.net."] }),
            201,
        ),
        ("admin", "DELETE /api/v1/domains/made-ROLE.test.?confirm=1".to_owned(), Value::Null, 204),
        ("owner", "PUT /api/v1/tenants/TENANT/members/STRANGER".to_owned(), json!({ "role": "owner" }), 200),
        ("owner", "DELETE /api/v1/tenants/TENANT/members/STRANGER".to_owned(), Value::Null, 204),
        ("operator", "PATCH /api/v1/tenants/TENANT".to_owned(), json!({ "suspended": false }), 200),
    ]
}

#[tokio::test]
async fn each_role_may_what_it_says_and_no_more() {
    const ROLES: [&str; 4] = ["viewer", "editor", "admin", "owner"];
    let office = Office::open().await;
    let (anna, tenant) = with_tenant(&office, "anna@example.org").await;
    let (stranger, other) = with_tenant(&office, "carl@example.org").await;
    zone(&anna.client, "work.test.").await.expect(201);
    put(&anna.client, "www.work.test.").await.expect(201);
    let mut people = Vec::new();
    for role in ROLES {
        let person = office.somebody(&format!("{role}@example.org")).await;
        join(&anna.client, tenant, &person, role).await;
        people.push((role, person));
    }
    let stranger = id(&stranger).await;
    let (mut allowed, mut refused) = (0, 0);
    for (role, person) in &people {
        for (least, asked, body, status) in of_roles() {
            let fill = |text: &str| {
                text.replace("TENANT", &tenant.to_string())
                    .replace("OTHER", &other.to_string())
                    .replace("STRANGER", &stranger)
                    .replace("ROLE", role)
            };
            let asked = fill(&asked);
            let (method, path) = asked.split_once(' ').unwrap();
            let body: Value = serde_json::from_str(&fill(&body.to_string())).unwrap();
            let answer = match body {
                Value::Null => person.client.send(method, path, &[], Vec::new()).await,
                body => person.client.json(method, path, &body).await,
            };
            let rank = |role: &str| ROLES.iter().position(|one| *one == role).unwrap_or(ROLES.len());
            if rank(role) >= rank(least) {
                assert_eq!(answer.status.as_u16(), status, "{role}: {asked}: {}", answer.text);
                allowed += 1;
            } else {
                // What somebody else would have made is not there to be deleted.
                let wanted = if method == "DELETE" { [403, 404] } else { [403, 403] };
                assert!(
                    wanted.contains(&answer.status.as_u16()),
                    "{role}: {asked}: {} {}",
                    answer.status,
                    answer.text
                );
                refused += 1;
            }
        }
    }
    assert!(allowed > 50 && refused > 30, "{allowed} {refused}");
    office.server.stop().await;
}

#[tokio::test]
async fn what_is_granted_counts_within_a_second_and_is_no_more_than_one_is_at_home() {
    let office = Office::open().await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    let dora = office.somebody("dora@example.org").await;
    join(&bert.client, his, &dora, "viewer").await;
    zone(&anna.client, "shared.test.").await.expect(201);
    let grant = format!("/api/v1/domains/shared.test./grants/{his}");
    let www = "/api/v1/domains/shared.test.";
    bert.client.get(www).await.expect(404);
    anna.client.json("PUT", &grant, &json!({ "role": "viewer" })).await.expect(200);
    within_a_second(200, || bert.client.get(www)).await;
    assert_eq!(put(&bert.client, "x.shared.test.").await.expect(403).code(), "FORBIDDEN");
    assert_eq!(names(&bert.client, "/api/v1/domains").await, ["shared.test."]);
    assert_eq!(names(&bert.client, &format!("/api/v1/domains?tenant={his}")).await, [""; 0]);
    assert_eq!(names(&bert.client, &format!("/api/v1/domains?tenant={hers}")).await, ["shared.test."]);
    anna.client.json("PUT", &grant, &json!({ "role": "editor" })).await.expect(200);
    within_a_second(201, || put(&bert.client, "x.shared.test.")).await;
    bert.client.get("/api/v1/domains/shared.test./grants").await.expect(403);
    bert.client.delete("/api/v1/domains/shared.test.?confirm=2").await.expect(403);
    // In Bert's tenant Dora only looks: so she does here.
    within_a_second(200, || dora.client.get(www)).await;
    put(&dora.client, "y.shared.test.").await.expect(403);
    // Who is granted admin decides neither who else is let in, nor that there is no zone any more; and may give it back.
    anna.client.json("PUT", &grant, &json!({ "role": "admin" })).await.expect(200);
    within_a_second(200, || bert.client.get("/api/v1/domains/shared.test./grants")).await;
    let third =
        bert.client.json("POST", "/api/v1/tenants", &json!({ "name": "Third" })).await.expect(201).json();
    let other = format!("/api/v1/domains/shared.test./grants/{}", third["number"]);
    bert.client.json("PUT", &other, &json!({ "role": "admin" })).await.expect(403);
    bert.client.delete("/api/v1/domains/shared.test.?confirm=2").await.expect(403);
    bert.client.delete("/api/v1/domains/shared.test.?dry_run=true").await.expect(403);
    bert.client.delete(&grant).await.expect(204);
    within_a_second(404, || bert.client.get(www)).await;
    anna.client.json("PUT", &grant, &json!({ "role": "editor" })).await.expect(200);
    within_a_second(200, || bert.client.get(www)).await;
    let granted = anna.client.get("/api/v1/domains/shared.test./grants").await.expect(200).json();
    assert_eq!(
        (&granted["items"][0]["tenant"], &granted["items"][0]["role"]),
        (&json!(his), &json!("editor"))
    );
    for (tenant, body, status, code) in [
        (his.to_string(), json!({ "role": "owner" }), 422, "INVALID_VALUE"),
        (hers.to_string(), json!({ "role": "viewer" }), 422, "INVALID_VALUE"),
        ("999999".to_owned(), json!({ "role": "viewer" }), 404, "TENANT_NOT_FOUND"),
        ("x".to_owned(), json!({ "role": "viewer" }), 404, "TENANT_NOT_FOUND"),
        (his.to_string(), json!({ "role": "king" }), 400, "MALFORMED_REQUEST"),
    ] {
        let path = format!("/api/v1/domains/shared.test./grants/{tenant}");
        assert_eq!(anna.client.json("PUT", &path, &body).await.expect(status).code(), code);
    }
    anna.client.delete(&grant).await.expect(204);
    anna.client.delete(&grant).await.expect(404);
    within_a_second(404, || bert.client.get(www)).await;
    within_a_second(404, || dora.client.get(www)).await;
    office.server.stop().await;
}

#[tokio::test]
async fn what_a_zone_was_stays_with_whom_it_belonged_to() {
    let office = Office::open().await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    zone(&anna.client, "moved.test.").await.expect(201);
    let made = put(&anna.client, "secret.moved.test.").await.expect(201);
    let change = format!("/api/v1/changes/{}", made.header("godwit-change"));
    anna.client.get(&change).await.expect(200);
    assert_eq!(bert.client.get(&change).await.expect(404).code(), "CHANGE_NOT_FOUND");
    anna.client.delete_zone("moved.test.").await;
    let versions = "/api/v1/domains/moved.test./versions";
    assert_eq!(anna.client.get(versions).await.expect(200).json()["items"].as_array().unwrap().len(), 3);
    anna.client.get("/api/v1/records?zone=moved.test.&at=2").await.expect(200);
    bert.client.get(versions).await.expect(404);
    bert.client.get("/api/v1/records?zone=moved.test.&at=2").await.expect(404);
    // Nor does he learn which versions there were: there never was such a zone.
    for at in ["99", "2020-01-01T00:00:00Z"] {
        let answer = bert.client.get(&format!("/api/v1/records?zone=moved.test.&at={at}")).await;
        assert_eq!(answer.expect(404).code(), "DOMAIN_NOT_FOUND", "{at}");
    }
    bert.client
        .json("POST", "/api/v1/domains/moved.test./rollback", &json!({ "version": 2 }))
        .await
        .expect(404);
    // Somebody else takes the name: nothing of before comes with it.
    zone(&bert.client, "moved.test.").await.expect(201);
    let seen = bert.client.get(versions).await.expect(200).json();
    let numbers: Vec<u64> =
        seen["items"].as_array().unwrap().iter().map(|item| item["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [4], "{seen}");
    for at in ["1", "2", "3"] {
        for path in
            ["/records?zone=moved.test.&at=", "/domains/moved.test.?at=", "/domains/moved.test./export?at="]
        {
            let answer = bert.client.get(&format!("/api/v1{path}{at}")).await;
            // Not there, or further back than what is kept for him.
            assert!([404, 410].contains(&answer.status.as_u16()), "{path}{at}: {}", answer.text);
        }
    }
    let back = json!({ "version": 2 });
    let answer = bert.client.json("POST", "/api/v1/domains/moved.test./rollback", &back).await;
    assert!([404, 410].contains(&answer.status.as_u16()), "{}", answer.text);
    anna.client.get(versions).await.expect(404);
    anna.client.get("/api/v1/records?zone=moved.test.&at=2").await.expect(404);
    anna.client.json("POST", "/api/v1/domains/moved.test./rollback", &back).await.expect(404);
    office.server.stop().await;
}

#[tokio::test]
async fn an_owner_stays_and_a_tenant_with_zones_does_too() {
    let office = Office::open().await;
    let (anna, tenant) = with_tenant(&office, "anna@example.org").await;
    let bert = office.somebody("bert@example.org").await;
    let (anna_id, bert_id) = (id(&anna).await, id(&bert).await);
    let member = |account: &str| format!("/api/v1/tenants/{tenant}/members/{account}");
    zone(&anna.client, "kept.test.").await.expect(201);
    for role in ["admin", "viewer"] {
        let less = anna.client.json("PUT", &member(&anna_id), &json!({ "role": role })).await;
        assert_eq!(less.expect(409).code(), "CONFLICT");
    }
    anna.client.delete(&member(&anna_id)).await.expect(409);
    anna.client.delete(&format!("/api/v1/tenants/{tenant}")).await.expect(409);
    let leave = json!({ "password": PASSWORD });
    assert_eq!(anna.client.json("DELETE", "/api/v1/users/me", &leave).await.expect(409).code(), "CONFLICT");
    office.client().delete(&format!("/api/v1/users/{anna_id}")).await.expect(409);
    anna.client
        .json("PUT", &member(&uuid::Uuid::now_v7().to_string()), &json!({ "role": "viewer" }))
        .await
        .expect(404);
    // Who was asked and has not said yes is none, and sees of it that they are asked.
    anna.client.json("PUT", &member(&bert_id), &json!({ "role": "owner" })).await.expect(200);
    bert.client.get("/api/v1/domains/kept.test.").await.expect(404);
    bert.client.get(&format!("/api/v1/tenants/{tenant}/members")).await.expect(404);
    let listed = bert.client.get("/api/v1/tenants").await.expect(200).json();
    let asked =
        listed["items"].as_array().unwrap().iter().find(|item| item["number"] == json!(tenant)).unwrap();
    assert_eq!((&asked["accepted"], &asked["role"]), (&json!(false), &json!("owner")));
    let members = anna.client.get(&format!("/api/v1/tenants/{tenant}/members")).await.expect(200);
    assert!(!members.text.contains("bert@"), "{}", members.text);
    anna.client.delete(&member(&anna_id)).await.expect(409);
    let accept = format!("/api/v1/tenants/{tenant}/accept");
    bert.client.send("POST", &accept, &[], Vec::new()).await.expect(200);
    bert.client.send("POST", &accept, &[], Vec::new()).await.expect(404);
    within_a_second(200, || bert.client.get("/api/v1/domains/kept.test.")).await;
    // Whoever is left owns it; who has left sees nothing of it.
    anna.client.delete(&member(&anna_id)).await.expect(204);
    within_a_second(404, || anna.client.get("/api/v1/domains/kept.test.")).await;
    anna.client.get(&format!("/api/v1/tenants/{tenant}")).await.expect(404);
    bert.client.delete_zone("kept.test.").await;
    bert.client.delete(&format!("/api/v1/tenants/{tenant}")).await.expect(204);
    bert.client.get(&format!("/api/v1/tenants/{tenant}")).await.expect(404);
    assert_eq!(zone(&anna.client, "none.test.").await.expect(403).code(), "FORBIDDEN");
    let made = anna
        .client
        .json("POST", "/api/v1/tenants", &json!({ "name": "Anna again" }))
        .await
        .expect(201)
        .json();
    assert!(made["number"].as_u64().unwrap() > tenant, "a number is not given twice");
    within_a_second(201, || zone(&anna.client, "again.test.")).await;
    // With two, it has to be said for which.
    anna.client.json("POST", "/api/v1/tenants", &json!({ "name": "Another" })).await.expect(201);
    within_a_second(422, || zone(&anna.client, "which.test.")).await;
    let path = format!("/api/v1/domains?tenant={}", made["number"]);
    let body = json!({ "name": "which.test.", "ns": ["ns1.example.net."] });
    assert_eq!(anna.client.json("POST", &path, &body).await.expect(201).json()["tenant"], made["number"]);
    office.server.stop().await;
}

#[tokio::test]
async fn a_suspended_tenant_is_read_and_not_changed() {
    let office = Office::open().await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    zone(&anna.client, "paused.test.").await.expect(201);
    let grant = format!("/api/v1/domains/paused.test./grants/{his}");
    anna.client.json("PUT", &grant, &json!({ "role": "editor" })).await.expect(200);
    within_a_second(201, || put(&bert.client, "before.paused.test.")).await;
    let tenant = format!("/api/v1/tenants/{hers}");
    anna.client.json("PATCH", &tenant, &json!({ "suspended": true })).await.expect(403);
    office.client().json("PATCH", &tenant, &json!({ "suspended": true })).await.expect(200);
    within_a_second(403, || put(&anna.client, "x.paused.test.")).await;
    within_a_second(403, || put(&bert.client, "x.paused.test.")).await;
    zone(&anna.client, "more.test.").await.expect(403);
    anna.client.json("PATCH", &tenant, &json!({ "name": "other" })).await.expect(403);
    anna.client.delete(&tenant).await.expect(403);
    anna.client.delete(&grant).await.expect(403);
    // Operators go on.
    office
        .client()
        .json(
            "POST",
            &format!("/api/v1/domains?tenant={hers}"),
            &json!({ "name": "given.test.", "ns": ["ns1.example.net."] }),
        )
        .await
        .expect(201);
    anna.client.get("/api/v1/domains/paused.test.").await.expect(200);
    office.client().json("PATCH", &tenant, &json!({ "suspended": false })).await.expect(200);
    within_a_second(201, || put(&anna.client, "x.paused.test.")).await;
    within_a_second(201, || put(&bert.client, "y.paused.test.")).await;
    office.server.stop().await;
}

#[tokio::test]
async fn keys_of_members_are_within_their_tenants_and_decide_about_nobody() {
    let office = Office::open().await;
    let (anna, tenant) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    let olga = operator(&office).await;
    zone(&anna.client, "signed.test.").await.expect(201);
    let signer = key(&anna, &json!({})).await;
    let all = "records:read records:write domains:read domains:write users:admin admin";
    let script = signer.client(&anna.client, all, &Value::Null);
    put(&script, "www.signed.test.").await.expect(201);
    script.get("/api/v1/domains/example.com.").await.expect(404);
    script.get("/api/v1/users").await.expect(403);
    // What a token makes of members would go on when it has ended.
    let member = format!("/api/v1/tenants/{tenant}/members/{}", id(&bert).await);
    assert_eq!(
        script.json("PUT", &member, &json!({ "role": "owner" })).await.expect(403).code(),
        "FORBIDDEN"
    );
    let foreign = key(&bert, &json!({})).await.client(&bert.client, all, &Value::Null);
    foreign.get("/api/v1/domains/signed.test.").await.expect(404);
    put(&foreign, "evil.signed.test.").await.expect(404);
    // An operator makes a tenant for somebody.
    let body = json!({ "name": "For Bert", "owner": id(&bert).await });
    let made = olga.client.json("POST", "/api/v1/tenants", &body).await.expect(201).json();
    let path = format!("/api/v1/domains?tenant={}", made["number"]);
    let body = json!({ "name": "given.test.", "ns": ["ns1.example.net."] });
    olga.client.json("POST", &path, &body).await.expect(201);
    within_a_second(200, || bert.client.get("/api/v1/domains/given.test.")).await;
    let nobody = json!({ "name": "none.test.", "ns": ["ns1.example.net."] });
    let answer = olga.client.json("POST", "/api/v1/domains?tenant=99999", &nobody).await.expect(404);
    assert_eq!(answer.code(), "TENANT_NOT_FOUND");
    office.server.stop().await;
}

/// What came while somebody was one is judged by what they are when it is made.
#[tokio::test]
async fn a_body_that_comes_slowly_brings_no_rights_along() {
    let office = Office::open().await;
    let (anna, tenant) = with_tenant(&office, "anna@example.org").await;
    let bert = office.somebody("bert@example.org").await;
    zone(&anna.client, "slow.test.").await.expect(201);
    join(&anna.client, tenant, &bert, "admin").await;
    within_a_second(200, || bert.client.get("/api/v1/domains/slow.test.")).await;
    let requests = [
        ("PUT", "/api/v1/domains/slow.test./grants/2".to_owned(), json!({ "role": "admin" })),
        (
            "POST",
            "/api/v1/records".to_owned(),
            json!({ "name": "x.slow.test.", "type": "A", "value": ["192.0.2.1"] }),
        ),
    ];
    let mut slow = Vec::new();
    for (method, path, body) in &requests {
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: api.test\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            bert.client.token,
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(bert.client.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
        slow.push((stream, body));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let member = format!("/api/v1/tenants/{tenant}/members/{}", id(&bert).await);
    anna.client.delete(&member).await.expect(204);
    for (mut stream, body) in slow {
        tokio::io::AsyncWriteExt::write_all(&mut stream, body.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let status = &answer[9..12];
        assert!(status == "404" || status == "403", "{answer}");
    }
    office.server.stop().await;
}

/// Everything goes back to what it was, but for what is somebody else's by now: nobody keeps the rest from it.
#[tokio::test]
async fn everything_goes_back_whoever_has_taken_what_since() {
    let office = Office::open().await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    zone(&anna.client, "moved.test.").await.expect(201);
    zone(&anna.client, "gone.test.").await.expect(201);
    let marked = put(&anna.client, "www.gone.test.").await.expect(201);
    let marked = office.client().get(&format!("/api/v1/changes/{}", marked.header("godwit-change"))).await;
    let mut marked = marked.expect(200).json();
    while marked["sequence"].is_null() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let path = format!("/api/v1/changes/{}", marked["id"].as_str().unwrap());
        marked = office.client().get(&path).await.expect(200).json();
    }
    anna.client.delete_zone("moved.test.").await;
    anna.client.delete_zone("gone.test.").await;
    zone(&bert.client, "moved.test.").await.expect(201);
    let back = json!({ "to": marked["sequence"] });
    let dry = office.client().json("POST", "/api/v1/rollback?dry_run=true", &back).await.expect(200);
    let confirm = dry.header("godwit-confirm");
    let path = if confirm.is_empty() {
        "/api/v1/rollback".to_owned()
    } else {
        format!("/api/v1/rollback?confirm={confirm}")
    };
    let done = office.client().json("POST", &path, &back).await.expect(200).json();
    assert_eq!((&done["skipped"], &done["left"]), (&json!(["moved.test."]), &json!(0)), "{done}");
    anna.client.get("/api/v1/records/www.gone.test.").await.expect(200);
    bert.client.get("/api/v1/domains/moved.test.").await.expect(200);
    office.server.stop().await;
}

/// A key is remembered for a minute, and what its account may is not.
#[tokio::test]
async fn a_key_may_what_its_account_may_a_second_later() {
    let office = Office::open().await;
    let (anna, _) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    zone(&anna.client, "anna.test.").await.expect(201);
    let signer = key(&bert, &json!({ "scope": "domains:read" })).await;
    // Each with a token that nobody remembers.
    let read = async || {
        signer.client(&bert.client, "domains:read", &Value::Null).get("/api/v1/domains/anna.test.").await
    };
    read().await.expect(404);
    let grant = format!("/api/v1/domains/anna.test./grants/{his}");
    for (is_granted, status) in [(true, 200), (false, 404)] {
        if is_granted {
            anna.client.json("PUT", &grant, &json!({ "role": "viewer" })).await.expect(200);
        } else {
            anna.client.delete(&grant).await.expect(204);
        }
        let deadline = Instant::now() + Duration::from_secs(1);
        while read().await.status != status {
            assert!(Instant::now() < deadline, "it is as before after a second");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    office.server.stop().await;
}

/// Whoever speaks to the database as tenants do makes themselves a member of nothing, and asks nobody in for others.
#[tokio::test]
async fn the_database_lets_nobody_make_members_who_may_not() {
    if crate::DATABASE == godwit_controlplane::store::Kind::Sqlite {
        return;
    }
    let office = Office::open().await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    let mut connection = office.server.beside().await;
    connection.query("SET ROLE godwit_tenant").execute().await.unwrap();
    let acts_for = "SELECT set_config('godwit.account', $1, false)";
    let (anna, bert) = (id(&anna).await, id(&bert).await);
    connection.query(acts_for).bind(bert.as_str()).fetch_value::<String>().await.unwrap();
    let insert = "INSERT INTO memberships (tenant, account_id, role, created_at_us, accepted_at_us) VALUES ($1, CAST($2 AS UUID), 'viewer', 1, $3)";
    for (tenant, account, accepted_at_us, is_refused) in [
        (hers, &bert, None, true),
        (hers, &bert, Some(1), true),
        // In his own he asks, and says yes for nobody.
        (his, &anna, Some(1), true),
        (his, &anna, None, false),
    ] {
        let row = connection.query(insert).bind(i64::try_from(tenant).unwrap()).bind(account.as_str());
        let made = row.bind(accepted_at_us).execute().await;
        let why = made.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(made.is_err(), is_refused, "{tenant} {account} {accepted_at_us:?}: {why}");
        assert!(!is_refused || why.contains("row-level security"), "{why}");
    }
    drop(connection);
    office.server.stop().await;
}
