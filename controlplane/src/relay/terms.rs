//! What is kept in Redis while this process gives sequences: begun with each term, and once more after each error.

use std::fmt::Display;
use std::time::Duration;

use godwit_redis::{Connection, Place, Timeouts};
use tokio::sync::watch;
use tokio::time::Instant;

use super::reader::Reader;

/// The pause after an error; doubles up to the longest.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// Where something is kept, and when.
pub(crate) struct Holding {
    pub(crate) place: Place,
    /// Who data planes read as there; made to be one who can do nothing else.
    pub(crate) reader: Option<Reader>,
    /// The term in which this process gives sequences; `None` while another one does.
    pub(crate) term: watch::Receiver<Option<u64>>,
}

/// See the module.
pub(crate) trait InTerms: Send + Sync {
    /// Why it stopped for now.
    type Stopped: Display + From<redis::RedisError> + Send;
    /// How long Redis may take to let us in, or to answer.
    const TIMEOUTS: Timeouts;

    /// Where, and when.
    fn holding(&self) -> &Holding;

    /// Goes on until something is wrong, or the term is over.
    fn during(&mut self, connection: Connection, epoch: u64) -> impl Future<Output = Self::Stopped> + Send;

    /// Whether nothing was wrong.
    fn is_over(stopped: &Self::Stopped) -> bool;

    /// Says and counts what was.
    fn failed(&self, stopped: &Self::Stopped);
}

/// Runs until it is aborted, or nobody gives terms any more.
pub(crate) async fn run<W: InTerms>(mut work: W) {
    let (mut term, mut pause) = (work.holding().term.clone(), AGAIN);
    loop {
        let now = match term.wait_for(Option::is_some).await {
            Ok(now) => *now,
            Err(_) => return,
        };
        let Some(epoch) = now else { continue };
        let began = Instant::now();
        let stopped = match connect(&work).await {
            Ok(connection) => work.during(connection, epoch).await,
            Err(error) => error.into(),
        };
        if W::is_over(&stopped) {
            continue;
        }
        work.failed(&stopped);
        if began.elapsed() > AGAIN_MAX {
            pause = AGAIN;
        }
        let over = term.wait_for(|term| *term != Some(epoch));
        let _ = tokio::time::timeout(pause, over).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

async fn connect<W: InTerms>(work: &W) -> redis::RedisResult<Connection> {
    let Holding { place, reader, .. } = work.holding();
    let mut connection = place.connect(W::TIMEOUTS).await?;
    if let Some(reader) = reader
        && let Err(error) = reader.make(&mut connection).await
    {
        tracing::warn!(user = reader.user, %error, "the user that data planes read as could not be made; make it by hand");
    }
    Ok(connection)
}
