//! What a request does, worked out in memory before anything is written: which zones and owner names it touches, what
//! they held before and what they hold after.

use std::collections::{BTreeMap, HashMap, HashSet};

use godwit_wire::name::{Name, NameRef};
use godwit_wire::rdata;
use godwit_wire::rr::{Rrset, Rtype};

use crate::error::{Code, Problem};
use crate::model::change::{IfMatch, Operation, PutMode, PutZone, Request, SoaChange};
use crate::model::name_key;
use crate::model::soa::{Soa, serial_of, set_serial};
use crate::model::zone::{TtlPolicy, Zone, is_newer};
use crate::store::{Connection, rrsets, zones};
use crate::validate::record::{is_made_by_signer, ttl as validate_ttl};
use crate::validate::zone::Sets;
use crate::validate::{DEFAULT_TTL_S, zone as rules};

/// From so many operations on, a zone that is not much larger is read whole rather than name by name.
const READ_WHOLE_FROM: usize = 1_000;
/// How much larger it may be.
const READ_WHOLE_RATIO: usize = 4;

/// A request worked out. See the module.
#[derive(Debug, Default)]
pub struct Plan {
    /// By apex.
    pub zones: BTreeMap<Name, ZonePlan>,
    /// Names looked up that are no apex.
    no_apex: HashSet<Name>,
    /// RRsets that a put or a delete of this request has dealt with: a second one would make its order matter.
    settled: HashSet<(Name, Rtype)>,
}

/// What happens to one zone.
#[derive(Debug)]
pub struct ZonePlan {
    /// As it was; for a new one as it will be, with version 0.
    pub zone: Zone,
    /// Whether it was there before.
    pub existed: bool,
    /// Whether it shall be gone.
    pub removed: bool,
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
    /// Its SOA was made here and has no serial of its own yet.
    pub serial_unset: bool,
    /// All owner names are in `owners`: one that is not holds nothing.
    complete: bool,
    /// No zone lies below: every name below the apex is in this zone.
    leaf: bool,
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
}

impl Plan {
    /// Works out a request against the database.
    ///
    /// # Errors
    /// What speaks against it.
    pub async fn make(connection: &mut Connection, request: &Request) -> Result<Plan, Problem> {
        let mut plan = Plan::default();
        let count = request.operations.len();
        for (index, operation) in request.operations.iter().enumerate() {
            let done = plan.operate(connection, operation, request.if_match.as_ref(), count).await;
            done.map_err(|problem| located(problem, index, count))?;
        }
        plan.keep_serials();
        plan.judge()?;
        Ok(plan)
    }

    /// The RRset after the change, where this plan touched its owner name.
    #[must_use]
    pub fn rrset(&self, owner: NameRef<'_>, rtype: Rtype) -> Option<&Rrset> {
        let owner = owner.to_owned();
        self.zones.values().find_map(|zone| zone.owners.get(&owner)?.after.get(&rtype))
    }

