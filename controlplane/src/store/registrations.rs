//! `registrations` and `links`: what waits for somebody to prove an address.

use uuid::Uuid;

use super::accounts::email_key;
use super::{Connection, Row};

const INSERT: &str = "INSERT INTO registrations (id, email, email_key, name, password, created_at_us, expires_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7)";
const BY_ID: &str =
    "SELECT id, email, name, password FROM registrations WHERE id = $1 AND expires_at_us > $2";
const NEWEST: &str = "SELECT id, email, name, password FROM registrations WHERE email_key = $1 AND expires_at_us > $2 ORDER BY created_at_us DESC, id DESC LIMIT 1";
/// All but the newest few of an address: whoever asks again and again takes no more room than that.
const KEEP_NEWEST: &str = "DELETE FROM registrations WHERE email_key = $1 AND id NOT IN (SELECT id FROM registrations WHERE email_key = $1 ORDER BY created_at_us DESC, id DESC LIMIT $2)";
const DELETE_OF_EMAIL: &str = "DELETE FROM registrations WHERE email_key = $1";
const PRUNE: &str = "DELETE FROM registrations WHERE id IN (SELECT id FROM registrations WHERE expires_at_us <= $1 ORDER BY expires_at_us LIMIT $2)";

const LINK: &str = "INSERT INTO links (hash, purpose, registration_id, account_id, email, expires_at_us) VALUES ($1, $2, $3, $4, $5, $6)";
/// It is taken by who deletes it.
const FIND_LINK: &str =
    "SELECT count(*) > 0 FROM links WHERE hash = $1 AND purpose = $2 AND expires_at_us > $3";
const OF_LINK: &str =
    "SELECT registration_id FROM links WHERE hash = $1 AND purpose = 'verify' AND expires_at_us > $2";
const DROP_EVERY_LINK: &str = "DELETE FROM links";
const TAKE_LINK: &str = "DELETE FROM links WHERE hash = $1 AND purpose = $2 AND expires_at_us > $3 RETURNING registration_id, account_id, email";
const DROP_LINKS: &str = "DELETE FROM links WHERE account_id = $1 AND purpose = $2";
const PRUNE_LINKS: &str = "DELETE FROM links WHERE hash IN (SELECT hash FROM links WHERE expires_at_us <= $1 ORDER BY expires_at_us LIMIT $2)";

/// Every statement of this file.
pub(super) const ALL: &[&str] = &[
    INSERT,
    BY_ID,
    NEWEST,
    KEEP_NEWEST,
    DELETE_OF_EMAIL,
    PRUNE,
    LINK,
    FIND_LINK,
    OF_LINK,
    DROP_EVERY_LINK,
    TAKE_LINK,
    DROP_LINKS,
    PRUNE_LINKS,
];

/// The most registrations of one address that wait at once.
const MOST_OF_EMAIL: i64 = 20;

/// Who wants an account.
pub(crate) struct Registration {
    pub(crate) id: Uuid,
    /// As it was given.
    pub(crate) email: String,
    pub(crate) name: String,
    /// Argon2id as a PHC string.
    pub(crate) password: String,
}

/// What a link is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// To make an account of a registration.
    Verify,
    /// To choose a password.
    Password,
    /// To prove another address of an account.
    Email,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Purpose::Verify => "verify",
            Purpose::Password => "password",
            Purpose::Email => "email",
        }
    }
}

/// A link that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) registration: Option<Uuid>,
    pub(crate) account: Option<Uuid>,
    /// The address that it proves.
    pub(crate) email: String,
}

fn registration(row: &Row) -> sqlx::Result<Registration> {
    Ok(Registration {
        id: row.get("id")?,
        email: row.get("email")?,
        name: row.get("name")?,
        password: row.get("password")?,
    })
}

/// Adds one; of an address the newest stay.
///
/// # Errors
/// Of the database.
pub(crate) async fn insert(
    connection: &mut Connection,
    new: &Registration,
    now_us: i64,
    expires_at_us: i64,
) -> sqlx::Result<()> {
    let key = email_key(&new.email);
    let insert = connection.query(INSERT).bind(new.id).bind(new.email.as_str()).bind(key.as_str());
    let insert = insert.bind(new.name.as_str()).bind(new.password.as_str());
    insert.bind(now_us).bind(expires_at_us).execute().await?;
    connection.query(KEEP_NEWEST).bind(key.as_str()).bind(MOST_OF_EMAIL).execute().await.map(|_| ())
}

