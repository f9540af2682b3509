//! `audit_chain`, `audit_head`: in which order the rows of `audit` were found, and the keyed hash of each and of the one before it.
//! What is hashed, and who writes it, is decided in `audit/`.
//!
//! The head is moved and the rows are added at once, and only where it still stands where it was found: whoever was paused, or lost
//! the answer to an earlier step, adds nothing beside what another one added.

use super::audit::{Audited, audited, columns};
use super::batch::Batch;
use super::{Connection, Kind, Row, damaged, is_damage};

const HEAD: &str = "SELECT number, hash, epoch, settled_id, start_number, start_hash, start_proof FROM audit_head WHERE id = 1";
const UNCHAINED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM audit WHERE audit.id > $1 AND NOT EXISTS (SELECT 1 FROM audit_chain WHERE audit_chain.audit_id = audit.id) ORDER BY audit.id LIMIT $2"
);
const MOVE: &str = "UPDATE audit_head SET number = $1, hash = $2, epoch = $3, settled_id = $4 WHERE id = 1 AND number = $5 AND hash = $6 AND epoch <= $3";
const ADD: &str = "INSERT INTO audit_chain (number, audit_id, hash) VALUES ($1, $2, $3)";
const BEGIN_BEHIND: &str = "UPDATE audit_head SET start_number = $1, start_hash = $2, start_proof = $3 WHERE id = 1 AND start_number = $4 AND epoch <= $5 AND number >= $1";
const DELETE_ROWS: &str =
    "DELETE FROM audit WHERE id IN (SELECT audit_id FROM audit_chain WHERE number > $1 AND number <= $2)";
const DELETE_CHAIN: &str = "DELETE FROM audit_chain WHERE number > $1 AND number <= $2";
const CHAINED: &str = concat!(
    "SELECT audit_chain.number, audit_chain.audit_id, audit_chain.hash, audit.id IS NOT NULL AS is_there, coalesce(audit.id, 0) AS id, coalesce(audit.at_us, 0) AS at_us, coalesce(audit.actor, '') AS actor, coalesce(audit.action, '') AS action, coalesce(audit.object, '') AS object, coalesce(audit.request_id, '') AS request_id, audit.change_id, audit.client, audit.came_with, coalesce(audit.outcome, '') AS outcome, audit.code, audit.before, audit.after, audit.tenant",
    " FROM audit_chain LEFT JOIN audit ON audit.id = audit_chain.audit_id WHERE audit_chain.number > $1 ORDER BY audit_chain.number LIMIT $2"
);
const NUMBERED: &str = "SELECT audit.id, audit.at_us, audit_chain.number FROM audit LEFT JOIN audit_chain ON audit_chain.audit_id = audit.id WHERE audit.id > $1 ORDER BY audit.id LIMIT $2";

/// Who may still add rows: whoever has begun with it holds this lock until the end of the transaction, from before the row gets its id.
const WRITERS: &str = "SELECT virtualtransaction::TEXT FROM pg_locks WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND relation = 'audit'::regclass AND mode = 'RowExclusiveLock' AND granted";
/// The head and the rows in one statement.
const GO_ON: &str = "WITH moved AS (UPDATE audit_head SET number = $1, hash = $2, epoch = $3, settled_id = $4 WHERE id = 1 AND number = $5 AND hash = $6 AND epoch <= $3 RETURNING 1), added AS (INSERT INTO audit_chain (number, audit_id, hash) SELECT $5 + added.n, added.audit_id::BIGINT, decode(added.hash, 'hex') FROM unnest(string_to_array($7, ','), string_to_array($8, ',')) WITH ORDINALITY AS added (audit_id, hash, n) WHERE EXISTS (SELECT 1 FROM moved)) SELECT count(*) FROM moved";

/// Statements of this file that only PostgreSQL gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[WRITERS, GO_ON];

/// Every statement of this file that both get.
pub(super) const ALL: &[&str] =
    &[HEAD, UNCHAINED, MOVE, ADD, BEGIN_BEHIND, DELETE_ROWS, DELETE_CHAIN, CHAINED, NUMBERED];

/// A hash of the chain.
pub(crate) type Hash = [u8; 32];

/// Where the chain ends, and where it begins.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Head {
    /// Of the last row; 0 where there is none.
    pub(crate) number: i64,
    pub(crate) hash: Hash,
    /// The term in which it was moved.
    pub(crate) epoch: i64,
    /// Every row up to this id is chained.
    pub(crate) settled_id: i64,
    /// Of the last row that was deleted for its age.
    pub(crate) start_number: i64,
    pub(crate) start_hash: Hash,
    /// What vouches for these two.
    pub(crate) start_proof: Option<Vec<u8>>,
}

/// A row of the chain, and the row of the log that it is about, where that is there.
#[derive(Clone, Debug)]
pub(crate) struct Chained {
    pub(crate) number: i64,
    pub(crate) audit_id: i64,
    pub(crate) hash: Hash,
    pub(crate) row: Option<Audited>,
    /// It is there, and holds what no row of ours does.
    pub(crate) unreadable: bool,
}

fn hash(row: &Row, column: &'static str) -> sqlx::Result<Hash> {
    let octets: Vec<u8> = row.get(column)?;
    octets.try_into().map_err(|_| damaged("audit_chain", "hash"))
}

