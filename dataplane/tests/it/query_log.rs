//! The query log as operators have it: what it says, where it goes, and what it does when nobody takes it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, ZONE, command, is_root, open_to_all, zone_folder};
use super::reflector::{eventually, framed};

/// A server that logs to `target`, and its folder.
pub(crate) fn logging(folder: &TempDir, settings: &str) -> Process {
    Process::spawn(command().args(arguments(folder, settings)))
}

pub(crate) fn arguments(folder: &TempDir, settings: &str) -> Vec<String> {
    let config = folder.path().join("dataplane.toml");
    std::fs::write(&config, format!("[query_log]\nnode = \"ns1\"\n{settings}")).unwrap();
    let zones = folder.path().join("zones");
    if !zones.exists() {
        std::fs::create_dir(&zones).unwrap();
        std::fs::write(zones.join("example.org.zone"), ZONE).unwrap();
    }
    let mut arguments: Vec<String> =
        ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "1"].map(str::to_owned).into();
    for (flag, path) in [("--config", config), ("--zones", zones)] {
        arguments.extend([flag.to_owned(), path.to_str().unwrap().to_owned()]);
    }
    arguments
}

pub(crate) fn full(folder: &TempDir, format: &str, target: &str) -> Process {
    let ring = "ring_octets = 262144";
    logging(folder, &format!("mode = \"full\"\nformat = \"{format}\"\ntarget = \"{target}\"\n{ring}\n"))
}

pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    open_to_all(folder.path());
    folder
}

/// A query for type A at a name in wire format.
pub(crate) fn query(id: u16, name: &[u8]) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(name);
    message.extend_from_slice(&[0, 1, 0, 1]);
    message
}

const WWW: &[u8] = b"\x03www\x07example\x03org\x00";

/// Asks `count` times over UDP and requires every answer.
pub(crate) fn ask_many(address: SocketAddr, count: u32) {
    const WINDOW: u32 = 32;
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = [0; 4096];
    let mut done = 0;
    while done < count {
        let window = WINDOW.min(count - done);
        for i in 0..window {
            client.send(&query(u16::try_from((done + i) & 0xFFFF).unwrap(), WWW)).unwrap();
        }
        for _ in 0..window {
            let len = client.recv(&mut buffer).expect("an answer to every query");
            assert!(len > 40 && buffer[3] & 15 == 0);
        }
        done += window;
    }
}

pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// A metric of the query log; counts stay exact in an `f64` here.
fn metric(process: &Process, name: &str) -> u64 {
    let value = process.metric(&format!("godwit_dataplane_query_log_{name}"));
    format!("{value:.0}").parse().unwrap()
}

fn dropped(process: &Process, reason: &str) -> u64 {
    metric(process, &format!("dropped_total{{reason=\"{reason}\"}}"))
}

/// The names of its threads.
fn threads(process: &Process) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.child.id())).unwrap();
    tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap()).collect()
}

fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    assert!(std::fs::metadata(path).unwrap().file_type().is_fifo());
}

#[test]
fn queries_are_not_logged_unless_that_is_asked_for() {
    let folder = folder();
    // A target alone is no order to log.
    let path = folder.path().join("log");
    let mut process = logging(&folder, &format!("target = \"{}\"\n", path.display()));
    ask_many(process.address(), 100);
    assert!(!threads(&process).iter().any(|name| name.starts_with("query-log")));
    assert_eq!(metric(&process, "written_total"), 0);
    assert!(process.stop().success());
    assert!(!path.exists());
    assert!(!process.log().contains("192.0.2") && !process.log().contains("www"), "{}", process.log());
}

