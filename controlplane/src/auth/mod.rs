//! Who is asking, and what they may: opaque tokens (hashed at rest), and JWTs of who has logged in.

pub(crate) mod access;
mod caller;
pub(crate) mod cookie;
pub(crate) mod jwt;
pub(crate) mod keys;
pub mod limits;
mod opaque;
pub(crate) mod password;
pub(crate) mod refresh;
mod remembered;
pub(crate) mod revoked;
pub mod scope;
mod still;
pub(crate) mod throttle;
mod token;
pub(crate) mod totp;
pub(crate) mod used;

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast;
use uuid::Uuid;

pub(crate) use access::Access;
pub use caller::Caller;
pub(crate) use caller::{By, Login};
pub(crate) use limits::Limits;
pub(crate) use remembered::Remembered;
pub use scope::{Scope, Scopes};
pub(crate) use still::still_may;
pub use token::{Token, TokenHash};

use crate::commit::Committer;
use crate::error::{Code, Problem};
use crate::store::revocations::Revoked;
use crate::store::sessions::Session;
use crate::store::{Connection, Pool, audit, keys as keys_table, now_us, sessions, tokens};
use cookie::CookieKey;
use jwt::issuer::Issuer;
use keys::Keys;
use opaque::good;
use revoked::Tokens;
use used::Used;

/// The scope that may do everything.
pub const ADMIN: &str = "admin";

const US_PER_S: i64 = 1_000_000;
/// What waits for who hears of it late: whoever is further behind looks at all.
const NEWS: usize = 256;
/// A session of a browser is noted to be in use once in so long.
const TOUCHED_EVERY_US: i64 = 3_600 * US_PER_S;

/// Who was found to hold a token, and until when the token is good.
#[derive(Clone, Debug)]
struct Known {
    caller: Caller,
    /// Seconds since the epoch.
    until_s: Option<i64>,
}

/// Checks tokens against the database.
#[derive(Debug)]
pub(crate) struct Authenticator {
    issuer: Arc<Issuer>,
    cookies: CookieKey,
    /// A session that was not used for so long has ended.
    idle: Duration,
    /// Whether a JWT that a key signed is remembered.
    remembers: bool,
    /// Whether the database alone is to keep tenants apart: for tests, see [`Access::unchecked`].
    #[cfg(debug_assertions)]
    without_checks: bool,
    keys: Keys,
    revoked: Tokens,
    used: Used,
    remembered: Remembered<Known>,
    /// Tells what is good no more, or not as it was, once each.
    news: broadcast::Sender<Revoked>,
}

impl Authenticator {
    /// That takes the JWTs of an issuer.
    pub(crate) fn new(
        issuer: Arc<Issuer>,
        cookies: CookieKey,
        idle: Duration,
        remembers: bool,
    ) -> Authenticator {
        Authenticator {
            issuer,
            cookies,
            idle,
            remembers,
            #[cfg(debug_assertions)]
            without_checks: false,
            keys: Keys::default(),
            revoked: Tokens::default(),
            used: Used::default(),
            remembered: Remembered::default(),
            news: broadcast::Sender::new(NEWS),
        }
    }

    /// This, without checks in the program that keep tenants apart.
    #[cfg(debug_assertions)]
    pub(crate) fn without_checks(self) -> Authenticator {
        Authenticator { without_checks: true, ..self }
    }

    /// What an account may in which zone.
    ///
    /// # Errors
    /// Of the database.
    async fn access(
        &self,
        connection: &mut Connection,
        account: Uuid,
        is_operator: bool,
    ) -> sqlx::Result<Access> {
        let access = Access::of(connection, account, is_operator).await?;
        #[cfg(debug_assertions)]
        let access = if self.without_checks { access.unchecked() } else { access };
        Ok(access)
    }

