//! Zones that are known to be here and have no data. Their names are answered from no other zone (docs/answers.md §4).

use godwit_wire::name::{Name, NameRef};

use super::lookup::skip_labels;

/// Their apexes. One that the snapshot holds is none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WithoutData {
    /// In the order of their octets.
    apexes: Box<[Name]>,
    /// None has more labels: what a name has beyond that is not looked at, however long names are that strangers make up.
    most_labels: usize,
}

impl WithoutData {
    /// In any order.
    #[must_use]
    pub fn new(apexes: impl IntoIterator<Item = Name>) -> Self {
        let mut apexes: Vec<Name> = apexes.into_iter().collect();
        apexes.sort_unstable_by(|one, other| one.as_wire().cmp(other.as_wire()));
        apexes.dedup();
        let most_labels = apexes.iter().map(|apex| apex.as_ref().label_count()).max().unwrap_or(0);
        WithoutData { apexes: apexes.into(), most_labels }
    }

    /// The apexes, each once.
    #[must_use]
    pub fn apexes(&self) -> &[Name] {
        &self.apexes
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.apexes.is_empty()
    }

    /// Whether this is the apex of one.
    pub(super) fn has(&self, apex: NameRef<'_>) -> bool {
        self.apexes.binary_search_by(|other| other.as_wire().cmp(apex.as_wire())).is_ok()
    }

    /// The octets of the longest apex at or above a name.
    pub(super) fn nearest_octets(&self, name: NameRef<'_>) -> Option<usize> {
        let mut next = Some(skip_labels(name, name.label_count(), self.most_labels));
        while let Some(name) = next {
            if self.has(name) {
                return Some(name.as_wire().len());
            }
            next = name.parent();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_apex_above_a_name_is_found() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let some = WithoutData::new(["b.a.", "c.b.a.", "x.", "b.a."].map(name));
        for (text, apex) in [
            ("b.a.", Some("b.a.")),
            ("y.b.a.", Some("b.a.")),
            ("c.b.a.", Some("c.b.a.")),
            ("1.2.3.4.c.b.a.", Some("c.b.a.")),
            ("a.", None),
            ("xb.a.", None),
            (".", None),
            ("x.", Some("x.")),
        ] {
            let found = some.nearest_octets(name(text).as_ref());
            assert_eq!(found, apex.map(|apex| name(apex).as_wire().len()), "{text}");
        }
        assert!(WithoutData::new([]).nearest_octets(name("a.").as_ref()).is_none());
        let root = WithoutData::new([Name::root()]);
        assert_eq!(root.nearest_octets(name("a.b.").as_ref()), Some(1));
    }
}
