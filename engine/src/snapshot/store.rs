//! Holds the current snapshot: publication by the feed, handles for the workers, retirement of the old ones.
//!
//! Leaves out what a snapshot is: [`Store`] works for any value. There is one writer (the feed); readers never
//! wait for it, nor it for them.
//!
//! **Retirement.** A worker keeps the snapshot it last took until it takes the next, so it may well be the last
//! to let go of one; freeing it, or even only the pages that changed, would then stop that worker from answering. Hence
//! [`Store::swap`] puts the old snapshot on a list that only the writer's side touches, and [`Store::reap`], called there,
//! frees what nobody else holds any more. A worker's letting go is never the last: it decrements a count.
//!
//! An idle worker must call [`Handle::get`] now and then all the same, or it keeps what it last took from being freed.

use std::ops::Deref;
#[cfg(not(all(loom, test)))]
use std::sync::{Arc as Shared, Mutex};
use std::sync::{Arc, PoisonError};

#[cfg(not(all(loom, test)))]
use arc_swap::{ArcSwap, Cache};
// What loom can look into, for `store_model`.
#[cfg(all(loom, test))]
use loom::sync::{Arc as Shared, Mutex};

#[cfg(all(loom, test))]
use super::store_model::{ArcSwap, Cache};

/// The current value and the retired ones. See the module's documentation.
pub struct Store<T> {
    current: ArcSwap<T>,
    /// Old values that somebody may still hold, oldest first. The writer's side alone takes this lock: no reader
    /// ever waits for it.
    retired: Mutex<Vec<Shared<T>>>,
}

/// What [`Store::reap`] did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reaped {
    /// Retired values that were freed.
    pub freed_count: usize,
    /// Retired values that a worker, or a zone transfer in progress, still holds.
    pub held_count: usize,
}

impl<T> Store<T> {
    /// A store whose current value is `first`.
    #[must_use]
    pub fn new(first: T) -> Arc<Self> {
        Arc::new(Store { current: ArcSwap::from_pointee(first), retired: Mutex::default() })
    }

    /// The current value, for as long as the caller wants it (a transfer, a dump). Workers use a [`Handle`].
    ///
    /// **Cost**: increments a shared count.
    #[must_use]
    pub fn load(&self) -> Shared<T> {
        self.current.load_full()
    }

    /// A worker's own way to the current value.
    #[must_use]
    pub fn handle(self: &Arc<Self>) -> Handle<T> {
        Handle(Cache::new(Current(Arc::clone(self))))
    }

    /// Makes `next` current: every [`Handle::get`] and [`Store::load`] from now on gives it. The old value is
    /// retired, not freed.
    ///
    /// **Cost**: does not wait for readers to move on.
    pub fn swap(&self, next: T) {
        let old = self.current.swap(Shared::new(next));
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(old);
    }

    /// Frees the retired values that nobody else holds, on the calling thread: the writer's, never a worker's.
    ///
    /// **Cost**: that of dropping them; a value that shares most of its parts with its successor is cheap.
    pub fn reap(&self) -> Reaped {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        // A retired value is out of reach of `load` and of handles: once its count is 1, it is ours for good.
        let free: Vec<Shared<T>> = retired.extract_if(.., |old| Shared::get_mut(old).is_some()).collect();
        let held_count = retired.len();
        drop(retired);
        Reaped { freed_count: free.len(), held_count }
    }
}

/// A worker's handle on a store: to be asked once for a batch.
pub struct Handle<T>(Cache<Current<T>, Shared<T>>);

impl<T> Handle<T> {
    /// The current value. The reference stays good until the next call, whatever the writer does meanwhile.
    ///
    /// **Cost**: one load and compare when nothing was swapped; otherwise it also lets go of the previous value,
    /// which the retired list still holds, so nothing is freed here.
    #[inline]
    pub fn get(&mut self) -> &T {
        self.0.load()
    }
}