/// One that still waits.
///
/// # Errors
/// Of the database.
pub(crate) async fn by_id(
    connection: &mut Connection,
    id: Uuid,
    now_us: i64,
) -> sqlx::Result<Option<Registration>> {
    let found = connection.query(BY_ID).bind(id).bind(now_us).fetch_optional().await?;
    found.as_ref().map(registration).transpose()
}

/// The newest of an address that still waits.
///
/// # Errors
/// Of the database.
pub(crate) async fn newest(
    connection: &mut Connection,
    email: &str,
    now_us: i64,
) -> sqlx::Result<Option<Registration>> {
    let key = email_key(email);
    let found = connection.query(NEWEST).bind(key.as_str()).bind(now_us).fetch_optional().await?;
    found.as_ref().map(registration).transpose()
}

/// Forgets all of an address, with their links.
///
/// # Errors
/// Of the database.
pub(crate) async fn delete_of(connection: &mut Connection, email: &str) -> sqlx::Result<()> {
    connection.query(DELETE_OF_EMAIL).bind(email_key(email).as_str()).execute().await.map(|_| ())
}

/// Keeps a link by the hash of what stands in it.
///
/// # Errors
/// Of the database, also when that for which it is made is gone.
pub(crate) async fn link(
    connection: &mut Connection,
    hash: &[u8; 32],
    purpose: Purpose,
    link: &Link,
    expires_at_us: i64,
) -> sqlx::Result<()> {
    let insert = connection.query(LINK).bind(&hash[..]).bind(purpose.as_str()).bind(link.registration);
    insert.bind(link.account).bind(link.email.as_str()).bind(expires_at_us).execute().await.map(|_| ())
}

/// Whether there is a link that can be taken.
///
/// # Errors
/// Of the database.
pub(crate) async fn has_link(
    connection: &mut Connection,
    hash: &[u8; 32],
    purpose: Purpose,
    now_us: i64,
) -> sqlx::Result<bool> {
    let find = connection.query(FIND_LINK).bind(&hash[..]).bind(purpose.as_str()).bind(now_us);
    find.fetch_value().await
}

/// The registration that a link would make an account of.
///
/// # Errors
/// Of the database.
pub(crate) async fn of_link(
    connection: &mut Connection,
    hash: &[u8; 32],
    now_us: i64,
) -> sqlx::Result<Option<Uuid>> {
    let row = connection.query(OF_LINK).bind(&hash[..]).bind(now_us).fetch_optional().await?;
    row.map(|row| row.get(0)).transpose()
}

/// Forgets all links: of a restored database nobody knows which were taken since.
///
/// # Errors
/// Of the database.
pub(crate) async fn drop_every_link(connection: &mut Connection) -> sqlx::Result<()> {
    connection.query(DROP_EVERY_LINK).execute().await.map(|_| ())
}

/// Takes a link that has not expired: nobody else can afterwards.
///
/// # Errors
/// Of the database.
pub(crate) async fn take_link(
    connection: &mut Connection,
    hash: &[u8; 32],
    purpose: Purpose,
    now_us: i64,
) -> sqlx::Result<Option<Link>> {
    let take = connection.query(TAKE_LINK).bind(&hash[..]).bind(purpose.as_str()).bind(now_us);
    let row = take.fetch_optional().await?;
    row.map(|row| {
        Ok(Link {
            registration: row.get("registration_id")?,
            account: row.get("account_id")?,
            email: row.get("email")?,
        })
    })
    .transpose()
}

/// Forgets all links of an account for a purpose.
///
/// # Errors
/// Of the database.
pub(crate) async fn drop_links(
    connection: &mut Connection,
    account: Uuid,
    purpose: Purpose,
) -> sqlx::Result<()> {
    connection.query(DROP_LINKS).bind(account).bind(purpose.as_str()).execute().await.map(|_| ())
}

/// Deletes some that have expired, of both tables; how many.
///
/// # Errors
/// Of the database.
pub(crate) async fn prune(connection: &mut Connection, now_us: i64, most: i64) -> sqlx::Result<u64> {
    let links = connection.query(PRUNE_LINKS).bind(now_us).bind(most).execute().await?;
    Ok(links + connection.query(PRUNE).bind(now_us).bind(most).execute().await?)
}
