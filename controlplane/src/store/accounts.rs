//! `accounts` and `recovery_codes`: people who may ask.

use uuid::Uuid;

use super::{Connection, Kind, Row};

const INSERT: &str = "INSERT INTO accounts (id, email, email_key, name, password, is_operator, totp_step, created_at_us) VALUES ($1, $2, $3, $4, $5, $6, 0, $7)";
const BY_ID: &str = "SELECT id, email, wanted_email, name, password, is_operator, suspended_at_us, totp, totp_since_us, created_at_us FROM accounts WHERE id = $1";
const BY_EMAIL: &str = "SELECT id, email, wanted_email, name, password, is_operator, suspended_at_us, totp, totp_since_us, created_at_us FROM accounts WHERE email_key = $1";
/// Nobody else changes it until the transaction ends.
const BY_ID_LOCKED: &str = "SELECT id, email, wanted_email, name, password, is_operator, suspended_at_us, totp, totp_since_us, created_at_us FROM accounts WHERE id = $1 FOR UPDATE";
const LIST: &str = "SELECT id, email, wanted_email, name, password, is_operator, suspended_at_us, totp, totp_since_us, created_at_us FROM accounts WHERE id > $1 ORDER BY id LIMIT $2";
const OPERATORS: &str = "SELECT id FROM accounts WHERE is_operator AND suspended_at_us IS NULL ORDER BY id";
const OPERATORS_LOCKED: &str =
    "SELECT id FROM accounts WHERE is_operator AND suspended_at_us IS NULL ORDER BY id FOR UPDATE";
const DELETE: &str = "DELETE FROM accounts WHERE id = $1";
const SET_NAME: &str = "UPDATE accounts SET name = $2 WHERE id = $1";
const WANT_EMAIL: &str = "UPDATE accounts SET wanted_email = $2 WHERE id = $1";
const SET_EMAIL: &str = "UPDATE accounts SET email = $2, email_key = $3, wanted_email = NULL WHERE id = $1";
const SET_PASSWORD: &str = "UPDATE accounts SET password = $2 WHERE id = $1";
/// The same password with other parameters: not where another was chosen meanwhile.
const REHASH: &str = "UPDATE accounts SET password = $3 WHERE id = $1 AND password = $2";
const SET_OPERATOR: &str = "UPDATE accounts SET is_operator = $2 WHERE id = $1";
const SUSPEND: &str = "UPDATE accounts SET suspended_at_us = $2 WHERE id = $1";
const OFFER_TOTP: &str =
    "UPDATE accounts SET totp = $2, totp_step = 0 WHERE id = $1 AND totp_since_us IS NULL";
const BEGIN_TOTP: &str =
    "UPDATE accounts SET totp_since_us = $2 WHERE id = $1 AND totp = $3 AND totp_since_us IS NULL";
const END_TOTP: &str = "UPDATE accounts SET totp = NULL, totp_since_us = NULL, totp_step = 0 WHERE id = $1";
/// A code works once, and no earlier one works after it.
const TAKE_STEP: &str = "UPDATE accounts SET totp_step = $2 WHERE id = $1 AND totp_step < $2";

const ADD_CODE: &str = "INSERT INTO recovery_codes (account_id, hash) VALUES ($1, $2)";
const TAKE_CODE: &str = "DELETE FROM recovery_codes WHERE account_id = $1 AND hash = $2";
const DROP_CODES: &str = "DELETE FROM recovery_codes WHERE account_id = $1";
const COUNT_CODES: &str = "SELECT count(*) FROM recovery_codes WHERE account_id = $1";

/// Every statement of this file.
pub(super) const ALL: &[&str] = &[
    INSERT,
    BY_ID,
    BY_EMAIL,
    LIST,
    OPERATORS,
    DELETE,
    SET_NAME,
    WANT_EMAIL,
    SET_EMAIL,
    SET_PASSWORD,
    REHASH,
    SET_OPERATOR,
    SUSPEND,
    OFFER_TOTP,
    BEGIN_TOTP,
    END_TOTP,
    TAKE_STEP,
    ADD_CODE,
    TAKE_CODE,
    DROP_CODES,
    COUNT_CODES,
];

/// Statements of this file that PostgreSQL alone gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[BY_ID_LOCKED, OPERATORS_LOCKED];

