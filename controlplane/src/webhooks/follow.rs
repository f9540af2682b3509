//! Works out what has to be told, by the process that gives sequences. Its place in the log is in the database, and moves in the
//! transaction that adds the deliveries: whoever goes on behind it tells what is not told yet, and nothing twice. While there is nobody
//! to tell, nothing is read and nothing written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use godwit_wire::feed::ChangeSet;
use tokio::sync::watch;
use uuid::Uuid;

use super::{MOST_WAITING, deliver, told, turn_off};
use crate::auth::Access;
use crate::commit::Committer;
use crate::events::Published;
use crate::jobs;
use crate::observe::metrics::Metrics;
use crate::relay::log::Log;
use crate::stop::{Stop, stopped};
use crate::store::batch::Batch;
use crate::store::webhooks::{self, Enabled, New};
use crate::store::{Connection, Pool, log as stored, now_us};

/// How often it is looked whether there is something to tell where nothing was heard of.
const LOOK: Duration = Duration::from_secs(1);
/// The pause before what came meanwhile is looked at together, and after an error.
const GATHER: Duration = Duration::from_millis(50);
const AGAIN: Duration = Duration::from_secs(1);
/// Changes that are read at once.
const STEP: u64 = 50;
/// So far behind where it is the place in the database may be, where nobody was to be told of what is between.
const UNWRITTEN: u64 = 1_000;

/// See the module.
pub(crate) struct Follower {
    pub(crate) committer: Committer,
    pub(crate) readers: Pool,
    pub(crate) log: Arc<Log>,
    /// The term in which this process gives sequences.
    pub(crate) term: watch::Receiver<Option<u64>>,
    pub(crate) jobs: jobs::Handle,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Stop,
}

/// Where a process is in its term.
#[derive(Clone, Copy, Debug)]
struct Place {
    term: u64,
    /// As the database has it.
    written: u64,
    /// Up to there all was looked at.
    at: u64,
}

impl Follower {
    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self) {
        let mut stop = std::pin::pin!(stopped(self.stop.clone()));
        let mut end = self.log.watch();
        let mut place = None;
        loop {
            end.mark_unchanged();
            let term = *self.term.borrow_and_update();
            let pause = match self.round(&mut place, term).await {
                Ok(true) => Duration::ZERO,
                Ok(false) => LOOK,
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "what webhooks are to be told could not be worked out; it is tried again"
                    );
                    place = None;
                    AGAIN
                }
            };
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(pause) => {}
                Ok(()) = end.changed(), if pause == LOOK => tokio::time::sleep(GATHER).await,
            }
        }
    }

    /// One step; whether there may be more.
    async fn round(&self, place: &mut Option<Place>, term: Option<u64>) -> anyhow::Result<bool> {
        let Some(term) = term else {
            *place = None;
            return Ok(false);
        };
        let end = self.log.end().sequence;
        if place.is_some_and(|place| place.term == term && place.at >= end) {
            return Ok(false);
        }
        let mut reading = self.readers.acquire().await?;
        // What came before all of them concerns none.
        let all = webhooks::enabled(&mut reading).await?;
        let Some(since) = all.iter().map(|one| one.since_sequence).min() else { return Ok(false) };
        let mut now = match place.filter(|place| place.term == term) {
            Some(place) => place,
            None => {
                let written = webhooks::position(&mut reading).await?;
                Place { term, written, at: written }
            }
        };
        let first = now.at.max(since.min(end)) + 1;
        let last = end.min(first + STEP - 1);
        let read =
            if first <= last { stored::change_sets(&mut reading, first, last).await? } else { Vec::new() };
        // Behind the changes: who is not among them here was none when the last of these were made.
        let all = webhooks::enabled(&mut reading).await?;
        let seen = seen(&mut reading, &all).await?;
        drop(reading);
        let is_missing = last + 1 > first && read.len() as u64 != last + 1 - first;
        if is_missing {
            tracing::warn!(first, last, "changes are no longer kept that webhooks were to be told of");
        }
        // Of a large change that takes a while.
        let missed_to = is_missing.then_some(last);
        let new = tokio::task::spawn_blocking(move || deliveries(missed_to, read, &all, &seen)).await?;
        now.at = last.max(now.at);
        if !new.is_empty() || now.at >= now.written + UNWRITTEN {
            let (from, to) = (now.written, now.at);
            let has_new = !new.is_empty();
            let write = self.committer.write(move |connection| {
                Box::pin(async move { Ok(write(connection, from, to, new).await?) })
            });
            anyhow::ensure!(write.await?, "another process has gone on");
            now.written = now.at;
            self.metrics.webhooks_told(now.at);
            if has_new {
                self.jobs.wake();
            }
        }
        *place = Some(now);
        Ok(now.at < end)
    }
}

