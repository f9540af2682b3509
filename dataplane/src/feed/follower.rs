//! Does what the machine wants, and shows what comes of it: the one thread that writes snapshots.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use godwit_engine::answer::{Settings, WithoutData};
use godwit_engine::snapshot::Snapshot;
use godwit_engine::snapshot::store::Store;
use tokio::sync::{mpsc, watch};

use super::attempts::Attempts;
use super::attempts::watch::Bounds;
use super::local::{Local, Requests};
use super::machine::{Compared, Got, Machine, Seeds, Want};
use super::quarantine::Quarantine;
use super::remote::Remote;
use super::rescan::{self, Found, Rescan};
use super::source::{Lost, Source};
use crate::observe::status::{Status, now_us};
use crate::serve::engine::Current;
use crate::sys::affinity;

/// How often old snapshots are looked after while nothing comes.
const IDLE: Duration = Duration::from_millis(250);

/// Where this data plane stands: all that is served is as the position says, but for what is in quarantine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// The history that it follows; 0 when it never followed one.
    pub generation: u64,
    /// The latest relay's term that was heard of there.
    pub epoch: u64,
    /// The last sequence applied.
    pub sequence: u64,
    /// The hash chain after it.
    pub chain: [u8; 32],
    /// Zones that keep an earlier state than the position says.
    pub quarantined: Quarantine,
    /// Whether it was equal to what the feed says.
    pub compared: Compared,
}

/// What the thread beside us finds. Dropped, it ends that thread.
struct Rescanning {
    found: mpsc::Receiver<Found>,
    _end: std::sync::mpsc::Sender<()>,
}

/// What the thread of the feed works with.
pub struct Follower {
    /// Shows snapshots to the workers.
    pub store: Arc<Store<Snapshot>>,
    /// Is told which zones are without data.
    pub answering: Arc<Current>,
    /// What is served now.
    pub status: Arc<Status>,
    /// What is random about the machine.
    pub seeds: Seeds,
    /// What earlier processes ended at.
    pub attempts: Attempts,
    /// What applying a change may take.
    pub bounds: Bounds,
    /// Changes when the server stops.
    pub stop: watch::Receiver<bool>,
}

