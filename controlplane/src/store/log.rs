//! `batches`: the feed as a log. Which change sets a batch has follows from their sequences.

use uuid::Uuid;

use super::batch::Batch;
use super::relay::stored;
use super::{Connection, Row, damaged};

const APPEND: &str = "INSERT INTO batches (last_sequence, first_sequence, epoch, previous_chain, chain, made_at_us) VALUES ($1, $2, $3, $4, $5, $6)";
const AFTER: &str = "SELECT last_sequence, first_sequence, epoch, previous_chain, chain, made_at_us FROM batches WHERE last_sequence > $1 AND first_sequence <= last_sequence ORDER BY last_sequence LIMIT $2";
const AT: &str = "SELECT last_sequence, first_sequence, epoch, previous_chain, chain, made_at_us FROM batches WHERE last_sequence = $1";
const IS_BEFORE: &str = "SELECT count(*) > 0 FROM batches WHERE last_sequence < $1";
const CHANGE_SETS: &str = "SELECT outbox.sequence, changes.id, changes.committed_at_us, changes.payload, outbox.withheld FROM outbox JOIN changes ON changes.id = outbox.change_id WHERE outbox.sequence BETWEEN $1 AND $2 ORDER BY outbox.sequence";
const WEIGHT: &str = "SELECT count(*) AS change_sets, CAST(coalesce(sum(length(changes.payload)), 0) AS BIGINT) AS octets FROM outbox JOIN changes ON changes.id = outbox.change_id WHERE outbox.sequence BETWEEN $1 AND $2";
const FORGET: &str = "DELETE FROM batches";
const PRUNE: &str = "DELETE FROM batches WHERE last_sequence IN (SELECT last_sequence FROM batches WHERE made_at_us < $1 AND last_sequence < (SELECT sequence FROM relay WHERE id = 1) ORDER BY last_sequence LIMIT $2)";

/// Every statement of this file.
pub const ALL: &[&str] = &[APPEND, AFTER, AT, IS_BEFORE, CHANGE_SETS, WEIGHT, FORGET, PRUNE];

/// A batch without its change sets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Of its last change set.
    pub last_sequence: u64,
    /// Of its first one; above the last where there is none.
    pub first_sequence: u64,
    /// The term in which it was made.
    pub epoch: u64,
    /// Of the batch before.
    pub previous_chain: [u8; 32],
    /// Its own.
    pub chain: [u8; 32],
    /// When it was made.
    pub made_at_us: i64,
}

/// A change set of a batch.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its place.
    pub sequence: u64,
    /// Id of the change.
    pub id: Uuid,
    /// When.
    pub committed_at_us: i64,
    /// `wire::feed::ChangeSet`, encoded.
    pub payload: Vec<u8>,
    /// What is published of it names no zone.
    pub withheld: bool,
}

fn number(value: i64) -> sqlx::Result<u64> {
    u64::try_from(value).map_err(|_| damaged("batches", "number"))
}

fn entry(row: &Row) -> sqlx::Result<Entry> {
    let hash = |column| -> sqlx::Result<[u8; 32]> {
        row.get::<Vec<u8>, _>(column)?.try_into().map_err(|_| damaged("batches", "chain"))
    };
    Ok(Entry {
        last_sequence: number(row.get("last_sequence")?)?,
        first_sequence: number(row.get("first_sequence")?)?,
        epoch: number(row.get("epoch")?)?,
        previous_chain: hash("previous_chain")?,
        chain: hash("chain")?,
        made_at_us: row.get("made_at_us")?,
    })
}

/// Adds a batch at the end.
pub fn append(batch: &mut Batch, entry: &Entry) {
    batch
        .add(APPEND)
        .bind(stored(entry.last_sequence))
        .bind(stored(entry.first_sequence))
        .bind(stored(entry.epoch))
        .bind(&entry.previous_chain[..])
        .bind(&entry.chain[..])
        .bind(entry.made_at_us);
}

/// Forgets all batches: a new generation goes on from `entry`.
///
/// # Errors
/// Of the database.
pub async fn begin_at(connection: &mut Connection, entry: &Entry) -> sqlx::Result<()> {
    connection.query(FORGET).execute().await?;
    let mut batch = Batch::of(connection);
    append(&mut batch, entry);
    batch.run(connection).await.map(|_| ())
}

/// The batches after a sequence, in order.
///
/// # Errors
/// Of the database.
pub async fn after(connection: &mut Connection, sequence: u64, limit: i64) -> sqlx::Result<Vec<Entry>> {
    let rows = connection.query(AFTER).bind(stored(sequence)).bind(limit).fetch_all().await?;
    rows.iter().map(entry).collect()
}

/// The batch that ends with a sequence; `None` when there is none, or none any more.
///
/// # Errors
/// Of the database.
pub async fn at(connection: &mut Connection, sequence: u64) -> sqlx::Result<Option<Entry>> {
    let row = connection.query(AT).bind(stored(sequence)).fetch_optional().await?;
    row.as_ref().map(entry).transpose()
}

/// Whether a batch that ends before a sequence is kept.
///
/// # Errors
/// Of the database.
pub async fn is_before(connection: &mut Connection, sequence: u64) -> sqlx::Result<bool> {
    connection.query(IS_BEFORE).bind(stored(sequence)).fetch_value().await
}

/// The change sets from one sequence to another, as far as they are kept.
///
/// # Errors
/// Of the database.
pub async fn change_sets(connection: &mut Connection, first: u64, last: u64) -> sqlx::Result<Vec<Stored>> {
    let rows = connection.query(CHANGE_SETS).bind(stored(first)).bind(stored(last)).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(Stored {
                sequence: number(row.get(0)?)?,
                id: row.get(1)?,
                committed_at_us: row.get(2)?,
                payload: row.get(3)?,
                withheld: row.get(4)?,
            })
        })
        .collect()
}

/// How many change sets there are, and how many octets of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Weight {
    /// So many.
    pub change_sets: u64,
    /// Of their payloads.
    pub octets: u64,
}

/// That of the change sets from one sequence to another, as far as they are kept.
///
/// # Errors
/// Of the database.
pub async fn weight(connection: &mut Connection, first: u64, last: u64) -> sqlx::Result<Weight> {
    let row = connection.query(WEIGHT).bind(stored(first)).bind(stored(last));
    let row = row.fetch_optional().await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok(Weight { change_sets: number(row.get("change_sets")?)?, octets: number(row.get("octets")?)? })
}

/// Forgets batches that were made before a time; at most `limit` at once, never the last. Gives how many.
///
/// # Errors
/// Of the database.
pub async fn prune(connection: &mut Connection, before_us: i64, limit: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(before_us).bind(limit).execute().await
}
