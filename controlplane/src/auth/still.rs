//! Whether somebody who was let in before may still.

use uuid::Uuid;

use super::{Scopes, good, scopes_of};
use crate::error::{Code, Problem};
use crate::store::{Connection, accounts, keys, now_us, sessions, tokens};

/// Whether somebody whose request was accepted while the database could not be asked may still have it made: by their id, and the
/// key or the token that they came with.
///
/// # Errors
/// What speaks against it, or of the database.
pub(crate) async fn still_may(
    connection: &mut Connection,
    id: &str,
    came_with: Option<Uuid>,
) -> Result<Option<Problem>, Problem> {
    let unknown = || Ok(Some(Problem::new(Code::Unauthenticated, "the token is not known here")));
    let Ok(id) = id.parse::<Uuid>() else { return unknown() };
    if let Some(token) = tokens::by_id(connection, came_with.unwrap_or(id)).await?
        && token.account == came_with.map(|_| id)
    {
        let lacks = scopes_of(token.is_operator) == Scopes::NONE;
        return Ok(good(&token).err().or_else(|| lacks.then(may_nothing)));
    }
    let Some(account) = accounts::by_id(connection, id).await? else { return unknown() };
    if account.suspended_at_us.is_some() {
        return Ok(Some(Problem::new(Code::Forbidden, "the account is suspended")));
    }
    if scopes_of(account.is_operator) == Scopes::NONE {
        return Ok(Some(may_nothing()));
    }
    let Some(key) = came_with else { return Ok(None) };
    if let Some(session) = sessions::by_id(connection, key).await? {
        let ended = || Problem::new(Code::TokenRevoked, "the session has ended");
        let goes_on = session.account == id && session.goes_on(now_us(), 0);
        return Ok((!goes_on).then(ended));
    }
    let found = keys::by_id(connection, key).await?;
    let counts =
        found.is_some_and(|key| key.account == id && key.expires_at_us.is_none_or(|at| at > now_us()));
    let gone = || Problem::new(Code::TokenRevoked, "the key or token was removed, or has expired");
    Ok((!counts).then(gone))
}

fn may_nothing() -> Problem {
    Problem::new(Code::InsufficientScope, "the account may do nothing any more")
}
