//! Until when the answer to a request has to be there, for whatever it asks of the database on its way: what has not come by
//! then is of no use to anybody, so nobody waits for it, and the database is told to stop.
//!
//! It goes with the task that answers the request. What that hands on, a change to the writer, an export to a task of its own,
//! has no deadline here: a change is made or not, and an export has its own.

use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    static ANSWER_BY: Instant;
}

/// Does work that is of use until `by`.
pub(crate) async fn until<T>(by: Instant, work: impl Future<Output = T>) -> T {
    ANSWER_BY.scope(by, work).await
}

/// Until when the present task's answer has to be there; `None`: it answers no request.
pub(crate) fn by() -> Option<Instant> {
    ANSWER_BY.try_with(|by| *by).ok()
}

/// How long the present task may still ask; `None`: as long as anything may.
pub(super) fn left() -> Option<Duration> {
    by().map(|by| by.saturating_duration_since(Instant::now()))
}

/// The database had no answer when the request had to have one.
#[derive(Debug, thiserror::Error)]
#[error("the request's time was over before the database had answered")]
pub(crate) struct Late;

impl From<Late> for sqlx::Error {
    fn from(late: Late) -> sqlx::Error {
        sqlx::Error::AnyDriverError(Box::new(late))
    }
}

/// Whether a statement was ended because its time was over, here or in the server: that says nothing about the database, and
/// what it belonged to was not made.
#[must_use]
pub(crate) fn is_late(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::AnyDriverError(error) => error.is::<Late>(),
        // query_canceled: by `statement_timeout`.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "57014"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, testing};
    use super::*;

    const SOON: Duration = Duration::from_millis(700);

    /// How long a statement may take there, in milliseconds.
    async fn limit(connection: &mut super::super::Connection) -> i64 {
        let setting = "SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout'";
        connection.query(setting).fetch_value().await.unwrap()
    }

    #[tokio::test]
    async fn the_server_is_told_what_is_left_of_the_requests_time() {
        let (database, _place) = testing::database(Kind::Postgres).await;
        let views = database.views();
        let account = Some(uuid::Uuid::now_v7());
        let by = Instant::now() + SOON;
        let most = i64::try_from(SOON.as_millis()).unwrap();
        until(by, async {
            for account in [None, account] {
                let mut reading = views.begin(account).await.unwrap();
                let told = limit(&mut reading).await;
                assert!((1..=most).contains(&told), "{account:?}: {told}");
                reading.end_reading().await.unwrap();
                // An export goes on when the request is over.
                let mut long = views.begin_long(account).await.unwrap();
                assert_eq!(limit(&mut long).await, 30_000, "{account:?}");
            }
            let told = limit(&mut views.acquire(account).await.unwrap()).await;
            assert!((1..=most).contains(&told), "{told}");
        })
        .await;
        // What was said for one is not in force for the next.
        for account in [None, account] {
            assert_eq!(limit(&mut views.begin(account).await.unwrap()).await, 30_000, "{account:?}");
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_connection_or_an_answer_past_the_requests_time() {
        for (database, _place) in testing::databases().await {
            let held = [database.readers.acquire().await.unwrap(), database.readers.acquire().await.unwrap()];
            let began = Instant::now();
            let refused = until(began + SOON, database.readers.acquire()).await;
            assert!(matches!(refused, Err(sqlx::Error::PoolTimedOut)), "{refused:?}");
            assert!(began.elapsed() < SOON * 3, "{:?}", began.elapsed());
            drop(held);
            if database.place.kind() == Kind::Sqlite {
                continue;
            }
            // Not by the server, which this connection has told nothing.
            let mut connection = database.readers.acquire().await.unwrap();
            let began = Instant::now();
            let asked = until(began + SOON, connection.query("SELECT pg_sleep(20)").execute()).await;
            let error = asked.unwrap_err();
            assert!(is_late(&error), "{error}");
            assert!(began.elapsed() < SOON * 3, "{:?}", began.elapsed());
            let problem = crate::error::Problem::from(error);
            assert_eq!(problem.code, crate::error::Code::Timeout, "{problem}");
        }
    }
}
