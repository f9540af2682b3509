//! The first start, the second process, and the end.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use serde_json::json;

use crate::dns::{self, A};
use crate::process::{PATIENCE, Running, Started, godwit, output, wait_for};

#[test]
fn the_first_start_prints_one_line_and_the_next_none() {
    let mut started = Started::first();
    let stdout = started.running.stdout();
    let token = stdout.strip_prefix("admin token: gw_").and_then(|rest| rest.strip_suffix('\n')).unwrap();
    assert_eq!(token.len(), 43, "{stdout:?}");
    assert!(token.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet)), "{stdout:?}");
    assert!(!started.running.stderr().contains(token), "the token is in the log");
    assert!(started.running.stop().success());
    assert_eq!(started.running.stdout(), stdout);

    let again = Running::start(&started.data());
    assert_eq!(again.api(&started.token).get("/api/v1/domains").status, 200, "the token goes on");
    assert_eq!(again.stdout(), "");
}

#[test]
fn a_second_process_on_the_folder_is_turned_away() {
    let started = Started::first();
    let mut second = Running::launch(&started.data(), &[]);
    assert_eq!(second.wait().code(), Some(1));
    let stderr = second.stderr();
    let folder = started.data();
    let expected = format!("the data folder {} is used by another process", folder.display());
    assert!(stderr.contains(&expected), "{stderr}");
    assert!(!stderr.contains("DNS at"), "it bound an address: {stderr}");
    assert_eq!(second.stdout(), "");
    wait_for("the example zone", || {
        (dns::udp(started.running.dns(), "example.com.", 6).rcode == 0).then_some(())
    });

    let data = started.data();
    let token = output(godwit().args(["token", "create", "--data", data.to_str().unwrap()]));
    let stderr = String::from_utf8(token.stderr).unwrap();
    assert_eq!(token.status.code(), Some(1));
    assert!(stderr.contains("while the server is stopped") && stderr.contains("used by another"), "{stderr}");
}

#[test]
fn a_token_made_while_it_is_stopped_is_valid() {
    let mut started = Started::first();
    assert!(started.running.stop().success());
    let data = started.data();
    let made = output(godwit().args([
        "--json",
        "token",
        "create",
        "--scope",
        "admin",
        "--data",
        data.to_str().unwrap(),
    ]));
    assert!(made.status.success(), "{made:?}");
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let again = Running::start(&data);
    for token in [made["token"].as_str().unwrap(), &started.token] {
        assert_eq!(again.api(token).get("/api/v1/domains").status, 200);
    }
    assert_eq!(again.api("gw_wrong").get("/api/v1/domains").status, 401);
}

#[test]
fn a_stop_lets_requests_end_and_a_second_signal_does_not() {
    let mut started = Started::first();
    let address = started.running.api_address();
    let mut open = TcpStream::connect(address).unwrap();
    let request = format!(
        "POST /api/v1/domains HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Length: 99\r\n\r\n{{",
        started.token
    );
    open.write_all(request.as_bytes()).unwrap();
    // A later request on another connection has been answered: that one has arrived.
    assert_eq!(started.api().get("/api/v1/domains").status, 200);
    started.running.signal("TERM");
    wait_for("the end of the listener", || TcpStream::connect(address).is_err().then_some(()));
    let asked = Instant::now();
    started.running.signal("TERM");
    assert_eq!(started.running.wait().code(), Some(130));
    assert!(asked.elapsed() < PATIENCE / 2);
    wait_for("a word about it", || started.running.stderr().contains("a second signal").then_some(()));
}

#[test]
fn a_hangup_is_no_reason_to_stop() {
    let mut started = Started::first();
    started.running.signal("HUP");
    let record = json!({"type": "A", "value": ["192.0.2.7"]});
    let answer = started.api().put("/api/v1/records/www.example.com.?wait=applied", &record);
    assert_eq!(answer.status, 200);
    assert_eq!(dns::addresses(&dns::udp(started.running.dns(), "www.example.com.", A)).len(), 1);
    assert!(started.running.stop().success());
}

#[test]
fn a_hangup_reads_the_cookie_secrets_again() {
    let folder = tempfile::tempdir().unwrap();
    let (file, secrets) = (folder.path().join("godwit.toml"), folder.path().join("secrets"));
    std::fs::write(&file, format!("[cookies]\nsecrets_file = {secrets:?}\n")).unwrap();
    std::fs::write(&secrets, "0".repeat(32)).unwrap();
    let running = Running::launch(&folder.path().join("data"), &["--config", file.to_str().unwrap()]);
    running.api_address();
    let said = |line: &str| running.stderr().contains(line).then_some(());
    for (text, line) in
        [("1".repeat(32), "the cookie secrets have changed"), (String::new(), "stay as they are")]
    {
        let whole = folder.path().join("secrets.new");
        std::fs::write(&whole, text).unwrap();
        std::fs::rename(&whole, &secrets).unwrap();
        assert!(said(line).is_none());
        running.signal("HUP");
        wait_for(line, || said(line));
    }
}

#[test]
fn wrong_flags_and_configuration_exit_with_2_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("godwit.toml");
    std::fs::write(&file, "[api]\nlisten = \"here\"\n").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, expected) in [
        (&["run", "--config", file][..], "godwit.toml, line 2: api.listen"),
        (&["run", "--config", file, "--check-config"], "godwit.toml, line 2: api.listen"),
        (&["run", "--config", "/nonexistent.toml"], "/nonexistent.toml: cannot be read"),
        (&["run", "--workers", "2000"], "command line: server.workers: expected 1 to 1024"),
    ] {
        let ended = output(godwit().args(arguments));
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}\nexpected: {expected}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(ended.stdout.is_empty());
    }
    let ended = output(godwit().args(["run", "--dns", "localhost"]));
    assert_eq!(ended.status.code(), Some(2));

    let checked = output(godwit().args(["run", "--check-config", "--workers", "3"]));
    let values: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((checked.status.code(), &values["server"]["workers"]), (Some(0), &json!(3)));
}

#[test]
fn a_taken_api_address_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = output(
        godwit()
            .args(["run", "--dns", "127.0.0.1:0", "--metrics", "off", "--api", &address])
            .arg("--data")
            .arg(folder.path().join("data")),
    );
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("the API cannot listen at {address}")), "{stderr}");
}
