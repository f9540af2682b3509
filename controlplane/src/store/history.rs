//! `history` and `undo_parts`: one row per zone and version, with what takes the version back.

use uuid::Uuid;

use godwit_wire::feed::{ChangeSet, Digest, RrsetChange, ZoneChange, ZoneChangeKind};
use godwit_wire::name::{Name, NameRef};

use super::batch::Batch;
use super::zones::stored;
use super::{Connection, Row, damaged};
use crate::model::name_key;
use crate::model::zone::{TtlPolicy, Zone};

const INSERT: &str = "INSERT INTO history (zone_key, version, serial, change_id, committed_at_us, kind, rrsets_put, rrsets_deleted, action, undo, before_owner_number, before_serial, before_ttl_policy, before_presigned, before_created_at_us, before_updated_at_us, before_digest, owner_number) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
const INSERT_PART: &str = "INSERT INTO undo_parts (zone_key, version, part, undo) VALUES ($1, $2, $3, $4)";
const PRUNE: &str = "DELETE FROM history WHERE (zone_key, version) IN (SELECT zone_key, version FROM history WHERE committed_at_us < $1 ORDER BY committed_at_us LIMIT $2)";
const UNDO: &str = "SELECT version, undo, before_owner_number, before_serial, before_ttl_policy, before_presigned, before_created_at_us, before_updated_at_us, before_digest FROM history WHERE zone_key = $1 AND version > $2 AND version <= $3 ORDER BY version DESC LIMIT $4";
const UNDO_PARTS: &str = "SELECT undo FROM undo_parts WHERE zone_key = $1 AND version = $2 AND part = $3";
const LAST: &str = "SELECT coalesce(max(version), 0) FROM history WHERE zone_key = $1";
const AT_TIME: &str =
    "SELECT version FROM history WHERE zone_key = $1 AND committed_at_us <= $2 ORDER BY version DESC LIMIT 1";
const READABLE_FROM: &str =
    "SELECT coalesce(max(version), 0) FROM history WHERE zone_key = $1 AND undo IS NULL";
const OLDEST: &str = "SELECT version, before_serial, before_updated_at_us FROM history WHERE zone_key = $1 ORDER BY version LIMIT 1";
const LIST: &str = "SELECT history.version, history.serial, history.change_id, history.committed_at_us, history.kind, history.action, history.rrsets_put, history.rrsets_deleted, changes.actor, outbox.sequence, history.owner_number FROM history LEFT JOIN changes ON changes.id = history.change_id LEFT JOIN outbox ON outbox.change_id = history.change_id WHERE history.zone_key = $1 AND history.version < $2 ORDER BY history.version DESC LIMIT $3";
/// Zones that changed after a sequence, and the first version that came of it. By the changes: no plan may begin with the history of all
/// zones, as one does that takes a third of them to be meant. The order of a cross join is what SQLite goes by.
const CHANGED_SINCE: &str = "WITH since AS MATERIALIZED (SELECT change_id FROM outbox WHERE sequence > $1 UNION ALL SELECT change_id FROM outbox WHERE sequence IS NULL) SELECT history.zone_key, min(history.version) FROM since CROSS JOIN history WHERE history.change_id = since.change_id GROUP BY history.zone_key ORDER BY history.zone_key LIMIT $2";
const OF_CHANGE: &str = "SELECT zone_key, owner_number FROM history WHERE change_id = $1";
const KEPT_SINCE: &str = "SELECT count(*) FROM outbox WHERE sequence > $1";

/// Every statement of this file.
pub const ALL: &[&str] = &[
    INSERT,
    INSERT_PART,
    PRUNE,
    UNDO,
    UNDO_PARTS,
    LAST,
    AT_TIME,
    READABLE_FROM,
    OLDEST,
    LIST,
    CHANGED_SINCE,
    OF_CHANGE,
    KEPT_SINCE,
];

/// What a version of a zone came from.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The apex.
    pub zone: NameRef<'a>,
    /// Whose it is in that version; where it is removed, whose it was.
    pub owner_number: u32,
    /// The version that the change made.
    pub version: u64,
    /// Its serial.
    pub serial: u32,
    /// The change.
    pub change: Uuid,
    /// When.
    pub at_us: i64,
    /// `create`, `update`, `replace` or `remove`.
    pub kind: &'static str,
    /// What the audit calls it.
    pub action: &'a str,
    /// RRsets written.
    pub put: usize,
    /// RRsets deleted.
    pub deleted: usize,
    /// The zone as it was; `None` where there was none.
    pub before: Option<&'a Zone>,
    /// The first part of what leads back: see [`encode_undo`]; empty where there was no zone.
    pub undo: &'a [u8],
}

