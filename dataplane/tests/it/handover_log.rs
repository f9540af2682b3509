//! The query log over handovers: for a while two processes write to one target, and every query has its record there,
//! whole and once.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::client::read_answer;
use super::handover::{Cleanup, processes};
use super::process::{Process, command, send_signal};
use super::query_log::{arguments, ask_many, dnstap_read, folder, lines, query};
use super::reflector::{eventually, framed};
use super::traffic::{StopOnDrop, taken_over};

const HANDOVERS: usize = 5;
/// Queries at a time, and the pause after them: the thread that writes the log steps back behind all others, and of what
/// it is given a second before a stop nothing is to be left.
const ROUND: u32 = 8;
const PAUSE: Duration = Duration::from_millis(10);

/// A server that logs all to `target`, with room for what a busy machine leaves lying; what marks its processes.
fn logging(folder: &TempDir, format: &str, target: &str) -> (Process, String, Cleanup) {
    let settings =
        format!("mode = \"full\"\nformat = \"{format}\"\ntarget = \"{target}\"\nring_octets = 16777216\n");
    let mut start = command();
    start.args(arguments(folder, &settings)).env("GODWIT_SERVER__DRAIN_TIMEOUT_MS", "2500");
    let marker = folder.path().to_str().unwrap().to_owned();
    (Process::spawn(&mut start), marker.clone(), Cleanup(marker))
}

/// Hands over again and again while a client asks, and stops the last. Everything asked is in the log in the end, of
/// which `logged` counts the records.
fn hand_over_and_count(process: &Process, marker: &str, logged: impl Fn() -> usize) {
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        let asking = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                ask_many(process.address(), ROUND);
                asked.fetch_add(ROUND as usize, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
        });
        let mut current = process.child.id();
        for _ in 0..HANDOVERS {
            send_signal(current, "USR2");
            current = taken_over(marker, current);
        }
        stop.store(true, Ordering::Relaxed);
        asking.join().unwrap();
    });
    stop_last(marker);
    let asked = asked.into_inner();
    eventually("everything is there", || logged() >= asked);
    assert_eq!(logged(), asked, "{}", process.log());
}

fn stop_last(marker: &str) {
    for process in processes(marker) {
        send_signal(process, "TERM");
    }
    eventually("all have ended", || processes(marker).is_empty());
}

#[test]
fn a_file_of_json_has_every_query_of_both_processes() {
    let folder = folder();
    let path = folder.path().join("queries.json");
    let (process, marker, _cleanup) = logging(&folder, "json", path.to_str().unwrap());
    // Every line is a whole object, or this panics.
    hand_over_and_count(&process, &marker, || lines(&path).len());
}

#[test]
fn standard_output_has_whole_lines_of_both_processes() {
    let folder = folder();
    let (process, marker, _cleanup) = logging(&folder, "json", "stdout");
    let records =
        |line: &String| !["listening at ", "metrics at ", "serving "].iter().any(|s| line.starts_with(s));
    let logged = || process.printed().into_iter().filter(records).collect::<Vec<_>>();
    hand_over_and_count(&process, &marker, || logged().len());
    for line in logged() {
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(value["qname"], "www.example.org.");
    }
}

/// Asks on one connection until it is ended by the server; how many answers came.
fn ask_to_the_end(mut connection: TcpStream) -> usize {
    let message = framed(&query(7, b"\x03www\x07example\x03org\x00"));
    let mut answers = 0;
    loop {
        let answered = connection.write_all(&message).and_then(|()| read_answer(&mut connection));
        match answered {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return answers,
            Err(error) => panic!("{error}"),
        }
        answers += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection
}

/// A stream cannot be gone on with by another: the successor begins its own, and the old one is beside it, to its end.
#[test]
fn each_process_has_its_own_dnstap_file() {
    let folder = folder();
    let path = folder.path().join("queries.tap");
    let old = folder.path().join("queries.tap.old");
    let (mut process, marker, _cleanup) = logging(&folder, "dnstap", path.to_str().unwrap());
    let connection = connect(process.address());
    std::thread::scope(|scope| {
        // The old process has this connection for as long as it may drain, and logs what is asked there.
        let draining = scope.spawn(|| ask_to_the_end(connection));
        eventually("the connection is there", || process.metric("godwit_dataplane_tcp_connections") > 0.5);
        process.signal("USR2");
        eventually("the successor has begun its file", || old.exists() && path.exists());
        ask_many(process.address(), 100);
        assert!(process.wait().success());
        let answers = draining.join().unwrap();
        assert!(answers > 50, "{answers}");
        assert_eq!(dnstap_read(&old).len(), 2 * answers);
    });
    stop_last(&marker);
    assert_eq!(dnstap_read(&path).len(), 200);
}
