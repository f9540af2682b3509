//! The algorithm of RFC 1034 §4.3.2 as RFC 4592 and RFC 6672 have it: a name → what of a zone it meets.
//!
//! Flags on nodes say what a walk from the apex would find, so the walk is not made: an occluded name only has to find the
//! cut or DNAME above it. Writes nothing.

use godwit_wire::name::{MAX_NAME_OCTETS, NameRef};

use crate::snapshot::node::{Flags, Node};
use crate::snapshot::{Snapshot, ZoneView};

/// The longest name at or above another that exists, with the hash that it was found by.
#[derive(Clone, Copy)]
pub(super) struct Closest<'s> {
    pub(super) node: &'s Node,
    /// That of the index, keyed per process.
    pub(super) hash: u64,
}

/// What a name meets.
#[derive(Clone, Copy)]
pub(super) enum Match<'s> {
    /// It is in no zone held.
    OutOfZone,
    /// It is at or below this zone cut (RFC 1034 §4.3.2 step 3b).
    Cut(&'s Node),
    /// It is below this DNAME (RFC 6672 §3.2).
    Dname(&'s Node),
    /// It exists, perhaps without data (step 3a).
    Exact(&'s Node),
    /// It does not exist, and this wildcard is its source of synthesis (RFC 4592 §3.3).
    Wildcard {
        /// The `*` name.
        source: &'s Node,
    },
    /// It does not exist; this is its closest encloser.
    NxDomain {
        /// The longest name above it that exists.
        encloser: &'s Node,
    },
}

impl<'s> Match<'s> {
    /// The node that says what zone it was made in.
    pub(super) fn node(&self) -> Option<&'s Node> {
        match *self {
            Match::OutOfZone => None,
            Match::Cut(node) | Match::Dname(node) | Match::Exact(node) => Some(node),
            Match::Wildcard { source } => Some(source),
            Match::NxDomain { encloser } => Some(encloser),
        }
    }
}

/// Where names are looked for: in everything that is held, or in one zone alone, whatever is nested in it.
#[derive(Clone, Copy)]
pub(super) enum Place<'s> {
    /// In every zone: each name answers from the zone nearest to it.
    Everywhere(&'s Snapshot),
    /// In this zone: for what only the parent side of a cut knows.
    Zone(ZoneView<'s>),
}

impl<'s> Place<'s> {
    fn get(self, name: NameRef<'_>) -> Option<&'s Node> {
        match self {
            Place::Everywhere(snapshot) => snapshot.names().get(name.as_wire()),
            Place::Zone(view) if name == view.apex() => Some(view.apex),
            Place::Zone(view) => view.zone.get(name).filter(|node| !node.flags().has(Flags::HASH_ONLY)),
        }
    }

    /// The longest name at or above `name` that exists.
    pub(super) fn closest(self, name: NameRef<'_>) -> Option<&'s Node> {
        let mut next = Some(match self {
            Place::Everywhere(snapshot) => skip_labels(name, name.label_count(), snapshot.max_labels()),
            Place::Zone(_) => name,
        });
        while let Some(name) = next {
            if let Some(node) = self.get(name) {
                return Some(node);
            }
            next = name.parent();
        }
        None
    }

    pub(super) fn find(self, name: NameRef<'_>) -> Match<'s> {
        self.classify(name, self.closest(name))
    }

    /// What `name` meets, given the longest name at or above it that exists.
    #[inline]
    pub(super) fn classify(self, name: NameRef<'_>, closest: Option<&'s Node>) -> Match<'s> {
        let Some(node) = closest else { return Match::OutOfZone };
        let flags = node.flags();
        if flags.has(Flags::OCCLUDED) {
            return self.above_occluded(node.name());
        }
        if node.name().as_wire().len() == name.as_wire().len() {
            return if flags.has(Flags::CUT) { Match::Cut(node) } else { Match::Exact(node) };
        }
        if flags.has(Flags::CUT) {
            return Match::Cut(node);
        }
        if flags.has(Flags::DNAME) {
            return Match::Dname(node);
        }
        if flags.has(Flags::WILDCARD_CHILD)
            && let Some(source) = self.wildcard(node.name())
            // A zone whose apex is that very wildcard name is nested here, and synthesises nothing.
            && source.apex() == node.apex()
        {
            return Match::Wildcard { source };
        }
        Match::NxDomain { encloser: node }
    }

    /// The cut or DNAME that occludes a name: the first above that is not occluded itself.
    #[cold]
    fn above_occluded(self, name: NameRef<'_>) -> Match<'s> {
        let mut next = name.parent();
        while let Some(name) = next {
            match self.get(name) {
                Some(node) if !node.flags().has(Flags::OCCLUDED) => {
                    return if node.flags().has(Flags::CUT) { Match::Cut(node) } else { Match::Dname(node) };
                }
                _ => next = name.parent(),
            }
        }
        Match::OutOfZone
    }

    fn wildcard(self, encloser: NameRef<'_>) -> Option<&'s Node> {
        let mut name = [0u8; MAX_NAME_OCTETS + 2];
        let end = encloser.as_wire().len() + 2;
        let (star, rest) = name.get_mut(..end)?.split_at_mut_checked(2)?;
        star.copy_from_slice(&[1, b'*']);
        rest.copy_from_slice(encloser.as_wire());
        self.get(NameRef::from_checked(name.get(..end.min(MAX_NAME_OCTETS))?))
    }
}

/// What `name`, whose hash in the index is known, meets in all zones.
pub(super) fn find_hashed<'s>(snapshot: &'s Snapshot, name: NameRef<'_>, hash: u64) -> Match<'s> {
    let place = Place::Everywhere(snapshot);
    let exact = snapshot.names().get_hashed(hash, name.as_wire());
    place.classify(name, exact.or_else(|| place.closest(name.parent()?)))
}

/// The name without the labels that it has more than any name held: nothing there can exist.
#[inline]
pub(super) fn skip_labels(name: NameRef<'_>, labels: usize, most: usize) -> NameRef<'_> {
    let mut name = name;
    for _ in most..labels {
        match name.parent() {
            Some(parent) => name = parent,
            None => break,
        }
    }
    name
}
