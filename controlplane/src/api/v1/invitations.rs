//! `/tenants/{number}/invitations`: who is invited to act for a tenant, by an address of mail.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::App;
use super::super::asked::Asked;
use super::super::cursor::{self, ListParams, Page};
use super::super::envelope::ErrorBody;
use super::super::read::{Params, Segment};
use super::super::write::{self, Empty, json_bodies};
use super::tenants::{Segments, number};
use super::timestamp;
use crate::auth::Scope;
use crate::error::Problem;
use crate::model::role::Role;
use crate::store::invitations;
use crate::tenants::no_invitation;

/// Who is invited to be a member.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Invitation {
    /// Names it for ever.
    pub id: String,
    /// The address whose account may say yes.
    #[schema(example = "carl@example.org")]
    pub email: String,
    /// What it is invited to be.
    pub role: Role,
    /// Since when.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub invited_at: String,
    /// Until when.
    #[schema(example = "2026-11-27T19:00:00Z")]
    pub expires_at: String,
}

impl Invitation {
    fn of(invitation: invitations::Invitation) -> Invitation {
        Invitation {
            id: invitation.id.to_string(),
            email: invitation.email,
            role: invitation.role,
            invited_at: timestamp(invitation.created_at_us),
            expires_at: timestamp(invitation.expires_at_us),
        }
    }
}

/// Whom to invite.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// An address, whether there is an account of it yet or not.
    #[schema(example = "carl@example.org")]
    pub email: String,
    /// What they shall be: `viewer`, `editor`, `admin`, `owner`.
    pub role: Role,
}

json_bodies!(NewInvitation: write::SMALL);

/// Invites somebody to be a member, by mail; in place of an earlier invitation of the same address. It is open for seven days, and as long
/// as you may invite to that. The account of the address sees it in `GET /tenants`, and says yes by `POST /tenants/{number}/accept`.
#[utoipa::path(post, path = "/api/v1/tenants/{number}/invitations", tag = "tenants", params(
    ("number" = String, Path, description = "Its number"),
), request_body = NewInvitation, responses(
    (status = 201, description = "Invited; whether there is such an account is not said", body = Invitation),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "TENANT_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: there are too many", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<NewInvitation>,
) -> Result<Response, Problem> {
    let (asker, number) = (asked.asker(Scope::DomainsWrite)?, number(&text)?);
    // Before anything is counted: a stranger uses up nothing of an address.
    app.tenants.decides(&asker, number).await?;
    let email = app.accounts.invites(asker.account(), &asked.body.email, &asked.by)?;
    let made = app.tenants.invite(asker, number, email, asked.body.role).await?;
    app.accounts.tell_invited(made.id).await?;
    Ok((StatusCode::CREATED, Json(Invitation::of(made))).into_response())
}

/// Lists the invitations of a tenant that are open, to its admins.
#[utoipa::path(get, path = "/api/v1/tenants/{number}/invitations", tag = "tenants", params(
    ("number" = String, Path, description = "Its number"), ListParams,
), responses(
    (status = 200, description = "One page", body = Page<Invitation>),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "TENANT_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    Params(params): Params<ListParams>,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsRead)?;
    let limit = cursor::limit(params.limit)?;
    let after = cursor::after(params.cursor.as_deref())?;
    let listed = app.tenants.invitations(&asker, number(&text)?, after, limit + 1).await?;
    Ok(Json(cursor::by_id(listed, limit, |invitation| invitation.id, Invitation::of)).into_response())
}

/// Takes an invitation back.
#[utoipa::path(delete, path = "/api/v1/tenants/{number}/invitations/{id}", tag = "tenants", params(
    ("number" = String, Path, description = "Its number"),
    ("id" = String, Path, description = "The invitation's id"),
), responses(
    (status = 204, description = "Taken back"),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "TENANT_NOT_FOUND, INVITATION_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    axum::extract::Path((tenant, id)): Segments,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let (asker, number) = (asked.asker(Scope::DomainsWrite)?, number(&tenant)?);
    let id = id.parse().map_err(|_| no_invitation())?;
    app.tenants.withdraw(asker, number, id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
