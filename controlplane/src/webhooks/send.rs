//! Sends what is due, by the process that gives sequences: those of one webhook one behind the other, and of one tenant a few at once,
//! so that nobody's servers keep others from being told. Whoever ends before it has written down what came of an attempt makes that
//! attempt again, and so does the next one to lead: under the same id.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinSet};
use uuid::Uuid;

use super::breaker::{self, Before, Next};
use super::{sign, turn_off};
use crate::commit::Committer;
use crate::egress::{AT_ONCE, Call, Egress, Outcome};
use crate::observe::metrics::{DeliveryOutcome, Metrics};
use crate::secrets::Vault;
use crate::stop::{Stop, stopped};
use crate::store::data_keys::WEBHOOKS;
use crate::store::webhooks::{self, ToSend, Tried};
use crate::store::{Connection, Pool, now_us};

/// How often it is looked for what is due.
const LOOK: Duration = Duration::from_millis(500);
/// The pause before what could not be written down is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Deliveries of one tenant that are sent at once.
const OF_A_TENANT: usize = 2;
/// Of all, those to servers that have failed: however many there are, others have room.
const DOUBTFUL: usize = AT_ONCE / 2;
/// Webhooks that are looked at, at once.
const PAGE: i64 = 128;
/// Pages of them, while there is room.
const PAGES: usize = 16;

/// See the module.
pub(crate) struct Sender {
    pub(crate) committer: Committer,
    pub(crate) readers: Pool,
    pub(crate) vault: Arc<Vault>,
    pub(crate) egress: Egress,
    /// The term in which this process gives sequences.
    pub(crate) term: watch::Receiver<Option<u64>>,
    pub(crate) woken: Arc<Notify>,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Stop,
}

/// A webhook that is sent something.
#[derive(Clone, Copy, Debug)]
struct Busy {
    webhook: Uuid,
    tenant: u32,
    is_doubtful: bool,
}

/// What came of it.
#[derive(Debug)]
struct Came {
    webhook: Uuid,
    /// `None`: there was nothing to send.
    delivery: Option<Uuid>,
    next: Next,
    at_us: i64,
}

/// All that are sent something now.
#[derive(Debug, Default)]
struct Sending {
    tasks: JoinSet<Came>,
    busy: HashMap<Id, Busy>,
}

impl Sending {
    fn has_room_for(&self, due: &webhooks::Due) -> bool {
        let busy = || self.busy.values();
        busy().all(|busy| busy.webhook != due.id)
            && busy().filter(|busy| busy.tenant == due.tenant).count() < OF_A_TENANT
            && (due.failures == 0 || busy().filter(|busy| busy.is_doubtful).count() < DOUBTFUL)
    }

    fn ended(&mut self, ended: Result<(Id, Came), JoinError>) -> Came {
        match ended {
            Ok((id, came)) => {
                self.busy.remove(&id);
                came
            }
            Err(error) => {
                tracing::error!(%error, "a delivery panicked");
                let webhook = self.busy.remove(&error.id()).map(|busy| busy.webhook).unwrap_or_default();
                nothing_known(webhook)
            }
        }
    }
}

/// It is tried again a moment later.
fn nothing_known(webhook: Uuid) -> Came {
    let next = Next::Again { rest: AGAIN };
    Came { webhook, delivery: None, next, at_us: now_us() }
}

