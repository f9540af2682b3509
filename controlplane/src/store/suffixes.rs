//! `suffixes`, `taken_names` and `quarantined_names`: below which zones of the operator tenants take names, which they took, and
//! which they gave up a short time ago.

use godwit_wire::name::{Name, NameRef};

use super::batch::Batch;
use super::{Connection, Kind, Row, damaged};
use crate::model::name_key;

const BY_NAME: &str = "SELECT name_key, per_tenant, created_at_us FROM suffixes WHERE name_key = $1";
const LIST: &str =
    "SELECT name_key, per_tenant, created_at_us FROM suffixes WHERE name_key > $1 ORDER BY name_key LIMIT $2";
const PUT: &str = "INSERT INTO suffixes (name_key, per_tenant, created_at_us) VALUES ($1, $2, $3) ON CONFLICT (name_key) DO UPDATE SET per_tenant = excluded.per_tenant";
const DELETE: &str = "DELETE FROM suffixes WHERE name_key = $1";

const COUNT_OF: &str = "SELECT count(*) FROM taken_names WHERE suffix_key = $1 AND owner_number = $2";
const LOOKS_LIKE: &str =
    "SELECT coalesce((SELECT owner_number FROM taken_names WHERE suffix_key = $1 AND skeleton = $2), -1)";
/// The same, whoever asks.
const LOOKS_LIKE_POSTGRES: &str = "SELECT godwit_looks_like($1, $2)";
const TAKE: &str =
    "INSERT INTO taken_names (name_key, suffix_key, owner_number, skeleton) VALUES ($1, $2, $3, $4)";
/// For whom looks do not matter: the first of its look is the one that is remembered.
const TAKE_IF_FREE: &str = "INSERT INTO taken_names (name_key, suffix_key, owner_number, skeleton) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";

const USES: &str = "SELECT EXISTS (SELECT 1 FROM rrsets WHERE zone_id = (SELECT id FROM zones WHERE name_key = $1) AND owner_key >= $2 AND owner_key < $3 AND substr(owner_key, 1, length($2)) = $2)";
/// The same, whoever asks.
const USES_POSTGRES: &str = "SELECT godwit_uses($1, $2)";

const QUARANTINE: &str = "INSERT INTO quarantined_names (name_key, owner_number, until_us) VALUES ($1, $2, $3) ON CONFLICT (name_key) DO UPDATE SET owner_number = excluded.owner_number, until_us = excluded.until_us";
const QUARANTINED: &str = "SELECT owner_number, until_us FROM quarantined_names WHERE name_key = $1";
const RELEASE: &str = "DELETE FROM quarantined_names WHERE name_key = $1";
/// Those at or below a name that are kept for a tenant, but for one of them.
const KEPT_OF: &str = "SELECT count(*) FROM quarantined_names WHERE owner_number = $1 AND name_key > $2 AND name_key < $3 AND name_key <> $4 AND until_us > $5";
const PRUNE: &str = "DELETE FROM quarantined_names WHERE name_key IN (SELECT name_key FROM quarantined_names WHERE until_us < $1 ORDER BY until_us LIMIT $2)";

/// Every statement of this file that both get.
pub(super) const ALL: &[&str] = &[
    BY_NAME,
    LIST,
    PUT,
    DELETE,
    COUNT_OF,
    LOOKS_LIKE,
    TAKE,
    TAKE_IF_FREE,
    USES,
    QUARANTINE,
    QUARANTINED,
    RELEASE,
    KEPT_OF,
    PRUNE,
];

/// Statements of this file that PostgreSQL alone gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[LOOKS_LIKE_POSTGRES, USES_POSTGRES];

/// A zone of the operator's below which every tenant takes names.
#[derive(Clone, Debug)]
pub(crate) struct Suffix {
    pub(crate) zone: Name,
    /// The most names of one tenant.
    pub(crate) per_tenant: i64,
    pub(crate) created_at_us: i64,
}

fn suffix(row: &Row) -> sqlx::Result<Suffix> {
    let key: &[u8] = row.get("name_key")?;
    Ok(Suffix {
        zone: name_key::decode(key).ok_or_else(|| damaged("suffixes", "name_key"))?,
        per_tenant: row.get("per_tenant")?,
        created_at_us: row.get("created_at_us")?,
    })
}

/// The suffix of this name.
///
/// # Errors
/// Of the database.
pub(crate) async fn by_name(connection: &mut Connection, zone: NameRef<'_>) -> sqlx::Result<Option<Suffix>> {
    let row = connection.query(BY_NAME).bind(name_key::encode(zone)).fetch_optional().await?;
    row.as_ref().map(suffix).transpose()
}

/// Those behind a key, in canonical order.
///
/// # Errors
/// Of the database.
pub(crate) async fn list(
    connection: &mut Connection,
    after: Option<&[u8]>,
    limit: i64,
) -> sqlx::Result<Vec<Suffix>> {
    let rows = connection.query(LIST).bind(after.unwrap_or_default()).bind(limit).fetch_all().await?;
    rows.iter().map(suffix).collect()
}

