//! Outbox → feed: gives committed change sets their place in the total order and sends them on, in batches.
//!
//! The sequence is given after the commit. One drawn inside the writing transactions would let a reader skip one that
//! commits late. A start raises the epoch, reads where the data plane stands and goes on from there: with what is in
//! the outbox where that leads on without a gap, with the whole state otherwise.
//!
//! - [`resume`]: how to go on from the position of a data plane;
//! - [`replay`]: the whole state as change sets;
//! - [`progress`]: how far each change has come.

pub mod progress;
pub mod replay;
pub mod resume;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use godwit_wire::feed::{Batch, ChangeSet, DigestKey};
use godwit_wire::name::Name;

use crate::commit::{Backlog, Committed, Notes, Publications};
use crate::observe::metrics::Metrics;
use crate::store::relay::FeedState;
use crate::store::{Pool, changes, now_us};
use progress::Progress;

/// The most change sets of a batch.
pub const MAX_BATCH: usize = 1_000;
/// From so many octets on, a batch takes no further change set.
const BATCH_OCTETS: usize = 4 << 20;
/// Change sets that may wait between commit and relay. Beyond it they are read back from the outbox.
pub(crate) const HANDOVER: usize = 4_096;
/// Rows that one reading of the outbox takes.
const OUTBOX_STEP: i64 = 1_000;

/// The pause before the database is read again when that failed.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// What the relay has to read from the database next.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// How to go on from where the data plane stands.
    Resume,
    /// The whole state.
    Everything,
    /// What found no room on the way from the commit.
    Outbox,
    /// What comes is handed over.
    Nothing,
}

/// Where a data plane says that it stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// History that it follows; 0 when it never followed one.
    pub generation: u64,
    /// Term of the last batch that it applied.
    pub epoch: u64,
    /// The last sequence that it applied.
    pub sequence: u64,
    /// Chain hash after it.
    pub chain: [u8; 32],
    /// How many times it has asked to be sent everything.
    pub resyncs: u64,
    /// Zones that keep an earlier state than the position says, because a change of them could not be applied, each with
    /// the version that is served; 0 when none is.
    pub quarantined: Arc<BTreeMap<Name, u64>>,
    /// It has asked for everything, or began to be sent it, and not all of it has come.
    pub awaits_everything: bool,
    /// Until it has come, any zone may lack changes, not only those in quarantine.
    pub uncertain: bool,
}

impl Applied {
    /// Whether all up to a sequence is there, but for zones in quarantine.
    #[must_use]
    pub fn has(&self, sequence: u64) -> bool {
        self.sequence >= sequence && !self.uncertain
    }
}

/// The way to the data plane of the same process: encoded entries in, applied position out.
#[derive(Debug)]
pub struct FeedSink {
    /// Takes `wire::feed::Entry` octets, in order. Full means: the data plane is busy, wait.
    pub batches: mpsc::Sender<Bytes>,
    /// The data plane's position, watched.
    pub applied: watch::Receiver<Applied>,
    /// What the digests in heads are keyed with.
    pub digest_key: DigestKey,
}

/// The relay of this process.
pub(crate) struct Relay {
    pub(crate) state: FeedState,
    pub(crate) sink: FeedSink,
    pub(crate) committed: mpsc::Receiver<Committed>,
    pub(crate) backlog: Backlog,
    pub(crate) readers: Pool,
    pub(crate) notes: Notes,
    pub(crate) progress: Arc<Progress>,
    pub(crate) metrics: Metrics,
    /// The last commit that has a sequence.
    pub(crate) last_commit: i64,
    /// Resyncs of the data plane that were answered.
    pub(crate) resyncs: u64,
    /// Told once the data plane was brought to where the database stands; dropped when that fails.
    pub(crate) level: Option<oneshot::Sender<()>>,
}

/// One change set on its way out.
pub(crate) struct Outgoing {
    pub(crate) change_set: ChangeSet,
    /// `None` for what was published before, and for the whole state.
    pub(crate) commit_number: Option<i64>,
    pub(crate) published: Option<oneshot::Sender<u64>>,
}

