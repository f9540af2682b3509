//! All data planes that live: that of the same process, and nodes that have said something within five seconds.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::nodes::{Nodes, Waiting};
use crate::relay::Applied;
use crate::relay::log::Log;
use crate::relay::progress::{Progress, Times};

/// The name of the data plane in the same process.
pub(crate) const LOCAL: &str = "local";

/// See the module.
#[derive(Debug)]
pub struct Planes {
    local: Option<Arc<Progress>>,
    nodes: Arc<Nodes>,
    log: Arc<Log>,
}

/// A data plane as it was at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Plane {
    /// Its name.
    pub(crate) name: String,
    /// Where it stands.
    pub(crate) applied: Applied,
    /// When it came where.
    pub(crate) times: Arc<Mutex<Times>>,
}

impl Plane {
    /// When it had applied a sequence that it has applied; `None` when that is not known any more.
    pub(crate) fn applied_at(&self, sequence: u64) -> Option<i64> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).at(sequence)
    }
}

impl Planes {
    pub(crate) fn new(local: Option<Arc<Progress>>, nodes: Arc<Nodes>, log: Arc<Log>) -> Planes {
        Planes { local, nodes, log }
    }

    /// Those of other machines.
    pub(crate) fn nodes(&self) -> &Arc<Nodes> {
        &self.nodes
    }

    /// That of the same process.
    pub(crate) fn local(&self) -> Option<Plane> {
        let plane = |progress: &Arc<Progress>| Plane {
            name: LOCAL.to_owned(),
            applied: progress.position(),
            times: progress.times(),
        };
        self.local.as_ref().map(plane)
    }

    /// All of them, that of the same process first.
    pub(crate) fn live(&self) -> Vec<Plane> {
        self.local().into_iter().chain(self.nodes.live()).collect()
    }

    /// Whether one has a sequence, but for zones that it keeps in quarantine. One in another history has nothing of this.
    pub(crate) fn has(&self, plane: &Plane, sequence: u64) -> bool {
        plane.applied.generation == self.log.end().generation && plane.applied.sequence >= sequence
    }

    /// Watches them, from now on.
    pub(crate) fn watch(&self) -> Watch<'_> {
        Watch {
            planes: self,
            local: self.local.as_ref().map(|progress| progress.watch()),
            news: self.nodes.news(),
            _waiting: self.nodes.wait(),
        }
    }
}

/// Says when to look again.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    planes: &'a Planes,
    local: Option<watch::Receiver<Applied>>,
    news: watch::Receiver<()>,
    _waiting: Waiting,
}

impl Watch<'_> {
    /// Until one of them came further or is dead, at most until a deadline.
    pub(crate) async fn changed(&mut self, deadline: Instant) {
        let until = self.planes.nodes.next_death().map_or(deadline, |death| death.min(deadline));
        let local = async {
            if let Some(local) = &mut self.local
                && local.changed().await.is_ok()
            {
                return;
            }
            // There is none, or none any more.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = local => {}
            // Its sender is in `planes`.
            _ = self.news.changed() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;
    use crate::store::relay::FeedState;

    #[test]
    fn a_position_in_another_history_has_nothing_of_this_one() {
        let end = FeedState { generation: 2, sequence: 20, ..FeedState::default() };
        let log = Arc::new(Log::new(end, Arc::default(), Metrics::default()));
        for (generation, expected) in [(1, false), (2, true)] {
            let (_sender, receiver) =
                watch::channel(Applied { generation, sequence: 9, ..Applied::default() });
            let local = Arc::new(Progress::new(receiver, 2));
            let planes = Planes::new(Some(local), Arc::default(), log.clone());
            let plane = planes.local().unwrap();
            assert_eq!(planes.has(&plane, 3), expected);
            assert!(!planes.has(&plane, 10));
            assert_eq!(plane.applied_at(3), None, "before this process");
        }
    }
}
