//! The command line among servers that break off, scripts with mistakes, and readers that have gone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::process::{PATIENCE, Started, godwit, output, wait_for};

/// A server that answers the first request with these octets, and then ends the connection and listens no more.
fn answering(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        answer(&mut stream);
    });
    (url, serving)
}

fn failed(command: &mut Command) -> (i32, String) {
    let ended = output(command);
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    (ended.status.code().unwrap(), stderr)
}

/// Runs with an end of a pipe that nobody has the other end of.
fn deaf(command: &mut Command, set: impl FnOnce(&mut Command, Stdio)) -> ExitStatus {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdin(Stdio::null());
    set(command, writer.into());
    command.status().unwrap()
}

fn in_folder(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Half of a zone is none: the file that was there stays, and nothing is left beside it.
#[test]
fn an_export_that_breaks_off_leaves_the_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.zone");
    std::fs::write(&file, "before").unwrap();
    let part = |stream: &mut TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\na. 1 IN A\r\n").unwrap();
    };
    let (url, serving) = answering(part);
    let (code, stderr) = failed(godwit().args(["export", "a", "--url", &url, "-o"]).arg(&file));
    serving.join().unwrap();
    assert_eq!(code, 1);
    assert!(stderr.contains("was lost"), "{stderr}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "before");
    assert_eq!(in_folder(folder.path()), ["a.zone"]);
    let (url, serving) = answering(part);
    let (code, stderr) = failed(godwit().args(["--json", "export", "a", "--url", &url]));
    serving.join().unwrap();
    assert_eq!(
        (code, serde_json::from_str::<Value>(&stderr).unwrap()["code"].as_str()),
        (1, Some("CONNECTION_LOST"))
    );
}

/// A write whose connection broke may have been carried out; that nobody listens a moment later does not change that.
#[test]
fn a_server_that_goes_in_the_middle_of_a_write_leaves_it_open() {
    let (url, serving) = answering(|_| {});
    let arguments = ["--json", "record", "set", "www.example.com", "A", "192.0.2.1", "--url", &url];
    let (code, stderr) = failed(godwit().args(arguments));
    serving.join().unwrap();
    assert_eq!(code, 1);
    let error: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(error["code"], "CONNECTION_LOST");
    assert!(error["error"].as_str().unwrap().contains("is not known"), "{error}");
}

/// Memory does not follow what a server sends.
#[test]
fn an_answer_without_end_is_not_held() {
    let (url, serving) = answering(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[");
        while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
    });
    let (code, stderr) = failed(godwit().args(["zone", "list", "--url", &url]));
    serving.join().unwrap();
    assert_eq!(code, 1);
    assert!(stderr.contains("without end"), "{stderr}");
}