#[test]
fn every_query_is_a_line_with_what_was_asked_and_answered() {
    let folder = folder();
    let path = folder.path().join("queries.json");
    let mut process = full(&folder, "json", path.to_str().unwrap());
    process.dig(&["+dnssec", "+bufsize=4000", "wWw.Example.org", "AAAA"]);
    process.dig(&["+tcp", "+noedns", "+norecurse", "nothing.example.org", "TXT"]);
    process.dig(&["elsewhere.test", "TYPE4711", "CLASS4"]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(&[1, 2, 3], process.address()).unwrap();
    client.send_to(&[0; 3000], process.address()).unwrap();
    ask_many(process.address(), 1000);
    // Another reader may look while we write.
    eventually("the lines are written", || metric(&process, "written_total") == 1005);
    assert!(process.stop().success());

    let lines = lines(&path);
    assert_eq!(lines.len(), 1005);
    let find = |key: &str, value: &str| lines.iter().find(|line| line[key] == value).unwrap().clone();
    let line = find("qtype", "AAAA");
    for (key, expected) in [
        ("node", Value::from("ns1")),
        ("worker", "udp-0".into()),
        ("client", "127.0.0.1".into()),
        ("transport", "udp".into()),
        ("opcode", "QUERY".into()),
        ("qname", "wWw.Example.org.".into()),
        ("qclass", "IN".into()),
        ("rcode", "NOERROR".into()),
        ("aa", true.into()),
        ("tc", false.into()),
        ("rd", true.into()),
        ("do", true.into()),
        ("edns_octets", 4000.into()),
        ("dropped", Value::Null),
    ] {
        assert_eq!(line[key], expected, "{key} in {line}");
    }
    assert!(line["answer_octets"].as_u64().unwrap() > 60);
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == 27 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    let line = find("transport", "tcp");
    assert_eq!((&line["qname"], &line["rcode"]), (&"nothing.example.org.".into(), &"NXDOMAIN".into()));
    assert_eq!((&line["rd"], &line["do"], &line["edns_octets"]), (&false.into(), &Value::Null, &Value::Null));
    assert_eq!(line["worker"], "tcp-0");
    let line = find("qtype", "TYPE4711");
    assert_eq!((&line["qclass"], &line["rcode"]), (&"HS".into(), &"REFUSED".into()));
    let line = find("dropped", "short");
    assert_eq!((&line["id"], &line["qname"], &line["rcode"]), (&Value::Null, &Value::Null, &Value::Null));
    assert_eq!(find("dropped", "oversized")["query_octets"], 2048);
}

#[test]
fn a_confined_server_without_a_name_of_its_own_has_that_of_the_host() {
    let folder = folder();
    let path = folder.path().join("queries.json");
    let arguments = arguments(&folder, &format!("mode = \"full\"\ntarget = \"{}\"\n", path.display()));
    let config = folder.path().join("dataplane.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("node = \"ns1\"\n", "")).unwrap();
    let mut process = Process::spawn(command().args(arguments));
    ask_many(process.address(), 1);
    assert!(process.stop().success());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(lines(&path)[0]["node"], host.trim());
}

#[test]
fn sampled_means_one_in_so_many() {
    let folder = folder();
    let path = folder.path().join("queries.json");
    let settings = format!("mode = \"sampled\"\nsample_one_in = 10\ntarget = \"{}\"\n", path.display());
    let mut process = logging(&folder, &settings);
    ask_many(process.address(), 20_000);
    assert!(process.stop().success());
    // The count has a standard deviation of some 26: this is fifteen of them.
    let count = lines(&path).len();
    assert!((1600..=2400).contains(&count), "{count} of 20000");
}

#[test]
fn a_file_that_was_moved_away_is_followed_by_a_new_one() {
    let folder = folder();
    let (path, moved) = (folder.path().join("queries.json"), folder.path().join("queries.json.1"));
    // As if the one before had been killed within a line.
    std::fs::write(&path, "{\"time\":\"20").unwrap();
    let mut process = full(&folder, "json", path.to_str().unwrap());
    ask_many(process.address(), 100);
    eventually("the first are written", || metric(&process, "written_total") == 100);
    // A reload with the file in its place changes nothing.
    process.signal("HUP");
    ask_many(process.address(), 100);
    eventually("the next are written", || metric(&process, "written_total") == 200);
    std::fs::rename(&path, &moved).unwrap();
    process.signal("HUP");
    eventually("there is a new file", || path.exists());
    ask_many(process.address(), 100);
    assert!(process.stop().success());
    assert_eq!(lines(&path).len(), 100);
    let text = std::fs::read_to_string(&moved).unwrap();
    let whole = text.strip_prefix("{\"time\":\"20\n").unwrap();
    assert_eq!(whole.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 200);
}

