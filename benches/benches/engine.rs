//! The whole engine: queries answered, RRsets changed, memory taken; each against the measure that its goal names.
//!
//! `cargo bench -p godwit-benches --bench engine`; `NAMES` and `LONG` choose sizes. Queries are in mixed case with EDNS,
//! drawn from as many distinct names as there are up to a million. Hits and, apart, half of them names that do not exist.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use godwit_benches::counting::{Counting, in_use_octets};
use godwit_benches::entry::{ByName, Entry};
use godwit_benches::names::{generator, name};
use godwit_benches::rounds::{self, Candidate};
use godwit_engine::answer::{Answerer, Batch, Client, Outcome, Settings, Slot, Transport};
use godwit_engine::snapshot::{Snapshot, SnapshotOptions, ZoneLoader};
use godwit_wire::feed::digest::DigestKey;
use godwit_wire::feed::{ChangeSet, OwnedRrset, RrsetChange, ZoneChange, ZoneChangeKind};
use godwit_wire::name::{Name, NameRef};
use godwit_wire::rr::{Rrset, Rtype};
use rand::RngExt;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const QUERIES: usize = 1 << 20;
const ROUND: usize = 1 << 15;
const ROUNDS: usize = 31;
const CHANGES: usize = 1 << 10;
const BATCH: usize = 64;
const PACKET_OCTETS: usize = 96;
const OUT_OCTETS: usize = 1232;
const IN_CACHE: usize = 4096;

fn apex() -> Name {
    "example.".parse().expect("a name")
}

fn address(number: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = number.to_le_bytes();
    [a, b, c, d]
}

fn snapshot(names: usize) -> Snapshot {
    let mut loader = ZoneLoader::new(apex(), 0);
    let soa = [&b"\x02ns\x07example\0\x04host\x07example\0"[..], &[0, 0, 0, 60].repeat(5)].concat();
    let record = |loader: &mut ZoneLoader, owner: &[u8], rtype, rdata: &[u8]| {
        loader.record(NameRef::from_wire(owner).expect("a name"), rtype, 300, rdata, 0).expect("a record");
    };
    record(&mut loader, apex().as_wire(), Rtype::SOA, &soa);
    record(&mut loader, apex().as_wire(), Rtype::NS, b"\x02ns\x07example\0");
    for number in 0..names as u64 {
        record(&mut loader, &name(number), Rtype::A, &address(number));
    }
    let options = SnapshotOptions { hash_key: *b"a key of 16 oct.", digest_key: DigestKey([7; 32]) };
    Snapshot::empty(&options).replace_zones(vec![loader.finish().expect("a zone")])
}

/// Packets of one size, so that they stand as in a receive buffer.
struct Packets {
    octets: Vec<u8>,
    lengths: Vec<u8>,
    /// The names in lower case, for the flat table.
    names: Vec<u8>,
}

impl Packets {
    fn random(count: usize, names: usize, misses: bool) -> Self {
        let mut random = generator(3);
        let mut packets = Packets {
            octets: vec![0; count * PACKET_OCTETS],
            lengths: Vec::new(),
            names: vec![0; count * 64],
        };
        for at in 0..count {
            let number = random.random_range(0..names as u64);
            let number = if misses && at % 2 == 1 { number + (1 << 39) } else { number };
            let mut qname = name(number);
            packets.names[at * 64] = u8::try_from(qname.len()).expect("short");
            packets.names[at * 64 + 1..][..qname.len()].copy_from_slice(&qname);
            for octet in &mut qname[1..] {
                if random.random_range(0..2) == 1 {
                    octet.make_ascii_uppercase();
                }
            }
            let mut packet = vec![at.to_le_bytes()[0], at.to_le_bytes()[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
            packet.extend_from_slice(&qname);
            packet.extend_from_slice(&[0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
            packets.octets[at * PACKET_OCTETS..][..packet.len()].copy_from_slice(&packet);
            packets.lengths.push(u8::try_from(packet.len()).expect("short"));
        }
        packets
    }
}

struct Received<'p> {
    packets: &'p Packets,
    from: usize,
    out: &'p mut [u8],
    answers: usize,
    octets: usize,
}

impl Batch for Received<'_> {
    fn len(&self) -> usize {
        BATCH
    }

    fn slot(&mut self, index: usize) -> Slot<'_> {
        let at = self.from + index;
        Slot {
            client: Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), transport: Transport::Udp },
            packet: &self.packets.octets[at * PACKET_OCTETS..][..usize::from(self.packets.lengths[at])],
            out: &mut self.out[index * OUT_OCTETS..][..OUT_OCTETS],
        }
    }

    fn done(&mut self, _index: usize, outcome: Outcome) {
        self.answers += usize::from(outcome.drop.is_none());
        self.octets += outcome.len;
    }
}

