//! A plain authoritative server from zone files: served, reloaded, and one bad file hurting no other zone.

use std::time::Duration;

use super::process::{Process, ZONE, zone_folder};
use super::reflector::eventually;

fn start(folder: &std::path::Path, more: &[&str]) -> Process {
    let mut arguments = vec!["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--zones"];
    arguments.push(folder.to_str().unwrap());
    arguments.extend_from_slice(more);
    Process::start(&arguments)
}

#[test]
fn dig_gets_its_answers_by_udp_and_tcp() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let file = format!("example.org={}/example.org.zone", folder.path().display());
    let mut process = Process::start(&[
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "[::1]:0",
        "--metrics",
        "off",
        "--zone",
        &file,
    ]);
    for transport in ["+notcp", "+tcp"] {
        let dig = |arguments: &[&str]| process.dig(&[&[transport], arguments].concat());
        assert_eq!(dig(&["+short", "www.example.org", "A"]), "192.0.2.80\n");
        assert_eq!(dig(&["+short", "alias.example.org", "AAAA"]), "www.example.org.\n2001:db8::80\n");
        assert_eq!(dig(&["+short", "any.wild.example.org", "TXT"]), "\"wild\"\n");
        assert!(dig(&["nothing.example.org"]).contains("status: NXDOMAIN"));
        assert!(dig(&["example.com"]).contains("status: REFUSED"));
        assert!(dig(&["WwW.eXample.ORG"]).contains("WwW.eXample.ORG."));
    }
    let ipv6 = process.addresses[1];
    assert_eq!(super::process::dig(ipv6, &["+short", "www.example.org", "A"]), "192.0.2.80\n");
    assert!(process.stop().success());
}

#[test]
fn one_bad_zone_is_reported_and_left_out() {
    let bad = ZONE.replace("www IN A 192.0.2.80", "www IN A 192.0.2.800");
    let folder = zone_folder(&[("good.test", ZONE), ("bad.test", &bad), ("bad.good.test", &bad)]);
    let process = start(folder.path(), &[]);
    assert_eq!(process.dig(&["+short", "www.good.test"]), "192.0.2.80\n");
    // It is known to be here: nobody else is to be asked, and no zone above it to answer.
    for name in ["bad.test", "www.bad.test", "www.bad.good.test", "a.b.bad.good.test"] {
        let answer = process.dig(&[name]);
        assert!(answer.contains("status: SERVFAIL") && answer.contains("EDE: 14"), "{name}: {answer}");
    }
    assert!(
        process.dig(&["bad.good.test", "DS"]).contains("status: NXDOMAIN"),
        "the zone above has no such cut"
    );
    assert!(process.dig(&["www.elsewhere.test"]).contains("status: REFUSED"));
    assert!((process.metric("godwit_dataplane_failed_zones") - 2.0).abs() < 0.1);
    assert!((process.metric("godwit_dataplane_zones") - 1.0).abs() < 0.1);
    let log = process.log();
    assert!(log.contains("bad.test.zone:5") && log.contains("192.0.2.800"), "{log}");
    // Mended and reloaded, it is there.
    for origin in ["bad.test", "bad.good.test"] {
        std::fs::write(folder.path().join(format!("{origin}.zone")), ZONE).unwrap();
        process.signal("HUP");
        let name = format!("www.{origin}");
        eventually("the zone is served", || process.dig(&["+short", &name]) == "192.0.2.80\n");
    }
    assert!((process.metric("godwit_dataplane_failed_zones")).abs() < 0.1);
    // One that is new and bad has never had data; one that is no longer wanted is nothing to us.
    std::fs::write(folder.path().join("new.test.zone"), &bad).unwrap();
    process.signal("HUP");
    eventually("it is known", || process.dig(&["www.new.test"]).contains("status: SERVFAIL"));
    let log = process.log();
    let said = log.lines().find(|line| line.contains("new.test.zone:5")).unwrap();
    assert!(said.contains("it is left out"), "{said}");
    std::fs::remove_file(folder.path().join("new.test.zone")).unwrap();
    process.signal("HUP");
    eventually("it is not", || process.dig(&["www.new.test"]).contains("status: REFUSED"));
}

#[test]
fn where_no_zone_is_found_it_is_said_what_files_are_called() {
    let folder = zone_folder(&[]);
    std::fs::write(folder.path().join("db.example.org"), ZONE).unwrap();
    let process = start(folder.path(), &[]);
    assert!(process.dig(&["www.example.org"]).contains("status: REFUSED"));
    let said = || process.log().lines().find(|line| line.contains("no zone was found")).map(str::to_owned);
    let said = said().expect("a warning");
    assert!(said.contains(folder.path().to_str().unwrap()) && said.contains("ORIGIN.zone"), "{said}");
}

