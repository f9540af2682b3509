//! Accounts: how people come to have one, prove that it is theirs, and leave it.
//!
//! - `register`: an account is made when the address that it is for was proven;
//! - `keys`: what somebody signs tokens of their own with;
//! - `login`: passwords and codes are exchanged for a session, and that for short-lived tokens;
//! - `password`, `second`: what proves who somebody is, and replacing it;
//! - `tokens`: for what cannot sign;
//! - `own`: what somebody sees and changes of their own;
//! - `invited`: who is invited to a tenant is told;
//! - `operate`: what an operator does with the accounts of others;
//! - [`mail`]: what goes out by mail.
//!
//! Nobody learns here whether an address has an account: answers to strangers, and the time that they take, are the same
//! either way, and what differs goes to the address itself.

mod invited;
mod keys;
mod login;
pub(crate) mod mail;
mod operate;
mod own;
mod password;
mod register;
mod second;
mod tokens;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lettre::Address;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub(crate) use keys::NewKey;
pub(crate) use login::{Credentials, Tokens};
pub(crate) use operate::{Manager, Patch};
pub(crate) use tokens::{Holder, NewToken};

use crate::auth::jwt::issuer::Issuer;
use crate::auth::password::Passwords;
use crate::auth::refresh::RefreshKey;
use crate::auth::throttle::{Attempt, Throttle};
use crate::auth::{Authenticator, Caller, Login};
use crate::commit::Committer;
use crate::commit::aside::Work;
use crate::config;
use crate::error::{Code, Problem};
use crate::jobs;
use crate::secrets::Vault;
use crate::store::accounts::{self, Account};
use crate::store::audit::Who;
use crate::store::{Connection, Pool, audit, sessions};

const US_PER_S: i64 = 1_000_000;
const US_PER_DAY: i64 = 86_400 * US_PER_S;
/// The most characters of what somebody is called.
const MOST_NAME: usize = 100;
/// RFC 5321 §4.5.3.1.3, without the brackets.
const MOST_EMAIL: usize = 254;
/// What a link's secret begins with.
const LINK_PREFIX: &str = "gl_";

/// See the module.
pub(crate) struct Accounts {
    committer: Committer,
    authenticator: Arc<Authenticator>,
    /// Does what was written down to be done: mail.
    jobs: jobs::Handle,
    readers: Pool,
    vault: Arc<Vault>,
    passwords: Passwords,
    throttle: Throttle,
    refresh: Arc<RefreshKey>,
    issuer: Arc<Issuer>,
    settings: Settings,
}

/// What an operator has set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Whether strangers may register.
    registration: bool,
    /// Whether mail is sent.
    has_mail: bool,
    /// How long a session lasts, and how long one that is not used.
    session_us: i64,
    idle_us: i64,
    /// How long a link is good.
    link_us: i64,
}

impl Settings {
    /// Of a configuration. Nobody can register where no mail is sent.
    pub(crate) fn of(accounts: &config::Accounts, has_mail: bool) -> Settings {
        Settings {
            registration: accounts.registration,
            has_mail,
            session_us: i64::from(accounts.session_days) * US_PER_DAY,
            idle_us: i64::from(accounts.idle_days) * US_PER_DAY,
            link_us: i64::from(accounts.link_hours) * 3_600 * US_PER_S,
        }
    }

    /// How long a link is good.
    pub(crate) fn link_us(&self) -> i64 {
        self.link_us
    }

    /// How long a session may go unused.
    pub(crate) fn idle(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.idle_us).unwrap_or(u64::MAX))
    }
}

/// Who asks for something, as far as that is known without asking the database.
#[derive(Clone, Debug)]
pub(crate) struct By {
    /// Where the request came from.
    pub(crate) client: IpAddr,
    /// What the program there calls itself.
    pub(crate) agent: String,
    pub(crate) request_id: String,
    /// The session, key or token that came with it, as the audit log has it.
    pub(crate) came_with: Option<String>,
}

impl By {
    /// The same as the audit log has it, by whom it turned out to be.
    pub(crate) fn who(&self, actor: &impl ToString) -> Who {
        let client = Some(self.client).filter(|client| !client.is_unspecified());
        let (came_with, request_id) = (self.came_with.clone(), self.request_id.clone());
        Who { actor: actor.to_string(), client, came_with, request_id, tenant: None }
    }

    fn from(&self) -> sessions::From {
        sessions::From { address: self.client.to_string(), agent: self.agent.clone() }
    }
}

impl Accounts {
    #[allow(clippy::too_many_arguments, reason = "what it is made of, once")]
    pub(crate) fn new(
        committer: Committer,
        authenticator: Arc<Authenticator>,
        jobs: jobs::Handle,
        readers: Pool,
        vault: Arc<Vault>,
        passwords: Passwords,
        refresh: RefreshKey,
        issuer: Arc<Issuer>,
        settings: Settings,
    ) -> Accounts {
        Accounts {
            committer,
            authenticator,
            jobs,
            readers,
            vault,
            passwords,
            throttle: Throttle::default(),
            refresh: Arc::new(refresh),
            issuer,
            settings,
        }
    }

