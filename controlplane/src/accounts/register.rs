//! An account is made when the address that it is for was proven. Until then there is a registration, which only who reads the
//! mail at that address can turn into one.

use serde_json::Value as Json;
use uuid::Uuid;

use super::mail::Mail;
use super::{
    Accounts, By, US_PER_S, email, link_expired, link_hash, mail, name, note_change, taken, tenant_name,
};
use crate::auth::password::Compared;
use crate::auth::throttle::Attempt;
use crate::error::{Code, Problem};
use crate::store::accounts::{self, Account};
use crate::store::now_us;
use crate::store::registrations::{self, Purpose, Registration};
use crate::tenants;

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
        self.throttle.attempt(by.client, Attempt::Mail(&accounts::email_key(&address)))?;
        let password = self.passwords.hash(password).await?;
        let new = Registration { id: Uuid::now_v7(), email: address, name: called, password };
        let register = self.write(move |connection| {
            Box::pin(async move {
                let now = now_us();
                registrations::insert(connection, &new, now, now.saturating_add(WAITS_US)).await?;
                mail::enqueue(connection, &Mail::Verify { registration: new.id }).await?;
                Ok(())
            })
        });
        register.await
    }

    /// Makes the account of a registration whose link is taken, by who knows its password too: a link alone shows that somebody
    /// reads the mail, and not that it was they who registered.
    ///
    /// # Errors
    /// `LINK_EXPIRED`, `FORBIDDEN` for a wrong password, `USER_EXISTS`, `RATE_LIMITED`, or of the database.
    pub(crate) async fn verify(&self, secret: &str, password: &str, by: &By) -> Result<Account, Problem> {
        self.throttle.attempt(by.client, Attempt::Any)?;
        let (hash, by) = (link_hash(secret), by.clone());
        let mut connection = self.readers.acquire().await?;
        let id = registrations::of_link(&mut connection, &hash, now_us()).await?.ok_or_else(link_expired)?;
        let waiting = registrations::by_id(&mut connection, id, now_us()).await?.ok_or_else(link_expired)?;
        drop(connection);
        let compared = self.passwords.compare(password, Some(&waiting.password)).await?;
        if compared == Compared::Differs {
            let message =
                "this is not the password that was registered; if it was not you who registered, leave it";
            return Err(Problem::new(Code::Forbidden, message));
        }
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
                    wanted_email: None,
                    name: found.name,
                    password: Some(found.password),
                    is_operator: false,
                    suspended_at_us: None,
                    totp: None,
                    totp_since_us: None,
                    created_at_us: now,
                };
                accounts::insert(connection, &account).await.map_err(taken)?;
                tenants::of_newcomer(connection, account.id, tenant_name(&account), now).await?;
                // What else was registered for the address: its links make nothing any more.
                registrations::delete_of(connection, &account.email).await?;
                let change = (Json::Null, super::operate::told(&account));
                note_change(connection, &by.who(&account.id), "user.verify", account.id, change).await?;
                Ok(account)
            })
        });
        verify.await
    }
}
