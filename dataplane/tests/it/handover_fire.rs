//! Upgrades and reloads while zones change, honest clients ask and hostile ones interfere (threat-model R16, R1): no
//! query is lost, no connection reset, no answer mixes two versions of a zone, and no version comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::handover::{Cleanup, processes};
use super::process::{Process, command, dig, send_signal, zone_folder};
use super::reflector::{eventually, framed};

const UPGRADES: u64 = 20;
const RELOADS_PER_UPGRADE: u64 = 1;
/// Queries per second over UDP: bounded, so that the test says something about us and not about the machine.
const RATE: u64 = 2_000;
/// Clients over UDP, so that every socket of the group gets its share.
const UDP_CLIENTS: u64 = 16;

/// A zone of which every record says which version it is of: 192.0.N.N, and "version N".
fn zone(version: u64) -> String {
    let octet = version % 256;
    format!(
        "$TTL 60\n@ IN SOA ns1 hostmaster {version} 7200 3600 1209600 60\n@ IN NS ns1\nns1 IN A 192.0.2.1\n\
         www IN A 192.0.{octet}.1\nwww IN A 192.0.{octet}.2\nwww IN A 192.0.{octet}.3\n"
    )
}

/// Puts a new version in the place of the old one, whole.
fn publish(folder: &Path, version: u64) {
    let next = folder.join("next");
    std::fs::write(&next, zone(version)).unwrap();
    std::fs::rename(next, folder.join("example.org.zone")).unwrap();
}

fn query(id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(
        b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03org\x00\x00\x01\x00\x01",
    );
    message
}

/// The version that an answer is of; all its records must agree.
fn version_of(answer: &[u8]) -> u64 {
    assert_eq!((answer[3] & 0x0F, &answer[6..8]), (0, &[0, 3][..]), "{answer:02x?}");
    // Header and question, then `| pointer | type | class | TTL | 4 | address |` three times.
    let records = &answer[query(0).len()..];
    let versions: Vec<u8> = records.chunks_exact(16).take(3).map(|record| record[14]).collect();
    assert!(versions.len() == 3 && versions.iter().all(|version| *version == versions[0]), "{answer:02x?}");
    versions[0].into()
}

/// Honest traffic and what became of it.
#[derive(Default)]
struct Traffic {
    stop: AtomicBool,
    sent: AtomicU64,
    answered: AtomicU64,
    over_tcp: AtomicU64,
}

