//! The ordered view of a zone: its entries in canonical order (RFC 4034 §6.1), sharing whatever a change leaves
//! alone.
//!
//! For zone transfers, listing and proofs of denial, all off the hot path; exact matches go through
//! [`super::index`].
//!
//! **Shape.** A B+ tree without spare room: leaves are exact-size runs of up to `LEAF_MAX` entries, branches
//! exact-size runs of up to `BRANCH_MAX` children, each with the child's first entry beside it so that a
//! descent reads no child it does not enter. An entry costs 8 octets, its share of a leaf's header (16 octets) and of the
//! branches (24 octets a leaf): 11 octets or so altogether, with the usual filling.
//!
//! **Sharing.** Cloning a set copies one pointer. A change writes one new leaf and one new branch for each level above
//! it, and gives the old ones back when nobody else holds them.

use std::cmp::Ordering;

use godwit_wire::name::NameRef;
use triomphe::{Arc, ThinArc};

use super::index::Keyed;
use super::prefetch::prefetch_address;

/// The most entries of a leaf.
const LEAF_MAX: usize = 16;
/// A leaf with fewer entries is joined with its neighbour.
const LEAF_MIN: usize = 6;
/// The most children of a branch.
const BRANCH_MAX: usize = 16;
/// A branch with fewer children is joined with its neighbour.
const BRANCH_MIN: usize = 6;

/// A persistent sorted set of entries. See the module's documentation.
///
/// **Cost**: a clone copies one pointer; finding a name compares some `log2 n` names; a change also copies a leaf
/// and one branch for each level.
#[derive(Clone)]
pub struct OrderedSet<E> {
    root: Option<Node<E>>,
    len: usize,
}

/// Part of the tree; never empty.
#[derive(Clone)]
enum Node<E> {
    Leaf(ThinArc<(), E>),
    Branch(ThinArc<(), Child<E>>),
}

#[derive(Clone)]
struct Child<E> {
    /// The first entry below `node`, so that a descent need not read `node` to pass it by.
    first: E,
    node: Node<E>,
}

impl<E> Default for OrderedSet<E> {
    fn default() -> Self {
        OrderedSet { root: None, len: 0 }
    }
}

impl<E: Keyed> OrderedSet<E> {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A set of entries that are in canonical order already, no name twice.
    ///
    /// Not checked in release builds: with another order, entries will not be found.
    ///
    /// **Cost**: linear, without a compare; leaves nearly full.
    #[must_use]
    pub fn from_sorted(entries: Vec<E>) -> Self {
        debug_assert!(
            entries.is_sorted_by(|a, b| compare(a.key(), b.key()) == Ordering::Less),
            "entries are not in canonical order, or a name is there twice"
        );
        let len = entries.len();
        let mut level: Vec<Node<E>> = even_pieces(entries, LEAF_MAX).map(Node::leaf).collect();
        while level.len() > 1 {
            let children: Vec<Child<E>> = level.into_iter().filter_map(Child::new).collect();
            level = even_pieces(children, BRANCH_MAX).map(Node::branch).collect();
        }
        OrderedSet { root: level.pop(), len }
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

    /// The entry of this name.
    #[must_use]
    pub fn get(&self, name: NameRef<'_>) -> Option<&E> {
        self.floor(name).filter(|entry| entry.key() == name.as_wire())
    }

    /// The last entry at or before this name.
    #[must_use]
    pub fn floor(&self, name: NameRef<'_>) -> Option<&E> {
        self.last_where(|key| compare(key, name.as_wire()) != Ordering::Greater)
    }

    /// The last entry before this name.
    #[must_use]
    pub fn before(&self, name: NameRef<'_>) -> Option<&E> {
        self.last_where(|key| compare(key, name.as_wire()) == Ordering::Less)
    }

    /// The first entry after this name.
    #[must_use]
    pub fn after(&self, name: NameRef<'_>) -> Option<&E> {
        let mut node = self.root.as_ref()?;
        let mut next = None;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let at =
                        leaf.slice.partition_point(|e| compare(e.key(), name.as_wire()) != Ordering::Greater);
                    return leaf.slice.get(at).or(next);
                }
                Node::Branch(branch) => {
                    let at = child_for(&branch.slice, name.as_wire());
                    next = branch.slice.get(at + 1).map(|child| &child.first).or(next);
                    node = &branch.slice.get(at)?.node;
                }
            }
        }
    }

    /// The first entry of all.
    #[must_use]
    pub fn first(&self) -> Option<&E> {
        self.root.as_ref().and_then(Node::first)
    }

    /// The last entry of all.
    #[must_use]
    pub fn last(&self) -> Option<&E> {
        self.last_where(|_| true)
    }

    /// All entries in canonical order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, E> {
        let mut iter = Iter::default();
        if let Some(root) = &self.root {
            iter.enter(root, None);
        }
        iter
    }

    /// The entries from this name on (itself included), in canonical order.
    #[must_use]
    pub fn range_from(&self, name: NameRef<'_>) -> Iter<'_, E> {
        let mut iter = Iter::default();
        if let Some(root) = &self.root {
            iter.enter(root, Some(name.as_wire()));
        }
        iter
    }

    /// Puts an entry in, in place of the one of the same name, which is given back.
    pub fn insert(&mut self, entry: E) -> Option<E> {
        let Some(root) = &mut self.root else {
            self.root = Some(Node::leaf(vec![entry]));
            self.len = 1;
            return None;
        };
        let (replaced, sibling) = root.insert(entry);
        if let Some(sibling) = sibling {
            let children = [root.clone(), sibling].into_iter().filter_map(Child::new).collect();
            *root = Node::branch(children);
        }
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Takes the entry of this name out. Copies nothing when there is none.
    pub fn remove(&mut self, name: NameRef<'_>) -> Option<E> {
        self.get(name)?;
        let root = self.root.as_mut()?;
        let removed = root.remove(name.as_wire())?;
        self.len -= 1;
        // A root with one child is that child.
        while let Node::Branch(branch) = root
            && let [only] = &branch.slice
        {
            *root = only.node.clone();
        }
        if root.size() == 0 {
            self.root = None;
        }
        Some(removed)
    }

    /// The last entry whose key fulfils `left`, which holds for all keys up to some point and for none after it.
    fn last_where(&self, left: impl Fn(&[u8]) -> bool) -> Option<&E> {
        let mut node = self.root.as_ref()?;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    return leaf.slice.get(leaf.slice.partition_point(|e| left(e.key())).checked_sub(1)?);
                }
                Node::Branch(branch) => {
                    let at = branch.slice.partition_point(|child| left(child.first.key())).checked_sub(1)?;
                    node = &branch.slice.get(at)?.node;
                }
            }
        }
    }
}

