//! The zones of a snapshot in parts, for whoever compares it with another store by what each part adds up to.

use godwit_wire::feed::{PartSums, Parts};

use super::snapshot::Snapshot;
use super::zone::ZoneView;

/// A snapshot with the part of each of its zones.
pub struct Parted {
    snapshot: Snapshot,
    sums: PartSums,
    /// In the order of the zones.
    parts: Vec<u16>,
}

impl Snapshot {
    /// Its zones in parts. Cost: all zones.
    #[must_use]
    pub fn parted(&self) -> Parted {
        let mut sums = PartSums::default();
        let mut parts = Vec::with_capacity(self.zone_count());
        for zone in self.zones() {
            parts.push(sums.add(&self.digest_key, zone.apex(), zone.version(), zone.digest()));
        }
        Parted { snapshot: self.clone(), sums, parts }
    }
}

impl Parted {
    /// What the zones of each part add up to, by the digests that are kept of them.
    #[must_use]
    pub fn sums(&self) -> &PartSums {
        &self.sums
    }

    /// Whether this is of that very snapshot; of one with the same records that was made in another way it need not be.
    #[must_use]
    pub fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.snapshot.names.is_same(&snapshot.names)
    }

    /// The zones of some parts, in canonical order.
    pub fn zones(&self, parts: &Parts) -> impl Iterator<Item = ZoneView<'_>> {
        let meant = self.snapshot.zones.iter().zip(&self.parts).filter(|(_, part)| parts.contains(**part));
        meant.filter_map(|(apex, _)| self.snapshot.zone(apex.name()))
    }
}