impl Traffic {
    fn send_udp(&self, clients: &[UdpSocket]) {
        let start = Instant::now();
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let due = u64::try_from(start.elapsed().as_micros()).unwrap() * RATE / 1_000_000;
            while number < due {
                let client = &clients[usize::try_from(number % UDP_CLIENTS).unwrap()];
                client.send(&query(u16::try_from(number & 0xFFFF).unwrap())).unwrap();
                self.sent.fetch_add(1, Ordering::Relaxed);
                number += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Until two seconds have passed without an answer after the last query. The versions that a client sees never
    /// go back.
    fn receive_udp(&self, clients: &[UdpSocket]) {
        let mut buffer = [0; 512];
        let mut newest = vec![0; clients.len()];
        let mut quiet_since = Instant::now();
        while !self.stop.load(Ordering::Relaxed) || quiet_since.elapsed() < Duration::from_secs(2) {
            for (client, newest) in clients.iter().zip(&mut newest) {
                while let Ok(len) = client.recv(&mut buffer) {
                    let version = version_of(&buffer[..len]);
                    assert!(version >= *newest, "version {version} after {newest}");
                    *newest = version;
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    quiet_since = Instant::now();
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Connects anew for every few queries: none is refused or reset, and the versions never go back.
    fn ask_tcp(&self, address: SocketAddr) {
        let mut newest = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            for id in 0..3u16 {
                client.write_all(&framed(&query(id))).unwrap();
                let mut length = [0; 2];
                client.read_exact(&mut length).unwrap();
                let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
                client.read_exact(&mut answer).unwrap();
                let version = version_of(&answer);
                assert!(version >= newest, "version {version} over TCP after {newest}");
                newest = version;
                self.over_tcp.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What no server likes: broken messages over UDP, and connections that are slow in every way.
    fn interfere(&self, address: SocketAddr) {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect(address).unwrap();
        udp.set_nonblocking(true).unwrap();
        let mut slow: Vec<TcpStream> = Vec::new();
        let mut round: usize = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let sound = query(1);
            let broken = [
                &sound[..round % sound.len()],
                &[&sound[..], b"junk"].concat(),
                &[&sound[..2], &[0x81], &sound[3..]].concat(),
                &[&sound[..12], &[0xC0, 12, 0, 1, 0, 1]].concat(),
                &[0xFF; 600],
            ];
            for message in broken {
                let _ = udp.send(message);
            }
            while udp.recv(&mut [0; 512]).is_ok() {}
            if slow.len() < 200
                && let Ok(mut stream) = TcpStream::connect(address)
            {
                let begun: &[u8] = [&[][..], &[0], &[0xFF, 0xFF, 1, 2, 3], &[0, 3, 1]][round % 4];
                let _ = stream.write_all(begun);
                stream.set_nonblocking(true).unwrap();
                slow.push(stream);
            }
            for stream in &mut slow {
                // Every second one drips on.
                let _ = stream.write(if round.is_multiple_of(2) { &[0] } else { &[] });
            }
            slow.retain_mut(|stream| match stream.read(&mut [0; 64]) {
                Ok(count) => count > 0,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            });
            round += 1;
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

/// Stops the threads of a scope also when the test fails: a scope waits for them.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `upgrades` under traffic; nothing may be lost.
fn under_fire(address: SocketAddr, upgrades: impl FnOnce()) {
    let traffic = Traffic::default();
    let clients: Vec<UdpSocket> = (0..UDP_CLIENTS)
        .map(|_| {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(address).unwrap();
            client.set_nonblocking(true).unwrap();
            // Should this test be kept from its CPU for a while, answers wait and are not lost.
            socket2::SockRef::from(&client).set_recv_buffer_size(1 << 20).unwrap();
            client
        })
        .collect();
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&traffic.stop);
        let threads = [
            scope.spawn(|| traffic.send_udp(&clients)),
            scope.spawn(|| traffic.receive_udp(&clients)),
            scope.spawn(|| traffic.ask_tcp(address)),
            scope.spawn(|| traffic.interfere(address)),
        ];
        upgrades();
        traffic.stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let [sent, answered, over_tcp] =
        [&traffic.sent, &traffic.answered, &traffic.over_tcp].map(|count| count.load(Ordering::Relaxed));
    assert!(sent > RATE / 2 && over_tcp > 20, "{sent} queries over UDP and {over_tcp} over TCP only");
    assert_eq!(answered, sent, "queries over UDP were lost");
}

/// A server of a zone's first version, from a folder that marks its processes.
fn serving(more: &[&str]) -> (tempfile::TempDir, String, Cleanup, Process) {
    let folder = zone_folder(&[]);
    publish(folder.path(), 1);
    let marker = folder.path().to_str().unwrap().to_owned();
    let cleanup = Cleanup(marker.clone());
    let mut arguments =
        vec!["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "2", "--zones", &marker];
    arguments.extend_from_slice(more);
    let process = Process::start(&arguments);
    (folder, marker, cleanup, process)
}

/// The version served at the moment, as dig sees it.
fn served(address: SocketAddr) -> u64 {
    let text = dig(address, &["+short", "www.example.org"]);
    let octet = text.lines().next().and_then(|line| line.split('.').nth(2));
    octet.unwrap_or_else(|| panic!("no answer: {text:?}")).parse().unwrap()
}

/// Waits until one process is left, and that is not `before`; its number.
fn taken_over(marker: &str, before: u32) -> u32 {
    eventually("the successor is alone", || {
        let alive = processes(marker);
        alive.len() == 1 && alive[0] != before
    });
    processes(marker)[0]
}

#[test]
fn p1_upgrades_and_reloads_under_fire_lose_nothing_and_never_go_back() {
    let (folder, marker, _cleanup, mut process) = serving(&[]);
    let address = process.address();
    let mut version = 1;
    under_fire(address, || {
        let mut current = process.child.id();
        for round in 0..UPGRADES {
            for _ in 0..RELOADS_PER_UPGRADE {
                version += 1;
                publish(folder.path(), version);
                send_signal(current, "HUP");
                eventually("the new version is served", || served(address) == version);
            }
            // The zone changes beside the upgrade: the successor may read either, and is told to reload before, in the
            // middle, or after.
            version += 1;
            match round % 3 {
                0 => {
                    send_signal(current, "USR2");
                    publish(folder.path(), version);
                    send_signal(current, "HUP");
                }
                1 => {
                    publish(folder.path(), version);
                    send_signal(current, "HUP");
                    send_signal(current, "USR2");
                }
                _ => {
                    publish(folder.path(), version);
                    // Twice at once: one successor.
                    send_signal(current, "USR2");
                    send_signal(current, "USR2");
                }
            }
            if round == 0 {
                assert!(process.wait().success());
            }
            current = taken_over(&marker, current);
            eventually("the successor serves the newest version", || served(address) == version);
        }
    });
    assert_eq!(version, 1 + UPGRADES * (RELOADS_PER_UPGRADE + 1));
    assert_eq!(process.get("/ready").0, 200);
}

#[test]
fn what_is_wrong_on_reload_or_upgrade_leaves_the_old_in_place() {
    let folder = zone_folder(&[]);
    publish(folder.path(), 1);
    let marker = folder.path().to_str().unwrap().to_owned();
    let _cleanup = Cleanup(marker.clone());
    let file = folder.path().join("dataplane.toml");
    let right = format!("[zones]\npath = \"{marker}\"\n");
    std::fs::write(&file, &right).unwrap();
    let mut start = command();
    start.args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--config"]).arg(&file);
    let mut process = Process::spawn(&mut start);
    let (address, id) = (process.address(), process.child.id());
    let failures = |process: &Process| process.log().matches("handover failed").count();
    under_fire(address, || {
        let zone_file = folder.path().join("example.org.zone");
        let zone_text = std::fs::read_to_string(&zone_file).unwrap();
        // A zone that does not read: kept on reload, and no successor that would not have it.
        std::fs::write(&zone_file, zone_text.replace("www IN A", "www IN NONSENSE")).unwrap();
        process.signal("HUP");
        eventually("it is shown", || process.metric("godwit_dataplane_failed_zones") > 0.5);
        assert_eq!(served(address), 1);
        process.signal("USR2");
        eventually("the handover fails", || failures(&process) == 1);
        std::fs::write(&zone_file, &zone_text).unwrap();
        // A configuration that does not read, and one that asks for what cannot be had.
        for wrong in ["[tcp]\nidle_timout_ms = 1\n", "[cookies]\nsecrets_file = \"/nonexistent\"\n"] {
            let before = failures(&process);
            std::fs::write(&file, format!("{right}{wrong}")).unwrap();
            process.signal("USR2");
            eventually("the handover fails", || failures(&process) == before + 1);
            assert_eq!((processes(&marker), served(address)), (vec![id], 1));
        }
        std::fs::write(&file, &right).unwrap();
        // With everything mended, the upgrade is made.
        publish(folder.path(), 2);
        process.signal("USR2");
        assert!(process.wait().success());
        taken_over(&marker, id);
        assert_eq!(served(address), 2);
    });
    assert!(process.log().contains("idle_timout_ms"), "{}", process.log());
}

/// A server whose program can be replaced, and the path of that.
fn replaceable(timeout_ms: &str) -> (tempfile::TempDir, String, Cleanup, Process, std::path::PathBuf) {
    let folder = zone_folder(&[]);
    publish(folder.path(), 1);
    let marker = folder.path().to_str().unwrap().to_owned();
    let cleanup = Cleanup(marker.clone());
    let program = folder.path().join("program");
    std::fs::copy(super::process::PROGRAM, &program).unwrap();
    let mut start = std::process::Command::new(&program);
    start.args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--zones", &marker]);
    start.env("GODWIT_SERVER__HANDOVER_TIMEOUT_MS", timeout_ms);
    let process = Process::spawn(&mut start);
    (folder, marker, cleanup, process, program)
}

/// Puts a script in the place of a program that is running, which keeps its own.
fn replace(program: &Path, script: &str) {
    let next = program.with_extension("next");
    std::fs::write(&next, script).unwrap();
    super::process::open_to_all(&next);
    std::fs::rename(next, program).unwrap();
}

#[test]
fn a_successor_that_hangs_or_is_killed_leaves_the_old_in_place() {
    let (folder, marker, _cleanup, mut process, program) = replaceable("700");
    let (address, id) = (process.address(), process.child.id());
    let hung = folder.path().join("hung");
    // It writes its number, and never says that it is ready.
    let script = format!("#!/bin/sh\necho $$ > {0}.part; mv {0}.part {0}; exec sleep 60\n", hung.display());
    under_fire(address, || {
        replace(&program, &script);
        for round in 0..2 {
            process.signal("USR2");
            eventually("it hangs", || hung.exists());
            let successor = std::fs::read_to_string(&hung).unwrap();
            let successor: u32 = successor.trim().parse().unwrap();
            if round == 0 {
                // Reloads wait for the end of a handover, and are then made.
                publish(folder.path(), 2);
                process.signal("HUP");
                eventually("it is given up", || process.log().contains("was not ready within 0.7 s"));
                eventually("the reload is made", || served(address) == 2);
            } else {
                send_signal(successor, "KILL");
                eventually("it is noticed", || process.log().contains("ended before it was ready"));
            }
            eventually("it has gone", || !Path::new(&format!("/proc/{successor}")).exists());
            std::fs::remove_file(&hung).unwrap();
        }
        assert_eq!(processes(&marker), [id]);
    });
    // Whoever stops the old one while the new one starts has stopped both.
    process.signal("USR2");
    eventually("it hangs", || hung.exists());
    let successor = std::fs::read_to_string(&hung).unwrap();
    assert!(process.stop().success());
    assert!(process.log().contains("was called off"), "{}", process.log());
    assert!(!Path::new(&format!("/proc/{}", successor.trim())).exists());
}

#[test]
fn a_successor_goes_on_when_the_old_process_is_killed() {
    let (_folder, marker, _cleanup, mut process, program) = replaceable("60000");
    let (address, id) = (process.address(), process.child.id());
    // The new program takes its time, and the old one is killed meanwhile.
    let real = program.with_extension("real");
    std::fs::copy(super::process::PROGRAM, &real).unwrap();
    let begun = program.with_extension("begun");
    let script = format!("#!/bin/sh\ntouch {}; sleep 0.5; exec {} \"$@\"\n", begun.display(), real.display());
    replace(&program, &script);
    process.signal("USR2");
    eventually("it has begun", || begun.exists());
    process.signal("KILL");
    let _ = process.wait();
    // What was asked in between waited in the sockets that both had.
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.send(&query(1)).unwrap();
    let mut buffer = [0; 512];
    let len = client.recv(&mut buffer).unwrap();
    assert_eq!(version_of(&buffer[..len]), 1);
    assert_ne!(processes(&marker), [id]);
}
