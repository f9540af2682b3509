//! Tenants: who owns zones, who acts for them, and what others may in a zone.
//!
//! - `members`: who acts for a tenant, and as what;
//! - `invitations`: who is asked to by an address of mail;
//! - `grants`: what other tenants may in a zone;
//! - `quotas`: how much one may have.
//!
//! What somebody may is known to every control plane within a second after it was changed: it hears of the accounts that it
//! concerns.

mod grants;
mod invitations;
mod members;
mod quotas;

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::auth::access::outside;
use crate::auth::{Access, Authenticator, Caller, Scope};
use crate::commit::Committer;
use crate::commit::aside::Work;
use crate::config::{AccessList, Networks, Quotas};
use crate::error::{Code, Problem};
use crate::model::role::Role;
use crate::store::audit::{Entry, Who};
use crate::store::revocations::{self, Revoked};
use crate::store::tenants::{self, Tenant};
use crate::store::{self, Connection, Views, audit, jobs, now_us};
pub(crate) use invitations::no_invitation;
pub(crate) use quotas::Quota;

/// Tenants of one account.
const MOST_TENANTS: i64 = 50;
/// Members of a tenant.
const MOST_MEMBERS: i64 = 500;
/// Tenants that are granted something of a zone, and zones of which a tenant is.
const MOST_GRANTS: i64 = 500;
/// Networks of each list.
const MOST_NETWORKS: usize = 100;
/// The most characters of a tenant's name.
const MOST_NAME: usize = 100;

/// See the module.
pub(crate) struct Tenants {
    committer: Committer,
    authenticator: Arc<Authenticator>,
    views: Views,
    quotas: Quotas,
}

/// A tenant, and what somebody is in it.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) tenant: Tenant,
    pub(crate) role: Role,
    /// Whether they have said yes.
    pub(crate) accepted: bool,
}

/// What of a tenant to change; what is left out stays.
#[derive(Debug, Default)]
pub(crate) struct Patch<'a> {
    pub(crate) called: Option<&'a str>,
    pub(crate) is_suspended: Option<bool>,
    pub(crate) networks: PatchNetworks,
}

/// Which lists of networks to replace.
#[derive(Debug, Default)]
pub(crate) struct PatchNetworks {
    pub(crate) allow: Option<Networks>,
    pub(crate) deny: Option<Networks>,
}

impl PatchNetworks {
    /// What becomes of the lists that there are.
    fn over(self, before: &AccessList) -> AccessList {
        AccessList {
            allow: self.allow.unwrap_or_else(|| before.allow.clone()),
            deny: self.deny.unwrap_or_else(|| before.deny.clone()),
        }
    }
}

/// Networks of a tenant, as they are written.
///
/// # Errors
/// `INVALID_VALUE`.
pub(crate) fn networks(list: &str, texts: &[String]) -> Result<Networks, Problem> {
    let wrong = |why: String| Problem::new(Code::InvalidValue, format!("\"networks.{list}\": {why}"));
    if texts.len() > MOST_NETWORKS {
        return Err(wrong(format!("expected at most {MOST_NETWORKS} of them")));
    }
    Networks::try_from(texts.to_vec()).map_err(|error| wrong(error.to_string()))
}

/// Who asks for something about tenants.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    /// As the audit knows them.
    who: Who,
    /// Whoever they are, what they may in which tenant.
    access: Access,
    /// The account that they have.
    account: Option<Uuid>,
    /// Whether they came with what manages users and tenants alike.
    is_operator: bool,
}

impl Asker {
    /// Who asks with a scope for reading, or for changing something.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, `FORBIDDEN` for a token that is narrowed.
    pub(crate) fn of(caller: &Caller, scope: Scope, who: Who) -> Result<Asker, Problem> {
        caller.scopes.require(scope)?;
        caller.limits.allow_everything()?;
        // Who is made a member goes on to be one when the token has ended that made them.
        if scope == Scope::DomainsWrite && caller.login.is_none() && !caller.is_of_nobody() {
            let message = "this takes a login: a token of yours does not decide who may do what";
            return Err(Problem::new(Code::Forbidden, message));
        }
        let came_for = caller.by.as_ref().map(crate::auth::By::account);
        Ok(Asker {
            who,
            access: caller.access.clone(),
            account: caller.login.map(|login| login.account).or(came_for),
            is_operator: caller.access.account().is_none() && caller.scopes.has(Scope::UsersAdmin),
        })
    }

