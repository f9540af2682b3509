//! From the commit to the data plane: nothing skipped, nothing twice, through restarts of either side.

use std::time::Duration;

use godwit_wire::rr::Rtype;
use serde_json::json;

use crate::harness::{Client, Server, beside, config, copy_of, folder};
use crate::replica::Replica;

async fn put(client: &Client, n: u32, query: &str) {
    let body = json!({"changes": [{"op": "put", "name": format!("n{n}.example.com."), "type": "A", "value": ["192.0.2.1"]}]});
    client.json("POST", &format!("/api/v1/changes{query}"), &body).await.expect(200);
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::task::yield_now().await;
    }
}

fn served(replica: &Replica, n: u32) -> bool {
    replica.rrset(&format!("n{n}.example.com."), Rtype::A).is_some()
}

/// What was committed while no data plane was there is served by the next that comes, from the log.
#[tokio::test]
async fn p4_what_is_committed_without_a_data_plane_is_served_after_a_restart() {
    // The data plane stands where the control plane stops, so that nothing but the log can bring it further.
    let server = Server::start().await;
    put(&server.client, 9, "?wait=applied").await;
    let (data, replica, token) = server.stop().await;
    let server = Server::start_with(data, replica, None, Some(token), |_| {}).await;
    let waited = server
        .client
        .json(
            "PUT",
            "/api/v1/records/www.example.com.?wait=applied",
            &json!({"type": "A", "value": ["192.0.2.2"]}),
        )
        .await
        .expect(200);
    assert_eq!(waited.header("godwit-applied"), "0/0");
    for n in 0..5 {
        put(&server.client, n, "").await;
    }
    let change = waited.header("godwit-change").to_owned();
    let state = server.client.get(&format!("/api/v1/changes/{change}")).await.json();
    assert_ne!(state["state"], "applied");
    let (folder, replica, token) = server.stop().await;

    let server = Server::start_in(folder, replica, Some(token), |_| {}).await;
    until("all is served", || (0..5).all(|n| served(&server.replica, n))).await;
    let state = server.client.get(&format!("/api/v1/changes/{change}")).await.json();
    assert_eq!(state["state"], "applied");
    server.replica.assert_content();
}

/// A data plane that stands where the control plane stopped is sent what is new and nothing else.
#[tokio::test]
async fn a_restart_goes_on_from_the_applied_position() {
    let server = Server::start().await;
    for n in 0..5 {
        put(&server.client, n, "?wait=applied").await;
    }
    let (folder, replica, token) = server.stop().await;
    let before = *replica.change_sets.lock().unwrap();
    let server = Server::start_in(folder, replica, Some(token), |_| {}).await;
    put(&server.client, 5, "?wait=applied").await;
    assert_eq!(*server.replica.change_sets.lock().unwrap(), before + 1);
    assert!(served(&server.replica, 5));
    server.replica.assert_content();
}

/// A data plane whose own copy is older is sent what came after it, from the outbox.
#[tokio::test]
async fn a_data_plane_that_is_behind_is_sent_what_it_lacks() {
    let server = Server::start().await;
    put(&server.client, 0, "?wait=applied").await;
    let old = Replica::default();
    old.zones.lock().unwrap().clone_from(&server.replica.zones.lock().unwrap());
    old.applied.lock().unwrap().clone_from(&server.replica.applied.lock().unwrap());
    for n in 1..4 {
        put(&server.client, n, "?wait=applied").await;
    }
    let (folder, _, token) = server.stop().await;
    let server = Server::start_in(folder, old, Some(token), |_| {}).await;
    until("it has caught up", || served(&server.replica, 3)).await;
    assert_eq!(*server.replica.change_sets.lock().unwrap(), 3);
    put(&server.client, 4, "?wait=applied").await;
    server.replica.assert_content();
}

