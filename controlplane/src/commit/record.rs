//! Writes a plan down: zone rows first, then records, then what tells about it, and the change set for the data planes.

use uuid::Uuid;

use godwit_wire::feed::digest::{rrset_digest, zone_term};
use godwit_wire::feed::{ChangeSet, Digest, DigestKey, OwnedRrset, RrsetChange, ZoneChange, ZoneChangeKind};
use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

use super::plan::{Plan, ZonePlan};
use super::undo;
use crate::error::{Code, Problem};
use crate::model::change::Request;
use crate::model::soa::{serial_of, set_serial};
use crate::model::zone::{Zone, is_newer, next_serial};
use crate::names::{self, Rules};
use crate::store::batch::Batch;
use crate::store::changes::Waiting;
use crate::store::{Connection, audit, changes, history, rrsets, zones};

/// What a change is written down with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct With<'a> {
    /// What digests are keyed with.
    pub(crate) digest_key: &'a DigestKey,
    /// The sequence that it gets if it changes anything; `None` where the relay gives it after the commit.
    pub(crate) sequence: Option<u64>,
    /// Which names are kept for whom.
    pub(crate) rules: &'a Rules,
    /// When.
    pub(crate) now_us: i64,
}

/// Writes a plan into the batch, long ones in parts to the database. Afterwards the plan's zones hold their new version,
/// serial and digest. Gives what to publish; `None` when nothing changed.
///
/// # Errors
/// Of the database, or a serial that would not rise.
pub(crate) async fn write(
    batch: &mut Batch,
    connection: &mut Connection,
    request: &Request,
    plan: &mut Plan,
    with: With<'_>,
) -> Result<Option<Waiting>, Problem> {
    let now_us = with.now_us;
    let mut root_change = Digest::default();
    let mut change_set =
        ChangeSet { id: request.id.into_bytes(), committed_at_us: now_us, zones: Vec::new() };
    for zone in plan.zones.values_mut().filter(|zone| zone.changes()) {
        root_change.sub(term(zone, with.digest_key));
        change_set.zones.push(write_zone(batch, connection, request, zone, with).await?);
        if !zone.removed {
            root_change.add(term_of(&zone.zone, with.digest_key));
        }
    }
    let payload = if change_set.zones.is_empty() { Vec::new() } else { super::encode(&change_set) };
    let settled_by = if payload.is_empty() { last_change(connection, plan).await? } else { None };
    let new = changes::New {
        id: request.id,
        at_us: now_us,
        actor: &request.who.actor,
        request_id: &request.who.request_id,
        payload: &payload,
        settled_by,
    };
    changes::insert(batch, &new, root_change, with.sequence);
    let objects = objects(plan);
    let entry = audit::Entry {
        at_us: now_us,
        change: Some(request.id),
        ..audit::Entry::done(&request.who, request.action, &objects)
    };
    audit::insert(batch, &entry);
    let (id, committed_at_us) = (request.id, now_us);
    let waiting = Waiting { commit_number: 0, id, committed_at_us, payload, root_change, withheld: false };
    Ok((!waiting.payload.is_empty()).then_some(waiting))
}

/// What a zone adds to the digest of everything before the change.
fn term(plan: &ZonePlan, key: &DigestKey) -> Digest {
    if plan.existed { term_of(&plan.zone, key) } else { Digest::default() }
}

fn term_of(zone: &Zone, key: &DigestKey) -> Digest {
    zone_term(key, zone.apex.as_ref(), zone.version, zone.digest)
}

/// The newest of the changes that made the zones what they are: what a request that changes nothing waits for.
async fn last_change(connection: &mut Connection, plan: &Plan) -> sqlx::Result<Option<Uuid>> {
    let mut last = None;
    for zone in plan.zones.values() {
        let made = changes::of_version(connection, zone.zone.apex.as_ref(), zone.zone.version).await?;
        last = last.max(made);
    }
    Ok(last.map(|(_, change)| change))
}

fn objects(plan: &Plan) -> String {
    let names: Vec<String> = plan.zones.keys().take(100).map(ToString::to_string).collect();
    names.join(" ")
}

async fn write_zone(
    batch: &mut Batch,
    connection: &mut Connection,
    request: &Request,
    plan: &mut ZonePlan,
    With { digest_key, rules, now_us, .. }: With<'_>,
) -> Result<ZoneChange, Problem> {
    let was = plan.existed.then(|| plan.zone.clone());
    let base_version = if plan.existed { plan.zone.version } else { 0 };
    let before = plan.departed.map_or(plan.zone.version, |(version, _)| version);
    if !plan.removed {
        let apex = plan.zone.apex.clone();
        plan.owner(connection, &apex).await?;
        is_as_it_was(plan, digest_key)?;
        plan.zone.serial = raise_serial(plan, now_us)?;
        plan.zone.digest = digest(plan, digest_key);
    }
    let more_rrsets = plan.more_rrsets();
    let zone = &mut plan.zone;
    zone.version = before + 1;
    zone.ttl_policy = plan.ttl_policy;
    zone.presigned = plan.presigned;
    zone.updated_at_us = now_us;
    let mut put = 0;
    let mut deleted = 0;
    let kind = if plan.removed {
        ZoneChangeKind::Remove
    } else {
        if plan.existed {
            zones::update(batch, zone, more_rrsets);
        } else {
            zone.created_at_us = now_us;
            zone.id = zones::insert(connection, zone, more_rrsets).await?;
            names::made(connection, zone, request.access.account().is_none()).await?;
        }
        let steps = difference(plan);
        let mut puts = Vec::with_capacity(steps.len());
        for step in &steps {
            match step {
                RrsetChange::Put(OwnedRrset { owner, rrset }) => puts.push((owner, rrset)),
                RrsetChange::Delete { owner, rtype } => {
                    rrsets::delete(batch, plan.zone.id, owner.as_ref(), *rtype);
                    deleted += 1;
                    if batch.is_full() {
                        batch.run(connection).await?;
                    }
                }
            }
        }
        rrsets::put(batch, connection, plan.zone.id, &puts).await?;
        put = puts.len();
        ZoneChangeKind::Update(steps)
    };
    let zone = &plan.zone;
    let entry = history::Entry {
        zone: zone.apex.as_ref(),
        owner_number: zone.owner_number,
        version: zone.version,
        serial: zone.serial,
        change: request.id,
        at_us: now_us,
        kind: kind_name(plan),
        action: request.action,
        put,
        deleted,
        before: was.as_ref(),
        undo: &[],
    };
    undo::write(batch, connection, plan, entry).await?;
    if plan.removed {
        rules.released(connection, batch, &plan.zone).await?;
        zones::delete(batch, &plan.zone, now_us);
    }
    let zone = &plan.zone;
    Ok(zone_change(zone, base_version, kind))
}

