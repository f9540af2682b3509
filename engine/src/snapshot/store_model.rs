//! Every interleaving of the store's hand-over and retirement, by loom: the code of [`super::store`] as it is, over the atomics
//! that loom can see. `make loom` runs it.
//!
//! What is tested is ours: that a value is retired by whoever swaps, freed by whoever reaps and by nobody else, that no reader is
//! given one that was freed, and none goes back. What is not is `arc-swap` itself: loom cannot see into it, so [`ArcSwap`]
//! and [`Cache`] here stand in for it and do what its documentation promises, one step of it at a time. The test of `store.rs`
//! that lets readers and a writer race runs over the real one.

use std::ops::Deref;

use loom::sync::{Arc, Mutex};

/// Gives and takes an `Arc` in one step.
pub(super) struct ArcSwap<T>(Mutex<Arc<T>>);

impl<T> ArcSwap<T> {
    pub(super) fn from_pointee(first: T) -> Self {
        ArcSwap(Mutex::new(Arc::new(first)))
    }

    pub(super) fn load_full(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().unwrap())
    }

    pub(super) fn swap(&self, next: Arc<T>) -> Arc<T> {
        std::mem::replace(&mut self.0.lock().unwrap(), next)
    }

    fn is_current(&self, held: &Arc<T>) -> bool {
        Arc::ptr_eq(&self.0.lock().unwrap(), held)
    }
}

/// Compares before it loads; in between anything may happen.
pub(super) struct Cache<D, A> {
    swap: D,
    held: A,
}

impl<T, D: Deref<Target = ArcSwap<T>>> Cache<D, Arc<T>> {
    pub(super) fn new(swap: D) -> Self {
        let held = swap.load_full();
        Cache { swap, held }
    }

    pub(super) fn load(&mut self) -> &Arc<T> {
        if !self.swap.is_current(&self.held) {
            // What was held is let go of after the new one is there.
            self.held = self.swap.load_full();
        }
        &self.held
    }
}

mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use loom::thread;

    use super::super::store::{Handle, Reaped, Store};

    thread_local! {
        /// How many were freed. loom runs all of its threads on one of the system, so they share this.
        static FREED: AtomicUsize = const { AtomicUsize::new(0) };
    }

    /// A number; only the writer may free it.
    struct Value {
        number: usize,
        writer: thread::ThreadId,
    }

    impl Drop for Value {
        fn drop(&mut self) {
            assert_eq!(thread::current().id(), self.writer, "{} was freed by a reader", self.number);
            FREED.with(|freed| freed.fetch_add(1, Ordering::Relaxed));
        }
    }

    fn value(number: usize) -> Value {
        Value { number, writer: thread::current().id() }
    }

    fn freed() -> usize {
        FREED.with(|freed| freed.load(Ordering::Relaxed))
    }

    /// Takes the value `times` times; the last number seen.
    fn reads(mut handle: Handle<Value>, times: usize) -> usize {
        let mut last = 0;
        for _ in 0..times {
            let number = handle.get().number;
            assert!(number >= last, "went back from {last} to {number}");
            last = number;
        }
        last
    }

    #[test]
    fn a_reader_and_a_writer_in_every_order() {
        loom::model(|| {
            FREED.with(|freed| freed.store(0, Ordering::Relaxed));
            let store = Store::new(value(0));
            let handle = store.handle();
            let reader = thread::spawn(move || reads(handle, 3));
            store.swap(value(1));
            let first = store.reap();
            store.swap(value(2));
            let second = store.reap();
            assert_eq!(first.freed_count + first.held_count, 1);
            assert_eq!(first.freed_count + second.freed_count, freed());
            assert!(reader.join().unwrap() <= 2);
            // The reader is gone and has freed nothing; the rest is ours.
            let left = 2 - freed();
            assert_eq!(store.reap(), Reaped { freed_count: left, held_count: 0 });
            assert_eq!(freed(), 2);
            assert_eq!(store.load().number, 2);
        });
    }

    #[test]
    fn two_readers_and_a_swap_in_every_order() {
        loom::model(|| {
            FREED.with(|freed| freed.store(0, Ordering::Relaxed));
            let store = Store::new(value(0));
            let readers = [(); 2].map(|()| {
                let handle = store.handle();
                thread::spawn(move || reads(handle, 2))
            });
            store.swap(value(1));
            let reaped = store.reap();
            assert_eq!(reaped.freed_count, freed());
            for reader in readers {
                assert!(reader.join().unwrap() <= 1);
            }
            store.reap();
            assert_eq!(freed(), 1);
        });
    }

    #[test]
    fn a_transfer_that_holds_a_value_keeps_it_from_being_freed() {
        loom::model(|| {
            FREED.with(|freed| freed.store(0, Ordering::Relaxed));
            let store = Store::new(value(0));
            let other = std::sync::Arc::clone(&store);
            let transfer = thread::spawn(move || {
                let held = other.load();
                let number = held.number;
                thread::yield_now();
                assert_eq!(held.number, number);
                number
            });
            store.swap(value(1));
            store.reap();
            let number = transfer.join().unwrap();
            store.reap();
            assert!(number <= 1);
            assert_eq!(freed(), 1);
        });
    }
}