/// Makes a zone a suffix, or one with another bound.
///
/// # Errors
/// Of the database.
pub(crate) async fn put(
    connection: &mut Connection,
    zone: NameRef<'_>,
    per_tenant: i64,
    now_us: i64,
) -> sqlx::Result<()> {
    let put = connection.query(PUT).bind(name_key::encode(zone)).bind(per_tenant).bind(now_us);
    put.execute().await.map(|_| ())
}

/// Makes a zone one like any other again; whether it was a suffix.
///
/// # Errors
/// Of the database.
pub(crate) async fn delete(connection: &mut Connection, zone: NameRef<'_>) -> sqlx::Result<bool> {
    Ok(connection.query(DELETE).bind(name_key::encode(zone)).execute().await? > 0)
}

/// How many names of a suffix a tenant has.
///
/// # Errors
/// Of the database.
pub(crate) async fn count_of(
    connection: &mut Connection,
    suffix: NameRef<'_>,
    tenant: u32,
) -> sqlx::Result<i64> {
    let count = connection.query(COUNT_OF).bind(name_key::encode(suffix)).bind(i64::from(tenant));
    count.fetch_value().await
}

/// Whose the name below a suffix is that looks like this, whoever asks; `None`: nobody's.
///
/// # Errors
/// Of the database.
pub(crate) async fn looks_like(
    connection: &mut Connection,
    suffix: NameRef<'_>,
    skeleton: &str,
) -> sqlx::Result<Option<u32>> {
    let statement = match connection.kind() {
        Kind::Sqlite => LOOKS_LIKE,
        Kind::Postgres => LOOKS_LIKE_POSTGRES,
    };
    let owner: i64 =
        connection.query(statement).bind(name_key::encode(suffix)).bind(skeleton).fetch_value().await?;
    Ok(u32::try_from(owner).ok())
}

/// Takes a name below a suffix. `is_free`: only where none that looks like it is taken.
///
/// # Errors
/// Of the database; also where one that looks like it is taken.
pub(crate) async fn take(
    connection: &mut Connection,
    name: NameRef<'_>,
    suffix: NameRef<'_>,
    owner: u32,
    skeleton: &str,
    is_free: bool,
) -> sqlx::Result<()> {
    let statement = if is_free { TAKE } else { TAKE_IF_FREE };
    let take = connection.query(statement).bind(name_key::encode(name)).bind(name_key::encode(suffix));
    take.bind(i64::from(owner)).bind(skeleton).execute().await.map(|_| ())
}

/// Whether a zone has records at or below a name, whoever asks.
///
/// # Errors
/// Of the database.
pub(crate) async fn uses(
    connection: &mut Connection,
    zone: NameRef<'_>,
    name: NameRef<'_>,
) -> sqlx::Result<bool> {
    let (zone, key) = (name_key::encode(zone), name_key::encode(name));
    match connection.kind() {
        Kind::Postgres => connection.query(USES_POSTGRES).bind(zone).bind(key).fetch_value().await,
        Kind::Sqlite => {
            let beyond = beyond(&key);
            connection.query(USES).bind(zone).bind(key).bind(beyond).fetch_value().await
        }
    }
}

/// Behind the keys of all names at and below one.
fn beyond(key: &[u8]) -> Vec<u8> {
    // No octet of a label is above it that often.
    [key, &[0xFF; 64]].concat()
}

/// How many names below a suffix are kept for a tenant that gave them up, but for one name.
///
/// # Errors
/// Of the database.
pub(crate) async fn kept_of(
    connection: &mut Connection,
    suffix: NameRef<'_>,
    tenant: u32,
    but: NameRef<'_>,
    now_us: i64,
) -> sqlx::Result<i64> {
    let key = name_key::encode(suffix);
    let beyond = beyond(&key);
    let kept = connection.query(KEPT_OF).bind(i64::from(tenant)).bind(key).bind(beyond);
    kept.bind(name_key::encode(but)).bind(now_us).fetch_value().await
}

/// Keeps a name for whom it was until then.
pub(crate) fn quarantine(batch: &mut Batch, name: NameRef<'_>, owner: u32, until_us: i64) {
    batch.add(QUARANTINE).bind(name_key::encode(name)).bind(i64::from(owner)).bind(until_us);
}

/// For whom a name is kept, and until when.
///
/// # Errors
/// Of the database.
pub(crate) async fn quarantined(
    connection: &mut Connection,
    name: NameRef<'_>,
) -> sqlx::Result<Option<(u32, i64)>> {
    let row = connection.query(QUARANTINED).bind(name_key::encode(name)).fetch_optional().await?;
    let read = |row: Row| {
        let owner = u32::try_from(row.get::<i64, _>("owner_number")?);
        Ok((owner.map_err(|_| damaged("quarantined_names", "owner_number"))?, row.get("until_us")?))
    };
    row.map(read).transpose()
}

/// Keeps a name for nobody any more.
///
/// # Errors
/// Of the database.
pub(crate) async fn release(connection: &mut Connection, name: NameRef<'_>) -> sqlx::Result<()> {
    connection.query(RELEASE).bind(name_key::encode(name)).execute().await.map(|_| ())
}

/// Forgets names that are kept no longer; gives how many.
///
/// # Errors
/// Of the database.
pub(crate) async fn prune(connection: &mut Connection, now_us: i64, limit: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(now_us).bind(limit).execute().await
}
