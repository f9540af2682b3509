//! The allocator of the benchmarks: mimalloc, as the programs use it, counting the octets in use.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait; this one only counts and hands on")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

use mimalloc::MiMalloc;

static IN_USE_OCTETS: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// mimalloc with a count. Install it with `#[global_allocator]`.
pub struct Counting;

/// Octets asked for and not given back, rounded up to 16 each, which is the least step of the allocator's size
/// classes.
#[must_use]
pub fn in_use_octets() -> usize {
    IN_USE_OCTETS.load(Ordering::Relaxed)
}

/// Allocations so far.
#[must_use]
pub fn allocation_count() -> usize {
    ALLOCATIONS.load(Ordering::Relaxed)
}

fn rounded(layout: Layout) -> usize {
    layout.size().next_multiple_of(16)
}

// SAFETY: every call goes to mimalloc unchanged, whose implementation upholds the trait's contract; counting
// touches atomics only and neither allocates nor unwinds. The provided `realloc` and `alloc_zeroed` use these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE_OCTETS.fetch_add(rounded(layout), Ordering::Relaxed);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE_OCTETS.fetch_sub(rounded(layout), Ordering::Relaxed);
        // SAFETY: `pointer` came from `alloc` above with this `layout`, hence from mimalloc.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}
