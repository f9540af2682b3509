//! Zones that were frozen for too long are released: each is deleted by a change like any other, so that its history stays, what listens
//! is told, and its name is kept for its tenant for a while.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::accounts::mail::{self, Mail};
use crate::auth::Access;
use crate::commit::{Committer, Reply};
use crate::error::Problem;
use crate::jobs::{Failure, Lease};
use crate::model::change::{Operation, Request};
use crate::model::zone::Zone;
use crate::store::audit::Who;
use crate::store::{now_us, zones};

/// The most zones of one step: the next one comes with the next look at what is due.
const AT_ONCE: i64 = 50;
/// The most names that a mail has.
const NAMED: usize = 20;

/// Releases those that have been frozen for so long, what is above before what is below: then each of the names is kept.
///
/// # Errors
/// Of the database, and that the job is not ours any more.
pub(super) async fn release(committer: &Committer, lease: &Lease, frozen_us: i64) -> Result<(), Failure> {
    let frozen_by_us = now_us().saturating_sub(frozen_us);
    let due = committer
        .write(move |connection| {
            Box::pin(async move { Ok(zones::frozen(connection, frozen_by_us, AT_ONCE).await?) })
        })
        .await?;
    let mut released: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for zone in due {
        lease.hold().await?;
        let (name, tenant) = (&zone.apex, zone.owner_number);
        match committer.commit(request(&zone, frozen_by_us), Box::new(reply)).await {
            Ok(_) => {
                tracing::info!(%name, tenant, "a zone was released, as it was frozen for too long");
                released.entry(tenant).or_default().push(name.to_string());
            }
            Err(problem) if problem.is_open() => return Err(problem.into()),
            // Its proof came back, or it was deleted.
            Err(problem) => tracing::info!(%name, tenant, %problem, "a frozen zone is not released"),
        }
    }
    Ok(tell(committer, released).await?)
}

fn request(zone: &Zone, frozen_by_us: i64) -> Request {
    Request {
        id: Uuid::now_v7(),
        who: Who::itself(),
        action: "domain.release",
        limits: Arc::default(),
        access: Access::everything(),
        operations: vec![Operation::ReleaseZone { apex: zone.apex.clone(), frozen_by_us }],
        if_match: None,
        idempotency: None,
        dry_run: false,
        confirm: None,
    }
}

fn reply(_plan: &crate::commit::plan::Plan, change: Uuid) -> Reply {
    Reply { status: 204, body: String::new(), version: None, change }
}

/// Has the owners of tenants told what was released.
async fn tell(committer: &Committer, released: BTreeMap<u32, Vec<String>>) -> Result<(), Problem> {
    if released.is_empty() {
        return Ok(());
    }
    let tell = committer.write(move |connection| {
        Box::pin(async move {
            for (tenant, names) in released {
                let zones = names.len();
                let names: Vec<String> = names.into_iter().take(NAMED).collect();
                mail::enqueue_to_owners(connection, tenant, |account| Mail::ZonesReleased {
                    tenant,
                    account,
                    names: names.clone(),
                    zones,
                })
                .await?;
            }
            Ok(())
        })
    });
    tell.await
}
