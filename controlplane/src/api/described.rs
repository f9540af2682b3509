//! What makes the description whole beside what stands at the handlers: one id for each operation, an example for each body and
//! each parameter, and which routes there are better ones for.
//!
//! The examples are of one site, in which each of them is good: `tests/it/examples.rs` makes it, and sends every one.

use serde_json::{Value, json};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi, RefOr};

use super::deprecation;

/// Completes it.
pub(super) fn complete(description: &mut OpenApi) {
    deprecation::describe(description);
    for (path, item) in &mut description.paths.paths {
        for (verb, operation) in verbs(item) {
            operation.operation_id = Some(id(verb, path));
            let parameters = operation.parameters.iter_mut().flatten();
            for parameter in parameters.filter_map(inline) {
                if let Some(example) = parameter_example(path, parameter) {
                    *parameter = ParameterBuilder::from(parameter.clone()).example(Some(example)).build();
                }
            }
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                for content in body.content.values_mut().filter_map(inline) {
                    content.example = body_example(verb, path);
                }
            }
        }
    }
}

fn inline<T>(value: &mut RefOr<T>) -> Option<&mut T> {
    match value {
        RefOr::T(value) => Some(value),
        RefOr::Ref(_) => None,
    }
}

fn verbs(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [("get", get), ("put", put), ("post", post), ("delete", delete), ("patch", patch)]
        .into_iter()
        .filter_map(|(verb, operation)| operation.as_mut().map(|operation| (verb, operation)))
}

/// The operations of a path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    verbs(item).map(|(_, operation)| operation)
}

/// What programs that are made from the description call it: `get_domains_zone_versions`.
fn id(verb: &str, path: &str) -> String {
    let words =
        path.trim_start_matches("/api/v1").split(['/', '-', '{', '}']).filter(|word| !word.is_empty());
    std::iter::once(verb).chain(words).collect::<Vec<_>>().join("_")
}

fn parameter_example(path: &str, parameter: &Parameter) -> Option<Value> {
    let is_below = |place: &str| path.strip_prefix("/api/v1/").is_some_and(|rest| rest.starts_with(place));
    let in_path = parameter.parameter_in == ParameterIn::Path;
    let example = match parameter.name.as_str() {
        "zone" => json!("example.com."),
        "name" => json!("www.example.com."),
        "type" => json!("A"),
        "node" => json!("ns1"),
        "number" => json!(2),
        "tenant" if in_path => json!(3),
        "tenant" => json!(2),
        "all" | "dry_run" => json!(true),
        "confirm" => json!(12431),
        "wait" => json!("applied"),
        "timeout" => json!("5s"),
        "limit" => json!(100),
        "at" => json!("1"),
        "state" if is_below("changes") => json!("conflict"),
        "state" => json!("done"),
        "kind" => json!("mail"),
        "topics" => json!("record,zone"),
        "actor" => json!("local"),
        "action" => json!("record.put"),
        "object" => json!("example.com."),
        "outcome" => json!("done"),
        "since" => json!("2026-11-20T19:00:00Z"),
        "until" => json!("2036-11-20T19:00:00Z"),
        "format" => json!("csv"),
        "email" => json!("anna@example.org"),
        // What the server made up: of the right form.
        "cursor" => json!("AAAAAAAAAAA"),
        "id" | "session" | "kid" | "change" | "after" => json!("0199f3d2-7c1a-7d41-9e7b-3f0d5a1b2c3d"),
        _ => return None,
    };
    Some(example)
}

