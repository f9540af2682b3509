//! The index of a snapshot: from a lower-cased wire name to its entry, sharing whatever a change leaves alone.
//!
//! Leaves out what an entry is (see [`Keyed`]), canonical order ([`super::order`]) and publication
//! ([`super::store`]).
//!
//! **Shape.** Four levels of directories over pages. The bits of a keyed 64-bit hash, from the top down, pick a
//! slot of the root, of an upper, a lower and a leaf directory; each directory has a power of two of slots.
//! The leaf's slot is a page:
//!
//! ```text
//!            0        8                              40       48
//! page       | count  | 32 tags, one octet each      | length | entry | entry | … (8 octets each)
//! ```
//!
//! A tag is eight other bits of the hash (0 for a vacant slot), so one look at the first cache line tells which
//! entries are worth a compare. Entries stand densely at the front; a page's allocation has room for one entry
//! more at most, because the pages are what an index costs: about 16 octets an entry with pages of five to ten entries.
//!
//! **Sharing.** Cloning an index copies one pointer to the root. A change then copies the root, one directory of
//! each level and one page (`Arc::make_mut`), and nothing else; whoever holds the clone goes on
//! reading what was there. What nobody else holds is changed in place, so a group of changes copies each part once.
//! Copying a directory increments the count of each part it leads to: that is the price of a change, and the reason for
//! four short levels where three would do (three of 128 slots at ten million names: twice the time of a change).
//!
//! **Growth** is local, so that no single change pays for the whole index. A leaf directory whose pages average
//! more than [`GROW_ABOVE`] entries doubles (some hundred entries move). When it is as long as it may get, the lower
//! directory above it doubles by cutting each of its leaf directories in two, which moves no entry; then the upper one, then
//! the root. Upper and lower directories may get as long as the root, so the three stay alike. A
//! leaf directory halves when its pages average less than [`SHRINK_BELOW`]; the levels above keep their length, which is at
//! most one slot for every hundred entries or so there were at the peak.
//!
//! **Overflow.** With a sound hash a page holds more than 32 entries once in a thousand million pages. Should it happen, the
//! page simply gets longer: entries past the 32nd have no tag and are compared one by one.
//! [`Index::overflow_count`] counts them; anything but zero is the sign of an attack on the hash, or of a bad one.

use std::sync::Arc;

use super::page::{Page, TAGS};
use super::prefetch::{prefetch, prefetch_address};
use siphasher::sip::SipHasher13;

/// A leaf directory grows when its pages hold more entries than this on average.
pub const GROW_ABOVE: usize = 10;
/// A leaf directory shrinks when its pages hold fewer entries than this on average.
pub const SHRINK_BELOW: usize = 2;
/// The most pages of a leaf directory. It is the level that costs most to copy: the counts of pages are spread over all
/// of the memory, those of the upper levels stay in the cache.
const LEAF_MAX: usize = 32;
/// From this many entries on, putting them in at once pays for sorting their hashes.
pub(super) const BULK_MIN: usize = if cfg!(miri) { 64 } else { 1024 };
/// Slots that an upper or lower directory may always have, however small the root. Fewer under Miri, where the names that it
/// takes until the root doubles would take hours.
const INNER_MIN: usize = if cfg!(miri) { 2 } else { 8 };

/// What an [`Index`] and an [`super::order::OrderedSet`] hold: a pointer that is cheap to clone.
pub trait Keyed: Clone {
    /// The owner name: uncompressed wire format, lower case.
    fn key(&self) -> &[u8];

    /// Asks the CPU to load the memory behind this entry ([`super::prefetch`]).
    fn prefetch(&self);
}

/// A persistent hash table from wire names to entries. See the module's documentation.
///
/// **Cost**: a clone copies one pointer; a look-up reads four directory slots, one page and the entries
/// whose tag matches; it allocates nothing and takes no lock.
#[derive(Clone)]
pub struct Index<E> {
    hasher: SipHasher13,
    root: Arc<[Upper<E>]>,
    len: usize,
    overflow: usize,
}

type Upper<E> = Arc<[Lower<E>]>;
type Lower<E> = Arc<[Leaf<E>]>;

/// A leaf directory and how many entries its pages hold.
#[derive(Clone)]
struct Leaf<E> {
    pages: Arc<[Page<E>]>,
    count: usize,
}

