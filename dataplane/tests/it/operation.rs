//! What operators rely on: metrics and health, the command line, the user that it runs as.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::client::{query, read_answer};
use super::handover::{Cleanup, processes};
use super::process::{PROGRAM, Process, ZONE, ask, command, open_to_all, send_signal, zone_folder};
use super::reflector::{eventually, framed};

fn serving(more: &[&str]) -> (tempfile::TempDir, Process) {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let mut arguments = vec!["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--zones"];
    let path = folder.path().to_str().unwrap().to_owned();
    arguments.push(&path);
    arguments.extend_from_slice(more);
    let process = Process::start(&arguments);
    (folder, process)
}

#[test]
fn metrics_are_those_that_the_documentation_lists() {
    let (_folder, process) = serving(&[]);
    process.dig(&["www.example.org"]);
    process.dig(&["+tcp", "nothing.example.org"]);
    let (status, text) = process.get("/metrics");
    assert_eq!(status, 200);
    let scraped: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            if kind == "counter" { format!("{name}_total") } else { name.to_owned() }
        })
        .collect();
    let documentation = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let documentation = std::fs::read_to_string(documentation).unwrap();
    let documented: BTreeSet<String> = documentation
        .lines()
        .filter_map(|line| line.strip_prefix("| `godwit_dataplane_"))
        .map(|line| format!("godwit_dataplane_{}", line.split(['{', '`']).next().unwrap()))
        .collect();
    assert_eq!(scraped, documented);
    let value = |name: &str| process.metric(&format!("godwit_dataplane_{name}"));
    assert!(value("queries_total{transport=\"udp\",rcode=\"NOERROR\"}") >= 1.0);
    assert!(value("queries_total{transport=\"tcp\",rcode=\"NXDOMAIN\"}") >= 1.0);
    assert!((value("zones") - 1.0).abs() < 0.1);
    assert!(value("names") >= 5.0);
    assert!(value("snapshot_age_seconds") < 60.0);
}

/// Those that are named for everybody: whoever watches a fleet relies on them.
#[test]
fn names_of_metrics_are_those_of_the_contract() {
    let (_folder, process) = serving(&[]);
    let (_, text) = process.get("/metrics");
    for name in [
        "queries_total{transport=\"udp\",rcode=\"NOERROR\"}",
        "queries_total{transport=\"tcp\",rcode=\"SERVFAIL\"}",
        "dropped_total{reason=\"short\"}",
        "receive_overflow_total",
        "panics_total",
        "sequence",
        "lag_seconds",
        "zones",
        "names",
        "snapshot_age_seconds",
        "quarantined_zones",
    ] {
        let line = format!("godwit_dataplane_{name} ");
        assert!(text.lines().any(|shown| shown.starts_with(&line)), "no {line}in\n{text}");
    }
}

/// One CPU for each UDP worker, and another for each as long as there are enough.
#[test]
fn each_udp_worker_stays_on_its_cpu() {
    let (_folder, process) = serving(&["--workers", "2"]);
    let tasks = format!("/proc/{}/task", process.child.id());
    let cpus = || -> Vec<String> {
        let read = |task: &Path, file: &str| std::fs::read_to_string(task.join(file)).unwrap();
        let tasks = std::fs::read_dir(&tasks).unwrap().map(|task| task.unwrap().path());
        let mut workers = tasks.filter(|task| read(task, "comm").starts_with("udp-")).map(|task| {
            let status = read(&task, "status");
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
            line.trim().to_owned()
        });
        let mut cpus: Vec<String> = workers.by_ref().collect();
        cpus.sort();
        cpus
    };
    let pinned = |cpus: &[String]| cpus.len() == 2 && cpus.iter().all(|cpu| cpu.parse::<usize>().is_ok());
    eventually("each is on one CPU", || pinned(&cpus()));
    let cpus = cpus();
    let several = std::thread::available_parallelism().unwrap().get() > 1;
    assert_eq!(cpus[0] != cpus[1], several, "{cpus:?}");
}

/// What the system shows of the thread of a name in a file.
fn of_thread(process: &Process, name: &str, file: &str) -> Option<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.child.id())).unwrap();
    let read = |task: &Path, file: &str| std::fs::read_to_string(task.join(file)).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let task = tasks.find(|task| read(task, "comm").trim() == name)?;
    Some(read(&task, file))
}

