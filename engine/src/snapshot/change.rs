//! A change set and a snapshot → the next snapshot: whole or not at all.
//!
//! An update goes in two steps. First every RRset is put or deleted, with empty non-terminals made and taken away.
//! Then the nodes whose flags or prepared answers the change can have touched are made anew: the names themselves, parents of
//! wildcards, cuts above glue, and what lies below a cut or a DNAME that came or went.

use std::collections::{BTreeMap, BTreeSet};

use godwit_wire::feed::{ChangeSet, OwnedRrset, RrsetChange, ZoneChange, ZoneChangeKind};
use godwit_wire::image;
use godwit_wire::name::{Name, NameRef};
use godwit_wire::rdata::{self, RdataError};
use godwit_wire::rr::{Rrset, Rtype};

use super::derive::{self, DigestScratch};
use super::load::{LoadFault, ZoneLoader, beside_cname};
use super::node::{Flags, Node, NodeBuilder};
use super::order::OrderedSet;
use super::snapshot::Snapshot;
use super::zone::Zone;

/// Why a change set cannot be applied. The snapshot is as it was.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("zone {zone}: {reason}")]
pub struct ApplyError {
    /// The zone at fault.
    pub zone: Name,
    /// What is wrong.
    pub reason: ApplyFault,
}

/// See [`ApplyError`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ApplyFault {
    /// The zone has another version than the change was made for.
    #[error("change is for version {expected}, the zone has version {actual} (0: no such zone)")]
    BaseVersion {
        /// The version that the change was made for.
        expected: u64,
        /// The version that is there; 0 without the zone.
        actual: u64,
    },
    /// The new version is not above the old one.
    #[error("version {0} does not follow its base version")]
    Version(u64),
    /// An RRset without records.
    #[error("{owner} {rtype}: RRset without records")]
    EmptyRrset {
        /// Its owner.
        owner: Name,
        /// Its type.
        rtype: Rtype,
    },
    /// The records do not make a zone.
    #[error("{owner}: {fault}")]
    Records {
        /// The owner name in question.
        owner: Name,
        /// What is wrong there.
        fault: LoadFault,
    },
}

impl Snapshot {
    /// The snapshot with a change set applied: all of it, or none.
    ///
    /// Its position is unchanged: whoever reads the feed knows it, see [`Snapshot::with_position`].
    ///
    /// # Errors
    /// [`ApplyError`]; nothing is changed then.
    pub fn apply(&self, change_set: &ChangeSet) -> Result<Snapshot, ApplyError> {
        let mut next = self.clone();
        for change in &change_set.zones {
            next.apply_zone(change).map_err(|reason| ApplyError { zone: change.zone.clone(), reason })?;
        }
        Ok(next)
    }

    fn apply_zone(&mut self, change: &ZoneChange) -> Result<(), ApplyFault> {
        let apex = change.zone.as_ref();
        let actual = self.zone(apex).map_or(0, |zone| zone.version());
        if actual != change.base_version {
            return Err(ApplyFault::BaseVersion { expected: change.base_version, actual });
        }
        if change.version <= change.base_version {
            return Err(ApplyFault::Version(change.version));
        }
        match &change.kind {
            ZoneChangeKind::Remove => self.remove_zone(apex),
            ZoneChangeKind::Replace(rrsets) => self.load(change, rrsets.iter())?,
            ZoneChangeKind::Update(changes) if change.base_version == 0 => {
                let rrsets = changes.iter().filter_map(|change| match change {
                    RrsetChange::Put(rrset) => Some(rrset),
                    RrsetChange::Delete { .. } => None,
                });
                self.load(change, rrsets)?;
            }
            ZoneChangeKind::Update(changes) => self.update(change, changes)?,
        }
        Ok(())
    }

