//! P7: a low limit of open files costs TCP connections, and nothing else: zone files are read and metrics are shown whoever
//! connects.

use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::process::{PROGRAM, Process, ZONE, zone_folder};
use super::reflector::eventually;

const OPEN_FILES: usize = 200;

/// Descriptors that a process has open.
fn open_files(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.child.id())).unwrap().count()
}

/// Says that it is over, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn p7_connections_do_not_take_the_last_descriptors() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let script = format!(
        "ulimit -n {OPEN_FILES}; exec {PROGRAM} --listen 127.0.0.1:0 --metrics 127.0.0.1:0 --workers 1 --zones {}",
        folder.path().display()
    );
    let process = Process::spawn(Command::new("/bin/bash").args(["-c", &script]));
    assert!(process.log().contains("the limit of open files leaves room for fewer"), "{}", process.log());
    let address = process.address();
    let connections = || process.metric("godwit_dataplane_tcp_connections");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // More silent ones than there are descriptors, and new ones in the place of each that is closed.
        scope.spawn(|| {
            let mut silent: Vec<TcpStream> = Vec::new();
            while !over.load(Ordering::Relaxed) {
                silent.extend(TcpStream::connect(address));
                if silent.len() > 2 * OPEN_FILES {
                    silent.remove(0);
                }
            }
        });
        let _over = Over(&over);
        eventually("they have all the places that they can get", || connections() > 100.0);
        for round in 0..10 {
            let open = open_files(&process);
            assert!(open <= OPEN_FILES * 9 / 10, "{open} of {OPEN_FILES} descriptors are taken");
            let text = ZONE.replace("192.0.2.80", &format!("192.0.2.{round}"));
            let new = folder.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, folder.path().join("example.org.zone")).unwrap();
            process.signal("HUP");
            let served = format!("192.0.2.{round}\n");
            eventually("the zone is read again", || process.dig(&["+short", "www.example.org"]) == served);
            assert_eq!(process.dig(&["+tcp", "+short", "ns1.example.org"]), "192.0.2.1\n");
        }
    });
    assert!(process.metric("godwit_dataplane_failed_zones") < 0.5, "{}", process.log());
}
