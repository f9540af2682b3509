use godwit_wire::feed::Digest;
use uuid::Uuid;

use super::*;
use crate::jobs::tests::Place;
use crate::store::batch::Batch;
use crate::store::tenants;

const KEPT: Kept = Kept { history: Duration::from_secs(3_600), jobs: Duration::from_secs(3_600) };

async fn forget(place: &Place, tables: &[(&'static str, Step)]) {
    super::forget(&place.committer, tables, Times::of(KEPT, now_us())).await.unwrap();
}

async fn count(place: &Place, statement: &'static str) -> i64 {
    place.readers.acquire().await.unwrap().query(statement).fetch_value().await.unwrap()
}

const ANSWERS: &str = "SELECT count(*) FROM idempotency";

/// So many answers of 1970.
async fn keep(place: &Place, answers: u64) {
    let keep = place.committer.write(move |connection| {
        Box::pin(async move {
            let mut batch = Batch::of(connection);
            for n in 0..answers {
                idempotency::keep(&mut batch, "c", &n.to_string(), &[0; 32], b"{}", 1);
                if batch.is_full() {
                    batch.run(connection).await?;
                }
            }
            batch.run(connection).await?;
            Ok(())
        })
    });
    keep.await.unwrap();
}

/// More is past its time than one step takes: each step is bounded, and all of it goes.
#[tokio::test]
async fn a_backlog_of_what_is_past_its_time_goes_in_steps() {
    for place in Place::both().await {
        keep(&place, STEP + 1).await;
        let (_, step) = EXPIRED[0];
        let times = Times::of(KEPT, now_us());
        assert_eq!(one_step(&place.committer, step, times).await.unwrap(), STEP, "one step and no more");
        assert_eq!(count(&place, ANSWERS).await, 1);
        keep(&place, STEP + 1).await;
        forget(&place, EXPIRED).await;
        assert_eq!(count(&place, ANSWERS).await, 0);
    }
}

/// What is wrong with one table is said, and keeps none of the others.
#[tokio::test]
async fn a_table_that_fails_keeps_no_other_from_its_turn() {
    for place in Place::both().await {
        keep(&place, 1).await;
        let broken: (&str, Step) = ("nothing", |connection, _, _| {
            Box::pin(async { connection.query("DELETE FROM there_is_no_such_table").execute().await })
        });
        let tables = [&[broken], EXPIRED].concat();
        let failed = super::forget(&place.committer, &tables, Times::of(KEPT, now_us())).await;
        assert!(failed.is_err());
        assert_eq!(count(&place, ANSWERS).await, 0);
    }
}

/// What has no sequence is kept however old it is, and so is what is not old enough.
#[tokio::test]
async fn changes_go_when_they_are_old_and_published() {
    for place in Place::both().await {
        let add = place.committer.write(|connection| {
            Box::pin(async move {
                for (sequence, at_us) in [(Some(1), 1), (None, 1), (Some(3), now_us())] {
                    let id = Uuid::now_v7();
                    let new = changes::New {
                        id,
                        at_us,
                        actor: "a",
                        request_id: "",
                        payload: b"x",
                        settled_by: None,
                    };
                    let mut batch = Batch::of(connection);
                    changes::insert(&mut batch, &new, Digest::default(), sequence);
                    batch.run(connection).await.unwrap();
                }
                Ok(())
            })
        });
        add.await.unwrap();
        forget(&place, OVER).await;
        let mut reader = place.readers.acquire().await.unwrap();
        let rows =
            reader.query("SELECT sequence FROM outbox ORDER BY commit_number").fetch_all().await.unwrap();
        let left: Vec<Option<i64>> = rows.iter().map(|row| row.get(0).unwrap()).collect();
        assert_eq!(left, [None, Some(3)]);
    }
}

/// Claims, deliveries, webhooks that never became any, and tokens: some have ended long ago.
async fn make_ended(connection: &mut Connection) {
    let now = now_us();
    let days_ago = |days: i64| now - days * 86_400_000_000;
    let tenant = tenants::insert(connection, "x", now).await.unwrap();
    for (n, (state, made_at_us)) in [
        (claims::State::Failed, days_ago(31)),
        (claims::State::Expired, days_ago(31)),
        (claims::State::Failed, days_ago(29)),
        (claims::State::Verified, days_ago(900)),
    ]
    .into_iter()
    .enumerate()
    {
        let claim = claims::Claim {
            id: Uuid::now_v7(),
            tenant,
            name: format!("n{n}.example.").parse().unwrap(),
            state,
            token: [0; 16],
            created_at_us: made_at_us,
            expires_at_us: made_at_us,
            seen_at_us: None,
            checked_at_us: None,
            found: None,
            check_at_us: None,
        };
        claims::insert(connection, &claim).await.unwrap();
        claims::settle(connection, &claim).await.unwrap();
    }
    let webhook = |made_at_us| webhooks::Webhook {
        id: Uuid::now_v7(),
        tenant,
        url: "https://hooks.test/".to_owned(),
        topics: "record".to_owned(),
        created_at_us: made_at_us,
        since_sequence: 0,
        disabled_at_us: None,
        disabled_why: None,
        failures: 0,
        failing_since_us: None,
        next_at_us: None,
    };
    let (whole, begun) = (webhook(days_ago(900)), webhook(days_ago(5)));
    for one in [&whole, &begun] {
        webhooks::insert(connection, one).await.unwrap();
    }
    webhooks::set_secret(connection, whole.id, b"sealed").await.unwrap();
    for made_at_us in [days_ago(5), days_ago(3)] {
        let (id, webhook) = (Uuid::now_v7(), whole.id);
        let new = webhooks::New { id, webhook, told: webhooks::Told::Change(1), body: "{}".to_owned() };
        let mut batch = Batch::of(connection);
        webhooks::add(&mut batch, &new, made_at_us);
        batch.run(connection).await.unwrap();
    }
    let account = Uuid::now_v7();
    let add = "INSERT INTO accounts (id, email, email_key, name, is_operator, totp_step, created_at_us) VALUES ($1, 'a', 'a', 'a', FALSE, 0, 1)";
    connection.query(add).bind(account).execute().await.unwrap();
    let add = "INSERT INTO tokens (id, hash, scope, account_id, created_at_us, expires_at_us, revoked_at_us) VALUES ($1, $2, 'admin', $3, 1, $4, $5)";
    for (n, (of, ends_at_us, revoked_at_us)) in [
        (Some(account), None, Some(days_ago(31))),
        (Some(account), Some(days_ago(31)), None),
        (Some(account), Some(days_ago(29)), None),
        (Some(account), None, None),
        (None, None, Some(days_ago(900))),
    ]
    .into_iter()
    .enumerate()
    {
        let hash = [u8::try_from(n).unwrap(); 32];
        let insert = connection.query(add).bind(Uuid::now_v7()).bind(&hash[..]).bind(of);
        insert.bind(ends_at_us).bind(revoked_at_us).execute().await.unwrap();
    }
}

/// Deliveries, webhooks that never became any, and claims and tokens that have ended.
#[tokio::test]
async fn what_has_ended_goes_when_it_is_old_and_nothing_else_does() {
    for place in Place::both().await {
        let make = place.committer.write(|connection| {
            Box::pin(async move {
                make_ended(connection).await;
                Ok(())
            })
        });
        make.await.unwrap();
        forget(&place, OVER).await;
        for (statement, left) in [
            ("SELECT count(*) FROM claims", 2),
            ("SELECT count(*) FROM webhooks", 1),
            ("SELECT count(*) FROM deliveries", 1),
            ("SELECT count(*) FROM tokens", 3),
            ("SELECT count(*) FROM tokens WHERE account_id IS NULL", 1),
        ] {
            assert_eq!(count(&place, statement).await, left, "{statement}");
        }
    }
}
