//! What comes of an attempt. One that fails rests its webhook, longer each time, and what waits behind it, which keeps the order; what
//! others are told does not wait for it. Where nothing went well for days, nobody is told any more.

use std::time::Duration;

use crate::egress::Outcome;
use crate::jobs::backoff;

/// After so long without any success a webhook is turned off.
pub(super) const GIVEN_UP_US: i64 = 3 * 86_400_000_000;
/// A delivery that its receiver does not want is given up after so many attempts: those behind it may be wanted.
const UNWANTED: i64 = 8;
/// The rest where nothing is known, and the receiver has no part in that.
const LOST: Duration = Duration::from_secs(2);

/// How a webhook stands before an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// Of this delivery, without this one.
    pub(super) attempts: i64,
    /// In a row, of any.
    pub(super) failures: i64,
    pub(super) failing_since_us: Option<i64>,
    pub(super) now_us: i64,
}

/// See the module.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// It was taken.
    Done { status: u16 },
    /// It is tried again after a rest; or given up, and the next one is tried then.
    Rest { status: Option<u16>, error: String, rest: Duration, is_given_up: bool },
    /// The webhook is turned off.
    Off { status: Option<u16>, error: String, why: String },
    /// As if it had not been tried.
    Again { rest: Duration },
}

/// What comes of an attempt; `random`: any number, each as likely as the others.
pub(super) fn judge(before: Before, outcome: Outcome, random: u32) -> Next {
    let (status, error) = match outcome {
        Outcome::Answered { status: status @ 200..=299 } => return Next::Done { status },
        Outcome::Answered { status: status @ 300..=399 } => {
            (Some(status), format!("it answered {status}: redirects are not followed"))
        }
        Outcome::Answered { status } => (Some(status), format!("it answered {status}")),
        Outcome::Refused(why) | Outcome::Failed(why) => (None, why),
        Outcome::Lost(_) => return Next::Again { rest: LOST },
    };
    if status == Some(410) {
        let why = "it answered 410: it wants no more".to_owned();
        return Next::Off { status, error, why };
    }
    let since_us = before.failing_since_us.unwrap_or(before.now_us);
    if before.now_us.saturating_sub(since_us) >= GIVEN_UP_US {
        let why = format!("nothing could be delivered for three days; the last time {error}");
        return Next::Off { status, error, why };
    }
    // What it cannot be asked for, or not now.
    let is_unwanted =
        status.is_some_and(|status| (400..500).contains(&status) && ![408, 425, 429].contains(&status));
    let is_given_up = is_unwanted && before.attempts + 1 >= UNWANTED;
    Next::Rest { status, error, rest: rest(before.failures + 1, random), is_given_up }
}

/// Between half of a bound that doubles with each failure, and all of it.
fn rest(failures: i64, random: u32) -> Duration {
    backoff::bound(failures).mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::backoff::{BASE, MOST};

    const NOW: i64 = 1_800_000_000_000_000;

    fn before(attempts: i64, failures: i64, failing_for_us: Option<i64>) -> Before {
        Before { attempts, failures, failing_since_us: failing_for_us.map(|us| NOW - us), now_us: NOW }
    }

    fn answered(status: u16) -> Outcome {
        Outcome::Answered { status }
    }

    #[test]
    fn rests_grow_and_have_an_end() {
        let least: Vec<u128> = (1..=13).map(|failures| rest(failures, 0).as_millis()).collect();
        assert_eq!(least[..4], [2_500, 5_000, 10_000, 20_000]);
        assert_eq!(least[12], 1_800_000);
        for failures in [i64::MIN, 0, 1] {
            assert_eq!(rest(failures, u32::MAX), BASE);
        }
        assert_eq!(rest(i64::MAX, u32::MAX), MOST);
        let Next::Rest { rest, is_given_up, .. } = judge(before(100, 3, Some(1)), answered(500), u32::MAX)
        else {
            panic!()
        };
        assert_eq!((rest, is_given_up), (Duration::from_secs(40), false));
    }

    #[test]
    fn what_is_not_taken_is_tried_again_and_in_the_end_nobody_is_told() {
        for status in [200, 202, 204, 299] {
            assert_eq!(judge(before(3, 3, Some(GIVEN_UP_US)), answered(status), 0), Next::Done { status });
        }
        for outcome in [answered(302), answered(404), answered(500), Outcome::Failed(String::new())] {
            assert!(matches!(
                judge(before(0, 0, None), outcome.clone(), 0),
                Next::Rest { is_given_up: false, .. }
            ));
            assert!(matches!(
                judge(before(0, 50, Some(GIVEN_UP_US - 1)), outcome.clone(), 0),
                Next::Rest { is_given_up: false, .. }
            ));
            assert!(matches!(judge(before(0, 50, Some(GIVEN_UP_US)), outcome, 0), Next::Off { .. }));
        }
        assert!(matches!(judge(before(0, 0, None), answered(410), 0), Next::Off { .. }));
        // A delivery that alone is not wanted does not stop those behind it.
        for (status, expected) in
            [(400, true), (422, true), (429, false), (408, false), (503, false), (302, false)]
        {
            let Next::Rest { is_given_up, .. } = judge(before(7, 7, Some(1)), answered(status), 0) else {
                panic!()
            };
            assert_eq!(is_given_up, expected, "{status}");
        }
    }

    #[test]
    fn what_is_our_fault_is_held_against_nobody() {
        let lost = Outcome::Lost("x".to_owned());
        assert_eq!(judge(before(50, 50, Some(GIVEN_UP_US)), lost, 0), Next::Again { rest: LOST });
    }
}
