//! Claims: a tenant says that a name is its own, and proves it by a record in the DNS, or by a delegation (threat model R10). What comes of
//! one is decided where it was looked for: [`super::check`].

use std::collections::BTreeSet;
use std::sync::Arc;

use godwit_wire::name::Name;
use serde_json::json;
use uuid::Uuid;

use super::delegation::Delegation;
use super::{DAY_US, Rules, check};
use crate::commit::Committer;
use crate::error::{Code, Problem};
use crate::hex;
use crate::jobs;
use crate::model::name_key;
use crate::model::role::Role;
use crate::store::batch::Batch;
use crate::store::claims::{self, Claim, State};
use crate::store::jobs::{New, enqueue};
use crate::store::{Connection, Kind, Views, now_us, zones};
use crate::tenants::Asker;

/// How long a proof is waited for.
const WAITS_US: i64 = 7 * DAY_US;
/// When it is looked for first: a resolver that finds none remembers that for a while.
const FIRST_US: i64 = 300_000_000;
/// Claims of a tenant, ended ones included.
pub(super) const MOST_CLAIMS: i64 = 200;
/// The label below a name where its proof stands.
const LABEL: &[u8] = b"_godwit-challenge";

/// See the module.
pub(crate) struct Claims {
    pub(crate) committer: Committer,
    pub(crate) views: Views,
    pub(crate) rules: Arc<Rules>,
    pub(crate) jobs: jobs::Handle,
    /// `None` where claims have no name servers.
    pub(crate) delegation: Option<Arc<Delegation>>,
}

/// Where the proof of a name stands; `None` where that would be too long a name.
pub(crate) fn place_of(name: &Name) -> Option<Name> {
    let mut wire = vec![u8::try_from(LABEL.len()).unwrap_or_default()];
    wire.extend_from_slice(LABEL);
    wire.extend_from_slice(name.as_wire());
    Name::from_wire(&wire).ok()
}

/// What has to stand there.
pub(crate) fn text_of(claim: &Claim) -> String {
    format!("godwit={}", hex::encoded(&claim.token))
}

impl Claims {
    /// The name servers that prove a claim, where the zone above delegates its name to one of them.
    pub(crate) fn name_servers(&self, claim: &Claim) -> Vec<Name> {
        self.delegation.as_ref().map(|delegation| delegation.names_of(claim)).unwrap_or_default()
    }

