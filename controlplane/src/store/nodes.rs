//! `nodes`: data planes on other machines, and what they last said of themselves.

use uuid::Uuid;

use super::batch::Batch;
use super::{Connection, Row, damaged};

const INSERT: &str =
    "INSERT INTO nodes (id, name, token_hash, last_key, created_at_us) VALUES ($1, $2, $3, $4, $5)";
const BY_HASH: &str = "SELECT id, name, token_hash, last_key, removed_at_us FROM nodes WHERE token_hash = $1";
const LIST: &str =
    "SELECT id, name, last_key, created_at_us FROM nodes WHERE removed_at_us IS NULL ORDER BY name";
const COUNT: &str = "SELECT count(*) FROM nodes WHERE removed_at_us IS NULL";
const BY_NAME: &str = "SELECT id FROM nodes WHERE name = $1 AND removed_at_us IS NULL";
const REMOVE: &str = "UPDATE nodes SET removed_at_us = $2 WHERE id = $1 AND removed_at_us IS NULL";

const LEARN: &str = "UPDATE nodes SET last_key = $2 WHERE id = $1 AND last_key <> $2";

/// Said some time before now; what another control plane was told later stays.
const REPORT: &str = "UPDATE nodes SET report = $2, reported_to = $3, reported_at_us = (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT - $4 WHERE id = $1 AND removed_at_us IS NULL AND (reported_at_us IS NULL OR reported_at_us <= (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT - $4)";
/// What was said within some time before now, also by those that were removed since.
const REPORTS: &str = "SELECT id, name, removed_at_us, report, reported_to, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT - reported_at_us AS age_us FROM nodes WHERE reported_at_us >= (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT - $1";
/// Reports come again and again: losing the last of them with the server loses nothing.
pub(crate) const NOT_SYNCED: &str = "SET synchronous_commit = off";

/// Statements of this file that only PostgreSQL gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[REPORT, REPORTS, NOT_SYNCED];

/// Every statement of this file that both get.
pub const ALL: &[&str] = &[INSERT, BY_HASH, LIST, COUNT, BY_NAME, REMOVE, LEARN];

/// A node as it was added.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Names it for ever.
    pub id: Uuid,
    /// Names it for people, until it is removed.
    pub name: String,
    /// The latest feed key that it is known to trust: given when it was added, or learned since.
    pub last_key: [u8; 32],
    /// When it was added.
    pub created_at_us: i64,
}

/// Whose token it is.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The node.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// SHA-256.
    pub token_hash: Vec<u8>,
    /// See [`Node::last_key`].
    pub last_key: Vec<u8>,
    /// Once removed.
    pub removed: bool,
}

/// What a node said of itself.
#[derive(Clone, Debug)]
pub struct Reported {
    /// The node.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// It was removed afterwards.
    pub removed: bool,
    /// As the control plane wrote it that was told.
    pub report: Vec<u8>,
    /// That control plane.
    pub to: Uuid,
    /// How long ago, by the clock of the database.
    pub age_us: i64,
}

/// Adds a node; its token by the hash.
///
/// # Errors
/// Of the database, also when the name is taken.
pub async fn insert(connection: &mut Connection, node: &Node, token_hash: &[u8; 32]) -> sqlx::Result<()> {
    let insert = connection.query(INSERT).bind(node.id).bind(node.name.as_str()).bind(&token_hash[..]);
    insert.bind(&node.last_key[..]).bind(node.created_at_us).execute().await.map(|_| ())
}

/// Whose token has this hash.
///
/// # Errors
/// Of the database.
pub async fn by_hash(connection: &mut Connection, hash: &[u8; 32]) -> sqlx::Result<Option<Holder>> {
    let row = connection.query(BY_HASH).bind(&hash[..]).fetch_optional().await?;
    row.map(|row| {
        Ok(Holder {
            id: row.get("id")?,
            name: row.get("name")?,
            token_hash: row.get("token_hash")?,
            last_key: row.get("last_key")?,
            removed: row.get::<Option<i64>, _>("removed_at_us")?.is_some(),
        })
    })
    .transpose()
}

/// All that are not removed, by name.
///
/// # Errors
/// Of the database.
pub async fn list(connection: &mut Connection) -> sqlx::Result<Vec<Node>> {
    let rows = connection.query(LIST).fetch_all().await?;
    let node = |row: &Row| {
        let last_key: Vec<u8> = row.get("last_key")?;
        Ok(Node {
            id: row.get("id")?,
            name: row.get("name")?,
            last_key: last_key.try_into().map_err(|_| damaged("nodes", "last_key"))?,
            created_at_us: row.get("created_at_us")?,
        })
    };
    rows.iter().map(node).collect()
}

/// How many are not removed.
///
/// # Errors
/// Of the database.
pub async fn count(connection: &mut Connection) -> sqlx::Result<i64> {
    connection.query(COUNT).fetch_value().await
}

/// The node that has a name now.
///
/// # Errors
/// Of the database.
pub async fn by_name(connection: &mut Connection, name: &str) -> sqlx::Result<Option<Uuid>> {
    let row = connection.query(BY_NAME).bind(name).fetch_optional().await?;
    row.map(|row| row.get(0)).transpose()
}

/// Removes a node: its token is refused from then on. Whether there was one to remove.
///
/// # Errors
/// Of the database.
pub async fn remove(connection: &mut Connection, id: Uuid, now_us: i64) -> sqlx::Result<bool> {
    Ok(connection.query(REMOVE).bind(id).bind(now_us).execute().await? > 0)
}

/// Notes that a node has learned a feed key.
///
/// # Errors
/// Of the database.
pub async fn learn(connection: &mut Connection, id: Uuid, key: &[u8; 32]) -> sqlx::Result<()> {
    connection.query(LEARN).bind(id).bind(&key[..]).execute().await.map(|_| ())
}

/// Writes what a node said to the control plane `to`, `age_us` ago.
pub fn report(batch: &mut Batch, id: Uuid, report: &[u8], to: Uuid, age_us: i64) {
    batch.add(REPORT).bind(id).bind(report).bind(to).bind(age_us);
}

/// What nodes have said within the last `within_us`.
///
/// # Errors
/// Of the database.
pub async fn reports(connection: &mut Connection, within_us: i64) -> sqlx::Result<Vec<Reported>> {
    let rows = connection.query(REPORTS).bind(within_us).fetch_all().await?;
    let reported = |row: &Row| {
        Ok(Reported {
            id: row.get("id")?,
            name: row.get("name")?,
            removed: row.get::<Option<i64>, _>("removed_at_us")?.is_some(),
            report: row.get("report")?,
            to: row.get("reported_to")?,
            age_us: row.get("age_us")?,
        })
    };
    rows.iter().map(reported).collect()
}
