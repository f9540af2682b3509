//! Writes and reads the file of a local snapshot. Its octets are laid out in `wire::feed` ([`SnapshotHeader`],
//! [`PartHeader`]); a snapshot is made of them by the engine ([`Restore`]).

use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use godwit_engine::snapshot::{Position, Restore, Snapshot, SnapshotOptions, ZoneView};
use godwit_wire::feed::{
    Origin, PART_HEADER_OCTETS, PartHeader, SNAPSHOT_HEADER_OCTETS, SnapshotHeader, ZoneBlobReader,
    ZoneBlobWriter,
};

use super::Found;
use super::disk::{Disk, File};
use super::pace::Paced;

/// About how many octets of a zone stand in one part.
const PART_OCTETS: usize = 1 << 20;
/// Octets that one read or write of the file asks for.
const BUFFER_OCTETS: usize = 1 << 18;

/// Writes a snapshot; `rest` is told after each part how long that has taken.
///
/// # Errors
/// Which the file reports.
pub(super) fn write(
    file: &mut File,
    origin: Origin,
    snapshot: &Snapshot,
    current_at_us: i64,
    rest: &mut dyn FnMut(Duration),
) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER_OCTETS, Paced::new(file, rest));
    let Position { generation, epoch, sequence, chain } = snapshot.position();
    let header = SnapshotHeader {
        origin,
        zones: snapshot.zone_count() as u64,
        generation,
        epoch,
        sequence,
        chain,
        lacks_changes: snapshot.lacks_changes(),
        root_digest: snapshot.root_digest(),
        current_at_us,
    };
    out.write_all(&header.encode())?;
    let mut blob = Vec::new();
    for zone in snapshot.zones() {
        write_zone(&zone, &mut blob, &mut out)?;
    }
    out.flush()
}

fn write_zone(zone: &ZoneView<'_>, blob: &mut Vec<u8>, out: &mut impl Write) -> std::io::Result<()> {
    let mut rrsets = zone.rrsets().peekable();
    loop {
        blob.clear();
        let mut writer = ZoneBlobWriter::new(blob, zone.apex(), zone.owner_number(), zone.version(), None);
        let mut octets = 0;
        while octets < PART_OCTETS
            && let Some((owner, rrset)) = rrsets.next()
        {
            octets += owner.as_wire().len()
                + rrset.rdata.iter().chain(&rrset.rrsigs).map(|rdata| rdata.len()).sum::<usize>();
            writer.push(owner, &rrset);
        }
        writer.finish(zone.digest());
        let more = rrsets.peek().is_some();
        out.write_all(&PartHeader { more, length: blob.len() as u64 }.encode())?;
        out.write_all(blob)?;
        if !more {
            return Ok(());
        }
    }
}

/// Reads a snapshot of this origin and checks all of it. `None`: there is no such file.
///
/// # Errors
/// What is wrong with it. No input makes this panic, or allocate more than a small multiple of the file's size.
pub(super) fn read(
    disk: &Disk,
    path: &Path,
    origin: Origin,
    options: &SnapshotOptions,
) -> anyhow::Result<Option<Found>> {
    let file = match disk.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let (mut parts, header) = Parts::begin(file, origin)?;
    let mut restore = Restore::new(header);
    while restore.left() > 0 {
        let number = header.zones - restore.left();
        let more = parts.next().with_context(|| format!("zone {number}"))?;
        restore.part(more, &parts.blob).with_context(|| format!("zone {number}"))?;
    }
    parts.end()?;
    let snapshot = restore.finish(options)?;
    Ok(Some(Found { snapshot, current_at_us: header.current_at_us }))
}

/// Looks whether a snapshot of this origin has all its parts and their checksums fit, with memory for one part only.
///
/// # Errors
/// What is wrong with it, that it is not there included.
pub(super) fn check(disk: &Disk, path: &Path, origin: Origin) -> anyhow::Result<()> {
    let (mut parts, header) = Parts::begin(disk.open(path)?, origin)?;
    let mut zones = 0;
    while zones < header.zones {
        let more = parts.next()?;
        ZoneBlobReader::new(&parts.blob)?;
        zones += u64::from(!more);
    }
    parts.end()
}

/// The parts of a file, one after the other.
struct Parts {
    input: BufReader<File>,
    /// Octets of the file that are not read yet.
    left: u64,
    /// The zone blob of the part read last.
    blob: Vec<u8>,
}

impl Parts {
    fn begin(file: File, origin: Origin) -> anyhow::Result<(Self, SnapshotHeader)> {
        let left = file.len()?;
        let mut input = BufReader::with_capacity(BUFFER_OCTETS, file);
        let mut octets = [0; SNAPSHOT_HEADER_OCTETS];
        input.read_exact(&mut octets).context("header")?;
        let header = SnapshotHeader::decode(&octets)?;
        if header.origin != origin {
            bail!("it was written from {:?}, which this process does not serve", header.origin);
        }
        let left = left.saturating_sub(SNAPSHOT_HEADER_OCTETS as u64);
        Ok((Parts { input, left, blob: Vec::new() }, header))
    }

    /// Reads the next part; whether further ones of its zone follow.
    fn next(&mut self) -> anyhow::Result<bool> {
        let mut octets = [0; PART_HEADER_OCTETS];
        self.input.read_exact(&mut octets)?;
        let PartHeader { more, length } = PartHeader::decode(octets)?;
        self.left = self.left.saturating_sub(PART_HEADER_OCTETS as u64);
        ensure!(length <= self.left, "a part is longer than the file");
        self.left -= length;
        self.blob.resize(usize::try_from(length)?, 0);
        self.input.read_exact(&mut self.blob)?;
        Ok(more)
    }

    fn end(self) -> anyhow::Result<()> {
        ensure!(self.left == 0, "{} octets follow the last zone", self.left);
        Ok(())
    }
}
