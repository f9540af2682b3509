//! What processes on one PostgreSQL database tell each other at once: that something was committed, or got its sequence.
//! Nothing depends on it; who hears nothing looks now and then.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};

use super::{Connection, Place};

const CHANNEL: &str = "godwit_feed";
const TELL: &str = "SELECT pg_notify('godwit_feed', $1)";
/// The pause before another connection is tried.
const AGAIN: Duration = Duration::from_secs(1);

/// Statements of this file, which only PostgreSQL gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[TELL];

/// What is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Signal {
    /// Something has no sequence yet.
    Committed,
    /// The log goes on.
    Sequenced,
}

impl Signal {
    fn text(self) -> &'static str {
        match self {
            Signal::Committed => "committed",
            Signal::Sequenced => "sequenced",
        }
    }
}

/// Tells everybody who listens, this process with them.
///
/// # Errors
/// Of the database.
pub(crate) async fn tell(connection: &mut Connection, signal: Signal) -> sqlx::Result<()> {
    connection.query(TELL).bind(signal.text()).fetch_optional().await.map(|_| ())
}

/// Calls `heard` with what is told, until `stop` resolves; then nothing of it is connected any more.
pub(crate) async fn listen(place: &Place, heard: impl Fn(Signal), stop: impl Future<Output = ()>) {
    let Place::Server(server) = place else { return };
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(Place::postgres(server));
    let listening = async {
        loop {
            let error = match PgListener::connect_with(&pool).await {
                Ok(mut listener) => hear(&mut listener, &heard).await,
                Err(error) => error,
            };
            tracing::debug!(%error, "signals of the database are not heard; it is looked at now and then");
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = listening => {}
        () = stop => {}
    }
    let _ = tokio::time::timeout(AGAIN, pool.close()).await;
}

/// Until the connection ends.
async fn hear(listener: &mut PgListener, heard: &impl Fn(Signal)) -> sqlx::Error {
    if let Err(error) = listener.listen(CHANNEL).await {
        return error;
    }
    loop {
        match listener.recv().await {
            Ok(told) if told.payload() == Signal::Committed.text() => heard(Signal::Committed),
            Ok(_) => heard(Signal::Sequenced),
            Err(error) => return error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Kind, testing};

    #[tokio::test]
    async fn who_listens_hears_what_is_told() {
        let (mut database, place) = testing::database(Kind::Postgres).await;
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let pass_on = move |signal| {
            let _ = told.send(signal);
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let listened = place.place().clone();
        let listening = tokio::spawn(async move {
            listen(&listened, pass_on, async { drop(stopped.await) }).await;
        });
        let hearing = async {
            for signal in [Signal::Committed, Signal::Sequenced] {
                // It may not listen yet.
                loop {
                    tell(&mut database.writer, signal).await.unwrap();
                    let next = tokio::time::timeout(Duration::from_millis(100), heard.recv()).await;
                    if next == Ok(Some(signal)) {
                        break;
                    }
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), hearing).await.expect("nothing is heard");
        drop(stop);
        listening.await.unwrap();
    }
}
