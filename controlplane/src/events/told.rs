//! What of a change somebody is told: of zones that they see, and of records that their token is for.

use godwit_wire::feed::{OwnedRrset, RrsetChange, ZoneChange, ZoneChangeKind};
use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;
use serde_json::{Value, json};

use super::Published;
use crate::api::v1::records::Record;
use crate::api::v1::{shown, timestamp};
use crate::auth::{Access, Limits, Scope};

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

/// Why a listener is told to read anew what it has.
pub(crate) const RESYNC: &str = "resync";

/// What somebody is told of a change who listens to these topics, and to one zone only where one is given: made one by one, as it is
/// asked for.
pub(crate) fn events<'a>(
    published: &'a Published,
    access: &'a Access,
    limits: &'a Limits,
    topics: &'a [Topic],
    only: Option<&Name>,
) -> impl Iterator<Item = Event> + Send + use<'a> {
    let has = |topic: Topic| topics.contains(&topic);
    let (records, zones, changes) = (has(Topic::Record), has(Topic::Zone), has(Topic::Change));
    let is_seen = |zone: &&ZoneChange| {
        only.is_none_or(|only| *only == zone.zone)
            && access.sees_named(&zone.zone, zone.owner)
            && limits.allow_zone(&zone.zone).is_ok()
    };
    let seen: Vec<&ZoneChange> = published.set.zones.iter().filter(is_seen).collect();
    let id = published.id.to_string();
    // Of one that is about nothing that they see they learn nothing.
    let is_theirs = !seen.is_empty() || (only.is_none() && access.is_everything() && limits.is_empty());
    // Always the last one: who has it has all that was before it.
    let last = is_theirs.then(|| {
        let (name, data) = if changes {
            let names: Vec<String> = seen.iter().map(|zone| shown(zone.zone.as_ref())).collect();
            let data = json!({
                "id": id, "sequence": published.sequence, "zones": names,
                "committed_at": timestamp(published.set.committed_at_us),
            });
            (Topic::Change.as_str(), data)
        } else {
            ("position", json!({ "id": id }))
        };
        Event { name, id: Some(id.clone()), data }
    });
    let of_zone = move |zone: &'a ZoneChange| {
        let of_records = (records && published.is_whole).then(|| of_records(zone, limits, &id));
        let cut = (records && !published.is_whole).then(|| too_much(zone, &id));
        let of_itself = zones.then(|| of_itself(zone, &id));
        of_records.into_iter().flatten().chain(cut).chain(of_itself)
    };
    seen.into_iter().flat_map(of_zone).chain(last)
}

fn of_itself(zone: &ZoneChange, change: &str) -> Event {
    let kind = match (&zone.kind, zone.base_version) {
        (ZoneChangeKind::Remove, _) => "remove",
        (_, 0) => "create",
        _ => "update",
    };
    let apex = shown(zone.zone.as_ref());
    let data = json!({ "name": apex, "tenant": zone.owner, "version": zone.version, "kind": kind, "change": change });
    Event { name: Topic::Zone.as_str(), id: None, data }
}

/// Of a zone of which too many records are other than before to tell them one by one.
fn too_much(zone: &ZoneChange, change: &str) -> Event {
    let reason = "too many of its records are other than before: read the zone anew";
    let data = json!({ "zone": shown(zone.zone.as_ref()), "change": change, "reason": reason });
    Event { name: RESYNC, id: None, data }
}

fn of_records<'a>(
    zone: &'a ZoneChange,
    limits: &'a Limits,
    change: &str,
) -> impl Iterator<Item = Event> + Send + use<'a> {
    let (steps, sets) = match &zone.kind {
        ZoneChangeKind::Update(steps) => (&steps[..], &[][..]),
        ZoneChangeKind::Replace(sets) => (&[][..], &sets[..]),
        // All of them: the zone says so.
        ZoneChangeKind::Remove => (&[][..], &[][..]),
    };
    let steps = steps.iter().map(|step| match step {
        RrsetChange::Put(set) => Told::Is(set),
        RrsetChange::Delete { owner, rtype } => Told::Gone(owner, *rtype),
    });
    let (apex, change) = (shown(zone.zone.as_ref()), change.to_owned());
    steps.chain(sets.iter().map(Told::Is)).filter_map(move |told| {
        let (owner, rtype) = told.about();
        limits.allow_record(owner, rtype).ok()?;
        let mut data = told.data()?;
        data["zone"] = json!(apex);
        data["change"] = json!(change);
        Some(Event { name: Topic::Record.as_str(), id: None, data })
    })
}

/// An RRset that is other than before.
enum Told<'a> {
    Is(&'a OwnedRrset),
    Gone(&'a Name, Rtype),
}

impl Told<'_> {
    fn about(&self) -> (&Name, Rtype) {
        match self {
            Told::Is(set) => (&set.owner, set.rrset.rtype),
            Told::Gone(owner, rtype) => (owner, *rtype),
        }
    }

    fn data(&self) -> Option<Value> {
        match self {
            Told::Is(set) => serde_json::to_value(Record::of(set.owner.as_ref(), &set.rrset)).ok(),
            Told::Gone(owner, rtype) => {
                Some(json!({ "name": shown(owner.as_ref()), "type": rtype.to_string(), "value": null }))
            }
        }
    }
}
