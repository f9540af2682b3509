//! `zones` and `departed_zones`.

use std::collections::{BTreeMap, BTreeSet};

use godwit_wire::feed::{Digest, IndexEntry};
use godwit_wire::name::{Name, NameRef};

use super::batch::Batch;
use super::{Connection, Kind, Row, damaged, keys};
use crate::model::name_key;
use crate::model::zone::{TtlPolicy, Zone};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name_key, owner_number, version, serial, ttl_policy, presigned, created_at_us, updated_at_us, \
             digest, frozen_at_us FROM zones ",
            $rest
        )
    };
}

const BY_NAME: &str = select!("WHERE name_key = $1");
const PAGE: &str = select!("WHERE name_key > $1 ORDER BY name_key LIMIT $2");
const LONGEST: &str = select!("WHERE name_key IN ($1, $2, $3, $4) ORDER BY length(name_key) DESC LIMIT 1");
/// Where others write beside us, who reads a zone to change it locks its row first. SQLite has one writer at a time.
const BY_NAME_LOCKED: &str = select!("WHERE name_key = $1 FOR UPDATE");
const LONGEST_LOCKED: &str =
    select!("WHERE name_key IN ($1, $2, $3, $4) ORDER BY length(name_key) DESC LIMIT 1 FOR UPDATE");
/// Keys in hexadecimal behind an x, with commas between: that of the root is empty, and would be no key at all.
const LOCK_IN_ORDER: &str = select!(
    "WHERE name_key IN (SELECT decode(substr(key, 2), 'hex') FROM unnest(string_to_array($1, ',')) AS key) ORDER BY name_key FOR UPDATE OF zones"
);
const BY_NAMES: &str = select!(
    "WHERE name_key IN (SELECT decode(substr(key, 2), 'hex') FROM unnest(string_to_array($1, ',')) AS key)"
);
/// The same; and about how many octets their RRsets take elsewhere: of a zone with so many of them or more 80,000 at least.
const SIZED: &str = "SELECT id, name_key, owner_number, version, serial, ttl_policy, presigned, created_at_us, updated_at_us, digest, frozen_at_us, (SELECT greatest(coalesce(sum(octets), 0), CASE WHEN count(*) >= $2 THEN 80000 ELSE 0 END) FROM (SELECT octet_length(owner_key) + octet_length(rdata) + octet_length(rrsigs) + 16 AS octets FROM rrsets WHERE zone_id = zones.id LIMIT $2) AS beginning)::BIGINT AS octets FROM zones WHERE name_key IN (SELECT decode(substr(key, 2), 'hex') FROM unnest(string_to_array($1, ',')) AS key)";
const COUNT: &str = "SELECT count(*) FROM zones";
const INSERT: &str = "INSERT INTO zones (name_key, owner_number, version, serial, ttl_policy, presigned, created_at_us, updated_at_us, digest, rrsets) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9) RETURNING id";
const UPDATE: &str = "UPDATE zones SET version = $2, serial = $3, ttl_policy = $4, presigned = $5, updated_at_us = $6, digest = $7, rrsets = rrsets + $8 WHERE id = $1";
const WITHOUT_DIGEST: &str = "SELECT id, name_key FROM zones WHERE digest IS NULL LIMIT $1";
const SET_DIGEST: &str = "UPDATE zones SET digest = $2 WHERE id = $1";
const INDEX: &str =
    "SELECT name_key, version, digest FROM zones WHERE name_key > $1 ORDER BY name_key LIMIT $2";
