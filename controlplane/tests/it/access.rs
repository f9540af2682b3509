//! Where requests come from: proxies that are believed, addresses that are let in and shut out.

use serde_json::json;

use godwit_controlplane::config::Networks;

use crate::harness::{Client, Server, folder};
use crate::node::Node;
use crate::office::{Office, PASSWORD};
use crate::replica::Replica;

const HERE: &str = "127.0.0.1";

fn networks(texts: &[&str]) -> Networks {
    Networks::try_from(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
}

async fn start(adjust: impl FnOnce(&mut godwit_controlplane::Config)) -> Server {
    Server::start_in(folder(), Replica::default(), None, adjust).await
}

/// A token that is good from one address alone.
async fn narrowed(server: &Server, network: &str) -> Client {
    let body = json!({ "name": "x", "scope": "domains:read", "narrowed": { "networks": [network] } });
    let added = server.client.json("POST", "/api/v1/tokens", &body).await.expect(201).json();
    Client { token: added["token"].as_str().unwrap().to_owned(), ..server.client.clone() }
}

#[tokio::test]
async fn a_header_of_who_is_no_proxy_changes_nothing() {
    let server = start(|config| config.api.trusted_proxies = networks(&["192.0.2.0/24"])).await;
    let elsewhere = narrowed(&server, "203.0.113.9").await;
    let here = narrowed(&server, HERE).await;
    for said in [
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
        ("x-real-ip", "203.0.113.9"),
        ("x-forwarded-for", "203.0.113.9, 192.0.2.1"),
    ] {
        let answer = elsewhere.send("GET", "/api/v1/domains", &[said], vec![]).await.expect(403);
        assert_eq!(answer.code(), "FORBIDDEN", "{said:?}");
        here.send("GET", "/api/v1/domains", &[said], vec![]).await.expect(200);
    }
}

#[tokio::test]
async fn a_proxy_is_believed_whom_it_speaks_for() {
    let server = start(|config| config.api.trusted_proxies = networks(&[HERE, "10.0.0.0/8"])).await;
    let client = narrowed(&server, "203.0.113.9").await;
    for (name, value, status) in [
        ("x-forwarded-for", "203.0.113.9", 200),
        ("x-forwarded-for", "198.51.100.1, 203.0.113.9, 10.0.0.7", 200),
        ("forwarded", "for=\"203.0.113.9:80\";proto=https", 200),
        // What the client itself wrote.
        ("x-forwarded-for", "203.0.113.9, 198.51.100.1", 403),
        ("forwarded", "for=203.0.113.9, for=198.51.100.1", 403),
        ("x-forwarded-for", "203.0.113.9, nonsense", 403),
        ("forwarded", "for=\"", 403),
        ("x-real-ip", "203.0.113.9", 403),
    ] {
        let answer = client.send("GET", "/api/v1/domains", &[(name, value)], vec![]).await;
        assert_eq!(answer.status, status, "{name}: {value}: {}", answer.text);
    }
    let both = [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=203.0.113.9")];
    assert_eq!(
        client.send("GET", "/api/v1/domains", &both, vec![]).await.expect(400).code(),
        "MALFORMED_REQUEST"
    );
}

/// Whoever is behind the same proxy does not use up what others may try; who says to be somebody else does not gain by it.
#[tokio::test]
async fn clients_behind_a_proxy_are_told_apart() {
    let server = start(|config| config.api.trusted_proxies = networks(&[HERE])).await;
    let login = async |from: &str| {
        let headers =
            [("content-type", "application/json"), ("authorization", ""), ("x-forwarded-for", from)];
        let body = json!({ "email": "anna@example.org", "password": "x" }).to_string();
        server.client.send("POST", "/api/v1/auth/login", &headers, body.into()).await.status.as_u16()
    };
    for n in 0..10 {
        assert_eq!(login(&format!("192.0.2.{n}, 203.0.113.9")).await, 401);
    }
    assert_eq!(login("192.0.2.200, 203.0.113.9").await, 429);
    assert_eq!(login("203.0.113.10").await, 401);
}

/// What else a proxy says decides nothing: the host of a request would be that of a link.
#[tokio::test]
async fn links_lead_where_the_configuration_says() {
    let office = Office::open_with(|config| config.api.trusted_proxies = networks(&[HERE])).await;
    office.somebody("anna@example.org").await;
    let body = json!({ "email": "anna@example.org" }).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-host", "elsewhere.test"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.9;host=elsewhere.test;proto=https"),
    ];
    office.client().send("POST", "/api/v1/auth/password/forgot", &headers, body.into()).await.expect(202);
    let letter = office.letter("anna@example.org", "/account/password").await;
    let here = format!("http://{}/account/password", office.client().address);
    assert!(letter.contains(&here) && !letter.contains("elsewhere.test"), "{letter}");
    office.server.stop().await;
}

