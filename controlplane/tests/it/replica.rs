//! A data plane that keeps what it is sent in plain maps and checks what a node must: order, chain, base versions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use godwit_controlplane::{Applied, FeedSink};
use godwit_wire::feed::digest::{Digest, rrset_digest, zone_term};
use godwit_wire::feed::{DigestKey, Entry, Head, RrsetChange, ZoneChange, ZoneChangeKind};
use godwit_wire::name::Name;
use godwit_wire::rr::{Rrset, Rtype};
use tokio::sync::{mpsc, watch};

/// What digests are keyed with.
const KEY: DigestKey = DigestKey([7; 32]);

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
    /// Held by who wants nothing to be applied for a while.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What a replica says besides what it has applied.
pub(crate) struct Resync(watch::Sender<Applied>);

impl Resync {
    pub(crate) fn ask(&self) {
        self.0.send_modify(|applied| applied.resyncs += 1);
    }

    /// Says that batches were missed.
    pub(crate) fn doubt(&self) {
        self.0.send_modify(|applied| (applied.awaits_everything, applied.uncertain) = (true, true));
    }

    /// Says that these zones stay at these versions.
    pub(crate) fn keep_back(&self, zones: &[(&str, u64)]) {
        let zones = zones.iter().map(|(zone, version)| (zone.parse().unwrap(), *version));
        let zones = Arc::new(zones.collect());
        self.0.send_modify(|applied| applied.quarantined = zones);
    }
}

impl Replica {
    /// The other end for a control plane.
    pub(crate) fn sink(&self) -> (FeedSink, Arc<Resync>) {
        let (batches, mut receiver) = mpsc::channel::<Bytes>(4);
        let (position, applied) = watch::channel(self.applied.lock().unwrap().clone());
        let resync = Arc::new(Resync(position.clone()));
        let replica = self.clone();
        tokio::spawn(async move {
            while let Some(octets) = receiver.recv().await {
                let _turn = replica.turn.lock().await;
                let mut now = replica.applied.lock().unwrap().clone();
                {
                    let said = position.borrow();
                    now.resyncs = said.resyncs;
                    now.quarantined = said.quarantined.clone();
                    (now.awaits_everything, now.uncertain) = (said.awaits_everything, said.uncertain);
                }
                let now = replica.apply(&octets, now);
                *replica.applied.lock().unwrap() = now.clone();
                position.send_replace(now);
            }
        });
        (FeedSink { batches, applied, digest_key: KEY }, resync)
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
                return Applied { awaits_everything: false, uncertain: false, ..applied };
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
        let mut root = Digest::default();
        for (apex, (version, sets)) in self.zones.lock().unwrap().iter() {
            let mut sum = Digest::default();
            for ((owner, _), set) in sets {
                sum.add(rrset_digest(&KEY, apex.as_ref(), owner.as_ref(), set));
            }
            root.add(zone_term(&KEY, apex.as_ref(), *version, sum));
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