/// Where it stands; `None` where somebody took that away.
///
/// # Errors
/// Of the database.
pub(crate) async fn head(connection: &mut Connection) -> sqlx::Result<Option<Head>> {
    let Some(row) = connection.query(HEAD).fetch_optional().await? else { return Ok(None) };
    Ok(Some(Head {
        number: row.get("number")?,
        hash: hash(&row, "hash")?,
        epoch: row.get("epoch")?,
        settled_id: row.get("settled_id")?,
        start_number: row.get("start_number")?,
        start_hash: hash(&row, "start_hash")?,
        start_proof: row.get("start_proof")?,
    }))
}

/// Rows behind an id that are not chained yet, in the order of their ids, and these; `None` of one that holds what no row of ours does.
///
/// # Errors
/// Of the database.
pub(crate) async fn unchained(
    connection: &mut Connection,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<(i64, Option<Audited>)>> {
    let rows = connection.query(UNCHAINED).bind(after).bind(limit).fetch_all().await?;
    rows.iter().map(|row| Ok((row.get("id")?, undamaged(audited(row))?))).collect()
}

/// `None` where a row is damaged.
fn undamaged<T>(read: sqlx::Result<T>) -> sqlx::Result<Option<T>> {
    match read {
        Err(error) if is_damage(&error) => Ok(None),
        read => read.map(Some),
    }
}

/// Who is about to add rows, as the server names them; nobody else has the same name, at any time. For PostgreSQL.
///
/// # Errors
/// Of the database.
pub(crate) async fn writers(connection: &mut Connection) -> sqlx::Result<Vec<String>> {
    connection.query(WRITERS).fetch_all().await?.iter().map(|row| row.get(0)).collect()
}

/// Moves the head from where it was found, and adds what is between; whether it stood there still. On SQLite in an open
/// transaction, which is to be taken back where it did not.
///
/// # Errors
/// Of the database: it may have been done all the same.
pub(crate) async fn go_on(
    connection: &mut Connection,
    from: &Head,
    to: &Head,
    added: &[(i64, Hash)],
) -> sqlx::Result<bool> {
    if connection.kind() == Kind::Postgres {
        let ids: Vec<String> = added.iter().map(|(id, _)| id.to_string()).collect();
        let hashes: Vec<String> = added.iter().map(|(_, hash)| crate::hex::encoded(hash)).collect();
        let query = connection.query(GO_ON).bind(to.number).bind(&to.hash[..]).bind(to.epoch);
        let query = query.bind(to.settled_id).bind(from.number).bind(&from.hash[..]);
        let moved: i64 = query.bind(ids.join(",")).bind(hashes.join(",")).fetch_value().await?;
        return Ok(moved == 1);
    }
    let query = connection.query(MOVE).bind(to.number).bind(&to.hash[..]).bind(to.epoch);
    let query = query.bind(to.settled_id).bind(from.number).bind(&from.hash[..]);
    if query.execute().await? != 1 {
        return Ok(false);
    }
    let mut batch = Batch::of(connection);
    for ((id, hash), number) in added.iter().zip(from.number + 1..) {
        batch.add(ADD).bind(number).bind(*id).bind(&hash[..]);
        if batch.is_full() {
            batch.run(connection).await?;
        }
    }
    batch.run(connection).await.map(|_| true)
}

/// Has the chain begin behind a row, in an open transaction, and deletes what is before that; whether it began where it was found to.
///
/// # Errors
/// Of the database.
pub(crate) async fn begin_behind(
    connection: &mut Connection,
    head: &Head,
    (number, hash): (i64, &Hash),
    proof: &[u8],
) -> sqlx::Result<bool> {
    let query = connection.query(BEGIN_BEHIND).bind(number).bind(&hash[..]).bind(proof);
    if query.bind(head.start_number).bind(head.epoch).execute().await? != 1 {
        return Ok(false);
    }
    connection.query(DELETE_ROWS).bind(head.start_number).bind(number).execute().await?;
    connection.query(DELETE_CHAIN).bind(head.start_number).bind(number).execute().await?;
    Ok(true)
}

/// Rows of the chain behind a number.
///
/// # Errors
/// Of the database.
pub(crate) async fn chained(
    connection: &mut Connection,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Chained>> {
    let rows = connection.query(CHAINED).bind(after).bind(limit).fetch_all().await?;
    let read = |row: &Row| {
        let is_there: bool = row.get("is_there")?;
        let found = if is_there { undamaged(audited(row))? } else { None };
        Ok(Chained {
            number: row.get("number")?,
            audit_id: row.get("audit_id")?,
            hash: hash(row, "hash")?,
            unreadable: is_there && found.is_none(),
            row: found,
        })
    };
    rows.iter().map(read).collect()
}

/// Rows of the log behind an id: id, when, and their number in the chain.
///
/// # Errors
/// Of the database.
pub(crate) async fn numbered(
    connection: &mut Connection,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<(i64, i64, Option<i64>)>> {
    let rows = connection.query(NUMBERED).bind(after).bind(limit).fetch_all().await?;
    rows.iter().map(|row| Ok((row.get("id")?, row.get("at_us")?, row.get("number")?))).collect()
}