/// An account as stored. Its `Debug` shows no secret.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) id: Uuid,
    /// As it was given.
    pub(crate) email: String,
    /// What it shall be once that is proven, too.
    pub(crate) wanted_email: Option<String>,
    pub(crate) name: String,
    /// Argon2id as a PHC string; `None` until one was chosen.
    pub(crate) password: Option<String>,
    /// May do everything.
    pub(crate) is_operator: bool,
    /// Since when it is let in nowhere.
    pub(crate) suspended_at_us: Option<i64>,
    /// The sealed secret of one-time passwords.
    pub(crate) totp: Option<Vec<u8>>,
    /// Since when they are asked for.
    pub(crate) totp_since_us: Option<i64>,
    pub(crate) created_at_us: i64,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("id", &self.id).finish_non_exhaustive()
    }
}

fn account(row: &Row) -> sqlx::Result<Account> {
    Ok(Account {
        id: row.get("id")?,
        email: row.get("email")?,
        wanted_email: row.get("wanted_email")?,
        name: row.get("name")?,
        password: row.get("password")?,
        is_operator: row.get("is_operator")?,
        suspended_at_us: row.get("suspended_at_us")?,
        totp: row.get("totp")?,
        totp_since_us: row.get("totp_since_us")?,
        created_at_us: row.get("created_at_us")?,
    })
}

/// What two addresses are compared by.
pub(crate) fn email_key(email: &str) -> String {
    email.to_lowercase()
}

/// Adds an account.
///
/// # Errors
/// Of the database, also when the address is taken.
pub(crate) async fn insert(connection: &mut Connection, account: &Account) -> sqlx::Result<()> {
    let insert = connection.query(INSERT).bind(account.id).bind(account.email.as_str());
    let insert = insert.bind(email_key(&account.email).as_str()).bind(account.name.as_str());
    let insert = insert.bind(account.password.as_deref()).bind(account.is_operator);
    insert.bind(account.created_at_us).execute().await.map(|_| ())
}

