//! Token buckets in fixed memory: a table that is filled once and never grows, whoever asks.
//!
//! ```text
//! key (64 bits) ─▶ set = low bits, tag = high bits
//! set (one cache line) = 4 × { tag 24 │ over 8 │ at 32 │ taken 32 │ short 32 }
//! ```
//!
//! A bucket holds what one second brings. It is kept as what was taken out and has not come back yet, so that an empty
//! entry is a full bucket, and a bucket forgotten is a full one. A key that is in no entry of its set takes the place of the one
//! touched longest ago, at equal times of the one with least taken: under a flood of keys the busy buckets stay. Two keys
//! with one set and one tag share a bucket, which costs fairness between the two and nothing else; keys have to be hashes
//! under a secret, so that nobody can choose who shares.

/// Entries of a set: as many as fill a cache line.
const WAYS: usize = 4;
/// What one token is counted as: at one token a second, what a millisecond gives back.
const TOKEN: u32 = 1000;
/// How long a bucket takes to fill, in milliseconds, and so how long a rate may be used up in advance.
const WINDOW_MS: u32 = 1000;
/// The highest rate, in tokens a second: what a bucket then holds still fits its counts.
pub const MAX_PER_SECOND: u32 = 1_000_000;

const TAG: u32 = 0xFFFF_FF00;

/// The table.
pub struct Buckets {
    sets: Box<[Set]>,
}

#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Set([Bucket; WAYS]);

/// One bucket, or rather two of one rate: one for whole answers, and one for the short ones that go out instead.
#[derive(Clone, Copy, Default)]
pub struct Bucket {
    /// The tag, and in the low octet the count of [`Bucket::over`].
    tag_over: u32,
    /// When it was last touched, in milliseconds that may wrap.
    at: u32,
    /// Taken for whole answers and not come back yet, in parts of a [`TOKEN`].
    taken: u32,
    /// The same for short ones.
    short: u32,
}

impl Buckets {
    /// A table of at least so many entries, all full. Takes all the memory that it will need: 16 octets each.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Buckets { sets: vec![Set::default(); entries.div_ceil(WAYS).next_power_of_two()].into() }
    }

    /// The bucket of this key at this time, in milliseconds that may wrap, with what has come back by now in it.
    /// `per_second`: its rate, at most [`MAX_PER_SECOND`] and the same at every call for this key.
    #[inline]
    pub fn get(&mut self, key: u64, now_ms: u32, per_second: u32) -> &mut Bucket {
        let mask = self.sets.len() - 1;
        // Whatever is cut off: both are only to be spread evenly.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low bits choose the set, the high ones are the tag"
        )]
        let (low, tag) = (key as usize, (key >> 32) as u32 & TAG);
        let Set(ways) = &mut self.sets[low & mask];
        let found = ways.iter().position(|bucket| bucket.tag_over & TAG == tag);
        let way = found.unwrap_or_else(|| {
            let way = oldest(ways, now_ms);
            ways[way] = Bucket { tag_over: tag, at: now_ms, ..Bucket::default() };
            way
        });
        let bucket = &mut ways[way];
        bucket.give_back(now_ms, per_second);
        bucket
    }
}

/// Which entry of a full set has to go.
#[cold]
fn oldest(ways: &[Bucket; WAYS], now_ms: u32) -> usize {
    let age = |bucket: &Bucket| (now_ms.wrapping_sub(bucket.at), u32::MAX - bucket.taken);
    (0..WAYS).max_by_key(|&way| age(&ways[way])).unwrap_or(0)
}

impl Bucket {
    /// Puts back what the time since the last touch brings.
    #[inline]
    fn give_back(&mut self, now_ms: u32, per_second: u32) {
        let elapsed = now_ms.wrapping_sub(self.at);
        if elapsed == 0 {
            return;
        }
        self.at = now_ms;
        // A clock that was set back brings nothing, and counts from there.
        if elapsed < u32::MAX / 2 {
            let back = elapsed.min(WINDOW_MS) * per_second;
            self.taken = self.taken.saturating_sub(back);
            self.short = self.short.saturating_sub(back);
        }
    }

    /// Takes a token for a whole answer, if there is one.
    #[inline]
    pub fn take(&mut self, per_second: u32) -> bool {
        take(&mut self.taken, per_second)
    }

    /// Puts it back: the answer did not go out after all.
    pub fn put_back(&mut self) {
        self.taken = self.taken.saturating_sub(TOKEN);
    }

    /// Takes a token for a short answer, if there is one.
    pub fn take_short(&mut self, per_second: u32) -> bool {
        take(&mut self.short, per_second)
    }

