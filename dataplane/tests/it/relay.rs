//! The other side of the feed, for tests: zones, the log of their changes, and answers about both.

use std::collections::BTreeMap;

use godwit_dataplane::feed::machine::{Got, Want};
use godwit_dataplane::feed::{Entries, Joined, ZoneState};
use godwit_engine::snapshot::{Position, Snapshot, SnapshotOptions};
use godwit_wire::feed::{
    Batch, Difference, Digest, DigestKey, Head, Index, IndexEntry, IndexPlace, OwnedRrset, PartSums,
    ZoneBlob, ZoneChange, ZoneChangeKind, part_of,
};
use godwit_wire::name::Name;

use super::snapshots::{change_set, name, options};

/// One batch of the log.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) epoch: u64,
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
    pub(crate) chain: [u8; 32],
    pub(crate) octets: Vec<u8>,
}

/// A control plane: what is committed, and what of it has its place in the log.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
    /// What is committed.
    pub(crate) zones: Snapshot,
    /// What of it has a sequence.
    pub(crate) published: Snapshot,
    /// Committed changes that have none.
    pub(crate) waiting: Vec<Vec<ZoneChange>>,
    pub(crate) log: Vec<Made>,
    /// Before the first batch of the log that is kept.
    pub(crate) start: (u64, [u8; 32]),
    /// Where zones went that are gone.
    pub(crate) departed: BTreeMap<Name, u64>,
    pub(crate) key: DigestKey,
}

impl Relay {
    pub(crate) fn new() -> Self {
        Relay::of(Snapshot::empty(&options()))
    }

    /// One whose digests have another key.
    pub(crate) fn with_key(octet: u8) -> Self {
        Relay::of(Snapshot::empty(&SnapshotOptions { digest_key: DigestKey([octet; 32]), ..options() }))
    }

    fn of(zones: Snapshot) -> Self {
        Relay {
            generation: 1,
            epoch: 1,
            key: zones.digest_key().clone(),
            published: zones.clone(),
            zones,
            waiting: Vec::new(),
            log: Vec::new(),
            start: (0, [0; 32]),
            departed: BTreeMap::new(),
        }
    }

    /// Sequence and chain at the end of the log.
    pub(crate) fn end(&self) -> (u64, [u8; 32]) {
        self.log.last().map_or(self.start, |made| (made.last_sequence, made.chain))
    }

    pub(crate) fn position(&self) -> Position {
        let (sequence, chain) = self.end();
        Position { generation: self.generation, epoch: self.epoch, sequence, chain }
    }

    /// Commits a change set that has no sequence yet.
    pub(crate) fn commit(&mut self, zones: Vec<ZoneChange>) {
        self.zones = self.zones.apply(&change_set(zones.clone())).unwrap();
        for change in &zones {
            if matches!(change.kind, ZoneChangeKind::Remove) {
                self.departed.insert(change.zone.clone(), change.version);
            } else {
                self.departed.remove(&change.zone);
            }
        }
        self.waiting.push(zones);
    }

    /// Gives all that waits its place, in one batch.
    pub(crate) fn publish(&mut self) {
        self.publish_some(usize::MAX);
    }

    /// The same for the first of it.
    pub(crate) fn publish_some(&mut self, most: usize) {
        let count = self.waiting.len().min(most);
        let change_sets: Vec<_> = self.waiting.drain(..count).collect();
        if change_sets.is_empty() {
            return;
        }
        for zones in &change_sets {
            self.published = self.published.apply(&change_set(zones.clone())).unwrap();
        }
        self.append(change_sets);
    }

    /// Commits and publishes.
    pub(crate) fn change(&mut self, zones: Vec<ZoneChange>) {
        self.commit(zones);
        self.publish();
    }

    /// Publishes what nobody looked at, which is what a fault would do: what is committed does not change.
    pub(crate) fn append(&mut self, change_sets: Vec<Vec<ZoneChange>>) {
        let (sequence, previous_chain) = self.end();
        let batch = Batch {
            generation: self.generation,
            epoch: self.epoch,
            first_sequence: sequence + 1,
            previous_chain,
            change_sets: change_sets.into_iter().map(change_set).collect(),
        };
        let mut octets = Vec::new();
        batch.encode(&mut octets);
        self.log.push(Made {
            epoch: self.epoch,
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence(),
            chain: batch.chain(),
            octets,
        });
    }

    /// Forgets the first batches.
    pub(crate) fn prune(&mut self, count: usize) {
        for made in self.log.drain(..count.min(self.log.len())) {
            self.start = (made.last_sequence, made.chain);
        }
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        self.head_of(self.published.root_digest())
    }

