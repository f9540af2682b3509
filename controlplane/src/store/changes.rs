//! `changes` and `outbox`: what was committed, and what of it is published.

use uuid::Uuid;

use godwit_wire::feed::Digest;
use godwit_wire::name::NameRef;

use super::batch::Batch;
use super::{Connection, Kind, damaged, relay, zones};
use crate::model::name_key;

const INSERT: &str = "INSERT INTO changes (id, committed_at_us, actor, request_id, payload, settled_by) VALUES ($1, $2, $3, $4, $5, $6)";
const ENQUEUE: &str =
    "INSERT INTO outbox (change_id, sequence, published_at_us, root_change) VALUES ($1, $2, $3, $4)";
const UNSEQUENCED: &str = "SELECT outbox.commit_number, changes.id, changes.committed_at_us, changes.payload, outbox.root_change FROM outbox JOIN changes ON changes.id = outbox.change_id WHERE outbox.sequence IS NULL ORDER BY outbox.commit_number LIMIT $1";
const UNSEQUENCED_UP_TO: &str = "SELECT count(*) FROM outbox WHERE sequence IS NULL AND commit_number <= $1";
const LAST_UNSEQUENCED: &str = "SELECT coalesce(max(commit_number), 0) FROM outbox WHERE sequence IS NULL";
const UNSEQUENCED_ROOT_CHANGES: &str =
    "SELECT root_change FROM outbox WHERE sequence IS NULL AND root_change IS NOT NULL";
/// In the order of commit numbers. SQLite has one writer at a time: there are no others than those that were read.
const GIVE_SEQUENCES: &str = "UPDATE outbox SET sequence = $1 + numbered.n, published_at_us = $2 FROM (SELECT commit_number AS number, row_number() OVER (ORDER BY commit_number) AS n FROM outbox WHERE sequence IS NULL AND commit_number <= $3) AS numbered WHERE outbox.commit_number = numbered.number";
/// Those that were read, and no others that have come in between them since.
const GIVE_SEQUENCES_TO: &str = "UPDATE outbox SET sequence = $1 + numbered.n, published_at_us = $2, withheld = outbox.commit_number = ANY (string_to_array($4, ',')::BIGINT[]) FROM unnest(string_to_array($3, ',')::BIGINT[]) WITH ORDINALITY AS numbered(number, n) WHERE outbox.commit_number = numbered.number";
const STATE: &str = "SELECT changes.committed_at_us, changes.settled_by, outbox.commit_number, outbox.sequence, outbox.published_at_us, outbox.withheld FROM changes LEFT JOIN outbox ON outbox.change_id = changes.id WHERE changes.id = $1";
const ACTOR: &str = "SELECT actor FROM changes WHERE id = $1";
const REQUEST: &str = "SELECT request_id, actor FROM changes WHERE id = $1";
const PAYLOAD: &str = "SELECT payload FROM changes WHERE id = $1";
const OF_VERSION: &str = "SELECT outbox.commit_number, outbox.change_id FROM history JOIN outbox ON outbox.change_id = history.change_id WHERE history.zone_key = $1 AND history.version = $2";
const PRUNE: &str = "DELETE FROM changes WHERE id IN (SELECT changes.id FROM changes LEFT JOIN outbox ON outbox.change_id = changes.id WHERE changes.committed_at_us < $1 AND (outbox.commit_number IS NULL OR outbox.sequence IS NOT NULL) ORDER BY changes.committed_at_us LIMIT $2)";

/// Statements of this file that only PostgreSQL gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[GIVE_SEQUENCES_TO];

/// Every statement of this file that both get, or SQLite alone.
pub const ALL: &[&str] = &[
    INSERT,
    ENQUEUE,
    UNSEQUENCED,
    UNSEQUENCED_UP_TO,
    LAST_UNSEQUENCED,
    UNSEQUENCED_ROOT_CHANGES,
    GIVE_SEQUENCES,
    STATE,
    ACTOR,
    REQUEST,
    PAYLOAD,
    OF_VERSION,
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

/// A committed change set that is to be published.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its place in the order of commits; 0 where it gets its sequence with the commit.
    pub commit_number: i64,
    /// Id of the change.
    pub id: Uuid,
    /// When.
    pub committed_at_us: i64,
    /// `wire::feed::ChangeSet`, encoded.
    pub payload: Vec<u8>,
    /// What it adds to the digest of everything.
    pub root_change: Digest,
    /// What is published of it names no zone: the code of data planes failed at it.
    pub withheld: bool,
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
    /// What was published of it names no zone: the code of data planes failed at it.
    pub withheld: bool,
}

