//! P1: the local snapshot holds what was served, two are kept, and nothing damaged is ever served.

use std::path::Path;

use godwit_dataplane::state::disk::Disk;
use godwit_dataplane::state::{Origin, State};
use godwit_engine::snapshot::{Position, Snapshot};
use godwit_wire::feed::ZoneChangeKind;
use godwit_wire::rr::Rtype;

use super::snapshots::{address, change_set, open_state, options, rrset, update, whole};

fn snapshot(octet: u8) -> Snapshot {
    let zones = vec![
        whole("a.test", 1, [192, 0, 2, octet]),
        whole("b.test", 1, [192, 0, 2, 2]),
        whole("c.test", 1, [192, 0, 2, 3]),
    ];
    let position = Position { generation: 3, epoch: 2, sequence: u64::from(octet), chain: [octet; 32] };
    Snapshot::empty(&options()).apply(&change_set(zones)).unwrap().with_position(position)
}

fn open(folder: &Path) -> State {
    open_state(&Disk::default(), folder, Origin::Feed)
}

/// What is found, by the address of `a.test`, and how many files were damaged.
fn load(folder: &Path) -> (Option<u8>, usize) {
    let mut damaged = 0;
    let found = open(folder).load(&options(), |_, _| damaged += 1);
    (found.and_then(|found| address(&found.snapshot, "a.test")).map(|address| address[3]), damaged)
}

#[test]
fn p1_what_was_saved_is_found_and_the_one_before_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(load(folder.path()), (None, 0));
    let mut state = open(folder.path());
    let first = snapshot(1);
    assert!(state.save(&first, 77).unwrap());
    let second = first.apply(&change_set(vec![update("a.test", 1, [192, 0, 2, 9])])).unwrap();
    assert!(state.save(&second, 78).unwrap());
    drop(state);

    let found =
        open(folder.path()).load(&options(), |path, error| panic!("{}: {error}", path.display())).unwrap();
    assert_eq!((found.snapshot.position(), found.current_at_us), (second.position(), 78));
    assert_eq!(found.snapshot.root_digest(), second.root_digest());
    assert_eq!(found.snapshot.recompute_digest(), second.root_digest());
    assert_eq!(found.snapshot.zones().map(|zone| zone.version()).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!(load(folder.path()), (Some(9), 0));
    std::fs::remove_file(folder.path().join("current.snapshot")).unwrap();
    assert_eq!(load(folder.path()), (Some(1), 0));
}

#[test]
fn p1_a_damaged_snapshot_never_takes_the_place_of_the_one_that_stood_in_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = open(folder.path());
    state.save(&snapshot(1), 1).unwrap();
    state.save(&snapshot(9), 2).unwrap();
    drop(state);
    let current = folder.path().join("current.snapshot");
    std::fs::write(&current, b"damaged").unwrap();
    let mut state = open(folder.path());
    let found = state.load(&options(), |_, _| ()).unwrap();
    assert_eq!(found.snapshot.position(), snapshot(1).position());
    state.save(&snapshot(20), 3).unwrap();
    drop(state);
    assert_eq!(load(folder.path()), (Some(20), 0));
    // As if we had been ended between the two renames of saving: what is left is what we had started from.
    std::fs::remove_file(&current).unwrap();
    assert_eq!(load(folder.path()), (Some(1), 0));
    // One that was found whole is kept as before, and so is one that nobody had read.
    std::fs::write(&current, b"damaged").unwrap();
    let mut state = open(folder.path());
    state.save(&snapshot(30), 4).unwrap();
    state.save(&snapshot(31), 5).unwrap();
    drop(state);
    let mut state = open(folder.path());
    state.save(&snapshot(32), 6).unwrap();
    drop(state);
    std::fs::remove_file(&current).unwrap();
    assert_eq!(load(folder.path()), (Some(31), 0));
}

