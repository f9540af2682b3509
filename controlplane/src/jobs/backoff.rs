//! How long a failed attempt is rested from: any time up to a bound that doubles with each attempt, so that what failed together
//! does not come again together.

use std::time::Duration;

/// The bound behind the first attempt.
pub(crate) const BASE: Duration = Duration::from_secs(5);
/// The highest bound.
pub(crate) const MOST: Duration = Duration::from_secs(3_600);

/// The most that is rested behind an attempt, counted from 1.
pub(crate) fn bound(attempt: i64) -> Duration {
    let doublings = u32::try_from(attempt.clamp(1, 16) - 1).unwrap_or(0);
    BASE.saturating_mul(1 << doublings).min(MOST)
}

/// The pause behind an attempt; `random`: any number, each as likely as the others.
pub(super) fn pause(attempt: i64, random: u32) -> Duration {
    bound(attempt).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_bounded_and_bounds_double() {
        let bounds: Vec<u64> = (1..=13).map(|attempt| bound(attempt).as_secs()).collect();
        assert_eq!(bounds, [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600, 3_600]);
        for attempt in [i64::MIN, -1, 0, 1] {
            assert_eq!(bound(attempt), BASE, "{attempt}");
        }
        assert_eq!(bound(i64::MAX), MOST);
        for attempt in [1, 7, 100] {
            assert_eq!(pause(attempt, 0), Duration::ZERO);
            assert_eq!(pause(attempt, u32::MAX), bound(attempt));
            let half = pause(attempt, u32::MAX / 2);
            assert!(half < bound(attempt) && half > bound(attempt) / 3, "{half:?}");
        }
    }
}
