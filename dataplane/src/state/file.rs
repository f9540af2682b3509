//! The octets of a local snapshot.
//!
//! ```text
//! header  magic "GDWTSNAP" ┆ version u16 = 2 ┆ origin u8 (0 zone files, 1 feed) ┆ flags u8 ┆ zones u64
//!         ┆ generation u64 ┆ epoch u64 ┆ sequence u64 ┆ chain 32 octets ┆ root digest 32 octets ┆ current_at_us i64
//!         ┆ BLAKE3 of all this, 32 octets
//! part    1 u8 when more parts of the zone follow, else 0 ┆ length u64 ┆ zone blob (wire::feed) of these RRsets
//! ```
//!
//! Flags: bit 0, some zone is at an earlier state than the position says (its last good one), so that everything is to be
//! asked for. Version 1 had none, and is read. Integers are big-endian. A zone is one part or more, each with a checksum of its own, so that neither side needs
//! memory for a whole zone's octets. Nothing follows the last part of the last zone. What is read is rebuilt record by record, and its root
//! digest compared with that of the header, so that a wrong zone, one too few, or one of another time is found even
//! where every checksum fits.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use godwit_engine::snapshot::{LoadedZone, Position, Snapshot, SnapshotOptions, ZoneLoader, ZoneView};
use godwit_wire::feed::digest::Digest;
use godwit_wire::feed::{ZoneBlobReader, ZoneBlobWriter};
use godwit_wire::rr::Rtype;

use super::Found;

const MAGIC: [u8; 8] = *b"GDWTSNAP";
const VERSION: u16 = 2;
/// The version without flags.
const VERSION_WITHOUT_FLAGS: u16 = 1;
/// See the module.
const FLAG_LACKS_CHANGES: u8 = 1;
const HEADER_OCTETS: usize = 116;
const CHECKSUM_OCTETS: usize = 32;
/// About how many octets of a zone stand in one part.
const PART_OCTETS: usize = 1 << 20;

/// Where the records came from. One is never taken for the other: zone files say nothing about what a feed said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Zone files of this machine: unsigned, protected by checksums only.
    ZoneFiles,
    /// A feed: the position and root digest are those of its head.
    Feed,
}

struct Header {
    origin: Origin,
    zones: u64,
    position: Position,
    lacks_changes: bool,
    root_digest: Digest,
    current_at_us: i64,
}

/// Writes a snapshot.
///
/// # Errors
/// Which the file reports.
pub fn write(
    file: &mut File,
    origin: Origin,
    snapshot: &Snapshot,
    current_at_us: i64,
) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 18, file);
    let header = Header {
        origin,
        zones: snapshot.zone_count() as u64,
        position: snapshot.position(),
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
        out.write_all(&[u8::from(more)])?;
        out.write_all(&(blob.len() as u64).to_be_bytes())?;
        out.write_all(blob)?;
        if !more {
            return Ok(());
        }
    }
}

/// Reads a snapshot of this origin and checks all of it.
///
/// # Errors
/// What is wrong with it. No input makes this panic, or allocate more than a small multiple of the file's size.
pub fn read(path: &Path, origin: Origin, options: &SnapshotOptions) -> anyhow::Result<Found> {
    let file = File::open(path)?;
    let mut left = file.metadata()?.len();
    let mut input = BufReader::with_capacity(1 << 18, file);

    let mut octets = [0; HEADER_OCTETS + CHECKSUM_OCTETS];
    input.read_exact(&mut octets).context("header")?;
    left -= octets.len() as u64;
    let header = Header::decode(&octets)?;
    if header.origin != origin {
        bail!("it was written from {:?}, which this process does not serve", header.origin);
    }

    let mut zones: Vec<LoadedZone> = Vec::new();
    let mut blob = Vec::new();
    for number in 0..header.zones {
        let zone = read_zone(&mut input, &mut left, &mut blob).with_context(|| format!("zone {number}"))?;
        zones.push(zone);
    }
    ensure!(left == 0, "{left} octets follow the last zone");

    let snapshot = Snapshot::empty(options)
        .replace_zones(zones)
        .with_position(header.position)
        .with_lacks_changes(header.lacks_changes);
    ensure!(snapshot.zone_count() as u64 == header.zones, "it holds a zone twice");
    ensure!(snapshot.root_digest() == header.root_digest, "the root digest does not match the records");
    Ok(Found { snapshot, current_at_us: header.current_at_us })
}