    /// Has something written, and what it leaves to be done begun with.
    async fn write<T: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c mut Connection) -> Work<'c, T> + Send + 'static,
    ) -> Result<T, Problem> {
        let written = self.committer.write(work).await?;
        self.jobs.wake();
        Ok(written)
    }

    /// Refuses what takes mail where none is sent.
    fn posts(&self) -> Result<(), Problem> {
        if self.settings.has_mail {
            return Ok(());
        }
        let message = "no mail is sent here: the operator can give you a link (godwit user link)";
        Err(Problem::new(Code::Forbidden, message))
    }

    /// Counts what an account writes down for itself.
    fn writes(&self, account: Uuid, by: &By) -> Result<(), Problem> {
        self.throttle.attempt(by.client, Attempt::Own(&account.to_string()))
    }

    /// Counts a token that is good once.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(crate) fn spends(&self, caller: &Caller) -> Result<(), Problem> {
        self.throttle.attempt(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Attempt::Single(&caller.id))
    }

    /// The account of who has logged in.
    async fn of(&self, login: Login) -> Result<Account, Problem> {
        let mut connection = self.readers.acquire().await?;
        accounts::by_id(&mut connection, login.account).await?.ok_or_else(gone)
    }

    /// The same once its password was given again: for what a borrowed session may not do.
    async fn confirmed(&self, login: Login, password: &str, by: &By) -> Result<Account, Problem> {
        self.throttle.attempt(by.client, Attempt::Password(&login.account.to_string()))?;
        let account = self.of(login).await?;
        let compared = self.passwords.compare(password, account.password.as_deref()).await?;
        if compared == crate::auth::password::Compared::Differs {
            return Err(Problem::new(Code::Forbidden, "the password is wrong"));
        }
        Ok(account)
    }
}

/// Who has logged in has no account any more.
fn gone() -> Problem {
    Problem::new(Code::TokenRevoked, "the account does not exist any more")
}

fn link_expired() -> Problem {
    let message = "the link was used, has expired, or never was one; ask for another";
    Problem::new(Code::LinkExpired, message)
}

/// Another account came by the address at the same moment.
fn taken(error: sqlx::Error) -> Problem {
    let is_taken = error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    if is_taken { Problem::new(Code::UserExists, "another account has this address") } else { error.into() }
}

/// A secret that goes out in a link, and what is kept of it.
fn link_secret() -> Result<(String, [u8; 32]), Problem> {
    let mut octets = [0; 32];
    getrandom::fill(&mut octets)
        .map_err(|_| Problem::new(Code::Internal, "no random numbers from the system"))?;
    let text = format!("{LINK_PREFIX}{}", URL_SAFE_NO_PAD.encode(octets));
    let hash = link_hash(&text);
    Ok((text, hash))
}

/// What is kept of a link's secret. With 256 random bits there is nothing that a slow hash would protect.
fn link_hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// An address as it was given, if it is one.
fn email(text: &str) -> Result<String, Problem> {
    let parsed = text.trim().parse::<Address>().ok();
    // What is not ASCII takes servers that know SMTPUTF8 all the way: a domain can be given as `xn--…`.
    let good = parsed.filter(|address| {
        let text: &str = address.as_ref();
        text.is_ascii() && text.len() <= MOST_EMAIL && !text.contains(['"', '\\', '[', ' '])
    });
    good.map(|address| address.to_string()).ok_or_else(|| {
        let message = "\"email\": expected an address like anna@example.org, in ASCII";
        Problem::new(Code::InvalidValue, message)
    })
}

/// What somebody wants to be called.
fn name(text: Option<&str>) -> Result<String, Problem> {
    let text = text.unwrap_or_default().trim();
    if text.chars().count() > MOST_NAME || text.chars().any(char::is_control) {
        let message = format!("\"name\": expected at most {MOST_NAME} characters, and no control characters");
        return Err(Problem::new(Code::InvalidValue, message));
    }
    Ok(text.to_owned())
}

/// What the tenant of somebody who is new is called: as they are, or what their address begins with.
fn tenant_name(account: &Account) -> &str {
    let local = account.email.split('@').next().unwrap_or_default();
    if account.name.is_empty() { local } else { &account.name }
}

/// Writes down what was done to an account, or a session.
async fn note(connection: &mut Connection, who: &Who, action: &str, object: Uuid) -> sqlx::Result<()> {
    audit::note(connection, who, action, &object.to_string()).await
}

/// The same with the fields that changed, as they were and as they are.
async fn note_change(
    connection: &mut Connection,
    who: &Who,
    action: &str,
    object: Uuid,
    (before, after): (Json, Json),
) -> sqlx::Result<()> {
    let object = object.to_string();
    audit::write(connection, &audit::Entry::done(who, action, &object).from_to(before, after)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_mail_reaches_everywhere() {
        let longest = format!("a@{}example", "x.".repeat(122));
        for good in ["anna@example.org", " anna@example.org ", "A.B+tag@xn--bcher-kva.example", &longest] {
            assert_eq!(email(good).unwrap(), good.trim(), "{good}");
        }
        let longer = format!("aa@{}example", "x.".repeat(124));
        for bad in [
            "",
            "anna",
            "@example.org",
            "anna@",
            "anna@example.org\r\nBcc: bert@example.org",
            "anna@example.org, bert@example.org",
            "Anna <anna@example.org>",
            "änna@example.org",
            "anna@bücher.example",
            "\"a b\"@example.org",
            "anna@[192.0.2.1]",
            "anna@exa mple.org",
            &longer,
        ] {
            assert_eq!(email(bad).unwrap_err().code, Code::InvalidValue, "{bad}");
        }
    }

    #[test]
    fn names_are_one_line() {
        assert_eq!(name(Some(" Anna Ä ")).unwrap(), "Anna Ä");
        assert_eq!(name(None).unwrap(), "");
        for bad in ["a\nb", "a\u{0}", &"x".repeat(101)] {
            assert_eq!(name(Some(bad)).unwrap_err().code, Code::InvalidValue);
        }
    }
}
