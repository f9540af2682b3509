//! `/domains`: zones.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, HeaderValue, LOCATION};
use axum::response::{IntoResponse as _, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use godwit_wire::name::Name;
use godwit_wire::rr::{Rrset, Rtype};

use super::super::App;
use super::super::buffered::Accepted;
use super::super::cursor::{self, Page};
use super::super::envelope::ErrorBody;
use super::super::read::{Params, Segment, Within};
use super::super::write::described::{ForTenant, Manner};
use super::super::write::{self, Empty, Write, json_bodies};
use super::records::Record;
use super::versions::{AtParams, read, reading, zone_at};
use super::{reply, shown, timestamp};
use crate::auth::Access;
use crate::commit::Respond;
use crate::commit::plan::ZonePlan;
use crate::error::{Code, Problem};
use crate::model::change::{Operation, PutMode, PutZone};
use crate::model::name_key;
use crate::model::soa::{DEFAULT_APEX_TTL_S, Soa, default_mailbox, ns_rrset};
use crate::model::zone::{TtlPolicy, Zone};
use crate::names::idna;
use crate::store::{Connection, zones};
use crate::validate::{DEFAULT_TTL_S, name, record};

/// All but what is unreserved (RFC 3986 §2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A zone.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Domain {
    /// Its apex.
    #[schema(example = "example.com.")]
    pub name: String,
    /// Whose it is: the tenant's number; 0 is the operator.
    pub tenant: u32,
    /// Rises by one with every change; the ETag.
    pub version: u64,
    /// That of its SOA.
    pub serial: u32,
    /// Whether TTLs are held between 60 and 86400.
    pub ttl_policy: TtlPolicy,
    /// Signed elsewhere: it changes as a whole only.
    pub signed: bool,
    /// When it was made.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub created_at: String,
    /// When it last changed.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub updated_at: String,
    /// Since when it is frozen: the proof that its name is its tenant's is gone, and it is changed by operators alone. Left out where it
    /// is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub frozen_at: Option<String>,
    /// Where the zone is asked for by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soa: Option<SoaBody>,
    /// Where the zone is asked for by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns: Option<Vec<String>>,
}

/// An SOA but for its serial, which each change raises. Left out fields keep their value, or take the default.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SoaBody {
    /// The primary.
    #[schema(example = "ns1.example.com.")]
    pub mname: Option<String>,
    /// The mailbox of who is responsible, as a name.
    #[schema(example = "hostmaster.example.com.")]
    pub rname: Option<String>,
    /// Seconds; 7200 for a new zone.
    pub refresh: Option<u32>,
    /// Seconds; 3600 for a new zone.
    pub retry: Option<u32>,
    /// Seconds; 1209600 for a new zone.
    pub expire: Option<u32>,
    /// Seconds for which "no such name" is remembered; 60 for a new zone.
    pub minimum: Option<u32>,
}

/// A zone to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    /// Its apex; outside ASCII as people write it.
    #[schema(example = "example.com.")]
    pub name: String,
    /// Its SOA.
    pub soa: Option<SoaBody>,
    /// Its name servers; those of the configuration when left out.
    pub ns: Option<Vec<String>>,
    /// See the zone.
    pub ttl_policy: Option<TtlPolicy>,
}

/// A zone to write whole.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceBody {
    /// All records; SOA and NS of the apex may be left out, they stay then. Names may be relative to the zone.
    pub records: Vec<ZoneRecord>,
    /// See the zone.
    pub ttl_policy: Option<TtlPolicy>,
}

/// An RRset of a zone that is written whole.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoneRecord {
    /// Owner name, absolute or relative to the zone; `@` is the apex.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// Seconds; 300 when left out.
    pub ttl: Option<u32>,
    /// Values in presentation format.
    pub value: Vec<String>,
}

/// Properties of a zone to change.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchBody {
    /// Fields of the SOA to change.
    pub soa: Option<SoaBody>,
    /// See the zone.
    pub ttl_policy: Option<TtlPolicy>,
}

