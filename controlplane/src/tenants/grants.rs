//! What other tenants may in a zone: decided by admins of the zone.

use godwit_wire::name::Name;

use super::{Asker, MOST_GRANTS, Tenants, tell};
use crate::auth::access::no_zone;
use crate::error::{Code, Problem};
use crate::model::role::Role;
use crate::model::zone::Zone;
use crate::store::revocations::Revoked;
use crate::store::tenants::{self, Grant};
use crate::store::{Connection, now_us, zones};

impl Tenants {
    /// What other tenants may in a zone.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, `FORBIDDEN`, or of the database.
    pub(crate) async fn grants(&self, asker: &Asker, apex: &Name) -> Result<Vec<Grant>, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        let zone = zones::by_name(&mut connection, apex.as_ref()).await?.ok_or_else(|| no_zone(apex))?;
        asker.access.need(&zone, Role::Admin)?;
        Ok(tenants::grants(&mut connection, zone.id).await?)
    }

    /// Grants a tenant something of a zone, in place of what it was granted before.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, `TENANT_NOT_FOUND`, `FORBIDDEN`, `INVALID_VALUE`, `CONFLICT` where there are too many, or of the
    /// database.
    pub(crate) async fn put_grant(
        &self,
        asker: Asker,
        apex: Name,
        tenant: u32,
        role: Role,
    ) -> Result<Grant, Problem> {
        if role == Role::Owner {
            let message = "\"role\": expected viewer, editor or admin: the owner of a zone is its tenant";
            return Err(Problem::new(Code::InvalidValue, message));
        }
        let put = self.write(asker.guard(), move |connection| {
            Box::pin(async move {
                let zone = hold(connection, &asker, &apex).await?;
                if zone.owner_number == tenant {
                    let message = format!("the zone is tenant {tenant}'s already");
                    return Err(Problem::new(Code::InvalidValue, message));
                }
                if !tenants::is_tenant(connection, tenant).await? {
                    return Err(Problem::new(Code::TenantNotFound, format!("there is no tenant {tenant}")));
                }
                let before = tenants::grant_of(connection, zone.id, tenant).await?;
                if let Some(before) = before.as_ref().filter(|before| before.role == role) {
                    return Ok((before.clone(), Vec::new()));
                }
                let (of_zone, of_tenant) = tenants::count_grants(connection, zone.id, tenant).await?;
                if before.is_none() && (of_zone >= MOST_GRANTS || of_tenant >= MOST_GRANTS) {
                    let message = format!(
                        "a zone is granted to at most {MOST_GRANTS} tenants, and a tenant that many zones"
                    );
                    return Err(Problem::new(Code::Conflict, message));
                }
                let now = now_us();
                tenants::put_grant(connection, zone.id, tenant, role, now).await?;
                let told = vec![Revoked::Tenant(tenant)];
                tell(connection, &told).await?;
                asker
                    .note(connection, "domain.grant.put", &format!("{apex} {tenant} {}", role.as_str()))
                    .await?;
                Ok((Grant { tenant, role, since_us: before.map_or(now, |before| before.since_us) }, told))
            })
        });
        put.await
    }

    /// Takes a grant back, or gives it back as an admin of who has it.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, `TENANT_NOT_FOUND`, `FORBIDDEN`, or of the database.
    pub(crate) async fn drop_grant(&self, asker: Asker, apex: Name, tenant: u32) -> Result<(), Problem> {
        let end = self.write(asker.guard(), move |connection| {
            Box::pin(async move {
                let zone = match hold(connection, &asker, &apex).await {
                    Err(problem) if problem.code == Code::Forbidden => {
                        asker.need(connection, tenant, Role::Admin).await.map_err(|_| problem)?;
                        zones::by_name(connection, apex.as_ref()).await?.ok_or_else(|| no_zone(&apex))?
                    }
                    held => held?,
                };
                if !tenants::drop_grant(connection, zone.id, tenant).await? {
                    let message = format!("tenant {tenant} is granted nothing of {apex}");
                    return Err(Problem::new(Code::TenantNotFound, message));
                }
                let told = vec![Revoked::Tenant(tenant)];
                tell(connection, &told).await?;
                asker.note(connection, "domain.grant.delete", &format!("{apex} {tenant}")).await?;
                Ok(((), told))
            })
        });
        end.await
    }
}

/// A zone that nobody else changes until the transaction ends, by who is admin in the tenant that owns it, as the database knows
/// them now: who was granted something of it grants nothing.
async fn hold(connection: &mut Connection, asker: &Asker, apex: &Name) -> Result<Zone, Problem> {
    let zone = zones::lock_by_name(connection, apex.as_ref()).await?.ok_or_else(|| no_zone(apex))?;
    let access = asker.access.again(connection).await?;
    access.need_at_home(&zone, Role::Admin)?;
    Ok(zone)
}
