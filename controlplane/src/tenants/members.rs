//! Who acts for a tenant, and as what. Admins decide about who is no owner, owners about everybody; one of them stays.

use uuid::Uuid;

use super::{Asker, MOST_MEMBERS, Tenants, hold, room_for_tenant, tell};
use crate::error::{Code, Problem};
use crate::model::role::Role;
use crate::store::revocations::Revoked;
use crate::store::tenants::{self, Member};
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

    /// Makes an account a member, or something else than it was.
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
                let before = tenants::role_of(connection, number, account).await?;
                may(own, before.max(Some(role)))?;
                let (email, name) = named(connection, account).await?;
                match before {
                    Some(before) if before > role => keep_an_owner(connection, number, before).await?,
                    Some(_) => {}
                    None => {
                        if tenants::count_members(connection, number).await? >= MOST_MEMBERS {
                            let message = format!("a tenant has at most {MOST_MEMBERS} members");
                            return Err(Problem::new(Code::Conflict, message));
                        }
                        room_for_tenant(connection, account).await?;
                    }
                }
                let now = now_us();
                tenants::put_member(connection, number, account, role, now).await?;
                let told = vec![Revoked::Account(account)];
                tell(connection, &told).await?;
                asker
                    .note(connection, "tenant.member.put", &format!("{number} {account} {}", role.as_str()))
                    .await?;
                Ok((Member { account, email, name, role, since_us: now }, told))
            })
        });
        put.await
    }

    /// Ends a membership. Everybody may end their own.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `USER_NOT_FOUND`, `FORBIDDEN`, `CONFLICT` for the last owner, or of the database.
    pub(crate) async fn drop_member(&self, asker: Asker, number: u32, account: Uuid) -> Result<(), Problem> {
        let end = self.write(asker.guard(), move |connection| {
            Box::pin(async move {
                let held = hold(connection, number).await;
                let is_own = asker.account == Some(account);
                let least = if is_own { Role::Viewer } else { Role::Admin };
                let own = asker.need(connection, number, least).await?;
                held?;
                let before = tenants::role_of(connection, number, account).await?;
                let before = before.ok_or_else(no_member)?;
                if !is_own {
                    may(own, Some(before))?;
                }
                keep_an_owner(connection, number, before).await?;
                tenants::drop_member(connection, number, account).await?;
                let told = vec![Revoked::Account(account)];
                tell(connection, &told).await?;
                asker.note(connection, "tenant.member.delete", &format!("{number} {account}")).await?;
                Ok(((), told))
            })
        });
        end.await
    }
}

/// The tenant is held; what who asks is in it, who decides about members.
async fn decides(connection: &mut Connection, asker: &Asker, number: u32) -> Result<Role, Problem> {
    let held = hold(connection, number).await;
    let own = asker.need(connection, number, Role::Admin).await?;
    held?;
    Ok(own)
}

/// Who is no owner makes none, and decides about none.
fn may(own: Role, about: Option<Role>) -> Result<(), Problem> {
    if own == Role::Owner || about < Some(Role::Owner) {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, "about owners of a tenant its owners decide"))
}

/// One owner stays: nobody else could make another.
async fn keep_an_owner(connection: &mut Connection, number: u32, before: Role) -> Result<(), Problem> {
    if before == Role::Owner && tenants::count_owners(connection, number).await? <= 1 {
        let message = "this is the only owner of the tenant: make another first, or delete the tenant";
        return Err(Problem::new(Code::Conflict, message));
    }
    Ok(())
}

/// Address and name of an account.
pub(super) async fn named(connection: &mut Connection, account: Uuid) -> Result<(String, String), Problem> {
    tenants::account_named(connection, account).await?.ok_or_else(no_member)
}

fn no_member() -> Problem {
    Problem::new(Code::UserNotFound, "there is no such user")
}
