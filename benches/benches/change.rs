//! One entry replaced, published and the old version dropped: index and ordered set, against `imbl::HashMap`.
//! Also what an entry costs in memory, counted by the allocator.
//!
//! `cargo bench -p godwit-benches --bench change`; `NAMES` and `LONG` choose sizes, `DETAIL=1` adds criterion's own
//! report.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use godwit_benches::counting::{Counting, allocation_count, in_use_octets};
use godwit_benches::entry::{ByName, Entry};
use godwit_benches::names::{generator, name};
use godwit_benches::rounds::{self, Candidate};
use godwit_engine::snapshot::index::{Index, Keyed};
use godwit_engine::snapshot::order::OrderedSet;
use godwit_wire::name::NameRef;
use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use rand::RngExt;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Changes of a round.
const ROUND: usize = 200;
const ROUNDS: usize = 201;
/// Changes of a group that is published at once.
const GROUP: usize = 200;

/// Persistent as ours, with the quickest hash.
type Imbl = GenericHashMap<ByName, (), hashbrown::DefaultHashBuilder, DefaultSharedPtr>;

struct Setup {
    names: u64,
    index: Index<Entry>,
    order: OrderedSet<Entry>,
    imbl: Imbl,
}

impl Setup {
    /// Builds all three over the same entries; prints what each takes.
    fn new(names: usize) -> Self {
        let mut entries: Vec<Entry> = (0..names as u64).map(|number| Entry::new(&name(number), 1)).collect();

        let before = in_use_octets();
        let mut index = Index::with_capacity(*b"a key of 16 oct.", names);
        for entry in &entries {
            index.insert(entry.clone());
        }
        let index_octets = in_use_octets() - before;

        let before = in_use_octets();
        let mut imbl = Imbl::default();
        for entry in &entries {
            imbl.insert(ByName(entry.clone()), ());
        }
        let imbl_octets = in_use_octets() - before;

        entries.sort_by(|a, b| NameRef::from_checked(a.key()).cmp(&NameRef::from_checked(b.key())));
        let sorted = entries.clone();
        let before = in_use_octets() - sorted.capacity() * size_of::<Entry>();
        let order = OrderedSet::from_sorted(sorted);
        let order_octets = in_use_octets() - before;
        drop(entries);

        let before = in_use_octets();
        let mut inserted = OrderedSet::new();
        for entry in index.iter() {
            inserted.insert(entry.clone());
        }
        let inserted_octets = in_use_octets() - before;
        drop(inserted);

        println!(
            "\nmemory, {names} names: octets an entry over the entry itself (allocations rounded up to 16)"
        );
        let each = |octets: usize| format!("{}.{}", octets / names, octets * 10 / names % 10);
        println!("  index                                        {:>10}", each(index_octets));
        println!("  ordered set, made from sorted entries        {:>10}", each(order_octets));
        println!("  ordered set, made by inserts in random order {:>10}", each(inserted_octets));
        println!("  imbl::HashMap                                {:>10}", each(imbl_octets));
        Setup { names: names as u64, index, order, imbl }
    }
}

/// The names that will be changed: others for every round and candidate, so that none finds what it needs in the
/// cache because another has just been there.
struct Changes(Vec<Vec<u8>>);

impl Changes {
    fn new(names: u64, candidates: usize) -> Self {
        let mut random = generator(2);
        Changes((0..(ROUNDS + 1) * candidates * ROUND).map(|_| name(random.random_range(0..names))).collect())
    }

    fn of(&self, round: usize, candidate: usize) -> &[Vec<u8>] {
        let start = (candidate * (ROUNDS + 1) + round) * ROUND;
        &self.0[start..start + ROUND]
    }
}

fn change_index(index: &mut Index<Entry>, name: &[u8]) {
    let old = index.clone();
    assert!(index.insert(Entry::new(name, 2)).is_some());
    drop(black_box(old));
}

