//! Which zones a change is about, before it is judged. Of a change of many names and zones the first count.

use std::collections::{BTreeMap, BTreeSet};

use godwit_wire::name::{Name, NameRef};

use crate::api::App;
use crate::auth::Caller;
use crate::commit::plan::lowest_apex;
use crate::model::change::{Operation, PutZone};
use crate::model::zone::Zone;
use crate::store::zones;

/// Zones of one change that count.
const MOST: usize = 64;
/// Names that are looked up for it.
const MOST_NAMES: usize = 1_024;

/// See the module. Where the database says nothing, those alone that the change names.
pub(super) async fn of(app: &App, operations: &[Operation], caller: &Caller) -> Vec<Name> {
    let mut names = BTreeSet::new();
    for owner in operations.iter().filter_map(holder) {
        if names.len() >= MOST_NAMES {
            break;
        }
        names.extend(upwards(owner).map(NameRef::to_owned));
    }
    let known =
        if names.is_empty() || caller.unchecked { BTreeMap::new() } else { look_up(app, &names).await };
    let mut found = BTreeSet::new();
    for operation in operations {
        if found.len() >= MOST {
            break;
        }
        let zone = named(operation).cloned().or_else(|| {
            let mut above = upwards(holder(operation)?).map(NameRef::to_owned);
            above.find(|name| known.contains_key(name))
        });
        found.extend(zone);
    }
    found.into_iter().collect()
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
