//! `data_keys`, `wrapped_keys` and `key_holders`: what secrets are sealed with, and who can open it; and the columns in which
//! sealed secrets stand. How it is sealed is decided in `secrets/`.

use uuid::Uuid;

use super::{Connection, Kind, Row};

const INSERT: &str = "INSERT INTO data_keys (id, created_at_us) VALUES ($1, $2)";
const LIST: &str = "SELECT id, created_at_us FROM data_keys ORDER BY id";
const DELETE: &str = "DELETE FROM data_keys WHERE id = $1";
const NEWEST: &str = "SELECT id FROM data_keys ORDER BY id DESC LIMIT 1";
/// It is not retired until the transaction ends.
const NEWEST_HELD: &str = "SELECT id FROM data_keys ORDER BY id DESC LIMIT 1 FOR SHARE";
const BEFORE: &str = "SELECT id FROM data_keys WHERE id < $1 ORDER BY id";
/// Nobody who is about to seal with one of them has not committed.
const BEFORE_LOCKED: &str = "SELECT id FROM data_keys WHERE id < $1 ORDER BY id FOR UPDATE";

const WRAP: &str = "INSERT INTO wrapped_keys (data_key_id, master_id, sealed) VALUES ($1, $2, $3) ON CONFLICT (data_key_id, master_id) DO NOTHING";
const WRAPPED: &str =
    "SELECT data_key_id, master_id, sealed FROM wrapped_keys ORDER BY data_key_id, master_id";
const WRAPPED_OF: &str =
    "SELECT data_key_id, master_id, sealed FROM wrapped_keys WHERE data_key_id = $1 ORDER BY master_id";
const UNWRAP: &str = "DELETE FROM wrapped_keys WHERE data_key_id = $1 AND master_id <> $2";

const SAY: &str = "INSERT INTO key_holders (id, master_id, said_at_us) VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT) ON CONFLICT (id) DO UPDATE SET master_id = excluded.master_id, said_at_us = excluded.said_at_us";
const LEAVE: &str = "DELETE FROM key_holders WHERE id = $1";
const FORGET: &str = "DELETE FROM key_holders WHERE id IN (SELECT id FROM key_holders WHERE said_at_us < (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT - $1 ORDER BY said_at_us LIMIT 100)";
const OTHERS: &str = "SELECT master_id FROM key_holders WHERE said_at_us > (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT - $1 AND master_id <> $2 ORDER BY said_at_us LIMIT 1";

/// Those of a column that are sealed with an older key than the one whose beginning is given, behind a row.
const OF_SECRETS: &str =
    "SELECT name, sealed FROM secrets WHERE name > $1 AND substr(sealed, 1, 9) < $2 ORDER BY name LIMIT $3";
const SET_SECRET: &str = "UPDATE secrets SET sealed = $3 WHERE name = $1 AND sealed = $2";
const OF_TOTP: &str = "SELECT id, totp FROM accounts WHERE totp IS NOT NULL AND id > $1 AND substr(totp, 1, 9) < $2 ORDER BY id LIMIT $3";
const SET_TOTP: &str = "UPDATE accounts SET totp = $3 WHERE id = $1 AND totp = $2";

const OF_WEBHOOKS: &str = "SELECT id, secret FROM webhooks WHERE secret IS NOT NULL AND id > $1 AND substr(secret, 1, 9) < $2 ORDER BY id LIMIT $3";
const SET_WEBHOOK: &str = "UPDATE webhooks SET secret = $3 WHERE id = $1 AND secret = $2";

/// Every statement of this file that both get.
pub(super) const ALL: &[&str] = &[
    INSERT,
    LIST,
    DELETE,
    NEWEST,
    BEFORE,
    WRAP,
    WRAPPED,
    WRAPPED_OF,
    UNWRAP,
    OF_SECRETS,
    SET_SECRET,
    OF_TOTP,
    SET_TOTP,
    OF_WEBHOOKS,
    SET_WEBHOOK,
];

