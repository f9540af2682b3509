//! Zones of a name whose proof is gone are frozen (threat model R10): served as before, and changed by operators alone, until it is
//! back. Which ones is decided in the transaction in which the claim lapses, and stands with the zone: whoever changes it reads its row.

use godwit_wire::name::{Name, NameRef};

use super::claims::MOST_CLAIMS;
use crate::accounts::mail::{self, Mail};
use crate::auth::Access;
use crate::commit::plan::Plan;
use crate::error::{Code, Problem};
use crate::model::name_key;
use crate::model::zone::Zone;
use crate::store::claims::{self, Claim, State};
use crate::store::{Connection, audit, zones};

/// Zones that are read at once.
const READ: i64 = 1_000;
/// The most names that the audit is told.
const NOTED: usize = 100;

/// Refuses a change of a zone that is frozen, but to operators; its end is none.
///
/// # Errors
/// `OWNERSHIP_REQUIRED`.
pub(crate) fn refuse(plan: &Plan, access: &Access) -> Result<(), Problem> {
    // Where the database alone is to decide, it does.
    if access.is_everything() {
        return Ok(());
    }
    let frozen = plan.zones.values().find(|plan| !plan.removed && plan.zone.frozen_at_us.is_some());
    frozen.map_or(Ok(()), |plan| Err(problem(&plan.zone)))
}

/// What is said of a zone that is frozen.
pub(crate) fn problem(zone: &Zone) -> Problem {
    let message = format!(
        "the zone {} is frozen, as the proof is gone that its name is tenant {}'s: put the record of the claim back that \
         /api/v1/claims shows, then POST /api/v1/claims/{{id}}/check; an operator changes it meanwhile",
        zone.apex, zone.owner_number
    );
    Problem::new(Code::OwnershipRequired, message)
}

/// Freezes the zones that rest on a claim which has just lapsed, and tells the owners of its tenant; `days`: after how many they are
/// released.
///
/// # Errors
/// Of the database.
pub(super) async fn freeze(
    connection: &mut Connection,
    claim: &Claim,
    now_us: i64,
    days: Option<u32>,
) -> sqlx::Result<()> {
    let own = claims::list(connection, Some(claim.tenant), uuid::Uuid::nil(), MOST_CLAIMS).await?;
    let proven: Vec<Name> =
        own.into_iter().filter(|own| own.state == State::Verified).map(|own| own.name).collect();
    let mut frozen = Frozen::default();
    let mut next = Some(Vec::new());
    while let Some(after) = next {
        let (found, then) = step(connection, claim, &after).await?;
        next = then;
        for zone in found.into_iter().filter(|zone| zone.frozen_at_us.is_none()) {
            if !rests_on_claims(connection, &zone, &proven).await? {
                continue;
            }
            frozen.add(&zone.apex);
            zones::freeze(connection, zone.id, now_us).await?;
        }
    }
    if frozen.count == 0 {
        return Ok(());
    }
    frozen.note(connection, "domain.freeze").await?;
    let (tenant, zones) = (claim.tenant, frozen.count);
    mail::enqueue_to_owners(connection, tenant, |account| Mail::ZonesFrozen {
        tenant,
        account,
        name: claim.name.to_string(),
        zones,
        days,
    })
    .await
}

/// Thaws the zones at and below a name that has just been proven.
///
/// # Errors
/// Of the database.
pub(super) async fn thaw(connection: &mut Connection, claim: &Claim) -> sqlx::Result<()> {
    let mut thawed = Frozen::default();
    let mut next = Some(Vec::new());
    while let Some(after) = next {
        let (found, then) = step(connection, claim, &after).await?;
        next = then;
        for zone in found.into_iter().filter(|zone| zone.frozen_at_us.is_some()) {
            thawed.add(&zone.apex);
            zones::thaw(connection, zone.id).await?;
        }
    }
    if thawed.count > 0 { thawed.note(connection, "domain.thaw").await } else { Ok(()) }
}

/// Zones of a claim's tenant at and below its name, behind a key, in canonical order: who locks several does so in one. And the key
/// behind which there are more, if any.
async fn step(
    connection: &mut Connection,
    claim: &Claim,
    after: &[u8],
) -> sqlx::Result<(Vec<Zone>, Option<Vec<u8>>)> {
    let apex = claim.name.as_ref();
    let mut found = Vec::new();
    let mut after = after.to_vec();
    if after.is_empty() {
        after = name_key::encode(apex);
        let at = zones::by_name(connection, apex).await?;
        found.extend(at.filter(|zone| zone.owner_number == claim.tenant));
    }
    let page = zones::page_of(connection, claim.tenant, Some(&after), READ).await?;
    let is_whole = page.len() == usize::try_from(READ).unwrap_or(usize::MAX);
    let last = page.last().filter(|last| is_whole && last.apex.as_ref().is_below(apex));
    let next = last.map(|last| name_key::encode(last.apex.as_ref()));
    found.extend(page.into_iter().take_while(|zone| zone.apex.as_ref().is_below(apex)));
    Ok((found, next))
}

/// Whether it takes a proof to have a zone: not where the tenant has another one of a name at or above it, nor inside of somebody
/// else's zone, as below a suffix.
async fn rests_on_claims(connection: &mut Connection, zone: &Zone, proven: &[Name]) -> sqlx::Result<bool> {
    if proven.iter().any(|name| zone.apex.as_ref().is_at_or_below(name.as_ref())) {
        return Ok(false);
    }
    let mut lowest = zone.apex.clone();
    loop {
        let above: Vec<NameRef<'_>> = lowest.as_ref().ancestors().collect();
        match zones::longest(connection, &above).await? {
            None => return Ok(true),
            Some(above) if above.owner_number == zone.owner_number => lowest = above.apex,
            Some(_) => return Ok(false),
        }
    }
}

/// What the audit is told.
#[derive(Default)]
struct Frozen {
    count: usize,
    names: Vec<String>,
}

impl Frozen {
    fn add(&mut self, apex: &Name) {
        self.count += 1;
        if self.count <= NOTED {
            self.names.push(apex.to_string());
        }
    }

    async fn note(&self, connection: &mut Connection, action: &str) -> sqlx::Result<()> {
        let Frozen { count, names } = self;
        tracing::info!(zones = count, action, "the proof of their names is gone, or back");
        audit::note(connection, &audit::Who::itself(), action, &names.join(" ")).await
    }
}