    async fn operate(
        &mut self,
        connection: &mut Connection,
        operation: &Operation,
        if_match: Option<&IfMatch>,
        count: usize,
    ) -> Result<(), Problem> {
        match operation {
            Operation::PutZone(put) => self.put_zone(connection, put, if_match).await,
            Operation::PatchZone { apex, ttl_policy, soa } => {
                let zone = self.existing_zone(connection, apex, if_match).await?;
                if let Some(policy) = ttl_policy {
                    zone.ttl_policy = *policy;
                }
                if soa.is_some() {
                    refuse_presigned(&zone.zone)?;
                }
                let owner = zone.owner(connection, apex).await?;
                if let (Some(SoaChange(change)), Some(set)) = (soa, owner.after.get_mut(&Rtype::SOA)) {
                    let mut content = Soa::of_rrset(set).ok_or_else(|| {
                        Problem::new(Code::Internal, format!("the SOA of {apex} is damaged"))
                    })?;
                    change(&mut content)?;
                    let serial = serial_of(set).unwrap_or_default();
                    set.rdata = content.rrset().rdata;
                    set_serial(set, serial);
                }
                Ok(())
            }
            Operation::DeleteZone { apex } => {
                self.existing_zone(connection, apex, if_match).await?.removed = true;
                Ok(())
            }
            Operation::Put { owner, rtype, zone, .. }
            | Operation::AddValues { owner, rtype, zone, .. }
            | Operation::RemoveValues { owner, rtype, zone, .. } => {
                if matches!(operation, Operation::Put { .. }) {
                    self.settle(owner, *rtype)?;
                }
                let plan =
                    self.zone_of(connection, owner, Some(*rtype), zone.as_ref(), if_match, count).await?;
                plan.write(connection, operation).await
            }
            Operation::Delete { owner, rtype, zone } => {
                if let Some(rtype) = rtype {
                    self.settle(owner, *rtype)?;
                }
                let plan = self.zone_of(connection, owner, *rtype, zone.as_ref(), if_match, count).await?;
                plan.delete(connection, owner, *rtype).await
            }
        }
    }

    /// Two operations of a change cannot both say what an RRset shall be.
    fn settle(&mut self, owner: &Name, rtype: Rtype) -> Result<(), Problem> {
        if self.settled.insert((owner.clone(), rtype)) {
            return Ok(());
        }
        Err(Problem::new(Code::Conflict, format!("{owner} {rtype} is put or deleted twice in one change")))
    }

    async fn put_zone(
        &mut self,
        connection: &mut Connection,
        put: &PutZone,
        if_match: Option<&IfMatch>,
    ) -> Result<(), Problem> {
        let apex = &put.apex;
        let found = zones::by_name(connection, apex.as_ref()).await?;
        match (&found, put.mode) {
            (Some(_), PutMode::Create) => {
                return Err(Problem::new(Code::DomainExists, format!("the zone {apex} exists already")));
            }
            (None, PutMode::Replace) => return Err(domain_not_found(apex)),
            _ => {}
        }
        self.check_version(found.as_ref(), apex, if_match)?;
        let departed = match found {
            Some(_) => None,
            None => zones::take_departed(connection, apex.as_ref()).await?,
        };
        let mut plan = match found {
            Some(zone) => {
                let mut plan = ZonePlan::of(zone);
                plan.read_whole(connection).await?;
                plan
            }
            None => ZonePlan::new(apex.clone(), put.ttl_policy.unwrap_or(TtlPolicy::Bounded)),
        };
        plan.departed = departed;
        plan.replaced = true;
        plan.ttl_policy = put.ttl_policy.unwrap_or(plan.zone.ttl_policy);
        plan.fill(put)?;
        self.zones.insert(apex.clone(), plan);
        Ok(())
    }

    async fn existing_zone(
        &mut self,
        connection: &mut Connection,
        apex: &Name,
        if_match: Option<&IfMatch>,
    ) -> Result<&mut ZonePlan, Problem> {
        let found = zones::by_name(connection, apex.as_ref()).await?;
        self.check_version(found.as_ref(), apex, if_match)?;
        let zone = found.ok_or_else(|| domain_not_found(apex))?;
        Ok(self.zones.entry(apex.clone()).or_insert_with(|| ZonePlan::of(zone)))
    }

