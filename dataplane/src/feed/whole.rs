//! Whole zones, as somebody else holds them: put into a snapshot when they can be served and are what they say (P5).

use godwit_engine::snapshot::{LoadError, LoadedZone, Snapshot, ZoneLoader, ZoneView};
use godwit_wire::feed::{DecodeError, Digest, ZoneBlobReader};
use godwit_wire::name::{Name, NameRef};

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

/// A zone, the version at which it is said to be, and its blob.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<'a> {
    pub(super) apex: &'a Name,
    pub(super) version: u64,
    pub(super) blob: &'a [u8],
}

/// The snapshot with these zones, none twice, as their blobs have them, whatever was there before; and those that are not taken,
/// each with why.
///
/// **Cost**: what a snapshot shares with the one before is copied once for all of them, where all can be taken.
pub(super) fn put_all<'a>(
    snapshot: &Snapshot,
    zones: &[Whole<'a>],
    attempts: &Attempts,
) -> (Snapshot, Vec<(&'a Name, Unfit)>) {
    let (together, mut alone): (Vec<Whole<'a>>, Vec<Whole<'a>>) =
        zones.iter().partition(|zone| attempts.is_free(zone.apex, zone.version));
    let mut next = match attempts.guarded(|| put_together(snapshot, &together, attempts)) {
        Ok(Ok(next)) => next,
        // One by one tells which of them it is.
        Ok(Err(_)) | Err(Panicked) => {
            alone.extend(together);
            snapshot.clone()
        }
    };
    let mut unfit = Vec::new();
    for zone in alone {
        match put(&next, &zone, attempts) {
            Ok(with_it) => next = with_it,
            Err(error) => unfit.push((zone.apex, error)),
        }
    }
    (next, unfit)
}

/// The snapshot with this zone as the blob has it, whatever was there before.
pub(super) fn put(snapshot: &Snapshot, zone: &Whole<'_>, attempts: &Attempts) -> Result<Snapshot, Unfit> {
    attempts
        .zone(zone.apex, zone.version, zone.blob.len(), || put_read(snapshot, vec![read(zone, attempts)?]))
}

fn put_together(snapshot: &Snapshot, zones: &[Whole<'_>], attempts: &Attempts) -> Result<Snapshot, Unfit> {
    let mut all = Vec::with_capacity(zones.len());
    for zone in zones {
        let _attempt = attempts.one_of_zones(zone.apex, zone.version, zone.blob.len());
        all.push(read(zone, attempts)?);
    }
    let _attempt = attempts.zones(zones.iter().map(|zone| zone.blob.len()).sum());
    put_read(snapshot, all)
}

/// A zone that was read, and the digest that its blob says it has.
type Read = (LoadedZone, Digest);

fn put_read(snapshot: &Snapshot, zones: Vec<Read>) -> Result<Snapshot, Unfit> {
    let said: Vec<(Name, Digest)> =
        zones.iter().map(|(zone, digest)| (zone.apex().to_owned(), *digest)).collect();
    let zones = zones.into_iter().map(|(zone, _)| zone).collect();
    let next = put_loaded(snapshot, zones);
    let is_it =
        |(apex, digest): &(Name, Digest)| next.zone(apex.as_ref()).is_some_and(|put| put.digest() == *digest);
    if said.iter().all(is_it) { Ok(next) } else { Err(Unfit::Digest) }
}

fn read(zone: &Whole<'_>, attempts: &Attempts) -> Result<Read, Unfit> {
    let mut reader = ZoneBlobReader::new(zone.blob)?;
    if reader.zone() != zone.apex.as_ref() || reader.version() != zone.version {
        return Err(Unfit::Another { zone: reader.zone().to_owned(), version: reader.version() });
    }
    let mut loader = ZoneLoader::new(zone.apex.clone(), reader.owner());
    while let Some((owner, rrset)) = reader.next_rrset()? {
        attempts.strike(owner);
        loader.rrset(owner, &rrset)?;
    }
    Ok((loader.finish()?.with_version(zone.version), reader.digest()))
}

/// The snapshot with this zone as another snapshot has it, which may have other keys.
pub(super) fn carry(snapshot: &Snapshot, zone: &ZoneView<'_>) -> Result<Snapshot, Unfit> {
    let apex = zone.name();
    let mut loader = ZoneLoader::new(apex.clone(), zone.owner_number());
    for (owner, rrset) in zone.rrsets() {
        loader.rrset(owner, &rrset)?;
    }
    Ok(put_loaded(snapshot, vec![loader.finish()?.with_version(zone.version())]))
}

/// Zones are taken out first: their digests come of the new records alone, so that nothing of what was wrong with the old ones
/// goes on in them.
fn put_loaded(snapshot: &Snapshot, zones: Vec<LoadedZone>) -> Snapshot {
    let there: Vec<Name> = zones
        .iter()
        .map(LoadedZone::apex)
        .filter(|apex| snapshot.zone(*apex).is_some())
        .map(NameRef::to_owned)
        .collect();
    if there.is_empty() {
        return snapshot.replace_zones(zones);
    }
    snapshot.remove_zones(&there).replace_zones(zones)
}

#[cfg(test)]
mod tests;
