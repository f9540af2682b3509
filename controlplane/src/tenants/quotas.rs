//! How much a tenant may have: said by operators, seen by its members.

use super::{Asker, Tenants, hold, no_tenant};
use crate::error::Problem;
use crate::model::role::Role;
use crate::store::quotas::{self, Amounts, Most};
use crate::store::{Connection, now_us, tenants};

/// What one tenant may have, and has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    /// 0: any number.
    pub(crate) most: Amounts,
    /// Changes of today (UTC).
    pub(crate) held: Amounts,
    /// What an operator has said of it; nothing where what is configured counts.
    pub(crate) said: Most,
}

impl Tenants {
    /// How much a tenant may have, and has.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, or of the database.
    pub(crate) async fn quota(&self, asker: &Asker, number: u32) -> Result<Quota, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        asker.need(&mut connection, number, Role::Viewer).await?;
        // What it has is counted whoever asks: who does not see the tenant sees none of it.
        tenants::by_number(&mut connection, number).await?.ok_or_else(|| no_tenant(number))?;
        self.quota_of(&mut connection, number).await
    }

    /// Says how much a tenant may have; `None` of something: as configured.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INSUFFICIENT_SCOPE` for who is no operator, or of the database.
    pub(crate) async fn put_quota(&self, asker: Asker, number: u32, most: Most) -> Result<Quota, Problem> {
        let guard = asker.guard();
        let put = self.write(guard, move |connection| {
            Box::pin(async move {
                let held = hold(connection, number).await;
                asker.need(connection, number, Role::Viewer).await?;
                asker.operates()?;
                held?;
                quotas::set(connection, number, most).await?;
                let said = [most.zones, most.rrsets, most.changes].map(|said| match said {
                    Some(said) => said.to_string(),
                    None => "-".to_owned(),
                });
                asker.note(connection, "tenant.quotas", &format!("{number} {}", said.join(" "))).await?;
                Ok(((), Vec::new()))
            })
        });
        put.await?;
        let mut connection = self.views.acquire(guard).await?;
        self.quota_of(&mut connection, number).await
    }

    async fn quota_of(&self, connection: &mut Connection, number: u32) -> Result<Quota, Problem> {
        let (today, _) = quotas::day(now_us());
        let said = quotas::of_tenant(connection, number, today).await?;
        let (said, changes) = said.ok_or_else(|| no_tenant(number))?;
        let (zones, rrsets) = quotas::held(connection, number).await?;
        Ok(Quota { most: self.quotas.or(said), held: Amounts { zones, rrsets, changes }, said })
    }
}
