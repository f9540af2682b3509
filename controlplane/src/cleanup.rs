//! What is past its time is forgotten, by jobs that wait for the clock: `expiry`, of what has an end of its own, and `cleanup`, of what
//! is kept for a while once it is over.
//!
//! Each table is gone through in small steps, so that no write waits long behind one; and however far one is behind, or whatever is
//! wrong with it, the others have their turn.

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::time::Duration;

use crate::commit::Committer;
use crate::error::Problem;
use crate::jobs::{Claimed, Failure, Kind, Lease, Work};
use crate::store::{
    Connection, buffered, changes, claims, history, idempotency, invitations, jobs, keys, log, now_us,
    quotas, registrations, revocations, sessions, suffixes, tokens, webhooks,
};
use crate::webhooks::KEPT_DAYS;

/// When it is looked for what is past its time.
const EVERY: &str = "*/5 * * * *";
/// The most rows of a table that one step deletes, so that no request waits long behind it.
const STEP: u64 = 500;
/// The pause between two steps of a table.
const PAUSE: Duration = Duration::from_millis(100);
const DAY: Duration = Duration::from_secs(86_400);
/// How long claims and tokens are kept that have ended.
const ENDED_KEPT: Duration = DAY.saturating_mul(30);

/// How long what is over is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Changes, and versions of zones.
    pub(crate) history: Duration,
    pub(crate) jobs: Duration,
}

/// Does jobs of either kind.
pub(crate) struct Forget {
    name: &'static str,
    tables: &'static [(&'static str, Step)],
    committer: Committer,
    kept: Kept,
}

impl Forget {
    /// What has expired.
    pub(crate) fn expired(committer: Committer, kept: Kept) -> Forget {
        Forget { name: "expiry", tables: EXPIRED, committer, kept }
    }

    /// What was kept for long enough.
    pub(crate) fn over(committer: Committer, kept: Kept) -> Forget {
        Forget { name: "cleanup", tables: OVER, committer, kept }
    }
}

/// Before which time something was over that goes now, in microseconds since the epoch.
#[derive(Clone, Copy, Debug)]
struct Times {
    now: i64,
    history: i64,
    jobs: i64,
    deliveries: i64,
    ended: i64,
}

impl Times {
    fn of(kept: Kept, now: i64) -> Times {
        let before = |kept: Duration| now.saturating_sub(i64::try_from(kept.as_micros()).unwrap_or(i64::MAX));
        // Longer than one that fails is tried.
        let deliveries = kept.jobs.max(DAY.saturating_mul(KEPT_DAYS));
        Times {
            now,
            history: before(kept.history),
            jobs: before(kept.jobs),
            deliveries: before(deliveries),
            ended: before(ENDED_KEPT),
        }
    }
}

/// Deletes some rows that are past their time; how many.
type Step = for<'c> fn(&'c mut Connection, Times, i64) -> Deleting<'c>;
type Deleting<'c> = Pin<Box<dyn Future<Output = sqlx::Result<u64>> + Send + 'c>>;

/// What has an end of its own.
const EXPIRED: &[(&str, Step)] = &[
    ("answers", |connection, times, most| Box::pin(idempotency::prune(connection, times.now, most))),
    ("registrations", |connection, times, most| Box::pin(registrations::prune(connection, times.now, most))),
    ("invitations", |connection, times, most| Box::pin(invitations::prune(connection, times.now, most))),
    ("sessions", |connection, times, most| {
        Box::pin(sessions::prune(connection, times.now, times.jobs, most))
    }),
    ("revocations", |connection, times, most| Box::pin(revocations::prune(connection, times.now, most))),
    ("spent tokens", |connection, times, most| Box::pin(keys::prune(connection, times.now, most))),
    ("kept names", |connection, times, most| Box::pin(suffixes::prune(connection, times.now, most))),
];

/// What is kept for a while.
const OVER: &[(&str, Step)] = &[
    ("versions", |connection, times, most| Box::pin(history::prune(connection, times.history, most))),
    ("changes", |connection, times, most| Box::pin(changes::prune(connection, times.history, most))),
    ("batches", |connection, times, most| Box::pin(log::prune(connection, times.history, most))),
    ("buffered writes", |connection, times, most| Box::pin(buffered::prune(connection, times.history, most))),
    ("jobs", |connection, times, most| Box::pin(jobs::prune(connection, times.jobs, most))),
    ("deliveries", |connection, times, most| Box::pin(webhooks::prune(connection, times.deliveries, most))),
    ("claims", |connection, times, most| Box::pin(claims::prune(connection, times.ended, most))),
    ("tokens", |connection, times, most| Box::pin(tokens::prune(connection, times.ended, most))),
    ("counts of days", |connection, times, most| Box::pin(quotas::prune(connection, times.now, most))),
];

/// Goes through tables. Fails with what went wrong first, behind the last of them.
async fn forget(committer: &Committer, tables: &[(&'static str, Step)], times: Times) -> Result<(), Failure> {
    let mut failed = None;
    for (what, step) in tables {
        match all_of(committer, *step, times).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(what, rows, "deleted what is past its time"),
            Err(problem) => {
                tracing::warn!(what, error = %problem, "could not delete what is past its time");
                failed.get_or_insert(problem);
            }
        }
    }
    failed.map_or(Ok(()), |problem| Err(problem.into()))
}

async fn all_of(committer: &Committer, step: Step, times: Times) -> Result<u64, Problem> {
    let mut all = 0;
    loop {
        let deleted = one_step(committer, step, times).await?;
        all += deleted;
        if deleted < STEP {
            return Ok(all);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn one_step(committer: &Committer, step: Step, times: Times) -> Result<u64, Problem> {
    let most = i64::try_from(STEP).unwrap_or(i64::MAX);
    let delete =
        committer.write(move |connection| Box::pin(async move { Ok(step(connection, times, most).await?) }));
    delete.await
}

impl Kind for Forget {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schedule(&self) -> Option<&'static str> {
        Some(EVERY)
    }

    fn run<'a>(&'a self, _: &'a Claimed, _: &'a Lease) -> Work<'a> {
        Box::pin(async move { forget(&self.committer, self.tables, Times::of(self.kept, now_us())).await })
    }
}
