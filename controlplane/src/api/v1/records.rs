//! `/records`: RRsets by owner name and type.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::ETAG;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use godwit_wire::name::{Name, NameRef};
use godwit_wire::presentation;
use godwit_wire::rr::{Rrset, Rtype};

use super::super::App;
use super::super::buffered::Accepted;
use super::super::cursor::{self, Page};
use super::super::envelope::ErrorBody;
use super::super::read::{Params, Segment, Within};
use super::super::write::described::{All, InZone, Manner, OfType};
use super::super::write::{self, Empty, Payload, Write};
use super::versions::{read, reading, zone_at};
use super::{reply, shown};
use crate::auth::access::no_zone;
use crate::commit::Respond;
use crate::commit::plan::{no_records, no_zone_for};
use crate::error::{Code, Problem};
use crate::model::change::{Operation, PutMode};
use crate::model::zone::Zone;
use crate::past::{self, At, Past};
use crate::store::rrsets::Listed;
use crate::store::zones::Longest;
use crate::store::{Connection, rrsets, zones};
use crate::validate::{name, record};

/// One RRset.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Owner name, absolute.
    #[schema(example = "www.example.com.")]
    pub name: String,
    /// Type: a mnemonic, or `TYPEnnn`.
    #[serde(rename = "type")]
    #[schema(example = "A")]
    pub rtype: String,
    /// Seconds; 60 to 86400, 300 when left out.
    #[schema(example = 300)]
    pub ttl: u32,
    /// Values in presentation format.
    #[schema(example = json!(["192.0.2.1"]))]
    pub value: Vec<String>,
}

/// An RRset to write.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordBody {
    /// Owner name; relative ones need `?zone=`. May be left out where the path has it.
    #[schema(example = "www.example.com.")]
    pub name: Option<String>,
    /// Type: a mnemonic, or `TYPEnnn`. May be left out where `?type=` says it.
    #[serde(rename = "type")]
    #[schema(example = "A")]
    pub rtype: Option<String>,
    /// Seconds; 60 to 86400. Left out: that of the RRset, or 300.
    #[schema(example = 300)]
    pub ttl: Option<u32>,
    /// Values in presentation format.
    #[schema(example = json!(["192.0.2.1"]))]
    pub value: Vec<String>,
}

impl Payload for RecordBody {
    const LIMIT: usize = write::SMALL;

    fn read(media_type: Option<&str>, body: axum::body::Bytes) -> Result<Self, Problem> {
        write::json(media_type, &body)
    }
}

impl Record {
    pub(crate) fn of(owner: NameRef<'_>, rrset: &Rrset) -> Record {
        let value = rrset.rdata.iter().map(|rdata| presentation::format_rdata(rrset.rtype, rdata));
        Record { name: shown(owner), rtype: rrset.rtype.to_string(), ttl: rrset.ttl, value: value.collect() }
    }
}

/// RRsets that are read at once for a list.
const PAGE_ROWS: usize = 128;
const PAGE_STEP: i64 = PAGE_ROWS as i64;
/// So many RRsets that a narrowed token does not see are passed by for one page.
const MAX_PASSED: usize = 10_000;
/// From so many octets of RDATA on, a page takes no further RRset: an RRset has up to 64,000, a page up to a thousand of them.
const MAX_PAGE_OCTETS: usize = 1 << 20;

/// Query parameters of the list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Records of this zone only.
    pub zone: Option<String>,
    /// Records of this type only.
    #[serde(rename = "type")]
    pub rtype: Option<String>,
    /// Items of a page: 1 to 1000, 100 when left out. A page of large records has fewer.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// The zone as it was: in a version, like `17`, or at a time, like `2026-11-20T19:00:00Z`. It takes `?zone=`.
    pub at: Option<String>,
}

/// Query parameters of a look-up.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GetParams {
    /// The zone that the name is relative to, or that holds it.
    pub zone: Option<String>,
    /// This type only: the answer is one record then.
    #[serde(rename = "type")]
    pub rtype: Option<String>,
    /// As it was: in a version of its zone, like `17`, or at a time, like `2026-11-20T19:00:00Z`. Without `?zone=` the zone is
    /// the one that holds the name now.
    pub at: Option<String>,
}

/// The same under the other path.
pub(crate) fn aliases(app: Arc<App>) -> Router {
    Router::new()
        .route("/api/v1/dns-records", get(list).post(create))
        .route("/api/v1/dns-records/{name}", get(look_up).put(replace).delete(delete))
        .with_state(app)
}

