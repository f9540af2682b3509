//! The resources of version 1, one file each.

#[expect(unused_qualifications, reason = "in what the derive of the description writes")]
pub mod audit;
pub mod auth;
#[expect(unused_qualifications, reason = "in what the derive of the description writes")]
pub mod changes;
#[expect(unused_qualifications, reason = "in what the derive of the description writes")]
pub mod claims;
pub mod data_keys;
#[expect(unused_qualifications, reason = "in what the derive of the description writes")]
pub mod domains;
#[expect(unused_qualifications, reason = "in what the derive of the description writes")]
pub mod events;
pub mod export;
pub mod grants;
pub mod import;
pub mod invitations;
#[expect(unused_qualifications, reason = "in what the derive of the description writes")]
pub mod jobs;
pub mod keys;
pub mod me;
pub mod nodes;
pub mod quotas;
#[expect(unused_qualifications, reason = "in what the derive of the description writes")]
pub mod records;
pub mod reload;
pub mod rollback;
mod sending;
mod shown;
pub mod suffixes;
pub mod tenants;
pub mod tokens;
#[expect(unused_qualifications, reason = "in what the derive of the description writes")]
pub mod users;
#[expect(unused_qualifications, reason = "in what the derive of the description writes")]
pub mod versions;
#[expect(unused_qualifications, reason = "in what the derive of the description writes")]
pub mod webhooks;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use godwit_wire::name::NameRef;
use godwit_wire::presentation;

use crate::commit::Reply;
use crate::commit::plan::Plan;

/// A name as the API writes it: as one that it takes, whatever its octets are.
pub(crate) fn shown(name: NameRef<'_>) -> String {
    let mut text = String::new();
    presentation::write_name(name.as_wire(), &mut text).map_or_else(|| name.to_string(), |()| text)
}

/// A time as the API writes it (RFC 3339, UTC).
pub(crate) fn timestamp(us: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

/// A time as it is kept.
fn micros(at: &OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// The answer to a change: a body, and the version where one zone was meant.
fn reply<T: serde::Serialize>(plan: &Plan, change: uuid::Uuid, status: u16, body: Option<&T>) -> Reply {
    let version = match plan.zones.values().next() {
        Some(zone) if plan.zones.len() == 1 && !zone.removed => Some(zone.zone.version),
        _ => None,
    };
    // What is written here is made of text and numbers: it always has a form in JSON.
    let body = body.map(|body| serde_json::to_string(body).unwrap_or_default()).unwrap_or_default();
    Reply { status, body, version, change }
}