    /// Who holds this token.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, `TOKEN_REVOKED`, or the database's.
    pub(crate) async fn authenticate(&self, readers: &Pool, token: &str) -> Result<Caller, Problem> {
        let hash = key_of(token);
        if let Some(known) = self.remembered.get(&hash).filter(Known::is_good) {
            return Ok(known.caller);
        }
        if !token.contains('.') {
            let (known, id) = self.of_opaque(readers, token).await?;
            self.used.note(id);
            self.remembered.keep(hash, known.clone());
            return Ok(known.caller);
        }
        let kid = jwt::kid(token).map_err(refused)?;
        if self.issuer.is_named(&kid) {
            let known = self.of_session(readers, token).await?;
            self.remembered.keep(hash, known.clone());
            return Ok(known.caller);
        }
        let known = self.of_key(readers, token, &kid).await?;
        if self.remembers && !known.caller.spends {
            self.remembered.keep(hash, known.clone());
        }
        Ok(known.caller)
    }

    /// Uses up what somebody came with that is good once.
    ///
    /// # Errors
    /// `TOKEN_REVOKED`, or of the database.
    pub(crate) async fn spend(&self, committer: &Committer, caller: &Caller) -> Result<(), Problem> {
        let Some(By::Key { key, jti, .. }) = caller.by.clone() else { return Ok(()) };
        // None is good for longer.
        let lives_s = self.issuer.lifetime_s().saturating_add(2 * jwt::SKEW_S);
        let until_us = now_us().saturating_add(lives_s.saturating_mul(US_PER_S));
        let spend = committer.write(move |connection| {
            Box::pin(async move {
                if keys_table::by_id(connection, key).await?.is_none() {
                    return Err(refused(jwt::Refused::UnknownKey));
                }
                Ok(keys_table::spend(connection, key, &jti, until_us).await?)
            })
        });
        if spend.await? {
            return Ok(());
        }
        let message = "the token was used before, and its key says that each is good once";
        Err(Problem::new(Code::TokenRevoked, message))
    }

    /// Whose cookie this is. That its session is in use is written down by the one who is given, where it is.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, `TOKEN_REVOKED`, or the database's.
    pub(crate) async fn of_cookie(
        &self,
        readers: &Pool,
        in_use: Option<&Committer>,
        value: &str,
    ) -> Result<Caller, Problem> {
        let hash = key_of(value);
        if let Some(known) = self.remembered.get(&hash).filter(Known::is_good) {
            return Ok(known.caller);
        }
        let unknown = || Problem::new(Code::Unauthenticated, "the cookie is not known here: log in");
        let session = self.cookies.read(value).ok_or_else(unknown)?;
        let (found, access) = self.session(readers, session).await?;
        let now = now_us();
        if let Some(committer) = in_use
            && found.used_at_us < now.saturating_sub(TOUCHED_EVERY_US)
        {
            // Nobody waits for that.
            let committer = committer.clone();
            tokio::spawn(async move {
                let touch = committer.write(move |connection| {
                    Box::pin(async move { Ok(sessions::touch(connection, session, now).await?) })
                });
                if let Err(problem) = touch.await {
                    tracing::debug!(%problem, "that a session is in use was not written down");
                }
            });
        }
        let caller = Caller {
            id: found.account.to_string(),
            scopes: scopes_of(found.is_operator),
            limits: Arc::default(),
            access,
            login: Some(Login { account: found.account, session }),
            by: None,
            is_bounded: false,
            spends: false,
            unchecked: false,
        };
        let known = Known { caller, until_s: Some(found.expires_at_us / US_PER_S) };
        self.remembered.keep(hash, known.clone());
        Ok(known.caller)
    }

    /// `Set-Cookie` for a session that begins.
    pub(crate) fn cookie(&self, session: Uuid, lasts_s: i64) -> Option<HeaderValue> {
        self.cookies.set(session, lasts_s)
    }

    /// The session that a cookie names, whether it goes on or not.
    pub(crate) fn session_of(&self, value: &str) -> Option<Uuid> {
        self.cookies.read(value)
    }

    /// A session that goes on.
    async fn session(&self, readers: &Pool, session: Uuid) -> Result<(Session, Access), Problem> {
        let mut connection = readers.acquire().await?;
        let found = sessions::by_id(&mut connection, session).await?;
        let idle = i64::try_from(self.idle.as_micros()).unwrap_or(i64::MAX);
        let now = now_us();
        let goes_on = found.filter(|found| found.goes_on(now, now.saturating_sub(idle)));
        let ended = || Problem::new(Code::TokenRevoked, "the session has ended");
        let found = goes_on.ok_or_else(ended)?;
        let access = self.access(&mut connection, found.account, found.is_operator).await?;
        Ok((found, access))
    }

