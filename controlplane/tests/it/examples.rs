//! The examples of the description are good: each body and each parameter is sent to a running server as it stands there, with
//! what it names made first, and is answered as described.
//!
//! What only a server can say, ids and secrets of what it made, is put in the place of the example's; all else is sent as it is.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::accounts::code;
use crate::harness::{Answer, Client, Server};
use crate::jobs::add_unknown;
use crate::keys::Signer;
use crate::office::{Office, Person};

const PASSWORD: &str = "correct horse battery staple";
const ANNA: &str = "anna@example.org";

/// Who asks: the operator that the first start made, Anna who has logged in, a member of her tenant, or nobody.
#[derive(Clone, Copy, Debug)]
enum Who {
    Operator,
    Anna,
    Member,
    Nobody,
}

use Who::{Anna, Member, Nobody, Operator};

/// In an order in which each finds what it names.
const ORDER: &[(Who, &str)] = &[
    (Nobody, "POST auth/register"),
    (Nobody, "POST auth/verify"),
    (Nobody, "POST auth/login"),
    (Nobody, "POST auth/refresh"),
    (Anna, "PATCH users/me"),
    (Anna, "POST users/me/totp"),
    (Anna, "POST users/me/totp/confirm"),
    (Anna, "DELETE users/me/totp"),
    (Anna, "POST users/me/keys"),
    (Anna, "DELETE users/me/keys/{kid}"),
    (Anna, "POST users/me/revoked"),
    (Anna, "DELETE users/me/sessions/{session}"),
    (Anna, "POST tenants"),
    (Anna, "GET tenants"),
    (Anna, "GET tenants/{number}"),
    (Anna, "PATCH tenants/{number}"),
    (Operator, "PUT tenants/{number}/quotas"),
    (Anna, "GET tenants/{number}/quotas"),
    (Anna, "PUT tenants/{number}/members/{id}"),
    (Member, "POST tenants/{number}/accept"),
    (Anna, "GET tenants/{number}/members"),
    (Anna, "DELETE tenants/{number}/members/{id}"),
    (Anna, "POST tenants/{number}/invitations"),
    (Anna, "GET tenants/{number}/invitations"),
    (Anna, "DELETE tenants/{number}/invitations/{id}"),
    (Operator, "POST domains"),
    (Operator, "GET domains"),
    (Operator, "GET domains/{zone}"),
    (Operator, "POST records"),
    (Operator, "GET records"),
    (Operator, "GET records/{name}"),
    (Operator, "PUT records/{name}"),
    (Operator, "DELETE records/{name}"),
    (Operator, "POST dns-records"),
    (Operator, "GET dns-records"),
    (Operator, "GET dns-records/{name}"),
    (Operator, "PUT dns-records/{name}"),
    (Operator, "DELETE dns-records/{name}"),
    (Operator, "POST changes"),
    (Operator, "GET changes"),
    (Operator, "GET changes/{id}"),
    (Operator, "GET events"),
    (Operator, "GET ws"),
    (Operator, "GET domains/{zone}/versions"),
    (Operator, "GET domains/{zone}/export"),
    (Operator, "POST domains/{zone}/import"),
    (Operator, "PUT domains/{zone}"),
    (Operator, "PATCH domains/{zone}"),
    (Operator, "POST domains/{zone}/rollback"),
    (Operator, "PUT domains/{zone}/grants/{tenant}"),
    (Operator, "GET domains/{zone}/grants"),
    (Operator, "DELETE domains/{zone}/grants/{tenant}"),
    (Operator, "POST rollback"),
    (Operator, "PUT suffixes/{zone}"),
    (Operator, "GET suffixes"),
    (Operator, "GET suffixes/{zone}"),
    (Operator, "DELETE suffixes/{zone}"),
    (Operator, "DELETE domains/{zone}"),
    (Anna, "POST claims"),
    (Anna, "GET claims"),
    (Anna, "GET claims/{id}"),
    (Anna, "POST claims/{id}/check"),
    (Anna, "DELETE claims/{id}"),
    (Anna, "POST webhooks"),
    (Anna, "GET webhooks"),
    (Anna, "GET webhooks/{id}"),
    (Anna, "PATCH webhooks/{id}"),
    (Anna, "POST webhooks/{id}/test"),
    (Anna, "GET webhooks/{id}/deliveries"),
    (Anna, "DELETE webhooks/{id}"),
    (Anna, "DELETE tenants/{number}"),
    (Operator, "POST nodes"),
    (Operator, "DELETE nodes/{node}"),
    (Operator, "POST mail/test"),
    (Operator, "GET jobs"),
    (Operator, "GET jobs/{id}"),
    (Operator, "POST jobs/{id}/cancel"),
    (Operator, "POST jobs/{id}/retry"),
    (Operator, "GET audit"),
    (Operator, "GET audit/export"),
    (Anna, "POST tokens"),
    (Anna, "GET tokens"),
    (Anna, "DELETE tokens/{id}"),
    (Operator, "POST users"),
    (Operator, "GET users"),
    (Operator, "GET users/{id}"),
    (Operator, "PATCH users/{id}"),
    (Operator, "POST users/{id}/link"),
    (Operator, "DELETE users/{id}"),
    (Anna, "POST users/me/email"),
    (Nobody, "POST auth/email"),
    (Anna, "POST users/me/password"),
    (Nobody, "POST auth/password/forgot"),
    (Nobody, "POST auth/password/reset"),
    (Nobody, "POST auth/logout"),
    (Anna, "DELETE users/me"),
];