json_bodies!(CreateBody: write::SMALL, ReplaceBody: write::LARGE, PatchBody: write::SMALL);

impl Domain {
    pub(super) fn of(zone: &Zone) -> Domain {
        Domain {
            name: shown(zone.apex.as_ref()),
            tenant: zone.owner_number,
            version: zone.version,
            serial: zone.serial,
            ttl_policy: zone.ttl_policy,
            signed: zone.presigned,
            created_at: timestamp(zone.created_at_us),
            updated_at: timestamp(zone.updated_at_us),
            frozen_at: zone.frozen_at_us.map(timestamp),
            soa: None,
            ns: None,
        }
    }

    fn with_apex<'a>(mut self, sets: impl Iterator<Item = &'a Rrset>) -> Domain {
        for set in sets {
            match set.rtype {
                Rtype::SOA => self.soa = Soa::of_rrset(set).as_ref().map(SoaBody::of),
                Rtype::NS => self.ns = Some(Record::of(godwit_wire::name::NameRef::ROOT, set).value),
                _ => {}
            }
        }
        self
    }

    pub(super) fn of_plan(plan: &ZonePlan) -> Domain {
        let apex = plan.owners.get(&plan.zone.apex);
        Domain::of(&plan.zone).with_apex(apex.into_iter().flat_map(|owner| owner.after.values()))
    }
}

impl SoaBody {
    fn of(soa: &Soa) -> SoaBody {
        SoaBody {
            mname: Some(shown(soa.primary.as_ref())),
            rname: Some(shown(soa.mailbox.as_ref())),
            refresh: Some(soa.refresh),
            retry: Some(soa.retry),
            expire: Some(soa.expire),
            minimum: Some(soa.minimum),
        }
    }

    /// Changes what is given.
    fn apply(&self, soa: &mut Soa) -> Result<(), Problem> {
        if let Some(text) = &self.mname {
            soa.primary = name::absolute(text)?;
        }
        if let Some(text) = &self.rname {
            soa.mailbox = name::absolute(text)?;
        }
        for (field, value, key) in [
            (&mut soa.refresh, self.refresh, "refresh"),
            (&mut soa.retry, self.retry, "retry"),
            (&mut soa.expire, self.expire, "expire"),
            (&mut soa.minimum, self.minimum, "minimum"),
        ] {
            let Some(value) = value else { continue };
            // RFC 2181 §8 for what is a TTL; the other times mean nothing beyond it.
            if value > godwit_wire::rr::MAX_TTL {
                return Err(Problem::new(Code::InvalidValue, format!("soa.{key} is above 2147483647")));
            }
            *field = value;
        }
        Ok(())
    }
}

/// Query parameters of the list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DomainListParams {
    /// Those of this tenant only; 0 is the operator.
    pub tenant: Option<u32>,
    /// Items of a page: 1 to 1000, 100 when left out.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// Lists the zones that you see, in canonical order.
#[utoipa::path(get, path = "/api/v1/domains", tag = "domains", params(DomainListParams), responses(
    (status = 200, description = "One page", body = Page<Domain>),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    within: Within,
    Params(params): Params<DomainListParams>,
) -> Result<Response, Problem> {
    let limit = cursor::limit(params.limit)?;
    let after = params.cursor.as_deref().map(cursor::key).transpose()?;
    let mut connection = app.views.acquire(within.access.account()).await?;
    let mut listed = match within.limits.zones() {
        None => page(&mut connection, &within.access, params.tenant, after.as_deref(), limit + 1).await?,
        Some(names) => {
            let keys = names.iter().map(|apex| (name_key::encode(apex.as_ref()), apex));
            let keys: BTreeMap<Vec<u8>, &Name> = keys.collect();
            let mut found = Vec::new();
            for (_, apex) in
                keys.iter().filter(|(key, _)| after.as_deref().is_none_or(|after| key.as_slice() > after))
            {
                found.extend(zones::by_name(&mut connection, apex.as_ref()).await?);
            }
            let is_asked = |zone: &Zone| params.tenant.is_none_or(|tenant| zone.owner_number == tenant);
            found.retain(|zone| within.access.sees(zone) && is_asked(zone));
            found
        }
    };
    let next = cursor::cut(&mut listed, limit, |last| cursor::of_key(&name_key::encode(last.apex.as_ref())));
    Ok(Json(Page { items: listed.iter().map(Domain::of).collect(), next }).into_response())
}

