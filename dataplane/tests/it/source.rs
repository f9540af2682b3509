//! Zone files as an operator has them: in folders, with includes, changed and broken while the server runs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use godwit_dataplane::source::{Reload, Sources, check};
use godwit_engine::snapshot::{LoadedZone, Snapshot, SnapshotOptions};
use godwit_wire::feed::DigestKey;
use godwit_wire::name::Name;
use godwit_wire::presentation::format_rdata;
use tempfile::TempDir;

use super::process::Process;

const HEAD: &str = "$TTL 300\n@ SOA ns host 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Writes a file.
fn put(folder: &Path, file: &str, text: &str) -> PathBuf {
    let path = folder.join(file);
    fs::write(&path, text).unwrap();
    path
}

fn zone(records: &str) -> String {
    format!("{HEAD}{records}")
}

/// A folder as `--zones` takes it.
fn folder_of(zones: &[(&str, &str)]) -> (TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    for (origin, records) in zones {
        put(folder.path(), &format!("{origin}.zone"), &zone(records));
    }
    let sources = Sources::new(&BTreeMap::new(), Some(folder.path())).unwrap();
    (folder, sources)
}

fn snapshot_of(zones: Vec<LoadedZone>) -> Snapshot {
    let options = SnapshotOptions { hash_key: [1; 16], digest_key: DigestKey([2; 32]) };
    Snapshot::empty(&options).replace_zones(zones)
}

/// The records of a zone as `owner type rdata`, without those of `HEAD`.
fn records(snapshot: &Snapshot, apex: &str) -> Option<Vec<String>> {
    let zone = snapshot.zone(name(apex).as_ref())?;
    let mut lines = Vec::new();
    for (owner, rrset) in zone.rrsets() {
        for rdata in &rrset.rdata {
            lines.push(format!("{owner} {} {}", rrset.rtype, format_rdata(rrset.rtype, rdata)));
        }
    }
    lines.retain(|line| !line.contains(" SOA ") && !line.contains(" NS ") && !line.contains("192.0.2.1"));
    Some(lines)
}

fn errors(reload: &Reload) -> Vec<String> {
    reload.errors.iter().map(ToString::to_string).collect()
}

#[test]
fn one_bad_zone_is_left_out_and_the_rest_is_served() {
    let (folder, mut sources) = folder_of(&[
        ("good.example", "www A 192.0.2.7\n"),
        ("bad.example", "www A 192.0.2.700\n"),
        ("also.example", ""),
    ]);
    let (zones, errors) = sources.load();
    let snapshot = snapshot_of(zones);
    assert_eq!(snapshot.zone_count(), 2);
    assert_eq!(records(&snapshot, "good.example").unwrap(), ["www.good.example. A 192.0.2.7"]);
    assert!(records(&snapshot, "bad.example").is_none());
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let file = folder.path().join("bad.example.zone");
    assert_eq!(
        errors,
        [format!("zone bad.example.: {}:5: \"192.0.2.700\": expected an IPv4 address", file.display())]
    );
}

#[test]
fn a_zone_broken_while_running_keeps_its_last_good_version() {
    let (folder, mut sources) = folder_of(&[("a.example", "www A 192.0.2.7\n"), ("b.example", "")]);
    assert_eq!(sources.load().0.len(), 2);

    put(folder.path(), "a.example.zone", "www A\n");
    let reload = sources.reload(false);
    assert!(reload.changed.is_empty() && reload.removed.is_empty());
    assert_eq!((reload.errors.len(), reload.unchanged), (1, 1));
    // It is tried again, and said again, as long as it is broken.
    assert_eq!(sources.reload(false).errors.len(), 1);
    // One that never could be read is taken away with its file: what is served of it may come from elsewhere.
    let never = put(folder.path(), "never.example.zone", "www A\n");
    assert_eq!(sources.reload(false).errors.len(), 2);
    fs::remove_file(never).unwrap();
    assert_eq!(sources.reload(false).removed, [name("never.example")]);

    put(folder.path(), "a.example.zone", &zone("www A 192.0.2.8\n"));
    let reload = sources.reload(false);
    assert_eq!((reload.changed.len(), reload.errors.len(), reload.unchanged), (1, 0, 1));
    assert_eq!(records(&snapshot_of(reload.changed), "a.example").unwrap(), ["www.a.example. A 192.0.2.8"]);
}

#[test]
fn a_zone_file_that_is_gone_from_a_list_keeps_the_zone() {
    let folder = tempfile::tempdir().unwrap();
    let file = put(folder.path(), "a", &zone(""));
    let mut sources = Sources::new(&BTreeMap::from([("a.example".to_owned(), file.clone())]), None).unwrap();
    assert_eq!(sources.load().0.len(), 1);
    fs::remove_file(file).unwrap();
    let reload = sources.reload(false);
    assert!(reload.removed.is_empty() && reload.changed.is_empty());
    assert!(errors(&reload)[0].contains("No such file"), "{:?}", reload.errors);
}

