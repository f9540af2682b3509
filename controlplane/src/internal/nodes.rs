//! What every node last said of itself. A node lives when it has done so within five seconds; what it says in between is
//! what callers of the API are told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use super::planes::Plane;
use crate::relay::Applied;
use crate::relay::progress::Times;

/// How long a node lives that says nothing more.
pub(crate) const LIVES: Duration = Duration::from_secs(5);
/// The most nodes that there may be.
pub(crate) const MOST: usize = 4_096;
/// Positions of one node that are remembered.
const KEPT: usize = 1_000;

/// What a node said of itself.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Where it stands.
    pub(crate) applied: Applied,
    /// Of its program.
    pub(crate) version: String,
    /// Where it said so from.
    pub(crate) address: Option<IpAddr>,
    /// When it came to stand there.
    pub(crate) applied_at_us: i64,
    /// Whether it was equal to the last head that it could be compared with.
    pub(crate) digests: Digests,
    /// The sequence of that head; 0 before the first.
    pub(crate) compared_sequence: u64,
}

/// What a data plane holds beside what the feed says is to be held.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Digests {
    /// The same, by its digest at the same place.
    Equal,
    /// Something else: it fetches the zones that differ.
    Differs,
    /// It was never compared, or does not say.
    #[default]
    #[serde(other)]
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    known: Mutex<BTreeMap<Uuid, Known>>,
    news: watch::Sender<()>,
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Known {
    name: String,
    report: Report,
    heard: Instant,
    times: Arc<Mutex<Times>>,
    /// The other control planes of the database have yet to be told.
    unshared: bool,
}

impl Known {
    fn lives(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < LIVES
    }
}

/// Somebody waits for nodes to come further: control planes ask each other more often while there is one.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Nodes>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Nodes {
    /// Takes what a node said at some time, unless something later is known. `unshared`: it said so to this control plane.
    pub(crate) fn heard(&self, id: Uuid, name: &str, report: Report, at: Instant, unshared: bool) {
        let mut known = self.known();
        if known.len() >= MOST && !known.contains_key(&id) {
            let silent = known.iter().min_by_key(|(_, known)| known.heard).map(|(id, _)| *id);
            silent.map(|id| known.remove(&id));
        }
        let before = known.get(&id);
        if before.is_some_and(|before| before.heard >= at) {
            return;
        }
        // Places of another history are of no use.
        let same = before.filter(|before| before.report.applied.generation == report.applied.generation);
        let times = same.map_or_else(Arc::default, |before| before.times.clone());
        let note = |times: &mut Times| times.note(&report.applied, report.applied_at_us, KEPT);
        note(&mut times.lock().unwrap_or_else(PoisonError::into_inner));
        known.insert(id, Known { name: name.to_owned(), report, heard: at, times, unshared });
        drop(known);
        self.news.send_replace(());
    }

    /// Forgets one that was removed.
    pub(crate) fn forget(&self, id: Uuid) {
        if self.known().remove(&id).is_some() {
            self.news.send_replace(());
        }
    }

    /// What a node last said, and when.
    pub(crate) fn of(&self, id: Uuid) -> Option<(Report, Instant)> {
        self.known().get(&id).map(|known| (known.report.clone(), known.heard))
    }

    /// Those that live, by name.
    pub(crate) fn live(&self) -> Vec<Plane> {
        let now = Instant::now();
        let known = self.known();
        let live = known.values().filter(|known| known.lives(now));
        let mut live: Vec<Plane> = live
            .map(|known| Plane {
                name: known.name.clone(),
                applied: known.report.applied.clone(),
                times: known.times.clone(),
            })
            .collect();
        live.sort_by(|one, other| one.name.cmp(&other.name));
        live
    }

    /// Up to which sequence of a generation all that live have applied the feed; `None` where none lives.
    pub(crate) fn applied_by_all(&self, generation: u64) -> Option<u64> {
        let now = Instant::now();
        let known = self.known();
        let live = known.values().filter(|known| known.lives(now)).map(|known| &known.report.applied);
        // One in another history has nothing of this.
        live.map(|applied| if applied.generation == generation { applied.sequence } else { 0 }).min()
    }

    /// When the next of them is taken for dead if it says nothing.
    pub(super) fn next_death(&self) -> Option<Instant> {
        let now = Instant::now();
        let known = self.known();
        known.values().filter(|known| known.lives(now)).map(|known| known.heard + LIVES).min()
    }

    /// Changes whenever one says something.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Somebody waits until this is dropped.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }

    /// Whether somebody waits.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// What others have yet to be told, which they are from here on.
    pub(super) fn unshared(&self) -> Vec<(Uuid, Report, Instant)> {
        let mut known = self.known();
        let unshared = known.iter_mut().filter_map(|(id, known)| {
            std::mem::take(&mut known.unshared).then(|| (*id, known.report.clone(), known.heard))
        });
        unshared.collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Uuid, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sequence: u64) -> Report {
        let applied = Applied { generation: 1, sequence, ..Applied::default() };
        Report {
            applied,
            version: "1".to_owned(),
            address: None,
            applied_at_us: 7,
            digests: Digests::Equal,
            compared_sequence: 1,
        }
    }

    fn live(nodes: &Nodes) -> Vec<(String, u64)> {
        nodes.live().into_iter().map(|plane| (plane.name, plane.applied.sequence)).collect()
    }

    #[test]
    fn a_node_that_is_silent_for_five_seconds_is_dead() {
        let nodes = Nodes::default();
        let ids = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
        let ago = |seconds| Instant::now() - Duration::from_secs(seconds);
        nodes.heard(ids[0], "c", at(3), ago(5), true);
        nodes.heard(ids[1], "b", at(3), ago(3), true);
        nodes.heard(ids[2], "a", at(4), ago(1), true);
        assert_eq!(live(&nodes), [("a".to_owned(), 4), ("b".to_owned(), 3)]);
        assert_eq!([1, 2].map(|generation| nodes.applied_by_all(generation)), [Some(3), Some(0)]);
        let death = nodes.next_death().unwrap() - Instant::now();
        assert!(death <= Duration::from_secs(2) && death > Duration::from_secs(1), "{death:?}");
        // What is older than what is known changes nothing.
        nodes.heard(ids[2], "a", at(2), ago(2), false);
        nodes.forget(ids[1]);
        assert_eq!(live(&nodes), [("a".to_owned(), 4)]);
        assert_eq!(nodes.applied_by_all(1), Some(4));
        assert_eq!(nodes.of(ids[0]).unwrap().0.applied.sequence, 3, "what it last said is kept");
        assert_eq!(Nodes::default().applied_by_all(1), None);
    }

    #[test]
    fn memory_is_bounded() {
        let nodes = Nodes::default();
        for n in 0..MOST as u64 + 10 {
            nodes.heard(Uuid::now_v7(), "a", at(n), Instant::now(), true);
        }
        assert_eq!(nodes.unshared().len(), MOST);
        assert!(nodes.unshared().is_empty());
    }
}
