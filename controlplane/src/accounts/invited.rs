//! What is said by mail to who is invited to a tenant.

use uuid::Uuid;

use super::mail::{self, Mail};
use super::{Accounts, By, email};
use crate::auth::throttle::Attempt;
use crate::error::Problem;
use crate::store::accounts::email_key;

impl Accounts {
    /// The address that somebody wants to invite, counted as what an account does and as mail that goes there.
    ///
    /// # Errors
    /// `INVALID_VALUE`, `RATE_LIMITED`.
    pub(crate) fn invites(&self, account: Option<Uuid>, address: &str, by: &By) -> Result<String, Problem> {
        let address = email(address)?;
        if let Some(account) = account {
            self.writes(account, by)?;
        }
        // By itself: nobody is kept from choosing another password by being invited.
        let of_invitations = format!("invited {}", email_key(&address));
        self.throttle.attempt(by.client, Attempt::Mail(&of_invitations))?;
        Ok(address)
    }

    /// Has them told. Who is invited sees it without a mail, too.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn tell_invited(&self, invitation: Uuid) -> Result<(), Problem> {
        let tell = self.write(move |connection| {
            Box::pin(async move { Ok(mail::enqueue(connection, &Mail::Invited { invitation }).await?) })
        });
        tell.await
    }
}
