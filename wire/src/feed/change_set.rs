//! Puts and deletes over one or more zones that commit at once: what the API's transaction writes, and what a node
//! applies whole or not at all. Its place in the total order is said by the batch that carries it.

use super::codec::{Cursor, DecodeError, Kind, Reason, put_count, put_header};
use super::rrset::{self, MAX_RRSETS, OwnedRrset, put_owned_rrset, read_owned_rrset};
use crate::name::Name;
use crate::rr::Rtype;

/// The most zone changes in one change set.
pub const MAX_ZONE_CHANGES: u64 = 1 << 20;

/// The fewest octets of a zone change: root name, owner number, two versions, its kind.
const LEAST_ZONE_CHANGE_OCTETS: usize = 22;
/// The fewest octets of an RRset change: its number, root name, type.
const LEAST_RRSET_CHANGE_OCTETS: usize = 4;

/// Changes to zones that commit at once. Applied in order; all or nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChangeSet {
    /// The id of the change in the API: a UUIDv7 (RFC 9562 §5.7). Not interpreted here.
    pub id: [u8; 16],
    /// When the transaction committed, in microseconds since the epoch.
    pub committed_at_us: i64,
    /// What changes in which zone.
    pub zones: Vec<ZoneChange>,
}

/// What changes in one zone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ZoneChange {
    /// The apex.
    pub zone: Name,
    /// The owner number: the tenant that the zone belongs to, 0 for the operator.
    pub owner: u32,
    /// The version that the change was judged against; 0 when the zone did not exist.
    pub base_version: u64,
    /// The version that it leads to: above the base version, unless the zone is removed.
    pub version: u64,
    /// The change itself.
    pub kind: ZoneChangeKind,
}

/// How a zone changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ZoneChangeKind {
    /// Puts and deletes, in order, on an existing zone, or on a new one when the base version is 0.
    Update(Vec<RrsetChange>),
    /// The whole zone is now exactly this.
    Replace(Vec<OwnedRrset>),
    /// The zone is gone.
    Remove,
}

/// How an RRset changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RrsetChange {
    /// The set is now exactly this, whatever it was.
    Put(OwnedRrset),
    /// The set is gone, with its signatures.
    Delete {
        /// Where it stood.
        owner: Name,
        /// Its type.
        rtype: Rtype,
    },
}

impl ChangeSet {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_header(out, Kind::ChangeSet, false);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.committed_at_us.to_be_bytes());
        put_count(out, self.zones.len());
        for zone in &self.zones {
            zone.put(out);
        }
    }

    /// Reads one encoding that takes all of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] when they are anything else.
    pub fn decode(bytes: &[u8]) -> Result<ChangeSet, DecodeError> {
        ChangeSet::read(Cursor::new(bytes))
    }

    pub(super) fn read(mut cursor: Cursor<'_>) -> Result<ChangeSet, DecodeError> {
        cursor.header(Kind::ChangeSet)?;
        let id = cursor.array()?;
        let committed_at_us = cursor.array().map(i64::from_be_bytes)?;
        let count = cursor.count("zone changes", MAX_ZONE_CHANGES, LEAST_ZONE_CHANGE_OCTETS)?;
        let mut zones = Vec::with_capacity(count);
        for _ in 0..count {
            zones.push(ZoneChange::read(&mut cursor)?);
        }
        cursor.end()?;
        Ok(ChangeSet { id, committed_at_us, zones })
    }
}

impl ZoneChange {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.zone.as_wire());
        out.extend_from_slice(&self.owner.to_be_bytes());
        out.extend_from_slice(&self.base_version.to_be_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        match &self.kind {
            ZoneChangeKind::Update(changes) => {
                out.push(1);
                put_count(out, changes.len());
                for change in changes {
                    change.put(out);
                }
            }
            ZoneChangeKind::Replace(rrsets) => {
                out.push(2);
                put_count(out, rrsets.len());
                for owned in rrsets {
                    put_owned_rrset(out, owned.owner.as_ref(), &owned.rrset);
                }
            }
            ZoneChangeKind::Remove => out.push(3),
        }
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<ZoneChange, DecodeError> {
        let zone = cursor.name()?.to_owned();
        let owner = cursor.u32()?;
        let at = cursor.clone();
        let base_version = cursor.u64()?;
        let version = cursor.u64()?;
        let kind = read_kind(cursor, &zone)?;
        match kind {
            ZoneChangeKind::Remove if base_version == 0 => return Err(at.error(Reason::RemovesNothing)),
            ZoneChangeKind::Update(_) | ZoneChangeKind::Replace(_) if version <= base_version => {
                return Err(at.error(Reason::ZoneVersion { version, base: base_version }));
            }
            _ => {}
        }
        Ok(ZoneChange { zone, owner, base_version, version, kind })
    }
}

fn read_kind(cursor: &mut Cursor<'_>, zone: &Name) -> Result<ZoneChangeKind, DecodeError> {
    let at = cursor.clone();
    match cursor.u8()? {
        1 => {
            let count = cursor.count("RRset changes", MAX_RRSETS, LEAST_RRSET_CHANGE_OCTETS)?;
            let mut changes = Vec::with_capacity(count);
            for _ in 0..count {
                changes.push(RrsetChange::read(cursor, zone)?);
            }
            Ok(ZoneChangeKind::Update(changes))
        }
        2 => {
            let count = cursor.count("RRsets", MAX_RRSETS, rrset::LEAST_OCTETS)?;
            let mut rrsets = Vec::with_capacity(count);
            for _ in 0..count {
                rrsets.push(read_owned(cursor, zone)?);
            }
            Ok(ZoneChangeKind::Replace(rrsets))
        }
        3 => Ok(ZoneChangeKind::Remove),
        found => Err(at.error(Reason::Tag { what: "zone change", found })),
    }
}

impl RrsetChange {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            RrsetChange::Put(owned) => {
                out.push(1);
                put_owned_rrset(out, owned.owner.as_ref(), &owned.rrset);
            }
            RrsetChange::Delete { owner, rtype } => {
                out.push(2);
                out.extend_from_slice(owner.as_wire());
                out.extend_from_slice(&rtype.0.to_be_bytes());
            }
        }
    }

    fn read(cursor: &mut Cursor<'_>, zone: &Name) -> Result<RrsetChange, DecodeError> {
        let at = cursor.clone();
        match cursor.u8()? {
            1 => read_owned(cursor, zone).map(RrsetChange::Put),
            2 => {
                let owner = rrset::read_owner(cursor, zone.as_ref())?.to_owned();
                Ok(RrsetChange::Delete { owner, rtype: rrset::read_rtype(cursor)? })
            }
            found => Err(at.error(Reason::Tag { what: "RRset change", found })),
        }
    }
}

fn read_owned(cursor: &mut Cursor<'_>, zone: &Name) -> Result<OwnedRrset, DecodeError> {
    let (owner, rrset) = read_owned_rrset(cursor, zone.as_ref())?;
    Ok(OwnedRrset { owner: owner.to_owned(), rrset })
}