/// Statements of this file that PostgreSQL alone gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[NEWEST_HELD, BEFORE_LOCKED, SAY, LEAVE, FORGET, OTHERS];

/// A row in which a sealed secret stands, by its primary key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum RowId {
    Name(String),
    Id(Uuid),
}

impl std::fmt::Display for RowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RowId::Name(name) => f.write_str(name),
            RowId::Id(id) => id.fmt(f),
        }
    }
}

/// A column in which sealed secrets stand.
#[derive(Debug)]
pub(crate) struct Column {
    /// `table.column`: what they are bound to, beside their row.
    pub(crate) name: &'static str,
    page: &'static str,
    set: &'static str,
    has_names: bool,
}

/// `secrets.sealed`.
pub(crate) const SECRETS: Column =
    Column { name: "secrets.sealed", page: OF_SECRETS, set: SET_SECRET, has_names: true };
/// `accounts.totp`.
pub(crate) const TOTP: Column =
    Column { name: "accounts.totp", page: OF_TOTP, set: SET_TOTP, has_names: false };

/// `webhooks.secret`.
pub(crate) const WEBHOOKS: Column =
    Column { name: "webhooks.secret", page: OF_WEBHOOKS, set: SET_WEBHOOK, has_names: false };

/// Every column in which sealed secrets stand: what is not here is not sealed anew by a rotation.
pub(crate) const SEALED: &[&Column] = &[&SECRETS, &TOTP, &WEBHOOKS];

impl Column {
    /// Before every row.
    pub(crate) fn start(&self) -> RowId {
        if self.has_names { RowId::Name(String::new()) } else { RowId::Id(Uuid::nil()) }
    }

    /// Up to so many that begin with less than `begin`, behind a row.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn older(
        &self,
        connection: &mut Connection,
        after: &RowId,
        begin: &[u8],
        limit: i64,
    ) -> sqlx::Result<Vec<(RowId, Vec<u8>)>> {
        let query = connection.query(self.page);
        let query = match after {
            RowId::Name(name) => query.bind(name.as_str()),
            RowId::Id(id) => query.bind(*id),
        };
        let read = |row: &Row| {
            let id = if self.has_names { RowId::Name(row.get(0)?) } else { RowId::Id(row.get(0)?) };
            Ok((id, row.get(1)?))
        };
        query.bind(begin).bind(limit).fetch_all().await?.iter().map(read).collect()
    }

    /// Puts another in the place of one, where that stands there still.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn set(
        &self,
        connection: &mut Connection,
        row: &RowId,
        before: &[u8],
        sealed: &[u8],
    ) -> sqlx::Result<()> {
        let query = connection.query(self.set);
        let query = match row {
            RowId::Name(name) => query.bind(name.as_str()),
            RowId::Id(id) => query.bind(*id),
        };
        query.bind(before).bind(sealed).execute().await.map(|_| ())
    }
}

/// A data key, sealed with a master key.
#[derive(Clone, Debug)]
pub(crate) struct Wrapped {
    pub(crate) key: i64,
    pub(crate) master: String,
    pub(crate) sealed: Vec<u8>,
}

fn wrapped_key(row: &Row) -> sqlx::Result<Wrapped> {
    Ok(Wrapped { key: row.get("data_key_id")?, master: row.get("master_id")?, sealed: row.get("sealed")? })
}

/// Adds one.
///
/// # Errors
/// Of the database.
pub(crate) async fn insert(connection: &mut Connection, id: i64, now_us: i64) -> sqlx::Result<()> {
    connection.query(INSERT).bind(id).bind(now_us).execute().await.map(|_| ())
}