fn body_example(verb: &str, path: &str) -> Option<Value> {
    let anna = "anna@example.org";
    let password = "correct horse battery staple";
    let link = "gl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let route = path.strip_prefix("/api/v1/").unwrap_or_default();
    let example = match (verb, route) {
        ("post", "auth/register") => json!({ "email": anna, "password": password, "name": "Anna" }),
        ("post", "auth/verify") => json!({ "token": link, "password": password }),
        ("post", "auth/login") => json!({ "email": anna, "password": password }),
        ("post", "auth/refresh" | "auth/logout") => {
            json!({ "refresh_token": "gr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" })
        }
        ("post", "auth/password/forgot") => json!({ "email": anna }),
        ("post", "auth/password/reset") => {
            json!({ "token": link, "password": "a new one that nobody guesses" })
        }
        ("post", "auth/email") => json!({ "token": link }),
        ("post", "changes") => json!({ "changes": [
            { "op": "put", "name": "shop.example.com.", "type": "A", "ttl": 300, "value": ["192.0.2.10"] },
            { "op": "add_value", "name": "example.com.", "type": "TXT", "value": ["\"v=spf1 -all\""] },
        ] }),
        ("post", "claims") => json!({ "name": "example.org.", "tenant": 2 }),
        ("post", "webhooks") => {
            json!({ "url": "https://hooks.example.net/godwit", "topics": ["record", "zone"], "tenant": 2 })
        }
        ("patch", "webhooks/{id}") => json!({ "topics": ["change"], "enabled": true }),
        ("post", "domains") => {
            json!({ "name": "example.com.", "ns": ["ns1.example.net.", "ns2.example.net."] })
        }
        ("put", "domains/{zone}") => json!({ "records": [
            { "name": "example.com.", "type": "NS", "ttl": 3600, "value": ["ns1.example.net.", "ns2.example.net."] },
            { "name": "www.example.com.", "type": "A", "ttl": 300, "value": ["192.0.2.1"] },
        ] }),
        ("patch", "domains/{zone}") => json!({ "soa": { "refresh": 3600 }, "ttl_policy": "bounded" }),
        ("put", "domains/{zone}/grants/{tenant}") => json!({ "role": "editor" }),
        ("post", "domains/{zone}/import") => json!(
            "$TTL 300\n@ IN SOA ns1.example.net. hostmaster.example.com. 1 7200 3600 1209600 60\n\
             @ IN NS ns1.example.net.\nwww IN A 192.0.2.1\n"
        ),
        ("post", "domains/{zone}/rollback") => json!({ "version": 1 }),
        ("post", "rollback") => json!({ "to": 1 }),
        ("post", "mail/test") => json!({ "to": "hostmaster@example.net" }),
        ("post", "nodes") => json!({ "name": "ns1" }),
        ("post", "records" | "dns-records") => {
            json!({ "name": "www.example.com.", "type": "A", "ttl": 300, "value": ["192.0.2.1"] })
        }
        ("put", "records/{name}" | "dns-records/{name}") => {
            json!({ "type": "A", "ttl": 60, "value": ["192.0.2.1", "192.0.2.2"] })
        }
        ("put", "suffixes/{zone}") => json!({ "per_tenant": 3 }),
        ("post", "tenants") => json!({ "name": "Example Ltd" }),
        ("patch", "tenants/{number}") => json!({
            "name": "Example Group",
            "networks": { "allow": ["127.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"], "deny": ["192.0.2.66"] },
        }),
        ("put", "tenants/{number}/quotas") => json!({ "zones": 5000, "changes_a_day": 0 }),
        ("post", "tenants/{number}/invitations") => json!({ "email": "carl@example.org", "role": "editor" }),
        ("put", "tenants/{number}/members/{id}") => json!({ "role": "editor" }),
        ("post", "tokens") => json!({
            "name": "router at home",
            "scope": "records:write",
            "password": password,
            "narrowed": { "names": ["home.example.com."], "types": ["A", "AAAA"] },
        }),
        ("post", "users") => json!({ "email": "bert@example.org", "name": "Bert" }),
        ("patch", "users/{id}") => json!({ "name": "Bert", "suspended": false }),
        ("delete", "users/me") | ("post", "users/me/totp") => json!({ "password": password }),
        ("delete", "users/me/totp") => json!({ "password": password, "code": "123456" }),
        ("patch", "users/me") => json!({ "name": "Anna" }),
        ("post", "users/me/email") => json!({ "password": password, "email": "anna@example.net" }),
        ("post", "users/me/keys") => json!({
            "name": "backup script",
            "public_key": PUBLIC_KEY,
            "proof": "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIwMTk5ZjNkMi03YzFhIn0.AAAA",
            "password": password,
            "scope": "records:read records:write",
        }),
        ("post", "users/me/password") => {
            json!({ "password": password, "new_password": "a longer horse battery staple" })
        }
        ("post", "users/me/revoked") => json!({ "jti": "0199f3d2-7c1a-7d41-9e7b-3f0d5a1b2c3d" }),
        ("post", "users/me/totp/confirm") => json!({ "code": "123456" }),
        _ => return None,
    };
    Some(example)
}

/// A key of nobody.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
                          MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEn1LlwLN/KBYQRVH6HfIMTzfEqJOVztLe\n\
                          kLchp2hi78cCaMY81FBlYs8J9l7krc+M4aBeCGYFjba+hiXttJWPL7ydlE+5UG4U\n\
                          -----END PUBLIC KEY-----\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_called_by_what_they_do_where() {
        for (verb, path, expected) in [
            ("get", "/api/v1/domains/{zone}/versions", "get_domains_zone_versions"),
            ("post", "/api/v1/dns-records", "post_dns_records"),
            ("delete", "/api/v1/users/me/sessions/{session}", "delete_users_me_sessions_session"),
        ] {
            assert_eq!(id(verb, path), expected);
        }
    }
}
