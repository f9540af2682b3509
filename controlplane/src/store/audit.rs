//! `audit`: who did what to what.

use uuid::Uuid;

use super::batch::Batch;
use super::{Connection, Row, now_us};

const INSERT: &str =
    "INSERT INTO audit (at_us, actor, action, object, request_id, change_id) VALUES ($1, $2, $3, $4, $5, $6)";

const OF_ACTOR: &str =
    "SELECT at_us, action, object, request_id FROM audit WHERE actor = $1 ORDER BY id DESC LIMIT $2";

/// Every statement of this file.
pub const ALL: &[&str] = &[INSERT, OF_ACTOR];

/// The most octets of an object's description: a change may touch any number of zones.
const MAX_OBJECT_OCTETS: usize = 2_000;

/// One thing done.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When.
    pub at_us: i64,
    /// Token's id, or `local` for the command line beside the data.
    pub actor: &'a str,
    /// What.
    pub action: &'a str,
    /// To what.
    pub object: &'a str,
    /// Of the HTTP request.
    pub request_id: &'a str,
    /// The change it made.
    pub change: Option<Uuid>,
}

/// Adds a row.
pub fn insert(batch: &mut Batch, entry: &Entry<'_>) {
    let end = entry.object.floor_char_boundary(MAX_OBJECT_OCTETS);
    batch
        .add(INSERT)
        .bind(entry.at_us)
        .bind(entry.actor)
        .bind(entry.action)
        .bind(&entry.object[..end])
        .bind(entry.request_id)
        .bind(entry.change);
}

/// Writes down who did what that is no change of records, in the transaction of it.
///
/// # Errors
/// Of the database.
pub(crate) async fn note(
    connection: &mut Connection,
    actor: &str,
    action: &str,
    object: &str,
    request_id: &str,
) -> sqlx::Result<()> {
    let mut batch = Batch::of(connection);
    insert(&mut batch, &Entry { at_us: now_us(), actor, action, object, request_id, change: None });
    batch.run(connection).await.map(|_| ())
}

/// An entry as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) at_us: i64,
    pub(crate) action: String,
    pub(crate) object: String,
    pub(crate) request_id: String,
}

/// What somebody did, the newest first.
///
/// # Errors
/// Of the database.
pub(crate) async fn of_actor(
    connection: &mut Connection,
    actor: &str,
    limit: i64,
) -> sqlx::Result<Vec<Kept>> {
    let kept = |row: &Row| {
        Ok(Kept {
            at_us: row.get("at_us")?,
            action: row.get("action")?,
            object: row.get("object")?,
            request_id: row.get("request_id")?,
        })
    };
    connection.query(OF_ACTOR).bind(actor).bind(limit).fetch_all().await?.iter().map(kept).collect()
}