struct Site {
    office: Office,
    anna: Option<Person>,
    member: Option<Person>,
    /// Of the answer before.
    change: String,
    kid: String,
    secret: String,
    recovery: String,
    invitation: String,
    claim: String,
    webhook: String,
    token: String,
    bert: String,
    sent: usize,
}

/// Empty where it is not there: what takes it is answered with an error then, which is told.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn id_of(person: &Person) -> String {
    text(&person.client.get("/api/v1/users/me").await.expect(200).json()["id"])
}

impl Site {
    fn client(&self, who: Who) -> Client {
        match who {
            Operator => self.office.client().clone(),
            Anna => self.anna.as_ref().unwrap().client.clone(),
            Member => self.member.as_ref().unwrap().client.clone(),
            Nobody => Client { token: String::new(), ..self.office.client().clone() },
        }
    }

    /// The latest job in a state.
    async fn job(&self, state: &str) -> String {
        let path = format!("/api/v1/jobs?state={state}");
        let jobs = self.office.client().get(&path).await.expect(200).json();
        text(&jobs["items"][0]["id"])
    }

    /// What the server calls it that an example names.
    async fn named(&self, route: &str, name: &str) -> Option<String> {
        Some(match (route, name) {
            (_, "kid") => self.kid.clone(),
            (_, "session") => self.office.log_in(ANNA, PASSWORD).await.session,
            (_, "change" | "after") | ("GET changes/{id}", "id") => self.change.clone(),
            ("POST jobs/{id}/cancel", "id") => self.job("waiting").await,
            ("POST jobs/{id}/retry", "id") => self.job("failed").await,
            ("GET jobs/{id}", "id") => self.job("done").await,
            (route, "id") if route.contains("members/") => id_of(self.member.as_ref().unwrap()).await,
            (route, "id") if route.contains("invitations/") => self.invitation.clone(),
            (route, "id") if route.contains("claims/") => self.claim.clone(),
            (route, "id") if route.contains("webhooks/") => self.webhook.clone(),
            (route, "id") if route.contains("tokens/") => self.token.clone(),
            (route, "id") if route.contains("users/") => self.bert.clone(),
            _ => return None,
        })
    }

