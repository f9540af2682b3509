//! `history`: one row per zone and version.

use uuid::Uuid;

use godwit_wire::name::NameRef;

use super::Connection;
use super::batch::Batch;
use super::zones::stored;
use crate::model::name_key;

const INSERT: &str = "INSERT INTO history (zone_key, version, serial, change_id, committed_at_us, kind, rrsets_put, rrsets_deleted) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const PRUNE: &str = "DELETE FROM history WHERE (zone_key, version) IN (SELECT zone_key, version FROM history WHERE committed_at_us < $1 ORDER BY committed_at_us LIMIT $2)";

/// Every statement of this file.
pub const ALL: &[&str] = &[INSERT, PRUNE];

/// What a version of a zone came from.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The apex.
    pub zone: NameRef<'a>,
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
    /// RRsets written.
    pub put: usize,
    /// RRsets deleted.
    pub deleted: usize,
}

/// Adds a row.
pub fn insert(batch: &mut Batch, entry: &Entry<'_>) {
    batch
        .add(INSERT)
        .bind(name_key::encode(entry.zone))
        .bind(stored(entry.version))
        .bind(i64::from(entry.serial))
        .bind(entry.change)
        .bind(entry.at_us)
        .bind(entry.kind)
        .bind(i64::try_from(entry.put).unwrap_or(i64::MAX))
        .bind(i64::try_from(entry.deleted).unwrap_or(i64::MAX));
}

/// Forgets rows older than a time, at most `limit` at once. Gives how many.
///
/// # Errors
/// Of the database.
pub async fn prune(connection: &mut Connection, before_us: i64, limit: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(before_us).bind(limit).execute().await
}