    fn load<'c>(
        &mut self,
        change: &ZoneChange,
        rrsets: impl Iterator<Item = &'c OwnedRrset>,
    ) -> Result<(), ApplyFault> {
        let fault =
            |error: super::load::LoadError| ApplyFault::Records { owner: error.owner, fault: error.reason };
        let mut loader = ZoneLoader::new(change.zone.clone(), change.owner);
        for OwnedRrset { owner, rrset } in rrsets {
            loader.rrset(owner.as_ref(), rrset).map_err(fault)?;
        }
        let loaded = loader.finish().map_err(fault)?;
        self.replace_zone(loaded.with_version(change.version));
        Ok(())
    }

    fn update(&mut self, change: &ZoneChange, changes: &[RrsetChange]) -> Result<(), ApplyFault> {
        let apex = self.names.get(change.zone.as_wire()).cloned();
        let Some((apex, zone)) = apex.and_then(|apex| apex.zone().cloned().map(|zone| (apex, zone))) else {
            return Err(ApplyFault::BaseVersion { expected: change.base_version, actual: 0 });
        };
        let nested = self.has_nested(apex.name());
        let mut edit = Edit {
            zone: Zone::clone(&zone),
            apex,
            touched: BTreeSet::new(),
            nested,
            next: self,
            builder: NodeBuilder::default(),
            scratch: DigestScratch::default(),
        };
        for (owner, changes) in by_owner(changes) {
            edit.set(owner, &changes)?;
        }
        edit.derive();
        edit.zone.owner_number = change.owner;
        edit.zone.version = change.version;
        edit.finish()
    }
}

/// The changes of each owner, sorted by type; of several for one RRset the last counts.
fn by_owner(changes: &[RrsetChange]) -> BTreeMap<NameRef<'_>, BTreeMap<Rtype, Option<&Rrset>>> {
    let mut owners: BTreeMap<NameRef<'_>, BTreeMap<Rtype, Option<&Rrset>>> = BTreeMap::new();
    for change in changes {
        let (owner, rtype, rrset) = match change {
            RrsetChange::Put(OwnedRrset { owner, rrset }) => (owner, rrset.rtype, Some(rrset)),
            RrsetChange::Delete { owner, rtype } => (owner, *rtype, None),
        };
        owners.entry(owner.as_ref()).or_default().insert(rtype, rrset);
    }
    owners
}

/// A zone while a change set is applied to it.
struct Edit<'s> {
    next: &'s mut Snapshot,
    apex: Node,
    zone: Zone,
    nested: bool,
    /// Names whose flags or prepared answers may not fit any more.
    touched: BTreeSet<Name>,
    builder: NodeBuilder,
    scratch: DigestScratch,
}