/// One of them.
///
/// # Errors
/// Of the database.
pub(crate) async fn by_id(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<Account>> {
    connection.query(BY_ID).bind(id).fetch_optional().await?.as_ref().map(account).transpose()
}

/// The same, to be changed: nobody else changes it, logs in to it, or logs out of it until the transaction ends.
///
/// # Errors
/// Of the database.
pub(crate) async fn hold(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<Account>> {
    let by_id = match connection.kind() {
        Kind::Sqlite => BY_ID,
        Kind::Postgres => BY_ID_LOCKED,
    };
    connection.query(by_id).bind(id).fetch_optional().await?.as_ref().map(account).transpose()
}

/// The one that has an address.
///
/// # Errors
/// Of the database.
pub(crate) async fn by_email(connection: &mut Connection, email: &str) -> sqlx::Result<Option<Account>> {
    let found = connection.query(BY_EMAIL).bind(email_key(email).as_str()).fetch_optional().await?;
    found.as_ref().map(account).transpose()
}

/// Those behind one, in the order in which they were made.
///
/// # Errors
/// Of the database.
pub(crate) async fn list(connection: &mut Connection, after: Uuid, limit: i64) -> sqlx::Result<Vec<Account>> {
    connection.query(LIST).bind(after).bind(limit).fetch_all().await?.iter().map(account).collect()
}

/// The operators that are let in; they stay that until the transaction ends. Before any account is held, so that two that would
/// each leave the other as the last come one behind the other.
///
/// # Errors
/// Of the database.
pub(crate) async fn hold_operators(connection: &mut Connection) -> sqlx::Result<Vec<Uuid>> {
    let operators = match connection.kind() {
        Kind::Sqlite => OPERATORS,
        Kind::Postgres => OPERATORS_LOCKED,
    };
    connection.query(operators).fetch_all().await?.iter().map(|row| row.get(0)).collect()
}

/// Deletes it with all that is its own; whether there was one.
///
/// # Errors
/// Of the database.
pub(crate) async fn delete(connection: &mut Connection, id: Uuid) -> sqlx::Result<bool> {
    Ok(connection.query(DELETE).bind(id).execute().await? > 0)
}

/// What it is called.
///
/// # Errors
/// Of the database.
pub(crate) async fn set_name(connection: &mut Connection, id: Uuid, name: &str) -> sqlx::Result<()> {
    connection.query(SET_NAME).bind(id).bind(name).execute().await.map(|_| ())
}

/// The address that it shall have once that is proven; `None`: it keeps its own.
///
/// # Errors
/// Of the database.
pub(crate) async fn want_email(
    connection: &mut Connection,
    id: Uuid,
    email: Option<&str>,
) -> sqlx::Result<()> {
    connection.query(WANT_EMAIL).bind(id).bind(email).execute().await.map(|_| ())
}

/// Its address, which was proven.
///
/// # Errors
/// Of the database, also when another account has it.
pub(crate) async fn set_email(connection: &mut Connection, id: Uuid, email: &str) -> sqlx::Result<()> {
    let key = email_key(email);
    connection.query(SET_EMAIL).bind(id).bind(email).bind(key.as_str()).execute().await.map(|_| ())
}

/// The hash of its password.
///
/// # Errors
/// Of the database.
pub(crate) async fn set_password(connection: &mut Connection, id: Uuid, hash: &str) -> sqlx::Result<()> {
    connection.query(SET_PASSWORD).bind(id).bind(hash).execute().await.map(|_| ())
}

/// Another hash of the same password.
///
/// # Errors
/// Of the database.
pub(crate) async fn rehash(
    connection: &mut Connection,
    id: Uuid,
    before: &str,
    after: &str,
) -> sqlx::Result<()> {
    connection.query(REHASH).bind(id).bind(before).bind(after).execute().await.map(|_| ())
}

/// Whether it may do everything.
///
/// # Errors
/// Of the database.
pub(crate) async fn set_operator(connection: &mut Connection, id: Uuid, is: bool) -> sqlx::Result<()> {
    connection.query(SET_OPERATOR).bind(id).bind(is).execute().await.map(|_| ())
}

/// Since when it is let in nowhere; `None`: it is.
///
/// # Errors
/// Of the database.
pub(crate) async fn suspend(connection: &mut Connection, id: Uuid, at_us: Option<i64>) -> sqlx::Result<()> {
    connection.query(SUSPEND).bind(id).bind(at_us).execute().await.map(|_| ())
}

/// Keeps a sealed secret until a code of it is seen; whether none counts yet.
///
/// # Errors
/// Of the database.
pub(crate) async fn offer_totp(connection: &mut Connection, id: Uuid, sealed: &[u8]) -> sqlx::Result<bool> {
    Ok(connection.query(OFFER_TOTP).bind(id).bind(sealed).execute().await? > 0)
}

/// From now on codes are asked for; whether this secret is still the one that was offered.
///
/// # Errors
/// Of the database.
pub(crate) async fn begin_totp(
    connection: &mut Connection,
    id: Uuid,
    now_us: i64,
    sealed: &[u8],
) -> sqlx::Result<bool> {
    Ok(connection.query(BEGIN_TOTP).bind(id).bind(now_us).bind(sealed).execute().await? > 0)
}

/// No codes are asked for any more.
///
/// # Errors
/// Of the database.
pub(crate) async fn end_totp(connection: &mut Connection, id: Uuid) -> sqlx::Result<()> {
    connection.query(END_TOTP).bind(id).execute().await?;
    connection.query(DROP_CODES).bind(id).execute().await.map(|_| ())
}

/// Uses up a time step; whether it was still to be used.
///
/// # Errors
/// Of the database.
pub(crate) async fn take_step(connection: &mut Connection, id: Uuid, step: i64) -> sqlx::Result<bool> {
    Ok(connection.query(TAKE_STEP).bind(id).bind(step).execute().await? > 0)
}

/// Replaces the recovery codes, by their hashes.
///
/// # Errors
/// Of the database.
pub(crate) async fn set_codes(
    connection: &mut Connection,
    id: Uuid,
    hashes: &[[u8; 32]],
) -> sqlx::Result<()> {
    connection.query(DROP_CODES).bind(id).execute().await?;
    for hash in hashes {
        connection.query(ADD_CODE).bind(id).bind(&hash[..]).execute().await?;
    }
    Ok(())
}

/// Uses up a recovery code; whether there was such a one.
///
/// # Errors
/// Of the database.
pub(crate) async fn take_code(connection: &mut Connection, id: Uuid, hash: &[u8; 32]) -> sqlx::Result<bool> {
    Ok(connection.query(TAKE_CODE).bind(id).bind(&hash[..]).execute().await? > 0)
}

/// How many recovery codes are left.
///
/// # Errors
/// Of the database.
pub(crate) async fn codes_left(connection: &mut Connection, id: Uuid) -> sqlx::Result<i64> {
    connection.query(COUNT_CODES).bind(id).fetch_value().await
}
