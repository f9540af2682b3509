//! Choosing another password: by who knows the present one, or by who reads the mail of the account's address.

use uuid::Uuid;

use super::mail::Mail;
use super::{Accounts, By, email, link_expired, link_hash, mail, note};
use crate::auth::Login;
use crate::auth::throttle::Attempt;
use crate::error::{Code, Problem};
use crate::store::accounts::{self, email_key};
use crate::store::registrations::{self, Purpose};
use crate::store::{Connection, now_us, sessions};

impl Accounts {
    /// Another password. Every other session of the account ends.
    ///
    /// # Errors
    /// `FORBIDDEN` for a wrong present one, `INVALID_VALUE`, `RATE_LIMITED`, or of the database.
    pub(crate) async fn change_password(
        &self,
        login: Login,
        present: &str,
        next: &str,
        by: &By,
    ) -> Result<(), Problem> {
        let before = self.confirmed(login, present, by).await?.password;
        let hash = self.passwords.hash(next).await?;
        let by = by.clone();
        let change = self.write(move |connection| {
            Box::pin(async move {
                let Login { account: id, session } = login;
                let account = accounts::hold(connection, id).await?.ok_or_else(super::gone)?;
                if account.password != before {
                    let message = "the password was changed at the same moment; nothing was changed now";
                    return Err(Problem::new(Code::Conflict, message));
                }
                accounts::set_password(connection, id, &hash).await?;
                drop_links(connection, id).await?;
                sessions::end_all(connection, id, Some(session), now_us()).await?;
                mail::enqueue(connection, &Mail::PasswordChanged { account: id }).await?;
                note(connection, &by.who(&id), "password.change", id).await?;
                Ok(())
            })
        });
        change.await
    }

    /// Has a link sent to an address, if it is that of an account: which only the mail tells.
    ///
    /// # Errors
    /// `INVALID_VALUE`, `RATE_LIMITED`, or of the database.
    pub(crate) async fn forgot_password(&self, address: &str, by: &By) -> Result<(), Problem> {
        self.posts()?;
        let address = email(address)?;
        self.throttle.attempt(by.client, Attempt::Mail(&email_key(&address)))?;
        let enqueue = self.write(move |connection| {
            Box::pin(async move { Ok(mail::enqueue(connection, &Mail::Reset { email: address }).await?) })
        });
        enqueue.await
    }

    /// Another password, by a link. Every session of the account ends; a second proof is asked for as before.
    ///
    /// # Errors
    /// `LINK_EXPIRED`, `INVALID_VALUE`, `RATE_LIMITED`, or of the database.
    pub(crate) async fn reset_password(&self, secret: &str, password: &str, by: &By) -> Result<(), Problem> {
        self.throttle.attempt(by.client, Attempt::Any)?;
        let (link, by) = (link_hash(secret), by.clone());
        let mut connection = self.readers.acquire().await?;
        let has_link = registrations::has_link(&mut connection, &link, Purpose::Password, now_us()).await?;
        drop(connection);
        if !has_link {
            return Err(link_expired());
        }
        // Before the link is used up: a password that is refused leaves it as it was.
        let hash = self.passwords.hash(password).await?;
        let reset = self.write(move |connection| {
            Box::pin(async move {
                let now = now_us();
                let link = registrations::take_link(connection, &link, Purpose::Password, now).await?;
                let link = link.ok_or_else(link_expired)?;
                let id = link.account.ok_or_else(link_expired)?;
                let account = accounts::hold(connection, id).await?.ok_or_else(link_expired)?;
                // It went to an address that the account has no more.
                if email_key(&account.email) != email_key(&link.email) {
                    return Err(link_expired());
                }
                accounts::set_password(connection, id, &hash).await?;
                drop_links(connection, id).await?;
                sessions::end_all(connection, id, None, now).await?;
                mail::enqueue(connection, &Mail::PasswordChanged { account: id }).await?;
                note(connection, &by.who(&id), "password.reset", id).await?;
                Ok(())
            })
        });
        reset.await
    }
}

/// Nothing of before lets anybody in, or leads to another address.
async fn drop_links(connection: &mut Connection, id: Uuid) -> sqlx::Result<()> {
    registrations::drop_links(connection, id, Purpose::Password).await?;
    registrations::drop_links(connection, id, Purpose::Email).await?;
    accounts::want_email(connection, id, None).await
}
