//! The local snapshot of a data plane: what stands around the zone blobs in its file. Reading and writing the file is the
//! data plane's; making a snapshot of what is in it is the engine's (`snapshot::Restore`).
//!
//! ```text
//! header  magic "GDWTSNAP" ┆ version u16 = 2 ┆ origin u8 (0 zone files, 1 feed) ┆ flags u8 ┆ zones u64
//!         ┆ generation u64 ┆ epoch u64 ┆ sequence u64 ┆ chain 32 octets ┆ root digest 32 octets ┆ current_at_us i64
//!         ┆ BLAKE3 of all this, 32 octets
//! part    1 u8 when more parts of the zone follow, else 0 ┆ length u64 ┆ zone blob of these RRsets
//! ```
//!
//! Flags: bit 0, some zone is at an earlier state than the position says (its last good one), so that everything is to be
//! asked for. Version 1 had none, and is read. Integers are big-endian. A zone is one part or more, each with a checksum of its own, so that neither side needs
//! memory for a whole zone's octets. Nothing follows the last part of the last zone. The file carries no signature: it never
//! leaves its machine, and its root digest is keyed.

use super::digest::Digest;

/// Octets of the header with its checksum.
pub const SNAPSHOT_HEADER_OCTETS: usize = CONTENT_OCTETS + CHECKSUM_OCTETS;
/// Octets in front of the zone blob of a part.
pub const PART_HEADER_OCTETS: usize = 9;

const MAGIC: [u8; 8] = *b"GDWTSNAP";
const VERSION: u16 = 2;
/// The version without flags.
const VERSION_WITHOUT_FLAGS: u16 = 1;
/// See [`SnapshotHeader::lacks_changes`].
const FLAG_LACKS_CHANGES: u8 = 1;
const CONTENT_OCTETS: usize = 116;
const CHECKSUM_OCTETS: usize = 32;

/// Where the records came from. One is never taken for the other: zone files say nothing about what a feed said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Zone files of this machine: unsigned, protected by checksums only.
    ZoneFiles,
    /// A feed: the position and root digest are those of its head.
    Feed,
}

/// What a local snapshot says of itself, before its zones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SnapshotHeader {
    /// Where the records came from.
    pub origin: Origin,
    /// How many zones follow.
    pub zones: u64,
    /// The history that the feed's position belongs to; 0 without a feed, as the three that follow.
    pub generation: u64,
    /// The term of the relay.
    pub epoch: u64,
    /// The last sequence applied.
    pub sequence: u64,
    /// The chain hash at that sequence.
    pub chain: [u8; 32],
    /// Some zone is at an earlier state than the position says: its last good one.
    pub lacks_changes: bool,
    /// The root digest of the zones that follow.
    pub root_digest: Digest,
    /// When they were last known to be current, in microseconds since the epoch.
    pub current_at_us: i64,
}

/// Why the header of a local snapshot, or of a part, is not one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SnapshotFault {
    /// Other first octets.
    #[error("not a snapshot of Godwit")]
    Magic,
    /// A version that this reader does not know.
    #[error("format version {0}, expected at most {VERSION}")]
    Version(u16),
    /// The header's octets and its checksum do not belong together.
    #[error("the header's checksum does not match")]
    Checksum,
    /// The number of the origin is none, or a flag is not known.
    #[error("the header names an origin or flags that are not known")]
    Origin,
    /// The first octet of a part is neither 0 nor 1.
    #[error("a part does not say whether more follow")]
    More,
}

impl SnapshotHeader {
    /// The octets.
    #[must_use]
    pub fn encode(&self) -> [u8; SNAPSHOT_HEADER_OCTETS] {
        let mut content = Vec::with_capacity(SNAPSHOT_HEADER_OCTETS);
        content.extend_from_slice(&MAGIC);
        content.extend_from_slice(&VERSION.to_be_bytes());
        let flags = if self.lacks_changes { FLAG_LACKS_CHANGES } else { 0 };
        content.extend_from_slice(&[u8::from(self.origin == Origin::Feed), flags]);
        for number in [self.zones, self.generation, self.epoch, self.sequence] {
            content.extend_from_slice(&number.to_be_bytes());
        }
        content.extend_from_slice(&self.chain);
        content.extend_from_slice(&self.root_digest.as_bytes());
        content.extend_from_slice(&self.current_at_us.to_be_bytes());
        let checksum = *blake3::hash(&content).as_bytes();
        content.extend_from_slice(&checksum);
        let mut octets = [0; SNAPSHOT_HEADER_OCTETS];
        for (octet, written) in octets.iter_mut().zip(content) {
            *octet = written;
        }
        octets
    }

