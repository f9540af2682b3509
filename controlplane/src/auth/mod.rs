//! Who is asking: opaque tokens, hashed at rest.

mod remembered;
mod token;

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

pub(crate) use remembered::Remembered;
pub use token::{Token, TokenHash};

use crate::error::{Code, Problem};
use crate::store::batch::Batch;
use crate::store::{Connection, Pool, audit, now_us, tokens};

/// The scope that may do everything.
pub const ADMIN: &str = "admin";

/// Who is asking.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token's id: what the audit knows them by.
    pub id: String,
    /// Known from memory alone: the database could not be asked.
    pub(crate) unchecked: bool,
}

/// Checks tokens against the database.
#[derive(Debug, Default)]
pub struct Authenticator {
    remembered: Remembered<Caller>,
}

impl Authenticator {
    /// Who holds this token.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, `TOKEN_REVOKED`, `INSUFFICIENT_SCOPE`, or the database's.
    pub async fn authenticate(&self, readers: &Pool, token: &str) -> Result<Caller, Problem> {
        let unknown = || Problem::new(Code::Unauthenticated, "the token is not known here");
        let hash = Token::parse(token).ok_or_else(unknown)?.hash();
        if let Some(caller) = self.remembered.get(&hash) {
            return Ok(caller);
        }
        let mut connection = readers.acquire().await?;
        let found = tokens::by_hash(&mut connection, &hash.0).await?.ok_or_else(unknown)?;
        // The index has found it by its octets already; equality is decided here, in constant time.
        if !bool::from(found.hash.ct_eq(&hash.0)) {
            return Err(unknown());
        }
        if found.revoked {
            return Err(Problem::new(Code::TokenRevoked, "the token was revoked"));
        }
        if found.scope != ADMIN {
            return Err(Problem::new(Code::InsufficientScope, format!("this needs the scope {ADMIN}")));
        }
        let caller = Caller { id: found.id.to_string(), unchecked: false };
        self.remembered.keep(hash, caller.clone());
        Ok(caller)
    }

    /// Who held this token when the database was last asked about it, if that is not longer ago.
    pub(crate) fn remembered(&self, token: &str, within: Duration) -> Option<Caller> {
        let hash = Token::parse(token)?.hash();
        self.remembered.within(&hash, within).map(|caller| Caller { unchecked: true, ..caller })
    }
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
    tokens::insert(connection, id, &token.hash().0, scope, now).await?;
    let object = id.to_string();
    let entry = audit::Entry {
        at_us: now,
        actor: "local",
        action: "token.create",
        object: &object,
        request_id: "",
        change: None,
    };
    let mut batch = Batch::of(connection);
    audit::insert(&mut batch, &entry);
    batch.run(connection).await?;
    Ok(token)
}
