//! `/suffixes`: zones of the operator below which every tenant takes names.

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
use super::{shown, timestamp};
use crate::auth::Scope;
use crate::error::{Code, Problem};
use crate::model::name_key;
use crate::names::suffixes::{NOT_LISTED, PER_TENANT};
use crate::store::suffixes;
use crate::validate::name;

/// A zone below which every tenant takes names.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Suffix {
    /// Its apex.
    #[schema(example = "dyn.example.")]
    pub zone: String,
    /// The most names of one tenant.
    #[schema(example = 5)]
    pub per_tenant: i64,
    /// Whether it is on the public suffix list.
    pub listed: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Since when.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub since: String,
}

/// How a zone is shared.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SuffixBody {
    /// The most names of one tenant; 5 when left out.
    pub per_tenant: Option<u32>,
}

json_bodies!(SuffixBody: write::SMALL);

/// The most names of one tenant that may be asked for.
const MOST_PER_TENANT: u32 = 1_000_000;

fn suffix(app: &App, suffix: &suffixes::Suffix) -> Suffix {
    let listed = app.suffixes.rules.lists(&suffix.zone);
    Suffix {
        zone: shown(suffix.zone.as_ref()),
        per_tenant: suffix.per_tenant,
        listed,
        warning: (!listed).then(|| NOT_LISTED.to_owned()),
        since: timestamp(suffix.created_at_us),
    }
}

/// Lists the zones below which every tenant takes names.
#[utoipa::path(get, path = "/api/v1/suffixes", tag = "names", params(ListParams), responses(
    (status = 200, description = "One page", body = Page<Suffix>),
))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(params): Params<ListParams>,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsRead)?;
    let limit = cursor::limit(params.limit)?;
    let after = params.cursor.as_deref().map(cursor::key).transpose()?;
    let mut listed = app.suffixes.list(&asker, after.as_deref(), limit + 1).await?;
    let next = cursor::cut(&mut listed, limit, |last| cursor::of_key(&name_key::encode(last.zone.as_ref())));
    Ok(Json(Page { items: listed.iter().map(|one| suffix(&app, one)).collect(), next }).into_response())
}

/// A zone below which every tenant takes names.
#[utoipa::path(get, path = "/api/v1/suffixes/{zone}", tag = "names", params(
    ("zone" = String, Path, description = "Apex", example = "dyn.example."),
), responses(
    (status = 200, description = "The suffix", body = Suffix),
    (status = 404, description = "DOMAIN_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn look_up(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let found = app.suffixes.look_up(&asked.asker(Scope::DomainsRead)?, &name::absolute(&text)?).await?;
    Ok(Json(suffix(&app, &found)).into_response())
}

/// Shares a zone of the operator's: every tenant takes names one label below it. By an operator.
#[utoipa::path(put, path = "/api/v1/suffixes/{zone}", tag = "names", params(
    ("zone" = String, Path, description = "Apex", example = "dyn.example."),
), request_body = SuffixBody, responses(
    (status = 200, description = "Shared", body = Suffix),
    (status = 403, description = "INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 404, description = "DOMAIN_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: it is a tenant's, or has a wildcard", body = ErrorBody),
    (status = 422, description = "INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<SuffixBody>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsWrite)?;
    let per_tenant = asked.body.per_tenant.unwrap_or(PER_TENANT);
    if per_tenant > MOST_PER_TENANT {
        let message = format!("\"per_tenant\": expected at most {MOST_PER_TENANT}");
        return Err(Problem::new(Code::InvalidValue, message));
    }
    let put = app.suffixes.put(asker, name::absolute(&text)?, per_tenant).await?;
    Ok(Json(suffix(&app, &put)).into_response())
}

/// Shares a zone no more: the names that are taken below it stay. By an operator.
#[utoipa::path(delete, path = "/api/v1/suffixes/{zone}", tag = "names", params(
    ("zone" = String, Path, description = "Apex", example = "dyn.example."),
), responses(
    (status = 204, description = "Not shared any more"),
    (status = 403, description = "INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 404, description = "DOMAIN_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    app.suffixes.delete(asked.asker(Scope::DomainsWrite)?, name::absolute(&text)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
