//! P1: a start needs nothing but the local snapshot. The database is damaged, locked or gone; DNS is answered, and the
//! API comes back by itself when the database does.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::json;

use crate::dns::{self, A};
use crate::process::{Running, Started};

const NEW: [Ipv4Addr; 1] = [Ipv4Addr::new(192, 0, 2, 42)];

/// A folder whose snapshot holds what was changed last.
fn stopped_after_a_change() -> Started {
    let mut started = Started::first();
    let record = json!({"type": "A", "ttl": 60, "value": ["192.0.2.42"]});
    // Applied, so that the data plane has had records before it stops: what it never had it cannot keep.
    let answer = started.api().put("/api/v1/records/www.example.com.?wait=applied", &record);
    assert_eq!((answer.status, answer.header("godwit-applied")), (200, Some("1/1")), "{answer:?}");
    assert!(started.running.stop().success());
    started
}

/// DNS without an API, then both.
fn serves_without_the_database(started: &Started, repair: impl FnOnce()) {
    let mut running = Running::launch(&started.data(), &[]);
    let server = running.dns();
    for message in [dns::udp(server, "www.example.com.", A), dns::tcp(server, "www.example.com.", A)] {
        assert_eq!(dns::addresses(&message), NEW);
    }
    crate::process::wait_for("the word that there is no API", || {
        running.stderr().contains("the control plane cannot run").then_some(())
    });
    assert!(!running.has_api(), "{}", running.stderr());
    assert_eq!(running.stdout(), "", "no first start");
    repair();
    let api = running.api(&started.token);
    let record = json!({"type": "A", "ttl": 60, "value": ["192.0.2.43"]});
    let answer = api.put("/api/v1/records/www.example.com.?wait=applied", &record);
    assert_eq!((answer.status, answer.header("godwit-applied")), (200, Some("1/1")), "{answer:?}");
    assert_eq!(dns::addresses(&dns::udp(server, "www.example.com.", A)), [Ipv4Addr::new(192, 0, 2, 43)]);
    assert!(running.stop().success());
}

#[test]
fn p1_a_damaged_database_does_not_stop_answers() {
    let started = stopped_after_a_change();
    let database = started.data().join("godwit.sqlite");
    let kept = std::fs::read(&database).unwrap();
    std::fs::write(&database, b"this is not a database, it only stands where one did".repeat(100)).unwrap();
    serves_without_the_database(&started, || replace(&database, &kept));
}

#[test]
fn p1_a_database_that_is_gone_does_not_stop_answers_and_is_no_first_start() {
    let started = stopped_after_a_change();
    let database = started.data().join("godwit.sqlite");
    let kept = std::fs::read(&database).unwrap();
    std::fs::remove_file(&database).unwrap();
    serves_without_the_database(&started, || replace(&database, &kept));
}

/// Stopped as soon as it has said its token, before anybody could have asked anything: the next start has what to serve.
#[test]
fn p1_a_stop_right_after_the_first_start_leaves_a_snapshot() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut running = Running::launch(&data, &[]);
        running.token();
        assert!(running.stop().success());
        std::fs::remove_file(data.join("godwit.sqlite")).unwrap();
        let running = Running::launch(&data, &[]);
        let message = dns::udp(running.dns(), "www.example.com.", A);
        assert_eq!(dns::addresses(&message), [Ipv4Addr::new(192, 0, 2, 1)], "{}", running.stderr());
    }
}

#[test]
fn p1_a_database_that_another_process_has_does_not_stop_answers() {
    let started = stopped_after_a_change();
    let lock = File::create(started.data().join("lock")).unwrap();
    lock.lock().unwrap();
    serves_without_the_database(&started, || drop(lock));
}

/// In one step, as whoever restores a backup should.
fn replace(database: &Path, content: &[u8]) {
    let temporary = database.with_extension("restored");
    std::fs::write(&temporary, content).unwrap();
    std::fs::rename(&temporary, database).unwrap();
}

#[test]
fn without_a_snapshot_a_damaged_database_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("godwit.sqlite"), b"no database".repeat(1000)).unwrap();
    let mut running = Running::launch(folder.path(), &[]);
    assert_eq!(running.wait().code(), Some(1));
    let stderr = running.stderr();
    assert!(
        stderr.lines().any(|line| line.starts_with("godwit: database ") && line.contains("godwit.sqlite")),
        "{stderr}"
    );
    assert_eq!(running.stdout(), "");
}

#[test]
fn a_restart_serves_what_was_committed_after_the_last_snapshot() {
    let mut started = Started::first();
    let api = started.api();
    for number in 1..=20 {
        let value = [format!("192.0.2.{number}")];
        let record = json!({"name": format!("n{number}.example.com."), "type": "A", "value": value});
        assert_eq!(api.post("/api/v1/records", &record).status, 201);
    }
    started.running.kill();
    let again = Running::start(&started.data());
    let api = again.api(&started.token);
    // A change that is applied has all changes before it applied.
    let probe = json!({"type": "A", "value": ["192.0.2.200"]});
    assert_eq!(
        api.put("/api/v1/records/www.example.com.?wait=applied", &probe).header("godwit-applied"),
        Some("1/1")
    );
    for number in 1..=20 {
        let message = dns::udp(again.dns(), &format!("n{number}.example.com."), A);
        assert_eq!(dns::addresses(&message), [Ipv4Addr::new(192, 0, 2, number)]);
    }
}
