//! P1: any file operation of the local snapshot may fail: what was there stays good, what is served stays what it was, and
//! the next time it is written.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use godwit_dataplane::observe::status::Status;
use godwit_dataplane::state::Origin;
use godwit_dataplane::state::disk::{Disk, Operation, Verdict};
use godwit_dataplane::state::keeper::Keeper;
use godwit_engine::snapshot::store::Store;
use godwit_engine::snapshot::{Position, Snapshot};
use godwit_wire::feed::ZoneChangeKind;
use godwit_wire::rr::Rtype;

use super::snapshots::{change_set, open_state, options, rrset, whole};

/// One whose zone is written in several operations.
fn snapshot(sequence: u8) -> Snapshot {
    let mut zone = whole("a.test", 1, [192, 0, 2, sequence]);
    let ZoneChangeKind::Replace(records) = &mut zone.kind else { unreachable!() };
    for number in 0..60 {
        records.push(rrset(&format!("n{number}.a.test"), Rtype::TXT, &[[250; 251]; 100].concat()));
    }
    let position = Position { generation: 1, epoch: 1, sequence: sequence.into(), chain: [sequence; 32] };
    Snapshot::empty(&options()).apply(&change_set(vec![zone])).unwrap().with_position(position)
}

/// What a healthy start finds: its sequence, and how many files it refuses.
fn found(folder: &Path) -> (Option<u64>, usize) {
    let mut refused = 0;
    let state = open_state(&Disk::default(), folder, Origin::Feed);
    let found = state.load(&options(), |_, _| refused += 1);
    (found.map(|found| found.snapshot.position().sequence), refused)
}

/// A start, a write and the next write, with operation number `n` failing as `verdict` says. Whether there was such an one.
/// `read`: the start reads the local snapshot, as with a feed; with sound zone files it does not, and the write looks at it.
fn fail_nth(n: usize, verdict: Verdict, read: bool, snapshots: &[Snapshot; 4]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mut state = open_state(&Disk::default(), folder.path(), Origin::Feed);
    state.save(&snapshots[0], 1).unwrap();
    state.save(&snapshots[1], 2).unwrap();
    drop(state);

    let count = Arc::new(AtomicUsize::new(0));
    let failed = Arc::new(Mutex::new(String::new()));
    let (counted, noted) = (Arc::clone(&count), Arc::clone(&failed));
    let disk = Disk::watched(move |operation| {
        if counted.fetch_add(1, Ordering::Relaxed) + 1 != n {
            return Verdict::Go;
        }
        *noted.lock().unwrap() = format!("{operation:?}");
        verdict
    });
    let mut state = open_state(&disk, folder.path(), Origin::Feed);
    let mut refused = 0;
    let start = if read {
        state.load(&options(), |_, _| refused += 1).map(|found| found.snapshot.position().sequence)
    } else {
        Some(2)
    };
    let in_load = count.load(Ordering::Relaxed) >= n;
    let saved = state.save(&snapshots[2], 3);
    let reached = count.load(Ordering::Relaxed) >= n;
    let what = format!("operation {n}, {}, {verdict:?}", failed.lock().unwrap());
    if !reached {
        assert_eq!((start, refused), (Some(2), 0), "{what}");
        assert!(saved.unwrap(), "{what}");
        return false;
    }
    if in_load {
        // The one before stands in for one that cannot be read.
        assert_eq!((start, refused), (Some(1), 1), "{what}");
        assert!(saved.unwrap(), "{what}");
    } else if failed.lock().unwrap().starts_with("Open") || *failed.lock().unwrap() == "Read" {
        // It could not be looked at, so it is not kept; the one before it is.
        assert!(!read && saved.unwrap(), "{what}");
    } else {
        assert_eq!(start, Some(2), "{what}");
        let error = saved.expect_err(&what);
        let number = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        assert!(
            matches!(verdict, Verdict::Fail(n) | Verdict::FailAfter(n) if Some(n) == number),
            "{what}: {error:#}"
        );
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let renaming = format!("{:?}", failed.lock().unwrap()).contains("Rename");
        assert!(renaming || !left.contains(&"snapshot.temporary".into()), "{what}: {left:?}");
    }
    drop(state);
    // Whatever happened: nothing that is read is damaged, and nothing older than before comes back.
    let (after, refused) = found(folder.path());
    assert_eq!(refused, 0, "{what}");
    assert!(after >= start && after.is_some(), "{what}: {after:?}");

    // The same process goes on when the fault is gone: a good start, a write that fails, one that does not.
    let failing = Arc::new(AtomicUsize::new(usize::MAX));
    let down = Arc::clone(&failing);
    let disk =
        Disk::watched(move |_| if down.fetch_sub(1, Ordering::Relaxed) == 1 { verdict } else { Verdict::Go });
    let mut state = open_state(&disk, folder.path(), Origin::Feed);
    state.load(&options(), |path, error| panic!("{what}: {}: {error:#}", path.display())).unwrap();
    failing.store(n, Ordering::Relaxed);
    let _ = state.save(&snapshots[2], 3);
    failing.store(usize::MAX, Ordering::Relaxed);
    assert!(state.save(&snapshots[3], 4).unwrap(), "{what}: the write after the fault");
    drop(state);
    assert_eq!(found(folder.path()), (Some(4), 0), "{what}");
    std::fs::remove_file(folder.path().join("current.snapshot")).unwrap();
    let (before, refused) = found(folder.path());
    assert!(refused == 0 && before >= Some(1), "{what}: {before:?}, the one before must be good too");
    true
}