/// So many zones behind a key that somebody sees, of one tenant where one is asked for.
async fn page(
    connection: &mut Connection,
    access: &Access,
    tenant: Option<u32>,
    after: Option<&[u8]>,
    limit: i64,
) -> sqlx::Result<Vec<Zone>> {
    if access.is_everything() {
        return match tenant {
            None => zones::page(connection, after, limit).await,
            Some(tenant) => zones::page_of(connection, tenant, after, limit).await,
        };
    }
    // The first of each tenant's own, and of what it is granted: the first of all are among them.
    let mut found: BTreeMap<Vec<u8>, Zone> = BTreeMap::new();
    for own in access.tenants() {
        if tenant.is_none_or(|tenant| tenant == own) {
            let zones = zones::page_of(connection, own, after, limit).await?;
            found.extend(zones.into_iter().map(|zone| (name_key::encode(zone.apex.as_ref()), zone)));
        }
        let granted = zones::page_granted(connection, own, tenant, after, limit).await?;
        let seen = granted.into_iter().filter(|zone| access.sees(zone));
        found.extend(seen.map(|zone| (name_key::encode(zone.apex.as_ref()), zone)));
    }
    Ok(found.into_values().take(usize::try_from(limit).unwrap_or(usize::MAX)).collect())
}

/// A zone.
#[utoipa::path(get, path = "/api/v1/domains/{zone}", tag = "domains", params(
    ("zone" = String, Path, description = "Apex", example = "example.com."), AtParams,
), responses(
    (status = 200, description = "The zone", body = Domain),
    (status = 404, description = "DOMAIN_NOT_FOUND, VERSION_NOT_FOUND", body = ErrorBody),
    (status = 410, description = "VERSION_GONE", body = ErrorBody),
))]
pub async fn look_up(
    State(app): State<Arc<App>>,
    within: Within,
    Segment(text): Segment,
    Params(params): Params<AtParams>,
) -> Result<Response, Problem> {
    let apex = name::absolute(&text)?;
    within.limits.allow_zone(&apex)?;
    let mut connection = reading(&app, &within, params.at.as_deref()).await?;
    let past = zone_at(&mut connection, &within, &apex, params.at.as_deref()).await?;
    let sets = past.of_owner(&mut connection, apex.as_ref()).await?;
    read(connection, params.at.as_deref()).await?;
    let domain = Domain::of(&past.zone).with_apex(sets.iter());
    Ok(([(ETAG, format!("\"{}\"", past.zone.version))], Json(domain)).into_response())
}

