//! Everything that is served at one moment.

use std::collections::HashSet;
use std::sync::Arc;

use godwit_wire::feed::digest::{self, Digest, DigestKey};
use godwit_wire::name::{Name, NameRef};
use godwit_wire::rr::Rtype;

use super::derive::{self, DigestScratch};
use super::index::Index;
use super::load::LoadedZone;
use super::node::{Flags, Node};
use super::order::OrderedSet;
use super::zone::{ApexKey, Zone, ZoneView};

/// The keys of a snapshot's hashes.
#[derive(Clone)]
pub struct SnapshotOptions {
    /// Of the name hash: random in each process, so that nobody can choose names that collide.
    pub hash_key: [u8; 16],
    /// Of the digests: the same on all nodes of a deployment.
    pub digest_key: DigestKey,
}

/// Where in the feed's total order a snapshot stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// The unbroken history that it belongs to.
    pub generation: u64,
    /// The relay's term.
    pub epoch: u64,
    /// The last change set that it contains; 0 before any.
    pub sequence: u64,
    /// The hash chain up to there.
    pub chain: [u8; 32],
}

/// Everything that is served at one moment; never changes.
///
/// Shape: one index of all owner names, each with the node of the zone that answers for it, which is the one with the longest
/// apex at or above it. A zone's other view, ordered, hangs on its apex; it has occluded names and those that a
/// nested zone hides as well.
///
/// Cost: a change copies what it touches and the way there; everything else is shared with the snapshot before.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) names: Index<Node>,
    pub(super) zones: OrderedSet<ApexKey>,
    pub(super) digest_key: DigestKey,
    hash_key: [u8; 16],
    pub(super) root_digest: Digest,
    position: Position,
    /// See [`Snapshot::lacks_changes`].
    lacks_changes: bool,
    /// No name has more labels than this; it never falls.
    max_labels: usize,
}

impl Snapshot {
    /// A snapshot without zones.
    #[must_use]
    pub fn empty(options: &SnapshotOptions) -> Self {
        Snapshot {
            names: Index::new(options.hash_key),
            zones: OrderedSet::new(),
            digest_key: options.digest_key.clone(),
            hash_key: options.hash_key,
            root_digest: Digest::default(),
            position: Position::default(),
            lacks_changes: false,
            max_labels: 0,
        }
    }

    /// Where it stands in the feed.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The same records at another place in the feed.
    #[must_use]
    pub fn with_position(self, position: Position) -> Self {
        Snapshot { position, ..self }
    }

    /// Whether some zone is at an earlier state than the position says.
    #[must_use]
    pub fn lacks_changes(&self) -> bool {
        self.lacks_changes
    }

    /// The same records, with this said about them.
    #[must_use]
    pub fn with_lacks_changes(self, lacks_changes: bool) -> Self {
        Snapshot { lacks_changes, ..self }
    }

    /// What its digests are keyed with.
    #[must_use]
    pub fn digest_key(&self) -> &DigestKey {
        &self.digest_key
    }

    /// How many names it answers for, empty non-terminals included.
    #[must_use]
    pub fn name_count(&self) -> usize {
        self.names.len()
    }

    /// How many zones it has.
    #[must_use]
    pub fn zone_count(&self) -> usize {
        self.zones.len()
    }

    /// The sum of its zones' digests with their versions.
    #[must_use]
    pub fn root_digest(&self) -> Digest {
        self.root_digest
    }

    /// The zone of this very apex.
    #[must_use]
    pub fn zone(&self, apex: NameRef<'_>) -> Option<ZoneView<'_>> {
        self.names.get(apex.as_wire()).and_then(ZoneView::of)
    }

    /// All zones in canonical order of their apexes.
    pub fn zones(&self) -> impl Iterator<Item = ZoneView<'_>> {
        self.zones.iter().filter_map(|apex| self.zone(apex.name()))
    }

