//! The order of the writer's work: what has to be done whatever else there is to do.

use std::sync::{Arc, Mutex};

use godwit_wire::feed::digest::{rrset_digest, zone_term};
use godwit_wire::feed::{Digest, IndexEntry};
use godwit_wire::name::Name;
use godwit_wire::rr::{Rrset, Rtype};
use tokio::time::Instant;
use uuid::Uuid;

use super::*;
use crate::auth::Access;
use crate::commit::{Chain, Committer, Link};
use crate::model::change::{Operation, PutMode, PutZone};
use crate::model::soa::{Soa, default_mailbox, ns_rrset};
use crate::relay::give;
use crate::relay::log::After;
use crate::store::audit::Who;
use crate::store::relay::FeedState;
use crate::store::testing::{self, Place};
use crate::store::{Database, Pool, rrsets, zones};

/// Long enough for whatever is not going to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A writer at work, and a look into its database.
struct Running {
    committer: Committer,
    readers: Pool,
    log: Arc<Log>,
    place: Place,
    closed: Option<oneshot::Sender<()>>,
}

/// A writer that does nothing yet.
async fn at_rest(kind: Kind) -> (Writer, Running) {
    let (database, test_place) = testing::database(kind).await;
    let Database { place, mut writer, readers, .. } = database;
    let digest_key = DigestKey([3; 32]);
    relay::start(&mut writer, &digest_key, 7).await.unwrap();
    let state = relay::read(&mut writer).await.unwrap().unwrap();
    let (committer, queues) = crate::commit::channel();
    let log = Arc::new(Log::new(state, Arc::default(), Metrics::default()));
    let (close, closed) = oneshot::channel();
    let writer = Writer {
        line: Line::of(writer),
        guarded: None,
        acts_for: None,
        place,
        queues,
        sequences: match kind {
            Kind::Sqlite => Sequences::Here(Box::new(Here { state, doubtful: false, log: log.clone() })),
            Kind::Postgres => Sequences::Afterwards(Arc::default()),
        },
        digest_key,
        closed,
        metrics: Metrics::default(),
        guard: Guard::default(),
        rules: Arc::new(Rules::usual()),
        quotas: Quotas::default(),
    };
    (writer, Running { committer, readers, log, place: test_place, closed: Some(close) })
}

impl Running {
    async fn count(&self, statement: &'static str) -> i64 {
        self.readers.acquire().await.unwrap().query(statement).fetch_value().await.unwrap()
    }

    async fn on_disk(&self) -> FeedState {
        relay::read(&mut self.readers.acquire().await.unwrap()).await.unwrap().unwrap()
    }
}

fn zone(apex: &str, mode: PutMode) -> Operation {
    let apex: Name = apex.parse().unwrap();
    Operation::PutZone(PutZone {
        default_soa: Soa::of_new_zone(Name::root(), default_mailbox(apex.as_ref())).rrset(),
        default_ns: ns_rrset(&["ns.test.".parse().unwrap()]),
        rrsets: Vec::new(),
        mode,
        ttl_policy: None,
        tenant: None,
        apex,
    })
}

fn request(operation: Operation, dry_run: bool) -> Request {
    Request {
        id: Uuid::now_v7(),
        who: Who::local(),
        action: "test",
        limits: Arc::default(),
        access: Access::everything(),
        operations: vec![operation],
        if_match: None,
        idempotency: None,
        dry_run,
        confirm: None,
    }
}

fn respond() -> Respond {
    Box::new(|_, change| Reply { status: 200, body: String::new(), version: None, change })
}

/// One that fails.
fn failing() -> Request {
    let apex = "nowhere.test.".parse().unwrap();
    request(Operation::PatchZone { apex, ttl_policy: None, soa: None }, false)
}

/// Keeps an answer of 1970.
async fn keep(connection: &mut Connection, key: &str) {
    let mut batch = Batch::of(connection);
    idempotency::keep(&mut batch, "c", key, &[0; 32], b"{}", 1);
    batch.run(connection).await.unwrap();
}

async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Callers that ask again as soon as they are answered, more of them than go into two transactions: some always wait.
async fn never_ceasing(committer: &Committer) -> tokio::task::JoinSet<()> {
    const CALLERS: usize = GROUP * 2 + 50;
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..CALLERS {
        let committer = committer.clone();
        callers.spawn(async move {
            loop {
                let request = request(zone(&format!("z{n}.test."), PutMode::Create), true);
                if committer.commit(request, respond()).await.is_err() {
                    return;
                }
            }
        });
    }
    queued(&committer.jobs, CALLERS).await;
    callers
}

/// Until so many wait.
async fn queued(queue: &tokio::sync::mpsc::Sender<Job>, count: usize) {
    let come = async {
        while queue.max_capacity() - queue.capacity() < count {
            tokio::task::yield_now().await;
        }
    };
    in_time("they wait", come).await;
}

