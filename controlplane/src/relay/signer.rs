//! Signs what leaves the process: nothing that a data plane elsewhere applies is trusted because of where it came from (P9).
//! What several ask for is signed once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use godwit_wire::feed::{Announcement, Batch, SigningKey, VerifyingKey};

use super::batches::Made;
use crate::secrets::FeedKeys;

/// Octets of signed batches that stay in memory, and how many.
const KEPT_OCTETS: usize = 32 << 20;
const KEPT: usize = 4_096;

/// Who signs now. See the module.
#[derive(Debug)]
pub(crate) struct Signer(Mutex<Arc<Signing>>);

/// One key, and what it has signed.
#[derive(Debug)]
pub(crate) struct Signing {
    keys: FeedKeys,
    batches: Mutex<Signed>,
    announced: OnceLock<Bytes>,
}

impl Signing {
    fn with(keys: FeedKeys) -> Signing {
        Signing { keys, batches: Mutex::default(), announced: OnceLock::new() }
    }
}

/// Signed batches by their chain hash.
#[derive(Debug, Default)]
struct Signed {
    by_chain: HashMap<[u8; 32], Bytes>,
    order: VecDeque<[u8; 32]>,
    octets: usize,
}

impl Signer {
    pub(crate) fn new(keys: FeedKeys) -> Signer {
        Signer(Mutex::new(Arc::new(Signing::with(keys))))
    }

    /// The key that signs at this moment.
    pub(crate) fn now(&self) -> Arc<Signing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Signs with other keys from here on; whether they are others.
    pub(crate) fn replace(&self, keys: FeedKeys) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = now.keys.trusted != keys.trusted;
        if changed {
            *now = Arc::new(Signing::with(keys));
        }
        changed
    }
}

impl Signing {
    /// Signs.
    pub(crate) fn key(&self) -> &SigningKey {
        &self.keys.signing
    }

    /// What data planes trust: the key that signs, and the next.
    pub(crate) fn trusted(&self) -> &[VerifyingKey; 2] {
        &self.keys.trusted
    }

    /// What data planes elsewhere are told of the keys and of whom to ask, which is the same for a process: signed by the key
    /// that signs, which they trust already.
    pub(crate) fn announcement(&self, urls: &[String]) -> Bytes {
        let announce = || {
            let FeedKeys { trusted, number, .. } = &self.keys;
            let announcement = Announcement { number: *number, keys: trusted.to_vec(), urls: urls.to_vec() };
            let mut octets = Vec::new();
            announcement.encode_signed(self.key(), &mut octets);
            octets.into()
        };
        self.announced.get_or_init(announce).clone()
    }

    /// A batch of the log, signed.
    pub(crate) fn batch(&self, made: &Made) -> Bytes {
        let mut signed = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(octets) = signed.by_chain.get(&made.entry.chain) {
            return octets.clone();
        }
        drop(signed);
        // Our own batches have the header of one.
        let octets = Bytes::from(Batch::sign(&made.octets, self.key()).unwrap_or_default());
        signed = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        signed.keep(made.entry.chain, octets.clone());
        octets
    }
}

impl Signed {
    fn keep(&mut self, chain: [u8; 32], octets: Bytes) {
        self.octets += octets.len();
        if let Some(before) = self.by_chain.insert(chain, octets) {
            self.octets -= before.len();
        } else {
            self.order.push_back(chain);
        }
        while self.order.len() > KEPT || (self.octets > KEPT_OCTETS && self.order.len() > 1) {
            let oldest = self.order.pop_front().and_then(|chain| self.by_chain.remove(&chain));
            self.octets -= oldest.map_or(0, |octets| octets.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let mut signed = Signed::default();
        for n in 0..KEPT as u64 + 10 {
            let mut chain = [0; 32];
            chain[..8].copy_from_slice(&n.to_be_bytes());
            signed.keep(chain, Bytes::from_static(b"x"));
            signed.keep(chain, Bytes::from_static(b"x"));
        }
        assert_eq!((signed.order.len(), signed.by_chain.len(), signed.octets), (KEPT, KEPT, KEPT));
        signed.keep([9; 32], vec![0; KEPT_OCTETS + 1].into());
        assert_eq!((signed.order.len(), signed.octets), (1, KEPT_OCTETS + 1));
    }
}
