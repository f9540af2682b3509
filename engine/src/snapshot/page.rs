//! A page of the index: up to 32 tags in its first cache line, then the entries.
//!
//! Leaves out how a hash leads to a page: see [`super::index`], which also has the layout diagram.

use triomphe::{Arc, ThinArc};

use super::index::Keyed;
use super::prefetch::prefetch_lines;

/// Entries of a page that have a tag. Those behind have none: see [`Page::push`].
pub(super) const TAGS: usize = 32;
/// Tags compared at once.
const WORD: usize = 8;
/// Cache lines that the tags and the first ten entries take.
const PAGE_LINES: usize = 2;

/// Eight tags to a word; 0 where the slot is vacant.
type Tags = [[u8; WORD]; TAGS / WORD];

/// Entries whose hashes share the bits that the directories look at.
///
/// Invariants: occupied slots stand before vacant ones; slot `i < 32` has tag `i`; an empty page has no
/// allocation.
#[derive(Clone)]
pub(super) struct Page<E>(Option<ThinArc<Tags, Option<E>>>);

impl<E: Keyed> Page<E> {
    pub(super) fn empty() -> Self {
        Page(None)
    }

    /// A page of these entries and their tags.
    pub(super) fn from_entries(entries: Vec<(u8, E)>) -> Self {
        if entries.is_empty() {
            return Page(None);
        }
        let mut tags = Tags::default();
        for (slot, (tag, _)) in tags.as_flattened_mut().iter_mut().zip(&entries) {
            *slot = *tag;
        }
        let mut slots = entries.into_iter().map(|(_, entry)| entry);
        let capacity = capacity_for(slots.len());
        Page(Some(ThinArc::from_header_and_iter(tags, (0..capacity).map(|_| slots.next()))))
    }

    /// The address of the page's memory, for prefetching.
    #[inline(always)]
    pub(super) fn address(&self) -> *const u8 {
        self.0.as_ref().map_or(std::ptr::null(), |page| page.heap_ptr().cast())
    }

    #[inline(always)]
    pub(super) fn prefetch(&self) {
        prefetch_lines(self.address(), PAGE_LINES);
    }

    /// Whether there are no entries.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &E> {
        self.slots().iter().map_while(Option::as_ref)
    }

    /// Which slot holds this name, and its entry.
    #[inline(always)]
    pub(super) fn find(&self, tag: u8, key: &[u8]) -> Option<(usize, &E)> {
        let page = self.0.as_ref()?;
        for (first, (tags, slots)) in page.header.header.iter().zip(page.slice.chunks(WORD)).enumerate() {
            let mut candidates = equal_octets(*tags, tag);
            while candidates != 0 {
                let at = lowest(candidates);
                if let Some(Some(entry)) = slots.get(at)
                    && entry.key() == key
                {
                    return Some((first * WORD + at, entry));
                }
                candidates &= candidates - 1;
            }
        }
        if page.slice.len() > TAGS { self.find_untagged(key) } else { None }
    }

    /// [`Page::find`] among the entries without a tag.
    #[cold]
    fn find_untagged(&self, key: &[u8]) -> Option<(usize, &E)> {
        self.iter().enumerate().skip(TAGS).find(|(_, entry)| entry.key() == key)
    }

    /// The first entry with this tag: with 255 different tags, and ten entries or so, it is nearly always the one.
    #[inline(always)]
    pub(super) fn candidate(&self, tag: u8) -> Option<&E> {
        let page = self.0.as_ref()?;
        for (tags, slots) in page.header.header.iter().zip(page.slice.chunks(WORD)) {
            let candidates = equal_octets(*tags, tag);
            if candidates != 0 {
                return slots.get(lowest(candidates))?.as_ref();
            }
        }
        None
    }

    /// Puts another entry into slot `at` and gives the old one back.
    pub(super) fn replace(&mut self, at: usize, entry: E) -> Option<E> {
        self.edit(self.slots().len(), |_, slots| slots.get_mut(at).and_then(|slot| slot.replace(entry)))
    }

    /// Adds an entry whose name is not in the page. True when it stands behind the tagged slots.
    pub(super) fn push(&mut self, tag: u8, entry: E) -> bool {
        let at = self.len();
        self.edit(self.slots().len().max(capacity_for(at + 1)), |tags, slots| {
            if let Some(slot) = slots.get_mut(at) {
                *slot = Some(entry);
            }
            match tags.as_flattened_mut().get_mut(at) {
                Some(slot) => {
                    *slot = tag;
                    false
                }
                None => true,
            }
        })
    }

    /// Takes the entry of slot `at` out; the last one moves there, for which `tag_of` is asked when it has no tag.
    pub(super) fn swap_remove(&mut self, at: usize, tag_of: impl Fn(&E) -> u8) -> Option<E> {
        let last = self.len().checked_sub(1)?;
        let removed = self.edit(self.slots().len(), |tags, slots| {
            if at < slots.len() && last < slots.len() {
                slots.swap(at, last);
            }
            let tags = tags.as_flattened_mut();
            let moved = tags.get_mut(last).map(std::mem::take);
            if at != last
                && let Some(slot) = tags.get_mut(at)
            {
                let untagged = || slots.get(at).and_then(Option::as_ref).map(&tag_of);
                *slot = moved.or_else(untagged).unwrap_or_default();
            }
            slots.get_mut(last).and_then(Option::take)
        });
        if last == 0 {
            self.0 = None;
        } else if capacity_for(last) + 2 < self.slots().len() {
            self.edit(capacity_for(last), |_, _| ());
        }
        removed
    }

    #[inline(always)]
    fn slots(&self) -> &[Option<E>] {
        self.0.as_ref().map_or(&[], |page| &page.slice)
    }

    /// Changes the page after giving it `capacity` slots (not fewer than it has entries) and, if somebody else
    /// holds it, memory of its own.
    fn edit<R: Default>(
        &mut self,
        capacity: usize,
        change: impl FnOnce(&mut Tags, &mut [Option<E>]) -> R,
    ) -> R {
        if let Some(page) = self.fitting(capacity) {
            self.0 = Some(page);
        }
        let Some(page) = self.0.as_mut() else { return R::default() };
        page.with_arc_mut(|page| {
            let Some(page) = Arc::get_mut(page) else { return R::default() };
            let mut tags = *page.header();
            let result = change(&mut tags, page.slice_mut());
            *page.header_mut() = tags;
            result
        })
    }

    /// The memory to change instead of the present one; `None` when that is ours alone and of the right size.
    fn fitting(&mut self, capacity: usize) -> Option<ThinArc<Tags, Option<E>>> {
        let Some(page) = self.0.as_mut() else {
            return Some(ThinArc::from_header_and_iter(Tags::default(), (0..capacity).map(|_| None)));
        };
        page.with_arc_mut(|shared| {
            if let Some(page) = Arc::get_mut(shared) {
                if page.length() == capacity {
                    return None;
                }
                let tags = *page.header();
                let mut entries = page.slice_mut().iter_mut().map(Option::take);
                return Some(ThinArc::from_header_and_iter(
                    tags,
                    (0..capacity).map(|_| entries.next().flatten()),
                ));
            }
            // Each clone increments a count in the entry's memory: ask for all of them at once.
            shared.slice().iter().flatten().for_each(Keyed::prefetch);
            let mut entries = shared.slice().iter().cloned();
            Some(ThinArc::from_header_and_iter(
                *shared.header(),
                (0..capacity).map(|_| entries.next().flatten()),
            ))
        })
    }
}

