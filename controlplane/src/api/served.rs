//! Whether data planes serve a change: for writes that wait for it, and for who asks later.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::HeaderValue;
use tokio::time::Instant;
use uuid::Uuid;

use godwit_wire::feed::ChangeSet;
use godwit_wire::name::Name;

use super::App;
use crate::error::Problem;
use crate::relay::progress::Publications;
use crate::store::withheld::{self, WithheldZone};
use crate::store::{Connection, changes, damaged};

/// What has to be served for a change to be.
#[derive(Clone, Debug)]
pub(super) struct Standard {
    /// The change itself; for one that left everything as it was, the last change of the zones that it named.
    pub(super) change: Uuid,
    /// As the database knows it.
    pub(super) sequence: Option<u64>,
    /// The same.
    pub(super) withheld: bool,
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
            return Ok(Some(Standard { change: id, sequence: state.sequence, withheld: state.withheld }));
        }
        let Some(change) = state.settled_by else { return Ok(None) };
        let settling = changes::state(connection, change).await?;
        let of = |changes::State { sequence, withheld, .. }| Standard { change, sequence, withheld };
        Ok(settling.map(of))
    }

    /// Its place in the total order, once it is published.
    pub(super) fn sequence(&self, publications: &Publications) -> Option<u64> {
        publications.of(self.change).map(|publication| publication.sequence).or(self.sequence)
    }

    /// Whether the change was published without its zones.
    fn is_withheld(&self, publications: &Publications) -> bool {
        publications.of(self.change).map_or(self.withheld, |publication| publication.withheld)
    }

    /// Zones of the change that are withheld, where it is: no data plane serves it.
    pub(super) async fn withheld(
        &self,
        connection: &mut Connection,
        publications: &Publications,
    ) -> sqlx::Result<Vec<WithheldZone>> {
        let mut zones = Vec::new();
        if self.is_withheld(publications) {
            for zone in versions(connection, self.change).await?.keys() {
                zones.extend(withheld::of_zone(connection, zone.as_ref()).await?);
            }
        }
        Ok(zones)
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

/// How many data planes serve a change, of how many that live.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Served {
    have: usize,
    of: usize,
}

impl Served {
    /// As the header says it.
    pub(super) fn header(self) -> HeaderValue {
        // Digits and a slash are always a value.
        HeaderValue::from_str(&format!("{}/{}", self.have, self.of))
            .unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Waits until the data planes serve a change, at most `timeout`; how many of them do then. Those that are gone by then are
/// not waited for. The change is made: where the database cannot be asked what it takes, none is known to serve it.
pub(super) async fn wait(app: &App, sequence: Option<u64>, id: Uuid, timeout: Duration) -> Served {
    waited(app, sequence, id, timeout).await.unwrap_or_else(|problem| {
        tracing::warn!(change = %id, error = %problem.message, "whether a change is served was not found out");
        Served { have: 0, of: app.planes.live().len() }
    })
}

async fn waited(app: &App, sequence: Option<u64>, id: Uuid, timeout: Duration) -> Result<Served, Problem> {
    let live = || app.planes.live().len();
    let deadline = Instant::now() + timeout;
    if live() == 0 {
        return Ok(Served { have: 0, of: 0 });
    }
    let standard = match sequence {
        Some(_) => Some(Standard { change: id, sequence, withheld: false }),
        // The answer to an earlier request, a change without effect, or one that the relay has yet to give its sequence.
        None => {
            let mut connection = app.readers.acquire().await?;
            match changes::state(&mut connection, id).await? {
                Some(state) => Standard::of(&mut connection, id, &state).await?,
                None => None,
            }
        }
    };
    let Some(standard) = standard else { return Ok(Served { have: live(), of: live() }) };
    let mut end = app.log.watch();
    let sequence = loop {
        end.mark_unchanged();
        if let Some(sequence) = standard.sequence(&app.publications) {
            break sequence;
        }
        if !matches!(tokio::time::timeout_at(deadline, end.changed()).await, Ok(Ok(()))) {
            return Ok(Served { have: 0, of: live() });
        }
    };
    if standard.is_withheld(&app.publications)
        && !standard.withheld(&mut app.readers.acquire().await?, &app.publications).await?.is_empty()
    {
        return Ok(Served { have: 0, of: live() });
    }
    let mut watch = app.planes.watch();
    let mut named = None;
    loop {
        let live = app.planes.live();
        let mut have = 0;
        for plane in live.iter().filter(|plane| app.planes.has(plane, sequence)) {
            // Seldom are zones in quarantine, and only then it matters which ones the change named.
            let quarantined = &plane.applied.quarantined;
            if !quarantined.is_empty() && named.is_none() {
                named = Some(versions(&mut app.readers.acquire().await?, standard.change).await?);
            }
            let mut named = named.iter().flatten();
            have += usize::from(!named.any(|(zone, version)| is_kept_back(quarantined, zone, *version)));
        }
        if have == live.len() || Instant::now() >= deadline {
            return Ok(Served { have, of: live.len() });
        }
        watch.changed(deadline).await;
    }
}