impl<E: Keyed> Index<E> {
    /// An empty index whose hash depends on `hash_key`, which must be random per process: who knows it can make
    /// names collide.
    #[must_use]
    pub fn new(hash_key: [u8; 16]) -> Self {
        Self::with_capacity(hash_key, 0)
    }

    /// An empty index with directories for about `names` entries, so that loading them moves no entry twice.
    #[must_use]
    pub fn with_capacity(hash_key: [u8; 16], names: usize) -> Self {
        // A little under the limit of growth: leaf directories fill unevenly.
        let pages = (names / (GROW_ABOVE - 1)).max(1).next_power_of_two();
        let bits = pages.trailing_zeros();
        let leaf_bits = bits.min(LEAF_MAX.trailing_zeros());
        let lower_bits = (bits - leaf_bits) / 3;
        let upper_bits = (bits - leaf_bits - lower_bits) / 2;
        let root_bits = bits - leaf_bits - lower_bits - upper_bits;
        let leaf = || Leaf { pages: repeat(leaf_bits, Page::empty), count: 0 };
        let root = repeat(root_bits, || repeat(upper_bits, || repeat(lower_bits, leaf)));
        Index { hasher: SipHasher13::new_with_key(&hash_key), root, len: 0, overflow: 0 }
    }

    /// Whether they are one and the same; two with the same entries that were made in another way need not be.
    #[must_use]
    pub fn is_same(&self, other: &Index<E>) -> bool {
        Arc::ptr_eq(&self.root, &other.root)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many entries stand behind the tagged slots of their page: 0 unless the hash is bad or under attack.
    #[must_use]
    pub fn overflow_count(&self) -> usize {
        self.overflow
    }

    /// The keyed hash (SipHash-1-3) of a lower-cased wire name, as the functions below want it.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// The entry of this name. A look-up of many names is faster in stages: see [`Index::place`].
    #[inline]
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&E> {
        self.get_hashed(self.hash(key), key)
    }

    /// The entry of this name, whose hash is known already: the last stage of a look-up.
    #[inline]
    #[must_use]
    pub fn get_hashed(&self, hash: u64, key: &[u8]) -> Option<&E> {
        let (_, entry) = self.page(hash)?.find(tag(hash), key)?;
        Some(entry)
    }

    /// Where a hash leads; asks for the slot of the leaf directory: the first stage of a look-up of many names.
    ///
    /// Stages are taken over a whole batch one after another: all hashes and places, all pages
    /// ([`Place::prefetch_page`]), all entries ([`Place::prefetch_entry`]), then all answers ([`Place::get`]). Each
    /// stage finds in the cache what the one before asked for.
    ///
    /// ```
    /// # use godwit_engine::snapshot::index::{Index, Keyed, Place};
    /// # fn all<E: Keyed>(index: &Index<E>, names: &[&[u8]]) -> usize {
    /// let mut places: Vec<Place<'_, E>> = names.iter().map(|name| index.place(index.hash(name))).collect();
    /// places.iter().for_each(Place::prefetch_page);
    /// places.iter_mut().for_each(Place::prefetch_entry);
    /// names.iter().zip(places).filter_map(|(name, place)| place.get(name)).count()
    /// # }
    /// ```
    #[inline]
    #[must_use]
    pub fn place(&self, hash: u64) -> Place<'_, E> {
        let page = self.page(hash);
        if let Some(page) = page {
            prefetch(page);
        }
        Place { page, candidate: None, tag: tag(hash) }
    }

