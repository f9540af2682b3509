//! P1: a local snapshot that is damaged in any way is found out: the one before serves, or none. Never a wrong answer, never
//! an empty one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use godwit_dataplane::state::Origin;
use godwit_dataplane::state::disk::Disk;
use godwit_engine::snapshot::{Position, Snapshot};
use godwit_wire::feed::ZoneChangeKind;
use godwit_wire::rr::Rtype;

use super::chance::{Random, is_long};
use super::feed::{ask, client, start};
use super::process::{Process, ZONE, zone_folder};
use super::snapshots::{address, change_set, open_state, options, rrset, whole};

/// A block of a disk.
const BLOCK_OCTETS: usize = 512;

/// A state folder with a good `previous` (address …1) and a `current` (address …2) to be damaged.
struct Damaged {
    folder: tempfile::TempDir,
    current: File,
    good: Vec<u8>,
    /// The octets of `previous`.
    old: Vec<u8>,
}

impl Damaged {
    fn new(previous: &Snapshot, current: &Snapshot) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut state = open_state(&Disk::default(), folder.path(), Origin::Feed);
        state.save(previous, 1).unwrap();
        state.save(current, 2).unwrap();
        drop(state);
        let [current, previous] =
            ["current.snapshot", "previous.snapshot"].map(|name| folder.path().join(name));
        let (good, old) = (std::fs::read(&current).unwrap(), std::fs::read(previous).unwrap());
        let current = OpenOptions::new().write(true).open(current).unwrap();
        Damaged { folder, current, good, old }
    }

    /// Which sequence is found with these octets in the place of `current`, and how many files were refused.
    fn load(&self, octets: &[u8]) -> (Option<u64>, usize) {
        // Over what is there: a file that is emptied first and written anew is brought to the disk at once by some file systems,
        // which takes a hundred times as long as to look at it.
        self.current.write_all_at(octets, 0).unwrap();
        self.current.set_len(octets.len() as u64).unwrap();
        let mut refused = 0;
        let state = open_state(&Disk::default(), self.folder.path(), Origin::Feed);
        let found = state.load(&options(), |_, _| refused += 1);
        let found = found.map(|found| {
            // What was found whole is whole.
            assert_eq!(found.snapshot.recompute_digest(), found.snapshot.root_digest());
            let sequence = found.snapshot.position().sequence;
            let expected = Some([192, 0, 2, u8::try_from(sequence).unwrap()]);
            assert_eq!(address(&found.snapshot, "a.test"), expected, "a wrong answer");
            sequence
        });
        (found, refused)
    }

    fn is_found_out(&self, octets: &[u8], what: impl std::fmt::Display) {
        assert_ne!(octets, self.good, "{what}: no damage");
        assert_eq!(self.load(octets), (Some(1), 1), "{what}");
    }
}

fn small(octet: u8) -> Snapshot {
    let position = Position { generation: 3, epoch: 2, sequence: octet.into(), chain: [octet; 32] };
    let zones = vec![whole("a.test", 1, [192, 0, 2, octet]), whole("b.test", 1, [192, 0, 2, octet])];
    Snapshot::empty(&options()).apply(&change_set(zones)).unwrap().with_position(position)
}

/// Some 2.5 MB in few records: three parts and quick to read.
fn large() -> Snapshot {
    let mut zone = whole("a.test", 1, [192, 0, 2, 2]);
    let ZoneChangeKind::Replace(records) = &mut zone.kind else { unreachable!() };
    for number in 0..100u8 {
        let text: Vec<u8> =
            (0..100u8).flat_map(|line| [&[250][..], &[number ^ line; 250]].concat()).collect();
        records.push(rrset(&format!("n{number}.a.test"), Rtype::TXT, &text));
    }
    let position = Position { generation: 3, epoch: 2, sequence: 2, chain: [2; 32] };
    let zones = vec![zone, whole("b.test", 1, [192, 0, 2, 2])];
    Snapshot::empty(&options()).apply(&change_set(zones)).unwrap().with_position(position)
}

