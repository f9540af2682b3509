//! An account is made when the address that it is for was proven. Until then there is a registration, which only who reads the
//! mail at that address can turn into one.

use uuid::Uuid;

use super::mail::Mail;
use super::{Accounts, By, US_PER_S, email, link_expired, link_hash, mail, name, note};
use crate::error::{Code, Problem};
use crate::store::accounts::{self, Account};
use crate::store::now_us;
use crate::store::registrations::{self, Purpose, Registration};

/// How long a registration waits.
const WAITS_US: i64 = 7 * 86_400 * US_PER_S;

impl Accounts {
    /// Takes a registration. What comes of it, also that there is an account already, is said in a mail to the address.
    ///
    /// # Errors
    /// `FORBIDDEN` where nobody can register, `INVALID_VALUE`, `RATE_LIMITED`, or of the database.
    pub(crate) async fn register(
        &self,
        address: &str,
        password: &str,
        called: Option<&str>,
        by: &By,
    ) -> Result<(), Problem> {
        if !self.settings.registration {
            let message = "nobody can register here: ask the operator for an account";
            return Err(Problem::new(Code::Forbidden, message));
        }
        self.posts()?;
        let (address, called) = (email(address)?, name(called)?);
        self.throttle.attempt(by.client, Some(&accounts::email_key(&address)))?;
        let password = self.passwords.hash(password).await?;
        let new = Registration { id: Uuid::now_v7(), email: address, name: called, password };
        let request_id = by.request_id.clone();
        let register = self.write(move |connection| {
            Box::pin(async move {
                let now = now_us();
                registrations::insert(connection, &new, now, now.saturating_add(WAITS_US)).await?;
                mail::enqueue(connection, &Mail::Verify { registration: new.id }).await?;
                note(connection, "anonymous", "user.register", new.id, &request_id).await?;
                Ok(())
            })
        });
        register.await
    }

    /// Makes the account of a registration whose link is taken.
    ///
    /// # Errors
    /// `LINK_EXPIRED`, `USER_EXISTS`, `RATE_LIMITED`, or of the database.
    pub(crate) async fn verify(&self, secret: &str, by: &By) -> Result<Account, Problem> {
        self.throttle.attempt(by.client, None)?;
        let (hash, request_id) = (link_hash(secret), by.request_id.clone());
        let verify = self.write(move |connection| {
            Box::pin(async move {
                let now = now_us();
                let link = registrations::take_link(connection, &hash, Purpose::Verify, now).await?;
                let id = link.and_then(|link| link.registration).ok_or_else(link_expired)?;
                let found = registrations::by_id(connection, id, now).await?.ok_or_else(link_expired)?;
                if accounts::by_email(connection, &found.email).await?.is_some() {
                    // To whom reads the mail there this is no secret.
                    let message = "this address has an account already: log in, or choose another password";
                    return Err(Problem::new(Code::UserExists, message));
                }
                let account = Account {
                    id: Uuid::now_v7(),
                    email: found.email,
                    name: found.name,
                    password: Some(found.password),
                    is_operator: false,
                    suspended_at_us: None,
                    totp: None,
                    totp_since_us: None,
                    created_at_us: now,
                };
                accounts::insert(connection, &account).await?;
                // What else was registered for the address: its links make nothing any more.
                registrations::delete_of(connection, &account.email).await?;
                note(connection, &account.id.to_string(), "user.verify", account.id, &request_id).await?;
                Ok(account)
            })
        });
        verify.await
    }
}
