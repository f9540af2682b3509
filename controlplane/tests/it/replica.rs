//! A data plane that keeps what it is given in plain maps and checks what a node must: order, chain, base versions, digests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use godwit_controlplane::{Applied, Entries, FeedRequest, FeedSink, Position, ZoneState};
use godwit_wire::feed::digest::{Digest, rrset_digest, zone_term};
use godwit_wire::feed::{
    DigestKey, Entry, Head, Index, IndexPlace, RrsetChange, ZoneBlob, ZoneChange, ZoneChangeKind,
};
use godwit_wire::name::Name;
use godwit_wire::rr::{Rrset, Rtype};
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// What digests are keyed with.
pub(crate) const KEY: DigestKey = DigestKey([7; 32]);

/// Version and RRsets.
pub(crate) type Zone = (u64, BTreeMap<(Name, Rtype), Rrset>);

/// What was applied. Survives the control plane that fed it, as a data plane does.
#[derive(Clone, Default)]
pub(crate) struct Replica {
    pub(crate) zones: Arc<Mutex<BTreeMap<Name, Zone>>>,
    pub(crate) applied: Arc<Mutex<Applied>>,
    /// What a node would have refused.
    pub(crate) complaints: Arc<Mutex<Vec<String>>>,
    /// Change sets applied.
    pub(crate) change_sets: Arc<Mutex<u64>>,
    /// Heads that said exactly what was there.
    pub(crate) heads: Arc<Mutex<u64>>,
    /// How often it compared the index.
    pub(crate) indexes: Arc<Mutex<u64>>,
    /// How often it was told what comes after its position.
    pub(crate) answers: Arc<Mutex<u64>>,
    /// Zones that it fetched.
    pub(crate) fetched: Arc<Mutex<Vec<Name>>>,
    /// Zones that were fetched may be ahead of the position up to here: heads say nothing about them yet.
    settled: Arc<Mutex<u64>>,
    /// One control plane at a time is followed: what came from the one before is applied first.
    following: Arc<tokio::sync::Mutex<()>>,
    /// Held by who wants nothing to be applied for a while.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What a replica does and says besides.
pub(crate) struct Resync(watch::Sender<Applied>, Notify);

impl Resync {
    /// Compares the index.
    pub(crate) fn ask(&self) {
        self.1.notify_one();
    }

