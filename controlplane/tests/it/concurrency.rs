//! Writers at the same time: nothing is lost, versions and serials only rise, one that fails leaves the others alone.

use std::collections::{BTreeMap, BTreeSet};

use godwit_controlplane::Config;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::harness::{Server, folder};
use crate::replica::Replica;

/// The seed of this run: `GODWIT_SEED`, or a fixed one.
pub(crate) fn seed() -> u64 {
    std::env::var("GODWIT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7)
}

/// Writers that read, change and write back under `If-Match`, as a counter does: the sum shows each lost update.
#[tokio::test]
async fn no_update_under_if_match_is_lost() {
    const WRITERS: usize = 6;
    const EACH: usize = 8;
    let server = Server::start().await;
    let start = json!({"name": "n.example.com.", "type": "TXT", "value": ["0"]});
    server.client.json("POST", "/api/v1/records", &start).await.expect(201);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let client = server.client.clone();
        tasks.spawn(async move {
            let mut refused = 0;
            for _ in 0..EACH {
                loop {
                    let read = client.get("/api/v1/records/n.example.com.?type=TXT").await.expect(200);
                    let text = read.json()["value"][0].as_str().unwrap().trim_matches('"').to_owned();
                    let number: usize = text.parse().unwrap();
                    let body = json!({"type": "TXT", "value": [format!("{}", number + 1)]});
                    let condition = [("if-match", read.header("etag"))];
                    let put =
                        client.json_with("PUT", "/api/v1/records/n.example.com.", &condition, &body).await;
                    match put.status.as_u16() {
                        200 => break,
                        412 => refused += 1,
                        other => panic!("{other}: {}", put.text),
                    }
                }
            }
            refused
        });
    }
    let refused: usize = tasks.join_all().await.into_iter().sum();
    let read = server.client.get("/api/v1/records/n.example.com.?type=TXT").await.json();
    assert_eq!(read["value"][0], format!("\"{}\"", WRITERS * EACH));
    assert!(refused > 0, "the writers never met: this shows nothing");
}

/// Random writers on random names of two zones. Each acknowledged version is unique, contiguous, and serials rise with it.
#[tokio::test]
async fn versions_are_contiguous_and_serials_rise() {
    const WRITERS: u64 = 8;
    const EACH: usize = 12;
    let server = Server::start().await;
    server.client.json("POST", "/api/v1/domains", &json!({"name": "example.org."})).await.expect(201);
    let seed = seed();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = server.client.clone();
        tasks.spawn(async move {
            let mut random = ChaCha8Rng::seed_from_u64(seed ^ (writer << 32));
            let mut seen = Vec::new();
            for round in 0..EACH {
                let zones: &[&str] = match random.random_range(0..3) {
                    0 => &["example.com."],
                    1 => &["example.org."],
                    _ => &["example.com.", "example.org."],
                };
                let host = random.random_range(0..4);
                let steps: Vec<_> = zones
                    .iter()
                    .map(|zone| {
                        let value = format!("{writer}-{round}");
                        json!({"op": "put", "name": format!("h{host}.{zone}"), "type": "TXT", "value": [value]})
                    })
                    .collect();
                let answer = client.json("POST", "/api/v1/changes", &json!({"changes": steps})).await.expect(200);
                for zone in answer.json()["zones"].as_array().unwrap() {
                    let name = zone["name"].as_str().unwrap().to_owned();
                    seen.push((name, zone["version"].as_u64().unwrap(), zone["serial"].as_u64().unwrap()));
                }
            }
            seen
        });
    }
    let mut zones: BTreeMap<String, BTreeSet<(u64, u64)>> = BTreeMap::new();
    let mut count = 0;
    for (zone, version, serial) in tasks.join_all().await.into_iter().flatten() {
        assert!(
            zones.entry(zone).or_default().insert((version, serial)),
            "a version came twice; seed {seed}"
        );
        count += 1;
    }
    assert!(count > 90);
    for (zone, versions) in &zones {
        let versions: Vec<&(u64, u64)> = versions.iter().collect();
        for pair in versions.windows(2) {
            assert_eq!(pair[0].0 + 1, pair[1].0, "{zone}; seed {seed}");
            assert!(pair[0].1 < pair[1].1, "{zone}: the serial did not rise; seed {seed}");
        }
        let now = server.client.get(&format!("/api/v1/domains/{zone}")).await.json();
        assert_eq!(now["version"], versions.last().unwrap().0, "{zone}; seed {seed}");
    }
    // What is served is what is stored.
    server.client.send("POST", "/api/v1/reload", &[], vec![]).await.expect(200);
    for zone in zones.keys() {
        let served = server.replica.zones.lock().unwrap()[&zone.parse().unwrap()].clone();
        let stored = server.client.get(&format!("/api/v1/domains/{zone}")).await.json()["version"].clone();
        assert_eq!(served.0, stored);
    }
    server.replica.assert_content();
}

