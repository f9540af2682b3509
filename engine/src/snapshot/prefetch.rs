//! Asks the CPU to load memory that will soon be read.
//!
//! A look-up in a large snapshot waits for memory at three places: the slot of the leaf directory, the page, the
//! entry. Looked up one after another, names pay for these waits in full; looked up in stages over a received
//! batch ([`crate::snapshot::index::Index`]), the waits of all names overlap. This file leaves out what to load
//! and when: that is the business of the index and of the answer engine.
//!
//! A prefetch is a hint: it reads nothing the program can see, changes nothing, and never faults, whatever the
//! address. That is why the functions are safe, and why the fallback (other CPUs, Miri) may do nothing.
#![expect(
    unsafe_code,
    reason = "the prefetch intrinsic is an unsafe function, though no address can make it fault"
)]

/// Octets that the CPU loads at once.
pub const LINE_OCTETS: usize = 64;

/// Asks for the cache line in which `value` begins.
#[inline(always)]
pub fn prefetch<T: ?Sized>(value: &T) {
    prefetch_address(std::ptr::from_ref(value).cast());
}

/// Asks for the first `lines` cache lines from `address` on.
///
/// **Cost**: one instruction a line; more than two or three lines a name fill the CPU's queue of open loads.
#[inline(always)]
pub fn prefetch_lines(address: *const u8, lines: usize) {
    for line in 0..lines {
        // The address may lie behind the allocation: it is never read through, only hinted at.
        prefetch_address(address.wrapping_add(line.wrapping_mul(LINE_OCTETS)));
    }
}

/// Asks for the cache line of `address`, which need not be valid.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
pub fn prefetch_address(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: PREFETCHT0 is a hint without architectural effect: it raises no fault for any address and gives no
    // value back (Intel SDM volume 2, PREFETCHh). SSE, its only requirement, is part of the x86_64 baseline.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

/// Does nothing here: correctness never depends on a hint.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
pub fn prefetch_address(_address: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_is_allowed() {
        prefetch_address(std::ptr::null());
        prefetch_address(std::ptr::without_provenance(usize::MAX));
        prefetch_lines(std::ptr::without_provenance(usize::MAX - 8), 4);
        prefetch(&[1u8, 2, 3][..]);
        prefetch("");
    }
}
