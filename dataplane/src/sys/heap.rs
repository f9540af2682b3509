//! What the allocator keeps beyond what is in use.
#![expect(unsafe_code, reason = "mi_collect")]

/// Gives memory that was freed back to the system. Takes milliseconds: for after a load, when much was in use for a moment.
///
/// The allocator does so by itself only while it is asked for more; after a load nothing asks. Does nothing in a program that has
/// another allocator.
pub fn give_back() {
    // SAFETY: no pointers; mimalloc allows it from any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
