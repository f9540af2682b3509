//! Chains what was written, by the process that gives sequences: within a second each row has its number and its hash.
//!
//! Ids are given before the transaction ends, so rows come to be seen out of their order. The order of the chain is that in which
//! they were found, and no row is passed over: below the id up to which everything is settled none can come any more. With SQLite
//! there is one writer, and nothing is seen late. With PostgreSQL whoever adds a row holds a lock of the table from before it has
//! its id: once all those who held one after an id was seen have ended, and what they left was read, everything up to it is there.
//!
//! Where the head is not where it was left, somebody else has gone on, or the end was cut off while we ran. The latter is told, and
//! where the chain stood is written down among the anchors, so that it stays known.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::anchors::{Anchor, Anchors};
use super::{ChainKey, hex};
use crate::Stop;
use crate::commit::{COMMIT, Committer, ROLLBACK, begin};
use crate::observe::metrics::Metrics;
use crate::store::audit::{self, Who};
use crate::store::audit_chain::{self, Hash, Head};
use crate::store::{Connection, Kind, Place, Pool, now_us};

/// How often it is looked for what was written.
pub(crate) const LOOK: Duration = Duration::from_millis(300);
/// How often the head is written down outside of the database.
pub(crate) const ANCHOR: Duration = Duration::from_secs(60);
/// Rows that are chained, or deleted, at once.
const STEP: i64 = 500;
/// The pause between two steps that delete, while there is more.
const PRUNE_AGAIN: Duration = Duration::from_millis(100);
/// The pause after an error.
const AGAIN: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Keeper {
    pub(crate) place: Place,
    /// What writes to a file.
    pub(crate) committer: Committer,
    pub(crate) readers: Pool,
    pub(crate) key: ChainKey,
    /// The term in which this process gives sequences.
    pub(crate) term: watch::Receiver<Option<u64>>,
    pub(crate) anchors: Anchors,
    /// How long rows are kept.
    pub(crate) kept: Duration,
    /// See [`LOOK`] and [`ANCHOR`].
    pub(crate) look: Duration,
    pub(crate) anchor: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Stop,
}

/// In a term of ours.
pub(super) struct Leading {
    epoch: i64,
    /// As the database has it, and up to which id everything is settled.
    pub(super) head: Head,
    /// The connection to a server.
    own: Option<Connection>,
    /// The highest id that was seen.
    seen_id: i64,
    settling: Option<Settling>,
    anchored: i64,
    anchor_at: Instant,
    prune_at: Instant,
}

/// An id that was seen, and who held a lock after that and has not ended.
struct Settling {
    id: i64,
    writers: Option<BTreeSet<String>>,
}

