//! What whoever can write to the database does to the log, and that each of it is found.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use godwit_wire::feed::DigestKey;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::ChainKey;
use super::anchors::{self, Anchors};
use super::keeper::{ANCHOR, Keeper, LOOK, Leading, STEP, STEPS};
use super::verify::{Report, Wrong, all};
use crate::commit::writer::{Here, Line, Sequences, Writer};
use crate::config::Guard;
use crate::hex;
use crate::observe::metrics::Metrics;
use crate::relay::log::Log;
use crate::store::audit::{self, Entry, Who};
use crate::store::audit_chain;
use crate::store::testing::{self, Place};
use crate::store::{Connection, Database, Kind, now_us, relay};

/// A database whose log is kept.
struct World {
    kind: Kind,
    keeper: Keeper,
    connection: Connection,
    place: Place,
    _folder: tempfile::TempDir,
    _close: oneshot::Sender<()>,
    _writing: JoinHandle<Connection>,
}

async fn worlds() -> [World; 2] {
    [world(Kind::Sqlite).await, world(Kind::Postgres).await]
}

async fn world(kind: Kind) -> World {
    let (database, place) = testing::database(kind).await;
    let Database { place: at, mut writer, readers, .. } = database;
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
        rules: Arc::new(crate::names::Rules::usual()),
        quotas: crate::config::Quotas::default(),
        place: at.clone(),
        queues,
        sequences: match kind {
            Kind::Sqlite => Sequences::Here(Box::new(Here { state, doubtful: false, log })),
            Kind::Postgres => Sequences::Afterwards(Arc::default()),
        },
        digest_key,
        closed,
        metrics: Metrics::default(),
        guard: Guard::default(),
    };
    let writing = tokio::spawn(writer.run());
    let folder = tempfile::tempdir().unwrap();
    let keeper = Keeper {
        place: at,
        committer,
        readers,
        key: ChainKey::of(b"secret"),
        term: watch::Sender::new(Some(1)).subscribe(),
        anchors: Anchors::at(folder.path().join("anchors.jsonl")),
        kept: Duration::from_secs(86_400),
        look: LOOK,
        anchor: ANCHOR,
        metrics: Metrics::default(),
        stop: watch::Sender::new(false).subscribe(),
    };
    let connection = place.connect().await;
    World { kind, keeper, connection, place, _folder: folder, _close: close, _writing: writing }
}

impl World {
    /// Adds so many rows, each of another actor.
    async fn add(&mut self, rows: usize) {
        self.add_at(rows, now_us()).await;
    }

    async fn add_at(&mut self, rows: usize, at_us: i64) {
        self.connection.control(&["BEGIN"]).await.unwrap();
        for n in 0..rows {
            let who =
                Who { actor: format!("actor {n}"), client: Some([192, 0, 2, 1].into()), ..Who::default() };
            let entry = Entry { at_us, ..Entry::done(&who, "test", "object") };
            let entry = entry.from_to(serde_json::json!({ "n": n }), serde_json::json!({ "n": n + 1 }));
            audit::write(&mut self.connection, &entry).await.unwrap();
        }
        self.connection.control(&["COMMIT"]).await.unwrap();
    }

    async fn verify(&mut self) -> Report {
        self.verify_with(&BTreeMap::new()).await
    }

    async fn verify_with(&mut self, known: &BTreeMap<i64, String>) -> Report {
        all(&mut self.connection, Some(&self.keeper.key), known, &mut |_, _| {}).await.unwrap()
    }

    /// Takes away what keeps rows as they are, as whoever owns the tables can.
    async fn disarm(&mut self) {
        let statements: &[&'static str] = match self.kind {
            Kind::Sqlite => &[
                "DROP TRIGGER audit_never_changes",
                "DROP TRIGGER audit_is_kept",
                "DROP TRIGGER audit_chain_never_changes",
                "DROP TRIGGER audit_chain_is_kept",
            ],
            Kind::Postgres => {
                &["ALTER TABLE audit DISABLE TRIGGER USER", "ALTER TABLE audit_chain DISABLE TRIGGER USER"]
            }
        };
        self.connection.control(statements).await.unwrap();
    }

