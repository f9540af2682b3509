use std::collections::BTreeSet;

use super::*;
use crate::commit::{COMMIT, ROLLBACK, begin};
use crate::store::{now_us, testing};

const LEASE: Duration = Duration::from_secs(30);
const EXPIRE: &str = "UPDATE jobs SET lease_until_us = 1 WHERE state = 'running'";

fn new(kind: &'static str) -> New {
    New::of(kind, &serde_json::json!({})).unwrap()
}

async fn add(connection: &mut Connection, new: &New) -> Uuid {
    let mut batch = Batch::of(connection);
    let id = enqueue(&mut batch, new);
    batch.run(connection).await.unwrap();
    id
}

async fn due(connection: &mut Connection, known: &str) -> Vec<Uuid> {
    super::due(connection, known, FIRST, 100).await.unwrap().iter().map(|due| due.id).collect()
}

/// One job, claimed: the first of those that are due and can be.
async fn take(connection: &mut Connection) -> Option<Attempt> {
    let holder = Uuid::now_v7();
    for id in due(connection, &kinds(["a"])).await {
        if let Some(job) = claim(connection, holder, &[id], LEASE).await.unwrap().first() {
            return Some(Attempt { job: job.id, holder, number: job.attempts });
        }
    }
    None
}

async fn state(connection: &mut Connection, id: Uuid) -> State {
    by_id(connection, id).await.unwrap().unwrap().state
}

