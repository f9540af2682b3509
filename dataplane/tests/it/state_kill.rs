//! P1: a process that is killed while it writes its local snapshot, and a disk that is really full. The program itself.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use godwit_dataplane::state::Origin;
use godwit_dataplane::state::disk::Disk;
use godwit_engine::snapshot::{Snapshot, SnapshotOptions};

use super::chance::{Random, is_long};
use super::process::{Process, is_root, zone_folder};
use super::snapshots::open_state;

/// Zones that change together.
const ZONES: usize = 8;
/// At first, how long after its beginning a write may be met by the kill. It follows what writing takes here: less after a
/// kill that came too late, more after one that met a write.
const MOMENTS_US: usize = 20_000;
/// More kills than are wanted that meet no write, and the test has missed its purpose.
const ATTEMPTS_PER_KILL: usize = 4;

fn zone_text(generation: u32) -> String {
    let mut text =
        format!("$TTL 300\n@ SOA ns h {generation} 7200 3600 1209600 60\n@ NS ns\nns A 192.0.2.1\n");
    for number in 0..200 {
        let filler = "x".repeat(200);
        text.push_str(&format!("n{number} TXT \"{generation} {filler}\"\n"));
    }
    text
}

fn write_zones(folder: &Path, generation: u32) {
    for zone in 0..ZONES {
        std::fs::write(folder.join(format!("zone{zone}.test.zone")), zone_text(generation)).unwrap();
    }
}

/// The generation that a start would find, the same in every zone; `None`: there is no snapshot. Nothing may be damaged.
fn found(folder: &Path) -> Option<u32> {
    let mut state = open_state(&Disk::default(), folder, Origin::ZoneFiles);
    let options = SnapshotOptions { hash_key: [1; 16], digest_key: state.digest_key(None).unwrap() };
    let found = state.load(&options, |path, error| panic!("{}: {error:#}", path.display()))?;
    let snapshot: Snapshot = found.snapshot;
    assert_eq!(snapshot.recompute_digest(), snapshot.root_digest());
    // The one that only the first start could read is there as well.
    assert_eq!(snapshot.zone_count(), ZONES + 1);
    let changing =
        snapshot.zones().filter(|zone| zone.apex() != super::snapshots::name("kept.test").as_ref());
    let serials: Vec<u32> = changing.map(|zone| zone.serial()).collect();
    assert!(serials.iter().all(|serial| *serial == serials[0]), "a mixture: {serials:?}");
    Some(serials[0])
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Each start finds the state of the last write that came through, or a newer one, whole. 20 kills that meet a write in a
/// plain run, 1,000 in a long one.
#[test]
fn p1_a_kill_while_the_snapshot_is_written_leaves_the_old_one_or_the_new_one() {
    let mut random = Random::seeded();
    let wanted = if is_long() { 1000 } else { 20 };
    let zones = zone_folder(&[("kept.test", "@ 300 SOA ns h 1 2 3 4 5\n@ 300 NS ns\nns 300 A 192.0.2.7\n")]);
    let state = tempfile::tempdir().unwrap();
    write_zones(zones.path(), 1);
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "1",
        "--metrics",
        "off",
        "--zones",
        zones.path().to_str().unwrap(),
        "--state",
        state.path().to_str().unwrap(),
    ];
    assert!(Process::start(&arguments).stop().success());
    assert_eq!(found(state.path()), Some(1));
    // From here on this zone can only come from the local snapshot, through every kill.
    std::fs::write(zones.path().join("kept.test.zone"), "no longer a zone file").unwrap();

    let temporary = state.path().join("snapshot.temporary");
    let (mut met, mut new, mut generation, mut known) = (0, 0, 1, 1);
    let mut moments_us = MOMENTS_US;
    while met < wanted {
        generation += 1;
        let attempts = usize::try_from(generation).unwrap();
        assert!(attempts <= 2 + wanted * ATTEMPTS_PER_KILL, "only {met} of {attempts} kills met a write");
        write_zones(zones.path(), generation);
        // What a kill left is written over, so its new beginning shows by its length.
        let _ = std::fs::remove_file(&temporary);
        let mut process = Process::start(&arguments);
        let is_new = || std::fs::metadata(&temporary).is_ok();
        wait_until("a write", || is_new() || found_is_newer(state.path(), &temporary));
        std::thread::sleep(Duration::from_micros(random.below(moments_us) as u64));
        process.child.kill().unwrap();
        process.wait();
        // Killed before the temporary file had its name.
        let is_met = is_new();
        met += usize::from(is_met);
        moments_us = (if is_met { moments_us * 9 / 8 } else { moments_us * 3 / 4 }).clamp(100, MOMENTS_US);
        let now = found(state.path()).expect("there was one before");
        assert!(
            (known..=generation).contains(&now),
            "found {now}, after {known}, while writing {generation}"
        );
        new += usize::from(now == generation);
        known = now;
    }
    println!("{} kills, {met} while writing; {new} times the new state was found", generation - 1);
    let mut process = Process::start(&arguments);
    assert_eq!(process.dig(&["+short", "ns.kept.test"]), "192.0.2.7\n");
    assert!(process.dig(&["+short", "soa", "zone0.test"]).contains(&format!(" {generation} ")));
    assert!(process.stop().success());
}

