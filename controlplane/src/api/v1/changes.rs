//! `/changes`: several steps that commit at once, over any zones, and how far a change has come.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use godwit_wire::name::Name;

use super::super::App;
use super::super::buffered::Accepted;
use super::super::cursor::{self, Page};
use super::super::envelope::ErrorBody;
use super::super::read::{Params, Segment, Within};
use super::super::served::Standard;
use super::super::write::described::{InZone, Manner};
use super::super::write::{self, Payload, Write};
use super::{reply, shown, timestamp};
use crate::auth::Access;
use crate::buffer::Held;
use crate::commit::Respond;
use crate::error::{Code, Problem};
use crate::internal::planes::Plane;
use crate::model::change::{Operation, PutMode};
use crate::store::buffered::{self, Outcome, Settled};
use crate::store::withheld::WithheldZone;
use crate::store::{Connection, changes, history, zones};
use crate::validate::{name, record};

/// Steps that commit at once.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangesBody {
    /// In order; at least one.
    pub changes: Vec<Step>,
}

impl Payload for ChangesBody {
    const LIMIT: usize = write::LARGE;

    fn read(media_type: Option<&str>, body: axum::body::Bytes) -> Result<Self, Problem> {
        write::json(media_type, &body)
    }
}

/// One step.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What to do.
    pub op: Op,
    /// Owner name; relative ones need `?zone=`.
    #[schema(example = "www.example.com.")]
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    #[schema(example = "A")]
    pub rtype: String,
    /// Seconds; for put and add_value. Left out: that of the RRset, or 300.
    pub ttl: Option<u32>,
    /// Values in presentation format; for all but delete.
    pub value: Option<Vec<String>>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Creates or replaces an RRset.
    Put,
    /// Deletes an RRset that is there.
    Delete,
    /// Adds values; those that are there already stay.
    AddValue,
    /// Takes values out; those that are not there are no error.
    RemoveValue,
}

/// What was committed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Committed {
    /// The id of the change.
    pub id: String,
    /// The zones that it named, as they are now.
    pub zones: Vec<ZoneState>,
}

/// Where a zone stands after a change.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ZoneState {
    /// Its apex.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// Its serial.
    pub serial: u32,
}

/// How far a change has come.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChangeState {
    /// Its id.
    pub id: String,
    /// `committed`, `published`, or `applied` by every data plane that lives. `withheld`: published without what it says, as the code
    /// of data planes fails at it. While the database is away, and where it could not be made afterwards: `buffered`, `conflict`.
    #[schema(example = "applied")]
    pub state: &'static str,
    /// Of the request that made it, for who sent it and for operators: the log and the audit log have it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "0199f3d2-7c1a-7d41-9e7b-3f0d5a1b2c3d")]
    pub request_id: Option<String>,
    /// When it was committed; not there while it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<String>,
    /// When it was accepted, where it is not made yet or could not be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<String>,
    /// Of a buffered one: how many are made before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<usize>,
    /// Why it could not be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
    /// Of one that is withheld: its zones that keep what they had, until a later change of each is published.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<Withheld>,
    /// The change that an earlier request with the same Idempotency-Key had made: all else is said of that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<String>,
    /// Its place in the total order, once published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// When it was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_at: Option<String>,
    /// Each data plane that lives.
    pub nodes: Vec<NodeState>,
}

/// Why an accepted change could not be made: the error that its request would have been answered with.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Conflict {
    /// A sentence for people.
    pub error: String,
    /// For programs.
    #[schema(example = "VERSION_CONFLICT")]
    pub code: String,
    /// When it was judged.
    pub at: String,
}

/// A zone that keeps what it had.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Withheld {
    /// Its apex.
    pub zone: String,
    /// Since when.
    pub since: String,
    /// What its last change did to the process that tries changes before they are published.
    #[schema(example = "it ended the shadow (signal: 6 (SIGABRT))")]
    pub reason: String,
}

/// A change that was accepted while the database was away.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AcceptedChange {
    /// Its id.
    pub id: String,
    /// `buffered` or `conflict`.
    #[schema(example = "conflict")]
    pub state: &'static str,
    /// When it was accepted.
    pub accepted_at: String,
    /// What was asked for: the method, and the beginning of the target.
    #[schema(example = "PUT /api/v1/records/www.example.com.?type=A")]
    pub request: String,
    /// In which request.
    pub request_id: String,
    /// Why it could not be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
}

