//! What may be true now: of each thing that changes, the states that it was given, when each was asked for, acknowledged and
//! served. From that follows which answers are right at a moment, and whether an acknowledged write is still there.
//!
//! Of a state it is known
//! - from when on it may be seen: when it was asked for;
//! - from when on it must not be missing: when its write was acknowledged (it is on disk);
//! - from when on nothing older may be seen: when it was known to be served (`wait=applied`, or an answer that had it).
//!
//! A start of the server from its local snapshot may show older states again, for as long as the rest is on its way:
//! see [`Past`]. Nothing here speaks DNS or HTTP.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Instant;

/// Superseded states that are remembered: more than are served between two local snapshots.
const REMEMBERED: usize = 4_096;

/// What a name has: nothing, or one address.
pub type State = Option<Ipv4Addr>;

/// One state with what is known of it.
#[derive(Clone, Copy, Debug)]
struct Version {
    state: State,
    asked_at: Instant,
    /// None: not acknowledged, whatever became of it.
    acknowledged_at: Option<Instant>,
    /// None: perhaps not served yet.
    served_at: Option<Instant>,
}

/// How old answers may be: as old as this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past(pub Instant);

/// All states of one name, oldest first. The first is true from the start.
#[derive(Clone, Debug)]
pub struct History {
    versions: VecDeque<Version>,
}

impl History {
    /// Begins with a state that is acknowledged and served.
    #[must_use]
    pub fn new(state: State, now: Instant) -> Self {
        let first = Version { state, asked_at: now, acknowledged_at: Some(now), served_at: Some(now) };
        History { versions: VecDeque::from([first]) }
    }

    /// A write that leads to this state is about to be sent.
    pub fn ask(&mut self, state: State, now: Instant) {
        if self.versions.len() == REMEMBERED {
            self.versions.pop_front();
        }
        self.versions.push_back(Version { state, asked_at: now, acknowledged_at: None, served_at: None });
    }

    /// The last write was acknowledged; `served` says that it is known to be served, too.
    pub fn acknowledge(&mut self, served: bool, now: Instant) {
        let last = self.versions.back_mut().expect("a history begins with a state");
        last.acknowledged_at.get_or_insert(now);
        if served {
            last.served_at.get_or_insert(now);
        }
    }

    /// Everything that was acknowledged is served now.
    pub fn all_served(&mut self, now: Instant) {
        for version in self.versions.iter_mut().filter(|version| version.acknowledged_at.is_some()) {
            version.served_at.get_or_insert(now);
        }
    }

    /// An answer had this state: whatever is older must not be seen any more. Only where one reader's view is everybody's: not
    /// while older states may come back.
    pub fn seen(&mut self, state: State, now: Instant) {
        if let Some(version) = self.versions.iter_mut().rev().find(|version| version.state == state) {
            version.served_at.get_or_insert(now);
        }
    }

    /// What was last acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> State {
        let last = self.versions.iter().rev().find(|version| version.acknowledged_at.is_some());
        last.expect("the first state is acknowledged").state
    }

    /// Whether the last write was sent and not acknowledged, so that it may or may not have been carried out.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        self.versions.back().is_some_and(|version| version.acknowledged_at.is_none())
    }

    /// The truth was looked up, after a write that was perhaps not carried out or at any other time: what is there is right
    /// when it is what was acknowledged last, or what is in doubt. Doubt is gone afterwards. Gives back whether the write in
    /// doubt was carried out.
    ///
    /// # Errors
    /// Another state: an acknowledged write is lost, or something was made up.
    pub fn settle(&mut self, found: State, now: Instant) -> Result<bool, String> {
        let acknowledged = self.acknowledged();
        if self.in_doubt() {
            let last = self.versions.back().expect("a history begins with a state").state;
            if found == last {
                self.acknowledge(false, now);
                return Ok(true);
            }
            self.versions.pop_back();
        }
        if found == acknowledged {
            return Ok(false);
        }
        Err(format!("{} is there instead of {}, which was acknowledged", show(found), show(acknowledged)))
    }

    /// Whether an answer with this state is right, to a query asked and answered at these moments.
    ///
    /// # Errors
    /// What would have been right.
    pub fn check(
        &self,
        seen: State,
        asked: Instant,
        answered: Instant,
        past: Option<Past>,
    ) -> Result<(), String> {
        let floor = past.map_or(asked, |Past(floor)| floor.min(asked));
        // The newest state that was served by then: older ones are over.
        let first = self.versions.iter().rposition(|version| version.served_at.is_some_and(|at| at <= floor));
        let possible = self.versions.iter().skip(first.unwrap_or(0));
        let possible = possible.filter(|version| version.asked_at <= answered);
        if possible.clone().any(|version| version.state == seen) {
            return Ok(());
        }
        let known = self.versions.iter().any(|version| version.state == seen && version.asked_at <= answered);
        let possible: Vec<String> = possible.map(|version| show(version.state)).collect();
        let what = if known { "an old state" } else { "a state that never was" };
        Err(format!("{} is {what}; right would be {}", show(seen), possible.join(" or ")))
    }
}

