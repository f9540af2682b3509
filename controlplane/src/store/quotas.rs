//! How much a tenant may have, and what it has: columns of `tenants` and `zones`, and `tenant_changes`.

use super::{Connection, Kind, Row};

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

const QUOTA: &str = "SELECT most_zones, most_rrsets, most_changes, (SELECT coalesce(sum(changes), 0) FROM tenant_changes WHERE day = $2 AND tenant = $1) AS changes FROM tenants WHERE number = $1";
const HELD: &str =
    "SELECT count(*) AS zones, coalesce(sum(rrsets), 0) AS rrsets FROM zones WHERE owner_number = $1";
/// The same, whoever asks.
const QUOTA_POSTGRES: &str =
    "SELECT most_zones, most_rrsets, most_changes, changes FROM godwit_quota($1, $2)";
const HELD_POSTGRES: &str = "SELECT zones, rrsets FROM godwit_held($1)";
const SET: &str = "UPDATE tenants SET most_zones = $2, most_rrsets = $3, most_changes = $4 WHERE number = $1";
const PRUNE: &str = "DELETE FROM tenant_changes WHERE (day, tenant, slot) IN (SELECT day, tenant, slot FROM tenant_changes WHERE day < $1 LIMIT $2)";

/// Every statement of this file that both get.
pub(super) const ALL: &[&str] = &[SET, PRUNE];
/// Statements of this file that one of them gets.
pub(super) const SQLITE_ONLY: &[&str] = &[QUOTA, HELD];
pub(super) const POSTGRES_ONLY: &[&str] = &[QUOTA_POSTGRES, HELD_POSTGRES];

/// What was said of one tenant: `None` where what is configured counts, 0 for any number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Most {
    pub(crate) zones: Option<i64>,
    pub(crate) rrsets: Option<i64>,
    /// In a day.
    pub(crate) changes: Option<i64>,
}

/// So many zones, RRsets in all of them, and changes of them in a day.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Amounts {
    pub(crate) zones: i64,
    pub(crate) rrsets: i64,
    pub(crate) changes: i64,
}

/// The day of a time, and when the next one begins.
pub(crate) fn day(at_us: i64) -> (i64, i64) {
    let day = at_us.div_euclid(DAY_US);
    (day, (day + 1).saturating_mul(DAY_US))
}

/// What was said of a tenant, and how often its zones were changed on a day; `None` where there is none.
///
/// # Errors
/// Of the database.
pub(crate) async fn of_tenant(
    connection: &mut Connection,
    tenant: u32,
    day: i64,
) -> sqlx::Result<Option<(Most, i64)>> {
    let statement = match connection.kind() {
        Kind::Sqlite => QUOTA,
        Kind::Postgres => QUOTA_POSTGRES,
    };
    let most = |row: &Row| {
        let most = Most {
            zones: row.get("most_zones")?,
            rrsets: row.get("most_rrsets")?,
            changes: row.get("most_changes")?,
        };
        Ok((most, row.get("changes")?))
    };
    let found = connection.query(statement).bind(i64::from(tenant)).bind(day).fetch_optional().await?;
    found.as_ref().map(most).transpose()
}

/// How many zones a tenant has, and RRsets in all of them.
///
/// # Errors
/// Of the database.
pub(crate) async fn held(connection: &mut Connection, tenant: u32) -> sqlx::Result<(i64, i64)> {
    let statement = match connection.kind() {
        Kind::Sqlite => HELD,
        Kind::Postgres => HELD_POSTGRES,
    };
    let row = connection.query(statement).bind(i64::from(tenant)).fetch_optional().await?;
    let row = row.ok_or(sqlx::Error::RowNotFound)?;
    Ok((row.get("zones")?, row.get("rrsets")?))
}

/// Says how much a tenant may have.
///
/// # Errors
/// Of the database.
pub(crate) async fn set(connection: &mut Connection, tenant: u32, most: Most) -> sqlx::Result<()> {
    let set = connection.query(SET).bind(i64::from(tenant));
    set.bind(most.zones).bind(most.rrsets).bind(most.changes).execute().await.map(|_| ())
}

/// Deletes some of what was counted on days before yesterday; how much.
///
/// # Errors
/// Of the database.
pub(crate) async fn prune(connection: &mut Connection, now_us: i64, limit: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(day(now_us).0 - 1).bind(limit).execute().await
}
