//! Restarts that lose nothing: the successor reads the same sockets before the old process stops (threat-model R16).

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::process::{PROGRAM, Process, ZONE, dig, send_signal, zone_folder};
use super::reflector::eventually;

const RATE: u64 = 8_000;

const RESTARTS: usize = 20;

/// The processes of this program that have `marker` among their arguments.
fn processes(marker: &str) -> Vec<u32> {
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
struct Cleanup(String);

impl Drop for Cleanup {
    fn drop(&mut self) {
        for id in processes(&self.0) {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
        }
    }
}

fn query(id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(
        b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03org\x00\x00\x01\x00\x01",
    );
    message
}

#[test]
fn p1_restarts_under_load_lose_no_query() {
    let folder = zone_folder(&[("example.org", ZONE)]);
    let marker = folder.path().to_str().unwrap().to_owned();
    let _cleanup = Cleanup(marker.clone());
    let mut process = Process::start(&[
        "--listen",
        "127.0.0.1:0",
        "--metrics",
        "127.0.0.1:0",
        "--workers",
        "2",
        "--zones",
        &marker,
    ]);
    let address = process.address();
    let stop = AtomicBool::new(false);
    let (sent, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    // Several clients, so that every socket of the group gets its share.
    let clients: Vec<UdpSocket> = (0..16)
        .map(|_| {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(address).unwrap();
            client.set_nonblocking(true).unwrap();
            client
        })
        .collect();
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        let (stop, sent, answered, clients) = (&stop, &sent, &answered, &clients);
        scope.spawn(move || {
            let start = Instant::now();
            let mut number = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let due = u64::try_from(start.elapsed().as_micros()).unwrap() * RATE / 1_000_000;
                while number < due {
                    let client = &clients[usize::try_from(number % 16).unwrap()];
                    if client.send(&query(u16::try_from(number & 0xFFFF).unwrap())).is_ok() {
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    number += 1;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        scope.spawn(move || {
            let mut buffer = [0; 512];
            let mut quiet_since = Instant::now();
            // Until a second has passed without an answer after the last query.
            while !stop.load(Ordering::Relaxed) || quiet_since.elapsed() < Duration::from_secs(1) {
                let mut any = false;
                for client in clients {
                    while let Ok(len) = client.recv(&mut buffer) {
                        assert_eq!((buffer[3] & 0x0F, &buffer[len - 4..len]), (0, &[192, 0, 2, 80][..]));
                        answered.fetch_add(1, Ordering::Relaxed);
                        any = true;
                    }
                }
                if any {
                    quiet_since = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        // Connections too: none is refused or reset, whichever process takes it.
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let mut client = TcpStream::connect(address).unwrap();
                client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let message = query(7);
                let mut octets = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
                octets.extend_from_slice(&message);
                client.write_all(&octets).unwrap();
                let mut length = [0; 2];
                client.read_exact(&mut length).unwrap();
                let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
                client.read_exact(&mut answer).unwrap();
                assert!(answer.ends_with(&[192, 0, 2, 80]));
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let mut current = process.child.id();
        for round in 0..RESTARTS {
            let start = Instant::now();
            send_signal(current, "USR2");
            if round == 0 {
                assert!(process.wait().success());
            }
            eventually("the successor is alone", || {
                let alive = processes(&marker);
                alive.len() == 1 && alive[0] != current
            });
            current = processes(&marker)[0];
            times.push(start.elapsed());
            std::thread::sleep(Duration::from_millis(200));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (sent, answered) = (sent.into_inner(), answered.into_inner());
    assert!(sent > RATE / 2, "{sent} queries only");
    assert_eq!(answered, sent, "queries were lost over {} restarts {times:?}: {}", RESTARTS, process.log());
    // Sockets that were handed on, metrics too, still work.
    assert_eq!(dig(address, &["+short", "+tcp", "www.example.org"]), "192.0.2.80\n");
    assert_eq!(process.get("/ready").0, 200);
    assert!(processes(&marker).len() == 1);
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
