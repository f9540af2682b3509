//! What becomes of a handover when one of the two is killed, hangs, is asked to stop or to reload (threat-model R16). The
//! moments are held fast: a successor that reads a large zone, a predecessor that is stopped by SIGSTOP.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::handover::processes;
use super::process::{command, send_signal};
use super::reflector::eventually;
use super::traffic::{Serving, publish_large, query, served, under_fire, version_of};

/// Names that take about a second to be read.
const SOME: u32 = 300_000;
/// Names that take longer to be read than anything here; as many as `$GENERATE` makes.
const MANY: u32 = 1_000_000;

/// What the log says once a successor has told that it is ready.
const READY: &str = "ready; the process before us is to stop answering";

impl Serving {
    /// Starts a handover to a version of the zone with so many names more; the successor's number, once it is that.
    fn hand_over(&self, version: u64, names: u32) -> u32 {
        publish_large(self.folder.path(), version, names);
        self.process.signal("USR2");
        let successor = || {
            // Before it has executed the program, it has its parent's environment.
            let is_successor = |id: &u32| {
                let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
                String::from_utf8_lossy(&environment).contains("GODWIT_HANDOVER=")
            };
            processes(&self.marker).into_iter().find(is_successor)
        };
        eventually("there is a successor", || successor().is_some());
        successor().unwrap()
    }

    /// Waits for a line of the log; a large zone takes its time on a busy machine.
    fn says(&self, line: &str) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.process.log().contains(line) {
            assert!(Instant::now() < deadline, "never: {line}: {}", self.process.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Likewise, with the old process standing still when the successor is ready.
    fn stand_still(&self) {
        self.process.signal("STOP");
        self.says(READY);
    }
}

/// Whether a process has not ended, with all its threads. One that nobody has waited for has.
fn is_alive(process: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
    // `number (name) state …`, the count of threads in the twentieth place.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = rest.split(' ').collect();
    fields[0] != "Z" || fields[17].parse::<u32>().unwrap() > 1
}

/// A client that has asked once.
struct Asked(UdpSocket);

impl Asked {
    fn at(address: SocketAddr) -> Self {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.send(&query(1)).unwrap();
        Asked(client)
    }

    fn is_answered(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let peeked = self.0.peek(&mut [0; 512]).is_ok();
        self.0.set_nonblocking(false).unwrap();
        peeked
    }

    fn version(&self) -> u64 {
        let mut buffer = [0; 512];
        loop {
            // A machine that was halted meanwhile interrupts those that wait.
            match self.0.recv(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => return version_of(&buffer[..received.expect("an answer in the end")]),
            }
        }
    }
}

#[test]
fn p1_a_successor_that_hangs_or_is_killed_leaves_the_old_in_place() {
    let serving = Serving::start(command().env("GODWIT_SERVER__HANDOVER_TIMEOUT_MS", "700"));
    let (address, id) = (serving.address(), serving.process.child.id());
    under_fire(address, || {
        let hangs = serving.hand_over(2, MANY);
        send_signal(hangs, "STOP");
        // A reload waits for the end of the handover, and is then made by the one who stays.
        serving.publish(3);
        serving.process.signal("HUP");
        serving.says("was not ready within 0.7 s");
        eventually("the reload is made", || served(address) == 3);
        assert!(!is_alive(hangs));

        let killed = serving.hand_over(4, MANY);
        send_signal(killed, "KILL");
        serving.says("ended before it was ready");
        serving.publish(5);
        serving.process.signal("HUP");
        eventually("the old one goes on", || served(address) == 5);
        assert_eq!(processes(&serving.marker), [id]);
    });
}

/// Between its word that it is ready and the old one's, a successor has answered nothing.
#[test]
fn p1_a_successor_that_is_killed_when_it_is_ready_leaves_the_old_in_place() {
    let serving = Serving::start(&mut command());
    let successor = serving.hand_over(2, SOME);
    serving.stand_still();
    send_signal(successor, "KILL");
    eventually("it has ended", || !is_alive(successor));
    serving.process.signal("CONT");
    serving.says("ended when it was ready");
    assert_eq!(served(serving.address()), 1);
    assert_eq!(processes(&serving.marker), [serving.process.child.id()]);
}

#[test]
fn p1_a_successor_begins_when_the_old_process_is_killed() {
    // While it loads, and while it waits.
    for waits in [false, true] {
        let mut serving = Serving::start(&mut command());
        let successor = serving.hand_over(2, SOME);
        if waits {
            serving.stand_still();
        }
        let asked = waits.then(|| {
            let asked = Asked::at(serving.address());
            // Nobody answers, whatever time passes: the successor waits, and the old one stands still.
            std::thread::sleep(Duration::from_millis(200));
            assert!(!asked.is_answered(), "{}", serving.process.log());
            asked
        });
        serving.process.signal("KILL");
        let _ = serving.process.wait();
        // What was asked in between waited in the sockets that both had.
        let asked = asked.unwrap_or_else(|| Asked::at(serving.address()));
        assert_eq!(asked.version(), 2, "{}", serving.process.log());
        assert_eq!(processes(&serving.marker), [successor]);
        assert!(!serving.process.log().contains("begin beside it"), "{}", serving.process.log());
    }
}

#[test]
fn p1_a_stop_during_a_handover_ends_both() {
    // While the successor loads, and when it has said that it is ready.
    for ready in [false, true] {
        let mut serving = Serving::start(&mut command());
        let successor = serving.hand_over(2, if ready { SOME } else { MANY });
        if ready {
            serving.stand_still();
            serving.process.signal("TERM");
            serving.process.signal("CONT");
        } else {
            serving.process.signal("TERM");
        }
        assert!(serving.process.wait().success());
        assert!(!is_alive(successor), "{}", serving.process.log());
        assert!(serving.process.log().contains("handover called off"), "{}", serving.process.log());
    }
}

#[test]
fn a_reload_during_a_handover_is_left_to_the_successor() {
    let mut serving = Serving::start(&mut command());
    let successor = serving.hand_over(2, SOME);
    // It has read version 2, and will not look by itself.
    serving.stand_still();
    serving.publish(3);
    serving.process.signal("HUP");
    serving.process.signal("CONT");
    assert!(serving.process.wait().success());
    eventually("the successor has reloaded", || served(serving.address()) == 3);
    assert_eq!(processes(&serving.marker), [successor]);
}

/// The state folder has one writer at a time, also over a handover.
#[test]
fn the_successor_writes_the_local_snapshot_once_the_old_process_has_ended() {
    let state = tempfile::tempdir().unwrap();
    let mut serving = Serving::start(command().arg("--state").arg(state.path()));
    eventually("it is written", || state.path().join("current.snapshot").exists());
    let successor = serving.hand_over(2, 0);
    assert!(serving.process.wait().success());
    send_signal(successor, "TERM");
    eventually("it has ended", || processes(&serving.marker).is_empty());
    // Nothing else to start from.
    std::fs::write(serving.folder.path().join("example.org.zone"), "nonsense\n").unwrap();
    let again = super::process::Process::start(&[
        "--listen",
        "127.0.0.1:0",
        "--metrics",
        "off",
        "--zones",
        &serving.marker,
        "--state",
        state.path().to_str().unwrap(),
    ]);
    assert_eq!(served(again.address()), 2);
}
