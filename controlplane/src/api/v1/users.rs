//! `/users`: accounts, for who manages them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::App;
use super::super::asked::Asked;
use super::super::cursor::{self, Page};
use super::super::envelope::ErrorBody;
use super::super::read::{Params, Segment};
use super::super::write::{self, Empty, json_bodies};
use super::timestamp;
use crate::accounts::{Patch, mail};
use crate::error::{Code, Problem};
use crate::store::accounts::Account;
use crate::store::registrations::Purpose;

/// An account.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct User {
    /// Names it for ever, also in the audit log.
    #[schema(example = "0199f3d2-7c1a-7d41-9e7b-3f0d5a1b2c3d")]
    pub id: String,
    /// Its address.
    #[schema(example = "anna@example.org")]
    pub email: String,
    /// What it is called.
    #[schema(example = "Anna")]
    pub name: String,
    /// Whether it may do everything.
    pub operator: bool,
    /// Since when it is let in nowhere; null: it is let in.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub suspended_at: Option<String>,
    /// Whether a password was chosen.
    pub password: bool,
    /// Whether it asks for codes of an app.
    pub totp: bool,
    /// When it was made.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub created_at: String,
}

impl User {
    pub(crate) fn of(account: &Account) -> User {
        User {
            id: account.id.to_string(),
            email: account.email.clone(),
            name: account.name.clone(),
            operator: account.is_operator,
            suspended_at: account.suspended_at_us.map(timestamp),
            password: account.password.is_some(),
            totp: account.totp_since_us.is_some(),
            created_at: timestamp(account.created_at_us),
        }
    }
}

/// An account to add.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Its address, for which who adds it vouches.
    #[schema(example = "anna@example.org")]
    pub email: String,
    /// What it is called.
    pub name: Option<String>,
    /// Whether it may do everything; false when left out.
    pub operator: Option<bool>,
}

/// An account that was added, or is to choose another password.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LinkedUser {
    /// The account.
    pub user: User,
    /// `gl_…`, for `POST /auth/password/reset`: with it the password is chosen. It is good once, and not shown again.
    pub token: String,
    /// The page that does the same.
    pub link: String,
}

/// What of an account to change; what is left out stays.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchUser {
    /// What it is called.
    pub name: Option<String>,
    /// Whether it may do everything.
    pub operator: Option<bool>,
    /// Whether it is let in nowhere. Its sessions end.
    pub suspended: Option<bool>,
    /// `false`: it asks for no codes any more, as the device is lost.
    pub totp: Option<bool>,
}

json_bodies!(NewUser: write::SMALL, PatchUser: write::SMALL);

fn id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::new(Code::UserNotFound, "there is no such user"))
}

/// Query parameters of the list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UserListParams {
    /// The one with this address only.
    pub email: Option<String>,
    /// Items of a page: 1 to 1000, 100 when left out.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// Lists accounts, in the order in which they were made.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", params(UserListParams), responses(
    (status = 200, description = "One page", body = Page<User>),
    (status = 403, description = "INSUFFICIENT_SCOPE", body = ErrorBody),
))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(params): Params<UserListParams>,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    asked.manager()?;
    let limit = cursor::limit(params.limit)?;
    let after = cursor::after(params.cursor.as_deref())?;
    let listed = match &params.email {
        Some(email) => app.accounts.with_email(email).await?.into_iter().collect(),
        None => app.accounts.list(after, limit + 1).await?,
    };
    Ok(Json(cursor::by_id(listed, limit, |row| row.id, |row| User::of(&row))).into_response())
}

/// An account.
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "users", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 200, description = "The account", body = User),
    (status = 403, description = "INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 404, description = "USER_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn look_up(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    asked.manager()?;
    let account = app.accounts.look_up(id(&text)?).await?;
    Ok(Json(User::of(&account)).into_response())
}

/// Adds an account; its password is chosen with the link.
#[utoipa::path(post, path = "/api/v1/users", tag = "users", request_body = NewUser, responses(
    (status = 201, description = "Added", body = LinkedUser),
    (status = 403, description = "INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 409, description = "USER_EXISTS", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn create(State(app): State<Arc<App>>, asked: Asked<NewUser>) -> Result<Response, Problem> {
    let manager = asked.manager()?;
    let NewUser { email, name, operator } = &asked.body;
    let is_operator = operator.unwrap_or_default();
    let added = app.accounts.add(email, name.as_deref(), is_operator, manager, &asked.by).await?;
    let user = User::of(&added.account);
    Ok((StatusCode::CREATED, linked(&app, user, added.link)).into_response())
}

/// Makes another link with which the password of an account is chosen. Links of before are good no more.
#[utoipa::path(post, path = "/api/v1/users/{id}/link", tag = "users", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 201, description = "Made", body = LinkedUser),
    (status = 403, description = "INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 404, description = "USER_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn link(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let manager = asked.manager()?;
    let id = id(&text)?;
    let token = app.accounts.link(id, manager, &asked.by).await?;
    let user = User::of(&app.accounts.look_up(id).await?);
    Ok((StatusCode::CREATED, linked(&app, user, token)).into_response())
}

/// Changes an account.
#[utoipa::path(patch, path = "/api/v1/users/{id}", tag = "users", params(
    ("id" = String, Path, description = "Its id"),
), request_body = PatchUser, responses(
    (status = 200, description = "Changed", body = User),
    (status = 403, description = "INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 404, description = "USER_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: it is the only operator", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn patch(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<PatchUser>,
) -> Result<Response, Problem> {
    let manager = asked.manager()?;
    let PatchUser { name, operator, suspended, totp } = asked.body;
    if totp == Some(true) {
        let message = "\"totp\" can be false only: the user makes an app ask for codes";
        return Err(Problem::new(Code::InvalidValue, message));
    }
    let patch = Patch { name, is_operator: operator, is_suspended: suspended, without_codes: totp.is_some() };
    let account = app.accounts.patch(id(&text)?, patch, manager, &asked.by).await?;
    Ok(Json(User::of(&account)).into_response())
}

/// Deletes an account with its sessions. The audit log keeps what it did.
#[utoipa::path(delete, path = "/api/v1/users/{id}", tag = "users", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 204, description = "Deleted"),
    (status = 403, description = "INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 404, description = "USER_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: it is the only operator", body = ErrorBody),
))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let manager = asked.manager()?;
    app.accounts.remove(id(&text)?, manager, &asked.by).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn linked(app: &App, user: User, token: String) -> Json<LinkedUser> {
    let link = format!("{}{}?token={token}", app.public_url, mail::path(Purpose::Password));
    Json(LinkedUser { user, token, link })
}