    /// All entries, in no useful order.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        self.leaves().flat_map(Leaf::iter)
    }

    /// Puts an entry in, in place of the one of the same name, which is given back.
    ///
    /// **Cost**: see the module's documentation; when a leaf directory doubles, its entries (160 at most, as a rule) are hashed again.
    pub fn insert(&mut self, entry: E) -> Option<E> {
        let hash = self.hash(entry.key());
        let tag = tag(hash);
        let (leaf, above) = leaf_mut(&mut self.root, hash)?;
        let page = pick_mut(make_mut(&mut leaf.pages), &mut hash.rotate_left(above))?;
        if let Some((at, _)) = page.find(tag, entry.key()) {
            return page.replace(at, entry);
        }
        if page.push(tag, entry) {
            self.overflow += 1;
        }
        leaf.count += 1;
        self.len += 1;
        while let Some(growth) = self.growth(hash) {
            self.grow(hash, growth);
        }
        None
    }

    /// Puts many entries in, no name twice; each in place of the one of the same name.
    ///
    /// **Cost**: pages that are empty are filled in one go, in order of their hashes, so that filling an index of the
    /// right capacity reads memory from front to back and allocates each page once.
    pub fn insert_many(&mut self, entries: impl ExactSizeIterator<Item = E>) {
        if entries.len() < BULK_MIN {
            entries.for_each(|entry| drop(self.insert(entry)));
            return;
        }
        let mut hashed: Vec<(u64, E)> = entries.map(|entry| (self.hash(entry.key()), entry)).collect();
        hashed.sort_unstable_by_key(|&(hash, _)| hash);
        let mut rest = hashed.into_iter().peekable();
        let mut run = Vec::new();
        while let Some(&(hash, _)) = rest.peek() {
            let vacant_bits = u64::BITS - self.page_bits(hash);
            let page_of = |hash: u64| hash.checked_shr(vacant_bits).unwrap_or_default();
            run.extend(std::iter::from_fn(|| rest.next_if(|&(other, _)| page_of(other) == page_of(hash))));
            self.insert_run(hash, &mut run);
        }
    }

    /// Puts entries in whose hashes lead to the page of `hash`.
    fn insert_run(&mut self, hash: u64, run: &mut Vec<(u64, E)>) {
        // More than a page should hold: directories that are too small grow as they do for single entries, all of them.
        if run.len() > TAGS || self.page(hash).is_none_or(|page| !page.is_empty()) {
            run.drain(..).for_each(|(_, entry)| drop(self.insert(entry)));
            return;
        }
        let count = run.len();
        let page = Page::from_entries(run.drain(..).map(|(hash, entry)| (tag(hash), entry)).collect());
        let Some((leaf, above)) = leaf_mut(&mut self.root, hash) else { return };
        if let Some(slot) = pick_mut(make_mut(&mut leaf.pages), &mut hash.rotate_left(above)) {
            *slot = page;
            leaf.count += count;
            self.len += count;
        }
        while let Some(growth) = self.growth(hash) {
            self.grow(hash, growth);
        }
    }

    /// Takes the entry of this name out. Copies nothing when there is none.
    pub fn remove(&mut self, key: &[u8]) -> Option<E> {
        let hash = self.hash(key);
        let (at, _) = self.page(hash)?.find(tag(hash), key)?;
        let hasher = self.hasher;
        let (leaf, above) = leaf_mut(&mut self.root, hash)?;
        let pages = make_mut(&mut leaf.pages);
        let page_count = pages.len();
        let page = pick_mut(pages, &mut hash.rotate_left(above))?;
        if page.len() > TAGS {
            self.overflow -= 1;
        }
        let removed = page.swap_remove(at, |moved| tag(hasher.hash(moved.key())));
        leaf.count -= 1;
        self.len -= 1;
        if page_count > 1 && leaf.count < page_count * SHRINK_BELOW {
            self.resize_leaf(hash, page_count / 2);
        }
        removed
    }

    /// Slots of the root, and pages altogether.
    #[cfg(test)]
    pub(super) fn directory_sizes(&self) -> (usize, usize) {
        (self.root.len(), self.leaves().map(|leaf| leaf.pages.len()).sum())
    }

    /// The page that a hash leads to. There is always one: `None` cannot be, but costs nothing to pass on.
    #[inline(always)]
    fn page(&self, hash: u64) -> Option<&Page<E>> {
        let mut route = hash;
        let upper = pick(&self.root, &mut route)?;
        let lower = pick(upper, &mut route)?;
        let leaf = pick(lower, &mut route)?;
        pick(&leaf.pages, &mut route)
    }

    /// How many bits of a hash, from the top, lead to its page.
    fn page_bits(&self, hash: u64) -> u32 {
        let mut route = hash;
        let mut used = bits(&self.root);
        if let Some(upper) = pick(&self.root, &mut route)
            && let Some(lower) = pick(upper, &mut route)
            && let Some(leaf) = pick(lower, &mut route)
        {
            used += bits(upper) + bits(lower) + bits(&leaf.pages);
        }
        used
    }

    fn leaves(&self) -> impl Iterator<Item = &Leaf<E>> {
        self.root.iter().flat_map(|upper| upper.iter()).flat_map(|lower| lower.iter())
    }

    /// Which part must grow before the leaf directory of `hash` is as it should be; `None` when it is.
    fn growth(&self, hash: u64) -> Option<Growth> {
        let mut route = hash;
        let upper = pick(&self.root, &mut route)?;
        let lower = pick(upper, &mut route)?;
        let leaf = pick(lower, &mut route)?;
        let page_count = leaf.pages.len();
        // With a bad hash no number of pages helps: never more of them than names.
        let pages_like_this = self.root.len() * upper.len() * lower.len() * page_count;
        if leaf.count <= page_count * GROW_ABOVE || pages_like_this > self.len {
            return None;
        }
        let limit = self.root.len().max(INNER_MIN);
        Some(if page_count < LEAF_MAX {
            Growth::Leaf { page_count: page_count * 2 }
        } else if lower.len() < limit {
            Growth::Lower
        } else if upper.len() < limit {
            Growth::Upper
        } else {
            Growth::Root
        })
    }

    fn grow(&mut self, hash: u64, growth: Growth) {
        let hasher = self.hasher;
        let root_bits = bits(&self.root);
        let mut route = hash;
        match growth {
            Growth::Leaf { page_count } => self.resize_leaf(hash, page_count),
            Growth::Lower => {
                if let Some(upper) = pick_mut(make_mut(&mut self.root), &mut route) {
                    let above = root_bits + bits(upper);
                    if let Some(lower) = pick_mut(make_mut(upper), &mut route) {
                        *lower = doubled(lower, &hasher, above);
                    }
                }
            }
            Growth::Upper => {
                if let Some(upper) = pick_mut(make_mut(&mut self.root), &mut route) {
                    *upper = doubled(upper, &hasher, root_bits);
                }
            }
            Growth::Root => self.root = doubled(&self.root, &hasher, 0),
        }
    }

    /// Gives the leaf directory of `hash` another number of pages.
    fn resize_leaf(&mut self, hash: u64, page_count: usize) {
        let hasher = self.hasher;
        if let Some((leaf, above)) = leaf_mut(&mut self.root, hash) {
            let before = leaf.overflow();
            *leaf = leaf.resized(page_count, &hasher, above);
            self.overflow = self.overflow + leaf.overflow() - before;
        }
    }
}

