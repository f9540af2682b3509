//! Says in the log when rate limits begin to bite and when they have stopped: from the workers' counts and on a thread of
//! its own, so that no worker waits for a log. Never says whom they bite: the log has no client addresses.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::counter::{LIMITED, LIMITED_BY, Limited, WorkerCounters};

/// How often it is looked.
const TICK: Duration = Duration::from_secs(1);
/// Without an answer over a limit for so many looks, it is over: at most two lines a minute.
const QUIET_TICKS: u32 = 60;

/// Answers over a limit so far, by [`Limited`] and then by what they were over.
type Counts = [[u64; LIMITED_BY.len()]; LIMITED.len()];

/// Something to be said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    /// There are answers over a limit, after a time without; so many since the last look.
    Began(Counts),
    /// There were none for some time; so many in all since it began.
    Ended(Counts),
}

/// What was seen at the last look.
#[derive(Default)]
struct Watch {
    last: Counts,
    /// The counts when it began, and the looks since the last answer over a limit; none while all is quiet.
    limiting: Option<(Counts, u32)>,
}

impl Watch {
    fn look(&mut self, now: Counts) -> Option<Change> {
        let before = std::mem::replace(&mut self.last, now);
        match (&mut self.limiting, now == before) {
            (None, true) => None,
            (None, false) => {
                self.limiting = Some((before, 0));
                Some(Change::Began(since(before, now)))
            }
            (Some((_, quiet)), false) => {
                *quiet = 0;
                None
            }
            (Some((began, quiet)), true) => {
                *quiet += 1;
                let ended = (*quiet >= QUIET_TICKS).then(|| Change::Ended(since(*began, now)));
                if ended.is_some() {
                    self.limiting = None;
                }
                ended
            }
        }
    }
}

fn since(before: Counts, now: Counts) -> Counts {
    let mut counts = now;
    for (count, before) in counts.iter_mut().flatten().zip(before.iter().flatten()) {
        *count = count.wrapping_sub(*before);
    }
    counts
}

/// Watches until the other end of `stop` is dropped.
pub fn watch(workers: &[WorkerCounters], stop: &Receiver<()>) {
    let mut watch = Watch { last: counts(workers), limiting: None };
    while stop.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        match watch.look(counts(workers)) {
            Some(Change::Began(counts)) => say(&counts, "answers are over a rate limit"),
            Some(Change::Ended(counts)) => say(&counts, "no answers are over a rate limit any more"),
            None => {}
        }
    }
}

fn counts(workers: &[WorkerCounters]) -> Counts {
    let mut counts = Counts::default();
    for worker in workers {
        for (count, counter) in counts.iter_mut().flatten().zip(worker.limited.iter().flatten()) {
            *count = count.wrapping_add(counter.get());
        }
    }
    counts
}

fn say(counts: &Counts, message: &'static str) {
    let of = |action: Limited| counts[action as usize].iter().sum::<u64>();
    let kinds: Vec<&str> = LIMITED_BY
        .into_iter()
        .enumerate()
        .filter(|&(kind, _)| counts.iter().any(|counts| counts[kind] > 0))
        .map(|(_, label)| label)
        .collect();
    tracing::warn!(
        kinds = kinds.join(","),
        dropped = of(Limited::Drop),
        short = of(Limited::Slip) + of(Limited::BadCookie),
        only_counted = of(Limited::Log),
        "{message}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_when_it_begins_and_one_when_it_has_ended() {
        let with = |dropped: u64| {
            let mut counts = Counts::default();
            counts[Limited::Drop as usize][0] = dropped;
            counts
        };
        let mut watch = Watch::default();
        assert_eq!(watch.look(with(0)), None);
        assert_eq!(watch.look(with(5)), Some(Change::Began(with(5))));
        // However long it goes on, and with pauses shorter than a minute.
        for round in 1..200 {
            assert_eq!(watch.look(with(5 + round)), None);
            for _ in 1..QUIET_TICKS {
                assert_eq!(watch.look(with(5 + round)), None);
            }
        }
        assert_eq!(watch.look(with(204)), Some(Change::Ended(with(204))));
        assert_eq!(watch.look(with(204)), None);
        assert_eq!(watch.look(with(210)), Some(Change::Began(with(6))));
    }
}
