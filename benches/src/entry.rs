//! An entry like the store's: one allocation behind a thin pointer, the name in front of the data.

use std::hash::{Hash, Hasher};

use godwit_engine::snapshot::index::Keyed;
use godwit_engine::snapshot::prefetch::prefetch_lines;
use triomphe::ThinArc;

/// Octets of data behind the name, about those of one address record's image.
const DATA_OCTETS: usize = 24;

/// What a lookup finds: a name of 18 to 34 octets and a little data, some 70 octets with the counts.
#[derive(Clone)]
pub struct Entry(ThinArc<u8, u8>);

impl Entry {
    /// An entry for a lower-case wire name.
    ///
    /// # Panics
    /// When the name is longer than 255 octets.
    #[must_use]
    pub fn new(name: &[u8], data: u8) -> Self {
        let name_len = u8::try_from(name.len()).expect("a name has at most 255 octets");
        let mut octets = Vec::with_capacity(name.len() + DATA_OCTETS);
        octets.extend_from_slice(name);
        octets.resize(name.len() + DATA_OCTETS, data);
        Entry(ThinArc::from_header_and_slice(name_len, &octets))
    }

    /// The first octet of the data: reading it makes sure the entry was really reached.
    #[inline]
    #[must_use]
    pub fn data(&self) -> u8 {
        self.0.slice.get(usize::from(self.0.header.header)).copied().unwrap_or_default()
    }
}

impl Keyed for Entry {
    #[inline]
    fn key(&self) -> &[u8] {
        self.0.slice.get(..usize::from(self.0.header.header)).unwrap_or_default()
    }

    #[inline]
    fn prefetch(&self) {
        prefetch_lines(self.0.heap_ptr().cast(), 2);
    }
}

/// The entry as a key of other maps: hashed and compared by its name.
#[derive(Clone)]
pub struct ByName(pub Entry);

impl std::borrow::Borrow<[u8]> for ByName {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByName {}
