//! Zones that the child lacks, many at once, as they are in one state of the database.

use std::collections::{BTreeMap, BTreeSet};

use godwit_wire::name::Name;

use crate::commit::ROLLBACK;
use crate::model::zone::Zone;
use crate::relay::feed;
use crate::store::{Connection, Place, rrsets, zones};

/// A connection of its own: those that read for others may all be busy.
#[derive(Debug)]
pub(super) struct Reading {
    place: Place,
    connection: Option<Connection>,
}

/// Zones, each with about how many octets its blob has.
pub(super) type Found = BTreeMap<Name, (Zone, u64)>;

impl Reading {
    pub(super) fn new(place: Place) -> Reading {
        Reading { place, connection: None }
    }

    pub(super) fn end(&mut self) {
        self.connection = None;
    }

    /// Begins to read: which of these there are.
    pub(super) async fn find(&mut self, names: &BTreeSet<Name>) -> sqlx::Result<Found> {
        if names.is_empty() {
            return Ok(Found::new());
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.place.connect().await?,
        };
        connection.begin_reading().await?;
        let zones = zones::sized(&mut connection, names).await?;
        self.connection = Some(connection);
        Ok(zones)
    }

    /// The blobs of some of them (`wire::feed::ZoneBlob`), and the end of reading.
    pub(super) async fn blobs(&mut self, found: Found) -> sqlx::Result<BTreeMap<Name, Vec<u8>>> {
        let mut blobs = BTreeMap::new();
        let Some(mut connection) = self.connection.take() else { return Ok(blobs) };
        let ids: Vec<i64> = found.values().map(|(zone, _)| zone.id).collect();
        let listed =
            if ids.is_empty() { Vec::new() } else { rrsets::of_zones(&mut connection, &ids).await? };
        connection.control(&[ROLLBACK]).await?;
        self.connection = Some(connection);
        for (apex, (zone, _)) in found {
            blobs.insert(apex, feed::blob_of(&zone, &listed, None));
        }
        Ok(blobs)
    }
}