/// On a CPU that is not enough for both, connections wait for datagrams.
#[test]
fn p3_connections_give_way_to_datagrams() {
    let (_folder, process) = serving(&["--workers", "1"]);
    // `number (name) state …`, the niceness in the nineteenth place.
    let niceness = |name: &str| -> Option<i32> {
        of_thread(&process, name, "stat")?.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()
    };
    eventually("it has a worker", || niceness("udp-0").is_some());
    let datagrams = niceness("udp-0").unwrap();
    let expected = (datagrams + 5).min(19);
    eventually("they give way", || niceness("tcp-0") == Some(expected));
    assert_eq!(niceness("udp-0"), Some(datagrams));
}

/// A thread that works beside a UDP worker on the same CPU does not keep a query waiting: the worker's time slices are
/// shorter, where the system (Linux 6.12) lets a thread have its own.
#[test]
fn p3_a_udp_worker_does_not_wait_for_the_slices_of_other_threads() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(6), Some(12)) || !Path::new("/proc/self/sched").exists() {
        println!("Linux {release} has no slices of one's own, or does not show them");
        return;
    }
    let (_folder, process) = serving(&["--workers", "1"]);
    let slice_of = |name: &str| -> Option<u64> {
        let text = of_thread(&process, name, "sched")?;
        let line = text.lines().find(|line| line.starts_with("se.slice"))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    eventually("the worker has its slice", || slice_of("udp-0") == Some(100_000));
    assert!(slice_of("tcp-0").unwrap() > 100_000);
}

#[test]
fn health_and_readiness_are_told() {
    let (_folder, process) = serving(&[]);
    assert_eq!(process.get("/health"), (200, "alive\n".to_owned()));
    assert_eq!(process.get("/ready"), (200, "ready\n".to_owned()));
    assert_eq!(process.get("/ready?max_lag_seconds=5").0, 200);
    assert_eq!(process.get("/ready?max_lag=5").0, 400);
    assert_eq!(process.get("/nothing").0, 404);
}

/// Text for people where standard error is a terminal, JSON for programs where it is not.
#[test]
fn logs_are_text_on_a_terminal_and_json_elsewhere() {
    let (folder, mut process) = serving(&[]);
    assert!(process.stop().success());
    let log = process.log();
    let started = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert_eq!(started.filter(|line| line["level"] == "INFO" && line["message"] == "started").count(), 1);

    let marker = folder.path().to_str().unwrap().to_owned();
    let _cleanup = Cleanup(marker.clone());
    let run = format!("exec {PROGRAM} --listen 127.0.0.1:0 --metrics off --zones {marker}");
    let mut terminal = Command::new("script")
        .args(["--quiet", "--command", &run, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script (Debian package bsdutils) starts");
    let mut lines = BufReader::new(terminal.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut shown: Vec<String> = Vec::new();
    while !shown.last().is_some_and(|line| line.contains("started")) {
        shown.push(lines.next().unwrap_or_else(|| panic!("it ended: {shown:?}")));
    }
    processes(&marker).into_iter().for_each(|process| send_signal(process, "TERM"));
    shown.extend(lines);
    terminal.wait().unwrap();
    assert!(shown.iter().any(|line| line.contains("INFO") && line.contains("stopping")), "{shown:?}");
    assert!(!shown.iter().any(|line| line.contains('{')), "{shown:?}");
}

#[test]
fn p7_who_only_connects_to_the_metrics_keeps_nobody_out() {
    let (_folder, process) = serving(&[]);
    let metrics = process.metrics.unwrap();
    let connect = || TcpStream::connect(metrics).unwrap();
    // Silent ones, ones within a request, and ones that ask and never read.
    let mut hostile: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    for _ in 0..100 {
        let mut client = connect();
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
        hostile.push(client);
        let mut client = connect();
        client.set_nonblocking(true).unwrap();
        while client.write(&b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100)).is_ok() {}
        hostile.push(client);
    }
    for _ in 0..10 {
        assert_eq!(process.get("/ready"), (200, "ready\n".to_owned()));
        assert_eq!(process.dig(&["+short", "www.example.org"]), "192.0.2.80\n");
    }
    // Of all of those only so many are open.
    let sockets = std::fs::read_dir(format!("/proc/{}/fd", process.child.id())).unwrap().count();
    assert!(sockets < 100, "{sockets} descriptors");
    drop(hostile);
    assert_eq!(process.get("/metrics").0, 200);
}

#[test]
fn a_wrong_flag_or_configuration_ends_with_code_2_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dataplane.toml");
    std::fs::write(&file, "[tcp]\nidle_timout_ms = 5\n").unwrap();
    let output = command().arg("--config").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("dataplane.toml, line 2: tcp.idle_timout_ms: unknown field"), "{text}");
    assert_eq!(command().arg("--listen").arg("nowhere").output().unwrap().status.code(), Some(2));
    for flag in ["--help", "--version"] {
        assert!(command().arg(flag).output().unwrap().status.success());
    }
}

