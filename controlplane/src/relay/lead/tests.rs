//! One relay at a time, and nothing skipped, whoever else writes.

use std::collections::BTreeSet;

use godwit_wire::feed::{Batch as FeedBatch, Digest, DigestKey};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::commit::{COMMIT, begin};
use crate::relay::batches::readable;
use crate::relay::log::After;
use crate::relay::shadow::Judged;
use crate::store::batch::Batch;
use crate::store::testing::{self, Place as TestPlace};
use crate::store::{Database, Kind, now_us};

/// A lease that nobody outlives in a test, and one that has ended once it is looked at.
const LONG_US: i64 = 60_000_000;
const SHORT_US: i64 = 1;

async fn begun() -> (Database, TestPlace, Log) {
    let (mut database, place) = testing::database(Kind::Postgres).await;
    relay::start(&mut database.writer, &DigestKey([1; 32]), 7).await.unwrap();
    relay::counted(&mut database.writer, Digest::default()).await.unwrap();
    let state = relay::read(&mut database.writer).await.unwrap().unwrap();
    (database, place, Log::new(state, Arc::default(), Metrics::default()))
}

/// Commits a change after a pause that comes behind everything else in its transaction.
async fn commit(connection: &mut Connection, pause: Duration) -> Uuid {
    let id = Uuid::now_v7();
    let payload = readable(id, 1, Vec::new());
    let new =
        changes::New { id, at_us: now_us(), actor: "a", request_id: "", payload: &payload, settled_by: None };
    connection.control(&["BEGIN"]).await.unwrap();
    let mut batch = Batch::of(connection);
    changes::insert(&mut batch, &new, Digest::default(), None);
    batch.run(connection).await.unwrap();
    tokio::time::sleep(pause).await;
    connection.control(&[COMMIT]).await.unwrap();
    id
}

/// What waits gets its sequence, unjudged; `None` where nothing waits.
async fn give(connection: &mut Connection, log: &Log, epoch: u64) -> Option<Given> {
    for _ in 0..10 {
        let waiting = give::waiting(connection).await.unwrap();
        if waiting.is_empty() {
            return None;
        }
        match give::apart(connection, log, epoch, &Judged::unjudged(waiting)).await.unwrap() {
            Given::Again => {}
            given => return Some(given),
        }
    }
    panic!("the log is never where it is thought to be");
}

#[tokio::test]
async fn p8_a_relay_whose_term_is_over_gives_no_sequence() {
    let (mut database, place, log) = begun().await;
    let [one, other] = [Uuid::now_v7(), Uuid::now_v7()];
    let mut first = place.connect().await;
    let mut second = place.connect().await;
    let epoch = relay::take_lease(&mut first, one, SHORT_US).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let next = relay::take_lease(&mut second, other, LONG_US).await.unwrap().unwrap();
    assert_eq!((epoch, next), (1, 2));
    assert_eq!(relay::take_lease(&mut first, one, LONG_US).await.unwrap(), None, "it is held");
    commit(&mut database.writer, Duration::ZERO).await;
    assert!(matches!(give(&mut first, &log, epoch).await, Some(Given::Deposed)));
    assert!(!relay::renew_lease(&mut first, one, epoch, LONG_US).await.unwrap());
    // Giving back what one does not have takes it from nobody.
    relay::end_lease(&mut first, one, epoch).await.unwrap();
    assert!(relay::renew_lease(&mut second, other, next, LONG_US).await.unwrap());
    assert!(matches!(give(&mut second, &log, next).await, Some(Given::Some)));
    assert!(give(&mut second, &log, next).await.is_none());
    assert_eq!((log.end().sequence, log.end().epoch), (1, 2));
    relay::end_lease(&mut second, other, next).await.unwrap();
    assert_eq!(relay::take_lease(&mut first, one, LONG_US).await.unwrap(), Some(3));
}

