//! What the control planes of one database tell each other: what nodes have said to them, and that the feed's keys were
//! rotated. A node speaks to one of them, and callers of the API ask any.
//!
//! Where one process has the database to itself (SQLite) there is nobody to tell.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::nodes::Nodes;
use super::position::Said;
use crate::observe::metrics::Metrics;
use crate::relay::signer::Signer;
use crate::secrets::Vault;
use crate::store::batch::Batch;
use crate::store::nodes::{self, NOT_SYNCED};
use crate::store::{Connection, Kind, Place, now_us};

/// How often what nodes have said is written, and read while somebody waits for them.
const TURN: Duration = Duration::from_millis(100);
/// How often it is read otherwise.
const LOOK: Duration = Duration::from_secs(1);
/// What is read: what was said within this time, many times what is between two readings. At first, everything.
const WITHIN_US: i64 = 10_000_000;
const EVER_US: i64 = 1 << 52;
/// The pause before another connection is tried.
const AGAIN: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct Exchange {
    pub(crate) place: Place,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) metrics: Metrics,
    /// Becomes true when it is time to stop.
    pub(crate) stop: watch::Receiver<bool>,
}

impl Exchange {
    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self) {
        let ours = Uuid::now_v7();
        while !self.waited(Duration::ZERO).await {
            let ended = match self.place.kind() {
                Kind::Sqlite => {
                    self.metrics.live_nodes(self.nodes.live().len());
                    if self.waited(LOOK).await {
                        return;
                    }
                    continue;
                }
                Kind::Postgres => self.connected(ours).await,
            };
            match ended {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "what nodes say is not shared just now"),
            }
            if self.waited(AGAIN).await {
                return;
            }
        }
    }

    async fn connected(&mut self, ours: Uuid) -> sqlx::Result<()> {
        let mut connection = self.place.connect().await?;
        connection.control(&[NOT_SYNCED]).await?;
        let mut read_at = Instant::now();
        let mut within_us = EVER_US;
        loop {
            self.tell(&mut connection, ours).await?;
            if Instant::now() >= read_at || self.nodes.is_waited_for() {
                self.listen(&mut connection, ours, within_us).await?;
                within_us = WITHIN_US;
            }
            if Instant::now() >= read_at {
                read_at = Instant::now() + LOOK;
                self.vault.say(&mut connection, ours).await?;
                self.metrics.live_nodes(self.nodes.live().len());
                if self.signer.replace(self.vault.feed_keys(&mut connection).await?) {
                    tracing::info!("the feed is signed with the next key from now on");
                }
            }
            if self.waited(TURN).await {
                self.vault.leave(&mut connection, ours).await?;
                return Ok(());
            }
        }
    }

    /// Writes what nodes have said here.
    async fn tell(&self, connection: &mut Connection, ours: Uuid) -> sqlx::Result<()> {
        let mut batch = Batch::of(connection);
        for (id, report, heard) in self.nodes.unshared() {
            let said = serde_json::to_vec(&Said::of(&report)).unwrap_or_default();
            nodes::report(&mut batch, id, &said, ours, micros(heard.elapsed()));
            if batch.is_full() {
                batch.run(connection).await?;
            }
        }
        batch.run(connection).await.map(|_| ())
    }

    /// Reads what they have said elsewhere.
    async fn listen(&self, connection: &mut Connection, ours: Uuid, within_us: i64) -> sqlx::Result<()> {
        for reported in nodes::reports(connection, within_us).await? {
            if reported.removed {
                self.nodes.forget(reported.id);
                continue;
            }
            let age = Duration::from_micros(u64::try_from(reported.age_us).unwrap_or(0));
            let Some(heard) = Instant::now().checked_sub(age) else { continue };
            if reported.to == ours {
                continue;
            }
            let said: Result<Said, _> = serde_json::from_slice(&reported.report);
            let read = said.ok().and_then(|said| said.read(now_us()).ok());
            let Some(report) = read else {
                tracing::warn!(
                    node = reported.name,
                    "what a node said to another control plane cannot be read"
                );
                continue;
            };
            self.nodes.heard(reported.id, &reported.name, report, heard, false);
        }
        Ok(())
    }

    /// Waits; whether it is time to stop.
    async fn waited(&mut self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.stop.wait_for(|stop| *stop)).await.is_ok()
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