#[test]
fn the_configuration_can_be_checked_and_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    std::fs::write(&secrets, "00112233445566778899aabbccddeeff\n").unwrap();
    let file = folder.path().join("dataplane.yaml");
    std::fs::write(&file, format!("cookies:\n  secrets_file: {}\n", secrets.display())).unwrap();
    let output = command()
        .arg("--config")
        .arg(&file)
        .args(["--workers", "3", "--check-config"])
        .env("GODWIT_TCP__MAX_CONNECTIONS", "77")
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\"workers\": 3") && text.contains("\"max_connections\": 77"), "{text}");
    assert!(!text.contains("00112233"), "{text}");
}

#[test]
fn an_address_that_is_taken_is_an_error_that_names_it() {
    let (_folder, process) = serving(&[]);
    let address = process.address().to_string();
    let output = command().args(["--listen", &address, "--metrics", "off"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.lines().last().unwrap().contains(&address), "{text}");
}

#[test]
fn privileges_are_dropped_once_the_sockets_are_bound() {
    if !super::process::is_root() {
        eprintln!("not root here: there is nothing to drop");
        return;
    }
    let state = tempfile::tempdir().unwrap();
    open_to_all(state.path());
    let state = state.path().join("state");
    let (folder, mut process) =
        serving(&["--user", "nobody", "--state", state.to_str().unwrap(), "--workers", "2"]);
    // Every thread, not only the first.
    let tasks = format!("/proc/{}/task", process.child.id());
    let mut threads = 0;
    for task in std::fs::read_dir(tasks).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(field("Uid:"), ["65534"; 4]);
        assert!(!field("Gid:").contains(&"0".to_owned()));
        assert!(field("Groups:").is_empty());
        assert_eq!(field("CapEff:"), ["0000000000000000"]);
        assert_eq!(field("CapPrm:"), ["0000000000000000"]);
        assert_eq!(field("NoNewPrivs:"), ["1"]);
        threads += 1;
    }
    assert!(threads >= 6, "{threads}");
    // It still reloads, and writes its snapshot.
    std::fs::write(folder.path().join("example.net.zone"), ZONE).unwrap();
    process.signal("HUP");
    eventually("the new zone is served", || process.dig(&["+short", "www.example.net"]) == "192.0.2.80\n");
    assert!(process.stop().success());
    assert!(state.join("current.snapshot").exists());
}

#[test]
fn p1_a_stop_answers_over_udp_as_long_as_connections_last() {
    let (_folder, mut process) = serving(&[]);
    let message = query("www.example.org", 1, None);
    let mut client = TcpStream::connect(process.address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.write_all(&framed(&message)).unwrap();
    read_answer(&mut client).unwrap();
    process.signal("TERM");
    // Nobody is listening any more: it has begun to stop. A client that goes on asking has until `drain_timeout_ms`.
    eventually("it stops", || {
        client.write_all(&framed(&message)).unwrap();
        read_answer(&mut client).unwrap();
        TcpStream::connect(process.address()).is_err()
    });
    for _ in 0..20 {
        client.write_all(&framed(&message)).unwrap();
        read_answer(&mut client).unwrap();
        assert!(ask(process.address(), &message).is_some(), "no answer over UDP");
    }
    drop(client);
    assert!(process.wait().success(), "{}", process.log());
}
