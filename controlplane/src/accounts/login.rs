//! Passwords and codes are exchanged for a session, and that again and again for short-lived tokens.

use uuid::Uuid;

use super::mail::Mail;
use super::{Accounts, By, US_PER_S, email, mail, note, second};
use crate::auth::password::Compared;
use crate::auth::refresh::Refresh;
use crate::auth::throttle::Attempt;
use crate::auth::{Login, scopes_of};
use crate::error::{Code, Problem};
use crate::store::accounts::{self, email_key};
use crate::store::sessions::{self, Session};
use crate::store::{now_us, registrations};

/// What somebody gives to log in.
pub(crate) struct Credentials {
    pub(crate) email: String,
    pub(crate) password: String,
    /// A one-time password, or a recovery code.
    pub(crate) code: Option<String>,
}

/// What somebody who has logged in goes on with.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// A JWT.
    pub(crate) access: String,
    /// Seconds for which it is good.
    pub(crate) lifetime_s: i64,
    /// Taken once, for the next two.
    pub(crate) refresh: String,
    pub(crate) session: Uuid,
}

/// What came of a refresh token.
enum Exchanged {
    GoesOn(Session),
    Ended,
    /// It was exchanged before.
    Again,
}

impl Accounts {
    /// Begins a session.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, `TOTP_REQUIRED`, `EMAIL_NOT_VERIFIED`, `FORBIDDEN` for who is suspended, `RATE_LIMITED`, or of the
    /// database.
    pub(crate) async fn login(&self, given: Credentials, by: &By) -> Result<Tokens, Problem> {
        // What is no address is nobody's.
        let address = email(&given.email).map_err(|_| refused())?;
        self.throttle.attempt(by.client, Attempt::Password(&email_key(&address)))?;
        let mut connection = self.readers.acquire().await?;
        let account = accounts::by_email(&mut connection, &address).await?;
        let waiting = registrations::newest(&mut connection, &address, now_us()).await?;
        drop(connection);
        let hash = account.as_ref().and_then(|account| account.password.clone());
        let compared = self.passwords.compare(&given.password, hash.as_deref()).await?;
        let known = account.as_ref().map(|account| account.id);
        let (Some(account), true) = (account, compared != Compared::Differs) else {
            // A registration waits whether there is an account or not: what is said, and how long it takes, tells nothing of that.
            if let Some(waiting) = waiting
                && self.passwords.compare(&given.password, Some(&waiting.password)).await?
                    != Compared::Differs
            {
                let message = "the address is not proven yet: follow the link in the mail that went there";
                return Err(Problem::new(Code::EmailNotVerified, message));
            }
            tracing::info!(client = %by.client, "a login was refused: password");
            return Err(known.into_iter().fold(refused(), |refused, id| refused.about("account", id)));
        };
        if account.totp_since_us.is_some() && given.code.is_some() {
            self.throttle.attempt(by.client, Attempt::Code(&account.id.to_string()))?;
        }
        let renewed = if let Compared::Rehashed(renewed) = compared { Some(renewed) } else { None };
        let (id, session) = (account.id, Uuid::now_v7());
        let (vault, from, asked) = (self.vault.clone(), by.from(), by.clone());
        let lasts_us = self.settings.session_us;
        let begin = self.write(move |connection| {
            Box::pin(async move {
                let now = now_us();
                // As it is now: the password may have been changed while it was compared.
                let account = accounts::hold(connection, id).await?.ok_or_else(refused)?;
                if account.password != hash {
                    return Err(refused());
                }
                if account.suspended_at_us.is_some() {
                    return Err(Problem::new(Code::Forbidden, "the account is suspended"));
                }
                second::check(connection, &vault, &account, given.code.as_deref(), now).await?;
                if let (Some(before), Some(renewed)) = (&hash, &renewed) {
                    accounts::rehash(connection, id, before, renewed).await?;
                }
                sessions::insert(connection, session, id, &from, now, now.saturating_add(lasts_us)).await?;
                note(connection, &asked.who(&id), "login", session).await?;
                Ok(account.is_operator)
            })
        });
        let is_operator = begin.await.inspect_err(|problem| {
            tracing::info!(client = %by.client, account = %id, code = problem.code.as_str(), "a login was refused");
        });
        let is_operator = is_operator.map_err(|problem| problem.about("account", id))?;
        self.tokens(Login { account: id, session }, is_operator, 0)
    }