    /// Counts an answer over the limit; whether it is one of every `slip`, the first among them.
    pub fn over(&mut self, slip: u8) -> bool {
        let [.., count] = self.tag_over.to_be_bytes();
        let next = if count.saturating_add(1) >= slip { 0 } else { count + 1 };
        self.tag_over = self.tag_over & TAG | u32::from(next);
        slip > 0 && count == 0
    }
}

#[inline]
fn take(taken: &mut u32, per_second: u32) -> bool {
    let next = *taken + TOKEN;
    let fits = next <= per_second * WINDOW_MS;
    if fits {
        *taken = next;
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(buckets: &mut Buckets, key: u64, now_ms: u32, per_second: u32, tries: u32) -> u32 {
        let mut taken = 0;
        for _ in 0..tries {
            taken += u32::from(buckets.get(key, now_ms, per_second).take(per_second));
        }
        taken
    }

    #[test]
    fn an_entry_is_a_quarter_of_a_cache_line() {
        assert_eq!((size_of::<Bucket>(), size_of::<Set>(), align_of::<Set>()), (16, 64, 64));
        assert_eq!(Buckets::new(1000).sets.len(), 256);
    }

    #[test]
    fn a_bucket_holds_one_second_and_fills_evenly() {
        for per_second in [1, 3, 200, 999, MAX_PER_SECOND] {
            let mut buckets = Buckets::new(16);
            let tries = per_second * 2;
            assert_eq!(taken(&mut buckets, 7, 5, per_second, tries), per_second, "at the start");
            assert_eq!(taken(&mut buckets, 7, 5, per_second, tries), 0, "at once again");
            let half = taken(&mut buckets, 7, 505, per_second, tries);
            assert_eq!(half, per_second / 2, "after half a second");
            assert_eq!(
                taken(&mut buckets, 7, 60_000, per_second, tries),
                per_second,
                "never more than a second's"
            );
        }
    }

    /// A second in steps of a millisecond gives what it gives at once: nothing is lost to rounding.
    #[test]
    fn small_steps_lose_nothing() {
        for per_second in [1, 7, 333] {
            let mut buckets = Buckets::new(16);
            taken(&mut buckets, 7, 0, per_second, per_second);
            let later: u32 =
                (1..=10_000).map(|now| taken(&mut buckets, 7, now, per_second, per_second)).sum();
            assert_eq!(later, per_second * 10);
        }
    }

    #[test]
    fn time_may_wrap_and_be_set_back() {
        let mut buckets = Buckets::new(16);
        assert_eq!(taken(&mut buckets, 7, u32::MAX - 100, 100, 200), 100);
        assert_eq!(taken(&mut buckets, 7, 399, 100, 200), 50, "500 ms later, over the wrap");
        assert_eq!(taken(&mut buckets, 7, u32::MAX - 5_000, 100, 200), 0, "set back");
        assert_eq!(taken(&mut buckets, 7, u32::MAX - 4_500, 100, 200), 50, "and it goes on from there");
    }

    #[test]
    fn short_answers_have_as_much_of_their_own() {
        let mut buckets = Buckets::new(16);
        let bucket = buckets.get(7, 0, 2);
        assert!(bucket.take(2) && bucket.take(2) && !bucket.take(2));
        assert!(bucket.take_short(2) && bucket.take_short(2) && !bucket.take_short(2));
        bucket.put_back();
        assert!(bucket.take(2) && !bucket.take(2));
    }

    #[test]
    fn one_of_so_many_over_the_limit_slips() {
        for (slip, expected) in [
            (0, [false; 6]),
            (1, [true; 6]),
            (2, [true, false, true, false, true, false]),
            (3, [true, false, false, true, false, false]),
        ] {
            let mut bucket = Bucket { tag_over: TAG, ..Bucket::default() };
            assert_eq!(std::array::from_fn(|_| bucket.over(slip)), expected, "{slip}");
            assert_eq!(bucket.tag_over & TAG, TAG);
        }
    }

    /// A busy bucket is not forgotten for keys that come once each, and the table stays as it is.
    #[test]
    fn p7_a_flood_of_keys_neither_grows_the_table_nor_frees_a_busy_bucket() {
        let mut buckets = Buckets::new(16);
        let before = (buckets.sets.as_ptr(), buckets.sets.len());
        assert_eq!(taken(&mut buckets, 7, 0, 10, 20), 10);
        let mut key = 1u64;
        for now in 0..50u32 {
            for _ in 0..2 {
                // All into the set of the busy key.
                key = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
                buckets.get(key & !3 | 3, now, 10).take(10);
            }
            assert_eq!(taken(&mut buckets, 7, now, 10, 1), 0, "at {now}");
        }
        assert_eq!((buckets.sets.as_ptr(), buckets.sets.len()), before);
    }
}