/// Reads the parts of one zone. `left`: octets of the file that are not read yet.
fn read_zone(input: &mut impl Read, left: &mut u64, blob: &mut Vec<u8>) -> anyhow::Result<LoadedZone> {
    let mut loader: Option<(ZoneLoader, u64)> = None;
    loop {
        let mut more = [0; 1];
        input.read_exact(&mut more)?;
        let mut length = [0; 8];
        input.read_exact(&mut length)?;
        let length = u64::from_be_bytes(length);
        *left = left.saturating_sub(9);
        ensure!(length <= *left, "a part is longer than the file");
        *left -= length;
        blob.resize(usize::try_from(length)?, 0);
        input.read_exact(blob)?;
        let mut reader = ZoneBlobReader::new(blob)?;
        let (loader, _) = loader.get_or_insert_with(|| {
            (ZoneLoader::new(reader.zone().to_owned(), reader.owner()), reader.version())
        });
        while let Some((owner, rrset)) = reader.next_rrset()? {
            for rdata in &rrset.rdata {
                loader.record(owner, rrset.rtype, rrset.ttl, rdata, 0)?;
            }
            for rrsig in &rrset.rrsigs {
                loader.record(owner, Rtype::RRSIG, rrset.ttl, rrsig, 0)?;
            }
        }
        match more {
            [1] => {}
            [0] => break,
            _ => bail!("a part does not say whether more follow"),
        }
    }
    let Some((loader, version)) = loader else { bail!("a zone without parts") };
    Ok(loader.finish()?.with_version(version))
}

impl Header {
    fn encode(&self) -> [u8; HEADER_OCTETS + CHECKSUM_OCTETS] {
        let mut octets = Vec::with_capacity(HEADER_OCTETS + CHECKSUM_OCTETS);
        octets.extend_from_slice(&MAGIC);
        octets.extend_from_slice(&VERSION.to_be_bytes());
        octets.push(u8::from(self.origin == Origin::Feed));
        octets.push(if self.lacks_changes { FLAG_LACKS_CHANGES } else { 0 });
        octets.extend_from_slice(&self.zones.to_be_bytes());
        let Position { generation, epoch, sequence, chain } = self.position;
        for number in [generation, epoch, sequence] {
            octets.extend_from_slice(&number.to_be_bytes());
        }
        octets.extend_from_slice(&chain);
        octets.extend_from_slice(&self.root_digest.as_bytes());
        octets.extend_from_slice(&self.current_at_us.to_be_bytes());
        let checksum = blake3::hash(&octets);
        octets.extend_from_slice(checksum.as_bytes());
        octets.try_into().expect("the parts above are HEADER_OCTETS and a checksum")
    }

    fn decode(octets: &[u8; HEADER_OCTETS + CHECKSUM_OCTETS]) -> anyhow::Result<Self> {
        let (content, checksum) = octets.split_at(HEADER_OCTETS);
        ensure!(content[..8] == MAGIC, "not a snapshot of Godwit");
        let version = u16::from_be_bytes([content[8], content[9]]);
        ensure!(
            version == VERSION || version == VERSION_WITHOUT_FLAGS,
            "format version {version}, expected at most {VERSION}"
        );
        ensure!(blake3::hash(content).as_bytes() == checksum, "the header's checksum does not match");
        let lacks_changes = match (version, content[11]) {
            (VERSION_WITHOUT_FLAGS, _) | (_, 0) => false,
            (_, FLAG_LACKS_CHANGES) => true,
            (_, flags) => bail!("flags {flags:#04x} are not known"),
        };
        let number = |at: usize| content[at..].first_chunk().map_or(0, |octets| u64::from_be_bytes(*octets));
        let hash = |at: usize| content[at..].first_chunk::<32>().copied().unwrap_or_default();
        Ok(Header {
            origin: if content[10] == 1 { Origin::Feed } else { Origin::ZoneFiles },
            zones: number(12),
            position: Position {
                generation: number(20),
                epoch: number(28),
                sequence: number(36),
                chain: hash(44),
            },
            lacks_changes,
            root_digest: Digest::from_bytes(hash(76)),
            current_at_us: number(108).cast_signed(),
        })
    }
}
