//! `/domains/{zone}/grants`: what other tenants may in a zone.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::App;
use super::super::asked::Asked;
use super::super::cursor::Page;
use super::super::envelope::ErrorBody;
use super::super::read::Segment;
use super::super::write::Empty;
use super::tenants::{RoleBody, number};
use super::timestamp;
use crate::auth::Scope;
use crate::error::Problem;
use crate::model::role::Role;
use crate::store::tenants;
use crate::validate::name;

/// What a tenant may in a zone of somebody else's.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Grant {
    /// The tenant's number.
    #[schema(example = 4711)]
    pub tenant: u32,
    /// The most that its members are in the zone; what they are not in their tenant, they are not here either. Who is `admin` may
    /// make zones below it, too.
    pub role: Role,
    /// Since when.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub since: String,
}

impl Grant {
    fn of(grant: &tenants::Grant) -> Grant {
        Grant { tenant: grant.tenant, role: grant.role, since: timestamp(grant.since_us) }
    }
}

/// Lists what other tenants may in a zone.
#[utoipa::path(get, path = "/api/v1/domains/{zone}/grants", tag = "domains", params(
    ("zone" = String, Path, description = "Apex", example = "example.com."),
), responses(
    (status = 200, description = "All of them", body = Page<Grant>),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "DOMAIN_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let grants = app.tenants.grants(&asked.asker(Scope::DomainsRead)?, &name::absolute(&text)?).await?;
    Ok(Json(Page { items: grants.iter().map(Grant::of).collect(), next: None }).into_response())
}

/// Grants a tenant something of a zone, in place of what it was granted before: `viewer`, `editor` or `admin`.
#[utoipa::path(put, path = "/api/v1/domains/{zone}/grants/{tenant}", tag = "domains", params(
    ("zone" = String, Path, description = "Apex", example = "example.com."),
    ("tenant" = String, Path, description = "The tenant's number"),
), request_body = RoleBody, responses(
    (status = 200, description = "What it may now", body = Grant),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "DOMAIN_NOT_FOUND, TENANT_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: there are too many", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Path((zone, tenant)): Path<(String, String)>,
    asked: Asked<RoleBody>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsWrite)?;
    let apex = name::absolute(&zone)?;
    let grant = app.tenants.put_grant(asker, apex, number(&tenant)?, asked.body.role).await?;
    Ok(Json(Grant::of(&grant)).into_response())
}

/// Takes a grant back. What was made below the zone stays.
#[utoipa::path(delete, path = "/api/v1/domains/{zone}/grants/{tenant}", tag = "domains", params(
    ("zone" = String, Path, description = "Apex", example = "example.com."),
    ("tenant" = String, Path, description = "The tenant's number"),
), responses(
    (status = 204, description = "Taken back"),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "DOMAIN_NOT_FOUND, TENANT_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path((zone, tenant)): Path<(String, String)>,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let apex = name::absolute(&zone)?;
    app.tenants.drop_grant(asked.asker(Scope::DomainsWrite)?, apex, number(&tenant)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
