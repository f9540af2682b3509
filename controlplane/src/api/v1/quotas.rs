//! `/tenants/{number}/quotas`: how much a tenant may have.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::App;
use super::super::asked::Asked;
use super::super::envelope::ErrorBody;
use super::super::read::Segment;
use super::super::write::{self, Empty, json_bodies};
use super::tenants::number;
use crate::auth::Scope;
use crate::error::Problem;
use crate::store::quotas::Most;
use crate::tenants::Quota;

/// How much of something a tenant may have.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Bound {
    /// So much at most; null: any number.
    #[schema(example = 1000)]
    pub most: Option<u64>,
    /// So much it has.
    #[schema(example = 3)]
    pub used: u64,
    /// Whether an operator has said so of this tenant; `false`: it is so of all of whom nothing else was said.
    pub set: bool,
}

/// How much a tenant may have, and has.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Quotas {
    /// Zones.
    pub zones: Bound,
    /// RRsets in all of its zones.
    pub records: Bound,
    /// Changes of its zones since midnight, UTC: one for each zone that a change is about, whoever makes it.
    pub changes_a_day: Bound,
}

impl Quotas {
    fn of(Quota { most, held, said }: Quota) -> Quotas {
        let unsigned = |count: i64| u64::try_from(count).unwrap_or(0);
        let bound = |most: i64, used: i64, said: Option<i64>| Bound {
            most: Some(unsigned(most)).filter(|most| *most > 0),
            used: unsigned(used),
            set: said.is_some(),
        };
        Quotas {
            zones: bound(most.zones, held.zones, said.zones),
            records: bound(most.rrsets, held.rrsets, said.rrsets),
            changes_a_day: bound(most.changes, held.changes, said.changes),
        }
    }
}

/// How much a tenant may have. 0: any number; null, or left out: as configured.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotasBody {
    /// Zones.
    #[schema(example = 5000)]
    pub zones: Option<u32>,
    /// RRsets in all of its zones.
    pub records: Option<u32>,
    /// Changes of its zones from midnight to midnight, UTC.
    pub changes_a_day: Option<u32>,
}

json_bodies!(QuotasBody: write::SMALL);

/// How much a tenant may have, and has.
#[utoipa::path(get, path = "/api/v1/tenants/{number}/quotas", tag = "tenants", params(
    ("number" = String, Path, description = "Its number"),
), responses(
    (status = 200, description = "What it may have, and has", body = Quotas),
    (status = 404, description = "TENANT_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn look_up(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<Empty>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsRead)?;
    Ok(Json(Quotas::of(app.tenants.quota(&asker, number(&text)?).await?)).into_response())
}

/// Says how much a tenant may have, as an operator. What it has above that it keeps.
#[utoipa::path(put, path = "/api/v1/tenants/{number}/quotas", tag = "tenants", params(
    ("number" = String, Path, description = "Its number"),
), request_body = QuotasBody, responses(
    (status = 200, description = "What it may have, and has", body = Quotas),
    (status = 403, description = "INSUFFICIENT_SCOPE", body = ErrorBody),
    (status = 404, description = "TENANT_NOT_FOUND", body = ErrorBody),
))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    asked: Asked<QuotasBody>,
) -> Result<Response, Problem> {
    let asker = asked.asker(Scope::DomainsWrite)?;
    let QuotasBody { zones, records, changes_a_day } = asked.body;
    let most = Most {
        zones: zones.map(i64::from),
        rrsets: records.map(i64::from),
        changes: changes_a_day.map(i64::from),
    };
    Ok(Json(Quotas::of(app.tenants.put_quota(asker, number(&text)?, most).await?)).into_response())
}
