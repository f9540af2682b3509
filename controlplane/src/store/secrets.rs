//! `secrets`: keys, sealed. What seals them is not in the database.

use super::Connection;

const READ: &str = "SELECT sealed FROM secrets WHERE name = $1";
const WRITE: &str = "INSERT INTO secrets (name, sealed, created_at_us) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, created_at_us = excluded.created_at_us";

const READ_TWO: &str = "SELECT name, sealed, created_at_us FROM secrets WHERE name = $1 OR name = $2";

/// Every statement of this file.
pub const ALL: &[&str] = &[READ, READ_TWO, WRITE];

/// One of them.
///
/// # Errors
/// Of the database.
pub async fn read(connection: &mut Connection, name: &str) -> sqlx::Result<Option<Vec<u8>>> {
    let row = connection.query(READ).bind(name).fetch_optional().await?;
    row.map(|row| row.get(0)).transpose()
}

/// Two of them as they were at one moment, each with the time at which it was made; `None` where one is not there.
///
/// # Errors
/// Of the database.
pub async fn read_two(
    connection: &mut Connection,
    names: [&str; 2],
) -> sqlx::Result<[Option<(Vec<u8>, i64)>; 2]> {
    let rows = connection.query(READ_TWO).bind(names[0]).bind(names[1]).fetch_all().await?;
    let mut found = [None, None];
    for row in rows {
        let name: String = row.get("name")?;
        if let Some(at) = names.iter().position(|wanted| *wanted == name) {
            found[at] = Some((row.get("sealed")?, row.get("created_at_us")?));
        }
    }
    Ok(found)
}

/// Adds or replaces one.
///
/// # Errors
/// Of the database.
pub async fn write(connection: &mut Connection, name: &str, sealed: &[u8], now_us: i64) -> sqlx::Result<()> {
    connection.query(WRITE).bind(name).bind(sealed).bind(now_us).execute().await.map(|_| ())
}
