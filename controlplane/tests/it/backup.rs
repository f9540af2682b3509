//! Backups: made while changes come in, checked, and put into either kind of database.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use godwit_controlplane::backup;
use godwit_controlplane::config::Store;
use godwit_controlplane::store::Kind;
use godwit_testkit::servers::Postgres;
use godwit_wire::rr::Rtype;
use serde_json::json;

use crate::harness::{Client, Server, URL_FILE, beside, config, folder};

async fn put(client: &Client, n: u32, query: &str) {
    let body = json!({"changes": [{"op": "put", "name": format!("n{n}.example.com."), "type": "A", "value": ["192.0.2.1"]}]});
    client.json("POST", &format!("/api/v1/changes{query}"), &body).await.expect(200);
}

fn store(folder: &Path) -> Store {
    config(folder).store
}

/// A folder for a database of the kind that this program's servers do not have.
fn other_kind() -> Arc<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    if crate::DATABASE == Kind::Sqlite {
        let url = Postgres::shared().create_database().unwrap();
        std::fs::write(folder.path().join(URL_FILE), url).unwrap();
    }
    Arc::new(folder)
}

type Zones = Vec<(Vec<u8>, i64, Vec<u8>)>;

/// Name, version and digest of each zone, and how many rows tables have that tell one state from another.
async fn held(folder: &Path) -> (Zones, i64) {
    let mut connection = beside(folder).await;
    let names = "SELECT name_key, version, digest FROM zones ORDER BY name_key";
    let rows = connection.query(names).fetch_all().await.unwrap();
    let zones = rows.iter().map(|row| (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap()));
    let counts = "SELECT (SELECT count(*) FROM rrsets) + (SELECT count(*) FROM changes) * 1000 + (SELECT count(*) FROM audit) * 1000000";
    (zones.collect(), connection.query(counts).fetch_value().await.unwrap())
}

async fn generation(folder: &Path) -> (i64, i64) {
    let mut connection = beside(folder).await;
    let row =
        connection.query("SELECT generation, sequence FROM relay").fetch_optional().await.unwrap().unwrap();
    (row.get(0).unwrap(), row.get(1).unwrap())
}

fn verified(file: &Path) -> anyhow::Result<backup::Summary> {
    backup::verify(&std::fs::read(file).unwrap()[..])
}

#[tokio::test]
async fn p8_a_backup_under_writes_goes_through_both_kinds_and_data_planes_follow_it() {
    let server = Server::start().await;
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("first");
    put(&server.client, 0, "?wait=applied").await;
    let here = store(server.folder.path());
    let writes = async {
        for n in 1..60 {
            put(&server.client, n, "").await;
        }
    };
    let (made, ()) = tokio::join!(backup::create(&here, &file), writes);
    made.unwrap();
    let first = verified(&file).unwrap();
    assert_eq!(first.zones, 1);
    put(&server.client, 900, "?wait=applied").await;
    let (first_folder, replica, token) = server.stop().await;

    // Into the other kind, and from there into one of ours.
    let there = other_kind();
    let read = backup::restore(&store(there.path()), &file, false).await.unwrap();
    assert_eq!(read, first);
    let second_file = files.path().join("second");
    backup::create(&store(there.path()), &second_file).await.unwrap();
    let second = verified(&second_file).unwrap();
    assert_eq!((second.zones, second.rrsets), (first.zones, first.rrsets));
    assert!(second.generation > first.generation && second.sequence >= first.sequence);
    let back = folder();
    std::fs::copy(first_folder.path().join("secrets.key"), back.path().join("secrets.key")).unwrap();
    backup::restore(&store(back.path()), &second_file, false).await.unwrap();
    assert_eq!(held(there.path()).await, held(back.path()).await);
    assert!(generation(back.path()).await.0 > second.generation);

    // Over the database that has more: above what that knew.
    let before = generation(first_folder.path()).await;
    backup::restore(&store(first_folder.path()), &file, true).await.unwrap();
    let after = generation(first_folder.path()).await;
    assert!(after.0 > before.0 && after.1 >= before.1, "{before:?} {after:?}");
    assert_eq!(held(first_folder.path()).await, held(back.path()).await);

    // The data plane has what no backup knows.
    let is_served = |n: u32| replica.rrset(&format!("n{n}.example.com."), Rtype::A).is_some();
    assert!(is_served(900));
    let server = Server::start_in(back, replica, Some(token), |_| {}).await;
    let is_served = |n: u32| server.replica.rrset(&format!("n{n}.example.com."), Rtype::A).is_some();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while is_served(900) || !is_served(0) {
        assert!(std::time::Instant::now() < deadline, "the backup is not followed");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    put(&server.client, 901, "?wait=applied").await;
    assert!(server.replica.rrset("n901.example.com.", Rtype::A).is_some());
    server.stop().await;
}

/// They come in no order in which they could have been made, and numbers go on.
#[tokio::test]
async fn zones_of_tenants_come_back() {
    let server = Server::start().await;
    let client = &server.client;
    let tenant = client.json("POST", "/api/v1/tenants", &json!({ "name": "one" })).await.expect(201).json();
    let number = tenant["number"].as_u64().unwrap();
    let zone = json!({ "name": "theirs.test.", "ns": ["ns1.example.net."] });
    client.json("POST", &format!("/api/v1/domains?tenant={number}"), &zone).await.expect(201);
    let (here, _, token) = server.stop().await;
    let files = tempfile::tempdir().unwrap();
    let (file, again) = (files.path().join("one"), files.path().join("two"));
    backup::create(&store(here.path()), &file).await.unwrap();
    let there = other_kind();
    backup::restore(&store(there.path()), &file, false).await.unwrap();
    backup::create(&store(there.path()), &again).await.unwrap();
    let back = folder();
    std::fs::copy(here.path().join("secrets.key"), back.path().join("secrets.key")).unwrap();
    backup::restore(&store(back.path()), &again, false).await.unwrap();
    let server = Server::start_in(back, crate::replica::Replica::default(), Some(token), |_| {}).await;
    let client = &server.client;
    assert_eq!(client.get("/api/v1/domains/theirs.test.").await.expect(200).json()["tenant"], json!(number));
    let next = client.json("POST", "/api/v1/tenants", &json!({ "name": "two" })).await.expect(201).json();
    assert!(next["number"].as_u64().unwrap() > number);
    // What keeps tenants apart is on again.
    let above = json!({ "name": "test.", "ns": ["ns1.example.net."] });
    let path = format!("/api/v1/domains?tenant={}", next["number"]);
    client.json("POST", &path, &above).await.expect(409);
    server.stop().await;
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_changes_nothing() {
    let server = Server::start().await;
    put(&server.client, 0, "").await;
    let (folder, ..) = server.stop().await;
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("b");
    backup::create(&store(folder.path()), &file).await.unwrap();
    let whole = std::fs::read(&file).unwrap();
    backup::verify(&whole[..]).unwrap();
    let before = (held(folder.path()).await, generation(folder.path()).await);
    for place in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        assert!(backup::verify(&whole[..place]).is_err(), "cut at {place}");
        let mut flipped = whole.clone();
        flipped[place] ^= 1;
        assert!(backup::verify(&flipped[..]).is_err(), "flipped at {place}");
    }
    assert!(backup::verify(&[&whole[..], b"\n"].concat()[..]).is_err());
    for place in [whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..place]).unwrap();
        backup::restore(&store(folder.path()), &file, true).await.unwrap_err();
    }
    assert_eq!(before, (held(folder.path()).await, generation(folder.path()).await));
    // Records that are not those that the digest was kept of.
    let changed = "UPDATE rrsets SET ttl = ttl + 1";
    beside(folder.path()).await.query(changed).execute().await.unwrap();
    backup::create(&store(folder.path()), &file).await.unwrap();
    let error = verified(&file).unwrap_err().to_string();
    assert!(error.contains("example.com") && error.contains("digest"), "{error}");
}

