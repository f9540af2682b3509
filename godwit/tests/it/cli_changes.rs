//! What commands do to records, and say of it, where that is not plain: another zone nearby, a token that may write alone, a database
//! that is away.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use godwit_testkit::servers::Postgres;
use serde_json::json;

use crate::cli::{ZONE, file, refused, said, said_json};
use crate::dns::{self, A};
use crate::process::{Running, Started, godwit, wait_for};

fn hosts(address: &str) -> String {
    (0..60).map(|n| format!("n{n} IN A {address}\n")).collect()
}

fn import(started: &Started, path: &str, more: &[&str]) -> Command {
    let mut command = started.command();
    command.args(["import", path, "--max-request", "1024"]).args(more);
    command
}

/// The server may hold a zone below the one that is imported: its delegation is in the file, its records are not.
#[test]
fn a_large_import_changes_its_own_zone_alone() {
    let started = Started::first();
    let folder = tempfile::tempdir().unwrap();
    said(started.command().args(["zone", "create", "sub.big.example", "--ns", "ns.real.example"]));
    let before = said(started.command().args(["export", "sub.big.example"]));
    let text = format!("{ZONE}{}sub IN NS ns1.sub\nns1.sub IN A 192.0.2.66\n", hosts("192.0.2.1"));
    let path = file(folder.path(), "big.example.zone", &text);
    for again in 0..2 {
        let outcome = said_json(&mut import(&started, &path, &[]));
        let changed = if again == 0 { 5 + 60 + 2 } else { 0 };
        assert_eq!(outcome["zones"][0]["changed"], changed, "{outcome}");
        assert_eq!(said(started.command().args(["export", "sub.big.example"])), before);
        let exported = said(started.command().args(["export", "big.example"]));
        assert!(exported.contains("ns1.sub.big.example.") && exported.contains("192.0.2.66"), "{exported}");
    }
}

/// Data planes serve from files what the API does not take. Of a large zone nothing is sent then.
#[test]
fn what_the_api_would_refuse_is_told_before_a_part_of_it_is_sent() {
    let started = Started::first();
    let folder = tempfile::tempdir().unwrap();
    let many: String = (1..=101).map(|n| format!("zz IN A 192.0.2.{n}\n")).collect();
    let path = file(folder.path(), "big.example.zone", &format!("{ZONE}{}{many}", hosts("192.0.2.1")));
    let (_, stderr) = refused(&mut import(&started, &path, &[]));
    assert!(stderr.contains("A has 101 records") && stderr.contains(&path), "{stderr}");
    let zones = said(started.command().args(["zone", "list"]));
    assert!(!zones.contains("big.example"), "a part of it was sent: {zones}");
}

/// A server may ask for confirmation of less than the command knows.
#[test]
fn r18_a_large_import_confirms_nothing_that_nobody_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let config = file(folder.path(), "g.toml", "[guard]\nchanged_names = 1\nchanged_percent = 1\n");
    let started = Started::first_with(&["--config", &config]);
    let path = file(folder.path(), "big.example.zone", &format!("{ZONE}{}", hosts("192.0.2.1")));
    // A zone that is new costs nothing, whatever is confirmed.
    said(&mut import(&started, &path, &["--confirm", "60"]));
    let path = file(folder.path(), "big.example.zone", &format!("{ZONE}{}", hosts("192.0.2.2")));
    let (_, stderr) = refused(&mut import(&started, &path, &["--confirm", "59"]));
    assert!(stderr.contains("--confirm 60"), "{stderr}");
    let (_, stderr) = refused(&mut import(&started, &path, &[]));
    assert!(stderr.contains("--confirm 60"), "{stderr}");
    let server = started.running.dns();
    assert_eq!(dns::addresses(&dns::udp(server, "n1.big.example.", A)), [Ipv4Addr::new(192, 0, 2, 1)]);
    said(&mut import(&started, &path, &["--confirm", "60"]));
    assert_eq!(dns::addresses(&dns::udp(server, "n1.big.example.", A)), [Ipv4Addr::new(192, 0, 2, 2)]);
}

