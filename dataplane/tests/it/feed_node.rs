//! A machine of the feed under a test's hand, with its clock.

use std::time::{Duration, Instant};

use godwit_dataplane::feed::machine::{Got, Machine, Outcome, Seeds, Want};
use godwit_dataplane::feed::{Entries, Quarantine};
use godwit_engine::snapshot::{Position, Snapshot};
use godwit_wire::name::Name;

use super::relay::Relay;
use super::snapshots::{address, options, whole};

/// A machine and its clock.
pub(crate) struct Node {
    pub(crate) machine: Machine,
    pub(crate) now: Instant,
    /// What was wanted so far.
    pub(crate) wanted: Vec<Want>,
    /// Snapshots shown so far.
    pub(crate) shown: usize,
}

impl Node {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        let machine = Machine::new(snapshot, Seeds { hash_key: [1; 16], pauses: 7 });
        Node { machine, now: Instant::now(), wanted: Vec::new(), shown: 0 }
    }

    /// One that holds `a.test`, `b.test` and `c.test` at version 1.
    pub(crate) fn three() -> (Self, Relay) {
        let (mut node, mut relay) = (Node::new(Snapshot::empty(&options())), Relay::new());
        for (last, zone) in (1..).zip(["a.test", "b.test", "c.test"]) {
            relay.change(vec![whole(zone, 1, [192, 0, 2, last])]);
        }
        node.settle(&relay);
        assert_eq!((node.machine.snapshot().position(), node.shown), (relay.position(), 1));
        (node, relay)
    }

    pub(crate) fn want(&mut self) -> Want {
        let want = self.machine.want(self.now);
        self.wanted.push(want.clone());
        want
    }

    pub(crate) fn took(&mut self, got: Got) -> Outcome {
        let outcome = self.machine.took(got, self.now);
        self.shown += usize::from(outcome.show);
        outcome
    }

    pub(crate) fn entries(&mut self, entries: Vec<Vec<u8>>) -> Outcome {
        self.took(Got::Entries(Entries::Next(entries.into_iter().map(Into::into).collect())))
    }

    /// Asks once, is answered; what is to be waited for is waited for.
    pub(crate) fn step(&mut self, relay: &Relay) -> Outcome {
        let want = self.want();
        if let Want::Wait(until) = want {
            self.now = self.now.max(until);
        }
        self.now += Duration::from_millis(10);
        self.took(relay.answer(&want))
    }

    /// Until all is held that there is.
    pub(crate) fn settle(&mut self, relay: &Relay) {
        for _ in 0..100 {
            if self.step(relay).current {
                return;
            }
        }
        panic!("it does not come to an end: {:?}", self.wanted);
    }

    /// Until something of this kind is wanted, which is not answered.
    pub(crate) fn until(&mut self, relay: &Relay, is_it: impl Fn(&Want) -> bool) -> Want {
        for _ in 0..100 {
            let want = self.want();
            if is_it(&want) {
                return want;
            }
            if let Want::Wait(until) = want {
                self.now = self.now.max(until);
            }
            self.took(relay.answer(&want));
        }
        panic!("it is never wanted: {:?}", self.wanted);
    }

    pub(crate) fn addresses(&self) -> [Option<u8>; 3] {
        let snapshot = self.machine.snapshot();
        ["a.test", "b.test", "c.test"].map(|zone| address(snapshot, zone).map(|address| address[3]))
    }

    pub(crate) fn position(&self) -> Position {
        self.machine.snapshot().position()
    }

    pub(crate) fn quarantine(&self) -> Vec<(String, u64)> {
        let quarantine: &Quarantine = self.machine.kept_back();
        quarantine.iter().map(|(zone, version)| (zone.to_string(), *version)).collect()
    }

    /// Zones that were asked for since the last call, and how often the index was.
    pub(crate) fn fetched(&mut self) -> (Vec<Name>, usize) {
        let (mut zones, mut indexes) = (Vec::new(), 0);
        for want in self.wanted.drain(..) {
            match want {
                Want::Zones(wanted) => zones.extend(wanted),
                Want::Index | Want::Difference(_) => indexes += 1,
                _ => {}
            }
        }
        (zones, indexes)
    }
}
