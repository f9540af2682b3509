//! How to go on from where a data plane stands.

use godwit_wire::feed::ChangeSet;

use super::{Applied, Outgoing, Relay, RelayError};
use crate::store::relay::FeedState;
use crate::store::{changes, now_us};

/// What leads from a data plane's position to ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// It has all that was published.
    Level,
    /// It has more than was written down: the process died between publishing and noting it. The outbox is in commit
    /// order and was published in that order, so the first so many unpublished changes are what it has.
    NoteFirst(u64),
    /// It lacks what came after its position.
    SendAfter(u64),
    /// It follows no history, or another one.
    SendAll,
}

fn way(state: &FeedState, applied: &Applied, unpublished: u64) -> Way {
    if applied.generation != state.generation || applied.epoch > state.epoch {
        return Way::SendAll;
    }
    match applied.sequence.checked_sub(state.sequence) {
        Some(0) if applied.chain == state.chain => Way::Level,
        Some(0) => Way::SendAll,
        Some(ahead) if ahead <= unpublished => Way::NoteFirst(ahead),
        Some(_) => Way::SendAll,
        None if applied.sequence == 0 => Way::SendAll,
        None => Way::SendAfter(applied.sequence),
    }
}

impl Relay {
    /// Brings the data plane to where the database stands.
    pub(crate) async fn resume(&mut self) -> Result<(), RelayError> {
        let applied = *self.sink.applied.borrow_and_update();
        self.resyncs = applied.resyncs;
        let mut connection = self.readers.acquire().await?;
        let waiting = changes::unpublished_count(&mut connection).await?;
        drop(connection);
        self.metrics.outbox_at_start(waiting);
        let way = way(&self.state, &applied, u64::try_from(waiting).unwrap_or(0));
        tracing::info!(
            generation = self.state.generation,
            epoch = self.state.epoch,
            sequence = self.state.sequence,
            applied = applied.sequence,
            waiting,
            ?way,
            "the relay starts"
        );
        match way {
            Way::Level => {}
            Way::NoteFirst(count) => self.note_first(count, &applied).await?,
            Way::SendAfter(sequence) => {
                if !self.send_after(sequence, &applied).await? {
                    self.replay().await?;
                }
            }
            Way::SendAll => {
                // Above whatever the data plane has seen in this history.
                if applied.generation == self.state.generation {
                    self.state.sequence = self.state.sequence.max(applied.sequence);
                }
                self.replay().await?;
            }
        }
        self.catch_up().await
    }

    async fn note_first(&mut self, count: u64, applied: &Applied) -> Result<(), RelayError> {
        let mut connection = self.readers.acquire().await?;
        let limit = i64::try_from(count).unwrap_or(i64::MAX);
        let rows = changes::unpublished(&mut connection, 0, limit).await?;
        drop(connection);
        let at_us = now_us();
        let mut marks = Vec::with_capacity(rows.len());
        for (sequence, row) in (self.state.sequence + 1..).zip(&rows) {
            self.last_commit = row.number;
            self.progress.published(row.id, sequence, at_us);
            marks.push((row.number, sequence));
        }
        self.state.sequence = applied.sequence;
        self.state.chain = applied.chain;
        self.metrics.published(marks.len(), applied.sequence);
        self.notes.note(crate::commit::Publications {
            marks,
            at_us,
            state: self.state,
            applied: applied.sequence,
        });
        Ok(())
    }

    /// Sends again what came after a sequence. Whether that was possible: not when some of it is no longer kept.
    async fn send_after(&mut self, sequence: u64, applied: &Applied) -> Result<bool, RelayError> {
        let target = self.state.sequence;
        let mut connection = self.readers.acquire().await?;
        let mut again = Vec::new();
        let mut last = sequence;
        while last < target {
            let rows = changes::published_after(&mut connection, last, super::OUTBOX_STEP).await?;
            for row in &rows {
                let contiguous = u64::try_from(row.number) == Ok(last + 1);
                let Some(change_set) = ChangeSet::decode(&row.payload).ok().filter(|_| contiguous) else {
                    return Ok(false);
                };
                last += 1;
                again.push(Outgoing { change_set, commit_number: None, published: None });
            }
            // More than this is quicker sent as zones.
            if rows.is_empty() || again.len() > super::HANDOVER * 4 {
                return Ok(false);
            }
        }
        drop(connection);
        self.state.sequence = sequence;
        self.state.chain = applied.chain;
        self.send(again).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_on_follows_from_the_positions() {
        let state = FeedState { generation: 7, epoch: 3, sequence: 10, chain: [1; 32] };
        let at = |sequence, chain| Applied { generation: 7, epoch: 2, sequence, chain, resyncs: 0 };
        for (row, applied, unpublished, expected) in [
            ("level", at(10, [1; 32]), 0, Way::Level),
            ("forked", at(10, [2; 32]), 0, Way::SendAll),
            ("behind", at(4, [2; 32]), 0, Way::SendAfter(4)),
            ("empty", Applied::default(), 5, Way::SendAll),
            ("empty of this history", at(0, [0; 32]), 5, Way::SendAll),
            ("ahead by what was not noted", at(12, [2; 32]), 2, Way::NoteFirst(2)),
            ("ahead by more than there is", at(13, [2; 32]), 2, Way::SendAll),
            ("another history", Applied { generation: 6, ..at(10, [1; 32]) }, 0, Way::SendAll),
            ("a later term", Applied { epoch: 4, ..at(10, [1; 32]) }, 0, Way::SendAll),
        ] {
            assert_eq!(way(&state, &applied, unpublished), expected, "{row}");
        }
    }
}
