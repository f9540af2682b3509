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
    /// It follows no history, an earlier one, or was left in the middle of being sent everything.
    SendAll,
    /// It has what this database never knew (a restored copy): sending would move it back (P8).
    Stop,
}

/// `known` is the last sequence that the database can account for, `unpublished` how many changes have none.
fn way(state: &FeedState, applied: &Applied, known: u64, unpublished: u64) -> Way {
    if applied.generation > state.generation || state.diverged {
        return Way::Stop;
    }
    if applied.generation < state.generation || applied.sequence == 0 {
        return Way::SendAll;
    }
    if applied.epoch > state.epoch {
        return Way::Stop;
    }
    let way = match applied.sequence.checked_sub(known) {
        Some(0) if applied.chain == state.chain || known != state.sequence => Way::Level,
        Some(0) => Way::SendAll,
        Some(_) if applied.sequence <= state.reserved => Way::SendAll,
        Some(ahead) if ahead <= unpublished => Way::NoteFirst(ahead),
        Some(_) => Way::Stop,
        None => Way::SendAfter(applied.sequence),
    };
    // What it asked for while nobody published is not asked for again.
    if applied.awaits_everything && way != Way::Stop { Way::SendAll } else { way }
}

impl Relay {
    /// Brings the data plane to where the database stands.
    pub(crate) async fn resume(&mut self) -> Result<(), RelayError> {
        let applied = self.sink.applied.borrow_and_update().clone();
        self.resyncs = applied.resyncs;
        let mut connection = self.readers.acquire().await?;
        let waiting = changes::unpublished_count(&mut connection).await?;
        // Above the state's own where a process died while it was sending again what was sent before.
        let known = changes::last_sequence(&mut connection).await?.max(self.state.sequence);
        drop(connection);
        self.metrics.outbox_at_start(waiting);
        let way = way(&self.state, &applied, known, u64::try_from(waiting).unwrap_or(0));
        tracing::info!(
            generation = self.state.generation,
            epoch = self.state.epoch,
            sequence = known,
            applied = applied.sequence,
            waiting,
            ?way,
            "the relay starts"
        );
        if way != Way::Stop {
            self.state.sequence = known;
        }
        match way {
            Way::Level => self.state.chain = applied.chain,
            Way::NoteFirst(count) => self.note_first(count, &applied).await?,
            Way::SendAfter(sequence) => {
                if !self.send_after(sequence, &applied).await? {
                    self.replay().await?;
                }
            }
            Way::SendAll => {
                // Above whatever the data plane has seen, in this history or another.
                self.state.sequence = known.max(applied.sequence);
                self.replay().await?;
            }
            Way::Stop => {
                // Kept, as changes that are accepted from now on would make the next start believe otherwise.
                self.state.diverged = true;
                self.write_down().await?;
                return Err(RelayError::Diverged { applied: applied.sequence, known });
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
            written: None,
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
        let state =
            FeedState { generation: 7, epoch: 3, sequence: 10, chain: [1; 32], reserved: 0, diverged: false };
        let at = |sequence, chain| Applied { generation: 7, epoch: 2, sequence, chain, ..Applied::default() };
        for (row, applied, known, unpublished, expected) in [
            ("level", at(10, [1; 32]), 10, 0, Way::Level),
            ("forked", at(10, [2; 32]), 10, 0, Way::SendAll),
            ("level with what was sent again", at(12, [2; 32]), 12, 0, Way::Level),
            ("behind", at(4, [2; 32]), 10, 0, Way::SendAfter(4)),
            ("empty", Applied::default(), 10, 5, Way::SendAll),
            ("empty of this history", at(0, [0; 32]), 10, 5, Way::SendAll),
            ("ahead by what was not noted", at(12, [2; 32]), 10, 2, Way::NoteFirst(2)),
            ("ahead by more than there is", at(13, [2; 32]), 10, 2, Way::Stop),
            ("waiting", Applied { awaits_everything: true, ..at(10, [1; 32]) }, 10, 0, Way::SendAll),
            ("waiting, ahead", Applied { awaits_everything: true, ..at(12, [2; 32]) }, 10, 2, Way::SendAll),
            ("waiting, too far", Applied { awaits_everything: true, ..at(13, [2; 32]) }, 10, 2, Way::Stop),
            ("an earlier history", Applied { generation: 6, ..at(99, [1; 32]) }, 10, 0, Way::SendAll),
            ("a later history", Applied { generation: 8, ..at(1, [1; 32]) }, 10, 0, Way::Stop),
            ("a later term", Applied { epoch: 4, ..at(10, [1; 32]) }, 10, 0, Way::Stop),
        ] {
            assert_eq!(way(&state, &applied, known, unpublished), expected, "{row}");
        }
        let reserved = FeedState { reserved: 20, ..state };
        assert_eq!(way(&reserved, &at(20, [2; 32]), 10, 0), Way::SendAll);
        assert_eq!(way(&reserved, &at(21, [2; 32]), 10, 0), Way::Stop);
        let diverged = FeedState { diverged: true, ..state };
        assert_eq!(way(&diverged, &at(10, [1; 32]), 10, 9), Way::Stop);
    }
}
