//! Several control planes on one database: any of them takes writes, one gives sequences, all of them publish the same.

use std::sync::Arc;
use std::time::Duration;

use godwit_controlplane::audit::verify;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::concurrency::seed;
use crate::harness::{Server, beside, config, folder};
use crate::ledger::Ledger;
use crate::replica::Replica;

/// Two that start at once on a new database, each with a data plane.
pub(crate) async fn pair() -> (Server, Server) {
    let folder = folder();
    let first = Server::start_in(folder.clone(), Replica::default(), None, |_| {}).await;
    let token = first.client.token.clone();
    let second = Server::start_in(folder, Replica::default(), Some(token), |_| {}).await;
    (first, second)
}

async fn level(one: &Server, other: &Server, seed: u64) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let at = |server: &Server| server.replica.applied.lock().unwrap().sequence;
    while at(one) != at(other) || *one.replica.zones.lock().unwrap() != *other.replica.zones.lock().unwrap() {
        assert!(std::time::Instant::now() < deadline, "{} and {}; seed {seed}", at(one), at(other));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Clients write to both, zones of either through the other; one is stopped and started again meanwhile. What was
/// acknowledged is there, on both data planes, and no data plane saw anything out of order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_any_control_plane_takes_writes_and_all_data_planes_come_to_the_same() {
    let stops = if std::env::var_os("GODWIT_LONG").is_some() { 50 } else { 3 };
    let seed = seed();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut one, other) = pair().await;
    let ledgers = [Arc::new(Ledger::named("a")), Arc::new(Ledger::named("b"))];
    for stop in 0..stops {
        let mut writers = [ledgers[0].write(&one.client), ledgers[1].write(&other.client)];
        tokio::time::sleep(Duration::from_millis(random.random_range(50..600))).await;
        // It may be the one that gives sequences or not.
        let (folder, replica, token) = one.stop().await;
        writers[0].shutdown().await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        one = Server::start_in(folder, replica, Some(token), |_| {}).await;
        writers[1].shutdown().await;
        let name = format!("end{stop}.example.com.");
        for server in [&one, &other] {
            let body = json!({"changes": [{"op": "put", "name": name, "type": "TXT", "value": [format!("{stop}")]}]});
            let answer = server.client.json("POST", "/api/v1/changes?wait=applied&timeout=20s", &body).await;
            assert_eq!(answer.expect(200).header("godwit-applied"), "1/1", "seed {seed}");
        }
        level(&one, &other, seed).await;
        ledgers[0].check(&other.client, seed).await;
        ledgers[1].check(&one.client, seed).await;
    }
    assert!(
        ledgers.iter().all(|ledger| ledger.acknowledged() > 3),
        "nothing was acknowledged: this shows nothing"
    );
    one.replica.assert_content();
    other.replica.assert_content();
}

/// Whether it is the first of two that gives sequences; it may be neither for a moment after the one before has ended.
async fn leads(one: &Server, other: &Server) -> bool {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    // The line of what it is for begins like that of the figure.
    let is_leader =
        |server: &Server| server.metrics().lines().any(|line| line == "godwit_controlplane_relay_leader 1");
    while !is_leader(one) && !is_leader(other) {
        assert!(std::time::Instant::now() < deadline, "nobody gives sequences");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    is_leader(one)
}

/// The one that chains is ended again and again while both write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r20_the_audit_log_is_one_chain_whoever_gives_sequences() {
    let (mut one, mut other) = pair().await;
    let seed = seed();
    for turn in 0..4 {
        let ledgers = [Arc::new(Ledger::named("a")), Arc::new(Ledger::named("b"))];
        let mut writers = [ledgers[0].write(&one.client), ledgers[1].write(&other.client)];
        tokio::time::sleep(Duration::from_millis(700)).await;
        let ended = if leads(&one, &other).await { &mut one } else { &mut other };
        let started = {
            let (folder, token) = (ended.folder.clone(), ended.client.token.clone());
            Server::start_in(folder, Replica::default(), Some(token), |_| {}).await
        };
        std::mem::replace(ended, started).stop().await;
        for writer in &mut writers {
            writer.shutdown().await;
        }
        assert!(ledgers.iter().any(|ledger| ledger.acknowledged() > 0), "turn {turn}; seed {seed}");
    }
    let config = config(one.folder.path());
    let anchors = [config.audit_anchors()];
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let report = loop {
        let report = verify(&config.store, &anchors, |_, _| {}).await.unwrap();
        if report.unchained == 0 || std::time::Instant::now() > deadline {
            break report;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(report.whole && report.unchained == 0 && report.anchors > 1, "{report:?}");
    let mut connection = beside(one.folder.path()).await;
    let rows: i64 = connection.query("SELECT count(*) FROM audit").fetch_value().await.unwrap();
    assert!(report.checked > 20 && rows >= i64::try_from(report.checked).unwrap(), "{rows} {report:?}");
}

/// Changes of the same zones, several zones each, through both: no two wait for each other, none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_the_same_zones_through_both_all_succeed() {
    let (one, other) = pair().await;
    for n in 0..6 {
        let body = json!({"name": format!("z{n}.example.")});
        one.client.json("POST", "/api/v1/domains", &body).await.expect(201);
    }
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..16 {
        let server = if client % 2 == 0 { &one.client } else { &other.client };
        let server = server.clone();
        clients.spawn(async move {
            for round in 0..12 {
                // In another order each time.
                let zones = (0..6).map(|n| (n * 5 + client + round) % 6);
                let puts = zones.map(|n| {
                    json!({"op": "put", "name": format!("c{client}-{round}.z{n}.example."), "type": "A", "value": ["192.0.2.1"]})
                });
                let body = json!({"changes": puts.collect::<Vec<_>>()});
                server.json("POST", "/api/v1/changes", &body).await.expect(200);
            }
        });
    }
    clients.join_all().await;
    for server in [&one, &other] {
        server.client.send("POST", "/api/v1/reload", &[], vec![]).await.expect(200);
    }
    level(&one, &other, 0).await;
    let zones = one.replica.zones.lock().unwrap().clone();
    let versions: Vec<u64> = (0..6).map(|n| zones[&format!("z{n}.example.").parse().unwrap()].0).collect();
    assert_eq!(versions, [1 + 16 * 12; 6], "each change is a version of its own");
    other.replica.assert_content();
}

/// One data plane is told of everything that was made on the other side, one change after the other.
#[tokio::test]
async fn a_wait_ends_when_the_relay_elsewhere_has_published() {
    let (one, other) = pair().await;
    for n in 0..4u8 {
        for server in [&one, &other] {
            let body =
                json!({"type": "A", "value": [format!("192.0.2.{}", n + 10)], "ttl": 60 + u32::from(n)});
            let path = "/api/v1/records/www.example.com.?wait=applied&timeout=20s";
            assert_eq!(
                server.client.json("PUT", path, &body).await.expect(200).header("godwit-applied"),
                "1/1"
            );
        }
    }
    let leaders = beside(one.folder.path())
        .await
        .query("SELECT count(*) FROM relay WHERE holder IS NOT NULL")
        .fetch_value::<i64>()
        .await;
    assert_eq!(leaders.unwrap(), 1);
}
