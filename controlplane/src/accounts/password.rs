//! Choosing another password: by who knows the present one, or by who reads the mail of the account's address.

use super::mail::Mail;
use super::{Accounts, By, email, link_expired, link_hash, mail, note};
use crate::auth::Login;
use crate::error::{Code, Problem};
use crate::store::accounts::{self, email_key};
use crate::store::registrations::{self, Purpose};
use crate::store::{now_us, sessions};

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
        let request_id = by.request_id.clone();
        let change = self.write(move |connection| {
            Box::pin(async move {
                let Login { account: id, session } = login;
                let account = accounts::by_id(connection, id).await?.ok_or_else(super::gone)?;
                if account.password != before {
                    let message = "the password was changed at the same moment; nothing was changed now";
                    return Err(Problem::new(Code::Conflict, message));
                }
                accounts::set_password(connection, id, &hash).await?;
                registrations::drop_links(connection, id, Purpose::Password).await?;
                sessions::end_all(connection, id, Some(session), now_us()).await?;
                mail::enqueue(connection, &Mail::PasswordChanged { account: id }).await?;
                note(connection, &id.to_string(), "password.change", id, &request_id).await?;
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
        self.throttle.attempt(by.client, Some(&email_key(&address)))?;
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
        self.throttle.attempt(by.client, None)?;
        // Before the link is used up: a password that is refused leaves it as it was.
        let hash = self.passwords.hash(password).await?;
        let (link, request_id) = (link_hash(secret), by.request_id.clone());
        let reset = self.write(move |connection| {
            Box::pin(async move {
                let now = now_us();
                let link = registrations::take_link(connection, &link, Purpose::Password, now).await?;
                let link = link.ok_or_else(link_expired)?;
                let id = link.account.ok_or_else(link_expired)?;
                let account = accounts::by_id(connection, id).await?.ok_or_else(link_expired)?;
                // It went to an address that the account has no more.
                if email_key(&account.email) != email_key(&link.email) {
                    return Err(link_expired());
                }
                accounts::set_password(connection, id, &hash).await?;
                registrations::drop_links(connection, id, Purpose::Password).await?;
                sessions::end_all(connection, id, None, now).await?;
                mail::enqueue(connection, &Mail::PasswordChanged { account: id }).await?;
                note(connection, &id.to_string(), "password.reset", id, &request_id).await?;
                Ok(())
            })
        });
        reset.await
    }
}