    /// The zone that holds an owner name: the longest match, or the one that the caller named.
    async fn zone_of(
        &mut self,
        connection: &mut Connection,
        owner: &Name,
        rtype: Option<Rtype>,
        named: Option<&Name>,
        if_match: Option<&IfMatch>,
        operations: usize,
    ) -> Result<&mut ZonePlan, Problem> {
        let (apex, found) = match named {
            Some(apex) => (apex.clone(), None),
            None => self.longest_match(connection, owner, rtype).await?,
        };
        if !self.zones.contains_key(&apex) {
            let found = match found {
                Some(zone) => Some(zone),
                None => zones::by_name(connection, apex.as_ref()).await?,
            };
            self.check_version(found.as_ref(), &apex, if_match)?;
            let mut plan = ZonePlan::of(found.ok_or_else(|| domain_not_found(&apex))?);
            plan.leaf = operations > 1 && !has_zone_below(connection, apex.as_ref()).await?;
            if operations >= READ_WHOLE_FROM {
                let held = rrsets::count(connection, plan.zone.id).await?;
                if usize::try_from(held).unwrap_or(usize::MAX) / READ_WHOLE_RATIO <= operations {
                    plan.read_whole(connection).await?;
                }
            }
            self.zones.insert(apex.clone(), plan);
        }
        let plan = self.zones.get_mut(&apex).expect("it was put there above");
        if !owner.as_ref().is_at_or_below(apex.as_ref()) {
            return Err(Problem::new(Code::InvalidName, format!("{owner} is not in the zone {apex}")));
        }
        refuse_presigned(&plan.zone)?;
        Ok(plan)
    }

    /// The apex of the closest enclosing zone, and the zone where it had to be looked up.
    async fn longest_match(
        &mut self,
        connection: &mut Connection,
        owner: &Name,
        rtype: Option<Rtype>,
    ) -> Result<(Name, Option<Zone>), Problem> {
        // The DS records of a zone stand on the parent's side of the cut (RFC 4035 §2.4).
        let start = if rtype == Some(Rtype::DS) { owner.as_ref().parent() } else { Some(owner.as_ref()) };
        // A zone that has none below it decides for every name in it, without asking for each.
        let mut next = start;
        while let Some(name) = next {
            if let Some(plan) = self.zones.get(&name.to_owned())
                && plan.leaf
            {
                return Ok((name.to_owned(), None));
            }
            next = name.parent();
        }
        let mut planned = None;
        let mut unknown = Vec::new();
        let mut next = start;
        while let Some(name) = next {
            let apex = name.to_owned();
            if self.zones.contains_key(&apex) {
                planned = Some(apex);
                break;
            }
            if !self.no_apex.contains(&apex) {
                unknown.push(name);
            }
            next = name.parent();
        }
        let found = zones::longest(connection, &unknown).await?;
        let is_longer = |name: &NameRef<'_>| found.as_ref().is_none_or(|zone| *name != zone.apex.as_ref());
        self.no_apex.extend(unknown.into_iter().take_while(is_longer).map(NameRef::to_owned));
        if let Some(apex) = found.as_ref().map(|zone| zone.apex.clone()).or(planned) {
            return Ok((apex, found));
        }
        Err(Problem::new(Code::DomainNotFound, format!("no zone here holds {owner}")))
    }

    /// `If-Match` speaks of one zone (RFC 9110 §13.1.1).
    fn check_version(
        &self,
        zone: Option<&Zone>,
        apex: &Name,
        if_match: Option<&IfMatch>,
    ) -> Result<(), Problem> {
        let Some(if_match) = if_match else { return Ok(()) };
        if self.zones.keys().any(|other| other != apex) {
            let message = "If-Match names the version of one zone; this change touches several";
            return Err(Problem::new(Code::MalformedRequest, message));
        }
        let version = zone.map(|zone| zone.version);
        let holds = match (if_match, version) {
            (_, None) => false,
            (IfMatch::Any, Some(_)) => true,
            (IfMatch::Versions(wanted), Some(version)) => wanted.contains(&version),
        };
        if holds {
            return Ok(());
        }
        let is =
            version.map_or_else(|| "does not exist".to_owned(), |version| format!("is at version {version}"));
        Err(Problem::new(Code::VersionConflict, format!("If-Match does not hold: the zone {apex} {is}")))
    }