#[test]
fn p6_a_reload_takes_what_changed_and_keeps_the_last_good_state_of_the_rest() {
    let zones: Vec<(String, &str)> = (0..5).map(|i| (format!("z{i}.test"), ZONE)).collect();
    let zones: Vec<(&str, &str)> = zones.iter().map(|(origin, text)| (origin.as_str(), *text)).collect();
    let folder = zone_folder(&zones);
    let process = start(folder.path(), &[]);
    let file = |origin: &str| folder.path().join(format!("{origin}.zone"));
    let changed = ZONE.replace("192.0.2.80", "192.0.2.81").replace("hostmaster 1", "hostmaster 2");
    std::fs::write(file("z1.test"), changed).unwrap();
    std::fs::write(file("z2.test"), "this is no zone").unwrap();
    std::fs::remove_file(file("z3.test")).unwrap();
    std::fs::write(file("new.test"), ZONE).unwrap();
    process.signal("HUP");
    eventually("the new zone is served", || process.dig(&["+short", "www.new.test"]) == "192.0.2.80\n");
    assert_eq!(process.dig(&["+short", "www.z0.test"]), "192.0.2.80\n");
    assert_eq!(process.dig(&["+short", "www.z1.test"]), "192.0.2.81\n");
    assert_eq!(process.dig(&["+short", "www.z2.test"]), "192.0.2.80\n");
    assert!(process.dig(&["www.z3.test"]).contains("status: REFUSED"));
    eventually("it is logged", || process.log().contains("reloaded"));
    let log = process.log();
    assert!(
        log.contains("\"changed\":2") && log.contains("\"removed\":1") && log.contains("\"unchanged\":2"),
        "{log}"
    );
}

#[test]
fn p1_zones_whose_files_are_gone_come_from_the_local_snapshot() {
    let folder = zone_folder(&[("kept.test", ZONE), ("changed.test", ZONE), ("dropped.test", ZONE)]);
    let state = tempfile::tempdir().unwrap();
    let state_folder = state.path().join("state");
    let list = folder.path().join("list");
    let line = |origin: &str| format!("{origin}\t{}/{origin}.zone\n", folder.path().display());
    std::fs::write(&list, [line("kept.test"), line("changed.test"), line("dropped.test")].concat()).unwrap();
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--metrics",
        "127.0.0.1:0",
        "--zones",
        list.to_str().unwrap(),
        "--state",
        state_folder.to_str().unwrap(),
    ];
    let mut process = Process::start(&arguments);
    assert!(process.stop().success());

    std::fs::remove_file(folder.path().join("kept.test.zone")).unwrap();
    let changed = ZONE.replace("192.0.2.80", "192.0.2.81");
    std::fs::write(folder.path().join("changed.test.zone"), changed).unwrap();
    std::fs::write(&list, [line("kept.test"), line("changed.test")].concat()).unwrap();
    let process = Process::start(&arguments);
    assert_eq!(process.dig(&["+short", "www.kept.test"]), "192.0.2.80\n");
    assert_eq!(process.dig(&["+short", "www.changed.test"]), "192.0.2.81\n");
    assert!(process.dig(&["www.dropped.test"]).contains("status: REFUSED"));
    assert!(process.log().contains("it keeps its last good state, from the local snapshot"));
}

#[test]
fn zones_served_while_the_list_could_not_be_read_go_when_it_does_not_name_them() {
    let folder = zone_folder(&[("kept.test", ZONE), ("dropped.test", ZONE)]);
    let state = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    let line = |origin: &str| format!("{origin}\t{}/{origin}.zone\n", folder.path().display());
    std::fs::write(&list, [line("kept.test"), line("dropped.test")].concat()).unwrap();
    let more = ["--state", state.path().to_str().unwrap()];
    assert!(start(&list, &more).stop().success());

    std::fs::remove_file(&list).unwrap();
    let process = start(&list, &more);
    for zone in ["www.kept.test", "www.dropped.test"] {
        assert_eq!(process.dig(&["+short", zone]), "192.0.2.80\n");
    }
    // Not while nobody knows what is wanted, only when the list can be read again.
    process.signal("HUP");
    eventually("it is logged", || process.log().contains("reloaded"));
    assert_eq!(process.dig(&["+short", "www.dropped.test"]), "192.0.2.80\n");
    std::fs::write(&list, line("kept.test")).unwrap();
    process.signal("HUP");
    eventually("it goes", || process.dig(&["www.dropped.test"]).contains("status: REFUSED"));
    assert_eq!(process.dig(&["+short", "www.kept.test"]), "192.0.2.80\n");
}

#[test]
fn a_zone_without_data_stays_known_while_the_list_is_wrong() {
    let folder = zone_folder(&[("good.test", ZONE), ("bad.test", "this is no zone")]);
    let list = folder.path().join("list");
    let line = |origin: &str| format!("{origin}\t{}/{origin}.zone\n", folder.path().display());
    std::fs::write(&list, line("good.test") + &line("bad.test")).unwrap();
    let process = start(&list, &[]);
    let is = |status: &str| process.dig(&["www.bad.test"]).contains(&format!("status: {status}"));
    assert!(is("SERVFAIL"));
    std::fs::remove_file(&list).unwrap();
    process.signal("HUP");
    eventually("it is logged", || process.log().contains("reloaded"));
    assert!(is("SERVFAIL"));
    std::fs::write(&list, line("good.test")).unwrap();
    process.signal("HUP");
    eventually("it is no longer wanted", || is("REFUSED"));
}

#[test]
fn a_reload_is_no_pause() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let process = start(folder.path(), &[]);
    let file = folder.path().join("example.org.zone");
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(process.address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let query = query("www.example.org");
    let mut buffer = [0; 512];
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..2_000u32 {
        if round % 100 == 0 {
            let octet = round / 100 + 1;
            std::fs::write(&file, ZONE.replace("192.0.2.80", &format!("192.0.2.{octet}"))).unwrap();
            process.signal("HUP");
        }
        client.send(&query).unwrap();
        let len = client.recv(&mut buffer).expect("every query is answered");
        // The address is the last thing of the answer.
        seen.insert(buffer[len - 1]);
    }
    assert!(seen.len() > 3, "the reloads showed: {seen:?}");
}

/// A query for A without EDNS.
fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}
