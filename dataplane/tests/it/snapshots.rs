//! Zones as change sets, for tests of the feed and of the local snapshot.

use std::path::Path;
use std::time::{Duration, Instant};

use godwit_dataplane::state::disk::Disk;
use godwit_dataplane::state::{Origin, State};
use godwit_engine::snapshot::{Snapshot, SnapshotOptions};
use godwit_wire::feed::{ChangeSet, DigestKey, OwnedRrset, RrsetChange, ZoneChange, ZoneChangeKind};
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

/// A whole zone that cannot be served: a CNAME stands beside other data.
pub(crate) fn bad(zone: &str, version: u64) -> ZoneChange {
    let mut bad = whole(zone, version, [192, 0, 2, 66]);
    let ZoneChangeKind::Replace(records) = &mut bad.kind else { unreachable!() };
    records.push(rrset(&format!("www.{zone}"), Rtype::CNAME, name("b.test").as_wire()));
    bad
}

pub(crate) fn removal(zone: &str, base_version: u64) -> ZoneChange {
    let version = base_version + 1;
    ZoneChange { zone: name(zone), owner: 0, base_version, version, kind: ZoneChangeKind::Remove }
}

pub(crate) fn change_set(zones: Vec<ZoneChange>) -> ChangeSet {
    ChangeSet { id: [7; 16], committed_at_us: 1_000_000, zones }
}

/// The address of `www` of a zone; `None` without the zone.
pub(crate) fn address(snapshot: &Snapshot, zone: &str) -> Option<[u8; 4]> {
    let view = snapshot.zone(name(zone).as_ref())?;
    let www = name(&format!("www.{zone}"));
    let set = view.rrset(www.as_ref(), Rtype::A)?;
    set.rdata[0].first_chunk().copied()
}
