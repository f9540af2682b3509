//! Decoding the feed allocates no more than a small multiple of what it was given, whatever the counts in it say.
//! Own binary: it counts every allocation of its process.
#![expect(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use godwit_wire::feed::{Batch, ChangeSet, Index, ZoneBlob};

struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many octets are allocated for each octet of input, and how many besides.
const FACTOR: usize = 32;
const BESIDES: usize = 1_024;

fn allocated_by(decode: impl FnOnce()) -> usize {
    let before = ALLOCATED.load(Ordering::Relaxed);
    decode();
    ALLOCATED.load(Ordering::Relaxed) - before
}

/// A count of 2^24.
const HUGE: &[u8] = &[0x80, 0x80, 0x80, 8];

/// The header of a kind, what stands before its first count, and a count.
fn with_count(kind: u8, before: &[u8], count: &[u8], padding: usize) -> Vec<u8> {
    let mut octets = [b"GDWT", &[kind, 1, 0, 0][..], before, count].concat();
    octets.resize(octets.len() + padding, 0);
    octets
}

#[test]
fn counts_do_not_allocate() {
    // One zone "." changed by: an update, a replacement, and a replacement with one A set of too many records.
    let zone = |kind: u8| [&[0; 24][..], &[1], &[0; 20], &[1, kind]].concat();
    let rrset = [&zone(2)[..], &[1, 0, 0, 1, 0, 0, 0, 0]].concat();
    let inputs = [
        ("zone changes", 1, vec![0; 24]),
        ("RRset changes", 1, zone(1)),
        ("RRsets", 1, zone(2)),
        ("records", 1, rrset),
        ("change sets", 2, vec![1; 56]),
        ("zone blob", 4, vec![0; 13]),
        ("zones of an index", 5, vec![0; 64]),
    ];
    for (what, kind, before) in inputs {
        // What is behind the count, and how many octets that is, or one where there are none.
        for (padding, as_many) in
            [(0, &[1][..]), (100, &[100]), (10_000, &[0x90, 0x4E]), (100_000, &[0xA0, 0x8D, 6])]
        {
            for count in [HUGE, as_many] {
                let octets = with_count(kind, &before, count, padding);
                let allocated = allocated_by(|| {
                    let refused = match kind {
                        1 => ChangeSet::decode(&octets).is_err(),
                        2 => Batch::decode(&octets).is_err(),
                        5 => Index::decode(&octets).is_err(),
                        _ => ZoneBlob::decode(&octets).is_err(),
                    };
                    assert!(refused, "{what}");
                });
                let limit = FACTOR * octets.len() + BESIDES;
                assert!(
                    allocated <= limit,
                    "{what}: {allocated} octets allocated for {} octets",
                    octets.len()
                );
            }
        }
    }
}
