//! Who acts for a tenant, and as what: whoever is asked to, and says yes. Admins decide about who is no owner, owners about everybody; one of them stays.

use uuid::Uuid;

use super::{Asker, Tenants, hold, no_tenant, room_for_member, room_for_tenant, tell};
use crate::error::{Code, Problem};
use crate::model::role::Role;
use crate::store::invitations;
use crate::store::revocations::Revoked;
use crate::store::tenants::{self, Member, Membership};
use crate::store::{Connection, now_us};

impl Tenants {
    /// Members behind one, by account.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, or of the database.
    pub(crate) async fn members(
        &self,
        asker: &Asker,
        number: u32,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<Member>, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        asker.need(&mut connection, number, Role::Viewer).await?;
        Ok(tenants::members(&mut connection, number, after, limit).await?)
    }

    /// Asks an account to be a member, or makes a member something else than it was. Whom an operator names is one at once.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `USER_NOT_FOUND`, `FORBIDDEN`, `CONFLICT` for the last owner and where there are too many, or of the
    /// database.
    pub(crate) async fn put_member(
        &self,
        asker: Asker,
        number: u32,
        account: Uuid,
        role: Role,
    ) -> Result<Member, Problem> {
        let put = self.write(asker.guard(), move |connection| {
            Box::pin(async move {
                let own = decides(connection, &asker, number).await?;
                let before = tenants::membership(connection, number, account).await?;
                may(own, before.as_ref().map(|before| before.role).max(Some(role)))?;
                known(connection, account).await?;
                match &before {
                    Some(before) if before.role > role => keep_an_owner(connection, number, before).await?,
                    Some(_) => {}
                    None => {
                        room_for_member(connection, number).await?;
                        room_for_tenant(connection, account).await?;
                    }
                }
                let now = now_us();
                if before.as_ref().is_none_or(|before| before.role != role) {
                    tenants::put_member(connection, number, account, role, asker.is_operator, now).await?;
                }
                // Who has not said yes may nothing yet.
                let is_one = before.map_or(asker.is_operator, |before| before.accepted);
                let told = if is_one { vec![Revoked::Account(account)] } else { Vec::new() };
                tell(connection, &told).await?;
                let object = format!("{number} {account} {}", role.as_str());
                asker.note(connection, "tenant.member.put", &object).await?;
                let since_us = is_one.then_some(now);
                Ok((Member { account, called: None, role, asked_us: now, since_us }, told))
            })
        });
        put.await
    }

    /// Who asks becomes what they were asked, or invited, to be.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND` where they were not, `CONFLICT` for who has too many, `FORBIDDEN` where it does not let them in from where they are, or of the database.
    pub(crate) async fn accept(&self, asker: Asker, number: u32) -> Result<(), Problem> {
        let account = asker.account.ok_or_else(|| no_tenant(number))?;
        let accept = self.write(asker.guard(), move |connection| {
            Box::pin(async move {
                if !become_member(connection, number, account).await? {
                    return Err(no_tenant(number));
                }
                // From where it lets in, as all else.
                asker.need(connection, number, Role::Viewer).await?;
                let told = vec![Revoked::Account(account)];
                tell(connection, &told).await?;
                asker.note(connection, "tenant.member.accept", &number.to_string()).await?;
                Ok(((), told))
            })
        });
        accept.await
    }

    /// Ends a membership. Everybody may end their own, and say no to an invitation.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `USER_NOT_FOUND`, `FORBIDDEN`, `CONFLICT` for the last owner, or of the database.
    pub(crate) async fn drop_member(&self, asker: Asker, number: u32, account: Uuid) -> Result<(), Problem> {
        let end = self.write(asker.guard(), move |connection| {
            Box::pin(async move {
                let held = hold(connection, number).await;
                let is_own = asker.account == Some(account);
                let before = tenants::membership(connection, number, account).await?;
                if is_own && before.is_none() && invitations::decline(connection, number, account).await? {
                    asker.note(connection, "tenant.invitation.decline", &number.to_string()).await?;
                    return Ok(((), Vec::new()));
                }
                // Also who has not said yes, and who is in one that is suspended, may say no.
                if !(is_own && before.is_some()) {
                    let own = asker.need(connection, number, Role::Admin).await?;
                    may(own, before.as_ref().map(|before| before.role))?;
                }
                held?;
                let before = before.ok_or_else(no_member)?;
                keep_an_owner(connection, number, &before).await?;
                if !tenants::drop_member(connection, number, account).await? {
                    return Err(no_member());
                }
                let told = vec![Revoked::Account(account)];
                tell(connection, &told).await?;
                asker.note(connection, "tenant.member.delete", &format!("{number} {account}")).await?;
                Ok(((), told))
            })
        });
        end.await
    }
}

/// An account becomes what it was asked, or invited, to be; whether it was.
async fn become_member(connection: &mut Connection, number: u32, account: Uuid) -> Result<bool, Problem> {
    let now = now_us();
    // Who was asked has taken the place of a member already.
    let is_something = tenants::membership(connection, number, account).await?.is_some();
    if !is_something {
        room_for_tenant(connection, account).await?;
    }
    let accepted = tenants::accept(connection, number, account, now).await?;
    // A connection that is guarded has done that, too.
    let invited = if connection.is_guarded() {
        None
    } else {
        invitations::take(connection, number, account, now).await?
    };
    if let Some(role) = invited
        && !is_something
    {
        tenants::put_member(connection, number, account, role, true, now).await?;
    }
    Ok(accepted || invited.is_some())
}

/// The tenant is held; what who asks is in it, who decides about members.
pub(super) async fn decides(
    connection: &mut Connection,
    asker: &Asker,
    number: u32,
) -> Result<Role, Problem> {
    let held = hold(connection, number).await;
    let own = asker.need(connection, number, Role::Admin).await?;
    held?;
    Ok(own)
}

/// Who is no owner makes none, and decides about none.
pub(super) fn may(own: Role, about: Option<Role>) -> Result<(), Problem> {
    if own == Role::Owner || about < Some(Role::Owner) {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, "about owners of a tenant its owners decide"))
}

/// One owner stays: nobody else could make another.
async fn keep_an_owner(connection: &mut Connection, number: u32, before: &Membership) -> Result<(), Problem> {
    if before.role == Role::Owner && before.accepted && tenants::count_owners(connection, number).await? <= 1
    {
        let message = "this is the only owner of the tenant: make another first, or delete the tenant";
        return Err(Problem::new(Code::Conflict, message));
    }
    Ok(())
}

/// Refuses an account that there is not.
pub(super) async fn known(connection: &mut Connection, account: Uuid) -> Result<(), Problem> {
    if tenants::is_account(connection, account).await? { Ok(()) } else { Err(no_member()) }
}

fn no_member() -> Problem {
    Problem::new(Code::UserNotFound, "there is no such user")
}
