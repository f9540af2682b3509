//! `tokens`.

use uuid::Uuid;

use super::{Connection, Row};

const INSERT: &str = "INSERT INTO tokens (id, hash, scope, created_at_us) VALUES ($1, $2, $3, $4)";
const BY_HASH: &str = "SELECT id, hash, scope, revoked_at_us FROM tokens WHERE hash = $1";
const BY_ID: &str = "SELECT id, hash, scope, revoked_at_us FROM tokens WHERE id = $1";
const COUNT: &str = "SELECT count(*) FROM tokens";
const REVOKE: &str = "UPDATE tokens SET revoked_at_us = $2 WHERE id = $1 AND revoked_at_us IS NULL";

/// Every statement of this file.
pub const ALL: &[&str] = &[INSERT, BY_HASH, BY_ID, COUNT, REVOKE];

/// A token as stored.
#[derive(Clone, Debug)]
pub struct Token {
    /// Names it in the audit.
    pub id: Uuid,
    /// SHA-256.
    pub hash: Vec<u8>,
    /// `admin`.
    pub scope: String,
    /// Once revoked.
    pub revoked: bool,
}

/// Adds a token by its hash.
///
/// # Errors
/// Of the database.
pub async fn insert(
    connection: &mut Connection,
    id: Uuid,
    hash: &[u8; 32],
    scope: &str,
    now_us: i64,
) -> sqlx::Result<()> {
    connection.query(INSERT).bind(id).bind(&hash[..]).bind(scope).bind(now_us).execute().await?;
    Ok(())
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

fn token(row: &Row) -> sqlx::Result<Token> {
    Ok(Token {
        id: row.get("id")?,
        hash: row.get("hash")?,
        scope: row.get("scope")?,
        revoked: row.get::<Option<i64>, _>("revoked_at_us")?.is_some(),
    })
}

/// How many tokens there ever were.
///
/// # Errors
/// Of the database.
pub async fn count(connection: &mut Connection) -> sqlx::Result<i64> {
    connection.query(COUNT).fetch_value().await
}

/// Revokes a token; whether there was one to revoke.
///
/// # Errors
/// Of the database.
pub async fn revoke(connection: &mut Connection, id: Uuid, now_us: i64) -> sqlx::Result<bool> {
    Ok(connection.query(REVOKE).bind(id).bind(now_us).execute().await? > 0)
}
