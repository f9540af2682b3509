//! The latest jobs, as they are now: however many listen, the database is asked once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use crate::store::{Pool, jobs};

/// For so long what was read is good.
const FRESH: Duration = Duration::from_millis(800);
/// So many jobs.
const MANY: i64 = 200;

/// How a job stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    pub(crate) id: Uuid,
    pub(crate) kind: String,
    pub(crate) state: jobs::State,
    pub(crate) attempts: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Latest(Mutex<Option<Kept>>);

/// What the database said last, and when; `None` where it said nothing.
#[derive(Debug)]
struct Kept {
    at: Instant,
    jobs: Option<Arc<[Seen]>>,
}

impl Latest {
    /// As they are, or were a moment ago; `None` while the database is away. Whoever asks while somebody reads them waits for what that
    /// gives, so that of many who ask of a database that is away one waits for it.
    pub(crate) async fn jobs(&self, readers: &Pool) -> Option<Arc<[Seen]>> {
        let mut kept = self.0.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.at.elapsed() < FRESH) {
            return kept.jobs.clone();
        }
        let jobs = read(readers).await.ok();
        *kept = Some(Kept { at: Instant::now(), jobs: jobs.clone() });
        jobs
    }
}

async fn read(readers: &Pool) -> sqlx::Result<Arc<[Seen]>> {
    let mut connection = readers.acquire().await?;
    let read = jobs::list(&mut connection, jobs::Filter::default(), Uuid::max(), MANY).await?;
    let seen = |job: jobs::Job| Seen { id: job.id, kind: job.kind, state: job.state, attempts: job.attempts };
    Ok(read.into_iter().map(seen).collect())
}