/// Requests that wait together share a transaction: the bad ones of them fail alone.
#[tokio::test]
async fn one_that_fails_leaves_its_group_alone() {
    let server = Server::start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..60 {
        let client = server.client.clone();
        tasks.spawn(async move {
            let bad = n % 3 == 0;
            // The bad ones have written one RRset by the time they fail.
            let second = if bad { "nope.example.net." } else { "shared.example.com." };
            let body = json!({"changes": [
                {"op": "put", "name": format!("g{n}.example.com."), "type": "A", "value": ["192.0.2.1"]},
                {"op": "add_value", "name": second, "type": "TXT", "value": [format!("{n}")]},
            ]});
            let answer = client.json("POST", "/api/v1/changes", &body).await;
            assert_eq!(answer.status.as_u16(), if bad { 404 } else { 200 }, "{}", answer.text);
        });
    }
    tasks.join_all().await;
    for n in 0..60 {
        let answer = server.client.get(&format!("/api/v1/records/g{n}.example.com.")).await;
        assert_eq!(answer.status.as_u16(), if n % 3 == 0 { 404 } else { 200 }, "g{n}");
    }
    let shared = server.client.get("/api/v1/records/shared.example.com.?type=TXT").await.json();
    assert_eq!(shared["value"].as_array().unwrap().len(), 40);
    assert_eq!(server.client.get("/api/v1/domains/example.com.").await.json()["version"], 41);
}

/// A hundred at once make, extend and delete the same records: of each record one makes it and one deletes it, every value
/// that was added is there once, and each change has a version of its own.
#[tokio::test]
async fn a_hundred_writers_on_one_zone_make_nothing_twice() {
    const WRITERS: usize = 100;
    const NAMES: usize = 4;
    // As many as there are, and those whose end has not been seen.
    let many = |config: &mut Config| config.api.max_connections_per_client = 1_000;
    let server = Server::start_in(folder(), Replica::default(), None, many).await;
    let seed = seed();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = server.client.clone();
        tasks.spawn(async move {
            let mut random = ChaCha8Rng::seed_from_u64(seed ^ ((writer as u64) << 32));
            let mut statuses = Vec::new();
            // Each name once, in an order of the writer's own.
            let mut names: Vec<usize> = (0..NAMES).collect();
            names.sort_by_key(|_| random.random::<u32>());
            for name in names {
                let record =
                    json!({"name": format!("n{name}.example.com."), "type": "A", "value": ["192.0.2.1"]});
                statuses
                    .push(("make", client.json("POST", "/api/v1/records", &record).await.status.as_u16()));
            }
            let value = json!({"changes": [
                {"op": "add_value", "name": "all.example.com.", "type": "TXT", "value": [writer.to_string()]},
            ]});
            statuses.push(("add", client.json("POST", "/api/v1/changes", &value).await.status.as_u16()));
            statuses
        });
    }
    let mut count: BTreeMap<(&str, u16), usize> = BTreeMap::new();
    for told in tasks.join_all().await.into_iter().flatten() {
        *count.entry(told).or_default() += 1;
    }
    let expected = [(("add", 200), WRITERS), (("make", 201), NAMES), (("make", 409), NAMES * (WRITERS - 1))];
    assert_eq!(count, BTreeMap::from(expected), "seed {seed}");
    let all = server.client.get("/api/v1/records/all.example.com.?type=TXT").await.expect(200).json();
    let values: BTreeSet<&str> =
        all["value"].as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect();
    assert_eq!((values.len(), all["value"].as_array().unwrap().len()), (WRITERS, WRITERS));

    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = server.client.clone();
        let path = format!("/api/v1/records/n{}.example.com.?type=A", writer % NAMES);
        tasks.spawn(async move { client.delete(&path).await.status.as_u16() });
    }
    let told = tasks.join_all().await;
    assert_eq!(told.iter().filter(|status| **status == 204).count(), NAMES, "{told:?}; seed {seed}");
    assert_eq!(
        told.iter().filter(|status| **status == 404).count(),
        WRITERS - NAMES,
        "{told:?}; seed {seed}"
    );
    let zone = server.client.get("/api/v1/domains/example.com.").await.json();
    assert_eq!(zone["version"].as_u64().unwrap(), (1 + WRITERS + 2 * NAMES) as u64);
    server.client.send("POST", "/api/v1/reload", &[], vec![]).await.expect(200);
    server.replica.assert_content();
}
