//! The data plane from outside: real sockets, real processes.
#![expect(unsafe_code, reason = "an allocator that counts")]

mod allocations;
mod chance;
mod client;
mod cookies;
mod escaping;
mod every_type;
mod feed;
mod feed_machine;
mod feed_node;
mod feed_poison;
mod feed_resync;
mod feed_simulation;
mod handover;
mod handover_ends;
mod handover_fire;
mod handover_log;
mod malformed;
mod one_snapshot;
mod open_files;
mod operation;
mod panics;
mod process;
mod query_log;
mod rate_limit;
mod reflector;
mod relay;
mod sandbox;
mod scenarios;
mod snapshots;
mod source;
mod state;
mod state_damage;
mod state_faults;
mod state_kill;
mod supervisor;
mod tcp_limits;
mod tcp_storm;
mod traffic;
mod udp_addresses;
mod zone_files;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what each thread allocates and frees, so that a test can show that a worker does neither.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// What the calling thread has allocated and freed so far, in calls.
fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

fn count() {
    // A thread that is ending may allocate after its counter is gone; nobody asks for that count.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the pointer came from `alloc` above, hence from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as in `dealloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