/// What each webhook is to be sent, of these changes; and that some were missed, up to a sequence.
fn deliveries(
    missed_to: Option<u64>,
    read: Vec<stored::Stored>,
    all: &[Enabled],
    seen: &HashMap<u32, Access>,
) -> HashMap<Uuid, Vec<New>> {
    let mut new: HashMap<Uuid, Vec<New>> = HashMap::new();
    for one in all.iter().filter(|one| missed_to.is_some_and(|last| one.since_sequence < last)) {
        new.entry(one.id).or_default().push(told::plain(one.id, "resync"));
    }
    for one in read {
        // Of what data planes could not take, nothing was published.
        let payload = Some(&one.payload).filter(|_| !one.withheld);
        let Some(set) = payload.and_then(|octets| ChangeSet::decode(octets).ok()) else { continue };
        let published = Published::of(one.sequence, set);
        for webhook in all.iter().filter(|webhook| webhook.since_sequence < one.sequence) {
            let Some(access) = seen.get(&webhook.tenant) else { continue };
            let topics = told::topics(&webhook.topics);
            new.entry(webhook.id)
                .or_default()
                .extend(told::of_change(webhook.id, &published, access, &topics));
        }
    }
    new.retain(|_, all| !all.is_empty());
    new
}

/// What each tenant sees that has a webhook.
async fn seen(connection: &mut Connection, all: &[Enabled]) -> sqlx::Result<HashMap<u32, Access>> {
    let mut seen = HashMap::new();
    for Enabled { tenant, .. } in all {
        if !seen.contains_key(tenant) {
            let access = match *tenant {
                0 => Access::everything(),
                tenant => Access::of_tenant(tenant, webhooks::granted_to(connection, tenant).await?),
            };
            seen.insert(*tenant, access);
        }
    }
    Ok(seen)
}

/// Adds what is to be sent, and moves the place; whether that was where it was left.
async fn write(
    connection: &mut Connection,
    from: u64,
    to: u64,
    new: HashMap<Uuid, Vec<New>>,
) -> sqlx::Result<bool> {
    if !webhooks::go_on(connection, from, to).await? {
        return Ok(false);
    }
    let now = now_us();
    // Always in one order: who else holds several does so in the same.
    let mut new: Vec<_> = new.into_iter().collect();
    new.sort_unstable_by_key(|(webhook, _)| *webhook);
    for (webhook, all) in new {
        webhooks::hold(connection, webhook).await?;
        // It may be gone since.
        let Some(about) =
            webhooks::by_id(connection, webhook).await?.filter(|about| about.disabled_at_us.is_none())
        else {
            continue;
        };
        let waiting = webhooks::count_waiting(connection, webhook, MOST_WAITING).await?;
        let room = usize::try_from(MOST_WAITING - waiting).unwrap_or(0);
        if all.len() > room {
            let why = format!("{MOST_WAITING} deliveries waited for it");
            turn_off(connection, webhook, now, &why).await?;
            continue;
        }
        let mut batch = Batch::of(connection);
        deliver::enqueue(&mut batch, webhook, about.tenant);
        for new in &all {
            webhooks::add(&mut batch, new, now);
            if batch.is_full() {
                batch.run(connection).await?;
            }
        }
        batch.run(connection).await?;
    }
    Ok(true)
}