/// Lists RRsets, in canonical order within each zone.
#[utoipa::path(get, path = "/api/v1/records", tag = "records", params(ListParams), responses(
    (status = 200, description = "One page", body = Page<Record>),
    (status = 404, description = "DOMAIN_NOT_FOUND, VERSION_NOT_FOUND", body = ErrorBody),
    (status = 410, description = "VERSION_GONE", body = ErrorBody),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    within: Within,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let limit = cursor::limit(params.limit)?;
    let rtype = params.rtype.as_deref().map(stored_type).transpose()?;
    if let Some(at) = &params.at {
        return list_at(&app, &within, &params, At::parse(at)?, rtype, limit).await;
    }
    let mut connection = app.views.acquire(within.access.account()).await?;
    let zone = match &params.zone {
        Some(text) => {
            let apex = name::absolute(text)?;
            within.limits.allow_zone(&apex)?;
            Some(zone_named(&mut connection, &within, &apex).await?)
        }
        None => {
            within.limits.allow_all_zones()?;
            if !within.access.is_everything() {
                let message = "you see some zones: say ?zone= for the records of one";
                return Err(Problem::new(Code::MalformedRequest, message));
            }
            None
        }
    };
    let after = match &params.cursor {
        Some(text) => cursor::position(text)?,
        None => rrsets::Position::default(),
    };
    let of = zone.map_or(Of::Everything, |zone| Of::Zone(zone.id));
    let (listed, next) = page(&mut connection, of, &within, rtype, after, limit).await?;
    drop(connection);
    let next = next.as_ref().map(cursor::of_position);
    let items = listed.iter().map(|listed| Record::of(listed.owner.as_ref(), &listed.rrset)).collect();
    Ok(Json(Page { items, next }).into_response())
}

/// The same of one zone as it was. All pages are of one version, which the cursor remembers.
async fn list_at(
    app: &App,
    within: &Within,
    params: &ListParams,
    at: At,
    rtype: Option<Rtype>,
    limit: i64,
) -> Result<Response, Problem> {
    let Some(zone) = &params.zone else {
        let message = "?at= is about one zone: say ?zone=";
        return Err(Problem::new(Code::MalformedRequest, message));
    };
    let apex = name::absolute(zone)?;
    within.limits.allow_zone(&apex)?;
    let access = &within.access;
    let mut connection = app.views.begin(access.account()).await?;
    let present = zones::by_name(&mut connection, apex.as_ref()).await?;
    past::seen(&mut connection, &apex, present.as_ref(), access).await?;
    let (version, after) = match &params.cursor {
        Some(text) => cursor::position_at(text)?,
        None => (past::version_at(&mut connection, &apex, at).await?, rrsets::Position::default()),
    };
    let past = past::of_version(&mut connection, &apex, version).await?;
    past.needs(present.as_ref(), access)?;
    let (listed, next) = page(&mut connection, Of::Past(&past), within, rtype, after, limit).await?;
    connection.end_reading().await?;
    let next = next.as_ref().map(|next| cursor::of_position_at(version, next));
    let items = listed.iter().map(|listed| Record::of(listed.owner.as_ref(), &listed.rrset)).collect();
    let etag = [(ETAG, format!("\"{version}\""))];
    Ok((etag, Json(Page { items, next })).into_response())
}

/// What is listed.
#[derive(Clone, Copy)]
enum Of<'a> {
    Everything,
    Zone(i64),
    Past(&'a Past),
}

impl Of<'_> {
    async fn list(
        self,
        connection: &mut Connection,
        rtype: Option<Rtype>,
        after: &rrsets::Position,
    ) -> sqlx::Result<Vec<Listed>> {
        match self {
            Of::Everything => rrsets::list(connection, None, rtype, after, PAGE_STEP).await,
            Of::Zone(zone_id) => rrsets::list(connection, Some(zone_id), rtype, after, PAGE_STEP).await,
            Of::Past(past) => past.list(connection, rtype, after, PAGE_STEP).await,
        }
    }
}

/// At most `limit` RRsets, fewer where they are large or many are not to be seen, and behind which the list goes on.
async fn page(
    connection: &mut Connection,
    of: Of<'_>,
    within: &Within,
    rtype: Option<Rtype>,
    mut after: rrsets::Position,
    limit: i64,
) -> Result<(Vec<Listed>, Option<rrsets::Position>), Problem> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut all = Vec::new();
    let (mut octets, mut passed) = (0, 0);
    loop {
        let step = of.list(connection, rtype, &after).await?;
        let is_last = step.len() < PAGE_ROWS;
        for listed in step {
            if all.len() == limit || octets >= MAX_PAGE_OCTETS || passed >= MAX_PASSED {
                return Ok((all, Some(after)));
            }
            after = listed.position.clone();
            if within.limits.allow_record(&listed.owner, listed.rrset.rtype).is_err() {
                passed += 1;
                continue;
            }
            octets += listed.rrset.rdata.iter().map(|rdata| rdata.len()).sum::<usize>();
            all.push(listed);
        }
        if is_last {
            return Ok((all, None));
        }
    }
}