    /// The body with what is the server's in the place of what stands in the example.
    async fn filled(&self, route: &str, mut body: Value) -> Value {
        let link = async |address: &str, page: &str| json!(self.office.link(address, page).await);
        match route {
            "POST auth/verify" => body["token"] = link(ANNA, "/account/verify").await,
            "POST auth/email" => body["token"] = link("anna@example.net", "/account/email").await,
            "POST auth/password/reset" => {
                let forgot = json!({ "email": "anna@example.net" });
                self.office.post("/api/v1/auth/password/forgot", forgot).await.expect(202);
                body["token"] = link("anna@example.net", "/account/password").await;
            }
            "POST auth/refresh" | "POST auth/logout" => {
                body["refresh_token"] = json!(self.anna.as_ref().unwrap().refresh);
            }
            "POST users/me/totp/confirm" => body["code"] = json!(code(&self.secret, 0)),
            "DELETE users/me/totp" => body["code"] = json!(self.recovery),
            "POST users/me/keys" => {
                let anna = self.anna.as_ref().unwrap();
                let signer = Signer::new(&id_of(anna).await, &format!("http://{}", anna.client.address));
                let own = signer.body(&json!({}));
                (body["public_key"], body["proof"]) = (own["public_key"].clone(), own["proof"].clone());
            }
            _ => {}
        }
        body
    }

    async fn send(&mut self, who: Who, route: &str, path: &str, body: Option<(&str, &Value)>) -> Answer {
        let (verb, _) = route.split_once(' ').unwrap();
        let (media_type, octets) = match body {
            Some((media_type, Value::String(text))) => (media_type, text.clone().into_bytes()),
            Some((media_type, body)) => (media_type, body.to_string().into_bytes()),
            None => ("", Vec::new()),
        };
        let headers = [("content-type", media_type)];
        self.sent += 1;
        let client = self.client(who);
        let headers = if media_type.is_empty() { &headers[1..] } else { &headers };
        client.send(verb, path, headers, octets).await
    }

    /// What has to be there before.
    async fn before(&mut self, route: &str) {
        let client = self.office.client().clone();
        match route {
            "POST domains" => client.delete_zone("example.com.").await,
            // After Anna's own tenant and Example Ltd: hers is the third.
            "PUT tenants/{number}/members/{id}" => {
                self.member = Some(self.office.somebody("dora@example.org").await);
            }
            "POST jobs/{id}/cancel" => {
                add_unknown(&self.office.server).await;
            }
            // As one is that failed too often.
            "POST jobs/{id}/retry" => {
                let id: uuid::Uuid = add_unknown(&self.office.server).await.parse().unwrap();
                let mut beside = self.office.server.beside().await;
                let fail = "UPDATE jobs SET state = 'failed', finished_at_us = 2 WHERE id = $1";
                beside.query(fail).bind(id).execute().await.unwrap();
            }
            "DELETE users/me" => {
                self.office.register("carl@example.org", PASSWORD).await;
                let token = self.office.link("carl@example.org", "/account/verify").await;
                let proof = json!({ "token": token, "password": PASSWORD });
                self.office.post("/api/v1/auth/verify", proof).await.expect(201);
                self.anna = Some(self.office.log_in("carl@example.org", PASSWORD).await);
            }
            _ => {}
        }
    }

    /// What the answer says that later ones name.
    async fn after(&mut self, route: &str, answer: &Answer) {
        if !answer.header("godwit-change").is_empty() && route.starts_with("POST changes") {
            self.change = answer.header("godwit-change").to_owned();
        }
        match route {
            "POST auth/login" | "POST auth/refresh" => self.anna = Some(self.office.person(&answer.json())),
            "POST users/me/totp" => self.secret = text(&answer.json()["secret"]),
            "POST users/me/totp/confirm" => self.recovery = text(&answer.json()["recovery_codes"][0]),
            "POST users/me/keys" => self.kid = text(&answer.json()["kid"]),
            "POST tenants/{number}/invitations" => self.invitation = text(&answer.json()["id"]),
            "POST claims" => self.claim = text(&answer.json()["id"]),
            "POST webhooks" => self.webhook = text(&answer.json()["id"]),
            "POST tokens" => self.token = text(&answer.json()["id"]),
            "POST users" => self.bert = text(&answer.json()["user"]["id"]),
            _ => {}
        }
    }
}