#[tokio::test]
async fn a_job_is_there_with_the_transaction_that_causes_it_or_not_at_all() {
    for (mut database, place) in testing::databases().await {
        let writer = &mut database.writer;
        for (end, is_there) in [(ROLLBACK, false), (COMMIT, true)] {
            writer.control(&[begin(writer.kind())]).await.unwrap();
            let mut batch = Batch::of(writer);
            let id = enqueue(&mut batch, &new("a"));
            batch.run(writer).await.unwrap();
            let mut other = place.connect().await;
            assert!(by_id(&mut other, id).await.unwrap().is_none(), "nobody else sees it yet");
            assert!(due(&mut other, &kinds(["a"])).await.is_empty());
            writer.control(&[end]).await.unwrap();
            assert_eq!(by_id(&mut other, id).await.unwrap().is_some(), is_there);
            assert_eq!(due(&mut other, &kinds(["a"])).await.contains(&id), is_there);
            other.close().await.unwrap();
        }
        database.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_that_claim_at_once_never_have_the_same_job() {
    for (mut database, place) in testing::databases().await {
        for _ in 0..200 {
            add(&mut database.writer, &new("a")).await;
        }
        let mut workers = tokio::task::JoinSet::new();
        for most in [1, 3, 7] {
            let mut connection = place.connect().await;
            workers.spawn(async move {
                let (holder, mut had) = (Uuid::now_v7(), Vec::new());
                loop {
                    let mut ids = due(&mut connection, &kinds(["a", "b"])).await;
                    if ids.is_empty() {
                        return had;
                    }
                    ids.truncate(most);
                    let claimed = claim(&mut connection, holder, &ids, LEASE).await.unwrap();
                    assert!(claimed.iter().all(|job| ids.contains(&job.id)));
                    for job in claimed {
                        assert_eq!((job.state, job.attempts), (State::Running, 1));
                        had.push(job.id);
                        let attempt = Attempt { job: job.id, holder, number: 1 };
                        assert!(end(&mut connection, attempt, End::Done).await.unwrap());
                    }
                }
            });
        }
        let had = workers.join_all().await;
        assert_eq!(had.iter().map(Vec::len).sum::<usize>(), 200);
        assert_eq!(had.iter().flatten().collect::<BTreeSet<_>>().len(), 200);
        database.close().await.unwrap();
    }
}

/// What somebody else's transaction is about to claim is neither waited for nor had twice.
#[tokio::test]
async fn what_is_being_claimed_is_left_out() {
    let (mut database, place) = testing::database(Kind::Postgres).await;
    let (first, second) =
        (add(&mut database.writer, &new("a")).await, add(&mut database.writer, &new("a")).await);
    let writer = &mut database.writer;
    writer.control(&[begin(Kind::Postgres)]).await.unwrap();
    assert_eq!(take(writer).await.unwrap().job, first);
    let mut other = place.connect().await;
    other.control(&["SET lock_timeout = '100ms'"]).await.unwrap();
    assert_eq!(take(&mut other).await.unwrap().job, second);
    assert_eq!(take(&mut other).await, None);
    writer.control(&[COMMIT]).await.unwrap();
    assert_eq!(take(&mut other).await, None);
}

#[tokio::test]
async fn whoever_lost_a_lease_changes_nothing() {
    for (mut database, _place) in testing::databases().await {
        let connection = &mut database.writer;
        let id = add(connection, &new("a")).await;
        let first = take(connection).await.unwrap();
        assert!(renew(connection, first, LEASE).await.unwrap());
        assert_eq!(take(connection).await, None, "it is held");
        connection.query(EXPIRE).execute().await.unwrap();
        assert_eq!(due(connection, &kinds(["a"])).await, [id]);
        let second = take(connection).await.unwrap();
        assert_eq!((second.job, second.number), (id, 2));
        let held = by_id(connection, id).await.unwrap();
        let after = Duration::ZERO;
        let ends = [
            End::Done,
            End::Failed { error: "x" },
            End::Again { error: "x", after },
            End::Later { after },
            End::Next { error: None, after },
        ];
        for number in [1, 2] {
            let stale = Attempt { number, ..first };
            assert!(!renew(connection, stale, LEASE).await.unwrap());
            for ending in ends {
                assert!(!end(connection, stale, ending).await.unwrap(), "{ending:?}");
            }
            assert!(!end(connection, Attempt { number: 1, ..second }, End::Done).await.unwrap());
        }
        assert_eq!(by_id(connection, id).await.unwrap(), held);
        assert!(end(connection, second, End::Done).await.unwrap());
        assert!(!end(connection, second, End::Failed { error: "x" }).await.unwrap());
        assert_eq!(state(connection, id).await, State::Done);
        database.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_becomes_of_a_job() {
    for (mut database, _place) in testing::databases().await {
        let connection = &mut database.writer;
        let id = add(connection, &new("a")).await;
        // Given back: at once, and as if it had not been tried.
        let attempt = take(connection).await.unwrap();
        assert!(end(connection, attempt, End::Later { after: Duration::ZERO }).await.unwrap());
        let attempt = take(connection).await.unwrap();
        assert_eq!(attempt.number, 1);
        // Not before its pause is over.
        let ending = End::Again { error: "it rained", after: Duration::from_secs(60) };
        assert!(end(connection, attempt, ending).await.unwrap());
        assert_eq!(take(connection).await, None);
        let job = by_id(connection, id).await.unwrap().unwrap();
        assert_eq!((job.state, job.attempts), (State::Waiting, 1));
        assert_eq!(job.last_error.as_deref(), Some("it rained"));
        assert!((now_us() + 50_000_000..now_us() + 70_000_000).contains(&job.run_at_us), "{job:?}");
        connection.query("UPDATE jobs SET run_at_us = 1").execute().await.unwrap();
        // Given up, until it is tried again with all its attempts.
        let attempt = take(connection).await.unwrap();
        assert_eq!(attempt.number, 2);
        assert!(end(connection, attempt, End::Failed { error: "it snowed" }).await.unwrap());
        assert_eq!(take(connection).await, None);
        let job = by_id(connection, id).await.unwrap().unwrap();
        assert_eq!((job.state, job.last_error.as_deref()), (State::Failed, Some("it snowed")));
        assert!(job.finished_at_us.is_some());
        assert!(!cancel(connection, id).await.unwrap(), "it has ended");
        assert!(retry(connection, id).await.unwrap());
        assert!(!retry(connection, id).await.unwrap(), "it waits");
        let attempt = take(connection).await.unwrap();
        assert_eq!(attempt.number, 1);
        // By its schedule.
        let ending = End::Next { error: None, after: Duration::from_secs(60) };
        assert!(end(connection, attempt, ending).await.unwrap());
        let job = by_id(connection, id).await.unwrap().unwrap();
        assert_eq!((job.state, job.attempts, job.last_error), (State::Waiting, 0, None));
        database.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_job_is_nobodys() {
    for (mut database, _place) in testing::databases().await {
        let connection = &mut database.writer;
        let waiting = add(connection, &new("a")).await;
        assert!(cancel(connection, waiting).await.unwrap());
        assert_eq!(take(connection).await, None);
        let running = add(connection, &new("a")).await;
        let attempt = take(connection).await.unwrap();
        assert!(cancel(connection, running).await.unwrap());
        assert!(!renew(connection, attempt, LEASE).await.unwrap());
        assert!(!end(connection, attempt, End::Done).await.unwrap());
        assert_eq!(state(connection, running).await, State::Cancelled);
        assert!(!cancel(connection, running).await.unwrap());
        database.close().await.unwrap();
    }
}

#[tokio::test]
async fn of_those_that_are_not_ended_one_has_a_text() {
    for (mut database, _place) in testing::databases().await {
        let connection = &mut database.writer;
        let once = New { once: Some("zone 7".to_owned()), ..new("a") };
        let first = add(connection, &once).await;
        let second = add(connection, &once).await;
        assert!(by_id(connection, second).await.unwrap().is_none());
        let attempt = take(connection).await.unwrap();
        let third = add(connection, &once).await;
        assert!(by_id(connection, third).await.unwrap().is_none(), "one runs");
        assert!(end(connection, attempt, End::Failed { error: "x" }).await.unwrap());
        let fourth = add(connection, &once).await;
        assert_eq!(state(connection, fourth).await, State::Waiting);
        assert!(!retry(connection, first).await.unwrap(), "another one is about the same");
        assert!(cancel(connection, fourth).await.unwrap());
        assert!(retry(connection, first).await.unwrap());
        database.close().await.unwrap();
    }
}

#[tokio::test]
async fn one_that_has_begun_makes_room_for_another_one() {
    for (mut database, _place) in testing::databases().await {
        let connection = &mut database.writer;
        let once = New { once: Some("look".to_owned()), ..new("a") };
        let first = add(connection, &once).await;
        let attempt = take(connection).await.unwrap();
        make_room(connection, first).await.unwrap();
        let second = add(connection, &once).await;
        assert_eq!(state(connection, second).await, State::Waiting);
        let third = add(connection, &once).await;
        assert!(by_id(connection, third).await.unwrap().is_none(), "one waits");
        assert!(end(connection, attempt, End::Done).await.unwrap());
        // One that has a schedule comes again by itself.
        let regular =
            New { once: Some("b".to_owned()), schedule: Some("*/5 * * * *".to_owned()), ..new("a") };
        let regular_id = add(connection, &regular).await;
        make_room(connection, regular_id).await.unwrap();
        let other = add(connection, &regular).await;
        assert!(by_id(connection, other).await.unwrap().is_none(), "it has its place");
        database.close().await.unwrap();
    }
}

#[tokio::test]
async fn unknown_kinds_and_those_not_due_are_left_alone() {
    for (mut database, _place) in testing::databases().await {
        let connection = &mut database.writer;
        add(connection, &New { after: LEASE, ..new("a") }).await;
        for unknown in ["aa", "b", "a_", "%"] {
            add(connection, &new(unknown)).await;
        }
        assert!(due(connection, &kinds(["a", "a_c"])).await.is_empty());
        assert!(due(connection, &kinds([])).await.is_empty());
        assert_eq!(take(connection).await, None);
        let known = due(connection, &kinds(["b"])).await;
        assert_eq!(known.len(), 1);
        assert_eq!(claim(connection, Uuid::now_v7(), &known, LEASE).await.unwrap().len(), 1);
        database.close().await.unwrap();
    }
}

#[tokio::test]
async fn lists_are_filtered_and_what_ended_is_forgotten_in_steps() {
    for (mut database, _place) in testing::databases().await {
        let connection = &mut database.writer;
        let account = Some(Uuid::now_v7());
        let mut all = Vec::new();
        for kind in ["a", "a", "b", "b"] {
            all.push(add(connection, &New { account, ..new(kind) }).await);
        }
        all.push(add(connection, &new("b")).await);
        assert!(cancel(connection, all[0]).await.unwrap() && cancel(connection, all[1]).await.unwrap());
        let state = Some(State::Cancelled);
        for (filter, expected) in [
            (Filter::default(), vec![4, 3, 2, 1, 0]),
            (Filter { state, ..Filter::default() }, vec![1, 0]),
            (Filter { state, kind: Some("b"), ..Filter::default() }, vec![]),
            (Filter { kind: Some("b"), ..Filter::default() }, vec![4, 3, 2]),
            (Filter { kind: Some("b"), account, ..Filter::default() }, vec![3, 2]),
        ] {
            let listed = list(connection, filter, Uuid::max(), 9).await.unwrap();
            let expected: Vec<Uuid> = expected.into_iter().map(|at: usize| all[at]).collect();
            assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), expected, "{filter:?}");
        }
        let page = list(connection, Filter::default(), all[3], 2).await.unwrap();
        assert_eq!(page.iter().map(|job| job.id).collect::<Vec<_>>(), [all[2], all[1]]);
        assert_eq!(count(connection, State::Waiting).await.unwrap(), 3);
        assert_eq!(prune(connection, now_us() - 60_000_000, 9).await.unwrap(), 0);
        let later = now_us() + 60_000_000;
        for expected in [1, 1, 0] {
            assert_eq!(prune(connection, later, 1).await.unwrap(), expected);
        }
        assert_eq!(count(connection, State::Waiting).await.unwrap(), 3);
        database.close().await.unwrap();
    }
}
