//! `tokens`: opaque ones, by their hash.

use uuid::Uuid;

use super::batch::Batch;
use super::revocations::{self, Revoked};
use super::{Connection, Row};

const INSERT: &str = "INSERT INTO tokens (id, hash, scope, account_id, name, narrowed, created_at_us, expires_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const BY_HASH: &str = "SELECT t.id, t.hash, t.scope, t.account_id, t.name, t.narrowed, t.created_at_us, t.expires_at_us, t.used_at_us, t.revoked_at_us, a.is_operator, a.suspended_at_us FROM tokens t LEFT JOIN accounts a ON a.id = t.account_id WHERE t.hash = $1";
const BY_ID: &str = "SELECT t.id, t.hash, t.scope, t.account_id, t.name, t.narrowed, t.created_at_us, t.expires_at_us, t.used_at_us, t.revoked_at_us, a.is_operator, a.suspended_at_us FROM tokens t LEFT JOIN accounts a ON a.id = t.account_id WHERE t.id = $1";
/// Also of nobody's account.
const OF_ACCOUNT: &str = "SELECT t.id, t.hash, t.scope, t.account_id, t.name, t.narrowed, t.created_at_us, t.expires_at_us, t.used_at_us, t.revoked_at_us, a.is_operator, a.suspended_at_us FROM tokens t LEFT JOIN accounts a ON a.id = t.account_id WHERE (t.account_id = $1 OR (t.account_id IS NULL AND $1 IS NULL)) AND t.revoked_at_us IS NULL AND t.id > $2 ORDER BY t.id LIMIT $3";
const COUNT: &str = "SELECT count(*) FROM tokens";
const COUNT_OF_ACCOUNT: &str = "SELECT count(*) FROM tokens WHERE (account_id = $1 OR (account_id IS NULL AND $1 IS NULL)) AND revoked_at_us IS NULL";
const REVOKE: &str = "UPDATE tokens SET revoked_at_us = $3 WHERE id = $1 AND (account_id = $2 OR (account_id IS NULL AND $2 IS NULL)) AND revoked_at_us IS NULL";
const USED: &str =
    "UPDATE tokens SET used_at_us = $2 WHERE id = $1 AND (used_at_us IS NULL OR used_at_us < $2)";

/// Those of nobody's account stay: by them it is known that there was a first start.
const PRUNE_REVOKED: &str = "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE revoked_at_us < $1 AND revoked_at_us IS NOT NULL AND account_id IS NOT NULL ORDER BY revoked_at_us LIMIT $2)";
const PRUNE_EXPIRED: &str = "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires_at_us < $1 AND expires_at_us IS NOT NULL AND account_id IS NOT NULL ORDER BY expires_at_us LIMIT $2)";

/// Every statement of this file.
pub const ALL: &[&str] = &[
    INSERT,
    BY_HASH,
    BY_ID,
    OF_ACCOUNT,
    COUNT,
    COUNT_OF_ACCOUNT,
    REVOKE,
    USED,
    PRUNE_REVOKED,
    PRUNE_EXPIRED,
];

/// A token as stored.
#[derive(Clone, Debug)]
pub struct Token {
    /// Names it in the audit.
    pub id: Uuid,
    /// SHA-256.
    pub hash: Vec<u8>,
    /// What it may, as names of scopes.
    pub scope: String,
    /// Whose it is; `None`: nobody's account.
    pub account: Option<Uuid>,
    /// What it is called.
    pub name: String,
    /// What it is narrowed to, in JSON.
    pub narrowed: String,
    /// When it was made.
    pub created_at_us: i64,
    /// When it ends.
    pub expires_at_us: Option<i64>,
    /// When it was last used, within a minute.
    pub used_at_us: Option<i64>,
    /// Once revoked.
    pub revoked: bool,
    /// Of its account; a token of nobody's may whatever it says.
    pub is_operator: bool,
    /// Of its account.
    pub is_suspended: bool,
}

impl Token {
    /// One of nobody's account, which is not narrowed and does not end.
    #[must_use]
    pub fn new(id: Uuid, hash: &[u8; 32], scope: &str, created_at_us: i64) -> Token {
        Token {
            id,
            hash: hash.to_vec(),
            scope: scope.to_owned(),
            account: None,
            name: String::new(),
            narrowed: "{}".to_owned(),
            created_at_us,
            expires_at_us: None,
            used_at_us: None,
            revoked: false,
            is_operator: true,
            is_suspended: false,
        }
    }
}

