//! `withheld_zones`: zones of which a change was withheld, because the code of data planes failed at it before it was published
//! (`relay/shadow`). With SQLite nothing is judged, and what a backup brings of it means nothing.

use godwit_wire::name::{Name, NameRef};

use super::batch::Batch;
use super::{Connection, Kind, Row, damaged, zones};
use crate::model::name_key;

const LIST: &str = "SELECT zone_key, version, since_us, reason FROM withheld_zones ORDER BY zone_key";
const OF_ZONE: &str = "SELECT zone_key, version, since_us, reason FROM withheld_zones WHERE zone_key = $1";
/// What a withheld change made is given to nobody, also when a later version has passed meanwhile; it is itself what passed where it is
/// still what the zone is.
const IS_VERSION: &str = "SELECT count(*) > 0 FROM history JOIN outbox ON outbox.change_id = history.change_id WHERE history.zone_key = $1 AND history.version = $2 AND outbox.withheld AND NOT EXISTS (SELECT 1 FROM zones WHERE name_key = $1 AND version = $2)";
const PUT: &str = "INSERT INTO withheld_zones (zone_key, version, since_us, reason) VALUES ($1, $2, $3, $4) ON CONFLICT (zone_key) DO UPDATE SET version = excluded.version, reason = excluded.reason";
const LIFT: &str = "DELETE FROM withheld_zones WHERE zone_key = $1";

/// Every statement of this file.
pub const ALL: &[&str] = &[LIST, OF_ZONE, IS_VERSION, PUT, LIFT];

/// A zone that is given to nobody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WithheldZone {
    /// Its apex.
    pub apex: Name,
    /// What the last change set that was withheld led to.
    pub version: u64,
    /// When the first was.
    pub since_us: i64,
    /// Why the last was.
    pub reason: String,
}

fn read(row: &Row) -> sqlx::Result<WithheldZone> {
    Ok(WithheldZone {
        apex: name_key::decode(row.get("zone_key")?).ok_or_else(|| damaged("withheld_zones", "zone_key"))?,
        version: u64::try_from(row.get::<i64, _>("version")?)
            .map_err(|_| damaged("withheld_zones", "version"))?,
        since_us: row.get("since_us")?,
        reason: row.get("reason")?,
    })
}

/// All of them, in canonical order.
///
/// # Errors
/// Of the database.
pub async fn list(connection: &mut Connection) -> sqlx::Result<Vec<WithheldZone>> {
    if connection.kind() == Kind::Sqlite {
        return Ok(Vec::new());
    }
    connection.query(LIST).fetch_all().await?.iter().map(read).collect()
}

/// What is known of one; `None` where it may be given.
///
/// # Errors
/// Of the database.
pub async fn of_zone(connection: &mut Connection, apex: NameRef<'_>) -> sqlx::Result<Option<WithheldZone>> {
    if connection.kind() == Kind::Sqlite {
        return Ok(None);
    }
    let row = connection.query(OF_ZONE).bind(name_key::encode(apex)).fetch_optional().await?;
    row.as_ref().map(read).transpose()
}

/// Whether a version of a zone must not be given: the zone is withheld, or the change that made the version is and another has taken
/// its place.
///
/// # Errors
/// Of the database.
pub async fn is_version(connection: &mut Connection, apex: NameRef<'_>, version: u64) -> sqlx::Result<bool> {
    if connection.kind() == Kind::Sqlite {
        return Ok(false);
    }
    let query = connection.query(IS_VERSION).bind(name_key::encode(apex)).bind(zones::stored(version));
    Ok(query.fetch_value().await? || of_zone(connection, apex).await?.is_some())
}

/// Withholds a zone, or says it anew of one that is.
pub fn put(batch: &mut Batch, zone: &WithheldZone) {
    batch
        .add(PUT)
        .bind(name_key::encode(zone.apex.as_ref()))
        .bind(zones::stored(zone.version))
        .bind(zone.since_us)
        .bind(zone.reason.as_str());
}

/// Lets a zone be given again.
pub fn lift(batch: &mut Batch, apex: NameRef<'_>) {
    batch.add(LIFT).bind(name_key::encode(apex));
}
