//! Volume on the query path: parse and answer a great number of packets in one process, with properties that are quick to
//! check. What a coverage-guided fuzzer finds in depth is the corpus; from there this goes wide.
//!
//! Everything follows from one seed: batch number *n* is made from the seed and *n* alone, so the same packets come whatever
//! the number of threads, and a failing batch is made again by its number.
//!
//! - [`mutate`]: packets out of other packets;
//! - [`compose`]: queries out of names, types and options that the zones have something to say to;
//! - [`quick`]: what must hold of each answer;
//! - [`served`]: the same packets over sockets, to the program itself.

mod compose;
mod mutate;
mod quick;
pub mod served;

use std::collections::BTreeMap;
use std::path::Path;

use godwit_engine::answer::{Answerer, Batch, Client, DropReason, Outcome, Settings, Slot};

use crate::{answer, query};

/// Packets that are answered together, as a worker answers what one system call received.
pub const BATCH_PACKETS: usize = 32;
/// One packet in so many is also put to the whole check of the fuzz targets, which reads every record.
const WHOLE_CHECK_EVERY: u64 = 128;
/// The longest packet that is made.
const MAX_PACKET_OCTETS: usize = 1500;
/// Room for one answer, the most there can be.
const OUT_OCTETS: usize = 65_535;

/// SplitMix64: a state of 64 bits, no two seeds with the same stream nearby. (Steele, Lea, Flood 2014.)
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of one batch.
    fn of(seed: u64, batch: u64) -> Self {
        let mut random = Random(seed);
        let mixed = random.next() ^ batch;
        Random(mixed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Whether something happens that happens once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What came of the packets so far.
#[derive(Default)]
pub struct Census {
    /// Packets parsed and answered.
    pub executions: u64,
    /// Octets of all answers.
    pub answered_octets: u64,
    /// By outcome: silence, or the RCODE, and whether TC was set.
    pub outcomes: BTreeMap<(Option<u16>, bool), u64>,
    /// Packets that were put to the whole check too.
    pub checked_whole: u64,
}

impl Census {
    /// Adds what another thread has counted.
    pub fn add(&mut self, other: &Census) {
        self.executions += other.executions;
        self.answered_octets += other.answered_octets;
        self.checked_whole += other.checked_whole;
        for (outcome, count) in &other.outcomes {
            *self.outcomes.entry(*outcome).or_default() += count;
        }
    }
}

/// One thread's part of the work.
pub struct Volume<'c> {
    seed: u64,
    /// Packets to start from, without the octet of settings.
    corpus: &'c [Vec<u8>],
    answerer: Answerer,
    packets: Packets,
    census: Census,
}

/// The packets of one batch and their answers.
struct Packets {
    client: Client,
    packets: [Vec<u8>; BATCH_PACKETS],
    out: Vec<u8>,
    outcomes: [Option<Outcome>; BATCH_PACKETS],
}

impl Batch for Packets {
    fn len(&self) -> usize {
        BATCH_PACKETS
    }

    fn slot(&mut self, index: usize) -> Slot<'_> {
        let from = index * OUT_OCTETS;
        let out = &mut self.out[from..from + OUT_OCTETS];
        Slot { client: self.client, packet: &self.packets[index], out }
    }

    fn done(&mut self, index: usize, outcome: Outcome) {
        assert!(self.outcomes[index].replace(outcome).is_none(), "answered twice");
    }
}

impl<'c> Volume<'c> {
    /// Starts with packets to mutate; there must be one at least.
    #[must_use]
    pub fn new(seed: u64, corpus: &'c [Vec<u8>]) -> Self {
        let (transport, _) = answer::choose(0);
        let packets = Packets {
            client: answer::client(transport),
            packets: std::array::from_fn(|_| Vec::with_capacity(MAX_PACKET_OCTETS)),
            out: vec![0; BATCH_PACKETS * OUT_OCTETS],
            outcomes: [None; BATCH_PACKETS],
        };
        Volume { seed, corpus, answerer: Answerer::new(), packets, census: Census::default() }
    }