    /// The head that is known to be in the database.
    async fn led(&mut self, rows: usize) -> Leading {
        self.add(rows).await;
        let mut led = self.keeper.begin(1).await.unwrap();
        // What was found is settled with the second look behind it.
        for _ in 0..3 {
            self.keeper.step(&mut led).await.unwrap();
        }
        led
    }
}

#[tokio::test]
async fn r20_every_row_is_chained_once_and_the_log_is_whole() {
    for mut world in worlds().await {
        assert!(world.verify().await.whole, "an empty one");
        world.add(3).await;
        let report = world.verify().await;
        assert_eq!((report.whole, report.checked, report.unchained), (true, 0, 3));
        let mut led = world.led(1_200).await;
        let report = world.verify().await;
        let expected = Report {
            whole: true,
            checked: 1_203,
            number: 1_203,
            hash: hex::encoded(&led.head.hash),
            ..Report::default()
        };
        assert_eq!(report, expected);
        // Another start goes on where this one ended.
        world.add(2).await;
        let mut again = world.keeper.begin(1).await.unwrap();
        world.keeper.step(&mut again).await.unwrap();
        assert!(world.verify().await.checked == 1_205);
        world.keeper.look_at_head(&mut led).await.unwrap();
        assert_eq!(led.head.number, 1_205);
    }
}

/// A row whose id is lower than those that are seen, as its transaction lasts.
#[tokio::test]
async fn r20_a_row_that_is_seen_late_is_not_passed_over() {
    let mut world = world(Kind::Postgres).await;
    let mut late = world.place.connect().await;
    late.control(&["BEGIN"]).await.unwrap();
    let who = Who { actor: "late".to_owned(), ..Who::default() };
    audit::write(&mut late, &Entry::done(&who, "test", "")).await.unwrap();
    let mut led = world.led(5).await;
    for _ in 0..5 {
        world.add(1).await;
        world.keeper.step(&mut led).await.unwrap();
    }
    assert_eq!(led.head.settled_id, 0, "one may still come");
    late.control(&["COMMIT"]).await.unwrap();
    for _ in 0..4 {
        world.keeper.step(&mut led).await.unwrap();
    }
    let report = world.verify().await;
    assert_eq!((report.whole, report.checked, report.unchained), (true, 11, 0), "{report:?}");
    assert_eq!(led.head.settled_id, 11);
    // One that was taken back leaves a gap, which nothing waits for.
    late.control(&["BEGIN"]).await.unwrap();
    audit::write(&mut late, &Entry::done(&who, "test", "")).await.unwrap();
    late.control(&["ROLLBACK"]).await.unwrap();
    world.add(1).await;
    for _ in 0..4 {
        world.keeper.step(&mut led).await.unwrap();
    }
    assert_eq!((led.head.number, led.head.settled_id), (12, 13));
    assert!(world.verify().await.whole);
}

