//! The index and the ordered set against the standard library's maps.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use godwit_wire::name::{Name, NameRef};
use proptest::prelude::*;

use super::index::{BULK_MIN, Index, Keyed, Place};
use super::order::OrderedSet;

/// A name and which change wrote it.
#[derive(Clone, Debug, PartialEq)]
struct Entry(Arc<(Name, u32)>);

impl Entry {
    fn new(name: &Name, version: u32) -> Self {
        Entry(Arc::new((name.clone(), version)))
    }

    fn version(&self) -> u32 {
        self.0.1
    }
}

impl Keyed for Entry {
    fn key(&self) -> &[u8] {
        self.0.0.as_wire()
    }

    fn prefetch(&self) {
        super::prefetch::prefetch(&*self.0);
    }
}

/// Names that collide often in every way that matters: shared ends, labels that contain what looks like labels,
/// empty to many labels.
fn names() -> impl Strategy<Value = Name> {
    let label = prop_oneof![
        4 => "[a-c*]{1,2}".prop_map(String::into_bytes),
        2 => "[a-z0-9-]{1,20}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(3), Just(b'a'), Just(255)], 1..12),
    ];
    proptest::collection::vec(label, 0..6).prop_map(|labels| {
        let mut wire = Vec::new();
        for label in &labels {
            wire.push(u8::try_from(label.len()).unwrap());
            wire.extend_from_slice(label);
        }
        wire.push(0);
        Name::from_wire(&wire).unwrap()
    })
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Name),
    Remove(Name),
    /// Keeps a clone, which must stay as it is.
    Keep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => names().prop_map(Step::Insert),
        4 => names().prop_map(Step::Remove),
        1 => Just(Step::Keep),
    ];
    proptest::collection::vec(step, 0..if cfg!(miri) { 100 } else { 400 })
}

fn assert_index_is(index: &Index<Entry>, model: &HashMap<Name, Entry>) {
    assert_eq!(index.len(), model.len());
    let found: HashMap<Name, Entry> = index.iter().map(|e| (e.0.0.clone(), e.clone())).collect();
    assert_eq!(&found, model);
    assert_eq!(index.iter().count(), model.len(), "an entry is there twice");
    for (name, entry) in model {
        assert_eq!(index.get(name.as_wire()), Some(entry));
    }
}

fn assert_order_is(set: &OrderedSet<Entry>, model: &BTreeMap<Name, Entry>) {
    assert_eq!(set.len(), model.len());
    assert!(set.iter().eq(model.values()), "other entries or another order");
    assert_eq!(set.first(), model.values().next());
    assert_eq!(set.last(), model.values().next_back());
}

fn assert_neighbours_are(set: &OrderedSet<Entry>, model: &BTreeMap<Name, Entry>, name: &Name) {
    use std::ops::Bound::{Excluded, Unbounded};
    let at = name.as_ref();
    assert_eq!(set.get(at), model.get(name), "get {name}");
    assert_eq!(set.floor(at), model.range(..=name.clone()).next_back().map(|(_, e)| e), "floor {name}");
    assert_eq!(set.before(at), model.range(..name.clone()).next_back().map(|(_, e)| e), "before {name}");
    let after = model.range((Excluded(name.clone()), Unbounded)).next().map(|(_, e)| e);
    assert_eq!(set.after(at), after, "after {name}");
    assert!(set.range_from(at).eq(model.range(name.clone()..).map(|(_, e)| e)), "range from {name}");
}

