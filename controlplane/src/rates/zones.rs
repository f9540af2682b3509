//! Which zones a change counts for, before it is judged: those that are there, and that who asks may change. Who may not change a zone
//! uses up nothing of what others may change of it, whatever comes of the change. Of one of many names and zones the first count.

use std::collections::{BTreeMap, BTreeSet};

use godwit_wire::name::{Name, NameRef};

use crate::api::App;
use crate::auth::Caller;
use crate::commit::plan::{allow, lowest_apex};
use crate::model::change::{Operation, PutZone};
use crate::model::role::Role;
use crate::model::zone::Zone;
use crate::store::zones;

/// Zones of one change that count.
const MOST: usize = 64;
/// Names that are looked up for it.
const MOST_NAMES: usize = 1_024;

/// See the module. Where the database does not say what is whose, there are none.
pub(super) async fn of(app: &App, operations: &[Operation], caller: &Caller) -> Vec<Name> {
    if caller.unchecked {
        return Vec::new();
    }
    let mut names = BTreeSet::new();
    for operation in operations {
        if names.len() >= MOST_NAMES {
            break;
        }
        match named(operation) {
            Some(apex) => names.extend([apex.clone()]),
            None => names.extend(holder(operation).into_iter().flat_map(upwards).map(NameRef::to_owned)),
        }
    }
    let known = if names.is_empty() { BTreeMap::new() } else { look_up(app, &names).await };
    let mut found = BTreeSet::new();
    for operation in operations {
        if found.len() >= MOST {
            break;
        }
        let zone = match named(operation) {
            Some(apex) => known.get(apex),
            None => holder(operation)
                .and_then(|lowest| upwards(lowest).find_map(|name| known.get(&name.to_owned()))),
        };
        found.extend(zone.filter(|zone| may(caller, operation, zone)).map(|zone| zone.apex.clone()));
    }
    found.into_iter().collect()
}

/// Whether it is not refused for who asks, as far as that is known without what is in the zone.
fn may(caller: &Caller, operation: &Operation, zone: &Zone) -> bool {
    let (access, limits) = (&caller.access, &caller.limits);
    let needed = match operation {
        Operation::DeleteZone { .. } => access.need_at_home(zone, Role::Admin),
        _ => access.need(zone, Role::Editor),
    };
    let allowed = needed.and_then(|()| allow(operation, limits, access));
    allowed.and_then(|()| limits.allow_zone(&zone.apex)).is_ok()
}

async fn look_up(app: &App, names: &BTreeSet<Name>) -> BTreeMap<Name, Zone> {
    let read = async {
        let mut connection = app.readers.acquire().await?;
        zones::by_names(&mut connection, names).await
    };
    read.await.unwrap_or_else(|error| {
        tracing::debug!(%error, "the zones of a change are not counted");
        BTreeMap::new()
    })
}

/// The zone that an operation names.
fn named(operation: &Operation) -> Option<&Name> {
    match operation {
        Operation::PutZone(PutZone { apex, .. })
        | Operation::PatchZone { apex, .. }
        | Operation::DeleteZone { apex }
        | Operation::ReleaseZone { apex, .. }
        | Operation::Rollback { apex, .. } => Some(apex),
        Operation::RollbackAll { .. } => None,
        _ => operation.of_records()?.2,
    }
}

/// Of one that names none, the lowest name that its zone can have.
fn holder(operation: &Operation) -> Option<NameRef<'_>> {
    match operation.of_records()? {
        (owner, rtype, None) => lowest_apex(owner, rtype),
        _ => None,
    }
}

fn upwards(name: NameRef<'_>) -> impl Iterator<Item = NameRef<'_>> {
    std::iter::successors(Some(name), |name| name.parent())
}
