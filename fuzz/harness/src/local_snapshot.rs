//! Local snapshot files: one octet that says which checksums are made right, so that a change reaches what they cover, then the
//! file. Any octets are refused, or give a snapshot that holds together and that is written and read as the same again.

use godwit_engine::snapshot::{Restore, Snapshot};
use godwit_wire::feed::{
    Origin, PART_HEADER_OCTETS, PartHeader, SNAPSHOT_HEADER_OCTETS, SnapshotHeader, ZoneBlobWriter,
};

use crate::{Target, holding, names, zones};

const CHECKSUM_OCTETS: usize = 32;

/// Why a file is none, in words: nobody tells them apart.
type Fault = Box<dyn std::error::Error>;

/// What a data plane does with the octets of a file, which comes to it in pieces.
fn read(mut octets: &[u8]) -> Result<(SnapshotHeader, Snapshot), Fault> {
    let header = take::<SNAPSHOT_HEADER_OCTETS>(&mut octets)?;
    let header = SnapshotHeader::decode(header)?;
    let mut restore = Restore::new(header);
    while restore.left() > 0 {
        let part = PartHeader::decode(*take::<PART_HEADER_OCTETS>(&mut octets)?)?;
        let length = usize::try_from(part.length)?;
        let (blob, rest) = octets.split_at_checked(length).ok_or("it ends here")?;
        octets = rest;
        restore.part(part.more, blob)?;
    }
    if !octets.is_empty() {
        return Err("octets after the end".into());
    }
    Ok((header, restore.finish(&zones::options())?))
}

fn take<'a, const N: usize>(octets: &mut &'a [u8]) -> Result<&'a [u8; N], Fault> {
    let (chunk, rest) = octets.split_first_chunk().ok_or("it ends here")?;
    *octets = rest;
    Ok(chunk)
}

/// A file with at most so many RRsets in a part.
fn write(header: SnapshotHeader, snapshot: &Snapshot, part_rrsets: usize) -> Vec<u8> {
    let mut out = header.encode().to_vec();
    for zone in snapshot.zones() {
        let rrsets: Vec<_> = zone.rrsets().collect();
        let parts = rrsets.chunks(part_rrsets);
        let last = parts.len() - 1;
        for (number, part) in parts.enumerate() {
            let mut blob = Vec::new();
            let mut writer =
                ZoneBlobWriter::new(&mut blob, zone.apex(), zone.owner_number(), zone.version(), None);
            part.iter().for_each(|(owner, rrset)| writer.push(*owner, rrset));
            writer.finish(zone.digest());
            out.extend_from_slice(&PartHeader { more: number < last, length: blob.len() as u64 }.encode());
            out.extend_from_slice(&blob);
        }
    }
    out
}

fn header_of(origin: Origin, snapshot: &Snapshot) -> SnapshotHeader {
    SnapshotHeader {
        origin,
        zones: snapshot.zone_count() as u64,
        generation: 1,
        epoch: 2,
        sequence: 3,
        chain: [4; 32],
        lacks_changes: false,
        root_digest: snapshot.root_digest(),
        current_at_us: 1_800_000_000_000_000,
    }
}

/// Bit 0: the checksum of the header is made right; 1: those of the parts, as far as their lengths lead to them.
fn mend(knobs: u8, file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    if knobs & 1 != 0 && file.len() >= SNAPSHOT_HEADER_OCTETS {
        seal(&mut file[..SNAPSHOT_HEADER_OCTETS]);
    }
    let mut at = SNAPSHOT_HEADER_OCTETS;
    while knobs & 2 != 0
        && let Some((header, rest)) = file.get(at..).and_then(<[u8]>::split_first_chunk)
    {
        let Ok(PartHeader { length, .. }) = PartHeader::decode(*header) else { break };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length < CHECKSUM_OCTETS || length > rest.len() {
            break;
        }
        at += PART_HEADER_OCTETS;
        seal(&mut file[at..at + length]);
        at += length;
    }
    file
}

/// Makes the last octets the checksum of the others.
fn seal(octets: &mut [u8]) {
    let (content, checksum) = octets.split_at_mut(octets.len() - CHECKSUM_OCTETS);
    checksum.copy_from_slice(blake3::hash(content).as_bytes());
}

/// Checks the properties.
pub fn run(data: &[u8]) {
    let Some((&knobs, file)) = data.split_first() else { return };
    let file = mend(knobs, file);
    let Ok((header, snapshot)) = read(&file) else { return };
    assert_eq!(snapshot.recompute_digest(), header.root_digest, "the digest is not that of the records");
    assert_eq!(snapshot.check(), Ok(()));
    assert_eq!(snapshot.zone_count() as u64, header.zones);
    for part_rrsets in [1, usize::MAX] {
        let (again, same) = read(&write(header, &snapshot, part_rrsets)).expect("what was read is written");
        assert_eq!(again, header);
        assert_eq!(same.root_digest(), snapshot.root_digest());
    }
}

pub(crate) fn target() -> Target {
    Target {
        name: "local_snapshot",
        run,
        classes: names(&["no zones", "one zone", "several zones", "zone files", "feed", "several parts"]),
        classify: |data| {
            let Some((&knobs, file)) = data.split_first() else { return Vec::new() };
            let Ok((header, _)) = read(&mend(knobs, file)) else { return Vec::new() };
            holding(&[
                ("no zones", header.zones == 0),
                ("one zone", header.zones == 1),
                ("several zones", header.zones > 1),
                ("zone files", header.origin == Origin::ZoneFiles),
                ("feed", header.origin == Origin::Feed),
                ("several parts", file.get(SNAPSHOT_HEADER_OCTETS) == Some(&1)),
            ])
        },
        seeds: || {
            let seed = |origin, snapshot: &Snapshot, part_rrsets| {
                [&[3], &write(header_of(origin, snapshot), snapshot, part_rrsets)[..]].concat()
            };
            let (none, one, two) =
                (zones::empty(), zones::tiny(&["a.test."]), zones::tiny(&["a.test.", "b.test."]));
            vec![
                ("none".to_owned(), seed(Origin::Feed, &none, 1)),
                ("one".to_owned(), seed(Origin::Feed, &one, usize::MAX)),
                ("two".to_owned(), seed(Origin::ZoneFiles, &two, usize::MAX)),
                ("parts".to_owned(), seed(Origin::Feed, &two, 2)),
            ]
        },
    }
}