const DELETE: &str = "DELETE FROM zones WHERE id = $1";
/// See the function in the schema: whoever asks, and whether they see it or not.
const LONGEST_KEY: &str = "SELECT godwit_longest($1)";
/// The same.
const CLAIM: &str = "SELECT godwit_claim($1)";
const PAGE_OF: &str = select!("WHERE owner_number = $1 AND name_key > $2 ORDER BY name_key LIMIT $3");
const PAGE_GRANTED: &str = select!(
    "WHERE id IN (SELECT zone_id FROM grants WHERE tenant = $1) AND name_key > $2 AND owner_number BETWEEN $3 AND $4 ORDER BY name_key LIMIT $5"
);
const BELOW: &str = select!("WHERE name_key > $1 AND name_key < $2 ORDER BY name_key LIMIT $3");
const FREEZE: &str = "UPDATE zones SET frozen_at_us = $2 WHERE id = $1";
const THAW: &str = "UPDATE zones SET frozen_at_us = NULL WHERE id = $1";
const THAW_ALL: &str = "UPDATE zones SET frozen_at_us = NULL WHERE frozen_at_us IS NOT NULL";
const FROZEN: &str = select!("WHERE frozen_at_us <= $1 ORDER BY frozen_at_us, name_key LIMIT $2");
const DEPARTED: &str = "SELECT version, serial FROM departed_zones WHERE name_key = $1";
const DEPARTED_OWNER: &str = "SELECT owner_number FROM departed_zones WHERE name_key = $1";
const DEPART: &str = "INSERT INTO departed_zones (name_key, version, serial, departed_at_us, owner_number) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name_key) DO UPDATE SET version = excluded.version, serial = excluded.serial, departed_at_us = excluded.departed_at_us, owner_number = excluded.owner_number";
const RETURN: &str = "DELETE FROM departed_zones WHERE name_key = $1";

/// Statements of this file that only PostgreSQL gets.
pub(super) const POSTGRES_ONLY: &[&str] =
    &[BY_NAME_LOCKED, LONGEST_LOCKED, LOCK_IN_ORDER, BY_NAMES, SIZED, LONGEST_KEY, CLAIM];

/// Every statement of this file that both get.
pub const ALL: &[&str] = &[
    BY_NAME,
    LONGEST,
    PAGE,
    COUNT,
    INSERT,
    UPDATE,
    WITHOUT_DIGEST,
    SET_DIGEST,
    INDEX,
    DELETE,
    PAGE_OF,
    PAGE_GRANTED,
    BELOW,
    FREEZE,
    THAW,
    THAW_ALL,
    FROZEN,
    DEPARTED,
    DEPARTED_OWNER,
    DEPART,
    RETURN,
];

fn zone(row: &Row) -> sqlx::Result<Zone> {
    let key: &[u8] = row.get("name_key")?;
    let policy: &str = row.get("ttl_policy")?;
    Ok(Zone {
        id: row.get("id")?,
        apex: name_key::decode(key).ok_or_else(|| damaged("zones", "name_key"))?,
        owner_number: narrow(row.get("owner_number")?, "owner_number")?,
        version: u64::try_from(row.get::<i64, _>("version")?).map_err(|_| damaged("zones", "version"))?,
        serial: narrow(row.get("serial")?, "serial")?,
        ttl_policy: match policy {
            "keep" => TtlPolicy::Keep,
            "bounded" => TtlPolicy::Bounded,
            _ => return Err(damaged("zones", "ttl_policy")),
        },
        presigned: row.get("presigned")?,
        created_at_us: row.get("created_at_us")?,
        updated_at_us: row.get("updated_at_us")?,
        digest: digest(row.get("digest")?)?,
        frozen_at_us: row.get("frozen_at_us")?,
    })
}

/// Every start fills what is missing before anything is read.
fn digest(octets: Option<Vec<u8>>) -> sqlx::Result<Digest> {
    let octets = octets.and_then(|octets| octets.try_into().ok());
    octets.map(Digest::from_bytes).ok_or_else(|| damaged("zones", "digest"))
}

fn narrow(value: i64, what: &'static str) -> sqlx::Result<u32> {
    u32::try_from(value).map_err(|_| damaged("zones", what))
}

