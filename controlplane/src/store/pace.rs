//! Reading that nobody waits for, a little at a time: all of it at once would keep a CPU, and the database, from everybody else for as
//! long as it takes.

use std::time::{Duration, Instant};

/// The longest rest: where a part took long because the server is slow, or this process was stopped, much longer ones help nobody.
const LONGEST: Duration = Duration::from_secs(2);

/// Rests in between.
#[derive(Debug)]
pub struct Pace {
    /// By how much longer it rests than it worked.
    rest: u32,
    /// When it began to work again.
    since: Instant,
    worked: Duration,
}

impl Pace {
    /// Rests so many times as long as it worked.
    #[must_use]
    pub fn resting(rest: u32) -> Pace {
        Pace { rest, since: Instant::now(), worked: Duration::ZERO }
    }

    /// For what somebody waits for.
    #[must_use]
    pub fn hurried() -> Pace {
        Pace::resting(0)
    }

    /// A part of it is done: rests.
    pub async fn rest(&mut self) {
        let worked = self.since.elapsed();
        self.worked += worked;
        if self.rest > 0 {
            tokio::time::sleep(self.pause(worked)).await;
        }
        self.since = Instant::now();
    }

    /// How long it has worked up to the last rest.
    #[must_use]
    pub fn worked(&self) -> Duration {
        self.worked
    }

    fn pause(&self, worked: Duration) -> Duration {
        worked.saturating_mul(self.rest).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rests_follow_what_was_done_since_the_last_one() {
        let pauses = [5, 60_000].map(|ms| Pace::resting(3).pause(Duration::from_millis(ms)));
        assert_eq!(pauses, [Duration::from_millis(15), LONGEST]);
        let mut pace = Pace::resting(1);
        std::thread::sleep(Duration::from_millis(20));
        for least in [Duration::from_millis(20), Duration::ZERO] {
            let began = Instant::now();
            pace.rest().await;
            assert!(began.elapsed() >= least);
            assert!(pace.since >= began + least, "what was rested is not work");
        }
        assert!(pace.worked() >= Duration::from_millis(20));
    }
}