impl Follower {
    /// Starts the thread that follows the feed of the same process. It ends with the server, or when the other side is
    /// dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(self) -> std::io::Result<(Local, JoinHandle<()>)> {
        let machine = self.machine()?;
        let digest_key = machine.snapshot().digest_key().clone();
        let (source, requests) = Requests::new();
        let (report, applied) = watch::channel(applied(&machine));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let found = self.rescan()?;
        let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
            affinity::be_prompt();
            runtime.block_on(self.follow(machine, source, &report, found));
        })?;
        Ok((Local { requests, applied, digest_key }, thread))
    }

    /// Starts the thread that follows the feed of a control plane elsewhere, and tells it where we stand. It ends with the
    /// server.
    ///
    /// # Errors
    /// When no thread can be started, or the control plane's host is no name.
    pub fn start_remote(self, remote: &Remote) -> anyhow::Result<JoinHandle<()>> {
        let machine = self.machine()?;
        let (report, applied) = watch::channel(applied(&machine));
        let (source, reporting) = (remote.source()?, remote.report(applied));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let found = self.rescan()?;
        Ok(std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
            affinity::be_prompt();
            runtime.block_on(async {
                tokio::select! {
                    () = self.follow(machine, source, &report, found) => {}
                    () = reporting => {}
                }
            });
            // A connection that hangs is not waited for.
            runtime.shutdown_background();
        })?)
    }

    /// Starts the thread that looks for records that are not what they were.
    fn rescan(&self) -> std::io::Result<Rescanning> {
        let ((sender, found), (end, stop)) = (mpsc::channel(rescan::FOUND), std::sync::mpsc::channel());
        let (store, status) = (Arc::clone(&self.store), Arc::clone(&self.status));
        let rescan = Rescan { store, status, found: sender, stop, began: Instant::now() };
        std::thread::Builder::new().name("rescan".to_owned()).spawn(move || {
            affinity::step_back();
            rescan.run();
        })?;
        Ok(Rescanning { found, _end: end })
    }

    fn machine(&self) -> std::io::Result<Machine> {
        self.attempts.watch(self.bounds)?;
        let machine = Machine::new(Snapshot::clone(&self.store.load()), self.seeds);
        Ok(machine.with_attempts(self.attempts.clone()))
    }

    async fn follow(
        mut self,
        mut machine: Machine,
        mut source: impl Source,
        report: &watch::Sender<Applied>,
        mut found: Rescanning,
    ) {
        loop {
            let want = machine.want(Instant::now());
            let fetched = fetch(&mut source, want);
            tokio::pin!(fetched);
            let got = loop {
                tokio::select! {
                    got = &mut fetched => break got,
                    _ = self.stop.changed() => return,
                    Some(found) = found.found.recv() => self.take(&mut machine, Got::Rescanned(found), report),
                    () = tokio::time::sleep(IDLE) => self.take(&mut machine, Got::Waited, report),
                }
            };
            let Some(got) = got else { return };
            self.take(&mut machine, got, report);
        }
    }

    /// What came, and what is to be seen of it.
    fn take(&self, machine: &mut Machine, got: Got, report: &watch::Sender<Applied>) {
        let outcome = machine.took(got, Instant::now());
        if outcome.show {
            self.show(machine);
            report.send_replace(applied(machine));
        }
        // Told with the next report; nobody waits for it.
        report.send_if_modified(|applied| {
            applied.compared = machine.compared();
            false
        });
        if outcome.show || outcome.current {
            self.status.mark_current();
        }
        self.count(machine);
        self.store.reap();
    }

    fn show(&self, machine: &mut Machine) {
        let snapshot = machine.snapshot();
        self.status.sequence.store(snapshot.position().sequence, Ordering::Relaxed);
        self.status.zones.store(snapshot.zone_count() as u64, Ordering::Relaxed);
        self.status.names.store(snapshot.name_count() as u64, Ordering::Relaxed);
        self.store.swap(snapshot.clone());
        self.status.has_snapshot.store(true, Ordering::Relaxed);
        self.show_without_data(machine.kept_back());
        let quarantined = machine.kept_back().len() as u64;
        self.status.quarantined_zones.store(quarantined, Ordering::Relaxed);
        if let Some(committed) = machine.take_newest_commit_us() {
            let lag = u64::try_from(now_us().saturating_sub(committed)).unwrap_or(0);
            self.status.lag_us.store(lag, Ordering::Relaxed);
        }
    }

    /// A zone that is to be here and never could be served has no data: no other zone answers for its names (I11).
    fn show_without_data(&self, quarantine: &Quarantine) {
        let never_served =
            quarantine.iter().filter(|(_, served)| **served == 0).map(|(apex, _)| apex.clone());
        let without_data = WithoutData::new(never_served);
        self.answering.change(|before| {
            (before.without_data != without_data).then(|| Settings { without_data, ..before.clone() })
        });
    }

    fn count(&self, machine: &Machine) {
        let counts = machine.counts();
        self.status.feed_resyncs.store(counts.resyncs, Ordering::Relaxed);
        self.status.feed_stale.store(counts.stale, Ordering::Relaxed);
        self.status.digest_mismatches.store(counts.digest_mismatches, Ordering::Relaxed);
        self.status.apply_panics.store(self.attempts.panics(), Ordering::Relaxed);
        self.status.frozen_zones.store(self.attempts.frozen() as u64, Ordering::Relaxed);
    }
}

/// What came of it; `None`: nothing ever will.
async fn fetch(source: &mut impl Source, want: Want) -> Option<Got> {
    let got = match want {
        Want::Join => source.join().await.map(Got::Joined),
        Want::Difference(held) => source.difference(&held).await.map(Got::Difference),
        Want::Index => source.index().await.map(Got::Index),
        Want::Zones(zones) => source.zones(zones).await.map(Got::Zones),
        Want::Entries(after) => source.entries(after).await.map(Got::Entries),
        Want::Wait(until) => {
            tokio::time::sleep_until(until.into()).await;
            Ok(Got::Waited)
        }
    };
    match got {
        Ok(got) => Some(got),
        Err(Lost::Again) => Some(Got::Lost),
        Err(Lost::Ended) => None,
    }
}

fn applied(machine: &Machine) -> Applied {
    let position = machine.snapshot().position();
    Applied {
        generation: position.generation,
        epoch: position.epoch,
        sequence: position.sequence,
        chain: position.chain,
        quarantined: Arc::clone(machine.kept_back()),
        compared: machine.compared(),
    }
}
