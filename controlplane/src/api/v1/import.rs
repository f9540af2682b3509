//! A zone from a zone file: `/domains/{zone}/import`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::App;
use super::super::buffered::Accepted;
use super::super::envelope::ErrorBody;
use super::super::read::Segment;
use super::super::write::described::{ForTenant, Manner};
use super::super::write::{Write, ZoneText};
use super::domains::{Domain, new_zone};
use super::reply;
use crate::commit::Respond;
use crate::error::Problem;
use crate::model::change::{Operation, PutZone};
use crate::model::zone::TtlPolicy;
use crate::validate::{name, zone_file};

/// What an import did.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Imported {
    /// The zone.
    pub domain: Domain,
    /// RRsets in it.
    pub rrsets: usize,
    /// RRsets that are new, different or gone.
    pub changed: usize,
}

/// Makes or replaces a zone from a zone file. TTLs stay as they are in the file: the zone's policy becomes `keep`.
#[utoipa::path(post, path = "/api/v1/domains/{zone}/import", tag = "domains", params(
    ("zone" = String, Path, description = "Apex", example = "example.com."), ForTenant, Manner,
), request_body(content = String, content_type = "text/dns"), responses(
    (status = 200, description = "Replaced", body = Imported),
    (status = 201, description = "Made", body = Imported),
    (status = 202, description = "Accepted while the database is away: not made, not served yet", body = Accepted),
    (status = 409, description = "QUOTA_EXCEEDED, CONFLICT, CONFIRMATION_REQUIRED", body = ErrorBody),
    (status = 412, description = "VERSION_CONFLICT", body = ErrorBody),
    (status = 413, description = "TOO_LARGE", body = ErrorBody),
    (status = 422, description = "INVALID_NAME, INVALID_VALUE: line, token and what was expected", body = ErrorBody),
))]
pub async fn import(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    mut write: Write<ZoneText>,
) -> Result<Response, Problem> {
    write.takes(&["tenant"])?;
    let apex = name::absolute(&text)?;
    let zone_text = std::mem::take(&mut write.body.0);
    let origin = apex.clone();
    // Megabytes of text: not on a thread that answers other requests.
    let read = tokio::task::spawn_blocking(move || zone_file::read(&zone_text, &origin));
    let sets = read
        .await
        .map_err(|_| Problem::new(crate::error::Code::Internal, "the zone file could not be read"))??;
    let put = PutZone {
        rrsets: sets,
        ttl_policy: Some(TtlPolicy::Keep),
        tenant: write.params.tenant,
        ..new_zone(&app, apex)
    };
    let respond: Respond = Box::new(|plan, change| {
        let imported = plan.zones.values().next().map(|zone| Imported {
            domain: Domain::of_plan(zone),
            rrsets: zone.owners.values().map(|owner| owner.after.len()).sum(),
            changed: zone.owners.values().map(crate::commit::plan::OwnerPlan::difference).sum(),
        });
        let made = plan.zones.values().next().is_some_and(|zone| !zone.existed);
        reply(plan, change, if made { 201 } else { 200 }, imported.as_ref())
    });
    write.commit(&app, "domain.import", vec![Operation::PutZone(put)], respond).await
}