/// All of them with when they were made, the newest last.
///
/// # Errors
/// Of the database.
pub(crate) async fn list(connection: &mut Connection) -> sqlx::Result<Vec<(i64, i64)>> {
    let rows = connection.query(LIST).fetch_all().await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// The one that seals; it stays until the transaction ends.
///
/// # Errors
/// Of the database.
pub(crate) async fn newest_held(connection: &mut Connection) -> sqlx::Result<Option<i64>> {
    let statement = match connection.kind() {
        Kind::Sqlite => NEWEST,
        Kind::Postgres => NEWEST_HELD,
    };
    connection.query(statement).fetch_optional().await?.map(|row| row.get(0)).transpose()
}

/// The one that seals.
///
/// # Errors
/// Of the database.
pub(crate) async fn newest(connection: &mut Connection) -> sqlx::Result<Option<i64>> {
    connection.query(NEWEST).fetch_optional().await?.map(|row| row.get(0)).transpose()
}

/// Those older than one. Whoever was about to seal with one of them has come to an end.
///
/// # Errors
/// Of the database.
pub(crate) async fn before_locked(connection: &mut Connection, id: i64) -> sqlx::Result<Vec<i64>> {
    let statement = match connection.kind() {
        Kind::Sqlite => BEFORE,
        Kind::Postgres => BEFORE_LOCKED,
    };
    connection.query(statement).bind(id).fetch_all().await?.iter().map(|row| row.get(0)).collect()
}

/// Deletes one.
///
/// # Errors
/// Of the database.
pub(crate) async fn delete(connection: &mut Connection, id: i64) -> sqlx::Result<()> {
    connection.query(DELETE).bind(id).execute().await.map(|_| ())
}

/// Adds one that is sealed with a master key; nothing where it is sealed with that already.
///
/// # Errors
/// Of the database.
pub(crate) async fn wrap(connection: &mut Connection, wrapped: &Wrapped) -> sqlx::Result<()> {
    let query = connection.query(WRAP).bind(wrapped.key).bind(wrapped.master.as_str());
    query.bind(wrapped.sealed.as_slice()).execute().await.map(|_| ())
}

/// All of them, each as often as it is sealed.
///
/// # Errors
/// Of the database.
pub(crate) async fn wrapped(connection: &mut Connection) -> sqlx::Result<Vec<Wrapped>> {
    connection.query(WRAPPED).fetch_all().await?.iter().map(wrapped_key).collect()
}

/// One of them, as often as it is sealed.
///
/// # Errors
/// Of the database.
pub(crate) async fn wrapped_of(connection: &mut Connection, id: i64) -> sqlx::Result<Vec<Wrapped>> {
    connection.query(WRAPPED_OF).bind(id).fetch_all().await?.iter().map(wrapped_key).collect()
}

/// Leaves one sealed with a single master key.
///
/// # Errors
/// Of the database.
pub(crate) async fn unwrap_others(connection: &mut Connection, id: i64, master: &str) -> sqlx::Result<()> {
    connection.query(UNWRAP).bind(id).bind(master).execute().await.map(|_| ())
}

/// Says which master key a control plane has.
///
/// # Errors
/// Of the database.
pub(crate) async fn say(connection: &mut Connection, holder: Uuid, master: &str) -> sqlx::Result<()> {
    connection.query(SAY).bind(holder).bind(master).execute().await.map(|_| ())
}

/// Says that one has ended; what was said longer ago than `forgotten_us` is forgotten, too.
///
/// # Errors
/// Of the database.
pub(crate) async fn leave(connection: &mut Connection, holder: Uuid, forgotten_us: i64) -> sqlx::Result<()> {
    connection.query(LEAVE).bind(holder).execute().await?;
    connection.query(FORGET).bind(forgotten_us).execute().await.map(|_| ())
}

/// Another master key that a control plane said it has, within some time.
///
/// # Errors
/// Of the database.
pub(crate) async fn other_master(
    connection: &mut Connection,
    within_us: i64,
    than: &str,
) -> sqlx::Result<Option<String>> {
    let row = connection.query(OTHERS).bind(within_us).bind(than).fetch_optional().await?;
    row.map(|row| row.get(0)).transpose()
}