    /// Refuses who is less in a tenant, and who would be enough from elsewhere; to who is nothing there, there is none. What they are
    /// is looked up where it is changed.
    pub(crate) async fn need(
        &self,
        connection: &mut Connection,
        number: u32,
        least: Role,
    ) -> Result<Role, Problem> {
        if self.is_operator || self.access.is_unchecked() {
            return Ok(Role::Owner);
        }
        let role = match self.account {
            Some(account) => tenants::membership(connection, number, account).await?,
            None => None,
        };
        let held = role.filter(|held| held.accepted).ok_or_else(|| no_tenant(number))?;
        let role = if held.suspended { Role::Viewer } else { held.role };
        if role >= least {
            let is_let_in = self.is_let_in(&held.networks);
            return if is_let_in { Ok(role) } else { Err(outside(number, self.who.client)) };
        }
        let message =
            format!("you are {} in tenant {number}, and this takes {}", role.as_str(), least.as_str());
        Err(Problem::new(Code::Forbidden, message))
    }

    /// Whether a tenant lets them in from where they are.
    fn is_let_in(&self, networks: &AccessList) -> bool {
        self.is_operator || self.who.client.is_none_or(|client| networks.lets_in(client))
    }

    /// Which tenants are theirs.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// The account that they have.
    pub(crate) fn account(&self) -> Option<Uuid> {
        self.account
    }

    /// The account for which the database is to see no more than that may.
    pub(crate) fn guard(&self) -> Option<Uuid> {
        self.access.account().filter(|_| !self.is_operator)
    }

    /// An operator only.
    pub(crate) fn operates(&self) -> Result<(), Problem> {
        if self.is_operator || self.access.is_unchecked() {
            return Ok(());
        }
        Err(Problem::new(Code::InsufficientScope, "this takes an operator, with the scope users:admin"))
    }

    pub(crate) async fn note(
        &self,
        connection: &mut Connection,
        action: &str,
        object: &str,
    ) -> sqlx::Result<()> {
        audit::note(connection, &self.who, action, object).await
    }
}

impl Tenants {
    pub(crate) fn new(
        committer: Committer,
        authenticator: Arc<Authenticator>,
        views: Views,
        quotas: Quotas,
    ) -> Tenants {
        Tenants { committer, authenticator, views, quotas }
    }

