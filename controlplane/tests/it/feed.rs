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

/// What was committed while nobody could publish it, as after a crash between commit and publication, is published by the
/// next start.
#[tokio::test]
async fn p4_what_is_committed_and_not_published_is_published_after_a_restart() {
    // The data plane stands where the control plane stops, so that nothing but the outbox can bring it further.
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
    assert_eq!(state["state"], "committed");
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

/// The process died after publishing and before writing that down: the data plane is ahead of the notes.
#[tokio::test]
async fn a_data_plane_that_is_ahead_of_the_notes_is_sent_nothing_twice() {
    let server = Server::start().await;
    for n in 0..3 {
        put(&server.client, n, "?wait=applied").await;
    }
    let (folder, replica, token) = server.stop().await;
    let mut database = beside(folder.path()).await;
    // As if the last two publications had never been noted.
    let noted: i64 = database.query("SELECT sequence FROM relay").fetch_value().await.unwrap();
    let forget = database.query("UPDATE outbox SET sequence = NULL WHERE sequence > $1").bind(noted - 2);
    assert_eq!(forget.execute().await.unwrap(), 2);
    database.query("UPDATE relay SET sequence = $1").bind(noted - 2).execute().await.unwrap();
    drop(database);
    let before = *replica.change_sets.lock().unwrap();
    let server = Server::start_in(folder, replica, Some(token), |_| {}).await;
    put(&server.client, 3, "?wait=applied").await;
    assert_eq!(*server.replica.change_sets.lock().unwrap(), before + 1);
    server.replica.assert_content();
}

/// An empty data plane is sent every zone as it is, and one that lost its way asks for it.
#[tokio::test]
async fn a_data_plane_that_asks_is_sent_everything() {
    let server = Server::start().await;
    for n in 0..3 {
        put(&server.client, n, "?wait=applied").await;
    }
    server.client.json("POST", "/api/v1/domains", &json!({"name": "gone.example."})).await.expect(201);
    server.client.delete("/api/v1/domains/gone.example.?wait=applied").await.expect(204);
    // It lost a zone, and kept one that is gone.
    server.replica.zones.lock().unwrap().clear();
    server.replica.zones.lock().unwrap().insert("gone.example.".parse().unwrap(), Default::default());
    server.resync.as_ref().unwrap().ask();
    until("it has everything again", || served(&server.replica, 2)).await;
    until("the other is gone", || {
        !server.replica.zones.lock().unwrap().contains_key(&"gone.example.".parse().unwrap())
    })
    .await;
    put(&server.client, 3, "?wait=applied").await;
    let (folder, replica, token) = server.stop().await;
    // The first start, and what was asked for: each ended with a head that says what is there.
    assert_eq!(*replica.heads.lock().unwrap(), 2);

    let server = Server::start_in(folder, Replica::default(), Some(token), |_| {}).await;
    until("an empty one has everything", || served(&server.replica, 3)).await;
    put(&server.client, 4, "?wait=applied").await;
    server.replica.assert_content();
    assert_eq!(*server.replica.heads.lock().unwrap(), 1);
}

/// What a data plane asked for while nobody published is answered by the next who does.
#[tokio::test]
async fn a_request_from_before_the_start_is_answered() {
    let server = Server::start().await;
    put(&server.client, 0, "?wait=applied").await;
    let (folder, replica, token) = server.stop().await;
    replica.zones.lock().unwrap().clear();
    {
        let mut applied = replica.applied.lock().unwrap();
        (applied.awaits_everything, applied.uncertain) = (true, true);
    }
    let server = Server::start_in(folder, replica, Some(token), |_| {}).await;
    until("it has everything", || served(&server.replica, 0)).await;
    put(&server.client, 1, "?wait=applied").await;
    server.replica.assert_content();
}

/// A database without zones says so, and a data plane that has some loses them.
#[tokio::test]
async fn nothing_at_all_is_a_state_as_well() {
    let server = Server::start().await;
    server.client.delete("/api/v1/domains/example.com.?wait=applied").await.expect(204);
    let (folder, replica, token) = server.stop().await;
    assert!(replica.zones.lock().unwrap().is_empty());
    let server = Server::start_in(folder, Replica::default(), Some(token), |_| {}).await;
    until("the head has come", || *server.replica.heads.lock().unwrap() == 1).await;
    server.replica.assert_content();
    let answer =
        server.client.json("POST", "/api/v1/domains?wait=applied", &json!({"name": "a.example."})).await;
    assert_eq!(answer.expect(201).header("godwit-applied"), "1/1");
}

/// More changes than the way to the relay holds, while the data plane does not take any: they are read back in order.
#[tokio::test]
async fn a_slow_data_plane_misses_nothing() {
    let replica = Replica::default();
    let (batches, held) = tokio::sync::mpsc::channel(1);
    let (position, applied) = tokio::sync::watch::channel(godwit_controlplane::Applied::default());
    let stuck =
        godwit_controlplane::FeedSink { batches, applied, digest_key: godwit_wire::feed::DigestKey([7; 32]) };
    let (_, resync) = replica.sink();
    let server = Server::start_with(folder(), replica, Some((stuck, resync)), None, |_| {}).await;
    for n in 0..50 {
        put(&server.client, n, "").await;
    }
    // It goes away without having applied anything.
    drop((held, position));
    let (folder, replica, token) = server.stop().await;
    let server = Server::start_in(folder, replica, Some(token), |_| {}).await;
    until("all is served", || (0..50).all(|n| served(&server.replica, n))).await;
    put(&server.client, 50, "?wait=applied").await;
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
        let server = Server::start_in(now.0, now.1, Some(now.2), |_| {}).await;
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
