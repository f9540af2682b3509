//! What goes out by mail. A job sends it, and makes the secret of the link only then: a job that waits, and a copy of the
//! database, hold none.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{US_PER_S, link_secret};
use crate::commit::Committer;
use crate::error::Problem;
use crate::jobs::{Claimed, Kind, Lease, Work};
use crate::mail::{Mailer, Message};
use crate::model::role::Role;
use crate::store::accounts::email_key;
use crate::store::batch::Batch;
use crate::store::jobs::New;
use crate::store::registrations::{self, Link, Purpose};
use crate::store::{Connection, accounts, invitations, jobs, keys, now_us, tenants, tokens};

/// The kind of the job.
pub(crate) const KIND: &str = "mail";

/// What is said, and to whom.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "mail", rename_all = "snake_case")]
pub(crate) enum Mail {
    /// A registration waits for its address to be proven.
    Verify { registration: Uuid },
    /// Somebody wants to choose another password for the account of an address, if there is one.
    Reset { email: String },
    /// An account shall have another address: to the present one.
    EmailAsked { account: Uuid },
    /// The same: to the other one.
    NewEmail { account: Uuid, email: String },
    /// It has another address now: to the one of before.
    EmailChanged { account: Uuid, before: String },
    /// It has another password now.
    PasswordChanged { account: Uuid },
    /// Something was added that lets in without the password.
    Added { account: Uuid, what: String },
    /// Codes are asked for from now on.
    SecondBegun { account: Uuid },
    /// A refresh token came twice, and its session was ended.
    SessionReused { account: Uuid },
    /// No codes are asked for any more.
    SecondEnded { account: Uuid },
    /// It was deleted.
    Deleted { email: String },
    /// They are invited to a tenant.
    Invited { invitation: Uuid },
    /// The proof of a name is gone, and a tenant's zones of it are frozen; to who owns the tenant.
    ZonesFrozen { tenant: u32, account: Uuid, name: String, zones: usize, days: Option<u32> },
    /// They were for too long, and some are gone; to the same.
    ZonesReleased { tenant: u32, account: Uuid, names: Vec<String>, zones: usize },
    /// A webhook of a tenant was turned off; to the same.
    WebhookOff { tenant: u32, account: Uuid, webhook: Uuid, host: String, why: String },
}

/// Does jobs of the kind.
pub(crate) struct Letters {
    pub(crate) committer: Committer,
    /// `None` where no mail is sent.
    pub(crate) mailer: Option<Arc<Mailer>>,
    /// How the API is reached, without a slash at the end.
    pub(crate) public_url: Arc<str>,
    /// How long a link is good.
    pub(crate) link_us: i64,
}

impl Kind for Letters {
    fn name(&self) -> &'static str {
        KIND
    }

    fn run<'a>(&'a self, job: &'a Claimed, lease: &'a Lease) -> Work<'a> {
        Box::pin(async move {
            let Some(mailer) = &self.mailer else {
                // What is told by mail has happened all the same.
                tracing::info!(job = %job.id, "a mail is not sent: mail.transport is off");
                return Ok(());
            };
            let Some(message) = self.message(job.payload()?).await? else { return Ok(()) };
            lease.hold().await?;
            Ok(mailer.send(&message).await?)
        })
    }
}

impl Letters {
    /// The message, with a link that is good from now on; `None` where there is nobody to write to any more.
    async fn message(&self, mail: Mail) -> Result<Option<Message>, Problem> {
        let (until, here) = (now_us().saturating_add(self.link_us), self.public_url.clone());
        let hours = self.link_us / (3_600 * US_PER_S);
        let message = self.committer.write(move |connection| {
            Box::pin(async move { write(connection, mail, &here, until, hours).await })
        });
        message.await
    }
}

/// Has a mail sent once the transaction is committed.
pub(crate) async fn enqueue(connection: &mut Connection, mail: &Mail) -> sqlx::Result<()> {
    let mut new = New::of(KIND, mail).map_err(|error| sqlx::Error::Encode(error.into()))?;
    // Whoever asks again and again for the same has one on its way.
    if let Mail::Reset { email } = mail {
        new.once = Some(format!("{KIND} reset {}", email_key(email)));
    }
    let mut batch = Batch::of(connection);
    jobs::enqueue(&mut batch, &new);
    batch.run(connection).await.map(|_| ())
}

/// The same to each account that owns a tenant.
pub(crate) async fn enqueue_to_owners(
    connection: &mut Connection,
    tenant: u32,
    mail: impl Fn(Uuid) -> Mail,
) -> sqlx::Result<()> {
    for account in tenants::owners(connection, tenant).await? {
        enqueue(connection, &mail(account)).await?;
    }
    Ok(())
}