#[tokio::test]
async fn a_backup_goes_into_no_database_that_is_in_use_or_has_zones() {
    let server = Server::start().await;
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("b");
    let here = store(server.folder.path());
    backup::create(&here, &file).await.unwrap();
    let error = format!("{:#}", backup::restore(&here, &file, true).await.unwrap_err());
    assert!(error.contains("in use") || error.contains("has it open"), "{error}");
    let (folder, ..) = server.stop().await;
    let before = held(folder.path()).await;
    let error = format!("{:#}", backup::restore(&here, &file, false).await.unwrap_err());
    assert!(error.contains("holds zones"), "{error}");
    assert_eq!(before, held(folder.path()).await);
}

/// As if the process were killed there: what was begun is dropped after so many steps.
async fn dropped_after<T>(steps: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut polls = 0;
    std::future::poll_fn(|context| {
        polls += 1;
        match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if polls > steps => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn a_restore_that_is_cut_off_leaves_the_database_as_it_was() {
    let server = Server::start().await;
    put(&server.client, 0, "").await;
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("b");
    let here = store(server.folder.path());
    backup::create(&here, &file).await.unwrap();
    for n in 1..4 {
        put(&server.client, n, "").await;
    }
    let (folder, ..) = server.stop().await;
    let (before, stood) = (held(folder.path()).await, generation(folder.path()).await);
    let mut cut = 0;
    for steps in (0..).step_by(9) {
        match dropped_after(steps, backup::restore(&here, &file, true)).await {
            Some(Ok(_)) => break,
            // The server has not seen yet that the one before is gone.
            Some(Err(error)) => assert!(format!("{error:#}").contains("open"), "{error:#}"),
            None => cut += 1,
        }
        // What the dropped restore had asked for may be committed at any
        // moment from here on: the generation is read last.
        let now = held(folder.path()).await;
        if generation(folder.path()).await != stood {
            // It was committed, and only the answer was not heard.
            break;
        }
        assert_eq!(before, now, "{steps}");
    }
    assert!(cut > 3, "{cut}");
    assert_ne!(before, held(folder.path()).await);
}

#[tokio::test]
async fn a_backup_that_cannot_be_written_leaves_no_file() {
    let server = Server::start().await;
    let here = store(server.folder.path());
    let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let error = format!("{:#}", backup::write(&here, &mut full).await.unwrap_err());
    assert!(error.contains("writing the backup"), "{error}");
    let files = tempfile::tempdir().unwrap();
    // A name that cannot be taken.
    let taken = files.path().join("b");
    std::fs::create_dir(&taken).unwrap();
    backup::create(&here, &taken).await.unwrap_err();
    assert_eq!(std::fs::read_dir(files.path()).unwrap().count(), 1);
}