/// Makes a zone.
#[utoipa::path(post, path = "/api/v1/domains", tag = "domains", params(ForTenant, Manner), request_body = CreateBody,
    responses(
        (status = 201, description = "Made", body = Domain),
        (status = 202, description = "Accepted while the database is away: not made, not served yet", body = Accepted),
        (status = 403, description = "FORBIDDEN, OWNERSHIP_REQUIRED, NAME_RESERVED", body = ErrorBody),
        (status = 409, description = "DOMAIN_EXISTS, NAME_QUARANTINED, QUOTA_EXCEEDED, CONFLICT", body = ErrorBody),
        (status = 422, description = "INVALID_NAME, INVALID_VALUE", body = ErrorBody),
))]
pub async fn create(State(app): State<Arc<App>>, write: Write<CreateBody>) -> Result<Response, Problem> {
    write.takes(&["tenant"])?;
    let apex = idna::read(&write.body.name)?;
    let ns = match &write.body.ns {
        Some(texts) => {
            texts.iter().map(|text| name::absolute(text)).collect::<Result<Vec<Name>, Problem>>()?
        }
        None => app.default_ns.clone(),
    };
    if ns.is_empty() {
        return Err(Problem::new(Code::InvalidValue, "\"ns\" is empty; a zone needs a name server"));
    }
    let mut soa = Soa::of_new_zone(ns[0].clone(), default_mailbox(apex.as_ref()));
    if let Some(body) = &write.body.soa {
        body.apply(&mut soa)?;
    }
    let put = PutZone {
        apex: apex.clone(),
        rrsets: Vec::new(),
        mode: PutMode::Create,
        ttl_policy: write.body.ttl_policy,
        tenant: write.params.tenant,
        default_soa: soa.rrset(),
        default_ns: ns_rrset(&ns),
    };
    let respond = with_domain(201);
    let mut response = write.commit(&app, "domain.create", vec![Operation::PutZone(put)], respond).await?;
    if let Ok(location) = HeaderValue::from_str(&location(&apex)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Replaces all records of a zone at once.
#[utoipa::path(put, path = "/api/v1/domains/{zone}", tag = "domains", params(
    ("zone" = String, Path, description = "Apex", example = "example.com."), Manner,
), request_body = ReplaceBody, responses(
    (status = 200, description = "Replaced", body = Domain),
    (status = 202, description = "Accepted while the database is away: not made, not served yet", body = Accepted),
    (status = 404, description = "DOMAIN_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT, CONFIRMATION_REQUIRED", body = ErrorBody),
    (status = 412, description = "VERSION_CONFLICT", body = ErrorBody),
    (status = 422, description = "INVALID_RECORD_TYPE, INVALID_TTL, INVALID_NAME, INVALID_VALUE", body = ErrorBody),
))]
pub async fn replace(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    mut write: Write<ReplaceBody>,
) -> Result<Response, Problem> {
    write.takes(&[])?;
    let apex = name::absolute(&text)?;
    let (records, zone) = (std::mem::take(&mut write.body.records), apex.clone());
    // Megabytes of text: not on a thread that answers other requests.
    let read = tokio::task::spawn_blocking(move || zone_records(&zone, &records)).await;
    let rrsets = read.map_err(|_| Problem::new(Code::Internal, "the records could not be read"))??;
    let put =
        PutZone { rrsets, mode: PutMode::Replace, ttl_policy: write.body.ttl_policy, ..new_zone(&app, apex) };
    write.commit(&app, "domain.put", vec![Operation::PutZone(put)], with_domain(200)).await
}

/// Changes properties of a zone.
#[utoipa::path(patch, path = "/api/v1/domains/{zone}", tag = "domains", params(
    ("zone" = String, Path, description = "Apex", example = "example.com."), Manner,
), request_body = PatchBody, responses(
    (status = 200, description = "Changed", body = Domain),
    (status = 202, description = "Accepted while the database is away: not made, not served yet", body = Accepted),
    (status = 404, description = "DOMAIN_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFLICT", body = ErrorBody),
    (status = 412, description = "VERSION_CONFLICT", body = ErrorBody),
    (status = 422, description = "INVALID_NAME, INVALID_VALUE", body = ErrorBody),
))]
pub async fn patch(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    write: Write<PatchBody>,
) -> Result<Response, Problem> {
    write.takes(&[])?;
    let apex = name::absolute(&text)?;
    let soa = write.body.soa.clone().unwrap_or_default();
    // What stands there is read inside the transaction: two callers that change different fields both succeed.
    soa.apply(&mut Soa::of_new_zone(Name::root(), Name::root()))?;
    let given = write.body.soa.is_some();
    let change: crate::model::change::ChangeSoa = Arc::new(move |before: &mut Soa| soa.apply(before));
    let operation = Operation::PatchZone {
        apex,
        ttl_policy: write.body.ttl_policy,
        soa: given.then_some(crate::model::change::SoaChange(change)),
    };
    write.commit(&app, "domain.patch", vec![operation], with_domain(200)).await
}