impl<E: Keyed> Child<E> {
    /// `None` for an empty node.
    fn new(node: Node<E>) -> Option<Self> {
        let first = node.first()?.clone();
        Some(Child { first, node })
    }
}

impl<E: Keyed> Node<E> {
    fn leaf(entries: Vec<E>) -> Self {
        Node::Leaf(ThinArc::from_header_and_iter((), entries.into_iter()))
    }

    fn branch(children: Vec<Child<E>>) -> Self {
        Node::Branch(ThinArc::from_header_and_iter((), children.into_iter()))
    }

    fn first(&self) -> Option<&E> {
        match self {
            Node::Leaf(leaf) => leaf.slice.first(),
            Node::Branch(branch) => branch.slice.first().map(|child| &child.first),
        }
    }

    /// Entries of a leaf, children of a branch.
    fn size(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.slice.len(),
            Node::Branch(branch) => branch.slice.len(),
        }
    }

    fn is_too_small(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.slice.len() < LEAF_MIN,
            Node::Branch(branch) => branch.slice.len() < BRANCH_MIN,
        }
    }

    /// The entry that was replaced, and what no longer fits into this node: it comes right behind.
    fn insert(&mut self, entry: E) -> (Option<E>, Option<Self>) {
        match self {
            Node::Leaf(leaf) => {
                leaf.slice.iter().for_each(Keyed::prefetch);
                match leaf.slice.binary_search_by(|e| compare(e.key(), entry.key())) {
                    Ok(at) => {
                        let swapped = change(leaf, |entries| {
                            entries.get_mut(at).map(|slot| std::mem::replace(slot, entry))
                        });
                        (swapped, None)
                    }
                    Err(at) => {
                        let mut entries = leaf.slice.to_vec();
                        entries.insert(at, entry);
                        let mut pieces = even_pieces(entries, LEAF_MAX).map(Node::leaf);
                        (None, self.become_pieces(&mut pieces))
                    }
                }
            }
            Node::Branch(branch) => {
                branch.slice.iter().for_each(|child| child.first.prefetch());
                let at = child_for(&branch.slice, entry.key());
                branch.slice.iter().for_each(|child| prefetch_address(child.node.address()));
                let (replaced, sibling) = change(branch, |children| {
                    let Some(child) = children.get_mut(at) else { return Default::default() };
                    if compare(entry.key(), child.first.key()) != Ordering::Greater {
                        child.first = entry.clone();
                    }
                    child.node.insert(entry)
                });
                let Some(sibling) = sibling.and_then(Child::new) else { return (replaced, None) };
                let mut children = branch.slice.to_vec();
                children.insert(at + 1, sibling);
                let mut pieces = even_pieces(children, BRANCH_MAX).map(Node::branch);
                (replaced, self.become_pieces(&mut pieces))
            }
        }
    }

    /// Takes the entry of this name out; may leave this node too small, or empty.
    fn remove(&mut self, key: &[u8]) -> Option<E> {
        match self {
            Node::Leaf(leaf) => {
                let at = leaf.slice.binary_search_by(|e| compare(e.key(), key)).ok()?;
                leaf.slice.iter().for_each(Keyed::prefetch);
                let mut entries = leaf.slice.to_vec();
                let removed = entries.remove(at);
                *self = Node::leaf(entries);
                Some(removed)
            }
            Node::Branch(branch) => {
                let at = child_for(&branch.slice, key);
                let (removed, too_small) = change(branch, |children| {
                    let Some(child) = children.get_mut(at) else { return Default::default() };
                    let removed = child.node.remove(key);
                    if let Some(first) = child.node.first() {
                        child.first = first.clone();
                    }
                    (removed, child.node.is_too_small())
                });
                if too_small {
                    *self = Node::branch(joined(branch.slice.to_vec(), at));
                }
                removed
            }
        }
    }

    /// Becomes the first piece; the second, if any, is given back.
    fn become_pieces(&mut self, pieces: &mut dyn Iterator<Item = Self>) -> Option<Self> {
        if let Some(first) = pieces.next() {
            *self = first;
        }
        pieces.next()
    }

    /// The address of the node's memory, for prefetching.
    fn address(&self) -> *const u8 {
        match self {
            Node::Leaf(leaf) => leaf.heap_ptr().cast(),
            Node::Branch(branch) => branch.heap_ptr().cast(),
        }
    }
}