fn show(state: State) -> String {
    state.map_or_else(|| "nothing".to_owned(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OLD: State = Some(Ipv4Addr::new(198, 18, 0, 1));
    const NEW: State = Some(Ipv4Addr::new(198, 18, 0, 2));

    struct Clock(Instant);

    impl Clock {
        fn at(&self, second: u64) -> Instant {
            self.0 + Duration::from_secs(second)
        }
    }

    /// OLD from the start, NEW asked for at 10 and acknowledged at 12.
    fn changed(served: bool) -> (Clock, History) {
        let clock = Clock(Instant::now());
        let mut history = History::new(OLD, clock.at(0));
        history.ask(NEW, clock.at(10));
        history.acknowledge(served, clock.at(12));
        (clock, history)
    }

    #[test]
    fn answers_are_right_from_asking_to_serving() {
        let (clock, history) = changed(true);
        // State seen, second asked, second answered, right or not.
        let cases = [
            (OLD, 1, 2, true),
            (NEW, 1, 2, false),
            (None, 1, 2, false),
            (OLD, 10, 11, true),
            (NEW, 10, 11, true),
            (OLD, 11, 14, true),
            (OLD, 12, 13, false),
            (NEW, 12, 13, true),
            (None, 12, 13, false),
        ];
        for (state, asked, answered, right) in cases {
            let found = history.check(state, clock.at(asked), clock.at(answered), None);
            assert_eq!(found.is_ok(), right, "{state:?} asked at {asked}, answered at {answered}: {found:?}");
        }
    }

    #[test]
    fn what_was_not_known_to_be_served_may_come_later() {
        let (clock, mut history) = changed(false);
        assert!(history.check(OLD, clock.at(20), clock.at(20), None).is_ok());
        history.all_served(clock.at(21));
        assert!(history.check(OLD, clock.at(22), clock.at(22), None).is_err(), "everything is served");
        assert!(history.check(NEW, clock.at(22), clock.at(22), None).is_ok());
    }

    #[test]
    fn a_start_from_the_snapshot_shows_what_was_true_when_it_was_written_and_nothing_older() {
        let (clock, mut history) = changed(true);
        history.ask(None, clock.at(30));
        history.acknowledge(true, clock.at(31));
        let at = |state, floor| {
            history.check(state, clock.at(40), clock.at(40), Some(Past(clock.at(floor)))).is_ok()
        };
        assert!(at(NEW, 20) && at(None, 20), "what the snapshot had, and what came since");
        assert!(!at(OLD, 20), "older than the snapshot");
        assert!(at(OLD, 11), "a snapshot from before the change was served");
        assert!(history.check(NEW, clock.at(40), clock.at(40), None).is_err(), "without a restart");
    }

    #[test]
    fn a_write_without_an_answer_may_be_there_or_not() {
        for (found, survived) in [(OLD, false), (NEW, true)] {
            let clock = Clock(Instant::now());
            let mut history = History::new(OLD, clock.at(0));
            history.ask(NEW, clock.at(10));
            assert!(history.in_doubt());
            for state in [OLD, NEW] {
                assert!(history.check(state, clock.at(20), clock.at(20), None).is_ok(), "{state:?}");
            }
            assert_eq!(history.settle(found, clock.at(30)), Ok(survived));
            history.all_served(clock.at(31));
            let other = if survived { OLD } else { NEW };
            assert!(history.check(found, clock.at(40), clock.at(40), None).is_ok());
            assert!(history.check(other, clock.at(40), clock.at(40), None).is_err(), "{other:?} after all");
        }
    }

    #[test]
    fn a_lost_acknowledged_write_is_found() {
        let (clock, mut history) = changed(true);
        assert_eq!(history.settle(NEW, clock.at(20)), Ok(false));
        for lost in [OLD, None] {
            assert!(history.settle(lost, clock.at(21)).is_err(), "{lost:?}");
        }
        // A write in doubt does not hide the loss of the one before it.
        history.ask(None, clock.at(22));
        assert!(history.settle(OLD, clock.at(23)).is_err());
    }

    #[test]
    fn what_one_answer_had_no_later_one_may_lack() {
        let clock = Clock(Instant::now());
        let mut history = History::new(OLD, clock.at(0));
        history.ask(NEW, clock.at(10));
        history.seen(NEW, clock.at(12));
        assert!(history.check(OLD, clock.at(11), clock.at(13), None).is_ok(), "asked before");
        assert!(history.check(OLD, clock.at(13), clock.at(13), None).is_err(), "asked after");
    }

    #[test]
    fn memory_is_bounded() {
        let clock = Clock(Instant::now());
        let mut history = History::new(OLD, clock.at(0));
        for number in 0..3 * REMEMBERED as u32 {
            history.ask(Some(Ipv4Addr::from(number)), clock.at(1));
            history.acknowledge(true, clock.at(1));
        }
        assert_eq!(history.versions.len(), REMEMBERED);
    }
}