fn answer(
    snapshot: &Snapshot,
    answerer: &mut Answerer,
    packets: &Packets,
    out: &mut [u8],
    start: usize,
) -> usize {
    let settings = Settings::default();
    let mut octets = 0;
    for from in (start..start + ROUND).step_by(BATCH) {
        let mut received = Received { packets, from, out, answers: 0, octets: 0 };
        answerer.answer_batch(snapshot, &settings, 0, &mut received);
        assert_eq!(received.answers, BATCH);
        octets += received.octets;
    }
    black_box(octets);
    ROUND
}

fn change(number: u64, version: u64) -> ChangeSet {
    let owner = Name::from_wire(&name(number)).expect("a name");
    let rrset = Rrset::new(Rtype::A, 60, vec![address(number ^ version).into()], vec![]);
    ChangeSet {
        id: [0; 16],
        committed_at_us: 0,
        zones: vec![ZoneChange {
            zone: apex(),
            owner: 0,
            base_version: version,
            version: version + 1,
            kind: ZoneChangeKind::Update(vec![RrsetChange::Put(OwnedRrset { owner, rrset })]),
        }],
    }
}

fn start(round: usize) -> usize {
    round * ROUND % QUERIES
}

fn main() {
    let mut met = true;
    for names in rounds::sizes() {
        let before = in_use_octets();
        let snapshot = snapshot(names);
        let wire: usize = (0..names as u64).map(|number| name(number).len() + 14).sum();
        #[expect(clippy::cast_precision_loss, reason = "sizes stay far below 2^52")]
        let over = (in_use_octets() - before - wire) as f64 / names as f64;
        println!("\n{names} names: {over:.0} octets a name over the records' own wire octets");
        if names == 1_000_000 {
            println!("  goal: <= 140: {}", if over <= 140.0 { "met" } else { "MISSED" });
            met &= over <= 140.0;
        }
        let mut flat: hashbrown::HashMap<ByName, ()> = hashbrown::HashMap::with_capacity(names);
        for number in 0..names as u64 {
            flat.insert(ByName(Entry::new(&name(number), 1)), ());
        }
        let hits = Packets::random(QUERIES, names, false);
        let halves = Packets::random(QUERIES, names, true);
        let few = Packets::random(QUERIES, IN_CACHE, false);
        let mut answerer = Answerer::new();
        let (mut second, mut third) = (Answerer::new(), Answerer::new());
        let mut outs = vec![vec![0; BATCH * OUT_OCTETS]; 3];
        let [first_out, second_out, third_out] = outs.as_mut_slice() else { unreachable!("three") };
        let medians = rounds::run(
            ROUNDS,
            vec![
                Candidate::new("hashbrown, look-up alone", |round| {
                    let mut sum = 0usize;
                    for at in start(round)..start(round) + ROUND {
                        let octets = &hits.names[at * 64..];
                        let key = &octets[1..=usize::from(octets[0])];
                        sum += flat.get_key_value(key).map_or(0, |(entry, ())| usize::from(entry.0.data()));
                    }
                    black_box(sum);
                    ROUND
                }),
                Candidate::new("answered, hits", |round| {
                    answer(&snapshot, &mut answerer, &hits, first_out, start(round))
                }),
                Candidate::new("answered, half NXDOMAIN", |round| {
                    answer(&snapshot, &mut second, &halves, second_out, start(round))
                }),
                Candidate::new("answered, 4096 names", |round| {
                    answer(&snapshot, &mut third, &few, third_out, start(round))
                }),
            ],
        );
        let flat_name = "hashbrown, look-up alone";
        medians.print(&format!("{names} names: parse, look up, compose"), flat_name);
        met &= medians.goal("answered, hits", flat_name, 1.6);
        if names == 1_000_000 {
            met &= medians.goal("answered, 4096 names", flat_name, 1.0);
        }
        drop((flat, hits, halves, few));
        met &= changes(names, snapshot);
    }
    if !met {
        println!("\nA goal was missed.");
    }
}

/// One RRset changed, digest and image included, against one key of a persistent hash map.
fn changes(names: usize, mut snapshot: Snapshot) -> bool {
    let mut map: imbl::HashMap<Vec<u8>, u64> =
        (0..names as u64).map(|number| (name(number), number)).collect();
    let mut random = generator(5);
    let numbers: Vec<u64> =
        (0..CHANGES * (ROUNDS + 1)).map(|_| random.random_range(0..names as u64)).collect();
    let mut version = 1;
    let medians = rounds::run(
        ROUNDS,
        vec![
            Candidate::new("imbl::HashMap, one key", |round| {
                for &number in &numbers[round * CHANGES..][..CHANGES] {
                    map = map.update(name(number), number ^ 1);
                }
                CHANGES
            }),
            Candidate::new("one RRset changed", |round| {
                for &number in &numbers[round * CHANGES..][..CHANGES] {
                    snapshot = snapshot.apply(&change(number, version)).expect("a change");
                    version += 1;
                }
                CHANGES
            }),
        ],
    );
    medians
        .print(&format!("{names} names: one change, the snapshot before dropped"), "imbl::HashMap, one key");
    medians.goal("one RRset changed", "imbl::HashMap, one key", 2.5)
}