/// A data plane that is ahead stops the giving of sequences, whatever else there is to do.
async fn that_a_data_plane_is_ahead_is_written_down_while_requests_never_cease(
    writer: Writer,
    running: Running,
) {
    let callers = never_ceasing(&running.committer).await;
    tokio::spawn(writer.run());
    running.committer.overtaken().found(30);
    let written = async {
        while running.on_disk().await.ahead != 30 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time("it is written down", written).await;
    drop(callers);
    let made = request(zone("made.test.", PutMode::Create), false);
    assert_eq!(running.committer.commit(made, respond()).await.unwrap().sequence, None);
    assert_eq!(running.on_disk().await.sequence, 0);
    assert_eq!(running.count("SELECT count(*) FROM outbox WHERE sequence IS NULL").await, 1);
}

/// The records of a zone, after it was seen that its digest is theirs.
async fn records(connection: &mut Connection, key: &DigestKey, entry: &IndexEntry) -> Vec<(Name, Rrset)> {
    let row = zones::by_name(connection, entry.zone.as_ref()).await.unwrap().unwrap();
    let records = rrsets::of_zone(connection, row.id).await.unwrap();
    let mut sum = Digest::default();
    for (owner, rrset) in &records {
        sum.add(rrset_digest(key, entry.zone.as_ref(), owner.as_ref(), rrset));
    }
    assert_eq!(entry.digest, sum, "{}", entry.zone);
    records
}

/// What is read back from the database is what the changes said, and every digest that is kept is that of the records.
async fn digests_that_are_kept_are_those_of_the_records(writer: Writer, running: Running) {
    let key = writer.digest_key.clone();
    let is_given_here = matches!(writer.sequences, Sequences::Here(_));
    tokio::spawn(writer.run());
    let commit = async |operation| {
        let done = running.committer.commit(request(operation, false), respond()).await.unwrap();
        assert_eq!(done.sequence.is_some(), is_given_here);
    };
    for name in ["a.test.", "b.test.", "."] {
        commit(zone(name, PutMode::Create)).await;
    }
    let owner: Name = "www.a.test.".parse().unwrap();
    let value = |octet| vec![vec![192, 0, 2, octet].into_boxed_slice()];
    for (octet, ttl) in [(1, 300), (2, 300), (2, 600)] {
        let rdata = value(octet);
        let mode = PutMode::Upsert;
        let put =
            Operation::Put { owner: owner.clone(), rtype: Rtype::A, ttl: Some(ttl), rdata, mode, zone: None };
        commit(put).await;
    }
    commit(Operation::Delete { owner, rtype: Some(Rtype::A), zone: None }).await;
    commit(Operation::DeleteZone { apex: "b.test.".parse().unwrap() }).await;
    let mut connection = running.place.connect().await;
    let kept = zones::index(&mut connection, None, 10).await.unwrap();
    assert_eq!(kept.len(), 2);
    let mut root = Digest::default();
    for (_, entry) in &kept {
        records(&mut connection, &key, entry).await;
        root.add(zone_term(&key, entry.zone.as_ref(), entry.version, entry.digest));
    }
    if !is_given_here {
        connection.control(&[crate::commit::begin_whole(Kind::Postgres)]).await.unwrap();
        let mut state = relay::hold(&mut connection).await.unwrap();
        give::to_all(&mut connection, &mut state, COMMIT).await.unwrap();
    }
    let state = running.on_disk().await;
    assert_eq!((state.sequence, state.root), (8, root));
    running.log.refresh(&mut connection).await.unwrap();
    assert_eq!(running.log.end(), state);
    // And the log leads there from the start.
    let pool = running.readers.clone();
    let after = running.log.after(async || pool.acquire().await, 0, [0; 32], usize::MAX).await.unwrap();
    let After::Batches(batches) = after else { panic!("{after:?}") };
    assert_eq!(batches.last().unwrap().entry.chain, state.chain);
}

/// Its proof may come back between the look at what is due and the change.
async fn a_zone_is_released_that_has_been_frozen_for_so_long_and_no_other(writer: Writer, running: Running) {
    tokio::spawn(writer.run());
    let commit = async |operation| running.committer.commit(request(operation, false), respond()).await;
    let record = Operation::Put {
        owner: "www.a.test.".parse().unwrap(),
        rtype: Rtype::A,
        ttl: None,
        rdata: vec![vec![192, 0, 2, 1].into_boxed_slice()],
        mode: PutMode::Create,
        zone: None,
    };
    for operation in [zone("a.test.", PutMode::Create), record] {
        commit(operation).await.unwrap();
    }
    let mut connection = running.place.connect().await;
    let apex: Name = "a.test.".parse().unwrap();
    let id = zones::by_name(&mut connection, apex.as_ref()).await.unwrap().unwrap().id;
    let release = |frozen_by_us| Operation::ReleaseZone { apex: apex.clone(), frozen_by_us };
    assert_eq!(commit(release(i64::MAX)).await.unwrap_err().code, Code::Conflict);
    zones::freeze(&mut connection, id, 17).await.unwrap();
    assert_eq!(commit(release(16)).await.unwrap_err().code, Code::Conflict);
    zones::thaw(&mut connection, id).await.unwrap();
    assert_eq!(commit(release(17)).await.unwrap_err().code, Code::Conflict);
    zones::freeze(&mut connection, id, 17).await.unwrap();
    // With all that it holds: nobody is there to say that it is meant.
    commit(release(17)).await.unwrap();
    assert_eq!(commit(release(17)).await.unwrap_err().code, Code::DomainNotFound);
}

/// Jobs are claimed so, and what is past its time is deleted.
async fn what_is_no_change_is_written_while_requests_never_cease(writer: Writer, running: Running) {
    let callers = never_ceasing(&running.committer).await;
    tokio::spawn(writer.run());
    for n in 0..3 {
        let written = running.committer.write(move |connection| {
            Box::pin(async move {
                keep(connection, &n.to_string()).await;
                Ok(())
            })
        });
        in_time("it is written", written).await.unwrap();
    }
    assert_eq!(running.count("SELECT count(*) FROM idempotency").await, 3);
    drop(callers);
}

/// Counts what is logged as an error.
struct Errors(Arc<Mutex<usize>>);

impl tracing::Subscriber for Errors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        *self.0.lock().unwrap() += 1;
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Each attempt to write to a database that fails is logged: there is one a second, not one after the other.
async fn a_database_that_fails_is_not_asked_without_pause(mut writer: Writer, running: Running) {
    writer.line.connection.control(&[unwilling_to_wait(writer.line.connection.kind())]).await.unwrap();
    let mut other = running.place.connect().await;
    other.control(&[begin(other.kind()), KEEP_OUT]).await.unwrap();
    let errors = Arc::new(Mutex::new(0));
    let _logged = tracing::subscriber::set_default(Errors(errors.clone()));
    tokio::spawn(writer.run());
    let started = Instant::now();
    running.committer.overtaken().found(9);
    while *errors.lock().unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let attempts = *errors.lock().unwrap();
    let most = 1 + usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!(attempts <= most, "{attempts} attempts, at most {most} were to be made");
    other.control(&[ROLLBACK]).await.unwrap();
    let written = async {
        while running.on_disk().await.ahead != 9 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time("it is written once the database can be had", written).await;
}

/// What that is written to, held by somebody else; SQLite is held as a whole anyway.
const KEEP_OUT: &str = "UPDATE relay SET epoch = epoch";

fn unwilling_to_wait(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => "PRAGMA busy_timeout = 0",
        Kind::Postgres => "SET lock_timeout = 1",
    }
}

/// Long changes wait in a queue of their own: a short one that comes meanwhile waits for the one that is being made.
async fn a_short_change_waits_for_one_long_one_at_most(writer: Writer, running: Running) {
    let order: Arc<Mutex<Vec<String>>> = Arc::default();
    let commit = |name: &str, mode| {
        let (committer, order, name) = (running.committer.clone(), order.clone(), name.to_owned());
        async move {
            let request = request(zone(&format!("{name}.test."), mode), false);
            committer.commit(request, respond()).await.unwrap();
            order.lock().unwrap().push(name);
        }
    };
    // The short one comes while the first long one is in its transaction: it is in its queue before that ends, however soon it does.
    let (done, made) = oneshot::channel();
    let request_of_short = request(zone("short.test.", PutMode::Create), false);
    let short = Job { request: request_of_short, respond: respond(), done, chain: None };
    let (once, jobs) = (Mutex::new(Some(short)), running.committer.jobs.clone());
    let first: Respond = Box::new(move |_, change| {
        assert!(jobs.try_send(once.lock().unwrap().take().unwrap()).is_ok());
        Reply { status: 200, body: String::new(), version: None, change }
    });
    let order_of_short = order.clone();
    let short = tokio::spawn(async move {
        made.await.unwrap().unwrap();
        order_of_short.lock().unwrap().push("short".to_owned());
    });
    let committer = running.committer.clone();
    let one = tokio::spawn(async move {
        committer.commit(request(zone("long0.test.", PutMode::Upsert), false), first).await.unwrap();
    });
    queued(&running.committer.long_jobs, 1).await;
    let mut others = tokio::task::JoinSet::new();
    for n in 1..4 {
        others.spawn(commit(&format!("long{n}"), PutMode::Upsert));
    }
    queued(&running.committer.long_jobs, 4).await;
    tokio::spawn(writer.run());
    one.await.unwrap();
    in_time("the short one is made", async { short.await.unwrap() }).await;
    in_time("all are made", others.join_all()).await;
    assert_eq!(order.lock().unwrap()[0], "short", "{order:?}");
}

/// What becomes of a request.
struct Asked(tokio::task::JoinHandle<Result<(), Code>>);

/// Of a chain nothing is carried out behind one that was not: not what is in the same transaction, and not what comes later. What is
/// of no chain does not mind.
async fn behind_one_of_a_chain_that_is_not_made_nothing_is_carried_out(writer: Writer, running: Running) {
    let panics = || -> Respond { Box::new(|_, _| panic!("planted")) };
    let commit = async |name: &str, respond: Respond, chain: Option<&Chain>| {
        let committer = running.committer.clone();
        let request = request(zone(name, PutMode::Create), false);
        let (entered, has_entered) = oneshot::channel();
        let link = chain.map(|chain| Link { chain: chain.clone(), entered });
        let is_linked = link.is_some();
        let made = tokio::spawn(async move {
            committer.commit_linked(request, respond, link).await.map(|_| ()).map_err(|problem| problem.code)
        });
        if is_linked {
            has_entered.await.unwrap();
        }
        Asked(made)
    };
    let mut writer = Some(writer);
    for (turn, (name, failing, code)) in
        [("z0.test.", respond(), Code::DomainExists), ("x.test.", panics(), Code::Internal)]
            .into_iter()
            .enumerate()
    {
        let chain = Chain::default();
        let made = commit(&format!("z{turn}.test."), respond(), Some(&chain)).await;
        let not_made = commit(name, failing, Some(&chain)).await;
        let behind = commit(&format!("behind{turn}.test."), respond(), Some(&chain)).await;
        if let Some(writer) = writer.take() {
            tokio::spawn(writer.run());
        }
        assert_eq!((made.0.await.unwrap(), not_made.0.await.unwrap()), (Ok(()), Err(code)));
        assert_eq!(behind.0.await.unwrap(), Err(Code::DbUnavailable));
        let later = commit(&format!("later{turn}.test."), respond(), Some(&chain)).await;
        assert_eq!(later.0.await.unwrap(), Err(Code::DbUnavailable));
    }
    commit("of-no-chain.test.", respond(), None).await.0.await.unwrap().unwrap();
    // One that nobody waits for any more may come again too.
    let chain = Chain::default();
    let gone = Job {
        request: request(zone("gone.test.", PutMode::Create), false),
        respond: respond(),
        done: oneshot::channel().0,
        chain: Some(chain.clone()),
    };
    running.committer.jobs.send(gone).await.unwrap();
    let behind = commit("behind.test.", respond(), Some(&chain)).await;
    assert_eq!(behind.0.await.unwrap(), Err(Code::DbUnavailable));
    assert_eq!(running.count("SELECT count(*) FROM zones").await, 3);
}

/// A stop lets what waits in either queue be carried out.
async fn a_stop_ends_when_both_queues_are_empty(writer: Writer, mut running: Running) {
    let mut waiting = tokio::task::JoinSet::new();
    for (name, mode) in
        [("a.test.", PutMode::Upsert), ("b.test.", PutMode::Create), ("c.test.", PutMode::Upsert)]
    {
        let committer = running.committer.clone();
        waiting.spawn(async move { committer.commit(request(zone(name, mode), false), respond()).await });
    }
    queued(&running.committer.long_jobs, 2).await;
    queued(&running.committer.jobs, 1).await;
    running.closed.take().unwrap().send(()).unwrap();
    in_time("the writer ends", writer.run()).await;
    for done in waiting.join_all().await {
        done.unwrap();
    }
    let late = running.committer.commit(failing(), respond()).await.unwrap_err();
    assert_eq!(late.code, Code::DbUnavailable);
    assert!(!running.committer.is_open());
}

/// Each test on either database.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let (writer, running) = super::at_rest(super::Kind::Sqlite).await;
                super::$name(writer, running).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let (writer, running) = super::at_rest(super::Kind::Postgres).await;
                super::$name(writer, running).await;
            })*
        }
    };
}

on_both! {
    that_a_data_plane_is_ahead_is_written_down_while_requests_never_cease,
    digests_that_are_kept_are_those_of_the_records,
    a_zone_is_released_that_has_been_frozen_for_so_long_and_no_other,
    what_is_no_change_is_written_while_requests_never_cease,
    a_database_that_fails_is_not_asked_without_pause,
    a_short_change_waits_for_one_long_one_at_most,
    behind_one_of_a_chain_that_is_not_made_nothing_is_carried_out,
    a_stop_ends_when_both_queues_are_empty,
}

mod together;
