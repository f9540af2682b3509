//! Who is asking: opaque tokens, hashed at rest.

mod token;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq as _;
use uuid::Uuid;

pub use token::{Token, TokenHash};

use crate::error::{Code, Problem};
use crate::store::batch::Batch;
use crate::store::{Connection, Pool, audit, now_us, tokens};

/// The scope that may do everything.
pub const ADMIN: &str = "admin";
/// How long a token that was found good is not looked up again: within it a revocation takes effect.
const REMEMBERED: Duration = Duration::from_millis(500);
/// Tokens that are remembered.
const MOST_REMEMBERED: usize = 1_024;

/// Who is asking.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token's id: what the audit knows them by.
    pub id: String,
}

/// Checks tokens against the database.
#[derive(Debug, Default)]
pub struct Authenticator {
    remembered: Mutex<HashMap<TokenHash, (Instant, Caller)>>,
}

impl Authenticator {
    /// Who holds this token.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, `TOKEN_REVOKED`, `INSUFFICIENT_SCOPE`, or the database's.
    pub async fn authenticate(&self, readers: &Pool, token: &str) -> Result<Caller, Problem> {
        let unknown = || Problem::new(Code::Unauthenticated, "the token is not known here");
        let hash = Token::parse(token).ok_or_else(unknown)?.hash();
        if let Some(caller) = self.remembered(&hash) {
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
        let caller = Caller { id: found.id.to_string() };
        self.remember(hash, caller.clone());
        Ok(caller)
    }

    fn remembered(&self, hash: &TokenHash) -> Option<Caller> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, caller) = remembered.get(hash)?;
        (at.elapsed() < REMEMBERED).then(|| caller.clone())
    }

    fn remember(&self, hash: TokenHash, caller: Caller) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(hash, (Instant::now(), caller));
    }
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