/// Adds a token by its hash.
///
/// # Errors
/// Of the database.
pub async fn insert(connection: &mut Connection, token: &Token) -> sqlx::Result<()> {
    let insert = connection.query(INSERT).bind(token.id).bind(&token.hash[..]).bind(token.scope.as_str());
    let insert = insert.bind(token.account).bind(token.name.as_str()).bind(token.narrowed.as_str());
    insert.bind(token.created_at_us).bind(token.expires_at_us).execute().await.map(|_| ())
}

/// The token with this hash.
///
/// # Errors
/// Of the database.
pub async fn by_hash(connection: &mut Connection, hash: &[u8; 32]) -> sqlx::Result<Option<Token>> {
    let row = connection.query(BY_HASH).bind(&hash[..]).fetch_optional().await?;
    row.as_ref().map(token).transpose()
}

/// The token with this id.
///
/// # Errors
/// Of the database.
pub async fn by_id(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<Token>> {
    let row = connection.query(BY_ID).bind(id).fetch_optional().await?;
    row.as_ref().map(token).transpose()
}

/// Those of an account, or of nobody's, behind one, that are not revoked.
///
/// # Errors
/// Of the database.
pub async fn of_account(
    connection: &mut Connection,
    account: Option<Uuid>,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Token>> {
    let of = connection.query(OF_ACCOUNT).bind(account).bind(after).bind(limit);
    of.fetch_all().await?.iter().map(token).collect()
}

fn token(row: &Row) -> sqlx::Result<Token> {
    let account: Option<Uuid> = row.get("account_id")?;
    let is_operator: Option<bool> = row.get("is_operator")?;
    Ok(Token {
        id: row.get("id")?,
        hash: row.get("hash")?,
        scope: row.get("scope")?,
        account,
        name: row.get("name")?,
        narrowed: row.get("narrowed")?,
        created_at_us: row.get("created_at_us")?,
        expires_at_us: row.get("expires_at_us")?,
        used_at_us: row.get("used_at_us")?,
        revoked: row.get::<Option<i64>, _>("revoked_at_us")?.is_some(),
        is_operator: is_operator.unwrap_or(account.is_none()),
        is_suspended: row.get::<Option<i64>, _>("suspended_at_us")?.is_some(),
    })
}

/// How many tokens there ever were.
///
/// # Errors
/// Of the database.
pub async fn count(connection: &mut Connection) -> sqlx::Result<i64> {
    connection.query(COUNT).fetch_value().await
}

/// How many an account, or nobody's, has that are not revoked.
///
/// # Errors
/// Of the database.
pub async fn count_of(connection: &mut Connection, account: Option<Uuid>) -> sqlx::Result<i64> {
    connection.query(COUNT_OF_ACCOUNT).bind(account).fetch_value().await
}

/// Revokes a token of an account, or of nobody's, and tells every control plane; whether there was one to revoke.
///
/// # Errors
/// Of the database.
pub async fn revoke(
    connection: &mut Connection,
    id: Uuid,
    account: Option<Uuid>,
    now_us: i64,
) -> sqlx::Result<bool> {
    let is_revoked = connection.query(REVOKE).bind(id).bind(account).bind(now_us).execute().await? > 0;
    if is_revoked {
        revocations::tell(connection, &Revoked::Account(account.unwrap_or(id))).await?;
    }
    Ok(is_revoked)
}

/// Notes when one was used.
pub fn used(batch: &mut Batch, id: Uuid, at_us: i64) {
    batch.add(USED).bind(id).bind(at_us);
}

/// Deletes some of accounts that were revoked, or expired, before a time; how many.
///
/// # Errors
/// Of the database.
pub(crate) async fn prune(connection: &mut Connection, before_us: i64, limit: i64) -> sqlx::Result<u64> {
    let revoked = connection.query(PRUNE_REVOKED).bind(before_us).bind(limit).execute().await?;
    Ok(revoked + connection.query(PRUNE_EXPIRED).bind(before_us).bind(limit).execute().await?)
}
