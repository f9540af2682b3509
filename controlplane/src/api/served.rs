//! Whether data planes serve a change: for writes that wait for it, and for who asks later.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use godwit_wire::feed::ChangeSet;
use godwit_wire::name::Name;

use super::App;
use crate::error::Problem;
use crate::relay::progress::Progress;
use crate::store::{Connection, changes, damaged};

/// How often it is looked whether a change is published that the outbox still has.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What has to be served for a change to be.
#[derive(Clone, Debug)]
pub(super) struct Standard {
    /// The change itself; for one that left everything as it was, the last change of the zones that it named.
    pub(super) change: Uuid,
    /// As the database knows it.
    pub(super) sequence: Option<u64>,
}

impl Standard {
    /// `None`: there was never anything to serve, or so long ago that it is no longer kept, which only happens to what
    /// was applied.
    pub(super) async fn of(
        connection: &mut Connection,
        id: Uuid,
        state: &changes::State,
    ) -> sqlx::Result<Option<Standard>> {
        if state.has_effect {
            return Ok(Some(Standard { change: id, sequence: state.sequence }));
        }
        let Some(change) = state.settled_by else { return Ok(None) };
        let settling = changes::state(connection, change).await?;
        Ok(settling.map(|state| Standard { change, sequence: state.sequence }))
    }

    /// Its place in the total order, once it is published.
    pub(super) fn sequence(&self, progress: &Progress) -> Option<u64> {
        progress.sequence(self.change).or(self.sequence)
    }

    /// The zones of the change that are in `quarantined` at a version before it.
    pub(super) async fn kept_back(
        &self,
        connection: &mut Connection,
        quarantined: &BTreeMap<Name, u64>,
    ) -> sqlx::Result<BTreeMap<Name, u64>> {
        if quarantined.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut kept_back = versions(connection, self.change).await?;
        kept_back.retain(|zone, version| is_kept_back(quarantined, zone, *version));
        Ok(kept_back)
    }
}

/// The zones that a change named, and the versions that it led to.
async fn versions(connection: &mut Connection, change: Uuid) -> sqlx::Result<BTreeMap<Name, u64>> {
    let Some(payload) = changes::payload(connection, change).await? else { return Ok(BTreeMap::new()) };
    let change_set = ChangeSet::decode(&payload).map_err(|_| damaged("changes", "payload"))?;
    Ok(change_set.zones.into_iter().map(|change| (change.zone, change.version)).collect())
}

fn is_kept_back(quarantined: &BTreeMap<Name, u64>, zone: &Name, version: u64) -> bool {
    quarantined.get(zone).is_some_and(|served| *served < version)
}

/// Waits until the data planes serve a change, at most `timeout`; how many of them do then.
///
/// # Errors
/// Of the database.
pub(super) async fn wait(
    app: &App,
    published: Option<oneshot::Receiver<u64>>,
    id: Uuid,
    timeout: Duration,
) -> Result<&'static str, Problem> {
    let Some(progress) = &app.progress else { return Ok("0/0") };
    let deadline = Instant::now() + timeout;
    let told = match published {
        Some(published) => tokio::time::timeout_at(deadline, published).await.ok().and_then(Result::ok),
        None => None,
    };
    let standard = match told {
        Some(_) => Standard { change: id, sequence: told },
        // The answer to an earlier request, a change without effect, or one that the relay has yet to read back.
        None => {
            let mut connection = app.readers.acquire().await?;
            let Some(state) = changes::state(&mut connection, id).await? else { return Ok("1/1") };
            let Some(standard) = Standard::of(&mut connection, id, &state).await? else { return Ok("1/1") };
            standard
        }
    };
    let sequence = loop {
        if let Some(sequence) = standard.sequence(progress) {
            break sequence;
        }
        if Instant::now() >= deadline {
            return Ok("0/1");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    if !progress.wait(deadline, |applied| applied.has(sequence)).await {
        return Ok("0/1");
    }
    // Seldom are zones in quarantine, and only then it matters which ones the change named.
    let quarantined = progress.position().quarantined;
    if quarantined.is_empty() {
        return Ok("1/1");
    }
    let mut connection = app.readers.acquire().await?;
    let versions = versions(&mut connection, standard.change).await?;
    drop(connection);
    let is_served = progress.wait(deadline, |applied| {
        !versions.iter().any(|(zone, version)| is_kept_back(&applied.quarantined, zone, *version))
    });
    Ok(if is_served.await { "1/1" } else { "0/1" })
}
