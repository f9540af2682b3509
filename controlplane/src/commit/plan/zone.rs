//! What a request does to one zone: its owner names, read when they are first touched, and what they hold afterwards.

use std::collections::{BTreeMap, HashMap, HashSet};

use godwit_wire::feed::Digest;
use godwit_wire::name::Name;
use godwit_wire::rdata;
use godwit_wire::rr::{Rrset, Rtype};

use super::no_records;
use crate::error::{Code, Problem};
use crate::model::change::{Operation, PutMode, PutZone};
use crate::model::soa::{serial_of, set_serial};
use crate::model::zone::{TtlPolicy, Zone, is_newer};
use crate::store::{Connection, rrsets};
use crate::validate::DEFAULT_TTL_S;
use crate::validate::record::{is_made_by_signer, ttl as validate_ttl};
use crate::validate::zone::Sets;

/// What happens to one zone.
#[derive(Debug)]
pub struct ZonePlan {
    /// As it was; for a new one as it will be, with version 0.
    pub zone: Zone,
    /// The version that it had; 0 for one that was not there.
    pub base_version: u64,
    /// Whether it was there before.
    pub existed: bool,
    /// Whether it shall be gone.
    pub removed: bool,
    /// Whether that is as it was frozen for too long: nobody asked for it.
    pub released: bool,
    /// Whether it was written as a whole.
    pub replaced: bool,
    /// Version and serial that a deleted zone of this name had.
    pub departed: Option<(u64, u32)>,
    /// Touched owner names.
    pub owners: BTreeMap<Name, OwnerPlan>,
    /// Set after: policy and presigned flag.
    pub ttl_policy: TtlPolicy,
    /// See [`Zone::presigned`].
    pub presigned: bool,
    /// The version that it is brought back to.
    pub restored: Option<Zone>,
    /// Its SOA was made here and has no serial of its own yet.
    pub serial_unset: bool,
    /// All owner names are in `owners`: one that is not holds nothing.
    complete: bool,
    /// No zone lies below: every name below the apex is in this zone.
    pub(super) leaf: bool,
}

/// What happens to one owner name.
#[derive(Clone, Debug, Default)]
pub struct OwnerPlan {
    /// RRsets as they were.
    pub before: Sets,
    /// RRsets as they will be.
    pub after: Sets,
}

impl OwnerPlan {
    /// How many RRsets are new, different or gone.
    #[must_use]
    pub fn difference(&self) -> usize {
        let written = self.after.iter().filter(|(rtype, set)| self.before.get(rtype) != Some(set)).count();
        written + self.before.keys().filter(|rtype| !self.after.contains_key(rtype)).count()
    }
}

impl ZonePlan {
    /// Whether anything about the zone changes.
    #[must_use]
    pub fn changes(&self) -> bool {
        !self.existed
            || self.removed
            || self.ttl_policy != self.zone.ttl_policy
            || self.presigned != self.zone.presigned
            || self.owners.values().any(|owner| owner.before != owner.after)
    }

    /// How many RRsets it has more than before; not of one that shall be gone.
    pub(in crate::commit) fn more_rrsets(&self) -> i64 {
        let count = |sets: &Sets| i64::try_from(sets.len()).unwrap_or(i64::MAX);
        self.owners.values().map(|owner| count(&owner.after) - count(&owner.before)).sum()
    }

    pub(super) fn of(zone: Zone) -> ZonePlan {
        ZonePlan {
            base_version: zone.version,
            existed: true,
            removed: false,
            released: false,
            replaced: false,
            departed: None,
            restored: None,
            serial_unset: false,
            owners: BTreeMap::new(),
            ttl_policy: zone.ttl_policy,
            presigned: zone.presigned,
            complete: false,
            leaf: false,
            zone,
        }
    }

    pub(super) fn new(apex: Name, ttl_policy: TtlPolicy, owner_number: u32) -> ZonePlan {
        let zone = Zone {
            id: 0,
            apex,
            owner_number,
            version: 0,
            serial: 0,
            ttl_policy,
            presigned: false,
            created_at_us: 0,
            updated_at_us: 0,
            digest: Digest::default(),
            frozen_at_us: None,
        };
        ZonePlan { existed: false, complete: true, ..ZonePlan::of(zone) }
    }

    /// A serial that does not rise says nothing: the SOA is unchanged when nothing else in it differs.
    pub(super) fn keep_serial(&mut self) {
        if self.presigned {
            return;
        }
        let Some(owner) = self.owners.get_mut(&self.zone.apex) else { return };
        let before = owner.before.get(&Rtype::SOA).and_then(serial_of);
        if let (Some(before), Some(soa)) = (before, owner.after.get_mut(&Rtype::SOA))
            && serial_of(soa).is_some_and(|written| !is_newer(written, before))
        {
            set_serial(soa, before);
        }
    }

    pub(super) async fn read_whole(&mut self, connection: &mut Connection) -> Result<(), Problem> {
        for (name, rrset) in rrsets::of_zone(connection, self.zone.id).await? {
            self.owners.entry(name).or_default().before.insert(rrset.rtype, rrset);
        }
        for owner in self.owners.values_mut() {
            owner.after = owner.before.clone();
        }
        self.complete = true;
        Ok(())
    }

    /// What an owner name holds, so that it need not be read.
    pub(super) fn holds(&mut self, name: &Name, sets: &Sets) {
        if !self.owners.contains_key(name) {
            self.owners.insert(name.clone(), OwnerPlan { before: sets.clone(), after: sets.clone() });
        }
    }

