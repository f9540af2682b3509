//! Making zones what they were: a new version whose records are those of an old one. The change holds what differs.

use std::collections::BTreeSet;

use godwit_wire::name::{Name, NameRef};

use super::{Plan, READ_WHOLE_FROM, READ_WHOLE_RATIO, ZonePlan, may_be_made};
use crate::error::{Code, Problem};
use crate::model::change::{IfMatch, Request};
use crate::model::role::Role;
use crate::model::zone::Zone;
use crate::names::{self, Rules};
use crate::past::{self, At, Past};
use crate::store::{Connection, Kind, history, relay, rrsets, tenants, zones};

/// From so many RRsets on, a change of everything takes no further zone: it is held in memory while it is made, and nothing
/// else is made meanwhile.
const MAX_STEPS: usize = 500_000;

impl Plan {
    /// Makes one zone what it was; one that is gone is there again.
    pub(super) async fn rollback(
        &mut self,
        connection: &mut Connection,
        apex: &Name,
        to: At,
        request: &Request,
        rules: &Rules,
    ) -> Result<(), Problem> {
        let (access, if_match) = (&request.access, request.if_match.as_ref());
        let found = zones::lock_by_name(connection, apex.as_ref()).await?;
        past::seen(connection, apex, found.as_ref(), access).await?;
        if let Some(zone) = &found {
            access.need(zone, Role::Editor)?;
        }
        if found.is_some() || if_match.is_some() {
            self.check_version(found.as_ref(), apex, if_match)?;
        }
        let version = past::version_at(connection, apex, to).await?;
        let Some(past) = past::back_to(connection, apex, version).await? else {
            let message =
                format!("there was no zone {apex} in version {version}: delete it if that is meant");
            return Err(Problem::new(Code::DomainNotFound, message));
        };
        past.needs(found.as_ref(), access)?;
        let owner = past.zone.owner_number;
        if found.is_none() && access.role_in(owner) < Some(Role::Admin) {
            let message = format!("that makes the zone {apex}, which takes admin in its tenant");
            return Err(Problem::new(Code::Forbidden, message));
        }
        if found.is_none() && access.account().is_some() {
            may_be_made(connection, apex, owner, access, rules).await?;
        }
        self.bring_back(connection, apex, past, access.account().is_none()).await?;
        Ok(())
    }

    /// Makes everything what it was after a sequence, as an operator asks for, zone by zone, as far as one change can.
    pub(super) async fn rollback_all(
        &mut self,
        connection: &mut Connection,
        to: u64,
        max_zones: usize,
        if_match: Option<&IfMatch>,
    ) -> Result<(), Problem> {
        if if_match.is_some() {
            let message = "If-Match names the version of one zone; this is about all of them";
            return Err(Problem::new(Code::MalformedRequest, message));
        }
        is_kept(connection, to).await?;
        let changed = history::changed_since(connection, to, i64::MAX).await?;
        if connection.kind() == Kind::Postgres {
            // Found is not locked: nobody changes them from here on. Claims come before locks, as everywhere.
            let names: BTreeSet<Name> = changed.iter().map(|(apex, _)| apex.clone()).collect();
            zones::claim(connection, &names).await?;
            zones::lock_in_order(connection, &names).await?;
        }
        let mut steps = 0;
        let mut brought = 0;
        for (apex, version) in &changed {
            if steps >= MAX_STEPS || brought >= max_zones {
                self.left += 1;
                continue;
            }
            let past = match version {
                0 => None,
                version => past::back_to(connection, apex, *version).await?,
            };
            let found = zones::by_name(connection, apex.as_ref()).await?;
            if let Some(past) = &past
                && is_elsewhere(connection, &past.zone, found.as_ref()).await?
            {
                self.skipped.push(apex.clone());
                continue;
            }
            let here = match (past, found) {
                (Some(past), _) => self.bring_back(connection, apex, past, true).await?,
                // It was made, or came back, since.
                (None, Some(zone)) => {
                    let held = rrsets::count(connection, zone.id).await?;
                    let plan = self.zones.entry(apex.clone()).or_insert_with(|| ZonePlan::of(zone));
                    plan.removed = true;
                    usize::try_from(held).unwrap_or(usize::MAX)
                }
                (None, None) => 0,
            };
            // What is as it was already, as after a change before this one, is no part of it.
            let Some(plan) = self.zones.get_mut(apex) else { continue };
            plan.keep_serial();
            if plan.changes() {
                brought += 1;
                steps += here.max(1);
            } else {
                self.zones.remove(apex);
            }
        }
        Ok(())
    }

