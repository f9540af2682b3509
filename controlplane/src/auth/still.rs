//! Whether somebody who was let in before may still.

use uuid::Uuid;

use super::{Access, good};
use crate::error::{Code, Problem};
use crate::store::{Connection, accounts, keys, now_us, sessions, tokens};

/// Whether somebody whose request was accepted while the database could not be asked may still have it made, by their id, and the
/// key or the token that they came with: what they may now in which zone.
///
/// # Errors
/// The inner one: what speaks against it. The outer one: of the database.
pub(crate) async fn still_may(
    connection: &mut Connection,
    id: &str,
    came_with: Option<Uuid>,
) -> Result<Result<Access, Problem>, Problem> {
    let unknown = || Ok(Err(Problem::new(Code::Unauthenticated, "the token is not known here")));
    let Ok(id) = id.parse::<Uuid>() else { return unknown() };
    if let Some(token) = tokens::by_id(connection, came_with.unwrap_or(id)).await?
        && token.account == came_with.map(|_| id)
    {
        if let Err(problem) = good(&token) {
            return Ok(Err(problem));
        }
        return Ok(Ok(match token.account {
            Some(account) => Access::of(connection, account, token.is_operator).await?,
            None => Access::everything(),
        }));
    }
    let Some(account) = accounts::by_id(connection, id).await? else { return unknown() };
    if account.suspended_at_us.is_some() {
        return Ok(Err(Problem::new(Code::Forbidden, "the account is suspended")));
    }
    let access = Access::of(connection, id, account.is_operator).await?;
    let Some(key) = came_with else { return Ok(Ok(access)) };
    if let Some(session) = sessions::by_id(connection, key).await? {
        let goes_on = session.account == id && session.goes_on(now_us(), 0);
        let ended = || Problem::new(Code::TokenRevoked, "the session has ended");
        return Ok(if goes_on { Ok(access) } else { Err(ended()) });
    }
    let found = keys::by_id(connection, key).await?;
    let counts =
        found.is_some_and(|key| key.account == id && key.expires_at_us.is_none_or(|at| at > now_us()));
    let gone = || Problem::new(Code::TokenRevoked, "the key or token was removed, or has expired");
    Ok(if counts { Ok(access) } else { Err(gone()) })
}