    /// What came of the batches so far.
    #[must_use]
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// The packets of the batch that was run last, for a report of what failed.
    pub fn last_packets(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.packets.iter().map(Vec::as_slice)
    }

    /// Makes one batch, answers it, and checks each answer.
    ///
    /// # Panics
    /// When a property does not hold.
    pub fn batch(&mut self, number: u64) {
        let mut random = Random::of(self.seed, number);
        let knobs = make(&mut random, &mut self.packets.packets, self.corpus);
        let (transport, settings) = answer::choose(knobs);
        self.packets.client = answer::client(transport);
        self.packets.outcomes = [None; BATCH_PACKETS];
        self.answerer.answer_batch(answer::snapshot(), &settings, answer::NOW, &mut self.packets);
        self.check(number, knobs, &settings);
    }

    fn check(&mut self, number: u64, knobs: u8, settings: &Settings) {
        let mut whole = Vec::new();
        for (index, outcome) in self.packets.outcomes.iter().enumerate() {
            let outcome = outcome.expect("every packet of a batch comes to something");
            let packet = &self.packets.packets[index];
            let out = &self.packets.out[index * OUT_OCTETS..][..OUT_OCTETS];
            query::run(packet);
            let answer = &out[..outcome.len];
            quick::check(packet, answer, self.packets.client.transport, settings, outcome);
            let rcode = outcome.drop.is_none().then_some(outcome.rcode);
            let truncated = answer.get(2).is_some_and(|flags| flags & 2 != 0);
            *self.census.outcomes.entry((rcode, truncated)).or_default() += 1;
            self.census.executions += 1;
            self.census.answered_octets += outcome.len as u64;
            if (number * BATCH_PACKETS as u64 + index as u64).is_multiple_of(WHOLE_CHECK_EVERY) {
                whole.clear();
                whole.push(knobs);
                whole.extend_from_slice(packet);
                answer::run(&whole);
                self.census.checked_whole += 1;
            }
        }
    }
}

/// Fills a batch with packets; the settings that they meet.
fn make(random: &mut Random, packets: &mut [Vec<u8>; BATCH_PACKETS], corpus: &[Vec<u8>]) -> u8 {
    // Most batches are served: "no data yet" says little about the answers.
    let knobs = random.next() as u8 & if random.once_in(16) { 0xFF } else { 0x7F };
    for packet in packets {
        packet.clear();
        // Most composed queries go as they are, since what does not parse reaches no zone; most others are changed.
        let changes = if random.once_in(4) {
            packet.extend_from_slice(random.pick::<Vec<u8>>(corpus));
            random.below(4)
        } else {
            compose::query(random, packet);
            random.below(8).saturating_sub(5)
        };
        for _ in 0..changes {
            mutate::once(random, packet, corpus);
        }
        packet.truncate(MAX_PACKET_OCTETS);
    }
    knobs
}

/// The packets of the corpora of the two targets on the query path, in the order of their names.
///
/// # Panics
/// When it cannot be read: it is committed beside this crate.
#[must_use]
pub fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let mut packets = Vec::new();
    // In the corpus of `answer` an octet of settings stands in front.
    for (target, skip) in [("answer", 1), ("query", 0)] {
        let entries = std::fs::read_dir(folder.join(target)).expect("the corpus is there");
        let mut paths: Vec<_> =
            entries.map(|entry| entry.expect("the corpus can be listed").path()).collect();
        paths.sort();
        for path in paths {
            let octets = std::fs::read(&path).expect("the corpus can be read");
            packets.push(octets[skip.min(octets.len())..].to_vec());
        }
    }
    packets
}

/// What is said of a packet that got no answer.
fn expected_drop(packet: &[u8]) -> Option<DropReason> {
    match packet {
        [_, _, flags, ..] if packet.len() >= 12 => (flags & 0x80 != 0).then_some(DropReason::Response),
        _ => Some(DropReason::Short),
    }
}
