//! What is told of a change: the events of `GET /api/v1/events`, of zones that the tenant sees, as one body.

use serde_json::json;
use uuid::Uuid;

use crate::auth::{Access, Limits};
use crate::events::Published;
use crate::events::told::{Event, RESYNC, Topic, events};
use crate::store::webhooks::{New, Told};

/// What a webhook may be told of.
pub(super) const TOPICS: [Topic; 3] = [Topic::Zone, Topic::Record, Topic::Change];
/// The most octets of all events of a body.
const MOST_EVENTS: usize = 56 << 10;

/// Topics as they are stored.
pub(super) fn topics(stored: &str) -> Vec<Topic> {
    stored.split(',').filter_map(|word| TOPICS.into_iter().find(|topic| topic.as_str() == word)).collect()
}

/// What a webhook is told of a change; `None` where that is nothing.
pub(super) fn of_change(
    webhook: Uuid,
    published: &Published,
    access: &Access,
    topics: &[Topic],
) -> Option<New> {
    let limits = Limits::default();
    // What else there is says of nothing but where a listener goes on.
    let is_told =
        |event: &Event| event.name == RESYNC || topics.iter().any(|topic| topic.as_str() == event.name);
    let mut all: Vec<Event> = events(published, access, &limits, topics, None).filter(is_told).collect();
    if all.is_empty() {
        return None;
    }
    let id = Uuid::now_v7();
    let whole = all.len();
    let mut left = MOST_EVENTS;
    // The last one says of the whole change; of records there may be very many.
    let last = all.pop();
    let mut kept = Vec::new();
    for event in last.into_iter().chain(all) {
        let told = json!({ "event": event.name, "data": event.data });
        let octets = told.to_string().len();
        if octets > left {
            if kept.is_empty() {
                continue;
            }
            // What is told is a beginning, and not what was short enough.
            break;
        }
        left -= octets;
        kept.push(told);
    }
    let is_whole = kept.len() == whole && kept.iter().all(|told| told["event"] != RESYNC);
    let body = json!({
        "id": id, "webhook": webhook, "kind": "change", "change": published.id, "sequence": published.sequence,
        "events": kept, "complete": is_whole,
    });
    Some(New { id, webhook, told: Told::Change(published.sequence), body: body.to_string() })
}

/// A delivery that tells of no change.
pub(super) fn plain(webhook: Uuid, kind: &'static str) -> New {
    let id = Uuid::now_v7();
    let body = json!({ "id": id, "webhook": webhook, "kind": kind, "events": [], "complete": true });
    New { id, webhook, told: Told::Nothing(kind), body: body.to_string() }
}
