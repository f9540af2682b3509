//! Opaque tokens, looked up by their hash.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::limits::{Limits, Narrowed};
use super::{Access, Authenticator, By, Caller, Known, Scopes, Token, US_PER_S, scopes_of};
use crate::error::{Code, Problem};
use crate::store::{Pool, now_us, tokens};

impl Authenticator {
    /// Of an opaque token, and its id.
    pub(super) async fn of_opaque(&self, readers: &Pool, token: &str) -> Result<(Known, Uuid), Problem> {
        let unknown = || Problem::new(Code::Unauthenticated, "the token is not known here");
        let hash = Token::parse(token).ok_or_else(unknown)?.hash();
        let mut connection = readers.acquire().await?;
        let found = tokens::by_hash(&mut connection, &hash.0).await?.ok_or_else(unknown)?;
        // The index has found it by its octets already; equality is decided here, in constant time.
        if !bool::from(found.hash.ct_eq(&hash.0)) {
            return Err(unknown());
        }
        good(&found).map_err(|problem| problem.about("token", found.id))?;
        let scopes = Scopes::parse(&found.scope).map_err(|_| {
            Problem::new(Code::InsufficientScope, "the token has a scope that this version does not know")
        })?;
        let unreadable =
            || Problem::new(Code::Internal, "a stored row could not be read; the log has the cause");
        let narrowed: Narrowed = serde_json::from_str(&found.narrowed).map_err(|error| {
            tracing::error!(%error, token = %found.id, "what a token is narrowed to cannot be read");
            unreadable()
        })?;
        let access = match found.account {
            Some(account) => self.access(&mut connection, account, found.is_operator).await?,
            None => Access::everything(),
        };
        let caller = Caller {
            // Of an account that is the account, as with a key or a login.
            id: found.account.unwrap_or(found.id).to_string(),
            scopes: scopes.within(scopes_of(found.is_operator)),
            limits: Arc::new(Limits::of(&narrowed)?),
            access,
            login: None,
            by: found.account.map(|account| By::Token { account, token: found.id }),
            is_bounded: found.expires_at_us.is_some() || narrowed != Narrowed::default(),
            spends: false,
            unchecked: false,
        };
        let until_s = found.expires_at_us.map(|until| until / US_PER_S);
        Ok((Known { caller, until_s }, found.id))
    }
}

/// Whether a token is one that counts.
pub(super) fn good(token: &tokens::Token) -> Result<(), Problem> {
    if token.revoked {
        return Err(Problem::new(Code::TokenRevoked, "the token was revoked"));
    }
    if token.expires_at_us.is_some_and(|expires| expires <= now_us()) {
        return Err(Problem::new(Code::TokenRevoked, "the token has expired"));
    }
    if token.is_suspended {
        return Err(Problem::new(Code::Forbidden, "the account is suspended"));
    }
    Ok(())
}