#[test]
fn a_reload_reads_what_changed_and_nothing_else() {
    let (folder, mut sources) =
        folder_of(&[("a.example", "$INCLUDE hosts\n"), ("b.example", ""), ("c.example", "")]);
    put(folder.path(), "hosts", "www A 192.0.2.7\n");
    assert_eq!(sources.load().0.len(), 3);
    let quiet = sources.reload(false);
    assert_eq!((quiet.changed.len(), quiet.unchanged), (0, 3));

    put(folder.path(), "hosts", "www A 192.0.2.8\n");
    put(folder.path(), "d.example.zone", &zone(""));
    fs::remove_file(folder.path().join("c.example.zone")).unwrap();
    let reload = sources.reload(false);
    assert_eq!(reload.removed, [name("c.example")]);
    assert_eq!((reload.changed.len(), reload.unchanged, reload.errors.len()), (2, 1, 0));
    let snapshot = snapshot_of(reload.changed);
    assert_eq!(records(&snapshot, "a.example").unwrap(), ["www.a.example. A 192.0.2.8"]);
    assert!(snapshot.zone(name("d.example").as_ref()).is_some());

    let forced = sources.reload(true);
    assert_eq!((forced.changed.len(), forced.unchanged), (3, 0));
}

#[test]
fn a_zone_that_could_not_be_used_is_read_again() {
    let (_folder, mut sources) = folder_of(&[("a.example", "")]);
    assert_eq!(sources.load().0.len(), 1);
    sources.not_taken(&name("a.example"));
    assert_eq!(sources.reload(false).changed.len(), 1);
    assert_eq!(sources.reload(false).unchanged, 1);
}

#[test]
fn the_list_is_read_again_and_a_broken_list_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    for origin in ["a", "b", "c"] {
        put(folder.path(), origin, &zone(""));
    }
    let list = put(folder.path(), "list", "# zones\na.example\ta\nb.example\tb\n");
    let mut sources = Sources::new(&BTreeMap::new(), Some(&list)).unwrap();
    assert_eq!(sources.load().0.len(), 2);

    put(folder.path(), "list", "a.example\ta\nc.example\tc\nb.exam");
    let reload = sources.reload(false);
    assert!(reload.removed.is_empty());
    assert_eq!((reload.changed.len(), reload.unchanged), (1, 1));
    assert!(errors(&reload)[0].ends_with("list:3: \"b.exam\": expected a line of origin, tab and zone file"));

    fs::remove_file(&list).unwrap();
    let reload = sources.reload(false);
    assert!(reload.removed.is_empty());
    assert!(errors(&reload)[0].contains("cannot read the list of zones"), "{:?}", reload.errors);

    put(folder.path(), "list", "a.example\ta\nc.example\tc\n");
    let reload = sources.reload(false);
    assert_eq!(reload.removed, [name("b.example")]);
    assert_eq!(reload.unchanged, 2);
}

#[test]
fn includes_stay_in_the_folder_of_the_zone_file() {
    let outer = tempfile::tempdir().unwrap();
    let secret = put(outer.path(), "secret", "secret TXT \"not for you\"\n");
    let folder = outer.path().join("zones");
    fs::create_dir_all(folder.join("sub")).unwrap();
    put(&folder.join("sub"), "inside", "inside TXT yes\n");
    symlink("sub/inside", folder.join("link-inside")).unwrap();
    symlink(&secret, folder.join("link-out")).unwrap();
    symlink("..", folder.join("folder-out")).unwrap();
    // A folder whose name begins as the zone files' does.
    fs::create_dir(outer.path().join("zones-other")).unwrap();
    put(&outer.path().join("zones-other"), "secret", "secret TXT \"nor this\"\n");

    for (include, outcome) in [
        ("sub/inside", Ok(())),
        ("link-inside", Ok(())),
        ("sub/../sub/inside", Ok(())),
        ("../secret", Err("outside")),
        ("link-out", Err("outside")),
        ("folder-out/secret", Err("outside")),
        ("../zones-other/secret", Err("outside")),
        (secret.to_str().unwrap(), Err("outside")),
        ("/dev/zero", Err("outside")),
        ("nowhere", Err("No such file")),
        ("sub", Err("not a regular file")),
    ] {
        let file = put(&folder, "a", &zone(&format!("$INCLUDE {include}\n")));
        let mut sources = Sources::new(&BTreeMap::from([("a.example".to_owned(), file)]), None).unwrap();
        let (zones, errors) = sources.load();
        match outcome {
            Ok(()) => {
                assert!(errors.is_empty(), "{include}: {errors:?}");
                assert_eq!(
                    records(&snapshot_of(zones), "a.example").unwrap(),
                    ["inside.a.example. TXT \"yes\""]
                );
            }
            Err(reason) => {
                assert!(zones.is_empty(), "{include} was read");
                let error = errors[0].to_string();
                assert!(
                    error.contains(":5: ") && error.contains(include) && error.contains(reason),
                    "{error}"
                );
                assert!(!error.contains("not for you"), "{error}");
            }
        }
    }
}