/// What `dnstap-read` makes of a file: a YAML document for each message.
pub(crate) fn dnstap_read(path: &Path) -> Vec<String> {
    let output = Command::new("dnstap-read")
        .arg("-y")
        .arg(path)
        .output()
        .expect("dnstap-read is installed (package bind9-dnsutils)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("dnstap-read writes text");
    text.split("---\n").filter(|part| !part.trim().is_empty()).map(str::to_owned).collect()
}

/// Requires the documents of two queries: one over UDP for www, one over TCP for a name that is not there.
fn check_messages(documents: &[String], address: SocketAddr) {
    let find = |parts: &[&str]| {
        let found = documents.iter().find(|document| parts.iter().all(|part| document.contains(part)));
        found.unwrap_or_else(|| panic!("no {parts:?} in {documents:#?}"))
    };
    assert_eq!(documents.len(), 4, "{documents:#?}");
    let version = format!("version: godwit {}", env!("CARGO_PKG_VERSION"));
    let port = format!("response_port: {}", address.port());
    for (kind, protocol, name) in [
        ("AUTH_QUERY", "UDP", "www.example.org"),
        ("AUTH_RESPONSE", "UDP", "www.example.org"),
        ("AUTH_QUERY", "TCP", "nothing.example.org"),
        ("AUTH_RESPONSE", "TCP", "nothing.example.org"),
    ] {
        let protocol = format!("socket_protocol: {protocol}");
        let document = find(&[&format!("type: {kind}"), &protocol, name]);
        for part in ["identity: ns1", &version, "socket_family: INET", "query_address: \"127.0.0.1\"", &port]
        {
            let part = part.replace('"', "");
            assert!(document.replace('"', "").contains(&part), "{part} in {document}");
        }
        // It shows the time of what the message is about.
        let time = if kind == "AUTH_RESPONSE" {
            "response_time: !!timestamp 20"
        } else {
            "query_time: !!timestamp 20"
        };
        assert!(document.contains(time), "{document}");
    }
    find(&["AUTH_RESPONSE", "192.0.2.80"]);
    find(&["AUTH_RESPONSE", "NXDOMAIN"]);
}

fn ask_two(process: &Process) {
    process.dig(&["www.example.org"]);
    process.dig(&["+tcp", "nothing.example.org"]);
}

#[test]
fn dnstap_in_a_file_is_read_by_dnstap_read() {
    let folder = folder();
    let path = folder.path().join("queries.tap");
    let mut process = full(&folder, "dnstap", path.to_str().unwrap());
    let address = process.address();
    ask_two(&process);
    process.signal("HUP");
    assert!(process.stop().success());
    check_messages(&dnstap_read(&path), address);
    // A stream cannot be appended to: the next start leaves it beside a new one.
    let mut process = full(&folder, "dnstap", path.to_str().unwrap());
    process.dig(&["www.example.org"]);
    assert!(process.stop().success());
    assert_eq!(dnstap_read(&path).len(), 2);
    check_messages(&dnstap_read(&folder.path().join("queries.tap.old")), address);
}

/// A running `fstrm_capture`, which writes what it is sent to a file.
struct Capture {
    child: std::process::Child,
    output: PathBuf,
}

impl Capture {
    fn start(folder: &Path, listen: &[&str]) -> Self {
        let output = folder.join("captured.tap");
        let child = Command::new("fstrm_capture")
            .args(["-t", "protobuf:dnstap.Dnstap", "-w", output.to_str().unwrap()])
            .args(listen)
            .spawn()
            .expect("fstrm_capture is installed (package fstrm-bin)");
        Capture { child, output }
    }

    /// Ends it and reads what it wrote.
    fn documents(mut self) -> Vec<String> {
        super::process::send_signal(self.child.id(), "TERM");
        assert!(self.child.wait().unwrap().success());
        dnstap_read(&self.output)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn dnstap_over_sockets_is_taken_by_fstrm_capture() {
    for by_tcp in [false, true] {
        let folder = folder();
        let socket = folder.path().join("tap.sock");
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let (target, listen) = if by_tcp {
            (format!("tcp:127.0.0.1:{port}"), vec!["-a", "127.0.0.1", "-p", &port])
        } else {
            (format!("unix:{}", socket.display()), vec!["-u", socket.to_str().unwrap()])
        };
        // Nobody listens yet: that must keep nothing from being served, and nothing from being logged once somebody does.
        let mut process = full(&folder, "dnstap", &target);
        let address = process.address();
        ask_two(&process);
        let capture = Capture::start(folder.path(), &listen);
        eventually("the messages are taken", || metric(&process, "written_total") == 2);
        assert_eq!(metric(&process, "sink_up"), 1);
        // The end of the stream is waited for, so that what was sent is on its disk.
        assert!(process.stop().success());
        check_messages(&capture.documents(), address);
        let log = process.log();
        assert_eq!(log.matches("the query log is not written").count(), 1, "{log}");
        assert_eq!(log.matches("the query log is written").count(), 1, "{log}");
    }
}

/// Memory of the process in KiB.
fn resident_kib(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn p7_a_blocked_sink_stalls_nothing_and_what_has_no_room_is_counted() {
    for format in ["json", "dnstap"] {
        let folder = folder();
        let path = folder.path().join("pipe");
        mkfifo(&path);
        // Held open and never read.
        let _reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut process = full(&folder, format, path.to_str().unwrap());
        ask_many(process.address(), 20_000);
        eventually("it is said", || metric(&process, "sink_up") == 0);
        // The batch is full, and so is the ring again.
        ask_many(process.address(), 20_000);
        let before = resident_kib(&process);
        // A batch is counted after its answers went out.
        std::thread::sleep(Duration::from_millis(100));
        let dropped_before = dropped(&process, "ring_full");
        ask_many(process.address(), 20_000);
        // Rings, one batch and one record: all of it was there before.
        let after = resident_kib(&process);
        assert!(after < before + 1024, "{format}: grew from {before} to {after} KiB");
        eventually("all are counted", || dropped(&process, "ring_full") == dropped_before + 20_000);
        // Neither is a stop held up, which tells what became of every query.
        assert!(process.stop().success());
        assert_eq!(process.log().matches("the query log is not written").count(), 1, "{}", process.log());
    }
}

#[test]
fn a_reader_that_goes_away_costs_what_was_being_written_and_no_more() {
    let folder = folder();
    let socket = folder.path().join("log.sock");
    let mut process = full(&folder, "json", &format!("unix:{}", socket.display()));
    // So many before anybody listens that one batch is more than the socket holds: its last record is cut.
    ask_many(process.address(), 1_500);
    let listener = UnixListener::bind(&socket).unwrap();
    let (first, _) = listener.accept().unwrap();
    eventually("the socket is full", || metric(&process, "written_total") > 100);
    drop(first);
    let (second, _) = listener.accept().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = { second }.read_to_string(&mut text);
        text
    });
    eventually("everything is accounted for", || {
        metric(&process, "written_total") + dropped(&process, "sink_lost") == 1_500
    });
    assert_eq!(dropped(&process, "sink_lost"), 1);
    assert!(process.stop().success());
    // The second reader sees whole lines from its first octet on.
    let text = reader.join().unwrap();
    assert!(text.lines().count() > 100);
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(value["qname"], "www.example.org.");
    }
}

#[test]
fn a_full_disk_is_counted_and_gone_on_with_once_there_is_room() {
    if !is_root() {
        eprintln!("not root here: a small disk cannot be mounted");
        return;
    }
    let folder = folder();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let path = disk.join("queries.json");
    // Mounted in a namespace of its own, so that it goes away with the process.
    let mount = format!("mount -t tmpfs -o size=128k tmpfs {} && exec \"$@\"", disk.display());
    let settings = format!("mode = \"full\"\nring_octets = 262144\ntarget = \"{}\"\n", path.display());
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", &mount, "sh"]);
    unshare.arg(super::process::PROGRAM).args(arguments(&folder, &settings));
    let mut process = Process::spawn(&mut unshare);
    let inside = PathBuf::from(format!("/proc/{}/root{}", process.child.id(), path.display()));
    let filler = inside.with_file_name("filler");
    std::fs::write(&filler, vec![0; 100 * 1024]).unwrap();
    ask_many(process.address(), 5_000);
    eventually("there is no room", || metric(&process, "sink_up") == 0 && dropped(&process, "ring_full") > 0);
    // There is room for more of them, not for all. What waits in the ring is written as soon as there is.
    let before = metric(&process, "written_total");
    std::fs::remove_file(&filler).unwrap();
    eventually("it goes on", || metric(&process, "written_total") > before + 100);
    ask_many(process.address(), 100);
    // Only the end of it may be cut: the line that the disk had no room for, then or now.
    let text = std::fs::read_to_string(&inside).unwrap();
    let (whole, _) = text.rsplit_once('\n').unwrap();
    for line in whole.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(process.stop().success());
}

#[test]
fn a_target_is_needed_where_there_is_a_mode() {
    let folder = zone_folder(&[]);
    let config = folder.path().join("dataplane.toml");
    for (text, expected) in [
        ("mode = \"full\"\n", "configuration: query_log.target: expected a target"),
        ("mode = \"some\"\n", "dataplane.toml, line 2: query_log.mode: "),
        ("target = \"nowhere\"\n", "dataplane.toml, line 2: query_log.target: "),
        ("ring_octets = 1\n", "dataplane.toml, line 2: query_log.ring_octets: expected 262144"),
        ("sample_one_in = 0\n", "dataplane.toml, line 2: query_log.sample_one_in: "),
    ] {
        std::fs::write(&config, format!("[query_log]\n{text}")).unwrap();
        let output = command().arg("--config").arg(&config).arg("--check-config").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
    }
    // The mode may stand in one layer and the target in another.
    std::fs::write(&config, "[query_log]\ntarget = \"stdout\"\n").unwrap();
    let mut command = command();
    command.arg("--config").arg(&config).arg("--check-config").env("GODWIT_QUERY_LOG__MODE", "full");
    assert!(command.output().unwrap().status.success());
}

/// Sends a message over TCP and reads the answer.
pub(crate) fn ask_tcp(address: SocketAddr, message: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&framed(message)).unwrap();
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer).unwrap();
    answer
}
