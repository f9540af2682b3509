//! `relay`: where the feed stands, and who gives sequences.

use godwit_wire::feed::{Digest, DigestKey};
use uuid::Uuid;

use super::batch::Batch;
use super::{Connection, Kind, Row, damaged};

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT generation, epoch, sequence, chain, root, ahead FROM relay WHERE id = 1", $rest)
    };
}

const READ: &str = select!("");
const START: &str = "INSERT INTO relay (id, generation, epoch, sequence, chain) VALUES (1, $1, 0, 0, $2) ON CONFLICT (id) DO NOTHING";
const WRITE: &str = "UPDATE relay SET sequence = $1, chain = $2, root = $3 WHERE id = 1";
const RAISE_EPOCH: &str = "UPDATE relay SET epoch = epoch + 1 WHERE id = 1";
const IS_COUNTED: &str = "SELECT root IS NOT NULL FROM relay WHERE id = 1";
const COUNTED: &str = "UPDATE relay SET root = $1 WHERE id = 1";
const NEW_GENERATION: &str = "UPDATE relay SET generation = $1, sequence = CASE WHEN ahead > sequence THEN ahead ELSE sequence END, ahead = 0 WHERE id = 1 AND generation < $1";
const FOUND_AHEAD: &str = "UPDATE relay SET ahead = CASE WHEN sequence >= $1 THEN sequence + 1 ELSE $1 END WHERE id = 1 AND ahead < $1";
/// What was restored goes on above what was there; nobody has the lease.
const PUT_BACK: &str = "UPDATE relay SET epoch = CASE WHEN epoch < $1 THEN $1 ELSE epoch END, ahead = CASE WHEN ahead < $2 THEN $2 ELSE ahead END, holder = NULL, lease_until_us = 0 WHERE id = 1";
const DIGEST_KEY: &str = "SELECT digest_key FROM relay WHERE id = 1";
const SET_DIGEST_KEY: &str = "UPDATE relay SET digest_key = $1 WHERE id = 1 AND digest_key IS NULL";

/// The row is held until the transaction ends, by the relay whose term it still is. A process that is paused before that end
/// must not keep the next one from taking over: the server ends its session.
const LOCK: &str = "SELECT generation, epoch, sequence, chain, root, ahead, set_config('idle_in_transaction_session_timeout', '2000', true) FROM relay WHERE id = 1 AND epoch = $1 FOR UPDATE";
/// The row is held whoever's term it is.
const HOLD: &str = select!(" FOR UPDATE");
/// Sequences for what waits, and a batch of it behind the end of the log, where that is still there and the term goes on: one statement, so
/// that nobody waits for a process that is paused in the middle, and one way to the server. Those who listen are told when it holds.
const GO_ON: &str = "WITH moved AS (UPDATE relay SET sequence = $1, chain = $2, root = $3 WHERE id = 1 AND generation = $4 AND epoch = $5 AND sequence = $6 AND chain = $7 AND root = $8 AND ahead <= sequence RETURNING pg_notify('godwit_feed', 'sequenced')), given AS (UPDATE outbox SET sequence = $6 + numbered.n, published_at_us = $9 FROM unnest(string_to_array($10, ',')::BIGINT[]) WITH ORDINALITY AS numbered(number, n) WHERE outbox.commit_number = numbered.number AND EXISTS (SELECT 1 FROM moved)), added AS (INSERT INTO batches (last_sequence, first_sequence, epoch, previous_chain, chain, made_at_us) SELECT $1, $6 + 1, $5, $7, $2, $9 FROM moved) SELECT count(*) FROM moved";
/// By the clock of the database: those of its clients may differ.
const TAKE_LEASE: &str = "UPDATE relay SET holder = $1, epoch = epoch + 1, lease_until_us = (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT + $2 WHERE id = 1 AND lease_until_us < (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT RETURNING epoch";
const RENEW_LEASE: &str = "UPDATE relay SET lease_until_us = (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT + $3 WHERE id = 1 AND holder = $1 AND epoch = $2";
const END_LEASE: &str = "UPDATE relay SET lease_until_us = 0 WHERE id = 1 AND holder = $1 AND epoch = $2";

