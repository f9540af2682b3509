//! The feed of the same process: a bounded channel of encoded entries in, the applied position out. The same octets
//! and the same checks as between machines.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use godwit_engine::answer::{Settings, WithoutData};
use godwit_engine::snapshot::Snapshot;
use godwit_engine::snapshot::store::Store;
use godwit_wire::feed::DigestKey;
use tokio::sync::{mpsc, watch};

use super::apply::{Applier, Quarantine};
use crate::observe::status::{Status, now_us};
use crate::serve::engine::Current;
use crate::state::keeper::Hold;
use crate::sys::affinity;

/// Batches that may wait to be applied; then the sender waits.
const CAPACITY: usize = 64;
/// Batches that one swap shows together.
const GROUP: usize = 64;
/// How often old snapshots are looked after while nothing comes.
const IDLE: Duration = Duration::from_millis(250);
/// Where this data plane stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// The history that it follows; 0 when it never followed one.
    pub generation: u64,
    /// The relay's term of the last batch.
    pub epoch: u64,
    /// The last sequence applied.
    pub sequence: u64,
    /// The hash chain after it.
    pub chain: [u8; 32],
    /// How many times this data plane has asked to be sent everything: every zone as a replacement, or removal, whose
    /// base version is 0. Each rise is one request.
    pub resyncs: u64,
    /// What of it is not as the position says.
    pub quarantined: Quarantine,
    /// It has asked for everything, or began to be sent it, and not all of it has come.
    pub awaits_everything: bool,
    /// Until it has come, any zone may lack changes, not only those in quarantine.
    pub uncertain: bool,
}

/// The sender's side of the feed. Dropping it ends the feed; what is served stays.
#[derive(Debug)]
pub struct Local {
    /// Takes the octets of `wire::feed::Entry`, in order. Full: wait.
    pub batches: mpsc::Sender<Bytes>,
    /// Where the data plane stands; its first value is the place of the local snapshot.
    pub applied: watch::Receiver<Applied>,
    /// What the digests in heads are keyed with.
    pub digest_key: DigestKey,
}

/// What the thread of the feed works with.
pub struct Follower {
    /// Shows snapshots to the workers.
    pub store: Arc<Store<Snapshot>>,
    /// Is told which zones are without data.
    pub answering: Arc<Current>,
    /// What is served now.
    pub status: Arc<Status>,
    /// Keeps half-way states from the disk.
    pub hold: Arc<Hold>,
    /// Changes when the server stops.
    pub stop: watch::Receiver<bool>,
}