    /// Says that these zones stay at these versions.
    pub(crate) fn keep_back(&self, zones: &[(&str, u64)]) {
        let zones = zones.iter().map(|(zone, version)| (zone.parse().unwrap(), *version));
        let zones = Arc::new(zones.collect());
        self.0.send_modify(|applied| applied.quarantined = zones);
    }
}

/// Asks; `None` when the control plane is gone.
async fn ask<T>(
    requests: &mpsc::Sender<FeedRequest>,
    request: impl Fn(oneshot::Sender<T>) -> FeedRequest,
) -> Option<T> {
    loop {
        let (answer, answered) = oneshot::channel();
        requests.send(request(answer)).await.ok()?;
        if let Ok(answer) = answered.await {
            return Some(answer);
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

impl Replica {
    /// The other end for a control plane.
    pub(crate) fn sink(&self) -> (FeedSink, Arc<Resync>) {
        let (requests, receiver) = mpsc::channel(4);
        let (position, applied) = watch::channel(self.applied.lock().unwrap().clone());
        let resync = Arc::new(Resync(position, Notify::new()));
        tokio::spawn(self.clone().follow(requests, resync.clone()));
        (FeedSink { requests: receiver, applied }, resync)
    }

    async fn follow(self, requests: mpsc::Sender<FeedRequest>, resync: Arc<Resync>) {
        let _following = self.following.clone().lock_owned().await;
        let Some(key) = ask(&requests, |answer| FeedRequest::Join { answer }).await else { return };
        assert_eq!(key.0, KEY.0);
        loop {
            let now = self.applied.lock().unwrap().clone();
            let Applied { generation, epoch, sequence, chain, .. } = now;
            let after = Position { generation, epoch, sequence, chain };
            let entries = tokio::select! {
                entries = ask(&requests, |answer| FeedRequest::Entries { after, answer }) => entries,
                () = resync.1.notified() => Some(Entries::Gone),
            };
            *self.answers.lock().unwrap() += 1;
            let now = match entries {
                None => return,
                Some(Entries::Behind) => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                }
                Some(Entries::Gone) => match self.compare_index(&requests).await {
                    Some(now) => now,
                    None => return,
                },
                Some(Entries::Next(entries)) => {
                    let _turn = self.turn.lock().await;
                    entries.iter().fold(now, |now, octets| self.apply(octets, now))
                }
            };
            let quarantined = resync.0.borrow().quarantined.clone();
            let now = Applied { quarantined, ..now };
            *self.applied.lock().unwrap() = now.clone();
            if *resync.0.borrow() != now {
                resync.0.send_replace(now);
            }
        }
    }

    /// Fetches what differs from the index.
    async fn compare_index(&self, requests: &mpsc::Sender<FeedRequest>) -> Option<Applied> {
        let octets: Bytes = ask(requests, |answer| FeedRequest::Index { answer }).await?;
        let index = Index::decode(&octets).unwrap();
        let mut root = Digest::default();
        let mut settled = index.place.settled;
        let mut zones = self.zones.lock().unwrap().clone();
        zones.retain(|apex, _| index.zones.iter().any(|entry| entry.zone == *apex));
        for entry in &index.zones {
            root.add(zone_term(&KEY, entry.zone.as_ref(), entry.version, entry.digest));
            let held = zones.get(&entry.zone);
            if held.is_some_and(|zone| zone.0 == entry.version && digest(&entry.zone, zone) == entry.digest) {
                continue;
            }
            self.fetched.lock().unwrap().push(entry.zone.clone());
            let state: ZoneState =
                ask(requests, |answer| FeedRequest::Zone { apex: entry.zone.clone(), answer }).await?;
            settled = settled.max(state.settled);
            let Some(blob) = state.blob else {
                zones.remove(&entry.zone);
                continue;
            };
            let blob = ZoneBlob::decode(&blob).unwrap();
            let sets = blob.rrsets.into_iter().map(|one| ((one.owner, one.rrset.rtype), one.rrset)).collect();
            let zone = (blob.version, sets);
            if digest(&blob.zone, &zone) != blob.digest || blob.version != state.version {
                self.complain(format!("{} is not what its digest says", blob.zone));
            }
            zones.insert(blob.zone, zone);
        }
        let _turn = self.turn.lock().await;
        *self.zones.lock().unwrap() = zones;
        *self.settled.lock().unwrap() = settled;
        *self.indexes.lock().unwrap() += 1;
        let IndexPlace { generation, epoch, sequence, chain, .. } = index.place;
        Some(Applied { generation, epoch, sequence, chain, ..Applied::default() })
    }

    /// Nothing is applied until what this gives is dropped.
    pub(crate) async fn pause(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    fn complain(&self, text: String) {
        self.complaints.lock().unwrap().push(text);
    }

    fn apply(&self, octets: &[u8], applied: Applied) -> Applied {
        let batch = match Entry::decode(octets) {
            Ok(Entry::Batch(batch)) => batch,
            Ok(Entry::Head(head)) => {
                self.compare(&head, &applied);
                return applied;
            }
            Err(error) => {
                self.complain(format!("an entry cannot be read: {error}"));
                return applied;
            }
        };
        if applied.generation != 0 {
            if batch.generation != applied.generation || batch.epoch < applied.epoch {
                self.complain(format!("generation or epoch fell: {applied:?}"));
            }
            if batch.first_sequence != applied.sequence + 1 {
                self.complain(format!("a gap: {} after {}", batch.first_sequence, applied.sequence));
            }
            if batch.previous_chain != applied.chain {
                self.complain(format!("the chain is broken at {}", batch.first_sequence));
            }
        }
        for change_set in &batch.change_sets {
            *self.change_sets.lock().unwrap() += 1;
            for zone in &change_set.zones {
                self.apply_zone(zone);
            }
        }
        Applied {
            generation: batch.generation,
            epoch: batch.epoch,
            sequence: batch.last_sequence(),
            chain: batch.chain(),
            ..applied
        }
    }

    /// What a head says is what is here.
    fn compare(&self, head: &Head, applied: &Applied) {
        if head.sequence < *self.settled.lock().unwrap() {
            return;
        }
        let mut root = Digest::default();
        for (apex, zone) in self.zones.lock().unwrap().iter() {
            root.add(zone_term(&KEY, apex.as_ref(), zone.0, digest(apex, zone)));
        }
        let place = |generation, sequence, chain| (generation, sequence, chain);
        let here = place(applied.generation, applied.sequence, applied.chain);
        if place(head.generation, head.sequence, head.chain) != here || head.root_digest != root {
            self.complain(format!("a head that does not fit: {head:?} at {applied:?}, {root}"));
        } else {
            *self.heads.lock().unwrap() += 1;
        }
    }

    fn apply_zone(&self, change: &ZoneChange) {
        let mut zones = self.zones.lock().unwrap();
        let version = zones.get(&change.zone).map_or(0, |zone| zone.0);
        // It was fetched at a later place.
        if change.version <= version {
            return;
        }
        match &change.kind {
            ZoneChangeKind::Remove => {
                zones.remove(&change.zone);
            }
            ZoneChangeKind::Replace(sets) => {
                let sets = sets.iter().map(|one| ((one.owner.clone(), one.rrset.rtype), one.rrset.clone()));
                zones.insert(change.zone.clone(), (change.version, sets.collect()));
            }
            ZoneChangeKind::Update(steps) => {
                if version != change.base_version {
                    let (zone, base) = (&change.zone, change.base_version);
                    self.complain(format!("{zone} is at {version}, the change at {base}"));
                }
                let zone = zones.entry(change.zone.clone()).or_default();
                zone.0 = change.version;
                for step in steps {
                    match step {
                        RrsetChange::Put(put) => {
                            zone.1.insert((put.owner.clone(), put.rrset.rtype), put.rrset.clone());
                        }
                        RrsetChange::Delete { owner, rtype } => {
                            if zone.1.remove(&(owner.clone(), *rtype)).is_none() {
                                self.complain(format!("{owner} {rtype} was not there to delete"));
                            }
                        }
                    }
                }
            }
        }
    }

    /// The RRset as it is served.
    pub(crate) fn rrset(&self, owner: &str, rtype: Rtype) -> Option<Rrset> {
        let owner: Name = owner.parse().unwrap();
        let zones = self.zones.lock().unwrap();
        zones.values().find_map(|zone| zone.1.get(&(owner.clone(), rtype)).cloned())
    }

    pub(crate) fn assert_content(&self) {
        let complaints = self.complaints.lock().unwrap();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

fn digest(apex: &Name, zone: &Zone) -> Digest {
    let mut sum = Digest::default();
    for ((owner, _), set) in &zone.1 {
        sum.add(rrset_digest(&KEY, apex.as_ref(), owner.as_ref(), set));
    }
    sum
}
