//! What a request does, worked out in memory before anything is written: which zones and owner names it touches, what
//! they held before and what they hold after.
//!
//! `zone` is the part for one zone, `rollback` what makes it what it was.

mod rollback;
mod zone;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use godwit_wire::name::{Name, NameRef};
use godwit_wire::rr::{Rrset, Rtype};

use super::known::Known;
use crate::auth::limits::Limits;
use crate::error::{Code, Problem};
use crate::model::change::{IfMatch, Operation, PutMode, PutZone, Request, SoaChange};
use crate::model::name_key;
use crate::model::soa::{Soa, serial_of, set_serial};
use crate::model::zone::{TtlPolicy, Zone};
use crate::store::{Connection, rrsets, zones};
use crate::validate::zone as rules;

pub use zone::{OwnerPlan, ZonePlan};

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
    /// Zones that a rollback of everything left for the next change.
    pub left: usize,
    /// RRsets that a put or a delete of this request has dealt with: a second one would make its order matter.
    settled: HashSet<(Name, Rtype)>,
}

impl Plan {
    /// Works out a request against the database, of which something is known already.
    ///
    /// # Errors
    /// What speaks against it.
    pub async fn make(
        connection: &mut Connection,
        request: &Request,
        known: &Known,
    ) -> Result<Plan, Problem> {
        let mut plan = Plan::default();
        let count = request.operations.len();
        for (index, operation) in request.operations.iter().enumerate() {
            let done = plan.operate(connection, operation, request, count, known).await;
            done.map_err(|problem| located(problem, index, count))?;
        }
        plan.keep_serials();
        plan.permit(&request.limits)?;
        plan.judge()?;
        Ok(plan)
    }

