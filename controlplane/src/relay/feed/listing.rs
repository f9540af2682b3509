//! All zones with version and digest, as they are at one moment of the database. For data planes on other machines they stay in
//! memory: what changed since is read by the history of changes, and whether that was all of it shows in the digest of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use godwit_wire::feed::{Difference, Digest, DigestKey, Index, IndexEntry, IndexPlace, PartSums};
use godwit_wire::name::Name;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Feed, settled};
use crate::store::relay::FeedState;
use crate::store::{Connection, Pool, changes, history, relay, zones};

/// Zones that stay in memory: a million of them take about 130 MB. Where there are more, all are read each time.
const MOST_KEPT: usize = 1_000_000;
/// Zones that have changed, each of which is read anew; where there are more, all are.
const MOST_CHANGED: usize = 10_000;
/// Zones that one reading of all takes.
const STEP: i64 = 4_096;
/// How often those in memory are brought to the present while nobody asks; and how many times as long as that took it is not done
/// again, as it may take a reading of all zones.
const EVERY: Duration = Duration::from_secs(30);
const REST: u32 = 20;

/// What stays in memory: [`MOST_KEPT`] zones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing(Arc<Mutex<Option<Listed>>>);

/// What is read first of one moment.
struct Moment {
    state: FeedState,
    /// The last change that has no sequence, by its commit number; 0: there is none.
    unsequenced: i64,
}

impl Moment {
    async fn begin(reading: &mut Connection) -> sqlx::Result<Moment> {
        let state = relay::read(reading).await?.ok_or(sqlx::Error::RowNotFound)?;
        let unsequenced = changes::last_unsequenced(reading).await?;
        Ok(Moment { state, unsequenced })
    }

    /// Once it is known where all that was read is settled.
    async fn place(self, readers: &Pool) -> sqlx::Result<IndexPlace> {
        let FeedState { generation, epoch, sequence, chain, .. } = self.state;
        let settled = settled(readers, self.unsequenced, sequence).await?;
        Ok(IndexPlace { generation, epoch, sequence, chain, settled })
    }
}

/// All zones at one moment.
#[derive(Debug, Default)]
struct Listed {
    generation: u64,
    /// Every change up to here is in it, and others that had no sequence.
    sequence: u64,
    zones: BTreeMap<Name, One>,
    sums: PartSums,
}

#[derive(Clone, Copy, Debug)]
struct One {
    version: u64,
    digest: Digest,
    part: u16,
}

impl Listed {
    fn put(&mut self, key: &DigestKey, entry: IndexEntry) {
        let IndexEntry { zone, version, digest } = entry;
        self.remove(key, &zone);
        let part = self.sums.add(key, zone.as_ref(), version, digest);
        self.zones.insert(zone, One { version, digest, part });
    }

    fn remove(&mut self, key: &DigestKey, zone: &Name) {
        if let Some(One { version, digest, .. }) = self.zones.remove(zone) {
            self.sums.sub(key, zone.as_ref(), version, digest);
        }
    }

    fn entries(&self, is_meant: impl Fn(&One) -> bool) -> Vec<IndexEntry> {
        let meant = self.zones.iter().filter(|(_, one)| is_meant(one));
        let entry = |(zone, one): (&Name, &One)| IndexEntry {
            zone: zone.clone(),
            version: one.version,
            digest: one.digest,
        };
        meant.map(entry).collect()
    }
}

impl Feed {
    /// `wire::feed::Index` of all zones.
    pub(crate) async fn index(&self) -> sqlx::Result<bytes::Bytes> {
        let (moment, zones) = match &self.listing {
            Some(listing) => self.listed(listing, |listed| listed.entries(|_| true)).await?,
            None => {
                let mut reading = self.readers.begin().await?;
                let moment = Moment::begin(&mut reading).await?;
                let mut zones = Vec::new();
                for_each(&mut reading, |entry| zones.push(entry)).await?;
                reading.end_reading().await?;
                (moment, zones)
            }
        };
        let place = moment.place(&self.readers).await?;
        Ok(self.written(&Index { place, zones }, Index::encode, Index::encode_signed))
    }

