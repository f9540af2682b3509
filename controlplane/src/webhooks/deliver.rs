//! Sends what waits for a webhook, one delivery behind the other, as jobs of which each webhook has one at a time; of one tenant a few are
//! done at once, so that nobody's servers keep others from being told. Whoever ends before it has written down what came of an attempt
//! makes that attempt again, and so does who takes the job over: under the same id.
//!
//! A job ends in the transaction that settles its last delivery, behind the row of the webhook: whoever adds one holds that row, so
//! there is either the job to find it or room for another job.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::breaker::{self, Before, Next};
use super::{sign, turn_off};
use crate::commit::Committer;
use crate::egress::{AT_ONCE, Call, Egress, Outcome};
use crate::error::Problem;
use crate::jobs::{Claimed, Failure, Kind, Kinds, Lane, Lease, Settling, Work};
use crate::observe::metrics::{DeliveryOutcome, JobOutcome, Metrics};
use crate::secrets::Vault;
use crate::store::batch::Batch;
use crate::store::data_keys::WEBHOOKS;
use crate::store::jobs::{self, End, New};
use crate::store::webhooks::{self, ToSend, Tried};
use crate::store::{Connection, Pool, now_us};

/// As jobs name it.
pub(crate) const KIND: &str = "webhook.deliver";
/// The pause before what could not be written down is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a job goes on with one delivery behind the other before it lets others go first.
const TURN: Duration = Duration::from_secs(5);
/// How long a job of a tenant that is suspended waits: when it is not any more it is done at once.
const SUSPENDED: Duration = Duration::from_secs(600);
/// Of an attempt that rests for an hour, more than in the three days for which a webhook may fail.
const MOST_ATTEMPTS: u32 = 1_000;
/// Deliveries of one tenant that are sent at once.
const OF_A_TENANT: usize = 2;
/// Of all, those to servers that have failed: however many there are, others have room.
const DOUBTFUL: usize = AT_ONCE / 2;

/// Payload of a job.
#[derive(Debug, Deserialize)]
struct Payload {
    webhook: Uuid,
}

/// The one job of a webhook that is not ended.
pub(super) fn once(webhook: Uuid) -> String {
    format!("{KIND} {webhook}")
}

/// Adds the job that sends what waits for a webhook, where there is none, in a transaction that holds it. `tenant`: 0 for the operator.
pub(super) fn enqueue(batch: &mut Batch, webhook: Uuid, tenant: u32) {
    // To the letter what the database lets tenants add.
    let payload = format!("{{\"webhook\":\"{webhook}\"}}");
    let new = New {
        once: Some(once(webhook)),
        tenant: Some(tenant).filter(|tenant| *tenant > 0),
        max_attempts: MOST_ATTEMPTS,
        ..New::plain(KIND, payload)
    };
    jobs::enqueue(batch, &new);
}

/// Does jobs of the kind.
pub(crate) struct Deliver {
    pub(crate) committer: Committer,
    pub(crate) readers: Pool,
    pub(crate) vault: Arc<Vault>,
    pub(crate) egress: Egress,
    pub(crate) metrics: Metrics,
}

/// What came of looking for something to send.
#[derive(Debug)]
enum Came {
    /// There was nothing.
    Nothing,
    /// Not now.
    Suspended,
    Tried {
        delivery: Uuid,
        next: Next,
        at_us: i64,
    },
}

/// How a job goes on.
#[derive(Clone, Copy, Debug)]
enum Then {
    GoesOn,
    Ends(JobOutcome),
}

impl Kind for Deliver {
    fn name(&self) -> &'static str {
        KIND
    }

    fn run<'a>(&'a self, job: &'a Claimed, lease: &'a Lease) -> Work<'a> {
        Box::pin(async move {
            let Payload { webhook } = job.payload()?;
            let until = Instant::now() + TURN;
            loop {
                let came = Arc::new(self.attempt(webhook).await?);
                let then = self.settle(lease, webhook, &came, until).await?;
                self.count(webhook, &came);
                match then {
                    Then::GoesOn => lease.goes_on(),
                    Then::Ends(outcome) => {
                        lease.settled(outcome);
                        return Ok(());
                    }
                }
            }
        })
    }
}

impl Deliver {
    /// Beside all else that is to be done: servers of others keep no mail waiting.
    pub(crate) fn lane(self, at_once: usize) -> Lane {
        let kinds = Kinds::default().with(self);
        Lane { kinds, at_once, of_a_tenant: OF_A_TENANT, doubtful: DOUBTFUL }
    }