    /// Reads the octets.
    ///
    /// # Errors
    /// [`SnapshotFault`]: the first that applies, in the order of its variants.
    pub fn decode(octets: &[u8; SNAPSHOT_HEADER_OCTETS]) -> Result<Self, SnapshotFault> {
        let (content, checksum) = octets.split_at(CONTENT_OCTETS);
        let mut rest = content;
        if take(&mut rest) != MAGIC {
            return Err(SnapshotFault::Magic);
        }
        let version = u16::from_be_bytes(take(&mut rest));
        if version != VERSION && version != VERSION_WITHOUT_FLAGS {
            return Err(SnapshotFault::Version(version));
        }
        if blake3::hash(content).as_bytes() != checksum {
            return Err(SnapshotFault::Checksum);
        }
        let [origin, flags] = take(&mut rest);
        let origin = match origin {
            0 => Origin::ZoneFiles,
            1 => Origin::Feed,
            _ => return Err(SnapshotFault::Origin),
        };
        let lacks_changes = match (version, flags) {
            (_, 0) => false,
            (VERSION, FLAG_LACKS_CHANGES) => true,
            _ => return Err(SnapshotFault::Origin),
        };
        // Fields are evaluated in the order they are written in, which is that of the octets.
        Ok(SnapshotHeader {
            origin,
            zones: u64::from_be_bytes(take(&mut rest)),
            generation: u64::from_be_bytes(take(&mut rest)),
            epoch: u64::from_be_bytes(take(&mut rest)),
            sequence: u64::from_be_bytes(take(&mut rest)),
            chain: take(&mut rest),
            lacks_changes,
            root_digest: Digest::from_bytes(take(&mut rest)),
            current_at_us: i64::from_be_bytes(take(&mut rest)),
        })
    }
}

/// The next `N` octets. The fields are as long together as the content, so there are always enough.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    match rest.split_first_chunk::<N>() {
        Some((octets, after)) => {
            *rest = after;
            *octets
        }
        None => [0; N],
    }
}

/// What stands in front of the zone blob of a part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartHeader {
    /// More parts of the same zone follow.
    pub more: bool,
    /// Octets of the zone blob. Whoever reads compares this with what is left before making room for it.
    pub length: u64,
}

impl PartHeader {
    /// The octets.
    #[must_use]
    pub fn encode(self) -> [u8; PART_HEADER_OCTETS] {
        let [a, b, c, d, e, f, g, h] = self.length.to_be_bytes();
        [u8::from(self.more), a, b, c, d, e, f, g, h]
    }

    /// Reads the octets.
    ///
    /// # Errors
    /// [`SnapshotFault::More`].
    pub fn decode(octets: [u8; PART_HEADER_OCTETS]) -> Result<Self, SnapshotFault> {
        let [more, length @ ..] = octets;
        let more = match more {
            0 => false,
            1 => true,
            _ => return Err(SnapshotFault::More),
        };
        Ok(PartHeader { more, length: u64::from_be_bytes(length) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SnapshotHeader {
        SnapshotHeader {
            origin: Origin::Feed,
            zones: 3,
            generation: 4,
            epoch: 5,
            sequence: 6,
            chain: [7; 32],
            lacks_changes: true,
            root_digest: Digest::from_bytes([8; 32]),
            current_at_us: -9,
        }
    }

    #[test]
    fn a_header_reads_back_and_no_octet_of_it_may_differ() {
        let octets = header().encode();
        assert_eq!(SnapshotHeader::decode(&octets), Ok(header()));
        let files = SnapshotHeader { origin: Origin::ZoneFiles, ..header() };
        assert_eq!(SnapshotHeader::decode(&files.encode()), Ok(files));
        for at in 0..octets.len() {
            for bit in 0..8 {
                let mut damaged = octets;
                damaged[at] ^= 1 << bit;
                let fault = SnapshotHeader::decode(&damaged).expect_err("it is damaged");
                let expected = match at {
                    0..8 => SnapshotFault::Magic,
                    8..10 => {
                        let version = VERSION ^ if at == 8 { 256 << bit } else { 1 << bit };
                        SnapshotFault::Version(version)
                    }
                    _ => SnapshotFault::Checksum,
                };
                assert_eq!(fault, expected, "octet {at}");
            }
        }
    }

    #[test]
    fn an_origin_that_is_none_is_refused_under_a_good_checksum() {
        for (at, octet) in [(10, 2), (11, 2)] {
            let mut octets = header().encode();
            octets[at] = octet;
            let checksum = *blake3::hash(&octets[..CONTENT_OCTETS]).as_bytes();
            octets[CONTENT_OCTETS..].copy_from_slice(&checksum);
            assert_eq!(SnapshotHeader::decode(&octets), Err(SnapshotFault::Origin));
        }
    }

    #[test]
    fn the_version_before_had_no_flags() {
        let remade = |flags: u8| {
            let mut octets = header().encode();
            (octets[9], octets[11]) = (1, flags);
            let checksum = *blake3::hash(&octets[..CONTENT_OCTETS]).as_bytes();
            octets[CONTENT_OCTETS..].copy_from_slice(&checksum);
            SnapshotHeader::decode(&octets)
        };
        assert_eq!(remade(0), Ok(SnapshotHeader { lacks_changes: false, ..header() }));
        assert_eq!(remade(1), Err(SnapshotFault::Origin));
    }

    #[test]
    fn a_part_says_whether_more_follow() {
        for part in [PartHeader { more: true, length: 1 << 40 }, PartHeader { more: false, length: 0 }] {
            assert_eq!(PartHeader::decode(part.encode()), Ok(part));
        }
        assert_eq!(PartHeader::decode([2; PART_HEADER_OCTETS]), Err(SnapshotFault::More));
    }
}
