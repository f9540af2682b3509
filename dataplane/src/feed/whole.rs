//! A whole zone, as somebody else holds it: put into a snapshot when it can be served and is what it says (P5).

use godwit_engine::snapshot::{LoadError, LoadedZone, Snapshot, ZoneLoader, ZoneView};
use godwit_wire::feed::{DecodeError, ZoneBlobReader};
use godwit_wire::name::Name;

use super::attempts::{Attempts, Frozen, Panicked};

/// Why a zone is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    /// The octets are no zone.
    #[error(transparent)]
    Octets(#[from] DecodeError),
    /// The records make no zone.
    #[error(transparent)]
    Records(#[from] LoadError),
    /// It is another zone than the one that was asked for, or another version than what came with it says.
    #[error("it is {zone} at version {version}, which is not what was said")]
    Another {
        /// The zone that it is.
        zone: Name,
        /// Its version.
        version: u64,
    },
    /// It must not be tried again.
    #[error(transparent)]
    Frozen(#[from] Frozen),
    /// Our own fault.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// The records are not those of which the digest was made.
    #[error("the digest of the zone does not match its records")]
    Digest,
}

/// The snapshot with this zone as the blob has it, whatever was there before.
///
/// The zone is taken out first: its digest comes of the new records alone, so that nothing of what was wrong with the old
/// ones goes on in it.
pub(super) fn put(
    snapshot: &Snapshot,
    apex: &Name,
    version: u64,
    blob: &[u8],
    attempts: &Attempts,
) -> Result<Snapshot, Unfit> {
    attempts.zone(apex, version, blob.len(), || read(snapshot, apex, version, blob, attempts))
}

fn read(
    snapshot: &Snapshot,
    apex: &Name,
    version: u64,
    blob: &[u8],
    attempts: &Attempts,
) -> Result<Snapshot, Unfit> {
    let mut reader = ZoneBlobReader::new(blob)?;
    if reader.zone() != apex.as_ref() || reader.version() != version {
        return Err(Unfit::Another { zone: reader.zone().to_owned(), version: reader.version() });
    }
    let mut loader = ZoneLoader::new(apex.clone(), reader.owner());
    while let Some((owner, rrset)) = reader.next_rrset()? {
        attempts.strike(owner);
        loader.rrset(owner, &rrset)?;
    }
    let next = put_loaded(snapshot, apex, loader.finish()?.with_version(version));
    match next.zone(apex.as_ref()) {
        Some(zone) if zone.digest() == reader.digest() => Ok(next),
        _ => Err(Unfit::Digest),
    }
}

/// The snapshot with this zone as another snapshot has it, which may have other keys.
pub(super) fn carry(snapshot: &Snapshot, zone: &ZoneView<'_>) -> Result<Snapshot, Unfit> {
    let apex = zone.name();
    let mut loader = ZoneLoader::new(apex.clone(), zone.owner_number());
    for (owner, rrset) in zone.rrsets() {
        loader.rrset(owner, &rrset)?;
    }
    Ok(put_loaded(snapshot, &apex, loader.finish()?.with_version(zone.version())))
}

fn put_loaded(snapshot: &Snapshot, apex: &Name, zone: LoadedZone) -> Snapshot {
    if snapshot.zone(apex.as_ref()).is_some() {
        return snapshot.remove_zones(std::slice::from_ref(apex)).replace_zones(vec![zone]);
    }
    snapshot.replace_zones(vec![zone])
}
