//! The format between the planes: what changed, in which order, and proof of what a node then holds.
//!
//! | value | what it says | file |
//! |---|---|---|
//! | [`ChangeSet`] | puts and deletes over one or more zones that commit at once | `change_set.rs` |
//! | [`Batch`] | change sets with consecutive sequences: one stream entry, one link of the hash chain | `batch.rs` |
//! | [`Head`] | where the feed stands, and the digest of everything at that sequence | `head.rs` |
//! | [`Entry`] | what a feed carries: a batch, or a head between two | `entry.rs` |
//! | [`ZoneBlob`] | one whole zone, for a node that cannot get there by change sets | `zone_blob.rs` |
//! | [`Absence`] | there is no such zone | `absence.rs` |
//! | [`Index`] | all zones with version and digest, for a node that looks for what differs | `index.rs` |
//! | [`PartSums`] | what the zones of each of [`PARTS`] parts add up to, for a node that asks what differs | `parts.rs` |
//! | [`Difference`] | the zones of those parts that differ, and what all zones add up to | `difference.rs` |
//! | [`Announcement`] | which keys sign, now and next, and where control planes are asked | `announcement.rs` |
//! | [`CachedZone`] | what the index of a record cache says of a zone, beside its head | `cached.rs` |
//! | [`CacheHead`] | of which moment that index is, and what it adds up to | `cache_head.rs` |
//! | [`Digest`] | equality of record data, kept up to date by adding and subtracting | `digest.rs` |
//!
//! How these travel (a stream, HTTPS, a file) and what a node does with them is not here.
//!
//! # Layout
//!
//! Integers are big-endian. `count` and `length` are LEB128 of at most ten octets, in their shortest form. A `name`
//! is uncompressed wire format in lower case; it ends itself.
//!
//! ```text
//! header      magic "GDWT" ┆ kind u8 ┆ version u8 = 1 ┆ flags u16 (bit 0: a signature of 64 octets is the last part)
//!
//! change set  header(1) ┆ id 16 octets ┆ committed_at_us i64 ┆ count ┆ zone change × count
//! zone change name ┆ owner u32 ┆ base_version u64 ┆ version u64 ┆ 1 ┆ count ┆ rrset change × count     Update
//!                                                               ┆ 2 ┆ count ┆ owned rrset × count      Replace
//!                                                               ┆ 3                                   Remove
//! rrset change  1 ┆ owned rrset  │  2 ┆ name ┆ type u16
//! owned rrset   name ┆ rrset
//! rrset         type u16 ┆ ttl u32 ┆ count ┆ (length ┆ RDATA) × count ┆ count ┆ (length ┆ RDATA of RRSIG) × count
//!
//! batch       header(2) ┆ generation u64 ┆ epoch u64 ┆ first_sequence u64 ┆ previous_chain 32 octets
//!                       ┆ count ┆ (length ┆ change set) × count ┆ [signature]
//! head        header(3) ┆ generation u64 ┆ epoch u64 ┆ sequence u64 ┆ chain 32 octets ┆ root digest 32 octets ┆ [signature]
//! zone blob   header(4) ┆ name ┆ owner u32 ┆ version u64 ┆ (1 ┆ owned rrset)* ┆ 0 ┆ rrsets u64 ┆ digest 32 octets
//!                       ┆ checksum 32 octets ┆ [signature]
//! index       header(5) ┆ generation u64 ┆ epoch u64 ┆ sequence u64 ┆ chain 32 octets ┆ settled u64
//!                       ┆ count ┆ (name ┆ version u64 ┆ digest 32 octets) × count ┆ [signature]
//! announcement header(6) ┆ number u64 ┆ count ┆ public key 32 octets × count ┆ count ┆ (length ┆ URL) × count ┆ [signature]
//! cache head  header(7) ┆ generation u64 ┆ epoch u64 ┆ sequence u64 ┆ chain 32 octets ┆ settled u64 ┆ sum 32 octets ┆ [signature]
//! difference  header(8) ┆ generation u64 ┆ epoch u64 ┆ sequence u64 ┆ chain 32 octets ┆ settled u64 ┆ sum 32 octets ┆ parts 128 octets
//!                       ┆ count ┆ (name ┆ version u64 ┆ digest 32 octets) × count ┆ [signature]
//! absence     header(9) ┆ name ┆ version u64 ┆ settled u64 ┆ [signature]
//! ```
//!
//! # The order of a feed
//!
//! Batches follow each other by sequence and chain; heads may stand between any two. Who cannot go on from where it stands
//! compares an [`Index`] with what it holds, fetches the zones that differ, and goes on with the batches after the index's
//! sequence. A zone may be fetched at a later version than that place of the feed has: changes up to its version are in it,
//! and are stepped over.
//!
//! # What decoding promises
//!
//! Any octets give a value or a [`DecodeError`] with the offset and the reason. Work is linear in the input, and no
//! more is allocated than a small multiple of the input's length, whatever its counts say. What comes out is valid:
//! names are names and stand in their zone, types may stand in a zone, RDATA fits its type, RRsets are not empty and in
//! canonical order, signatures cover the type that they stand beside. There is one encoding of each value: octets
//! that would be written differently are refused.
//!
//! # Limits
//!
//! [`MAX_INDEX_ZONES`] in an index, [`MAX_CHANGE_SETS`] in a batch, [`MAX_ZONE_CHANGES`] in a change set,
//! [`MAX_RRSETS`] in a zone change or zone blob, [`MAX_RDATA`] records in an RRset,
//! [`MAX_RDATA_OCTETS`](crate::rdata::MAX_RDATA_OCTETS) in one RDATA; [`MAX_ANNOUNCED_KEYS`] and [`MAX_ANNOUNCED_URLS`] of
//! [`MAX_URL_OCTETS`] in an announcement.
//! Encoding does not look at them; what exceeds one is refused by every reader.
//!
//! # Compatibility
//!
//! A reader of version n reads every version up to n. A version never changes its meaning: new content takes a new
//! version, new kinds a new kind number. A reader that meets a version or flag that it does not know refuses the
//! whole, and never guesses at a part.

