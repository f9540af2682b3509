//! A bucket: so many at once, and then one for each of these times. What is kept of it is the moment at which it is full again, by
//! which everything else is known; one that is full is not kept at all.

use std::fmt;

use crate::config::Rate;
use crate::observe::metrics::Limit;

const US_PER_MINUTE: i64 = 60_000_000;
const US_PER_S: i64 = 1_000_000;

/// What a bucket is kept under: a keyed hash of whose it is.
pub(super) type Key = [u8; 16];

/// Whose requests a bucket counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Of {
    Address,
    Account,
    Token,
    Zone,
}

impl Of {
    /// What its refusals are counted as.
    pub(super) fn limit(self) -> Limit {
        match self {
            Of::Address => Limit::RateAddress,
            Of::Account => Limit::RateAccount,
            Of::Token => Limit::RateToken,
            Of::Zone => Limit::RateZone,
        }
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Of::Address => "from this address",
            Of::Account => "of this account",
            Of::Token => "with this token",
            Of::Zone => "for this zone",
        })
    }
}

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pace {
    /// Microseconds that bring one more.
    pub(super) interval_us: i64,
    /// Microseconds that fill it when it is empty.
    pub(super) depth_us: i64,
}

impl Pace {
    /// `None` where any number is let through.
    pub(super) fn of(rate: Rate) -> Option<Pace> {
        let interval_us = US_PER_MINUTE.checked_div(i64::from(rate.per_minute))?.max(1);
        Some(Pace { interval_us, depth_us: interval_us * i64::from(rate.burst) })
    }

    fn burst(self) -> i64 {
        self.depth_us / self.interval_us
    }
}

/// One bucket of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bucket {
    pub(super) of: Of,
    pub(super) key: Key,
    pub(super) pace: Pace,
    /// How many are taken: one, none where it is only looked at, or less than none where one is given back.
    pub(super) takes: i64,
}

impl Bucket {
    /// Whether there is room, where so many microseconds are missing until it is full.
    pub(super) fn has_room(&self, missing_us: i64) -> bool {
        missing_us + self.takes * self.pace.interval_us <= self.pace.depth_us
    }

    /// The same with another number taken.
    pub(super) fn taking(self, takes: i64) -> Bucket {
        Bucket { takes, ..self }
    }
}

/// What the buckets of a request had, and whether it was taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    /// Nothing is taken of any where one has no room.
    pub(super) taken: bool,
    /// Microseconds that each was from being full, before.
    pub(super) missing_us: Vec<i64>,
}

/// How somebody stands: the bucket that is nearest to being empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    /// How much the bucket holds.
    pub(super) limit: i64,
    /// Seconds in which it fills.
    pub(super) window_s: i64,
    pub(super) remaining: i64,
    /// Seconds until it is full; of one that refused, until there is room.
    pub(super) reset_s: i64,
    /// Whose it is, where it refused.
    pub(super) refused: Option<Of>,
}

impl Standing {
    /// `None` where there are no buckets.
    pub(super) fn of(buckets: &[Bucket], answer: &Answer) -> Option<Standing> {
        let each = || buckets.iter().zip(&answer.missing_us);
        let standing = |bucket: &Bucket, remaining: i64, wait_us: i64| Standing {
            limit: bucket.pace.burst(),
            window_s: ceil_s(bucket.pace.depth_us),
            remaining,
            reset_s: ceil_s(wait_us),
            refused: None,
        };
        if !answer.taken {
            let wait = |bucket: &Bucket, missing_us: i64| {
                missing_us + bucket.takes.max(1) * bucket.pace.interval_us - bucket.pace.depth_us
            };
            let refusing = each().filter(|(bucket, missing_us)| !bucket.has_room(**missing_us));
            let (bucket, missing_us) =
                refusing.max_by_key(|(bucket, missing_us)| wait(bucket, **missing_us))?;
            let standing = standing(bucket, 0, wait(bucket, *missing_us));
            return Some(Standing { reset_s: standing.reset_s.max(1), refused: Some(bucket.of), ..standing });
        }
        let left = each().map(|(bucket, missing_us)| {
            let missing_us = missing_us + bucket.takes * bucket.pace.interval_us;
            let remaining = (bucket.pace.depth_us - missing_us).max(0) / bucket.pace.interval_us;
            standing(bucket, remaining, missing_us)
        });
        left.min_by_key(|standing| standing.remaining)
    }
}

fn ceil_s(us: i64) -> i64 {
    us.max(0).div_euclid(US_PER_S) + i64::from(us.max(0) % US_PER_S != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(of: Of, per_minute: u32, burst: u32) -> Bucket {
        Bucket { of, key: Key::default(), pace: Pace::of(Rate { per_minute, burst }).unwrap(), takes: 1 }
    }

    #[test]
    fn any_number_is_no_bucket() {
        assert_eq!(Pace::of(Rate { per_minute: 0, burst: 1 }), None);
        let pace = Pace::of(Rate { per_minute: 120, burst: 10 }).unwrap();
        assert_eq!((pace.interval_us, pace.depth_us, pace.burst()), (500_000, 5_000_000, 10));
    }

    #[test]
    fn the_bucket_that_is_nearest_to_empty_is_told() {
        let buckets = [bucket(Of::Address, 60, 10), bucket(Of::Token, 120, 4)];
        let told = Standing::of(&buckets, &Answer { taken: true, missing_us: vec![0, 0] }).unwrap();
        assert_eq!((told.limit, told.window_s, told.remaining, told.reset_s), (4, 2, 3, 1));
        let told = Standing::of(&buckets, &Answer { taken: true, missing_us: vec![7_500_000, 0] }).unwrap();
        assert_eq!((told.limit, told.window_s, told.remaining, told.reset_s), (10, 10, 1, 9));
        assert_eq!(Standing::of(&[], &Answer { taken: true, missing_us: vec![] }), None);
    }

    #[test]
    fn who_is_refused_is_told_when_all_have_room() {
        let buckets = [bucket(Of::Address, 60, 10), bucket(Of::Token, 6, 1), bucket(Of::Zone, 60, 5)];
        let answer = Answer { taken: false, missing_us: vec![9_500_000, 10_000_000, 0] };
        let told = Standing::of(&buckets, &answer).unwrap();
        assert_eq!((told.refused, told.remaining, told.reset_s), (Some(Of::Token), 0, 10));
    }
}