/// What is written to whom, and the link in it.
async fn write(
    connection: &mut Connection,
    mail: Mail,
    here: &str,
    until_us: i64,
    hours: i64,
) -> Result<Option<Message>, Problem> {
    let host = here.split_once("://").map_or(here, |(_, rest)| rest);
    let letter = |to: String, subject: &str, text: String| {
        Ok(Some(Message {
            to,
            subject: format!("{subject} ({host})"),
            text: format!("{text}\n\n-- \n{here}\n"),
        }))
    };
    let not_you = "If that was not you, nothing has to be done: without the link nothing happens.";
    match mail {
        Mail::Verify { registration } => {
            let Some(found) = registrations::by_id(connection, registration, now_us()).await? else {
                return Ok(None);
            };
            if accounts::by_email(connection, &found.email).await?.is_some() {
                let text = format!(
                    "Somebody wanted to register {} here, which has an account already.\n\nTo choose another password: {here}/account/forgot\n\nIf that was not you, nothing has to be done.",
                    found.email
                );
                return letter(found.email, "You have an account already", text);
            }
            let link = Link { registration: Some(registration), account: None, email: found.email.clone() };
            let url = linked(connection, Purpose::Verify, &link, here, until_us).await?;
            let text = format!(
                "Somebody registered {} here. To prove that it is yours, and have the account made, follow this link within {hours} hours, and give the password that was registered:\n\n{url}\n\n{not_you}",
                found.email
            );
            letter(found.email, "Prove your address", text)
        }
        Mail::Reset { email } => {
            let Some(account) = accounts::by_email(connection, &email).await? else { return Ok(None) };
            let link = Link { registration: None, account: Some(account.id), email: account.email.clone() };
            let url = linked(connection, Purpose::Password, &link, here, until_us).await?;
            let text = format!(
                "Somebody wants to choose another password for your account. To do so, follow this link within {hours} hours:\n\n{url}\n\n{not_you}"
            );
            letter(account.email, "Choose a password", text)
        }
        Mail::NewEmail { account, email } => {
            let Some(account) = accounts::by_id(connection, account).await? else { return Ok(None) };
            // The last that was asked for counts.
            if account.wanted_email.as_deref() != Some(email.as_str()) {
                return Ok(None);
            }
            let link = Link { registration: None, account: Some(account.id), email: email.clone() };
            let url = linked(connection, Purpose::Email, &link, here, until_us).await?;
            let text = format!(
                "An account shall have this address instead of {}. To prove that it is yours, follow this link within {hours} hours:\n\n{url}\n\n{not_you}",
                account.email
            );
            letter(email, "Prove your address", text)
        }
        Mail::EmailAsked { account } => {
            let Some(account) = accounts::by_id(connection, account).await? else { return Ok(None) };
            let Some(wanted) = &account.wanted_email else { return Ok(None) };
            let text = format!(
                "Your account shall have the address {wanted}, once that is proven.\n\nIf that was not you, choose another password at once: nothing comes of it then. {here}/account/forgot"
            );
            letter(account.email.clone(), "Another address was asked for", text)
        }
        Mail::Added { account, what } => {
            let Some(account) = accounts::by_id(connection, account).await? else { return Ok(None) };
            let text = format!(
                "To your account was added {what}, with which programs are let in.\n\nIf that was not you, remove it, and choose another password: {here}/account/forgot"
            );
            letter(account.email, "A key or token was added", text)
        }
        Mail::SecondBegun { account } => {
            let Some(account) = accounts::by_id(connection, account).await? else { return Ok(None) };
            let text = "From now on your account asks for a code of an app when somebody logs in.\n\nIf that was not you, tell the operator at once.";
            letter(account.email, "Codes are asked for from now on", text.to_owned())
        }
        Mail::SessionReused { account } => {
            let Some(account) = accounts::by_id(connection, account).await? else { return Ok(None) };
            let text = format!(
                "A refresh token of your account came twice, so it was in two hands, and its session was ended.\n\nIf no program of yours did that, choose another password: {here}/account/forgot"
            );
            letter(account.email, "A session of yours was ended", text)
        }
        Mail::EmailChanged { account, before } => {
            let Some(account) = accounts::by_id(connection, account).await? else { return Ok(None) };
            let text = format!(
                "Your account has the address {} now.\n\nIf that was not you, tell the operator at once.",
                account.email
            );
            letter(before, "Your address was changed", text)
        }
        Mail::PasswordChanged { account } => {
            let Some(account) = accounts::by_id(connection, account).await? else { return Ok(None) };
            let keys = keys::count(connection, account.id).await?;
            let tokens = tokens::count_of(connection, Some(account.id)).await?;
            let text = format!(
                "The password of your account was changed, and other sessions were ended. Its {keys} keys and {tokens} tokens go on: remove those that you do not know.\n\nIf that was not you, choose another at once: {here}/account/forgot"
            );
            letter(account.email, "Your password was changed", text)
        }
        Mail::SecondEnded { account } => {
            let Some(account) = accounts::by_id(connection, account).await? else { return Ok(None) };
            let text = "Your account asks for no codes any more when somebody logs in.\n\nIf that was not you, choose another password at once, and tell the operator.";
            letter(account.email, "No codes are asked for any more", text.to_owned())
        }
        Mail::Deleted { email } => {
            let text = "Your account was deleted.\n\nIf that was not you, tell the operator.";
            letter(email, "Your account was deleted", text.to_owned())
        }
        Mail::Invited { invitation } => {
            let Some(found) = invitations::by_id(connection, invitation).await? else { return Ok(None) };
            let by = match found.invited_by {
                Some(account) => accounts::by_id(connection, account).await?.map(|account| account.email),
                None => None,
            };
            // What the tenant is called is not said: anybody could have anything sent to anybody.
            let text = format!(
                "{} invites you to act for tenant {number} here, as {}.\n\nIf you want that, log in with the account of this address (register, or ask the operator for one, if there is none), and say yes within seven days: POST {here}/api/v1/tenants/{number}/accept\n\nIf you do not, nothing has to be done.",
                by.as_deref().unwrap_or("An operator"),
                found.role.as_str(),
                number = found.tenant,
            );
            letter(found.email, "You are invited to a tenant", text)
        }
        Mail::ZonesFrozen { tenant, account, name, zones, days } => {
            let Some(to) = owner(connection, tenant, account).await? else { return Ok(None) };
            let ends = days.map_or_else(String::new, |days| {
                format!(" In {days} days they are deleted, and the names kept for you for a while.")
            });
            let text = format!(
                "The record by which you proved that {name} is yours has been gone for too long. Zones of tenant {tenant} at or below it: {zones}. They are served as before, but changed by nobody except operators.{ends}\n\nPut the record back, and they are yours to change again: {here}/api/v1/claims says which one it is."
            );
            letter(to, "Zones of yours are frozen", text)
        }
        Mail::ZonesReleased { tenant, account, names, zones } => {
            let Some(to) = owner(connection, tenant, account).await? else { return Ok(None) };
            let more = match zones.saturating_sub(names.len()) {
                0 => String::new(),
                more => format!("\n(and {more} more)"),
            };
            let text = format!(
                "Zones of tenant {tenant} were frozen for too long, as the proof that their names are yours is gone. They were deleted:\n\n{}{more}\n\nProve the names again, and the zones can be made what they were: {here}/api/v1/claims",
                names.join("\n")
            );
            letter(to, "Zones of yours were deleted", text)
        }
        Mail::WebhookOff { tenant, account, webhook, host, why } => {
            let Some(to) = owner(connection, tenant, account).await? else { return Ok(None) };
            let text = format!(
                "The webhook {webhook} of tenant {tenant}, at {host}, is told of nothing any more: {why}.\n\nOnce its server takes what it is sent, turn it on again, and it is sent what waited: PATCH {here}/api/v1/webhooks/{webhook} with {{\"enabled\": true}}"
            );
            letter(to, "A webhook of yours was turned off", text)
        }
    }
}

/// The address of an account that owns a tenant, if it still does.
async fn owner(connection: &mut Connection, tenant: u32, account: Uuid) -> sqlx::Result<Option<String>> {
    let membership = tenants::membership(connection, tenant, account).await?;
    if membership.is_none_or(|membership| !membership.accepted || membership.role < Role::Owner) {
        return Ok(None);
    }
    Ok(accounts::by_id(connection, account).await?.map(|account| account.email))
}

/// A link that is good from now on, as a URL.
async fn linked(
    connection: &mut Connection,
    purpose: Purpose,
    link: &Link,
    here: &str,
    until_us: i64,
) -> Result<String, Problem> {
    let (secret, hash) = link_secret()?;
    registrations::link(connection, &hash, purpose, link, until_us).await?;
    Ok(format!("{here}{}?token={secret}", path(purpose)))
}

/// The page that a link leads to.
pub(crate) fn path(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Verify => "/account/verify",
        Purpose::Password => "/account/password",
        Purpose::Email => "/account/email",
    }
}