#[test]
fn p1_damage_at_every_octet_of_a_small_snapshot_is_found_out() {
    let damaged = Damaged::new(&small(1), &small(2));
    for at in 0..damaged.good.len() {
        let mut octets = damaged.good.clone();
        for flip in [0x01, 0x80, 0xFF] {
            octets[at] = damaged.good[at] ^ flip;
            damaged.is_found_out(&octets, format_args!("octet {at} flipped by {flip:#04x}"));
        }
        octets.remove(at);
        damaged.is_found_out(&octets, format_args!("octet {at} left out"));
        damaged.is_found_out(&damaged.good[..at], format_args!("cut to {at} octets"));
    }
    for more in [&[0][..], b"more", &damaged.good] {
        damaged.is_found_out(&[&damaged.good[..], more].concat(), "octets after the end");
    }
    assert_eq!(damaged.load(&damaged.good), (Some(2), 0));
}

#[test]
fn p1_sections_that_were_swapped_or_mixed_are_found_out() {
    let damaged = Damaged::new(&small(1), &small(2));
    let (good, old) = (&damaged.good, &damaged.old);
    assert_eq!(good.len(), old.len());
    // The two files differ in their headers and in both zones, so what is mixed of them is neither.
    for at in (1..good.len()).filter(|at| good[..*at] != old[..*at] && good[*at..] != old[*at..]) {
        damaged.is_found_out(&[&good[..at], &old[at..]].concat(), format_args!("another's from {at} on"));
        damaged.is_found_out(&[&old[..at], &good[at..]].concat(), format_args!("another's up to {at}"));
        damaged.is_found_out(&[&good[at..], &good[..at]].concat(), format_args!("turned by {at}"));
    }
    // Whole zones in another order are the same zones. That is the one change of octets that is none of content.
    let second = 148 + good[148..].windows(2).rposition(|octets| octets == b"\x01b").unwrap();
    let zone_start = (148..second).rev().find(|at| good[at + 9..].starts_with(b"GDWT")).unwrap();
    let swapped = [&good[..148], &good[zone_start..], &good[148..zone_start]].concat();
    assert_ne!(swapped, *good);
    assert_eq!(damaged.load(&swapped), (Some(2), 0));
    // One of them twice, or one left out, is not.
    let first = &good[148..zone_start];
    damaged.is_found_out(&[&good[..148], first, first].concat(), "one zone twice");
    damaged.is_found_out(&[&good[..148], first].concat(), "one zone left out");
}

/// Damages of every kind that disks and people make; 400 in a plain run, 100,000 in a long one.
#[test]
fn p1_random_damage_of_a_large_snapshot_is_found_out() {
    let mut random = Random::seeded();
    let damaged = Damaged::new(&small(1), &large());
    let good = &damaged.good;
    assert!(good.len() > 2 << 20, "{} octets are three parts", good.len());
    let trials = if is_long() { 100_000 } else { 400 };
    for trial in 0..trials {
        let mut octets = good.clone();
        let at = random.below(good.len());
        let end = good.len().min(at + 1 + random.below(8 * BLOCK_OCTETS));
        let block = at / BLOCK_OCTETS * BLOCK_OCTETS;
        let kind = random.below(8);
        match kind {
            0 => octets[at] ^= 1 << random.below(8),
            1 => octets[at..end].fill_with(|| random.octet()),
            2 => octets[block..good.len().min(block + BLOCK_OCTETS)].fill(0),
            3 => octets.truncate(at),
            4 => drop(octets.drain(at..end)),
            5 => octets.copy_within(at..end, random.below(good.len() - (end - at))),
            6 => octets.extend_from_slice(&good[at..end]),
            _ => octets[at..].fill(0),
        }
        if octets != *good {
            damaged.is_found_out(&octets, format_args!("trial {trial} of kind {kind} at {at} to {end}"));
        }
    }
    // Where a file system that lost its last writes would cut it; each in a long run.
    let step = if is_long() { BLOCK_OCTETS } else { 64 * BLOCK_OCTETS };
    for len in (0..good.len()).step_by(step) {
        damaged.is_found_out(&good[..len], format_args!("cut to {len} octets"));
    }
    assert_eq!(damaged.load(good), (Some(2), 0));
}

