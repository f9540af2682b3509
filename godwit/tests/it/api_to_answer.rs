//! A change in through the API, an answer out through DNS.

use std::net::Ipv4Addr;

use serde_json::json;

use crate::dns::{self, A};
use crate::http::Api;
use crate::process::{Started, wait_for};

/// The issue's own example: PUT by HTTP, then the answer by UDP and TCP.
#[test]
fn a_put_is_answered_by_udp_and_tcp() {
    let started = Started::first();
    let (api, server) = (started.api(), started.running.dns());
    let example = [Ipv4Addr::new(192, 0, 2, 1)];
    wait_for("the example zone", || {
        let message = dns::udp(server, "www.example.com.", A);
        (message.rcode == 0).then(|| assert_eq!(dns::addresses(&message), example))
    });

    let record = json!({"type": "A", "ttl": 60, "value": ["192.0.2.99"]});
    let answer = api.put("/api/v1/records/www.example.com.?wait=applied", &record);
    assert_eq!((answer.status, answer.header("godwit-applied")), (200, Some("1/1")), "{answer:?}");
    for message in [dns::udp(server, "www.example.com.", A), dns::tcp(server, "WWW.example.com.", A)] {
        assert_eq!(dns::addresses(&message), [Ipv4Addr::new(192, 0, 2, 99)]);
        assert_eq!(message.answer[0].ttl, 60);
    }

    let change = answer.header("godwit-change").unwrap().to_owned();
    let state = api.get(&format!("/api/v1/changes/{change}")).json();
    assert_eq!(state["state"], "applied", "{state}");

    let gone = api.ask("DELETE", "/api/v1/records/www.example.com.?type=A&wait=applied", None);
    assert_eq!((gone.status, gone.header("godwit-applied")), (204, Some("1/1")));
    assert_eq!(dns::udp(server, "www.example.com.", A).rcode, 3);
}

/// Each of many changes is in the very next answer once the API says that it is applied.
#[test]
fn what_is_applied_is_in_the_next_answer() {
    let started = Started::first();
    let (api, server) = (started.api(), started.running.dns());
    // The example zone has .1, and what changes nothing has nothing to wait for.
    for number in 2..=100u8 {
        let record = json!({"type": "A", "value": [format!("192.0.2.{number}")]});
        let answer = api.put("/api/v1/records/www.example.com.?wait=applied", &record);
        assert_eq!((answer.status, answer.header("godwit-applied")), (200, Some("1/1")), "{answer:?}");
        let message = dns::udp(server, "www.example.com.", A);
        assert_eq!(dns::addresses(&message), [Ipv4Addr::new(192, 0, 2, number)]);
    }
}

/// Several zones in one change: all of it or nothing.
#[test]
fn a_refused_change_leaves_no_trace() {
    let started = Started::first();
    let (api, server) = (started.api(), started.running.dns());
    assert_eq!(api.post("/api/v1/domains?wait=applied", &json!({"name": "example.net."})).status, 201);
    let put = |name: &str, value: &str| json!({"op": "put", "name": name, "type": "A", "value": [value]});
    let steps = [put("a.example.com.", "192.0.2.1"), put("a.example.net.", "192.0.2.300")];
    let answer = api.post("/api/v1/changes?wait=applied", &json!({ "changes": steps }));
    assert_eq!((answer.status, &answer.json()["code"]), (422, &json!("INVALID_VALUE")));
    assert_eq!(dns::udp(server, "a.example.com.", A).rcode, 3);
    let steps = [put("a.example.com.", "192.0.2.1"), put("a.example.net.", "192.0.2.2")];
    assert_eq!(api.post("/api/v1/changes?wait=applied", &json!({ "changes": steps })).status, 200);
    assert_eq!(dns::addresses(&dns::udp(server, "a.example.com.", A)), [Ipv4Addr::new(192, 0, 2, 1)]);
    assert_eq!(dns::addresses(&dns::udp(server, "a.example.net.", A)), [Ipv4Addr::new(192, 0, 2, 2)]);
}

/// One endpoint shows the metrics of both planes, as one well-formed text.
#[test]
fn one_endpoint_shows_the_metrics_of_both_planes() {
    let started = Started::first();
    let api = started.api();
    let record = json!({"type": "A", "value": ["192.0.2.7"]});
    assert_eq!(api.put("/api/v1/records/www.example.com.?wait=applied", &record).status, 200);
    dns::addresses(&dns::udp(started.running.dns(), "www.example.com.", A));

    let metrics = Api { address: started.running.metrics(), token: String::new() };
    assert_eq!(metrics.get("/health").status, 200);
    assert_eq!(metrics.get("/ready").status, 200);
    let text = metrics.get("/metrics").text;
    for line in [
        "godwit_dataplane_queries_total{transport=\"udp\",rcode=\"NOERROR\"} 1",
        "godwit_dataplane_zones 1.0",
        "godwit_controlplane_changes_total 1",
        "godwit_controlplane_outbox_depth 0",
        "godwit_controlplane_relay_leader 1",
    ] {
        assert!(text.lines().any(|got| got == line), "{line} in\n{text}");
    }
    assert!(
        text.contains(
            "godwit_controlplane_requests_total{route=\"/api/v1/records/{name}\",status=\"200\"} 1"
        )
    );
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");

    assert_eq!(api.get("/health").status, 200);
    assert_eq!(api.get("/ready").status, 200);
}
