//! R6, all of it: with the same harm in the shadow and in the data planes, no data plane sees the record that does it. Other zones
//! go on everywhere, and the zone does once the record is gone.

use std::net::Ipv4Addr;

use godwit_dataplane::feed::remote::join::Join;
use godwit_testkit::servers::Postgres;
use serde_json::json;

use crate::http::Api;
use crate::node::{address_of, free_port, join_string, node};
use crate::process::{Running, Started, wait_for};

const POISON: &str = "poison.example.com.";

fn put(api: &Api, name: &str, last: u8) -> String {
    let step = json!({"op": "put", "name": name, "type": "A", "value": [format!("192.0.2.{last}")]});
    let answer = api.post("/api/v1/changes", &json!({ "changes": [step] }));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn metric(running: &Running, name: &str) -> f64 {
    let api = Api { address: running.metrics(), token: String::new() };
    let text = api.get("/metrics").text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

fn harms_nobody(harm: &str) {
    let folder = tempfile::tempdir().unwrap();
    let database = Postgres::shared().create_database().unwrap();
    let file = folder.path().join("godwit.toml");
    let port = free_port();
    let text = format!("[internal]\nlisten = \"127.0.0.1:{port}\"\n[store]\nurl = \"{database}\"\n");
    std::fs::write(&file, text).unwrap();
    let arguments = ["--config", file.to_str().unwrap()];
    let mut started = Started::first_with(&arguments);
    let api = started.api();
    assert_eq!(api.post("/api/v1/domains", &json!({"name": "other.example."})).status, 201);
    let join = Join::of_argument(&join_string(&started, "n1")).unwrap();
    assert!(started.running.stop().success());
    let planted = format!("{harm}:{POISON}");
    let environment = [
        ("GODWIT_PLANTED", planted.as_str()),
        ("GODWIT_FEED__APPLY_TIMEOUT_MS", "1000"),
        ("GODWIT_FEED__APPLY_MEMORY_OCTETS", "67108864"),
        ("GODWIT_RELAY__SHADOW_TIMEOUT_MS", "2000"),
    ];
    started.running = Running::launch_in(&started.data(), &arguments, &environment);
    let (api, local) = (started.api(), started.running.dns());
    let server = node(join, &folder.path().join("node"));
    let planes = [local, server.addresses()[0]];
    let everywhere = |name: &str, last: u8| {
        for plane in planes {
            wait_for(name, || {
                (address_of(plane, name) == Some(Ipv4Addr::new(192, 0, 2, last))).then_some(())
            });
        }
    };
    put(&api, "www.other.example.", 1);
    everywhere("www.other.example.", 1);
    let poison = put(&api, POISON, 66);
    // While it is judged, and after.
    put(&api, "www.other.example.", 2);
    everywhere("www.other.example.", 2);
    let state = api.get(&format!("/api/v1/changes/{poison}")).json();
    assert_eq!(state["state"], "withheld", "{state}");
    for last in 3..6 {
        put(&api, "www.other.example.", last);
        everywhere("www.other.example.", last);
    }
    // Both know that they lack it.
    wait_for("both in quarantine", || {
        let state = api.get(&format!("/api/v1/changes/{poison}")).json();
        let nodes = state["nodes"].as_array().unwrap();
        let keep_back = |node: &serde_json::Value| node["quarantined"] == json!(["example.com."]);
        (nodes.len() == 2 && nodes.iter().all(keep_back)).then_some(())
    });
    everywhere("www.example.com.", 1);
    for plane in planes {
        assert_eq!(address_of(plane, POISON), None);
    }
    assert!(!started.running.has_ended(), "the data plane ended");
    for (name, value) in [
        ("godwit_dataplane_apply_panics_total", 0.0),
        ("godwit_dataplane_frozen_zones", 0.0),
        ("godwit_dataplane_quarantined_zones", 1.0),
        ("godwit_controlplane_withheld_zones", 1.0),
        ("godwit_controlplane_shadow_ends_total", 2.0),
    ] {
        assert_eq!(metric(&started.running, name), value, "{name}");
    }
    let gone = json!({"changes": [{"op": "delete", "name": POISON, "type": "A"}]});
    assert_eq!(api.post("/api/v1/changes", &gone).status, 200);
    put(&api, "later.example.com.", 7);
    everywhere("later.example.com.", 7);
    wait_for("nothing in quarantine", || {
        let nodes = api.get("/api/v1/nodes").json();
        let is_level = |node: &serde_json::Value| {
            let compared = node["digests"].is_null() || node["digests"] == "equal";
            compared && node["quarantined"].as_array().is_none_or(Vec::is_empty)
        };
        nodes["items"].as_array().unwrap().iter().all(is_level).then_some(())
    });
    assert_eq!(metric(&started.running, "godwit_controlplane_withheld_zones"), 0.0);
    assert!(!started.running.has_ended());
    server.stop();
}

#[test]
fn r6_a_planted_loop_ends_no_data_plane() {
    harms_nobody("loop");
}

#[test]
fn r6_planted_greed_for_memory_ends_no_data_plane() {
    harms_nobody("memory");
}

#[test]
fn r6_a_planted_overflow_of_the_stack_ends_no_data_plane() {
    harms_nobody("stack");
}
