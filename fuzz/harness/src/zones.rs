//! The zones that answers are given from: one of each hard case, unsigned, signed with NSEC, and signed with NSEC3; one of
//! what is too large, too long or too deep; and zones nested in it.

use godwit_engine::snapshot::{LoadedZone, Snapshot, SnapshotOptions, ZoneLoader};
use godwit_wire::feed::DigestKey;
use godwit_wire::name::Name;
use godwit_wire::zonefile::{self, NoIncludes, Options};

pub(crate) const PLAIN: &str = include_str!("../zones/plain.zone");
const NSEC: &str = include_str!("../zones/nsec.zone");
const NSEC3: &str = include_str!("../zones/nsec3.zone");
const RICH: &str = include_str!("../zones/rich.zone");
const NESTED: &str = include_str!("../zones/nested.zone");

/// A zone of its text.
fn load(apex: &str, text: &str, owner: u32) -> LoadedZone {
    let apex: Name = apex.parse().expect("the apex is a name");
    let mut loader = ZoneLoader::new(apex.clone(), owner);
    let mut sink = |record: zonefile::Record<'_>| {
        loader
            .record(record.owner, record.rtype, record.ttl, record.rdata, record.line)
            .map_err(|error| error.to_string())
    };
    let options = Options::new(apex.clone(), apex.to_string());
    zonefile::read(text.as_bytes(), &options, &mut NoIncludes, &mut sink).expect("the zone file is right");
    loader.finish().expect("the zone can be served").with_version(1)
}

pub(crate) fn options() -> SnapshotOptions {
    SnapshotOptions { hash_key: [1; 16], digest_key: DigestKey([2; 32]) }
}

pub(crate) fn empty() -> Snapshot {
    Snapshot::empty(&options())
}

/// Zones of a few records each.
pub(crate) fn tiny(apexes: &[&str]) -> Snapshot {
    const TEXT: &str =
        "@ 60 SOA ns h 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\nwww 60 A 192.0.2.2\n* 60 TXT x\n";
    empty().replace_zones(apexes.iter().map(|apex| load(apex, TEXT, 0)).collect())
}

/// The unsigned zone alone.
pub(crate) fn small() -> Snapshot {
    empty().replace_zones(vec![load("plain.test.", PLAIN, 0)])
}

/// The origins and texts of all zones.
pub(crate) const FILES: [(&str, &str); 7] = [
    ("plain.test", PLAIN),
    ("nsec.test", NSEC),
    ("nsec3.test", NSEC3),
    ("other.test", PLAIN),
    ("rich.test", RICH),
    ("nested.rich.test", NESTED),
    ("hidden.rich.test", NESTED),
];

/// All zones. `other.test.` and one of the nested zones have owners of their own, all the rest one owner.
pub(crate) fn all() -> Snapshot {
    let owner = |origin: &str| if ["other.test", "hidden.rich.test"].contains(&origin) { 7 } else { 0 };
    let zones = FILES.iter().map(|(origin, text)| load(&format!("{origin}."), text, owner(origin)));
    empty().replace_zones(zones.collect())
}
