//! `/domains/{zone}/rollback` and `/rollback`: making a zone, or everything, what it was.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::App;
use super::super::envelope::ErrorBody;
use super::super::read::Segment;
use super::super::write::described::Manner;
use super::super::write::{self, Payload, Write};
use super::domains::{Domain, with_domain};
use super::{reply, shown};
use crate::commit::Respond;
use crate::commit::plan::{OwnerPlan, Plan, ZonePlan};
use crate::error::{Code, Problem};
use crate::model::change::Operation;
use crate::past::At;
use crate::validate::name;

/// The most zones of one change.
const MAX_ZONES: usize = 10_000;
/// The most zones that an answer names.
const MAX_NAMED: usize = 1_000;

/// Which state of a zone is meant: one of the two.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoneBody {
    /// A version of the zone.
    #[schema(example = 17)]
    pub version: Option<u64>,
    /// A time.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub at: Option<String>,
}

impl Payload for ZoneBody {
    const LIMIT: usize = write::SMALL;

    fn read(media_type: Option<&str>, body: Bytes) -> Result<Self, Problem> {
        write::json(media_type, &body)
    }
}

/// Which state of everything is meant.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllBody {
    /// The sequence of the last change that shall count.
    #[schema(example = 4711)]
    pub to: u64,
    /// The most zones of this change: 1 to 10000, 10000 when left out.
    pub max_zones: Option<usize>,
}

impl Payload for AllBody {
    const LIMIT: usize = write::SMALL;

    fn read(media_type: Option<&str>, body: Bytes) -> Result<Self, Problem> {
        write::json(media_type, &body)
    }
}

/// What became of everything.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RolledBack {
    /// The id of the change.
    pub id: String,
    /// The sequence that was asked for.
    pub to: u64,
    /// Zones that changed, in canonical order; at most 1000 of them are named.
    pub zones: Vec<ZoneBack>,
    /// Zones that changed and are not named.
    pub more: usize,
    /// Zones that cannot be what they were, as they, or a name above them, are somebody else's by now, or their tenant is gone; at
    /// most 1000 of them are named.
    pub skipped: Vec<String>,
    /// Zones that did not fit into this change: the same request again goes on with them. 0 when all is as it was.
    pub left: usize,
}

/// What became of a zone.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ZoneBack {
    /// Its apex.
    pub name: String,
    /// `update`, `create` where it is there again, or `remove` where it was made since.
    #[schema(example = "update")]
    pub kind: &'static str,
    /// Its version now.
    pub version: u64,
    /// Its serial now.
    pub serial: u32,
    /// RRsets that are other than before, its SOA included; left out where the zone is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rrsets: Option<usize>,
}

impl ZoneBack {
    fn of(plan: &ZonePlan) -> ZoneBack {
        ZoneBack {
            name: shown(plan.zone.apex.as_ref()),
            kind: match (plan.removed, plan.existed) {
                (true, _) => "remove",
                (false, false) => "create",
                (false, true) => "update",
            },
            version: plan.zone.version,
            serial: plan.zone.serial,
            rrsets: (!plan.removed).then(|| plan.owners.values().map(OwnerPlan::difference).sum()),
        }
    }
}

/// Makes a zone what it was: a new version with the records, TTLs and SOA of an old one, but for the serial, which goes on. A
/// zone that was deleted is there again.
#[utoipa::path(post, path = "/api/v1/domains/{zone}/rollback", tag = "versions", params(
    ("zone" = String, Path, description = "Apex", example = "example.com."), Manner,
), request_body = ZoneBody, responses(
    (status = 200, description = "The zone as it is now", body = Domain),
    (status = 404, description = "DOMAIN_NOT_FOUND, VERSION_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "QUOTA_EXCEEDED, CONFLICT", body = ErrorBody),
    (status = 410, description = "VERSION_GONE", body = ErrorBody),
    (status = 412, description = "VERSION_CONFLICT", body = ErrorBody),
))]
pub async fn zone(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    write: Write<ZoneBody>,
) -> Result<Response, Problem> {
    write.takes(&[])?;
    let apex = name::absolute(&text)?;
    let to = match (write.body.version, write.body.at.as_deref()) {
        (Some(version), None) => At::Version(version),
        (None, Some(text)) => match At::parse(text)? {
            at @ At::Time(_) => at,
            At::Version(_) => {
                let message =
                    "\"at\" is a time, like \"2026-11-20T19:00:00Z\"; a version goes into \"version\"";
                return Err(Problem::new(Code::MalformedRequest, message));
            }
        },
        _ => {
            let message = "the body: say either \"version\" or \"at\"";
            return Err(Problem::new(Code::MalformedRequest, message));
        }
    };
    write.commit(&app, "domain.rollback", vec![Operation::Rollback { apex, to }], with_domain(200)).await
}

/// Makes every zone what it was after a sequence, in one change that commits at once. Where that is more than 500,000 RRsets or
/// 10,000 zones it does so many, says how many are `left`, and goes on with them when it is asked again.
#[utoipa::path(post, path = "/api/v1/rollback", tag = "versions", params(Manner), request_body = AllBody,
    responses(
        (status = 200, description = "What changed", body = RolledBack),
        (status = 404, description = "VERSION_NOT_FOUND", body = ErrorBody),
        (status = 409, description = "CONFLICT", body = ErrorBody),
        (status = 410, description = "VERSION_GONE", body = ErrorBody),
))]
pub async fn all(State(app): State<Arc<App>>, write: Write<AllBody>) -> Result<Response, Problem> {
    write.takes(&[])?;
    let AllBody { to, max_zones } = write.body;
    let max_zones = max_zones.unwrap_or(MAX_ZONES);
    if !(1..=MAX_ZONES).contains(&max_zones) {
        let message = format!("max_zones {max_zones} is not between 1 and {MAX_ZONES}");
        return Err(Problem::new(Code::MalformedRequest, message));
    }
    let respond: Respond = Box::new(move |plan: &Plan, change| {
        let body = RolledBack {
            id: change.to_string(),
            to,
            zones: plan.zones.values().take(MAX_NAMED).map(ZoneBack::of).collect(),
            more: plan.zones.len().saturating_sub(MAX_NAMED),
            skipped: plan.skipped.iter().take(MAX_NAMED).map(|apex| shown(apex.as_ref())).collect(),
            left: plan.left,
        };
        reply(plan, change, 200, Some(&body))
    });
    write.commit(&app, "rollback", vec![Operation::RollbackAll { to, max_zones }], respond).await
}
