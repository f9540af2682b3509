use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use godwit_wire::feed::DigestKey;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::runner::Runner;
use super::*;
use crate::commit::writer::{Here, Line, Sequences, Writer};
use crate::commit::{self, Committer};
use crate::config::{self, Guard};
use crate::observe::metrics::{JobOutcome, Metrics};
use crate::relay::log::Log;
use crate::store::batch::Batch;
use crate::store::jobs::{End, Job, New, State, by_id, enqueue};
use crate::store::{Database, Kind as DatabaseKind, Pool, now_us, relay, testing};

/// A database with its writer, for as many runners as a test likes.
pub(crate) struct Place {
    pub(crate) committer: Committer,
    pub(crate) readers: Pool,
    _closed: oneshot::Sender<()>,
    _place: testing::Place,
}

impl Place {
    pub(crate) async fn both() -> [Place; 2] {
        [Place::of(DatabaseKind::Sqlite).await, Place::of(DatabaseKind::Postgres).await]
    }

    async fn of(kind: DatabaseKind) -> Place {
        let (database, test_place) = testing::database(kind).await;
        let Database { place, mut writer, readers, .. } = database;
        let digest_key = DigestKey([3; 32]);
        relay::start(&mut writer, &digest_key, 7).await.unwrap();
        let state = relay::read(&mut writer).await.unwrap().unwrap();
        let (committer, queues) = commit::channel();
        let log = Arc::new(Log::new(state, Arc::default(), Metrics::default()));
        let (close, closed) = oneshot::channel();
        let writer = Writer {
            line: Line::of(writer),
            guarded: None,
            acts_for: None,
            place,
            queues,
            sequences: match kind {
                DatabaseKind::Sqlite => Sequences::Here(Box::new(Here { state, doubtful: false, log })),
                DatabaseKind::Postgres => Sequences::Afterwards(Arc::default()),
            },
            digest_key,
            closed,
            metrics: Metrics::default(),
            guard: Guard::default(),
            rules: Arc::new(crate::names::Rules::usual()),
            quotas: config::Quotas::default(),
        };
        tokio::spawn(writer.run());
        Place { committer, readers, _closed: close, _place: test_place }
    }

    async fn add(&self, new: New) -> Uuid {
        let add = self.committer.write(move |connection| {
            Box::pin(async move {
                let mut batch = Batch::of(connection);
                let id = enqueue(&mut batch, &new);
                batch.run(connection).await?;
                Ok(id)
            })
        });
        add.await.unwrap()
    }

    async fn job(&self, id: Uuid) -> Job {
        by_id(&mut self.readers.acquire().await.unwrap(), id).await.unwrap().unwrap()
    }