/// `zone delete "$ZONE"` where the variable is not set.
#[test]
fn no_name_is_not_the_root() {
    for arguments in [
        &["zone", "delete", ""][..],
        &["zone", "create", ""],
        &["zone", "create", "example.org", "--ns", ""],
        &["record", "delete", ""],
        &["record", "delete", "", "--zone", "example.com"],
        &["record", "delete", "www", "--zone", ""],
        &["record", "set", " ", "A", "192.0.2.1"],
        &["record", "list", ""],
        &["export", ""],
    ] {
        // Nobody listens there: what is wrong is seen before anybody is asked.
        let (code, stderr) = failed(godwit().args(arguments).args(["--url", "http://127.0.0.1:1"]));
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
        assert!(stderr.contains("a name is empty"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_wrong_flag_is_json_where_that_is_asked_for() {
    for arguments in [
        &["--json", "zone", "list", "--nope"][..],
        &["record", "set", "a", "--json"],
        &["nope", "--json"],
        &["--json", "run", "--dns", "localhost"],
    ] {
        let (code, stderr) = failed(godwit().args(arguments));
        let error: Value = serde_json::from_str(&stderr).unwrap_or_else(|_| panic!("{stderr}"));
        assert_eq!((code, &error["code"]), (2, &json!("WRONG_USAGE")), "{arguments:?}");
        assert!(error["error"].as_str().unwrap().len() > 10, "{error}");
    }
    let (code, stderr) = failed(godwit().args(["zone", "list", "--nope"]));
    assert_eq!(code, 2);
    assert!(stderr.starts_with("error: "), "{stderr}");
}

/// What is read to find out which zone a file is, is no pipe that never speaks and no device without end.
#[test]
fn files_that_are_none_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for file in [pipe.to_str().unwrap(), "/dev/zero"] {
        for command in [&["zone", "check"][..], &["import"]] {
            let (code, stderr) = failed(godwit().args(command).arg(file));
            assert_eq!(code, 2, "{stderr}");
            assert!(stderr.contains("which zone is it?"), "{stderr}");
            let named = if command == ["import"] { "--zone" } else { "--origin" };
            let ended = output(godwit().args(command).arg(file).args([named, "example.org"]));
            assert_eq!(ended.status.code(), Some(1));
        }
    }
    let (code, stderr) = failed(godwit().args(["zone", "list", "--token-file", "/dev/zero"]));
    assert_eq!(code, 2, "{stderr}");
}

/// Who reads has seen enough, or never listened: no panic, and no command that stops half-way for it.
#[test]
fn closed_ends_are_no_reason_to_fall_over() {
    let started = Started::first();
    for arguments in [
        &["zone", "list"][..],
        &["record", "list"],
        &["export", "example.com"],
        &["export", "example.com", "--json"],
    ] {
        let status = deaf(started.command().args(arguments), |command, end| {
            command.stdout(end);
        });
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let zone = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n";
    std::fs::write(folder.path().join("a.test.zone"), "www A nowhere\n").unwrap();
    std::fs::write(folder.path().join("b.test.zone"), zone).unwrap();
    let status = deaf(started.command().arg("import").arg(folder.path()), |command, end| {
        command.stderr(end);
    });
    assert_eq!(status.code(), Some(1));
    assert_eq!(
        started.api().get("/api/v1/domains/b.test.").status,
        200,
        "the good one is imported all the same"
    );
    let status = deaf(started.command().args(["zone", "delete", "nowhere.test"]), |command, end| {
        command.stderr(end);
    });
    assert_eq!(status.code(), Some(1));
}

/// A server whose logs nobody takes any more serves on.
#[test]
fn a_server_whose_log_is_closed_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let free = "127.0.0.1:0";
    let mut child = godwit()
        .args(["run", "--workers", "1", "--dns", free, "--api", free, "--metrics", "off", "--data"])
        .arg(folder.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut token = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut token).unwrap();
    let token = token.trim().strip_prefix("admin token: ").unwrap().to_owned();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines
        .by_ref()
        .find_map(|line| Some(line.unwrap().strip_prefix("godwit: API at http://")?.to_owned()))
        .unwrap();
    drop(lines);
    let address = address.split(' ').next().unwrap().parse().unwrap();
    let api = crate::http::Api { address, token };
    for n in 0..20 {
        let body = json!({"changes": [{"op": "put", "name": format!("n{n}.example.com."), "type": "A", "value": ["192.0.2.1"]}]});
        assert_eq!(api.post("/api/v1/changes?wait=applied", &body).status, 200);
    }
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

/// One zone, one request, and a server that takes its time: it is said that this goes on.
#[test]
fn a_long_import_says_that_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.test.zone");
    std::fs::write(&file, "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n").unwrap();
    let (go_on, told) = std::sync::mpsc::channel::<()>();
    let (url, serving) = answering(move |stream| {
        // Until the line was seen, or for as long as anybody may wait for one.
        let _ = told.recv_timeout(PATIENCE);
        let body = r#"{"rrsets": 3, "changed": 3}"#;
        let head = format!("HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).unwrap();
    });
    let mut import = godwit()
        .args(["import", "--url", &url])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(import.stderr.take().unwrap()).read_line(&mut line).unwrap();
    go_on.send(()).unwrap();
    serving.join().unwrap();
    let ended = import.wait_with_output().unwrap();
    assert!(line.starts_with("a.test.: 3 RRsets sent, to be committed and served, "), "{line:?}");
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), "a.test.: 3 RRsets, 3 changed\n");
}

/// The server goes while a folder is imported: what was done until then is told, and what was not.
#[test]
fn an_import_that_is_cut_short_says_how_far_it_came() {
    let mut started = Started::first();
    let folder = tempfile::tempdir().unwrap();
    let zone = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n";
    for n in 0..2_000 {
        std::fs::write(folder.path().join(format!("z{n:04}.test.zone")), zone).unwrap();
    }
    let import = started
        .command()
        .args(["--json", "import"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let api = started.api();
    wait_for("some zones", || (api.get("/api/v1/domains/z0003.test.").status == 200).then_some(()));
    started.running.kill();
    let ended = import.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let count = |key: &str| told[key].as_u64().unwrap();
    assert!(count("imported") > 2 && count("not_tried") > 0, "{told}");
    assert_eq!(count("imported") + count("failed") + count("not_tried"), 2_000);
    let stderr = String::from_utf8(ended.stderr).unwrap();
    let error: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    assert!(error["error"].as_str().unwrap().contains(".test.zone"), "{error}");
}