/// A version as stored. It rises by one per change: it cannot reach the border.
pub(crate) fn stored(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// The zone with this apex.
///
/// # Errors
/// Of the database.
pub async fn by_name(connection: &mut Connection, apex: NameRef<'_>) -> sqlx::Result<Option<Zone>> {
    let row = connection.query(BY_NAME).bind(name_key::encode(apex)).fetch_optional().await?;
    row.as_ref().map(zone).transpose()
}

/// The same for who is going to change it: nobody else changes it until the transaction ends.
///
/// # Errors
/// Of the database.
pub async fn lock_by_name(connection: &mut Connection, apex: NameRef<'_>) -> sqlx::Result<Option<Zone>> {
    let statement = if connection.kind() == Kind::Postgres { BY_NAME_LOCKED } else { BY_NAME };
    let row = connection.query(statement).bind(name_key::encode(apex)).fetch_optional().await?;
    row.as_ref().map(zone).transpose()
}

/// The zone with the longest of these names, each of which is above the one before it; `None` when there is none.
///
/// # Errors
/// Of the database.
pub async fn longest(connection: &mut Connection, names: &[NameRef<'_>]) -> sqlx::Result<Option<Zone>> {
    first_of(connection, LONGEST, names).await
}

/// The same for who is going to change it: nobody else changes it until the transaction ends.
///
/// # Errors
/// Of the database.
pub async fn lock_longest(connection: &mut Connection, names: &[NameRef<'_>]) -> sqlx::Result<Option<Zone>> {
    let statement = if connection.kind() == Kind::Postgres { LONGEST_LOCKED } else { LONGEST };
    first_of(connection, statement, names).await
}

/// What stands at the longest of some names.
#[derive(Clone, Debug)]
pub enum Longest {
    /// None of them is a zone.
    Nothing,
    /// One is, which the account of the connection does not see.
    Hidden,
    /// This zone.
    Zone(Box<Zone>),
}

impl From<Option<Zone>> for Longest {
    fn from(found: Option<Zone>) -> Longest {
        found.map_or(Longest::Nothing, |zone| Longest::Zone(Box::new(zone)))
    }
}

/// The zone with the longest of these names, by a connection that may not see all: a zone that it does not see holds what is
/// below it all the same. `locked`: nobody else changes it until the transaction ends.
///
/// # Errors
/// Of the database.
pub(crate) async fn longest_seen(
    connection: &mut Connection,
    names: &[NameRef<'_>],
    locked: bool,
) -> sqlx::Result<Longest> {
    if !connection.is_guarded() {
        let found =
            if locked { lock_longest(connection, names).await? } else { longest(connection, names).await? };
        return Ok(found.into());
    }
    if names.is_empty() {
        return Ok(Longest::Nothing);
    }
    let names: Vec<Name> = names.iter().copied().map(NameRef::to_owned).collect();
    let key: Option<Vec<u8>> = connection.query(LONGEST_KEY).bind(keys(&names)).fetch_value().await?;
    let Some(key) = key else { return Ok(Longest::Nothing) };
    let statement = if locked { BY_NAME_LOCKED } else { BY_NAME };
    let row = connection.query(statement).bind(key).fetch_optional().await?;
    let found = row.as_ref().map(zone).transpose()?;
    Ok(found.map_or(Longest::Hidden, |zone| Longest::Zone(Box::new(zone))))
}

/// Has claims of names that could overlap with these wait until the transaction ends. For PostgreSQL: SQLite has one writer at
/// a time.
///
/// # Errors
/// Of the database.
pub(crate) async fn claim(connection: &mut Connection, names: &BTreeSet<Name>) -> sqlx::Result<()> {
    connection.query(CLAIM).bind(keys(names)).fetch_value::<i64>().await.map(|_| ())
}

/// Zones of a tenant after a key, in canonical order.
///
/// # Errors
/// Of the database.
pub(crate) async fn page_of(
    connection: &mut Connection,
    tenant: u32,
    after: Option<&[u8]>,
    limit: i64,
) -> sqlx::Result<Vec<Zone>> {
    let page = connection.query(PAGE_OF).bind(i64::from(tenant));
    page.bind(after.unwrap_or_default()).bind(limit).fetch_all().await?.iter().map(zone).collect()
}

/// The same of which it is granted something; of one owner where one is asked for.
///
/// # Errors
/// Of the database.
pub(crate) async fn page_granted(
    connection: &mut Connection,
    tenant: u32,
    owner: Option<u32>,
    after: Option<&[u8]>,
    limit: i64,
) -> sqlx::Result<Vec<Zone>> {
    let (least, most) = owner.map_or((0, u32::MAX), |owner| (owner, owner));
    let page = connection.query(PAGE_GRANTED).bind(i64::from(tenant)).bind(after.unwrap_or_default());
    let page = page.bind(i64::from(least)).bind(i64::from(most)).bind(limit);
    page.fetch_all().await?.iter().map(zone).collect()
}

/// Zones below a name, behind a key that is at or below it, in canonical order.
///
/// # Errors
/// Of the database.
pub(crate) async fn below(
    connection: &mut Connection,
    apex: NameRef<'_>,
    after: &[u8],
    limit: i64,
) -> sqlx::Result<Vec<Zone>> {
    let mut end = name_key::encode(apex);
    // A label has at most 63 octets.
    end.extend_from_slice(&[0xFF; 64]);
    let below = connection.query(BELOW).bind(after).bind(end).bind(limit);
    below.fetch_all().await?.iter().map(zone).collect()
}

/// Locks those of these names that are zones, in canonical order: two that want several of the same never wait for each
/// other. For PostgreSQL: SQLite has one writer at a time.
///
/// # Errors
/// Of the database. Where one cannot be read, all of them are locked all the same.
pub async fn lock_in_order(connection: &mut Connection, names: &BTreeSet<Name>) -> sqlx::Result<Vec<Zone>> {
    connection.query(LOCK_IN_ORDER).bind(keys(names)).fetch_all().await?.iter().map(zone).collect()
}

/// Those of these names that are zones.
///
/// # Errors
/// Of the database.
pub async fn by_names(
    connection: &mut Connection,
    names: &BTreeSet<Name>,
) -> sqlx::Result<BTreeMap<Name, Zone>> {
    let mut zones = BTreeMap::new();
    match connection.kind() {
        Kind::Postgres => {
            for row in connection.query(BY_NAMES).bind(keys(names)).fetch_all().await? {
                let zone = zone(&row)?;
                zones.insert(zone.apex.clone(), zone);
            }
        }
        Kind::Sqlite => {
            for name in names {
                zones.extend(by_name(connection, name.as_ref()).await?.map(|zone| (name.clone(), zone)));
            }
        }
    }
    Ok(zones)
}

/// Those of these names that are zones, each with about how many octets its `wire::feed::ZoneBlob` has, or of one with `rrsets`
/// RRsets or more at least 80,000: no more of them are looked at. For PostgreSQL.
///
/// # Errors
/// Of the database.
pub async fn sized(
    connection: &mut Connection,
    names: &BTreeSet<Name>,
    rrsets: i64,
) -> sqlx::Result<BTreeMap<Name, (Zone, u64)>> {
    let rows = connection.query(SIZED).bind(keys(names)).bind(rrsets).fetch_all().await?;
    let sized = |row: &Row| {
        let zone = zone(row)?;
        let octets = u64::try_from(row.get::<i64, _>("octets")?).unwrap_or(0);
        Ok((zone.apex.clone(), (zone, octets)))
    };
    rows.iter().map(sized).collect()
}

async fn first_of(
    connection: &mut Connection,
    statement: &'static str,
    names: &[NameRef<'_>],
) -> sqlx::Result<Option<Zone>> {
    let keys: Vec<Vec<u8>> = names.iter().map(|&name| name_key::encode(name)).collect();
    // Names have few labels, mostly: one way to the database and back.
    for keys in keys.chunks(4) {
        let key = |n: usize| keys.get(n).or(keys.last()).map(Vec::as_slice);
        let query = connection.query(statement).bind(key(0)).bind(key(1)).bind(key(2)).bind(key(3));
        if let Some(row) = query.fetch_optional().await? {
            return zone(&row).map(Some);
        }
    }
    Ok(None)
}

/// Zones after a key, in canonical order.
///
/// # Errors
/// Of the database.
pub async fn page(connection: &mut Connection, after: Option<&[u8]>, limit: i64) -> sqlx::Result<Vec<Zone>> {
    // The root zone has the empty key; nothing is before it, so that "after nothing" starts below the empty key.
    // No key is smaller than the empty one, hence the root is fetched on its own.
    let mut zones = Vec::new();
    if after.is_none()
        && let Some(root) = by_name(connection, NameRef::ROOT).await?
    {
        zones.push(root);
    }
    let limit = limit - i64::try_from(zones.len()).unwrap_or(0);
    let rows = connection.query(PAGE).bind(after.unwrap_or_default()).bind(limit).fetch_all().await?;
    for row in &rows {
        zones.push(zone(row)?);
    }
    Ok(zones)
}

/// How many zones there are.
///
/// # Errors
/// Of the database.
pub async fn count(connection: &mut Connection) -> sqlx::Result<i64> {
    connection.query(COUNT).fetch_value().await
}

/// Adds a zone with so many RRsets; gives the id of its row.
///
/// # Errors
/// Of the database.
pub async fn insert(connection: &mut Connection, zone: &Zone, rrsets: i64) -> sqlx::Result<i64> {
    connection
        .query(INSERT)
        .bind(name_key::encode(zone.apex.as_ref()))
        .bind(i64::from(zone.owner_number))
        .bind(stored(zone.version))
        .bind(i64::from(zone.serial))
        .bind(zone.ttl_policy.as_str())
        .bind(zone.presigned)
        .bind(zone.created_at_us)
        .bind(&zone.digest.as_bytes()[..])
        .bind(rrsets)
        .fetch_value()
        .await
}

/// Writes what changes about a zone, and how many RRsets it has more than before.
pub fn update(batch: &mut Batch, zone: &Zone, more_rrsets: i64) {
    batch
        .add(UPDATE)
        .bind(zone.id)
        .bind(stored(zone.version))
        .bind(i64::from(zone.serial))
        .bind(zone.ttl_policy.as_str())
        .bind(zone.presigned)
        .bind(zone.updated_at_us)
        .bind(&zone.digest.as_bytes()[..])
        .bind(more_rrsets);
}

/// Has only operators change a zone from now on.
///
/// # Errors
/// Of the database.
pub(crate) async fn freeze(connection: &mut Connection, id: i64, now_us: i64) -> sqlx::Result<()> {
    connection.query(FREEZE).bind(id).bind(now_us).execute().await.map(|_| ())
}

/// Ends that.
///
/// # Errors
/// Of the database.
pub(crate) async fn thaw(connection: &mut Connection, id: i64) -> sqlx::Result<()> {
    connection.query(THAW).bind(id).execute().await.map(|_| ())
}

/// Ends that of all zones; how many there were.
///
/// # Errors
/// Of the database.
pub(crate) async fn thaw_all(connection: &mut Connection) -> sqlx::Result<u64> {
    connection.query(THAW_ALL).execute().await
}

/// Zones that have been frozen since a time or longer: the first ones first, and what is above before what is below.
///
/// # Errors
/// Of the database.
pub(crate) async fn frozen(
    connection: &mut Connection,
    since_us: i64,
    limit: i64,
) -> sqlx::Result<Vec<Zone>> {
    connection.query(FROZEN).bind(since_us).bind(limit).fetch_all().await?.iter().map(zone).collect()
}

/// Deletes a zone and its records, and remembers where it stood.
pub fn delete(batch: &mut Batch, zone: &Zone, at_us: i64) {
    batch
        .add(DEPART)
        .bind(name_key::encode(zone.apex.as_ref()))
        .bind(stored(zone.version))
        .bind(i64::from(zone.serial))
        .bind(at_us)
        .bind(i64::from(zone.owner_number));
    batch.add(DELETE).bind(zone.id);
}

/// Version and serial at which a zone of this name was deleted, and forgets them: the zone that takes the name goes on
/// from there.
///
/// # Errors
/// Of the database.
pub async fn take_departed(
    connection: &mut Connection,
    apex: NameRef<'_>,
) -> sqlx::Result<Option<(u64, u32)>> {
    let key = name_key::encode(apex);
    let Some(row) = connection.query(DEPARTED).bind(key.as_slice()).fetch_optional().await? else {
        return Ok(None);
    };
    // Where it is guarded the database does that, when the zone is made.
    if !connection.is_guarded() {
        connection.query(RETURN).bind(key.as_slice()).execute().await?;
    }
    let version = u64::try_from(row.get::<i64, _>("version")?).map_err(|_| damaged("zones", "version"))?;
    Ok(Some((version, narrow(row.get("serial")?, "serial")?)))
}

/// The version at which a zone of this name was deleted; `None` when none was.
///
/// # Errors
/// Of the database.
pub async fn departed(connection: &mut Connection, apex: NameRef<'_>) -> sqlx::Result<Option<u64>> {
    let row = connection.query(DEPARTED).bind(name_key::encode(apex)).fetch_optional().await?;
    row.map(|row| {
        let version: i64 = row.get("version")?;
        u64::try_from(version).map_err(|_| damaged("zones", "version"))
    })
    .transpose()
}

/// Whose the zone of this name was when it was deleted; `None` when none was.
///
/// # Errors
/// Of the database.
pub(crate) async fn departed_owner(
    connection: &mut Connection,
    apex: NameRef<'_>,
) -> sqlx::Result<Option<u32>> {
    let row = connection.query(DEPARTED_OWNER).bind(name_key::encode(apex)).fetch_optional().await?;
    row.map(|row| narrow(row.get(0)?, "owner_number")).transpose()
}

/// Zones after a key, in canonical order, as an index lists them, and the key of the last.
///
/// # Errors
/// Of the database.
pub async fn index(
    connection: &mut Connection,
    after: Option<&[u8]>,
    limit: i64,
) -> sqlx::Result<Vec<(Vec<u8>, IndexEntry)>> {
    let mut entries = Vec::new();
    // No key is below the empty one, which is that of the root.
    if after.is_none()
        && let Some(root) = by_name(connection, NameRef::ROOT).await?
    {
        entries
            .push((Vec::new(), IndexEntry { zone: root.apex, version: root.version, digest: root.digest }));
    }
    for row in connection.query(INDEX).bind(after.unwrap_or_default()).bind(limit).fetch_all().await? {
        let key: Vec<u8> = row.get("name_key")?;
        let zone = name_key::decode(&key).ok_or_else(|| damaged("zones", "name_key"))?;
        let version = u64::try_from(row.get::<i64, _>("version")?);
        let version = version.map_err(|_| damaged("zones", "version"))?;
        entries.push((key, IndexEntry { zone, version, digest: digest(row.get("digest")?)? }));
    }
    Ok(entries)
}

/// Some of the zones whose digest is not known: row and apex.
///
/// # Errors
/// Of the database.
pub async fn without_digest(connection: &mut Connection, limit: i64) -> sqlx::Result<Vec<(i64, Name)>> {
    let rows = connection.query(WITHOUT_DIGEST).bind(limit).fetch_all().await?;
    let zone = |row: &Row| {
        let apex = name_key::decode(row.get("name_key")?).ok_or_else(|| damaged("zones", "name_key"))?;
        Ok((row.get("id")?, apex))
    };
    rows.iter().map(zone).collect()
}

/// Writes the digest of a zone.
pub fn set_digest(batch: &mut Batch, id: i64, digest: Digest) {
    batch.add(SET_DIGEST).bind(id).bind(&digest.as_bytes()[..]);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{now_us, testing};

    /// With several that write, a change is judged by what the zone is once nobody else changes it.
    #[tokio::test]
    async fn a_zone_that_is_being_changed_is_waited_for() {
        let (mut database, place) = testing::database(Kind::Postgres).await;
        let zone = Zone {
            id: 0,
            apex: "example.com.".parse().unwrap(),
            owner_number: 0,
            version: 1,
            serial: 1,
            ttl_policy: TtlPolicy::Bounded,
            presigned: false,
            created_at_us: now_us(),
            updated_at_us: now_us(),
            digest: Digest::default(),
            frozen_at_us: None,
        };
        let writer = &mut database.writer;
        let id = insert(writer, &zone, 0).await.unwrap();
        let begin = crate::commit::begin(Kind::Postgres);
        writer.control(&[begin]).await.unwrap();
        let locked = lock_by_name(writer, zone.apex.as_ref()).await.unwrap().unwrap();
        let mut second = place.connect().await;
        let other = tokio::spawn(async move {
            second.control(&[begin]).await.unwrap();
            let names = ["b.example.com.", "example.com.", "com."].map(|name| name.parse::<Name>().unwrap());
            let names: Vec<NameRef<'_>> = names.iter().map(Name::as_ref).collect();
            lock_longest(&mut second, &names).await.unwrap().unwrap()
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!other.is_finished(), "it was read while somebody changed it");
        let mut batch = Batch::of(writer);
        update(&mut batch, &Zone { id, version: 2, ..locked }, 0);
        batch.control(crate::commit::COMMIT);
        batch.run(writer).await.unwrap();
        assert_eq!(other.await.unwrap().version, 2, "what it waited for");
    }
}