impl Edit<'_> {
    fn node(&self, name: NameRef<'_>) -> Option<&Node> {
        if name == self.apex.name() { Some(&self.apex) } else { self.zone.get(name) }
    }

    /// First step, for one owner name.
    fn set(
        &mut self,
        owner: NameRef<'_>,
        changes: &BTreeMap<Rtype, Option<&Rrset>>,
    ) -> Result<(), ApplyFault> {
        let fault = |fault| ApplyFault::Records { owner: owner.to_owned(), fault };
        if !owner.is_at_or_below(self.apex.name()) {
            return Err(fault(LoadFault::OutOfZone));
        }
        let mut list = Vec::with_capacity(changes.len());
        for (&rtype, &rrset) in changes {
            check(owner, rrset)?;
            list.push((rtype, rrset));
        }
        let apex_at = owner.as_wire().len() - self.apex.name().as_wire().len();
        let old = self.node(owner).cloned();
        let (new, complete) = derive::with_changes(&mut self.builder, owner, apex_at, old.as_ref(), &list)
            .map_err(|error| fault(error.into()))?;
        check_node(&new, apex_at == 0).map_err(fault)?;
        self.count_digest(old.as_ref(), &new, &list);
        if !complete {
            self.touched.insert(owner.to_owned());
        }
        self.touch_around(old.as_ref(), &new);
        if apex_at == 0 {
            let zone = self.apex.zone().cloned();
            self.apex = match zone {
                Some(zone) => new.with_zone(zone),
                None => new,
            };
        } else if new.is_empty() {
            self.remove_or_empty(owner, new);
        } else {
            self.insert(new);
        }
        Ok(())
    }

    fn count_digest(&mut self, old: Option<&Node>, new: &Node, changes: &[(Rtype, Option<&Rrset>)]) {
        let key = &self.next.digest_key;
        for &(rtype, _) in changes {
            if let Some((node, image)) = old.and_then(|node| Some((node, node.find(rtype)?))) {
                self.zone.digest.sub(derive::image_digest(key, node, rtype, image, &mut self.scratch));
            }
            if let Some(image) = new.find(rtype) {
                self.zone.digest.add(derive::image_digest(key, new, rtype, image, &mut self.scratch));
            }
        }
    }

    /// Notes what the change of a node can touch besides.
    fn touch_around(&mut self, old: Option<&Node>, new: &Node) {
        let name = new.name();
        // A `*` that comes or goes.
        if name.is_wildcard()
            && let Some(parent) = name.parent()
        {
            self.touched.insert(parent.to_owned());
        }
        // Cuts above, whose glue this may be.
        let mut above = name.parent();
        while let Some(ancestor) = above
            && ancestor.as_wire().len() > self.apex.name().as_wire().len()
        {
            if self.zone.get(ancestor).is_some_and(|node| node.raw(Rtype::NS).is_some()) {
                self.touched.insert(ancestor.to_owned());
            }
            above = ancestor.parent();
        }
        // Everything below a cut or a DNAME that comes or goes.
        let occludes = |node: &Node| {
            node.raw(Rtype::DNAME).is_some() || (node.apex_at() > 0 && node.raw(Rtype::NS).is_some())
        };
        if old.is_some_and(occludes) != occludes(new) {
            let is_apex = new.apex_at() == 0;
            let below = self
                .zone
                .order
                .range_from(name)
                .take_while(|node| is_apex || node.name().is_at_or_below(name));
            self.touched.extend(below.map(|node| node.name().to_owned()));
        }
    }

    /// Puts a node with data into the zone, and empty non-terminals above it.
    fn insert(&mut self, node: Node) {
        let name = node.name().to_owned();
        let existed = self.put(node);
        if existed {
            return;
        }
        let mut above = name.as_ref().parent();
        while let Some(ancestor) = above
            && ancestor.as_wire().len() > self.apex.name().as_wire().len()
            && self.zone.get(ancestor).is_none()
        {
            self.put_empty(ancestor);
            above = ancestor.parent();
        }
    }

    fn put_empty(&mut self, name: NameRef<'_>) {
        self.builder.clear();
        let apex_at = name.as_wire().len() - self.apex.name().as_wire().len();
        let node = self.builder.build(name, apex_at, Flags::default(), None, None);
        self.touched.insert(name.to_owned());
        if name.is_wildcard()
            && let Some(parent) = name.parent()
        {
            self.touched.insert(parent.to_owned());
        }
        self.put(node);
    }

    /// A name has lost its last RRset: it goes, and empty non-terminals above it, unless there are names below.
    fn remove_or_empty(&mut self, name: NameRef<'_>, empty: Node) {
        if self.zone.get(name).is_none() {
            return;
        }
        if self.has_below(name) {
            self.put(empty);
            return;
        }
        self.take(name);
        let mut above = name.parent();
        while let Some(ancestor) = above
            && ancestor.as_wire().len() > self.apex.name().as_wire().len()
            && self.zone.get(ancestor).is_some_and(Node::is_empty)
            && !self.has_below(ancestor)
        {
            self.take(ancestor);
            if ancestor.is_wildcard()
                && let Some(parent) = ancestor.parent()
            {
                self.touched.insert(parent.to_owned());
            }
            above = ancestor.parent();
        }
    }

    fn has_below(&self, name: NameRef<'_>) -> bool {
        self.zone.order.after(name).is_some_and(|next| next.name().is_below(name))
    }

    /// Puts a node in place of what is there; whether something was.
    fn put(&mut self, node: Node) -> bool {
        keep(&mut self.zone.nsec, &node, node.raw(Rtype::NSEC).is_some());
        let in_chain = derive::is_in_chain(&node, self.zone.nsec3_parameters.as_ref());
        keep(&mut self.zone.nsec3, &node, in_chain);
        self.next.publish(&node, self.nested);
        self.zone.order.insert(node).is_some()
    }

    fn take(&mut self, name: NameRef<'_>) {
        self.zone.nsec.remove(name);
        self.zone.nsec3.remove(name);
        self.next.unpublish(name, self.apex.name(), self.nested);
        self.zone.order.remove(name);
    }

    /// Second step: flags and prepared answers of all that was touched.
    fn derive(&mut self) {
        for name in std::mem::take(&mut self.touched) {
            let Some(old) = self.node(name.as_ref()).cloned() else { continue };
            let occluded = self.is_occluded(name.as_ref());
            let wildcard_child =
                name.wildcard_child().is_some_and(|wildcard| self.zone.get(wildcard.as_ref()).is_some());
            let mut builder = std::mem::take(&mut self.builder);
            let new = derive::rebuild(&mut builder, &old, occluded, wildcard_child, |name| self.node(name));
            self.builder = builder;
            if old.apex_at() == 0 {
                self.apex = new;
            } else if !old.same_content(&new) {
                self.put(new);
            }
        }
    }

    fn is_occluded(&self, name: NameRef<'_>) -> bool {
        let mut above = name.parent();
        while let Some(ancestor) = above
            && ancestor.as_wire().len() >= self.apex.name().as_wire().len()
        {
            let is_apex = ancestor == self.apex.name();
            let occludes =
                |node: &Node| node.raw(Rtype::DNAME).is_some() || (!is_apex && node.raw(Rtype::NS).is_some());
            if self.node(ancestor).is_some_and(occludes) {
                return true;
            }
            above = ancestor.parent();
        }
        false
    }

    fn finish(mut self) -> Result<(), ApplyFault> {
        let fault = |apex: &Node, fault| ApplyFault::Records { owner: apex.name().to_owned(), fault };
        let apex = self.apex.clone();
        let soa = apex.find(Rtype::SOA).ok_or_else(|| fault(&apex, LoadFault::NoSoa))?;
        if apex.find(Rtype::NS).is_none() {
            return Err(fault(&apex, LoadFault::NoNs));
        }
        self.zone.serial = derive::serial(soa).unwrap_or(0);
        let parameters = derive::nsec3_parameters(&apex);
        if parameters != self.zone.nsec3_parameters {
            self.zone.nsec3 = derive::nsec3_chain(self.zone.order.iter(), parameters.as_ref());
            self.zone.nsec3_parameters = parameters;
        }
        if self.zone.nsec3_parameters.as_ref().is_some_and(|nsec3| !nsec3.is_affordable()) {
            return Err(fault(&apex, LoadFault::Nsec3Cost));
        }
        self.next.set_zone(&apex, self.zone);
        Ok(())
    }
}