    /// `wire::feed::Difference` from zones that add up to `held`; `None` where no zones stay in memory.
    pub(crate) async fn difference(&self, held: &PartSums) -> sqlx::Result<Option<bytes::Bytes>> {
        let Some(listing) = &self.listing else { return Ok(None) };
        let read = |listed: &Listed| {
            let parts = listed.sums.differing(held);
            let zones = listed.entries(|one| parts.contains(one.part));
            (listed.sums.total(), parts, zones)
        };
        let (moment, (sum, parts, zones)) = self.listed(listing, read).await?;
        let place = moment.place(&self.readers).await?;
        let difference = Difference { place, sum, parts, zones };
        Ok(Some(self.written(&difference, Difference::encode, Difference::encode_signed)))
    }

    /// Keeps what stays in memory near the present, so that the first who asks need not wait until all zones are read; nothing, where
    /// there are too many. Runs until it is ended.
    pub(crate) async fn keep_listing(self) {
        let Some(listing) = &self.listing else { return };
        loop {
            let began = Instant::now();
            match self.listed(listing, |listed| listed.zones.len()).await {
                Ok((_, zones)) if zones > MOST_KEPT => {
                    tracing::info!(
                        zones,
                        "they are read from the database whenever a data plane asks for an index"
                    );
                    return;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "zones could not be listed; it is tried again"),
            }
            tokio::time::sleep(EVERY.max(began.elapsed() * REST)).await;
        }
    }

    /// Reads all zones as they are now.
    async fn listed<T>(
        &self,
        listing: &Listing,
        read: impl FnOnce(&Listed) -> T,
    ) -> sqlx::Result<(Moment, T)> {
        // One after the other: who comes second finds what the first has read.
        let mut kept = listing.0.lock().await;
        let mut reading = self.readers.begin().await?;
        let moment = Moment::begin(&mut reading).await?;
        let mut root = moment.state.root;
        root.add(changes::unsequenced_root_change(&mut reading).await?);
        // Whoever fails half-way leaves nothing.
        let before = kept.take();
        let level = match before {
            Some(before) => self.brought_on(&mut reading, before, &moment.state, root).await?,
            None => None,
        };
        let listed = match level {
            Some(listed) => listed,
            None => {
                let FeedState { generation, sequence, .. } = moment.state;
                let mut listed = Listed { generation, sequence, ..Listed::default() };
                for_each(&mut reading, |entry| listed.put(&self.digest_key, entry)).await?;
                listed
            }
        };
        reading.end_reading().await?;
        let found = read(&listed);
        if listed.zones.len() <= MOST_KEPT && listed.sums.total() == root {
            *kept = Some(listed);
        }
        Ok((moment, found))
    }

    /// What was listed before with what changed since; `None` where that does not lead to the present.
    async fn brought_on(
        &self,
        reading: &mut Connection,
        mut listed: Listed,
        state: &FeedState,
        root: Digest,
    ) -> sqlx::Result<Option<Listed>> {
        if listed.generation != state.generation || listed.sequence > state.sequence {
            return Ok(None);
        }
        let most = i64::try_from(MOST_CHANGED).unwrap_or(i64::MAX).saturating_add(1);
        let changed = history::changed_since(reading, listed.sequence, most).await?;
        if changed.len() > MOST_CHANGED {
            return Ok(None);
        }
        let changed: BTreeSet<Name> = changed.into_iter().map(|(zone, _)| zone).collect();
        let mut found = zones::by_names(reading, &changed).await?;
        for zone in changed {
            match found.remove(&zone) {
                Some(found) => {
                    let entry = IndexEntry { zone, version: found.version, digest: found.digest };
                    listed.put(&self.digest_key, entry);
                }
                None => listed.remove(&self.digest_key, &zone),
            }
        }
        listed.sequence = state.sequence;
        Ok((listed.sums.total() == root).then_some(listed))
    }
}

/// All zones, in canonical order.
async fn for_each(reading: &mut Connection, mut take: impl FnMut(IndexEntry)) -> sqlx::Result<()> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let step = zones::index(reading, after.as_deref(), STEP).await?;
        let Some((last, _)) = step.last() else { return Ok(()) };
        after = Some(last.clone());
        step.into_iter().for_each(|(_, entry)| take(entry));
    }
}