/// Query parameters of the list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// `buffered`: accepted by this control plane and not made yet; `conflict`: accepted by any, and could not be made.
    pub state: Wanted,
    /// Items of a page: 1 to 1000, 100 when left out.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// See [`ListParams::state`].
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// Not made yet.
    Buffered,
    /// Could not be made.
    Conflict,
}

/// A change on one data plane.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NodeState {
    /// Its name.
    pub node: String,
    /// Whether it serves the change.
    pub applied: bool,
    /// Since when; null when it does not, or has for so long that it is no longer remembered.
    pub applied_at: Option<String>,
    /// Zones of the change that it keeps at an earlier version, because a change of them could not be applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<String>,
}

/// Carries out all steps at once, or none.
#[utoipa::path(post, path = "/api/v1/changes", tag = "changes", params(InZone, Manner), request_body = ChangesBody,
    responses(
        (status = 200, description = "All done", body = Committed),
        (status = 202, description = "Accepted while the database is away: not made, not served yet", body = Accepted),
        (status = 404, description = "RECORD_NOT_FOUND, DOMAIN_NOT_FOUND", body = ErrorBody),
        (status = 409, description = "QUOTA_EXCEEDED, CONFLICT, CONFIRMATION_REQUIRED", body = ErrorBody),
        (status = 412, description = "VERSION_CONFLICT", body = ErrorBody),
        (status = 413, description = "TOO_LARGE", body = ErrorBody),
        (status = 422, description = "INVALID_RECORD_TYPE, INVALID_TTL, INVALID_NAME, INVALID_VALUE", body = ErrorBody),
))]
pub async fn create(State(app): State<Arc<App>>, mut write: Write<ChangesBody>) -> Result<Response, Problem> {
    write.takes(&["zone"])?;
    let steps = std::mem::take(&mut write.body.changes);
    if steps.is_empty() {
        return Err(Problem::new(Code::MalformedRequest, "\"changes\" is empty"));
    }
    let zone = write.params.zone.as_deref().map(name::absolute).transpose()?;
    let operations = tokio::task::spawn_blocking(move || operations(&steps, zone.as_ref()));
    let operations =
        operations.await.map_err(|_| Problem::new(Code::Internal, "the changes could not be read"))??;
    let respond: Respond = Box::new(|plan, change| {
        let zones = plan.zones.values().map(|plan| ZoneState {
            name: shown(plan.zone.apex.as_ref()),
            version: plan.zone.version,
            serial: plan.zone.serial,
        });
        let committed = Committed { id: change.to_string(), zones: zones.collect() };
        reply(plan, change, 200, Some(&committed))
    });
    write.commit(&app, "changes", operations, respond).await
}

fn operations(steps: &[Step], zone: Option<&Name>) -> Result<Vec<Operation>, Problem> {
    let read = |(index, step): (usize, &Step)| {
        operation(step, zone)
            .map_err(|problem| Problem::new(problem.code, format!("change {index}: {}", problem.message)))
    };
    steps.iter().enumerate().map(read).collect()
}

fn operation(step: &Step, zone: Option<&Name>) -> Result<Operation, Problem> {
    let rtype = record::rtype(&step.rtype)?;
    let owner = name::relative(&step.name, zone.map(Name::as_ref))?;
    let named = zone.cloned();
    let ttl = step.ttl;
    if matches!(step.op, Op::Delete | Op::RemoveValue) && ttl.is_some() {
        return Err(Problem::new(Code::MalformedRequest, "\"ttl\" goes with put and add_value"));
    }
    if step.op == Op::Delete {
        if step.value.is_some() {
            return Err(Problem::new(
                Code::MalformedRequest,
                "\"value\" does not go with delete; see remove_value",
            ));
        }
        return Ok(Operation::Delete { owner, rtype: Some(rtype), zone: named });
    }
    let values = step.value.as_deref().unwrap_or_default();
    let rdata = record::values(rtype, values, zone.map(Name::as_ref))?;
    Ok(match step.op {
        Op::Put => Operation::Put { owner, rtype, ttl, rdata, mode: PutMode::Upsert, zone: named },
        Op::AddValue => Operation::AddValues { owner, rtype, ttl, rdata, zone: named },
        Op::RemoveValue | Op::Delete => Operation::RemoveValues { owner, rtype, rdata, zone: named },
    })
}

