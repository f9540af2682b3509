//! How far each change has come: published under which sequence, applied when. Kept in memory for what is recent; the
//! database knows the sequence of the rest.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use godwit_wire::name::Name;
use tokio::sync::watch;
use uuid::Uuid;

use super::Applied;
use super::batches::Member;
use crate::store::now_us;

/// Changes and applied positions that are remembered.
const KEPT: usize = 10_000;

/// Which sequence a recent change got, and when.
#[derive(Debug, Default)]
pub struct Publications(Mutex<Published>);

#[derive(Debug, Default)]
struct Published {
    by_id: HashMap<Uuid, Publication>,
    order: VecDeque<Uuid>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Publication {
    /// Its place in the total order.
    pub sequence: u64,
    /// When it got it.
    pub at_us: i64,
    /// What was published of it names no zone.
    pub withheld: bool,
}

impl Publications {
    /// Notes a publication.
    pub(crate) fn add(&self, Member { id, withheld }: Member, sequence: u64, at_us: i64) {
        let mut published = self.lock();
        if published.by_id.insert(id, Publication { sequence, at_us, withheld }).is_none() {
            published.order.push_back(id);
        }
        if published.order.len() > KEPT
            && let Some(oldest) = published.order.pop_front()
        {
            published.by_id.remove(&oldest);
        }
    }

    /// What became of a recent change.
    #[must_use]
    pub fn of(&self, id: Uuid) -> Option<Publication> {
        self.lock().by_id.get(&id).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a data plane came to which place in the log.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// Sequence, and when it was there.
    reached: VecDeque<(u64, i64)>,
    /// What it kept back by then.
    kept_back: Arc<BTreeMap<Name, u64>>,
}

impl Times {
    /// Notes where it is; at most so many places are remembered.
    pub(crate) fn note(&mut self, applied: &Applied, at_us: i64, most: usize) {
        // What left the quarantine is served only now: when changes before it were is no longer known for all.
        if self.kept_back.keys().any(|zone| !applied.quarantined.contains_key(zone)) {
            self.reached.clear();
        }
        self.kept_back = applied.quarantined.clone();
        if self.reached.back().is_some_and(|&(last, _)| last >= applied.sequence) {
            return;
        }
        self.reached.push_back((applied.sequence, at_us));
        if self.reached.len() > most {
            self.reached.pop_front();
        }
    }

    /// When it had applied a sequence that it has applied; `None` when that is not remembered.
    pub(crate) fn at(&self, sequence: u64) -> Option<i64> {
        let index = self.reached.partition_point(|&(position, _)| position < sequence);
        // The first entry may have been reached long before it was noted.
        if index == 0 && self.reached.front().is_none_or(|&(position, _)| position != sequence) {
            return None;
        }
        self.reached.get(index).map(|&(_, at)| at)
    }
}

/// How far the data plane of the same process has come.
#[derive(Debug)]
pub struct Progress {
    /// The history that is published: a data plane in another one has applied nothing of it.
    generation: u64,
    times: Arc<Mutex<Times>>,
    position: watch::Receiver<Applied>,
}

impl Progress {
    /// Follows the position of a data plane.
    #[must_use]
    pub fn new(position: watch::Receiver<Applied>, generation: u64) -> Progress {
        let kept_back = position.borrow().quarantined.clone();
        let times = Arc::new(Mutex::new(Times { kept_back, ..Times::default() }));
        Progress { generation, times, position }
    }

    /// Where the data plane stands.
    #[must_use]
    pub fn position(&self) -> Applied {
        self.position.borrow().clone()
    }

    /// The same, watched.
    pub(crate) fn watch(&self) -> watch::Receiver<Applied> {
        self.position.clone()
    }

    /// When it came there.
    pub(crate) fn times(&self) -> Arc<Mutex<Times>> {
        self.times.clone()
    }

    /// Notes when positions are reached, until the data plane is gone.
    pub(crate) async fn follow(&self) {
        let mut position = self.position.clone();
        while position.changed().await.is_ok() {
            let applied = position.borrow_and_update().clone();
            if applied.generation == self.generation {
                self.times.lock().unwrap_or_else(PoisonError::into_inner).note(&applied, now_us(), KEPT);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn times_are_those_of_the_first_position_that_has_the_change() {
        let (sender, receiver) = watch::channel(Applied { sequence: 2, ..Applied::default() });
        let progress = Arc::new(Progress::new(receiver, 0));
        tokio::spawn({
            let progress = progress.clone();
            async move { progress.follow().await }
        });
        tokio::task::yield_now().await;
        for sequence in [5, 9] {
            sender.send_modify(|applied| applied.sequence = sequence);
            while progress.times.lock().unwrap().reached.back().is_none_or(|&(last, _)| last < sequence) {
                tokio::task::yield_now().await;
            }
        }
        let at = |sequence| progress.times.lock().unwrap().at(sequence);
        assert_eq!(at(1), None, "before this process");
        assert_eq!(at(10), None);
        assert_eq!(at(6).unwrap(), at(9).unwrap());
        assert!(at(5).unwrap() <= at(6).unwrap());
    }

    #[tokio::test]
    async fn what_left_the_quarantine_is_not_said_to_have_been_served_before() {
        let kept_back = |zones: &[&str]| {
            Arc::new(zones.iter().map(|zone| (zone.parse().unwrap(), 1)).collect::<BTreeMap<_, _>>())
        };
        let start = Applied { quarantined: kept_back(&["a.test."]), ..Applied::default() };
        let (sender, receiver) = watch::channel(start);
        let progress = Arc::new(Progress::new(receiver, 0));
        let follower = progress.clone();
        tokio::spawn(async move { follower.follow().await });
        tokio::task::yield_now().await;
        for (sequence, zones) in [(5, &["a.test."][..]), (6, &[])] {
            sender.send_modify(|applied| {
                applied.sequence = sequence;
                applied.quarantined = kept_back(zones);
            });
            while progress.times.lock().unwrap().reached.back().is_none_or(|&(last, _)| last < sequence) {
                tokio::task::yield_now().await;
            }
        }
        let at = |sequence| progress.times.lock().unwrap().at(sequence);
        assert_eq!(at(5), None);
        assert!(at(6).is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let publications = Publications::default();
        for sequence in 0..(KEPT as u64 + 10) {
            publications.add(Member { id: Uuid::now_v7(), withheld: false }, sequence, 0);
        }
        let published = publications.lock();
        assert_eq!((published.by_id.len(), published.order.len()), (KEPT, KEPT));
    }
}
