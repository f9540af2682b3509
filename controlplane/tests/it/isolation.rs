//! Every route of the API with every verb that it has, for every object of somebody else's: refused, with nothing of it shown and
//! nothing of it changed. The routes are those of the API's description: one that is not known here fails the test. On PostgreSQL
//! the same again with the checks of the program off: the database alone stops it.

use serde_json::{Value, json};

use crate::harness::{Answer, Client};
use crate::keys::{key, operator};
use crate::office::{Office, PASSWORD, Person};
use crate::tenants::{id, join, with_tenant, zone};

/// What must be in no answer to a stranger.
const PLANTED: &str = "vera-planted-secret";

/// What belongs to somebody else, by the name of what stands for it in a path or a body.
type Objects = Vec<(&'static str, Vec<String>)>;

/// A request about objects of somebody else's: method, path and body, in which their names stand; `statuses`: how it is refused.
struct Foreign {
    route: &'static str,
    path: &'static str,
    body: Value,
    statuses: &'static [u16],
}

fn foreign(route: &'static str, path: &'static str, body: Value, statuses: &'static [u16]) -> Foreign {
    Foreign { route, path, body, statuses }
}

/// Is not there.
const NOT_THERE: &[u16] = &[404];
/// Takes a scope that no tenant has.
const OPERATORS: &[u16] = &[403];
/// A name that is taken, or below somebody else's: whoever asks for it has to be told.
const TAKEN: &[u16] = &[403, 409];
/// Lists: nothing of others is among the items.
const LIST: &[u16] = &[200];

#[rustfmt::skip]
fn requests() -> Vec<Foreign> {
    let record = || json!({ "name": "RECORD", "type": "TXT", "value": ["\"x\""] });
    let none = || Value::Null;
    let step = |name: &str| json!({ "op": "put", "name": name, "type": "TXT", "value": ["\"x\""] });
    let mut requests = vec![
        foreign("GET /api/v1/domains", "/api/v1/domains", none(), LIST),
        foreign("GET /api/v1/domains", "/api/v1/domains?tenant=TENANT", none(), LIST),
        foreign("POST /api/v1/domains", "/api/v1/domains", json!({ "name": "ZONE", "ns": ["ns1.example.net."] }), TAKEN),
        foreign("POST /api/v1/domains", "/api/v1/domains", json!({ "name": "below.ZONE", "ns": ["ns1.example.net."] }), TAKEN),
        foreign("POST /api/v1/domains", "/api/v1/domains?tenant=TENANT", json!({ "name": "other.test.", "ns": ["ns1.example.net."] }), OPERATORS),
        foreign("GET /api/v1/domains/{zone}", "/api/v1/domains/ZONE", none(), NOT_THERE),
        foreign("GET /api/v1/domains/{zone}", "/api/v1/domains/ZONE?at=1", none(), NOT_THERE),
        foreign("PUT /api/v1/domains/{zone}", "/api/v1/domains/ZONE", json!({ "records": [] }), NOT_THERE),
        foreign("PUT /api/v1/domains/{zone}", "/api/v1/domains/ZONE?dry_run=true", json!({ "records": [] }), NOT_THERE),
        foreign("PATCH /api/v1/domains/{zone}", "/api/v1/domains/ZONE", json!({ "ttl_policy": "keep" }), NOT_THERE),
        foreign("DELETE /api/v1/domains/{zone}", "/api/v1/domains/ZONE?confirm=2", none(), NOT_THERE),
        foreign("DELETE /api/v1/domains/{zone}", "/api/v1/domains/ZONE?dry_run=true", none(), NOT_THERE),
        foreign("GET /api/v1/domains/{zone}/export", "/api/v1/domains/ZONE/export", none(), NOT_THERE),
        foreign("GET /api/v1/domains/{zone}/export", "/api/v1/domains/ZONE/export?at=1", none(), NOT_THERE),
        foreign("POST /api/v1/domains/{zone}/import", "/api/v1/domains/ZONE/import", json!("@ 300 IN SOA ns1.example.net. hostmaster.example.net. 1 7200 3600 1209600 60\n@ 300 IN NS ns1.example.net.\n"), TAKEN),
        foreign("POST /api/v1/domains/{zone}/rollback", "/api/v1/domains/ZONE/rollback", json!({ "version": 1 }), NOT_THERE),
        foreign("GET /api/v1/domains/{zone}/versions", "/api/v1/domains/ZONE/versions", none(), NOT_THERE),
        foreign("GET /api/v1/domains/{zone}/grants", "/api/v1/domains/ZONE/grants", none(), NOT_THERE),
        foreign("PUT /api/v1/domains/{zone}/grants/{tenant}", "/api/v1/domains/ZONE/grants/OWN", json!({ "role": "admin" }), NOT_THERE),
        foreign("DELETE /api/v1/domains/{zone}/grants/{tenant}", "/api/v1/domains/ZONE/grants/GRANTED", none(), NOT_THERE),
        foreign("GET /api/v1/records", "/api/v1/records?zone=ZONE", none(), NOT_THERE),
        foreign("GET /api/v1/records", "/api/v1/records?zone=ZONE&at=1", none(), NOT_THERE),
        foreign("GET /api/v1/records", "/api/v1/records", none(), &[400]),
        foreign("POST /api/v1/records", "/api/v1/records", record(), NOT_THERE),
        foreign("POST /api/v1/records", "/api/v1/records?zone=ZONE", json!({ "name": "x", "type": "A", "value": ["192.0.2.1"] }), NOT_THERE),
        foreign("GET /api/v1/records/{name}", "/api/v1/records/RECORD", none(), NOT_THERE),
        foreign("GET /api/v1/records/{name}", "/api/v1/records/RECORD?type=TXT&zone=ZONE&at=2", none(), NOT_THERE),
        foreign("GET /api/v1/records/{name}", "/api/v1/dns-records/RECORD?type=TXT", none(), NOT_THERE),
        foreign("PUT /api/v1/records/{name}", "/api/v1/records/RECORD?type=TXT", record(), NOT_THERE),
        foreign("PUT /api/v1/records/{name}", "/api/v1/dns-records/RECORD?zone=ZONE", record(), NOT_THERE),
        foreign("DELETE /api/v1/records/{name}", "/api/v1/records/RECORD?all=true", none(), NOT_THERE),
        foreign("DELETE /api/v1/records/{name}", "/api/v1/records/RECORD?type=TXT&zone=ZONE", none(), NOT_THERE),
        foreign("GET /api/v1/changes", "/api/v1/changes?state=conflict", none(), LIST),
        foreign("GET /api/v1/changes", "/api/v1/changes?state=buffered", none(), LIST),
        foreign("POST /api/v1/changes", "/api/v1/changes", json!({ "changes": [step("RECORD")] }), NOT_THERE),
        foreign("POST /api/v1/changes", "/api/v1/changes", json!({ "changes": [step("x.own.test."), step("RECORD")] }), NOT_THERE),
        foreign("POST /api/v1/changes", "/api/v1/changes?zone=ZONE", json!({ "changes": [step("x")] }), NOT_THERE),
        foreign("POST /api/v1/changes", "/api/v1/changes?zone=ZONE", json!({ "changes": [{ "op": "remove_value", "name": "@", "type": "NS", "value": ["x.test."] }] }), NOT_THERE),
        foreign("GET /api/v1/changes/{id}", "/api/v1/changes/CHANGE", none(), NOT_THERE),
        foreign("GET /api/v1/suffixes", "/api/v1/suffixes", none(), LIST),
        foreign("GET /api/v1/suffixes/{zone}", "/api/v1/suffixes/ZONE", none(), &[404, 410]),
        foreign("PUT /api/v1/suffixes/{zone}", "/api/v1/suffixes/ZONE", json!({}), OPERATORS),
        foreign("DELETE /api/v1/suffixes/{zone}", "/api/v1/suffixes/ZONE", none(), &[403, 404]),
        foreign("GET /api/v1/claims", "/api/v1/claims", none(), LIST),
        foreign("GET /api/v1/claims", "/api/v1/claims?tenant=TENANT", none(), LIST),
        foreign("POST /api/v1/claims", "/api/v1/claims", json!({ "name": "mine.test.", "tenant": 1 }), OPERATORS),
        foreign("GET /api/v1/claims/{id}", "/api/v1/claims/CLAIM", none(), NOT_THERE),
        foreign("DELETE /api/v1/claims/{id}", "/api/v1/claims/CLAIM", none(), NOT_THERE),
        foreign("POST /api/v1/claims/{id}/check", "/api/v1/claims/CLAIM/check", none(), NOT_THERE),
        foreign("GET /api/v1/tenants", "/api/v1/tenants", none(), LIST),
        foreign("POST /api/v1/tenants", "/api/v1/tenants", json!({ "name": "x", "owner": "USER" }), OPERATORS),
        foreign("GET /api/v1/tenants/{number}", "/api/v1/tenants/TENANT", none(), NOT_THERE),
        foreign("PATCH /api/v1/tenants/{number}", "/api/v1/tenants/TENANT", json!({ "name": "taken" }), NOT_THERE),
        foreign("PATCH /api/v1/tenants/{number}", "/api/v1/tenants/TENANT", json!({ "suspended": true }), NOT_THERE),
        foreign("PATCH /api/v1/tenants/{number}", "/api/v1/tenants/TENANT", json!({ "networks": { "deny": ["192.0.2.66"] } }), NOT_THERE),
        foreign("DELETE /api/v1/tenants/{number}", "/api/v1/tenants/EMPTY", none(), NOT_THERE),
        foreign("GET /api/v1/tenants/{number}/quotas", "/api/v1/tenants/TENANT/quotas", none(), NOT_THERE),
        foreign("PUT /api/v1/tenants/{number}/quotas", "/api/v1/tenants/TENANT/quotas", json!({ "zones": 0 }), NOT_THERE),
        foreign("POST /api/v1/tenants/{number}/accept", "/api/v1/tenants/TENANT/accept", none(), NOT_THERE),
        foreign("GET /api/v1/tenants/{number}/invitations", "/api/v1/tenants/TENANT/invitations", none(), NOT_THERE),
        foreign("POST /api/v1/tenants/{number}/invitations", "/api/v1/tenants/TENANT/invitations", json!({ "email": "x@example.org", "role": "viewer" }), NOT_THERE),
        foreign("DELETE /api/v1/tenants/{number}/invitations/{id}", "/api/v1/tenants/TENANT/invitations/INVITATION", none(), NOT_THERE),
        foreign("DELETE /api/v1/tenants/{number}/invitations/{id}", "/api/v1/tenants/OWN/invitations/INVITATION", none(), NOT_THERE),
        // One's own with what is somebody else's: of whom one learns nothing but that they are asked, or granted something.
        foreign("PUT /api/v1/tenants/{number}/members/{id}", "/api/v1/tenants/OWN/members/USER", json!({ "role": "viewer" }), &[200]),
        foreign("GET /api/v1/tenants/{number}/members", "/api/v1/tenants/OWN/members", none(), &[200]),
        foreign("DELETE /api/v1/tenants/{number}/members/{id}", "/api/v1/tenants/OWN/members/USER", none(), &[204, 404]),
        foreign("PUT /api/v1/domains/{zone}/grants/{tenant}", "/api/v1/domains/own.test./grants/TENANT", json!({ "role": "viewer" }), &[200]),
        foreign("GET /api/v1/domains/{zone}/grants", "/api/v1/domains/own.test./grants", none(), &[200]),
        foreign("DELETE /api/v1/domains/{zone}/grants/{tenant}", "/api/v1/domains/own.test./grants/TENANT", none(), &[204, 404]),
        foreign("GET /api/v1/tenants/{number}/members", "/api/v1/tenants/TENANT/members", none(), NOT_THERE),
        foreign("PUT /api/v1/tenants/{number}/members/{id}", "/api/v1/tenants/TENANT/members/ME", json!({ "role": "owner" }), NOT_THERE),
        foreign("PUT /api/v1/tenants/{number}/members/{id}", "/api/v1/tenants/TENANT/members/USER", json!({ "role": "viewer" }), NOT_THERE),
        foreign("DELETE /api/v1/tenants/{number}/members/{id}", "/api/v1/tenants/TENANT/members/MEMBER", none(), NOT_THERE),
        foreign("DELETE /api/v1/tokens/{id}", "/api/v1/tokens/TOKEN", none(), NOT_THERE),
        foreign("GET /api/v1/tokens", "/api/v1/tokens", none(), LIST),
        foreign("GET /api/v1/users/me/keys", "/api/v1/users/me/keys", none(), LIST),
        foreign("DELETE /api/v1/users/me/keys/{kid}", "/api/v1/users/me/keys/KEY", none(), NOT_THERE),
        foreign("GET /api/v1/users/me/sessions", "/api/v1/users/me/sessions", none(), LIST),
        foreign("DELETE /api/v1/users/me/sessions/{session}", "/api/v1/users/me/sessions/SESSION", none(), NOT_THERE),
        foreign("GET /api/v1/users/me", "/api/v1/users/me", none(), LIST),
        foreign("GET /api/v1/users/me/export", "/api/v1/users/me/export", none(), LIST),
        foreign("GET /api/v1/webhooks", "/api/v1/webhooks", none(), LIST),
        foreign("GET /api/v1/webhooks", "/api/v1/webhooks?tenant=TENANT", none(), LIST),
        foreign("POST /api/v1/webhooks", "/api/v1/webhooks", json!({ "url": "https://evil.example.net/", "topics": ["record"], "tenant": 1 }), OPERATORS),
        foreign("GET /api/v1/webhooks/{id}", "/api/v1/webhooks/WEBHOOK", none(), NOT_THERE),
        foreign("PATCH /api/v1/webhooks/{id}", "/api/v1/webhooks/WEBHOOK", json!({ "url": "https://evil.example.net/" }), NOT_THERE),
        foreign("PATCH /api/v1/webhooks/{id}", "/api/v1/webhooks/WEBHOOK", json!({ "enabled": false }), NOT_THERE),
        foreign("DELETE /api/v1/webhooks/{id}", "/api/v1/webhooks/WEBHOOK", none(), NOT_THERE),
        foreign("POST /api/v1/webhooks/{id}/test", "/api/v1/webhooks/WEBHOOK/test", none(), NOT_THERE),
        foreign("GET /api/v1/webhooks/{id}/deliveries", "/api/v1/webhooks/WEBHOOK/deliveries", none(), NOT_THERE),
        foreign("GET /api/v1/users", "/api/v1/users", none(), OPERATORS),
        foreign("GET /api/v1/users", "/api/v1/users?email=vera@example.org", none(), OPERATORS),
        foreign("POST /api/v1/users", "/api/v1/users", json!({ "email": "x@example.org" }), OPERATORS),
        foreign("GET /api/v1/users/{id}", "/api/v1/users/USER", none(), OPERATORS),
        foreign("PATCH /api/v1/users/{id}", "/api/v1/users/USER", json!({ "suspended": true }), OPERATORS),
        foreign("PATCH /api/v1/users/{id}", "/api/v1/users/ME", json!({ "operator": true }), OPERATORS),
        foreign("DELETE /api/v1/users/{id}", "/api/v1/users/USER", none(), OPERATORS),
        foreign("POST /api/v1/users/{id}/link", "/api/v1/users/USER/link", none(), OPERATORS),
        foreign("GET /api/v1/audit", "/api/v1/audit", none(), OPERATORS),
        foreign("GET /api/v1/audit", "/api/v1/audit?actor=USER", none(), OPERATORS),
        foreign("GET /api/v1/audit/export", "/api/v1/audit/export?format=csv", none(), OPERATORS),
        foreign("GET /api/v1/nodes", "/api/v1/nodes", none(), OPERATORS),
        foreign("POST /api/v1/nodes", "/api/v1/nodes", json!({ "name": "evil" }), OPERATORS),
        foreign("DELETE /api/v1/nodes/{node}", "/api/v1/nodes/NODE", none(), OPERATORS),
        foreign("GET /api/v1/keys", "/api/v1/keys", none(), OPERATORS),
        foreign("POST /api/v1/keys/rotate", "/api/v1/keys/rotate", none(), OPERATORS),
        foreign("POST /api/v1/keys/rewrap", "/api/v1/keys/rewrap", none(), OPERATORS),
        foreign("POST /api/v1/keys/rewrap/finish", "/api/v1/keys/rewrap/finish", none(), OPERATORS),
        foreign("GET /api/v1/jobs", "/api/v1/jobs", none(), OPERATORS),
        foreign("GET /api/v1/jobs/{id}", "/api/v1/jobs/JOB", none(), OPERATORS),
        foreign("POST /api/v1/jobs/{id}/cancel", "/api/v1/jobs/JOB/cancel", none(), OPERATORS),
        foreign("POST /api/v1/jobs/{id}/retry", "/api/v1/jobs/JOB/retry", none(), OPERATORS),
        foreign("POST /api/v1/mail/test", "/api/v1/mail/test", json!({ "to": "x@example.org" }), OPERATORS),
        foreign("POST /api/v1/reload", "/api/v1/reload", none(), OPERATORS),
        foreign("POST /api/v1/rollback", "/api/v1/rollback", json!({ "to": 1 }), OPERATORS),
    ];
    // The same under the other path.
    let alias = |path: &str| path.replace("/api/v1/records", "/api/v1/dns-records");
    let others = requests.iter().filter(|foreign| foreign.route.contains("/api/v1/records"));
    let others: Vec<Foreign> = others
        .map(|foreign| Foreign {
            route: alias(foreign.route).leak(),
            path: alias(foreign.path).leak(),
            body: foreign.body.clone(),
            statuses: foreign.statuses,
        })
        .collect();
    requests.extend(others);
    requests
}

/// Routes that name nothing of anybody's: they take a secret that only its owner has, or are about who asks alone.
const ABOUT_ONESELF: &[&str] = &[
    "POST /api/v1/auth/email",
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/logout",
    "POST /api/v1/auth/password/forgot",
    "POST /api/v1/auth/password/reset",
    "POST /api/v1/auth/refresh",
    "POST /api/v1/auth/register",
    "POST /api/v1/auth/verify",
    "DELETE /api/v1/users/me",
    "PATCH /api/v1/users/me",
    "POST /api/v1/users/me/email",
    "POST /api/v1/users/me/keys",
    "POST /api/v1/users/me/password",
    "POST /api/v1/users/me/revoked",
    "DELETE /api/v1/users/me/sessions",
    "DELETE /api/v1/users/me/totp",
    "POST /api/v1/users/me/totp",
    "POST /api/v1/users/me/totp/confirm",
    "POST /api/v1/tokens",
    // Without end: see `events`, `sockets`.
    "GET /api/v1/events",
    "GET /api/v1/ws",
];

/// Somebody with everything that one can have.
struct Victim {
    person: Person,
    objects: Objects,
}

async fn victim(office: &Office) -> Victim {
    let (vera, tenant) = with_tenant(office, "vera@example.org").await;
    let (_, granted) = with_tenant(office, "gerd@example.org").await;
    let hugo = office.somebody("hugo@example.org").await;
    let olga = operator(office).await;
    let (vera_id, hugo_id, olga_id) = (id(&vera).await, id(&hugo).await, id(&olga).await);
    zone(&vera.client, "vera.test.").await.expect(201);
    let body = json!({ "name": "secret.vera.test.", "type": "TXT", "value": [format!("\"{PLANTED}\"")] });
    // Published before it is looked at: the sequence is seen in the versions.
    let made = vera.client.json("POST", "/api/v1/records?wait=applied", &body).await.expect(201);
    let grant = format!("/api/v1/domains/vera.test./grants/{granted}");
    vera.client.json("PUT", &grant, &json!({ "role": "viewer" })).await.expect(200);
    join(&vera.client, tenant, &hugo, "viewer").await;
    let named = json!({ "name": format!("Tenant {PLANTED}") });
    vera.client.json("PATCH", &format!("/api/v1/tenants/{tenant}"), &named).await.expect(200);
    let empty =
        vera.client.json("POST", "/api/v1/tenants", &json!({ "name": PLANTED })).await.expect(201).json();
    let claim = json!({ "name": "claimed.test.", "tenant": tenant });
    let claim = vera.client.json("POST", "/api/v1/claims", &claim).await.expect(201).json();
    let invited = json!({ "email": format!("{PLANTED}@example.org"), "role": "viewer" });
    let invitations = format!("/api/v1/tenants/{tenant}/invitations");
    let invited = vera.client.json("POST", &invitations, &invited).await.expect(201).json();
    let hook = json!({ "url": format!("https://hooks.example.net/{PLANTED}"), "topics": ["record"], "tenant": tenant });
    let hook = vera.client.json("POST", "/api/v1/webhooks", &hook).await.expect(201).json();
    let signer = key(&vera, &json!({ "name": PLANTED })).await;
    let token = json!({ "name": PLANTED, "scope": "records:read", "password": PASSWORD });
    let token = vera.client.json("POST", "/api/v1/tokens", &token).await.expect(201).json();
    let body =
        json!({ "name": "of-operator.example.com.", "type": "TXT", "value": [format!("\"{PLANTED}\"")] });
    let operators = office.client().json("POST", "/api/v1/records?wait=applied", &body).await.expect(201);
    office.client().json("POST", "/api/v1/nodes", &json!({ "name": "node-planted" })).await;
    let jobs = office.client().get("/api/v1/jobs").await.expect(200).json();
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned();
    let objects = vec![
        ("ZONE", vec!["vera.test.".to_owned(), "example.com.".to_owned()]),
        ("RECORD", vec!["secret.vera.test.".to_owned(), "of-operator.example.com.".to_owned()]),
        (
            "CHANGE",
            vec![made.header("godwit-change").to_owned(), operators.header("godwit-change").to_owned()],
        ),
        ("TENANT", vec![tenant.to_string()]),
        ("GRANTED", vec![granted.to_string()]),
        ("EMPTY", vec![empty["number"].to_string()]),
        ("USER", vec![vera_id, olga_id]),
        ("MEMBER", vec![hugo_id]),
        ("KEY", vec![signer.kid().to_owned()]),
        ("TOKEN", vec![text(&token["id"])]),
        ("SESSION", vec![vera.session.clone()]),
        ("JOB", vec![text(&jobs["items"][0]["id"])]),
        ("NODE", vec!["node-planted".to_owned()]),
        ("WEBHOOK", vec![text(&hook["id"])]),
        ("CLAIM", vec![text(&claim["id"])]),
        ("INVITATION", vec![text(&invited["id"])]),
    ];
    Victim { person: vera, objects }
}

/// A text with each object that stands in it, one after the other.
fn filled(text: &str, objects: &Objects) -> Vec<String> {
    let mut all = vec![text.to_owned()];
    for (name, values) in objects {
        if !text.contains(name) {
            continue;
        }
        let each = all.iter().flat_map(|text| values.iter().map(|value| text.replace(name, value)));
        all = each.collect();
    }
    all
}

async fn ask(client: &Client, method: &str, path: &str, body: &Value) -> Answer {
    match body {
        Value::Null => client.send(method, path, &[], Vec::new()).await,
        Value::String(text) => {
            client.send(method, path, &[("content-type", "text/dns")], text.clone().into()).await
        }
        body => client.json(method, path, body).await,
    }
}

/// All that anybody but the stranger has, as an operator and its owner see it.
async fn state(office: &Office, victim: &Victim) -> Vec<Value> {
    let (all, own) = (office.client(), &victim.person.client);
    let mut state = Vec::new();
    for path in ["/api/v1/domains?tenant=0", "/api/v1/users", "/api/v1/nodes"] {
        state.push(all.get(path).await.expect(200).json());
    }
    for zone in ["vera.test.", "example.com."] {
        for part in ["", "/versions", "/grants"] {
            state.push(all.get(&format!("/api/v1/domains/{zone}{part}")).await.expect(200).json());
        }
        state.push(json!(all.get(&format!("/api/v1/domains/{zone}/export")).await.expect(200).text));
    }
    let tenants = own.get("/api/v1/tenants").await.expect(200).json();
    for tenant in tenants["items"].as_array().unwrap() {
        for part in ["members", "invitations"] {
            let path = format!("/api/v1/tenants/{}/{part}", tenant["number"]);
            state.push(own.get(&path).await.expect(200).json());
        }
    }
    state.push(tenants);
    for path in
        ["/api/v1/users/me/keys", "/api/v1/tokens", "/api/v1/users/me", "/api/v1/claims", "/api/v1/webhooks"]
    {
        state.push(own.get(path).await.expect(200).json());
    }
    let sessions = own.get("/api/v1/users/me/sessions").await.expect(200).json();
    state.push(json!(sessions["items"].as_array().unwrap().len()));
    state
}

/// Every verb of every route that the API describes.
fn routes() -> Vec<String> {
    let description: Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    let paths = description["paths"].as_object().unwrap().iter();
    let verbs = paths.flat_map(|(path, verbs)| {
        verbs.as_object().unwrap().keys().map(move |verb| format!("{} {path}", verb.to_uppercase()))
    });
    verbs.collect()
}

async fn strangers_reach_nothing(checked: bool) {
    let office = Office::open_with(|config| config.api.without_checks = !checked).await;
    let victim = victim(&office).await;
    let (emil, own) = with_tenant(&office, "emil@example.org").await;
    zone(&emil.client, "own.test.").await.expect(201);
    let mut objects = victim.objects.clone();
    objects.extend([("OWN", vec![own.to_string()]), ("ME", vec![id(&emil).await])]);
    let before = state(&office, &victim).await;
    let signer = key(&emil, &json!({})).await;
    let scopes = "records:read records:write domains:read domains:write users:admin admin";
    let signed = signer.client(&emil.client, scopes, &Value::Null);
    let (mut asked, mut seen) = (0, std::collections::BTreeSet::new());
    for Foreign { route, path, body, statuses } in requests() {
        seen.insert(route.to_owned());
        let (method, _) = route.split_once(' ').unwrap();
        // One text, so that one and the same object stands in both.
        for text in filled(&format!("{path} {body}"), &objects) {
            let (path, body) = text.split_once(' ').unwrap();
            let body: Value = serde_json::from_str(body).unwrap();
            for client in [&emil.client, &signed] {
                let answer = ask(client, method, path, &body).await;
                asked += 1;
                let status = answer.status.as_u16();
                let said = format!("{method} {path} {body}: {status} {}", answer.text);
                assert!(!answer.text.contains(PLANTED) && !answer.text.contains("vera@"), "{said}");
                assert!(status < 500, "{said}");
                // What a token may not at all is said first.
                let is_refused =
                    statuses.contains(&status) || (status == 403 && answer.code() != "DOMAIN_NOT_FOUND");
                let by_login = client.token == emil.client.token;
                if !checked && by_login && method == "GET" && statuses == NOT_THERE {
                    let is_empty = status == 200 && answer.text == r#"{"items":[],"next":null}"#;
                    assert!(status == 404 || is_empty, "{said}");
                }
                if checked {
                    assert!(if by_login { statuses.contains(&status) } else { is_refused }, "{said}");
                    let lists = path.starts_with("/api/v1/domains") && status == 200;
                    assert!(!lists || !answer.text.contains("example.com."), "{said}");
                }
            }
        }
    }
    let unknown: Vec<String> = routes()
        .into_iter()
        .filter(|route| !seen.contains(route) && !ABOUT_ONESELF.contains(&route.as_str()))
        .collect();
    assert!(unknown.is_empty(), "what does a stranger get of {unknown:?}? Add requests for it");
    assert!(asked > 200, "{asked}");
    let after = state(&office, &victim).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after, "something of somebody else's was changed");
    }
    // Whoever it belongs to sees it by the same requests.
    if checked {
        let own = victim.objects.iter().map(|(name, values)| (*name, vec![values[0].clone()])).collect();
        for Foreign { route, path, statuses, .. } in requests() {
            if route.starts_with("GET") && statuses == NOT_THERE {
                let path = filled(path, &own).remove(0);
                victim.person.client.get(&path).await.expect(200);
            }
        }
    }
    office.server.stop().await;
}

#[tokio::test]
async fn of_others_nothing_is_seen_and_nothing_changed_by_any_route() {
    strangers_reach_nothing(true).await;
}

#[tokio::test]
async fn without_checks_in_the_program_the_database_alone_stops_strangers() {
    if crate::DATABASE == godwit_controlplane::store::Kind::Postgres {
        strangers_reach_nothing(false).await;
    }
}