/// What is written down of a session.
#[tokio::test]
async fn a_session_has_the_address_of_the_client() {
    let office = Office::open_with(|config| config.api.trusted_proxies = networks(&[HERE])).await;
    let anna = office.somebody("anna@example.org").await;
    let body = json!({ "email": "anna@example.org", "password": PASSWORD }).to_string();
    let headers = [("content-type", "application/json"), ("x-forwarded-for", "203.0.113.9")];
    office.client().send("POST", "/api/v1/auth/login", &headers, body.into()).await.expect(200);
    let sessions = anna.client.get("/api/v1/users/me/sessions").await.expect(200);
    assert!(sessions.text.contains("203.0.113.9"), "{}", sessions.text);
    office.server.stop().await;
}

#[tokio::test]
async fn who_is_outside_is_let_in_nowhere() {
    let inside = |config: &mut godwit_controlplane::Config| {
        config.api.trusted_proxies = networks(&[HERE]);
        config.api.allow = networks(&["192.0.2.0/24", "2001:db8::/32"]);
        config.api.deny = networks(&["192.0.2.66"]);
    };
    let server = start(inside).await;
    let paths = [
        "/api/v1/domains",
        "/health",
        "/ready",
        "/docs/",
        "/account/forgot",
        "/nothing",
        "/api/v1/openapi.json",
    ];
    for (from, is_in) in [
        ("192.0.2.1", true),
        ("2001:db8::1", true),
        ("192.0.2.66", false),
        ("192.0.3.1", false),
        ("::ffff:192.0.2.66", false),
        // The proxy itself.
        ("", false),
    ] {
        for path in paths {
            let answer = server.client.send("GET", path, &[("x-forwarded-for", from)], vec![]).await;
            assert_eq!(answer.status != 403, is_in, "{from} {path}: {}", answer.text);
            if !is_in {
                assert_eq!(answer.code(), "FORBIDDEN");
            }
        }
    }
    assert_eq!(server.limited("networks"), 4 * paths.len() as u64);
}

/// Before it is known who asks: a token that is none is not looked up.
#[tokio::test]
async fn who_is_outside_is_told_nothing_of_a_token() {
    let server = start(|config| config.api.deny = networks(&["127.0.0.0/8"])).await;
    let nobody = Client { token: "gw_nothing".to_owned(), ..server.client.clone() };
    for client in [&nobody, &server.client] {
        assert_eq!(client.get("/api/v1/domains").await.expect(403).code(), "FORBIDDEN");
    }
}

/// Nodes have a list of their own.
#[tokio::test]
async fn nodes_are_let_in_from_where_they_may_ask() {
    let server = start(|config| config.internal.deny = networks(&[HERE])).await;
    let node = Node::add(&server, "ns1").await;
    assert_eq!(node.get("/internal/v1/head").await.status, 403);
    server.client.get("/api/v1/domains").await.expect(200);
    let server = start(|config| {
        config.internal.allow = networks(&["127.0.0.0/8"]);
        config.api.deny = networks(&["192.0.2.0/24"]);
    })
    .await;
    let node = Node::add(&server, "ns1").await;
    assert_eq!(node.get("/internal/v1/head").await.status, 200);
}