/// Deletes a zone with all its records.
#[utoipa::path(delete, path = "/api/v1/domains/{zone}", tag = "domains", params(
    ("zone" = String, Path, description = "Apex", example = "example.com."), Manner,
), responses(
    (status = 204, description = "Deleted"),
    (status = 202, description = "Accepted while the database is away: not made, not served yet", body = Accepted),
    (status = 404, description = "DOMAIN_NOT_FOUND", body = ErrorBody),
    (status = 409, description = "CONFIRMATION_REQUIRED", body = ErrorBody),
    (status = 412, description = "VERSION_CONFLICT", body = ErrorBody),
))]
pub async fn delete(
    State(app): State<Arc<App>>,
    Segment(text): Segment,
    write: Write<Empty>,
) -> Result<Response, Problem> {
    write.takes(&[])?;
    let apex = name::absolute(&text)?;
    let respond: Respond = Box::new(|plan, change| reply::<Domain>(plan, change, 204, None));
    write.commit(&app, "domain.delete", vec![Operation::DeleteZone { apex }], respond).await
}

/// A zone as it is when nothing is said about it.
pub(super) fn new_zone(app: &App, apex: Name) -> PutZone {
    let primary = app.default_ns.first().cloned().unwrap_or_else(Name::root);
    PutZone {
        rrsets: Vec::new(),
        mode: PutMode::Upsert,
        ttl_policy: None,
        tenant: None,
        default_soa: Soa::of_new_zone(primary, default_mailbox(apex.as_ref())).rrset(),
        default_ns: ns_rrset(&app.default_ns),
        apex,
    }
}

/// Where a zone is found: its name is in the path as octets that stand for themselves there, or escaped (RFC 3986 §2).
fn location(apex: &Name) -> String {
    format!("/api/v1/domains/{}", utf8_percent_encode(&shown(apex.as_ref()), ESCAPED))
}

fn zone_records(apex: &Name, records: &[ZoneRecord]) -> Result<Vec<(Name, Rrset)>, Problem> {
    let read = |(index, one): (usize, &ZoneRecord)| {
        zone_record(apex, one)
            .map_err(|problem| Problem::new(problem.code, format!("record {index}: {}", problem.message)))
    };
    records.iter().enumerate().map(read).collect()
}

fn zone_record(apex: &Name, one: &ZoneRecord) -> Result<(Name, Rrset), Problem> {
    let rtype = record::rtype(&one.rtype)?;
    let owner = name::relative(&one.name, Some(apex.as_ref()))?;
    let rdata = record::values(rtype, &one.value, Some(apex.as_ref()))?;
    let default = if matches!(rtype, Rtype::SOA | Rtype::NS) { DEFAULT_APEX_TTL_S } else { DEFAULT_TTL_S };
    Ok((owner, Rrset::new(rtype, one.ttl.unwrap_or(default), rdata, vec![])))
}

pub(super) fn with_domain(status: u16) -> Respond {
    Box::new(move |plan, change| {
        let domain = plan.zones.values().next().map(Domain::of_plan);
        reply(plan, change, status, domain.as_ref())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_path() {
        for (apex, expected) in [
            ("example.com.", "example.com."),
            ("_a-b.example.", "_a-b.example."),
            ("*.example.", "%2A.example."),
            ("a\\032b\\.c.example.", "a%5C032b%5C.c.example."),
            ("\\255.example.", "%5C255.example."),
            ("a/b?c#d%.example.", "a%2Fb%3Fc%23d%25.example."),
            (".", "."),
        ] {
            assert_eq!(location(&apex.parse().unwrap()), format!("/api/v1/domains/{expected}"), "{apex}");
        }
    }
}
