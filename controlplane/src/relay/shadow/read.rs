//! Zones that the child lacks, many at once, as they are in one state of the database.
//!
//! Where more zones are changed in turns than the child may have, every change is of one that it has just forgotten. Reading it for each
//! would keep the database busier than all changes do: so what is read is bounded, but for as much as the child may have.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use godwit_wire::name::Name;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

use crate::commit::ROLLBACK;
use crate::model::zone::Zone;
use crate::observe::metrics::Metrics;
use crate::relay::feed;
use crate::store::{Connection, Place, rrsets, zones};

/// Octets of zones that are read in each second, when as many as the child may have were read.
const EACH_SECOND: NonZeroU32 = NonZeroU32::new(1 << 20).expect("it is not");
/// A zone with so many RRsets is large, however small they are.
const SMALL_RRSETS: i64 = 5_000;
/// How long nothing is looked for when no more may be read.
const PAUSE: Duration = Duration::from_millis(200);

/// A connection of its own: those that read for others may all be busy.
#[derive(Debug)]
pub(super) struct Reading {
    place: Place,
    /// One that does nothing.
    connection: Option<Connection>,
    /// One that has begun to read.
    open: Option<Connection>,
    allowance: DefaultDirectRateLimiter,
    /// Nothing is looked for before.
    again: Option<Instant>,
    metrics: Metrics,
}

/// Zones, each with about how many octets its blob has.
pub(super) type Found = BTreeMap<Name, (Zone, u64)>;

impl Reading {
    /// `held`: octets of zones that the child may have.
    pub(super) fn new(place: Place, held: u64, metrics: Metrics) -> Reading {
        let burst = u32::try_from(held).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        let allowance = RateLimiter::direct(Quota::per_second(EACH_SECOND).allow_burst(burst));
        Reading { place, connection: None, open: None, allowance, again: None, metrics }
    }

    /// Whether a zone of about so many octets may be read now.
    fn may(&mut self, octets: u64) -> bool {
        let octets = u32::try_from(octets).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        let may = matches!(self.allowance.check_n(octets), Ok(Ok(())));
        if may {
            self.metrics.shadow_reads(octets.get().into());
        } else {
            self.again = Some(Instant::now() + PAUSE);
        }
        may
    }

    pub(super) fn end(&mut self) {
        self.connection = None;
        self.open = None;
    }

    /// Begins to read: which of these there are.
    pub(super) async fn find(&mut self, names: &BTreeSet<Name>) -> sqlx::Result<Found> {
        // Looking for them costs too.
        if names.is_empty() || self.again.is_some_and(|again| Instant::now() < again) {
            return Ok(Found::new());
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.place.connect().await?,
        };
        connection.begin_reading().await?;
        let zones = zones::sized(&mut connection, names, SMALL_RRSETS).await?;
        self.open = Some(connection);
        Ok(zones)
    }

    /// The blobs of some of them (`wire::feed::ZoneBlob`), as many as may be read now, and the end of reading.
    pub(super) async fn blobs(&mut self, mut found: Found) -> sqlx::Result<BTreeMap<Name, Vec<u8>>> {
        let mut blobs = BTreeMap::new();
        let Some(mut connection) = self.open.take() else { return Ok(blobs) };
        found.retain(|_, (_, octets)| self.may(*octets));
        let ids: Vec<i64> = found.values().map(|(zone, _)| zone.id).collect();
        let listed = rrsets::of_zones(&mut connection, &ids).await?;
        connection.control(&[ROLLBACK]).await?;
        self.connection = Some(connection);
        for (apex, (zone, _)) in found {
            blobs.insert(apex, feed::blob_of(&zone, &listed, None));
        }
        Ok(blobs)
    }
}
