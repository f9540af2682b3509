//! What is good no more, heard of from the database: every control plane asks twice a second, so that a revocation holds
//! everywhere within a second, whatever else has failed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::Authenticator;
use crate::stop::Stop;
use crate::store::revocations::Revoked;
use crate::store::{Pool, now_us, revocations};

/// How often is asked.
const EVERY: Duration = Duration::from_millis(400);
/// How far back, each time: what was committed late, by a clock that is behind, is heard of all the same, and what somebody had
/// read a moment before and kept a moment after it was revoked is forgotten the next time.
const BACK_US: i64 = 60_000_000;

/// Tokens that are refused until they expire.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<(Uuid, String), i64>>);

impl Tokens {
    /// Whether one is refused.
    pub(super) fn contains(&self, account: Uuid, jti: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&(account, jti.to_owned()))
    }

    /// Refuses one until a time.
    pub(super) fn add(&self, account: Uuid, jti: &str, until_us: i64) {
        if until_us > now_us() {
            let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.insert((account, jti.to_owned()), until_us);
        }
    }

    /// Forgets those that have expired.
    pub(super) fn sweep(&self) {
        let now = now_us();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, until| *until > now);
    }
}

/// Hears of what was revoked until it is time to stop.
pub(crate) struct Listener {
    pub(crate) readers: Pool,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) stop: Stop,
}

impl Listener {
    /// See the type.
    pub(crate) async fn run(mut self) {
        let mut asked = tokio::time::interval(EVERY);
        asked.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard_at_us = now_us();
        let mut known = HashSet::new();
        loop {
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => return,
                _ = asked.tick() => {}
            }
            let now = now_us();
            // Also all that was said while the database was away.
            match self.hear(heard_at_us.min(now).saturating_sub(BACK_US), &mut known).await {
                Ok(()) => heard_at_us = now,
                Err(error) => tracing::warn!(%error, "what was revoked could not be asked for"),
            }
        }
    }

    /// `known`: what was heard before, and until when it is told.
    async fn hear(&self, since_us: i64, known: &mut HashSet<(Revoked, i64)>) -> sqlx::Result<()> {
        let mut connection = self.readers.acquire().await?;
        let heard = revocations::since(&mut connection, since_us).await?;
        drop(connection);
        self.authenticator.sweep();
        let mut news = Vec::new();
        let mut now_known = HashSet::with_capacity(heard.len());
        for (revoked, until_us) in heard {
            self.authenticator.heard(&revoked, until_us);
            if !known.contains(&(revoked.clone(), until_us)) {
                news.push(revoked.clone());
            }
            now_known.insert((revoked, until_us));
        }
        *known = now_known;
        for revoked in news {
            self.authenticator.tell_news(revoked);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_refused_until_they_expire() {
        let (tokens, account) = (Tokens::default(), Uuid::now_v7());
        tokens.add(account, "one", now_us() + 1_000_000_000);
        tokens.add(account, "past", now_us() - 1);
        assert!(tokens.contains(account, "one"));
        assert!(!tokens.contains(account, "past") && !tokens.contains(Uuid::now_v7(), "one"));
        tokens.0.lock().unwrap().insert((account, "over".to_owned()), now_us() - 1);
        tokens.sweep();
        assert_eq!(tokens.0.lock().unwrap().len(), 1);
    }
}
