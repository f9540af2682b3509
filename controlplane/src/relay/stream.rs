//! The log on a Redis stream, from which data planes on other machines are told of changes within milliseconds.
//!
//! Only who gives sequences publishes. The id of an entry is `epoch-lastsequence`: Redis itself refuses a repetition, and
//! one whose term is over as soon as the next has published. What it says is not relied on: every entry is signed, and what
//! stands at the end of the stream is compared with our own log before anything is put behind it, at the start of a term,
//! after every error, and every second. A stream that was emptied, restored from an older copy, or written to by somebody
//! else is put right from the log; data planes check what they read for themselves.
//!
//! The stream keeps what is not older than a minute and what a data plane that lives has not applied yet, as far as this process
//! has it in memory. Who is further behind finds the gap and asks the control plane.

use std::sync::Arc;
use std::time::Duration;

use godwit_redis::{Connection, Timeouts};
use godwit_wire::feed::Batch;
use redis::{Pipeline, Value};
use tokio::time::Instant;

use super::log::{After, Log};
use super::signer::Signer;
use super::terms::{Holding, InTerms};
use crate::commit::Overtaken;
use crate::observe::metrics::Metrics;
use crate::store::relay::FeedState;
use crate::store::{Pool, now_us};

/// Field of an entry that holds the batch.
pub(crate) const BATCH: &str = "b";
/// How often a head is published and the end of the stream looked at.
const TICK: Duration = Duration::from_secs(1);
/// A head comes after so many change sets at the latest.
const HEAD_AFTER: u64 = 1_000;
/// Octets of batches that go out together.
const TOGETHER: usize = 1 << 20;
/// So long a batch stays, also when all that live have applied it: a node that is started again goes on from there.
pub(crate) const STAYS: Duration = Duration::from_secs(60);

/// Where in Redis the feed is. The braces keep both on one node of a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Keys {
    /// Of the stream.
    pub(crate) stream: String,
    /// Of the latest head.
    pub(crate) head: String,
}

impl Keys {
    pub(crate) fn with_prefix(prefix: &str) -> Keys {
        Keys { stream: format!("{prefix}{{feed}}:stream"), head: format!("{prefix}{{feed}}:head") }
    }
}

/// See the module.
pub(crate) struct Publisher {
    pub(crate) holding: Holding,
    pub(crate) keys: Keys,
    pub(crate) log: Arc<Log>,
    pub(crate) readers: Pool,
    pub(crate) signer: Arc<Signer>,
    pub(crate) overtaken: Overtaken,
    pub(crate) applied: AppliedByAll,
    /// See [`STAYS`].
    pub(crate) stays: Duration,
    pub(crate) metrics: Metrics,
}

/// Up to which sequence of a generation all data planes that live have applied the feed; `None` where none lives.
pub(crate) type AppliedByAll = Box<dyn Fn(u64) -> Option<u64> + Send + Sync>;

/// Why publishing stopped for now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the stream has entries of a later term")]
    LaterTerm,
    #[error("the stream has what this database does not know: it is an older copy")]
    Overtaken,
    #[error("the term is over")]
    TermOver,
}

/// How far the stream has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct At {
    sequence: u64,
    chain: [u8; 32],
}

/// What stands at the end of a stream.
enum End {
    Empty,
    /// One of ours.
    At(At),
    /// Nothing that we have published, or of an earlier history.
    Foreign(&'static str),
}

impl InTerms for Publisher {
    type Stopped = Stopped;
    const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(4), response: Duration::from_secs(2) };

    fn holding(&self) -> &Holding {
        &self.holding
    }

    fn during(&mut self, connection: Connection, epoch: u64) -> impl Future<Output = Stopped> + Send {
        self.publish(connection, epoch)
    }

    fn is_over(stopped: &Stopped) -> bool {
        matches!(stopped, Stopped::TermOver)
    }

