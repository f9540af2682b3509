//! `/tenants`: who owns zones, and who acts for them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::App;
use super::super::asked::Asked;
use super::super::cursor::{self, ListParams, Page};
use super::super::envelope::ErrorBody;
use super::super::read::{Params, Segment};
use super::super::write::{self, Empty, json_bodies};
use super::timestamp;
use crate::auth::Scope;
use crate::config::AccessList;
use crate::error::{Code, Problem};
use crate::model::role::Role;
use crate::store::tenants;
use crate::tenants::{Patch, PatchNetworks, Standing};

/// Who owns zones.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Tenant {
    /// Names it for ever; the `tenant` of its zones.
    #[schema(example = 4711)]
    pub number: u32,
    /// What it is called.
    #[schema(example = "Anna")]
    pub name: String,
    /// What you are in it, or are asked to be; an operator is as good as an owner.
    pub role: Role,
    /// Whether you are; `false`: you are asked, see `POST /tenants/{number}/accept`.
    pub accepted: bool,
    /// Since when its members change nothing; null: they do.
    pub suspended_at: Option<String>,
    /// From where who acts for it is let in. Left out for who is no member yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<TenantNetworks>,
    /// When it was made.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub created_at: String,
}

impl Tenant {
    fn of(Standing { tenant, role, accepted }: Standing) -> Tenant {
        Tenant {
            number: tenant.number,
            name: tenant.name,
            role,
            accepted,
            suspended_at: tenant.suspended_at_us.map(timestamp),
            networks: accepted.then(|| TenantNetworks::of(tenant.networks)),
            created_at: timestamp(tenant.created_at_us),
        }
    }
}

/// From where who acts for a tenant is let in.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TenantNetworks {
    /// The networks that requests are taken from; none: any.
    #[schema(example = json!(["192.0.2.0/24", "2001:db8::/32"]))]
    pub allow: Vec<String>,
    /// Those that they are not taken from, also where `allow` has them.
    #[schema(example = json!(["192.0.2.66/32"]))]
    pub deny: Vec<String>,
}

impl TenantNetworks {
    fn of(list: AccessList) -> TenantNetworks {
        TenantNetworks { allow: list.allow.into(), deny: list.deny.into() }
    }
}

/// A tenant to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// What to call it.
    #[schema(example = "Example Ltd")]
    pub name: String,
    /// By an operator: the account that owns it. Others own what they make.
    pub owner: Option<Uuid>,
}

/// What of a tenant to change; what is left out stays.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchTenant {
    /// What it is called.
    pub name: Option<String>,
    /// By an operator: whether its members change nothing.
    pub suspended: Option<bool>,
    /// From where who acts for it is let in.
    pub networks: Option<PatchTenantNetworks>,
}

/// Lists of networks, at most 100 of each; one that is left out stays, an empty one is none.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchTenantNetworks {
    /// The networks that requests are taken from; none: any.
    #[schema(example = json!(["192.0.2.0/24", "2001:db8::/32"]))]
    pub allow: Option<Vec<String>>,
    /// Those that they are not taken from, also where `allow` has them.
    #[schema(example = json!(["192.0.2.66"]))]
    pub deny: Option<Vec<String>>,
}

/// Who acts for a tenant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Member {
    /// The account.
    pub id: String,
    /// Its address, in lists, once it has said yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "anna@example.org")]
    pub email: Option<String>,
    /// What it is called; the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is in the tenant, or is asked to be.
    pub role: Role,
    /// Since when it is a member; null: it is asked, and has not said yes.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub since: Option<String>,
    /// Since when it is asked.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub asked_at: String,
}

impl Member {
    fn of(member: tenants::Member) -> Member {
        let (email, name) = member.called.unzip();
        Member {
            id: member.account.to_string(),
            email,
            name,
            role: member.role,
            since: member.since_us.map(timestamp),
            asked_at: timestamp(member.asked_us),
        }
    }
}

/// What somebody shall be.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleBody {
    /// Each may what those before it may: `viewer`, `editor`, `admin`, `owner`.
    pub role: Role,
}

json_bodies!(NewTenant: write::SMALL, PatchTenant: write::SMALL, RoleBody: write::SMALL);

/// A tenant's number as it stands in a path.
pub(super) fn number(text: &str) -> Result<u32, Problem> {
    let unknown = || Problem::new(Code::TenantNotFound, format!("\"{text}\" is the number of no tenant"));
    text.parse().ok().filter(|number| *number > 0).ok_or_else(unknown)
}

/// The two variable segments of a path.
pub(super) type Segments = Path<(String, String)>;

fn account(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::new(Code::UserNotFound, "there is no such user"))
}

/// Lists the tenants that you are a member of; all of them to an operator.
#[utoipa::path(get, path = "/api/v1/tenants", tag = "tenants", params(ListParams), responses(
    (status = 200, description = "One page", body = Page<Tenant>),
))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(params): Params<ListParams>,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsRead)?;
    let limit = cursor::limit(params.limit)?;
    let after = params.cursor.as_deref().map(cursor::number).transpose()?.unwrap_or_default();
    let after = u32::try_from(after).unwrap_or(u32::MAX);
    let mut listed = app.tenants.list(&asker, after, limit + 1).await?;
    let next = cursor::cut(&mut listed, limit, |last| cursor::of_number(u64::from(last.tenant.number)));
    Ok(Json(Page { items: listed.into_iter().map(Tenant::of).collect(), next }).into_response())
}