/// Statements of this file that only PostgreSQL gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[LOCK, HOLD, GO_ON, TAKE_LEASE, RENEW_LEASE, END_LEASE];

/// Every statement of this file that both get.
pub const ALL: &[&str] = &[
    READ,
    START,
    WRITE,
    RAISE_EPOCH,
    IS_COUNTED,
    COUNTED,
    NEW_GENERATION,
    FOUND_AHEAD,
    PUT_BACK,
    DIGEST_KEY,
    SET_DIGEST_KEY,
];

/// Where the feed stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FeedState {
    /// One unbroken history.
    pub generation: u64,
    /// The relay's term.
    pub epoch: u64,
    /// The last sequence given.
    pub sequence: u64,
    /// After the batch that ended with it.
    pub chain: [u8; 32],
    /// The digest of everything at that sequence.
    pub root: Digest,
    /// The highest sequence that a data plane was found to have and this database never knew; 0 when none was.
    pub ahead: u64,
}

impl FeedState {
    /// A data plane has what this database never knew: nothing is published in this generation (P8).
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        self.ahead > self.sequence
    }
}

fn number(value: i64) -> sqlx::Result<u64> {
    u64::try_from(value).map_err(|_| damaged("relay", "number"))
}

pub(super) fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn state(row: &Row) -> sqlx::Result<FeedState> {
    let chain: Vec<u8> = row.get("chain")?;
    let root: Option<Vec<u8>> = row.get("root")?;
    let root = root.map(TryInto::try_into).transpose().map_err(|_| damaged("relay", "root"))?;
    Ok(FeedState {
        generation: number(row.get("generation")?)?,
        epoch: number(row.get("epoch")?)?,
        sequence: number(row.get("sequence")?)?,
        chain: chain.try_into().map_err(|_| damaged("relay", "chain"))?,
        root: root.map(Digest::from_bytes).unwrap_or_default(),
        ahead: number(row.get("ahead")?)?,
    })
}

/// Where the feed stands; `None` in a database whose history has not begun.
///
/// # Errors
/// Of the database.
pub async fn read(connection: &mut Connection) -> sqlx::Result<Option<FeedState>> {
    connection.query(READ).fetch_optional().await?.as_ref().map(state).transpose()
}

/// Begins a history in a new database, and settles what digests are keyed with: `key`, where nothing has been before.
///
/// # Errors
/// Of the database.
pub async fn start(connection: &mut Connection, key: &DigestKey, now_us: i64) -> sqlx::Result<DigestKey> {
    // The time of creation: larger than the generation of any history that was begun before on this machine.
    let generation = now_us.max(1);
    connection.query(START).bind(generation).bind(&[0u8; 32][..]).execute().await?;
    connection.query(SET_DIGEST_KEY).bind(&key.0[..]).execute().await?;
    let key: Vec<u8> = connection.query(DIGEST_KEY).fetch_value().await?;
    let key = key.try_into().map_err(|_| damaged("relay", "digest_key"))?;
    Ok(DigestKey(key))
}

/// Writes where the feed stands.
pub fn write(batch: &mut Batch, state: &FeedState) {
    batch.add(WRITE).bind(stored(state.sequence)).bind(&state.chain[..]).bind(&state.root.as_bytes()[..]);
}

/// Begins a term where only one process can have the database.
///
/// # Errors
/// Of the database.
pub async fn raise_epoch(connection: &mut Connection) -> sqlx::Result<()> {
    connection.query(RAISE_EPOCH).execute().await.map(|_| ())
}

/// Whether the digest of everything was ever counted.
///
/// # Errors
/// Of the database.
pub async fn is_counted(connection: &mut Connection) -> sqlx::Result<bool> {
    connection.query(IS_COUNTED).fetch_value().await
}

/// Writes the digest of everything, counted from the records.
///
/// # Errors
/// Of the database.
pub async fn counted(connection: &mut Connection, root: Digest) -> sqlx::Result<()> {
    connection.query(COUNTED).bind(&root.as_bytes()[..]).execute().await.map(|_| ())
}

