//! What a supervisor hears (sd_notify(3)): ready, reloading, alive, stopping.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::handover::{Cleanup, processes};
use super::process::{Process, ZONE, command, open_to_all, send_signal, zone_folder};

/// The supervisor's socket.
struct Notices {
    socket: UnixDatagram,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Notices {
    fn listen() -> Self {
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        open_to_all(&path);
        Notices { socket, path, _folder: folder }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let len = self.socket.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    /// The next message with this line.
    fn wait_for(&self, line: &str) -> String {
        loop {
            let text = self.next();
            if text.lines().any(|found| found == line) {
                return text;
            }
        }
    }
}

#[test]
fn a_supervisor_hears_of_each_step() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let notices = Notices::listen();
    let mut command = command();
    command
        .args(["--listen", "127.0.0.1:0", "--metrics", "off", "--zones", folder.path().to_str().unwrap()])
        .env("NOTIFY_SOCKET", &notices.path)
        .env("WATCHDOG_USEC", "2000000")
        .env_remove("WATCHDOG_PID");
    let mut process = Process::spawn(&mut command);
    notices.wait_for("READY=1");
    // Again and again, as long as the workers come round.
    notices.wait_for("WATCHDOG=1");
    notices.wait_for("WATCHDOG=1");
    process.signal("HUP");
    let reloading = notices.wait_for("RELOADING=1");
    assert!(reloading.lines().any(|line| line.starts_with("MONOTONIC_USEC=")), "{reloading}");
    notices.wait_for("READY=1");
    process.signal("TERM");
    notices.wait_for("STOPPING=1");
    assert!(process.wait().success());
}

/// A stop that was told would make the supervisor end the service, and the successor with it.
#[test]
fn at_a_handover_a_supervisor_hears_whom_to_watch_and_of_no_stop() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let marker = folder.path().to_str().unwrap();
    let _cleanup = Cleanup(marker.to_owned());
    let notices = Notices::listen();
    let mut command = command();
    command.args(["--listen", "127.0.0.1:0", "--metrics", "off", "--zones", marker]);
    let mut process = Process::spawn(command.env("NOTIFY_SOCKET", &notices.path));
    notices.wait_for("READY=1");
    process.signal("USR2");
    let watched = notices.next();
    assert!(process.wait().success());
    let successor = processes(marker)[0];
    assert_eq!(watched, format!("MAINPID={successor}\n"));
    assert_eq!(notices.next(), "READY=1\n", "of the successor");
    send_signal(successor, "TERM");
    assert_eq!(notices.next(), "STOPPING=1\n", "the first that is told");
}

/// The figure of docs/hardening.md is what systemd says of the unit, or it was once better. (Another version of systemd counts
/// somewhat differently.)
#[test]
fn the_service_is_no_more_exposed_than_the_documentation_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/hardening.md")).unwrap();
    let (_, figure) = page.split_once("says **").unwrap();
    let documented: f64 = figure.split(' ').next().unwrap().parse().unwrap();
    let mut command = std::process::Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager"]);
    command.arg(root.join("deploy/systemd/godwit-dataplane.service"));
    let Ok(output) = command.output() else {
        eprintln!("systemd-analyze is not here: the unit's exposure is not looked at");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| {
        panic!("no figure: {text}{}", String::from_utf8_lossy(&output.stderr));
    });
    let level = line.rsplit(": ").next().unwrap().split(' ').next().unwrap();
    let level: f64 = level.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(level <= documented + 0.3, "{level}, documented {documented}");
}

/// Both units, with a program that exists in place of ours.
#[test]
fn the_unit_files_are_what_systemd_takes() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
    let place = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("systemd-analyze");
    command.arg("verify");
    for unit in ["godwit-dataplane.service", "godwit-dataplane.socket"] {
        let text = std::fs::read_to_string(units.join(unit)).unwrap();
        let path = place.path().join(unit);
        std::fs::write(&path, text.replace("/usr/bin/godwit-dataplane", super::process::PROGRAM)).unwrap();
        command.arg(path);
    }
    let Ok(output) = command.output() else {
        eprintln!("systemd-analyze is not here: the unit files are not looked at");
        return;
    };
    let text = String::from_utf8_lossy(&output.stderr);
    // What systemd ignores, it complains of and takes all the same.
    assert!(output.status.success() && text.trim().is_empty(), "{text}");
}