    /// Plans what leads from the present to the past; gives how many RRsets differ.
    async fn bring_back(
        &mut self,
        connection: &mut Connection,
        apex: &Name,
        past: Past,
        by_operator: bool,
    ) -> Result<usize, Problem> {
        let then = past.zone.clone();
        let present = zones::by_name(connection, apex.as_ref()).await?;
        let count = past.differs().len();
        let mut plan = match present {
            Some(zone) => {
                if zone.owner_number != then.owner_number {
                    let message = format!("{apex} belonged to somebody else in version {}", then.version);
                    return Err(Problem::new(Code::Conflict, message));
                }
                let mut plan = ZonePlan::of(zone);
                if count >= READ_WHOLE_FROM {
                    let held = rrsets::count(connection, plan.zone.id).await?;
                    if usize::try_from(held).unwrap_or(usize::MAX) / READ_WHOLE_RATIO <= count {
                        plan.read_whole(connection).await?;
                    }
                }
                plan
            }
            None => {
                refuse_taken(connection, apex, then.owner_number).await?;
                let mut plan = ZonePlan::new(apex.clone(), then.ttl_policy, then.owner_number);
                plan.departed = zones::take_departed(connection, apex.as_ref()).await?;
                names::to_be_made(connection, apex.as_ref(), then.owner_number, by_operator).await?;
                plan
            }
        };
        plan.ttl_policy = then.ttl_policy;
        plan.presigned = then.presigned;
        for (owner, rtype, rrset) in past.differs() {
            let sets = &mut plan.owner(connection, owner).await?.after;
            match rrset {
                Some(rrset) => drop(sets.insert(rtype, rrset.clone())),
                None => drop(sets.remove(&rtype)),
            }
        }
        plan.restored = Some(then);
        self.zones.insert(apex.clone(), plan);
        Ok(count)
    }
}

/// Whether every change after a sequence is still there to be taken back.
async fn is_kept(connection: &mut Connection, sequence: u64) -> Result<(), Problem> {
    let state = relay::read(connection).await?;
    let last = state.map_or(0, |state| state.sequence);
    if sequence > last {
        let message = format!("there is no sequence {sequence} yet: the last one is {last}");
        return Err(Problem::new(Code::VersionNotFound, message));
    }
    if history::kept_since(connection, sequence).await? < last - sequence {
        let message = format!("not every change after sequence {sequence} is kept any more");
        return Err(Problem::new(Code::VersionGone, message));
    }
    Ok(())
}

/// Whether a zone cannot be what it was, as it, or a name above it, is somebody else's by now, or its tenant is gone.
async fn is_elsewhere(
    connection: &mut Connection,
    then: &Zone,
    present: Option<&Zone>,
) -> Result<bool, Problem> {
    if let Some(present) = present {
        return Ok(present.owner_number != then.owner_number);
    }
    let is_gone = then.owner_number > 0 && tenants::by_number(connection, then.owner_number).await?.is_none();
    Ok(is_gone || refuse_taken(connection, &then.apex, then.owner_number).await.is_err())
}

/// A zone that was deleted does not come back below one that belongs to somebody else by now; the operator (0) shares its
/// names with everybody.
async fn refuse_taken(connection: &mut Connection, apex: &Name, owner_number: u32) -> Result<(), Problem> {
    let above: Vec<NameRef<'_>> = apex.as_ref().ancestors().collect();
    let Some(above) = zones::longest(connection, &above).await? else { return Ok(()) };
    if above.owner_number == 0 || above.owner_number == owner_number {
        return Ok(());
    }
    let message = format!("{apex} cannot come back: {} belongs to somebody else by now", above.apex);
    Err(Problem::new(Code::Conflict, message))
}