/// Why the relay stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("the data plane is gone")]
    SinkClosed,
    #[error("the writer is gone")]
    WriterClosed,
    #[error(
        "the data plane has applied sequence {applied}, this database knows of {known}: it is an older copy. Nothing is \
         published, and what is served stays. To make this database the truth all the same, start a new generation"
    )]
    Diverged { applied: u64, known: u64 },
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Relay {
    /// Runs until the writer is gone and everything that it committed is sent, or the data plane is gone.
    pub(crate) async fn run(mut self) {
        self.metrics.leader(true);
        if let Err(error) = self.relay().await {
            tracing::error!(%error, "the relay stopped; what is committed stays in the outbox");
        }
        self.metrics.leader(false);
    }

    async fn relay(&mut self) -> Result<(), RelayError> {
        let backlog = self.backlog.clone();
        let mut due = Due::Resume;
        loop {
            let done = match due {
                Due::Resume => self.resume().await,
                Due::Everything => self.replay().await,
                Due::Outbox => self.catch_up().await,
                Due::Nothing => Ok(()),
            };
            match done {
                Ok(()) => {}
                // It passes: all readers busy, mostly. What is committed must not wait for a restart because of that.
                Err(RelayError::Database(error)) => {
                    tracing::warn!(%error, "the relay cannot read what to publish; it tries again");
                    tokio::time::sleep(READ_AGAIN).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if let Some(level) = self.level.take() {
                let _ = level.send(());
            }
            due = tokio::select! {
                biased;
                () = backlog.missed() => Due::Outbox,
                received = self.committed.recv() => match received {
                    Some(first) => {
                        self.forward(first).await?;
                        Due::Nothing
                    }
                    None => return Ok(()),
                },
                changed = self.sink.applied.changed() => {
                    changed.map_err(|_| RelayError::SinkClosed)?;
                    let applied = self.sink.applied.borrow_and_update().clone();
                    if applied.resyncs == self.resyncs {
                        Due::Nothing
                    } else {
                        tracing::warn!(sequence = applied.sequence, "the data plane asks for everything");
                        self.resyncs = applied.resyncs;
                        Due::Everything
                    }
                }
            };
        }
    }

    /// Has the state of the feed written down, and waits until it is on disk.
    pub(crate) async fn write_down(&self) -> Result<(), RelayError> {
        let (written, on_disk) = oneshot::channel();
        let applied = self.sink.applied.borrow().sequence;
        let (state, at_us) = (self.state, now_us());
        self.notes.note(Publications { marks: Vec::new(), at_us, state, applied, written: Some(written) });
        on_disk.await.map_err(|_| RelayError::WriterClosed)
    }

    /// Sends what was handed over, as much in one batch as is waiting.
    async fn forward(&mut self, first: Committed) -> Result<(), RelayError> {
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(Committed { commit_number, change_set, published }) = next {
            // Read back from the outbox in the meantime.
            if commit_number > self.last_commit {
                self.last_commit = commit_number;
                waiting.push(Outgoing { change_set, commit_number: Some(commit_number), published });
            } else if let (Some(sender), Some(sequence)) =
                (published, self.progress.sequence(uuid::Uuid::from_bytes(change_set.id)))
            {
                let _ = sender.send(sequence);
            }
            next = if waiting.len() < MAX_BATCH { self.committed.try_recv().ok() } else { None };
        }
        self.send(waiting).await
    }

    /// Sends what stands in the outbox without a sequence.
    pub(crate) async fn catch_up(&mut self) -> Result<(), RelayError> {
        self.backlog.clear();
        loop {
            let mut connection = self.readers.acquire().await?;
            let rows = changes::unpublished(&mut connection, self.last_commit, OUTBOX_STEP).await?;
            drop(connection);
            let Some(last) = rows.last() else { return Ok(()) };
            let last_commit = last.number;
            let mut waiting = Vec::with_capacity(rows.len());
            for row in rows {
                match ChangeSet::decode(&row.payload) {
                    Ok(change_set) => {
                        waiting.push(Outgoing {
                            change_set,
                            commit_number: Some(row.number),
                            published: None,
                        });
                    }
                    // One damaged row hurts the zones that it names and no others: a data plane that misses it sees
                    // the gap in their versions and asks for them.
                    Err(error) => {
                        tracing::error!(change = %row.id, %error, "a stored change set cannot be read");
                    }
                }
            }
            self.last_commit = last_commit;
            self.send(waiting).await?;
        }
    }

    /// Gives sequences, forms batches, sends them, and has it all written down.
    pub(crate) async fn send(&mut self, waiting: Vec<Outgoing>) -> Result<(), RelayError> {
        let mut waiting = waiting.into_iter().peekable();
        while waiting.peek().is_some() {
            let mut change_sets = Vec::new();
            let mut sent = Vec::new();
            let mut octets = 0;
            while change_sets.len() < MAX_BATCH && octets < BATCH_OCTETS {
                let Some(Outgoing { change_set, commit_number, published }) = waiting.next() else { break };
                octets += weight(&change_set);
                sent.push((uuid::Uuid::from_bytes(change_set.id), commit_number, published));
                change_sets.push(change_set);
            }
            self.send_batch(change_sets, sent).await?;
        }
        Ok(())
    }

    async fn send_batch(
        &mut self,
        change_sets: Vec<ChangeSet>,
        sent: Vec<(uuid::Uuid, Option<i64>, Option<oneshot::Sender<u64>>)>,
    ) -> Result<(), RelayError> {
        let batch = Batch {
            generation: self.state.generation,
            epoch: self.state.epoch,
            first_sequence: self.state.sequence + 1,
            previous_chain: self.state.chain,
            change_sets,
        };
        let mut octets = Vec::new();
        batch.encode(&mut octets);
        let chain = batch.chain();
        let first = self.state.sequence + 1;
        let last = batch.last_sequence();
        self.sink.batches.send(octets.into()).await.map_err(|_| RelayError::SinkClosed)?;
        self.state.sequence = last;
        self.state.chain = chain;
        let at_us = now_us();
        let mut marks = Vec::new();
        for (sequence, (id, commit_number, published)) in (first..).zip(sent) {
            if let Some(commit_number) = commit_number {
                self.progress.published(id, sequence, at_us);
                marks.push((commit_number, sequence));
            }
            if let Some(published) = published {
                let _ = published.send(sequence);
            }
        }
        self.metrics.published(marks.len(), last);
        let applied = self.sink.applied.borrow().sequence;
        self.notes.note(Publications { marks, at_us, state: self.state, applied, written: None });
        Ok(())
    }
}

/// About how many octets a change set takes.
fn weight(change_set: &ChangeSet) -> usize {
    use godwit_wire::feed::{OwnedRrset, RrsetChange, ZoneChangeKind};
    let of_set = |set: &OwnedRrset| {
        let records = set.rrset.rdata.iter().chain(&set.rrset.rrsigs);
        set.owner.as_wire().len() + 16 + records.map(|rdata| rdata.len() + 2).sum::<usize>()
    };
    let of_zone = |kind: &ZoneChangeKind| match kind {
        ZoneChangeKind::Update(steps) => steps
            .iter()
            .map(|step| match step {
                RrsetChange::Put(set) => of_set(set),
                RrsetChange::Delete { owner, .. } => owner.as_wire().len() + 16,
            })
            .sum(),
        ZoneChangeKind::Replace(sets) => sets.iter().map(of_set).sum(),
        ZoneChangeKind::Remove => 0usize,
    };
    change_set.zones.iter().map(|zone| 64 + of_zone(&zone.kind)).sum()
}

#[cfg(test)]
mod tests {
    use godwit_wire::feed::Entry;

    use super::*;
    use crate::commit::{self, Handover};
    use crate::store::{Database, Place};

    /// All readers busy for longer than anybody waits: publishing goes on when one comes free.
    #[tokio::test]
    async fn a_database_that_cannot_be_read_for_a_while_does_not_end_the_relay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.sqlite");
        let _database = Database::open(Place::File(file.clone()), 1, 1).await.unwrap();
        let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
        let read_only = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).read_only(true);
        let readers = options.connect_with(read_only).await.unwrap();
        let readers = Pool::sqlite(readers, Duration::from_millis(20));
        let busy = readers.acquire().await.unwrap();

        let (committer, mut queues) = commit::channel();
        tokio::spawn(async move {
            while let Some(noted) = queues.publications.recv().await {
                noted.written.map(|written| written.send(()));
            }
        });
        let (_handover, committed, backlog) = Handover::new(1);
        let (_position, applied) = watch::channel(Applied::default());
        let (batches, mut entries) = mpsc::channel(4);
        let relay = Relay {
            state: FeedState { generation: 1, epoch: 1, ..FeedState::default() },
            sink: FeedSink { batches, applied: applied.clone(), digest_key: DigestKey([1; 32]) },
            committed,
            backlog,
            readers,
            notes: committer.notes(),
            progress: Arc::new(Progress::new(applied)),
            metrics: Metrics::default(),
            last_commit: 0,
            resyncs: 0,
            level: None,
        };
        tokio::spawn(relay.run());
        // Longer than it takes to find no reader free.
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(busy);
        let mut heads = 0;
        while heads == 0 {
            let entry = entries.recv().await.expect("the relay goes on");
            heads += u32::from(matches!(Entry::decode(&entry), Ok(Entry::Head(_))));
        }
    }
}
