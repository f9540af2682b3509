//! The zones that answers are given from: one of each hard case, unsigned, signed with NSEC, and signed with NSEC3.

use godwit_engine::snapshot::{LoadedZone, Snapshot, SnapshotOptions, ZoneLoader};
use godwit_wire::feed::DigestKey;
use godwit_wire::name::Name;
use godwit_wire::zonefile::{self, NoIncludes, Options};

pub(crate) const PLAIN: &str = include_str!("../zones/plain.zone");
const NSEC: &str = include_str!("../zones/nsec.zone");
const NSEC3: &str = include_str!("../zones/nsec3.zone");

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

pub(crate) fn empty() -> Snapshot {
    Snapshot::empty(&SnapshotOptions { hash_key: [1; 16], digest_key: DigestKey([2; 32]) })
}

/// The unsigned zone alone.
pub(crate) fn small() -> Snapshot {
    empty().replace_zones(vec![load("plain.test.", PLAIN, 0)])
}

/// All zones; the two signed ones and the unsigned one have one owner, the last another.
pub(crate) fn all() -> Snapshot {
    empty().replace_zones(vec![
        load("plain.test.", PLAIN, 0),
        load("nsec.test.", NSEC, 0),
        load("nsec3.test.", NSEC3, 0),
        load("other.test.", PLAIN, 7),
    ])
}
