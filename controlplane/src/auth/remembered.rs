//! Tokens that were found good a moment ago, and are not looked up again; for longer while there is nowhere to look.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::TokenHash;

/// How long: within it a revocation takes effect.
const REMEMBERED: Duration = Duration::from_millis(500);
/// Tokens that are remembered.
const MOST_REMEMBERED: usize = 1_024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Remembered<T>(Mutex<HashMap<TokenHash, (Instant, T)>>);

impl<T> Default for Remembered<T> {
    fn default() -> Remembered<T> {
        Remembered(Mutex::default())
    }
}

impl<T: Clone> Remembered<T> {
    /// Who was found to hold a token.
    pub(crate) fn get(&self, hash: &TokenHash) -> Option<T> {
        self.within(hash, REMEMBERED)
    }

    /// Who was found to hold a token when it was last looked up, if that is not longer ago.
    pub(crate) fn within(&self, hash: &TokenHash, limit: Duration) -> Option<T> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, holder) = remembered.get(hash)?;
        (at.elapsed() < limit).then(|| holder.clone())
    }

    /// Forgets those of which something was heard.
    pub(crate) fn forget(&self, is_meant: impl Fn(&T) -> bool) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.retain(|_, (_, holder)| !is_meant(holder));
    }

    /// Remembers who holds one.
    pub(crate) fn keep(&self, hash: TokenHash, holder: T) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED && !remembered.contains_key(&hash) {
            let oldest = remembered.iter().min_by_key(|(_, (at, _))| *at).map(|(hash, _)| *hash);
            if let Some(oldest) = oldest {
                remembered.remove(&oldest);
            }
        }
        remembered.insert(hash, (Instant::now(), holder));
    }
}
