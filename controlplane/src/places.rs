//! Places of which there are so many in all, and so many for each who takes them.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// See the module. Holds an entry for each who has a place, and no others.
#[derive(Debug)]
pub(crate) struct Places<K: Eq + Hash> {
    most: u32,
    most_of_one: usize,
    free: Arc<Semaphore>,
    taken: Mutex<HashMap<K, usize>>,
}

/// One of them; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    who: K,
    _place: OwnedSemaphorePermit,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    /// All are taken.
    All,
    /// Who asks has as many as one may.
    Own,
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// So many, and so many for each.
    pub(crate) fn new(most: usize, most_of_one: usize) -> Arc<Places<K>> {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let free = Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS));
        Arc::new(Places { most, most_of_one, free: Arc::new(free), taken: Mutex::default() })
    }

    /// One more for somebody.
    ///
    /// # Errors
    /// What there is not enough of.
    pub(crate) fn admit(self: &Arc<Self>, who: K) -> Result<Place<K>, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&who).copied().unwrap_or(0);
        if count >= self.most_of_one {
            return Err(Full::Own);
        }
        let place = self.free.clone().try_acquire_owned().map_err(|_| Full::All)?;
        taken.insert(who.clone(), count + 1);
        drop(taken);
        Ok(Place { places: self.clone(), who, _place: place })
    }

    /// Resolves when none is taken.
    pub(crate) async fn all_free(&self) {
        let _ = self.free.acquire_many(self.most).await;
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.who) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_come_free() {
        let places = Places::new(3, 2);
        let (first, second) = (places.admit("a").unwrap(), places.admit("a").unwrap());
        assert_eq!(places.admit("a").unwrap_err(), Full::Own);
        let other = places.admit("b").unwrap();
        assert_eq!(places.admit("c").unwrap_err(), Full::All);
        drop(first);
        let again = places.admit("b").unwrap();
        drop(second);
        assert_eq!(places.admit("b").unwrap_err(), Full::Own);
        drop(places.admit("c").unwrap());
        drop((other, again));
        assert!(places.taken.lock().unwrap().is_empty(), "who is gone is forgotten");
    }
}
