//! Look-ups by name: the index in stages and one by one, against one flat `hashbrown` table with foldhash.
//!
//! `cargo bench -p godwit-benches --bench lookup`; `NAMES` and `LONG` choose sizes, `DETAIL=1` adds criterion's own
//! report. The flat table can hold no snapshot; it is the floor of what code without stages can reach.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use godwit_benches::counting::Counting;
use godwit_benches::entry::{ByName, Entry};
use godwit_benches::names::{Queries, generator, name};
use godwit_benches::rounds::{self, Candidate};
use godwit_engine::snapshot::index::{Index, Place};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Query names drawn, a part of which is asked in each round.
const QUERIES: usize = 1 << 20;
/// Query names of a round.
const ROUND: usize = 1 << 11;
const ROUNDS: usize = 1023;
/// Few enough names for everything to stay in the first two cache levels.
const IN_CACHE: usize = 1_000;

type Flat = hashbrown::HashMap<ByName, ()>;

struct Setup {
    index: Index<Entry>,
    flat: Flat,
    queries: Queries,
}

impl Setup {
    fn new(names: usize) -> Self {
        let mut index = Index::with_capacity(*b"a key of 16 oct.", names);
        let mut flat = Flat::with_capacity(names);
        for number in 0..names as u64 {
            let entry = Entry::new(&name(number), 1);
            index.insert(entry.clone());
            flat.insert(ByName(entry), ());
        }
        assert_eq!(index.len(), names, "names are distinct");
        assert_eq!(index.overflow_count(), 0);
        let queries = Queries::random(QUERIES, names as u64, &mut generator(1));
        Setup { index, flat, queries }
    }

    fn flat(&self, start: usize, count: usize) -> usize {
        let mut sum = 0usize;
        for query in self.queries.from(start, count) {
            sum += self.flat.get_key_value(query).map_or(0, |(entry, ())| usize::from(entry.0.data()));
        }
        check(sum, count)
    }

    fn one_by_one(&self, start: usize, count: usize) -> usize {
        let mut sum = 0usize;
        for query in self.queries.from(start, count) {
            sum += self.index.get(query).map_or(0, |entry| usize::from(entry.data()));
        }
        check(sum, count)
    }

    fn staged<const BATCH: usize>(&self, start: usize, count: usize) -> usize {
        let mut sum = 0usize;
        let mut places = [Place::default(); BATCH];
        for batch in (start..start + count).step_by(BATCH) {
            let queries = self.queries.from(batch, BATCH);
            for (place, query) in places.iter_mut().zip(queries.clone()) {
                *place = self.index.place(self.index.hash(query));
            }
            places.iter().for_each(Place::prefetch_page);
            places.iter_mut().for_each(Place::prefetch_entry);
            for (place, query) in places.iter().zip(queries) {
                sum += place.get(query).map_or(0, |entry| usize::from(entry.data()));
            }
        }
        check(sum, count)
    }
}

/// Every query must have found its entry.
fn check(sum: usize, count: usize) -> usize {
    assert_eq!(black_box(sum), count, "a look-up found nothing");
    count
}

/// Where the queries of a round start: elsewhere for each candidate, so that none finds an entry in the cache because
/// another has just been there.
fn start_of(round: usize, candidate: usize) -> usize {
    (round * ROUND + candidate * (QUERIES / 4)) % QUERIES
}

fn summary(names: usize) {
    let setup = Setup::new(names);
    let small = Setup::new(IN_CACHE);
    let medians = rounds::run(
        ROUNDS,
        vec![
            Candidate::new("hashbrown, foldhash", |round| setup.flat(start_of(round, 0), ROUND)),
            Candidate::new("index, SipHash, one by one", |round| setup.one_by_one(start_of(round, 1), ROUND)),
            Candidate::new("index, SipHash, staged by 32", |round| {
                setup.staged::<32>(start_of(round, 2), ROUND)
            }),
            Candidate::new("index, SipHash, staged by 64", |round| {
                setup.staged::<64>(start_of(round, 3), ROUND)
            }),
            Candidate::new("in cache: hashbrown, foldhash", |round| small.flat(start_of(round, 0), ROUND)),
            Candidate::new("in cache: index, one by one", |round| {
                small.one_by_one(start_of(round, 0), ROUND)
            }),
            Candidate::new("in cache: index, staged by 64", |round| {
                small.staged::<64>(start_of(round, 0), ROUND)
            }),
        ],
    );
    medians.print(&format!("look-up, {names} names, all hits, random"), "hashbrown, foldhash");
    medians.goal("index, SipHash, staged by 64", "hashbrown, foldhash", 0.8);
}

fn detail(names: usize) {
    let setup = Setup::new(names);
    let mut criterion = Criterion::default().measurement_time(Duration::from_secs(5)).sample_size(20);
    let mut group = criterion.benchmark_group(format!("lookup/{names}"));
    group.throughput(Throughput::Elements(ROUND as u64));
    group.bench_function("hashbrown", |b| b.iter(|| setup.flat(0, ROUND)));
    group.bench_function("one by one", |b| b.iter(|| setup.one_by_one(0, ROUND)));
    group.bench_function("staged by 64", |b| b.iter(|| setup.staged::<64>(0, ROUND)));
    group.finish();
    criterion.final_summary();
}

fn main() {
    for names in rounds::sizes() {
        summary(names);
        if std::env::var_os("DETAIL").is_some() {
            detail(names);
        }
    }
}
