//! Who gives sequences where several processes write to one database: the holder of a lease that ends by the database's
//! clock. Taking it raises the epoch, and every giving of sequences checks in its own transaction that the epoch is still
//! ours: one that was paused, and comes back when another has taken over, gives none.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::give::{self, Given};
use super::log::Log;
use super::shadow::Shadow;
use crate::observe::metrics::Metrics;
use crate::store::signals::{self, Signal};
use crate::store::{Connection, Place, changes, relay};

/// How long a lease holds when it is not renewed, and how often it is.
const LEASE: Duration = Duration::from_secs(3);
const RENEW: Duration = Duration::from_secs(1);
/// How often who has no lease asks for it.
const ASK: Duration = Duration::from_millis(500);
/// How often it is looked for what others have committed, or published, where they are not heard.
const LOOK: Duration = Duration::from_millis(20);
/// The pause before another connection is tried.
const AGAIN: Duration = Duration::from_millis(250);
/// See the module.
pub(crate) struct Relay {
    pub(crate) place: Place,
    pub(crate) log: Arc<Log>,
    /// Told when this process has committed something.
    pub(crate) woken: Arc<Notify>,
    pub(crate) metrics: Metrics,
    /// Judges change sets before they get their sequence.
    pub(crate) shadow: Shadow,
    /// Tells the term in which this process gives sequences; `None` while another one does.
    pub(crate) term: watch::Sender<Option<u64>>,
    /// Becomes true once nothing more is committed here.
    pub(crate) stop: watch::Receiver<bool>,
}

/// What other processes say, as far as it is heard.
#[derive(Default)]
struct Heard {
    committed: Notify,
    sequenced: Notify,
}

/// As long as it is renewed.
#[derive(Clone, Copy)]
struct Term {
    holder: Uuid,
    epoch: u64,
    lease_us: i64,
}

/// Why a term ended.
enum Ended {
    /// Another process has the lease.
    Deposed,
    /// Everything that was committed here has its sequence.
    Stopped,
}

impl Relay {
    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self) {
        let (holder, heard) = (Uuid::now_v7(), Arc::new(Heard::default()));
        let (place, told, mut stop) = (self.place.clone(), heard.clone(), self.stop.clone());
        let listening = tokio::spawn(async move {
            let wake = move |signal| match signal {
                Signal::Committed => told.committed.notify_one(),
                Signal::Sequenced => told.sequenced.notify_one(),
            };
            signals::listen(&place, wake, async { drop(stop.wait_for(|stop| *stop).await) }).await;
        });
        self.relay(holder, &heard).await;
        // It was told to stop as well.
        let _ = listening.await;
    }

    async fn relay(&mut self, holder: Uuid, heard: &Heard) {
        loop {
            let ended = self.connected(holder, heard).await;
            self.metrics.leader(false);
            self.term.send_replace(None);
            self.shadow.end();
            match ended {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "the relay lost the database; it connects again"),
            }
            if *self.stop.borrow() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn connected(&mut self, holder: Uuid, heard: &Heard) -> sqlx::Result<()> {
        let mut connection = self.place.connect().await?;
        let mut ask_at = Instant::now();
        loop {
            if Instant::now() >= ask_at {
                ask_at = Instant::now() + ASK;
                self.metrics.outbox(changes::unsequenced_up_to(&mut connection, i64::MAX).await?);
                let lease_us = i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX);
                if let Some(epoch) = relay::take_lease(&mut connection, holder, lease_us).await? {
                    let term = Term { holder, epoch, lease_us };
                    if let Ended::Stopped = self.lead(&mut connection, term, heard).await? {
                        return relay::end_lease(&mut connection, holder, epoch).await;
                    }
                    continue;
                }
            }
            self.log.refresh(&mut connection).await?;
            if *self.stop.borrow() {
                // Who has the lease publishes what was committed here.
                return Ok(());
            }
            if self.wait(&heard.sequenced).await {
                signals::tell(&mut connection, Signal::Committed).await?;
            }
        }
    }

    async fn lead(&mut self, connection: &mut Connection, term: Term, heard: &Heard) -> sqlx::Result<Ended> {
        let Term { holder, epoch, lease_us } = term;
        let mut renew_at = Instant::now() + RENEW;
        let mut is_told = false;
        tracing::info!(epoch, "this process gives sequences from now on");
        self.metrics.leader(true);
        self.log.refresh(connection).await?;
        self.shadow.begin(connection).await?;
        self.term.send_replace(Some(epoch));
        loop {
            let stopping = *self.stop.borrow();
            loop {
                let waiting = give::waiting(connection).await?;
                if waiting.is_empty() {
                    break;
                }
                let judging = self.shadow.judge(waiting);
                let Some(judged) = renewing(connection, term, &mut renew_at, judging).await? else {
                    return Ok(self.deposed(epoch));
                };
                match give::apart(connection, &self.log, epoch, &judged).await? {
                    Given::Some => self.shadow.given(&judged),
                    Given::Again => break,
                    Given::Deposed => return Ok(self.deposed(epoch)),
                    Given::Overtaken => {
                        self.metrics.leader(false);
                        if !std::mem::replace(&mut is_told, true) {
                            tracing::error!(
                                "nothing is published: a data plane has what this database never knew (an older copy was \
                                 restored). Start a new generation to make this database the truth all the same"
                            );
                        }
                        break;
                    }
                }
                if Instant::now() >= renew_at {
                    break;
                }
            }
            if stopping {
                return Ok(Ended::Stopped);
            }
            if Instant::now() >= renew_at {
                renew_at = Instant::now() + RENEW;
                self.metrics.outbox(changes::unsequenced_up_to(connection, i64::MAX).await?);
                if !relay::renew_lease(connection, holder, epoch, lease_us).await? {
                    return Ok(self.deposed(epoch));
                }
                if let Some(zone) = self.shadow.due() {
                    let judging = self.shadow.judge_zone(&zone);
                    let Some(passes) = renewing(connection, term, &mut renew_at, judging).await? else {
                        return Ok(self.deposed(epoch));
                    };
                    if passes {
                        if !give::lift(connection, epoch, &zone).await? {
                            return Ok(self.deposed(epoch));
                        }
                        self.shadow.lifted(&zone);
                    }
                }
            }
            self.wait(&heard.committed).await;
        }
    }

    fn deposed(&mut self, epoch: u64) -> Ended {
        tracing::warn!(epoch, "another process gives sequences: the lease had ended");
        self.metrics.leader(false);
        self.term.send_replace(None);
        self.shadow.end();
        Ended::Deposed
    }

    /// Whether this process has committed something.
    async fn wait(&mut self, elsewhere: &Notify) -> bool {
        tokio::select! {
            () = self.woken.notified() => return true,
            () = elsewhere.notified() => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        false
    }
}

/// Does work for which the lease may not last, and renews it all the while: another process would take as long. `None` when the term
/// ended meanwhile.
async fn renewing<T>(
    connection: &mut Connection,
    Term { holder, epoch, lease_us }: Term,
    renew_at: &mut Instant,
    work: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<Option<T>> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done.map(Some),
            () = tokio::time::sleep_until(*renew_at) => {
                *renew_at = Instant::now() + RENEW;
                if !relay::renew_lease(connection, holder, epoch, lease_us).await? {
                    return Ok(None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