/// Starts a new generation, above whatever a data plane was found to have: data planes take this database as the truth,
/// though they have seen later changes. Whether it did.
///
/// # Errors
/// Of the database.
pub async fn new_generation(connection: &mut Connection, now_us: i64) -> sqlx::Result<bool> {
    Ok(connection.query(NEW_GENERATION).bind(now_us).execute().await? == 1)
}

/// After a backup was put in the place of what was there: `before` is where the feed stood then.
///
/// # Errors
/// Of the database.
pub async fn put_back(connection: &mut Connection, before: &FeedState) -> sqlx::Result<()> {
    let ahead = before.sequence.max(before.ahead);
    let query = connection.query(PUT_BACK).bind(stored(before.epoch)).bind(stored(ahead));
    query.execute().await.map(|_| ())
}

/// Keeps that a data plane has what this database never knew.
///
/// # Errors
/// Of the database.
pub async fn found_ahead(connection: &mut Connection, sequence: u64) -> sqlx::Result<()> {
    connection.query(FOUND_AHEAD).bind(stored(sequence)).execute().await.map(|_| ())
}

/// Where the feed stands, held until the transaction ends; `None` when the term is over.
///
/// # Errors
/// Of the database.
pub async fn lock(connection: &mut Connection, epoch: u64) -> sqlx::Result<Option<FeedState>> {
    let row = connection.query(LOCK).bind(stored(epoch)).fetch_optional().await?;
    row.as_ref().map(state).transpose()
}

/// Gives change sets, by their commit numbers, the sequences from `from` to `to`, which is behind a batch that was made at `at_us`; only
/// where the log ends at `from`, and the term of `to` goes on. Whether it did. For PostgreSQL.
///
/// # Errors
/// Of the database: it may have been done all the same.
pub async fn go_on(
    connection: &mut Connection,
    from: &FeedState,
    to: &FeedState,
    at_us: i64,
    commit_numbers: &[i64],
) -> sqlx::Result<bool> {
    let numbers: Vec<String> = commit_numbers.iter().map(ToString::to_string).collect();
    let query = connection.query(GO_ON).bind(stored(to.sequence)).bind(&to.chain[..]);
    let query = query.bind(&to.root.as_bytes()[..]).bind(stored(to.generation)).bind(stored(to.epoch));
    let query = query.bind(stored(from.sequence)).bind(&from.chain[..]).bind(&from.root.as_bytes()[..]);
    let moved: i64 = query.bind(at_us).bind(numbers.join(",")).fetch_value().await?;
    Ok(moved == 1)
}

/// The row is held until the transaction ends, whoever's term it is; SQLite has one writer at a time.
///
/// # Errors
/// Of the database.
pub async fn hold(connection: &mut Connection) -> sqlx::Result<FeedState> {
    let statement = if connection.kind() == Kind::Postgres { HOLD } else { READ };
    let row = connection.query(statement).fetch_optional().await?;
    state(&row.ok_or(sqlx::Error::RowNotFound)?)
}

/// Takes the lease for `for_us` microseconds when nobody has it; gives the epoch of the new term.
///
/// # Errors
/// Of the database.
pub async fn take_lease(connection: &mut Connection, holder: Uuid, for_us: i64) -> sqlx::Result<Option<u64>> {
    let row = connection.query(TAKE_LEASE).bind(holder).bind(for_us).fetch_optional().await?;
    row.map(|row| number(row.get(0)?)).transpose()
}

/// Renews it; whether the term goes on.
///
/// # Errors
/// Of the database.
pub async fn renew_lease(
    connection: &mut Connection,
    holder: Uuid,
    epoch: u64,
    for_us: i64,
) -> sqlx::Result<bool> {
    let renewed = connection.query(RENEW_LEASE).bind(holder).bind(stored(epoch)).bind(for_us);
    Ok(renewed.execute().await? == 1)
}

/// Gives it back, so that nobody waits until it would have ended.
///
/// # Errors
/// Of the database.
pub async fn end_lease(connection: &mut Connection, holder: Uuid, epoch: u64) -> sqlx::Result<()> {
    connection.query(END_LEASE).bind(holder).bind(stored(epoch)).execute().await.map(|_| ())
}
