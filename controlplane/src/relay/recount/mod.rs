//! Digests from the records themselves: of zones whose digest is not kept yet, and of everything, to see whether what is
//! kept with each change is right: at a start what was never counted, and [every hour](hourly) all of it.

pub(crate) mod hourly;

use godwit_wire::feed::digest::{rrset_digest, zone_term};
use godwit_wire::feed::{Digest, DigestKey};
use godwit_wire::name::NameRef;

use crate::commit::{COMMIT, ROLLBACK, begin, begin_whole};
use crate::store::batch::Batch;
use crate::store::{Connection, changes, relay, rrsets, zones};

/// Zones whose digest one transaction works out.
const STEP: i64 = 64;
/// What PostgreSQL says where two transactions met of which each has to see the whole.
const NOT_SERIAL: &str = "40001";

/// Works out what is missing of the digests that are kept with changes: after an upgrade all of them, else none.
///
/// # Errors
/// Of the database.
pub(crate) async fn fill(connection: &mut Connection, key: &DigestKey) -> sqlx::Result<()> {
    let mut filled = 0;
    loop {
        connection.control(&[begin(connection.kind())]).await?;
        let missing = zones::without_digest(connection, STEP).await?;
        let mut batch = Batch::of(connection);
        for (id, apex) in &missing {
            let sum = of_zone(connection, key, *id, apex.as_ref()).await?;
            zones::set_digest(&mut batch, *id, sum);
        }
        filled += missing.len();
        batch.control(COMMIT);
        batch.run(connection).await?;
        if missing.is_empty() {
            break;
        }
    }
    if filled > 0 {
        tracing::info!(zones = filled, "worked out the digests of zones from before they were kept");
    }
    Ok(())
}

/// The digest of everything at the last sequence, from the digests of zones: all of it in the open transaction, in which
/// nobody else gives sequences.
///
/// # Errors
/// Of the database.
pub(crate) async fn root(connection: &mut Connection, key: &DigestKey) -> sqlx::Result<Digest> {
    let mut root = Digest::default();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let step = zones::index(connection, after.as_deref(), 4_096).await?;
        let Some((last, _)) = step.last() else { break };
        after = Some(last.clone());
        for (_, entry) in &step {
            root.add(zone_term(key, entry.zone.as_ref(), entry.version, entry.digest));
        }
    }
    root.sub(changes::unsequenced_root_change(connection).await?);
    Ok(root)
}

/// Counts the digest of everything where that was never done.
///
/// # Errors
/// Of the database.
pub(crate) async fn settle_root(connection: &mut Connection, key: &DigestKey) -> sqlx::Result<()> {
    while !relay::is_counted(connection).await? {
        connection.control(&[begin_whole(connection.kind())]).await?;
        let end = match count(connection, key).await {
            Ok(()) => COMMIT,
            // Of several that start at once, one was there before.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(NOT_SERIAL) => ROLLBACK,
            Err(error) => return Err(error),
        };
        connection.control(&[end]).await?;
    }
    Ok(())
}

async fn count(connection: &mut Connection, key: &DigestKey) -> sqlx::Result<()> {
    relay::hold(connection).await?;
    let root = root(connection, key).await?;
    relay::counted(connection, root).await
}

async fn of_zone(
    connection: &mut Connection,
    key: &DigestKey,
    id: i64,
    apex: NameRef<'_>,
) -> sqlx::Result<Digest> {
    let mut sum = Digest::default();
    for (owner, rrset) in rrsets::of_zone(connection, id).await? {
        sum.add(rrset_digest(key, apex, owner.as_ref(), &rrset));
    }
    Ok(sum)
}
