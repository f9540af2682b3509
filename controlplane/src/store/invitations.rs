//! `invitations`: whom a tenant has invited by an address of mail.

use uuid::Uuid;

use super::accounts::email_key;
use super::tenants::{self, Tenant};
use super::{Connection, Row, damaged};
use crate::model::role::Role;

/// It counts as long as whoever has invited may still invite to that.
macro_rules! counts {
    ($select:literal, $rest:literal) => {
        concat!(
            $select,
            " FROM invitations i JOIN accounts a ON a.email_key = i.email_key JOIN tenants t ON t.number = i.tenant WHERE a.id = $1 AND i.expires_at_us > $2 AND (i.invited_by IS NULL OR EXISTS (SELECT 1 FROM memberships m WHERE m.tenant = i.tenant AND m.account_id = i.invited_by AND m.accepted_at_us IS NOT NULL AND (m.role = 'owner' OR (m.role = 'admin' AND i.role <> 'owner'))))",
            $rest
        )
    };
}

const TO: &str = counts!(
    "SELECT t.number, t.name, t.suspended_at_us, t.created_at_us, t.allowed_networks, t.denied_networks, i.role",
    " AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.tenant = i.tenant AND m.account_id = $1) ORDER BY i.tenant"
);
/// The same of whoever asks, as the database knows them.
const TO_POSTGRES: &str = "SELECT number, name, suspended_at_us, created_at_us, allowed_networks, denied_networks, role FROM godwit_invited_to() ORDER BY number";
const OF: &str = counts!("SELECT i.id, i.role", " AND i.tenant = $3");
const DECLINE: &str = "DELETE FROM invitations WHERE tenant = $1 AND email_key = (SELECT email_key FROM accounts WHERE id = $2)";
const DECLINE_POSTGRES: &str = "SELECT godwit_decline($1)";
const PUT: &str = "INSERT INTO invitations (id, tenant, email, email_key, role, invited_by, created_at_us, expires_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant, email_key) DO UPDATE SET email = excluded.email, role = excluded.role, invited_by = excluded.invited_by, created_at_us = excluded.created_at_us, expires_at_us = excluded.expires_at_us RETURNING id";
const ROLE: &str = "SELECT role FROM invitations WHERE tenant = $1 AND email_key = $2";
const BY_ID: &str =
    "SELECT id, tenant, email, role, invited_by, created_at_us, expires_at_us FROM invitations WHERE id = $1";
const LIST: &str = "SELECT id, tenant, email, role, invited_by, created_at_us, expires_at_us FROM invitations WHERE tenant = $1 AND id > $2 AND expires_at_us > $3 ORDER BY id LIMIT $4";
const COUNT: &str = "SELECT count(*) FROM invitations WHERE tenant = $1";
const DELETE: &str = "DELETE FROM invitations WHERE id = $1";
const PRUNE: &str = "DELETE FROM invitations WHERE id IN (SELECT id FROM invitations WHERE expires_at_us <= $1 ORDER BY expires_at_us LIMIT $2)";

/// Every statement of this file that both get.
pub(super) const ALL: &[&str] = &[TO, OF, DECLINE, PUT, ROLE, BY_ID, LIST, COUNT, DELETE, PRUNE];
/// Statements of this file that PostgreSQL alone gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[TO_POSTGRES, DECLINE_POSTGRES];

/// Who is invited to be what.
#[derive(Clone, Debug)]
pub(crate) struct Invitation {
    pub(crate) id: Uuid,
    pub(crate) tenant: u32,
    /// As it was given.
    pub(crate) email: String,
    pub(crate) role: Role,
    /// `None`: an operator.
    pub(crate) invited_by: Option<Uuid>,
    pub(crate) created_at_us: i64,
    pub(crate) expires_at_us: i64,
}

fn role(row: &Row) -> sqlx::Result<Role> {
    Role::parse(row.get("role")?).ok_or_else(|| damaged("invitations", "role"))
}

fn invitation(row: &Row) -> sqlx::Result<Invitation> {
    let tenant: i64 = row.get("tenant")?;
    Ok(Invitation {
        id: row.get("id")?,
        tenant: u32::try_from(tenant).map_err(|_| damaged("invitations", "tenant"))?,
        email: row.get("email")?,
        role: role(row)?,
        invited_by: row.get("invited_by")?,
        created_at_us: row.get("created_at_us")?,
        expires_at_us: row.get("expires_at_us")?,
    })
}