fn zone_change(zone: &Zone, base_version: u64, kind: ZoneChangeKind) -> ZoneChange {
    ZoneChange {
        zone: zone.apex.clone(),
        owner: zone.owner_number,
        base_version,
        version: zone.version,
        kind,
    }
}

fn kind_name(plan: &ZonePlan) -> &'static str {
    match (plan.removed, plan.existed, plan.replaced) {
        (true, _, _) => "remove",
        (_, false, _) => "create",
        (_, _, true) => "replace",
        _ => "update",
    }
}

/// What is brought back is what it was: nothing is published that the history does not vouch for.
fn is_as_it_was(plan: &mut ZonePlan, key: &DigestKey) -> Result<(), Problem> {
    let Some(then) = plan.restored.clone() else { return Ok(()) };
    let apex = plan.zone.apex.clone();
    let soa = |plan: &mut ZonePlan, serial| {
        let soa = plan.owners.get_mut(&apex)?.after.get_mut(&Rtype::SOA)?;
        let is = serial_of(soa)?;
        set_serial(soa, serial);
        Some(is)
    };
    let serial = soa(plan, then.serial);
    let is_whole = serial.is_some() && digest(plan, key) == then.digest;
    if let Some(serial) = serial {
        soa(plan, serial);
    }
    if is_whole {
        return Ok(());
    }
    tracing::error!(zone = %apex, version = then.version, "what is kept of a version does not make it again");
    let message = format!("version {} of {apex} is damaged and cannot be brought back", then.version);
    Err(Problem::new(Code::VersionGone, message))
}

/// The digest of the zone with its changes.
fn digest(plan: &ZonePlan, key: &DigestKey) -> Digest {
    let mut sum = plan.zone.digest;
    for (name, owner) in &plan.owners {
        let term = |rrset| rrset_digest(key, plan.zone.apex.as_ref(), name.as_ref(), rrset);
        for (rtype, before) in &owner.before {
            if owner.after.get(rtype) != Some(before) {
                sum.sub(term(before));
            }
        }
        for (rtype, after) in &owner.after {
            if owner.before.get(rtype) != Some(after) {
                sum.add(term(after));
            }
        }
    }
    sum
}

/// Puts and deletes that lead from before to after.
fn difference(plan: &ZonePlan) -> Vec<RrsetChange> {
    let mut steps = Vec::new();
    for (name, owner) in &plan.owners {
        for (rtype, rrset) in &owner.after {
            if owner.before.get(rtype) != Some(rrset) {
                steps.push(RrsetChange::Put(OwnedRrset { owner: name.clone(), rrset: rrset.clone() }));
            }
        }
        for rtype in owner.before.keys().filter(|rtype| !owner.after.contains_key(rtype)) {
            steps.push(RrsetChange::Delete { owner: name.clone(), rtype: *rtype });
        }
    }
    steps
}

/// Gives the SOA of a changed zone its serial: one more than before, the time, or what the caller wrote, whichever is
/// furthest on. Signed zones keep what was signed.
fn raise_serial(plan: &mut ZonePlan, now_us: i64) -> Result<u32, Problem> {
    let now_s = u32::try_from((now_us / 1_000_000) & 0xFFFF_FFFF).unwrap_or(0);
    let apex: Name = plan.zone.apex.clone();
    let previous = match plan.departed {
        Some((_, serial)) => Some(serial),
        None => plan.existed.then_some(plan.zone.serial),
    };
    let owner = plan.owners.entry(apex.clone()).or_default();
    let Some(soa) = owner.after.get_mut(&Rtype::SOA) else {
        return Err(Problem::new(Code::Conflict, format!("the apex {apex} has no SOA")));
    };
    let written = serial_of(soa).ok_or_else(|| Problem::new(Code::Internal, "an SOA is damaged"))?;
    if plan.presigned {
        return match previous {
            Some(previous) if !is_newer(written, previous) => Err(Problem::new(
                Code::Conflict,
                format!("the serial {written} of the signed zone {apex} does not follow {previous}"),
            )),
            _ => Ok(written),
        };
    }
    let least = previous.map_or(now_s, |previous| next_serial(previous, now_s));
    let further_on = !plan.serial_unset && is_newer(written, least) && is_plausible(written, previous);
    let serial = if further_on { written } else { least };
    set_serial(soa, serial);
    Ok(serial)
}

/// Whether a serial that a caller wrote follows the one before; anything follows nothing.
fn is_plausible(written: u32, previous: Option<u32>) -> bool {
    previous.is_none_or(|previous| is_newer(written, previous))
}