/// What has no sequence, as a version before this one left it, gets one with the next start.
#[tokio::test]
async fn what_was_left_without_a_sequence_gets_one() {
    let server = Server::start().await;
    for n in 0..3 {
        put(&server.client, n, "?wait=applied").await;
    }
    let (folder, replica, token) = server.stop().await;
    let copy = copy_of(folder.path());
    let server = Server::start_in(folder, Replica::default(), Some(token.clone()), |_| {}).await;
    for n in 3..5 {
        put(&server.client, n, "?wait=applied").await;
    }
    let (folder, ..) = server.stop().await;
    // Two changes of the one in the other, which never gave them a sequence.
    let mut database = beside(copy.path()).await;
    let mut later = beside(folder.path()).await;
    let rows = later
        .query("SELECT changes.id, changes.committed_at_us, changes.payload, outbox.root_change FROM changes JOIN outbox ON outbox.change_id = changes.id ORDER BY outbox.sequence DESC LIMIT 2")
        .fetch_all()
        .await
        .unwrap();
    for row in rows.iter().rev() {
        let id: uuid::Uuid = row.get(0).unwrap();
        let insert = "INSERT INTO changes (id, committed_at_us, actor, request_id, payload) VALUES ($1, $2, 'local', '', $3)";
        let insert = database.query(insert).bind(id).bind(row.get::<i64, _>(1).unwrap());
        insert.bind(row.get::<Vec<u8>, _>(2).unwrap()).execute().await.unwrap();
        let enqueue = database.query("INSERT INTO outbox (change_id, root_change) VALUES ($1, $2)");
        enqueue.bind(id).bind(row.get::<Vec<u8>, _>(3).unwrap()).execute().await.unwrap();
    }
    drop((database, later));
    let before = *replica.change_sets.lock().unwrap();
    let server = Server::start_in(copy, replica, Some(token), |_| {}).await;
    until("both are served", || served(&server.replica, 3) && served(&server.replica, 4)).await;
    assert_eq!(*server.replica.change_sets.lock().unwrap(), before + 2);
    assert!(*server.replica.heads.lock().unwrap() > 0);
    server.replica.assert_content();
}

/// An empty data plane fetches every zone, and one that lost its way those that differ.
#[tokio::test]
async fn a_data_plane_that_lost_its_way_fetches_what_differs() {
    let server = Server::start().await;
    for n in 0..3 {
        put(&server.client, n, "?wait=applied").await;
    }
    for zone in ["gone.example.", "same.example."] {
        server.client.json("POST", "/api/v1/domains", &json!({"name": zone})).await.expect(201);
    }
    server.client.delete("/api/v1/domains/gone.example.?wait=applied").await.expect(204);
    // It lost a zone, and kept one that is gone.
    let gone = || "gone.example.".parse().unwrap();
    server.replica.zones.lock().unwrap().remove(&"example.com.".parse().unwrap());
    server.replica.zones.lock().unwrap().insert(gone(), Default::default());
    server.replica.fetched.lock().unwrap().clear();
    server.resync.as_ref().unwrap().ask();
    until("it has everything again", || served(&server.replica, 2)).await;
    assert!(!server.replica.zones.lock().unwrap().contains_key(&gone()));
    assert_eq!(*server.replica.fetched.lock().unwrap(), ["example.com.".parse().unwrap()]);
    put(&server.client, 3, "?wait=applied").await;
    let (folder, replica, token) = server.stop().await;
    // The first start, and what was asked for.
    assert_eq!(*replica.indexes.lock().unwrap(), 2);

    let server = Server::start_in(folder, Replica::default(), Some(token), |_| {}).await;
    until("an empty one has everything", || served(&server.replica, 3)).await;
    put(&server.client, 4, "?wait=applied").await;
    server.replica.assert_content();
    assert_eq!(*server.replica.indexes.lock().unwrap(), 1);
}

/// A database without zones says so, and a data plane that has some loses them.
#[tokio::test]
async fn nothing_at_all_is_a_state_as_well() {
    let server = Server::start().await;
    server.client.delete("/api/v1/domains/example.com.?wait=applied&confirm=3").await.expect(204);
    let (folder, replica, token) = server.stop().await;
    assert!(replica.zones.lock().unwrap().is_empty());
    let server = Server::start_in(folder, Replica::default(), Some(token), |_| {}).await;
    until("the head has come", || *server.replica.heads.lock().unwrap() > 0).await;
    server.replica.assert_content();
    let answer =
        server.client.json("POST", "/api/v1/domains?wait=applied", &json!({"name": "a.example."})).await;
    assert_eq!(answer.expect(201).header("godwit-applied"), "1/1");
}

