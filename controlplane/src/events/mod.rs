//! What happens, as it happens: changes in the order of their sequences, for who listens. Each control plane follows the log, so that
//! all of them tell the same, whichever took a change.
//!
//! - [`Hub`]: decodes each change once, for all who listen, and keeps the latest;
//! - `told`: what of a change somebody is told;
//! - `latest`: jobs as they are now, looked at once for all who listen.

pub(crate) mod latest;
pub(crate) mod told;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use godwit_wire::feed::{Batch, ChangeSet, OwnedRrset, RrsetChange, ZoneChange, ZoneChangeKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use uuid::Uuid;

use crate::relay::log::Log;
use crate::stop::Stop;
use crate::store::{Pool, changes, log as stored};

/// Changes that wait for a listener who is slow: whoever is further behind is told to begin anew.
const WAITING: usize = 512;
/// Changes that are kept for who comes back, and octets of those.
const KEPT: usize = 4_096;
const KEPT_OCTETS: usize = 16 << 20;
/// Records of a change that has more octets are not told one by one: who listens to records is told to read the zone.
const WHOLE_OCTETS: usize = 64 << 10;
/// What is held of a zone, and of an RRset, beside what it says.
const BESIDE_OCTETS: usize = 128;
/// The most changes that are read from the database for who comes back after a longer time, and octets of those.
const MOST_READ: u64 = 2_000;
const MOST_READ_OCTETS: u64 = 8 << 20;
/// Who is told what was read may be slow: so many hold that at once, and who finds no turn in time begins anew.
const READERS: usize = 4;
const TURN_TIMEOUT: Duration = Duration::from_secs(2);

/// A change that was published.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    /// Its place.
    pub(crate) sequence: u64,
    /// Its id.
    pub(crate) id: Uuid,
    /// What it says; without records where it is not whole.
    pub(crate) set: ChangeSet,
    /// Whether its records are there.
    pub(crate) is_whole: bool,
    /// What it takes in memory, nearly.
    octets: usize,
}

impl Published {
    /// The same with its place. Of one that says very much, records are left out.
    pub(crate) fn of(sequence: u64, mut set: ChangeSet) -> Published {
        let mut held = octets(&set);
        let is_whole = held <= WHOLE_OCTETS;
        if !is_whole {
            for zone in &mut set.zones {
                match &mut zone.kind {
                    ZoneChangeKind::Update(steps) => *steps = Vec::new(),
                    ZoneChangeKind::Replace(sets) => *sets = Vec::new(),
                    ZoneChangeKind::Remove => {}
                }
            }
            held = octets(&set);
        }
        Published { sequence, id: Uuid::from_bytes(set.id), set, is_whole, octets: held }
    }
}

/// What a change takes in memory, nearly.
fn octets(set: &ChangeSet) -> usize {
    let record = |set: &OwnedRrset| {
        let rdata = set.rrset.rdata.iter().chain(&set.rrset.rrsigs);
        BESIDE_OCTETS + rdata.map(|octets| octets.len() + size_of::<Box<[u8]>>()).sum::<usize>()
    };
    let step = |step: &RrsetChange| match step {
        RrsetChange::Put(set) => record(set),
        RrsetChange::Delete { .. } => BESIDE_OCTETS,
    };
    let zone = |zone: &ZoneChange| {
        let records = match &zone.kind {
            ZoneChangeKind::Update(steps) => steps.iter().map(step).sum(),
            ZoneChangeKind::Replace(sets) => sets.iter().map(record).sum(),
            ZoneChangeKind::Remove => 0,
        };
        BESIDE_OCTETS + records
    };
    BESIDE_OCTETS + set.zones.iter().map(zone).sum::<usize>()
}

/// What listeners hear.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// The next change.
    Change(Arc<Published>),
    /// Something is missing in between: what a listener has may not be true any more.
    Gap,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hub {
    messages: broadcast::Sender<Message>,
    recent: Mutex<Recent>,
    log: Arc<Log>,
    turns: Arc<Semaphore>,
}

/// Consecutive changes up to the last one that was told.
#[derive(Debug, Default)]
struct Recent {
    changes: VecDeque<Arc<Published>>,
    octets: usize,
    /// Sequence of the last one.
    last: u64,
}

/// What somebody who comes back has missed.
#[derive(Debug)]
pub(crate) struct Missed {
    /// Sequence of the change that they came with: what is up to it they have heard, from wherever.
    pub(crate) after: u64,
    /// What came since.
    pub(crate) changes: Vec<Arc<Published>>,
    /// Of who holds what nobody else does.
    _turn: Option<OwnedSemaphorePermit>,
}

impl Hub {
    pub(crate) fn new(log: Arc<Log>) -> Hub {
        let recent = Recent { last: log.end().sequence, ..Recent::default() };
        Hub {
            messages: broadcast::Sender::new(WAITING),
            recent: Mutex::new(recent),
            log,
            turns: Arc::new(Semaphore::new(READERS)),
        }
    }

