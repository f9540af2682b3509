//! Change sets applied to a snapshot: refused as a whole, or the next snapshot holds together and its digest, kept up by
//! adding and subtracting, is that of its records.

use std::sync::OnceLock;

use godwit_engine::snapshot::Snapshot;
use godwit_wire::feed::ChangeSet;

use crate::{Target, samples, zones};

fn snapshot() -> &'static Snapshot {
    static SNAPSHOT: OnceLock<Snapshot> = OnceLock::new();
    SNAPSHOT.get_or_init(zones::small)
}

/// Checks the properties.
pub fn run(data: &[u8]) {
    let Ok(change_set) = ChangeSet::decode(data) else { return };
    let before = snapshot();
    let digest = before.root_digest();
    if let Ok(next) = before.apply(&change_set) {
        assert_eq!(next.recompute_digest(), next.root_digest(), "the digest is not that of the records");
        assert_eq!(next.check(), Ok(()));
    }
    assert_eq!(before.root_digest(), digest, "a snapshot changed");
}

pub(crate) fn target() -> Target {
    Target {
        name: "apply",
        run,
        classes: samples::change_set_classes(),
        classify: |data| match ChangeSet::decode(data) {
            Ok(change_set) if snapshot().apply(&change_set).is_ok() => samples::classes_of(&change_set),
            _ => Vec::new(),
        },
        seeds: || (crate::change_set::target().seeds)(),
    }
}