/// How the answer of a route begins that has no end.
fn endless(route: &str) -> Option<&'static str> {
    match route {
        "GET events" => Some("HTTP/1.1 200"),
        "GET ws" => Some("HTTP/1.1 101"),
        _ => None,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Parameters that need others beside them, or that nothing can be read without.
fn companions(route: &str, name: &str) -> &'static [(&'static str, &'static str)] {
    match (route, name) {
        ("DELETE records/{name}" | "DELETE dns-records/{name}", "timeout") => {
            &[("wait", "applied"), ("type", "A")]
        }
        (_, "timeout") => &[("wait", "applied")],
        ("GET records" | "GET dns-records", _) => &[("zone", "example.com.")],
        (
            "DELETE records/{name}" | "DELETE dns-records/{name}",
            "" | "zone" | "tenant" | "dry_run" | "confirm" | "wait",
        ) => &[("type", "A")],
        _ => &[],
    }
}

#[tokio::test]
async fn every_example_of_the_description_is_answered_as_described() {
    let office = Office::open_with(|config| {
        config.names.resolvers = vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
    })
    .await;
    let nothing = String::new;
    let mut site = Site {
        office,
        anna: None,
        member: None,
        change: nothing(),
        kid: nothing(),
        secret: nothing(),
        recovery: nothing(),
        invitation: nothing(),
        claim: nothing(),
        webhook: nothing(),
        token: nothing(),
        bert: nothing(),
        sent: 0,
    };
    let description = site.office.client().get("/api/v1/openapi.json").await.expect(200).json();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for (who, route) in ORDER {
        seen.insert((*route).to_owned());
        let (verb, path) = route.split_once(' ').unwrap();
        let operation = &description["paths"][format!("/api/v1/{path}")][verb.to_lowercase()];
        assert!(operation.is_object(), "{route} is not described");
        site.before(route).await;
        let mut asked = format!("/api/v1/{path}");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let (in_path, in_query): (Vec<_>, Vec<_>) =
            parameters.iter().partition(|parameter| parameter["in"] == "path");
        for parameter in in_path {
            let name = text(&parameter["name"]);
            let value = site.named(route, &name).await.unwrap_or_else(|| plain(&parameter["example"]));
            asked = asked.replace(&format!("{{{name}}}"), &value);
        }
        let body = operation["requestBody"]["content"].as_object().map(|content| {
            let (media_type, content) = content.iter().next().unwrap();
            (media_type.clone(), content["example"].clone())
        });
        let is_change = in_query.iter().any(|parameter| parameter["name"] == "dry_run");
        let judge = |what: &str, answer: &Answer, wrong: &mut Vec<String>| {
            let status = answer.status.as_u16();
            let is_good =
                (200..300).contains(&status) && operation["responses"][status.to_string()].is_object();
            // A dry run has something to say where nothing else is said.
            let is_dry = what.contains("dry_run") && status == 200;
            if !is_good && !is_dry {
                wrong.push(format!("{route} {what}: {status} {}", answer.text));
            }
            is_good
        };
        let required: Vec<(String, String)> = in_query
            .iter()
            .filter(|parameter| parameter["required"] == true)
            .map(|parameter| (text(&parameter["name"]), plain(&parameter["example"])))
            .collect();
        // Each parameter by itself; a change is judged and not made.
        for parameter in &in_query {
            let name = text(&parameter["name"]);
            let mut query = required.clone();
            query.extend(
                companions(route, &name).iter().map(|(name, value)| ((*name).into(), (*value).into())),
            );
            query.retain(|(other, _)| *other != name);
            let value = match name.as_str() {
                "cursor" => {
                    let all: Vec<String> = query.iter().map(|(n, v)| format!("{n}={v}")).collect();
                    let page = site.client(*who).get(&format!("{asked}?limit=1&{}", all.join("&"))).await;
                    match page.json()["next"].as_str() {
                        Some(next) => next.to_owned(),
                        None => continue,
                    }
                }
                name => site.named(route, name).await.unwrap_or_else(|| plain(&parameter["example"])),
            };
            query.push((name.clone(), value));
            if is_change && name != "dry_run" {
                query.push(("dry_run".to_owned(), "true".to_owned()));
            }
            let query: Vec<String> =
                query.iter().map(|(name, value)| format!("{name}={}", value.replace('+', "%2B"))).collect();
            let path = format!("{asked}?{}", query.join("&"));
            if let Some(begins) = endless(route) {
                let status = head(&site.client(*who), &path).await;
                site.sent += 1;
                if !status.starts_with(begins) {
                    wrong.push(format!("{route} {path}: {status}"));
                }
                continue;
            }
            let body = body.as_ref().map(|(media_type, body)| (media_type.as_str(), body));
            let answer = site.send(*who, route, &path, body).await;
            judge(&path, &answer, &mut wrong);
        }
        if endless(route).is_some() {
            continue;
        }
        let (mut query, filled) = (
            required,
            match &body {
                Some((media_type, body)) => {
                    Some((media_type.clone(), site.filled(route, body.clone()).await))
                }
                None => None,
            },
        );
        query.extend(companions(route, "").iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let filled = filled.as_ref().map(|(media_type, body)| (media_type.as_str(), body));
        if is_change {
            // What is large is confirmed.
            let all: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let dry =
                site.send(*who, route, &format!("{asked}?dry_run=true&{}", all.join("&")), filled).await;
            if !dry.header("godwit-confirm").is_empty() {
                query.push(("confirm".to_owned(), dry.header("godwit-confirm").to_owned()));
            }
        }
        let all: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let path = if all.is_empty() { asked } else { format!("{asked}?{}", all.join("&")) };
        let answer = site.send(*who, route, &path, filled).await;
        if judge(&path, &answer, &mut wrong) {
            site.after(route, &answer).await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (verb, operation) in operations.as_object().unwrap() {
            let route = format!("{} {}", verb.to_uppercase(), path.trim_start_matches("/api/v1/"));
            let parameters = operation["parameters"].as_array().map_or(0, Vec::len);
            let has_none = parameters == 0 && operation["requestBody"].is_null();
            assert!(has_none || seen.contains(&route), "{route}: its examples are not sent");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(!parameter["example"].is_null(), "{route}: {} has no example", parameter["name"]);
            }
            for content in operation["requestBody"]["content"].as_object().into_iter().flatten() {
                assert!(!content.1["example"].is_null(), "{route}: the body has no example");
            }
        }
    }
    println!("{} requests", site.sent);
    assert!(site.sent > 200, "{}", site.sent);
    site.office.server.stop().await;
}

/// How an answer that has no end begins.
async fn head(client: &Client, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(client.address).await.unwrap();
    // What is no WebSocket takes no notice of what one needs.
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==";
    let token = &client.token;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n{upgrade}\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut octets = [0; 64];
    let read = stream.read(&mut octets).await.unwrap();
    String::from_utf8_lossy(&octets[..read]).into_owned()
}

/// Programs are made from it: they need a name for each operation, and one shape for each name of a type.
#[tokio::test]
async fn operations_have_names_of_their_own() {
    let server = Server::start().await;
    let description = server.client.get("/api/v1/openapi.json").await.expect(200).json();
    let mut names = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (verb, operation) in operations.as_object().unwrap() {
            let name = text(&operation["operationId"]);
            assert!(names.insert(name.clone()), "{verb} {path}: {name} comes twice");
        }
    }
    assert!(names.len() > 80, "{}", names.len());
}
