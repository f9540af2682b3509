//! Change sets to batches: their sequences, the hash chain, the digest of everything after them.

use bytes::Bytes;
use godwit_wire::feed::{BatchPlace, ChangeSet};
use uuid::Uuid;

use crate::store::changes::Waiting;
use crate::store::log::Entry;
use crate::store::relay::FeedState;

/// The most change sets of a batch.
pub(crate) const MAX_BATCH: usize = 1_000;
/// From so many octets on, a batch takes no further change set.
const BATCH_OCTETS: usize = 4 << 20;

/// A batch as it was made, or made again from what is kept.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// As the log has it.
    pub(crate) entry: Entry,
    /// `wire::feed::Batch`, encoded.
    pub(crate) octets: Bytes,
    /// Its changes, in the order of their sequences.
    pub(crate) changes: Vec<Member>,
}

/// A change of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Member {
    pub(crate) id: Uuid,
    /// What is published of it names no zone.
    pub(crate) withheld: bool,
}

/// Makes batches of change sets that get the next sequences; `state` stands behind the last of them afterwards.
pub(crate) fn make(state: &mut FeedState, waiting: &[Waiting], at_us: i64) -> Vec<Made> {
    let mut made = Vec::new();
    let mut rest = waiting;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(fitting(rest));
        rest = later;
        let payloads: Vec<&[u8]> = now.iter().map(|one| one.payload.as_slice()).collect();
        let entry = Entry {
            first_sequence: state.sequence + 1,
            last_sequence: state.sequence + now.len() as u64,
            epoch: state.epoch,
            previous_chain: state.chain,
            chain: [0; 32],
            made_at_us: at_us,
        };
        let members = now.iter().map(|one| Member { id: one.id, withheld: one.withheld }).collect();
        let batch = assemble(state.generation, entry, &payloads, members);
        state.sequence = batch.entry.last_sequence;
        state.chain = batch.entry.chain;
        for one in now {
            state.root.add(one.root_change);
        }
        made.push(batch);
    }
    made
}

/// How many of them go into one batch; at least one.
fn fitting(waiting: &[Waiting]) -> usize {
    let mut octets = 0;
    let fits = |one: &&Waiting| {
        let fits = octets < BATCH_OCTETS;
        octets += one.payload.len();
        fits
    };
    waiting.iter().take(MAX_BATCH).take_while(fits).count().max(1)
}

/// Puts a batch together; its chain hash is worked out.
pub(crate) fn assemble(generation: u64, entry: Entry, payloads: &[&[u8]], changes: Vec<Member>) -> Made {
    let place = BatchPlace {
        generation,
        epoch: entry.epoch,
        first_sequence: entry.first_sequence,
        previous_chain: entry.previous_chain,
    };
    let mut octets = Vec::new();
    let chain = place.assemble(payloads, None, &mut octets);
    Made { entry: Entry { chain, ..entry }, octets: octets.into(), changes }
}

/// What is published of a stored change set: one that cannot be read hurts the zones that it named and no others. A data
/// plane finds the gap in their versions and fetches them.
pub(crate) fn readable(id: Uuid, committed_at_us: i64, payload: Vec<u8>) -> Vec<u8> {
    match ChangeSet::decode(&payload) {
        Ok(_) => payload,
        Err(error) => {
            tracing::error!(change = %id, %error, "a stored change set cannot be read");
            without_zones(id, committed_at_us)
        }
    }
}

/// What is published of a change set that is withheld.
pub(crate) fn without_zones(id: Uuid, committed_at_us: i64) -> Vec<u8> {
    let mut octets = Vec::new();
    ChangeSet { id: id.into_bytes(), committed_at_us, zones: Vec::new() }.encode(&mut octets);
    octets
}

#[cfg(test)]
mod tests {
    use godwit_wire::feed::{Batch, Digest};

    use super::*;

    fn waiting(octets: usize) -> Waiting {
        let id = Uuid::now_v7();
        let root_change = Digest::from_bytes([1; 32]);
        Waiting {
            commit_number: 0,
            id,
            committed_at_us: 7,
            payload: vec![0; octets],
            root_change,
            withheld: false,
        }
    }

    #[test]
    fn batches_follow_each_other_and_have_a_bound() {
        let mut state = FeedState { generation: 3, epoch: 2, sequence: 9, ..FeedState::default() };
        let all: Vec<Waiting> = (0..2_500)
            .map(|_| {
                let one = waiting(0);
                Waiting { payload: readable(one.id, 7, Vec::new()), ..one }
            })
            .collect();
        let made = make(&mut state, &all, 1);
        let counts: Vec<usize> = made.iter().map(|batch| batch.changes.len()).collect();
        assert_eq!(counts, [1_000, 1_000, 500]);
        let (mut sequence, mut chain) = (9, [0; 32]);
        for batch in &made {
            let read = Batch::decode(&batch.octets).unwrap();
            assert_eq!((read.generation, read.epoch), (3, 2));
            assert_eq!((read.first_sequence, read.previous_chain), (sequence + 1, chain));
            sequence = read.last_sequence();
            chain = read.chain();
            assert_eq!((batch.entry.last_sequence, batch.entry.chain), (sequence, chain));
        }
        assert_eq!((state.sequence, state.chain), (2_509, chain));
        let mut root = Digest::default();
        (0..2_500).for_each(|_| root.add(Digest::from_bytes([1; 32])));
        assert_eq!(state.root, root);
    }

    #[test]
    fn a_large_change_set_is_a_batch_of_its_own() {
        let large = [waiting(BATCH_OCTETS + 1), waiting(BATCH_OCTETS / 2), waiting(BATCH_OCTETS), waiting(1)];
        let made = make(&mut FeedState::default(), &large, 1);
        assert_eq!(made.iter().map(|batch| batch.changes.len()).collect::<Vec<_>>(), [1, 2, 1]);
    }

    #[test]
    fn what_cannot_be_read_is_a_change_set_without_zones() {
        let id = Uuid::now_v7();
        let octets = readable(id, 5, b"damaged".to_vec());
        let read = ChangeSet::decode(&octets).unwrap();
        assert_eq!((read.id, read.committed_at_us, read.zones.len()), (id.into_bytes(), 5, 0));
        assert_eq!(readable(id, 5, octets.clone()), octets);
    }
}
