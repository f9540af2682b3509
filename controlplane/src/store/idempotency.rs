//! `idempotency`: answers kept for requests that are sent again.

use super::Connection;
use super::batch::Batch;

const FIND: &str =
    "SELECT request_hash, response FROM idempotency WHERE caller = $1 AND key = $2 AND created_at_us > $3";
const KEEP: &str = "INSERT INTO idempotency (caller, key, request_hash, response, created_at_us) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (caller, key) DO UPDATE SET request_hash = excluded.request_hash, response = excluded.response, created_at_us = excluded.created_at_us";
const PRUNE: &str = "DELETE FROM idempotency WHERE (caller, key) IN (SELECT caller, key FROM idempotency WHERE created_at_us <= $1 ORDER BY created_at_us LIMIT $2)";

/// Every statement of this file.
pub const ALL: &[&str] = &[FIND, KEEP, PRUNE];

/// How long an answer is kept.
pub const KEPT_US: i64 = 24 * 3600 * 1_000_000;

/// The kept answer to a key, with the hash of the request it answered.
///
/// # Errors
/// Of the database.
pub async fn find(
    connection: &mut Connection,
    caller: &str,
    key: &str,
    now_us: i64,
) -> sqlx::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let query = connection.query(FIND).bind(caller).bind(key).bind(now_us - KEPT_US);
    let row = query.fetch_optional().await?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

/// Keeps an answer; an expired one of the same key gives way.
pub fn keep(
    batch: &mut Batch,
    caller: &str,
    key: &str,
    request_hash: &[u8; 32],
    response: &[u8],
    now_us: i64,
) {
    batch.add(KEEP).bind(caller).bind(key).bind(&request_hash[..]).bind(response).bind(now_us);
}

/// Forgets answers that are past their time, at most `limit` at once. Gives how many.
///
/// # Errors
/// Of the database.
pub async fn prune(connection: &mut Connection, now_us: i64, limit: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(now_us - KEPT_US).bind(limit).execute().await
}
