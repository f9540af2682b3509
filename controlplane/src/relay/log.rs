//! The log as this process knows it: where it ends, and its latest batches in memory. Older ones are made again from the
//! database.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use godwit_wire::feed::Head;
use tokio::sync::watch;

use super::batches::{self, Made, Member};
use super::progress::Publications;
use crate::observe::metrics::Metrics;
use crate::store::relay::FeedState;
use crate::store::{Connection, log, relay};

/// Octets of batches that stay in memory, and how many.
const KEPT_OCTETS: usize = 32 << 20;
const KEPT: usize = 4_096;
/// Batches that one reading of the database takes.
const STEP: i64 = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Log {
    end: watch::Sender<FeedState>,
    kept: Mutex<Kept>,
    publications: Arc<Publications>,
    metrics: Metrics,
}

/// Consecutive batches up to the end of the log.
#[derive(Debug, Default)]
struct Kept {
    batches: VecDeque<Made>,
    octets: usize,
}

/// What leads on from a position.
#[derive(Debug)]
pub(crate) enum After {
    /// These, in order; none where the position is the end.
    Batches(Vec<Made>),
    /// What came after it is no longer kept.
    Gone,
    /// It is not a position of this log, which has others around it.
    Forked,
}

impl Log {
    pub(crate) fn new(end: FeedState, publications: Arc<Publications>, metrics: Metrics) -> Log {
        metrics.published(end.sequence);
        Log { end: watch::Sender::new(end), kept: Mutex::default(), publications, metrics }
    }

    /// Where it ends.
    pub(crate) fn end(&self) -> FeedState {
        *self.end.borrow()
    }

    /// Where it ends, watched.
    pub(crate) fn watch(&self) -> watch::Receiver<FeedState> {
        self.end.subscribe()
    }

    /// What is to be held at its end.
    pub(crate) fn head(&self) -> Head {
        let FeedState { generation, epoch, sequence, chain, root, .. } = self.end();
        Head { generation, epoch, sequence, chain, root_digest: root }
    }

    /// The place behind which all batches are in memory.
    pub(crate) fn begin(&self) -> (u64, [u8; 32]) {
        let kept = self.kept();
        let first = kept.batches.front().map(|batch| batch.entry);
        first.map_or_else(
            || {
                let end = self.end();
                (end.sequence, end.chain)
            },
            |entry| (entry.first_sequence - 1, entry.previous_chain),
        )
    }

    /// Epoch and last sequence of the oldest batch in memory that is behind `applied`, or was made since: the last one, where
    /// none is.
    pub(crate) fn oldest(&self, applied: u64, since_us: i64) -> Option<(u64, u64)> {
        let kept = self.kept();
        let is_of_use =
            |batch: &&Made| batch.entry.last_sequence > applied || batch.entry.made_at_us >= since_us;
        let oldest = kept.batches.iter().find(is_of_use).or(kept.batches.back());
        oldest.map(|batch| (batch.entry.epoch, batch.entry.last_sequence))
    }

    /// Adds batches that are on disk, which lead to `end`. Several may add at once, and what one has read may be older than
    /// what another has added since: the log does not go back.
    pub(crate) fn add(&self, made: Vec<Made>, end: FeedState) {
        let mut kept = self.kept();
        let now = self.end();
        if (end.generation, end.sequence) < (now.generation, now.sequence) {
            return;
        }
        let is_new =
            |batch: &Made| end.generation > now.generation || batch.entry.last_sequence > now.sequence;
        for batch in made.into_iter().filter(is_new) {
            let first = batch.entry.first_sequence;
            if kept.batches.back().is_some_and(|last| last.entry.last_sequence + 1 != first) {
                *kept = Kept::default();
            }
            for (sequence, member) in (first..).zip(&batch.changes) {
                self.publications.add(*member, sequence, batch.entry.made_at_us);
            }
            kept.octets += batch.octets.len();
            kept.batches.push_back(batch);
        }
        while kept.batches.len() > KEPT || (kept.octets > KEPT_OCTETS && kept.batches.len() > 1) {
            let Some(oldest) = kept.batches.pop_front() else { break };
            kept.octets -= oldest.octets.len();
        }
        self.metrics.published(end.sequence);
        self.end.send_if_modified(|now| {
            let changed = *now != end;
            *now = end;
            changed
        });
    }

