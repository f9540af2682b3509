//! A second proof: one-time passwords of an app, and the codes that replace them.

use serde_json::json;

use super::{Accounts, By, gone, mail, note, note_change};
use crate::auth::throttle::Attempt;
use crate::auth::{Login, totp};
use crate::error::{Code, Problem};
use crate::secrets::Vault;
use crate::store::accounts::{self, Account};
use crate::store::data_keys::TOTP;
use crate::store::{Connection, now_us};

const US_PER_S: u64 = 1_000_000;

/// Refuses who does not give a code where one is asked for, and uses up the one that is given.
pub(super) async fn check(
    connection: &mut Connection,
    vault: &Vault,
    account: &Account,
    code: Option<&str>,
    now_us: i64,
) -> Result<(), Problem> {
    if account.totp_since_us.is_none() {
        return Ok(());
    }
    let Some(code) = code else {
        let message =
            "this account asks for a code: send \"code\", from the app or one of the recovery codes";
        return Err(Problem::new(Code::TotpRequired, message));
    };
    let secret = secret(connection, vault, account).await?;
    let taken = match totp::step(&secret, code, seconds(now_us)) {
        Some(step) => accounts::take_step(connection, account.id, step).await?,
        None => accounts::take_code(connection, account.id, &totp::code_hash(code)).await?,
    };
    if taken {
        Ok(())
    } else {
        Err(Problem::new(Code::Unauthenticated, "the code is wrong, or was used before"))
    }
}

async fn secret(
    connection: &mut Connection,
    vault: &Vault,
    account: &Account,
) -> Result<[u8; totp::SECRET_OCTETS], Problem> {
    let sealed = account.totp.as_deref().unwrap_or_default();
    let opened = vault.open(connection, TOTP.name, &account.id.to_string(), sealed).await?;
    opened.and_then(|secret| secret.try_into().ok()).ok_or_else(|| {
        tracing::error!(account = %account.id, "the secret of one-time passwords cannot be opened");
        Problem::new(Code::Internal, "a stored row could not be read; the log has the cause")
    })
}

fn seconds(now_us: i64) -> u64 {
    u64::try_from(now_us).unwrap_or_default() / US_PER_S
}

impl Accounts {
    /// A new secret for an app. It counts once a code of it is given.
    ///
    /// # Errors
    /// `FORBIDDEN` for a wrong password, `CONFLICT` where codes are asked for already, `RATE_LIMITED`, or of the database.
    pub(crate) async fn offer_totp(
        &self,
        login: Login,
        password: &str,
        by: &By,
    ) -> Result<totp::Offer, Problem> {
        let account = self.confirmed(login, password, by).await?;
        let no_numbers = |_| Problem::new(Code::Internal, "no random numbers from the system");
        let secret: [u8; totp::SECRET_OCTETS] = crate::secrets::sealing::random().map_err(no_numbers)?;
        let offer = totp::offer(&secret, host(self.issuer.audience()), &account.email)?;
        let (vault, by) = (self.vault.clone(), by.clone());
        let offered = self.write(move |connection| {
            Box::pin(async move {
                let id = login.account;
                note(connection, &by.who(&id), "totp.offer", id).await?;
                let sealed = vault.seal(connection, TOTP.name, &id.to_string(), &secret).await?;
                Ok(accounts::offer_totp(connection, id, &sealed).await?)
            })
        });
        if !offered.await? {
            let message = "this account asks for codes already; end that first";
            return Err(Problem::new(Code::Conflict, message));
        }
        Ok(offer)
    }

    /// Counts a code that is tried.
    pub(super) fn tried(&self, login: Login, code: Option<&str>, by: &By) -> Result<(), Problem> {
        match code {
            Some(_) => self.throttle.attempt(by.client, Attempt::Code(&login.account.to_string())),
            None => Ok(()),
        }
    }

    /// From now on codes are asked for; gives the recovery codes, once.
    ///
    /// # Errors
    /// `FORBIDDEN` for a wrong code, `CONFLICT` where no secret waits for one, `RATE_LIMITED`, or of the database.
    pub(crate) async fn begin_totp(&self, login: Login, code: &str, by: &By) -> Result<Vec<String>, Problem> {
        self.throttle.attempt(by.client, Attempt::Code(&login.account.to_string()))?;
        let codes = totp::recovery_codes()?;
        let hashes: Vec<[u8; 32]> = codes.iter().map(|code| totp::code_hash(code)).collect();
        let (vault, code, by) = (self.vault.clone(), code.to_owned(), by.clone());
        let begin = self.write(move |connection| {
            Box::pin(async move {
                let now = now_us();
                let account = accounts::hold(connection, login.account).await?.ok_or_else(gone)?;
                let none_waits =
                    || Problem::new(Code::Conflict, "no secret waits for a code: ask for one first");
                let sealed = account.totp.clone().filter(|_| account.totp_since_us.is_none());
                let sealed = sealed.ok_or_else(none_waits)?;
                let secret = secret(connection, &vault, &account).await?;
                let wrong =
                    || Problem::new(Code::Forbidden, "the code is wrong: is the clock of the device right?");
                let step = totp::step(&secret, &code, seconds(now)).ok_or_else(wrong)?;
                if !accounts::begin_totp(connection, account.id, now, &sealed).await? {
                    return Err(none_waits());
                }
                accounts::take_step(connection, account.id, step).await?;
                accounts::set_codes(connection, account.id, &hashes).await?;
                mail::enqueue(connection, &mail::Mail::SecondBegun { account: account.id }).await?;
                let change = (json!({ "totp": false }), json!({ "totp": true }));
                note_change(connection, &by.who(&account.id), "totp.begin", account.id, change).await?;
                Ok(())
            })
        });
        begin.await?;
        Ok(codes)
    }

    /// No codes are asked for any more.
    ///
    /// # Errors
    /// `FORBIDDEN` for a wrong password, `UNAUTHENTICATED` for a wrong code, `TOTP_REQUIRED`, `RATE_LIMITED`, or of the database.
    pub(crate) async fn end_totp(
        &self,
        login: Login,
        password: &str,
        code: Option<String>,
        by: &By,
    ) -> Result<(), Problem> {
        self.confirmed(login, password, by).await?;
        self.tried(login, code.as_deref(), by)?;
        let (vault, by) = (self.vault.clone(), by.clone());
        let end = self.write(move |connection| {
            Box::pin(async move {
                let account = accounts::hold(connection, login.account).await?.ok_or_else(gone)?;
                check(connection, &vault, &account, code.as_deref(), now_us()).await?;
                accounts::end_totp(connection, account.id).await?;
                mail::enqueue(connection, &mail::Mail::SecondEnded { account: account.id }).await?;
                let change = (json!({ "totp": true }), json!({ "totp": false }));
                note_change(connection, &by.who(&account.id), "totp.end", account.id, change).await?;
                Ok(())
            })
        });
        end.await
    }
}

/// The host of a URL: what an app shows.
fn host(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/')
}