    /// Goes on with a session: the refresh token that is given was the last of its kind, and another takes its place.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, `TOKEN_REVOKED`, `RATE_LIMITED`, or of the database.
    pub(crate) async fn refresh(&self, token: &str, by: &By) -> Result<Tokens, Problem> {
        let Some(given) = self.refresh.read(token) else {
            self.throttle.attempt(by.client, Attempt::Any)?;
            return Err(Problem::new(Code::Unauthenticated, "the refresh token is not known here"));
        };
        let Refresh { session: id, exchanges } = given;
        let ended = || Problem::new(Code::TokenRevoked, "the session has ended; log in");
        let mut connection = self.readers.acquire().await?;
        let found = sessions::by_id(&mut connection, id).await?;
        drop(connection);
        let now = now_us();
        if !found.is_some_and(|found| found.goes_on(now, now.saturating_sub(self.settings.idle_us))) {
            // Genuine once, and worth no transaction.
            self.throttle.attempt(by.client, Attempt::Any)?;
            return Err(ended());
        }
        let (from, asked, idle_us) = (by.from(), by.clone(), self.settings.idle_us);
        let exchange = self.write(move |connection| {
            Box::pin(async move {
                let now = now_us();
                let idle_since = now.saturating_sub(idle_us);
                let counted = sessions::exchange(connection, id, exchanges, &from, now, idle_since).await?;
                let Some(session) = sessions::by_id(connection, id).await? else {
                    return Ok(Exchanged::Ended);
                };
                if counted {
                    let goes_on = session.goes_on(now, idle_since);
                    return Ok(if goes_on { Exchanged::GoesOn(session) } else { Exchanged::Ended });
                }
                if session.goes_on(now, idle_since) {
                    // Used before; or the database is older than the token, and what was exchanged since is not known.
                    sessions::end(connection, id, session.account, now).await?;
                    mail::enqueue(connection, &Mail::SessionReused { account: session.account }).await?;
                    let actor = session.account.to_string();
                    note(connection, &asked.who(&actor), "session.reused", id).await?;
                    return Ok(Exchanged::Again);
                }
                Ok(Exchanged::Ended)
            })
        });
        match exchange.await? {
            Exchanged::GoesOn(session) => {
                let login = Login { account: session.account, session: id };
                self.tokens(login, session.is_operator, session.exchanges)
            }
            Exchanged::Ended => Err(ended()),
            Exchanged::Again => {
                tracing::warn!(session = %id, client = %by.client, "a refresh token came twice; its session was ended");
                let message = "this refresh token was used before: somebody else may have it, so the session was ended; log in";
                Err(Problem::new(Code::TokenRevoked, message))
            }
        }
    }

    /// Ends the session of a refresh token. Whatever else is given ends none, and is not told so.
    ///
    /// # Errors
    /// `RATE_LIMITED`, or of the database.
    pub(crate) async fn logout(&self, token: &str, by: &By) -> Result<(), Problem> {
        let session = self.refresh.read(token).map(|Refresh { session, .. }| session);
        self.end(session, by).await
    }

    /// Ends a session, if one is meant that goes on.
    ///
    /// # Errors
    /// `RATE_LIMITED`, or of the database.
    pub(crate) async fn end(&self, session: Option<Uuid>, by: &By) -> Result<(), Problem> {
        let Some(id) = session else { return self.throttle.attempt(by.client, Attempt::Any) };
        let mut connection = self.readers.acquire().await?;
        let found = sessions::by_id(&mut connection, id).await?;
        drop(connection);
        if found.is_none_or(|found| found.ended_at_us.is_some()) {
            return self.throttle.attempt(by.client, Attempt::Any);
        }
        let by = by.clone();
        let end = self.write(move |connection| {
            Box::pin(async move {
                let Some(session) = sessions::by_id(connection, id).await? else { return Ok(()) };
                if sessions::end(connection, id, session.account, now_us()).await? {
                    note(connection, &by.who(&session.account), "session.end", id).await?;
                }
                Ok(())
            })
        });
        end.await
    }

    /// Seconds that a session lasts at most.
    pub(crate) fn session_lasts_s(&self) -> i64 {
        self.settings.session_us / US_PER_S
    }

    fn tokens(&self, login: Login, is_operator: bool, exchanges: i64) -> Result<Tokens, Problem> {
        let Login { account, session } = login;
        let now_s = now_us() / US_PER_S;
        Ok(Tokens {
            access: self.issuer.issue(account, session, scopes_of(is_operator), now_s)?,
            lifetime_s: self.issuer.lifetime_s(),
            refresh: self.refresh.reveal(Refresh { session, exchanges }),
            session,
        })
    }
}

/// The same whether there is no such account or the password is another.
fn refused() -> Problem {
    Problem::new(Code::Unauthenticated, "the address or the password is wrong")
}
