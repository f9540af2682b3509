//! `/auth`: registering, logging in, and links. None of it takes a token, and none of it tells a stranger whether an address
//! has an account.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::App;
use super::super::asked::Asked;
use super::super::envelope::ErrorBody;
use super::super::write::{self, json_bodies};
use super::users::User;
use crate::accounts::{Credentials, Tokens};
use crate::auth::cookie;
use crate::error::{Code, Problem};

/// Who wants an account.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Proven by a link that goes there.
    #[schema(example = "anna@example.org")]
    pub email: String,
    /// At least 10 characters.
    #[schema(example = "correct horse battery staple")]
    pub password: String,
    /// What to be called.
    #[schema(example = "Anna")]
    pub name: Option<String>,
}

/// What stands in a link: its `token`.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// `gl_…`, good once.
    #[schema(example = "gl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    pub token: String,
}

/// A link, and the password of the registration that it is for.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProofOfRegistration)]
pub struct Proof {
    /// `gl_…`, good once.
    #[schema(example = "gl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    pub token: String,
    /// That was registered: whoever reads the mail has not registered by that alone.
    #[schema(example = "correct horse battery staple")]
    pub password: String,
}

/// Who logs in.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    /// The account's address.
    #[schema(example = "anna@example.org")]
    pub email: String,
    /// Its password.
    #[schema(example = "correct horse battery staple")]
    pub password: String,
    /// A code of the app, or a recovery code, where the account asks for one (`TOTP_REQUIRED`).
    #[schema(example = "123456")]
    pub code: Option<String>,
    /// For a browser: the session goes into a cookie that scripts do not see, and no token is given.
    pub cookie: Option<bool>,
}

/// What a session is ended by.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogOut {
    /// `gr_…`; left out: the session of the cookie.
    pub refresh_token: Option<String>,
}

/// A refresh token.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// `gr_…`, good once.
    pub refresh_token: String,
}

/// An address.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Where the link goes, if it is that of an account.
    #[schema(example = "anna@example.org")]
    pub email: String,
}

/// Another password, by a link.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// `gl_…`, good once.
    pub token: String,
    /// At least 10 characters.
    pub password: String,
}

json_bodies!(
    Registration: write::SMALL, Proof: write::SMALL, Link: write::SMALL, LogOut: write::SMALL, LogIn: write::SMALL, Refresh: write::SMALL,
    Address: write::SMALL, Reset: write::SMALL,
);

/// What was asked for, where nothing more is said.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Taken {
    /// Always `sent`: whatever there is to say goes to the address.
    #[schema(example = "sent")]
    pub state: &'static str,
}

/// What somebody who has logged in goes on with.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LoggedIn {
    /// A JWT, to be sent as `Authorization: Bearer`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// Seconds for which it is good.
    #[schema(example = 300)]
    pub expires_in: i64,
    /// For `POST /auth/refresh`, once: it gives the next. One that comes twice ends its session.
    pub refresh_token: String,
    /// The session, as `GET /users/me/sessions` lists it.
    pub session: String,
}

impl LoggedIn {
    fn of(tokens: Tokens) -> Json<LoggedIn> {
        Json(LoggedIn {
            access_token: tokens.access,
            token_type: "Bearer",
            expires_in: tokens.lifetime_s,
            refresh_token: tokens.refresh,
            session: tokens.session.to_string(),
        })
    }
}

fn sent() -> Response {
    (StatusCode::ACCEPTED, Json(Taken { state: "sent" })).into_response()
}

/// Registers an account. Its address has to be proven by the link that is sent there.
#[utoipa::path(post, path = "/api/v1/auth/register", tag = "auth", security(()), request_body = Registration, responses(
    (status = 202, description = "Whatever there is to say goes to the address", body = Taken),
    (status = 403, description = "FORBIDDEN: nobody can register here", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn register(
    State(app): State<Arc<App>>,
    asked: Asked<Registration>,
) -> Result<Response, Problem> {
    let Registration { email, password, name } = &asked.body;
    app.accounts.register(email, password, name.as_deref(), &asked.by).await?;
    Ok(sent())
}

/// Proves an address, and makes the account that was registered for it.
#[utoipa::path(post, path = "/api/v1/auth/verify", tag = "auth", security(()), request_body = Proof, responses(
    (status = 201, description = "The account", body = User),
    (status = 403, description = "FORBIDDEN: the password is not the one that was registered", body = ErrorBody),
    (status = 409, description = "USER_EXISTS", body = ErrorBody),
    (status = 410, description = "LINK_EXPIRED", body = ErrorBody),
))]
pub(crate) async fn verify(State(app): State<Arc<App>>, asked: Asked<Proof>) -> Result<Response, Problem> {
    let Proof { token, password } = &asked.body;
    let account = app.accounts.verify(token, password, &asked.by).await?;
    Ok((StatusCode::CREATED, Json(User::of(&account))).into_response())
}

