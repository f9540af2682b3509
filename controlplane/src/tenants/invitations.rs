//! Who is invited to act for a tenant, by an address of mail. Whoever has the account of that address, now or later, becomes what they
//! are invited to be by saying yes; whether there is such an account nobody learns by inviting.

use uuid::Uuid;

use super::members::{decides, may};
use super::{Asker, Tenants, room_for_member};
use crate::error::{Code, Problem};
use crate::model::role::Role;
use crate::store::audit::{self, Entry};
use crate::store::invitations::{self, Invitation};
use crate::store::now_us;

/// How long one is open.
const OPEN_US: i64 = 7 * 86_400 * 1_000_000;

impl Tenants {
    /// Refuses who does not decide about members.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `FORBIDDEN`, or of the database.
    pub(crate) async fn decides(&self, asker: &Asker, number: u32) -> Result<(), Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        asker.need(&mut connection, number, Role::Admin).await.map(drop)
    }

    /// Invites an address to be a member; in place of what it was invited to be before.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `FORBIDDEN`, `CONFLICT` where there are too many, or of the database.
    pub(crate) async fn invite(
        &self,
        asker: Asker,
        number: u32,
        email: String,
        role: Role,
    ) -> Result<Invitation, Problem> {
        let invite = self.write(asker.guard(), move |connection| {
            Box::pin(async move {
                let own = decides(connection, &asker, number).await?;
                let before = invitations::role_of(connection, number, &email).await?;
                may(own, before.max(Some(role)))?;
                if before.is_none() {
                    room_for_member(connection, number).await?;
                }
                let now = now_us();
                let mut made = Invitation {
                    id: Uuid::now_v7(),
                    tenant: number,
                    email,
                    role,
                    // What an operator says does not end with what they are in a tenant.
                    invited_by: asker.account.filter(|_| !asker.is_operator),
                    created_at_us: now,
                    expires_at_us: now.saturating_add(OPEN_US),
                };
                made.id = invitations::put(connection, &made).await?;
                let object = format!("{number} {}", made.id);
                let entry = Entry::done(&asker.who, "tenant.invite", &object);
                let told = serde_json::json!({ "email": made.email, "role": role.as_str() });
                audit::write(connection, &entry.from_to(serde_json::Value::Null, told)).await?;
                Ok((made, Vec::new()))
            })
        });
        invite.await
    }

    /// Those of a tenant that are open, behind one, by id; to who decides about members.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `FORBIDDEN`, or of the database.
    pub(crate) async fn invitations(
        &self,
        asker: &Asker,
        number: u32,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<Invitation>, Problem> {
        let mut connection = self.views.acquire(asker.guard()).await?;
        asker.need(&mut connection, number, Role::Admin).await?;
        Ok(invitations::list(&mut connection, number, after, now_us(), limit).await?)
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVITATION_NOT_FOUND`, `FORBIDDEN`, or of the database.
    pub(crate) async fn withdraw(&self, asker: Asker, number: u32, id: Uuid) -> Result<(), Problem> {
        let withdraw = self.write(asker.guard(), move |connection| {
            Box::pin(async move {
                let own = decides(connection, &asker, number).await?;
                let found = invitations::by_id(connection, id).await?;
                let found = found.filter(|found| found.tenant == number).ok_or_else(no_invitation)?;
                may(own, Some(found.role))?;
                invitations::delete(connection, id).await?;
                asker.note(connection, "tenant.invitation.delete", &format!("{number} {id}")).await?;
                Ok(((), Vec::new()))
            })
        });
        withdraw.await
    }
}

pub(crate) fn no_invitation() -> Problem {
    Problem::new(Code::InvitationNotFound, "there is no such invitation")
}
