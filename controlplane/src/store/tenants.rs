//! `tenants`, `memberships` and `grants`: who owns zones, who acts for them, and what others may in a zone.

use uuid::Uuid;

use super::{Connection, Kind, Row, damaged};
use crate::model::role::Role;

const INSERT: &str = "INSERT INTO tenants (name, created_at_us) VALUES ($1, $2) RETURNING number";
const BY_NUMBER: &str = "SELECT number, name, suspended_at_us, created_at_us FROM tenants WHERE number = $1";
/// Nobody else changes it, its members or its grants until the transaction ends.
const BY_NUMBER_LOCKED: &str =
    "SELECT number, name, suspended_at_us, created_at_us FROM tenants WHERE number = $1 FOR UPDATE";
const LIST: &str = "SELECT number, name, suspended_at_us, created_at_us FROM tenants WHERE number > $1 ORDER BY number LIMIT $2";
const OF_ACCOUNT: &str = "SELECT t.number, t.name, t.suspended_at_us, t.created_at_us, m.role FROM memberships m JOIN tenants t ON t.number = m.tenant WHERE m.account_id = $1 ORDER BY m.tenant";
const RENAME: &str = "UPDATE tenants SET name = $2 WHERE number = $1";
const SUSPEND: &str = "UPDATE tenants SET suspended_at_us = $2 WHERE number = $1";
const DELETE: &str = "DELETE FROM tenants WHERE number = $1";
const HAS_ZONES: &str = "SELECT count(*) FROM (SELECT 1 FROM zones WHERE owner_number = $1 LIMIT 1) AS found";

const MEMBERS: &str = "SELECT m.account_id, a.email, a.name, m.role, m.created_at_us FROM memberships m JOIN accounts a ON a.id = m.account_id WHERE m.tenant = $1 AND m.account_id > $2 ORDER BY m.account_id LIMIT $3";
const ROLE: &str = "SELECT role FROM memberships WHERE tenant = $1 AND account_id = $2";
const COUNT_MEMBERS: &str = "SELECT count(*) FROM memberships WHERE tenant = $1";
const COUNT_TENANTS: &str = "SELECT count(*) FROM memberships WHERE account_id = $1";
const COUNT_OWNERS: &str = "SELECT count(*) FROM memberships WHERE tenant = $1 AND role = 'owner'";
const PUT_MEMBER: &str = "INSERT INTO memberships (tenant, account_id, role, created_at_us) VALUES ($1, $2, $3, $4) ON CONFLICT (tenant, account_id) DO UPDATE SET role = excluded.role";
const DROP_MEMBER: &str = "DELETE FROM memberships WHERE tenant = $1 AND account_id = $2";
/// Those that are granted something of its zones.
const GRANTED_BY: &str =
    "SELECT DISTINCT g.tenant FROM zones z JOIN grants g ON g.zone_id = z.id WHERE z.owner_number = $1";
const ACCOUNT_NAMED: &str = "SELECT email, name FROM accounts WHERE id = $1";
const TENANT_NAMED: &str = "SELECT name FROM tenants WHERE number = $1";
/// The same, whoever asks.
const ACCOUNT_NAMED_POSTGRES: &str = "SELECT email, name FROM godwit_account_named($1)";
const TENANT_NAMED_POSTGRES: &str = "SELECT name FROM godwit_tenant_named($1)";

/// What an account is granted, with whether either side is suspended.
const GRANTED: &str = "SELECT g.zone_id, g.role, m.role AS own, t.suspended_at_us AS here, o.suspended_at_us AS there FROM memberships m JOIN tenants t ON t.number = m.tenant JOIN grants g ON g.tenant = m.tenant JOIN zones z ON z.id = g.zone_id LEFT JOIN tenants o ON o.number = z.owner_number WHERE m.account_id = $1";
const GRANTS: &str = "SELECT g.tenant, t.name, g.role, g.created_at_us FROM grants g JOIN tenants t ON t.number = g.tenant WHERE g.zone_id = $1 ORDER BY g.tenant";
const COUNT_GRANTS: &str = "SELECT count(*) FROM grants WHERE zone_id = $1";
const COUNT_GRANTED: &str = "SELECT count(*) FROM grants WHERE tenant = $1";
const PUT_GRANT: &str = "INSERT INTO grants (zone_id, tenant, role, created_at_us) VALUES ($1, $2, $3, $4) ON CONFLICT (zone_id, tenant) DO UPDATE SET role = excluded.role";
const DROP_GRANT: &str = "DELETE FROM grants WHERE zone_id = $1 AND tenant = $2";