/// Adds a row.
pub fn insert(batch: &mut Batch, entry: &Entry<'_>) {
    let before = entry.before;
    let digest = before.map(|zone| zone.digest.as_bytes());
    batch
        .add(INSERT)
        .bind(name_key::encode(entry.zone))
        .bind(stored(entry.version))
        .bind(i64::from(entry.serial))
        .bind(entry.change)
        .bind(entry.at_us)
        .bind(entry.kind)
        .bind(i64::try_from(entry.put).unwrap_or(i64::MAX))
        .bind(i64::try_from(entry.deleted).unwrap_or(i64::MAX))
        .bind(entry.action)
        .bind(entry.undo)
        .bind(before.map(|zone| i64::from(zone.owner_number)))
        .bind(before.map(|zone| i64::from(zone.serial)))
        .bind(before.map(|zone| zone.ttl_policy.as_str()))
        .bind(before.map(|zone| zone.presigned))
        .bind(before.map(|zone| zone.created_at_us))
        .bind(before.map(|zone| zone.updated_at_us))
        .bind(digest.as_ref().map(|digest| &digest[..]))
        .bind(i64::from(entry.owner_number));
}

/// Adds what leads back and does not stand in the row itself; `part` from 1.
pub fn insert_part(batch: &mut Batch, zone: NameRef<'_>, version: u64, part: i64, undo: &[u8]) {
    batch.add(INSERT_PART).bind(name_key::encode(zone)).bind(stored(version)).bind(part).bind(undo);
}

/// Steps that lead from a version back to the one before, as they are kept.
#[must_use]
pub fn encode_undo(zone: &Zone, version: u64, steps: Vec<RrsetChange>) -> Vec<u8> {
    let change = ZoneChange {
        zone: zone.apex.clone(),
        owner: zone.owner_number,
        base_version: 0,
        version,
        kind: ZoneChangeKind::Update(steps),
    };
    let mut octets = Vec::new();
    ChangeSet { id: [0; 16], committed_at_us: 0, zones: vec![change] }.encode(&mut octets);
    octets
}

/// Reads what [`encode_undo`] wrote.
fn decode_undo(octets: &[u8]) -> sqlx::Result<Vec<RrsetChange>> {
    let set = ChangeSet::decode(octets).map_err(|_| damaged("history", "undo"))?;
    match set.zones.into_iter().next().map(|zone| zone.kind) {
        Some(ZoneChangeKind::Update(steps)) => Ok(steps),
        _ => Err(damaged("history", "undo")),
    }
}

/// What takes one version back.
#[derive(Debug)]
pub struct Undo {
    /// The version.
    pub version: u64,
    /// The zone as it was before, with the version before; `None` where there was none. Its row has no id.
    pub before: Option<Zone>,
    /// The first part of the steps; more of them: [`undo_part`]. `None` in rows from before steps were kept.
    pub steps: Option<Vec<RrsetChange>>,
}

fn undo(apex: NameRef<'_>, row: &Row) -> sqlx::Result<Undo> {
    let version = u64::try_from(row.get::<i64, _>("version")?).map_err(|_| damaged("history", "version"))?;
    let octets: Option<Vec<u8>> = row.get("undo")?;
    let steps = match octets {
        Some(octets) if octets.is_empty() => Some(Vec::new()),
        octets => octets.map(|octets| decode_undo(&octets)).transpose()?,
    };
    let narrow = |value: i64, what| u32::try_from(value).map_err(|_| damaged("history", what));
    let before = match row.get::<Option<i64>, _>("before_serial")? {
        None => None,
        Some(serial) => {
            let digest: Vec<u8> = row.get("before_digest")?;
            let digest = digest.try_into().map_err(|_| damaged("history", "before_digest"))?;
            Some(Zone {
                id: 0,
                apex: apex.to_owned(),
                owner_number: narrow(row.get("before_owner_number")?, "before_owner_number")?,
                version: version.saturating_sub(1),
                serial: narrow(serial, "before_serial")?,
                ttl_policy: match row.get::<&str, _>("before_ttl_policy")? {
                    "keep" => TtlPolicy::Keep,
                    _ => TtlPolicy::Bounded,
                },
                presigned: row.get("before_presigned")?,
                created_at_us: row.get("before_created_at_us")?,
                updated_at_us: row.get("before_updated_at_us")?,
                digest: Digest::from_bytes(digest),
                frozen_at_us: None,
            })
        }
    };
    Ok(Undo { version, before, steps })
}