    pub(crate) fn head_of(&self, root_digest: Digest) -> Vec<u8> {
        let Position { generation, epoch, sequence, chain } = self.position();
        let mut octets = Vec::new();
        Head { generation, epoch, sequence, chain, root_digest }.encode(&mut octets);
        octets
    }

    /// Every change that is committed has its sequence up to here, in the end.
    pub(crate) fn settled(&self) -> u64 {
        self.end().0 + u64::try_from(self.waiting.len()).unwrap()
    }

    pub(crate) fn index(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        Index { place: self.index_place(), zones: self.listed() }.encode(&mut octets);
        octets
    }

    /// What differs from zones that add up to this.
    pub(crate) fn difference(&self, held: &PartSums) -> Vec<u8> {
        let parted = self.zones.parted();
        let ours = parted.sums();
        let (parts, mut zones) = (ours.differing(held), self.listed());
        zones.retain(|entry| parts.contains(part_of(&self.key, entry.zone.as_ref())));
        let mut octets = Vec::new();
        Difference { place: self.index_place(), sum: ours.total(), parts, zones }.encode(&mut octets);
        octets
    }

    fn index_place(&self) -> IndexPlace {
        let (sequence, chain) = self.end();
        let epoch = self.log.last().map_or(self.epoch, |made| made.epoch);
        IndexPlace { generation: self.generation, epoch, sequence, chain, settled: self.settled() }
    }

    fn listed(&self) -> Vec<IndexEntry> {
        let entry = |zone: godwit_engine::snapshot::ZoneView<'_>| IndexEntry {
            zone: zone.name(),
            version: zone.version(),
            digest: zone.digest(),
        };
        self.zones.zones().map(entry).collect()
    }

    pub(crate) fn zone(&self, apex: &Name) -> ZoneState {
        let settled = self.settled();
        let Some(zone) = self.zones.zone(apex.as_ref()) else {
            return ZoneState { blob: None, version: self.departed.get(apex).copied().unwrap_or(0), settled };
        };
        let rrsets = zone.rrsets().map(|(owner, rrset)| OwnedRrset { owner: owner.to_owned(), rrset });
        let blob = ZoneBlob {
            zone: apex.clone(),
            owner: zone.owner_number(),
            version: zone.version(),
            digest: zone.digest(),
            rrsets: rrsets.collect(),
        };
        let mut octets = Vec::new();
        blob.encode(&mut octets);
        ZoneState { blob: Some(octets.into()), version: zone.version(), settled }
    }

    /// Batches behind a position, and the head.
    pub(crate) fn entries(&self, after: &Position) -> Entries {
        let (sequence, _) = self.end();
        if (after.generation, after.sequence) > (self.generation, sequence)
            && after.generation >= self.generation
        {
            return Entries::Behind;
        }
        if after.generation != self.generation || after.sequence < self.start.0 {
            return Entries::Gone;
        }
        let here = self.log.iter().find(|made| made.last_sequence == after.sequence).map(|made| made.chain);
        if here.or((after.sequence == self.start.0).then_some(self.start.1)) != Some(after.chain) {
            return Entries::Gone;
        }
        let behind = self.log.iter().filter(|made| made.first_sequence > after.sequence);
        let mut entries: Vec<_> = behind.map(|made| made.octets.clone().into()).collect();
        entries.push(self.head().into());
        Entries::Next(entries)
    }

    /// What is answered to who wants something.
    pub(crate) fn answer(&self, want: &Want) -> Got {
        match want {
            Want::Join => Got::Joined(Joined { digest_key: self.key.clone() }),
            Want::Difference(held) => Got::Difference(Some(self.difference(held).into())),
            Want::Index => Got::Index(self.index().into()),
            Want::Zones(zones) => {
                Got::Zones(zones.iter().map(|zone| (zone.clone(), Some(self.zone(zone)))).collect())
            }
            Want::Entries(after) => Got::Entries(self.entries(after)),
            Want::Wait(_) => Got::Waited,
        }
    }

    /// An operator begins a new history, above what anybody has reported.
    pub(crate) fn begin_generation(&mut self, above: u64) {
        self.generation += 1;
        self.epoch += 1;
        self.waiting.clear();
        self.published = self.zones.clone();
        self.log.clear();
        let chain = if above == 0 { 0 } else { u8::try_from(self.generation).unwrap() };
        self.start = (above, [chain; 32]);
    }

    /// The version of a zone; 0 without.
    pub(crate) fn version(&self, zone: &str) -> u64 {
        self.zones.zone(name(zone).as_ref()).map_or(0, |zone| zone.version())
    }
}
