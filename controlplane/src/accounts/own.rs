//! What somebody sees and changes of their own account.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::mail::Mail;
use super::{
    Accounts, By, email, gone, link_expired, link_hash, mail, name, note, note_change, second, taken,
};
use crate::auth::Login;
use crate::auth::throttle::Attempt;
use crate::error::{Code, Problem};
use crate::store::accounts::{self, Account, email_key};
use crate::store::registrations::{self, Purpose};
use crate::store::sessions::{self, Session};
use crate::store::{audit, now_us};

/// The most entries of the audit log that are given to somebody who leaves: the newest.
const MOST_ENTRIES: i64 = 10_000;

/// All that is kept of somebody, but for what proves who they are.
pub(crate) struct Export {
    pub(crate) account: Account,
    pub(crate) sessions: Vec<Session>,
    pub(crate) audit: Vec<audit::Kept>,
}

impl Accounts {
    /// The account, and how many recovery codes are left.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn own(&self, login: Login) -> Result<(Account, i64), Problem> {
        let mut connection = self.readers.acquire().await?;
        let account = accounts::by_id(&mut connection, login.account).await?.ok_or_else(gone)?;
        let left = accounts::codes_left(&mut connection, login.account).await?;
        Ok((account, left))
    }

    /// What it is called from now on.
    ///
    /// # Errors
    /// `INVALID_VALUE`, or of the database.
    pub(crate) async fn rename(&self, login: Login, to: &str, by: &By) -> Result<(), Problem> {
        self.writes(login.account, by)?;
        let (id, to, by) = (login.account, name(Some(to))?, by.clone());
        let rename = self.write(move |connection| {
            Box::pin(async move {
                let account = accounts::hold(connection, id).await?.ok_or_else(gone)?;
                accounts::set_name(connection, id, &to).await?;
                let change = (json!({ "name": account.name }), json!({ "name": to }));
                note_change(connection, &by.who(&id), "user.rename", id, change).await?;
                Ok(())
            })
        });
        rename.await
    }

    /// Has a link sent to another address: once it is taken, the account has that one.
    ///
    /// # Errors
    /// `FORBIDDEN` for a wrong password, `INVALID_VALUE`, `RATE_LIMITED`, or of the database.
    pub(crate) async fn change_email(
        &self,
        login: Login,
        password: &str,
        to: &str,
        by: &By,
    ) -> Result<(), Problem> {
        self.posts()?;
        let to = email(to)?;
        self.confirmed(login, password, by).await?;
        self.throttle.attempt(by.client, Attempt::Mail(&email_key(&to)))?;
        let by = by.clone();
        let change = self.write(move |connection| {
            Box::pin(async move {
                let id = login.account;
                accounts::hold(connection, id).await?.ok_or_else(gone)?;
                // The last that was asked for counts.
                registrations::drop_links(connection, id, Purpose::Email).await?;
                accounts::want_email(connection, id, Some(&to)).await?;
                mail::enqueue(connection, &Mail::EmailAsked { account: id }).await?;
                let change = (Json::Null, json!({ "wanted_email": to }));
                mail::enqueue(connection, &Mail::NewEmail { account: id, email: to }).await?;
                note_change(connection, &by.who(&id), "email.ask", id, change).await?;
                Ok(())
            })
        });
        change.await
    }

    /// Takes the link that went to another address.
    ///
    /// # Errors
    /// `LINK_EXPIRED`, `USER_EXISTS` where another account has the address, `RATE_LIMITED`, or of the database.
    pub(crate) async fn confirm_email(&self, secret: &str, by: &By) -> Result<(), Problem> {
        self.throttle.attempt(by.client, Attempt::Any)?;
        let (hash, by) = (link_hash(secret), by.clone());
        let confirm = self.write(move |connection| {
            Box::pin(async move {
                let link = registrations::take_link(connection, &hash, Purpose::Email, now_us()).await?;
                let link = link.ok_or_else(link_expired)?;
                let id = link.account.ok_or_else(link_expired)?;
                let account = accounts::hold(connection, id).await?.ok_or_else(link_expired)?;
                if account.wanted_email.as_deref() != Some(link.email.as_str()) {
                    return Err(link_expired());
                }
                let other = accounts::by_email(connection, &link.email).await?;
                if other.is_some_and(|other| other.id != id) {
                    return Err(Problem::new(Code::UserExists, "another account has this address"));
                }
                accounts::set_email(connection, id, &link.email).await.map_err(taken)?;
                // Links that went to the old one would be in the hands of who has it then.
                registrations::drop_links(connection, id, Purpose::Password).await?;
                let change = (json!({ "email": account.email }), json!({ "email": link.email }));
                mail::enqueue(connection, &Mail::EmailChanged { account: id, before: account.email }).await?;
                note_change(connection, &by.who(&id), "email.change", id, change).await?;
                Ok(())
            })
        });
        confirm.await
    }

    /// Where it is logged in.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn sessions(&self, login: Login) -> Result<Vec<Session>, Problem> {
        let mut connection = self.readers.acquire().await?;
        let now = now_us();
        let idle_since = now.saturating_sub(self.settings.idle_us);
        Ok(sessions::of_account(&mut connection, login.account, now, idle_since).await?)
    }

    /// Ends one of its sessions.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, or of the database.
    pub(crate) async fn end_session(&self, login: Login, session: Uuid, by: &By) -> Result<(), Problem> {
        self.writes(login.account, by)?;
        let (id, by) = (login.account, by.clone());
        let end = self.write(move |connection| {
            Box::pin(async move {
                if !sessions::end(connection, session, id, now_us()).await? {
                    return Err(Problem::new(Code::SessionNotFound, "you have no such session"));
                }
                note(connection, &by.who(&id), "session.end", session).await?;
                Ok(())
            })
        });
        end.await
    }

    /// Ends all of its sessions but the one that asks; how many.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn end_other_sessions(&self, login: Login, by: &By) -> Result<u64, Problem> {
        self.writes(login.account, by)?;
        let by = by.clone();
        let end = self.write(move |connection| {
            Box::pin(async move {
                let Login { account: id, session } = login;
                let ended = sessions::end_all(connection, id, Some(session), now_us()).await?;
                note(connection, &by.who(&id), "session.end_others", id).await?;
                Ok(ended)
            })
        });
        end.await
    }

    /// All that is kept of it.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn export(&self, login: Login) -> Result<Export, Problem> {
        let mut connection = self.readers.acquire().await?;
        let account = accounts::by_id(&mut connection, login.account).await?.ok_or_else(gone)?;
        // Also those that went unused for long: all that are kept and have not ended.
        let sessions = sessions::of_account(&mut connection, account.id, now_us(), 0).await?;
        let audit = audit::of_actor(&mut connection, &account.id.to_string(), MOST_ENTRIES).await?;
        Ok(Export { account, sessions, audit })
    }

    /// Deletes it. The audit log keeps what was done, by its id.
    ///
    /// # Errors
    /// `FORBIDDEN` for a wrong password, `UNAUTHENTICATED` for a wrong code, `TOTP_REQUIRED`, `CONFLICT` for the last operator,
    /// `RATE_LIMITED`, or of the database.
    pub(crate) async fn leave(
        &self,
        login: Login,
        password: &str,
        code: Option<String>,
        by: &By,
    ) -> Result<(), Problem> {
        self.confirmed(login, password, by).await?;
        self.tried(login, code.as_deref(), by)?;
        let (vault, by) = (self.vault.clone(), by.clone());
        let leave = self.write(move |connection| {
            Box::pin(async move {
                accounts::hold_operators(connection).await?;
                let account = accounts::hold(connection, login.account).await?.ok_or_else(gone)?;
                second::check(connection, &vault, &account, code.as_deref(), now_us()).await?;
                super::operate::delete(connection, &account, &by.who(&account.id)).await
            })
        });
        leave.await
    }
}
