//! What an operator does with accounts.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::mail::Mail;
use super::{Accounts, By, email, link_secret, mail, name, note, note_change, taken, tenant_name};
use crate::error::{Code, Problem};
use crate::store::accounts::{self, Account};
use crate::store::audit::Who;
use crate::store::registrations::{self, Link, Purpose};
use crate::store::revocations::{self, Revoked};
use crate::store::{Connection, now_us, sessions};
use crate::tenants;

/// An account that was added.
pub(crate) struct Added {
    pub(crate) account: Account,
    /// The secret of a link with which its password is chosen.
    pub(crate) link: String,
}

/// What of an account is changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patch {
    pub(crate) name: Option<String>,
    pub(crate) is_operator: Option<bool>,
    pub(crate) is_suspended: Option<bool>,
    /// No codes are asked for any more: the device is lost.
    pub(crate) without_codes: bool,
}

/// Who manages accounts.
pub(crate) struct Manager {
    /// As the audit knows them.
    pub(crate) actor: String,
    /// Whether they may do everything themselves.
    pub(crate) is_operator: bool,
}

impl Manager {
    /// Nobody makes, or gets at, an account that may more than they may.
    fn may(&self, is_operator: bool) -> Result<(), Problem> {
        if self.is_operator || !is_operator {
            return Ok(());
        }
        let message =
            "an operator's account takes the scope admin, and a login or a token of nobody's account";
        Err(Problem::new(Code::InsufficientScope, message))
    }
}