    async fn until(&self, id: Uuid, is: impl Fn(&Job) -> bool) -> Job {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let job = self.job(id).await;
            if is(&job) {
                return job;
            }
            assert!(tokio::time::Instant::now() < deadline, "{job:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets what has failed be tried now.
    async fn hurry(&self) {
        let hurry = self.committer.write(|connection| {
            Box::pin(async move { Ok(connection.query("UPDATE jobs SET run_at_us = 1").execute().await?) })
        });
        hurry.await.unwrap();
    }

    fn run(&self, kinds: Kinds, lease_seconds: u64) -> Running {
        self.run_in(vec![Lane::plain(kinds, 4)], lease_seconds)
    }

    fn run_in(&self, lanes: Vec<Lane>, lease_seconds: u64) -> Running {
        let (handle, metrics) = (Handle::default(), Metrics::default());
        let (stop, stopping) = watch::channel(false);
        let runner = Runner {
            committer: self.committer.clone(),
            readers: self.readers.clone(),
            lanes,
            handle: handle.clone(),
            config: config::Jobs { lease_seconds, ..config::Jobs::default() },
            metrics: metrics.clone(),
            stop: stopping,
        };
        Running { handle, metrics, stop, task: tokio::spawn(runner.run()) }
    }
}

struct Running {
    handle: Handle,
    metrics: Metrics,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    async fn end(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(20), self.task).await.unwrap().unwrap();
    }

    /// Waits until so many were counted: that follows what the database has.
    async fn until_counted(&self, outcome: &str, expected: u64) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(8);
        while self.counted("test", outcome) != expected {
            let counted = self.counted("test", outcome);
            assert!(tokio::time::Instant::now() < deadline, "{outcome}: {counted}, not {expected}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn counted(&self, kind: &str, outcome: &str) -> u64 {
        let text = Metrics::text(&self.metrics.registry());
        let name = format!("godwit_controlplane_jobs_total{{kind=\"{kind}\",outcome=\"{outcome}\"}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&name))
            .unwrap_or_else(|| panic!("{name}"))
            .parse()
            .unwrap()
    }
}

type Does = dyn Fn(u64) -> Work<'static> + Send + Sync;

/// Counts what was begun, and does with each what a test says.
struct Test {
    name: &'static str,
    begun: Arc<AtomicU64>,
    does: Box<Does>,
}

impl Kind for Test {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run<'a>(&'a self, _: &'a Claimed, _: &'a Lease) -> Work<'a> {
        (self.does)(self.begun.fetch_add(1, Ordering::SeqCst))
    }
}

fn kind(does: impl Fn(u64) -> Work<'static> + Send + Sync + 'static) -> (Kinds, Arc<AtomicU64>) {
    let begun = Arc::new(AtomicU64::new(0));
    let test = Test { name: "test", begun: begun.clone(), does: Box::new(does) };
    (Kinds::default().with(test), begun)
}

fn new() -> New {
    New::of("test", &serde_json::json!({})).unwrap()
}

fn fails(failure: impl Fn() -> Failure + Send + Sync + 'static) -> (Kinds, Arc<AtomicU64>) {
    kind(move |_| {
        let failure = failure();
        Box::pin(async move { Err(failure) })
    })
}

/// Whether an attempt is over: a pause may be so short that the next one has begun.
fn has_rested(job: &Job, attempt: i64) -> bool {
    job.attempts > attempt || job.attempts == attempt && job.state == State::Waiting
}

#[tokio::test]
async fn a_job_is_done_once_and_others_are_left_alone() {
    for place in Place::both().await {
        let (kinds, begun) = kind(|_| Box::pin(async { Ok(()) }));
        let running = place.run(kinds, 30);
        let unknown = place.add(New::of("unknown", &1).unwrap()).await;
        let id = place.add(new()).await;
        running.handle.wake();
        place.until(id, |job| job.state == State::Done).await;
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        running.until_counted("done", 1).await;
        let unknown = place.job(unknown).await;
        assert_eq!((unknown.state, unknown.attempts), (State::Waiting, 0));
        running.end().await;
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_and_given_up_in_the_end() {
    for place in Place::both().await {
        let (kinds, begun) = fails(|| Failure::Passing(format!("no\r\n{}", "x".repeat(5_000))));
        let running = place.run(kinds, 30);
        let id = place.add(New { max_attempts: 3, ..new() }).await;
        running.handle.wake();
        for attempt in 1..=2 {
            let job = place.until(id, |job| has_rested(job, attempt)).await;
            let pause = job.run_at_us - now_us();
            assert!(job.attempts > attempt || pause < 5_000_000 << (attempt - 1), "{pause}");
            let error = job.last_error.unwrap();
            assert!(error.starts_with("no\\r\\n") && error.len() < 510, "{error}");
            place.hurry().await;
            running.handle.wake();
        }
        let job = place.until(id, |job| job.state == State::Failed).await;
        assert_eq!((job.attempts, begun.load(Ordering::SeqCst)), (3, 3));
        running.until_counted("retried", 2).await;
        running.until_counted("failed", 1).await;
        running.end().await;
    }
}

#[tokio::test]
async fn what_cannot_succeed_is_given_up_at_once() {
    let place = Place::of(DatabaseKind::Sqlite).await;
    let (kinds, begun) = fails(|| Failure::Final("never".to_owned()));
    let running = place.run(kinds, 30);
    let id = place.add(new()).await;
    let job = place.until(id, |job| job.state == State::Failed).await;
    assert_eq!((job.last_error.as_deref(), begun.load(Ordering::SeqCst)), (Some("never"), 1));
    running.end().await;
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt() {
    for place in Place::both().await {
        let (kinds, _) = kind(|attempt| match attempt {
            0 => panic!("before it begins"),
            1 => Box::pin(async { panic!("inside") }),
            _ => Box::pin(async { Ok(()) }),
        });
        let running = place.run(kinds, 30);
        let id = place.add(new()).await;
        for attempt in 1..=2 {
            let job = place.until(id, |job| has_rested(job, attempt)).await;
            assert!(job.attempts > attempt || job.last_error.as_deref() == Some("it panicked"), "{job:?}");
            place.hurry().await;
        }
        let job = place.until(id, |job| job.state == State::Done).await;
        assert_eq!(job.attempts, 3);
        running.end().await;
    }
}

/// Tells when it is dropped.
struct Dropped(Arc<AtomicU64>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Never ends; and how often it was let go.
fn endless() -> (Kinds, Arc<AtomicU64>) {
    let dropped = Arc::new(AtomicU64::new(0));
    let told = dropped.clone();
    let (kinds, _) = kind(move |_| {
        let dropped = Dropped(told.clone());
        Box::pin(async move {
            let _dropped = dropped;
            std::future::pending().await
        })
    });
    (kinds, dropped)
}

#[tokio::test]
async fn a_cancelled_job_is_let_go() {
    for place in Place::both().await {
        let (kinds, dropped) = endless();
        let running = place.run(kinds, 30);
        let id = place.add(new()).await;
        place.until(id, |job| job.state == State::Running).await;
        let cancel = place.committer.write(move |connection| {
            Box::pin(async move { Ok(crate::store::jobs::cancel(connection, id).await?) })
        });
        assert!(cancel.await.unwrap());
        running.handle.doubt();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(8);
        while dropped.load(Ordering::SeqCst) == 0 {
            assert!(tokio::time::Instant::now() < deadline, "it goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(place.job(id).await.state, State::Cancelled);
        running.end().await;
    }
}

/// As after a kill: nothing is given back.
#[tokio::test]
async fn a_job_whose_worker_is_gone_is_somebody_elses_once_its_lease_is_over() {
    for place in Place::both().await {
        let (kinds, _) = endless();
        let first = place.run(kinds, 1);
        let id = place.add(new()).await;
        place.until(id, |job| job.state == State::Running).await;
        // It lives for longer than a lease, as it says so again and again.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let (kinds, begun) = kind(|_| Box::pin(async { Ok(()) }));
        let second = place.run(kinds, 1);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(begun.load(Ordering::SeqCst), 0, "it is held");
        first.task.abort();
        let job = place.until(id, |job| job.state == State::Done).await;
        assert_eq!((job.attempts, begun.load(Ordering::SeqCst)), (2, 1));
        second.end().await;
    }
}

#[tokio::test]
async fn without_another_attempt_it_is_given_up() {
    let place = Place::of(DatabaseKind::Sqlite).await;
    let (kinds, _) = endless();
    let first = place.run(kinds, 1);
    let id = place.add(New { max_attempts: 1, ..new() }).await;
    place.until(id, |job| job.state == State::Running).await;
    first.task.abort();
    let (kinds, begun) = kind(|_| Box::pin(async { Ok(()) }));
    let second = place.run(kinds, 1);
    let job = place.until(id, |job| job.state == State::Failed).await;
    assert_eq!(job.last_error.as_deref(), Some("its last worker was lost"));
    assert_eq!(begun.load(Ordering::SeqCst), 0);
    second.until_counted("failed", 1).await;
    second.end().await;
}

#[tokio::test]
async fn a_stop_gives_back_what_does_not_end() {
    for place in Place::both().await {
        let (kinds, dropped) = endless();
        let running = place.run(kinds, 30);
        let id = place.add(new()).await;
        place.until(id, |job| job.state == State::Running).await;
        running.end().await;
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        let job = place.job(id).await;
        assert_eq!((job.state, job.attempts), (State::Waiting, 0), "for another one at once");
    }
}

#[tokio::test]
async fn a_job_with_a_schedule_waits_for_its_next_time_however_it_ended() {
    for place in Place::both().await {
        let (kinds, begun) = kind(|attempt| match attempt {
            0 => Box::pin(async { Ok(()) }),
            _ => Box::pin(async { Err(Failure::Final("no".to_owned())) }),
        });
        let running = place.run(kinds, 30);
        let schedule = Some("0 3 * * *".to_owned());
        let id = place.add(New { schedule, ..new() }).await;
        for (ended, error) in [(1, None), (2, Some("no"))] {
            let job = place
                .until(id, |job| {
                    begun.load(Ordering::SeqCst) == ended
                        && job.state == State::Waiting
                        && job.last_error.as_deref() == error
                        && job.run_at_us > now_us()
                })
                .await;
            assert_eq!(job.attempts, 0);
            let next = schedule::next_us("0 3 * * *", now_us()).unwrap();
            assert!((next - job.run_at_us).abs() < 2_000_000, "{next} {job:?}");
            place.hurry().await;
            if ended == 2 {
                break;
            }
        }
        running.end().await;
    }
}

/// Does something outside once it is told to, where it still holds its job.
struct Careful {
    go: Arc<Notify>,
    did: Arc<AtomicU64>,
}

impl Kind for Careful {
    fn name(&self) -> &'static str {
        "test"
    }

    fn run<'a>(&'a self, _: &'a Claimed, lease: &'a Lease) -> Work<'a> {
        Box::pin(async move {
            self.go.notified().await;
            lease.hold().await?;
            self.did.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }
}

#[tokio::test]
async fn nothing_is_done_outside_by_who_has_lost_the_job() {
    for place in Place::both().await {
        let (go, did) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
        let running = place.run(Kinds::default().with(Careful { go: go.clone(), did: did.clone() }), 30);
        let id = place.add(new()).await;
        place.until(id, |job| job.state == State::Running).await;
        // As when this process stood still for longer than the lease.
        let taken = place.committer.write(|connection| {
            let take = "UPDATE jobs SET holder = $1, attempts = attempts + 1";
            Box::pin(async move { Ok(connection.query(take).bind(Uuid::now_v7()).execute().await?) })
        });
        assert_eq!(taken.await.unwrap(), 1);
        go.notify_one();
        running.until_counted("lost", 1).await;
        assert_eq!(did.load(Ordering::SeqCst), 0);
        let job = place.job(id).await;
        assert_eq!((job.state, job.attempts, job.last_error), (State::Running, 2, None), "it is the other's");
        running.end().await;
    }
}

/// Writes something down in the transaction that ends its attempt.
struct Settles {
    go: Arc<Notify>,
    committer: Committer,
}

impl Kind for Settles {
    fn name(&self) -> &'static str {
        "test"
    }

    fn run<'a>(&'a self, _: &'a Claimed, lease: &'a Lease) -> Work<'a> {
        Box::pin(async move {
            self.go.notified().await;
            let settling = lease.settle();
            let settled = self.committer.write(move |connection| {
                Box::pin(async move {
                    let mut batch = Batch::of(connection);
                    crate::store::idempotency::keep(&mut batch, "c", "k", &[0; 32], b"{}", 1);
                    batch.run(connection).await?;
                    settling.end(connection, End::Done).await
                })
            });
            if let Err(problem) = settled.await {
                lease.goes_on();
                return Err(problem.into());
            }
            // Long enough for the lease to be looked at, and not for it to be over.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            lease.settled(JobOutcome::Done);
            Ok(())
        })
    }
}

/// With its end something is written, or neither.
#[tokio::test]
async fn what_a_kind_writes_with_the_end_of_its_attempt_is_there_when_the_job_was_its_own() {
    for is_lost in [false, true] {
        for place in Place::both().await {
            let go = Arc::new(Notify::new());
            let kinds = Kinds::default().with(Settles { go: go.clone(), committer: place.committer.clone() });
            let running = place.run(kinds, 3);
            let id = place.add(new()).await;
            place.until(id, |job| job.state == State::Running).await;
            if is_lost {
                let taken = place.committer.write(|connection| {
                    let take = "UPDATE jobs SET holder = $1, attempts = 2, lease_until_us = lease_until_us + 60000000";
                    Box::pin(async move { Ok(connection.query(take).bind(Uuid::now_v7()).execute().await?) })
                });
                assert_eq!(taken.await.unwrap(), 1);
            }
            go.notify_one();
            running.until_counted(if is_lost { "lost" } else { "done" }, 1).await;
            let count = "SELECT count(*) FROM idempotency";
            let written: i64 =
                place.readers.acquire().await.unwrap().query(count).fetch_value().await.unwrap();
            let job = place.job(id).await;
            let expected = if is_lost { (State::Running, 0) } else { (State::Done, 1) };
            assert_eq!((job.state, written), expected, "{job:?}");
            running.end().await;
        }
    }
}

/// Of one tenant, and of those that have failed, so many are done at once; who has neither is done beside them, and so is what is in
/// another lane.
#[tokio::test]
async fn nobodys_jobs_keep_others_from_being_done() {
    for place in Place::both().await {
        let kind = |name, begun: &Arc<AtomicU64>| {
            let does: Box<Does> = Box::new(|_| Box::pin(std::future::pending()));
            Kinds::default().with(Test { name, begun: begun.clone(), does })
        };
        let (begun, beside) = (Arc::default(), Arc::default());
        let lane = Lane { kinds: kind("test", &begun), at_once: 4, of_a_tenant: 1, doubtful: 2 };
        let of = |tenant| New { tenant, ..new() };
        for _ in 0..200 {
            place.add(of(Some(1))).await;
        }
        let failed = place.committer.write(|connection| {
            Box::pin(async move {
                for tenant in 2..202 {
                    let mut batch = Batch::of(connection);
                    enqueue(&mut batch, &New { tenant: Some(tenant), ..new() });
                    batch.run(connection).await?;
                }
                Ok(connection.query("UPDATE jobs SET attempts = 1 WHERE tenant > 1").execute().await?)
            })
        });
        failed.await.unwrap();
        let running = place.run_in(vec![Lane::plain(kind("beside", &beside), 1), lane], 30);
        let until = async |begun: &Arc<AtomicU64>, count: u64| {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
            while begun.load(Ordering::SeqCst) < count {
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "{} have begun",
                    begun.load(Ordering::SeqCst)
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        until(&begun, 3).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(begun.load(Ordering::SeqCst), 3, "one of the first tenant, and two that have failed");
        place.add(of(None)).await;
        until(&begun, 4).await;
        // Its lane is full.
        place.add(of(Some(300))).await;
        place.add(New::of("beside", &1).unwrap()).await;
        until(&beside, 1).await;
        assert_eq!(begun.load(Ordering::SeqCst), 4);
        running.end().await;
    }
}

/// Notes which jobs run.
struct Alone {
    running: Arc<Mutex<BTreeSet<Uuid>>>,
    done: Arc<AtomicU64>,
}

impl Kind for Alone {
    fn name(&self) -> &'static str {
        "test"
    }

    fn run<'a>(&'a self, job: &'a Claimed, lease: &'a Lease) -> Work<'a> {
        Box::pin(async move {
            assert!(self.running.lock().unwrap().insert(job.id), "it runs already");
            lease.hold().await?;
            assert!(self.running.lock().unwrap().remove(&job.id));
            self.done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_runners_one_has_a_job() {
    for place in Place::both().await {
        let ids = place.committer.write(|connection| {
            Box::pin(async move {
                let mut ids = Vec::new();
                for _ in 0..200 {
                    let mut batch = Batch::of(connection);
                    ids.push(enqueue(&mut batch, &new()));
                    batch.run(connection).await?;
                }
                Ok(ids)
            })
        });
        let ids = ids.await.unwrap();
        let (set, done) = (Arc::default(), Arc::new(AtomicU64::new(0)));
        let alone = || Kinds::default().with(Alone { running: Arc::clone(&set), done: done.clone() });
        let runners = [place.run(alone(), 30), place.run(alone(), 30)];
        for id in ids {
            let job = place.until(id, |job| job.state == State::Done).await;
            assert_eq!(job.attempts, 1);
        }
        assert_eq!(done.load(Ordering::SeqCst), 200);
        let counted = || runners.each_ref().map(|runner| runner.counted("test", "done"));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(8);
        while counted().iter().sum::<u64>() < 200 {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", counted());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(counted().iter().all(|done| *done > 0), "{:?}", counted());
        for runner in runners {
            runner.end().await;
        }
    }
}