    /// Who held this token when the database was last asked about it, if that is not longer ago.
    pub(crate) fn remembered(&self, token: &str, within: Duration) -> Option<Caller> {
        let known = self.remembered.within(&key_of(token), within).filter(Known::is_good)?;
        Some(Caller { unchecked: true, ..known.caller })
    }

    /// Of a token that we made for who has logged in.
    async fn of_session(&self, readers: &Pool, token: &str) -> Result<Known, Problem> {
        let now = now_us();
        let claims = self.issuer.read(token, now / US_PER_S).map_err(refused)?;
        let session = claims.sid.ok_or_else(|| refused(jwt::Refused::Claims))?;
        let granted = Scopes::parse(&claims.scope).map_err(|_| refused(jwt::Refused::Claims))?;
        let (found, access) = self.session(readers, session).await?;
        if found.account != claims.sub {
            return Err(refused(jwt::Refused::Claims));
        }
        let caller = Caller {
            id: found.account.to_string(),
            // What the account may now, whatever it could when the token was made.
            scopes: granted.within(scopes_of(found.is_operator)),
            limits: Arc::default(),
            access,
            login: Some(Login { account: found.account, session }),
            by: None,
            is_bounded: false,
            spends: false,
            unchecked: false,
        };
        Ok(Known { caller, until_s: Some(claims.exp.saturating_add(jwt::SKEW_S)) })
    }

    /// A key, from memory or from the database, with what its account may.
    async fn key(&self, readers: &Pool, id: Uuid) -> Result<Option<(Arc<keys::Key>, Access)>, Problem> {
        if let Some(known) = self.keys.remembered(id) {
            return Ok(Some(known));
        }
        let mut connection = readers.acquire().await?;
        let found = keys_table::by_id(&mut connection, id).await?;
        let Some(key) = found.as_ref().and_then(keys::Key::of) else { return Ok(None) };
        let access = self.access(&mut connection, key.account, key.is_operator).await?;
        Ok(Some(self.keys.keep(key, access)))
    }

    /// Of a token that its user signed.
    async fn of_key(&self, readers: &Pool, token: &str, kid: &str) -> Result<Known, Problem> {
        let unknown = || refused(jwt::Refused::UnknownKey);
        let id: Uuid = kid.parse().map_err(|_| unknown())?;
        let (key, access) = self.key(readers, id).await?.ok_or_else(unknown)?;
        let now = now_us();
        if key.expires_at_us.is_some_and(|expires| expires <= now) {
            return Err(Problem::new(Code::TokenRevoked, "the key has expired").about("key", key.id));
        }
        let account = key.account.to_string();
        let expected = jwt::Expected {
            issuer: &account,
            audience: self.issuer.audience(),
            lifetime_s: self.issuer.lifetime_s(),
            now_s: now / US_PER_S,
        };
        let claims = jwt::verify(token, &key.verifying, expected).map_err(refused)?;
        if claims.sub != key.account {
            return Err(refused(jwt::Refused::Issuer));
        }
        if key.is_suspended {
            return Err(Problem::new(Code::Forbidden, "the account is suspended").about("key", key.id));
        }
        if self.revoked.contains(key.account, &claims.jti) {
            return Err(Problem::new(Code::TokenRevoked, "the token was revoked").about("key", key.id));
        }
        let asked = Scopes::parse(&claims.scope).map_err(|name| {
            Problem::new(Code::InsufficientScope, format!("the token asks for {name}, which is no scope"))
        })?;
        let limits = claims.godwit.as_ref().map(Limits::of).transpose()?.unwrap_or_default();
        let caller = Caller {
            id: account,
            scopes: asked.within(key.scopes).within(scopes_of(key.is_operator)),
            limits: Arc::new(limits),
            access,
            login: None,
            by: Some(By::Key { account: key.account, key: key.id, jti: claims.jti }),
            is_bounded: true,
            spends: key.single_use,
            unchecked: false,
        };
        Ok(Known { caller, until_s: Some(claims.exp.saturating_add(jwt::SKEW_S)) })
    }

