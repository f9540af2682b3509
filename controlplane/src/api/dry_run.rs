//! What a dry run adds to the answer: which answers of the data planes the change would change.
//!
//! The writer has planned the change and taken it back; what is read and compared here keeps nobody from writing. The zones of
//! the change are read as they were when it was planned.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use godwit_wire::name::{Name, NameRef};

use super::App;
use super::v1::shown;
use crate::auth::Access;
use crate::commit::plan::{Plan, ZonePlan};
use crate::compare::{self, Asked, Comparison, State, Type};
use crate::error::{Code, Problem};
use crate::model::name_key;
use crate::past::{self, Past};
use crate::store::rrsets::Position;
use crate::store::{Connection, rrsets, zones};

/// The most RRsets that are compared. Up to so many everything that is served is looked at; above, the zones of the change and
/// those directly above and below them.
const MAX_RRSETS: i64 = 200_000;
/// The most rows of an answer.
const MAX_ROWS: usize = 200;
/// Rows that are read at once.
const STEP: i64 = 10_000;
/// How long is waited for when nothing else says.
const PATIENCE: Duration = Duration::from_secs(20);
/// It takes memory for two states of everything: one at a time.
static COMPARING: Semaphore = Semaphore::const_new(1);

/// What became of the comparison.
#[derive(Clone, Debug, Serialize)]
struct Answers {
    /// `everything` that is served, or `zones`: those of the change, and what is directly above and below them.
    compared: &'static str,
    items: Vec<Value>,
    /// Answers that change and are not in `items`.
    more: usize,
}

/// Adds to the body of a reply which answers change, or why that is not known.
pub(super) async fn describe(
    app: &App,
    access: &Access,
    plan: Plan,
    body: &str,
    by: Option<Instant>,
) -> String {
    let mut value: Value = serde_json::from_str(body).unwrap_or_else(|_| json!({}));
    let by = by.unwrap_or_else(|| Instant::now() + PATIENCE);
    let said = match tokio::time::timeout_at(by, answers(app, access, Arc::new(plan))).await {
        Ok(Ok(Ok(answers))) => json!({ "answers": answers }),
        Ok(Ok(Err(why))) => json!({ "answers": null, "why": why }),
        Ok(Err(problem)) => json!({ "answers": null, "why": problem.message }),
        Err(_) => json!({ "answers": null, "why": "comparing took too long" }),
    };
    if let Value::Object(fields) = &mut value {
        fields.insert("dry_run".to_owned(), said);
    }
    value.to_string()
}

async fn answers(app: &App, access: &Access, plan: Arc<Plan>) -> Result<Result<Answers, String>, Problem> {
    let busy = |_| Problem::new(Code::Internal, "nothing is compared any more");
    let permit = COMPARING.acquire().await.map_err(busy)?;
    let mut connection = app.views.begin(access.account()).await?;
    let all =
        access.account().is_none() && rrsets::count_all(&mut connection, MAX_RRSETS + 1).await? <= MAX_RRSETS;
    let apexes = if all { None } else { Some(around(&mut connection, access, &plan).await?) };
    let before = state(&mut connection, &plan, apexes.as_ref()).await?;
    connection.end_reading().await?;
    let Some(before) = before else {
        return Ok(Err(format!("too large to compare: more than {MAX_RRSETS} RRsets")));
    };
    let compared = tokio::task::spawn_blocking(move || {
        let after = changed(&before, &plan);
        let found = compare::compare(&before, &after);
        // As long as it takes, whoever waits for it.
        drop(permit);
        found
    });
    let compared =
        compared.await.map_err(|_| Problem::new(Code::Internal, "the states cannot be compared"))?;
    Ok(match compared {
        Ok(found) => {
            let items = found.rows.iter().take(MAX_ROWS).map(|row| item(&found, row)).collect();
            let more = found.rows.len().saturating_sub(MAX_ROWS);
            Ok(Answers { compared: if all { "everything" } else { "zones" }, items, more })
        }
        Err(refusal) => Err(refusal.to_string()),
    })
}

