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
use crate::auth::Access;
use crate::auth::access::no_zone;
use crate::auth::limits::Limits;
use crate::error::{Code, Problem};
use crate::model::change::{IfMatch, Operation, PutMode, PutZone, Request, SoaChange};
use crate::model::name_key;
use crate::model::role::Role;
use crate::model::soa::{Soa, serial_of, set_serial};
use crate::model::zone::{TtlPolicy, Zone};
use crate::names::{self, Place, Rules};
use crate::store::zones::Longest;
use crate::store::{Connection, rrsets, tenants, zones};
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
    /// And those that it cannot bring back: they are somebody else's by now.
    pub skipped: Vec<Name>,
    /// RRsets that a put or a delete of this request has dealt with: a second one would make its order matter.
    settled: HashSet<(Name, Rtype)>,
}

impl Plan {
    /// Works out a request against the database, of which something is known already.
    ///
    /// # Errors
    /// What speaks against it.
    pub(crate) async fn make(
        connection: &mut Connection,
        request: &Request,
        known: &Known,
        rules: &Rules,
    ) -> Result<Plan, Problem> {
        let mut plan = Plan::default();
        let count = request.operations.len();
        for (index, operation) in request.operations.iter().enumerate() {
            let done = plan.operate(connection, operation, request, count, (known, rules)).await;
            done.map_err(|problem| located(problem, index, count))?;
        }
        plan.keep_serials();
        plan.permit(&request.limits)?;
        names::frozen::refuse(&plan, &request.access)?;
        plan.judge()?;
        names::refuse_wildcards(connection, &plan).await?;
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
                | Operation::ReleaseZone { apex, .. }
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

    /// The names of all zones that requests may make, where their owners must be kept apart: to be claimed before anything is
    /// locked.
    pub(super) fn to_be_claimed<'r>(requests: impl Iterator<Item = &'r Request>) -> BTreeSet<Name> {
        let operations = requests.flat_map(|request| &request.operations);
        let made = operations.filter_map(|operation| match operation {
            Operation::PutZone(PutZone { apex, mode: PutMode::Create | PutMode::Upsert, .. })
            | Operation::Rollback { apex, .. } => Some(apex.clone()),
            _ => None,
        });
        made.collect()
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
        (known, rules): (&Known, &Rules),
    ) -> Result<(), Problem> {
        let if_match = request.if_match.as_ref();
        // Before anything is looked at: what it is about tells nothing to who may not touch it.
        allow(operation, &request.limits, &request.access)?;
        match operation {
            Operation::PutZone(put) => self.put_zone(connection, put, request, rules).await,
            Operation::PatchZone { apex, ttl_policy, soa } => {
                let zone = self.existing_zone(connection, apex, request).await?;
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
                let plan = self.existing_zone(connection, apex, request).await?;
                // Whoever deletes a zone could make it their own: that takes more than what was granted.
                request.access.need_at_home(&plan.zone, Role::Admin)?;
                plan.removed = true;
                Ok(())
            }
            Operation::ReleaseZone { apex, frozen_by_us } => {
                let plan = self.existing_zone(connection, apex, request).await?;
                // The proof may have come back meanwhile.
                if plan.zone.frozen_at_us.is_none_or(|since_us| since_us > *frozen_by_us) {
                    let message = format!("the zone {apex} is not frozen, or not for so long");
                    return Err(Problem::new(Code::Conflict, message));
                }
                plan.removed = true;
                plan.released = true;
                Ok(())
            }
            Operation::Rollback { apex, to } => self.rollback(connection, apex, *to, request, rules).await,
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
        request: &Request,
        rules: &Rules,
    ) -> Result<(), Problem> {
        let (apex, access, if_match) = (&put.apex, &request.access, request.if_match.as_ref());
        let found = match zones::longest_seen(connection, &[apex.as_ref()], true).await? {
            Longest::Nothing => None,
            Longest::Zone(zone) if access.finds(&zone)? => Some(*zone),
            // That a name is taken is no secret: who makes a zone has to be told.
            Longest::Hidden | Longest::Zone(_) if put.mode != PutMode::Replace => {
                return Err(Problem::new(Code::DomainExists, format!("the zone {apex} is somebody else's")));
            }
            Longest::Hidden | Longest::Zone(_) => return Err(no_zone(apex)),
        };
        match (&found, put.mode) {
            (Some(_), PutMode::Create) => {
                return Err(Problem::new(Code::DomainExists, format!("the zone {apex} exists already")));
            }
            (None, PutMode::Replace) => return Err(no_zone(apex)),
            (Some(zone), _) => access.need(zone, Role::Editor)?,
            (None, _) => {}
        }
        self.check_version(found.as_ref(), apex, if_match)?;
        let owner_number = match &found {
            Some(zone) => zone.owner_number,
            None => new_owner(connection, apex, put.tenant, access, rules).await?,
        };
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
            None => ZonePlan::new(apex.clone(), put.ttl_policy.unwrap_or(TtlPolicy::Bounded), owner_number),
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
        request: &Request,
    ) -> Result<&mut ZonePlan, Problem> {
        let found = zones::lock_by_name(connection, apex.as_ref()).await?;
        let found = seen(found, &request.access)?;
        self.check_version(found.as_ref(), apex, request.if_match.as_ref())?;
        let zone = found.ok_or_else(|| no_zone(apex))?;
        request.access.need(&zone, Role::Editor)?;
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
            let found = seen(found, &request.access)?;
            self.check_version(found.as_ref(), &apex, if_match)?;
            let found = found.ok_or_else(|| named.map_or_else(|| no_zone_for(owner), no_zone))?;
            request.access.need(&found, Role::Editor)?;
            let mut plan = ZonePlan::of(found);
            // Who does not see all zones cannot tell.
            let sees_all = !connection.is_guarded();
            plan.leaf = operations > 1 && sees_all && !has_zone_below(connection, apex.as_ref()).await?;
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
        let found = match zones::longest_seen(connection, &unknown, true).await? {
            Longest::Zone(zone) => Some(*zone),
            Longest::Nothing => held,
            Longest::Hidden => return Err(no_zone_for(owner)),
        };
        let is_longer = |name: &NameRef<'_>| found.as_ref().is_none_or(|zone| *name != zone.apex.as_ref());
        self.no_apex.extend(unknown.into_iter().take_while(is_longer).map(NameRef::to_owned));
        if let Some(apex) = found.as_ref().map(|zone| zone.apex.clone()).or(planned) {
            return Ok((apex, found));
        }
        Err(no_zone_for(owner))
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

/// A zone that is there, where it is for who asks.
///
/// # Errors
/// `FORBIDDEN` to who would see it from elsewhere.
fn seen(found: Option<Zone>, access: &Access) -> Result<Option<Zone>, Problem> {
    match found {
        Some(zone) if access.finds(&zone)? => Ok(Some(zone)),
        _ => Ok(None),
    }
}

/// A name without records, or without those of a type.
pub(crate) fn no_records(owner: &Name, rtype: Option<Rtype>) -> Problem {
    let what = rtype.map_or_else(|| "no records".to_owned(), |rtype| format!("no {rtype} records"));
    Problem::new(Code::RecordNotFound, format!("{owner} has {what}"))
}

/// What is said of a name that is in no zone, or in one that somebody does not see.
pub(crate) fn no_zone_for(owner: &Name) -> Problem {
    Problem::new(Code::DomainNotFound, format!("no zone here holds {owner}"))
}

/// Refuses what who asks may not do, as far as that is known without what is there.
///
/// # Errors
/// `FORBIDDEN`.
pub(crate) fn allow(operation: &Operation, limits: &Limits, access: &Access) -> Result<(), Problem> {
    match operation {
        Operation::PutZone(PutZone { apex, .. })
        | Operation::PatchZone { apex, .. }
        | Operation::DeleteZone { apex }
        | Operation::Rollback { apex, .. } => limits.allow_whole_zone(apex),
        Operation::ReleaseZone { .. } | Operation::RollbackAll { .. } => {
            limits.allow_everything()?;
            if !access.is_everything() {
                return Err(Problem::new(Code::Forbidden, "this is about the zones of everybody"));
            }
            Ok(())
        }
        Operation::Put { owner, rtype, .. }
        | Operation::AddValues { owner, rtype, .. }
        | Operation::RemoveValues { owner, rtype, .. }
        | Operation::Delete { owner, rtype: Some(rtype), .. } => {
            limits.allow_owner(owner)?;
            limits.allow_record(owner, *rtype)
        }
        Operation::Delete { owner, rtype: None, .. } => limits.allow_owner(owner),
    }
}

/// Whose a new zone is, if it may be: nobody gets between somebody else's zone and what is below it. The database decides that
/// once more where it is written, and looks at what is below, too.
async fn new_owner(
    connection: &mut Connection,
    apex: &Name,
    named: Option<u32>,
    access: &Access,
    rules: &Rules,
) -> Result<u32, Problem> {
    let owner = access.owner_of_new(named)?;
    if access.account().is_some() {
        may_be_made(connection, apex, owner, access, rules).await?;
    } else if owner > 0 && tenants::by_number(connection, owner).await?.is_none() {
        return Err(Problem::new(Code::TenantNotFound, format!("there is no tenant {owner}")));
    }
    names::to_be_made(connection, apex.as_ref(), owner, access.account().is_none()).await?;
    Ok(owner)
}

/// Whether a tenant may have a new zone of this name: inside of what is its own, below a suffix, or where it has proven that the
/// name is its own.
async fn may_be_made(
    connection: &mut Connection,
    apex: &Name,
    owner: u32,
    access: &Access,
    rules: &Rules,
) -> Result<(), Problem> {
    if let Some(suffix) = names::suffix_of(connection, apex.as_ref()).await? {
        return rules.may_take_below(connection, &suffix, apex, owner).await;
    }
    let above: Vec<NameRef<'_>> = apex.as_ref().ancestors().collect();
    let place = match zones::longest_seen(connection, &above, false).await? {
        Longest::Nothing => Place::Free,
        Longest::Zone(zone) if zone.owner_number == owner || access.role_of(&zone) >= Some(Role::Admin) => {
            // What is below takes names out of it.
            if zone.frozen_at_us.is_some() && !access.is_unchecked() {
                return Err(names::frozen::problem(&zone));
            }
            if zone.owner_number == 0 { Place::Granted } else { Place::Inside }
        }
        Longest::Zone(_) | Longest::Hidden => {
            let message =
                format!("{apex} is below a zone of somebody else's, who would have to grant you admin of it");
            return Err(Problem::new(Code::Forbidden, message));
        }
    };
    rules.may_take(connection, apex, owner, place).await
}

/// Says which of several changes is meant.
fn located(problem: Problem, index: usize, count: usize) -> Problem {
    if count < 2 {
        return problem;
    }
    let message = Problem::new(problem.code, format!("change {index}: {}", problem.message)).message;
    Problem { message, ..problem }
}