    /// Tenants behind one with what who asks is in each: an operator sees all, others those that they are members of from where they
    /// are.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn list(&self, asker: &Asker, after: u32, limit: i64) -> Result<Vec<Standing>, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        if asker.is_operator {
            let all = tenants::list(&mut connection, after, limit).await?;
            let stands = |tenant| Standing { tenant, role: Role::Owner, accepted: true };
            return Ok(all.into_iter().map(stands).collect());
        }
        let Some(account) = asker.account else { return Ok(Vec::new()) };
        let mut own = tenants::of_account(&mut connection, account).await?;
        own.retain(|(tenant, _)| asker.is_let_in(&tenant.networks));
        let mut asked = tenants::asked(&mut connection, account).await?;
        asked.extend(store::invitations::to(&mut connection, account, now_us()).await?);
        let stands = |accepted| move |(tenant, role)| Standing { tenant, role, accepted };
        let mut own: Vec<Standing> =
            own.into_iter().map(stands(true)).chain(asked.into_iter().map(stands(false))).collect();
        own.retain(|standing| standing.tenant.number > after);
        own.sort_unstable_by_key(|standing| standing.tenant.number);
        own.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(own)
    }

    /// One of them, and what who asks is in it.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, or of the database.
    pub(crate) async fn look_up(&self, asker: &Asker, number: u32) -> Result<Standing, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        let role = asker.need(&mut connection, number, Role::Viewer).await?;
        let tenant = tenants::by_number(&mut connection, number).await?;
        Ok(Standing { tenant: tenant.ok_or_else(|| no_tenant(number))?, role, accepted: true })
    }

    /// Makes one. Whoever makes it owns it, but for an operator, who makes it for others.
    ///
    /// # Errors
    /// `INVALID_VALUE`, `CONFLICT` for who has too many, or of the database.
    pub(crate) async fn create(
        &self,
        asker: Asker,
        called: &str,
        owner: Option<Uuid>,
    ) -> Result<Standing, Problem> {
        if owner.is_some() {
            asker.operates()?;
        }
        let owner = if asker.is_operator { owner } else { asker.account };
        if owner.is_none() {
            asker.operates()?;
        }
        let called = name(called)?;
        // What is new is nobody's yet: the database would let nobody make it.
        let create = self.write(None, move |connection| {
            Box::pin(async move {
                if let Some(owner) = owner {
                    members::known(connection, owner).await?;
                    room_for_tenant(connection, owner).await?;
                }
                let now = now_us();
                let number = tenants::insert(connection, &called, now).await?;
                if let Some(owner) = owner {
                    tenants::put_member(connection, number, owner, Role::Owner, true, now).await?;
                    revocations::tell(connection, &Revoked::Account(owner)).await?;
                }
                asker.note(connection, "tenant.create", &number.to_string()).await?;
                let tenant = tenants::by_number(connection, number).await?;
                let tenant = tenant.ok_or_else(|| no_tenant(number))?;
                let standing = Standing { tenant, role: Role::Owner, accepted: true };
                Ok((standing, owner.map(Revoked::Account).into_iter().collect()))
            })
        });
        create.await
    }

    /// Changes one: what it is called, and from where who acts for it is let in, by its admins; whether it is suspended, by an operator.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `FORBIDDEN`, `INSUFFICIENT_SCOPE`, `INVALID_VALUE`, `CONFLICT` for who would shut themselves out, or of the
    /// database.
    pub(crate) async fn patch(
        &self,
        asker: Asker,
        number: u32,
        Patch { called, is_suspended, networks }: Patch<'_>,
    ) -> Result<Standing, Problem> {
        let called = called.map(name).transpose()?;
        let patch = self.write(asker.guard(), move |connection| {
            Box::pin(async move {
                let before = hold(connection, number).await;
                let role = asker.need(connection, number, Role::Admin).await?;
                let before = before?;
                let mut told = Vec::new();
                if let Some(called) = called {
                    tenants::rename(connection, number, &called).await?;
                    asker.note(connection, "tenant.rename", &number.to_string()).await?;
                }
                let networks = networks.over(&before.networks);
                if networks != before.networks {
                    // Who is shut out could not take it back.
                    if !asker.is_let_in(&networks) {
                        return Err(would_be_outside(asker.who.client));
                    }
                    tenants::let_in(connection, number, &networks).await?;
                    let object = number.to_string();
                    let entry = Entry::done(&asker.who, "tenant.networks", &object);
                    let entry = entry.from_to(networks_json(&before.networks), networks_json(&networks));
                    audit::write(connection, &entry).await?;
                    told = tenants::granted_by(connection, number).await?;
                    told.push(number);
                }
                if let Some(is_suspended) = is_suspended {
                    asker.operates()?;
                    if is_suspended != before.suspended_at_us.is_some() {
                        let since = is_suspended.then(now_us);
                        tenants::suspend(connection, number, since).await?;
                        if !is_suspended {
                            jobs::hurry_of_tenant(connection, number).await?;
                        }
                        let action = if is_suspended { "tenant.suspend" } else { "tenant.resume" };
                        asker.note(connection, action, &number.to_string()).await?;
                        told = tenants::granted_by(connection, number).await?;
                        told.push(number);
                    }
                }
                let told: Vec<Revoked> = told.into_iter().map(Revoked::Tenant).collect();
                tell(connection, &told).await?;
                let tenant = hold(connection, number).await?;
                Ok((Standing { tenant, role, accepted: true }, told))
            })
        });
        patch.await
    }

    /// Deletes one that has no zones.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `FORBIDDEN`, `CONFLICT` where it has zones, or of the database.
    pub(crate) async fn delete(&self, asker: Asker, number: u32) -> Result<(), Problem> {
        let delete = self.write(asker.guard(), move |connection| {
            Box::pin(async move {
                let held = hold(connection, number).await;
                asker.need(connection, number, Role::Owner).await?;
                held?;
                if tenants::has_zones(connection, number).await? {
                    let message = format!("tenant {number} has zones: delete them, or give them away, first");
                    return Err(Problem::new(Code::Conflict, message));
                }
                let told = vec![Revoked::Tenant(number)];
                tell(connection, &told).await?;
                if !tenants::delete(connection, number).await? {
                    return Err(no_tenant(number));
                }
                asker.note(connection, "tenant.delete", &number.to_string()).await?;
                Ok(((), told))
            })
        });
        delete.await
    }

    /// Has something written, by a connection that sees no more than an account may where one is given; the work gives whom it
    /// concerns, too, of which this control plane hears at once.
    async fn write<T: Send + 'static>(
        &self,
        guard: Option<Uuid>,
        work: impl for<'c> FnOnce(&'c mut Connection) -> Work<'c, (T, Vec<Revoked>)> + Send + 'static,
    ) -> Result<T, Problem> {
        let (given, concerned) = self.committer.write_for(guard, work).await?;
        for revoked in concerned {
            self.authenticator.heard(&revoked, 0);
        }
        Ok(given)
    }
}

