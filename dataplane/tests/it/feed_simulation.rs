//! The machine of the feed against a world that goes wrong in every way that seeds can think of: answers that are lost, late,
//! double, or those to an older question; crashes and old disks; a log that was cut, a deposed relay, a restored database. What
//! it shows is always what was committed, at its place, and never goes back; once the world is well again it holds all of it.
//!
//! A failure names its seed: `GODWIT_SEED=N` begins with that one. `GODWIT_LONG=1` runs a hundred thousand.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use godwit_dataplane::feed::machine::{Got, Machine, Seeds, Want};
use godwit_dataplane::feed::{Entries, ZoneState};
use godwit_engine::snapshot::{Position, Snapshot};
use godwit_wire::feed::{Digest, ZoneBlob, ZoneChange};
use godwit_wire::name::Name;

use super::chance::{Random, is_long, seed};
use super::relay::{Made, Relay};
use super::snapshots::{change_set, name, options, removal, update, whole};

/// The first is always there.
const ZONES: [&str; 5] = ["keep.test", "a.test", "b.test", "c.test", "sub.a.test"];
const STEPS: usize = 120;
/// Steps within which a well world leads to all that was committed.
const HEALED: usize = 60;

/// All of a seed's world.
struct World {
    random: Random,
    now: Instant,
    /// When what was shown lacked nothing.
    whole_at: Instant,
    step: usize,
    relay: Relay,
    /// The relay as it was at some time.
    copy: Relay,
    /// Answers come from the copy instead.
    is_restored: bool,
    /// One that goes on in a term that has ended, from what nobody committed.
    deposed: Option<Relay>,
    /// One that goes on in the same term, likewise, from a place in the past.
    other: Option<Relay>,
    machine: Machine,
    /// What was written last, and whether a record of it is another than was committed.
    disk: Option<(Snapshot, bool)>,
    /// Answers on their way, with the step at which they arrive.
    flying: Vec<(usize, Got)>,
    /// Answers of this generation, whether they arrived or not.
    sent: Vec<Got>,
    /// The step at which an answer is no longer waited for.
    asked: Option<usize>,
    paused: usize,
    /// The highest sequence that was ever reported.
    reported: u64,
    /// Answers may be late and lost, and nothing worse happens: then no zone is ever in quarantine.
    is_gentle: bool,
    difference_from: usize,
    facts: Facts,
}