/// The RRsets of one name, or one of them with `?type=`.
#[utoipa::path(get, path = "/api/v1/records/{name}", tag = "records", params(
    ("name" = String, Path, description = "Owner name", example = "www.example.com."), GetParams,
), responses(
    (status = 200, description = "With ?type=: the record; without: a page of all", body = Record),
    (status = 404, description = "RECORD_NOT_FOUND, DOMAIN_NOT_FOUND, VERSION_NOT_FOUND", body = ErrorBody),
    (status = 410, description = "VERSION_GONE", body = ErrorBody),
))]
pub async fn look_up(
    State(app): State<Arc<App>>,
    within: Within,
    Segment(text): Segment,
    Params(params): Params<GetParams>,
) -> Result<Response, Problem> {
    let zone = params.zone.as_deref().map(name::absolute).transpose()?;
    let owner = name::relative(&text, zone.as_ref().map(Name::as_ref))?;
    let rtype = params.rtype.as_deref().map(stored_type).transpose()?;
    within.limits.allow_owner(&owner)?;
    if let Some(rtype) = rtype {
        within.limits.allow_record(&owner, rtype)?;
    }
    let mut connection = reading(&app, &within, params.at.as_deref()).await?;
    let past = match (&zone, &params.at) {
        (Some(apex), at) => zone_at(&mut connection, &within, apex, at.as_deref()).await?,
        (None, None) => Past::of_present(zone_of(&mut connection, &within, &owner, rtype).await?),
        (None, at) => {
            let apex = zone_of(&mut connection, &within, &owner, rtype).await?.apex;
            zone_at(&mut connection, &within, &apex, at.as_deref()).await?
        }
    };
    within.limits.allow_zone(&past.zone.apex)?;
    let sets = past.of_owner(&mut connection, owner.as_ref()).await?;
    read(connection, params.at.as_deref()).await?;
    let mut items: Vec<Record> = sets
        .iter()
        .filter(|set| rtype.is_none_or(|rtype| set.rtype == rtype))
        .filter(|set| within.limits.allow_record(&owner, set.rtype).is_ok())
        .map(|set| Record::of(owner.as_ref(), set))
        .collect();
    if items.is_empty() {
        return Err(no_records(&owner, rtype));
    }
    let etag = [(ETAG, format!("\"{}\"", past.zone.version))];
    if rtype.is_some() {
        return Ok((etag, Json(items.swap_remove(0))).into_response());
    }
    Ok((etag, Json(Page { items, next: None })).into_response())
}

/// Makes an RRset that is not there yet.
#[utoipa::path(post, path = "/api/v1/records", tag = "records", params(InZone, OfType, Manner), request_body = RecordBody,
    responses(
        (status = 201, description = "Made", body = Record),
        (status = 202, description = "Accepted while the database is away: not made, not served yet", body = Accepted),
        (status = 404, description = "DOMAIN_NOT_FOUND", body = ErrorBody),
        (status = 409, description = "RECORD_EXISTS, QUOTA_EXCEEDED, CONFLICT", body = ErrorBody),
        (status = 412, description = "VERSION_CONFLICT", body = ErrorBody),
        (status = 422, description = "INVALID_RECORD_TYPE, INVALID_TTL, INVALID_NAME, INVALID_VALUE", body = ErrorBody),
))]
pub async fn create(State(app): State<Arc<App>>, write: Write<RecordBody>) -> Result<Response, Problem> {
    write.takes(&["zone", "type"])?;
    let text = write.body.name.clone();
    let text = text.ok_or_else(|| Problem::new(Code::MalformedRequest, "the body: missing field `name`"))?;
    let (operation, respond) = put(&write, &text, PutMode::Create, 201)?;
    write.commit(&app, "record.create", vec![operation], respond).await
}

/// Replaces an RRset.
#[utoipa::path(put, path = "/api/v1/records/{name}", tag = "records", params(
    ("name" = String, Path, description = "Owner name", example = "www.example.com."), InZone, OfType, Manner,
), request_body = RecordBody, responses(
    (status = 200, description = "Replaced", body = Record),
    (status = 202, description = "Accepted while the database is away: not made, not served yet", body = Accepted),
    (status = 404, description = "RECORD_NOT_FOUND, DOMAIN_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "QUOTA_EXCEEDED, CONFLICT", body = ErrorBody),
    (status = 412, description = "VERSION_CONFLICT", body = ErrorBody),
    (status = 422, description = "INVALID_RECORD_TYPE, INVALID_TTL, INVALID_NAME, INVALID_VALUE", body = ErrorBody),
))]
pub async fn replace(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    write: Write<RecordBody>,
) -> Result<Response, Problem> {
    write.takes(&["zone", "type"])?;
    if let Some(in_body) = &write.body.name {
        let zone = write.params.zone.as_deref().map(name::absolute).transpose()?;
        let zone = zone.as_ref().map(Name::as_ref);
        if name::relative(in_body, zone)? != name::relative(&text, zone)? {
            let message = "the name in the body is not the one in the path";
            return Err(Problem::new(Code::InvalidName, message));
        }
    }
    let (operation, respond) = put(&write, &text, PutMode::Replace, 200)?;
    write.commit(&app, "record.put", vec![operation], respond).await
}

