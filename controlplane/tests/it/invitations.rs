//! People are invited to tenants by their address, and say yes or no to it.

use godwit_controlplane::store::Kind;
use serde_json::{Value, json};

use crate::harness::{Answer, Client};
use crate::office::{Office, PASSWORD, Person};
use crate::tenants::{id, join, with_tenant, zone};

fn invitations(tenant: u64) -> String {
    format!("/api/v1/tenants/{tenant}/invitations")
}

async fn invite(client: &Client, tenant: u64, email: &str, role: &str) -> Answer {
    client.json("POST", &invitations(tenant), &json!({ "email": email, "role": role })).await
}

/// What somebody is, or is invited to be, in a tenant.
async fn seen(person: &Person, tenant: u64) -> Option<(String, bool)> {
    let listed = person.client.get("/api/v1/tenants").await.expect(200).json();
    let found = listed["items"].as_array().unwrap().iter().find(|one| one["number"] == json!(tenant));
    found.map(|found| (found["role"].as_str().unwrap().to_owned(), found["accepted"].as_bool().unwrap()))
}

fn invited_as(role: &str) -> Option<(String, bool)> {
    Some((role.to_owned(), false))
}

async fn accept(person: &Person, tenant: u64) -> Answer {
    person.client.send("POST", &format!("/api/v1/tenants/{tenant}/accept"), &[], Vec::new()).await
}

/// Who has no account yet gets one, and is asked nothing but whether they want it; inviting tells nobody who has one.
#[tokio::test]
async fn who_is_invited_becomes_a_member_by_saying_yes() {
    let office = Office::open().await;
    let (anna, tenant) = with_tenant(&office, "anna@example.org").await;
    let (bert, _) = with_tenant(&office, "bert@example.org").await;
    zone(&anna.client, "work.test.").await.expect(201);
    let known = invite(&anna.client, tenant, "Bert@Example.ORG", "viewer").await.expect(201).json();
    let stranger = invite(&anna.client, tenant, "carl@example.org", "editor").await.expect(201).json();
    let fields = |body: &Value| body.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&known), fields(&stranger));
    assert_eq!((&stranger["email"], &stranger["role"]), (&json!("carl@example.org"), &json!("editor")));
    let listed = anna.client.get(&invitations(tenant)).await.expect(200).json();
    assert_eq!(listed["items"], json!([known, stranger]));

    let letter = office.letter("carl@example.org", "You are invited to a tenant").await;
    assert!(
        letter.contains("anna@example.org invites you")
            && letter.contains(&format!("/api/v1/tenants/{tenant}/accept")),
        "{letter}"
    );
    let carl = office.somebody("carl@example.org").await;
    assert_eq!(seen(&carl, tenant).await, invited_as("editor"));
    // They are nothing yet.
    for path in ["/api/v1/domains/work.test.".to_owned(), format!("/api/v1/tenants/{tenant}")] {
        carl.client.get(&path).await.expect(404);
    }
    // Nor is it for anybody else.
    let (dora, _) = with_tenant(&office, "dora@example.org").await;
    assert_eq!(accept(&dora, tenant).await.expect(404).code(), "TENANT_NOT_FOUND");
    assert_eq!(accept(&carl, tenant).await.expect(200).json()["role"], json!("editor"));
    let record = json!({ "name": "www.work.test.", "type": "A", "value": ["192.0.2.1"] });
    carl.client.json("POST", "/api/v1/records", &record).await.expect(201);
    assert_eq!(accept(&carl, tenant).await.expect(404).code(), "TENANT_NOT_FOUND");

    // An address is one however it is written; what was asked last counts.
    invite(&anna.client, tenant, "bert@example.org", "admin").await.expect(201);
    assert_eq!(seen(&bert, tenant).await, invited_as("admin"));
    let listed = anna.client.get(&invitations(tenant)).await.expect(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    let own = format!("/api/v1/tenants/{tenant}/members/{}", id(&bert).await);
    bert.client.delete(&own).await.expect(204);
    assert_eq!(seen(&bert, tenant).await, None);
    assert_eq!(accept(&bert, tenant).await.expect(404).code(), "TENANT_NOT_FOUND");
    bert.client.delete(&own).await.expect(404);

    // Nobody is more, or less, than they are by an invitation.
    invite(&anna.client, tenant, "carl@example.org", "admin").await.expect(201);
    assert_eq!(seen(&carl, tenant).await, Some(("editor".to_owned(), true)));
    assert_eq!(accept(&carl, tenant).await.expect(200).json()["role"], json!("editor"));
    assert_eq!(anna.client.get(&invitations(tenant)).await.expect(200).json()["items"], json!([]));
    office.server.stop().await;
}