/// What is true, and what was shown.
#[derive(Default)]
struct Facts {
    /// Each state of a zone that was ever committed.
    committed: HashSet<(Name, u64, Digest)>,
    /// The root digest at each place of the feed.
    roots: HashMap<(u64, u64, [u8; 32]), Digest>,
    /// The position shown last, and the version of each zone that was shown last in its generation.
    position: Position,
    versions: BTreeMap<Name, u64>,
    gone: HashSet<Name>,
    /// A record was flipped, and the root digest was not right since.
    flipped: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::of(seed);
        let (relay, now) = (Relay::new(), Instant::now());
        // Every other one asks what differs, where it holds anything.
        let difference_from = if seed.is_multiple_of(2) { 1 } else { usize::MAX };
        let machine = Machine::new(Snapshot::empty(&options()), seeds(&mut random));
        let machine = machine.with_difference_from(difference_from);
        let mut world = World {
            now,
            whole_at: now,
            step: 0,
            copy: relay.clone(),
            relay,
            is_restored: false,
            deposed: None,
            other: None,
            machine,
            disk: None,
            flying: Vec::new(),
            sent: Vec::new(),
            asked: None,
            paused: 0,
            reported: 0,
            is_gentle: seed % 8 < 2,
            difference_from,
            facts: Facts::default(),
            random,
        };
        world.note();
        world.commit(vec![whole("keep.test", 1, [0; 4])]);
        world.publish(9);
        world.copy = world.relay.clone();
        world
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.random.below(chances) == 0
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.step += 1;
            let jump = if self.one_in(50) { 600_000 } else { 400 };
            self.now += Duration::from_millis(self.random.next() % jump);
            self.happen();
            self.arrive();
            if self.paused > 0 {
                self.paused -= 1;
            } else {
                self.ask();
            }
        }
        self.heal();
    }

    /// Something changes out there, or in here.
    fn happen(&mut self) {
        match self.random.below(100) {
            57.. if self.is_gentle => {}
            0..30 => self.change(),
            30..50 => self.publish(2),
            50..53 => self.take_over(),
            53..55 => self.relay.prune(self.relay.log.len() / 2 + 1),
            55..57 if !self.is_restored => self.copy = self.relay.clone(),
            57..59 => self.is_restored = !self.is_restored,
            59..60 if self.is_restored => self.begin_generation(),
            60..64 => self.disk = Some((self.machine.snapshot().clone(), self.facts.flipped)),
            64..66 => self.crash(),
            66..68 => self.paused = self.random.below(10),
            68..70 => self.misfit(),
            70..73 => self.deposed_speaks(),
            73..78 => self.repeat(),
            78..80 => self.other = Some(self.fork()),
            80..84 => self.other_speaks(),
            _ => {}
        }
    }

    fn change(&mut self) {
        let count = 1 + self.random.below(3);
        let mut changes: Vec<ZoneChange> = Vec::new();
        for _ in 0..count {
            let zone = ZONES[self.random.below(ZONES.len())];
            if changes.iter().any(|change| change.zone == name(zone)) {
                continue;
            }
            let octet = self.random.octet();
            let version = self.relay.version(zone);
            let departed = self.relay.departed.get(&name(zone)).copied().unwrap_or(0);
            changes.push(match version {
                0 => whole(zone, departed + 1, [1, 1, 1, octet]),
                _ if zone != "keep.test" && self.one_in(4) => removal(zone, version),
                _ => update(zone, version, [1, 1, 1, octet]),
            });
        }
        self.commit(changes);
    }

    fn commit(&mut self, changes: Vec<ZoneChange>) {
        self.relay.commit(changes);
        for zone in self.relay.zones.zones() {
            self.facts.committed.insert((zone.name(), zone.version(), zone.digest()));
        }
    }

    fn publish(&mut self, most: usize) {
        let count = 1 + self.random.below(most);
        self.relay.publish_some(count);
        self.note();
    }

    /// Notes what is to be held where the feed stands.
    fn note(&mut self) {
        let Position { generation, sequence, chain, .. } = self.relay.position();
        self.facts.roots.insert((generation, sequence, chain), self.relay.published.root_digest());
    }

    /// A relay publishes what fits nobody.
    fn misfit(&mut self) {
        // What was told of places that are to be given holds.
        self.relay.publish();
        let zone = ZONES[self.random.below(ZONES.len())];
        self.relay.append(vec![vec![update(zone, self.relay.version(zone) + 50, [6; 4])]]);
        self.note();
    }

    fn take_over(&mut self) {
        let mut deposed = self.relay.clone();
        self.relay.epoch += 1;
        deposed.change(vec![update("keep.test", deposed.version("keep.test"), [66; 4])]);
        self.deposed = Some(deposed);
    }

    /// One that was deposed is heard by who has heard of its successor.
    fn deposed_speaks(&mut self) {
        let Some(deposed) = &self.deposed else { return };
        let position = self.machine.snapshot().position();
        if deposed.generation != position.generation || position.epoch <= deposed.epoch {
            return;
        }
        let batches = deposed.log.iter().map(|made| made.octets.clone().into());
        let entries: Vec<_> = batches.chain([deposed.head().into()]).collect();
        let index = Got::Index(deposed.index().into());
        let difference = deposed.difference(self.machine.snapshot().parted().sums());
        self.take(Got::Entries(Entries::Next(entries)));
        self.take(index);
        self.take(Got::Difference(Some(difference.into())));
    }

    fn fork(&self) -> Relay {
        let mut other = self.relay.clone();
        for _ in 0..9 {
            other.change(vec![update("keep.test", other.version("keep.test"), [66; 4])]);
        }
        other
    }

    /// Batches of another history are heard by who is past the place at which it began.
    fn other_speaks(&mut self) {
        let Some(other) = &self.other else { return };
        let position = self.machine.snapshot().position();
        let made = |made: &&Made| made.last_sequence == position.sequence && made.chain != position.chain;
        if other.generation == position.generation && other.log.iter().any(|one| made(&one)) {
            let entries = other.log.iter().map(|made| made.octets.clone().into()).collect();
            self.take(Got::Entries(Entries::Next(entries)));
        }
    }

    /// An operator makes an older copy the truth.
    fn begin_generation(&mut self) {
        let generation = self.relay.generation;
        self.relay = self.copy.clone();
        self.relay.generation = generation;
        self.relay.begin_generation(self.reported);
        (self.is_restored, self.deposed, self.other) = (false, None, None);
        self.sent.clear();
        self.flying.clear();
        self.copy = self.relay.clone();
        self.note();
        // That is not done behind anybody's back.
        self.take(Got::Lost);
    }

    /// An end, and a start from what the disk has; now and then with one record of it flipped, or without a disk.
    fn crash(&mut self) {
        if self.one_in(6) {
            self.disk = None;
        }
        let nothing = || (Snapshot::empty(&options()), false);
        let (mut snapshot, flipped) = self.disk.clone().unwrap_or_else(nothing);
        self.facts.flipped = flipped;
        let held: Vec<(Name, u64)> = snapshot.zones().map(|zone| (zone.name(), zone.version())).collect();
        if !held.is_empty() && self.one_in(3) {
            let (zone, version) = &held[self.random.below(held.len())];
            let records = vec![whole(zone.to_string().trim_end_matches('.'), *version, [99; 4])];
            let flipped =
                snapshot.remove_zones(std::slice::from_ref(zone)).apply(&change_set(records)).unwrap();
            let digest = flipped.zone(zone.as_ref()).unwrap().digest();
            self.facts.committed.insert((zone.clone(), *version, digest));
            self.facts.flipped = true;
            snapshot =
                flipped.with_position(snapshot.position()).with_lacks_changes(snapshot.lacks_changes());
        }
        self.facts.forget();
        let machine = Machine::new(snapshot, seeds(&mut self.random));
        self.machine = machine.with_difference_from(self.difference_from);
        self.asked = None;
        self.flying.clear();
        // Batches may lie somewhere for long; what was asked by one process is not answered to the next.
        self.sent.retain(|got| matches!(got, Got::Entries(_)));
        self.look();
    }

    /// An old answer arrives, whatever was asked.
    fn repeat(&mut self) {
        if !self.sent.is_empty() {
            let got = self.sent[self.random.below(self.sent.len())].clone();
            self.take(got);
        }
    }

    /// The machine wants something, and it is asked for, unless an answer is on its way.
    fn ask(&mut self) {
        if let Some(until) = self.asked {
            if self.step >= until {
                self.take(Got::Lost);
            }
            return;
        }
        let want = self.machine.want(self.now);
        if matches!(want, Want::Wait(_)) {
            return;
        }
        self.asked = Some(self.step + 6);
        let answering = if self.is_restored { &self.copy } else { &self.relay };
        let mut got = answering.answer(&want);
        if let Got::Zones(zones) = &mut got {
            for (_, state) in zones.iter_mut().filter(|_| !self.is_gentle) {
                state.take_if(|_| self.random.below(8) == 0);
                if let Some(state) = state.as_mut().filter(|_| self.random.below(20) == 0) {
                    damage(state);
                }
            }
        }
        self.sent.push(got.clone());
        if self.one_in(8) {
            return;
        }
        let copies = 1 + usize::from(self.one_in(8));
        for _ in 0..copies {
            let delay = if self.one_in(6) { self.random.below(12) } else { 0 };
            self.flying.push((self.step + delay, got.clone()));
        }
    }

    fn arrive(&mut self) {
        let (now, later) = std::mem::take(&mut self.flying).into_iter().partition(|(at, _)| *at <= self.step);
        self.flying = later;
        let now: Vec<(usize, Got)> = now;
        for (_, got) in now {
            self.take(got);
        }
    }

    fn take(&mut self, got: Got) {
        self.asked = None;
        if self.machine.took(got, self.now).show {
            self.look();
        }
    }

    /// Looks at what is shown.
    fn look(&mut self) {
        self.reported = self.reported.max(self.machine.snapshot().position().sequence);
        let shown = self.machine.snapshot();
        if !shown.lacks_changes() {
            self.whole_at = self.now;
        } else if self.is_gentle {
            assert!(self.machine.kept_back().is_empty(), "what had nothing wrong is in quarantine");
            let patience = Duration::from_secs(5);
            assert!(self.now - self.whole_at >= patience, "what is ahead of the feed is shown too early");
        }
        self.facts.look(shown);
    }

    /// Nothing goes wrong any more.
    fn heal(&mut self) {
        self.is_restored = false;
        self.flying.clear();
        self.take(Got::Lost);
        self.relay.publish();
        self.note();
        for _ in 0..HEALED {
            let want = self.machine.want(self.now);
            if let Want::Wait(until) = want {
                self.now = self.now.max(until);
            }
            let got = self.relay.answer(&want);
            self.take(got);
            self.now += Duration::from_secs(6);
        }
        let (shown, expected) = (self.machine.snapshot(), self.relay.position());
        let position = Position { epoch: expected.epoch, ..shown.position() };
        assert_eq!(position, expected, "it does not come to the end of the feed");
        assert_eq!(
            shown.root_digest(),
            self.relay.zones.root_digest(),
            "it does not hold what was committed"
        );
        assert!(self.machine.kept_back().is_empty(), "zones stay in quarantine");
    }
}

