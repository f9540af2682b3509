//! Zones as change sets, for tests of the feed and of the local snapshot.

use std::path::Path;
use std::time::{Duration, Instant};

use godwit_dataplane::state::disk::Disk;
use godwit_dataplane::state::{Origin, State};
use godwit_engine::snapshot::{Snapshot, SnapshotOptions};
use godwit_wire::feed::{
    Batch, ChangeSet, Digest, DigestKey, Head, OwnedRrset, RrsetChange, ZoneChange, ZoneChangeKind,
};
use godwit_wire::name::Name;
use godwit_wire::rr::{Rrset, Rtype};

pub(crate) fn options() -> SnapshotOptions {
    SnapshotOptions { hash_key: [1; 16], digest_key: DigestKey([2; 32]) }
}

/// Opens a state folder. Another test that is just starting a process may have copied our lock to it for a moment: that is
/// waited for.
pub(crate) fn open_state(disk: &Disk, folder: &Path, origin: Origin) -> State {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match State::open_on(disk.clone(), folder, origin, false) {
            Err(error)
                if error.to_string().contains("used by another process") && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other.unwrap(),
        }
    }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn rrset(owner: &str, rtype: Rtype, rdata: &[u8]) -> OwnedRrset {
    OwnedRrset { owner: name(owner), rrset: Rrset::new(rtype, 300, vec![rdata.into()], Vec::new()) }
}

fn soa(zone: &str, serial: u32) -> OwnedRrset {
    let mut rdata = name(zone).as_wire().to_vec();
    rdata.extend_from_slice(name(zone).as_wire());
    for number in [serial, 7200, 3600, 1_209_600, 60] {
        rdata.extend_from_slice(&number.to_be_bytes());
    }
    rrset(zone, Rtype::SOA, &rdata)
}

/// Everything of a zone whose `www` has this address.
pub(crate) fn whole(zone: &str, version: u64, address: [u8; 4]) -> ZoneChange {
    let records = vec![
        soa(zone, u32::try_from(version).unwrap()),
        rrset(zone, Rtype::NS, name(&format!("ns.{zone}")).as_wire()),
        rrset(&format!("www.{zone}"), Rtype::A, &address),
    ];
    ZoneChange {
        zone: name(zone),
        owner: 0,
        base_version: 0,
        version,
        kind: ZoneChangeKind::Replace(records),
    }
}

/// A new address for `www` of a zone.
pub(crate) fn update(zone: &str, base_version: u64, address: [u8; 4]) -> ZoneChange {
    let version = base_version + 1;
    let changes = vec![
        RrsetChange::Put(soa(zone, u32::try_from(version).unwrap())),
        RrsetChange::Put(rrset(&format!("www.{zone}"), Rtype::A, &address)),
    ];
    ZoneChange { zone: name(zone), owner: 0, base_version, version, kind: ZoneChangeKind::Update(changes) }
}

pub(crate) fn removal(zone: &str, base_version: u64) -> ZoneChange {
    let version = base_version + 1;
    ZoneChange { zone: name(zone), owner: 0, base_version, version, kind: ZoneChangeKind::Remove }
}

pub(crate) fn change_set(zones: Vec<ZoneChange>) -> ChangeSet {
    ChangeSet { id: [7; 16], committed_at_us: 1_000_000, zones }
}

/// A relay: gives change sets their places, one after the other.
pub(crate) struct Relay {
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) chain: [u8; 32],
}

impl Relay {
    pub(crate) fn new() -> Self {
        Relay { generation: 1, epoch: 1, sequence: 0, chain: [0; 32] }
    }

    /// The next batch: one change set for each of these.
    pub(crate) fn batch(&mut self, change_sets: Vec<Vec<ZoneChange>>) -> Vec<u8> {
        let batch = Batch {
            generation: self.generation,
            epoch: self.epoch,
            first_sequence: self.sequence + 1,
            previous_chain: self.chain,
            change_sets: change_sets.into_iter().map(change_set).collect(),
        };
        self.sequence = batch.last_sequence();
        self.chain = batch.chain();
        let mut octets = Vec::new();
        batch.encode(&mut octets);
        octets
    }

    /// Where it stands, for who holds records of this root digest.
    pub(crate) fn head(&self, root_digest: Digest) -> Vec<u8> {
        let Relay { generation, epoch, sequence, chain } = *self;
        let mut octets = Vec::new();
        Head { generation, epoch, sequence, chain, root_digest }.encode(&mut octets);
        octets
    }

    pub(crate) fn one(&mut self, change: ZoneChange) -> Vec<u8> {
        self.batch(vec![vec![change]])
    }
}

/// The address of `www` of a zone; `None` without the zone.
pub(crate) fn address(snapshot: &Snapshot, zone: &str) -> Option<[u8; 4]> {
    let view = snapshot.zone(name(zone).as_ref())?;
    let www = name(&format!("www.{zone}"));
    let set = view.rrset(www.as_ref(), Rtype::A)?;
    set.rdata[0].first_chunk().copied()
}