#[test]
fn p1_any_file_operation_may_fail_without_loss() {
    let snapshots = [1, 2, 3, 4].map(snapshot);
    let mut operations = Vec::new();
    for number in [libc::ENOSPC, libc::EIO] {
        for (verdict, read) in [Verdict::Fail(number), Verdict::FailAfter(number)]
            .map(|v| [(v, true), (v, false)])
            .as_flattened()
        {
            let mut n = 1;
            while fail_nth(n, *verdict, *read, &snapshots) {
                n += 1;
            }
            operations.push(n - 1);
        }
    }
    println!("{operations:?} operations of a load and a write failed, one at a time");
    // Opening, several reads, making, several writes, syncing, two renames, syncing the folder.
    assert!(operations.iter().all(|count| *count >= 14), "{operations:?}");
}

#[test]
fn p1_a_digest_key_that_cannot_be_written_is_not_half_written() {
    for n in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let count = AtomicUsize::new(0);
        let disk = Disk::watched(move |_| match count.fetch_add(1, Ordering::Relaxed) + 1 {
            number if number == n => Verdict::Fail(libc::EIO),
            _ => Verdict::Go,
        });
        let mut state = open_state(&disk, folder.path(), Origin::Feed);
        let first = state.digest_key(None);
        drop(state);
        let again = open_state(&Disk::default(), folder.path(), Origin::Feed).digest_key(None).unwrap().0;
        match first {
            Ok(key) => {
                assert_eq!(key.0, again);
                assert!(n > 5, "opening, making, writing, syncing, renaming and syncing the folder can fail");
                return;
            }
            Err(error) => assert!(format!("{error:#}").contains("digest.key"), "{error:#}"),
        }
    }
}

#[test]
fn p1_a_snapshot_is_synced_before_it_is_named_and_its_name_after() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(Mutex::new(Vec::<String>::new()));
    let noted = Arc::clone(&log);
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let disk = Disk::watched(move |operation| {
        let line = match operation {
            Operation::Create(path) => format!("create {}", name(path)),
            Operation::Write(_) => "write".to_owned(),
            Operation::Sync(path) => format!("sync {}", name(path)),
            Operation::SyncPart => "sync part".to_owned(),
            Operation::Rename(from, to) => format!("rename {} to {}", name(from), name(to)),
            Operation::SyncFolder(_) => "sync the folder".to_owned(),
            // The one before may be looked at.
            Operation::Open(_) | Operation::Read => return Verdict::Go,
            Operation::Remove(path) => format!("remove {}", name(path)),
        };
        let mut log = noted.lock().unwrap();
        // However many writes there are, they stand together.
        if log.last() != Some(&line) {
            log.push(line);
        }
        Verdict::Go
    });
    let mut state = open_state(&disk, folder.path(), Origin::Feed);
    state.save(&snapshot(1), 1).unwrap();
    let first = [
        "create snapshot.temporary",
        "write",
        "sync snapshot.temporary",
        "rename snapshot.temporary to current.snapshot",
        "sync the folder",
    ];
    assert_eq!(*log.lock().unwrap(), first);
    log.lock().unwrap().clear();
    state.save(&snapshot(2), 2).unwrap();
    let next = [&first[..3], &["rename current.snapshot to previous.snapshot"], &first[3..]].concat();
    assert_eq!(*log.lock().unwrap(), next);
}

#[test]
fn p1_a_full_disk_changes_nothing_that_is_served_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let is_full = Arc::clone(&full);
    let disk = Disk::watched(move |operation| match operation {
        Operation::Write(_) if is_full.load(Ordering::Relaxed) => Verdict::Fail(libc::ENOSPC),
        _ => Verdict::Go,
    });
    let state = open_state(&disk, folder.path(), Origin::Feed);
    let store = Store::new(snapshot(1));
    let status = Arc::new(Status::default());
    status.has_snapshot.store(true, Ordering::Relaxed);
    let (kept, shown) = (Arc::clone(&store), Arc::clone(&status));
    let keeper = Keeper::start(kept, Some(state), shown, false).unwrap();
    let until = |what: &str, condition: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let written = || status.snapshots_written.load(Ordering::Relaxed);
    until("the first is written", &|| written() == 1);
    full.store(true, Ordering::Relaxed);
    store.swap(snapshot(2));
    until("the failure is counted", &|| status.snapshot_errors.load(Ordering::Relaxed) >= 1);
    assert_eq!((store.load().position().sequence, written()), (2, 1));
    full.store(false, Ordering::Relaxed);
    until("it is written once there is room", &|| written() == 2);
    keeper.stop();
    assert_eq!(found(folder.path()), (Some(2), 0));
}

/// It rests while it is written, and is told meanwhile that all is to end.
#[test]
fn p1_a_stop_while_it_is_written_waits_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (began, is_written) = mpsc::channel();
    let disk = Disk::watched(move |operation| {
        if let Operation::Write(_) = operation {
            let _ = began.send(());
            // As a slow disk: the longest rest follows.
            std::thread::sleep(Duration::from_millis(50));
        }
        Verdict::Go
    });
    let state = open_state(&disk, folder.path(), Origin::Feed);
    let status = Arc::new(Status::default());
    status.has_snapshot.store(true, Ordering::Relaxed);
    let keeper = Keeper::start(Store::new(snapshot(1)), Some(state), status, false).unwrap();
    is_written.recv_timeout(Duration::from_secs(60)).unwrap();
    let (ended, has_ended) = mpsc::channel();
    std::thread::spawn(move || {
        keeper.stop();
        let _ = ended.send(());
    });
    has_ended.recv_timeout(Duration::from_secs(60)).expect("the stop comes to its end");
    assert_eq!(found(folder.path()), (Some(1), 0));
}
