//! `secrets`: keys, sealed. What seals them is not in the database.

use super::Connection;

const READ: &str = "SELECT sealed FROM secrets WHERE name = $1";
const WRITE: &str = "INSERT INTO secrets (name, sealed, created_at_us) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, created_at_us = excluded.created_at_us";

/// Every statement of this file.
pub const ALL: &[&str] = &[READ, WRITE];

/// One of them.
///
/// # Errors
/// Of the database.
pub async fn read(connection: &mut Connection, name: &str) -> sqlx::Result<Option<Vec<u8>>> {
    let row = connection.query(READ).bind(name).fetch_optional().await?;
    row.map(|row| row.get(0)).transpose()
}

/// Adds or replaces one.
///
/// # Errors
/// Of the database.
pub async fn write(connection: &mut Connection, name: &str, sealed: &[u8], now_us: i64) -> sqlx::Result<()> {
    connection.query(WRITE).bind(name).bind(sealed).bind(now_us).execute().await.map(|_| ())
}
