//! Suffixes: zones of the operator below which every tenant takes names.

use godwit_wire::name::Name;

use super::claims::hold;
use super::{Rules, look, wildcard_of};
use crate::auth::access::no_zone;
use crate::commit::Committer;
use crate::error::{Code, Problem};
use crate::store::suffixes::{self, Suffix};
use crate::store::{Connection, Views, now_us, rrsets, zones};
use crate::tenants::Asker;

/// Names of one tenant where nothing else is said.
pub(crate) const PER_TENANT: u32 = 5;
/// Zones one label below a zone that becomes a suffix are looked for so many at once.
const FIND: i64 = 1_000;

/// See the module.
pub(crate) struct Suffixes {
    pub(crate) committer: Committer,
    pub(crate) views: Views,
    pub(crate) rules: std::sync::Arc<Rules>,
}

impl Suffixes {
    /// Those behind a key.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn list(
        &self,
        asker: &Asker,
        after: Option<&[u8]>,
        limit: i64,
    ) -> Result<Vec<Suffix>, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        Ok(suffixes::list(&mut connection, after, limit).await?)
    }

    /// One of them.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, or of the database.
    pub(crate) async fn look_up(&self, asker: &Asker, zone: &Name) -> Result<Suffix, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        suffixes::by_name(&mut connection, zone.as_ref()).await?.ok_or_else(|| no_suffix(zone))
    }

    /// Makes a zone of the operator's a suffix, or one with another bound.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, `DOMAIN_NOT_FOUND`, `CONFLICT` where it is a tenant's or has a wildcard, or of the database.
    pub(crate) async fn put(&self, asker: Asker, apex: Name, per_tenant: u32) -> Result<Suffix, Problem> {
        asker.operates()?;
        let is_listed = self.rules.lists(&apex);
        let put = self.committer.write_for(asker.guard(), move |connection| {
            Box::pin(async move {
                // Names that are being taken are found, or wait. Claims come before locks, as everywhere.
                hold(connection, &apex).await?;
                let zone =
                    zones::lock_by_name(connection, apex.as_ref()).await?.ok_or_else(|| no_zone(&apex))?;
                if zone.owner_number != 0 {
                    let message = format!(
                        "{apex} is tenant {}'s: only a zone of the operator is shared",
                        zone.owner_number
                    );
                    return Err(Problem::new(Code::Conflict, message));
                }
                if let Some(wildcard) = wildcard_of(&apex)
                    && !rrsets::of_owner(connection, zone.id, wildcard.as_ref()).await?.is_empty()
                {
                    let message = format!(
                        "{apex} has a wildcard, which would answer for every name that nobody has taken"
                    );
                    return Err(Problem::new(Code::Conflict, message));
                }
                let is_new = suffixes::by_name(connection, apex.as_ref()).await?.is_none();
                suffixes::put(connection, apex.as_ref(), i64::from(per_tenant), now_us()).await?;
                if is_new {
                    take_all(connection, &apex).await?;
                }
                if !is_listed {
                    tracing::warn!(suffix = %apex, "{NOT_LISTED}");
                }
                asker.note(connection, "suffix.put", &format!("{apex} {per_tenant}")).await?;
                suffixes::by_name(connection, apex.as_ref()).await?.ok_or_else(|| no_suffix(&apex))
            })
        });
        put.await
    }

    /// Has no more names taken below a zone; those that are stay.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, `DOMAIN_NOT_FOUND`, or of the database.
    pub(crate) async fn delete(&self, asker: Asker, apex: Name) -> Result<(), Problem> {
        asker.operates()?;
        let delete = self.committer.write_for(asker.guard(), move |connection| {
            Box::pin(async move {
                if !suffixes::delete(connection, apex.as_ref()).await? {
                    return Err(no_suffix(&apex));
                }
                asker.note(connection, "suffix.delete", &apex.to_string()).await?;
                Ok(())
            })
        });
        delete.await
    }
}

/// What is said where a suffix is not on the public suffix list.
pub(crate) const NOT_LISTED: &str =
    "it is not on the public suffix list: browsers let the pages of all tenants below it share cookies";

fn no_suffix(zone: &Name) -> Problem {
    Problem::new(Code::DomainNotFound, format!("{zone} is no suffix that is shared here"))
}

/// Writes down what is taken already.
async fn take_all(connection: &mut Connection, suffix: &Name) -> sqlx::Result<()> {
    let mut after = crate::model::name_key::encode(suffix.as_ref());
    loop {
        let page = zones::page(connection, Some(&after), FIND).await?;
        for zone in &page {
            let apex = zone.apex.as_ref();
            if !apex.is_below(suffix.as_ref()) {
                return Ok(());
            }
            if apex.parent() == Some(suffix.as_ref()) {
                let look = look::of_label(apex.labels().next().unwrap_or_default());
                suffixes::take(connection, apex, suffix.as_ref(), zone.owner_number, &look, false).await?;
            }
        }
        let Some(last) = page.last() else { return Ok(()) };
        after = crate::model::name_key::encode(last.apex.as_ref());
    }
}
