//! `changes` and `outbox`: what was committed, and what of it is published.

use uuid::Uuid;

use godwit_wire::name::NameRef;

use super::batch::Batch;
use super::{Connection, damaged, zones};
use crate::model::name_key;

const INSERT: &str = "INSERT INTO changes (id, committed_at_us, actor, request_id, payload, settled_by) VALUES ($1, $2, $3, $4, $5, $6)";
const ENQUEUE: &str = "INSERT INTO outbox (change_id) VALUES ($1) RETURNING commit_number";
const UNPUBLISHED: &str = "SELECT outbox.commit_number, changes.id, changes.payload FROM outbox JOIN changes ON changes.id = outbox.change_id WHERE outbox.sequence IS NULL AND outbox.commit_number > $1 ORDER BY outbox.commit_number LIMIT $2";
const UNPUBLISHED_COUNT: &str = "SELECT count(*) FROM outbox WHERE sequence IS NULL";
const PUBLISHED_AFTER: &str = "SELECT outbox.sequence, changes.id, changes.payload FROM outbox JOIN changes ON changes.id = outbox.change_id WHERE outbox.sequence > $1 ORDER BY outbox.sequence LIMIT $2";
const MARK: &str = "UPDATE outbox SET sequence = $2, published_at_us = $3 WHERE commit_number = $1";
const STATE: &str = "SELECT changes.committed_at_us, changes.settled_by, outbox.commit_number, outbox.sequence, outbox.published_at_us FROM changes LEFT JOIN outbox ON outbox.change_id = changes.id WHERE changes.id = $1";
const PAYLOAD: &str = "SELECT payload FROM changes WHERE id = $1";
const OF_VERSION: &str = "SELECT outbox.commit_number, outbox.change_id FROM history JOIN outbox ON outbox.change_id = history.change_id WHERE history.zone_key = $1 AND history.version = $2";
const LAST_SEQUENCE: &str = "SELECT coalesce(max(sequence), 0) FROM outbox";
const PRUNE: &str = "DELETE FROM changes WHERE id IN (SELECT changes.id FROM changes LEFT JOIN outbox ON outbox.change_id = changes.id WHERE changes.committed_at_us < $1 AND (outbox.commit_number IS NULL OR outbox.sequence <= $2) ORDER BY changes.committed_at_us LIMIT $3)";

/// Every statement of this file.
pub const ALL: &[&str] = &[
    INSERT,
    ENQUEUE,
    UNPUBLISHED,
    UNPUBLISHED_COUNT,
    PUBLISHED_AFTER,
    MARK,
    STATE,
    PAYLOAD,
    OF_VERSION,
    LAST_SEQUENCE,
    PRUNE,
];

/// A change to be kept.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    /// Its id.
    pub id: Uuid,
    /// When.
    pub at_us: i64,
    /// Token's id, or `local`.
    pub actor: &'a str,
    /// Of the HTTP request.
    pub request_id: &'a str,
    /// `wire::feed::ChangeSet`, encoded; empty when there is nothing to publish.
    pub payload: &'a [u8],
    /// See [`State::settled_by`].
    pub settled_by: Option<Uuid>,
}

/// A committed change set.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Commit number while it has no sequence, else the sequence.
    pub number: i64,
    /// Id of the change.
    pub id: Uuid,
    /// `wire::feed::ChangeSet`, encoded.
    pub payload: Vec<u8>,
}

/// How far a change has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct State {
    /// When.
    pub committed_at_us: i64,
    /// Whether there was anything to publish.
    pub has_effect: bool,
    /// Of a change without effect: the one whose serving makes it true.
    pub settled_by: Option<Uuid>,
    /// Once published.
    pub sequence: Option<u64>,
    /// Once published.
    pub published_at_us: Option<i64>,
}

/// Keeps a change and, when it has a payload, puts it into the outbox; a row with its commit number comes back then.
pub fn insert(batch: &mut Batch, new: &New<'_>) {
    batch
        .add(INSERT)
        .bind(new.id)
        .bind(new.at_us)
        .bind(new.actor)
        .bind(new.request_id)
        .bind(new.payload)
        .bind(new.settled_by);
    if !new.payload.is_empty() {
        batch.add(ENQUEUE).bind(new.id);
    }
}

