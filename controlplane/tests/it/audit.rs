//! The audit log as an operator sees it: what is in it, and that what is done to it is found.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use godwit_controlplane::audit::{Report, Wrong, verify};
use godwit_controlplane::store::Kind;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::accounts::code;
use crate::harness::{Answer, Client, Server, beside, config, folder};
use crate::keys;
use crate::office::{Office, PASSWORD};
use crate::replica::Replica;

/// All pages of a list, and how many there were.
async fn list(client: &Client, filter: &str) -> (Vec<Value>, usize) {
    let (mut items, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = client.get(&format!("/api/v1/audit?{filter}{cursor}")).await.expect(200).json();
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        pages += 1;
        let Some(next) = page["next"].as_str() else { return (items, pages) };
        cursor = format!("&cursor={next}");
    }
}

/// The rows of a filter, once there are so many.
async fn until(client: &Client, filter: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (rows, _) = list(client, filter).await;
        if rows.len() >= count {
            return rows;
        }
        assert!(Instant::now() < deadline, "{filter}: {rows:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn put(client: &Client, name: &str) -> Answer {
    let body = json!({ "value": ["192.0.2.7"] });
    let path = format!("/api/v1/records/{name}?type=A");
    client.json("PUT", &path, &body).await
}

/// Requests that change something, each under a name of its own, and what the log says that was done.
struct Deeds {
    done: Vec<(String, &'static str, Value)>,
    routes: BTreeSet<String>,
}

impl Deeds {
    /// Does it; `route` is as the description has it.
    async fn act(
        &mut self,
        client: &Client,
        route: &str,
        path: &str,
        body: Value,
        action: &'static str,
    ) -> Answer {
        let id = format!("deed-{}", self.done.len());
        let method = route.split(' ').next().unwrap().to_owned();
        let headers = [("x-request-id", id.as_str())];
        let answer = if body.is_null() {
            client.send(&method, path, &headers, Vec::new()).await
        } else {
            client.json_with(&method, path, &headers, &body).await
        };
        assert!(answer.status.is_success(), "{route}: {}", answer.text);
        self.routes.insert(route.to_owned());
        self.done.push((id, action, json!(answer.header("godwit-change"))));
        answer
    }
}

/// What changes nothing that is the server's, or is asked by strangers of whom nothing is known yet.
const NOT_IN_IT: [&str; 10] = [
    // Nothing comes of them but a letter, and what comes of that is in it.
    "POST /api/v1/auth/register",
    "POST /api/v1/auth/password/forgot",
    // A login goes on.
    "POST /api/v1/auth/refresh",
    "POST /api/v1/reload",
    // As those of the other tests: a job that failed cannot be had at will.
    "POST /api/v1/jobs/{id}/cancel",
    "POST /api/v1/jobs/{id}/retry",
    // What is found out by them is in it.
    "POST /api/v1/claims/{id}/check",
    // They take a second master key: see the tests of secrets.
    "POST /api/v1/keys/rewrap",
    "POST /api/v1/keys/rewrap/finish",
    // As any change; it makes nothing where nothing was changed.
    "POST /api/v1/rollback",
];

#[tokio::test]
async fn r20_every_route_that_changes_something_is_in_the_log() {
    let office = Office::open().await;
    let admin = office.client();
    let nobody = Client { token: String::new(), ..admin.clone() };
    let mut deeds = Deeds { done: Vec::new(), routes: BTreeSet::new() };
    let d = &mut deeds;
    let record = json!({ "name": "a.example.com.", "type": "A", "value": ["192.0.2.1"] });
    d.act(admin, "POST /api/v1/records", "/api/v1/records", record.clone(), "record.create").await;
    let of_a = "/api/v1/records/a.example.com.?type=A";
    d.act(admin, "PUT /api/v1/records/{name}", of_a, json!({ "value": ["192.0.2.2"] }), "record.put").await;
    d.act(admin, "DELETE /api/v1/records/{name}", of_a, Value::Null, "record.delete").await;
    // The same under the other path.
    d.act(admin, "POST /api/v1/dns-records", "/api/v1/dns-records", record, "record.create").await;
    let of_a = "/api/v1/dns-records/a.example.com.?type=A";
    d.act(admin, "PUT /api/v1/dns-records/{name}", of_a, json!({ "value": ["192.0.2.2"] }), "record.put")
        .await;
    d.act(admin, "DELETE /api/v1/dns-records/{name}", of_a, Value::Null, "record.delete").await;
    let changes = json!({ "changes": [{ "op": "put", "name": "b.example.com.", "type": "A", "value": ["192.0.2.1"] }] });
    d.act(admin, "POST /api/v1/changes", "/api/v1/changes", changes, "changes").await;
    let zone = json!({ "name": "x.test." });
    d.act(admin, "POST /api/v1/domains", "/api/v1/domains", zone.clone(), "domain.create").await;
    let of_zone = "/api/v1/domains/x.test.";
    let policy = json!({ "ttl_policy": "keep" });
    d.act(admin, "PATCH /api/v1/domains/{zone}", of_zone, policy, "domain.patch").await;
    let all = json!({ "records": [{ "name": "www.x.test.", "type": "A", "value": ["192.0.2.1"] }] });
    d.act(admin, "PUT /api/v1/domains/{zone}", of_zone, all, "domain.put").await;
    let back = json!({ "version": 1 });
    let rollback = "/api/v1/domains/x.test./rollback";
    d.act(admin, "POST /api/v1/domains/{zone}/rollback", rollback, back, "domain.rollback").await;
    let id = format!("deed-{}", d.done.len());
    let headers = [("content-type", "text/dns"), ("x-request-id", id.as_str())];
    let text = b"@ IN SOA a b 1 1 1 1 1\n@ IN NS ns.test.\n".to_vec();
    admin.send("POST", "/api/v1/domains/y.test./import", &headers, text).await.expect(201);
    d.routes.insert("POST /api/v1/domains/{zone}/import".to_owned());
    d.done.push((id, "domain.import", Value::Null));
    let confirmed =
        admin.delete(&format!("{of_zone}?dry_run=true")).await.header("godwit-confirm").to_owned();
    let delete = format!("{of_zone}?confirm={confirmed}");
    let delete = if confirmed.is_empty() { of_zone } else { delete.as_str() };
    d.act(admin, "DELETE /api/v1/domains/{zone}", delete, Value::Null, "domain.delete").await;
    d.act(admin, "POST /api/v1/nodes", "/api/v1/nodes", json!({ "name": "ns1" }), "node.create").await;
    d.act(admin, "DELETE /api/v1/nodes/{node}", "/api/v1/nodes/ns1", Value::Null, "node.delete").await;
    d.act(admin, "POST /api/v1/mail/test", "/api/v1/mail/test", json!({ "to": "a@b.test" }), "mail.test")
        .await;
    let token = json!({ "name": "x", "scope": "domains:read" });
    let made = d.act(admin, "POST /api/v1/tokens", "/api/v1/tokens", token, "token.create").await.json();
    let of_token = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    d.act(admin, "DELETE /api/v1/tokens/{id}", &of_token, Value::Null, "token.revoke").await;
    let user = json!({ "email": "carl@example.org" });
    let carl = d.act(admin, "POST /api/v1/users", "/api/v1/users", user, "user.create").await.json();
    let of_carl = format!("/api/v1/users/{}", carl["user"]["id"].as_str().unwrap());
    let link = format!("{of_carl}/link");
    d.act(admin, "POST /api/v1/users/{id}/link", &link, Value::Null, "user.link").await;
    d.act(admin, "PATCH /api/v1/users/{id}", &of_carl, json!({ "suspended": true }), "user.suspend").await;
    d.act(admin, "DELETE /api/v1/users/{id}", &of_carl, Value::Null, "user.delete").await;
    d.act(admin, "POST /api/v1/keys/rotate", "/api/v1/keys/rotate", Value::Null, "keys.rotate").await;
    // Tenants, and whose names are.
    let tenant = json!({ "name": "One" });
    let made = d.act(admin, "POST /api/v1/tenants", "/api/v1/tenants", tenant, "tenant.create").await.json();
    let number = made["number"].as_u64().unwrap();
    let of_tenant = format!("/api/v1/tenants/{number}");
    let other = json!({ "name": "Other" });
    d.act(admin, "PATCH /api/v1/tenants/{number}", &of_tenant, other, "tenant.rename").await;
    let quotas = format!("{of_tenant}/quotas");
    let route = "PUT /api/v1/tenants/{number}/quotas";
    d.act(admin, route, &quotas, json!({ "zones": 7 }), "tenant.quotas").await;
    let networks = json!({ "networks": { "deny": ["192.0.2.66"] } });
    d.act(admin, "PATCH /api/v1/tenants/{number}", &of_tenant, networks, "tenant.networks").await;
    let grant = format!("/api/v1/domains/example.com./grants/{number}");
    let role = json!({ "role": "viewer" });
    let route = "PUT /api/v1/domains/{zone}/grants/{tenant}";
    d.act(admin, route, &grant, role.clone(), "domain.grant.put").await;
    let route = "DELETE /api/v1/domains/{zone}/grants/{tenant}";
    d.act(admin, route, &grant, Value::Null, "domain.grant.delete").await;
    let suffix = "/api/v1/suffixes/example.com.";
    d.act(admin, "PUT /api/v1/suffixes/{zone}", suffix, json!({}), "suffix.put").await;
    d.act(admin, "DELETE /api/v1/suffixes/{zone}", suffix, Value::Null, "suffix.delete").await;
    let claim = json!({ "name": "claimed.example.org.", "tenant": number });
    let claim = d.act(admin, "POST /api/v1/claims", "/api/v1/claims", claim, "claim.create").await.json();
    let of_claim = format!("/api/v1/claims/{}", claim["id"].as_str().unwrap());
    d.act(admin, "DELETE /api/v1/claims/{id}", &of_claim, Value::Null, "claim.delete").await;
    let hook = json!({ "url": "https://hooks.example.net/", "topics": ["record"], "tenant": number });
    let hook = d.act(admin, "POST /api/v1/webhooks", "/api/v1/webhooks", hook, "webhook.create").await.json();
    let of_hook = format!("/api/v1/webhooks/{}", hook["id"].as_str().unwrap());
    let route = "POST /api/v1/webhooks/{id}/test";
    d.act(admin, route, &format!("{of_hook}/test"), Value::Null, "webhook.test").await;
    let off = json!({ "enabled": false });
    d.act(admin, "PATCH /api/v1/webhooks/{id}", &of_hook, off, "webhook.disable").await;
    d.act(admin, "DELETE /api/v1/webhooks/{id}", &of_hook, Value::Null, "webhook.delete").await;
    let dora = office.somebody("dora@example.org").await;
    let of_dora = dora.client.get("/api/v1/users/me").await.expect(200).json();
    let member = format!("{of_tenant}/members/{}", of_dora["id"].as_str().unwrap());
    let route = "PUT /api/v1/tenants/{number}/members/{id}";
    d.act(admin, route, &member, role.clone(), "tenant.member.put").await;
    let route = "DELETE /api/v1/tenants/{number}/members/{id}";
    d.act(admin, route, &member, Value::Null, "tenant.member.delete").await;
    let invitations = format!("{of_tenant}/invitations");
    let route = "POST /api/v1/tenants/{number}/invitations";
    let invited = json!({ "email": "carl@example.org", "role": "viewer" });
    let invited = d.act(admin, route, &invitations, invited, "tenant.invite").await.json();
    let invited = format!("{invitations}/{}", invited["id"].as_str().unwrap());
    let route = "DELETE /api/v1/tenants/{number}/invitations/{id}";
    d.act(admin, route, &invited, Value::Null, "tenant.invitation.delete").await;
    let eva = office.somebody("eva@example.org").await;
    let hers = eva.client.get("/api/v1/tenants").await.expect(200).json();
    let hers = format!("/api/v1/tenants/{}", hers["items"][0]["number"]);
    let asked = format!("{hers}/members/{}", of_dora["id"].as_str().unwrap());
    eva.client.json("PUT", &asked, &role).await.expect(200);
    let accept = format!("{hers}/accept");
    let route = "POST /api/v1/tenants/{number}/accept";
    d.act(&dora.client, route, &accept, Value::Null, "tenant.member.accept").await;
    d.act(admin, "DELETE /api/v1/tenants/{number}", &of_tenant, Value::Null, "tenant.delete").await;
    // Somebody for themselves.
    office.register("anna@example.org", PASSWORD).await;
    let link = office.link("anna@example.org", "/account/verify").await;
    let verify = json!({ "token": link, "password": PASSWORD });
    d.act(&nobody, "POST /api/v1/auth/verify", "/api/v1/auth/verify", verify, "user.verify").await;
    let login = json!({ "email": "anna@example.org", "password": PASSWORD });
    let other = d.act(&nobody, "POST /api/v1/auth/login", "/api/v1/auth/login", login.clone(), "login").await;
    let other = office.person(&other.json());
    let out = json!({ "refresh_token": other.refresh });
    d.act(&nobody, "POST /api/v1/auth/logout", "/api/v1/auth/logout", out, "session.end").await;
    let (other, anna) = (
        office.log_in("anna@example.org", PASSWORD).await,
        office.log_in("anna@example.org", PASSWORD).await,
    );
    let anna = &anna.client;
    let me = "/api/v1/users/me";
    d.act(anna, "PATCH /api/v1/users/me", me, json!({ "name": "=Anna" }), "user.rename").await;
    let of_session = format!("{me}/sessions/{}", other.session);
    d.act(anna, "DELETE /api/v1/users/me/sessions/{session}", &of_session, Value::Null, "session.end").await;
    let sessions = format!("{me}/sessions");
    d.act(anna, "DELETE /api/v1/users/me/sessions", &sessions, Value::Null, "session.end_others").await;
    let revoked = json!({ "jti": "x" });
    d.act(anna, "POST /api/v1/users/me/revoked", &format!("{me}/revoked"), revoked, "jwt.revoke").await;
    let own = office.log_in("anna@example.org", PASSWORD).await;
    let key = keys::key(&own, &json!({})).await;
    d.routes.insert("POST /api/v1/users/me/keys".to_owned());
    let of_key = format!("{me}/keys/{}", key.kid());
    d.act(anna, "DELETE /api/v1/users/me/keys/{kid}", &of_key, Value::Null, "key.delete").await;
    let password = json!({ "password": PASSWORD });
    let totp = format!("{me}/totp");
    let offer = d.act(anna, "POST /api/v1/users/me/totp", &totp, password, "totp.offer").await.json();
    let secret = offer["secret"].as_str().unwrap().to_owned();
    let confirm = json!({ "code": code(&secret, 0) });
    let path = format!("{totp}/confirm");
    d.act(anna, "POST /api/v1/users/me/totp/confirm", &path, confirm, "totp.begin").await;
    let end = json!({ "password": PASSWORD, "code": code(&secret, 1) });
    d.act(anna, "DELETE /api/v1/users/me/totp", &totp, end, "totp.end").await;
    let email = json!({ "password": PASSWORD, "email": "anna@example.net" });
    d.act(anna, "POST /api/v1/users/me/email", &format!("{me}/email"), email, "email.ask").await;
    let link = office.link("anna@example.net", "/account/email").await;
    let email = json!({ "token": link });
    d.act(&nobody, "POST /api/v1/auth/email", "/api/v1/auth/email", email, "email.change").await;
    let change = json!({ "password": PASSWORD, "new_password": "another good one" });
    let path = format!("{me}/password");
    d.act(anna, "POST /api/v1/users/me/password", &path, change, "password.change").await;
    office.post("/api/v1/auth/password/forgot", json!({ "email": "anna@example.net" })).await.expect(202);
    let link = office.link("anna@example.net", "/account/password").await;
    let reset = json!({ "token": link, "password": PASSWORD });
    let path = "/api/v1/auth/password/reset";
    d.act(&nobody, "POST /api/v1/auth/password/reset", path, reset, "password.reset").await;
    let anna = office.log_in("anna@example.net", PASSWORD).await.client;
    let leave = json!({ "password": PASSWORD });
    d.act(&anna, "DELETE /api/v1/users/me", me, leave, "user.delete").await;

    let described = admin.get("/api/v1/openapi.json").await.expect(200).json();
    let paths = described["paths"].as_object().unwrap().iter();
    let methods = paths.flat_map(|(path, operations)| {
        let methods =
            operations.as_object().unwrap().keys().filter(|key| *key != "get" && *key != "parameters");
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let expected: BTreeSet<String> = methods.collect();
    let covered: BTreeSet<String> =
        d.routes.iter().cloned().chain(NOT_IN_IT.iter().map(|&route| route.to_owned())).collect();
    assert_eq!(covered, expected, "a route that changes something writes a row: add it here");
    let (rows, _) = list(admin, "outcome=done&limit=1000").await;
    for (id, action, change) in &d.done {
        // With the first of them that the token was used at all.
        let is_use = |row: &Value| row["action"].as_str().unwrap().ends_with(".use");
        let of_it = rows.iter().filter(|row| row["request_id"] == json!(id) && !is_use(row));
        let of_it: Vec<&Value> = of_it.collect();
        assert_eq!(of_it.len(), 1, "{id} {action}: {of_it:?}");
        let row = of_it[0];
        assert_eq!(row["action"], json!(action), "{row}");
        assert_eq!(row["client"], "127.0.0.1", "{row}");
        assert!(!row["actor"].as_str().unwrap().is_empty() && row["code"].is_null(), "{row}");
        if change.as_str().is_some_and(|change| !change.is_empty()) {
            assert_eq!(row["change"], *change, "{row}");
        }
    }
    let row = |action: &str| rows.iter().find(|row| row["action"] == json!(action)).unwrap().clone();
    let renamed = row("user.rename");
    assert_eq!(
        (&renamed["before"], &renamed["after"]),
        (&json!({ "name": "Anna" }), &json!({ "name": "=Anna" }))
    );
    assert!(renamed["came_with"].as_str().unwrap().starts_with("session "), "{renamed}");
    let changed = row("email.change");
    assert_eq!(changed["before"], json!({ "email": "anna@example.org" }));
    assert_eq!(changed["after"], json!({ "email": "anna@example.net" }));
    assert_eq!(row("user.suspend")["after"], json!({ "suspended": true }));
    assert_eq!(row("key.add")["after"]["name"], "script");
    assert_eq!(row("key.delete")["before"]["name"], "script");
    assert_eq!(row("token.revoke")["before"]["scope"], "domains:read");
    assert_eq!(row("domain.create")["object"], "x.test.");
    let token = row("record.create")["came_with"].as_str().unwrap().to_owned();
    assert_eq!(token, format!("token {}", row("record.create")["actor"].as_str().unwrap()));
    // No secret of all that was given is in it.
    let text = admin.get("/api/v1/audit/export").await.expect(200).text;
    for given in [PASSWORD, "another good one", secret.as_str(), &admin.token[3..]] {
        assert!(!text.contains(given), "{given}");
    }
    office.server.stop().await;
}

#[tokio::test]
async fn r20_refusals_and_uses_of_keys_are_in_the_log_and_a_flood_does_not_fill_it() {
    let office = Office::open().await;
    let admin = office.client();
    let olga = keys::operator(&office).await;
    // A key that is used, from one address.
    let key = keys::key(&olga, &json!({})).await;
    let used = key.client(&olga.client, "records:read", &Value::Null);
    for _ in 0..3 {
        used.get("/api/v1/records?zone=example.com.").await.expect(200);
    }
    let rows = until(admin, "action=key.use", 1).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let came_with = format!("key {}", key.kid());
    assert_eq!((&rows[0]["object"], &rows[0]["came_with"]), (&json!(key.kid()), &json!(came_with)));
    assert_eq!(rows[0]["client"], "127.0.0.1");
    // What it may not.
    let refused =
        used.send("DELETE", "/api/v1/domains/example.com.?confirm=9", &[("x-request-id", "r1")], vec![]);
    assert_eq!(refused.await.expect(403).code(), "INSUFFICIENT_SCOPE");
    let rows = until(admin, "outcome=refused", 1).await;
    let expected = json!({
        "action": "request", "object": "DELETE /api/v1/domains/example.com.", "code": "INSUFFICIENT_SCOPE",
        "request_id": "r1", "came_with": came_with, "client": "127.0.0.1", "outcome": "refused",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(rows[0][name], *value, "{}", rows[0]);
    }
    let me = olga.client.get("/api/v1/users/me").await.expect(200).json();
    assert_eq!(rows[0]["actor"], me["id"]);
    // A login, at an account that there is and at one that there is not.
    for email in ["olga@example.org", "nobody@example.org"] {
        let wrong = json!({ "email": email, "password": "wrong password" });
        office.post("/api/v1/auth/login", wrong).await.expect(401);
    }
    let rows = until(admin, "action=login&outcome=refused", 2).await;
    let of = |row: &Value| (row["actor"].clone(), row["object"].clone(), row["code"].clone());
    let account = format!("account {}", me["id"].as_str().unwrap());
    assert_eq!(of(&rows[1]), (json!(""), json!(account), json!("UNAUTHENTICATED")));
    assert_eq!(of(&rows[0]), (json!(""), json!(""), json!("UNAUTHENTICATED")));
    assert!(rows.iter().all(|row| row["client"] == "127.0.0.1"), "{rows:?}");
    // A token that was revoked is named.
    let token = json!({ "name": "x", "scope": "domains:read" });
    let made = admin.json("POST", "/api/v1/tokens", &token).await.expect(201).json();
    let id = made["id"].as_str().unwrap();
    admin.delete(&format!("/api/v1/tokens/{id}")).await.expect(204);
    let gone = Client { token: made["token"].as_str().unwrap().to_owned(), ..admin.clone() };
    gone.get("/api/v1/domains").await.expect(401);
    let rows = until(admin, "action=request&object=/api/v1/domains", 1).await;
    assert_eq!(
        (&rows[0]["code"], &rows[0]["came_with"]),
        (&json!("TOKEN_REVOKED"), &json!(format!("token {id}")))
    );
    // Tokens that nobody knows, as fast as they come.
    let stranger = Client { token: "gw_x".to_owned(), ..admin.clone() };
    let began = Instant::now();
    for _ in 0..300 {
        stranger.get("/api/v1/domains").await.expect(401);
    }
    let windows = began.elapsed().as_secs() / 10 + 2;
    let (folder, replica, token) = office.server.stop().await;
    let again = Server::start_in(folder, replica, Some(token), |_| {}).await;
    let (rows, _) = list(&again.client, "action=request&outcome=refused&limit=1000").await;
    let strangers = rows.iter().filter(|row| row["actor"] == "").count();
    assert!((1..=usize::try_from(windows).unwrap() * 5).contains(&strangers), "{strangers} in {windows}");
    // And how many those were that are not there.
    let (rows, _) = list(&again.client, "action=audit.left_out").await;
    let left_out: u64 = rows.iter().map(|row| row["after"]["of_strangers"].as_u64().unwrap()).sum();
    assert_eq!(left_out + u64::try_from(strangers).unwrap() + 2, 303, "logins are among them: {rows:?}");
    again.stop().await;
}

/// Neither strangers with one address, nor hosts that nobody lets in, hide what comes from elsewhere.
#[tokio::test]
async fn r20_who_floods_hides_nobody_elses_failed_logins() {
    let networks = |texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        godwit_controlplane::config::Networks::try_from(texts).unwrap()
    };
    let office = Office::open_with(|config| {
        config.api.trusted_proxies = networks(&["127.0.0.1"]);
        config.api.deny = networks(&["192.0.2.0/24"]);
    })
    .await;
    let stranger = Client { token: "gw_x".to_owned(), ..office.client().clone() };
    for n in 0..30 {
        let banned = format!("192.0.2.{n}");
        for (from, status) in [("203.0.113.1", 401), (&banned, 403)] {
            stranger
                .send("GET", "/api/v1/domains", &[("x-forwarded-for", from)], vec![])
                .await
                .expect(status);
        }
    }
    let wrong = json!({ "email": "nobody@example.org", "password": "wrong password" });
    let headers = [("x-forwarded-for", "203.0.113.2"), ("authorization", "")];
    stranger.json_with("POST", "/api/v1/auth/login", &headers, &wrong).await.expect(401);
    let rows = until(office.client(), "action=login&outcome=refused", 1).await;
    assert_eq!(rows[0]["client"], "203.0.113.2", "{rows:?}");
    let (rows, _) = list(office.client(), "action=request&outcome=refused&limit=1000").await;
    let clients: BTreeSet<&str> = rows.iter().map(|row| row["client"].as_str().unwrap()).collect();
    assert!(clients.contains("203.0.113.1") && clients.contains("192.0.2.0"), "{clients:?}");
    office.server.stop().await;
}

/// A request that is answered while it ends is written down and chained as well.
#[tokio::test]
async fn r20_what_is_done_and_refused_while_a_server_ends_is_chained() {
    let server = Server::start_in(folder(), Replica::default(), None, |_| {}).await;
    let mut streams = Vec::new();
    let body = br#"{"name":"late.example.com.","type":"A","value":["192.0.2.1"]}"#;
    // The second has a login of which it is not known yet that it is none.
    let login = br#"{"email":"a@example.org","password":"wrong password"}"#;
    for (path, body) in [("/api/v1/records", &body[..]), ("/api/v1/auth/login", &login[..])] {
        let mut stream = tokio::net::TcpStream::connect(server.client.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            server.client.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        streams.push((stream, body));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let stopping = tokio::spawn(server.stop());
    // Longer than what waits for nothing takes to end.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for ((mut stream, body), status) in streams.into_iter().zip(["201", "401"]) {
        stream.write_all(body).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
    }
    let (folder, ..) = stopping.await.unwrap();
    let report = check(folder.path()).await;
    assert!(report.whole && report.unchained == 0, "{report:?}");
    let mut connection = beside(folder.path()).await;
    for (action, expected) in [("record.create", 1), ("login", 1)] {
        let count = "SELECT count(*) FROM audit WHERE action = $1";
        let found: i64 = connection.query(count).bind(action).fetch_value().await.unwrap();
        assert_eq!(found, expected, "{action}");
    }
}

#[tokio::test]
async fn the_log_is_listed_by_pages_filtered_and_exported() {
    let server = Server::start().await;
    let client = &server.client;
    for n in 0..25 {
        put(client, &format!("n{n}.example.com.")).await;
        let record = json!({ "name": format!("r{n}.example.com."), "type": "A", "value": ["192.0.2.1"] });
        client.json("POST", "/api/v1/records", &record).await.expect(201);
    }
    let zones = json!({ "changes": [
        { "op": "put", "name": "a.example.com.", "type": "A", "value": ["192.0.2.1"] },
        { "op": "put", "name": "a.two.test.", "type": "A", "value": ["192.0.2.1"] },
    ] });
    client.json("POST", "/api/v1/domains", &json!({ "name": "two.test." })).await.expect(201);
    let changed = client.json("POST", "/api/v1/changes", &zones).await.expect(200);
    let change = changed.header("godwit-change");
    let (all, _) = list(client, "limit=1000").await;
    let (paged, pages) = list(client, "limit=7").await;
    let about = |rows: &[Value]| -> Vec<i64> { rows.iter().map(|row| row["id"].as_i64().unwrap()).collect() };
    // What came while it was read is before it.
    let both: Vec<i64> = about(&paged).into_iter().filter(|id| about(&all).contains(id)).collect();
    assert_eq!(both, about(&all));
    assert!(pages > 3);
    let times: Vec<&str> = all.iter().map(|row| row["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "the newest first");
    let (creates, _) = list(client, "action=record.create").await;
    assert_eq!(creates.len(), 25);
    let (of_zone, _) = list(client, "object=TWO.test.").await;
    assert_eq!(of_zone.len(), 2, "its creation, and the change of two zones: {of_zone:?}");
    let (of_change, _) = list(client, &format!("change={change}")).await;
    assert_eq!(of_change.len(), 1);
    assert_eq!(of_change[0]["object"], "example.com. two.test.");
    let (of_local, _) = list(client, "actor=local").await;
    let actions: BTreeSet<&str> = of_local.iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["domain.create", "token.create"].into_iter().collect());
    let (middle, _) =
        list(client, &format!("action=record.create&since={}", creates[9]["at"].as_str().unwrap())).await;
    assert_eq!(about(&middle), about(&creates[..10]));
    let (rest, _) =
        list(client, &format!("action=record.create&until={}", creates[9]["at"].as_str().unwrap())).await;
    assert_eq!(about(&rest), about(&creates[10..]));
    for wrong in
        ["outcome=x", "since=x", "until=1", "change=x", "cursor=x", "limit=0", "unknown=1", "limit=1001"]
    {
        client.get(&format!("/api/v1/audit?{wrong}")).await.expect(400);
    }
    // All at once.
    let exported = client.get("/api/v1/audit/export?action=record.create").await.expect(200);
    assert_eq!(exported.header("content-type"), "application/json");
    assert_eq!(exported.json().as_array().unwrap(), &creates);
    let none = client.get("/api/v1/audit/export?action=nothing").await.expect(200);
    assert_eq!(none.json(), json!([]));
    let csv = client.get("/api/v1/audit/export?action=record.create&format=csv").await.expect(200);
    let lines: Vec<&str> = csv.text.lines().collect();
    assert_eq!(lines.len(), 26, "{}", csv.text);
    assert!(
        lines[0].starts_with("id,at,actor,client,")
            && lines[1].contains(",\"record.create\",\"example.com.\",")
    );
    client.get("/api/v1/audit/export?format=xml").await.expect(400);
    // Who may.
    let token = |scope: &str, more: Value| {
        let mut body = json!({ "name": "x", "scope": scope });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        async move {
            let made = client.json("POST", "/api/v1/tokens", &body).await.expect(201).json();
            Client { token: made["token"].as_str().unwrap().to_owned(), ..client.clone() }
        }
    };
    let auditor = token("audit:read", json!({})).await;
    auditor.get("/api/v1/audit").await.expect(200);
    auditor.get("/api/v1/audit/export").await.expect(200);
    auditor.get("/api/v1/domains").await.expect(403);
    for (scope, more) in [
        ("records:read domains:read users:admin", json!({})),
        ("audit:read", json!({ "narrowed": { "zones": ["example.com."] } })),
    ] {
        let other = token(scope, more).await;
        other.get("/api/v1/audit").await.expect(403);
        other.get("/api/v1/audit/export").await.expect(403);
    }
    server.stop().await;
}

async fn check(folder: &std::path::Path) -> Report {
    let config = config(folder);
    verify(&config.store, &[config.audit_anchors()], |_, _| {}).await.unwrap()
}

#[tokio::test]
async fn r20_a_server_chains_within_a_second_and_what_is_done_to_its_log_is_found() {
    let server = Server::start_in(folder(), Replica::default(), None, |_| {}).await;
    let mut connection = server.beside().await;
    let unchained = "SELECT count(*) FROM audit WHERE id NOT IN (SELECT audit_id FROM audit_chain)";
    // Of several, as the machine may do something else for once.
    let mut quickest = Duration::MAX;
    for n in 0..5 {
        let record = json!({ "name": format!("n{n}.example.com."), "type": "A", "value": ["192.0.2.1"] });
        server.client.json("POST", "/api/v1/records", &record).await.expect(201);
        let since = Instant::now();
        while connection.query(unchained).fetch_value::<i64>().await.unwrap() > 0 {
            assert!(since.elapsed() < Duration::from_secs(20), "never chained");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        quickest = quickest.min(since.elapsed());
    }
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
    drop(connection);
    let (folder, replica, token) = server.stop().await;
    let report = check(folder.path()).await;
    assert!(
        report.whole && report.unchained == 0 && report.anchors == 1 && report.checked >= 7,
        "{report:?}"
    );
    // The last two rows, as who owns the tables takes them away.
    let mut connection = beside(folder.path()).await;
    let disarm: &[&'static str] = match connection.kind() {
        Kind::Sqlite => &["DROP TRIGGER audit_is_kept", "DROP TRIGGER audit_chain_is_kept"],
        Kind::Postgres => {
            &["ALTER TABLE audit DISABLE TRIGGER USER", "ALTER TABLE audit_chain DISABLE TRIGGER USER"]
        }
    };
    connection.control(disarm).await.unwrap();
    for statement in [
        "UPDATE audit_head SET number = number - 2",
        "UPDATE audit_head SET hash = (SELECT hash FROM audit_chain WHERE audit_chain.number = audit_head.number)",
        "DELETE FROM audit WHERE id IN (SELECT audit_id FROM audit_chain WHERE number > (SELECT number FROM audit_head))",
        "DELETE FROM audit_chain WHERE number > (SELECT number FROM audit_head)",
    ] {
        connection.query(statement).execute().await.unwrap();
    }
    drop(connection);
    let report = check(folder.path()).await;
    assert!(matches!(report.wrong, Some(Wrong::Cut { by: "anchor", .. })), "{report:?}");
    // A server that starts on it says so at once, and its log stays known to be cut.
    let again = Server::start_in(folder, replica, Some(token), |_| {}).await;
    put(&again.client, "n1.example.com.").await.expect(200);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !again.metrics().contains("godwit_controlplane_audit_cuts_total 1") {
        assert!(Instant::now() < deadline, "{}", again.metrics());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (folder, ..) = again.stop().await;
    assert!(!check(folder.path()).await.whole);
    // Without the key nothing can be said.
    std::fs::remove_file(folder.path().join("secrets.key")).unwrap();
    let config = config(folder.path());
    let error = verify(&config.store, &[], |_, _| {}).await.unwrap_err().to_string();
    assert!(error.contains("secrets.key"), "{error}");
}
