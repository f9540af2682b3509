//! A snapshot out of the parts of a local snapshot file (`wire::feed::PartHeader`), rebuilt record by record. Leaves out
//! where the octets come from.

use godwit_wire::feed::{DecodeError, SnapshotHeader, ZoneBlobReader};
use godwit_wire::name::Name;

use super::{LoadError, LoadedZone, Position, Snapshot, SnapshotOptions, ZoneLoader};

/// A snapshot that is being read.
pub struct Restore {
    header: SnapshotHeader,
    zones: Vec<LoadedZone>,
    /// The zone whose parts are not all there yet, and its version.
    open: Option<(ZoneLoader, Name, u64)>,
}

/// Why the parts make no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A part that is no zone blob.
    #[error(transparent)]
    Part(#[from] DecodeError),
    /// A zone that cannot be served.
    #[error(transparent)]
    Zone(#[from] LoadError),
    /// Parts of one zone that name different ones, or different versions.
    #[error("parts of one zone belong to different ones")]
    Mixed,
    /// More zones than the header counts, or fewer.
    #[error("{found} zones where the header counts {expected}")]
    Count {
        /// How many there are.
        found: u64,
        /// How many the header counts.
        expected: u64,
    },
    /// The file ends within a zone.
    #[error("the last zone is not whole")]
    Open,
    /// The records are not those that the header was written for.
    #[error("the root digest does not match the records")]
    RootDigest,
}

impl Restore {
    /// Begins with what the file says of itself. Takes no memory for what the header counts: only for what comes.
    #[must_use]
    pub fn new(header: SnapshotHeader) -> Self {
        Restore { header, zones: Vec::new(), open: None }
    }

    /// How many zones are still to come, the one whose parts are coming among them.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.header.zones.saturating_sub(self.zones.len() as u64)
    }

    /// Takes the zone blob of the next part. `more`: further parts of its zone follow.
    ///
    /// # Errors
    /// [`RestoreError`]; nothing more is to be taken then.
    pub fn part(&mut self, more: bool, blob: &[u8]) -> Result<(), RestoreError> {
        let mut reader = ZoneBlobReader::new(blob)?;
        let (mut loader, apex, version) = match self.open.take() {
            Some(open) => open,
            None => {
                let apex = reader.zone().to_owned();
                (ZoneLoader::new(apex.clone(), reader.owner()), apex, reader.version())
            }
        };
        if reader.zone() != apex.as_ref() || reader.version() != version {
            return Err(RestoreError::Mixed);
        }
        while let Some((owner, rrset)) = reader.next_rrset()? {
            loader.rrset(owner, &rrset)?;
        }
        if more {
            self.open = Some((loader, apex, version));
        } else {
            self.zones.push(loader.finish()?.with_version(version));
        }
        Ok(())
    }

    /// The snapshot, once its root digest is found to be that of the header: a wrong zone, one too few, or one of another
    /// time is found out even where every checksum fits.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn finish(self, options: &SnapshotOptions) -> Result<Snapshot, RestoreError> {
        if self.open.is_some() {
            return Err(RestoreError::Open);
        }
        let SnapshotHeader {
            zones: expected,
            generation,
            epoch,
            sequence,
            chain,
            lacks_changes,
            root_digest,
            ..
        } = self.header;
        let position = Position { generation, epoch, sequence, chain };
        let snapshot = Snapshot::empty(options)
            .replace_zones(self.zones)
            .with_position(position)
            .with_lacks_changes(lacks_changes);
        // One that is there twice counts once.
        let found = snapshot.zone_count() as u64;
        if found != expected {
            return Err(RestoreError::Count { found, expected });
        }
        if snapshot.root_digest() != root_digest {
            return Err(RestoreError::RootDigest);
        }
        Ok(snapshot)
    }
}
