//! `buffered_changes`: what became of changes that were accepted while the database was away and that are not in `changes`.

use std::collections::HashSet;

use uuid::Uuid;

use super::batch::Batch;
use super::{Connection, Row};

const INSERT: &str = "INSERT INTO buffered_changes (change_id, accepted_at_us, settled_at_us, actor, request_id, request, repeats, code, message) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (change_id) DO NOTHING";
const FIND: &str = "SELECT change_id, accepted_at_us, settled_at_us, actor, request_id, request, repeats, code, message FROM buffered_changes WHERE change_id = $1";
const PAGE: &str = "SELECT change_id, accepted_at_us, settled_at_us, actor, request_id, request, repeats, code, message FROM buffered_changes WHERE code IS NOT NULL AND change_id > $1 AND (actor = $2 OR $2 IS NULL) ORDER BY change_id LIMIT $3";
const PRUNE: &str = "DELETE FROM buffered_changes WHERE change_id IN (SELECT change_id FROM buffered_changes WHERE settled_at_us < $1 ORDER BY settled_at_us LIMIT $2)";

const SETTLED: &str = "SELECT id FROM changes WHERE id = ANY (string_to_array($1, ',')::UUID[]) UNION SELECT change_id FROM buffered_changes WHERE change_id = ANY (string_to_array($1, ',')::UUID[])";

/// Every statement of this file that both databases get.
pub const ALL: &[&str] = &[INSERT, FIND, PAGE, PRUNE];
/// Those that PostgreSQL alone gets: nothing is accepted for later with the other one.
pub const POSTGRES_ONLY: &[&str] = &[SETTLED];

/// What became of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settled {
    /// The change.
    pub change: Uuid,
    /// When it was accepted.
    pub accepted_at_us: i64,
    /// When it was judged.
    pub settled_at_us: i64,
    /// The token's id.
    pub actor: String,
    /// Of the HTTP request.
    pub request_id: String,
    /// Its method, and the beginning of its target.
    pub request: String,
    /// What it is.
    pub outcome: Outcome,
}

/// See [`Settled`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The request had the key of an earlier one, which made this change.
    Repeats(Uuid),
    /// It could not be made.
    Conflict {
        /// As the API writes it.
        code: String,
        /// For people.
        message: String,
    },
}

/// Those of these changes that are made, or known not to be. For PostgreSQL.
///
/// # Errors
/// Of the database.
pub async fn settled_of(
    connection: &mut Connection,
    changes: impl Iterator<Item = Uuid>,
) -> sqlx::Result<HashSet<Uuid>> {
    let changes: Vec<String> = changes.map(|change| change.to_string()).collect();
    let rows = connection.query(SETTLED).bind(changes.join(",")).fetch_all().await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// Keeps what became of one; what is known of it already stays.
pub fn insert(batch: &mut Batch, settled: &Settled) {
    let (repeats, code, message) = match &settled.outcome {
        Outcome::Repeats(change) => (Some(*change), None, None),
        Outcome::Conflict { code, message } => (None, Some(code.as_str()), Some(message.as_str())),
    };
    batch
        .add(INSERT)
        .bind(settled.change)
        .bind(settled.accepted_at_us)
        .bind(settled.settled_at_us)
        .bind(settled.actor.as_str())
        .bind(settled.request_id.as_str())
        .bind(settled.request.as_str())
        .bind(repeats)
        .bind(code)
        .bind(message);
}

fn settled(row: &Row) -> sqlx::Result<Settled> {
    let outcome = match row.get::<Option<Uuid>, _>("repeats")? {
        Some(change) => Outcome::Repeats(change),
        None => Outcome::Conflict { code: row.get("code")?, message: row.get("message")? },
    };
    Ok(Settled {
        change: row.get("change_id")?,
        accepted_at_us: row.get("accepted_at_us")?,
        settled_at_us: row.get("settled_at_us")?,
        actor: row.get("actor")?,
        request_id: row.get("request_id")?,
        request: row.get("request")?,
        outcome,
    })
}

/// What became of one; `None` where that is not known, or it was made.
///
/// # Errors
/// Of the database.
pub async fn find(connection: &mut Connection, change: Uuid) -> sqlx::Result<Option<Settled>> {
    let row = connection.query(FIND).bind(change).fetch_optional().await?;
    row.as_ref().map(settled).transpose()
}

/// Those that could not be made, of one actor where one is given, behind an id, in the order of ids, which is that of their time.
///
/// # Errors
/// Of the database.
pub async fn conflicts(
    connection: &mut Connection,
    after: Uuid,
    actor: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Settled>> {
    let rows = connection.query(PAGE).bind(after).bind(actor).bind(limit).fetch_all().await?;
    rows.iter().map(settled).collect()
}

/// Forgets what is older than a time, at most `limit` at once. Gives how many.
///
/// # Errors
/// Of the database.
pub async fn prune(connection: &mut Connection, before_us: i64, limit: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(before_us).bind(limit).execute().await
}