/// A lower number that becomes visible between what was read and what is written is another batch's.
#[tokio::test]
async fn p5_what_comes_in_between_gets_no_sequence_with_those_that_were_read() {
    let (mut database, place, log) = begun().await;
    let [mut late, mut relay_side] = [place.connect().await, place.connect().await];
    let epoch = relay::take_lease(&mut relay_side, Uuid::now_v7(), LONG_US).await.unwrap().unwrap();
    // It has the lower number and commits later.
    let id = Uuid::now_v7();
    let payload = readable(id, 1, Vec::new());
    let new =
        changes::New { id, at_us: now_us(), actor: "a", request_id: "", payload: &payload, settled_by: None };
    late.control(&["BEGIN"]).await.unwrap();
    let mut batch = Batch::of(&late);
    changes::insert(&mut batch, &new, Digest::default(), None);
    batch.run(&mut late).await.unwrap();
    let first = commit(&mut database.writer, Duration::ZERO).await;
    relay_side.control(&[begin(Kind::Postgres)]).await.unwrap();
    let mut state = relay::lock(&mut relay_side, epoch).await.unwrap().unwrap();
    let waiting = changes::unsequenced(&mut relay_side, 10).await.unwrap();
    assert_eq!(waiting.iter().map(|one| one.id).collect::<Vec<_>>(), [first]);
    late.control(&[COMMIT]).await.unwrap();
    let mut batch = Batch::of(&relay_side);
    changes::give_sequences(&mut batch, &relay_side, 0, &waiting, 1);
    for one in crate::relay::batches::make(&mut state, &waiting, 1) {
        crate::store::log::append(&mut batch, &one.entry);
    }
    relay::write(&mut batch, &state);
    batch.control(COMMIT);
    batch.run(&mut relay_side).await.unwrap();
    let left = changes::unsequenced(&mut database.writer, 10).await.unwrap();
    assert_eq!(left.iter().map(|one| one.id).collect::<Vec<_>>(), [id]);
    assert!(matches!(give(&mut relay_side, &log, epoch).await, Some(Given::Some)));
    assert_eq!(log.end().sequence, 2);
}

/// A change is withheld, and its zone is not: the next one has removed it. The database has it as it was published.
#[tokio::test]
async fn p5_a_change_that_is_withheld_without_a_zone_stays_as_it_was_published() {
    let (mut database, place, log) = begun().await;
    let mut connection = place.connect().await;
    let epoch = relay::take_lease(&mut connection, Uuid::now_v7(), LONG_US).await.unwrap().unwrap();
    let id = commit(&mut database.writer, Duration::ZERO).await;
    let mut judged = Judged::unjudged(give::waiting(&mut connection).await.unwrap());
    judged.change_sets[0].withheld = true;
    assert!(matches!(give::apart(&mut connection, &log, epoch, &judged).await.unwrap(), Given::Some));
    assert!(changes::state(&mut connection, id).await.unwrap().unwrap().withheld);
}

/// The answer to a commit was lost, and it shows only once what waits was read again: nothing gets a second sequence.
#[tokio::test]
async fn p5_what_has_a_sequence_by_now_gets_no_other() {
    let (mut database, place, log) = begun().await;
    let [mut lost, mut relay_side] = [place.connect().await, place.connect().await];
    let epoch = relay::take_lease(&mut relay_side, Uuid::now_v7(), LONG_US).await.unwrap().unwrap();
    commit(&mut database.writer, Duration::ZERO).await;
    let waiting = Judged::unjudged(give::waiting(&mut relay_side).await.unwrap());
    lost.control(&[begin(Kind::Postgres)]).await.unwrap();
    let mut state = relay::lock(&mut lost, epoch).await.unwrap().unwrap();
    give::to_all(&mut lost, &mut state, COMMIT).await.unwrap();
    let given = give::apart(&mut relay_side, &log, epoch, &waiting).await.unwrap();
    assert!(matches!(given, Given::Again), "{given:?}");
    assert_eq!(log.end(), state);
    assert!(give(&mut relay_side, &log, epoch).await.is_none());
}

/// The server comes back with an older copy while we run: nothing gets a sequence that others have under another change.
#[tokio::test]
async fn p8_a_database_that_is_put_back_while_we_run_gives_no_sequence() {
    let (mut database, place, log) = begun().await;
    let mut connection = place.connect().await;
    let epoch = relay::take_lease(&mut connection, Uuid::now_v7(), LONG_US).await.unwrap().unwrap();
    for _ in 0..2 {
        commit(&mut database.writer, Duration::ZERO).await;
        assert!(matches!(give(&mut connection, &log, epoch).await, Some(Given::Some)));
    }
    let put_back =
        "UPDATE relay SET sequence = 1, chain = (SELECT chain FROM batches WHERE last_sequence = 1)";
    database.writer.query(put_back).execute().await.unwrap();
    database.writer.query("DELETE FROM batches WHERE last_sequence = 2").execute().await.unwrap();
    commit(&mut database.writer, Duration::ZERO).await;
    for _ in 0..2 {
        assert!(matches!(give(&mut connection, &log, epoch).await, Some(Given::Overtaken)));
    }
    let state = relay::read(&mut connection).await.unwrap().unwrap();
    assert_eq!((state.sequence, state.ahead, log.end().sequence), (1, 2, 2));
}