proptest! {
    // Many names each: a few cases do.
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 12 }))]

    #[test]
    fn entries_put_in_together_are_as_if_put_in_one_by_one(
        before in proptest::collection::hash_set(names(), 0..40),
        together in proptest::collection::vec(names(), 2 * BULK_MIN..3 * BULK_MIN),
        capacity in 0..3 * BULK_MIN,
        key: [u8; 16],
    ) {
        // Many come twice. A strategy for sets would begin anew each time that too few are left.
        let together: std::collections::HashSet<Name> = together.into_iter().collect();
        prop_assume!(together.len() >= BULK_MIN);
        let mut index = Index::with_capacity(key, capacity);
        let mut model = HashMap::new();
        for name in before {
            let entry = Entry::new(&name, 1);
            index.insert(entry.clone());
            model.insert(name, entry);
        }
        let kept = (index.clone(), model.clone());
        let entries: Vec<Entry> = together.iter().map(|name| Entry::new(name, 2)).collect();
        model.extend(together.into_iter().zip(entries.iter().cloned()));
        index.insert_many(entries.into_iter());
        assert_index_is(&index, &model);
        assert_index_is(&kept.0, &kept.1);
        let mut one_by_one = Index::with_capacity(key, capacity);
        model.values().for_each(|entry| drop(one_by_one.insert(entry.clone())));
        prop_assert_eq!(index.overflow_count(), one_by_one.overflow_count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 200 }))]

    #[test]
    fn index_is_a_map_and_old_clones_stay_as_they_were(steps in steps(), key: [u8; 16]) {
        let mut index = Index::new(key);
        let mut model = HashMap::new();
        let mut kept = Vec::new();
        for (version, step) in (0u32..).zip(steps) {
            match step {
                Step::Insert(name) => {
                    let entry = Entry::new(&name, version);
                    prop_assert_eq!(index.insert(entry.clone()), model.insert(name, entry));
                }
                Step::Remove(name) => {
                    prop_assert_eq!(index.remove(name.as_wire()), model.remove(&name));
                    prop_assert!(index.get(name.as_wire()).is_none());
                }
                Step::Keep => kept.push((index.clone(), model.clone())),
            }
        }
        assert_index_is(&index, &model);
        for (index, model) in &kept {
            assert_index_is(index, model);
        }
    }

    #[test]
    fn order_is_a_map_and_old_clones_stay_as_they_were(steps in steps(), probes in proptest::collection::vec(names(), 20)) {
        let mut set = OrderedSet::new();
        let mut model = BTreeMap::new();
        let mut kept = Vec::new();
        for (version, step) in (0u32..).zip(steps) {
            match step {
                Step::Insert(name) => {
                    let entry = Entry::new(&name, version);
                    prop_assert_eq!(set.insert(entry.clone()), model.insert(name, entry));
                }
                Step::Remove(name) => prop_assert_eq!(set.remove(name.as_ref()), model.remove(&name)),
                Step::Keep => kept.push((set.clone(), model.clone())),
            }
        }
        kept.push((set, model));
        for (set, model) in &kept {
            assert_order_is(set, model);
            for name in probes.iter().chain(model.keys().take(20)) {
                assert_neighbours_are(set, model, name);
            }
        }
    }

    #[test]
    fn sorted_entries_give_the_set_that_single_inserts_give(names in proptest::collection::btree_set(names(), 0..if cfg!(miri) { 200 } else { 600 })) {
        let model: BTreeMap<Name, Entry> = names.iter().map(|n| (n.clone(), Entry::new(n, 0))).collect();
        let mut bulk = OrderedSet::from_sorted(model.values().cloned().collect());
        assert_order_is(&bulk, &model);
        // It takes changes like any other.
        let mut left = model.clone();
        for name in names.iter().step_by(2) {
            prop_assert_eq!(bulk.remove(name.as_ref()), left.remove(name));
        }
        assert_order_is(&bulk, &left);
    }
}

/// `n.example.`, n in decimal.
fn numbered(number: u32) -> Name {
    format!("{number}.example.").parse().unwrap()
}