/// Whether the write came and went between two looks.
fn found_is_newer(folder: &Path, temporary: &Path) -> bool {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    let current = modified(&folder.join("current.snapshot"));
    !temporary.exists()
        && current > modified(&folder.join("lock")).max(modified(&folder.join("digest.key")))
        && current.is_some_and(|at| at.elapsed().is_ok_and(|age| age < Duration::from_millis(50)))
}

/// A small file system in memory, gone when this is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where mounting is not permitted.
    fn mount(octets: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={octets},mode=777");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder.path()).status();
        mounted.is_ok_and(|status| status.success()).then(|| SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Needs root, for a file system of its own.
#[test]
fn p1_a_disk_that_is_full_keeps_the_good_snapshot_until_there_is_room() {
    let Some(disk) = is_root().then(|| SmallDisk::mount(2 << 20)).flatten() else {
        println!("not run: mounting a file system in memory is not permitted here");
        return;
    };
    let zones = zone_folder(&[("kept.test", "@ 300 SOA ns h 1 2 3 4 5\n@ 300 NS ns\nns 300 A 192.0.2.7\n")]);
    write_zones(zones.path(), 1);
    let state = disk.0.path().join("state");
    let mut process = Process::start(&[
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "1",
        "--metrics",
        "127.0.0.1:0",
        "--zones",
        zones.path().to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
    ]);
    let metric = |process: &Process, name: &str| process.metric(&format!("godwit_dataplane_{name}_total"));
    wait_until("the first write", || metric(&process, "snapshots_written") > 0.5);
    // All that is left of the disk is taken.
    let ballast = disk.0.path().join("ballast");
    let error = std::fs::write(&ballast, vec![1; 4 << 20]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));

    write_zones(zones.path(), 2);
    process.signal("HUP");
    wait_until("the failure", || metric(&process, "snapshot_errors") > 0.5);
    assert!(process.dig(&["+short", "soa", "zone0.test"]).contains(" 2 "), "what is served goes on");
    assert!(process.log().contains("the local snapshot could not be written"), "{}", process.log());
    assert!((metric(&process, "snapshots_written") - 1.0).abs() < 0.1);
    // It is tried again, and fails again; what a start would find is whole.
    wait_until("another failure", || metric(&process, "snapshot_errors") > 1.5);
    let copy = tempfile::tempdir().unwrap();
    for name in ["digest.key", "current.snapshot"] {
        std::fs::copy(state.join(name), copy.path().join(name)).unwrap();
    }
    assert_eq!(found(copy.path()), Some(1));

    std::fs::remove_file(&ballast).unwrap();
    wait_until("the write", || metric(&process, "snapshots_written") > 1.5);
    assert!(process.stop().success());
    assert_eq!(found(&state), Some(2));
}
