//! A zone as a zone file: `/domains/{zone}/export`, read page by page.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse as _, Response};

use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

use super::super::App;
use super::super::envelope::ErrorBody;
use super::super::read::{Params, Segment, Within};
use super::sending::{self, Broken, Sending};
use super::shown::Reader;
use super::versions::{AtParams, zone_at};
use crate::auth::{Caller, Scope};
use crate::error::Problem;
use crate::past::Past;
use crate::store::Connection;
use crate::store::rrsets::Position;
use crate::validate::{name, zone_file};

/// RRsets that are read at once: with the largest ones a few megabytes.
const STEP: i64 = 256;

/// A zone as a zone file, in canonical order, SOA first.
#[utoipa::path(get, path = "/api/v1/domains/{zone}/export", tag = "domains", params(
    ("zone" = String, Path, description = "Apex", example = "example.com."), AtParams,
), responses(
    (status = 200, description = "The zone file", body = String, content_type = "text/dns"),
    (status = 404, description = "DOMAIN_NOT_FOUND, VERSION_NOT_FOUND", body = ErrorBody),
    (status = 410, description = "VERSION_GONE", body = ErrorBody),
    (status = 503, description = "DB_POOL_TIMEOUT: other exports are under way", body = ErrorBody),
))]
pub async fn export(
    State(app): State<Arc<App>>,
    within: Within,
    Segment(text): Segment,
    Params(params): Params<AtParams>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let apex = name::absolute(&text)?;
    within.limits.allow_whole_zone(&apex)?;
    let mut transaction = sending::begin(&app, within.access.account()).await?;
    let past = zone_at(&mut transaction, &within, &apex, params.at.as_deref()).await?;
    let etag = format!("\"{}\"", past.zone.version);
    let owner = past.zone.owner_number;
    let refused = Reader::new(&app, &headers, caller)?.refused(move |caller| {
        let sees = caller.access.sees_named(&apex, owner);
        sees && caller.scopes.has(Scope::DomainsRead) && caller.limits.allow_whole_zone(&apex).is_ok()
    });
    let headers = [(CONTENT_TYPE, "text/dns; charset=us-ascii".to_owned()), (ETAG, etag)];
    let body = sending::body(app, "a zone", refused, |to| send_zone(to, transaction, past));
    Ok((headers, body).into_response())
}

async fn send_zone(mut to: Sending, mut transaction: Connection, past: Past) -> Result<(), Broken> {
    // RFC 1035 §5.2: readers want to see the SOA first.
    let apex = &past.zone.apex;
    for set in past.of_owner(&mut transaction, apex.as_ref()).await? {
        if set.rtype == Rtype::SOA {
            zone_file::write(apex, &set, &mut to.text);
        }
    }
    let is_soa = |owner: &Name, rtype| rtype == Rtype::SOA && owner == apex;
    let mut after = Position::default();
    loop {
        let step = past.list(&mut transaction, None, &after, STEP).await?;
        let Some(last) = step.last() else { break };
        after = last.position.clone();
        for listed in step.iter().filter(|listed| !is_soa(&listed.owner, listed.rrset.rtype)) {
            zone_file::write(&listed.owner, &listed.rrset, &mut to.text);
            to.send_full().await?;
        }
    }
    to.end(transaction).await
}
