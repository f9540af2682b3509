//! The description is that of the code.

use crate::harness::Server;

#[tokio::test]
async fn the_description_is_the_one_checked_in() {
    let server = Server::start().await;
    let served = server.client.get("/api/v1/openapi.json").await.expect(200).json();
    let mut text = serde_json::to_string_pretty(&served).unwrap();
    text.push('\n');
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    if std::env::var_os("GODWIT_UPDATE").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        kept == text,
        "controlplane/openapi.json is not what the handlers say; run this test with GODWIT_UPDATE=1"
    );
}

/// What is described is there, and asks for a token where it does not say that it takes none.
#[tokio::test]
async fn every_described_route_is_served() {
    let server = Server::start().await;
    let described = server.client.get("/api/v1/openapi.json").await.json();
    let mut routes = 0;
    for (path, operations) in described["paths"].as_object().unwrap() {
        for (method, operation) in
            operations.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters")
        {
            // `security: [{}]`: for strangers.
            let is_open = operation["security"]
                .as_array()
                .is_some_and(|ways| ways.iter().any(|way| way == &serde_json::json!({})));
            // Who opens a WebSocket may say later who they are.
            let is_socket = path == "/api/v1/ws";
            assert_eq!(is_open, is_socket || path.starts_with("/api/v1/auth/"), "{path}");
            let path = path
                .replace("{zone}", "example.com.")
                .replace("{name}", "www")
                .replace("{id}", "x")
                .replace("{session}", "x")
                .replace("{kid}", "x");
            let headers = [("authorization", "Bearer gw_x")];
            let answer = server.client.send(&method.to_uppercase(), &path, &headers, vec![]).await;
            let expected = if is_socket {
                400
            } else if is_open {
                415
            } else {
                401
            };
            assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text);
            routes += 1;
        }
    }
    assert!(routes >= 15, "{routes}");
    for path in ["/api/v1/dns-records", "/api/v1/dns-records/www.example.com."] {
        server.client.send("GET", path, &[("authorization", "Bearer gw_x")], vec![]).await.expect(401);
    }
}

/// What stands in the attribute of each element of a kind.
fn attributes<'a>(html: &'a str, element: &str, attribute: &str) -> Vec<&'a str> {
    let values = html.split(element).skip(1).map(|rest| {
        let tag = rest.split('>').next().unwrap();
        let value =
            tag.split_once(&format!("{attribute}=\"")).unwrap_or_else(|| panic!("{element}{tag}>: inline")).1;
        value.split('"').next().unwrap()
    });
    values.collect()
}

/// The pages need nothing that their policy forbids: no script inside them, nothing from elsewhere, and every part as what
/// browsers take it for (`nosniff`).
#[tokio::test]
async fn the_pages_need_nothing_that_their_policy_forbids() {
    let server = Server::start().await;
    let page = server.client.get("/docs/").await.expect(200);
    let policy = page.header("content-security-policy");
    assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe-eval"), "{policy}");
    let scripts = attributes(&page.text, "<script", "src");
    let others = attributes(&page.text, "<link", "href");
    assert!(scripts.len() >= 3 && others.len() >= 2, "{}", page.text);
    for (part, kind) in
        scripts.iter().map(|part| (part, "javascript")).chain(others.iter().map(|part| (part, "")))
    {
        assert!(!part.contains(':') && !part.starts_with("//"), "{part} comes from elsewhere");
        let path = format!("/docs/{}", part.trim_start_matches("./"));
        let answer = server.client.get(&path).await;
        let media_type = answer.headers["content-type"].to_str().unwrap().to_owned();
        assert_eq!(answer.status, 200, "{path}");
        let kind = if kind.is_empty() && part.ends_with(".css") { "css" } else { kind };
        assert!(media_type.contains(kind), "{path} is {media_type}");
    }
    for handler in [" onload=", " onclick=", " onerror=", "javascript:"] {
        assert!(!page.text.contains(handler), "{handler}");
    }
    // The description is ours, and nobody else is asked to judge it.
    let start = server.client.get("/docs/swagger-initializer.js").await.expect(200).text;
    assert!(
        start.contains("\"/api/v1/openapi.json\"") && start.contains("\"validatorUrl\": \"none\""),
        "{start}"
    );
    assert!(!start.contains("://"), "{start}");
}