#[tokio::test]
async fn r20_what_is_altered_deleted_exchanged_put_in_or_cut_is_found() {
    for mut world in worlds().await {
        let led = world.led(10).await;
        let head = audit_chain::head(&mut world.connection).await.unwrap().unwrap();
        assert_eq!(head.number, 10);
        if world.kind == Kind::Postgres {
            // It is written down with the next row that is chained.
            world.connection.control(&["UPDATE audit_head SET settled_id = 10"]).await.unwrap();
        }
        assert_eq!(led.head.settled_id, 10);
        world.disarm().await;
        let known: BTreeMap<i64, String> = [(10, hex::encoded(&led.head.hash))].into_iter().collect();
        assert_eq!(world.verify_with(&known).await.anchors, 1);
        let altered = |number| Wrong::Altered { number, id: number };
        let cut_head =
            "UPDATE audit_head SET number = 8, hash = (SELECT hash FROM audit_chain WHERE number = 8)";
        let cut: &[&'static str] =
            &["DELETE FROM audit WHERE id > 8", "DELETE FROM audit_chain WHERE number > 8"];
        let put_in: &'static str = match world.kind {
            Kind::Sqlite => {
                "INSERT INTO audit (id, at_us, actor, action, object, request_id) VALUES (-1, 1, 'x', 'x', 'x', '')"
            }
            Kind::Postgres => {
                "INSERT INTO audit (id, at_us, actor, action, object, request_id) OVERRIDING SYSTEM VALUE VALUES (-1, 1, 'x', 'x', 'x', '')"
            }
        };
        let harms: Vec<(Vec<&'static str>, Wrong)> = vec![
            (vec!["UPDATE audit SET actor = 'x' WHERE id = 5"], altered(5)),
            (vec!["UPDATE audit SET at_us = at_us + 1 WHERE id = 5"], altered(5)),
            (vec!["UPDATE audit SET action = 'x' WHERE id = 5"], altered(5)),
            (vec!["UPDATE audit SET object = 'x' WHERE id = 5"], altered(5)),
            (vec!["UPDATE audit SET request_id = 'x' WHERE id = 5"], altered(5)),
            (vec!["UPDATE audit SET client = NULL WHERE id = 5"], altered(5)),
            (vec!["UPDATE audit SET came_with = 'x' WHERE id = 5"], altered(5)),
            (vec!["UPDATE audit SET outcome = 'refused' WHERE id = 5"], altered(5)),
            (vec!["UPDATE audit SET code = 'x' WHERE id = 5"], altered(5)),
            (vec!["UPDATE audit SET before = NULL WHERE id = 5"], altered(5)),
            (vec!["UPDATE audit SET after = before WHERE id = 5"], altered(5)),
            (vec!["UPDATE audit SET tenant = 1 WHERE id = 5"], altered(5)),
            (vec!["UPDATE audit SET actor = 'x' WHERE id = 10"], altered(10)),
            (vec!["DELETE FROM audit WHERE id = 5"], Wrong::Missing { number: 5, id: Some(5) }),
            (
                vec!["DELETE FROM audit WHERE id = 5", "DELETE FROM audit_chain WHERE number = 5"],
                Wrong::Missing { number: 5, id: None },
            ),
            (vec!["DELETE FROM audit_chain WHERE number = 5"], Wrong::Missing { number: 5, id: None }),
            // Those behind it close up.
            (
                vec![
                    "DELETE FROM audit WHERE id = 5",
                    "DELETE FROM audit_chain WHERE number = 5",
                    "UPDATE audit_chain SET number = -number WHERE number > 5",
                    "UPDATE audit_chain SET number = -number - 1 WHERE number < 0",
                ],
                Wrong::Altered { number: 5, id: 6 },
            ),
            // The chain names the rows in another order.
            (
                vec![
                    "UPDATE audit_chain SET audit_id = -1 WHERE number = 4",
                    "UPDATE audit_chain SET audit_id = 4 WHERE number = 7",
                    "UPDATE audit_chain SET audit_id = 7 WHERE number = 4",
                ],
                Wrong::Order { number: 4, id: 7, was: 4 },
            ),
            // The same with their hashes.
            (
                vec![
                    "UPDATE audit_chain SET number = -4 WHERE number = 4",
                    "UPDATE audit_chain SET number = 4 WHERE number = 5",
                    "UPDATE audit_chain SET number = 5 WHERE number = -4",
                ],
                Wrong::Altered { number: 4, id: 5 },
            ),
            (cut.to_vec(), Wrong::Cut { number: 8, was: 10, by: "head" }),
            (
                cut.iter().copied().chain([cut_head]).collect(),
                Wrong::Cut { number: 8, was: 10, by: "anchor" },
            ),
            // All of it.
            (
                vec![
                    "DELETE FROM audit",
                    "DELETE FROM audit_chain",
                    "UPDATE audit_head SET number = 0, hash = start_hash, settled_id = 0",
                ],
                Wrong::Cut { number: 0, was: 10, by: "anchor" },
            ),
            (
                vec!["DELETE FROM audit WHERE id < 4", "DELETE FROM audit_chain WHERE number < 4"],
                Wrong::Missing { number: 1, id: None },
            ),
            (
                vec![
                    "DELETE FROM audit WHERE id < 4",
                    "UPDATE audit_head SET start_number = 3, start_hash = (SELECT hash FROM audit_chain WHERE number = 3), start_proof = start_hash",
                    "DELETE FROM audit_chain WHERE number < 4",
                ],
                Wrong::Start { number: 3 },
            ),
            (vec![put_in], Wrong::Stray { id: -1 }),
            (vec!["UPDATE audit_head SET number = 11"], Wrong::Cut { number: 10, was: 11, by: "head" }),
            (vec!["DELETE FROM audit_head"], Wrong::Headless),
        ];
        for (statements, expected) in harms {
            world.connection.control(&["BEGIN"]).await.unwrap();
            for statement in &statements {
                world.connection.query(statement).execute().await.unwrap();
            }
            let report = world.verify_with(&known).await;
            assert_eq!(report.wrong, Some(expected), "{:?}: {statements:?}", world.kind);
            assert!(!report.whole);
            world.connection.control(&["ROLLBACK"]).await.unwrap();
        }
        // Ids that two rows have taken from each other.
        if world.kind == Kind::Sqlite {
            world.connection.control(&["BEGIN"]).await.unwrap();
            for statement in [
                "UPDATE audit SET id = -1 WHERE id = 4",
                "UPDATE audit SET id = 4 WHERE id = 7",
                "UPDATE audit SET id = 7 WHERE id = -1",
            ] {
                world.connection.query(statement).execute().await.unwrap();
            }
            let found = world.verify_with(&known).await.wrong;
            assert_eq!(found, Some(Wrong::Order { number: 4, id: 4, was: 7 }));
            world.connection.control(&["ROLLBACK"]).await.unwrap();
        }
        // What the anchors are for.
        world.connection.control(&["BEGIN"]).await.unwrap();
        for statement in cut.iter().copied().chain([cut_head]) {
            world.connection.query(statement).execute().await.unwrap();
        }
        assert!(world.verify().await.whole);
        world.connection.control(&["ROLLBACK"]).await.unwrap();
        assert!(world.verify_with(&known).await.whole);
    }
}