#[tokio::test]
async fn an_invitation_counts_until_it_ends_is_taken_back_or_who_made_it_may_no_more() {
    let office = Office::open().await;
    let (anna, tenant) = with_tenant(&office, "anna@example.org").await;
    let bert = office.somebody("bert@example.org").await;
    let carl = office.somebody("carl@example.org").await;
    join(&anna.client, tenant, &bert, "admin").await;

    let made = invite(&bert.client, tenant, "carl@example.org", "editor").await.expect(201).json();
    let path = format!("{}/{}", invitations(tenant), made["id"].as_str().unwrap());
    bert.client.delete(&path).await.expect(204);
    assert_eq!(bert.client.delete(&path).await.expect(404).code(), "INVITATION_NOT_FOUND");
    assert_eq!(bert.client.delete(&format!("{path}0")).await.expect(404).code(), "INVITATION_NOT_FOUND");
    assert_eq!(seen(&carl, tenant).await, None);
    accept(&carl, tenant).await.expect(404);

    invite(&bert.client, tenant, "carl@example.org", "editor").await.expect(201);
    let mut beside = office.server.beside().await;
    let expire = "UPDATE invitations SET expires_at_us = 1";
    beside.query(expire).execute().await.unwrap();
    assert_eq!(seen(&carl, tenant).await, None);
    accept(&carl, tenant).await.expect(404);
    assert_eq!(bert.client.get(&invitations(tenant)).await.expect(200).json()["items"], json!([]));

    // Of an owner only owners decide, and an admin takes none back.
    assert_eq!(
        invite(&bert.client, tenant, "dora@example.org", "owner").await.expect(403).code(),
        "FORBIDDEN"
    );
    let owner = invite(&anna.client, tenant, "dora@example.org", "owner").await.expect(201).json();
    let of_owner = format!("{}/{}", invitations(tenant), owner["id"].as_str().unwrap());
    assert_eq!(bert.client.delete(&of_owner).await.expect(403).code(), "FORBIDDEN");
    assert_eq!(
        invite(&bert.client, tenant, "dora@example.org", "viewer").await.expect(403).code(),
        "FORBIDDEN"
    );

    // Who is an admin no more has invited nobody; an operator's word does not end with a membership.
    invite(&bert.client, tenant, "carl@example.org", "editor").await.expect(201);
    assert_eq!(seen(&carl, tenant).await, invited_as("editor"));
    let member = format!("/api/v1/tenants/{tenant}/members/{}", id(&bert).await);
    anna.client.json("PUT", &member, &json!({ "role": "editor" })).await.expect(200);
    assert_eq!(seen(&carl, tenant).await, None);
    accept(&carl, tenant).await.expect(404);
    anna.client.delete(&member).await.expect(204);
    accept(&carl, tenant).await.expect(404);
    invite(office.client(), tenant, "carl@example.org", "viewer").await.expect(201);
    office.letter("carl@example.org", "An operator invites you").await;
    assert_eq!(accept(&carl, tenant).await.expect(200).json()["role"], json!("viewer"));
    office.server.stop().await;
}