    async fn attempt(&self, webhook: Uuid) -> Result<Came, Problem> {
        let mut connection = self.readers.acquire().await?;
        let Some(to_send) = webhooks::to_send(&mut connection, webhook).await? else {
            return Ok(Came::Nothing);
        };
        if to_send.is_suspended {
            return Ok(Came::Suspended);
        }
        let row = webhook.to_string();
        let secret = self.vault.open(&mut connection, WEBHOOKS.name, &row, &to_send.secret).await?;
        drop(connection);
        let at_us = now_us();
        let outcome = match secret {
            None => Outcome::Refused("its secret cannot be opened".to_owned()),
            Some(secret) => {
                let (url, body) = (to_send.url, to_send.body);
                let headers = sign::headers(&secret, to_send.delivery, at_us / 1_000_000, &body);
                self.egress.call(Call { url, headers, body }).await
            }
        };
        let ToSend { delivery, attempts, failures, failing_since_us, .. } = to_send;
        let now = now_us();
        let before = Before { attempts, failures, failing_since_us, now_us: now };
        let next = breaker::judge(before, outcome, getrandom::u32().unwrap_or(u32::MAX / 2));
        Ok(Came::Tried { delivery, next, at_us: now })
    }

    /// Writes down what came of an attempt, until that is done or the job is somebody else's.
    async fn settle(
        &self,
        lease: &Lease,
        webhook: Uuid,
        came: &Arc<Came>,
        until: Instant,
    ) -> Result<Then, Failure> {
        loop {
            let (came, settling) = (came.clone(), lease.settle());
            let written = self.committer.write(move |connection| {
                Box::pin(async move { write(connection, webhook, &came, settling, until).await })
            });
            match written.await {
                Ok(then) => return Ok(then),
                Err(problem) if problem.is_open() => {
                    tracing::warn!(error = %problem, "what came of a delivery could not be written down; it is tried again");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(problem) => {
                    lease.goes_on();
                    return Err(problem.into());
                }
            }
        }
    }

    fn count(&self, webhook: Uuid, came: &Came) {
        let Came::Tried { next, .. } = came else { return };
        let outcome = match next {
            Next::Done { .. } => DeliveryOutcome::Delivered,
            Next::Rest { is_given_up: false, .. } => DeliveryOutcome::Retried,
            Next::Rest { .. } => DeliveryOutcome::GivenUp,
            Next::Off { why, .. } => {
                tracing::warn!(%webhook, why, "a webhook is turned off");
                DeliveryOutcome::TurnedOff
            }
            Next::Again { .. } => return,
        };
        self.metrics.delivered(outcome);
    }
}

/// Of a webhook that it holds from here on; the job comes behind that, as with whoever adds one.
async fn write(
    connection: &mut Connection,
    webhook: Uuid,
    came: &Came,
    settling: Settling,
    until: Instant,
) -> Result<Then, Problem> {
    webhooks::hold(connection, webhook).await?;
    let mut rested = None;
    match came {
        Came::Nothing => {}
        Came::Suspended => {
            settling.end(connection, End::Later { after: SUSPENDED }).await?;
            return Ok(Then::Ends(JobOutcome::Released));
        }
        Came::Tried { delivery, next, at_us } => {
            let (delivery, at_us) = (*delivery, *at_us);
            let tried = |state, status, error| Tried { webhook, delivery, state, status, error, at_us };
            match next {
                Next::Done { status } => {
                    webhooks::settle(connection, tried("done", Some(*status), None)).await?;
                }
                Next::Rest { status, error, rest, is_given_up } => {
                    let state = if *is_given_up { "failed" } else { "waiting" };
                    webhooks::settle(connection, tried(state, *status, Some(error))).await?;
                    rested = Some((error.as_str(), *rest));
                }
                Next::Off { status, error, why } => {
                    webhooks::settle(connection, tried("waiting", *status, Some(error))).await?;
                    turn_off(connection, webhook, at_us, why).await?;
                }
                Next::Again { rest } => {
                    settling.end(connection, End::Later { after: *rest }).await?;
                    return Ok(Then::Ends(JobOutcome::Released));
                }
            }
        }
    }
    if !webhooks::is_waiting(connection, webhook).await? {
        settling.end(connection, End::Done).await?;
        return Ok(Then::Ends(JobOutcome::Done));
    }
    if let Some((error, after)) = rested {
        settling.end(connection, End::Again { error, after }).await?;
        return Ok(Then::Ends(JobOutcome::Retried));
    }
    if Instant::now() >= until {
        settling.end(connection, End::Next { error: None, after: Duration::ZERO }).await?;
        return Ok(Then::Ends(JobOutcome::Released));
    }
    settling.hold(connection).await?;
    Ok(Then::GoesOn)
}
