//! Zones for tests.

use godwit_engine::snapshot::{LoadedZone, ZoneLoader, ZoneView};
use godwit_wire::feed::{OwnedRrset, ZoneBlob};
use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A zone at a version, whose `www` has the address of this last octet.
pub(super) fn zone(apex: &str, octet: u8, version: u64) -> LoadedZone {
    let mut loader = ZoneLoader::new(name(apex), 0);
    let mut soa = [name(apex).as_wire(), name(apex).as_wire()].concat();
    soa.extend_from_slice(&[0; 20]);
    let [www, ns] = ["www", "ns"].map(|label| name(&format!("{label}.{apex}")));
    loader.record(name(apex).as_ref(), Rtype::SOA, 300, &soa, 0).unwrap();
    loader.record(name(apex).as_ref(), Rtype::NS, 300, ns.as_wire(), 0).unwrap();
    loader.record(www.as_ref(), Rtype::A, 300, &[192, 0, 2, octet], 0).unwrap();
    loader.finish().unwrap().with_version(version)
}

/// What a control plane gives of it.
pub(super) fn blob(zone: &ZoneView<'_>) -> ZoneBlob {
    let rrsets = zone.rrsets().map(|(owner, rrset)| OwnedRrset { owner: owner.to_owned(), rrset });
    ZoneBlob {
        zone: zone.name(),
        owner: 0,
        version: zone.version(),
        digest: zone.digest(),
        rrsets: rrsets.collect(),
    }
}
