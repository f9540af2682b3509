//! `revocations`: what every control plane has to hear of within a second.

use uuid::Uuid;

use super::{Connection, Row, damaged, now_us};

const INSERT: &str =
    "INSERT INTO revocations (id, kind, subject, at_us, expires_at_us) VALUES ($1, $2, $3, $4, $5)";
const SINCE: &str = "SELECT kind, subject, expires_at_us FROM revocations WHERE at_us > $1";
const PRUNE: &str = "DELETE FROM revocations WHERE id IN (SELECT id FROM revocations WHERE expires_at_us <= $1 ORDER BY expires_at_us LIMIT $2)";

/// Every statement of this file.
pub(super) const ALL: &[&str] = &[INSERT, SINCE, PRUNE];

/// For how long nobody remembers a key or an account at most, in microseconds: what is about one is kept for longer.
const REMEMBERED_US: i64 = 600_000_000;

/// What is good no more, or not as it was.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Revoked {
    /// A token of an account, by its `jti`.
    Token(Uuid, String),
    /// A key.
    Key(Uuid),
    /// All that an account has: what it may is another now, or something of it has ended. Also a token that is nobody's, by its id.
    Account(Uuid),
    /// What those may that act for a tenant.
    Tenant(u32),
}

impl Revoked {
    fn as_texts(&self) -> (&'static str, String) {
        match self {
            Revoked::Token(account, jti) => ("token", format!("{account} {jti}")),
            Revoked::Key(id) => ("key", id.to_string()),
            Revoked::Account(id) => ("account", id.to_string()),
            Revoked::Tenant(number) => ("tenant", number.to_string()),
        }
    }

    fn of_texts(kind: &str, subject: &str) -> Option<Revoked> {
        Some(match kind {
            "token" => {
                let (account, jti) = subject.split_once(' ')?;
                Revoked::Token(account.parse().ok()?, jti.to_owned())
            }
            "key" => Revoked::Key(subject.parse().ok()?),
            "account" => Revoked::Account(subject.parse().ok()?),
            "tenant" => Revoked::Tenant(subject.parse().ok()?),
            _ => return None,
        })
    }
}

/// Tells every control plane, once the transaction is committed.
///
/// # Errors
/// Of the database.
pub(crate) async fn tell(connection: &mut Connection, revoked: &Revoked) -> sqlx::Result<()> {
    tell_until(connection, revoked, now_us().saturating_add(REMEMBERED_US)).await
}

/// The same of what is remembered until a time.
///
/// # Errors
/// Of the database.
pub(crate) async fn tell_until(
    connection: &mut Connection,
    revoked: &Revoked,
    expires_at_us: i64,
) -> sqlx::Result<()> {
    let (kind, subject) = revoked.as_texts();
    let insert = connection.query(INSERT).bind(Uuid::now_v7()).bind(kind).bind(subject.as_str());
    insert.bind(now_us()).bind(expires_at_us).execute().await.map(|_| ())
}

/// What was told since a time, and until when it has to be remembered.
///
/// # Errors
/// Of the database.
pub(crate) async fn since(connection: &mut Connection, at_us: i64) -> sqlx::Result<Vec<(Revoked, i64)>> {
    let revoked = |row: &Row| {
        let (kind, subject): (String, String) = (row.get("kind")?, row.get("subject")?);
        let revoked = Revoked::of_texts(&kind, &subject).ok_or_else(|| damaged("revocations", "subject"))?;
        Ok((revoked, row.get("expires_at_us")?))
    };
    connection.query(SINCE).bind(at_us).fetch_all().await?.iter().map(revoked).collect()
}

/// Forgets some that have expired; how many.
///
/// # Errors
/// Of the database.
pub(crate) async fn prune(connection: &mut Connection, now_us: i64, most: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(now_us).bind(most).execute().await
}