    /// A serial that does not rise says nothing: the SOA is unchanged when nothing else in it differs.
    fn keep_serials(&mut self) {
        for (apex, plan) in self.zones.iter_mut().filter(|(_, plan)| !plan.presigned) {
            let Some(owner) = plan.owners.get_mut(apex) else { continue };
            let before = owner.before.get(&Rtype::SOA).and_then(serial_of);
            if let (Some(before), Some(soa)) = (before, owner.after.get_mut(&Rtype::SOA))
                && serial_of(soa).is_some_and(|written| !is_newer(written, before))
            {
                set_serial(soa, before);
            }
        }
    }

    /// Every rule that looks at the outcome.
    fn judge(&self) -> Result<(), Problem> {
        for (apex, plan) in &self.zones {
            if plan.removed {
                continue;
            }
            for (name, owner) in &plan.owners {
                if owner.before != owner.after || plan.replaced {
                    rules::owner(apex.as_ref(), name.as_ref(), &owner.after)?;
                }
            }
        }
        Ok(())
    }
}

impl ZonePlan {
    fn of(zone: Zone) -> ZonePlan {
        ZonePlan {
            existed: true,
            removed: false,
            replaced: false,
            departed: None,
            serial_unset: false,
            owners: BTreeMap::new(),
            ttl_policy: zone.ttl_policy,
            presigned: zone.presigned,
            complete: false,
            leaf: false,
            zone,
        }
    }

    fn new(apex: Name, ttl_policy: TtlPolicy) -> ZonePlan {
        let zone = Zone {
            id: 0,
            apex,
            owner_number: 0,
            version: 0,
            serial: 0,
            ttl_policy,
            presigned: false,
            created_at_us: 0,
            updated_at_us: 0,
        };
        ZonePlan { existed: false, complete: true, ..ZonePlan::of(zone) }
    }

    async fn read_whole(&mut self, connection: &mut Connection) -> Result<(), Problem> {
        for (name, rrset) in rrsets::of_zone(connection, self.zone.id).await? {
            self.owners.entry(name).or_default().before.insert(rrset.rtype, rrset);
        }
        for owner in self.owners.values_mut() {
            owner.after = owner.before.clone();
        }
        self.complete = true;
        Ok(())
    }

    pub(super) async fn owner(
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
    async fn write(&mut self, connection: &mut Connection, operation: &Operation) -> Result<(), Problem> {
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
                    (None, PutMode::Replace) => return Err(record_not_found(owner, Some(*rtype))),
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

    async fn delete(
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
        if found { Ok(()) } else { Err(record_not_found(owner, rtype)) }
    }

    /// The whole content of a zone.
    fn fill(&mut self, put: &PutZone) -> Result<(), Problem> {
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

async fn has_zone_below(connection: &mut Connection, apex: NameRef<'_>) -> Result<bool, Problem> {
    let key = name_key::encode(apex);
    let next = zones::page(connection, Some(&key), 1).await?;
    Ok(next.first().is_some_and(|zone| zone.apex.as_ref().is_below(apex)))
}

/// A record changed alone would leave signatures that no longer fit.
fn refuse_presigned(zone: &Zone) -> Result<(), Problem> {
    if !zone.presigned {
        return Ok(());
    }
    let message = format!("the zone {} is signed elsewhere: sign it again and import it whole", zone.apex);
    Err(Problem::new(Code::Conflict, message))
}

fn domain_not_found(apex: &Name) -> Problem {
    Problem::new(Code::DomainNotFound, format!("there is no zone {apex} here"))
}

fn record_not_found(owner: &Name, rtype: Option<Rtype>) -> Problem {
    let what = rtype.map_or_else(|| "no records".to_owned(), |rtype| format!("no {rtype} records"));
    Problem::new(Code::RecordNotFound, format!("{owner} has {what}"))
}

/// Says which of several changes is meant.
fn located(problem: Problem, index: usize, count: usize) -> Problem {
    if count < 2 {
        return problem;
    }
    Problem::new(problem.code, format!("change {index}: {}", problem.message))
}
