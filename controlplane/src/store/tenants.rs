//! `tenants`, `memberships` and `grants`: who owns zones, who acts for them, and what others may in a zone.

use godwit_wire::name::Name;
use uuid::Uuid;

use super::{Connection, Kind, Row, damaged};
use crate::config::{AccessList, Networks};
use crate::model::name_key;
use crate::model::role::Role;

const INSERT: &str = "INSERT INTO tenants (name, created_at_us) VALUES ($1, $2) RETURNING number";
const BY_NUMBER: &str = "SELECT number, name, suspended_at_us, created_at_us, allowed_networks, denied_networks FROM tenants WHERE number = $1";
/// Nobody else changes it, its members or its grants until the transaction ends.
const BY_NUMBER_LOCKED: &str = "SELECT number, name, suspended_at_us, created_at_us, allowed_networks, denied_networks FROM tenants WHERE number = $1 FOR UPDATE";
const LIST: &str = "SELECT number, name, suspended_at_us, created_at_us, allowed_networks, denied_networks FROM tenants WHERE number > $1 ORDER BY number LIMIT $2";
const OF_ACCOUNT: &str = "SELECT t.number, t.name, t.suspended_at_us, t.created_at_us, t.allowed_networks, t.denied_networks, m.role FROM memberships m JOIN tenants t ON t.number = m.tenant WHERE m.account_id = $1 AND m.accepted_at_us IS NOT NULL ORDER BY m.tenant";
const ASKED: &str = "SELECT t.number, t.name, t.suspended_at_us, t.created_at_us, t.allowed_networks, t.denied_networks, m.role FROM memberships m JOIN tenants t ON t.number = m.tenant WHERE m.account_id = $1 AND m.accepted_at_us IS NULL ORDER BY m.tenant";
const RENAME: &str = "UPDATE tenants SET name = $2 WHERE number = $1";
const SUSPEND: &str = "UPDATE tenants SET suspended_at_us = $2 WHERE number = $1";
const LET_IN: &str = "UPDATE tenants SET allowed_networks = $2, denied_networks = $3 WHERE number = $1";
const DELETE: &str = "DELETE FROM tenants WHERE number = $1";
const HAS_ZONES: &str = "SELECT count(*) FROM (SELECT 1 FROM zones WHERE owner_number = $1 LIMIT 1) AS found";

/// Of who has not said yes no more than the id that they were asked by.
const MEMBERS: &str = "SELECT m.account_id, a.email, a.name, m.role, m.created_at_us, m.accepted_at_us FROM memberships m LEFT JOIN accounts a ON a.id = m.account_id AND m.accepted_at_us IS NOT NULL WHERE m.tenant = $1 AND m.account_id > $2 ORDER BY m.account_id LIMIT $3";
const ROLE: &str = "SELECT m.role, m.accepted_at_us, t.suspended_at_us, t.allowed_networks, t.denied_networks FROM memberships m JOIN tenants t ON t.number = m.tenant WHERE m.tenant = $1 AND m.account_id = $2";
const COUNT_MEMBERS: &str = "SELECT count(*) FROM memberships WHERE tenant = $1";
const COUNT_TENANTS: &str = "SELECT count(*) FROM memberships WHERE account_id = $1";
const COUNT_OWNERS: &str =
    "SELECT count(*) FROM memberships WHERE tenant = $1 AND role = 'owner' AND accepted_at_us IS NOT NULL";
const OWNERS: &str = "SELECT account_id FROM memberships WHERE tenant = $1 AND role = 'owner' AND accepted_at_us IS NOT NULL ORDER BY account_id";
const PUT_MEMBER: &str = "INSERT INTO memberships (tenant, account_id, role, created_at_us, accepted_at_us) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant, account_id) DO UPDATE SET role = excluded.role";
const ACCEPT: &str = "UPDATE memberships SET accepted_at_us = $3 WHERE tenant = $1 AND account_id = $2 AND accepted_at_us IS NULL";
/// The same of whoever asks, as the database knows them.
const ACCEPT_POSTGRES: &str = "SELECT godwit_accept($1, $2)";
const DROP_MEMBER: &str = "DELETE FROM memberships WHERE tenant = $1 AND account_id = $2";
/// Those that are granted something of its zones.
const GRANTED_BY: &str =
    "SELECT DISTINCT g.tenant FROM zones z JOIN grants g ON g.zone_id = z.id WHERE z.owner_number = $1";