/// Deletes an RRset, or all of a name with `?all=true`.
#[utoipa::path(delete, path = "/api/v1/records/{name}", tag = "records", params(
    ("name" = String, Path, description = "Owner name", example = "www.example.com."), InZone, OfType, All, Manner,
), responses(
    (status = 204, description = "Deleted"),
    (status = 202, description = "Accepted while the database is away: not made, not served yet", body = Accepted),
    (status = 404, description = "RECORD_NOT_FOUND, DOMAIN_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT", body = ErrorBody),
    (status = 412, description = "VERSION_CONFLICT", body = ErrorBody),
))]
pub async fn delete(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    write: Write<Empty>,
) -> Result<Response, Problem> {
    write.takes(&["zone", "type", "all"])?;
    let zone = write.params.zone.as_deref().map(name::absolute).transpose()?;
    let owner = name::relative(&text, zone.as_ref().map(Name::as_ref))?;
    let rtype = write.params.rtype.as_deref().map(record::rtype).transpose()?;
    match (rtype, write.params.all) {
        (None, Some(true)) | (Some(_), None | Some(false)) => {}
        (None, _) => {
            let message = "say ?type= to delete one type, or ?all=true to delete all of the name";
            return Err(Problem::new(Code::MalformedRequest, message));
        }
        (Some(_), Some(true)) => {
            return Err(Problem::new(Code::MalformedRequest, "?type= and ?all=true contradict each other"));
        }
    }
    let respond: Respond = Box::new(|plan, change| reply::<Record>(plan, change, 204, None));
    write.commit(&app, "record.delete", vec![Operation::Delete { owner, rtype, zone }], respond).await
}

/// A put, and the record as its answer.
fn put(
    write: &Write<RecordBody>,
    text: &str,
    mode: PutMode,
    status: u16,
) -> Result<(Operation, Respond), Problem> {
    let body = &write.body;
    let rtype = match (body.rtype.as_deref(), write.params.rtype.as_deref()) {
        (Some(body), Some(query)) if record::rtype(body)? != record::rtype(query)? => {
            return Err(Problem::new(
                Code::InvalidRecordType,
                "the type in the body is not the one in ?type=",
            ));
        }
        (Some(text), _) | (None, Some(text)) => record::rtype(text)?,
        (None, None) => return Err(Problem::new(Code::MalformedRequest, "the body: missing field `type`")),
    };
    let zone = write.params.zone.as_deref().map(name::absolute).transpose()?;
    let owner = name::relative(text, zone.as_ref().map(Name::as_ref))?;
    let rdata = record::values(rtype, &body.value, zone.as_ref().map(Name::as_ref))?;
    let named = owner.clone();
    let respond: Respond = Box::new(move |plan, change| {
        let record = plan.rrset(named.as_ref(), rtype).map(|rrset| Record::of(named.as_ref(), rrset));
        reply(plan, change, status, record.as_ref())
    });
    Ok((Operation::Put { owner, rtype, ttl: body.ttl, rdata, mode, zone }, respond))
}

/// A type to look for: any that may be stored.
fn stored_type(text: &str) -> Result<Rtype, Problem> {
    match text.parse::<Rtype>() {
        Ok(rtype) if rtype.is_data() => Ok(rtype),
        _ => record::rtype(text),
    }
}

pub(super) async fn zone_named(
    connection: &mut Connection,
    within: &Within,
    apex: &Name,
) -> Result<Zone, Problem> {
    match zones::by_name(connection, apex.as_ref()).await? {
        Some(zone) if within.access.finds(&zone)? => Ok(zone),
        _ => Err(no_zone(apex)),
    }
}

/// The closest enclosing zone; for DS the one on the parent's side (RFC 4035 §2.4).
async fn zone_of(
    connection: &mut Connection,
    within: &Within,
    owner: &Name,
    rtype: Option<Rtype>,
) -> Result<Zone, Problem> {
    let start = if rtype == Some(Rtype::DS) { owner.as_ref().parent() } else { Some(owner.as_ref()) };
    let names: Vec<NameRef<'_>> = std::iter::successors(start, |name| name.parent()).collect();
    match zones::longest_seen(connection, &names, false).await? {
        Longest::Zone(zone) if within.access.finds(&zone)? => Ok(*zone),
        _ => Err(no_zone_for(owner)),
    }
}