/// A data plane that is behind by more than is kept in memory is given it from the database, in order.
#[tokio::test]
async fn a_slow_data_plane_misses_nothing() {
    let server = Server::start().await;
    put(&server.client, 0, "?wait=applied").await;
    let paused = server.replica.pause().await;
    let changes = |n: u32| {
        let zone = format!("z{n}.example.");
        let text = "x".repeat(200);
        let records = (0..2_000).map(|n| json!({"op": "put", "name": format!("r{n}.{zone}"), "type": "TXT", "value": [format!("\"{text}\"")]}));
        json!({"changes": records.collect::<Vec<_>>()})
    };
    for n in 0..80 {
        server
            .client
            .json("POST", "/api/v1/domains", &json!({"name": format!("z{n}.example.")}))
            .await
            .expect(201);
        server.client.json("POST", "/api/v1/changes", &changes(n)).await.expect(200);
    }
    drop(paused);
    put(&server.client, 1, "?wait=applied&timeout=30s").await;
    assert!(served(&server.replica, 1));
    assert_eq!(*server.replica.indexes.lock().unwrap(), 1, "the first start");
    server.replica.assert_content();
}

/// A database restored from an older copy does not move a data plane back; only an operator's new generation does.
#[tokio::test]
async fn p8_a_restored_database_moves_nothing_back() {
    let server = Server::start().await;
    put(&server.client, 0, "?wait=applied").await;
    let (data, replica, token) = server.stop().await;
    let copy = copy_of(data.path());
    let server = Server::start_in(data, replica, Some(token), |_| {}).await;
    put(&server.client, 1, "?wait=applied").await;
    put(&server.client, 2, "?wait=applied").await;
    let (_, replica, token) = server.stop().await;
    let served_before = replica.zones.lock().unwrap().clone();

    // Twice: changes that the restored database takes must not be mistaken for those that it never knew.
    let mut now = (copy, replica, token);
    for n in 3..5 {
        let before = *now.1.answers.lock().unwrap();
        let server = Server::start_in(now.0, now.1, Some(now.2), |_| {}).await;
        until("the data plane has asked", || *server.replica.answers.lock().unwrap() > before + 1).await;
        for _ in 0..3 {
            let body = json!({"changes": [{"op": "put", "name": format!("n{n}.example.com."), "type": "A", "value": ["192.0.2.1"]}]});
            let answer = server
                .client
                .json("POST", "/api/v1/changes?wait=applied&timeout=100ms", &body)
                .await
                .expect(200);
            assert_ne!(answer.header("godwit-applied"), "0/0");
        }
        assert_eq!(*server.replica.zones.lock().unwrap(), served_before);
        let reload = server.client.get("/api/v1/nodes").await.expect(200).json();
        assert!(reload["items"][0]["sequence"].as_u64().unwrap() > 0);
        now = server.stop().await;
    }
    godwit_controlplane::Controlplane::start_generation(&config(now.0.path()).store).await.unwrap();
    let server = Server::start_in(now.0, now.1, Some(now.2), |_| {}).await;
    until("the restored state is served", || served(&server.replica, 4) && !served(&server.replica, 2)).await;
    put(&server.client, 5, "?wait=applied").await;
    assert!(served(&server.replica, 5));
}

/// What changes make of digests is what is in the rows, of which they are counted while changes go on.
#[tokio::test]
async fn r8_digests_are_counted_from_the_rows_while_changes_go_on() {
    let every_second = |config: &mut godwit_controlplane::config::Config| config.store.recount_seconds = 1;
    let server = Server::start_in(folder(), Replica::default(), None, every_second).await;
    let counted = |times: u32| {
        let text = server.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix("godwit_controlplane_recounts_total "));
        value.unwrap().parse::<u32>().unwrap() >= times
    };
    let mut number = 0;
    while !counted(2) {
        number = number % 200 + 1;
        put(&server.client, number, "").await;
    }
    assert!(server.metrics().contains("godwit_controlplane_recount_differences_total 0\n"));
}
