//! How far each change has come: published under which sequence, applied when. Kept in memory for what is recent; the
//! database knows the sequence of the rest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::Applied;
use crate::store::now_us;

/// Changes and applied positions that are remembered.
const KEPT: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub struct Progress {
    published: Mutex<Published>,
    /// Sequence, and when the data plane was there.
    applied: Mutex<VecDeque<(u64, i64)>>,
    position: watch::Receiver<Applied>,
}

#[derive(Debug, Default)]
struct Published {
    by_id: HashMap<Uuid, (u64, i64)>,
    order: VecDeque<Uuid>,
}

impl Progress {
    /// Follows the position of a data plane.
    #[must_use]
    pub fn new(position: watch::Receiver<Applied>) -> Progress {
        Progress { published: Mutex::default(), applied: Mutex::default(), position }
    }

    /// Notes a publication.
    pub fn published(&self, id: Uuid, sequence: u64, at_us: i64) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.by_id.insert(id, (sequence, at_us));
        published.order.push_back(id);
        if published.order.len() > KEPT
            && let Some(oldest) = published.order.pop_front()
        {
            published.by_id.remove(&oldest);
        }
    }

    /// The sequence of a recent change.
    #[must_use]
    pub fn sequence(&self, id: Uuid) -> Option<u64> {
        self.publication(id).map(|(sequence, _)| sequence)
    }

    /// Sequence and time of a recent change.
    #[must_use]
    pub fn publication(&self, id: Uuid) -> Option<(u64, i64)> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).copied()
    }

    /// Where the data plane stands.
    #[must_use]
    pub fn position(&self) -> Applied {
        self.position.borrow().clone()
    }

    /// When the data plane had applied a sequence: `None` when it has not; `Some(None)` when that is too long ago to be
    /// remembered, or was before this process.
    #[must_use]
    pub fn applied_at(&self, sequence: u64) -> Option<Option<i64>> {
        if !self.position.borrow().has(sequence) {
            return None;
        }
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let index = applied.partition_point(|&(position, _)| position < sequence);
        // The first entry may have been reached long before it was noted.
        if index == 0 && applied.front().is_none_or(|&(position, _)| position != sequence) {
            return Some(None);
        }
        Some(applied.get(index).map(|&(_, at)| at))
    }

    /// Waits until the data plane's position is one that is wanted; whether it came in time.
    pub async fn wait(&self, deadline: Instant, wanted: impl FnMut(&Applied) -> bool) -> bool {
        let mut position = self.position.clone();
        matches!(tokio::time::timeout_at(deadline, position.wait_for(wanted)).await, Ok(Ok(_)))
    }

    /// Notes when positions are reached, until the data plane is gone.
    pub(crate) async fn follow(&self) {
        let mut position = self.position.clone();
        let mut kept_back = position.borrow().quarantined.clone();
        let mut was_uncertain = position.borrow().uncertain;
        while position.changed().await.is_ok() {
            let Applied { sequence, quarantined, uncertain, .. } = position.borrow_and_update().clone();
            if uncertain {
                was_uncertain = true;
                continue;
            }
            let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
            // What left the quarantine, or came with everything, is served only now: when changes before it were is no longer
            // known for all.
            if std::mem::take(&mut was_uncertain)
                || kept_back.keys().any(|zone| !quarantined.contains_key(zone))
            {
                applied.clear();
            }
            kept_back = quarantined;
            if applied.back().is_some_and(|&(last, _)| last >= sequence) {
                continue;
            }
            applied.push_back((sequence, now_us()));
            if applied.len() > KEPT {
                applied.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test]
    async fn waiting_ends_when_the_position_is_reached() {
        let (sender, receiver) = watch::channel(Applied { sequence: 4, ..Applied::default() });
        let progress = Arc::new(Progress::new(receiver));
        let soon = || Instant::now() + Duration::from_secs(5);
        assert!(progress.wait(soon(), |applied| applied.sequence >= 4).await);
        let waiting = tokio::spawn({
            let progress = progress.clone();
            async move { progress.wait(soon(), |applied| applied.sequence >= 6).await }
        });
        sender.send_modify(|applied| applied.sequence = 7);
        assert!(waiting.await.unwrap());
        assert!(!progress.wait(Instant::now(), |applied| applied.sequence >= 8).await);
    }

    #[tokio::test]
    async fn times_are_those_of_the_first_position_that_has_the_change() {
        let (sender, receiver) = watch::channel(Applied { sequence: 2, ..Applied::default() });
        let progress = Arc::new(Progress::new(receiver));
        tokio::spawn({
            let progress = progress.clone();
            async move { progress.follow().await }
        });
        tokio::task::yield_now().await;
        for sequence in [5, 9] {
            sender.send_modify(|applied| applied.sequence = sequence);
            while progress.applied.lock().unwrap().back().is_none_or(|&(last, _)| last < sequence) {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(progress.applied_at(10), None);
        assert_eq!(progress.applied_at(1), Some(None), "before this process");
        let at = |sequence| progress.applied_at(sequence).unwrap().unwrap();
        assert_eq!(at(6), at(9));
        assert!(at(5) <= at(6));
    }

    #[tokio::test]
    async fn what_left_the_quarantine_is_not_said_to_have_been_served_before() {
        let kept_back = |zones: &[&str]| {
            Arc::new(zones.iter().map(|zone| (zone.parse().unwrap(), 1)).collect::<BTreeMap<_, _>>())
        };
        let start = Applied { quarantined: kept_back(&["a.test."]), ..Applied::default() };
        let (sender, receiver) = watch::channel(start);
        let progress = Arc::new(Progress::new(receiver));
        let follower = progress.clone();
        tokio::spawn(async move { follower.follow().await });
        tokio::task::yield_now().await;
        for (sequence, zones) in [(5, &["a.test."][..]), (6, &[])] {
            sender.send_modify(|applied| {
                applied.sequence = sequence;
                applied.quarantined = kept_back(zones);
            });
            while progress.applied.lock().unwrap().back().is_none_or(|&(last, _)| last < sequence) {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(progress.applied_at(5), Some(None));
        assert!(progress.applied_at(6).unwrap().is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let (_sender, receiver) = watch::channel(Applied::default());
        let progress = Progress::new(receiver);
        for sequence in 0..(KEPT as u64 + 10) {
            progress.published(Uuid::now_v7(), sequence, 0);
        }
        let published = progress.published.lock().unwrap();
        assert_eq!((published.by_id.len(), published.order.len()), (KEPT, KEPT));
    }
}
