//! `/users/me/keys`: the keys with which somebody signs tokens of their own.

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
use super::super::cursor::Page;
use super::super::envelope::ErrorBody;
use super::super::read::Segment;
use super::super::write::{self, Empty, json_bodies};
use super::{micros, timestamp};
use crate::accounts::NewKey;
use crate::error::{Code, Problem};
use crate::store::keys;

/// A key.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Key {
    /// The `kid` of its tokens.
    #[schema(example = "3f0d5a1b-7c1a-4d41-9e7b-0199f3d22c3d")]
    pub kid: String,
    /// What it is called.
    #[schema(example = "backup script")]
    pub name: String,
    /// `RS256`, `ES256` or `EdDSA`: the `alg` of its tokens.
    #[schema(example = "ES256")]
    pub algorithm: String,
    /// The most that its tokens may; what the account may not, they may not either.
    #[schema(example = "records:read records:write")]
    pub scope: String,
    /// Whether each of its tokens is good once.
    pub single_use: bool,
    /// The account: `iss` and `sub` of its tokens.
    pub sub: String,
    /// The `aud` of its tokens.
    #[schema(example = "https://dns.example.net")]
    pub aud: String,
    /// When it was added.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub created_at: String,
    /// When it ends; null: never.
    pub expires_at: Option<String>,
}

impl Key {
    fn of(key: &keys::Key, aud: &str) -> Key {
        Key {
            kid: key.id.to_string(),
            name: key.name.clone(),
            algorithm: key.algorithm.clone(),
            scope: key.scope.clone(),
            single_use: key.single_use,
            sub: key.account.to_string(),
            aud: aud.to_owned(),
            created_at: timestamp(key.created_at_us),
            expires_at: key.expires_at_us.map(timestamp),
        }
    }
}

/// A key to add.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddKey {
    /// What to call it.
    #[schema(example = "backup script")]
    pub name: String,
    /// Your password: the key goes on when your session has ended.
    pub password: String,
    /// In PEM: RSA of 2048 to 4096 bits, P-256 or Ed25519.
    #[schema(example = "-----BEGIN PUBLIC KEY-----\n…\n-----END PUBLIC KEY-----\n")]
    pub public_key: String,
    /// A JWT that the key signed: `iss` and `sub` your id, `aud` as of every token, `iat`, `exp` and `jti`.
    pub proof: String,
    /// The most that its tokens may; all that you may when left out.
    #[schema(example = "records:read records:write")]
    pub scope: Option<String>,
    /// Whether each of its tokens is good once; false when left out.
    pub single_use: Option<bool>,
    /// When it ends.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, example = "2027-11-20T19:00:00Z")]
    pub expires_at: Option<OffsetDateTime>,
}

/// A token that shall be good no more.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeToken {
    /// Its `jti`.
    pub jti: String,
}

json_bodies!(AddKey: write::SMALL, RevokeToken: write::SMALL);

/// Lists one's keys.
#[utoipa::path(get, path = "/api/v1/users/me/keys", tag = "me", responses(
    (status = 200, description = "All of them", body = Page<Key>),
))]
pub(crate) async fn list(State(app): State<Arc<App>>, asked: Asked<Empty>) -> Result<Response, Problem> {
    let keys = app.accounts.keys(asked.login()?).await?;
    let items = keys.iter().map(|key| Key::of(key, &app.public_url)).collect();
    Ok(Json(Page { items, next: None }).into_response())
}

/// Adds a key whose other half you have.
#[utoipa::path(post, path = "/api/v1/users/me/keys", tag = "me", request_body = AddKey, responses(
    (status = 201, description = "Added", body = Key),
    (status = 403, description = "FORBIDDEN: the password is wrong", body = ErrorBody),
    (status = 409, description = "CONFLICT: there are too many", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn add(State(app): State<Arc<App>>, asked: Asked<AddKey>) -> Result<Response, Problem> {
    let login = asked.login()?;
    let AddKey { name, password, public_key, proof, scope, single_use, expires_at } = &asked.body;
    let new = NewKey {
        name,
        password,
        public_key,
        proof,
        scope: scope.as_deref(),
        single_use: single_use.unwrap_or_default(),
        expires_at_us: expires_at.as_ref().map(micros),
    };
    let key = app.accounts.add_key(login, new, &asked.by).await?;
    Ok((StatusCode::CREATED, Json(Key::of(&key, &app.public_url))).into_response())
}

/// Deletes a key. What it signed is refused within a second, everywhere.
#[utoipa::path(delete, path = "/api/v1/users/me/keys/{kid}", tag = "me", params(
    ("kid" = String, Path, description = "Its `kid`"),
), responses(
    (status = 204, description = "Deleted"),
    (status = 404, description = "KEY_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let login = asked.login()?;
    let unknown = |_| Problem::new(Code::KeyNotFound, "you have no such key");
    app.accounts.delete_key(login, text.parse().map_err(unknown)?, &asked.by).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Refuses a token that one of your keys signed, within a second and everywhere, until it would have expired.
#[utoipa::path(post, path = "/api/v1/users/me/revoked", tag = "me", request_body = RevokeToken, responses(
    (status = 204, description = "Refused from now on"),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    asked: Asked<RevokeToken>,
) -> Result<Response, Problem> {
    let login = asked.login()?;
    app.accounts.revoke_token(login.account, &asked.body.jti, &asked.by).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
