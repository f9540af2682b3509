//! `/users/me`: the account of who has logged in.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_DISPOSITION;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::App;
use super::super::asked::Asked;
use super::super::cursor::Page;
use super::super::envelope::ErrorBody;
use super::super::read::Segment;
use super::super::write::{self, Empty, json_bodies};
use super::auth::Taken;
use super::timestamp;
use super::users::User;
use crate::auth::Login;
use crate::error::{Code, Problem};
use crate::store::sessions;

/// One's own account.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Me {
    /// The account.
    #[serde(flatten)]
    pub user: User,
    /// The `aud` of tokens that you sign.
    #[schema(example = "https://dns.example.net")]
    pub aud: String,
    /// Recovery codes that were not used.
    #[schema(example = 10)]
    pub recovery_codes_left: i64,
}

/// A session.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Whether it is the one that asks.
    pub current: bool,
    /// Where it was last used from.
    #[schema(example = "192.0.2.7")]
    pub address: String,
    /// What the program there called itself.
    #[schema(example = "godwit/0.1.0")]
    pub agent: String,
    /// When it was begun.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub created_at: String,
    /// When it was last used to get tokens.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub used_at: String,
    /// When it ends at the latest.
    #[schema(example = "2026-12-20T19:00:00Z")]
    pub expires_at: String,
}

impl Session {
    fn of(session: &sessions::Session, current: Uuid) -> Session {
        Session {
            id: session.id.to_string(),
            current: session.id == current,
            address: session.address.clone(),
            agent: session.agent.clone(),
            created_at: timestamp(session.created_at_us),
            used_at: timestamp(session.used_at_us),
            expires_at: timestamp(session.expires_at_us),
        }
    }
}

/// One thing that was done.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Deed {
    /// When.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub at: String,
    /// What.
    #[schema(example = "login")]
    pub action: String,
    /// To what.
    pub object: String,
    /// In which request.
    pub request_id: String,
}

/// All that is kept of an account, but for what proves who it is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Everything {
    /// The account.
    pub user: User,
    /// Where it is logged in.
    pub sessions: Vec<Session>,
    /// What it did, the newest first; at most 10,000.
    pub audit: Vec<Deed>,
}

/// What of one's own account to change.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchMe {
    /// What to be called.
    pub name: String,
}

/// Another password.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The present one.
    pub password: String,
    /// The next: at least 10 characters.
    pub new_password: String,
}

/// Another address.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeEmail {
    /// The present password.
    pub password: String,
    /// Proven by a link that goes there.
    pub email: String,
}

/// The present password.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Password {
    /// It.
    pub password: String,
}

/// What proves, once more, who asks.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProofOfOneself)]
pub struct Proof {
    /// The present password.
    pub password: String,
    /// A code of the app, or a recovery code, where the account asks for one.
    pub code: Option<String>,
}

/// A code of the app.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TotpCode {
    /// It.
    #[schema(example = "123456")]
    pub code: String,
}

/// What an app is told.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TotpOffer {
    /// To be typed.
    pub secret: String,
    /// To be shown as a QR code.
    #[schema(example = "otpauth://totp/…")]
    pub url: String,
}

/// What replaces a code once each.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RecoveryCodes {
    /// To be written down; they are not shown again.
    pub recovery_codes: Vec<String>,
}

/// How many.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Ended {
    /// Sessions.
    pub ended: u64,
}

json_bodies!(
    PatchMe: write::SMALL, ChangePassword: write::SMALL, ChangeEmail: write::SMALL, Password: write::SMALL,
    Proof: write::SMALL, TotpCode: write::SMALL,
);

/// One's own account.
#[utoipa::path(get, path = "/api/v1/users/me", tag = "me", responses(
    (status = 200, description = "It", body = Me),
))]
pub(crate) async fn look_up(State(app): State<Arc<App>>, asked: Asked<Empty>) -> Result<Response, Problem> {
    me(&app, asked.login()?).await
}

async fn me(app: &App, login: Login) -> Result<Response, Problem> {
    let (account, recovery_codes_left) = app.accounts.own(login).await?;
    let aud = app.public_url.to_string();
    Ok(Json(Me { user: User::of(&account), aud, recovery_codes_left }).into_response())
}

/// Changes what one is called.
#[utoipa::path(patch, path = "/api/v1/users/me", tag = "me", request_body = PatchMe, responses(
    (status = 200, description = "Changed", body = Me),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn patch(State(app): State<Arc<App>>, asked: Asked<PatchMe>) -> Result<Response, Problem> {
    let login = asked.login()?;
    app.accounts.rename(login, &asked.body.name, &asked.by).await?;
    me(&app, login).await
}

/// Deletes one's own account, with all that is its own. The audit log keeps what was done, by the id.
#[utoipa::path(delete, path = "/api/v1/users/me", tag = "me", request_body = Proof, responses(
    (status = 204, description = "Deleted"),
    (status = 401, description = "UNAUTHENTICATED: the code is wrong; TOTP_REQUIRED", body = ErrorBody),
    (status = 403, description = "FORBIDDEN: the password is wrong", body = ErrorBody),
    (status = 409, description = "CONFLICT: it is the only operator", body = ErrorBody),
))]
pub(crate) async fn delete(State(app): State<Arc<App>>, asked: Asked<Proof>) -> Result<Response, Problem> {
    let login = asked.login()?;
    let Proof { password, code } = asked.body;
    app.accounts.leave(login, &password, code, &asked.by).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// All that is kept of one's own account.
#[utoipa::path(get, path = "/api/v1/users/me/export", tag = "me", responses(
    (status = 200, description = "It, as a file", body = Everything),
))]
pub(crate) async fn export(State(app): State<Arc<App>>, asked: Asked<Empty>) -> Result<Response, Problem> {
    let login = asked.login()?;
    let export = app.accounts.export(login).await?;
    let everything = Everything {
        user: User::of(&export.account),
        sessions: export.sessions.iter().map(|session| Session::of(session, login.session)).collect(),
        audit: export
            .audit
            .into_iter()
            .map(|kept| Deed {
                at: timestamp(kept.at_us),
                action: kept.action,
                object: kept.object,
                request_id: kept.request_id,
            })
            .collect(),
    };
    let as_file = [(CONTENT_DISPOSITION, "attachment; filename=\"account.json\"")];
    Ok((as_file, Json(everything)).into_response())
}

