//! When tokens were last used: collected, and written down once in a while, so that a request waits for none of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::Authenticator;
use crate::commit::Committer;
use crate::stop::Stop;
use crate::store::batch::Batch;
use crate::store::{now_us, tokens};

/// How often it is written down.
const EVERY: Duration = Duration::from_secs(30);
/// Tokens that are collected in that time; of more it is not known when they were used.
const MOST: usize = 10_000;
/// So many are written down together.
const AT_ONCE: usize = 32;

/// Tokens that were used since it was last written down.
#[derive(Debug, Default)]
pub(crate) struct Used(Mutex<BTreeMap<Uuid, i64>>);

impl Used {
    /// One was used now.
    pub(super) fn note(&self, token: Uuid) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() < MOST || used.contains_key(&token) {
            used.insert(token, now_us());
        }
    }

    fn take(&self) -> BTreeMap<Uuid, i64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes it down until it is time to stop, and then once more.
pub(crate) async fn keep(authenticator: Arc<Authenticator>, committer: Committer, mut stop: Stop) {
    loop {
        let is_last = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        let used = authenticator.used.take();
        // In one order, as other control planes do, and few at once: changes of records go between.
        let used: Vec<(Uuid, i64)> = used.into_iter().collect();
        for some in used.chunks(AT_ONCE) {
            let some = some.to_vec();
            let write = committer.write(move |connection| {
                Box::pin(async move {
                    let mut batch = Batch::of(connection);
                    for (token, at_us) in some {
                        tokens::used(&mut batch, token, at_us);
                    }
                    Ok(batch.run(connection).await.map(|_| ())?)
                })
            });
            if let Err(problem) = write.await {
                tracing::debug!(%problem, "when tokens were used is not written down");
            }
        }
        if is_last {
            return;
        }
    }
}