#[test]
fn index_grows_and_shrinks_with_every_name_in_reach() {
    // Directories of all levels double on the way, under Miri because they start to at fewer slots.
    const NAMES: u32 = if cfg!(miri) { 1_800 } else { 60_000 };
    let mut index = Index::new([7; 16]);
    for number in 0..NAMES {
        assert!(index.insert(Entry::new(&numbered(number), number)).is_none());
    }
    let full = index.clone();
    assert_eq!(index.overflow_count(), 0);
    let (root, pages) = index.directory_sizes();
    assert!(root > 1, "the root did not grow: {root} slots");
    let average = f64::from(NAMES) / f64::from(u32::try_from(pages).unwrap());
    assert!((4.0..=10.0).contains(&average), "{average} entries a page");
    for number in 0..NAMES {
        let name = numbered(number);
        assert_eq!(index.get(name.as_wire()).map(Entry::version), Some(number));
        let mut place = index.place(index.hash(name.as_wire()));
        place.prefetch_entry();
        // Also where another entry of the page has the same tag.
        assert_eq!(place.get(name.as_wire()).map(Entry::version), Some(number));
    }
    for number in 0..NAMES - 10 {
        assert_eq!(index.remove(numbered(number).as_wire()).map(|e| e.version()), Some(number));
    }
    let (_, pages_left) = index.directory_sizes();
    assert!(pages_left < pages / 4, "{pages_left} pages for ten names, {pages} before");
    assert_eq!(index.len(), 10);
    for number in NAMES - 10..NAMES {
        assert_eq!(index.get(numbered(number).as_wire()).map(Entry::version), Some(number));
    }
    assert_eq!(full.iter().count(), NAMES as usize);
}

#[test]
fn capacity_makes_directories_that_need_no_growth() {
    let counts: &[u32] = if cfg!(miri) { &[0, 1, 100, 2_000] } else { &[0, 1, 100, 5_000, 50_000] };
    for &names in counts {
        let mut index = Index::with_capacity([3; 16], names as usize);
        let before = index.directory_sizes();
        for number in 0..names {
            index.insert(Entry::new(&numbered(number), number));
        }
        let (_, pages) = index.directory_sizes();
        assert!(pages <= before.1 + before.1 / 8, "{names} names: {pages} pages, made for {}", before.1);
    }
}

#[test]
fn stages_ask_for_memory_and_change_nothing() {
    let mut index = Index::new([1; 16]);
    let there = numbered(1);
    index.insert(Entry::new(&there, 5));
    for name in [there.clone(), numbered(2), Name::root()] {
        let hash = index.hash(name.as_wire());
        assert_eq!(index.get_hashed(hash, name.as_wire()).is_some(), name == there);
        let mut place = index.place(hash);
        assert_eq!(place.get(name.as_wire()).is_some(), name == there, "before the other stages");
        place.prefetch_page();
        place.prefetch_entry();
        assert_eq!(place.get(name.as_wire()).is_some(), name == there);
        assert!(Place::<Entry>::default().get(name.as_wire()).is_none());
    }
}

#[test]
fn the_hash_depends_on_the_key_and_is_siphash() {
    // The reference's first vector for SipHash-1-3 is not published; what matters is the key and the variant.
    let name = numbered(1);
    let key = *b"0123456789abcdef";
    let index = Index::<Entry>::new(key);
    assert_eq!(
        index.hash(name.as_wire()),
        siphasher::sip::SipHasher13::new_with_key(&key).hash(name.as_wire())
    );
    assert_ne!(index.hash(name.as_wire()), Index::<Entry>::new([0; 16]).hash(name.as_wire()));
}

#[test]
fn names_that_collide_cost_no_more_pages_than_names() {
    // What somebody who knows the key could do: names whose hashes share the bits that the directories look at. Fewer
    // names to look through share fewer bits, and need fewer: as many bits as tell them apart would.
    const TRIED: u32 = if cfg!(miri) { 20_000 } else { 2_000_000 };
    const SHARED_BITS: u32 = if cfg!(miri) { 8 } else { 12 };
    const COLLIDING_MIN: usize = if cfg!(miri) { 50 } else { 300 };
    let mut index = Index::new([5; 16]);
    let colliding: Vec<Name> = (0..TRIED)
        .map(|number| {
            let mut wire = *b"\x08........\x00";
            wire[1..9].copy_from_slice(format!("{number:08}").as_bytes());
            wire
        })
        .filter(|wire| index.hash(wire) >> (u64::BITS - SHARED_BITS) == 0)
        .map(|wire| Name::from_wire(&wire).unwrap())
        .collect();
    assert!(colliding.len() > COLLIDING_MIN, "{} names", colliding.len());
    for (name, version) in colliding.iter().zip(0..) {
        assert!(index.insert(Entry::new(name, version)).is_none());
    }
    let (_, pages) = index.directory_sizes();
    assert!(pages <= 2 * colliding.len(), "{pages} pages for {} names", colliding.len());
    assert!(index.overflow_count() > 0, "nothing shows the attack");
    for (name, version) in colliding.iter().zip(0..) {
        assert_eq!(index.get(name.as_wire()).map(Entry::version), Some(version), "{name}");
    }
    let kept = index.clone();
    for name in &colliding {
        assert!(index.remove(name.as_wire()).is_some());
    }
    assert_eq!((index.overflow_count(), index.len(), kept.len()), (0, 0, colliding.len()));
}