    /// From now on what happens is heard.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Message> {
        self.messages.subscribe()
    }

    /// Follows the log until it is time to stop.
    pub(crate) async fn follow(self: Arc<Hub>, mut stop: Stop) {
        let mut end = self.log.watch();
        let mut generation = self.log.end().generation;
        loop {
            end.mark_unchanged();
            let now = self.log.end();
            let last = self.recent().last;
            if now.generation != generation || now.sequence < last {
                generation = now.generation;
                self.begin_anew(now.sequence);
            } else if now.sequence > last && !self.pass_over(now.sequence) {
                self.take(last, now.sequence);
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                changed = end.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Goes on behind what nobody listens to; whether that is so. Who begins to listen at this moment finds what was passed over to
    /// be missing, or hears it.
    fn pass_over(&self, end: u64) -> bool {
        let mut recent = self.recent();
        let is_silent = self.messages.receiver_count() == 0;
        if is_silent {
            *recent = Recent { last: end, ..Recent::default() };
        }
        is_silent
    }

    fn take(&self, after: u64, end: u64) {
        let Some(made) = self.log.in_memory_after(after) else { return self.begin_anew(end) };
        for batch in made {
            let Ok(read) = Batch::decode(&batch.octets) else { return self.begin_anew(end) };
            for (sequence, set) in (read.first_sequence..).zip(read.change_sets) {
                let published = Arc::new(Published::of(sequence, set));
                self.recent().add(published.clone());
                // Nobody may be there to hear it.
                let _ = self.messages.send(Message::Change(published));
            }
        }
    }

    fn begin_anew(&self, last: u64) {
        *self.recent() = Recent { last, ..Recent::default() };
        let _ = self.messages.send(Message::Gap);
    }

    /// What came after a change, up to now; `None` where that is not known any more. To be asked once one listens: what is heard too
    /// is among it.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn missed_since(&self, readers: &Pool, change: Uuid) -> sqlx::Result<Option<Missed>> {
        if let Some(missed) = self.recent().after(change) {
            return Ok(Some(missed));
        }
        let turn = tokio::time::timeout(TURN_TIMEOUT, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Ok(None) };
        let mut connection = readers.acquire().await?;
        let state = changes::state(&mut connection, change).await?;
        let Some(after) = state.and_then(|state| state.sequence) else { return Ok(None) };
        let last = self.recent().last;
        if after >= last {
            // Another control plane was ahead of this one: what is to come is heard.
            return Ok(Some(Missed { after, changes: Vec::new(), _turn: None }));
        }
        let count = last - after;
        if count > MOST_READ {
            return Ok(None);
        }
        // One that is not kept any more may have been about anything.
        let found = stored::weight(&mut connection, after + 1, last).await?;
        if found.change_sets != count || found.octets > MOST_READ_OCTETS {
            return Ok(None);
        }
        let read = stored::change_sets(&mut connection, after + 1, last).await?;
        if read.len() as u64 != count {
            return Ok(None);
        }
        let published = read.into_iter().map(|one| {
            let set = if one.withheld { None } else { ChangeSet::decode(&one.payload).ok() };
            let none = ChangeSet {
                id: one.id.into_bytes(),
                committed_at_us: one.committed_at_us,
                zones: Vec::new(),
            };
            Arc::new(Published::of(one.sequence, set.unwrap_or(none)))
        });
        Ok(Some(Missed { after, changes: published.collect(), _turn: Some(turn) }))
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn add(&mut self, published: Arc<Published>) {
        self.last = published.sequence;
        self.octets += published.octets;
        self.changes.push_back(published);
        while self.changes.len() > KEPT || (self.octets > KEPT_OCTETS && self.changes.len() > 1) {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.octets -= oldest.octets;
        }
    }

    /// Those behind one, where that is among them.
    fn after(&self, change: Uuid) -> Option<Missed> {
        let at = self.changes.iter().position(|published| published.id == change)?;
        let changes = self.changes.range(at + 1..).cloned().collect();
        Some(Missed { after: self.changes[at].sequence, changes, _turn: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;
    use crate::relay::batches;
    use crate::store::changes::Waiting;
    use crate::store::relay::FeedState;

    fn waiting() -> Waiting {
        let id = Uuid::now_v7();
        let payload = batches::without_zones(id, 1);
        Waiting {
            commit_number: 0,
            id,
            committed_at_us: 1,
            payload,
            root_change: Default::default(),
            withheld: false,
        }
    }

    async fn hear(heard: &mut broadcast::Receiver<Message>) -> Message {
        let heard = tokio::time::timeout(Duration::from_secs(20), heard.recv()).await;
        heard.expect("nothing was heard in 20 s").unwrap()
    }

    #[tokio::test]
    async fn changes_are_heard_in_order_and_gaps_are_told() {
        let start = FeedState { generation: 1, sequence: 7, ..FeedState::default() };
        let log = Arc::new(Log::new(start, Arc::default(), Metrics::default()));
        let hub = Arc::new(Hub::new(log.clone()));
        let mut heard = hub.listen();
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let following = tokio::spawn(hub.clone().follow(stopping));
        let mut state = start;
        let all: Vec<Waiting> = (0..3).map(|_| waiting()).collect();
        for one in &all {
            let made = batches::make(&mut state, std::slice::from_ref(one), 1);
            log.add(made, state);
        }
        for (n, one) in all.iter().enumerate() {
            match hear(&mut heard).await {
                Message::Change(change) => assert_eq!((change.sequence, change.id), (8 + n as u64, one.id)),
                Message::Gap => panic!("nothing is missing"),
            }
        }
        let after = hub.recent().after(all[0].id).unwrap();
        assert_eq!(after.changes.iter().map(|one| one.id).collect::<Vec<_>>(), [all[1].id, all[2].id]);
        assert_eq!(after.after, 8);
        assert!(hub.recent().after(Uuid::now_v7()).is_none());
        // Another history.
        log.add(Vec::new(), FeedState { generation: 2, sequence: 1, ..FeedState::default() });
        assert!(matches!(hear(&mut heard).await, Message::Gap));
        assert!(hub.recent().after(all[0].id).is_none());
        stop.send(true).unwrap();
        following.await.unwrap();
    }
}