/// Keeps one in place of that of the same tenant and address; gives the id that it has.
///
/// # Errors
/// Of the database.
pub(crate) async fn put(connection: &mut Connection, new: &Invitation) -> sqlx::Result<Uuid> {
    let put = connection.query(PUT).bind(new.id).bind(i64::from(new.tenant)).bind(new.email.as_str());
    let put = put.bind(email_key(&new.email).as_str()).bind(new.role.as_str()).bind(new.invited_by);
    put.bind(new.created_at_us).bind(new.expires_at_us).fetch_value().await
}

/// What an address is invited to be in a tenant, also where that has expired.
///
/// # Errors
/// Of the database.
pub(crate) async fn role_of(
    connection: &mut Connection,
    tenant: u32,
    email: &str,
) -> sqlx::Result<Option<Role>> {
    let find = connection.query(ROLE).bind(i64::from(tenant)).bind(email_key(email).as_str());
    find.fetch_optional().await?.as_ref().map(role).transpose()
}

/// One of them.
///
/// # Errors
/// Of the database.
pub(crate) async fn by_id(connection: &mut Connection, id: Uuid) -> sqlx::Result<Option<Invitation>> {
    connection.query(BY_ID).bind(id).fetch_optional().await?.as_ref().map(invitation).transpose()
}

/// Those of a tenant that have not expired, behind one, by id.
///
/// # Errors
/// Of the database.
pub(crate) async fn list(
    connection: &mut Connection,
    tenant: u32,
    after: Uuid,
    now_us: i64,
    limit: i64,
) -> sqlx::Result<Vec<Invitation>> {
    let list = connection.query(LIST).bind(i64::from(tenant)).bind(after).bind(now_us).bind(limit);
    list.fetch_all().await?.iter().map(invitation).collect()
}

/// How many a tenant has.
///
/// # Errors
/// Of the database.
pub(crate) async fn count(connection: &mut Connection, tenant: u32) -> sqlx::Result<i64> {
    connection.query(COUNT).bind(i64::from(tenant)).fetch_value().await
}

/// Takes one back; whether there was one.
///
/// # Errors
/// Of the database.
pub(crate) async fn delete(connection: &mut Connection, id: Uuid) -> sqlx::Result<bool> {
    Ok(connection.query(DELETE).bind(id).execute().await? > 0)
}

/// The tenants that an account is invited to and is nothing in yet, and as what. By a connection that acts for it, where it is guarded.
///
/// # Errors
/// Of the database.
pub(crate) async fn to(
    connection: &mut Connection,
    account: Uuid,
    now_us: i64,
) -> sqlx::Result<Vec<(Tenant, Role)>> {
    let query = if connection.is_guarded() {
        connection.query(TO_POSTGRES)
    } else {
        connection.query(TO).bind(account).bind(now_us)
    };
    query.fetch_all().await?.iter().map(|row| Ok((tenants::tenant(row)?, role(row)?))).collect()
}

/// Takes the invitation of an account to a tenant that counts; what it was to be.
///
/// # Errors
/// Of the database.
pub(crate) async fn take(
    connection: &mut Connection,
    tenant: u32,
    account: Uuid,
    now_us: i64,
) -> sqlx::Result<Option<Role>> {
    let find = connection.query(OF).bind(account).bind(now_us).bind(i64::from(tenant));
    let Some(row) = find.fetch_optional().await? else { return Ok(None) };
    Ok(if delete(connection, row.get("id")?).await? { Some(role(&row)?) } else { None })
}

/// An account does not want what it is invited to; whether it was. By a connection that acts for it, where it is guarded.
///
/// # Errors
/// Of the database.
pub(crate) async fn decline(connection: &mut Connection, tenant: u32, account: Uuid) -> sqlx::Result<bool> {
    if connection.is_guarded() {
        let decline = connection.query(DECLINE_POSTGRES).bind(i64::from(tenant));
        return Ok(decline.fetch_value::<i64>().await? > 0);
    }
    Ok(connection.query(DECLINE).bind(i64::from(tenant)).bind(account).execute().await? > 0)
}

/// Deletes some that have expired; how many.
///
/// # Errors
/// Of the database.
pub(crate) async fn prune(connection: &mut Connection, now_us: i64, limit: i64) -> sqlx::Result<u64> {
    connection.query(PRUNE).bind(now_us).bind(limit).execute().await
}