impl Accounts {
    /// Accounts behind one, in the order in which they were made.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn list(&self, after: Uuid, limit: i64) -> Result<Vec<Account>, Problem> {
        let mut connection = self.readers.acquire().await?;
        Ok(accounts::list(&mut connection, after, limit).await?)
    }

    /// The one that has an address.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn with_email(&self, address: &str) -> Result<Option<Account>, Problem> {
        let Ok(address) = email(address) else { return Ok(None) };
        let mut connection = self.readers.acquire().await?;
        Ok(accounts::by_email(&mut connection, &address).await?)
    }

    /// One of them.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, or of the database.
    pub(crate) async fn look_up(&self, id: Uuid) -> Result<Account, Problem> {
        let mut connection = self.readers.acquire().await?;
        accounts::by_id(&mut connection, id).await?.ok_or_else(unknown)
    }

    /// Adds an account for whose address the operator vouches. Its password is chosen with the link.
    ///
    /// # Errors
    /// `USER_EXISTS`, `INVALID_VALUE`, or of the database.
    pub(crate) async fn add(
        &self,
        address: &str,
        called: Option<&str>,
        is_operator: bool,
        manager: Manager,
        by: &By,
    ) -> Result<Added, Problem> {
        manager.may(is_operator)?;
        let actor = manager.actor;
        let now = now_us();
        let account = Account {
            id: Uuid::now_v7(),
            email: email(address)?,
            wanted_email: None,
            name: name(called)?,
            password: None,
            is_operator,
            suspended_at_us: None,
            totp: None,
            totp_since_us: None,
            created_at_us: now,
        };
        let (secret, hash) = link_secret()?;
        let (new, until, by) = (account.clone(), now + self.settings.link_us, by.clone());
        let add = self.write(move |connection| {
            Box::pin(async move {
                if accounts::by_email(connection, &new.email).await?.is_some() {
                    let message = format!("there is an account with the address {} already", new.email);
                    return Err(Problem::new(Code::UserExists, message));
                }
                accounts::insert(connection, &new).await.map_err(taken)?;
                if !new.is_operator {
                    tenants::of_newcomer(connection, new.id, tenant_name(&new), now).await?;
                }
                let change = (Json::Null, told(&new));
                registrations::delete_of(connection, &new.email).await?;
                let link = Link { registration: None, account: Some(new.id), email: new.email };
                registrations::link(connection, &hash, Purpose::Password, &link, until).await?;
                note_change(connection, &by.who(&actor), "user.create", new.id, change).await?;
                Ok(())
            })
        });
        add.await?;
        Ok(Added { account, link: secret })
    }

    /// Another link with which the password of an account is chosen; links of before are good no more.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, or of the database.
    pub(crate) async fn link(&self, id: Uuid, manager: Manager, by: &By) -> Result<String, Problem> {
        let (secret, hash) = link_secret()?;
        let (until, by) = (now_us() + self.settings.link_us, by.clone());
        let link = self.write(move |connection| {
            Box::pin(async move {
                let account = accounts::hold(connection, id).await?.ok_or_else(unknown)?;
                manager.may(account.is_operator)?;
                registrations::drop_links(connection, id, Purpose::Password).await?;
                let link = Link { registration: None, account: Some(id), email: account.email };
                registrations::link(connection, &hash, Purpose::Password, &link, until).await?;
                note(connection, &by.who(&manager.actor), "user.link", id).await?;
                Ok(())
            })
        });
        link.await?;
        Ok(secret)
    }

    /// Changes an account.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `INVALID_VALUE`, `CONFLICT` for the last operator, or of the database.
    pub(crate) async fn patch(
        &self,
        id: Uuid,
        patch: Patch,
        manager: Manager,
        by: &By,
    ) -> Result<Account, Problem> {
        let called = patch.name.as_deref().map(|text| name(Some(text))).transpose()?;
        let by = by.clone();
        let change = self.write(move |connection| {
            Box::pin(async move {
                if patch.is_operator == Some(false) || patch.is_suspended == Some(true) {
                    accounts::hold_operators(connection).await?;
                }
                let account = accounts::hold(connection, id).await?.ok_or_else(unknown)?;
                manager.may(account.is_operator || patch.is_operator.is_some())?;
                let mut done = Vec::new();
                if let Some(called) = &called {
                    accounts::set_name(connection, id, called).await?;
                    let change = (json!({ "name": account.name }), json!({ "name": called }));
                    done.push(("user.rename", change));
                }
                if patch.is_operator == Some(false) || patch.is_suspended == Some(true) {
                    keep_one_operator(connection, &account).await?;
                }
                if let Some(is_operator) = patch.is_operator {
                    accounts::set_operator(connection, id, is_operator).await?;
                    let action = if is_operator { "user.operator" } else { "user.no_operator" };
                    let change =
                        (json!({ "operator": account.is_operator }), json!({ "operator": is_operator }));
                    done.push((action, change));
                }
                if let Some(suspended) = patch.is_suspended {
                    let now = now_us();
                    accounts::suspend(connection, id, suspended.then_some(now)).await?;
                    if suspended {
                        sessions::end_all(connection, id, None, now).await?;
                        registrations::drop_links(connection, id, Purpose::Email).await?;
                        accounts::want_email(connection, id, None).await?;
                    }
                    let was = account.suspended_at_us.is_some();
                    let change = (json!({ "suspended": was }), json!({ "suspended": suspended }));
                    done.push((if suspended { "user.suspend" } else { "user.resume" }, change));
                }
                if patch.without_codes {
                    accounts::end_totp(connection, id).await?;
                    mail::enqueue(connection, &Mail::SecondEnded { account: id }).await?;
                    let change =
                        (json!({ "totp": account.totp_since_us.is_some() }), json!({ "totp": false }));
                    done.push(("totp.end", change));
                }
                if patch.is_operator.is_some() || patch.is_suspended.is_some() {
                    revocations::tell(connection, &Revoked::Account(id)).await?;
                }
                let who = by.who(&manager.actor);
                for (action, change) in done {
                    note_change(connection, &who, action, id, change).await?;
                }
                accounts::by_id(connection, id).await?.ok_or_else(unknown)
            })
        });
        change.await
    }

    /// Deletes an account.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `CONFLICT` for the last operator, or of the database.
    pub(crate) async fn remove(&self, id: Uuid, manager: Manager, by: &By) -> Result<(), Problem> {
        let by = by.clone();
        let remove = self.write(move |connection| {
            Box::pin(async move {
                accounts::hold_operators(connection).await?;
                let account = accounts::hold(connection, id).await?.ok_or_else(unknown)?;
                manager.may(account.is_operator)?;
                delete(connection, &account, &by.who(&manager.actor)).await
            })
        });
        remove.await
    }
}

/// Deletes an account with all that is its own; its address is told.
pub(super) async fn delete(connection: &mut Connection, account: &Account, who: &Who) -> Result<(), Problem> {
    keep_one_operator(connection, account).await?;
    tenants::leave_all(connection, account.id).await?;
    revocations::tell(connection, &Revoked::Account(account.id)).await?;
    accounts::delete(connection, account.id).await?;
    mail::enqueue(connection, &Mail::Deleted { email: account.email.clone() }).await?;
    note_change(connection, who, "user.delete", account.id, (told(account), Json::Null)).await?;
    Ok(())
}

/// Of an account, what the audit log is told of it when it comes and goes.
pub(super) fn told(account: &Account) -> Json {
    json!({ "email": account.email, "name": account.name, "operator": account.is_operator })
}

/// The last operator stays one: nobody else could make another.
async fn keep_one_operator(connection: &mut Connection, account: &Account) -> Result<(), Problem> {
    let counts = account.is_operator && account.suspended_at_us.is_none();
    let operators = accounts::hold_operators(connection).await?;
    if counts && operators.iter().all(|other| *other == account.id) {
        let message = "this is the only operator: make another first";
        return Err(Problem::new(Code::Conflict, message));
    }
    Ok(())
}

fn unknown() -> Problem {
    Problem::new(Code::UserNotFound, "there is no such user")
}
