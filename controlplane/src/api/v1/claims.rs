//! `/claims`: names that tenants prove to be theirs.

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
use super::{shown, timestamp};
use crate::auth::Scope;
use crate::error::{Code, Problem};
use crate::names::claims::{place_of, text_of};
use crate::names::idna;
use crate::store::claims;

/// A name that a tenant proves to be its own.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Claim {
    /// Names the claim.
    pub id: String,
    /// The name.
    #[schema(example = "example.com.")]
    pub name: String,
    /// The tenant's number.
    pub tenant: u32,
    /// `pending`: the proof was not seen yet; `verified`; `lapsed`: it was, and has been gone for too long; `failed`: somebody else
    /// has proven the name; `expired`: the proof was not seen in time.
    #[schema(example = "pending")]
    pub state: &'static str,
    /// The record that proves it.
    pub txt: Proof,
    /// Name servers of this claim alone: that the zone above delegates the name to one of them proves it, too. None where the operator
    /// has none for this.
    #[schema(example = json!(["00112233445566778899aabbccddeeff.ns.example.", "ffeeddccbbaa99887766554433221100.ns.example."]))]
    pub name_servers: Vec<String>,
    /// What was found when it was last looked for.
    pub found: Option<String>,
    /// When it was made.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub created_at: String,
    /// Until then the proof has to be seen for the first time.
    #[schema(example = "2026-11-27T19:00:00Z")]
    pub expires_at: String,
    /// When the proof was last looked for.
    pub checked_at: Option<String>,
    /// When it was last seen.
    pub seen_at: Option<String>,
    /// When it is looked for again.
    pub check_at: Option<String>,
}

/// A TXT record.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ProofOfName)]
pub struct Proof {
    /// Its name.
    #[schema(example = "_godwit-challenge.example.com.")]
    pub name: String,
    /// Its value.
    #[schema(example = "godwit=00112233445566778899aabbccddeeff")]
    pub value: String,
}

/// A name to claim.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewClaim {
    /// The name; outside ASCII as people write it.
    #[schema(example = "example.com.")]
    pub name: String,
    /// For which tenant; needed where there are several in which you are admin.
    pub tenant: Option<u32>,
}

/// Query parameters of the list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClaimListParams {
    /// Those of this tenant only.
    pub tenant: Option<u32>,
    /// Items of a page: 1 to 1000, 100 when left out.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

json_bodies!(NewClaim: write::SMALL);

impl Claim {
    fn of(app: &App, claim: claims::Claim) -> Claim {
        let name_servers = app.claims.name_servers(&claim).iter().map(|name| shown(name.as_ref())).collect();
        let place = place_of(&claim.name).map(|place| shown(place.as_ref())).unwrap_or_default();
        Claim {
            id: claim.id.to_string(),
            name: shown(claim.name.as_ref()),
            tenant: claim.tenant,
            state: claim.state.as_str(),
            name_servers,
            txt: Proof { name: place, value: text_of(&claim) },
            found: claim.found,
            created_at: timestamp(claim.created_at_us),
            expires_at: timestamp(claim.expires_at_us),
            checked_at: claim.checked_at_us.map(timestamp),
            seen_at: claim.seen_at_us.map(timestamp),
            check_at: claim.check_at_us.map(timestamp),
        }
    }
}

fn id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::new(Code::ClaimNotFound, "there is no such claim"))
}

/// Lists the claims of your tenants; all of them to an operator.
#[utoipa::path(get, path = "/api/v1/claims", tag = "names", params(ClaimListParams), responses(
    (status = 200, description = "One page", body = Page<Claim>),
))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(params): Params<ClaimListParams>,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsRead)?;
    let limit = cursor::limit(params.limit)?;
    let after = cursor::after(params.cursor.as_deref())?;
    let listed = app.claims.list(&asker, params.tenant, after, limit + 1).await?;
    Ok(Json(cursor::by_id(listed, limit, |claim| claim.id, |claim| Claim::of(&app, claim))).into_response())
}

/// Claims a name for a tenant. It is its own once two resolvers have seen the record `txt` in the DNS, or that
/// the zone above delegates the name to one of `name_servers`.
#[utoipa::path(post, path = "/api/v1/claims", tag = "names", request_body = NewClaim, responses(
    (status = 201, description = "Claimed: add the record, then ask for a check", body = Claim),
    (status = 403, description = "FORBIDDEN, NAME_RESERVED", body = ErrorBody),
    (status = 404, description = "TENANT_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: claimed already, or there are too many", body = ErrorBody),
    (status = 422, description = "INVALID_NAME, INVALID_VALUE", body = ErrorBody),
))]
pub(crate) async fn create(State(app): State<Arc<App>>, asked: Asked<NewClaim>) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsWrite)?;
    let made = app.claims.create(asker, idna::read(&asked.body.name)?, asked.body.tenant).await?;
    Ok((StatusCode::CREATED, Json(Claim::of(&app, made))).into_response())
}

/// A claim.
#[utoipa::path(get, path = "/api/v1/claims/{id}", tag = "names", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 200, description = "The claim", body = Claim),
    (status = 404, description = "CLAIM_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn look_up(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let found = app.claims.look_up(&asked.asker(Scope::DomainsRead)?, id(&text)?).await?;
    Ok(Json(Claim::of(&app, found)).into_response())
}

/// Deletes a claim. Nothing stands by it any more.
#[utoipa::path(delete, path = "/api/v1/claims/{id}", tag = "names", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 204, description = "Deleted"),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "CLAIM_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: the tenant has zones by it", body = ErrorBody),
))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    app.claims.delete(asked.asker(Scope::DomainsWrite)?, id(&text)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Has the proof of a claim looked for now; ask for the claim a moment later.
#[utoipa::path(post, path = "/api/v1/claims/{id}/check", tag = "names", params(
    ("id" = String, Path, description = "Its id"),
), responses(
    (status = 202, description = "It is looked for", body = Claim),
    (status = 403, description = "FORBIDDEN", body = ErrorBody),
    (status = 404, description = "CLAIM_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT: it has ended", body = ErrorBody),
))]
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let asked_for = app.claims.check(asked.asker(Scope::DomainsWrite)?, id(&text)?).await?;
    Ok((StatusCode::ACCEPTED, Json(Claim::of(&app, asked_for))).into_response())
}
