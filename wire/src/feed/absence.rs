//! The signed statement that there is no zone of a name: what stands in the place of a [`ZoneBlob`](super::ZoneBlob).

use super::codec::{Cursor, DecodeError, Kind};
use super::signed::{Body, signed};
use crate::name::Name;

/// There is no such zone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Absence {
    /// Its apex.
    pub zone: Name,
    /// The version at which it went; 0: there never was one.
    pub version: u64,
    /// What made it go has a sequence up to here.
    pub settled: u64,
}

signed!(Absence);

impl Body for Absence {
    const KIND: Kind = Kind::Absence;

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let zone = cursor.name()?.to_owned();
        let (version, settled) = (cursor.u64()?, cursor.u64()?);
        Ok(Absence { zone, version, settled })
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.zone.as_wire());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.settled.to_be_bytes());
    }
}
