//! `/tokens`: opaque tokens, of who has logged in; for an admin token, those of nobody's account.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::super::App;
use super::super::asked::Asked;
use super::super::cursor::{self, ListParams, Page};
use super::super::envelope::ErrorBody;
use super::super::read::{Params, Segment};
use super::super::write::{self, Empty, json_bodies};
use super::{micros, timestamp};
use crate::accounts::NewToken;
use crate::auth::limits::{self, Narrowed};
use crate::error::{Code, Problem};
use crate::store::tokens;

/// A token, without its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Token {
    /// Names it, also in the audit log.
    pub id: String,
    /// What it is called.
    #[schema(example = "router at home")]
    pub name: String,
    /// What it may; what its account may not, it may not either.
    #[schema(example = "records:write")]
    pub scope: String,
    /// What it is narrowed to.
    pub narrowed: Narrowed,
    /// When it was made.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub created_at: String,
    /// When it ends; null: never.
    pub expires_at: Option<String>,
    /// When it was last used, within a minute; null: never.
    pub used_at: Option<String>,
}

impl Token {
    fn of(token: &tokens::Token) -> Token {
        Token {
            id: token.id.to_string(),
            name: token.name.clone(),
            scope: token.scope.clone(),
            narrowed: serde_json::from_str(&token.narrowed).unwrap_or_default(),
            created_at: timestamp(token.created_at_us),
            expires_at: token.expires_at_us.map(timestamp),
            used_at: token.used_at_us.map(timestamp),
        }
    }
}

/// A token to make.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddToken {
    /// What to call it.
    #[schema(example = "router at home")]
    pub name: String,
    /// Your password, where you have logged in: the token goes on when your session has ended.
    pub password: Option<String>,
    /// What it may, as names of scopes with spaces between.
    #[schema(example = "records:write")]
    pub scope: String,
    /// What it is narrowed to; nothing when left out.
    #[serde(default, deserialize_with = "limits::written")]
    pub narrowed: Option<Narrowed>,
    /// When it ends; never when left out.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, example = "2027-11-20T19:00:00Z")]
    pub expires_at: Option<OffsetDateTime>,
}

json_bodies!(AddToken: write::SMALL);

/// A token that was made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AddedToken {
    /// The token itself. It is not shown again.
    #[schema(example = "gw_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    pub token: String,
    /// The rest of it.
    #[serde(flatten)]
    pub about: Token,
}

/// Lists tokens that are not revoked.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "me", params(ListParams), responses(
    (status = 200, description = "One page", body = Page<Token>),
    (status = 403, description = "FORBIDDEN, INSUFFICIENT_SCOPE", body = ErrorBody),
))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(params): Params<ListParams>,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let holder = asked.holder()?;
    let limit = cursor::limit(params.limit)?;
    let after = cursor::after(params.cursor.as_deref())?;
    let listed = app.accounts.tokens_of(&holder, after, limit + 1).await?;
    Ok(Json(cursor::by_id(listed, limit, |row| row.id, |row| Token::of(&row))).into_response())
}

/// Makes a token.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "me", request_body = AddToken, responses(
    (status = 201, description = "Made", body = AddedToken),
    (status = 403, description = "FORBIDDEN: a token makes no other, or the password is wrong; INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 409, description = "CONFLICT: there are too many", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE, INVALID_NAME, INVALID_RECORD_TYPE", body = ErrorBody),
))]
pub(crate) async fn add(State(app): State<Arc<App>>, asked: Asked<AddToken>) -> Result<Response, Problem> {
    let holder = asked.holder()?;
    let AddToken { name, password, scope, narrowed, expires_at } = asked.body;
    let expires_at_us = expires_at.as_ref().map(micros);
    let narrowed = narrowed.unwrap_or_default();
    let new = NewToken { name, scope, narrowed, expires_at_us, password };
    let (secret, token) = app.accounts.add_token(holder, new, &asked.by).await?;
    let added = AddedToken { token: secret.reveal(), about: Token::of(&token) };
    Ok((StatusCode::CREATED, Json(added)).into_response())
}

/// Revokes a token. It is refused within a second, everywhere.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "me", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 204, description = "Revoked"),
    (status = 403, description = "FORBIDDEN, INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 404, description = "TOKEN_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let holder = asked.holder()?;
    let unknown = |_| Problem::new(Code::TokenNotFound, "you have no such token");
    app.accounts.revoke(holder, text.parse().map_err(unknown)?, &asked.by).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
