//! `sessions`: where somebody is logged in.

use uuid::Uuid;

use super::revocations::{self, Revoked};
use super::{Connection, Row};

const INSERT: &str = "INSERT INTO sessions (id, account_id, exchanges, address, agent, created_at_us, used_at_us, expires_at_us) VALUES ($1, $2, 0, $3, $4, $5, $5, $6)";
/// One exchange for each number: of two that come with the same, one finds another.
const EXCHANGE: &str = "UPDATE sessions SET exchanges = exchanges + 1, address = $3, agent = $4, used_at_us = $5 WHERE id = $1 AND exchanges = $2 AND ended_at_us IS NULL AND expires_at_us > $5 AND used_at_us > $6";
const TOUCH: &str =
    "UPDATE sessions SET used_at_us = $2 WHERE id = $1 AND ended_at_us IS NULL AND used_at_us < $2";
const BY_ID: &str = "SELECT s.id, s.account_id, s.exchanges, s.address, s.agent, s.created_at_us, s.used_at_us, s.expires_at_us, s.ended_at_us, a.is_operator, a.suspended_at_us FROM sessions s JOIN accounts a ON a.id = s.account_id WHERE s.id = $1";
const OF_ACCOUNT: &str = "SELECT s.id, s.account_id, s.exchanges, s.address, s.agent, s.created_at_us, s.used_at_us, s.expires_at_us, s.ended_at_us, a.is_operator, a.suspended_at_us FROM sessions s JOIN accounts a ON a.id = s.account_id WHERE s.account_id = $1 AND s.ended_at_us IS NULL AND s.expires_at_us > $2 AND s.used_at_us > $3 ORDER BY s.created_at_us, s.id";
const END: &str =
    "UPDATE sessions SET ended_at_us = $3 WHERE id = $1 AND account_id = $2 AND ended_at_us IS NULL";
const END_OF_ACCOUNT: &str =
    "UPDATE sessions SET ended_at_us = $2 WHERE account_id = $1 AND ended_at_us IS NULL AND id <> $3";
/// All but the newest few of an account.
const KEEP_NEWEST: &str = "UPDATE sessions SET ended_at_us = $2 WHERE account_id = $1 AND ended_at_us IS NULL AND id NOT IN (SELECT id FROM sessions WHERE account_id = $1 AND ended_at_us IS NULL ORDER BY used_at_us DESC, id DESC LIMIT $3)";
const PRUNE: &str = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at_us <= $1 ORDER BY expires_at_us LIMIT $2)";

const PRUNE_ENDED: &str = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE ended_at_us <= $1 AND ended_at_us IS NOT NULL ORDER BY ended_at_us LIMIT $2)";
const END_EVERY: &str =
    "UPDATE sessions SET ended_at_us = $1 WHERE ended_at_us IS NULL AND expires_at_us > $1";

/// Every statement of this file.
pub(super) const ALL: &[&str] = &[
    INSERT,
    EXCHANGE,
    TOUCH,
    BY_ID,
    OF_ACCOUNT,
    END,
    END_OF_ACCOUNT,
    KEEP_NEWEST,
    PRUNE,
    PRUNE_ENDED,
    END_EVERY,
];

/// The most sessions of an account that go on at once.
const MOST_OF_ACCOUNT: i64 = 100;

/// Where somebody is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: Uuid,
    pub(crate) account: Uuid,
    /// How often its refresh token was exchanged.
    pub(crate) exchanges: i64,
    /// Where it was last used from.
    pub(crate) address: String,
    /// What the program there called itself.
    pub(crate) agent: String,
    pub(crate) created_at_us: i64,
    pub(crate) used_at_us: i64,
    pub(crate) expires_at_us: i64,
    pub(crate) ended_at_us: Option<i64>,
    /// Of its account.
    pub(crate) is_operator: bool,
    /// Of its account.
    pub(crate) is_suspended: bool,
}

impl Session {
    /// Whether it goes on at a time; `idle_since_us`: whoever was not used since then has ended.
    pub(crate) fn goes_on(&self, now_us: i64, idle_since_us: i64) -> bool {
        self.ended_at_us.is_none()
            && !self.is_suspended
            && self.expires_at_us > now_us
            && self.used_at_us > idle_since_us
    }
}

/// Where a session is used from.
#[derive(Clone, Debug, Default)]
pub(crate) struct From {
    /// An address without port.
    pub(crate) address: String,
    /// `User-Agent`, cut.
    pub(crate) agent: String,
}

