//! R6: one record at which the data plane's code panics, does not come to an end, or takes memory without end. The process may end
//! twice, and no more often; the zone keeps what it had, and other zones go on.
//!
//! The harm is planted by the environment, in builds with debug assertions alone.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::json;

use crate::dns::{self, A};
use crate::http::{Api, Sent};
use crate::process::{Running, Started, wait_for};

const POISON: &str = "poison.example.com.";

fn launch(data: &Path, harm: &str) -> Running {
    let environment = [
        ("GODWIT_PLANTED", harm),
        ("GODWIT_FEED__APPLY_TIMEOUT_MS", "1000"),
        ("GODWIT_FEED__APPLY_MEMORY_OCTETS", "67108864"),
    ];
    Running::launch_in(data, &[], &environment)
}

fn put(api: &Api, name: &str, last: u8) -> u16 {
    let step = json!({"op": "put", "name": name, "type": "A", "value": [format!("192.0.2.{last}")]});
    api.post("/api/v1/changes", &json!({ "changes": [step] })).status
}

fn serves(running: &Running, name: &str, last: u8) -> bool {
    let message = dns::udp(running.dns(), name, A);
    message.rcode == 0 && dns::addresses(&message).contains(&Ipv4Addr::new(192, 0, 2, last))
}

/// How often the process ends at it.
fn ends_at(harm: &str) -> u32 {
    let mut started = Started::first();
    let api = started.api();
    assert_eq!(api.post("/api/v1/domains", &json!({"name": "other.example."})).status, 201);
    assert_eq!(put(&api, "www.other.example.", 1), 200);
    assert!(started.running.stop().success());
    let data = started.data();
    let mut running = launch(&data, &format!("{harm}:{POISON}"));
    let api = running.api(&started.token);
    // Acknowledged is committed, whatever becomes of it then.
    assert_eq!(put(&api, POISON, 66), 200);
    let mut ends = 0;
    let frozen = loop {
        let quarantined = wait_for("its end, or the end of trying", || {
            if running.has_ended() {
                return Some(false);
            }
            let text = metrics(&running);
            text.contains("godwit_dataplane_quarantined_zones 1").then_some(true)
        });
        if quarantined {
            break metrics(&running).contains("godwit_dataplane_frozen_zones 1");
        }
        ends += 1;
        assert!(ends <= 2, "it ends again and again");
        running = launch(&data, &format!("{harm}:{POISON}"));
        // From its local snapshot, until it tries again.
        assert!(serves(&running, "www.other.example.", 1));
    };
    assert_eq!(frozen, ends > 0);
    // The zone is as it was, and the other one goes on.
    assert!(serves(&running, "www.example.com.", 1) && !serves(&running, POISON, 66));
    let api = running.api(&started.token);
    assert_eq!(put(&api, "www.other.example.", 2), 200);
    wait_for("the change of the other zone", || serves(&running, "www.other.example.", 2).then_some(()));
    // So it is after the next start.
    assert!(running.stop().success());
    let running = launch(&data, &format!("{harm}:{POISON}"));
    let api = running.api(&started.token);
    assert_eq!(put(&api, "www.other.example.", 3), 200);
    wait_for("the change of the other zone", || serves(&running, "www.other.example.", 3).then_some(()));
    assert!(serves(&running, "www.example.com.", 1));
    ends
}

/// Nothing from a process that is about to end.
fn metrics(running: &Running) -> String {
    let api = Api { address: running.metrics(), token: String::new() };
    api.send("GET", "/metrics", None)
        .and_then(Sent::answer)
        .map_or_else(|_| String::new(), |answer| answer.text)
}

#[test]
fn r6_a_planted_panic_ends_no_process() {
    assert_eq!(ends_at("panic"), 0);
}

#[test]
fn r6_a_planted_loop_ends_two_processes_and_no_more() {
    assert_eq!(ends_at("loop"), 2);
}

#[test]
fn r6_planted_greed_for_memory_ends_two_processes_and_no_more() {
    assert_eq!(ends_at("memory"), 2);
}