#[test]
fn a_change_copies_a_path_and_no_more() {
    // Enough for the name that changes, and for several levels.
    const NAMES: u32 = if cfg!(miri) { 900 } else { 50_000 };
    let mut names: Vec<Name> = (0..NAMES).map(numbered).collect();
    names.sort();
    let entries: Vec<Entry> = names.iter().map(|n| Entry::new(n, 0)).collect();
    let mut index = Index::with_capacity([9; 16], entries.len());
    for entry in &entries {
        index.insert(entry.clone());
    }
    let set = OrderedSet::from_sorted(entries.clone());
    let (old_index, old_set) = (index.clone(), set.clone());
    let mut set = set;
    // Each part that was copied holds its entries once more: the counts tell how many entries were copied.
    let counts = |entries: &[Entry]| entries.iter().map(|e| Arc::strong_count(&e.0)).sum::<usize>();
    let before = counts(&entries);
    index.insert(Entry::new(&numbered(777), 1));
    let after_index = counts(&entries);
    assert!(after_index - before <= 32, "the index copied {} entries", after_index - before);
    set.insert(Entry::new(&numbered(777), 1));
    let after_set = counts(&entries);
    // A leaf, and a first entry for each child of the branches above it.
    assert!(after_set - after_index <= 16 * 5, "the ordered set copied {} entries", after_set - after_index);
    assert_eq!(old_index.get(numbered(777).as_wire()).map(Entry::version), Some(0));
    assert_eq!(old_set.get(numbered(777).as_ref()).map(Entry::version), Some(0));
    assert_eq!(index.get(numbered(777).as_wire()).map(Entry::version), Some(1));
    assert_eq!(set.get(numbered(777).as_ref()).map(Entry::version), Some(1));
    // What only one clone held is given back.
    drop((index, set));
    assert_eq!(counts(&entries), before);
}

#[test]
fn removing_what_is_not_there_copies_nothing() {
    let mut index = Index::new([9; 16]);
    let mut set = OrderedSet::new();
    let entry = Entry::new(&numbered(1), 0);
    index.insert(entry.clone());
    set.insert(entry.clone());
    let (_index, _set) = (index.clone(), set.clone());
    assert!(index.remove(numbered(2).as_wire()).is_none());
    assert!(set.remove(numbered(2).as_ref()).is_none());
    assert_eq!(Arc::strong_count(&entry.0), 3);
}

#[test]
fn a_set_shrinks_to_nothing_from_either_end() {
    let count = if cfg!(miri) { 300 } else { 2_000 };
    let mut names: Vec<Name> = (0..count).map(numbered).collect();
    names.sort();
    for reversed in [false, true] {
        let mut set = OrderedSet::from_sorted(names.iter().map(|n| Entry::new(n, 0)).collect());
        let mut order: Vec<&Name> = names.iter().collect();
        if reversed {
            order.reverse();
        }
        for (gone, name) in order.into_iter().enumerate() {
            assert!(set.remove(name.as_ref()).is_some());
            assert_eq!(set.len(), names.len() - gone - 1);
            assert_eq!(set.iter().count(), set.len());
        }
        assert!(set.is_empty() && set.first().is_none() && set.floor(NameRef::ROOT).is_none());
    }
}