async fn stored(
    connection: &mut Connection,
    statement: &'static str,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Stored>> {
    let rows = connection.query(statement).bind(after).bind(limit).fetch_all().await?;
    rows.iter().map(|row| Ok(Stored { number: row.get(0)?, id: row.get(1)?, payload: row.get(2)? })).collect()
}

/// What has no sequence yet, in the order of commits, after a commit number.
///
/// # Errors
/// Of the database.
pub async fn unpublished(connection: &mut Connection, after: i64, limit: i64) -> sqlx::Result<Vec<Stored>> {
    stored(connection, UNPUBLISHED, after, limit).await
}

/// How many change sets have no sequence yet.
///
/// # Errors
/// Of the database.
pub async fn unpublished_count(connection: &mut Connection) -> sqlx::Result<i64> {
    connection.query(UNPUBLISHED_COUNT).fetch_value().await
}

/// What was published after a sequence, in order.
///
/// # Errors
/// Of the database.
pub async fn published_after(
    connection: &mut Connection,
    sequence: u64,
    limit: i64,
) -> sqlx::Result<Vec<Stored>> {
    stored(connection, PUBLISHED_AFTER, i64::try_from(sequence).unwrap_or(i64::MAX), limit).await
}

/// Writes down the sequence that a change set got.
pub fn mark(batch: &mut Batch, commit_number: i64, sequence: u64, at_us: i64) {
    batch.add(MARK).bind(commit_number).bind(i64::try_from(sequence).unwrap_or(i64::MAX)).bind(at_us);
}

/// How far a change has come; `None` when there is none of this id.
///
/// # Errors
/// Of the database.
pub async fn state(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<State>> {
    let Some(row) = connection.query(STATE).bind(id).fetch_optional().await? else {
        return Ok(None);
    };
    let sequence = row.get::<Option<i64>, _>("sequence")?;
    Ok(Some(State {
        committed_at_us: row.get("committed_at_us")?,
        settled_by: row.get("settled_by")?,
        has_effect: row.get::<Option<i64>, _>("commit_number")?.is_some(),
        sequence: sequence.map(u64::try_from).transpose().map_err(|_| damaged("outbox", "sequence"))?,
        published_at_us: row.get("published_at_us")?,
    }))
}

/// The change set of a change, encoded; `None` when there is no such change any more, empty when it has no effect.
///
/// # Errors
/// Of the database.
pub async fn payload(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<Vec<u8>>> {
    let row = connection.query(PAYLOAD).bind(id).fetch_optional().await?;
    row.map(|row| row.get(0)).transpose()
}

/// The change that made a version of a zone, with its place in the order of commits; `None` when it is no longer kept.
///
/// # Errors
/// Of the database.
pub async fn of_version(
    connection: &mut Connection,
    apex: NameRef<'_>,
    version: u64,
) -> sqlx::Result<Option<(i64, Uuid)>> {
    let query = connection.query(OF_VERSION).bind(name_key::encode(apex)).bind(zones::stored(version));
    let row = query.fetch_optional().await?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

/// The last sequence that was written down.
///
/// # Errors
/// Of the database.
pub async fn last_sequence(connection: &mut Connection) -> sqlx::Result<u64> {
    let last: i64 = connection.query(LAST_SEQUENCE).fetch_value().await?;
    u64::try_from(last).map_err(|_| damaged("outbox", "sequence"))
}

/// Forgets changes older than a time that every data plane has applied; at most `limit` at once. Gives how many.
///
/// # Errors
/// Of the database.
pub async fn prune(
    connection: &mut Connection,
    before_us: i64,
    applied: u64,
    limit: i64,
) -> sqlx::Result<u64> {
    let applied = i64::try_from(applied).unwrap_or(i64::MAX);
    connection.query(PRUNE).bind(before_us).bind(applied).bind(limit).execute().await
}