/// Stopped with a batch in hand: the database does not wait for it, and what it does when it goes on changes nothing.
#[tokio::test]
async fn a_relay_that_is_paused_inside_a_transaction_is_replaced() {
    let (mut database, place, log) = begun().await;
    let mut paused = place.connect().await;
    let epoch = relay::take_lease(&mut paused, Uuid::now_v7(), SHORT_US).await.unwrap().unwrap();
    commit(&mut database.writer, Duration::ZERO).await;
    paused.control(&[begin(Kind::Postgres)]).await.unwrap();
    let mut state = relay::lock(&mut paused, epoch).await.unwrap().unwrap();
    let (stopping, stop) = watch::channel(false);
    let place = place.place().clone();
    let next = Arc::new(Log::new(log.end(), Arc::default(), Metrics::default()));
    let relay = Relay {
        place,
        log: next.clone(),
        woken: Arc::default(),
        metrics: Metrics::default(),
        shadow: Shadow::off(Metrics::default()),
        term: watch::Sender::new(None),
        stop,
    };
    let running = tokio::spawn(relay.run());
    let mut watched = next.watch();
    let taken =
        tokio::time::timeout(Duration::from_secs(20), watched.wait_for(|end| end.sequence == 1)).await;
    assert!(taken.is_ok(), "nobody took over");
    assert!(give::to_all(&mut paused, &mut state, COMMIT).await.is_err(), "it went on");
    let rows = database.writer.query("SELECT count(*) FROM batches").fetch_value::<i64>().await.unwrap();
    assert_eq!((rows, next.end().epoch), (1, epoch + 1));
    stopping.send(true).unwrap();
    running.await.unwrap();
}

/// Many that write, each with a pause between what it wrote and its commit, so that numbers become visible out of order,
/// and two relays that take turns: every change gets one sequence, without a gap, and both logs are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_every_change_gets_one_sequence_however_late_it_commits() {
    const WRITERS: u64 = 64;
    let (each, seed) = if std::env::var_os("GODWIT_LONG").is_some() { (100, seed()) } else { (6, seed()) };
    let (database, place, log) = begun().await;
    let begin = log.end();
    let mut logs = Vec::new();
    let (stopping, stop) = watch::channel(false);
    let mut relays = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let log = Arc::new(Log::new(begin, Arc::default(), Metrics::default()));
        logs.push(log.clone());
        let (place, stop) = (place.place().clone(), stop.clone());
        let relay = Relay {
            place,
            log,
            woken: Arc::default(),
            metrics: Metrics::default(),
            shadow: Shadow::off(Metrics::default()),
            term: watch::Sender::new(None),
            stop,
        };
        relays.spawn(relay.run());
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let mut connection = place.connect().await;
        writers.spawn(async move {
            let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(writer));
            let mut made = Vec::new();
            for _ in 0..each {
                made.push(
                    commit(&mut connection, Duration::from_micros(random.random_range(0..20_000))).await,
                );
            }
            made
        });
    }
    let made: BTreeSet<Uuid> = writers.join_all().await.into_iter().flatten().collect();
    let count = made.len() as u64;
    assert_eq!(count, WRITERS * each);
    for log in &logs {
        let mut watched = log.watch();
        let all = watched.wait_for(|end| end.sequence == count);
        assert!(
            tokio::time::timeout(Duration::from_secs(20), all).await.is_ok(),
            "{:?}; seed {seed}",
            log.end()
        );
    }
    stopping.send(true).unwrap();
    relays.join_all().await;
    let pool = database.readers.clone();
    let (mut published, mut chain) = (Vec::new(), [0; 32]);
    while (published.len() as u64) < count {
        let at = published.len() as u64;
        let after = logs[0].after(async || pool.acquire().await, at, chain, usize::MAX).await.unwrap();
        let After::Batches(batches) = after else { panic!("{after:?}; seed {seed}") };
        for batch in batches {
            let read = FeedBatch::decode(&batch.octets).unwrap();
            assert_eq!(read.first_sequence, published.len() as u64 + 1, "seed {seed}");
            chain = read.chain();
            published.extend(read.change_sets.iter().map(|set| Uuid::from_bytes(set.id)));
        }
    }
    assert_eq!(published.iter().copied().collect::<BTreeSet<_>>(), made, "seed {seed}");
    assert_eq!(logs.iter().map(|log| log.end().chain).collect::<Vec<_>>(), [chain, chain], "seed {seed}");
}

fn seed() -> u64 {
    std::env::var("GODWIT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7)
}
