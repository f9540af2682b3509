//! Whether what comes is newer than what was seen: generation, epoch, sequence and hash chain (P8).

use godwit_engine::snapshot::Position;
use godwit_wire::feed::{Batch, IndexPlace};

/// What a batch is to us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The next one.
    Next,
    /// All of it is behind us.
    Repeated,
    /// It comes from a history, or a term of a relay, that has been left behind. It changes nothing.
    Stale,
    /// It is ahead of us: something between is missing.
    Gap,
    /// It would be the next one, but of another chain: there are two histories.
    Fork,
}

/// Up to where earlier terms can have published: to where the latest term that was seen first spoke. What goes on from
/// there comes from a relay that was deposed, even if whoever carries it has forgotten the later term.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fence {
    epoch: u64,
    sequence: u64,
    chain: [u8; 32],
}

impl Fence {
    /// As far as a position says.
    #[must_use]
    pub fn at(position: &Position) -> Self {
        Fence { epoch: position.epoch, sequence: position.sequence, chain: position.chain }
    }

    /// Whether what ends there is of a term that had ended before.
    #[must_use]
    pub fn refuses(&self, epoch: u64, sequence: u64, chain: &[u8; 32]) -> bool {
        let within = sequence < self.sequence || (sequence == self.sequence && *chain == self.chain);
        epoch < self.epoch && !within
    }

    /// Takes note of what is not refused: of a later term, or of the same term further back.
    pub fn see(&mut self, epoch: u64, sequence: u64, chain: [u8; 32]) {
        if epoch > self.epoch || (epoch == self.epoch && sequence < self.sequence) {
            *self = Fence { epoch, sequence, chain };
        }
    }

    /// The latest term that is known to have begun by a sequence, at which something of `epoch` ends.
    #[must_use]
    pub fn epoch_at(&self, epoch: u64, sequence: u64) -> u64 {
        if self.sequence <= sequence { self.epoch.max(epoch) } else { epoch }
    }
}

/// Where a batch, which ends with `chain`, stands as seen from `position`.
#[must_use]
pub fn of(batch: &Batch, chain: &[u8; 32], position: &Position, fence: &Fence) -> Place {
    if batch.generation < position.generation {
        return Place::Stale;
    }
    if batch.generation > position.generation {
        // Only an operator starts a new history. What it holds is seen in its index.
        return Place::Gap;
    }
    if batch.last_sequence() <= position.sequence {
        return Place::Repeated;
    }
    if fence.refuses(batch.epoch, batch.last_sequence(), chain) {
        return Place::Stale;
    }
    if batch.first_sequence != position.sequence.saturating_add(1) {
        return Place::Gap;
    }
    if batch.previous_chain == position.chain { Place::Next } else { Place::Fork }
}

/// Whether an index is older than what is held at `position`: nobody moves back (P8).
#[must_use]
pub fn is_behind(index: &IndexPlace, position: &Position, fence: &Fence) -> bool {
    if index.generation != position.generation {
        return index.generation < position.generation;
    }
    index.sequence < position.sequence || fence.refuses(index.epoch, index.sequence, &index.chain)
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
        let fence = Fence::at(&position);
        for (row, batch, expected) in [
            ("the next", batch(2, 5, 11, 3, [7; 32]), Place::Next),
            ("the next, of a new term", batch(2, 6, 11, 3, [7; 32]), Place::Next),
            ("of a deposed relay", batch(2, 4, 11, 3, [7; 32]), Place::Stale),
            ("sent twice", batch(2, 5, 9, 2, [1; 32]), Place::Repeated),
            ("half of it new", batch(2, 5, 10, 2, [1; 32]), Place::Gap),
            ("one missing", batch(2, 5, 12, 1, [7; 32]), Place::Gap),
            ("another chain", batch(2, 5, 11, 1, [8; 32]), Place::Fork),
            ("an older history, further on", batch(1, 9, 11, 1, [7; 32]), Place::Stale),
            ("a new history", batch(3, 1, 11, 1, [0; 32]), Place::Gap),
        ] {
            assert_eq!(of(&batch, &batch.chain(), &position, &fence), expected, "{row}");
        }
    }

    #[test]
    fn p8_a_term_that_was_heard_of_fences_off_those_before() {
        let position = Position { generation: 2, epoch: 5, sequence: 10, chain: [7; 32] };
        let mut fence = Fence::at(&position);
        // A relay that has taken over says where the feed stands: two batches further than we do.
        let eleven = batch(2, 5, 11, 1, [7; 32]);
        let twelve = batch(2, 5, 12, 1, eleven.chain());
        fence.see(6, 12, twelve.chain());
        assert_eq!((fence.epoch_at(5, 11), fence.epoch_at(5, 12)), (5, 6));
        let place = |batch: &Batch, position: &Position| of(batch, &batch.chain(), position, &fence);
        assert_eq!(place(&eleven, &position), Place::Next, "made before");
        let at_eleven = Position { sequence: 11, chain: eleven.chain(), ..position };
        assert_eq!(place(&twelve, &at_eleven), Place::Next, "the last one made before");
        assert_eq!(place(&batch(2, 5, 12, 1, [3; 32]), &at_eleven), Place::Stale, "another in its place");
        assert_eq!(place(&batch(2, 5, 12, 2, eleven.chain()), &at_eleven), Place::Stale, "and beyond it");
        // It turns out that it had taken over earlier.
        let mut earlier = fence;
        earlier.see(6, 10, position.chain);
        assert_eq!(of(&eleven, &eleven.chain(), &position, &earlier), Place::Stale);
        let index =
            |epoch, sequence, chain| IndexPlace { generation: 2, epoch, sequence, chain, settled: sequence };
        for (row, index, expected) in [
            ("where that relay began", index(5, 12, twelve.chain()), false),
            ("of its own", index(6, 13, [1; 32]), false),
            ("of one before, further on", index(5, 13, [1; 32]), true),
            ("before us", index(6, 9, [1; 32]), true),
        ] {
            assert_eq!(is_behind(&index, &position, &fence), expected, "{row}");
        }
        assert!(!is_behind(&IndexPlace { generation: 3, ..index(0, 0, [0; 32]) }, &position, &fence));
        assert!(is_behind(&IndexPlace { generation: 1, ..index(9, 99, [0; 32]) }, &position, &fence));
    }
}
