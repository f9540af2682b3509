//! A request that is about people, and no change of records: its body, and who it comes from.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};

use super::App;
use super::whence;
use super::write::{Payload, media_type, read_in_time};
use crate::accounts::{By, Holder, Manager};
use crate::auth::{Caller, Login, Scope};
use crate::error::{Code, Problem};
use crate::tenants::Asker;

/// The most octets of what a program calls itself that are kept.
const MOST_AGENT: usize = 200;

/// See the module.
pub(crate) struct Asked<T> {
    pub(crate) body: T,
    pub(crate) by: By,
    caller: Option<Caller>,
}

impl<T> Asked<T> {
    /// Who has logged in.
    ///
    /// # Errors
    /// `FORBIDDEN` for who has a token of another kind.
    pub(crate) fn login(&self) -> Result<Login, Problem> {
        self.caller.as_ref().and_then(|caller| caller.login).ok_or_else(|| {
            let message = "this is about a user: log in, and use the token of that";
            Problem::new(Code::Forbidden, message)
        })
    }

    /// Whose tokens are meant.
    ///
    /// # Errors
    /// `FORBIDDEN`, `INSUFFICIENT_SCOPE`.
    pub(crate) fn holder(&self) -> Result<Holder, Problem> {
        let nobody = || Problem::new(Code::Unauthenticated, "this needs a token");
        Holder::of(self.caller.as_ref().ok_or_else(nobody)?)
    }

    /// Who asks for something about tenants.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, `FORBIDDEN`.
    pub(crate) fn asker(&self, scope: Scope) -> Result<Asker, Problem> {
        let nobody = || Problem::new(Code::Unauthenticated, "this needs a token");
        let caller = self.caller.as_ref().ok_or_else(nobody)?;
        Asker::of(caller, scope, self.by.who(&caller.id))
    }

    /// Who may manage users.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`.
    pub(crate) fn manager(&self) -> Result<Manager, Problem> {
        let nobody = || Problem::new(Code::Unauthenticated, "this needs a token");
        let caller = self.caller.as_ref().ok_or_else(nobody)?;
        caller.scopes.require(Scope::UsersAdmin)?;
        caller.limits.allow_everything()?;
        // What a token would make here goes on when it has ended: so that takes a login, or one of nobody's account.
        let is_lasting = caller.login.is_some() || caller.is_of_nobody();
        Ok(Manager { actor: caller.id.clone(), is_operator: is_lasting && caller.scopes.has(Scope::Admin) })
    }
}

impl<T: Payload> FromRequest<Arc<App>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Asked<T>, Problem> {
        let (parts, body) = request.into_parts();
        let is_read = matches!(parts.method, Method::GET | Method::HEAD);
        if !is_read && parts.uri.query().is_some_and(|query| !query.is_empty()) {
            return Err(Problem::new(Code::MalformedRequest, "this takes no parameters"));
        }
        let by = by(&parts);
        let caller = parts.extensions.get::<Caller>().cloned();
        let (octets, room) = read_in_time(app, &parts.headers, body, T::LIMIT).await?;
        let body = T::read(media_type(&parts.headers).as_deref(), octets.into())?;
        drop(room);
        Ok(Asked { body, by, caller })
    }
}

/// Where a request comes from.
pub(crate) fn by(parts: &Parts) -> By {
    let agent = parts.headers.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    let mut agent = String::from_utf8_lossy(agent).into_owned();
    agent.truncate(agent.floor_char_boundary(MOST_AGENT));
    By {
        client: whence::client(&parts.extensions).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        agent,
        request_id: whence::request_id(&parts.extensions),
        came_with: parts.extensions.get::<Caller>().map(Caller::brought),
    }
}