/// Keeps one of a zone's sets of denial records in step with a node.
fn keep(set: &mut OrderedSet<Node>, node: &Node, member: bool) {
    if member {
        set.insert(node.clone());
    } else if !set.is_empty() {
        set.remove(node.name());
    }
}

fn check(owner: NameRef<'_>, rrset: Option<&Rrset>) -> Result<(), ApplyFault> {
    let Some(rrset) = rrset else { return Ok(()) };
    if rrset.rdata.is_empty() {
        return Err(ApplyFault::EmptyRrset { owner: owner.to_owned(), rtype: rrset.rtype });
    }
    let fault = |error: RdataError| ApplyFault::Records { owner: owner.to_owned(), fault: error.into() };
    for rdata in &rrset.rdata {
        rdata::validate(rrset.rtype, rdata).map_err(fault)?;
    }
    for rrsig in &rrset.rrsigs {
        rdata::validate(Rtype::RRSIG, rrsig).map_err(fault)?;
    }
    Ok(())
}

/// What must hold of the RRsets of one name.
fn check_node(node: &Node, is_apex: bool) -> Result<(), LoadFault> {
    let count = |rtype| node.find(rtype).map_or(0, |image: image::Image<'_>| image.first().count);
    if !is_apex && count(Rtype::SOA) > 0 {
        return Err(LoadFault::SoaBelowApex);
    }
    for (rtype, fault) in
        [(Rtype::SOA, LoadFault::Soas), (Rtype::CNAME, LoadFault::Cnames), (Rtype::DNAME, LoadFault::Dnames)]
    {
        if count(rtype) > 1 {
            return Err(fault);
        }
    }
    if count(Rtype::CNAME) > 0 && node.raw_rrsets().any(|(rtype, _)| !beside_cname(rtype)) {
        return Err(LoadFault::CnameAndOther);
    }
    Ok(())
}