/// Nobody is written to at will: what is no address is refused, and an address gets so much mail; a token invites nobody.
#[tokio::test]
async fn invitations_go_to_addresses_and_not_for_ever() {
    let office = Office::open().await;
    let (anna, tenant) = with_tenant(&office, "anna@example.org").await;
    for bad in ["", "anna", "a@example.org\r\nBcc: b@example.org", "a@example.org, b@example.org"] {
        assert_eq!(invite(&anna.client, tenant, bad, "viewer").await.expect(422).code(), "INVALID_VALUE");
    }
    invite(&anna.client, tenant, "carl@example.org", "king").await.expect(400);
    // What the tenant is called goes nowhere: it could be anything.
    let called = json!({ "name": "Win at https://evil.example.net/" });
    anna.client.json("PATCH", &format!("/api/v1/tenants/{tenant}"), &called).await.expect(200);
    invite(&anna.client, tenant, "carl@example.org", "viewer").await.expect(201);
    let letter = office.letter("carl@example.org", "invites you").await;
    assert!(!letter.contains("evil"), "{letter}");
    let mut refused = None;
    for _ in 0..10 {
        let answer = invite(&anna.client, tenant, "carl@example.org", "viewer").await;
        if answer.status != 201 {
            refused = Some(answer.expect(429));
            break;
        }
    }
    let refused = refused.expect("one address gets any number of letters");
    // Which keeps nobody from a letter of their own.
    let forgotten = json!({ "email": "carl@example.org" });
    office.post("/api/v1/auth/password/forgot", forgotten).await.expect(202);
    assert_eq!(refused.code(), "RATE_LIMITED");
    assert!(!refused.header("retry-after").is_empty());
    let token = json!({ "name": "script", "scope": "domains:write", "password": PASSWORD });
    let token = anna.client.json("POST", "/api/v1/tokens", &token).await.expect(201).json();
    let token = Client { token: token["token"].as_str().unwrap().to_owned(), ..anna.client.clone() };
    assert_eq!(invite(&token, tenant, "dora@example.org", "viewer").await.expect(403).code(), "FORBIDDEN");
    office.server.stop().await;
}

/// Whoever speaks to the database as tenants do invites nobody for others, and takes nobody's invitation.
#[tokio::test]
async fn the_database_lets_nobody_invite_who_may_not() {
    if crate::DATABASE == Kind::Sqlite {
        return;
    }
    let office = Office::open().await;
    let (anna, hers) = with_tenant(&office, "anna@example.org").await;
    let (bert, his) = with_tenant(&office, "bert@example.org").await;
    invite(&anna.client, hers, "carl@example.org", "viewer").await.expect(201);
    let mut connection = office.server.beside().await;
    connection.query("SET ROLE godwit_tenant").execute().await.unwrap();
    let acts_for = "SELECT set_config('godwit.account', $1, false)";
    let (anna, bert) = (id(&anna).await, id(&bert).await);
    connection.query(acts_for).bind(bert.as_str()).fetch_value::<String>().await.unwrap();
    let insert = "INSERT INTO invitations (id, tenant, email, email_key, role, invited_by, created_at_us, expires_at_us) VALUES (gen_random_uuid(), $1, 'bert@example.org', 'bert@example.org', 'owner', CAST($2 AS UUID), 1, 9000000000000000)";
    // Neither for her tenant, nor in her name, nor in an operator's.
    for (tenant, by, is_refused) in
        [(hers, Some(&bert), true), (his, Some(&anna), true), (his, None, true), (his, Some(&bert), false)]
    {
        let row = connection.query(insert).bind(i64::try_from(tenant).unwrap()).bind(by.map(String::as_str));
        let made = row.execute().await;
        let why = made.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(made.is_err(), is_refused, "{tenant} {by:?}: {why}");
        assert!(!is_refused || why.contains("row-level security"), "{why}");
    }
    let count = "SELECT count(*) FROM invitations WHERE tenant = $1";
    let hers = i64::try_from(hers).unwrap();
    assert_eq!(connection.query(count).bind(hers).fetch_value::<i64>().await.unwrap(), 0, "seen");
    for (what, statement) in [
        ("deleted", "DELETE FROM invitations WHERE tenant = $1"),
        ("changed", "UPDATE invitations SET role = 'viewer' WHERE tenant = $1"),
    ] {
        assert_eq!(connection.query(statement).bind(hers).execute().await.unwrap(), 0, "{what}");
    }
    for function in ["SELECT godwit_accept($1, 1)", "SELECT godwit_decline($1)"] {
        assert_eq!(
            connection.query(function).bind(hers).fetch_value::<i64>().await.unwrap(),
            0,
            "{function}"
        );
    }
    drop(connection);
    office.server.stop().await;
}