fn item(found: &Comparison, row: &compare::Row) -> Value {
    let said =
        |said: &compare::Said| json!({ "rcode": said.rcode, "kind": said.kind, "records": said.records });
    let name = match &row.asked {
        Asked::Name(name) => shown(name.as_ref()),
        Asked::Below(above) if *above == Name::root() => "*. (names that do not exist)".to_owned(),
        Asked::Below(above) => format!("*.{} (names that do not exist)", shown(above.as_ref())),
    };
    let mut item = json!({ "name": name, "before": said(&row.before), "after": said(&row.after) });
    match row.rtype {
        Type::Of(rtype) => item["type"] = rtype.to_string().into(),
        Type::Others => {
            let types = found.types.get(&row.asked).into_iter().flatten();
            item["type"] = "*".into();
            item["except"] = types.map(ToString::to_string).collect::<Vec<_>>().into();
        }
    }
    item
}

/// The zones of a change, and those directly above and below them.
async fn around(
    connection: &mut Connection,
    access: &Access,
    plan: &Plan,
) -> Result<BTreeSet<Name>, Problem> {
    let mut apexes: BTreeSet<Name> = plan.zones.keys().cloned().collect();
    for apex in plan.zones.keys() {
        let above: Vec<NameRef<'_>> = apex.as_ref().ancestors().collect();
        let above = zones::longest(connection, &above).await?.filter(|zone| access.sees(zone));
        apexes.extend(above.map(|zone| zone.apex));
        let mut after = name_key::encode(apex.as_ref());
        loop {
            let step = zones::below(connection, apex.as_ref(), &after, STEP).await?;
            let Some(last) = step.last() else { break };
            after = name_key::encode(last.apex.as_ref());
            apexes.extend(step.into_iter().filter(|zone| access.sees(zone)).map(|zone| zone.apex));
        }
    }
    Ok(apexes)
}

/// What is served before the change; `None` where that is too much.
async fn state(
    connection: &mut Connection,
    plan: &Plan,
    apexes: Option<&BTreeSet<Name>>,
) -> Result<Option<State>, Problem> {
    let mut state = State::new();
    let mut left = MAX_RRSETS;
    let mut after: Option<Vec<u8>> = None;
    // As it was when the change was planned: others may have been made since.
    for (apex, zone) in plan.zones.iter().filter(|(_, zone)| zone.base_version > 0) {
        let past = past::of_version(connection, apex, zone.base_version).await?;
        if !read(connection, &past, &mut state, &mut left).await? {
            return Ok(None);
        }
    }
    if let Some(apexes) = apexes {
        for apex in apexes.iter().filter(|apex| !plan.zones.contains_key(*apex)) {
            let Some(zone) = zones::by_name(connection, apex.as_ref()).await? else { continue };
            if !read(connection, &Past::of_present(zone), &mut state, &mut left).await? {
                return Ok(None);
            }
        }
        return Ok(Some(state));
    }
    loop {
        let step = zones::page(connection, after.as_deref(), STEP).await?;
        let Some(last) = step.last() else { return Ok(Some(state)) };
        after = Some(name_key::encode(last.apex.as_ref()));
        for zone in step.into_iter().filter(|zone| !plan.zones.contains_key(&zone.apex)) {
            if !read(connection, &Past::of_present(zone), &mut state, &mut left).await? {
                return Ok(None);
            }
        }
    }
}

/// Reads a zone into the state; false when there is no room for it.
async fn read(
    connection: &mut Connection,
    past: &Past,
    state: &mut State,
    left: &mut i64,
) -> Result<bool, Problem> {
    let (owner_number, held) = state.entry(past.zone.apex.clone()).or_default();
    *owner_number = past.zone.owner_number;
    let mut after = Position::default();
    loop {
        let step = past.list(connection, None, &after, STEP).await?;
        let Some(last) = step.last() else { return Ok(true) };
        after = last.position.clone();
        *left -= i64::try_from(step.len()).unwrap_or(i64::MAX);
        if *left < 0 {
            return Ok(false);
        }
        held.extend(step.into_iter().map(|listed| ((listed.owner, listed.rrset.rtype), listed.rrset)));
    }
}

/// What is served after the change.
fn changed(before: &State, plan: &Plan) -> State {
    let mut after = before.clone();
    for (apex, zone) in &plan.zones {
        let ZonePlan { removed, owners, .. } = zone;
        if *removed {
            after.remove(apex);
            continue;
        }
        let (owner_number, held) = after.entry(apex.clone()).or_default();
        *owner_number = zone.zone.owner_number;
        for (name, owner) in owners {
            for rtype in owner.before.keys() {
                held.remove(&(name.clone(), *rtype));
            }
            held.extend(owner.after.iter().map(|(rtype, set)| ((name.clone(), *rtype), set.clone())));
        }
    }
    after
}