/// The same children with child `at` joined to a neighbour, and cut in two again if that is too long.
fn joined<E: Keyed>(mut children: Vec<Child<E>>, at: usize) -> Vec<Child<E>> {
    let left = if at + 1 < children.len() { at } else { at.saturating_sub(1) };
    let pair: Vec<Child<E>> = children.drain(left..children.len().min(left + 2)).collect();
    let nodes: Vec<Node<E>> = match pair.as_slice() {
        [Child { node: Node::Leaf(a), .. }, Child { node: Node::Leaf(b), .. }] => {
            even_pieces([&a.slice, &b.slice].concat(), LEAF_MAX).map(Node::leaf).collect()
        }
        [Child { node: Node::Branch(a), .. }, Child { node: Node::Branch(b), .. }] => {
            even_pieces([&a.slice, &b.slice].concat(), BRANCH_MAX).map(Node::branch).collect()
        }
        // No neighbour: an only child. All leaves are equally deep, so there is no other case.
        other => other.iter().map(|child| child.node.clone()).collect(),
    };
    children.splice(left..left, nodes.into_iter().filter_map(Child::new));
    children
}

/// Changes a node's slots in place, after giving it memory of its own if somebody else holds it.
fn change<T: Clone, R: Default>(node: &mut ThinArc<(), T>, change: impl FnOnce(&mut [T]) -> R) -> R {
    if ThinArc::strong_count(node) > 1 {
        *node = ThinArc::from_header_and_iter((), node.slice.iter().cloned());
    }
    node.with_arc_mut(|node| Arc::get_mut(node).map(|node| change(node.slice_mut())).unwrap_or_default())
}

/// Which child a name belongs to: the last one that does not begin after it, else the first.
fn child_for<E: Keyed>(children: &[Child<E>], key: &[u8]) -> usize {
    children.partition_point(|child| compare(child.first.key(), key) != Ordering::Greater).saturating_sub(1)
}

/// As few pieces of at most `max` as possible, equally long or nearly so; none for nothing.
fn even_pieces<T>(items: Vec<T>, max: usize) -> impl Iterator<Item = Vec<T>> {
    let mut pieces = items.len().div_ceil(max);
    let mut items = items.into_iter();
    std::iter::from_fn(move || {
        let len = items.len().div_ceil(pieces.max(1));
        let piece: Vec<T> = items.by_ref().take(len).collect();
        pieces = pieces.saturating_sub(1);
        (!piece.is_empty()).then_some(piece)
    })
}

/// Entries in canonical order. See [`OrderedSet::iter`].
pub struct Iter<'a, E> {
    /// The children still to come, from the root down.
    branches: Vec<std::slice::Iter<'a, Child<E>>>,
    leaf: std::slice::Iter<'a, E>,
}

impl<E> Default for Iter<'_, E> {
    fn default() -> Self {
        Iter { branches: Vec::new(), leaf: [].iter() }
    }
}

impl<'a, E: Keyed> Iter<'a, E> {
    /// Goes down to the first leaf below `node`, or to where `from` is.
    fn enter(&mut self, mut node: &'a Node<E>, from: Option<&[u8]>) {
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let skip = from.map_or(0, |from| {
                        leaf.slice.partition_point(|e| compare(e.key(), from) == Ordering::Less)
                    });
                    self.leaf = leaf.slice.get(skip..).unwrap_or_default().iter();
                    return;
                }
                Node::Branch(branch) => {
                    let at = from.map_or(0, |from| child_for(&branch.slice, from));
                    let mut children = branch.slice.get(at..).unwrap_or_default().iter();
                    let Some(child) = children.next() else { return };
                    self.branches.push(children);
                    node = &child.node;
                }
            }
        }
    }
}

impl<'a, E: Keyed> Iterator for Iter<'a, E> {
    type Item = &'a E;

    fn next(&mut self) -> Option<&'a E> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(entry);
            }
            match self.branches.last_mut()?.next() {
                Some(child) => self.enter(&child.node, None),
                None => {
                    self.branches.pop();
                }
            }
        }
    }
}

/// Canonical order (RFC 4034 §6.1) of two lower-case wire names.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    NameRef::from_checked(a).cmp(&NameRef::from_checked(b))
}
