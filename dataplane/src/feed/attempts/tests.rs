use super::*;

/// A process that ends while it applies: its note stays.
fn crash(attempts: &Attempts, unit: &Unit) {
    attempts.record().note(unit);
}

fn open(folder: &Path) -> Attempts {
    Attempts::open(folder, false)
}

fn sequences(first: u64, last: u64) -> Unit {
    Unit::Sequences { generation: 1, first, last }
}

#[test]
fn r6_a_batch_is_narrowed_down_and_its_poison_refused_after_two_crashes() {
    let folder = tempfile::tempdir().unwrap();
    crash(&open(folder.path()), &sequences(5, 10));
    let attempts = open(folder.path());
    assert!(
        attempts.is_suspect(1, 5, 10) && attempts.is_suspect(1, 10, 12) && !attempts.is_suspect(1, 11, 12)
    );
    assert!(!attempts.is_suspect(2, 5, 10), "of another history");
    assert_eq!(attempts.is_refused(1, 7), None);
    drop(attempts.sequences(1, 5, 6, 0));
    crash(&attempts, &sequences(7, 7));
    for _ in 0..2 {
        let attempts = open(folder.path());
        assert_eq!((attempts.is_refused(1, 7), attempts.is_refused(1, 8)), (Some(2), None));
        // From an earlier snapshot it comes once more.
        attempts.passed(1, 5, 10);
        assert!(attempts.is_suspect(1, 5, 10) && !attempts.is_suspect(1, 8, 10));
    }
}

#[test]
fn r6_what_was_applied_leaves_nothing_and_a_crash_that_had_another_reason_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let attempts = open(folder.path());
    drop(attempts.sequences(1, 1, 4, 0));
    drop(attempts);
    let attempts = open(folder.path());
    assert!(!attempts.is_suspect(1, 1, 4));
    crash(&attempts, &sequences(5, 5));
    open(folder.path()).passed(1, 5, 5);
    crash(&open(folder.path()), &sequences(5, 5));
    assert_eq!(open(folder.path()).is_refused(1, 5), None, "killed twice, with success between");
    // The process before us at a handover lives, and works.
    let before = open(folder.path());
    before.record().note(&sequences(9, 9));
    assert!(!Attempts::open(folder.path(), true).is_suspect(1, 9, 9));
}

#[test]
fn r6_a_frozen_zone_is_tried_at_a_later_version_after_a_pause() {
    let folder = tempfile::tempdir().unwrap();
    let zone: Name = "a.test.".parse().unwrap();
    let at = |version| Unit::Zone { zone: zone.clone(), version };
    let take = |attempts: &Attempts, version| {
        attempts.zone(&zone, version, 0, || Ok::<_, crate::feed::whole::Unfit>(())).is_ok()
    };
    crash(&open(folder.path()), &at(3));
    assert_eq!(open(folder.path()).frozen(), 0);
    crash(&open(folder.path()), &at(3));
    let attempts = open(folder.path());
    assert_eq!(attempts.frozen(), 1);
    assert!(!take(&attempts, 3) && !take(&attempts, 4), "not yet");
    let past = |attempts: &Attempts, crashes| {
        let frozen = Frozen { version: 3, crashes, at_us: now_us() - 1_000_000 * 1_000 };
        attempts.record().thaw(&zone);
        attempts.record().freeze(&zone, frozen);
    };
    past(&attempts, 3);
    assert!(!take(&attempts, 4), "1000 s are no hour");
    past(&attempts, 2);
    assert!(!take(&attempts, 3), "the same would come of it");
    // One that ends the process too costs one process, not two.
    crash(&attempts, &at(4));
    let attempts = open(folder.path());
    assert_eq!(attempts.record().frozen()[&zone].version, 4);
    assert_eq!(attempts.record().frozen()[&zone].crashes, 3);
    past(&attempts, 2);
    assert!(take(&attempts, 5));
    assert_eq!((attempts.frozen(), open(folder.path()).frozen()), (0, 0));
}

/// A process that ends while zones are put in together costs nothing but that they come one by one, until all of them came.
#[test]
fn r6_zones_that_ended_a_process_together_are_tried_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let zone: Name = "a.test.".parse().unwrap();
    let attempts = open(folder.path());
    drop(attempts.one_of_zones(&zone, 3, 0));
    drop(attempts.zones(0));
    drop(attempts);
    assert!(open(folder.path()).is_free(&zone, 3));
    for _ in 0..5 {
        crash(&open(folder.path()), &Unit::Zones);
    }
    let attempts = open(folder.path());
    assert_eq!((attempts.is_free(&zone, 3), attempts.frozen()), (false, 0));
    attempts.zones_passed();
    drop(attempts);
    assert!(open(folder.path()).is_free(&zone, 3));
    // While it is read it is known which it is.
    crash(&open(folder.path()), &Unit::Zone { zone: zone.clone(), version: 3 });
    let attempts = open(folder.path());
    assert!(!attempts.is_free(&zone, 3) && attempts.is_free(&"b.test.".parse().unwrap(), 3));
    crash(&attempts, &Unit::Zone { zone: zone.clone(), version: 3 });
    let attempts = open(folder.path());
    assert_eq!(attempts.frozen(), 1);
    assert!(!attempts.is_free(&zone, 4), "whether it is time shows when it is tried alone");
}

#[test]
fn a_damaged_record_is_no_reason_not_to_start() {
    let folder = tempfile::tempdir().unwrap();
    for text in [
        "",
        "crashed",
        "crashed 1 zones x",
        "crashed x sequences 1 2 3\nfrozen 2 1 1 a.test.\n",
        "frozen 1 1 1 a..b\n\u{0}\n",
    ] {
        std::fs::write(folder.path().join("crashes"), text).unwrap();
        for note in [&b"zone 1"[..], b"0 sequences 1 2", b"x zone 1 a.test.\n", b"\xff\xff", b""] {
            std::fs::write(folder.path().join("applying"), note).unwrap();
            assert_eq!(open(folder.path()).frozen(), usize::from(text.contains("frozen 2")), "{text:?}");
        }
    }
}

/// A disk that takes nothing new has room for the note, which says how often it was.
#[test]
fn r6_two_crashes_are_counted_where_only_the_note_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    std::fs::create_dir(folder.path().join("crashes")).unwrap();
    crash(&open(folder.path()), &sequences(7, 7));
    crash(&open(folder.path()), &sequences(7, 7));
    assert_eq!(open(folder.path()).is_refused(1, 7), Some(2));
}