const IS_ACCOUNT: &str = "SELECT EXISTS (SELECT 1 FROM accounts WHERE id = $1)";
const IS_TENANT: &str = "SELECT EXISTS (SELECT 1 FROM tenants WHERE number = $1)";
/// The same, whoever asks.
const IS_ACCOUNT_POSTGRES: &str = "SELECT godwit_is_account($1)";
const IS_TENANT_POSTGRES: &str = "SELECT godwit_is_tenant($1)";
const COUNT_TENANTS_POSTGRES: &str = "SELECT godwit_count_tenants($1)";
const COUNT_GRANTED_POSTGRES: &str = "SELECT godwit_count_granted($1)";

/// What an account is granted, with whether either side is suspended, and from where the owner lets in.
const GRANTED: &str = "SELECT g.zone_id, g.tenant, z.name_key, z.owner_number, g.role, m.role AS own, t.suspended_at_us AS here, o.suspended_at_us AS there, coalesce(o.allowed_networks, '') AS allowed_networks, coalesce(o.denied_networks, '') AS denied_networks FROM memberships m JOIN tenants t ON t.number = m.tenant JOIN grants g ON g.tenant = m.tenant JOIN zones z ON z.id = g.zone_id LEFT JOIN tenants o ON o.number = z.owner_number WHERE m.account_id = $1 AND m.accepted_at_us IS NOT NULL";
const GRANTS: &str = "SELECT tenant, role, created_at_us FROM grants WHERE zone_id = $1 ORDER BY tenant";
const GRANT: &str = "SELECT tenant, role, created_at_us FROM grants WHERE zone_id = $1 AND tenant = $2";
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
    LET_IN,
    DELETE,
    HAS_ZONES,
    MEMBERS,
    ROLE,
    COUNT_MEMBERS,
    COUNT_TENANTS,
    COUNT_OWNERS,
    OWNERS,
    PUT_MEMBER,
    DROP_MEMBER,
    GRANTED_BY,
    ASKED,
    ACCEPT,
    GRANT,
    IS_ACCOUNT,
    IS_TENANT,
    GRANTED,
    GRANTS,
    COUNT_GRANTS,
    COUNT_GRANTED,
    PUT_GRANT,
    DROP_GRANT,
];

/// Statements of this file that PostgreSQL alone gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[
    BY_NUMBER_LOCKED,
    ACCEPT_POSTGRES,
    IS_ACCOUNT_POSTGRES,
    IS_TENANT_POSTGRES,
    COUNT_TENANTS_POSTGRES,
    COUNT_GRANTED_POSTGRES,
];

/// A tenant as stored.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    /// The owner number of its zones.
    pub(crate) number: u32,
    pub(crate) name: String,
    /// Since when its members change nothing.
    pub(crate) suspended_at_us: Option<i64>,
    /// From where who acts for it is let in.
    pub(crate) networks: AccessList,
    pub(crate) created_at_us: i64,
}

/// A member as listed.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) account: Uuid,
    /// Address and name of who has said yes.
    pub(crate) called: Option<(String, String)>,
    pub(crate) role: Role,
    /// Since when they are asked, and since when they are one.
    pub(crate) asked_us: i64,
    pub(crate) since_us: Option<i64>,
}

/// What somebody is in a tenant.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    /// What it says.
    pub(crate) role: Role,
    /// Whether they have said yes.
    pub(crate) accepted: bool,
    /// Whether the tenant is suspended: its members only look.
    pub(crate) suspended: bool,
    /// From where the tenant lets in.
    pub(crate) networks: AccessList,
}

/// What another tenant may in a zone.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) tenant: u32,
    pub(crate) role: Role,
    pub(crate) since_us: i64,
}

fn number(row: &Row, column: &'static str) -> sqlx::Result<u32> {
    u32::try_from(row.get::<i64, _>(column)?).map_err(|_| damaged("tenants", column))
}

fn role(row: &Row, column: &'static str) -> sqlx::Result<Role> {
    Role::parse(row.get(column)?).ok_or_else(|| damaged("memberships", column))
}

fn networks(row: &Row) -> sqlx::Result<AccessList> {
    let list = |column: &'static str| {
        let text: String = row.get(column)?;
        let texts: Vec<String> = text.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect();
        Networks::try_from(texts).map_err(|_| damaged("tenants", column))
    };
    Ok(AccessList { allow: list("allowed_networks")?, deny: list("denied_networks")? })
}