/// What takes versions back, the newest first: those above `down_to`, up to `from`.
///
/// # Errors
/// Of the database.
pub async fn undos(
    connection: &mut Connection,
    apex: NameRef<'_>,
    down_to: u64,
    from: u64,
    limit: i64,
) -> sqlx::Result<Vec<Undo>> {
    let query = connection.query(UNDO).bind(name_key::encode(apex)).bind(stored(down_to)).bind(stored(from));
    query.bind(limit).fetch_all().await?.iter().map(|row| undo(apex, row)).collect()
}

/// A further part of the steps of a version, from 1; `None` behind the last.
///
/// # Errors
/// Of the database.
pub async fn undo_part(
    connection: &mut Connection,
    apex: NameRef<'_>,
    version: u64,
    part: i64,
) -> sqlx::Result<Option<Vec<RrsetChange>>> {
    let query = connection.query(UNDO_PARTS).bind(name_key::encode(apex)).bind(stored(version)).bind(part);
    let row = query.fetch_optional().await?;
    row.map(|row| decode_undo(row.get("undo")?)).transpose()
}

/// The newest version that is kept; 0 where none is.
///
/// # Errors
/// Of the database.
pub async fn last(connection: &mut Connection, apex: NameRef<'_>) -> sqlx::Result<u64> {
    let version: i64 = connection.query(LAST).bind(name_key::encode(apex)).fetch_value().await?;
    u64::try_from(version).map_err(|_| damaged("history", "version"))
}

/// The version that a zone had at a time, as far as is kept.
///
/// # Errors
/// Of the database.
pub async fn at_time(
    connection: &mut Connection,
    apex: NameRef<'_>,
    at_us: i64,
) -> sqlx::Result<Option<u64>> {
    let row = connection.query(AT_TIME).bind(name_key::encode(apex)).bind(at_us).fetch_optional().await?;
    row.map(|row| u64::try_from(row.get::<i64, _>(0)?).map_err(|_| damaged("history", "version"))).transpose()
}

/// The oldest version that is kept of a zone.
#[derive(Clone, Copy, Debug)]
pub struct Oldest {
    /// Its number.
    pub version: u64,
    /// Serial of the version before it, and since when that was there; `None` where there was none, or it is not known.
    pub before: Option<(i64, i64)>,
}

/// See [`Oldest`].
///
/// # Errors
/// Of the database.
pub async fn oldest(connection: &mut Connection, apex: NameRef<'_>) -> sqlx::Result<Option<Oldest>> {
    let row = connection.query(OLDEST).bind(name_key::encode(apex)).fetch_optional().await?;
    row.map(|row| {
        let version = u64::try_from(row.get::<i64, _>(0)?).map_err(|_| damaged("history", "version"))?;
        let serial: Option<i64> = row.get(1)?;
        let since_us: Option<i64> = row.get(2)?;
        Ok(Oldest { version, before: serial.zip(since_us) })
    })
    .transpose()
}

/// The version from which on all that is kept can be read: nothing leads further back.
///
/// # Errors
/// Of the database.
pub async fn readable_from(connection: &mut Connection, apex: NameRef<'_>) -> sqlx::Result<u64> {
    let version: i64 = connection.query(READABLE_FROM).bind(name_key::encode(apex)).fetch_value().await?;
    u64::try_from(version).map_err(|_| damaged("history", "version"))
}

/// A version as listed.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its number.
    pub version: u64,
    /// Its serial.
    pub serial: i64,
    /// The change that made it.
    pub change: Uuid,
    /// When.
    pub committed_at_us: i64,
    /// `create`, `update`, `replace` or `remove`.
    pub kind: String,
    /// What the audit calls it, where it is known.
    pub action: Option<String>,
    /// RRsets written.
    pub put: i64,
    /// RRsets deleted.
    pub deleted: i64,
    /// Who, where it is known.
    pub actor: Option<String>,
    /// The sequence of the change, once it has one.
    pub sequence: Option<i64>,
    /// Whose the zone was in it.
    pub owner_number: u32,
}

/// Versions below one, the newest first.
///
/// # Errors
/// Of the database.
pub async fn list(
    connection: &mut Connection,
    apex: NameRef<'_>,
    below: u64,
    limit: i64,
) -> sqlx::Result<Vec<Listed>> {
    let query = connection.query(LIST).bind(name_key::encode(apex)).bind(stored(below)).bind(limit);
    let rows = query.fetch_all().await?;
    let listed = |row: &Row| {
        Ok(Listed {
            version: u64::try_from(row.get::<i64, _>(0)?).map_err(|_| damaged("history", "version"))?,
            serial: row.get(1)?,
            change: row.get(2)?,
            committed_at_us: row.get(3)?,
            kind: row.get(4)?,
            action: row.get(5)?,
            put: row.get(6)?,
            deleted: row.get(7)?,
            actor: row.get(8)?,
            sequence: row.get(9)?,
            owner_number: u32::try_from(row.get::<i64, _>(10)?)
                .map_err(|_| damaged("history", "owner_number"))?,
        })
    };
    rows.iter().map(listed).collect()
}

