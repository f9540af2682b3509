//! Pauses that become longer while what they separate does not help, each a little shorter than it could be, so that nodes
//! which began together do not go on together.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Clone, Debug)]
pub struct Spacing {
    first: Duration,
    longest: Duration,
    /// When the last pause began, its length, and when it ends.
    last: Option<(Instant, Duration, Instant)>,
    /// The state of SplitMix64.
    chance: u64,
}

impl Spacing {
    /// The first pause, and the longest; what is random about them comes of `seed`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Spacing { first, longest, last: None, chance: seed }
    }

    /// Begins the next pause: twice as long as the one before, unless that one lies far back.
    pub fn begin(&mut self, now: Instant) {
        let pause = match self.last {
            Some((began, pause, _)) if now.saturating_duration_since(began) <= pause.saturating_mul(4) => {
                pause.saturating_mul(2).min(self.longest)
            }
            _ => self.first,
        };
        let quarter = u32::try_from(self.random() % 1024).unwrap_or(0);
        let shortened = pause.saturating_sub(pause / 4096 * quarter);
        self.last = Some((now, pause, now + shortened));
    }

    /// When the pause ends; `None` when that has been, or there was none.
    #[must_use]
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.last.map(|(_, _, until)| until).filter(|until| now < *until)
    }

    /// A pause that is under way ends in so long at the latest.
    pub fn shorten(&mut self, now: Instant, most: Duration) {
        if let Some((_, _, until)) = &mut self.last {
            *until = (*until).min(now + most);
        }
    }

    /// What the pauses separated has helped.
    pub fn end(&mut self) {
        self.last = None;
    }

    fn random(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_help_becomes_rare() {
        let start = Instant::now();
        let mut spacing = Spacing::new(Duration::from_secs(1), Duration::from_secs(300), 7);
        let at = |seconds| start + Duration::from_secs(seconds);
        let begun: Vec<u64> = (0..3600)
            .filter(|second| {
                let due = spacing.until(at(*second)).is_none();
                if due {
                    spacing.begin(at(*second));
                }
                due
            })
            .collect();
        for (number, (pair, pause)) in begun.windows(2).zip([1, 2, 4, 8, 16, 32, 64, 128, 256]).enumerate() {
            let found = pair[1] - pair[0];
            assert!(found <= pause && found >= pause * 3 / 4, "{number}: {found} of {pause}");
        }
        assert!(begun.len() < 25, "{}", begun.len());
        // One that is under way can be cut short, and no shorter than that.
        spacing.begin(at(5_000));
        spacing.begin(at(5_001));
        spacing.begin(at(5_002));
        spacing.shorten(at(5_002), Duration::from_secs(2));
        assert_eq!(spacing.until(at(5_003)), Some(at(5_004)));
        spacing.shorten(at(5_003), Duration::from_secs(30));
        assert_eq!(spacing.until(at(5_003)), Some(at(5_004)));
        // After one that helped, the next is at once, and so is the one a second later.
        spacing.begin(at(10_000));
        assert!(spacing.until(at(10_000)).is_some() && spacing.until(at(10_001)).is_none());
        spacing.end();
        assert!(spacing.until(at(10_000)).is_none());
    }

    #[test]
    fn nodes_do_not_ask_together() {
        let start = Instant::now();
        let ends: std::collections::BTreeSet<Instant> = (0..100)
            .map(|seed| {
                let mut spacing = Spacing::new(Duration::from_secs(1), Duration::from_secs(300), seed);
                spacing.begin(start);
                spacing.until(start).unwrap()
            })
            .collect();
        assert!(ends.len() > 80, "{}", ends.len());
    }
}
