//! When a zone that is withheld is judged again: while others wait for it nothing is published, and one that is changed all the time
//! and stays as it is would keep them waiting for ever.
//!
//! The first change after it was withheld is judged at once. After each further end of the shadow there is a pause, in which its
//! changes are withheld unjudged; the whole zone is judged after that, whether it is changed again or not. So are those that a term
//! finds: the program may be another one.

use std::collections::HashMap;
use std::time::Duration;

use godwit_wire::name::Name;
use tokio::time::Instant;

/// The first pause, and the longest; each is four times as long as the one before.
const FIRST: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_secs(3_600);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pauses(HashMap<Name, Pause>);

#[derive(Debug)]
struct Pause {
    /// How often the shadow ended at it.
    ends: u32,
    until: Instant,
    /// It was changed meanwhile.
    is_behind: bool,
}

impl Pauses {
    /// The shadow ended at it.
    pub(super) fn ended(&mut self, zone: &Name, now: Instant) {
        let ends = self.0.get(zone).map_or(0, |pause| pause.ends).saturating_add(1);
        let times = 4u32.saturating_pow(ends.saturating_sub(2).min(8));
        let pause = if ends < 2 { Duration::ZERO } else { FIRST.saturating_mul(times).min(LONGEST) };
        self.0.insert(zone.clone(), Pause { ends, until: now + pause, is_behind: false });
    }

    /// A term finds that it is withheld, as the one of so many: they are judged one after the other, and each at once when it is changed.
    pub(super) fn found(&mut self, zone: &Name, place: u32, now: Instant) {
        let until = now + FIRST.saturating_mul(place.saturating_add(1));
        self.0.insert(zone.clone(), Pause { ends: 1, until, is_behind: true });
    }

    /// A change of it was withheld unjudged.
    pub(super) fn skipped(&mut self, zone: &Name, now: Instant) {
        let pause = self.0.entry(zone.clone()).or_insert(Pause { ends: 0, until: now, is_behind: true });
        pause.is_behind = true;
    }

    /// It could not be judged just now.
    pub(super) fn later(&mut self, zone: &Name, now: Instant) {
        if let Some(pause) = self.0.get_mut(zone) {
            pause.until = now + FIRST;
        }
    }

    /// It is withheld no longer.
    pub(super) fn lifted(&mut self, zone: &Name) {
        self.0.remove(zone);
    }

    /// Whether it is not judged now.
    pub(super) fn is_paused(&self, zone: &Name, now: Instant) -> bool {
        self.0.get(zone).is_some_and(|pause| pause.ends > 1 && now < pause.until)
    }

    /// One that is to be judged now, though nothing names it.
    pub(super) fn due(&self, now: Instant) -> Option<Name> {
        let is_due = |pause: &Pause| pause.is_behind && pause.until <= now;
        self.0.iter().find(|(_, pause)| is_due(pause)).map(|(zone, _)| zone.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_bad_is_judged_seldom() {
        let zone: Name = "bad.test.".parse().unwrap();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pauses = Pauses::default();
        pauses.ended(&zone, start);
        assert!(!pauses.is_paused(&zone, start) && pauses.due(at(9_999)).is_none(), "nothing came since");
        let mut now = 0;
        for pause in [20, 80, 320, 1_280, 3_600, 3_600] {
            pauses.ended(&zone, at(now));
            assert!(pauses.is_paused(&zone, at(now + pause - 1)));
            pauses.skipped(&zone, at(now + 1));
            assert!(pauses.due(at(now + pause - 1)).is_none());
            now += pause;
            assert!(!pauses.is_paused(&zone, at(now)));
            assert_eq!(pauses.due(at(now)), Some(zone.clone()));
        }
        pauses.later(&zone, at(now));
        assert!(pauses.due(at(now)).is_none() && pauses.due(at(now + 20)).is_some());
        pauses.lifted(&zone);
        assert!(!pauses.is_paused(&zone, at(now)) && pauses.due(at(now + 20)).is_none());
        pauses.found(&zone, 1, at(0));
        assert!(
            !pauses.is_paused(&zone, at(0)) && pauses.due(at(39)).is_none() && pauses.due(at(40)).is_some()
        );
        pauses.lifted(&zone);
        // Withheld together with another.
        pauses.skipped(&zone, at(0));
        assert!(!pauses.is_paused(&zone, at(0)) && pauses.due(at(0)).is_some());
    }
}