/// Leads the cache to the store's current value.
struct Current<T>(Arc<Store<T>>);

impl<T> Deref for Current<T> {
    type Target = ArcSwap<T>;

    fn deref(&self) -> &ArcSwap<T> {
        &self.0.current
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::mpsc;
    use std::thread::{self, ThreadId};

    use super::*;

    /// Sixty-four times the same number; reports on which thread it is dropped.
    struct Whole {
        numbers: [u64; 64],
        dropped: mpsc::Sender<(u64, ThreadId)>,
    }

    impl Whole {
        fn new(number: u64, dropped: &mpsc::Sender<(u64, ThreadId)>) -> Self {
            Whole { numbers: [number; 64], dropped: dropped.clone() }
        }

        fn number(&self) -> u64 {
            assert!(self.numbers.iter().all(|n| *n == self.numbers[0]), "torn: {:?}", self.numbers);
            self.numbers[0]
        }
    }

    impl Drop for Whole {
        fn drop(&mut self) {
            // The receiver may be gone when a failing test unwinds.
            let _ = self.dropped.send((self.numbers[0], thread::current().id()));
        }
    }

    #[test]
    fn a_worker_that_lets_go_last_frees_nothing() {
        let (dropped, drops) = mpsc::channel();
        let store = Store::new(Whole::new(0, &dropped));
        let mut handle = store.handle();
        let (go, wait) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let worker = thread::spawn(move || {
            tell.send(handle.get().number()).unwrap();
            wait.recv().unwrap();
            // Lets go of value 0, which nobody but the retired list holds now.
            tell.send(handle.get().number()).unwrap();
            wait.recv().unwrap();
        });
        assert_eq!(told.recv().unwrap(), 0);
        store.swap(Whole::new(1, &dropped));
        assert_eq!(store.reap(), Reaped { freed_count: 0, held_count: 1 }, "the worker still holds it");
        assert!(drops.try_recv().is_err());
        go.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), 1);
        assert!(drops.try_recv().is_err(), "freed by the worker");
        assert_eq!(store.reap(), Reaped { freed_count: 1, held_count: 0 });
        assert_eq!(drops.try_recv().unwrap(), (0, thread::current().id()));
        go.send(()).unwrap();
        worker.join().unwrap();
    }

    #[test]
    fn readers_see_whole_values_in_order_and_the_writer_frees_them_all() {
        const SWAPS_MIN: u64 = if cfg!(miri) { 60 } else { 20_000 };
        let mut swaps = 0;
        let (dropped, drops) = mpsc::channel();
        let store = Store::new(Whole::new(0, &dropped));
        let stop = AtomicBool::new(false);
        let seen = AtomicU64::new(0);
        let writer = thread::current().id();
        thread::scope(|scope| {
            for _ in 0..3 {
                let mut handle = store.handle();
                let (stop, seen, store) = (&stop, &seen, &store);
                scope.spawn(move || {
                    let mut last = 0;
                    let mut different = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        let number = handle.get().number();
                        assert!(number >= last, "went back from {last} to {number}");
                        if number != last {
                            different += 1;
                            last = number;
                            seen.fetch_add(u64::from(different == 3), Ordering::Relaxed);
                        }
                        if different % 7 == 1 {
                            assert!(store.load().number() >= number);
                        }
                    }
                });
            }
            // At least until every reader has seen some swaps, however busy the machine.
            while swaps < SWAPS_MIN || seen.load(Ordering::Relaxed) < 3 {
                swaps += 1;
                store.swap(Whole::new(swaps, &dropped));
                if swaps.is_multiple_of(3) {
                    store.reap();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(store.reap().held_count, 0);
        let freed: Vec<(u64, ThreadId)> = drops.try_iter().collect();
        assert_eq!(freed.len() as u64, swaps, "all but the current value");
        assert!(freed.iter().all(|(_, thread)| *thread == writer), "freed by a reader");
        assert_eq!(store.load().number(), swaps);
    }
}
