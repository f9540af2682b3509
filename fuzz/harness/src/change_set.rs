//! Change sets: any octets give a value or an error, and a value has one encoding.

use godwit_wire::feed::ChangeSet;

use crate::{Target, samples};

/// Checks the properties.
pub fn run(data: &[u8]) {
    if let Ok(change_set) = ChangeSet::decode(data) {
        let again = samples::octets(|out| change_set.encode(out));
        assert_eq!(again, data, "accepted octets that are written differently");
    }
}

pub(crate) fn target() -> Target {
    Target {
        name: "change_set",
        run,
        classes: samples::change_set_classes(),
        classify: |data| ChangeSet::decode(data).map(|value| samples::classes_of(&value)).unwrap_or_default(),
        seeds: || {
            let sets = samples::change_sets().into_iter();
            sets.map(|(class, set)| (class.to_owned(), samples::octets(|out| set.encode(out)))).collect()
        },
    }
}