    /// An owner name, and what it holds.
    pub(in crate::commit) async fn owner(
        &mut self,
        connection: &mut Connection,
        name: &Name,
    ) -> Result<&mut OwnerPlan, Problem> {
        if !self.owners.contains_key(name) {
            // The SOA will be wanted too, of whatever changes.
            let apex = self.zone.apex.clone();
            let with_apex = !self.owners.contains_key(&apex);
            let mut held: HashMap<Name, Sets> = HashMap::new();
            if !self.complete {
                let owners = [name.as_ref(), if with_apex { apex.as_ref() } else { name.as_ref() }];
                for (owner, rrset) in rrsets::of_two_owners(connection, self.zone.id, owners).await? {
                    held.entry(owner).or_default().insert(rrset.rtype, rrset);
                }
                if with_apex {
                    let sets = held.remove(&apex).unwrap_or_default();
                    self.owners.insert(apex, OwnerPlan { before: sets.clone(), after: sets });
                }
            }
            if !self.owners.contains_key(name) {
                let sets = held.remove(name).unwrap_or_default();
                self.owners.insert(name.clone(), OwnerPlan { before: sets.clone(), after: sets });
            }
        }
        Ok(self.owners.get_mut(name).expect("it was put there above"))
    }

    /// A put, or values added or removed.
    pub(super) async fn write(
        &mut self,
        connection: &mut Connection,
        operation: &Operation,
    ) -> Result<(), Problem> {
        let policy = self.ttl_policy;
        match operation {
            Operation::Put { owner, rtype, ttl, rdata, mode, .. } => {
                let sets = &mut self.owner(connection, owner).await?.after;
                let there = sets.get(rtype);
                match (there, mode) {
                    (Some(_), PutMode::Create) => {
                        let message = format!("{owner} has {rtype} records already; PUT replaces them");
                        return Err(Problem::new(Code::RecordExists, message));
                    }
                    (None, PutMode::Replace) => {
                        let message = format!("{owner} has no {rtype} records; POST makes them");
                        return Err(Problem::new(Code::RecordNotFound, message));
                    }
                    _ => {}
                }
                let ttl = ttl.or(there.map(|set| set.ttl)).unwrap_or(DEFAULT_TTL_S);
                validate_ttl(*rtype, ttl, policy)?;
                sets.insert(*rtype, Rrset::new(*rtype, ttl, rdata.clone(), vec![]));
            }
            Operation::AddValues { owner, rtype, ttl, rdata, .. } => {
                let sets = &mut self.owner(connection, owner).await?.after;
                let there = sets.remove(rtype);
                let ttl = ttl.or(there.as_ref().map(|set| set.ttl)).unwrap_or(DEFAULT_TTL_S);
                validate_ttl(*rtype, ttl, policy)?;
                let mut all = there.map(|set| set.rdata).unwrap_or_default();
                all.extend(rdata.iter().cloned());
                sets.insert(*rtype, Rrset::new(*rtype, ttl, all, vec![]));
            }
            Operation::RemoveValues { owner, rtype, rdata, .. } => {
                let sets = &mut self.owner(connection, owner).await?.after;
                if let Some(set) = sets.get_mut(rtype) {
                    let gone: HashSet<Vec<u8>> =
                        rdata.iter().map(|one| rdata::canonical(*rtype, one).into_owned()).collect();
                    set.rdata.retain(|one| !gone.contains(&*rdata::canonical(*rtype, one)));
                    if set.rdata.is_empty() {
                        sets.remove(rtype);
                    }
                }
            }
            _ => unreachable!("only operations on values come here"),
        }
        Ok(())
    }

    pub(super) async fn delete(
        &mut self,
        connection: &mut Connection,
        owner: &Name,
        rtype: Option<Rtype>,
    ) -> Result<(), Problem> {
        let sets = &mut self.owner(connection, owner).await?.after;
        let found = match rtype {
            Some(rtype) => sets.remove(&rtype).is_some(),
            None => !std::mem::take(sets).is_empty(),
        };
        if found { Ok(()) } else { Err(no_records(owner, rtype)) }
    }

    /// The whole content of a zone.
    pub(super) fn fill(&mut self, put: &PutZone) -> Result<(), Problem> {
        let apex = &put.apex;
        for owner in self.owners.values_mut() {
            owner.after.clear();
        }
        let mut after: HashMap<&Name, Sets> = HashMap::with_capacity(put.rrsets.len());
        let mut presigned = false;
        for (name, rrset) in &put.rrsets {
            validate_ttl(rrset.rtype, rrset.ttl, self.ttl_policy)?;
            presigned |= !rrset.rrsigs.is_empty() || is_made_by_signer(rrset.rtype);
            if after.entry(name).or_default().insert(rrset.rtype, rrset.clone()).is_some() {
                let message = format!("{name} {} is there twice", rrset.rtype);
                return Err(Problem::new(Code::Conflict, message));
            }
        }
        for (name, sets) in after {
            self.owners.entry(name.clone()).or_default().after = sets;
        }
        let owner = self.owners.entry(apex.clone()).or_default();
        for (rtype, default) in [(Rtype::SOA, &put.default_soa), (Rtype::NS, &put.default_ns)] {
            if !owner.after.contains_key(&rtype) {
                let kept = owner.before.get(&rtype);
                self.serial_unset |= rtype == Rtype::SOA && kept.is_none();
                owner.after.insert(rtype, kept.unwrap_or(default).clone());
            }
        }
        self.presigned = presigned;
        Ok(())
    }
}