/// Whoever has the database and not the key makes a chain of their own.
#[tokio::test]
async fn r20_a_log_that_is_written_anew_without_the_key_is_found() {
    for mut world in worlds().await {
        let led = world.led(4).await;
        world.keeper.anchor(&mut world.keeper.begin(1).await.unwrap()).await;
        world.disarm().await;
        let harm: [&'static str; 3] = [
            "UPDATE audit SET actor = 'x' WHERE id = 2",
            "DELETE FROM audit_chain",
            "UPDATE audit_head SET number = 0, hash = start_hash, settled_id = 0",
        ];
        for statement in harm {
            world.connection.query(statement).execute().await.unwrap();
        }
        let is = std::mem::replace(&mut world.keeper.key, ChainKey::of(b"other"));
        let mut anew = world.keeper.begin(1).await.unwrap();
        world.keeper.step(&mut anew).await.unwrap();
        assert!(anew.head.number == 4 && world.verify().await.whole);
        world.keeper.key = is;
        assert_eq!(world.verify().await.wrong, Some(Wrong::Altered { number: 1, id: 1 }));
        // With the key as well, what was written down outside of the database is another one.
        for statement in &harm[1..] {
            world.connection.query(statement).execute().await.unwrap();
        }
        let mut anew = world.keeper.begin(1).await.unwrap();
        world.keeper.step(&mut anew).await.unwrap();
        assert!(world.verify().await.whole);
        let mut known = BTreeMap::new();
        anchors::read(world.keeper.anchors.path(), &mut known).unwrap();
        assert_eq!(known, [(4, hex::encoded(&led.head.hash))].into_iter().collect());
        assert_eq!(world.verify_with(&known).await.wrong, Some(Wrong::Anchor { number: 4 }));
        let report = all(&mut world.connection, None, &known, &mut |_, _| {}).await.unwrap();
        assert_eq!(report.wrong, Some(Wrong::Keyless));
    }
}

