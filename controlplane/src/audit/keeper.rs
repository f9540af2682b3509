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

use super::ChainKey;
use super::anchors::{Anchor, Anchors};
use crate::commit::{COMMIT, Committer, ROLLBACK, begin};
use crate::hex;
use crate::observe::metrics::Metrics;
use crate::stop::{Stop, is_over};
use crate::store::audit::{self, Audited, Who};
use crate::store::audit_chain::{self, Hash, Head};
use crate::store::{Connection, Kind, Place, Pool, now_us};

/// How often it is looked for what was written.
pub(crate) const LOOK: Duration = Duration::from_millis(300);
/// How often the head is written down outside of the database.
pub(crate) const ANCHOR: Duration = Duration::from_secs(60);
/// Rows that are chained, or deleted, at once.
pub(super) const STEP: i64 = 500;
/// So often this is done before it is looked whether it is time to stop, or somebody else's term.
pub(super) const STEPS: u32 = 20;
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
    pass: Option<Pass>,
    anchored: i64,
    anchor_at: Instant,
    prune_at: Instant,
}

/// An id that was seen, and who held a lock after that and has not ended.
struct Settling {
    id: i64,
    writers: Option<BTreeSet<String>>,
}

/// Rows are gone through in the order of their ids; where that stands, and what is settled at its end.
struct Pass {
    after: i64,
    settled_id: Option<i64>,
}

impl Keeper {
    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self) {
        let mut leading: Option<Leading> = None;
        let mut stop = self.stop.clone();
        loop {
            let is_last = is_over(&stop);
            let term = *self.term.borrow_and_update();
            let pause = match self.round(&mut leading, term).await {
                Ok(true) => Duration::ZERO,
                Ok(false) => self.look,
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

    /// Whether there is more to be chained at once.
    async fn round(&self, leading: &mut Option<Leading>, term: Option<u64>) -> anyhow::Result<bool> {
        let Some(epoch) = term.and_then(|epoch| i64::try_from(epoch).ok()) else {
            *leading = None;
            return Ok(false);
        };
        let mut led = match leading.take().filter(|leading| leading.epoch == epoch) {
            Some(led) => led,
            None => self.begin(epoch).await?,
        };
        let is_more = self.step(&mut led).await?;
        if Instant::now() >= led.anchor_at {
            led.anchor_at = Instant::now() + self.anchor;
            self.look_at_head(&mut led).await?;
            self.anchor(&mut led).await;
        }
        if Instant::now() >= led.prune_at {
            let is_aged = self.prune(&mut led).await?;
            led.prune_at = Instant::now() + if is_aged { PRUNE_AGAIN } else { ANCHOR };
        }
        *leading = Some(led);
        Ok(is_more)
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
            pass: None,
            anchored,
            anchor_at: now + self.anchor,
            prune_at: now,
        })
    }

    /// Chains what was written until now, or the first of it; whether there is more.
    pub(super) async fn step(&self, led: &mut Leading) -> anyhow::Result<bool> {
        let mut pass = match led.pass.take() {
            Some(pass) => pass,
            None => {
                // Before the rows are read: what ends in between is read with them.
                let settled_id = match &mut led.own {
                    Some(connection) => settled(connection, &mut led.settling).await?,
                    None => None,
                };
                Pass { after: led.head.settled_id, settled_id }
            }
        };
        let mut is_over = false;
        for _ in 0..STEPS {
            let from = &led.head;
            let rows = match &mut led.own {
                Some(connection) => audit_chain::unchained(connection, pass.after, STEP).await?,
                None => {
                    let mut reading = self.readers.acquire().await?;
                    audit_chain::unchained(&mut reading, pass.after, STEP).await?
                }
            };
            is_over = i64::try_from(rows.len()).is_ok_and(|rows| rows < STEP);
            let Some((last_id, _)) = rows.last() else { break };
            pass.after = *last_id;
            led.seen_id = led.seen_id.max(*last_id);
            let mut to = Head { epoch: led.epoch, ..from.clone() };
            if led.own.is_none() {
                to.settled_id = *last_id;
            }
            let (mut added, mut first_us) = (Vec::<(i64, Hash)>::with_capacity(rows.len()), now_us());
            for (id, row) in &rows {
                // It stays beside the chain, where it is found; what comes behind it does not wait for it.
                let Some(row) = row else {
                    self.fault(*id, "a row that is not chained holds what no row of ours does");
                    continue;
                };
                first_us = first_us.min(row.at_us);
                to.number += 1;
                to.hash = self.key.row(&to.hash, to.number, row);
                added.push((*id, to.hash));
            }
            let waited_us = now_us().saturating_sub(first_us);
            self.metrics.audit_waits(Duration::from_micros(u64::try_from(waited_us).unwrap_or(0)));
            if !self.go_on(led, to, added).await? {
                return Ok(false);
            }
            self.metrics.audit_chained(led.head.number);
            if is_over {
                break;
            }
        }
        if !is_over {
            led.pass = Some(pass);
            return Ok(true);
        }
        self.metrics.audit_waits(Duration::ZERO);
        self.metrics.audit_chained(led.head.number);
        if let Some(id) = pass.settled_id {
            led.head.settled_id = id;
        }
        if led.own.is_some() && led.settling.is_none() && led.seen_id > led.head.settled_id {
            led.settling = Some(Settling { id: led.seen_id, writers: None });
        }
        Ok(false)
    }

    /// Says that something is other than it was written.
    fn fault(&self, at: i64, what: &'static str) {
        self.metrics.audit_fault();
        tracing::error!(at, what, "THE AUDIT LOG IS NOT AS IT WAS WRITTEN; godwit audit verify says more");
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
        if found.number != led.head.number || found.hash != led.head.hash {
            led.pass = None;
        }
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
            tracing::info!(number, hash = hex::encoded(hash), "audit anchor");
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
    /// When a row was written is believed as far as its hash says so: who can write to the database has no row go before its time.
    pub(super) async fn prune(&self, led: &mut Leading) -> anyhow::Result<bool> {
        let kept_us = i64::try_from(self.kept.as_micros()).unwrap_or(i64::MAX);
        let before_us = now_us().saturating_sub(kept_us);
        let Head { start_number, start_hash, start_proof, .. } = &led.head;
        if !self.key.is_start(*start_number, start_hash, start_proof.as_deref()) {
            self.fault(
                *start_number,
                "nothing vouches for where the chain is said to begin: nothing is deleted",
            );
            return Ok(false);
        }
        let first = match &mut led.own {
            Some(connection) => audit_chain::chained(connection, *start_number, STEP).await?,
            None => audit_chain::chained(&mut self.readers.acquire().await?, *start_number, STEP).await?,
        };
        let (mut number, mut hash, mut aged) = (*start_number, *start_hash, 0);
        for one in &first {
            let is_next =
                |row: &&Audited| one.number == number + 1 && self.key.row(&hash, one.number, row) == one.hash;
            let Some(row) = one.row.as_ref().filter(is_next) else {
                self.fault(number + 1, "a row is altered, or gone: nothing is deleted");
                return Ok(false);
            };
            if row.at_us >= before_us {
                break;
            }
            (number, hash, aged) = (one.number, one.hash, aged + 1);
        }
        if aged == 0 {
            return Ok(false);
        }
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
        Ok(began && aged >= STEP)
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