    fn failed(&self, stopped: &Stopped) {
        self.metrics.stream_error();
        tracing::warn!(error = %stopped, "publishing to Redis stopped; it is tried again");
    }
}

impl Publisher {
    /// Until something is wrong, or the term is over.
    async fn publish(&mut self, mut connection: Connection, epoch: u64) -> Stopped {
        let mut watched = self.log.watch();
        let mut at = match self.settle(&mut connection, epoch).await {
            Ok(at) => at,
            Err(stopped) => return stopped,
        };
        tracing::info!(epoch, sequence = at.sequence, "publishing to Redis from here on");
        let (mut head_at, mut tick) = (at.sequence, Instant::now());
        loop {
            if *self.holding.term.borrow() != Some(epoch) {
                return Stopped::TermOver;
            }
            watched.mark_unchanged();
            let done = async {
                at = self.send(&mut connection, epoch, at).await?;
                self.metrics.streamed(at.sequence);
                if Instant::now() >= tick || at.sequence >= head_at + HEAD_AFTER {
                    self.send_head(&mut connection).await?;
                    head_at = at.sequence;
                }
                if Instant::now() >= tick {
                    tick = Instant::now() + TICK;
                    at = self.look(&mut connection, epoch, at).await?;
                }
                Ok::<(), Stopped>(())
            };
            if let Err(stopped) = done.await {
                return stopped;
            }
            if self.log.end().sequence > at.sequence {
                continue;
            }
            tokio::select! {
                _ = watched.changed() => {}
                _ = self.holding.term.wait_for(|term| *term != Some(epoch)) => {}
                () = tokio::time::sleep_until(tick) => {}
            }
        }
    }

    /// Where the stream stands, made to be a place of our log.
    async fn settle(&self, connection: &mut Connection, epoch: u64) -> Result<At, Stopped> {
        let (sequence, chain) = self.log.begin();
        let begin = At { sequence, chain };
        match self.end(connection, epoch).await? {
            End::Empty => Ok(begin),
            End::At(at) => match self.after(at, 1).await? {
                After::Batches(_) => Ok(at),
                // More is missing than is kept: who reads it finds the gap.
                After::Gone => Ok(begin),
                After::Forked => {
                    self.overtaken.found(at.sequence.max(self.log.end().sequence + 1));
                    Err(Stopped::Overtaken)
                }
            },
            End::Foreign(what) => {
                tracing::error!(stream = self.keys.stream, what, "THE STREAM IS NOT OURS; it is begun anew");
                redis::cmd("DEL").arg(&self.keys.stream).exec_async(connection).await?;
                Ok(begin)
            }
        }
    }

    /// What stands at the end of the stream.
    async fn end(&self, connection: &mut Connection, epoch: u64) -> Result<End, Stopped> {
        let Some((id, octets)) = last(connection, &self.keys.stream).await? else { return Ok(End::Empty) };
        let Some(octets) = octets else { return Ok(End::Foreign("an entry without a batch")) };
        if Batch::verify(&octets, self.signer.now().trusted()).is_err() {
            return Ok(End::Foreign("an entry that we have not signed"));
        }
        let Ok(batch) = Batch::decode(&octets) else { return Ok(End::Foreign("no batch")) };
        let state = self.log.end();
        if batch.generation < state.generation {
            return Ok(End::Foreign("an entry of an earlier history"));
        }
        let sequence = batch.last_sequence();
        if batch.generation > state.generation || sequence > state.sequence {
            self.log.refresh(&mut self.readers.acquire().await?).await?;
        }
        let FeedState { generation, sequence: known, .. } = self.log.end();
        if batch.generation > generation || sequence > known {
            // Signed by us, so it was ours: this database has lost it.
            self.overtaken.found(sequence);
            return Err(Stopped::Overtaken);
        }
        match id.split_once('-').map(|(term, last)| (term.parse::<u64>(), last.parse::<u64>())) {
            Some((Ok(term), _)) if term > epoch => {
                // The database says whose term it is, not Redis.
                self.log.refresh(&mut self.readers.acquire().await?).await?;
                let is_over = self.log.end().epoch > epoch;
                return if is_over {
                    Err(Stopped::LaterTerm)
                } else {
                    Ok(End::Foreign("a term that never was"))
                };
            }
            Some((Ok(_), Ok(last))) if last == sequence => {}
            _ => return Ok(End::Foreign("an entry under another id")),
        }
        Ok(End::At(At { sequence, chain: batch.chain() }))
    }

