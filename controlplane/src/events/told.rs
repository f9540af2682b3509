//! What of a change somebody is told: of zones that they see, and of records that their token is for.

use godwit_wire::feed::{ChangeSet, OwnedRrset, RrsetChange, ZoneChange, ZoneChangeKind};
use godwit_wire::name::Name;
use serde_json::{Value, json};

use super::Published;
use crate::api::v1::records::Record;
use crate::api::v1::{shown, timestamp};
use crate::auth::{Caller, Scope};

/// What may be listened to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Topic {
    /// Zones that are made, changed or gone.
    Zone,
    /// RRsets that are other than before.
    Record,
    /// Changes as a whole.
    Change,
    /// Data planes.
    Node,
    /// Jobs.
    Job,
}

impl Topic {
    /// All of them.
    pub(crate) const ALL: [Topic; 5] = [Topic::Zone, Topic::Record, Topic::Change, Topic::Node, Topic::Job];

    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Topic::Zone => "zone",
            Topic::Record => "record",
            Topic::Change => "change",
            Topic::Node => "node",
            Topic::Job => "job",
        }
    }

    /// The scope that it takes.
    pub(crate) fn scope(self) -> Scope {
        match self {
            Topic::Zone | Topic::Change => Scope::DomainsRead,
            Topic::Record => Scope::RecordsRead,
            Topic::Node | Topic::Job => Scope::Admin,
        }
    }
}

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What who comes back names, of the last event of a change.
    pub(crate) id: Option<String>,
    /// JSON.
    pub(crate) data: Value,
}

/// How many records a change is about.
pub(crate) fn records(set: &ChangeSet) -> usize {
    let of = |zone: &ZoneChange| match &zone.kind {
        ZoneChangeKind::Update(steps) => steps.len(),
        ZoneChangeKind::Replace(sets) => sets.len(),
        ZoneChangeKind::Remove => 1,
    };
    set.zones.iter().map(of).sum()
}

/// What somebody is told of a change who listens to these topics, and to one zone only where one is given.
pub(crate) fn events(
    published: &Published,
    caller: &Caller,
    topics: &[Topic],
    only: Option<&Name>,
) -> Vec<Event> {
    let has = |topic: Topic| topics.contains(&topic);
    let mut events = Vec::new();
    let mut seen = Vec::new();
    let id = published.id.to_string();
    for zone in &published.set.zones {
        let is_asked = only.is_none_or(|only| *only == zone.zone);
        if !is_asked
            || !caller.access.sees_named(&zone.zone, zone.owner)
            || caller.limits.allow_zone(&zone.zone).is_err()
        {
            continue;
        }
        let apex = shown(zone.zone.as_ref());
        if has(Topic::Record) {
            events.extend(of_records(zone, caller, &apex, &id));
        }
        if has(Topic::Zone) {
            let kind = match (&zone.kind, zone.base_version) {
                (ZoneChangeKind::Remove, _) => "remove",
                (_, 0) => "create",
                (ZoneChangeKind::Replace(_), _) => "replace",
                (ZoneChangeKind::Update(_), _) => "update",
            };
            let data = json!({ "name": apex, "tenant": zone.owner, "version": zone.version, "kind": kind, "change": id });
            events.push(Event { name: Topic::Zone.as_str(), id: None, data });
        }
        seen.push(apex);
    }
    // Of one that is about nothing that they see they learn nothing.
    let is_theirs =
        !seen.is_empty() || (only.is_none() && caller.access.is_everything() && caller.limits.is_empty());
    if is_theirs {
        let data = json!({
            "id": id, "sequence": published.sequence, "zones": seen,
            "committed_at": timestamp(published.set.committed_at_us),
        });
        // Always the last one: who has it has all that was before it.
        let name = if has(Topic::Change) { Topic::Change.as_str() } else { "position" };
        let data = if has(Topic::Change) { data } else { json!({ "id": id }) };
        events.push(Event { name, id: Some(id), data });
    }
    events
}

fn of_records(zone: &ZoneChange, caller: &Caller, apex: &str, change: &str) -> Vec<Event> {
    let event = |data: Value| Event { name: Topic::Record.as_str(), id: None, data };
    let put = |set: &OwnedRrset| {
        caller.limits.allow_record(&set.owner, set.rrset.rtype).ok()?;
        let mut data = serde_json::to_value(Record::of(set.owner.as_ref(), &set.rrset)).ok()?;
        data["zone"] = json!(apex);
        data["change"] = json!(change);
        Some(event(data))
    };
    match &zone.kind {
        ZoneChangeKind::Update(steps) => {
            let told = |step: &RrsetChange| match step {
                RrsetChange::Put(set) => put(set),
                RrsetChange::Delete { owner, rtype } => {
                    caller.limits.allow_record(owner, *rtype).ok()?;
                    let (name, rtype) = (shown(owner.as_ref()), rtype.to_string());
                    Some(event(
                        json!({ "zone": apex, "name": name, "type": rtype, "value": null, "change": change }),
                    ))
                }
            };
            steps.iter().filter_map(told).collect()
        }
        ZoneChangeKind::Replace(sets) => sets.iter().filter_map(put).collect(),
        // All of them: the zone says so.
        ZoneChangeKind::Remove => Vec::new(),
    }
}