/// Lists changes that were accepted while the database was away, and are not made, the earliest first.
#[utoipa::path(get, path = "/api/v1/changes", tag = "changes", params(ListParams), responses(
    (status = 200, description = "One page", body = Page<AcceptedChange>),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    within: Within,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    within.limits.allow_everything()?;
    let is_own = |actor: &str| within.access.account().is_none_or(|account| actor == account.to_string());
    let limit = cursor::limit(params.limit)?;
    let malformed = || Problem::new(Code::MalformedRequest, "the cursor is none of this list");
    let after = match params.cursor.as_deref().map(cursor::key).transpose()? {
        Some(octets) => Some(Uuid::from_slice(&octets).map_err(|_| malformed())?),
        None => None,
    };
    let (mut ids, items): (Vec<Uuid>, Vec<AcceptedChange>) = match params.state {
        Wanted::Buffered => {
            let most = usize::try_from(limit).unwrap_or_default();
            let held = app.buffer.as_ref().map(|buffer| buffer.page(after, most, is_own)).unwrap_or_default();
            held.into_iter().map(|held| (held.change, AcceptedChange::of_held(held))).unzip()
        }
        Wanted::Conflict => {
            let mut connection = app.views.acquire(within.access.account()).await?;
            let of = within.access.account().map(|account| account.to_string());
            let found =
                buffered::conflicts(&mut connection, after.unwrap_or_default(), of.as_deref(), limit).await?;
            found.into_iter().map(|settled| (settled.change, AcceptedChange::of_settled(settled))).unzip()
        }
    };
    let is_full = i64::try_from(items.len()).is_ok_and(|count| count >= limit);
    let next = ids.pop().filter(|_| is_full).map(|last| cursor::of_key(last.as_bytes()));
    Ok(Json(Page { items, next }).into_response())
}

impl AcceptedChange {
    fn of_held(held: Held) -> AcceptedChange {
        AcceptedChange {
            id: held.change.to_string(),
            state: "buffered",
            accepted_at: timestamp(held.accepted_at_us),
            request: held.request,
            request_id: held.who.request_id,
            conflict: None,
        }
    }

    fn of_settled(settled: Settled) -> AcceptedChange {
        AcceptedChange {
            id: settled.change.to_string(),
            state: "conflict",
            accepted_at: timestamp(settled.accepted_at_us),
            conflict: Conflict::of(&settled),
            request: settled.request,
            request_id: settled.request_id,
        }
    }
}

impl Conflict {
    fn of(settled: &Settled) -> Option<Conflict> {
        let Outcome::Conflict { code, message } = &settled.outcome else { return None };
        Some(Conflict { error: message.clone(), code: code.clone(), at: timestamp(settled.settled_at_us) })
    }
}

impl Withheld {
    fn of(zone: WithheldZone) -> Withheld {
        Withheld { zone: shown(zone.apex.as_ref()), since: timestamp(zone.since_us), reason: zone.reason }
    }
}

impl ChangeState {
    /// One that is not made.
    fn unmade(id: Uuid, state: &'static str, accepted_at_us: i64) -> ChangeState {
        ChangeState {
            id: id.to_string(),
            state,
            request_id: None,
            committed_at: None,
            accepted_at: Some(timestamp(accepted_at_us)),
            behind: None,
            conflict: None,
            withheld: Vec::new(),
            repeats: None,
            sequence: None,
            published_at: None,
            nodes: Vec::new(),
        }
    }
}

