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

/// What is described is there, and asks for a token.
#[tokio::test]
async fn every_described_route_is_served() {
    let server = Server::start().await;
    let described = server.client.get("/api/v1/openapi.json").await.json();
    let mut routes = 0;
    for (path, operations) in described["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let path = path.replace("{zone}", "example.com.").replace("{name}", "www").replace("{id}", "x");
            let headers = [("authorization", "Bearer gw_x")];
            let answer = server.client.send(&method.to_uppercase(), &path, &headers, vec![]).await;
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text);
            routes += 1;
        }
    }
    assert!(routes >= 15, "{routes}");
    for path in ["/api/v1/dns-records", "/api/v1/dns-records/www.example.com."] {
        server.client.send("GET", path, &[("authorization", "Bearer gw_x")], vec![]).await.expect(401);
    }
}
