//! What a dry run says of answers. That it says exactly what changes is tried in `compare`.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server};

async fn put(client: &Client, query: &str, name: &str, rtype: &str, value: &str) -> Answer {
    let step = json!({"op": "put", "name": name, "type": rtype, "value": [value]});
    client.json("POST", &format!("/api/v1/changes{query}"), &json!({"changes": [step]})).await.expect(200)
}

/// Kind of the answer before and after, of a name and type.
fn said(answer: &Answer, name: &str, rtype: &str) -> Option<(String, String)> {
    let answers = answer.json()["dry_run"]["answers"].clone();
    assert_eq!(answers["compared"], "everything");
    let items = answers["items"].as_array().unwrap().iter();
    let mut items = items.filter(|item| item["name"] == name && item["type"] == rtype);
    let kind = |value: &Value| value["kind"].as_str().unwrap().to_owned();
    items.next().map(|item| (kind(&item["before"]), kind(&item["after"])))
}

fn both(before: &str, after: &str) -> Option<(String, String)> {
    Some((before.to_owned(), after.to_owned()))
}

#[tokio::test]
async fn a_dry_run_says_which_answers_change() {
    let server = Server::start().await;
    let client = &server.client;
    client.json("POST", "/api/v1/domains", &json!({"name": "other.example."})).await.expect(201);
    put(client, "", "*.w.example.com.", "A", "192.0.2.1").await;
    put(client, "", "alias.other.example.", "CNAME", "x.w.example.com.").await;

    let dry = put(client, "?dry_run=true", "x.w.example.com.", "TXT", "t").await;
    assert_eq!(said(&dry, "x.w.example.com.", "A"), both("answer", "nodata"));
    assert_eq!(said(&dry, "x.w.example.com.", "TXT"), both("nodata", "answer"));
    assert_eq!(said(&dry, "*.x.w.example.com. (names that do not exist)", "A"), both("answer", "nxdomain"));
    // In another zone: its alias leads there.
    assert_eq!(said(&dry, "alias.other.example.", "A"), both("answer", "answer"));
    assert_eq!(said(&dry, "www.example.com.", "A"), None);
    assert_eq!(dry.json()["id"].as_str().map(str::len), Some(36), "what a write answers is there too");

    let dry = put(client, "?dry_run=true", "w.example.com.", "NS", "ns.elsewhere.").await;
    let below = "*.w.example.com. (names that do not exist)";
    assert_eq!(said(&dry, below, "A"), both("answer", "referral"));
    assert_eq!(said(&dry, below, "*"), both("nodata", "referral"));

    let path = "/api/v1/records/*.w.example.com.?all=true&dry_run=true";
    let dry = client.delete(path).await.expect(200);
    assert_eq!(said(&dry, below, "A"), both("answer", "nxdomain"));
    let dry = client.delete("/api/v1/domains/example.com.?dry_run=true").await.expect(200);
    assert_eq!(said(&dry, "www.example.com.", "A"), both("answer", "error"));
    // What changes nothing changes no answer.
    let dry = put(client, "?dry_run=true", "*.w.example.com.", "A", "192.0.2.1").await.json();
    assert_eq!(dry["dry_run"]["answers"]["items"], json!([]));
    // As a rollback would.
    put(client, "", "www.example.com.", "A", "192.0.2.77").await;
    let path = "/api/v1/domains/example.com./rollback?dry_run=true";
    let dry = client.json("POST", path, &json!({"version": 1})).await.expect(200);
    assert_eq!(said(&dry, "www.example.com.", "A"), both("answer", "answer"));
    assert_eq!(said(&dry, below, "A"), both("answer", "nxdomain"));
    let everything =
        client.json("POST", "/api/v1/rollback?dry_run=true", &json!({"to": 1})).await.expect(200);
    assert_eq!(said(&everything, "alias.other.example.", "A"), both("answer", "error"));
}

#[tokio::test]
async fn a_list_of_answers_is_bounded_and_counts_the_rest() {
    let server = Server::start().await;
    let client = &server.client;
    let steps: Vec<Value> = (0..300)
        .map(|n| json!({"op": "put", "name": format!("n{n}.example.com."), "type": "A", "value": ["192.0.2.1"]}))
        .collect();
    let dry =
        client.json("POST", "/api/v1/changes?dry_run=true", &json!({"changes": steps})).await.expect(200);
    let answers = &dry.json()["dry_run"]["answers"];
    let items = answers["items"].as_array().unwrap().len() as u64;
    assert_eq!(items, 200);
    // Each name has its address, its other types, and what is below it.
    assert!(items + answers["more"].as_u64().unwrap() >= 600, "{}", answers["more"]);
}