impl Sender {
    /// Runs until it is told to stop; what is under way then is sent again by who goes on.
    pub(crate) async fn run(self) {
        let sender = Arc::new(self);
        let mut stop = std::pin::pin!(stopped(sender.stop.clone()));
        let mut sending = Sending::default();
        loop {
            if sender.term.borrow().is_some()
                && sending.tasks.len() < AT_ONCE
                && let Err(error) = sender.fill(&mut sending).await
            {
                tracing::debug!(%error, "what is due for webhooks could not be looked for");
            }
            tokio::select! {
                () = &mut stop => return,
                Some(ended) = sending.tasks.join_next_with_id(), if !sending.tasks.is_empty() => {
                    let mut came = vec![sending.ended(ended)];
                    while let Some(ended) = sending.tasks.try_join_next_with_id() {
                        came.push(sending.ended(ended));
                    }
                    tokio::select! {
                        () = &mut stop => return,
                        () = sender.settle(came) => {}
                    }
                }
                () = sender.woken.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Begins with what is due, as far as there is room.
    async fn fill(self: &Arc<Self>, sending: &mut Sending) -> sqlx::Result<()> {
        let (now, mut after) = (now_us(), (i64::MIN, Uuid::nil()));
        for _ in 0..PAGES {
            let due = webhooks::due(&mut self.readers.acquire().await?, now, after, PAGE).await?;
            let Some(last) = due.last() else { return Ok(()) };
            after = (last.due_at_us, last.id);
            let is_full = i64::try_from(due.len()).is_ok_and(|due| due >= PAGE);
            for one in due {
                if sending.tasks.len() >= AT_ONCE {
                    return Ok(());
                }
                if sending.has_room_for(&one) {
                    let webhook = one.id;
                    let task = sending.tasks.spawn(self.clone().attempt(webhook));
                    let busy = Busy { webhook, tenant: one.tenant, is_doubtful: one.failures > 0 };
                    sending.busy.insert(task.id(), busy);
                }
            }
            if !is_full {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn attempt(self: Arc<Self>, webhook: Uuid) -> Came {
        match self.taken(webhook).await {
            Ok(Some((to_send, secret))) => {
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
                Came { webhook, delivery: Some(delivery), next, at_us: now }
            }
            // Gone, or off, or all was sent: that is written down.
            Ok(None) => Came { next: Next::Again { rest: Duration::ZERO }, ..nothing_known(webhook) },
            Err(error) => {
                tracing::debug!(%error, "a delivery could not be read");
                nothing_known(webhook)
            }
        }
    }

    async fn taken(&self, webhook: Uuid) -> sqlx::Result<Option<(ToSend, Option<Vec<u8>>)>> {
        let mut connection = self.readers.acquire().await?;
        let Some(to_send) = webhooks::to_send(&mut connection, webhook).await? else { return Ok(None) };
        let row = webhook.to_string();
        let secret = self.vault.open(&mut connection, WEBHOOKS.name, &row, &to_send.secret).await?;
        Ok(Some((to_send, secret)))
    }

    /// Writes down what came of attempts, until that is done.
    async fn settle(&self, came: Vec<Came>) {
        let mut came = came;
        // Always in one order: who else holds several does so in the same.
        came.sort_unstable_by_key(|came| came.webhook);
        let came: Arc<[Came]> = came.into();
        loop {
            let writing = came.clone();
            let written = self.committer.write(move |connection| {
                Box::pin(async move {
                    for one in &*writing {
                        write(connection, one).await?;
                    }
                    Ok(())
                })
            });
            match written.await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, "what came of deliveries could not be written down; it is tried again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        for one in &*came {
            let outcome = match &one.next {
                Next::Done { .. } => DeliveryOutcome::Delivered,
                Next::Rest { is_given_up: false, .. } => DeliveryOutcome::Retried,
                Next::Rest { .. } => DeliveryOutcome::GivenUp,
                Next::Off { why, .. } => {
                    tracing::warn!(webhook = %one.webhook, why, "a webhook is turned off");
                    DeliveryOutcome::TurnedOff
                }
                Next::Again { .. } => continue,
            };
            self.metrics.delivered(outcome);
        }
    }
}

async fn write(connection: &mut Connection, came: &Came) -> sqlx::Result<()> {
    let Came { webhook, delivery, next, at_us } = came;
    let (webhook, at_us) = (*webhook, *at_us);
    webhooks::hold(connection, webhook).await?;
    let after = |rest: Duration| at_us.saturating_add(i64::try_from(rest.as_micros()).unwrap_or(i64::MAX));
    let tried = |delivery: Uuid, state, status, error, next_us| Tried {
        webhook,
        delivery,
        state,
        status,
        error,
        at_us,
        next_us,
    };
    match (next, *delivery) {
        (Next::Done { status }, Some(delivery)) => {
            webhooks::settle(connection, tried(delivery, "done", Some(*status), None, at_us)).await
        }
        (Next::Rest { status, error, rest, is_given_up }, Some(delivery)) => {
            let state = if *is_given_up { "failed" } else { "waiting" };
            webhooks::settle(connection, tried(delivery, state, *status, Some(error), after(*rest))).await
        }
        (Next::Off { status, error, why }, Some(delivery)) => {
            webhooks::settle(connection, tried(delivery, "waiting", *status, Some(error), at_us)).await?;
            turn_off(connection, webhook, at_us, why).await
        }
        (Next::Again { rest }, _) => webhooks::next(connection, webhook, after(*rest)).await,
        (_, None) => Ok(()),
    }
}