/// Logs in.
#[utoipa::path(post, path = "/api/v1/auth/login", tag = "auth", security(()), request_body = LogIn, responses(
    (status = 200, description = "Tokens", body = LoggedIn),
    (status = 204, description = "With `cookie`: the session is in the cookie"),
    (status = 401, description = "UNAUTHENTICATED, TOTP_REQUIRED", body = ErrorBody),
    (status = 403, description = "EMAIL_NOT_VERIFIED; FORBIDDEN: the account is suspended", body = ErrorBody),
))]
pub(crate) async fn login(State(app): State<Arc<App>>, asked: Asked<LogIn>) -> Result<Response, Problem> {
    let LogIn { email, password, code, cookie } = asked.body;
    let tokens = app.accounts.login(Credentials { email, password, code }, &asked.by).await?;
    if cookie != Some(true) {
        return Ok(LoggedIn::of(tokens).into_response());
    }
    let set = app.authenticator.cookie(tokens.session, app.accounts.session_lasts_s());
    let set = set.ok_or_else(|| Problem::new(Code::Internal, "the cookie could not be made"))?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, set)]).into_response())
}

/// Goes on with a session.
#[utoipa::path(post, path = "/api/v1/auth/refresh", tag = "auth", security(()), request_body = Refresh, responses(
    (status = 200, description = "Tokens", body = LoggedIn),
    (status = 401, description = "UNAUTHENTICATED, TOKEN_REVOKED", body = ErrorBody),
))]
pub(crate) async fn refresh(State(app): State<Arc<App>>, asked: Asked<Refresh>) -> Result<Response, Problem> {
    let tokens = app.accounts.refresh(&asked.body.refresh_token, &asked.by).await?;
    Ok(LoggedIn::of(tokens).into_response())
}

/// Ends a session.
#[utoipa::path(post, path = "/api/v1/auth/logout", tag = "auth", security(()), request_body = LogOut, responses(
    (status = 204, description = "The session, if it was one, has ended"),
    (status = 403, description = "FORBIDDEN: the cookie comes from the page of somebody else", body = ErrorBody),
))]
pub(crate) async fn logout(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    asked: Asked<LogOut>,
) -> Result<Response, Problem> {
    if let Some(token) = &asked.body.refresh_token {
        app.accounts.logout(token, &asked.by).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if !cookie::is_from_here(&headers, &app.public_url) {
        let message = "a cookie changes something from our own pages alone";
        return Err(Problem::new(Code::Forbidden, message));
    }
    let session = cookie::value(&headers).and_then(|value| app.authenticator.session_of(value));
    app.accounts.end(session, &asked.by).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().extend(cookie::clear().map(|clear| (SET_COOKIE, clear)));
    Ok(response)
}

/// Has a link sent with which another password is chosen.
#[utoipa::path(post, path = "/api/v1/auth/password/forgot", tag = "auth", security(()), request_body = Address, responses(
    (status = 202, description = "Whatever there is to say goes to the address", body = Taken),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn forgot(State(app): State<Arc<App>>, asked: Asked<Address>) -> Result<Response, Problem> {
    app.accounts.forgot_password(&asked.body.email, &asked.by).await?;
    Ok(sent())
}

/// Chooses another password by a link. All sessions of the account end.
#[utoipa::path(post, path = "/api/v1/auth/password/reset", tag = "auth", security(()), request_body = Reset, responses(
    (status = 204, description = "Chosen"),
    (status = 410, description = "LINK_EXPIRED", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn reset(State(app): State<Arc<App>>, asked: Asked<Reset>) -> Result<Response, Problem> {
    let Reset { token, password } = &asked.body;
    app.accounts.reset_password(token, password, &asked.by).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Proves the address that an account shall have.
#[utoipa::path(post, path = "/api/v1/auth/email", tag = "auth", security(()), request_body = Link, responses(
    (status = 204, description = "The account has the address now"),
    (status = 409, description = "USER_EXISTS: another account has it", body = ErrorBody),
    (status = 410, description = "LINK_EXPIRED", body = ErrorBody),
))]
pub(crate) async fn email(State(app): State<Arc<App>>, asked: Asked<Link>) -> Result<Response, Problem> {
    app.accounts.confirm_email(&asked.body.token, &asked.by).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