fn session(row: &Row) -> sqlx::Result<Session> {
    Ok(Session {
        id: row.get("id")?,
        account: row.get("account_id")?,
        exchanges: row.get("exchanges")?,
        address: row.get("address")?,
        agent: row.get("agent")?,
        created_at_us: row.get("created_at_us")?,
        used_at_us: row.get("used_at_us")?,
        expires_at_us: row.get("expires_at_us")?,
        ended_at_us: row.get("ended_at_us")?,
        is_operator: row.get("is_operator")?,
        is_suspended: row.get::<Option<i64>, _>("suspended_at_us")?.is_some(),
    })
}

/// Begins one; the oldest of too many end.
///
/// # Errors
/// Of the database.
pub(crate) async fn insert(
    connection: &mut Connection,
    id: Uuid,
    account: Uuid,
    from: &From,
    now_us: i64,
    expires_at_us: i64,
) -> sqlx::Result<()> {
    let insert = connection.query(INSERT).bind(id).bind(account).bind(from.address.as_str());
    insert.bind(from.agent.as_str()).bind(now_us).bind(expires_at_us).execute().await?;
    connection.query(KEEP_NEWEST).bind(account).bind(now_us).bind(MOST_OF_ACCOUNT).execute().await.map(|_| ())
}

/// Counts an exchange; whether the session goes on and `exchanges` is where it stood.
///
/// # Errors
/// Of the database.
pub(crate) async fn exchange(
    connection: &mut Connection,
    id: Uuid,
    exchanges: i64,
    from: &From,
    now_us: i64,
    idle_since_us: i64,
) -> sqlx::Result<bool> {
    let exchange = connection.query(EXCHANGE).bind(id).bind(exchanges).bind(from.address.as_str());
    Ok(exchange.bind(from.agent.as_str()).bind(now_us).bind(idle_since_us).execute().await? > 0)
}

/// Notes that one is in use.
///
/// # Errors
/// Of the database.
pub(crate) async fn touch(connection: &mut Connection, id: Uuid, now_us: i64) -> sqlx::Result<()> {
    connection.query(TOUCH).bind(id).bind(now_us).execute().await.map(|_| ())
}

/// One of them, ended or not.
///
/// # Errors
/// Of the database.
pub(crate) async fn by_id(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<Session>> {
    connection.query(BY_ID).bind(id).fetch_optional().await?.as_ref().map(session).transpose()
}

/// Those of an account that go on.
///
/// # Errors
/// Of the database.
pub(crate) async fn of_account(
    connection: &mut Connection,
    account: Uuid,
    now_us: i64,
    idle_since_us: i64,
) -> sqlx::Result<Vec<Session>> {
    let of = connection.query(OF_ACCOUNT).bind(account).bind(now_us).bind(idle_since_us);
    of.fetch_all().await?.iter().map(session).collect()
}

/// Ends one of an account, and tells every control plane; whether it went on.
///
/// # Errors
/// Of the database.
pub(crate) async fn end(
    connection: &mut Connection,
    id: Uuid,
    account: Uuid,
    now_us: i64,
) -> sqlx::Result<bool> {
    let is_ended = connection.query(END).bind(id).bind(account).bind(now_us).execute().await? > 0;
    if is_ended {
        revocations::tell(connection, &Revoked::Account(account)).await?;
    }
    Ok(is_ended)
}

/// Ends all of an account but one, and tells every control plane; how many.
///
/// # Errors
/// Of the database.
pub(crate) async fn end_all(
    connection: &mut Connection,
    account: Uuid,
    but: Option<Uuid>,
    now_us: i64,
) -> sqlx::Result<u64> {
    let end = connection.query(END_OF_ACCOUNT).bind(account).bind(now_us);
    let ended = end.bind(but.unwrap_or_else(Uuid::nil)).execute().await?;
    if ended > 0 {
        revocations::tell(connection, &Revoked::Account(account)).await?;
    }
    Ok(ended)
}

/// Deletes some that have expired, or ended before a time; how many.
///
/// # Errors
/// Of the database.
pub(crate) async fn prune(
    connection: &mut Connection,
    now_us: i64,
    ended_before_us: i64,
    most: i64,
) -> sqlx::Result<u64> {
    let expired = connection.query(PRUNE).bind(now_us).bind(most).execute().await?;
    Ok(expired + connection.query(PRUNE_ENDED).bind(ended_before_us).bind(most).execute().await?)
}

/// Ends every session: of a restored database nobody knows which had gone on since.
///
/// # Errors
/// Of the database.
pub(crate) async fn end_every(connection: &mut Connection, now_us: i64) -> sqlx::Result<()> {
    connection.query(END_EVERY).bind(now_us).execute().await.map(|_| ())
}