/// Every statement of this file that both get.
pub(super) const ALL: &[&str] = &[
    INSERT,
    BY_NUMBER,
    LIST,
    OF_ACCOUNT,
    RENAME,
    SUSPEND,
    DELETE,
    HAS_ZONES,
    MEMBERS,
    ROLE,
    COUNT_MEMBERS,
    COUNT_TENANTS,
    COUNT_OWNERS,
    PUT_MEMBER,
    DROP_MEMBER,
    GRANTED_BY,
    ACCOUNT_NAMED,
    TENANT_NAMED,
    GRANTED,
    GRANTS,
    COUNT_GRANTS,
    COUNT_GRANTED,
    PUT_GRANT,
    DROP_GRANT,
];

/// Statements of this file that PostgreSQL alone gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[BY_NUMBER_LOCKED, ACCOUNT_NAMED_POSTGRES, TENANT_NAMED_POSTGRES];

/// A tenant as stored.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    /// The owner number of its zones.
    pub(crate) number: u32,
    pub(crate) name: String,
    /// Since when its members change nothing.
    pub(crate) suspended_at_us: Option<i64>,
    pub(crate) created_at_us: i64,
}

/// A member as listed.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) account: Uuid,
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) since_us: i64,
}

/// What another tenant may in a zone.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) tenant: u32,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) since_us: i64,
}

fn number(row: &Row, column: &'static str) -> sqlx::Result<u32> {
    u32::try_from(row.get::<i64, _>(column)?).map_err(|_| damaged("tenants", column))
}

fn role(row: &Row, column: &'static str) -> sqlx::Result<Role> {
    Role::parse(row.get(column)?).ok_or_else(|| damaged("memberships", column))
}

fn tenant(row: &Row) -> sqlx::Result<Tenant> {
    Ok(Tenant {
        number: number(row, "number")?,
        name: row.get("name")?,
        suspended_at_us: row.get("suspended_at_us")?,
        created_at_us: row.get("created_at_us")?,
    })
}

/// Adds one; gives its number.
///
/// # Errors
/// Of the database.
pub(crate) async fn insert(connection: &mut Connection, name: &str, now_us: i64) -> sqlx::Result<u32> {
    let number: i64 = connection.query(INSERT).bind(name).bind(now_us).fetch_value().await?;
    u32::try_from(number).map_err(|_| damaged("tenants", "number"))
}

/// One of them.
///
/// # Errors
/// Of the database.
pub(crate) async fn by_number(connection: &mut Connection, number: u32) -> sqlx::Result<Option<Tenant>> {
    let found = connection.query(BY_NUMBER).bind(i64::from(number)).fetch_optional().await?;
    found.as_ref().map(tenant).transpose()
}

/// The same, to be changed: nobody else changes it, its members or what it is granted until the transaction ends.
///
/// # Errors
/// Of the database.
pub(crate) async fn hold(connection: &mut Connection, number: u32) -> sqlx::Result<Option<Tenant>> {
    let statement = match connection.kind() {
        Kind::Sqlite => BY_NUMBER,
        Kind::Postgres => BY_NUMBER_LOCKED,
    };
    let found = connection.query(statement).bind(i64::from(number)).fetch_optional().await?;
    found.as_ref().map(tenant).transpose()
}

/// Those behind one, by number.
///
/// # Errors
/// Of the database.
pub(crate) async fn list(connection: &mut Connection, after: u32, limit: i64) -> sqlx::Result<Vec<Tenant>> {
    let rows = connection.query(LIST).bind(i64::from(after)).bind(limit).fetch_all().await?;
    rows.iter().map(tenant).collect()
}

