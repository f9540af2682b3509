//! The database server goes away under us, and comes back.

use std::sync::Arc;
use std::time::Duration;

use godwit_controlplane::Config;
use godwit_testkit::servers::Postgres;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::concurrency::seed;
use crate::harness::{Server, URL_FILE};
use crate::ledger::Ledger;
use crate::replica::Replica;

/// A server of the database's own, durable as it is installed, and a control plane on it.
pub(crate) async fn on_its_own(adjust: impl FnOnce(&mut Config)) -> (Postgres, Server) {
    let postgres = Postgres::start(&[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(URL_FILE), postgres.create_database().unwrap()).unwrap();
    let server = Server::start_in(Arc::new(folder), Replica::default(), None, adjust).await;
    (postgres, server)
}

/// Killed while writes are under way: what was acknowledged is there afterwards, on the data plane too, and the control
/// plane goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_killed_database_server_loses_nothing_that_was_acknowledged() {
    let kills = if std::env::var_os("GODWIT_LONG").is_some() { 200 } else { 5 };
    let (postgres, server) = on_its_own(|_| {}).await;
    let seed = seed();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let ledger = Arc::new(Ledger::named("w"));
    for kill in 0..kills {
        let mut writers = ledger.write(&server.client);
        tokio::time::sleep(Duration::from_millis(random.random_range(5..200))).await;
        ledger.under_way().await;
        postgres.kill().unwrap();
        if kill % 2 == 0 {
            until_refused(&ledger).await;
        } else {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        }
        server.client.get("/health").await.expect(200);
        postgres.again().unwrap();
        until_written(&server).await;
        writers.shutdown().await;
        // What was under way when the clients ended ends too.
        until_written(&server).await;
        ledger.check(&server.client, seed).await;
    }
    assert!(ledger.acknowledged() > 5, "nothing was acknowledged: this shows nothing");
    let (writes, refused) = ledger.writes();
    println!("{kills} kills, {writes} writes in all, {refused} of them refused");
    let body = json!({"changes": [{"op": "put", "name": "end.example.com.", "type": "TXT", "value": ["x"]}]});
    server.client.json("POST", "/api/v1/changes?wait=applied&timeout=20s", &body).await.expect(200);
    server.replica.assert_content();
}

/// Waits until another write is refused for now.
async fn until_refused(ledger: &Ledger) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let before = ledger.writes().1;
    while ledger.writes().1 == before {
        assert!(tokio::time::Instant::now() < deadline, "no write is refused");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until writes are taken again.
pub(crate) async fn until_written(server: &Server) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let body =
        json!({"changes": [{"op": "put", "name": "probe.example.com.", "type": "TXT", "value": ["x"]}]});
    loop {
        let answer = server.client.json("POST", "/api/v1/changes", &body).await;
        if answer.status == 200 {
            return;
        }
        assert_eq!(answer.code(), "DB_UNAVAILABLE", "{}", answer.text);
        assert!(tokio::time::Instant::now() < deadline, "still refused: {}", answer.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// While it is away: reads and writes are told so, health does not mind, and readiness says it.
#[tokio::test]
async fn a_database_server_that_is_away_is_said_not_to_be_available() {
    let (postgres, server) = on_its_own(|_| {}).await;
    postgres.kill().unwrap();
    let body = json!({"type": "A", "value": ["192.0.2.2"]});
    let write = server.client.json("PUT", "/api/v1/records/www.example.com.", &body).await.expect(503);
    assert_eq!((write.code().as_str(), write.header("retry-after")), ("DB_UNAVAILABLE", "1"));
    let read = server.client.get("/api/v1/domains").await.expect(503);
    assert_eq!(read.code(), "DB_UNAVAILABLE");
    assert_eq!(server.client.get("/ready").await.expect(503).json()["status"], "unavailable");
    server.client.get("/health").await.expect(200);
    postgres.again().unwrap();
    until_written(&server).await;
    server.client.get("/ready").await.expect(200);
}