#[tokio::test]
async fn r20_rows_of_the_log_are_neither_changed_nor_deleted() {
    for mut world in worlds().await {
        drop(world.led(3).await);
        world.add(1).await;
        let mut refused = vec![
            "UPDATE audit SET actor = 'x' WHERE id = 1",
            "UPDATE audit SET actor = 'x' WHERE id = 4",
            "DELETE FROM audit WHERE id = 1",
            "DELETE FROM audit WHERE id = 4",
            "DELETE FROM audit",
            "UPDATE audit_chain SET audit_id = 9 WHERE number = 1",
            "DELETE FROM audit_chain WHERE number = 3",
        ];
        if world.kind == Kind::Postgres {
            refused.extend([
                "TRUNCATE audit",
                "TRUNCATE audit_chain",
                "TRUNCATE audit, audit_chain, audit_head",
            ]);
        }
        for statement in refused {
            let error = world.connection.query(statement).execute().await.unwrap_err();
            let told = error.to_string();
            assert!(
                told.contains("never changed") || told.contains("are kept") || told.contains("not emptied"),
                "{statement}: {told}"
            );
        }
        assert_eq!(world.verify().await.checked, 3);
    }
}

#[tokio::test]
async fn r20_who_was_paused_makes_no_second_chain() {
    for mut world in worlds().await {
        let mut old = world.led(2).await;
        // Another one takes over, while this one still thinks that the chain ends at 2.
        world.add(1).await;
        let mut new = world.keeper.begin(2).await.unwrap();
        world.keeper.step(&mut new).await.unwrap();
        world.add(1).await;
        assert!(world.keeper.step(&mut old).await.is_err(), "in an earlier term");
        // It reads where the chain ends, and is in its old term all the same.
        let mut old = world.keeper.begin(1).await.unwrap();
        assert!(world.keeper.step(&mut old).await.is_err(), "in an earlier term");
        let report = world.verify().await;
        assert_eq!((report.whole, report.checked, report.unchained), (true, 3, 1));
        // In the same term, where the answer to a step was lost.
        let mut twin = world.keeper.begin(2).await.unwrap();
        world.keeper.step(&mut new).await.unwrap();
        world.add(1).await;
        world.keeper.step(&mut twin).await.unwrap();
        world.keeper.step(&mut twin).await.unwrap();
        let report = world.verify().await;
        assert_eq!((report.whole, report.checked, report.unchained), (true, 5, 0));
    }
}

/// Before the next anchor is written.
#[tokio::test]
async fn r20_an_end_that_is_cut_off_while_it_runs_is_told_and_stays_known() {
    for mut world in worlds().await {
        let mut led = world.led(10).await;
        world.disarm().await;
        for statement in [
            "DELETE FROM audit WHERE id > 8",
            "DELETE FROM audit_chain WHERE number > 8",
            "UPDATE audit_head SET number = 8, hash = (SELECT hash FROM audit_chain WHERE number = 8)",
        ] {
            world.connection.query(statement).execute().await.unwrap();
        }
        world.add(1).await;
        for _ in 0..2 {
            world.keeper.step(&mut led).await.unwrap();
        }
        let mut known = BTreeMap::new();
        anchors::read(world.keeper.anchors.path(), &mut known).unwrap();
        assert_eq!(known.keys().collect::<Vec<_>>(), [&10]);
        let report = world.verify_with(&known).await;
        assert_eq!(report.wrong, Some(Wrong::Cut { number: 9, was: 10, by: "anchor" }));
    }
}