    /// Reads what others have added. With batches missing in memory it goes on from what the database has.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn refresh(&self, connection: &mut Connection) -> sqlx::Result<()> {
        let state = relay::read(connection).await?.ok_or(sqlx::Error::RowNotFound)?;
        let ours = self.end();
        if state == ours {
            return Ok(());
        }
        let mut after = ours.sequence;
        let mut made = Vec::new();
        while state.generation == ours.generation && after < state.sequence {
            let step = read(connection, state.generation, after).await?;
            // Too far behind to be worth it: who needs them reads them.
            let Some(last) = step.last().filter(|_| made.len() < KEPT) else { break };
            after = last.entry.last_sequence;
            made.extend(step);
        }
        made.retain(|batch: &Made| batch.entry.last_sequence <= state.sequence);
        if after < state.sequence || state.generation != ours.generation {
            *self.kept() = Kept::default();
            made.clear();
        }
        self.add(made, state);
        Ok(())
    }

    /// What leads on from a sequence whose chain hash is known: at most so many octets of batches, but one at least.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn after(
        &self,
        connection: impl AsyncFnOnce() -> sqlx::Result<Connection>,
        sequence: u64,
        chain: [u8; 32],
        octets: usize,
    ) -> sqlx::Result<After> {
        let end = self.end();
        if sequence == end.sequence {
            return Ok(if chain == end.chain { After::Batches(Vec::new()) } else { After::Forked });
        }
        if let Some(kept) = self.kept_after(sequence, octets) {
            let follows = kept.first().is_some_and(|first| first.entry.previous_chain == chain);
            return Ok(if follows { After::Batches(kept) } else { After::Forked });
        }
        let mut connection = connection().await?;
        match log::at(&mut connection, sequence).await? {
            Some(entry) if entry.chain != chain => return Ok(After::Forked),
            Some(_) => {}
            // Nothing comes before the first.
            None if sequence == 0 && chain == [0; 32] => {}
            None if log::is_before(&mut connection, sequence).await? => return Ok(After::Forked),
            None => return Ok(After::Gone),
        }
        let made = read(&mut connection, end.generation, sequence).await?;
        let follows = made.first().is_some_and(|first| first.entry.first_sequence == sequence + 1);
        Ok(if follows { After::Batches(made) } else { After::Gone })
    }

    /// All batches behind a sequence that are in memory; `None` where some are not.
    pub(crate) fn in_memory_after(&self, sequence: u64) -> Option<Vec<Made>> {
        self.kept_after(sequence, usize::MAX)
    }

    fn kept_after(&self, sequence: u64, octets: usize) -> Option<Vec<Made>> {
        let kept = self.kept();
        let first = kept.batches.iter().position(|batch| batch.entry.first_sequence == sequence + 1)?;
        let mut sum = 0;
        let fits = |batch: &&Made| {
            let fits = sum == 0 || sum + batch.octets.len() <= octets;
            sum += batch.octets.len().max(1);
            fits
        };
        Some(kept.batches.range(first..).take_while(fits).cloned().collect())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Batches after a sequence, made again; none where change sets of the first are no longer kept, or not as they were.
async fn read(connection: &mut Connection, generation: u64, sequence: u64) -> sqlx::Result<Vec<Made>> {
    let mut made: Vec<Made> = Vec::new();
    let mut octets = 0;
    for entry in log::after(connection, sequence, STEP).await? {
        let stored = log::change_sets(connection, entry.first_sequence, entry.last_sequence).await?;
        let changes = stored.iter().map(|one| Member { id: one.id, withheld: one.withheld }).collect();
        let published = |one: log::Stored| match one.withheld {
            true => batches::without_zones(one.id, one.committed_at_us),
            false => batches::readable(one.id, one.committed_at_us, one.payload),
        };
        let payloads: Vec<Vec<u8>> = stored.into_iter().map(published).collect();
        let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let is_whole = payloads.len() as u64 == entry.last_sequence + 1 - entry.first_sequence;
        let batch = batches::assemble(generation, entry, &payloads, changes);
        if !is_whole || batch.entry.chain != entry.chain {
            tracing::warn!(sequence = entry.last_sequence, "a batch is no longer kept as it was published");
            break;
        }
        octets += batch.octets.len();
        made.push(batch);
        if octets >= KEPT_OCTETS / 4 {
            break;
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::changes::Waiting;

    /// Who has read the database before another has added to the log adds what is behind it.
    #[test]
    fn p8_the_log_does_not_go_back() {
        let start = FeedState { generation: 1, ..FeedState::default() };
        let log = Log::new(start, Arc::default(), Metrics::default());
        let waiting = |n: usize| -> Vec<Waiting> {
            (0..n)
                .map(|_| Waiting {
                    commit_number: 0,
                    id: uuid::Uuid::now_v7(),
                    committed_at_us: 1,
                    payload: Vec::new(),
                    root_change: godwit_wire::feed::Digest::default(),
                    withheld: false,
                })
                .collect()
        };
        let (mut state, all) = (start, waiting(3));
        let mut made = Vec::new();
        let mut states = Vec::new();
        for one in &all {
            made.extend(batches::make(&mut state, std::slice::from_ref(one), 1));
            states.push(state);
        }
        log.add(made.clone(), states[2]);
        log.add(made[..2].to_vec(), states[1]);
        assert_eq!(log.end(), states[2]);
        log.add(made.clone(), states[2]);
        assert_eq!(log.kept_after(0, usize::MAX).map(|kept| kept.len()), Some(3), "nothing is kept twice");
        // They were made at 1: behind who has applied them, they are of use for as long as they are new.
        let oldest = |applied, since_us| log.oldest(applied, since_us).unwrap().1;
        assert_eq!([oldest(0, 2), oldest(2, 2), oldest(2, 1), oldest(9, 2)], [1, 3, 1, 3]);
        let later = FeedState { generation: 2, sequence: 1, ..FeedState::default() };
        log.add(Vec::new(), later);
        assert_eq!(log.end(), later, "but in another history");
    }
}