#[test]
fn what_is_no_regular_file_neither_blocks_nor_fills_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for file in [pipe, PathBuf::from("/dev/zero"), folder.path().to_owned()] {
        let (done, waiting) = mpsc::channel();
        let sent = file.clone();
        std::thread::spawn(move || {
            let mut sources = Sources::new(&BTreeMap::from([("a.example".to_owned(), sent)]), None).unwrap();
            done.send(sources.load().1).unwrap();
        });
        let errors =
            waiting.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("{file:?} blocks"));
        assert!(errors[0].to_string().contains("not a regular file"), "{errors:?}");
    }
}

#[test]
fn checking_finds_everything_and_where() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "hosts", "\nx A 1.2.3\ny A 192.0.2.9\nw.other.example. A 192.0.2.9\n");
    let file = put(folder.path(), "a", &zone("x MX ten mail\n$INCLUDE hosts\nz TXT \"open\nz TXT fine\n"));
    let report = check(&name("a.example"), &file);
    let places: Vec<String> = report
        .findings
        .iter()
        .map(|finding| {
            let file = Path::new(&finding.file).file_name().unwrap().to_str().unwrap();
            format!("{file}:{} {}", finding.line.unwrap(), finding.token.as_deref().unwrap_or("-"))
        })
        .collect();
    assert_eq!(places, ["a:5 ten", "hosts:2 1.2.3", "hosts:4 -", "a:7 open"]);
    assert!(report.findings[2].reason.contains("w.other.example."), "{:?}", report.findings[2]);
    assert!(report.zone.is_none());
    assert_eq!(report.records, 5);

    // What only the whole zone shows is placed too, through the include.
    put(folder.path(), "hosts", "\nx CNAME y\n");
    let file = put(folder.path(), "a", &zone("x A 192.0.2.9\n$INCLUDE hosts\n"));
    let report = check(&name("a.example"), &file);
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    let finding = report.findings[0].to_string();
    assert!(finding.contains("a:5") || finding.contains("hosts:2"), "{finding}");
    assert!(finding.contains("CNAME"), "{finding}");

    let report = check(&name("a.example"), &put(folder.path(), "a", "@ 3 NS ns\n"));
    assert!(report.findings[0].to_string().contains("SOA"), "{:?}", report.findings);

    let report = check(&name("a.example"), &put(folder.path(), "a", &zone("")));
    assert!(report.findings.is_empty() && report.zone.is_some());

    let report = check(&name("a.example"), &put(folder.path(), "a", &"?\n".repeat(5_000)));
    assert_eq!(report.findings.len(), 1_000);
    assert!(report.findings[999].reason.contains("4001 more"), "{:?}", report.findings[999]);
}

#[test]
fn many_zones_and_a_large_one_load_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut list = String::new();
    for i in 0..3_000 {
        put(folder.path(), &format!("{i}"), &zone(&format!("www A 192.0.2.{}\n", i % 250 + 2)));
        writeln!(list, "z{i}.example\t{i}").unwrap();
    }
    let mut large = String::from(HEAD);
    for i in 0..50_000 {
        writeln!(large, "host{i} A 198.51.{}.{}", i / 250, i % 250).unwrap();
    }
    put(folder.path(), "large", &large);
    writeln!(list, "large.example\tlarge").unwrap();
    let list = put(folder.path(), "list", &list);
    let mut sources = Sources::new(&BTreeMap::new(), Some(&list)).unwrap();
    let (zones, errors) = sources.load();
    assert!(errors.is_empty(), "{errors:?}");
    let snapshot = snapshot_of(zones);
    assert_eq!(snapshot.zone_count(), 3_001);
    assert_eq!(records(&snapshot, "z2999.example").unwrap(), ["www.z2999.example. A 192.0.2.251"]);
    assert_eq!(snapshot.zone(name("large.example").as_ref()).unwrap().name_count(), 50_002);
}

#[test]
fn loading_a_million_names_shows_progress() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from(HEAD);
    for i in 0..1_000_000u64 {
        writeln!(text, "h{:08x} A 10.{}.{}.{}", i * 7_919 % 1_000_003, i >> 16, i >> 8 & 255, i & 255)
            .unwrap();
    }
    let file = put(folder.path(), "large", &text);
    let zone = format!("large.example={}", file.display());
    let mut process = Process::start(&["--listen", "127.0.0.1:0", "--metrics", "off", "--zone", &zone]);
    assert_eq!(process.dig(&["+short", "h00001eef.large.example", "A"]), "10.0.0.1\n");
    assert!(process.stop().success());
    let log = process.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &serde_json::Value| line["message"] == "loading zone files")
        .collect();
    assert!(!lines.is_empty(), "{log}");
    assert!(lines.iter().all(|line| line["zones"] == 1), "{log}");
    let names: Vec<u64> = lines.iter().filter_map(|line| line["names"].as_u64()).collect();
    assert!(names.is_sorted() && names.last().is_some_and(|&names| names > 10_000), "{log}");
}