    /// Sends what comes after `at`.
    async fn send(&self, connection: &mut Connection, epoch: u64, mut at: At) -> Result<At, Stopped> {
        loop {
            let made = match self.after(at, TOGETHER).await? {
                After::Batches(made) if made.is_empty() => return Ok(at),
                After::Batches(made) => made,
                After::Gone | After::Forked => return self.settle(connection, epoch).await,
            };
            let (mut pipeline, signing) = (Pipeline::new(), self.signer.now());
            for batch in made {
                at = At { sequence: batch.entry.last_sequence, chain: batch.entry.chain };
                let id = format!("{epoch}-{}", at.sequence);
                let octets = signing.batch(&batch);
                pipeline.cmd("XADD").arg(&self.keys.stream).arg(id).arg(BATCH).arg(&octets[..]).ignore();
            }
            pipeline.exec_async(connection).await?;
        }
    }

    async fn send_head(&self, connection: &mut Connection) -> Result<(), Stopped> {
        let mut octets = Vec::new();
        self.log.head().encode_signed(self.signer.now().key(), &mut octets);
        Ok(redis::cmd("SET").arg(&self.keys.head).arg(octets).exec_async(connection).await?)
    }

    /// Whether the stream still ends where we left it; and forgets there what nobody needs, and what we have forgotten.
    async fn look(&self, connection: &mut Connection, epoch: u64, at: At) -> Result<At, Stopped> {
        let applied = (self.applied)(self.log.end().generation).unwrap_or(0);
        let stays = i64::try_from(self.stays.as_micros()).unwrap_or(i64::MAX);
        if let Some((epoch, sequence)) = self.log.oldest(applied, now_us().saturating_sub(stays)) {
            let oldest = format!("{epoch}-{sequence}");
            redis::cmd("XTRIM")
                .arg(&self.keys.stream)
                .arg("MINID")
                .arg("~")
                .arg(oldest)
                .exec_async(connection)
                .await?;
        }
        match self.end(connection, epoch).await? {
            End::At(end) if end == at => Ok(at),
            // Nothing was published since the stream began.
            End::Empty if self.log.begin() == (at.sequence, at.chain) => Ok(at),
            _ => {
                tracing::warn!(sequence = at.sequence, "the stream does not end where it was left");
                self.metrics.stream_error();
                self.settle(connection, epoch).await
            }
        }
    }

    async fn after(&self, at: At, octets: usize) -> Result<After, Stopped> {
        let connection = async || self.readers.acquire().await;
        Ok(self.log.after(connection, at.sequence, at.chain, octets).await?)
    }
}

/// Id and batch of the last entry of a stream; `None` when it has none. An entry of another form has no batch.
async fn last(
    connection: &mut Connection,
    stream: &str,
) -> redis::RedisResult<Option<(String, Option<Vec<u8>>)>> {
    let range: Vec<(String, Value)> = redis::cmd("XREVRANGE")
        .arg(stream)
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(1)
        .query_async(connection)
        .await?;
    let Some((id, fields)) = range.into_iter().next() else { return Ok(None) };
    let fields: Vec<Vec<u8>> = redis::from_redis_value(fields).unwrap_or_default();
    let batch = match fields.as_slice() {
        [name, octets] if name == BATCH.as_bytes() => Some(octets.clone()),
        _ => None,
    };
    Ok(Some((id, batch)))
}

#[cfg(test)]
mod tests;