/// The server would delete them, and vouch for it.
#[tokio::test]
async fn r20_rows_that_are_made_to_look_old_do_not_go() {
    for mut world in worlds().await {
        let mut led = world.led(10).await;
        world.disarm().await;
        for (nth, (harm, left)) in [
            ("UPDATE audit SET at_us = 0 WHERE id <= 5", 10),
            ("DELETE FROM audit WHERE id = 1", 9),
            ("DELETE FROM audit_chain WHERE number = 1", 9),
        ]
        .into_iter()
        .enumerate()
        {
            world.connection.query(harm).execute().await.unwrap();
            world.keeper.look_at_head(&mut led).await.unwrap();
            assert!(!world.keeper.prune(&mut led).await.unwrap());
            let count = "SELECT count(*) FROM audit";
            assert_eq!(world.connection.query(count).fetch_value::<i64>().await.unwrap(), left, "{harm}");
            assert_eq!(world.keeper.metrics.audit_faults_so_far(), u64::try_from(nth).unwrap() + 1, "{harm}");
        }
        assert!(!world.verify().await.whole);
    }
}

/// The server would vouch for it from then on.
#[tokio::test]
async fn r20_nothing_goes_behind_a_beginning_that_nothing_vouches_for() {
    for mut world in worlds().await {
        world.add_at(5, now_us() - 2 * 86_400_000_000).await;
        let mut led = world.led(5).await;
        let move_start = "UPDATE audit_head SET start_number = 3, start_hash = (SELECT hash FROM audit_chain WHERE number = 3), start_proof = start_hash";
        world.connection.query(move_start).execute().await.unwrap();
        world.keeper.look_at_head(&mut led).await.unwrap();
        assert!(!world.keeper.prune(&mut led).await.unwrap());
        let count = "SELECT count(*) FROM audit";
        assert_eq!(world.connection.query(count).fetch_value::<i64>().await.unwrap(), 10);
        assert_eq!(world.keeper.metrics.audit_faults_so_far(), 1);
        assert_eq!(world.verify().await.wrong, Some(Wrong::Start { number: 3 }));
    }
}

/// With the key in it, so that what is left looks like a log that nobody ever wrote to.
#[tokio::test]
async fn r20_a_log_that_is_gone_with_its_key_is_found() {
    for mut world in worlds().await {
        let led = world.led(10).await;
        let known: BTreeMap<i64, String> = [(10, hex::encoded(&led.head.hash))].into_iter().collect();
        world.disarm().await;
        let reset = "UPDATE audit_head SET number = 0, hash = start_hash, settled_id = 0";
        for (harm, expected) in [
            (reset, Some(Wrong::Keyless)),
            ("DELETE FROM audit", Some(Wrong::Keyless)),
            ("DELETE FROM audit_chain", Some(Wrong::Cut { number: 0, was: 10, by: "anchor" })),
        ] {
            world.connection.query(harm).execute().await.unwrap();
            let report = all(&mut world.connection, None, &known, &mut |_, _| {}).await.unwrap();
            assert_eq!(report.wrong, expected, "{harm}");
        }
        let report = all(&mut world.connection, None, &BTreeMap::new(), &mut |_, _| {}).await.unwrap();
        assert!(report.whole, "one that nobody ever wrote to: {report:?}");
    }
}