/// Slots for this many entries: with an even number the allocation is a multiple of 16 octets, as allocators like it.
fn capacity_for(entries: usize) -> usize {
    entries.next_multiple_of(2)
}

/// The highest bit of each octet that equals `tag`; perhaps also that of an octet behind one that does.
///
/// Eight octets at a time in an ordinary register: pages of the usual size need one or two steps of six
/// instructions, fewer than getting a vector compare's result into a bit mask takes without intrinsics. A false
/// candidate costs one compare of names.
#[inline(always)]
fn equal_octets(tags: [u8; WORD], tag: u8) -> u64 {
    const LOW: u64 = u64::from_le_bytes([0x01; WORD]);
    const HIGH: u64 = u64::from_le_bytes([0x80; WORD]);
    let differing = u64::from_le_bytes(tags) ^ LOW.wrapping_mul(u64::from(tag));
    differing.wrapping_sub(LOW) & !differing & HIGH
}

/// Which octet the lowest set bit is in.
#[inline(always)]
fn lowest(candidates: u64) -> usize {
    (candidates.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A one-octet key that says which it is.
    #[derive(Clone, Debug, PartialEq)]
    struct Octet([u8; 1]);

    impl Keyed for Octet {
        fn key(&self) -> &[u8] {
            &self.0
        }

        fn prefetch(&self) {}
    }

    /// Few tags, so that many entries share one.
    fn tag_of(entry: &Octet) -> u8 {
        entry.0[0] % 5 + 1
    }

    fn filled(count: u8) -> Page<Octet> {
        let mut page = Page::empty();
        for number in 0..count {
            let entry = Octet([number]);
            assert_eq!(page.push(tag_of(&entry), entry), usize::from(number) >= TAGS);
        }
        page
    }

    #[test]
    fn entries_behind_the_tagged_slots_are_found_and_move_forward() {
        let mut page = filled(100);
        let kept = page.clone();
        for removed in [99, 0, 31, 32, 50, 7] {
            let entry = Octet([removed]);
            let (at, _) = page.find(tag_of(&entry), entry.key()).unwrap();
            assert_eq!(page.swap_remove(at, tag_of), Some(entry.clone()));
            assert!(page.find(tag_of(&entry), entry.key()).is_none());
        }
        for number in (0..100).filter(|n| ![99, 0, 31, 32, 50, 7].contains(n)) {
            let entry = Octet([number]);
            assert_eq!(page.find(tag_of(&entry), entry.key()).unwrap().1, &entry, "{number}");
        }
        assert_eq!((page.len(), kept.len()), (94, 100));
        assert_eq!(kept.iter().count(), 100);
    }

    #[test]
    fn an_emptied_page_gives_its_memory_back() {
        let mut page = filled(40);
        for number in 0..40 {
            let (at, _) = page.find(tag_of(&Octet([number])), &[number]).unwrap();
            page.swap_remove(at, tag_of);
            assert!(page.slots().len() <= page.len() + 4, "{} slots for {}", page.slots().len(), page.len());
        }
        assert!(page.0.is_none());
    }

    #[test]
    fn no_equal_octet_is_overlooked() {
        // False candidates are allowed, but only behind a true one.
        for tag in (1..=255u8).step_by(if cfg!(miri) { 127 } else { 1 }) {
            for mask in 0..=255u8 {
                let tags: [u8; WORD] =
                    std::array::from_fn(|i| if mask >> i & 1 == 1 { tag } else { tag.wrapping_add(1) });
                let found = equal_octets(tags, tag);
                for at in 0..WORD {
                    if mask >> at & 1 == 1 {
                        assert!(found >> (8 * at + 7) & 1 == 1, "tag {tag}, mask {mask:#b}");
                    }
                }
                assert_eq!(found == 0, mask == 0);
                assert!(mask == 0 || mask >> lowest(found) & 1 == 1);
            }
        }
    }
}