impl Facts {
    /// After a start from an older state that one counts.
    fn forget(&mut self) {
        (self.position, self.versions, self.gone) = Default::default();
    }

    fn look(&mut self, shown: &Snapshot) {
        let position = shown.position();
        if position == Position::default() {
            assert_eq!(self.position, position, "what was there is gone");
            return;
        }
        if position.generation != self.position.generation {
            assert!(position.generation > self.position.generation, "back to a past history");
            self.forget();
        }
        assert!(position.sequence >= self.position.sequence, "back in the feed");
        self.position = position;
        let always = name("keep.test");
        assert!(
            shown.lacks_changes() || shown.zone(always.as_ref()).is_some(),
            "a zone that is always there is gone"
        );
        for zone in shown.zones() {
            let (apex, version) = (zone.name(), zone.version());
            let state = (apex.clone(), version, zone.digest());
            assert!(self.committed.contains(&state), "{apex} at {version} was never committed");
            let before = self.versions.get(&apex).copied().unwrap_or(0);
            let is_lower = version < before || (version == before && self.gone.contains(&apex));
            assert!(!is_lower, "{apex} went back from {before} to {version}");
        }
        if shown.lacks_changes() {
            // Some zone may be kept from a history that has ended: its version says nothing.
            return;
        }
        self.gone.extend(self.versions.keys().cloned());
        for zone in shown.zones() {
            self.gone.remove(&zone.name());
            self.versions.insert(zone.name(), zone.version());
        }
        // Change sets over several zones are whole, as all of it is what was committed there.
        let expected = self.roots[&(position.generation, position.sequence, position.chain)];
        self.flipped &= shown.root_digest() != expected;
        assert!(self.flipped || shown.root_digest() == expected, "not what was committed at {position:?}");
    }
}

/// Other records than those of which the digest was made.
fn damage(state: &mut ZoneState) {
    if let Some(octets) = &state.blob {
        let mut blob = ZoneBlob::decode(octets).unwrap();
        for owned in &mut blob.rrsets {
            owned.rrset.ttl += 1;
        }
        let mut octets = Vec::new();
        blob.encode(&mut octets);
        state.blob = Some(octets.into());
    }
}

fn seeds(random: &mut Random) -> Seeds {
    Seeds { hash_key: [1; 16], pauses: random.next() }
}

#[test]
fn p5_p8_whatever_happens_what_is_shown_was_committed_and_in_the_end_all_of_it_is() {
    let count = if is_long() { 100_000 } else { 3_000 };
    let (first, next) = (seed(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let seed = first.wrapping_add(number);
                    let mut world = World::new(seed);
                    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
                    if let Err(panic) = run {
                        next.store(count, Ordering::Relaxed);
                        eprintln!("GODWIT_SEED={seed} at step {}", world.step);
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
}