    /// The zone with the longest apex at or above a name.
    #[must_use]
    pub fn zone_of(&self, name: NameRef<'_>) -> Option<ZoneView<'_>> {
        let mut next = Some(name);
        while let Some(name) = next {
            if let Some(node) = self.names.get(name.as_wire()) {
                return self.zone(node.apex());
            }
            next = name.parent();
        }
        None
    }

    /// The root digest, worked out anew from the records themselves. Cost: all of them.
    #[must_use]
    pub fn recompute_digest(&self) -> Digest {
        let mut root = Digest::default();
        let mut scratch = DigestScratch::default();
        for view in self.zones() {
            let mut sum = derive::node_digest(&self.digest_key, view.apex, &mut scratch);
            for node in view.zone.order.iter() {
                sum.add(derive::node_digest(&self.digest_key, node, &mut scratch));
            }
            root.add(digest::zone_term(&self.digest_key, view.apex(), view.version(), sum));
        }
        root
    }

    /// The names' index, for look-ups.
    #[inline]
    pub(crate) fn names(&self) -> &Index<Node> {
        &self.names
    }

    /// No name has more labels.
    pub(crate) fn max_labels(&self) -> usize {
        self.max_labels
    }

    /// Adds zones, or replaces those of the same apex by what differs: nodes that are the same are shared, and a zone in which
    /// nothing differs keeps its version.
    ///
    /// **Cost**: zones in canonical order are put into an empty snapshot in one go; otherwise each finds its place.
    #[must_use]
    pub fn replace_zones(&self, zones: Vec<LoadedZone>) -> Snapshot {
        let mut next = self.clone();
        if self.names.is_empty() {
            // Of many names into few, the index is made large enough at once.
            let names = zones.iter().map(LoadedZone::name_count).sum();
            next.names = Index::with_capacity(self.hash_key, names);
            if zones.is_sorted_by(|a, b| a.apex() < b.apex()) {
                next.fill(zones, names);
                return next;
            }
        }
        for zone in zones {
            next.replace_zone(zone);
        }
        next
    }

    /// Takes zones away. Those that are not there make no difference.
    #[must_use]
    pub fn remove_zones(&self, apexes: &[Name]) -> Snapshot {
        let mut next = self.clone();
        for apex in apexes {
            next.remove_zone(apex.as_ref());
        }
        next
    }

    pub(super) fn replace_zone(&mut self, loaded: LoadedZone) {
        let LoadedZone { apex, owner_number, version, nodes } = loaded;
        match self.names.get(apex.name().as_wire()).filter(|node| node.zone().is_some()).cloned() {
            Some(old) => self.replace_existing(&old, &apex, owner_number, version, nodes),
            None => self.add_zone(&apex, owner_number, version.unwrap_or(1), nodes),
        }
    }

    /// Puts zones into a snapshot that has none: in canonical order, with so many names together.
    fn fill(&mut self, zones: Vec<LoadedZone>, names: usize) {
        // All of them first: then no zone has names that one which comes later hides.
        self.zones = OrderedSet::from_sorted(zones.iter().map(|zone| ApexKey::new(zone.apex())).collect());
        let mut answering = Vec::with_capacity(names);
        let mut scratch = DigestScratch::default();
        let mut zones = zones.into_iter().peekable();
        while let Some(LoadedZone { apex, owner_number, version, nodes }) = zones.next() {
            let nested = zones.peek().is_some_and(|next| next.apex().is_below(apex.name()));
            self.gather(&nodes, nested, &mut answering);
            let zone = self.zone_of_nodes(&apex, owner_number, version.unwrap_or(1), nodes, &mut scratch);
            self.count_zone(&apex, &zone);
            answering.push(apex.with_zone(Arc::new(zone)));
        }
        self.names.insert_many(answering.into_iter());
    }

    fn add_zone(&mut self, apex: &Node, owner_number: u32, version: u64, nodes: Vec<Node>) {
        self.hide_from_parent(apex.name());
        let mut answering = Vec::with_capacity(nodes.len());
        self.gather(&nodes, self.has_nested(apex.name()), &mut answering);
        self.names.insert_many(answering.into_iter());
        let zone = self.zone_of_nodes(apex, owner_number, version, nodes, &mut DigestScratch::default());
        self.zones.insert(ApexKey::new(apex.name()));
        self.set_zone(apex, zone);
    }

    /// Of a zone's nodes those that answer for their names.
    fn gather(&mut self, nodes: &[Node], nested: bool, answering: &mut Vec<Node>) {
        for node in nodes {
            self.max_labels = self.max_labels.max(node.name().label_count());
            if self.answers(node, nested) {
                answering.push(node.clone());
            }
        }
    }

    /// The zone of an apex and all its other nodes in canonical order.
    fn zone_of_nodes(
        &self,
        apex: &Node,
        owner_number: u32,
        version: u64,
        nodes: Vec<Node>,
        scratch: &mut DigestScratch,
    ) -> Zone {
        let mut sum = derive::node_digest(&self.digest_key, apex, scratch);
        for node in &nodes {
            sum.add(derive::node_digest(&self.digest_key, node, scratch));
        }
        let parameters = derive::nsec3_parameters(apex);
        Zone {
            owner_number,
            version,
            serial: apex.find(Rtype::SOA).and_then(derive::serial).unwrap_or(0),
            digest: sum,
            nsec: derive::nsec_chain(nodes.iter()),
            nsec3: derive::nsec3_chain(nodes.iter(), parameters.as_ref()),
            nsec3_parameters: parameters,
            order: OrderedSet::from_sorted(nodes),
        }
    }

    fn replace_existing(
        &mut self,
        old: &Node,
        apex: &Node,
        owner_number: u32,
        version: Option<u64>,
        nodes: Vec<Node>,
    ) {
        let Some(old_zone) = old.zone().cloned() else { return };
        let mut zone = Zone::clone(&old_zone);
        let nested = self.has_nested(old.name());
        let mut scratch = DigestScratch::default();
        let mut changed = usize::from(!old.same_content(apex));
        zone.digest.sub(derive::node_digest(&self.digest_key, old, &mut scratch));
        zone.digest.add(derive::node_digest(&self.digest_key, apex, &mut scratch));
        let mut olds = old_zone.order.iter().peekable();
        let mut merged = Vec::with_capacity(nodes.len());
        for node in nodes {
            while let Some(gone) = olds.next_if(|old| old.name() < node.name()) {
                changed += 1;
                self.forget(&mut zone, gone, nested, &mut scratch);
            }
            let before = olds.next_if(|old| old.name() == node.name());
            match before {
                Some(before) if before.same_content(&node) => merged.push(before.clone()),
                before => {
                    changed += 1;
                    if let Some(before) = before {
                        self.forget(&mut zone, before, nested, &mut scratch);
                    }
                    zone.digest.add(derive::node_digest(&self.digest_key, &node, &mut scratch));
                    self.publish(&node, nested);
                    merged.push(node);
                }
            }
        }
        for gone in olds {
            changed += 1;
            self.forget(&mut zone, gone, nested, &mut scratch);
        }
        if changed == 0 && zone.owner_number == owner_number && version.is_none() {
            return;
        }
        zone.owner_number = owner_number;
        zone.version = version.unwrap_or(zone.version.saturating_add(1));
        zone.serial = apex.find(Rtype::SOA).and_then(derive::serial).unwrap_or(0);
        zone.nsec3_parameters = derive::nsec3_parameters(apex);
        zone.nsec = derive::nsec_chain(merged.iter());
        zone.nsec3 = derive::nsec3_chain(merged.iter(), zone.nsec3_parameters.as_ref());
        zone.order = OrderedSet::from_sorted(merged);
        self.set_zone(apex, zone);
    }

    /// Takes a node of a zone out of the digest and the index.
    fn forget(&mut self, zone: &mut Zone, node: &Node, nested: bool, scratch: &mut DigestScratch) {
        zone.digest.sub(derive::node_digest(&self.digest_key, node, scratch));
        self.unpublish(node.name(), node.apex(), nested);
    }

    /// Hangs another state of its zone on an apex, and counts it into the root digest in place of the one before.
    pub(super) fn set_zone(&mut self, apex: &Node, zone: Zone) {
        if let Some(old) = self.zone(apex.name()) {
            self.root_digest.sub(digest::zone_term(
                &self.digest_key,
                apex.name(),
                old.version(),
                old.digest(),
            ));
        }
        self.count_zone(apex, &zone);
        self.names.insert(apex.with_zone(Arc::new(zone)));
    }

    /// Counts a zone into what is known of all.
    fn count_zone(&mut self, apex: &Node, zone: &Zone) {
        self.root_digest.add(digest::zone_term(&self.digest_key, apex.name(), zone.version, zone.digest));
        self.max_labels = self.max_labels.max(apex.name().label_count());
    }

    pub(super) fn remove_zone(&mut self, apex: NameRef<'_>) {
        let Some(node) = self.names.get(apex.as_wire()).filter(|node| node.zone().is_some()).cloned() else {
            return;
        };
        let Some(zone) = node.zone() else { return };
        self.root_digest.sub(digest::zone_term(&self.digest_key, apex, zone.version, zone.digest));
        let nested = self.has_nested(apex);
        for hidden in zone.order.iter() {
            self.unpublish(hidden.name(), apex, nested);
        }
        self.names.remove(apex.as_wire());
        self.zones.remove(apex);
        self.show_in_parent(apex);
    }

    /// Makes a node answer for its name, unless a nested zone does.
    pub(super) fn publish(&mut self, node: &Node, nested: bool) {
        self.max_labels = self.max_labels.max(node.name().label_count());
        if self.answers(node, nested) {
            self.names.insert(node.clone());
        } else {
            self.unpublish(node.name(), node.apex(), nested);
        }
    }

    /// Whether a node answers for its name: a zone nested in its own may do so instead, and an owner of nothing but NSEC3 does
    /// not exist (RFC 5155 §7.2.8), though it may have before.
    fn answers(&self, node: &Node, nested: bool) -> bool {
        !(node.flags().has(Flags::HASH_ONLY) || nested && self.is_hidden(node.name(), node.apex()))
    }

    /// Ends that a zone's node answers for a name, unless a nested zone's node does.
    pub(super) fn unpublish(&mut self, name: NameRef<'_>, apex: NameRef<'_>, nested: bool) {
        if !(nested && self.is_hidden(name, apex)) {
            self.names.remove(name.as_wire());
        }
    }

    /// Whether there are zones below an apex.
    pub(super) fn has_nested(&self, apex: NameRef<'_>) -> bool {
        self.zones.after(apex).is_some_and(|next| next.name().is_below(apex))
    }

    /// Whether a zone that is nested in the one at `apex` has `name`.
    fn is_hidden(&self, name: NameRef<'_>, apex: NameRef<'_>) -> bool {
        let mut next = Some(name);
        while let Some(above) = next
            && above.as_wire().len() > apex.as_wire().len()
        {
            if self.zones.get(above).is_some() {
                return true;
            }
            next = above.parent();
        }
        false
    }

    /// A new zone answers for what the zone around it has at and below its apex.
    fn hide_from_parent(&mut self, apex: NameRef<'_>) {
        for node in self.nodes_of_parent_below(apex) {
            // Hidden already where a zone nested deeper answers.
            if self.names.get(node.name().as_wire()).is_some_and(|there| there.apex() == node.apex()) {
                self.names.remove(node.name().as_wire());
            }
        }
    }

    /// Where a zone is gone, the zone around it answers again.
    fn show_in_parent(&mut self, apex: NameRef<'_>) {
        for node in self.nodes_of_parent_below(apex) {
            self.publish(&node, true);
        }
    }

    /// What the zone around `apex` has at and below it.
    fn nodes_of_parent_below(&self, apex: NameRef<'_>) -> Vec<Node> {
        let Some(parent) = apex.parent().and_then(|name| self.zone_of(name)) else { return Vec::new() };
        parent
            .zone
            .order
            .range_from(apex)
            .take_while(|node| node.name().is_at_or_below(apex))
            .cloned()
            .collect()
    }

    /// Checks what must hold of every snapshot; for tests. Cost: all names.
    ///
    /// # Errors
    /// A sentence that names what does not hold.
    pub fn check(&self) -> Result<(), String> {
        let mut answering = HashSet::new();
        for view in self.zones() {
            for node in std::iter::once(view.apex).chain(view.zone.order.iter()) {
                let hidden = node.apex_at() > 0 && self.is_hidden(node.name(), view.apex());
                let there = self.names.get(node.name().as_wire());
                let mine = there.is_some_and(|there| there.apex() == view.apex());
                let expected = !hidden && !node.flags().has(Flags::HASH_ONLY);
                if mine != expected {
                    return Err(format!(
                        "{} of {}: in the index {mine}, expected {expected}",
                        node.name(),
                        view.apex()
                    ));
                }
                if mine {
                    answering.insert(node.name().to_owned());
                    if !there.is_some_and(|there| there.same_content(node)) {
                        return Err(format!("{}: index and order differ", node.name()));
                    }
                }
                if node.name().label_count() > self.max_labels {
                    return Err(format!("{}: more labels than any name has", node.name()));
                }
            }
        }
        if answering.len() != self.names.len() {
            return Err(format!("{} names in the index, {} in zones", self.names.len(), answering.len()));
        }
        if self.recompute_digest() != self.root_digest {
            return Err("the digest is not that of the records".into());
        }
        Ok(())
    }
}
