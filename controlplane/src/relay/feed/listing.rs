//! All zones with version and digest, as they are at one moment of the database. Where data planes on other machines ask, they stay in
//! memory: what changed since is read by the history of changes, and whether that was all of it shows in the digest of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use godwit_wire::feed::{Difference, Digest, DigestKey, Index, IndexEntry, IndexPlace, PartSums};
use godwit_wire::name::Name;
use tokio::sync::{Mutex, watch};

use super::{Feed, settled};
use crate::store::relay::FeedState;
use crate::store::{Connection, changes, history, relay, zones};

/// Zones that stay in memory: a million of them take about 130 MB. Where there are more, all are read each time.
const MOST_KEPT: usize = 1_000_000;
/// Zones that have changed, each of which is read anew; where there are more, all are.
const MOST_CHANGED: usize = 10_000;
/// Zones that one reading of all takes.
const STEP: i64 = 4_096;
/// How often those in memory are brought to the present while nobody asks.
const EVERY: Duration = Duration::from_secs(30);

/// What stays in memory, if anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    kept: Arc<Mutex<Option<Listed>>>,
    /// How many zones may.
    most: usize,
}

impl Listing {
    /// One that stays.
    pub(crate) fn kept() -> Listing {
        Listing { most: MOST_KEPT, ..Listing::default() }
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
        let (place, zones) = self.at_present(|listed| listed.entries(|_| true)).await?;
        Ok(self.written(&Index { place, zones }, Index::encode, Index::encode_signed))
    }

    /// `wire::feed::Difference` from zones that add up to `held`.
    pub(crate) async fn difference(&self, held: &PartSums) -> sqlx::Result<bytes::Bytes> {
        let read = |listed: &Listed| {
            let parts = listed.sums.differing(held);
            let zones = listed.entries(|one| parts.contains(one.part));
            (listed.sums.total(), parts, zones)
        };
        let (place, (sum, parts, zones)) = self.at_present(read).await?;
        let difference = Difference { place, sum, parts, zones };
        Ok(self.written(&difference, Difference::encode, Difference::encode_signed))
    }

    /// Keeps what stays in memory near the present, so that the first who asks need not wait until all zones are read.
    pub(crate) async fn keep_listing(self, mut stop: watch::Receiver<bool>) {
        loop {
            if let Err(error) = self.at_present(|_| ()).await {
                tracing::debug!(%error, "zones could not be listed; it is tried again");
            }
            if tokio::time::timeout(EVERY, stop.wait_for(|stop| *stop)).await.is_ok() {
                return;
            }
        }
    }

    /// Reads all zones as they are now.
    async fn at_present<T>(&self, read: impl FnOnce(&Listed) -> T) -> sqlx::Result<(IndexPlace, T)> {
        // One after the other: who comes second finds what the first has read.
        let mut kept = self.listing.kept.lock().await;
        let mut reading = self.readers.begin().await?;
        let state = relay::read(&mut reading).await?.ok_or(sqlx::Error::RowNotFound)?;
        let unsequenced = changes::last_unsequenced(&mut reading).await?;
        let mut root = state.root;
        root.add(changes::unsequenced_root_change(&mut reading).await?);
        // Whoever fails half-way leaves nothing.
        let before = kept.take();
        let level = match before {
            Some(before) => self.brought_on(&mut reading, before, &state, root).await?,
            None => None,
        };
        let listed = match level {
            Some(listed) => listed,
            None => self.all(&mut reading, &state).await?,
        };
        reading.end_reading().await?;
        let found = read(&listed);
        if listed.zones.len() <= self.listing.most && listed.sums.total() == root {
            *kept = Some(listed);
        }
        drop(kept);
        let FeedState { generation, epoch, sequence, chain, .. } = state;
        let settled = settled(&self.readers, unsequenced, sequence).await?;
        Ok((IndexPlace { generation, epoch, sequence, chain, settled }, found))
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
        let changed = history::changed_since(reading, listed.sequence, None, most).await?;
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

    async fn all(&self, reading: &mut Connection, state: &FeedState) -> sqlx::Result<Listed> {
        let mut listed =
            Listed { generation: state.generation, sequence: state.sequence, ..Listed::default() };
        let mut after: Option<Vec<u8>> = None;
        loop {
            let step = zones::index(reading, after.as_deref(), STEP).await?;
            let Some((last, _)) = step.last() else { return Ok(listed) };
            after = Some(last.clone());
            step.into_iter().for_each(|(_, entry)| listed.put(&self.digest_key, entry));
        }
    }
}