    /// Whether who sends a key has its other half, and is the one who says so.
    ///
    /// # Errors
    /// `INVALID_VALUE`.
    pub(crate) fn check_proof(
        &self,
        proof: &str,
        key: &jwt::VerifyingKey,
        account: Uuid,
    ) -> Result<(), Problem> {
        let (account_text, now_s) = (account.to_string(), now_us() / US_PER_S);
        let expected = jwt::Expected {
            issuer: &account_text,
            audience: self.issuer.audience(),
            lifetime_s: self.issuer.lifetime_s(),
            now_s,
        };
        let wrong = |why: jwt::Refused| {
            let message =
                format!("\"proof\": expected a JWT that the key signed, with your id as iss and sub: {why}");
            Problem::new(Code::InvalidValue, message)
        };
        let claims = jwt::verify_proof(proof, key, expected).map_err(wrong)?;
        if claims.sub == account { Ok(()) } else { Err(wrong(jwt::Refused::Issuer)) }
    }

    /// What is heard of for the first time that is good no more, or not as it was.
    pub(crate) fn news(&self) -> broadcast::Receiver<Revoked> {
        self.news.subscribe()
    }

    /// Tells of something that was.
    pub(crate) fn tell_news(&self, revoked: Revoked) {
        // Nobody may be there to hear it.
        let _ = self.news.send(revoked);
    }

    /// Forgets what is refused for its age, too.
    pub(crate) fn sweep(&self) {
        self.revoked.sweep();
    }

    /// Forgets what was revoked.
    pub(crate) fn heard(&self, revoked: &Revoked, until_us: i64) {
        match revoked {
            Revoked::Key(id) => {
                self.keys.forget(|key, _| key.id == *id);
            }
            Revoked::Account(id) => {
                self.keys.forget(|key, _| key.account == *id);
            }
            Revoked::Tenant(number) => {
                self.keys.forget(|_, access| access.acts_for(*number));
            }
            Revoked::Token(account, jti) => {
                if self.revoked.contains(*account, jti) {
                    return;
                }
                self.revoked.add(*account, jti, until_us);
            }
        }
        self.remembered.forget(|known| known.caller.is_concerned_by(revoked));
    }
}

/// Who sent it learns why, the log too.
fn refused(why: jwt::Refused) -> Problem {
    tracing::info!(%why, "a JWT was refused");
    Problem::new(Code::Unauthenticated, format!("the token is not taken: {why}"))
}

impl Known {
    fn is_good(&self) -> bool {
        self.until_s.is_none_or(|until| now_us() / US_PER_S < until)
    }
}

/// What an account may do, all in all: in which zones is another matter, see [`Access`].
pub(crate) fn scopes_of(is_operator: bool) -> Scopes {
    if is_operator {
        return Scopes::of(Scope::Admin);
    }
    let of_tenants = [
        Scope::RecordsRead,
        Scope::RecordsWrite,
        Scope::DomainsRead,
        Scope::DomainsWrite,
        Scope::AcmeTxt,
        Scope::DyndnsUpdate,
        Scope::DnssecExport,
    ];
    of_tenants.into_iter().fold(Scopes::NONE, Scopes::with)
}

/// What a token of any kind is remembered by.
fn key_of(token: &str) -> TokenHash {
    TokenHash(Sha256::digest(token).into())
}

/// The token that comes with a request, whatever it is.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    // The scheme's case does not matter (RFC 9110 §11.1).
    header
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
}

/// Makes a token and stores its hash. The token is nowhere afterwards but with the caller.
///
/// # Errors
/// Of the database, or that the system has no random numbers.
pub async fn create(connection: &mut Connection, scope: &str) -> anyhow::Result<Token> {
    let token = Token::random()?;
    let id = Uuid::now_v7();
    let now = now_us();
    tokens::insert(connection, &tokens::Token::new(id, &token.hash().0, scope, now)).await?;
    let (who, object) = (audit::Who::local(), id.to_string());
    let entry = audit::Entry::done(&who, "token.create", &object);
    audit::write(connection, &entry.from_to(Json::Null, json!({ "scope": scope }))).await?;
    Ok(token)
}
