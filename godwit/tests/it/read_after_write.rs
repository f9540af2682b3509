//! Read after write: what the API says is applied is what every worker answers from then on, by UDP and TCP, whatever
//! else changes meanwhile; and what it says is committed is what it shows.
//!
//! Hundreds of writes; thousands with `GODWIT_LONG=1`.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use godwit_testkit::generate::long;
use serde_json::{Value, json};

use crate::dns::{self, A, Everywhere};
use crate::http::Api;
use crate::process::Started;

/// Workers, more than there are CPUs on a small machine: some wait their turn when a change comes.
const WORKERS: &str = "4";
/// Sockets, and as many connections, of each who reads: one of 4 workers has none of 24 once in a thousand runs, and
/// nobody's in a million million.
const SOCKETS: usize = 24;
/// Who write and read at once, each a zone of its own.
const CALLERS: u32 = 4;
/// Who only write, and wait for nothing.
const OTHERS: u32 = 2;

fn put(name: &str, address: Ipv4Addr) -> Value {
    json!({"op": "put", "name": name, "type": "A", "ttl": 60, "value": [address]})
}

/// An address for each write of all callers.
fn address(caller: u32, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0A00_0000 + (caller << 20) + number)
}

/// One caller: writes in a way that changes from write to write, reads through the API, and everywhere by DNS.
fn write_and_read(api: &Api, server: std::net::SocketAddr, caller: u32, writes: u32) {
    let zone = format!("zone{caller}.test.");
    let (www, other) = (format!("www.{zone}"), format!("other.{zone}"));
    let mut everywhere = Everywhere::connect(server, SOCKETS);
    for number in 1..=writes {
        let address = address(caller, number);
        let answer = if number % 4 == 0 {
            // Both names, and a zone that all callers write to, in one change.
            let shared = format!("caller{caller}.shared.test.");
            let steps = [put(&www, address), put(&other, address), put(&shared, address)];
            api.post("/api/v1/changes?wait=applied&timeout=30s", &json!({ "changes": steps }))
        } else {
            let record = json!({"type": "A", "ttl": 60, "value": [address]});
            api.put(&format!("/api/v1/records/{www}?wait=applied&timeout=30s"), &record)
        };
        assert_eq!((answer.status, answer.header("godwit-applied")), (200, Some("1/1")), "{answer:?}");
        let names: &[&str] = if number % 4 == 0 { &[&www, &other] } else { &[&www] };
        for name in names {
            for (way, message) in everywhere.ask(name, A).iter().enumerate() {
                assert_eq!(dns::addresses(message), [address], "write {number} to {name}, way {way}");
            }
            // A connection that did not exist when the change came.
            assert_eq!(dns::addresses(&dns::tcp(server, name, A)), [address], "write {number} to {name}");
            let record = api.get(&format!("/api/v1/records/{name}?type=A")).json();
            assert_eq!(record["value"], json!([address]), "write {number} to {name}");
        }
    }
}

#[test]
fn what_was_applied_is_answered_by_every_worker_and_shown_by_the_api() {
    let started = Started::first_with(&["--workers", WORKERS]);
    let (api, server) = (started.api(), started.running.dns());
    let zones = (0..CALLERS).map(|caller| format!("zone{caller}.test."));
    for zone in zones.chain(["shared.test.".to_owned(), "busy.test.".to_owned()]) {
        assert_eq!(api.post("/api/v1/domains", &json!({ "name": zone })).status, 201);
    }
    let start = (0..CALLERS).flat_map(|caller| {
        let zone = format!("zone{caller}.test.");
        [put(&format!("www.{zone}"), address(caller, 0)), put(&format!("other.{zone}"), address(caller, 0))]
    });
    let start: Vec<Value> = start.collect();
    assert_eq!(api.post("/api/v1/changes?wait=applied", &json!({ "changes": start })).status, 200);

    let writes = if long() { 1_500 } else { 60 };
    let (done, beside) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for other in 0..OTHERS {
            let (api, done, beside) = (&api, &done, &beside);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let number = beside.fetch_add(1, Ordering::Relaxed);
                    let steps: Vec<Value> = (0..20)
                        .map(|name| put(&format!("n{name}.{other}.busy.test."), address(8 + name, number)))
                        .collect();
                    let answer = api.post("/api/v1/changes", &json!({ "changes": steps }));
                    assert_eq!(answer.status, 200, "{answer:?}");
                }
            });
        }
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let api = &api;
                scope.spawn(move || write_and_read(api, server, caller, writes))
            })
            .collect();
        let results: Vec<_> = callers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        for result in results {
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    assert!(beside.load(Ordering::Relaxed) > 10, "nothing else changed meanwhile");
}
