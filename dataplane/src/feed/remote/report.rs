//! Where we stand, told to the control plane: at once when it changes, though not again and again while it changes all the time, and every
//! second all the same, as who has not been heard for five is not counted. And what it says of itself is asked for now and then: see [`Known`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::sync::watch;

use super::client::{self, Client};
use super::hex;
use super::known::Known;
use super::ways::{self, Ways};
use crate::feed::Applied;

/// The longest that nothing is said.
const EVERY: Duration = Duration::from_secs(1);
/// The least time from one time to the next. Under constant change each way there and back costs both sides about what applying a change
/// does, and who waits for one to be applied waits a little longer only then.
const SPACING: Duration = Duration::from_millis(20);
/// How often it is asked for what it says of itself: a key that is announced has to be known before it signs.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most zones in quarantine that are named.
const MOST_NAMED: usize = 10_000;

/// See the module.
pub(super) struct Report {
    pub(super) client: Client,
    pub(super) known: Arc<Known>,
    /// As they were at the start.
    pub(super) ways: Ways,
    pub(super) applied: watch::Receiver<Applied>,
}

impl Report {
    /// Until the feed ends.
    pub(super) async fn run(mut self) {
        let mut ask_at = Instant::now();
        loop {
            if Instant::now() >= ask_at {
                ask_at = Instant::now() + ASK_EVERY;
                let asked = self.client.ask(Method::GET, ways::PATH, None, PATIENCE).await;
                if let Ok(response) = asked
                    && response.status == StatusCode::OK
                {
                    self.ways.look(&self.known, &response.body);
                }
                // Also what was learned at the start, before there was a folder for it.
                self.known.keep();
            }
            let (body, said_at) = (self.said(), Instant::now());
            let told = self
                .client
                .ask(Method::POST, "/internal/v1/position", Some(client::json(body)), PATIENCE)
                .await;
            match told {
                Ok(response) if response.status.is_success() => {
                    if matches!(tokio::time::timeout(EVERY, self.applied.changed()).await, Ok(Err(_))) {
                        return;
                    }
                    tokio::time::sleep(SPACING.saturating_sub(said_at.elapsed())).await;
                }
                // Whoever refuses us now may not in a while.
                Ok(_) | Err(_) => tokio::time::sleep(EVERY).await,
            }
            if self.applied.has_changed().is_err() {
                return;
            }
        }
    }

    fn said(&mut self) -> Bytes {
        let applied = self.applied.borrow_and_update();
        let quarantined: serde_json::Map<String, serde_json::Value> = applied
            .quarantined
            .iter()
            .take(MOST_NAMED)
            .map(|(zone, version)| (zone.to_string(), json!(version)))
            .collect();
        let feed_keys: Vec<String> = self.known.trusted().iter().map(|key| hex(&key.0)).collect();
        let body = json!({
            "generation": applied.generation,
            "epoch": applied.epoch,
            "sequence": applied.sequence,
            "chain": hex(&applied.chain),
            "quarantined": quarantined,
            "version": env!("CARGO_PKG_VERSION"),
            "feed_keys": feed_keys,
            "digests": match applied.compared.equal {
                Some(true) => "equal",
                Some(false) => "differs",
                None => "unknown",
            },
            "compared_sequence": applied.compared.sequence,
        });
        body.to_string().into()
    }
}
