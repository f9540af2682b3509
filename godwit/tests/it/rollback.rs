//! What was and what would be, for people: versions, reading and bringing back, and what a dry run says.

use crate::dns::{self, A};
use crate::process::{Started, output, wait_for};

const ADDRESS: &str = "www.example.com.";

/// Standard output of a command that succeeds, or standard error of one that fails.
fn run(started: &Started, arguments: &[&str]) -> Result<String, String> {
    let ended = output(started.command().args(arguments));
    let text = |octets| String::from_utf8(octets).unwrap();
    if ended.status.success() { Ok(text(ended.stdout)) } else { Err(text(ended.stderr)) }
}

#[test]
fn zones_and_everything_go_back_and_a_dry_run_says_what_would_change() {
    let started = Started::first();
    let server = started.running.dns();
    let addresses = || dns::addresses(&dns::udp(server, ADDRESS, A));
    wait_for("the first answer", || (dns::udp(server, ADDRESS, A).rcode == 0).then_some(()));
    let was = addresses();
    run(&started, &["record", "set", "www.example.com", "A", "192.0.2.99"]).unwrap();
    run(&started, &["record", "set", "x.example.com", "A", "192.0.2.99"]).unwrap();

    let versions = run(&started, &["zone", "versions", "example.com"]).unwrap();
    let lines: Vec<&str> = versions.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("3 ") && lines[2].starts_with("1 "), "{versions}");
    assert!(lines[0].contains(" changes by ") && lines[0].contains("RRsets put 2 deleted 0"), "{versions}");
    let listed = run(&started, &["record", "list", "example.com", "--at", "2"]).unwrap();
    assert!(listed.contains("192.0.2.99") && !listed.contains("x.example.com."), "{listed}");
    let export = run(&started, &["export", "example.com", "--at", "1"]).unwrap();
    assert!(!export.contains("192.0.2.99"), "{export}");

    let dry = run(&started, &["zone", "rollback", "example.com", "--to", "1", "--dry-run"]).unwrap();
    assert!(
        dry.contains("x.example.com. A\n  - x.example.com. 300 IN A 192.0.2.99\n  + no such name\n"),
        "{dry}"
    );
    assert!(dry.ends_with("nothing was changed\n"), "{dry}");
    assert_ne!(addresses(), was);
    let said = run(&started, &["zone", "rollback", "example.com", "--to", "1"]).unwrap();
    assert!(said.starts_with("example.com. is what it was in version 1: version 4 serial "), "{said}");
    assert_eq!(addresses(), was);

    // What is said of the sequence of a version is what takes everything there.
    let word = |line: &str, before: &str| {
        let mut words = line.split(' ').skip_while(|word| *word != before);
        words.nth(1).unwrap().to_owned()
    };
    let third = word(lines[0], "sequence");
    let error = run(&started, &["zone", "delete", "example.com"]).unwrap_err();
    assert!(error.contains("--confirm 3"), "{error}");
    run(&started, &["zone", "delete", "example.com", "--confirm", "3"]).unwrap();
    let error = run(&started, &["rollback", "--to", &third]).unwrap_err();
    assert!(error.contains("--confirm"), "{error}");
    let dry = run(&started, &["rollback", "--to", &third, "--dry-run"]).unwrap();
    assert!(dry.starts_with("example.com. back, with "), "{dry}");
    let said = run(&started, &["rollback", "--to", &third, "--confirm"]).unwrap();
    assert!(
        said.ends_with(&format!("everything is what it was after sequence {third}, by 1 change\n")),
        "{said}"
    );
    assert_eq!(dns::addresses(&dns::udp(server, "x.example.com.", A)).len(), 1);

    let dry = run(&started, &["record", "delete", "x.example.com", "--dry-run"]).unwrap();
    assert!(dry.contains("  + no such name\n"), "{dry}");
    assert_eq!(dns::addresses(&dns::udp(server, "x.example.com.", A)).len(), 1);
    let error = run(&started, &["zone", "rollback", "example.com", "--to", "99"]).unwrap_err();
    assert!(error.contains("VERSION_NOT_FOUND"), "{error}");
}
