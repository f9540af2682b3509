//! `godwit audit verify`: while the server runs, when it is stopped, and after somebody was at the database.

use godwit_controlplane::store::Place;
use serde_json::{Value, json};

use crate::process::{Started, godwit, output};

/// What it prints, and how it ends.
fn verify(started: &Started, more: &[&str]) -> (String, String, Option<i32>) {
    let data = started.data();
    let ran = output(godwit().args(["audit", "verify", "--data"]).arg(&data).args(more));
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (text(ran.stdout), text(ran.stderr), ran.status.code())
}

fn harm(started: &Started, statements: &'static [&'static str]) {
    let place = Place::File(started.data().join("godwit.sqlite"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { place.connect().await.unwrap().control(statements).await.unwrap() });
}

#[test]
fn r20_whether_the_log_is_as_it_was_written_is_said_by_the_command() {
    let mut started = Started::first();
    let record = json!({"type": "A", "ttl": 60, "value": ["192.0.2.42"]});
    started.api().put("/api/v1/records/www.example.com.", &record);
    // Nothing was written down yet.
    let (shown, told, code) = verify(&started, &[]);
    assert!(shown.starts_with("whole: ") && told.contains("no anchors"), "{shown} {told}");
    assert_eq!(code, Some(0));
    assert!(started.running.stop().success());
    let (shown, told, code) = verify(&started, &["--json"]);
    let report: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&report["whole"], &report["anchors"], code), (&json!(true), &json!(1), Some(0)), "{shown}");
    assert!(report["checked"].as_u64().unwrap() >= 3 && told.is_empty(), "{shown} {told}");
    harm(&started, &["DROP TRIGGER audit_never_changes", "UPDATE audit SET actor = 'mallory' WHERE id = 2"]);
    let (shown, _, code) = verify(&started, &[]);
    assert!(shown.starts_with("NOT AS IT WAS WRITTEN: row 2 (id 2) was altered"), "{shown}");
    assert_eq!(code, Some(1));
    let (shown, _, code) = verify(&started, &["--json"]);
    let report: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(report["wrong"], json!({ "kind": "altered", "number": 2, "id": 2 }));
    assert_eq!((&report["whole"], code), (&json!(false), Some(1)));
    // What cannot be checked is not whole either.
    let (_, told, code) = verify(&started, &["--anchors", "/nowhere/anchors"]);
    assert!(told.contains("/nowhere/anchors"), "{told}");
    assert_eq!(code, Some(1));
    std::fs::remove_file(started.data().join("secrets.key")).unwrap();
    let (_, told, code) = verify(&started, &[]);
    assert!(told.contains("secrets.key"), "{told}");
    assert_eq!(code, Some(1));
}