/// Where a name is, if it is anywhere: between two stages of a look-up. See [`Index::place`].
pub struct Place<'a, E> {
    page: Option<&'a Page<E>>,
    candidate: Option<&'a E>,
    tag: u8,
}

impl<E> Clone for Place<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Place<'_, E> {}

/// Leads nowhere: what a batch's unused slots hold.
impl<E> Default for Place<'_, E> {
    fn default() -> Self {
        Place { page: None, candidate: None, tag: 0 }
    }
}

impl<'a, E: Keyed> Place<'a, E> {
    /// Asks for the page: the second stage.
    #[inline(always)]
    pub fn prefetch_page(&self) {
        if let Some(page) = self.page {
            page.prefetch();
        }
    }

    /// Asks for the first entry whose tag matches, the only one as a rule: the third stage.
    #[inline(always)]
    pub fn prefetch_entry(&mut self) {
        self.candidate = self.page.and_then(|page| page.candidate(self.tag));
        if let Some(candidate) = self.candidate {
            candidate.prefetch();
        }
    }

    /// The entry of this name, whose hash led here: the last stage. Right with or without the stages before.
    #[inline(always)]
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&'a E> {
        match self.candidate {
            Some(candidate) if candidate.key() == key => Some(candidate),
            _ => Some(self.page?.find(self.tag, key)?.1),
        }
    }
}

/// What has to get longer. See the module's documentation.
#[derive(Clone, Copy)]
enum Growth {
    Leaf { page_count: usize },
    Lower,
    Upper,
    Root,
}

impl<E: Keyed> Leaf<E> {
    fn iter(&self) -> impl Iterator<Item = &E> {
        self.pages.iter().flat_map(Page::iter)
    }

    fn overflow(&self) -> usize {
        self.pages.iter().map(|page| page.len().saturating_sub(TAGS)).sum()
    }

    /// The same entries in another number of pages; `above` bits of the hash are used up before this level.
    fn resized(&self, page_count: usize, hasher: &SipHasher13, above: u32) -> Self {
        self.iter().for_each(Keyed::prefetch);
        let mut pages: Vec<Vec<(u8, E)>> = vec![Vec::new(); page_count];
        for entry in self.iter() {
            let hash = hasher.hash(entry.key());
            if let Some(page) = pick_mut(&mut pages, &mut hash.rotate_left(above)) {
                page.push((tag(hash), entry.clone()));
            }
        }
        Leaf { pages: pages.into_iter().map(Page::from_entries).collect(), count: self.count }
    }
}