impl Keeper {
    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self) {
        let mut leading: Option<Leading> = None;
        let mut stop = self.stop.clone();
        loop {
            let is_last = *stop.borrow();
            let term = *self.term.borrow_and_update();
            let pause = match self.round(&mut leading, term).await {
                Ok(()) => self.look,
                Err(error) => {
                    tracing::warn!(%error, "the audit log could not be chained; it is tried again");
                    leading = None;
                    AGAIN
                }
            };
            if is_last {
                if let Some(leading) = &mut leading {
                    self.anchor(leading).await;
                }
                return;
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn round(&self, leading: &mut Option<Leading>, term: Option<u64>) -> anyhow::Result<()> {
        let Some(epoch) = term.and_then(|epoch| i64::try_from(epoch).ok()) else {
            *leading = None;
            return Ok(());
        };
        let mut led = match leading.take().filter(|leading| leading.epoch == epoch) {
            Some(led) => led,
            None => self.begin(epoch).await?,
        };
        self.step(&mut led).await?;
        if Instant::now() >= led.anchor_at {
            led.anchor_at = Instant::now() + self.anchor;
            self.look_at_head(&mut led).await?;
            self.anchor(&mut led).await;
        }
        if Instant::now() >= led.prune_at {
            let is_more = self.prune(&mut led).await?;
            led.prune_at = Instant::now() + if is_more { PRUNE_AGAIN } else { ANCHOR };
        }
        *leading = Some(led);
        Ok(())
    }

    /// Begins where the chain ends.
    pub(super) async fn begin(&self, epoch: i64) -> anyhow::Result<Leading> {
        let mut own = match self.place.kind() {
            Kind::Sqlite => None,
            Kind::Postgres => Some(self.place.connect().await?),
        };
        let head = match &mut own {
            Some(connection) => audit_chain::head(connection).await?,
            None => audit_chain::head(&mut self.readers.acquire().await?).await?,
        };
        let head = head.ok_or_else(gone)?;
        let anchors = self.anchors.clone();
        match tokio::task::spawn_blocking(move || anchors.last()).await {
            Ok(Ok(Some(last))) if last.number > head.number => self.cut(last.number, head.number),
            Ok(Err(error)) => tracing::error!(%error, "the anchors of the audit log cannot be read"),
            _ => {}
        }
        let seen_id = head.settled_id;
        let now = Instant::now();
        let anchored = head.start_number;
        Ok(Leading {
            epoch,
            head,
            own,
            seen_id,
            settling: None,
            anchored,
            anchor_at: now + self.anchor,
            prune_at: now,
        })
    }

    /// Chains all that was written until now.
    pub(super) async fn step(&self, led: &mut Leading) -> anyhow::Result<()> {
        // Before the rows are read: what ends in between is read with them.
        let settled_id = match &mut led.own {
            Some(connection) => settled(connection, &mut led.settling).await?,
            None => None,
        };
        loop {
            let from = &led.head;
            let rows = match &mut led.own {
                Some(connection) => audit_chain::unchained(connection, from.settled_id, STEP).await?,
                None => {
                    let mut reading = self.readers.acquire().await?;
                    audit_chain::unchained(&mut reading, from.settled_id, STEP).await?
                }
            };
            let Some(last) = rows.last() else { break };
            let waited_us = now_us().saturating_sub(rows.iter().map(|row| row.at_us).min().unwrap_or(0));
            self.metrics.audit_waits(Duration::from_micros(u64::try_from(waited_us).unwrap_or(0)));
            led.seen_id = led.seen_id.max(last.id);
            let mut to = Head { epoch: led.epoch, ..from.clone() };
            if led.own.is_none() {
                to.settled_id = last.id;
            }
            let mut added: Vec<(i64, Hash)> = Vec::with_capacity(rows.len());
            for row in &rows {
                to.number += 1;
                to.hash = self.key.row(&to.hash, to.number, row);
                added.push((row.id, to.hash));
            }
            let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= STEP);
            if !self.go_on(led, to, added).await? {
                return Ok(());
            }
            if !is_full {
                break;
            }
        }
        self.metrics.audit_waits(Duration::ZERO);
        self.metrics.audit_chained(led.head.number);
        if let Some(id) = settled_id {
            led.head.settled_id = id;
        }
        if led.own.is_some() && led.settling.is_none() && led.seen_id > led.head.settled_id {
            led.settling = Some(Settling { id: led.seen_id, writers: None });
        }
        Ok(())
    }

    /// Moves the head; whether it was where it was left.
    async fn go_on(&self, led: &mut Leading, to: Head, added: Vec<(i64, Hash)>) -> anyhow::Result<bool> {
        let moved = match &mut led.own {
            Some(connection) => audit_chain::go_on(connection, &led.head, &to, &added).await?,
            None => {
                let (from, to) = (led.head.clone(), to.clone());
                let write = self.committer.write(move |connection| {
                    Box::pin(async move { Ok(audit_chain::go_on(connection, &from, &to, &added).await?) })
                });
                write.await?
            }
        };
        if moved {
            led.head = to;
        } else {
            self.look_at_head(led).await?;
        }
        Ok(moved)
    }

    /// Finds out where the head is, where it may be elsewhere than it was left.
    pub(super) async fn look_at_head(&self, led: &mut Leading) -> anyhow::Result<()> {
        let found = match &mut led.own {
            Some(connection) => audit_chain::head(connection).await?,
            None => audit_chain::head(&mut self.readers.acquire().await?).await?,
        };
        let found = found.ok_or_else(gone)?;
        if found.epoch > led.epoch {
            anyhow::bail!("another process chains the audit log, in a later term");
        }
        let is_behind = found.number < led.head.number;
        if is_behind || (found.number == led.head.number && found.hash != led.head.hash) {
            self.cut(led.head.number, found.number);
            self.write_down(Anchor::now(led.head.number, &led.head.hash)).await;
            led.anchored = found.number;
        }
        led.seen_id = led.seen_id.max(found.settled_id);
        led.head = found;
        Ok(())
    }

    fn cut(&self, was: i64, is: i64) {
        self.metrics.audit_cut();
        tracing::error!(
            was,
            is,
            "THE AUDIT LOG ENDS BEFORE WHERE IT HAS ENDED: rows were taken away, or the database is an older one; godwit audit verify says more"
        );
    }

    /// Writes down where the chain ends, outside of the database.
    pub(super) async fn anchor(&self, led: &mut Leading) {
        let Head { number, hash, .. } = &led.head;
        if *number != led.anchored {
            tracing::info!(number, hash = hex(hash), "audit anchor");
            if self.write_down(Anchor::now(*number, hash)).await {
                led.anchored = *number;
                self.metrics.audit_anchored(*number);
            }
        }
    }

    async fn write_down(&self, anchor: Anchor) -> bool {
        let anchors = self.anchors.clone();
        let written = tokio::task::spawn_blocking(move || anchors.add(&anchor)).await;
        let Err(error) = written.unwrap_or_else(|_| Err(std::io::ErrorKind::Interrupted.into())) else {
            return true;
        };
        self.metrics.audit_anchor_failed();
        tracing::error!(%error, "an anchor of the audit log could not be written");
        false
    }

    /// Deletes some rows that are past their time; whether there may be more. Where the chain begins then is written down before.
    pub(super) async fn prune(&self, led: &mut Leading) -> anyhow::Result<bool> {
        let kept_us = i64::try_from(self.kept.as_micros()).unwrap_or(i64::MAX);
        let before_us = now_us().saturating_sub(kept_us);
        let first = match &mut led.own {
            Some(connection) => audit_chain::first(connection, led.head.start_number, STEP).await?,
            None => {
                audit_chain::first(&mut self.readers.acquire().await?, led.head.start_number, STEP).await?
            }
        };
        let aged = first.iter().take_while(|(_, _, at_us)| *at_us < before_us).count();
        let Some((number, hash, _)) = first[..aged].last().copied() else { return Ok(false) };
        let proof = self.key.start(number, &hash);
        let anchor = Anchor { begins_behind: true, ..Anchor::now(number, &hash) };
        // Without it nobody could tell later that this was us.
        anyhow::ensure!(self.write_down(anchor).await, "nothing is deleted without an anchor");
        let mut head = led.head.clone();
        head.epoch = led.epoch;
        let began = match &mut led.own {
            Some(connection) => {
                connection.control(&[begin(connection.kind())]).await?;
                let began = begin_behind(connection, &head, number, &hash, &proof).await;
                let end = if matches!(began, Ok(true)) { COMMIT } else { ROLLBACK };
                connection.control(&[end]).await?;
                began?
            }
            None => {
                let write = self.committer.write(move |connection| {
                    Box::pin(async move { Ok(begin_behind(connection, &head, number, &hash, &proof).await?) })
                });
                write.await?
            }
        };
        if began {
            led.head.start_number = number;
            led.head.start_hash = hash;
            led.head.start_proof = Some(proof.to_vec());
            tracing::info!(
                rows = aged,
                number,
                "deleted the first rows of the audit log: they are past their time"
            );
        } else {
            self.look_at_head(led).await?;
        }
        Ok(began && i64::try_from(aged).is_ok_and(|aged| aged >= STEP))
    }
}

fn gone() -> anyhow::Error {
    anyhow::anyhow!("the head of the audit log is gone from the database")
}

async fn begin_behind(
    connection: &mut Connection,
    head: &Head,
    number: i64,
    hash: &Hash,
    proof: &Hash,
) -> sqlx::Result<bool> {
    if !audit_chain::begin_behind(connection, head, (number, hash), proof).await? {
        return Ok(false);
    }
    let who = Who::itself();
    let (before, after) = (json!({ "begins_behind": head.start_number }), json!({ "begins_behind": number }));
    let entry = audit::Entry::done(&who, "audit.prune", "audit").from_to(before, after);
    audit::write(connection, &entry).await.map(|()| true)
}

/// Up to which id nothing can come that is not read next.
async fn settled(connection: &mut Connection, settling: &mut Option<Settling>) -> sqlx::Result<Option<i64>> {
    let Some(of) = settling else { return Ok(None) };
    let now: BTreeSet<String> = audit_chain::writers(connection).await?.into_iter().collect();
    match &mut of.writers {
        None => of.writers = Some(now),
        Some(writers) => writers.retain(|writer| now.contains(writer)),
    }
    if of.writers.as_ref().is_some_and(|writers| !writers.is_empty()) {
        return Ok(None);
    }
    let id = of.id;
    *settling = None;
    Ok(Some(id))
}