mod absence;
mod announcement;
mod batch;
mod cache_head;
mod cached;
mod change_set;
mod codec;
mod difference;
pub mod digest;
mod entry;
mod head;
mod index;
mod local_snapshot;
mod parts;
mod rrset;
mod signature;
mod signed;
mod zone_blob;

pub use absence::Absence;
pub use announcement::{Announcement, MAX_ANNOUNCED_KEYS, MAX_ANNOUNCED_URLS, MAX_URL_OCTETS};
pub use batch::{Batch, BatchPlace, MAX_CHANGE_SETS};
pub use cache_head::CacheHead;
pub use cached::CachedZone;
pub use change_set::{ChangeSet, MAX_ZONE_CHANGES, RrsetChange, ZoneChange, ZoneChangeKind};
pub use codec::{DecodeError, FORMAT_VERSION, Reason};
pub use difference::Difference;
pub use digest::{Digest, DigestKey, RrsetHasher};
pub use entry::Entry;
pub use head::Head;
pub use index::{Index, IndexEntry, IndexPlace, MAX_INDEX_ZONES};
pub use local_snapshot::{
    Origin, PART_HEADER_OCTETS, PartHeader, SNAPSHOT_HEADER_OCTETS, SnapshotFault, SnapshotHeader,
};
pub use parts::{PARTS, PartSums, Parts, part_of};
pub use rrset::{MAX_RDATA, MAX_RRSETS, OwnedRrset};
pub use signature::{SignatureError, SigningKey, VerifyingKey};
pub use zone_blob::{ZoneBlob, ZoneBlobReader, ZoneBlobWriter};

#[cfg(test)]
mod tests;
