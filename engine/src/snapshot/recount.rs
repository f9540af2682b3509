//! Digests worked out anew from the records themselves, piece by piece: kept digests are brought on by differences, and say
//! nothing of what happens to the records in memory afterwards.

use godwit_wire::feed::digest::{self, Digest, DigestKey};
use godwit_wire::name::{Name, NameRef};

use super::derive::{self, DigestScratch};
use super::load::LoadedZone;
use super::snapshot::Snapshot;
use super::zone::{Zone, ZoneView};

impl<'s> ZoneView<'s> {
    /// The digest of each name's records, worked out anew. Their sum is [`ZoneView::digest`], or the records are not what they
    /// were when they came. Cost: as far as it is driven.
    pub fn recount(&self, key: &'s DigestKey) -> impl Iterator<Item = Digest> + use<'s> {
        let (apex, zone): (_, &'s Zone) = (self.apex, self.zone);
        let mut scratch = DigestScratch::default();
        let nodes = std::iter::once(apex).chain(zone.order.iter());
        nodes.map(move |node| derive::node_digest(key, node, &mut scratch))
    }

    /// What it adds to [`Snapshot::root_digest`], by the digest that is kept of it.
    #[must_use]
    pub fn term(&self, key: &DigestKey) -> Digest {
        digest::zone_term(key, self.apex(), self.version(), self.digest())
    }
}

impl Snapshot {
    /// The zones behind an apex, or all of them, in canonical order.
    pub fn zones_behind(&self, apex: Option<&Name>) -> impl Iterator<Item = ZoneView<'_>> {
        let root = Name::root();
        let from = self.zones.range_from(apex.unwrap_or(&root).as_ref());
        let skipped = usize::from(apex.is_some_and(|apex| self.zones.get(apex.as_ref()).is_some()));
        from.skip(skipped).filter_map(|apex| self.zone(apex.name()))
    }

    /// The same zones, and a root digest that is the sum over those that are there. Cost: all zones.
    #[must_use]
    pub fn with_root_recounted(mut self) -> Snapshot {
        let mut root = Digest::default();
        for zone in self.zones() {
            root.add(zone.term(&self.digest_key));
        }
        self.root_digest = root;
        self
    }

    /// As if memory had failed: the zone has other records, and all that is kept of it says what it said. For tests alone.
    #[doc(hidden)]
    #[must_use]
    pub fn spoiled(&self, zone: LoadedZone) -> Snapshot {
        let apex = zone.apex().to_owned();
        let Some(view) = self.zone(apex.as_ref()) else { return self.clone() };
        let (version, digest) = (view.version(), view.digest());
        let mut next =
            self.remove_zones(std::slice::from_ref(&apex)).replace_zones(vec![zone.with_version(version)]);
        if let Some(node) = next.names.get(apex.as_ref().as_wire()).cloned()
            && let Some(zone) = node.zone()
        {
            next.set_zone(&node, Zone { digest, ..Zone::clone(zone) });
        }
        next
    }

    /// As if memory had failed: the zone is gone, and all that is kept of the whole says what it said. For tests alone.
    #[doc(hidden)]
    #[must_use]
    pub fn bereft(&self, apex: NameRef<'_>) -> Snapshot {
        let mut next = self.remove_zones(&[apex.to_owned()]);
        next.root_digest = self.root_digest;
        next
    }
}