/// A directory, to be cut in two when the one above doubles.
trait Halve: Sized {
    /// Two directories, one for the lower half of the hashes that lead here and one for the upper; `above` bits of the hash
    /// are used up before this level.
    fn halves(&self, hasher: &SipHasher13, above: u32) -> [Self; 2];
}

impl<E: Keyed> Halve for Leaf<E> {
    fn halves(&self, hasher: &SipHasher13, above: u32) -> [Self; 2] {
        if self.pages.len() < 2 {
            return self.resized(2, hasher, above).halves(hasher, above);
        }
        let (low, high) = self.pages.split_at(self.pages.len() / 2);
        [low, high].map(|pages| Leaf { pages: Arc::from(pages), count: pages.iter().map(Page::len).sum() })
    }
}

impl<T: Halve + Clone> Halve for Arc<[T]> {
    fn halves(&self, hasher: &SipHasher13, above: u32) -> [Self; 2] {
        if self.len() < 2 {
            return doubled(self, hasher, above).halves(hasher, above);
        }
        let (low, high) = self.split_at(self.len() / 2);
        [Arc::from(low), Arc::from(high)]
    }
}

/// The same directory with twice as many slots, each leading to half as much.
fn doubled<T: Halve>(directory: &Arc<[T]>, hasher: &SipHasher13, above: u32) -> Arc<[T]> {
    let below = above + bits(directory);
    directory.iter().flat_map(|slot| slot.halves(hasher, below)).collect()
}

/// The leaf directory of a hash, and how many bits of the hash are used up before it; copies what is shared.
fn leaf_mut<E: Keyed>(root: &mut Arc<[Upper<E>]>, hash: u64) -> Option<(&mut Leaf<E>, u32)> {
    let mut route = hash;
    let mut above = bits(root);
    let upper = pick_mut(make_mut(root), &mut route)?;
    above += bits(upper);
    let lower = pick_mut(make_mut(upper), &mut route)?;
    above += bits(lower);
    Some((pick_mut(make_mut(lower), &mut route)?, above))
}

/// How many bits of a hash a directory uses up.
fn bits<T>(directory: &[T]) -> u32 {
    directory.len().trailing_zeros()
}

/// The slot that the next bits of a hash pick; turns them out of the way of the next level.
#[inline(always)]
fn pick<'a, T>(slots: &'a [T], route: &mut u64) -> Option<&'a T> {
    slots.get(turn(route, slots.len()))
}

fn pick_mut<'a, T>(slots: &'a mut [T], route: &mut u64) -> Option<&'a mut T> {
    let slot = turn(route, slots.len());
    slots.get_mut(slot)
}

/// The top bits of `route` as a slot number below `len`, a power of two.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "only bits below `len` are used")]
fn turn(route: &mut u64, len: usize) -> usize {
    *route = route.rotate_left(len.trailing_zeros());
    (*route as usize) & len.wrapping_sub(1)
}

/// The tag of a hash: its low eight bits, of which directories of less than 2^56 pages make no use; never 0.
#[inline(always)]
fn tag(hash: u64) -> u8 {
    let [low, ..] = hash.to_le_bytes();
    low.max(1)
}

/// `2^bits` equal slots.
fn repeat<T>(bits: u32, slot: impl Fn() -> T) -> Arc<[T]> {
    (0..1usize << bits).map(|_| slot()).collect()
}

/// What a directory holds: something with a count that copying the directory increments.
trait Counted: Clone {
    /// The address of that count.
    fn count_address(&self) -> *const u8;
}

impl<T> Counted for Arc<[T]> {
    fn count_address(&self) -> *const u8 {
        // The counts stand before the slots.
        Arc::as_ptr(self).cast::<u8>().wrapping_sub(2 * size_of::<usize>())
    }
}

impl<E: Keyed> Counted for Leaf<E> {
    fn count_address(&self) -> *const u8 {
        self.pages.count_address()
    }
}

impl<E: Keyed> Counted for Page<E> {
    fn count_address(&self) -> *const u8 {
        self.address()
    }
}

/// `Arc::make_mut`, but asking for the counts that it will increment all at once first: one after another, each
/// would wait for its own cache line.
fn make_mut<T: Counted>(slots: &mut Arc<[T]>) -> &mut [T] {
    if Arc::strong_count(slots) > 1 {
        slots.iter().for_each(|slot| prefetch_address(slot.count_address()));
    }
    Arc::make_mut(slots)
}
