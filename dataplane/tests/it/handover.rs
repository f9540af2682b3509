//! What a successor gets from the process before it, and what a process gets from its supervisor (threat-model R16).

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

use super::process::{PROGRAM, Process, ZONE, zone_folder};
use super::query_log::ask_many;
use super::reflector::eventually;

/// The processes of this program that have `marker` among their arguments.
pub(crate) fn processes(marker: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&arguments);
        // Shells that only mention it are not meant.
        if text.contains(marker) && (text.starts_with(PROGRAM) || text.starts_with(marker)) {
            found.push(id);
        }
    }
    found
}

/// Ends all processes of a test, whatever became of it.
pub(crate) struct Cleanup(pub(crate) String);

impl Drop for Cleanup {
    fn drop(&mut self) {
        for id in processes(&self.0) {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
        }
    }
}

/// The sockets of a process by their inodes: those that receive at this port, over either protocol.
fn sockets_at(process: u32, port: u16) -> BTreeSet<String> {
    let mut bound = BTreeSet::new();
    for table in ["udp", "tcp"] {
        let text = std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap();
        for line in text.lines().skip(1) {
            // `sl local_address rem_address …`, the inode in the tenth place.
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[1].ends_with(&format!(":{port:04X}")) && fields[2].ends_with(":0000") {
                bound.insert(format!("socket:[{}]", fields[9]));
            }
        }
    }
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let open = open.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    open.filter_map(|target| bound.take(target.to_str()?)).collect()
}

#[test]
fn p1_every_socket_is_handed_on_and_read() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let marker = folder.path().to_str().unwrap().to_owned();
    let _cleanup = Cleanup(marker.clone());
    let mut process = Process::start(&[
        "--listen",
        "127.0.0.1:0",
        "--metrics",
        "off",
        "--workers",
        "3",
        "--zones",
        &marker,
    ]);
    let port = process.address().port();
    let before = sockets_at(process.child.id(), port);
    assert_eq!(before.len(), 6, "one of each kind for each worker");
    process.signal("USR2");
    assert!(process.wait().success(), "{}", process.log());
    let after = sockets_at(processes(&marker)[0], port);
    assert_eq!(after, before);
    // And all are read: each client's address picks one of them.
    for _ in 0..32 {
        ask_many(process.address(), 1);
    }
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    // A copy that can be replaced by something that is no program.
    let program = folder.path().join("program");
    std::fs::copy(PROGRAM, &program).unwrap();
    let zones = folder.path().to_str().unwrap();
    let mut start = Command::new(&program);
    start.args(["--listen", "127.0.0.1:0", "--metrics", "off", "--zones", zones]);
    let mut process = Process::spawn(&mut start);
    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, "#!/bin/sh\nexit 1\n").unwrap();
    super::process::open_to_all(&program);
    process.signal("USR2");
    eventually("it is logged", || process.log().contains("handover failed"));
    assert_eq!(process.dig(&["+short", "www.example.org"]), "192.0.2.80\n");
    assert!(process.stop().success());
}

#[test]
fn sockets_of_a_supervisor_are_served() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    // A port that is free for UDP may be taken for TCP.
    let (udp, tcp) = std::iter::repeat_with(|| UdpSocket::bind("127.0.0.1:0").unwrap())
        .find_map(|udp| Some((std::net::TcpListener::bind(udp.local_addr().unwrap()).ok()?, udp)))
        .map(|(tcp, udp)| (udp, tcp))
        .unwrap();
    let address = udp.local_addr().unwrap();
    // What a supervisor does between fork and exec, done by the shell: descriptors 3 and 4, and the process' number.
    let (udp, tcp) = (OwnedFd::from(udp), OwnedFd::from(tcp));
    for fd in [&udp, &tcp] {
        godwit_dataplane::sys::inherit::set_inheritable(std::os::fd::AsFd::as_fd(fd), true).unwrap();
    }
    let script = format!(
        "exec 8<&{udp} 9<&{tcp}; exec 3<&8 4<&9; export LISTEN_PID=$$ LISTEN_FDS=2; exec {PROGRAM} --metrics off --zones {zones}",
        udp = udp.as_raw_fd(),
        tcp = tcp.as_raw_fd(),
        zones = folder.path().display(),
    );
    let mut start = Command::new("/bin/bash");
    start.args(["-c", &script]);
    let mut process = Process::spawn(&mut start);
    drop((udp, tcp));
    assert_eq!(process.addresses, [address]);
    for transport in ["+notcp", "+tcp"] {
        assert_eq!(process.dig(&["+short", transport, "www.example.org"]), "192.0.2.80\n");
    }
    assert!(process.stop().success());
}

#[test]
fn a_successor_keeps_the_low_port_that_it_could_not_bind() {
    if !super::process::is_root() {
        eprintln!("not root here: no low port can be bound");
        return;
    }
    let free = |port: &u16| {
        let address = ("127.0.0.1", *port);
        UdpSocket::bind(address).is_ok() && std::net::TcpListener::bind(address).is_ok()
    };
    let port = (700..1024).find(free).unwrap();
    let folder = zone_folder(&[("example.org", ZONE)]);
    let marker = folder.path().to_str().unwrap().to_owned();
    let _cleanup = Cleanup(marker.clone());
    // Where everybody may execute it.
    let program = folder.path().join("program");
    std::fs::copy(PROGRAM, &program).unwrap();
    super::process::open_to_all(&program);
    let mut start = Command::new(&program);
    let listen = format!("127.0.0.1:{port}");
    start.args(["--user", "nobody", "--listen", &listen, "--metrics", "off", "--zones", &marker]);
    let mut process = Process::spawn(&mut start);
    process.signal("USR2");
    assert!(process.wait().success(), "{}", process.log());
    assert_eq!(process.dig(&["+short", "www.example.org"]), "192.0.2.80\n");
    assert_eq!(process.dig(&["+short", "+tcp", "www.example.org"]), "192.0.2.80\n");
}
