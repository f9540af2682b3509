//! What a tenant may have: so many zones, so many RRsets in all of them, and so many changes of them in a day. Looked at in the
//! transaction of the change, before anything of it is written; two control planes at once may let a tenant have as much more as
//! one of their transactions brings.

use std::collections::BTreeMap;

use super::plan::Plan;
use crate::config::Quotas;
use crate::error::{Code, Problem};
use crate::model::change::Request;
use crate::observe::metrics::Limit;
use crate::store::Connection;
use crate::store::quotas::{self, Amounts, Most};

impl Quotas {
    /// What a tenant may have, where something was said of it; 0 for any number.
    pub(crate) fn or(&self, said: Most) -> Amounts {
        Amounts {
            zones: said.zones.unwrap_or(i64::from(self.zones)),
            rrsets: said.rrsets.unwrap_or(i64::from(self.records)),
            changes: said.changes.unwrap_or(i64::from(self.changes_a_day)),
        }
    }

    /// Refuses what would be more than the tenants may have whose zones it is about. Operators may give a tenant more.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED`, `RATE_LIMITED` for changes in a day, or of the database.
    pub(crate) async fn permit(
        &self,
        connection: &mut Connection,
        plan: &Plan,
        request: &Request,
        now_us: i64,
    ) -> Result<(), Problem> {
        if request.access.account().is_none() {
            return Ok(());
        }
        for (tenant, brought) in brought(plan) {
            self.permit_tenant(connection, tenant, brought, now_us).await?;
        }
        Ok(())
    }

    async fn permit_tenant(
        &self,
        connection: &mut Connection,
        tenant: u32,
        brought: Amounts,
        now_us: i64,
    ) -> Result<(), Problem> {
        let (today, tomorrow_us) = quotas::day(now_us);
        let (said, changed) = quotas::of_tenant(connection, tenant, today).await?.unwrap_or_default();
        let most = self.or(said);
        let is_over =
            |most: i64, held: i64, more: i64| most > 0 && more > 0 && held.saturating_add(more) > most;
        if is_over(most.changes, changed, brought.changes) {
            let left_s = u64::try_from((tomorrow_us - now_us) / 1_000_000).unwrap_or(0) + 1;
            let message = format!(
                "the zones of tenant {tenant} are changed {} times a day; try again tomorrow (UTC)",
                most.changes
            );
            return Err(Problem::new(Code::RateLimited, message).after(left_s).at(Limit::TenantChanges));
        }
        if (most.zones == 0 || brought.zones <= 0) && (most.rrsets == 0 || brought.rrsets <= 0) {
            return Ok(());
        }
        let (zones, rrsets) = quotas::held(connection, tenant).await?;
        let exceeded = |most: i64, held: i64, what: &str| {
            let message = format!(
                "tenant {tenant} has {held} {what} of {most} that it may have; an operator may give it more"
            );
            Problem::new(Code::QuotaExceeded, message)
        };
        if is_over(most.zones, zones, brought.zones) {
            return Err(exceeded(most.zones, zones, "zones").at(Limit::TenantZones));
        }
        if is_over(most.rrsets, rrsets, brought.rrsets) {
            return Err(exceeded(most.rrsets, rrsets, "RRsets").at(Limit::TenantRecords));
        }
        Ok(())
    }
}

/// What a change brings, by tenant. What goes with a zone that is deleted makes no room for the same change.
fn brought(plan: &Plan) -> BTreeMap<u32, Amounts> {
    let mut all = BTreeMap::<u32, Amounts>::new();
    for zone in plan.zones.values().filter(|zone| zone.zone.owner_number > 0 && zone.changes()) {
        let brought = all.entry(zone.zone.owner_number).or_default();
        brought.changes += 1;
        if zone.removed {
            brought.zones -= 1;
        } else {
            brought.zones += i64::from(!zone.existed);
            brought.rrsets += zone.more_rrsets();
        }
    }
    all
}