    /// The names of all zones that requests may change: to be locked before the first of them, in an order that is the same
    /// for everybody. None for one operation alone, which locks what it finds.
    pub(super) fn to_be_locked<'r>(requests: impl Iterator<Item = &'r Request> + Clone) -> BTreeSet<Name> {
        let operations = requests.flat_map(|request| &request.operations);
        let mut names = BTreeSet::new();
        if operations.clone().nth(1).is_none() {
            return names;
        }
        for operation in operations {
            let (owner, named) = match operation {
                Operation::PutZone(PutZone { apex, .. })
                | Operation::PatchZone { apex, .. }
                | Operation::DeleteZone { apex }
                | Operation::Rollback { apex, .. } => (apex, Some(apex)),
                // It finds out and locks for itself, and is alone in its change.
                Operation::RollbackAll { .. } => continue,
                Operation::Put { owner, zone, .. }
                | Operation::AddValues { owner, zone, .. }
                | Operation::RemoveValues { owner, zone, .. }
                | Operation::Delete { owner, zone, .. } => (owner, zone.as_ref()),
            };
            if let Some(named) = named {
                names.insert(named.clone());
                continue;
            }
            let mut next = Some(owner.as_ref());
            while let Some(name) = next
                && names.insert(name.to_owned())
            {
                next = name.parent();
            }
        }
        names
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
        request: &Request,
        count: usize,
        known: &Known,
    ) -> Result<(), Problem> {
        let (if_match, limits) = (request.if_match.as_ref(), &request.limits);
        // Before anything is looked at: what it is about tells nothing to who may not touch it.
        match operation {
            Operation::PutZone(PutZone { apex, .. })
            | Operation::PatchZone { apex, .. }
            | Operation::DeleteZone { apex }
            | Operation::Rollback { apex, .. } => limits.allow_whole_zone(apex)?,
            Operation::RollbackAll { .. } => limits.allow_everything()?,
            Operation::Put { owner, rtype, .. }
            | Operation::AddValues { owner, rtype, .. }
            | Operation::RemoveValues { owner, rtype, .. }
            | Operation::Delete { owner, rtype: Some(rtype), .. } => {
                limits.allow_owner(owner)?;
                limits.allow_record(owner, *rtype)?;
            }
            Operation::Delete { owner, rtype: None, .. } => limits.allow_owner(owner)?,
        }
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
            Operation::Rollback { apex, to } => self.rollback(connection, apex, *to, if_match).await,
            Operation::RollbackAll { to, max_zones } => {
                self.rollback_all(connection, *to, *max_zones, if_match).await
            }
            Operation::Put { owner, rtype, zone, .. }
            | Operation::AddValues { owner, rtype, zone, .. }
            | Operation::RemoveValues { owner, rtype, zone, .. } => {
                if matches!(operation, Operation::Put { .. }) {
                    self.settle(owner, *rtype)?;
                }
                let zone = (zone.as_ref(), known);
                let plan = self.zone_of(connection, owner, Some(*rtype), zone, request, count).await?;
                plan.write(connection, operation).await
            }
            Operation::Delete { owner, rtype, zone } => {
                if let Some(rtype) = rtype {
                    self.settle(owner, *rtype)?;
                }
                let zone = (zone.as_ref(), known);
                let plan = self.zone_of(connection, owner, *rtype, zone, request, count).await?;
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
        let found = zones::lock_by_name(connection, apex.as_ref()).await?;
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
        let found = zones::lock_by_name(connection, apex.as_ref()).await?;
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
        (named, known): (Option<&Name>, &Known),
        request: &Request,
        operations: usize,
    ) -> Result<&mut ZonePlan, Problem> {
        let if_match = request.if_match.as_ref();
        let (apex, found) = match named {
            Some(apex) => (apex.clone(), known.zone(apex).flatten().cloned()),
            None => self.longest_match(connection, owner, rtype, known).await?,
        };
        request.limits.allow_zone(&apex)?;
        if !self.zones.contains_key(&apex) {
            let found = match found {
                Some(zone) => Some(zone),
                None => zones::lock_by_name(connection, apex.as_ref()).await?,
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
        for name in [owner, &apex] {
            if let Some(sets) = known.owner(&plan.zone, name) {
                plan.holds(name, sets);
            }
        }
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
        known: &Known,
    ) -> Result<(Name, Option<Zone>), Problem> {
        let start = lowest_apex(owner, rtype);
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
        let (mut planned, mut held) = (None, None);
        let mut unknown = Vec::new();
        let mut next = start;
        while let Some(name) = next {
            let apex = name.to_owned();
            if self.zones.contains_key(&apex) {
                planned = Some(apex);
                break;
            }
            match known.zone(&apex) {
                Some(Some(zone)) => {
                    held = Some(zone.clone());
                    break;
                }
                None if !self.no_apex.contains(&apex) => unknown.push(name),
                Some(None) | None => {}
            }
            next = name.parent();
        }
        let found = zones::lock_longest(connection, &unknown).await?.or(held);
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

    /// See [`ZonePlan::keep_serial`].
    fn keep_serials(&mut self) {
        self.zones.values_mut().for_each(ZonePlan::keep_serial);
    }

    /// Refuses what is not within the limits of who asks, by what would be different.
    fn permit(&self, limits: &Limits) -> Result<(), Problem> {
        if limits.is_empty() {
            return Ok(());
        }
        for (apex, plan) in &self.zones {
            limits.allow_zone(apex)?;
            if !plan.existed || plan.removed || plan.replaced || plan.restored.is_some() {
                limits.allow_whole_zone(apex)?;
            }
            for (owner, sets) in &plan.owners {
                for rtype in sets.before.keys().chain(sets.after.keys()) {
                    if sets.before.get(rtype) != sets.after.get(rtype) {
                        limits.allow_record(owner, *rtype)?;
                        if let Some(after) = sets.after.get(rtype) {
                            limits.allow_values(owner, after)?;
                        }
                    }
                }
            }
        }
        Ok(())
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

/// The lowest name that can be the apex of the zone that holds an RRset: the DS records of a zone stand on the parent's side of the
/// cut (RFC 4035 §2.4).
pub(crate) fn lowest_apex(owner: &Name, rtype: Option<Rtype>) -> Option<NameRef<'_>> {
    if rtype == Some(Rtype::DS) { owner.as_ref().parent() } else { Some(owner.as_ref()) }
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

/// Says which of several changes is meant.
fn located(problem: Problem, index: usize, count: usize) -> Problem {
    if count < 2 {
        return problem;
    }
    Problem::new(problem.code, format!("change {index}: {}", problem.message))
}
