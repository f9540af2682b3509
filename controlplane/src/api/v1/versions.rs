//! `/domains/{zone}/versions`: what a zone was. `at` on other reads is here too.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use godwit_wire::name::Name;

use super::super::App;
use super::super::cursor::{self, ListParams, Page};
use super::super::envelope::ErrorBody;
use super::super::read::{Params, Segment, Within};
use super::records::zone_named;
use super::timestamp;
use crate::error::{Code, Problem};
use crate::past::{self, At, Past};
use crate::store::{Connection, history, zones};
use crate::validate::name;

/// A version of a zone.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Version {
    /// Its number.
    pub version: u64,
    /// The serial of the zone in it.
    pub serial: i64,
    /// Since when.
    #[schema(example = "2026-11-20T19:00:00Z")]
    pub at: String,
    /// What it came from: `create`, `update`, `replace`, or `remove` where the zone is not there in it. This and what
    /// follows is left out where the change is not kept any more, and only what it made is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "update")]
    pub kind: Option<String>,
    /// What was done, as the audit calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "record.put")]
    pub action: Option<String>,
    /// Who did it: the id of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The change that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// Its place in the order of all changes, once published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// RRsets written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub put: Option<i64>,
    /// RRsets deleted; of a zone that was removed, none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<i64>,
    /// Whether its records can be read and brought back.
    pub readable: bool,
}

impl Version {
    /// One of which only this is known.
    fn bare(version: u64, serial: i64, at_us: i64) -> Version {
        Version {
            version,
            serial,
            at: timestamp(at_us),
            kind: None,
            action: None,
            actor: None,
            change: None,
            sequence: None,
            put: None,
            deleted: None,
            readable: true,
        }
    }

    fn of(listed: history::Listed, readable_from: u64) -> Version {
        Version {
            kind: Some(listed.kind.clone()),
            action: listed.action,
            actor: listed.actor,
            change: Some(listed.change.to_string()),
            sequence: listed.sequence,
            put: Some(listed.put),
            deleted: Some(listed.deleted),
            readable: listed.version >= readable_from && listed.kind != "remove",
            ..Version::bare(listed.version, listed.serial, listed.committed_at_us)
        }
    }
}

/// Which state of a zone is read.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AtParams {
    /// The zone as it was: in a version, like `17`, or at a time, like `2026-11-20T19:00:00Z`. Left out: as it is.
    pub at: Option<String>,
}

/// A connection that sees one state of the database where the past is asked for: it is put together from several rows.
pub(super) async fn reading(app: &App, within: &Within, at: Option<&str>) -> sqlx::Result<Connection> {
    let account = within.access.account();
    if at.is_some() { app.views.begin(account).await } else { app.views.acquire(account).await }
}

/// Gives a connection of [`reading`] back.
pub(super) async fn read(connection: Connection, at: Option<&str>) -> sqlx::Result<()> {
    if at.is_some() { connection.end_reading().await } else { Ok(()) }
}

/// The zone of an apex, as it is or as it was. The connection sees one state of the database.
pub(super) async fn zone_at(
    connection: &mut Connection,
    within: &Within,
    apex: &Name,
    at: Option<&str>,
) -> Result<Past, Problem> {
    let access = &within.access;
    let Some(text) = at else { return Ok(Past::of_present(zone_named(connection, within, apex).await?)) };
    let at = At::parse(text)?;
    let present = zones::by_name(connection, apex.as_ref()).await?;
    past::seen(connection, apex, present.as_ref(), access).await?;
    let past = past::of(connection, apex, at).await?;
    past.needs(present.as_ref(), access)?;
    Ok(past)
}

/// The versions of a zone that are kept, the newest first. Of a zone that was deleted too.
#[utoipa::path(get, path = "/api/v1/domains/{zone}/versions", tag = "versions", params(
    ("zone" = String, Path, description = "Apex", example = "example.com."), ListParams,
), responses(
    (status = 200, description = "One page", body = Page<Version>),
    (status = 404, description = "DOMAIN_NOT_FOUND", body = ErrorBody),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    within: Within,
    Segment(text): Segment,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let apex = name::absolute(&text)?;
    within.limits.allow_zone(&apex)?;
    let limit = cursor::limit(params.limit)?;
    let below = params.cursor.as_deref().map(cursor::number).transpose()?;
    let access = &within.access;
    let mut connection = app.views.begin(access.account()).await?;
    let zone = zones::by_name(&mut connection, apex.as_ref()).await?;
    past::seen(&mut connection, &apex, zone.as_ref(), access).await?;
    let readable_from = history::readable_from(&mut connection, apex.as_ref()).await?;
    let stop = below.unwrap_or(u64::MAX);
    let mut listed = history::list(&mut connection, apex.as_ref(), stop, limit + 1).await?;
    let oldest = history::oldest(&mut connection, apex.as_ref()).await?;
    connection.end_reading().await?;
    let next = cursor::cut(&mut listed, limit, |last| cursor::of_number(last.version));
    let count = listed.len();
    listed.retain(|listed| access.sees_past(listed.owner_number, zone.as_ref()));
    // What was somebody else's then is not shown, nor what came before it.
    let is_all = listed.len() == count;
    let mut items: Vec<Version> =
        listed.into_iter().map(|listed| Version::of(listed, readable_from)).collect();
    // The last change of the zone is so long ago that it is not kept.
    if let (Some(zone), None) = (&zone, oldest) {
        items.push(Version::bare(zone.version, i64::from(zone.serial), zone.updated_at_us));
    } else if let Some(history::Oldest { version, before: Some((serial, since_us)), .. }) = oldest
        && next.is_none()
        && is_all
        && version > 1
    {
        // Its change is not kept; what it made is, by the one after it.
        items.push(Version::bare(version - 1, serial, since_us));
    }
    if items.is_empty() && zone.is_none() && below.is_none() {
        let message = format!("there is no zone {apex} here, and nothing is kept of one");
        return Err(Problem::new(Code::DomainNotFound, message));
    }
    Ok(Json(Page { items, next }).into_response())
}