/// Changes one's own password. All other sessions end.
#[utoipa::path(post, path = "/api/v1/users/me/password", tag = "me", request_body = ChangePassword, responses(
    (status = 204, description = "Changed"),
    (status = 403, description = "FORBIDDEN: the password is wrong", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn password(
    State(app): State<Arc<App>>,
    asked: Asked<ChangePassword>,
) -> Result<Response, Problem> {
    let login = asked.login()?;
    let ChangePassword { password, new_password } = &asked.body;
    app.accounts.change_password(login, password, new_password, &asked.by).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Has a link sent to another address, which takes the place of the present one once the link is taken.
#[utoipa::path(post, path = "/api/v1/users/me/email", tag = "me", request_body = ChangeEmail, responses(
    (status = 202, description = "Sent", body = Taken),
    (status = 403, description = "FORBIDDEN: the password is wrong", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn email(
    State(app): State<Arc<App>>,
    asked: Asked<ChangeEmail>,
) -> Result<Response, Problem> {
    let login = asked.login()?;
    let ChangeEmail { password, email } = &asked.body;
    app.accounts.change_email(login, password, email, &asked.by).await?;
    Ok((StatusCode::ACCEPTED, Json(Taken { state: "sent" })).into_response())
}

/// Gives a new secret for an app. Codes are asked for once one of it was given.
#[utoipa::path(post, path = "/api/v1/users/me/totp", tag = "me", request_body = Password, responses(
    (status = 200, description = "To be shown once", body = TotpOffer),
    (status = 403, description = "FORBIDDEN: the password is wrong", body = ErrorBody),
    (status = 409, description = "CONFLICT: codes are asked for already", body = ErrorBody),
))]
pub(crate) async fn offer_totp(
    State(app): State<Arc<App>>,
    asked: Asked<Password>,
) -> Result<Response, Problem> {
    let offer = app.accounts.offer_totp(asked.login()?, &asked.body.password, &asked.by).await?;
    Ok(Json(TotpOffer { secret: offer.secret, url: offer.url }).into_response())
}

/// Proves that the app has the secret. From now on codes are asked for at each login.
#[utoipa::path(post, path = "/api/v1/users/me/totp/confirm", tag = "me", request_body = TotpCode, responses(
    (status = 200, description = "To be written down: each replaces a code once", body = RecoveryCodes),
    (status = 403, description = "FORBIDDEN: the code is wrong", body = ErrorBody),
    (status = 409, description = "CONFLICT: no secret waits for a code", body = ErrorBody),
))]
pub(crate) async fn begin_totp(
    State(app): State<Arc<App>>,
    asked: Asked<TotpCode>,
) -> Result<Response, Problem> {
    let recovery_codes = app.accounts.begin_totp(asked.login()?, &asked.body.code, &asked.by).await?;
    Ok(Json(RecoveryCodes { recovery_codes }).into_response())
}

/// Asks for codes no more.
#[utoipa::path(delete, path = "/api/v1/users/me/totp", tag = "me", request_body = Proof, responses(
    (status = 204, description = "No codes are asked for"),
    (status = 401, description = "UNAUTHENTICATED: the code is wrong; TOTP_REQUIRED", body = ErrorBody),
    (status = 403, description = "FORBIDDEN: the password is wrong", body = ErrorBody),
))]
pub(crate) async fn end_totp(State(app): State<Arc<App>>, asked: Asked<Proof>) -> Result<Response, Problem> {
    let login = asked.login()?;
    let Proof { password, code } = asked.body;
    app.accounts.end_totp(login, &password, code, &asked.by).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lists where one is logged in.
#[utoipa::path(get, path = "/api/v1/users/me/sessions", tag = "me", responses(
    (status = 200, description = "All of them", body = Page<Session>),
))]
pub(crate) async fn sessions(State(app): State<Arc<App>>, asked: Asked<Empty>) -> Result<Response, Problem> {
    let login = asked.login()?;
    let sessions = app.accounts.sessions(login).await?;
    let items = sessions.iter().map(|session| Session::of(session, login.session)).collect();
    Ok(Json(Page { items, next: None }).into_response())
}

/// Ends all sessions but the one that asks.
#[utoipa::path(delete, path = "/api/v1/users/me/sessions", tag = "me", responses(
    (status = 200, description = "Ended", body = Ended),
))]
pub(crate) async fn end_sessions(
    State(app): State<Arc<App>>,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let ended = app.accounts.end_other_sessions(asked.login()?, &asked.by).await?;
    Ok(Json(Ended { ended }).into_response())
}

/// Ends a session.
#[utoipa::path(delete, path = "/api/v1/users/me/sessions/{session}", tag = "me", params(
    ("session" = String, Path, description = "Its id"),
), responses(
    (status = 204, description = "Ended"),
    (status = 404, description = "SESSION_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn end_session(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let login = asked.login()?;
    let unknown = |_| Problem::new(Code::SessionNotFound, "you have no such session");
    let session = text.parse().map_err(unknown)?;
    app.accounts.end_session(login, session, &asked.by).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