pub(super) fn tenant(row: &Row) -> sqlx::Result<Tenant> {
    Ok(Tenant {
        number: number(row, "number")?,
        name: row.get("name")?,
        suspended_at_us: row.get("suspended_at_us")?,
        networks: networks(row)?,
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

/// From where who acts for it is let in.
///
/// # Errors
/// Of the database.
pub(crate) async fn let_in(
    connection: &mut Connection,
    number: u32,
    networks: &AccessList,
) -> sqlx::Result<()> {
    let text = |networks: &Networks| Vec::<String>::from(networks.clone()).join(",");
    let query = connection.query(LET_IN).bind(i64::from(number));
    query.bind(text(&networks.allow)).bind(text(&networks.deny)).execute().await.map(|_| ())
}

/// Deletes it with its memberships and what it is granted; whether there was one to delete.
///
/// # Errors
/// Of the database.
pub(crate) async fn delete(connection: &mut Connection, number: u32) -> sqlx::Result<bool> {
    Ok(connection.query(DELETE).bind(i64::from(number)).execute().await? > 0)
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
        let email: Option<String> = row.get("email")?;
        Ok(Member {
            account: row.get("account_id")?,
            called: email.zip(row.get("name")?),
            role: role(row, "role")?,
            asked_us: row.get("created_at_us")?,
            since_us: row.get("accepted_at_us")?,
        })
    };
    let members = connection.query(MEMBERS).bind(i64::from(number)).bind(after).bind(limit);
    members.fetch_all().await?.iter().map(member).collect()
}

/// The accounts that own a tenant.
///
/// # Errors
/// Of the database.
pub(crate) async fn owners(connection: &mut Connection, number: u32) -> sqlx::Result<Vec<Uuid>> {
    let rows = connection.query(OWNERS).bind(i64::from(number)).fetch_all().await?;
    rows.iter().map(|row| row.get("account_id")).collect()
}

/// What an account is in a tenant.
///
/// # Errors
/// Of the database.
pub(crate) async fn membership(
    connection: &mut Connection,
    number: u32,
    account: Uuid,
) -> sqlx::Result<Option<Membership>> {
    let row = connection.query(ROLE).bind(i64::from(number)).bind(account).fetch_optional().await?;
    let membership = |row: &Row| {
        Ok(Membership {
            role: role(row, "role")?,
            accepted: row.get::<Option<i64>, _>("accepted_at_us")?.is_some(),
            suspended: row.get::<Option<i64>, _>("suspended_at_us")?.is_some(),
            networks: networks(row)?,
        })
    };
    row.as_ref().map(membership).transpose()
}

/// Those that an account was asked to be a member of, and as what.
///
/// # Errors
/// Of the database.
pub(crate) async fn asked(connection: &mut Connection, account: Uuid) -> sqlx::Result<Vec<(Tenant, Role)>> {
    let rows = connection.query(ASKED).bind(account).fetch_all().await?;
    rows.iter().map(|row| Ok((tenant(row)?, role(row, "role")?))).collect()
}

/// An account becomes what it was asked to be; whether it was asked. By a connection that acts for it, where it is guarded.
///
/// # Errors
/// Of the database.
pub(crate) async fn accept(
    connection: &mut Connection,
    number: u32,
    account: Uuid,
    now_us: i64,
) -> sqlx::Result<bool> {
    if connection.is_guarded() {
        let accept = connection.query(ACCEPT_POSTGRES).bind(i64::from(number)).bind(now_us);
        return Ok(accept.fetch_value::<i64>().await? > 0);
    }
    let accept = connection.query(ACCEPT).bind(i64::from(number)).bind(account).bind(now_us);
    Ok(accept.execute().await? > 0)
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
    let statement = match connection.kind() {
        Kind::Sqlite => COUNT_TENANTS,
        Kind::Postgres => COUNT_TENANTS_POSTGRES,
    };
    connection.query(statement).bind(account).fetch_value().await
}

/// How many owners a tenant has.
///
/// # Errors
/// Of the database.
pub(crate) async fn count_owners(connection: &mut Connection, number: u32) -> sqlx::Result<i64> {
    connection.query(COUNT_OWNERS).bind(i64::from(number)).fetch_value().await
}

/// Asks an account to be a member, or makes one something else than it was; `accepted`: it is one without being asked.
///
/// # Errors
/// Of the database, also when there is no such account.
pub(crate) async fn put_member(
    connection: &mut Connection,
    number: u32,
    account: Uuid,
    role: Role,
    accepted: bool,
    now_us: i64,
) -> sqlx::Result<()> {
    let put = connection.query(PUT_MEMBER).bind(i64::from(number)).bind(account);
    let put = put.bind(role.as_str()).bind(now_us).bind(accepted.then_some(now_us));
    put.execute().await.map(|_| ())
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

/// Whether there is an account that somebody names, whether they see it or not.
///
/// # Errors
/// Of the database.
pub(crate) async fn is_account(connection: &mut Connection, account: Uuid) -> sqlx::Result<bool> {
    let statement = match connection.kind() {
        Kind::Sqlite => IS_ACCOUNT,
        Kind::Postgres => IS_ACCOUNT_POSTGRES,
    };
    connection.query(statement).bind(account).fetch_value().await
}

/// Whether there is a tenant that somebody names, whether they see it or not.
///
/// # Errors
/// Of the database.
pub(crate) async fn is_tenant(connection: &mut Connection, number: u32) -> sqlx::Result<bool> {
    let statement = match connection.kind() {
        Kind::Sqlite => IS_TENANT,
        Kind::Postgres => IS_TENANT_POSTGRES,
    };
    connection.query(statement).bind(i64::from(number)).fetch_value().await
}

/// The tenants that are granted something of its zones.
///
/// # Errors
/// Of the database.
pub(crate) async fn granted_by(connection: &mut Connection, number: u32) -> sqlx::Result<Vec<u32>> {
    let rows = connection.query(GRANTED_BY).bind(i64::from(number)).fetch_all().await?;
    rows.iter().map(|row| self::number(row, "tenant")).collect()
}

/// Something of a zone that an account is granted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Granted {
    /// The zone's row.
    pub(crate) zone_id: i64,
    pub(crate) apex: Name,
    pub(crate) owner: u32,
    /// From where its owner lets in.
    pub(crate) networks: AccessList,
    /// The tenant that it is granted to.
    pub(crate) tenant: u32,
    /// What it may there, all in all.
    pub(crate) role: Role,
}

/// The zones of which an account is granted something.
///
/// # Errors
/// Of the database.
pub(crate) async fn granted(connection: &mut Connection, account: Uuid) -> sqlx::Result<Vec<Granted>> {
    let granted = |row: &Row| {
        let is_suspended =
            row.get::<Option<i64>, _>("here")?.is_some() || row.get::<Option<i64>, _>("there")?.is_some();
        let most = role(row, "role")?.min(role(row, "own")?);
        Ok(Granted {
            zone_id: row.get("zone_id")?,
            apex: name_key::decode(row.get("name_key")?).ok_or_else(|| damaged("zones", "name_key"))?,
            owner: number(row, "owner_number")?,
            networks: networks(row)?,
            tenant: number(row, "tenant")?,
            role: if is_suspended { Role::Viewer } else { most },
        })
    };
    connection.query(GRANTED).bind(account).fetch_all().await?.iter().map(granted).collect()
}

fn grant(row: &Row) -> sqlx::Result<Grant> {
    Ok(Grant {
        tenant: number(row, "tenant")?,
        role: role(row, "role")?,
        since_us: row.get("created_at_us")?,
    })
}

/// What other tenants may in a zone.
///
/// # Errors
/// Of the database.
pub(crate) async fn grants(connection: &mut Connection, zone_id: i64) -> sqlx::Result<Vec<Grant>> {
    connection.query(GRANTS).bind(zone_id).fetch_all().await?.iter().map(grant).collect()
}

/// What one of them may.
///
/// # Errors
/// Of the database.
pub(crate) async fn grant_of(
    connection: &mut Connection,
    zone_id: i64,
    tenant: u32,
) -> sqlx::Result<Option<Grant>> {
    let found = connection.query(GRANT).bind(zone_id).bind(i64::from(tenant)).fetch_optional().await?;
    found.as_ref().map(grant).transpose()
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
    let statement = match connection.kind() {
        Kind::Sqlite => COUNT_GRANTED,
        Kind::Postgres => COUNT_GRANTED_POSTGRES,
    };
    let of_tenant = connection.query(statement).bind(i64::from(tenant)).fetch_value().await?;
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