/// Many rows, as after an upgrade: it is looked in between whether it is time to stop, and nothing is read again and again.
#[tokio::test]
async fn r20_a_pass_goes_on_where_it_was_and_who_came_late_is_in_the_next() {
    for mut world in worlds().await {
        let mut late = world.place.connect().await;
        if world.kind == Kind::Postgres {
            late.control(&["BEGIN"]).await.unwrap();
            let who = Who { actor: "late".to_owned(), ..Who::default() };
            audit::write(&mut late, &Entry::done(&who, "test", "")).await.unwrap();
        }
        let at_once = STEP * i64::from(STEPS);
        let many = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < $1) INSERT INTO audit (at_us, actor, action, object, request_id) SELECT $2, 'x', 'test', '', '' FROM n";
        world.connection.query(many).bind(at_once + 700).bind(now_us()).execute().await.unwrap();
        let mut led = world.keeper.begin(1).await.unwrap();
        assert!(world.keeper.step(&mut led).await.unwrap(), "there is more");
        assert_eq!(led.head.number, at_once);
        let mut all = at_once + 700;
        if world.kind == Kind::Postgres {
            late.control(&["COMMIT"]).await.unwrap();
        }
        assert!(!world.keeper.step(&mut led).await.unwrap());
        assert_eq!(led.head.number, all, "what was gone through is not read again");
        for _ in 0..4 {
            assert!(!world.keeper.step(&mut led).await.unwrap());
        }
        all += i64::from(world.kind == Kind::Postgres);
        assert_eq!((led.head.number, led.head.settled_id), (all, all));
        let report = world.verify().await;
        assert_eq!((report.whole, report.unchained), (true, 0), "{report:?}");
    }
}

/// Whoever can add rows does not stop the chain with one that cannot be read.
#[tokio::test]
async fn r20_a_row_that_is_damaged_stops_nothing_and_is_found() {
    // With PostgreSQL no column takes it.
    let mut world = world(Kind::Sqlite).await;
    let mut led = world.led(2).await;
    let damaged = "INSERT INTO audit (at_us, actor, action, object, request_id, change_id) VALUES (1, 'x', 'x', 'x', '', x'01')";
    world.connection.query(damaged).execute().await.unwrap();
    world.keeper.step(&mut led).await.unwrap();
    world.add(2).await;
    world.keeper.step(&mut led).await.unwrap();
    assert_eq!((led.head.number, world.keeper.metrics.audit_faults_so_far()), (4, 1));
    assert_eq!(world.verify().await.wrong, Some(Wrong::Stray { id: 3 }));
}

/// Such as by a head that says that it was moved in a term that never comes.
#[tokio::test]
async fn r20_a_log_that_is_not_chained_for_long_is_not_whole() {
    for mut world in worlds().await {
        let mut led = world.led(2).await;
        world.connection.query("UPDATE audit_head SET epoch = 9000000000000000").execute().await.unwrap();
        world.add(1).await;
        assert!(world.keeper.step(&mut led).await.is_err());
        assert!(world.verify().await.whole, "it may be chained in a moment");
        world.add_at(1, now_us() - 90_500_000).await;
        assert_eq!(world.verify().await.wrong, Some(Wrong::Unchained { for_s: 90 }));
    }
}

#[tokio::test]
async fn r20_rows_that_are_past_their_time_go_and_the_rest_is_whole() {
    for mut world in worlds().await {
        world.add_at(600, now_us() - 2 * 86_400_000_000).await;
        let mut led = world.led(5).await;
        assert!(world.keeper.prune(&mut led).await.unwrap(), "there is more");
        assert!(!world.keeper.prune(&mut led).await.unwrap());
        assert!(!world.keeper.prune(&mut led).await.unwrap());
        world.keeper.step(&mut led).await.unwrap();
        let mut known = BTreeMap::new();
        anchors::read(world.keeper.anchors.path(), &mut known).unwrap();
        assert_eq!(known.keys().collect::<Vec<_>>(), [&500, &600]);
        let report = world.verify_with(&known).await;
        let seen = (report.whole, report.begins_behind, report.checked, report.number, report.unchained);
        // That it was done is in the log too.
        assert_eq!(seen, (true, 600, 7, 607, 0), "{report:?}");
        let count = "SELECT count(*) FROM audit WHERE action = 'audit.prune' AND actor = 'godwit'";
        assert_eq!(world.connection.query(count).fetch_value::<i64>().await.unwrap(), 2);
        assert!(world.connection.query("DELETE FROM audit WHERE id > 600").execute().await.is_err());
    }
}
