//! `claims`: names that tenants want to prove to be theirs, or have proven.

use godwit_wire::name::{Name, NameRef};
use uuid::Uuid;

use super::{Connection, Kind, Row, damaged};
use crate::model::name_key;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant, name_key, state, token, created_at_us, expires_at_us, seen_at_us, checked_at_us, found, \
             check_at_us FROM claims ",
            $rest
        )
    };
}

const INSERT: &str = "INSERT INTO claims (id, tenant, name_key, state, token, created_at_us, expires_at_us, check_at_us) VALUES ($1, $2, $3, 'pending', $4, $5, $6, $7)";
const BY_ID: &str = select!("WHERE id = $1");
const OPEN_OF: &str =
    select!("WHERE tenant = $1 AND name_key = $2 AND state IN ('pending', 'verified', 'lapsed')");
const LIST: &str = select!("WHERE id > $1 ORDER BY id LIMIT $2");
const LIST_OF: &str = select!("WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3");
/// Who looks at one puts it off for all others, and for itself.
const TAKE_DUE: &str = "UPDATE claims SET check_at_us = $2 WHERE check_at_us <= $1 AND id IN (SELECT id FROM claims WHERE check_at_us <= $1 ORDER BY check_at_us LIMIT $3) RETURNING id, tenant, name_key, state, token, created_at_us, expires_at_us, seen_at_us, checked_at_us, found, check_at_us";
const COUNT_OF: &str = "SELECT count(*) FROM claims WHERE tenant = $1";
const ASK: &str =
    "UPDATE claims SET check_at_us = $2 WHERE id = $1 AND state IN ('pending', 'verified', 'lapsed')";
const DELETE: &str = "DELETE FROM claims WHERE id = $1";
const SETTLE: &str = "UPDATE claims SET state = $2, seen_at_us = $3, checked_at_us = $4, found = $5, check_at_us = $6 WHERE id = $1";
/// Of those that have ended nobody asks any more.
const PRUNE: &str = "DELETE FROM claims WHERE id IN (SELECT id FROM claims WHERE state IN ('failed', 'expired') AND created_at_us < $1 ORDER BY created_at_us LIMIT $2)";
/// Somebody else has proven it.
const FAIL_OTHERS: &str = "UPDATE claims SET state = 'failed', found = $3, check_at_us = NULL WHERE name_key = $1 AND id <> $2 AND state IN ('pending', 'lapsed')";
const CLAIMANT: &str =
    "SELECT coalesce((SELECT tenant FROM claims WHERE name_key = $1 AND state = 'verified'), 0)";
/// The same, whoever asks.
const CLAIMANT_POSTGRES: &str = "SELECT godwit_claimant($1)";

/// Every statement of this file that both get.
pub(super) const ALL: &[&str] = &[
    INSERT,
    BY_ID,
    OPEN_OF,
    LIST,
    LIST_OF,
    TAKE_DUE,
    COUNT_OF,
    ASK,
    DELETE,
    SETTLE,
    FAIL_OTHERS,
    CLAIMANT,
    PRUNE,
];

/// Statements of this file that PostgreSQL alone gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[CLAIMANT_POSTGRES];

/// How far a claim is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// The proof was not seen yet.
    Pending,
    /// It was, and is looked at again and again.
    Verified,
    /// It was, and has been gone for too long.
    Lapsed,
    /// Somebody else has proven the name to be theirs.
    Failed,
    /// It was not seen in time.
    Expired,
}

impl State {
    const ALL: [State; 5] = [State::Pending, State::Verified, State::Lapsed, State::Failed, State::Expired];

    /// As it is stored.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Verified => "verified",
            State::Lapsed => "lapsed",
            State::Failed => "failed",
            State::Expired => "expired",
        }
    }
}

/// A claim as stored.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) id: Uuid,
    pub(crate) tenant: u32,
    pub(crate) name: Name,
    pub(crate) state: State,
    /// What has to stand in the DNS.
    pub(crate) token: [u8; 16],
    pub(crate) created_at_us: i64,
    pub(crate) expires_at_us: i64,
    pub(crate) seen_at_us: Option<i64>,
    pub(crate) checked_at_us: Option<i64>,
    pub(crate) found: Option<String>,
    pub(crate) check_at_us: Option<i64>,
}

fn claim(row: &Row) -> sqlx::Result<Claim> {
    let (key, state): (&[u8], &str) = (row.get("name_key")?, row.get("state")?);
    let token: &[u8] = row.get("token")?;
    let known = State::ALL.into_iter().find(|known| known.as_str() == state);
    Ok(Claim {
        id: row.get("id")?,
        tenant: u32::try_from(row.get::<i64, _>("tenant")?).map_err(|_| damaged("claims", "tenant"))?,
        name: name_key::decode(key).ok_or_else(|| damaged("claims", "name_key"))?,
        state: known.ok_or_else(|| damaged("claims", "state"))?,
        token: token.try_into().map_err(|_| damaged("claims", "token"))?,
        created_at_us: row.get("created_at_us")?,
        expires_at_us: row.get("expires_at_us")?,
        seen_at_us: row.get("seen_at_us")?,
        checked_at_us: row.get("checked_at_us")?,
        found: row.get("found")?,
        check_at_us: row.get("check_at_us")?,
    })
}