fn change_both(index: &mut Index<Entry>, order: &mut OrderedSet<Entry>, name: &[u8]) {
    let old = (index.clone(), order.clone());
    let entry = Entry::new(name, 2);
    assert!(index.insert(entry.clone()).is_some());
    assert!(order.insert(entry).is_some());
    drop(black_box(old));
}

fn change_order(order: &mut OrderedSet<Entry>, name: &[u8]) {
    let old = order.clone();
    assert!(order.insert(Entry::new(name, 2)).is_some());
    drop(black_box(old));
}

fn change_group(index: &mut Index<Entry>, order: &mut OrderedSet<Entry>, names: &[Vec<u8>]) {
    let old = (index.clone(), order.clone());
    for name in names {
        let entry = Entry::new(name, 2);
        assert!(index.insert(entry.clone()).is_some());
        assert!(order.insert(entry).is_some());
    }
    drop(black_box(old));
}

fn change_imbl(imbl: &mut Imbl, name: &[u8]) {
    let old = imbl.clone();
    assert!(imbl.insert(ByName(Entry::new(name, 2)), ()).is_some());
    drop(black_box(old));
}

fn summary(setup: &Setup) {
    let changes = Changes::new(setup.names, 5);
    let mut imbl = setup.imbl.clone();
    let mut index = setup.index.clone();
    let mut order = setup.order.clone();
    let (mut both_index, mut both_order) = (setup.index.clone(), setup.order.clone());
    let (mut group_index, mut group_order) = (setup.index.clone(), setup.order.clone());
    let medians = rounds::run(
        ROUNDS,
        vec![
            Candidate::new("imbl::HashMap, foldhash", |round| {
                changes.of(round, 0).iter().for_each(|name| change_imbl(&mut imbl, name));
                ROUND
            }),
            Candidate::new("index", |round| {
                changes.of(round, 1).iter().for_each(|name| change_index(&mut index, name));
                ROUND
            }),
            Candidate::new("ordered set", |round| {
                changes.of(round, 2).iter().for_each(|name| change_order(&mut order, name));
                ROUND
            }),
            Candidate::new("index and ordered set", |round| {
                changes
                    .of(round, 3)
                    .iter()
                    .for_each(|name| change_both(&mut both_index, &mut both_order, name));
                ROUND
            }),
            Candidate::new("index and ordered set, 200 at once", |round| {
                for group in changes.of(round, 4).chunks(GROUP) {
                    change_group(&mut group_index, &mut group_order, group);
                }
                ROUND
            }),
        ],
    );
    medians.print(&format!("one entry replaced, {} names", setup.names), "imbl::HashMap, foldhash");
    medians.goal("index and ordered set", "imbl::HashMap, foldhash", 2.0);

    let before = allocation_count();
    for name in changes.of(0, 0) {
        change_both(&mut both_index, &mut both_order, name);
    }
    println!("  allocations a change: {:.1}", (allocation_count() - before) as f64 / ROUND as f64);
}

fn detail(setup: &Setup) {
    let changes = Changes::new(setup.names, 1);
    let mut names = changes.0.iter().cycle();
    let mut criterion = Criterion::default().measurement_time(Duration::from_secs(5)).sample_size(20);
    let mut group = criterion.benchmark_group(format!("change/{}", setup.names));
    let mut imbl = setup.imbl.clone();
    let (mut index, mut order) = (setup.index.clone(), setup.order.clone());
    group.bench_function("imbl", |b| b.iter(|| names.next().map(|name| change_imbl(&mut imbl, name))));
    group.bench_function("index", |b| b.iter(|| names.next().map(|name| change_index(&mut index, name))));
    group.bench_function("order", |b| b.iter(|| names.next().map(|name| change_order(&mut order, name))));
    group.finish();
    criterion.final_summary();
}

fn main() {
    for names in rounds::sizes() {
        let setup = Setup::new(names);
        summary(&setup);
        if std::env::var_os("DETAIL").is_some() {
            detail(&setup);
        }
    }
}