/// The first zones that changed after a sequence, in canonical order, at most so many, each with the version that it had at
/// it: 0 where there was none.
///
/// # Errors
/// Of the database.
pub async fn changed_since(
    connection: &mut Connection,
    sequence: u64,
    limit: i64,
) -> sqlx::Result<Vec<(Name, u64)>> {
    let query = connection.query(CHANGED_SINCE).bind(stored(sequence)).bind(limit);
    let rows = query.fetch_all().await?;
    let changed = |row: &Row| {
        let apex = name_key::decode(row.get(0)?).ok_or_else(|| damaged("history", "zone_key"))?;
        let version = u64::try_from(row.get::<i64, _>(1)?).map_err(|_| damaged("history", "version"))?;
        Ok((apex, version.saturating_sub(1)))
    };
    rows.iter().map(changed).collect()
}

/// The zones of a change, and whose each is in the version that it made.
///
/// # Errors
/// Of the database.
pub(crate) async fn of_change(connection: &mut Connection, change: Uuid) -> sqlx::Result<Vec<(Name, u32)>> {
    let zone = |row: &Row| {
        let apex = name_key::decode(row.get(0)?).ok_or_else(|| damaged("history", "zone_key"))?;
        let owner = u32::try_from(row.get::<i64, _>(1)?).map_err(|_| damaged("history", "owner_number"))?;
        Ok((apex, owner))
    };
    connection.query(OF_CHANGE).bind(change).fetch_all().await?.iter().map(zone).collect()
}

/// How many changes after a sequence are kept, of those that have one.
///
/// # Errors
/// Of the database.
pub async fn kept_since(connection: &mut Connection, sequence: u64) -> sqlx::Result<u64> {
    let count: i64 = connection.query(KEPT_SINCE).bind(stored(sequence)).fetch_value().await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Forgets rows older than a time, at most `limit` at once. Gives how many.
///
/// # Errors
/// Of the database.
pub async fn prune(connection: &mut Connection, before_us: i64, limit: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(before_us).bind(limit).execute().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Kind, testing};

    const CHANGES: &str = "INSERT INTO changes (id, committed_at_us, actor, request_id, payload) SELECT md5(n::TEXT)::UUID, n, '', '', '' FROM generate_series(1, 5000) n";
    const OUTBOX: &str = "INSERT INTO outbox (change_id, sequence) SELECT md5(n::TEXT)::UUID, n FROM generate_series(1, 5000) n";
    const HISTORY: &str = "INSERT INTO history (zone_key, version, serial, change_id, committed_at_us, kind, rrsets_put, rrsets_deleted, action) SELECT $1, n, n, md5(n::TEXT)::UUID, n, 'update', 1, 0, '' FROM generate_series(1, 5000) n WHERE n % 100 = $2";
    const ROWS_READ: &str = "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::BIGINT FROM pg_stat_xact_user_tables WHERE relname IN ('outbox', 'history')";

    /// However much is kept: who asks every half a minute is not to read all of it each time.
    #[tokio::test]
    async fn p7_what_changed_since_is_found_without_reading_what_changed_before() {
        let (mut database, _place) = testing::database(Kind::Postgres).await;
        let connection = &mut database.writer;
        let zone = |number: i64| format!("z{number}.test.").parse::<Name>().unwrap();
        connection.control(&[CHANGES, OUTBOX]).await.unwrap();
        for number in 0..100 {
            let key = name_key::encode(zone(number).as_ref());
            connection.query(HISTORY).bind(key).bind(number).execute().await.unwrap();
        }
        connection.control(&["ANALYZE changes, outbox, history"]).await.unwrap();
        connection.control(&["BEGIN"]).await.unwrap();
        let before: i64 = connection.query(ROWS_READ).fetch_value().await.unwrap();
        let times = 10;
        for _ in 0..times {
            let changed = changed_since(connection, 4_998, 100).await.unwrap();
            assert_eq!(changed, [(zone(0), 4_999), (zone(99), 4_998)]);
        }
        let after: i64 = connection.query(ROWS_READ).fetch_value().await.unwrap();
        let read = after - before;
        assert!(read <= times * 20, "{read} rows were read {times} times in all");
    }
}