/// Those that an account is a member of, and as what.
///
/// # Errors
/// Of the database.
pub(crate) async fn of_account(
    connection: &mut Connection,
    account: Uuid,
) -> sqlx::Result<Vec<(Tenant, Role)>> {
    let rows = connection.query(OF_ACCOUNT).bind(account).fetch_all().await?;
    rows.iter().map(|row| Ok((tenant(row)?, role(row, "role")?))).collect()
}

/// What it is called.
///
/// # Errors
/// Of the database.
pub(crate) async fn rename(connection: &mut Connection, number: u32, name: &str) -> sqlx::Result<()> {
    connection.query(RENAME).bind(i64::from(number)).bind(name).execute().await.map(|_| ())
}

/// Since when its members change nothing; `None`: they do.
///
/// # Errors
/// Of the database.
pub(crate) async fn suspend(
    connection: &mut Connection,
    number: u32,
    at_us: Option<i64>,
) -> sqlx::Result<()> {
    connection.query(SUSPEND).bind(i64::from(number)).bind(at_us).execute().await.map(|_| ())
}

/// Deletes it with its memberships and what it is granted.
///
/// # Errors
/// Of the database.
pub(crate) async fn delete(connection: &mut Connection, number: u32) -> sqlx::Result<()> {
    connection.query(DELETE).bind(i64::from(number)).execute().await.map(|_| ())
}

/// Whether a tenant has zones.
///
/// # Errors
/// Of the database.
pub(crate) async fn has_zones(connection: &mut Connection, number: u32) -> sqlx::Result<bool> {
    Ok(connection.query(HAS_ZONES).bind(i64::from(number)).fetch_value::<i64>().await? > 0)
}

