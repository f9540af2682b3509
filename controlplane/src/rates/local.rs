//! Buckets that this process keeps alone: where there is no Redis, while it is away, and what it last said of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bucket::{Answer, Bucket, Key};

/// How many buckets are kept at most, some 32 octets each.
const MOST: usize = 262_144;
/// What is kept before that is forgotten which is full again, and how often that is looked for at most.
const SWEEP_FROM: usize = 16_384;
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Local {
    began: Instant,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// When each is full again, in microseconds since the start.
    full_at: HashMap<Key, i64>,
    swept_at: i64,
}

impl Default for Local {
    fn default() -> Local {
        Local { began: Instant::now(), kept: Mutex::default() }
    }
}

impl Local {
    /// Takes of all of them what each says, or of none where one has no room.
    pub(super) fn take(&self, buckets: &[Bucket]) -> Answer {
        self.with(|kept, now| kept.take(buckets, now))
    }

    /// What they have and whether there is room, and takes nothing.
    pub(super) fn look(&self, buckets: &[Bucket]) -> Answer {
        self.with(|kept, now| kept.look(buckets, now))
    }

    /// What Redis says is missing of each is missing here at least.
    pub(super) fn note(&self, buckets: &[Bucket], missing_us: &[i64]) {
        self.with(|kept, now| {
            for (bucket, missing_us) in buckets.iter().zip(missing_us) {
                let full_at = kept.full_at(bucket, now).max(now + (*missing_us).min(bucket.pace.depth_us));
                kept.set(bucket.key, full_at, now);
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Kept, i64) -> T) -> T {
        let now = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        work(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

impl Kept {
    fn full_at(&self, bucket: &Bucket, now: i64) -> i64 {
        let full_at = self.full_at.get(&bucket.key).copied().unwrap_or(now);
        full_at.clamp(now, now + bucket.pace.depth_us)
    }

    fn look(&self, buckets: &[Bucket], now: i64) -> Answer {
        let missing_us: Vec<i64> = buckets.iter().map(|bucket| self.full_at(bucket, now) - now).collect();
        let taken = buckets.iter().zip(&missing_us).all(|(bucket, missing_us)| bucket.has_room(*missing_us));
        Answer { taken, missing_us }
    }

    fn take(&mut self, buckets: &[Bucket], now: i64) -> Answer {
        let answer = self.look(buckets, now);
        if answer.taken {
            for (bucket, missing_us) in buckets.iter().zip(&answer.missing_us) {
                let missing_us = missing_us + bucket.takes * bucket.pace.interval_us;
                self.set(bucket.key, now + missing_us, now);
            }
        }
        answer
    }

    fn set(&mut self, key: Key, full_at: i64, now: i64) {
        if full_at <= now {
            self.full_at.remove(&key);
            return;
        }
        if self.full_at.len() >= SWEEP_FROM {
            self.sweep(now);
        }
        self.full_at.insert(key, full_at);
    }

    /// Forgets what is full again; and where that makes no room, the half of which least is missing: nobody gains by that more than
    /// they had nearly anyway, and nobody who comes is refused for those who are there.
    fn sweep(&mut self, now: i64) {
        let is_due = now - self.swept_at >= i64::try_from(SWEEP_EVERY.as_micros()).unwrap_or(i64::MAX);
        if is_due || self.full_at.len() >= MOST {
            self.swept_at = now;
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        if self.full_at.len() >= MOST {
            let mut all: Vec<i64> = self.full_at.values().copied().collect();
            let middle = all.len() / 2;
            let (_, &mut median, _) = all.select_nth_unstable(middle);
            let mut to_go = middle;
            self.full_at.retain(|_, full_at| {
                let goes = *full_at <= median && to_go > 0;
                to_go -= usize::from(goes);
                !goes
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bucket::{Of, Pace};
    use super::*;
    use crate::config::Rate;

    fn bucket(n: u32, per_minute: u32, burst: u32) -> Bucket {
        let mut key = Key::default();
        key[..4].copy_from_slice(&n.to_be_bytes());
        Bucket { of: Of::Token, key, pace: Pace::of(Rate { per_minute, burst }).unwrap(), takes: 1 }
    }

    #[test]
    fn a_bucket_is_emptied_and_fills() {
        let mut kept = Kept::default();
        let one = [bucket(1, 60, 3)];
        for missing_s in 0..3 {
            assert_eq!(kept.take(&one, 0), Answer { taken: true, missing_us: vec![missing_s * 1_000_000] });
        }
        assert!(!kept.take(&one, 999_999).taken);
        assert!(kept.take(&one, 1_000_000).taken);
        assert!(!kept.take(&one, 1_000_001).taken);
        // However long nobody comes, it is no fuller than full.
        for _ in 0..3 {
            assert!(kept.take(&one, 900_000_000).taken);
        }
        assert!(!kept.take(&one, 900_000_000).taken);
    }

    #[test]
    fn all_are_taken_of_or_none() {
        let mut kept = Kept::default();
        let (small, large) = (bucket(1, 60, 1), bucket(2, 60, 2));
        assert!(kept.take(&[small, large], 0).taken);
        assert!(!kept.take(&[small, large], 0).taken);
        assert!(kept.take(&[large], 0).taken, "what was refused took nothing");
        assert!(!kept.take(&[large], 0).taken);
        assert!(kept.take(&[large.taking(-1)], 0).taken);
        assert!(kept.take(&[large.taking(0)], 0).taken && kept.take(&[large], 0).taken);
        assert!(!kept.take(&[large], 0).taken);
    }

    #[test]
    fn what_is_kept_is_bounded_and_who_has_used_most_stays() {
        let mut kept = Kept::default();
        let hard = bucket(u32::MAX, 1, 100);
        for _ in 0..100 {
            assert!(kept.take(&[hard], 0).taken);
        }
        let most = u32::try_from(MOST).unwrap();
        for n in 0..most + 1_000 {
            assert!(kept.take(&[bucket(n, 1, 100)], 0).taken, "{n}");
            assert!(kept.full_at.len() <= MOST);
        }
        assert!(!kept.take(&[hard], 0).taken, "who has used all is remembered");
        // What is full again makes room.
        kept.take(&[bucket(0, 1, 100)], 120_000_000);
        assert!(kept.full_at.len() < 3, "{}", kept.full_at.len());
    }
}