/// Adds one that waits for its proof.
///
/// # Errors
/// Of the database.
pub(crate) async fn insert(connection: &mut Connection, claim: &Claim) -> sqlx::Result<()> {
    let insert = connection.query(INSERT).bind(claim.id).bind(i64::from(claim.tenant));
    let insert = insert.bind(name_key::encode(claim.name.as_ref())).bind(claim.token.as_slice());
    insert
        .bind(claim.created_at_us)
        .bind(claim.expires_at_us)
        .bind(claim.check_at_us)
        .execute()
        .await
        .map(|_| ())
}

/// One of them.
///
/// # Errors
/// Of the database.
pub(crate) async fn by_id(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<Claim>> {
    connection.query(BY_ID).bind(id).fetch_optional().await?.as_ref().map(claim).transpose()
}

/// The one that a tenant has of a name and that has not ended.
///
/// # Errors
/// Of the database.
pub(crate) async fn open_of(
    connection: &mut Connection,
    tenant: u32,
    name: NameRef<'_>,
) -> sqlx::Result<Option<Claim>> {
    let open = connection.query(OPEN_OF).bind(i64::from(tenant)).bind(name_key::encode(name));
    open.fetch_optional().await?.as_ref().map(claim).transpose()
}

/// Those behind one, by id; of one tenant where one is named.
///
/// # Errors
/// Of the database.
pub(crate) async fn list(
    connection: &mut Connection,
    tenant: Option<u32>,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Claim>> {
    let rows = match tenant {
        None => connection.query(LIST).bind(after).bind(limit),
        Some(tenant) => connection.query(LIST_OF).bind(i64::from(tenant)).bind(after).bind(limit),
    };
    rows.fetch_all().await?.iter().map(claim).collect()
}

/// Those whose proof is to be looked for by now. They are not so for others until `again_us`, whatever becomes of who looks.
///
/// # Errors
/// Of the database.
pub(crate) async fn take_due(
    connection: &mut Connection,
    now_us: i64,
    again_us: i64,
    limit: i64,
) -> sqlx::Result<Vec<Claim>> {
    let take = connection.query(TAKE_DUE).bind(now_us).bind(again_us).bind(limit);
    take.fetch_all().await?.iter().map(claim).collect()
}

/// How many a tenant has.
///
/// # Errors
/// Of the database.
pub(crate) async fn count_of(connection: &mut Connection, tenant: u32) -> sqlx::Result<i64> {
    connection.query(COUNT_OF).bind(i64::from(tenant)).fetch_value().await
}

/// Has its proof looked for then.
///
/// # Errors
/// Of the database.
pub(crate) async fn ask(connection: &mut Connection, id: Uuid, at_us: i64) -> sqlx::Result<()> {
    connection.query(ASK).bind(id).bind(at_us).execute().await.map(|_| ())
}

/// Deletes one.
///
/// # Errors
/// Of the database.
pub(crate) async fn delete(connection: &mut Connection, id: Uuid) -> sqlx::Result<()> {
    connection.query(DELETE).bind(id).execute().await.map(|_| ())
}

/// Writes down what came of one.
///
/// # Errors
/// Of the database.
pub(crate) async fn settle(connection: &mut Connection, claim: &Claim) -> sqlx::Result<()> {
    let settle = connection.query(SETTLE).bind(claim.id).bind(claim.state.as_str()).bind(claim.seen_at_us);
    let settle = settle.bind(claim.checked_at_us).bind(claim.found.as_deref()).bind(claim.check_at_us);
    settle.execute().await.map(|_| ())
}

/// Ends what others claim of a name that this one has proven.
///
/// # Errors
/// Of the database.
pub(crate) async fn fail_others(connection: &mut Connection, claim: &Claim, found: &str) -> sqlx::Result<()> {
    let fail = connection.query(FAIL_OTHERS).bind(name_key::encode(claim.name.as_ref()));
    fail.bind(claim.id).bind(found).execute().await.map(|_| ())
}

/// The tenant that has proven a name to be its own, whoever asks.
///
/// # Errors
/// Of the database.
pub(crate) async fn claimant(connection: &mut Connection, name: NameRef<'_>) -> sqlx::Result<Option<u32>> {
    let statement = match connection.kind() {
        Kind::Sqlite => CLAIMANT,
        Kind::Postgres => CLAIMANT_POSTGRES,
    };
    let tenant: i64 = connection.query(statement).bind(name_key::encode(name)).fetch_value().await?;
    Ok(u32::try_from(tenant).ok().filter(|tenant| *tenant > 0))
}

/// Deletes some that have ended and were made before a time; how many.
///
/// # Errors
/// Of the database.
pub(crate) async fn prune(connection: &mut Connection, before_us: i64, limit: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(before_us).bind(limit).execute().await
}