/// How far a change has come.
#[utoipa::path(get, path = "/api/v1/changes/{id}", tag = "changes", params(
    ("id" = String, Path, description = "As in the header Godwit-Change"),
), responses(
    (status = 200, description = "Its state", body = ChangeState),
    (status = 404, description = "CHANGE_NOT_FOUND", body = ErrorBody),
))]
pub async fn look_up(
    State(app): State<Arc<App>>,
    within: Within,
    Segment(text): Segment,
) -> Result<Response, Problem> {
    let access = &within.access;
    let unknown = || Problem::new(Code::ChangeNotFound, "there is no change of this id here");
    let id = Uuid::try_parse(&text).map_err(|_| unknown())?;
    let is_own = |actor: &str| access.account().is_none_or(|account| actor == account.to_string());
    if let Some((held, before)) = app.buffer.as_ref().and_then(|buffer| buffer.held(id)) {
        if !is_own(&held.who.actor) {
            return Err(unknown());
        }
        let state = ChangeState::unmade(id, "buffered", held.accepted_at_us);
        return Ok(Json(ChangeState { behind: Some(before), ..state }).into_response());
    }
    // By one that shows no more than who asks may see; where the change has come is no secret to who sees it.
    let mut seen = app.views.acquire(access.account()).await?;
    let (named, mut id, mut repeats) = (id, id, None);
    let stored = match changes::state(&mut seen, id).await? {
        Some(stored) if sees(&mut seen, access, id).await? => stored,
        Some(_) => return Err(unknown()),
        None => {
            let settled = buffered::find(&mut seen, id).await?.ok_or_else(unknown)?;
            if !is_own(&settled.actor) {
                return Err(unknown());
            }
            let Outcome::Repeats(other) = settled.outcome else {
                let state = ChangeState::unmade(id, "conflict", settled.accepted_at_us);
                let conflict = Conflict::of(&settled);
                return Ok(Json(ChangeState { conflict, ..state }).into_response());
            };
            (id, repeats) = (other, Some(other));
            changes::state(&mut seen, id).await?.ok_or_else(unknown)?
        }
    };
    drop(seen);
    let mut connection = app.readers.acquire().await?;
    let standard = Standard::of(&mut connection, id, &stored).await?;
    let request = changes::request(&mut connection, id).await?;
    let request_id = request.filter(|(_, actor)| access.is_everything() || is_own(actor)).map(|(id, _)| id);
    let recent = app.publications.of(id);
    let sequence = recent.map(|recent| recent.sequence).or(stored.sequence);
    let published_at = recent.map(|recent| recent.at_us).or(stored.published_at_us);
    let withheld = match &standard {
        Some(standard) => standard.withheld(&mut connection, &app.publications).await?,
        None => Vec::new(),
    };
    let mut nodes = Vec::new();
    for plane in app.planes.live() {
        let mut node = on(&app, &mut connection, plane, standard.as_ref()).await?;
        if !access.is_everything() {
            // Which zones of others a change was about is not theirs to know.
            node.quarantined.clear();
        }
        let is_served = withheld.is_empty();
        let applied_at = node.applied_at.filter(|_| is_served);
        nodes.push(NodeState { applied: node.applied && is_served, applied_at, ..node });
    }
    let mut shown_withheld = Vec::new();
    for zone in &withheld {
        let is_seen = match zones::by_name(&mut connection, zone.apex.as_ref()).await? {
            Some(zone) => access.sees(&zone),
            None => access.is_everything(),
        };
        shown_withheld.extend(is_seen.then(|| Withheld::of(zone.clone())));
    }
    drop(connection);
    let state = match sequence {
        _ if !withheld.is_empty() => "withheld",
        _ if standard.is_none() || (!nodes.is_empty() && nodes.iter().all(|node| node.applied)) => "applied",
        Some(_) => "published",
        None => "committed",
    };
    let body = ChangeState {
        id: named.to_string(),
        state,
        request_id,
        committed_at: Some(timestamp(stored.committed_at_us)),
        accepted_at: None,
        behind: None,
        conflict: None,
        withheld: shown_withheld,
        repeats: repeats.map(|change| change.to_string()),
        sequence,
        published_at: published_at.map(timestamp),
        nodes,
    };
    Ok(Json(body).into_response())
}

/// Whether somebody made a change, or sees one of its zones as it made them.
async fn sees(connection: &mut Connection, access: &Access, change: Uuid) -> Result<bool, Problem> {
    let Some(account) = access.account().filter(|_| !access.is_everything()) else { return Ok(true) };
    if changes::actor(connection, change).await?.is_some_and(|actor| actor == account.to_string()) {
        return Ok(true);
    }
    for (apex, owner) in history::of_change(connection, change).await? {
        let present = zones::by_name(connection, apex.as_ref()).await?;
        if access.sees_past(owner, present.as_ref()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How far a change has come on one data plane.
async fn on(
    app: &App,
    connection: &mut Connection,
    plane: Plane,
    standard: Option<&Standard>,
) -> Result<NodeState, Problem> {
    let Some(standard) = standard else {
        return Ok(NodeState { node: plane.name, applied: true, applied_at: None, quarantined: Vec::new() });
    };
    let reached = standard.sequence(&app.publications).filter(|sequence| app.planes.has(&plane, *sequence));
    let kept_back = standard.kept_back(connection, &plane.applied.quarantined).await?;
    let applied = reached.filter(|_| kept_back.is_empty());
    Ok(NodeState {
        applied: applied.is_some(),
        applied_at: applied.and_then(|sequence| plane.applied_at(sequence)).map(timestamp),
        node: plane.name,
        quarantined: kept_back.keys().map(|zone| shown(zone.as_ref())).collect(),
    })
}