    /// Claims behind one, by id: those of the tenants of who asks, or all of them to an operator; of one tenant where one is named.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn list(
        &self,
        asker: &Asker,
        tenant: Option<u32>,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<Claim>, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        if asker.operates().is_ok() {
            return Ok(claims::list(&mut connection, tenant, after, limit).await?);
        }
        let mut listed = Vec::new();
        for own in asker.access().tenants().filter(|own| tenant.is_none_or(|tenant| tenant == *own)) {
            listed.extend(claims::list(&mut connection, Some(own), after, limit).await?);
        }
        listed.sort_by_key(|claim| claim.id);
        listed.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(listed)
    }

    /// One of them.
    ///
    /// # Errors
    /// `CLAIM_NOT_FOUND`, or of the database.
    pub(crate) async fn look_up(&self, asker: &Asker, id: Uuid) -> Result<Claim, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        seen(&mut connection, asker, id, Role::Viewer).await
    }

    /// Claims a name for a tenant: the one that is named, or the only one of who asks.
    ///
    /// # Errors
    /// `INVALID_NAME`, `INVALID_VALUE`, `NAME_RESERVED`, `FORBIDDEN`, `CONFLICT` where it is claimed by the tenant already or has
    /// too many, or of the database.
    pub(crate) async fn create(
        &self,
        asker: Asker,
        name: Name,
        tenant: Option<u32>,
    ) -> Result<Claim, Problem> {
        self.rules.allow(&name)?;
        if place_of(&name).is_none() {
            let message = format!(
                "{name} is too long: its proof would stand at a name below it that is longer than 255 octets"
            );
            return Err(Problem::new(Code::InvalidName, message));
        }
        let tenant = asker.access().owner_of_new(tenant)?;
        if tenant == 0 {
            return Err(Problem::new(
                Code::InvalidValue,
                "\"tenant\": say for which tenant the name is claimed",
            ));
        }
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(|error| {
            Problem::new(Code::Internal, format!("random octets from the system: {error}"))
        })?;
        let create = self.committer.write_for(asker.guard(), move |connection| {
            Box::pin(async move {
                asker.need(connection, tenant, Role::Admin).await?;
                if crate::store::tenants::by_number(connection, tenant).await?.is_none() {
                    return Err(Problem::new(Code::TenantNotFound, format!("there is no tenant {tenant}")));
                }
                if let Some(open) = claims::open_of(connection, tenant, name.as_ref()).await? {
                    let message =
                        format!("tenant {tenant} claims {name} already: see /api/v1/claims/{}", open.id);
                    return Err(Problem::new(Code::Conflict, message));
                }
                if claims::count_of(connection, tenant).await? >= MOST_CLAIMS {
                    let message =
                        format!("a tenant has at most {MOST_CLAIMS} claims: delete some that ended");
                    return Err(Problem::new(Code::Conflict, message));
                }
                let now = now_us();
                let claim = Claim {
                    id: Uuid::now_v7(),
                    tenant,
                    name,
                    state: State::Pending,
                    token,
                    created_at_us: now,
                    expires_at_us: now.saturating_add(WAITS_US),
                    seen_at_us: None,
                    checked_at_us: None,
                    found: None,
                    check_at_us: Some(now.saturating_add(FIRST_US)),
                };
                claims::insert(connection, &claim).await?;
                asker
                    .note(connection, "claim.create", &format!("{} {tenant} {}", claim.name, claim.id))
                    .await?;
                Ok(claim)
            })
        });
        let claim = create.await?;
        Ok(claim)
    }

    /// Has the proof of one looked for now.
    ///
    /// # Errors
    /// `CLAIM_NOT_FOUND`, `FORBIDDEN`, `CONFLICT` where it has ended, or of the database.
    pub(crate) async fn check(&self, asker: Asker, id: Uuid) -> Result<Claim, Problem> {
        let ask = self.committer.write_for(asker.guard(), move |connection| {
            Box::pin(async move {
                let claim = seen(connection, &asker, id, Role::Admin).await?;
                if matches!(claim.state, State::Failed | State::Expired) {
                    let message = format!("the claim has ended ({}): make another one", claim.state.as_str());
                    return Err(Problem::new(Code::Conflict, message));
                }
                claims::ask(connection, id, now_us()).await?;
                Ok(claim)
            })
        });
        let claim = ask.await?;
        self.look_now().await?;
        Ok(claim)
    }

    /// Deletes one.
    ///
    /// # Errors
    /// `CLAIM_NOT_FOUND`, `FORBIDDEN`, `CONFLICT` where the tenant has zones by it, or of the database.
    pub(crate) async fn delete(&self, asker: Asker, id: Uuid) -> Result<(), Problem> {
        let delete = self.committer.write_for(asker.guard(), move |connection| {
            Box::pin(async move {
                let claim = seen(connection, &asker, id, Role::Admin).await?;
                // Nobody makes a zone by it meanwhile.
                hold(connection, &claim.name).await?;
                let claim = seen(connection, &asker, id, Role::Admin).await?;
                let has_proven = matches!(claim.state, State::Verified | State::Lapsed);
                if has_proven && has_zones(connection, &claim).await? {
                    let message = format!(
                        "tenant {} has zones at or below {}: delete them first",
                        claim.tenant, claim.name
                    );
                    return Err(Problem::new(Code::Conflict, message));
                }
                claims::delete(connection, id).await?;
                asker.note(connection, "claim.delete", &format!("{} {}", claim.name, claim.id)).await?;
                Ok(())
            })
        });
        delete.await
    }

    /// Has proofs looked for now. Tenants do not see jobs, so this is a transaction behind theirs: what is due stands in the claim itself,
    /// and is looked for by the clock, too.
    async fn look_now(&self) -> Result<(), Problem> {
        let see = self.committer.write(move |connection| {
            Box::pin(async move {
                let mut once = New::of(check::KIND, &json!({}))
                    .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
                once.once = Some(format!("{} now", check::KIND));
                let mut batch = Batch::of(connection);
                enqueue(&mut batch, &once);
                batch.run(connection).await?;
                Ok(())
            })
        });
        see.await?;
        self.jobs.wake();
        Ok(())
    }
}

/// A claim that who asks is to see, and is something in its tenant.
async fn seen(connection: &mut Connection, asker: &Asker, id: Uuid, least: Role) -> Result<Claim, Problem> {
    let none = || Problem::new(Code::ClaimNotFound, "there is no such claim");
    let claim = claims::by_id(connection, id).await?.ok_or_else(none)?;
    match asker.need(connection, claim.tenant, least).await {
        Ok(_) => Ok(claim),
        Err(problem) if problem.code == Code::TenantNotFound => Err(none()),
        Err(problem) => Err(problem),
    }
}

/// Whether its tenant has zones at or below its name.
async fn has_zones(connection: &mut Connection, claim: &Claim) -> sqlx::Result<bool> {
    let apex = claim.name.as_ref();
    if zones::by_name(connection, apex).await?.is_some_and(|zone| zone.owner_number == claim.tenant) {
        return Ok(true);
    }
    let next = zones::page_of(connection, claim.tenant, Some(&name_key::encode(apex)), 1).await?;
    Ok(next.first().is_some_and(|zone| zone.apex.as_ref().is_below(apex)))
}

/// Holds a name: whoever decides about it, or makes a zone of it, does so before or behind this transaction.
///
/// # Errors
/// Of the database.
pub(super) async fn hold(connection: &mut Connection, name: &Name) -> sqlx::Result<()> {
    if connection.kind() == Kind::Postgres {
        zones::claim(connection, &BTreeSet::from([name.clone()])).await?;
    }
    Ok(())
}