/// Makes a tenant. You own it; an operator says who does.
#[utoipa::path(post, path = "/api/v1/tenants", tag = "tenants", request_body = NewTenant, responses(
    (status = 201, description = "Made", body = Tenant),
    (status = 403, description = "INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 404, description = "USER_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: there are too many", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    asked: Asked<NewTenant>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsWrite)?;
    let made = app.tenants.create(asker, &asked.body.name, asked.body.owner).await?;
    Ok((StatusCode::CREATED, Json(Tenant::of(made))).into_response())
}

/// A tenant.
#[utoipa::path(get, path = "/api/v1/tenants/{number}", tag = "tenants", params(
    ("number" = String, Path, description = "Its number"),
), responses(
    (status = 200, description = "The tenant", body = Tenant),
    (status = 404, description = "TENANT_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn look_up(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsRead)?;
    Ok(Json(Tenant::of(app.tenants.look_up(&asker, number(&text)?).await?)).into_response())
}

/// Changes a tenant.
#[utoipa::path(patch, path = "/api/v1/tenants/{number}", tag = "tenants", params(
    ("number" = String, Path, description = "Its number"),
), request_body = PatchTenant, responses(
    (status = 200, description = "Changed", body = Tenant),
    (status = 403, description = "FORBIDDEN, INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 404, description = "TENANT_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: it would shut out whoever asks", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn patch(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<PatchTenant>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsWrite)?;
    let PatchTenant { name, suspended, networks } = &asked.body;
    let PatchTenantNetworks { allow, deny } = networks.clone().unwrap_or_default();
    let networks = PatchNetworks {
        allow: allow.map(|texts| crate::tenants::networks("allow", &texts)).transpose()?,
        deny: deny.map(|texts| crate::tenants::networks("deny", &texts)).transpose()?,
    };
    let patch = Patch { called: name.as_deref(), is_suspended: *suspended, networks };
    let patched = app.tenants.patch(asker, number(&text)?, patch).await?;
    Ok(Json(Tenant::of(patched)).into_response())
}

/// Deletes a tenant that has no zones, as one of its owners.
#[utoipa::path(delete, path = "/api/v1/tenants/{number}", tag = "tenants", params(
    ("number" = String, Path, description = "Its number"),
), responses(
    (status = 204, description = "Deleted"),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "TENANT_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: it has zones", body = ErrorBody),
))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    app.tenants.delete(asked.asker(Scope::DomainsWrite)?, number(&text)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lists who acts for a tenant.
#[utoipa::path(get, path = "/api/v1/tenants/{number}/members", tag = "tenants", params(
    ("number" = String, Path, description = "Its number"), ListParams,
), responses(
    (status = 200, description = "One page", body = Page<Member>),
    (status = 404, description = "TENANT_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn members(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    Params(params): Params<ListParams>,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsRead)?;
    let limit = cursor::limit(params.limit)?;
    let after = cursor::after(params.cursor.as_deref())?;
    let listed = app.tenants.members(&asker, number(&text)?, after, limit + 1).await?;
    Ok(Json(cursor::by_id(listed, limit, |member| member.account, Member::of)).into_response())
}

/// Asks an account to be a member, or makes a member something else than it was, which counts within a second, everywhere. Whom an
/// operator names is one at once.
#[utoipa::path(put, path = "/api/v1/tenants/{number}/members/{id}", tag = "tenants", params(
    ("number" = String, Path, description = "Its number"),
    ("id" = String, Path, description = "The account's id, as it sees it in /users/me"),
), request_body = RoleBody, responses(
    (status = 200, description = "What it is now", body = Member),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "TENANT_NOT_FOUND, USER_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: it is the only owner, or there are too many", body = ErrorBody),
))]
pub(crate) async fn put_member(
    State(app): State<Arc<App>>,
    Path((tenant, id)): Segments,
    asked: Asked<RoleBody>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsWrite)?;
    let member = app.tenants.put_member(asker, number(&tenant)?, account(&id)?, asked.body.role).await?;
    Ok(Json(Member::of(member)).into_response())
}

/// Says yes: you become what you were asked, or invited, to be in a tenant.
#[utoipa::path(post, path = "/api/v1/tenants/{number}/accept", tag = "tenants", params(
    ("number" = String, Path, description = "Its number"),
), responses(
    (status = 200, description = "The tenant", body = Tenant),
    (status = 403, description = "FORBIDDEN: the tenant does not let in requests from where you are", body = ErrorBody),
    (status = 404, description = "TENANT_NOT_FOUND: you were not asked", body = ErrorBody),
    (status = 409, description = "CONFLICT: you have too many", body = ErrorBody),
))]
pub(crate) async fn accept(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let (asker, number) = (asked.asker(Scope::DomainsWrite)?, number(&text)?);
    app.tenants.accept(asker.clone(), number).await?;
    Ok(Json(Tenant::of(app.tenants.look_up(&asker, number).await?)).into_response())
}

/// Ends a membership, or says no, also to an invitation; your own too.
#[utoipa::path(delete, path = "/api/v1/tenants/{number}/members/{id}", tag = "tenants", params(
    ("number" = String, Path, description = "Its number"),
    ("id" = String, Path, description = "The account's id"),
), responses(
    (status = 204, description = "Ended"),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "TENANT_NOT_FOUND, USER_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: it is the only owner", body = ErrorBody),
))]
pub(crate) async fn drop_member(
    State(app): State<Arc<App>>,
    Path((tenant, id)): Segments,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    app.tenants.drop_member(asked.asker(Scope::DomainsWrite)?, number(&tenant)?, account(&id)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