/// What lets in stands in it.
#[test]
fn the_database_is_for_its_user_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755)).unwrap();
    let running = Running::start(&data);
    running.api_address();
    for name in ["godwit.sqlite", "godwit.sqlite-wal", "godwit.sqlite-shm"] {
        let mode = std::fs::metadata(data.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn names_are_taken_as_people_write_them() {
    let started = Started::first();
    let run = |arguments: &[&str]| said(started.command().args(arguments));
    assert!(run(&["zone", "create", "bücher.example"]).contains("xn--bcher-kva.example."));
    let set = run(&["record", "set", "_sip.BÜCHER.example", "A", "192.0.2.1"]);
    assert_eq!(set, "_sip.xn--bcher-kva.example. 300 IN A 192.0.2.1\n");
    assert!(run(&["record", "set", "grüße", "A", "192.0.2.2", "--zone", "bücher.example"]).contains("xn--"));
    assert_eq!(run(&["record", "list", "bücher.example"]).lines().count(), 4);
    assert!(run(&["export", "bücher.example"]).contains("192.0.2.1"));
}

/// The change is made, whatever the token may read.
#[test]
fn a_token_that_may_write_alone_sets_a_record() {
    let mut started = Started::first();
    started.running.stop();
    let data = started.data();
    let create = ["token", "create", "--scope", "records:write", "--data", data.to_str().unwrap()];
    let told = said(godwit().args(create));
    let token = told.trim().rsplit(' ').next().unwrap();
    started.running = Running::start(&data);
    started.running.api_address();
    let mut set = started.running.command(token);
    set.args(["record", "set", "www.example.com", "A", "192.0.2.9"]);
    assert_eq!(said(&mut set), "www.example.com. IN A 192.0.2.9\n");
    assert_eq!(said_json(&mut set), json!({"name": "www.example.com.", "type": "A", "value": ["192.0.2.9"]}));
    let answer = dns::udp(started.running.dns(), "www.example.com.", A);
    assert_eq!(dns::addresses(&answer), [Ipv4Addr::new(192, 0, 2, 9)]);
}

/// Accepted is not made: no command says that something is created, deleted or imported.
#[test]
fn p4_what_is_accepted_while_the_database_is_away_is_not_said_to_be_made() {
    let postgres = Postgres::start(&[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text =
        format!("[store]\nurl = \"{}\"\n[buffer]\nenabled = true\n", postgres.create_database().unwrap());
    let config = file(folder.path(), "b.toml", &text);
    let started = Started::first_with(&["--config", &config]);
    let run = |arguments: &[&str]| {
        let mut command = started.command();
        command.args(arguments);
        command
    };
    said(&mut run(&["zone", "list"]));
    let server = started.running.dns();
    let served = |name: &str| {
        let answer = dns::udp(server, name, A);
        if answer.rcode == 0 { dns::addresses(&answer) } else { Vec::new() }
    };
    wait_for("the example zone", || (!served("www.example.com.").is_empty()).then_some(()));
    postgres.kill().unwrap();
    wait_for("the database to be away", || postgres.psql("postgres", "SELECT 1").err());
    let zone = file(folder.path(), "big.example.zone", ZONE);
    for arguments in [
        &["zone", "rollback", "example.com", "--to", "1"][..],
        &["record", "set", "a.example.com", "A", "192.0.2.7"],
        &["record", "delete", "www.example.com", "A"],
        &["zone", "create", "new.example"],
        &["zone", "delete", "new.example"],
        &["import", &zone],
    ] {
        let told = said(&mut run(arguments));
        assert!(told.contains("accepted, not made yet"), "{arguments:?}: {told}");
        assert!(
            !["created", "deleted", "changed", "is what"].iter().any(|made| told.contains(made)),
            "{told}"
        );
        let told = said_json(&mut run(arguments));
        let state = told["zones"][0]["state"].as_str().or(told["state"].as_str());
        assert!(matches!(state, Some("accepted" | "buffered")), "{arguments:?}: {told}");
    }
    postgres.again().unwrap();
    wait_for("what was accepted", || {
        (served("a.example.com.") == [Ipv4Addr::new(192, 0, 2, 7)]).then_some(())
    });
}
