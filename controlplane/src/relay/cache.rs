//! The record cache: in Redis, each zone as one signed blob, and an index of zones, from which data planes on other machines
//! begin without asking the database.
//!
//! Only who gives sequences writes it. Index and head are one moment of the database at any time, as the index is that the
//! database itself gives: the terms of the index add up to the sum of the signed head, so that who has Redis can withhold and
//! delay, and never change anything. Both move on together, in one transaction of Redis that is given up where the head is not
//! the one that was left. It is read off the log, and off what waits to be in it, which zones have changed.
//!
//! - `place`: the keys, and writing only where nobody else has;
//! - `step`: from one place of the feed to a later one;
//! - `fill`: all of it anew, in parts;
//! - `look`: whether what is there is what was written.
//!
//! A zone is written whole whenever something in it changes: at most once a second, and with rests that leave it no more than a
//! twentieth of the time.

mod fill;
mod look;
pub(crate) mod place;
mod step;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use godwit_redis::{Connection, Timeouts};
use godwit_wire::feed::{CacheHead, DigestKey};
use tokio::time::Instant;

use super::log::{After, Log};
use super::signer::Signer;
use super::terms::{Holding, InTerms};
use crate::commit::Overtaken;
use crate::observe::metrics::Metrics;
use crate::store::Pool;
use look::Look;
use place::Keys;
use step::{At, Step};

/// The least time between two steps; and by how much it is longer than a step took, with its rests.
const EVERY: Duration = Duration::from_secs(1);
const REST: u32 = 2;
/// How often a step is tried while too much waits for a sequence, and the pause between.
const TRIES: u32 = 200;
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// See the module.
pub(crate) struct Cache {
    pub(crate) holding: Holding,
    pub(crate) keys: Keys,
    pub(crate) log: Arc<Log>,
    pub(crate) readers: Pool,
    pub(crate) digest_key: DigestKey,
    pub(crate) signer: Arc<Signer>,
    pub(crate) overtaken: Overtaken,
    pub(crate) metrics: Metrics,
}

/// Why writing stopped for now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Somebody else writes there.
    #[error("{0}")]
    Foreign(&'static str),
    #[error("the cache is of a later term")]
    LaterTerm,
    #[error("the cache has what this database does not know: it is an older copy")]
    Overtaken,
    #[error("the term is over")]
    TermOver,
}

impl InTerms for Cache {
    type Stopped = Stopped;
    const TIMEOUTS: Timeouts =
        Timeouts { connect: Duration::from_secs(4), response: Duration::from_secs(10) };

    fn holding(&self) -> &Holding {
        &self.holding
    }

    async fn during(&mut self, mut connection: Connection, epoch: u64) -> Stopped {
        match self.keep(&mut connection, epoch).await {
            Ok(never) => match never {},
            Err(stopped) => stopped,
        }
    }

    fn is_over(stopped: &Stopped) -> bool {
        matches!(stopped, Stopped::TermOver)
    }

    fn failed(&self, stopped: &Stopped) {
        self.metrics.cache_error();
        tracing::warn!(error = %stopped, "writing the record cache stopped; it is tried again");
    }
}

impl Cache {
    /// Keeps the cache until something is wrong, or the term is over.
    async fn keep(
        &mut self,
        connection: &mut Connection,
        epoch: u64,
    ) -> Result<std::convert::Infallible, Stopped> {
        let mut at = self.settle(connection, epoch).await?;
        let mut damaged = BTreeSet::new();
        let mut look = Look::new();
        let mut watched = self.log.watch();
        loop {
            let began = Instant::now();
            watched.mark_unchanged();
            if place::head(connection, &self.keys).await? != at.left {
                tracing::warn!("the record cache is not what was left there");
                self.metrics.cache_error();
                at = self.settle(connection, epoch).await?;
            }
            if self.log.end().sequence != at.sequence || !damaged.is_empty() {
                at = self.move_on(connection, epoch, at, &damaged).await?;
                damaged.clear();
            }
            self.metrics.cached(at.sequence);
            let mut next = Instant::now() + EVERY.max(began.elapsed() * REST);
            damaged = self.look(connection, epoch, &mut at, &mut look).await?;
            // Nothing changed: it is looked all the same whether it is still there.
            if !damaged.is_empty() {
                next = Instant::now();
            }
            let over = self.holding.term.wait_for(|term| *term != Some(epoch));
            if tokio::time::timeout_at(next, over).await.is_ok() {
                return Err(Stopped::TermOver);
            }
        }
    }

    /// To the present; where single steps do not lead there, all of it anew.
    async fn move_on(
        &mut self,
        connection: &mut Connection,
        epoch: u64,
        at: At,
        besides: &BTreeSet<godwit_wire::name::Name>,
    ) -> Result<At, Stopped> {
        for _ in 0..TRIES {
            self.in_term(epoch)?;
            match self.step(connection, &self.keys.index, &at, besides).await? {
                Step::Done(at) => return Ok(at),
                Step::NotNow => tokio::time::sleep(TRY_AGAIN).await,
                Step::Anew(why) => {
                    tracing::info!(why, "the record cache is filled anew");
                    return self.fill(connection, epoch, at.left).await;
                }
            }
        }
        // What is there is older, and true.
        Ok(at)
    }

    /// Where the cache stands, made to be a place of our log.
    async fn settle(&mut self, connection: &mut Connection, epoch: u64) -> Result<At, Stopped> {
        let left = place::head(connection, &self.keys).await?;
        let Some(CacheHead { place: head, sum }) = place::signed(&left, self.signer.now().trusted()) else {
            return self.fill(connection, epoch, left).await;
        };
        let mut end = self.log.end();
        if (head.generation, head.epoch, head.settled) > (end.generation, end.epoch, end.sequence) {
            self.log.refresh(&mut self.readers.acquire().await?).await?;
            end = self.log.end();
        }
        if head.generation > end.generation
            || (head.generation == end.generation && head.settled > end.sequence)
        {
            // Signed by us, so it was ours: this database has lost it.
            self.overtaken.found(head.settled);
            return Err(Stopped::Overtaken);
        }
        if head.generation == end.generation && head.epoch > epoch {
            return Err(Stopped::LaterTerm);
        }
        let acquire = async || self.readers.acquire().await;
        let is_ours = head.generation == end.generation
            && matches!(self.log.after(acquire, head.sequence, head.chain, 1).await?, After::Batches(_));
        if is_ours && self.sum(connection).await? == Some(sum) {
            tracing::info!(sequence = head.sequence, "the record cache is as it was left");
            let (generation, sequence, chain) = (head.generation, head.sequence, head.chain);
            return Ok(At { generation, sequence, chain, sum, left });
        }
        self.fill(connection, epoch, left).await
    }

    fn in_term(&self, epoch: u64) -> Result<(), Stopped> {
        if *self.holding.term.borrow() == Some(epoch) { Ok(()) } else { Err(Stopped::TermOver) }
    }
}

#[cfg(test)]
mod tests;