/// What somebody who is nothing in a tenant is told.
fn no_tenant(number: u32) -> Problem {
    Problem::new(Code::TenantNotFound, format!("you have no tenant {number}"))
}

fn would_be_outside(client: Option<IpAddr>) -> Problem {
    let client = client.map(|client| client.to_string()).unwrap_or_default();
    let message =
        format!("\"networks\": your own address {client} would be shut out: let it in, or ask an operator");
    Problem::new(Code::Conflict, message)
}

/// As the audit log has it.
fn networks_json(networks: &AccessList) -> Json {
    json!({ "allow": networks.allow, "deny": networks.deny })
}

/// A tenant that nobody else changes until the transaction ends.
async fn hold(connection: &mut Connection, number: u32) -> Result<Tenant, Problem> {
    tenants::hold(connection, number).await?.ok_or_else(|| no_tenant(number))
}

/// Every control plane hears that these may other things now.
async fn tell(connection: &mut Connection, concerned: &[Revoked]) -> sqlx::Result<()> {
    for revoked in concerned {
        revocations::tell(connection, revoked).await?;
    }
    Ok(())
}

/// Makes a tenant of somebody's own, as who has just got an account gets one.
///
/// # Errors
/// Of the database.
pub(crate) async fn of_newcomer(
    connection: &mut Connection,
    account: Uuid,
    called: &str,
    now_us: i64,
) -> sqlx::Result<u32> {
    let number = tenants::insert(connection, called, now_us).await?;
    tenants::put_member(connection, number, account, Role::Owner, true, now_us).await?;
    Ok(number)
}

/// Refuses to let somebody go who alone owns a tenant that has zones; of the others nothing is left.
///
/// # Errors
/// `CONFLICT`, or of the database.
pub(crate) async fn leave_all(connection: &mut Connection, account: Uuid) -> Result<(), Problem> {
    for (tenant, role) in tenants::of_account(connection, account).await? {
        let number = tenant.number;
        hold(connection, number).await?;
        if role < Role::Owner || tenants::count_owners(connection, number).await? > 1 {
            continue;
        }
        let members = tenants::count_members(connection, number).await?;
        if members > 1 || tenants::has_zones(connection, number).await? {
            let message = format!(
                "the account is the only owner of tenant {number}, which has zones or other members: make one of them an \
                 owner, or delete it, first"
            );
            return Err(Problem::new(Code::Conflict, message));
        }
        tell(connection, &[Revoked::Tenant(number)]).await?;
        let _ = tenants::delete(connection, number).await?;
    }
    Ok(())
}

async fn room_for_tenant(connection: &mut Connection, account: Uuid) -> Result<(), Problem> {
    if tenants::count_of_account(connection, account).await? < MOST_TENANTS {
        return Ok(());
    }
    let message = format!("an account is a member of at most {MOST_TENANTS} tenants");
    Err(Problem::new(Code::Conflict, message))
}

/// For one more, whoever is invited counted as well.
async fn room_for_member(connection: &mut Connection, tenant: u32) -> Result<(), Problem> {
    let members = tenants::count_members(connection, tenant).await?;
    if members + store::invitations::count(connection, tenant).await? < MOST_MEMBERS {
        return Ok(());
    }
    let message = format!("a tenant has at most {MOST_MEMBERS} members, invited ones included");
    Err(Problem::new(Code::Conflict, message))
}

/// What somebody wants a tenant to be called.
fn name(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    let is_good = (1..=MOST_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if is_good {
        return Ok(text.to_owned());
    }
    let message = format!("\"name\": expected 1 to {MOST_NAME} characters, and no control characters");
    Err(Problem::new(Code::InvalidValue, message))
}
