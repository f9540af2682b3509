//! `keys` and `spent_tokens`: what users sign their own tokens with.

use uuid::Uuid;

use super::{Connection, Row};

const INSERT: &str = "INSERT INTO keys (id, account_id, name, algorithm, public_key, scope, single_use, created_at_us, expires_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const BY_ID: &str = "SELECT k.id, k.account_id, k.name, k.algorithm, k.public_key, k.scope, k.single_use, k.created_at_us, k.expires_at_us, a.is_operator, a.suspended_at_us FROM keys k JOIN accounts a ON a.id = k.account_id WHERE k.id = $1";
const OF_ACCOUNT: &str = "SELECT k.id, k.account_id, k.name, k.algorithm, k.public_key, k.scope, k.single_use, k.created_at_us, k.expires_at_us, a.is_operator, a.suspended_at_us FROM keys k JOIN accounts a ON a.id = k.account_id WHERE k.account_id = $1 ORDER BY k.created_at_us, k.id";
const COUNT: &str = "SELECT count(*) FROM keys WHERE account_id = $1";
const DELETE: &str = "DELETE FROM keys WHERE id = $1 AND account_id = $2";
/// Whoever is first has it.
const SPEND: &str = "INSERT INTO spent_tokens (key_id, jti, expires_at_us) VALUES ($1, $2, $3) ON CONFLICT (key_id, jti) DO NOTHING";
const PRUNE: &str = "DELETE FROM spent_tokens WHERE (key_id, jti) IN (SELECT key_id, jti FROM spent_tokens WHERE expires_at_us <= $1 ORDER BY expires_at_us LIMIT $2)";

/// Every statement of this file.
pub(super) const ALL: &[&str] = &[INSERT, BY_ID, OF_ACCOUNT, COUNT, DELETE, SPEND, PRUNE];

/// A key as stored.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// The `kid` of its tokens.
    pub(crate) id: Uuid,
    pub(crate) account: Uuid,
    pub(crate) name: String,
    /// `RS256`, `ES256` or `EdDSA`.
    pub(crate) algorithm: String,
    pub(crate) public_key: Vec<u8>,
    pub(crate) scope: String,
    pub(crate) single_use: bool,
    pub(crate) created_at_us: i64,
    pub(crate) expires_at_us: Option<i64>,
    /// Of its account.
    pub(crate) is_operator: bool,
    /// Of its account.
    pub(crate) is_suspended: bool,
}

fn key(row: &Row) -> sqlx::Result<Key> {
    Ok(Key {
        id: row.get("id")?,
        account: row.get("account_id")?,
        name: row.get("name")?,
        algorithm: row.get("algorithm")?,
        public_key: row.get("public_key")?,
        scope: row.get("scope")?,
        single_use: row.get("single_use")?,
        created_at_us: row.get("created_at_us")?,
        expires_at_us: row.get("expires_at_us")?,
        is_operator: row.get("is_operator")?,
        is_suspended: row.get::<Option<i64>, _>("suspended_at_us")?.is_some(),
    })
}

/// Adds one.
///
/// # Errors
/// Of the database.
pub(crate) async fn insert(connection: &mut Connection, key: &Key) -> sqlx::Result<()> {
    let insert = connection.query(INSERT).bind(key.id).bind(key.account).bind(key.name.as_str());
    let insert = insert.bind(key.algorithm.as_str()).bind(&key.public_key[..]).bind(key.scope.as_str());
    let insert = insert.bind(key.single_use).bind(key.created_at_us).bind(key.expires_at_us);
    insert.execute().await.map(|_| ())
}

/// One of them, with what its account may.
///
/// # Errors
/// Of the database.
pub(crate) async fn by_id(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<Key>> {
    connection.query(BY_ID).bind(id).fetch_optional().await?.as_ref().map(key).transpose()
}

/// Those of an account, in the order in which they were added.
///
/// # Errors
/// Of the database.
pub(crate) async fn of_account(connection: &mut Connection, account: Uuid) -> sqlx::Result<Vec<Key>> {
    connection.query(OF_ACCOUNT).bind(account).fetch_all().await?.iter().map(key).collect()
}

/// How many an account has.
///
/// # Errors
/// Of the database.
pub(crate) async fn count(connection: &mut Connection, account: Uuid) -> sqlx::Result<i64> {
    connection.query(COUNT).bind(account).fetch_value().await
}

/// Deletes one of an account; whether there was such a one.
///
/// # Errors
/// Of the database.
pub(crate) async fn delete(connection: &mut Connection, id: Uuid, account: Uuid) -> sqlx::Result<bool> {
    Ok(connection.query(DELETE).bind(id).bind(account).execute().await? > 0)
}

/// Uses up a token of a key; whether it was still to be used.
///
/// # Errors
/// Of the database, also when the key is gone.
pub(crate) async fn spend(
    connection: &mut Connection,
    key: Uuid,
    jti: &str,
    expires_at_us: i64,
) -> sqlx::Result<bool> {
    Ok(connection.query(SPEND).bind(key).bind(jti).bind(expires_at_us).execute().await? > 0)
}

/// Forgets some used-up tokens that have expired; how many.
///
/// # Errors
/// Of the database.
pub(crate) async fn prune(connection: &mut Connection, now_us: i64, most: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(now_us).bind(most).execute().await
}