impl Follower {
    /// Starts the thread that applies what comes. It ends when the sender's side is dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(self) -> std::io::Result<(Local, JoinHandle<()>)> {
        let (batches, receiver) = mpsc::channel(CAPACITY);
        let mut applier = Applier::new(Snapshot::clone(&self.store.load()));
        let digest_key = applier.snapshot().digest_key().clone();
        let mut asking = Asking::default();
        asking.ask(&mut applier);
        self.hold.set(applier.awaits_everything());
        let (report, applied) = watch::channel(applied(&mut applier, asking.asked));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
            affinity::step_back();
            runtime.block_on(self.follow(applier, asking, receiver, &report));
        })?;
        Ok((Local { batches, applied, digest_key }, thread))
    }

    async fn follow(
        mut self,
        mut applier: Applier,
        mut asking: Asking,
        mut receiver: mpsc::Receiver<Bytes>,
        report: &watch::Sender<Applied>,
    ) {
        let mut stopping = false;
        let mut kept_back = Quarantine::default();
        loop {
            let first = tokio::select! {
                first = receiver.recv() => match first {
                    Some(first) => first,
                    None => return,
                },
                // What was sent before the stop is applied, so that the snapshot that is written last has it.
                _ = self.stop.changed(), if !stopping => {
                    stopping = true;
                    receiver.close();
                    continue;
                }
                () = tokio::time::sleep(IDLE) => {
                    self.store.reap();
                    if asking.is_due(Instant::now()) {
                        report.send_replace(applied(&mut applier, asking.asked));
                    }
                    continue;
                }
            };
            let mut changed = applier.entry(&first);
            for _ in 1..GROUP {
                let Ok(next) = receiver.try_recv() else { break };
                changed |= applier.entry(&next);
            }
            // Held before it can be seen, let go after what is one state of the feed can.
            let half_way = applier.awaits_everything();
            if half_way {
                self.hold.set(true);
            }
            if changed {
                self.show(&mut applier);
            }
            if !half_way {
                self.hold.set(false);
            }
            let now = applier.kept_back();
            if !Arc::ptr_eq(&kept_back, &now) {
                self.show_without_data(&now);
                kept_back = now;
            }
            self.status.quarantined_zones.store(applier.quarantined() as u64, Ordering::Relaxed);
            asking.ask(&mut applier);
            report.send_replace(applied(&mut applier, asking.asked));
            self.store.reap();
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

    fn show(&self, applier: &mut Applier) {
        let snapshot = applier.snapshot();
        self.status.sequence.store(snapshot.position().sequence, Ordering::Relaxed);
        self.status.zones.store(snapshot.zone_count() as u64, Ordering::Relaxed);
        self.status.names.store(snapshot.name_count() as u64, Ordering::Relaxed);
        self.store.swap(snapshot.clone());
        self.status.has_snapshot.store(true, Ordering::Relaxed);
        self.status.mark_current();
        if let Some(committed) = applier.take_newest_commit_us() {
            let lag = u64::try_from(now_us().saturating_sub(committed)).unwrap_or(0);
            self.status.lag_us.store(lag, Ordering::Relaxed);
        }
    }
}

/// The least time between two requests for everything; doubles up to the longest while they do not help.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(300);

/// Requests for everything, spaced out: what does not help at once must not become all that the planes do.
#[derive(Debug, Default)]
struct Asking {
    asked: u64,
    wanted: bool,
    last: Option<(Instant, Duration)>,
}

impl Asking {
    /// Takes up what is to be asked for, and asks when it is time.
    fn ask(&mut self, applier: &mut Applier) {
        self.wanted |= applier.take_request();
        self.is_due(Instant::now());
    }

    /// Asks when it is wanted and time; whether it did.
    fn is_due(&mut self, now: Instant) -> bool {
        let pause = match self.last {
            Some((at, pause)) if now.duration_since(at) < pause => return false,
            // Long ago: that request has helped.
            Some((at, pause)) if now.duration_since(at) > pause * 4 => ASK_AGAIN,
            Some((_, pause)) => (pause * 2).min(ASK_AGAIN_MAX),
            None => ASK_AGAIN,
        };
        if !std::mem::take(&mut self.wanted) {
            return false;
        }
        self.asked += 1;
        self.last = Some((now, pause));
        true
    }
}

fn applied(applier: &mut Applier, resyncs: u64) -> Applied {
    let position = applier.snapshot().position();
    Applied {
        generation: position.generation,
        epoch: position.epoch,
        sequence: position.sequence,
        chain: position.chain,
        resyncs,
        quarantined: applier.kept_back(),
        awaits_everything: applier.awaits_everything(),
        uncertain: applier.is_uncertain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_do_not_help_become_rare() {
        let start = Instant::now();
        let mut asking = Asking::default();
        let asked: Vec<u64> = (0..3600)
            .filter(|second| {
                asking.wanted = true;
                asking.is_due(start + Duration::from_secs(*second))
            })
            .collect();
        assert_eq!(asked[..8], [0, 1, 3, 7, 15, 31, 63, 127]);
        assert!(asked.len() < 22, "{}", asked.len());
        // After one that helped, the next is asked at once.
        asking.wanted = true;
        assert!(asking.is_due(start + Duration::from_secs(10_000)));
        asking.wanted = true;
        assert!(!asking.is_due(start + Duration::from_millis(10_000_500)));
        assert!(asking.is_due(start + Duration::from_secs(10_001)));
    }
}