#[test]
fn p6_that_changes_are_missing_is_kept_and_older_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = open(folder.path());
    state.save(&snapshot(1).with_lacks_changes(true), 1).unwrap();
    drop(state);
    let found = open(folder.path()).load(&options(), |_, error| panic!("{error:#}")).unwrap();
    assert!(found.snapshot.lacks_changes());
    let current = folder.path().join("current.snapshot");
    let octets = std::fs::read(&current).unwrap();
    for (version, flags, expected) in [(1, 0, Some(false)), (2, 0, Some(false)), (2, 2, None), (3, 0, None)] {
        let mut octets = octets.clone();
        (octets[9], octets[11]) = (version, flags);
        let checksum = blake3::hash(&octets[..HEADER_OCTETS - 32]);
        octets[HEADER_OCTETS - 32..HEADER_OCTETS].copy_from_slice(checksum.as_bytes());
        std::fs::write(&current, octets).unwrap();
        let found = open(folder.path()).load(&options(), |_, _| ());
        assert_eq!(
            found.map(|found| found.snapshot.lacks_changes()),
            expected,
            "version {version}, flags {flags}"
        );
    }
}

/// Octets of the header with its checksum.
const HEADER_OCTETS: usize = 148;

#[test]
fn p5_zones_of_another_time_are_found_out_by_the_root_digest() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = open(folder.path());
    state.save(&snapshot(1), 1).unwrap();
    state.save(&snapshot(9), 2).unwrap();
    drop(state);
    // Every checksum fits: the header of one, the zones of the other.
    let [current, previous] = ["current.snapshot", "previous.snapshot"].map(|name| folder.path().join(name));
    let (new, old) = (std::fs::read(&current).unwrap(), std::fs::read(&previous).unwrap());
    std::fs::write(&current, [&new[..HEADER_OCTETS], &old[HEADER_OCTETS..]].concat()).unwrap();
    assert_eq!(load(folder.path()), (Some(1), 1));
}

#[test]
fn a_folder_belongs_to_one_process_and_its_key_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = State::open(folder.path(), Origin::ZoneFiles, false).unwrap();
    let key = state.digest_key(None).unwrap().0;
    let error = State::open(folder.path(), Origin::ZoneFiles, false).unwrap_err();
    assert!(error.to_string().contains("used by another process"), "{error}");
    // At a handover both have it for a while; the new one writes when the old one has ended.
    let mut next = State::open(folder.path(), Origin::ZoneFiles, true).unwrap();
    assert_eq!(next.digest_key(None).unwrap().0, key);
    assert!(!next.save(&snapshot(1), 1).unwrap());
    drop(state);
    assert!(next.save(&snapshot(1), 1).unwrap());
    std::fs::write(folder.path().join("digest.key"), [0; 31]).unwrap();
    assert!(next.digest_key(None).unwrap_err().to_string().contains("expected 32 octets, found 31"));
}

#[test]
fn p1_a_zone_of_many_parts_is_found_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut zone = whole("large.test", 4, [192, 0, 2, 1]);
    let ZoneChangeKind::Replace(records) = &mut zone.kind else { unreachable!() };
    // Some 3 MB, which is several parts; sets of one owner name stand on both sides of their borders.
    for number in 0..20_000 {
        let owner = format!("name{number}.large.test");
        records.push(rrset(&owner, Rtype::A, &[192, 0, 2, 1]));
        records.push(rrset(&owner, Rtype::TXT, &[&[150][..], &[b'x'; 150]].concat()));
    }
    let snapshot = Snapshot::empty(&options()).apply(&change_set(vec![zone])).unwrap();
    let mut state = open(folder.path());
    assert!(state.save(&snapshot, 1).unwrap());
    drop(state);
    let found =
        open(folder.path()).load(&options(), |path, error| panic!("{}: {error:#}", path.display())).unwrap();
    assert_eq!(found.snapshot.root_digest(), snapshot.root_digest());
    assert_eq!(found.snapshot.name_count(), snapshot.name_count());
}
