//! Whether a batch is the one that comes next: generation, epoch, sequence and hash chain (P8).

use godwit_engine::snapshot::Position;
use godwit_wire::feed::Batch;

/// What a batch is to us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The next one.
    Next,
    /// All of it is behind us.
    Repeated,
    /// It comes from a history, or a term of a relay, that has been left behind. It changes nothing.
    Stale,
    /// It is ahead of us, or of another chain: something between is missing.
    Gap,
}

/// Where `batch` stands as seen from `position`.
#[must_use]
pub fn of(batch: &Batch, position: &Position) -> Place {
    if batch.generation < position.generation {
        return Place::Stale;
    }
    // The first batch there ever was, for who holds nothing.
    if *position == Position::default() && batch.first_sequence == 1 && batch.previous_chain == [0; 32] {
        return Place::Next;
    }
    if batch.generation > position.generation {
        // Only an operator starts a new history; it continues above the highest sequence ever reported.
        return if batch.first_sequence > position.sequence { Place::Gap } else { Place::Stale };
    }
    if batch.last_sequence() <= position.sequence {
        return Place::Repeated;
    }
    if batch.epoch < position.epoch {
        return Place::Stale;
    }
    let follows = batch.first_sequence == position.sequence.saturating_add(1);
    if follows && batch.previous_chain == position.chain { Place::Next } else { Place::Gap }
}

/// The position after a batch.
#[must_use]
pub fn after(batch: &Batch) -> Position {
    Position {
        generation: batch.generation,
        epoch: batch.epoch,
        sequence: batch.last_sequence(),
        chain: batch.chain(),
    }
}

#[cfg(test)]
mod tests {
    use godwit_wire::feed::ChangeSet;

    use super::*;

    fn batch(
        generation: u64,
        epoch: u64,
        first_sequence: u64,
        count: usize,
        previous_chain: [u8; 32],
    ) -> Batch {
        let change_set = ChangeSet { id: [0; 16], committed_at_us: 0, zones: Vec::new() };
        Batch { generation, epoch, first_sequence, previous_chain, change_sets: vec![change_set; count] }
    }

    #[test]
    fn p8_old_never_overwrites_new() {
        let position = Position { generation: 2, epoch: 5, sequence: 10, chain: [7; 32] };
        for (row, batch, expected) in [
            ("the next", batch(2, 5, 11, 3, [7; 32]), Place::Next),
            ("the next, of a new term", batch(2, 6, 11, 3, [7; 32]), Place::Next),
            ("of a deposed relay", batch(2, 4, 11, 3, [7; 32]), Place::Stale),
            ("sent twice", batch(2, 5, 9, 2, [1; 32]), Place::Repeated),
            ("half of it new", batch(2, 5, 10, 2, [1; 32]), Place::Gap),
            ("one missing", batch(2, 5, 12, 1, [7; 32]), Place::Gap),
            ("another chain", batch(2, 5, 11, 1, [8; 32]), Place::Gap),
            ("an older history, further on", batch(1, 9, 11, 1, [7; 32]), Place::Stale),
            ("a new history", batch(3, 1, 11, 1, [0; 32]), Place::Gap),
            ("a new history that counts from the start", batch(3, 1, 1, 1, [0; 32]), Place::Stale),
        ] {
            assert_eq!(of(&batch, &position), expected, "{row}");
        }
    }

    #[test]
    fn positions_follow_each_other() {
        let first = batch(1, 1, 1, 4, [0; 32]);
        let position = after(&first);
        assert_eq!(position.sequence, 4);
        assert_eq!(of(&batch(1, 1, 5, 1, first.chain()), &position), Place::Next);
        assert_eq!(of(&first, &Position { generation: 1, ..Position::default() }), Place::Next);
        assert_eq!(of(&first, &Position::default()), Place::Next);
        assert_eq!(of(&batch(1, 1, 2, 1, first.chain()), &Position::default()), Place::Gap);
    }
}