/// Who made a change.
///
/// # Errors
/// Of the database.
pub(crate) async fn actor(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<String>> {
    connection.query(ACTOR).bind(id).fetch_optional().await?.map(|row| row.get(0)).transpose()
}

/// The id of the request that made a change, and who sent it.
///
/// # Errors
/// Of the database.
pub(crate) async fn request(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<(String, String)>> {
    let row = connection.query(REQUEST).bind(id).fetch_optional().await?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

/// Keeps a change and, when it has a payload, puts it into the outbox: with its sequence where that is known already.
pub fn insert(batch: &mut Batch, new: &New<'_>, root_change: Digest, sequence: Option<u64>) {
    batch
        .add(INSERT)
        .bind(new.id)
        .bind(new.at_us)
        .bind(new.actor)
        .bind(new.request_id)
        .bind(new.payload)
        .bind(new.settled_by);
    if !new.payload.is_empty() {
        batch
            .add(ENQUEUE)
            .bind(new.id)
            .bind(sequence.map(relay::stored))
            .bind(sequence.map(|_| new.at_us))
            .bind(&root_change.as_bytes()[..]);
    }
}

fn digest(octets: Option<Vec<u8>>) -> sqlx::Result<Digest> {
    let octets = octets.map(TryInto::try_into).transpose().map_err(|_| damaged("outbox", "root_change"))?;
    Ok(octets.map(Digest::from_bytes).unwrap_or_default())
}

/// What has no sequence yet, in the order of commits.
///
/// # Errors
/// Of the database.
pub async fn unsequenced(connection: &mut Connection, limit: i64) -> sqlx::Result<Vec<Waiting>> {
    let rows = connection.query(UNSEQUENCED).bind(limit).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(Waiting {
                commit_number: row.get(0)?,
                id: row.get(1)?,
                committed_at_us: row.get(2)?,
                payload: row.get(3)?,
                root_change: digest(row.get(4)?)?,
                withheld: false,
            })
        })
        .collect()
}

/// How many change sets have no sequence yet, of those up to a commit number.
///
/// # Errors
/// Of the database.
pub async fn unsequenced_up_to(connection: &mut Connection, commit_number: i64) -> sqlx::Result<i64> {
    connection.query(UNSEQUENCED_UP_TO).bind(commit_number).fetch_value().await
}

/// The highest commit number without a sequence; 0 when all have one.
///
/// # Errors
/// Of the database.
pub async fn last_unsequenced(connection: &mut Connection) -> sqlx::Result<i64> {
    connection.query(LAST_UNSEQUENCED).fetch_value().await
}

/// What all that has no sequence yet adds to the digest of everything.
///
/// # Errors
/// Of the database.
pub async fn unsequenced_root_change(connection: &mut Connection) -> sqlx::Result<Digest> {
    let mut sum = Digest::default();
    for row in connection.query(UNSEQUENCED_ROOT_CHANGES).fetch_all().await? {
        sum.add(digest(row.get(0)?)?);
    }
    Ok(sum)
}

/// Gives change sets the sequences after `sequence`, in their order: with SQLite all that have none, as they were read in this
/// transaction. Those that are withheld are marked; with SQLite none is.
pub fn give_sequences(
    batch: &mut Batch,
    connection: &Connection,
    sequence: u64,
    waiting: &[Waiting],
    at_us: i64,
) {
    let sequence = relay::stored(sequence);
    match connection.kind() {
        Kind::Sqlite => {
            let last = waiting.last().map_or(0, |last| last.commit_number);
            batch.add(GIVE_SEQUENCES).bind(sequence).bind(at_us).bind(last);
        }
        Kind::Postgres => {
            let numbers = |of: &dyn Fn(&Waiting) -> bool| {
                let numbers: Vec<String> =
                    waiting.iter().filter(|one| of(one)).map(|one| one.commit_number.to_string()).collect();
                numbers.join(",")
            };
            batch
                .add(GIVE_SEQUENCES_TO)
                .bind(sequence)
                .bind(at_us)
                .bind(numbers(&|_| true).as_str())
                .bind(numbers(&|one| one.withheld).as_str());
        }
    }
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
        withheld: row.get::<Option<bool>, _>("withheld")?.unwrap_or(false),
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

/// Forgets changes older than a time, but for those without a sequence; at most `limit` at once. Gives how many.
///
/// # Errors
/// Of the database.
pub async fn prune(connection: &mut Connection, before_us: i64, limit: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(before_us).bind(limit).execute().await
}