/// Members behind one, by account.
///
/// # Errors
/// Of the database.
pub(crate) async fn members(
    connection: &mut Connection,
    number: u32,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Member>> {
    let member = |row: &Row| {
        Ok(Member {
            account: row.get("account_id")?,
            email: row.get("email")?,
            name: row.get("name")?,
            role: role(row, "role")?,
            since_us: row.get("created_at_us")?,
        })
    };
    let members = connection.query(MEMBERS).bind(i64::from(number)).bind(after).bind(limit);
    members.fetch_all().await?.iter().map(member).collect()
}

/// What an account is in a tenant.
///
/// # Errors
/// Of the database.
pub(crate) async fn role_of(
    connection: &mut Connection,
    number: u32,
    account: Uuid,
) -> sqlx::Result<Option<Role>> {
    let row = connection.query(ROLE).bind(i64::from(number)).bind(account).fetch_optional().await?;
    row.as_ref().map(|row| role(row, "role")).transpose()
}

/// How many members a tenant has.
///
/// # Errors
/// Of the database.
pub(crate) async fn count_members(connection: &mut Connection, number: u32) -> sqlx::Result<i64> {
    connection.query(COUNT_MEMBERS).bind(i64::from(number)).fetch_value().await
}

/// Of how many tenants an account is a member.
///
/// # Errors
/// Of the database.
pub(crate) async fn count_of_account(connection: &mut Connection, account: Uuid) -> sqlx::Result<i64> {
    connection.query(COUNT_TENANTS).bind(account).fetch_value().await
}

/// How many owners a tenant has.
///
/// # Errors
/// Of the database.
pub(crate) async fn count_owners(connection: &mut Connection, number: u32) -> sqlx::Result<i64> {
    connection.query(COUNT_OWNERS).bind(i64::from(number)).fetch_value().await
}

/// Makes an account a member, or something else than it was.
///
/// # Errors
/// Of the database, also when there is no such account.
pub(crate) async fn put_member(
    connection: &mut Connection,
    number: u32,
    account: Uuid,
    role: Role,
    now_us: i64,
) -> sqlx::Result<()> {
    let put = connection.query(PUT_MEMBER).bind(i64::from(number)).bind(account);
    put.bind(role.as_str()).bind(now_us).execute().await.map(|_| ())
}

/// Ends a membership; whether there was one.
///
/// # Errors
/// Of the database.
pub(crate) async fn drop_member(
    connection: &mut Connection,
    number: u32,
    account: Uuid,
) -> sqlx::Result<bool> {
    Ok(connection.query(DROP_MEMBER).bind(i64::from(number)).bind(account).execute().await? > 0)
}

/// Address and name of an account that somebody names, whether they see it or not.
///
/// # Errors
/// Of the database.
pub(crate) async fn account_named(
    connection: &mut Connection,
    account: Uuid,
) -> sqlx::Result<Option<(String, String)>> {
    let statement = match connection.kind() {
        Kind::Sqlite => ACCOUNT_NAMED,
        Kind::Postgres => ACCOUNT_NAMED_POSTGRES,
    };
    let row = connection.query(statement).bind(account).fetch_optional().await?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

/// What a tenant that somebody names is called, whether they see it or not.
///
/// # Errors
/// Of the database.
pub(crate) async fn tenant_named(connection: &mut Connection, number: u32) -> sqlx::Result<Option<String>> {
    let statement = match connection.kind() {
        Kind::Sqlite => TENANT_NAMED,
        Kind::Postgres => TENANT_NAMED_POSTGRES,
    };
    let row = connection.query(statement).bind(i64::from(number)).fetch_optional().await?;
    row.map(|row| row.get(0)).transpose()
}

/// The tenants that are granted something of its zones.
///
/// # Errors
/// Of the database.
pub(crate) async fn granted_by(connection: &mut Connection, number: u32) -> sqlx::Result<Vec<u32>> {
    let rows = connection.query(GRANTED_BY).bind(i64::from(number)).fetch_all().await?;
    rows.iter().map(|row| self::number(row, "tenant")).collect()
}

/// The zones of which an account is granted something, by their rows: what it may there, all in all.
///
/// # Errors
/// Of the database.
pub(crate) async fn granted(connection: &mut Connection, account: Uuid) -> sqlx::Result<Vec<(i64, Role)>> {
    let granted = |row: &Row| {
        let is_suspended =
            row.get::<Option<i64>, _>("here")?.is_some() || row.get::<Option<i64>, _>("there")?.is_some();
        let most = role(row, "role")?.min(role(row, "own")?);
        Ok((row.get("zone_id")?, if is_suspended { Role::Viewer } else { most }))
    };
    connection.query(GRANTED).bind(account).fetch_all().await?.iter().map(granted).collect()
}

/// What other tenants may in a zone.
///
/// # Errors
/// Of the database.
pub(crate) async fn grants(connection: &mut Connection, zone_id: i64) -> sqlx::Result<Vec<Grant>> {
    let grant = |row: &Row| {
        Ok(Grant {
            tenant: number(row, "tenant")?,
            name: row.get("name")?,
            role: role(row, "role")?,
            since_us: row.get("created_at_us")?,
        })
    };
    connection.query(GRANTS).bind(zone_id).fetch_all().await?.iter().map(grant).collect()
}

/// How many grants there are of a zone, and of how many zones a tenant has one.
///
/// # Errors
/// Of the database.
pub(crate) async fn count_grants(
    connection: &mut Connection,
    zone_id: i64,
    tenant: u32,
) -> sqlx::Result<(i64, i64)> {
    let of_zone = connection.query(COUNT_GRANTS).bind(zone_id).fetch_value().await?;
    let of_tenant = connection.query(COUNT_GRANTED).bind(i64::from(tenant)).fetch_value().await?;
    Ok((of_zone, of_tenant))
}

/// Grants a tenant something of a zone, in place of what it was granted before.
///
/// # Errors
/// Of the database.
pub(crate) async fn put_grant(
    connection: &mut Connection,
    zone_id: i64,
    tenant: u32,
    role: Role,
    now_us: i64,
) -> sqlx::Result<()> {
    let put = connection.query(PUT_GRANT).bind(zone_id).bind(i64::from(tenant));
    put.bind(role.as_str()).bind(now_us).execute().await.map(|_| ())
}

/// Takes a grant back; whether there was one.
///
/// # Errors
/// Of the database.
pub(crate) async fn drop_grant(connection: &mut Connection, zone_id: i64, tenant: u32) -> sqlx::Result<bool> {
    Ok(connection.query(DROP_GRANT).bind(zone_id).bind(i64::from(tenant)).execute().await? > 0)
}