fn break_both(folder: &Path) {
    for file in ["current.snapshot", "previous.snapshot"] {
        let path = folder.join(file);
        let mut octets = std::fs::read(&path).unwrap();
        let middle = octets.len() / 2;
        octets[middle] ^= 0x20;
        std::fs::write(path, octets).unwrap();
    }
}

#[test]
fn p1_a_node_with_a_feed_and_two_damaged_snapshots_is_not_ready() {
    let state = tempfile::tempdir().unwrap();
    let mut saved = open_state(&Disk::default(), state.path(), Origin::Feed);
    saved.save(&small(1), 1).unwrap();
    saved.save(&small(2), 2).unwrap();
    drop(saved);
    let (server, _feed, address) = start(Some(state.path()));
    assert_eq!(ask(&client(address), "a"), (0, 2));
    server.stop();
    break_both(state.path());
    let damaged =
        ["current.snapshot", "previous.snapshot"].map(|name| std::fs::read(state.path().join(name)).unwrap());
    let (server, _feed, address) = start(Some(state.path()));
    let mut query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\x01\x03www\x01a\x04test\0\0\x01\0\x01".to_vec();
    query.extend_from_slice(b"\0\0\x29\x04\xD0\0\0\0\0\0\0");
    let answer = super::process::ask(address, &query).unwrap();
    assert_eq!(answer[3] & 0x0F, 2, "SERVFAIL");
    // RFC 8914 §4.15: Not Ready.
    assert!(answer.ends_with(b"\0\x06\0\x0F\0\x02\0\x0E"), "{answer:?}");
    assert_eq!(server.status().snapshot_errors.load(Ordering::Relaxed), 2);
    assert!(!server.status().has_snapshot.load(Ordering::Relaxed));
    server.stop();
    // And nothing was written over what somebody may still want to look at.
    let after =
        ["current.snapshot", "previous.snapshot"].map(|name| std::fs::read(state.path().join(name)).unwrap());
    assert!(after == damaged, "an empty snapshot was written");
}

#[test]
fn p1_damage_is_said_in_the_log_and_in_the_metrics() {
    let zones = zone_folder(&[("example.org", ZONE), ("kept.test", ZONE)]);
    let state = tempfile::tempdir().unwrap();
    let arguments = ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "1"];
    let paths = ["--zones", zones.path().to_str().unwrap(), "--state", state.path().to_str().unwrap()];
    let arguments = [&arguments[..], &paths[..]].concat();
    // Twice, so that there are two.
    for serial in [1, 2] {
        std::fs::write(
            zones.path().join("example.org.zone"),
            ZONE.replace("hostmaster 1", &format!("hostmaster {serial}")),
        )
        .unwrap();
        let mut process = Process::start(&arguments);
        assert!(process.stop().success());
    }
    std::fs::write(zones.path().join("kept.test.zone"), "broken").unwrap();
    // The zone that cannot be read comes from the newest snapshot that is whole.
    let current = state.path().join("current.snapshot");
    let mut octets = std::fs::read(&current).unwrap();
    octets[200] ^= 4;
    std::fs::write(&current, octets).unwrap();
    let mut process = Process::start(&arguments);
    assert_eq!(process.dig(&["+short", "www.kept.test"]), "192.0.2.80\n");
    assert!((process.metric("godwit_dataplane_snapshot_errors_total") - 1.0).abs() < 0.1);
    let log = process.log();
    assert!(log.contains("a local snapshot is damaged") && log.contains("current.snapshot"), "{log}");
    process.child.kill().unwrap();
    process.wait();
    // Both are damaged: it says so twice, and leaves that zone out.
    break_both(state.path());
    let process = Process::start(&arguments);
    assert_eq!(process.dig(&["+short", "www.example.org"]), "192.0.2.80\n");
    assert!(process.dig(&["www.kept.test"]).contains("status: SERVFAIL"));
    let damaged = process.log().matches("a local snapshot is damaged").count();
    assert_eq!(damaged, 2, "{}", process.log());
    assert!((process.metric("godwit_dataplane_snapshot_errors_total") - 2.0).abs() < 0.1);
}
