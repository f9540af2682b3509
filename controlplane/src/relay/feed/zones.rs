//! Whole zones as they are at one moment: one, or many at once.

use std::collections::BTreeSet;

use bytes::Bytes;
use godwit_wire::feed::{SigningKey, ZoneBlobWriter};
use godwit_wire::name::Name;
use godwit_wire::rr::Rrset;

use super::{Feed, ZoneState, settled};
use crate::model::zone::Zone;
use crate::store::is_damage;
use crate::store::rrsets::{self, Listed};
use crate::store::{Connection, Kind, changes, relay, withheld, zones};

/// Octets of blobs that one answer has, about, but for a single one that is longer.
const ANSWER_OCTETS: u64 = 4 << 20;
/// From so many octets on it is not known how many a blob has: such a one is given alone.
const LARGE: u64 = 80_000;
/// Zones of which it is found out at once how many octets they have.
const SIZED: usize = 16;

/// Zones that were read, in the order in which they were asked for, each with its blob.
type Held = Vec<Option<(Zone, Bytes)>>;

impl Feed {
    /// One zone as it is.
    pub(super) async fn zone(&self, apex: &Name) -> sqlx::Result<ZoneState> {
        self.read(std::slice::from_ref(apex)).await?.pop().ok_or(sqlx::Error::RowNotFound)
    }

    /// Zones as they are at one moment: the first of those that are asked for, as many as an answer has, one at least. One that
    /// cannot be read is `None`, so that the others come all the same.
    pub(crate) async fn zones(&self, apexes: &[Name]) -> sqlx::Result<Vec<Option<ZoneState>>> {
        match self.read(apexes).await {
            Err(error) if is_damage(&error) => {}
            read => return Ok(read?.into_iter().map(Some).collect()),
        }
        // Which it is shows one by one.
        let Some(first) = apexes.first() else { return Ok(Vec::new()) };
        match self.zone(first).await {
            Err(error) if is_damage(&error) => {
                tracing::error!(zone = %first, %error, "a zone cannot be read; data planes are not given it");
                Ok(vec![None])
            }
            read => Ok(vec![Some(read?)]),
        }
    }

    async fn read(&self, apexes: &[Name]) -> sqlx::Result<Vec<ZoneState>> {
        let mut reading = self.readers.begin().await?;
        let state = relay::read(&mut reading).await?.ok_or(sqlx::Error::RowNotFound)?;
        let unsequenced = changes::last_unsequenced(&mut reading).await?;
        let signing = self.signing();
        let key = signing.as_ref().map(|signing| signing.key());
        let held = held(&mut reading, apexes, key).await?;
        let mut states = Vec::with_capacity(held.len());
        for (apex, zone) in apexes.iter().zip(&held) {
            let version = match zone {
                Some((zone, _)) => zone.version,
                None => zones::departed(&mut reading, apex.as_ref()).await?.unwrap_or(0),
            };
            let blob = zone.as_ref().map(|(_, blob)| blob.clone());
            states.push(ZoneState { blob, version, settled: state.sequence });
        }
        reading.end_reading().await?;
        if unsequenced == 0 {
            return Ok(states);
        }
        let settled = settled(&self.readers, unsequenced, state.sequence).await?;
        // What had no sequence when it was read was not judged either: now it was.
        let mut connection = self.readers.acquire().await?;
        for (state, zone) in states.iter_mut().zip(held) {
            state.settled = settled;
            if let Some((zone, _)) = zone
                && withheld::is_version(&mut connection, zone.apex.as_ref(), zone.version).await?
            {
                state.blob = Some(without_records(&zone, key).into());
            }
        }
        Ok(states)
    }
}

/// The first of these, as many as an answer has, one at least. A blob is `wire::feed::ZoneBlob`, encoded; signed where there is a
/// key. Of a zone that is withheld it has no records.
pub(in crate::relay) async fn held(
    reading: &mut Connection,
    apexes: &[Name],
    key: Option<&SigningKey>,
) -> sqlx::Result<Held> {
    if let [_, _, ..] = apexes
        && reading.kind() == Kind::Postgres
    {
        return many(reading, apexes, key).await;
    }
    let (mut held, mut octets) = (Held::with_capacity(apexes.len()), 0);
    for apex in apexes {
        let zone = zones::by_name(reading, apex.as_ref()).await?;
        let blob = match &zone {
            Some(zone) => blob(reading, zone, key).await?,
            None => Vec::new(),
        };
        octets += blob.len() as u64;
        held.push(zone.map(|zone| (zone, blob.into())));
        if octets >= ANSWER_OCTETS {
            break;
        }
    }
    Ok(held)
}

/// The same in few statements.
async fn many(reading: &mut Connection, apexes: &[Name], key: Option<&SigningKey>) -> sqlx::Result<Held> {
    let withheld: BTreeSet<Name> =
        withheld::list(reading).await?.into_iter().map(|withheld| withheld.apex).collect();
    let (mut taken, mut all) = (Vec::with_capacity(apexes.len()), 0);
    // No more are looked at than are given, but for a few.
    'full: for some in apexes.chunks(SIZED) {
        let mut found = zones::sized(reading, &some.iter().cloned().collect()).await?;
        for apex in some {
            let octets = found.get(apex).map_or(0, |(_, octets)| *octets);
            if !taken.is_empty() && (octets >= LARGE || all + octets > ANSWER_OCTETS) {
                break 'full;
            }
            let zone = found.remove(apex).map(|(zone, _)| zone);
            if octets >= LARGE
                && let Some(zone) = zone
            {
                let blob = blob(reading, &zone, key).await?;
                return Ok(vec![Some((zone, blob.into()))]);
            }
            taken.push(zone);
            all += octets;
        }
    }
    let given = taken.iter().flatten().filter(|zone| !withheld.contains(&zone.apex));
    let ids: Vec<i64> = given.map(|zone| zone.id).collect();
    let listed = if ids.is_empty() { Vec::new() } else { rrsets::of_zones(reading, &ids).await? };
    let with_blob = |zone: Zone| {
        let blob = match withheld.contains(&zone.apex) {
            true => without_records(&zone, key),
            false => blob_of(&zone, &listed, key),
        };
        (zone, Bytes::from(blob))
    };
    Ok(taken.into_iter().map(|zone| zone.map(with_blob)).collect())
}

async fn blob(reading: &mut Connection, zone: &Zone, key: Option<&SigningKey>) -> sqlx::Result<Vec<u8>> {
    if withheld::of_zone(reading, zone.apex.as_ref()).await?.is_some() {
        return Ok(without_records(zone, key));
    }
    let rrsets = rrsets::of_zone(reading, zone.id).await?;
    Ok(encoded(zone, rrsets.iter().map(|(owner, rrset)| (owner, rrset)), key))
}

/// The blob of a zone whose RRsets were listed with those of others, by zone.
pub(in crate::relay) fn blob_of(zone: &Zone, listed: &[Listed], key: Option<&SigningKey>) -> Vec<u8> {
    let begin = listed.partition_point(|one| one.position.zone_id < zone.id);
    let of_zone = listed.iter().skip(begin).take_while(|one| one.position.zone_id == zone.id);
    encoded(zone, of_zone.map(|one| (&one.owner, &one.rrset)), key)
}

/// What is given of a zone that is withheld: its version, and nothing that can be served. A data plane that has asked for it keeps
/// what it has, in quarantine, and goes on with everything else at once; an error would keep it trying.
fn without_records(zone: &Zone, key: Option<&SigningKey>) -> Vec<u8> {
    encoded(zone, std::iter::empty(), key)
}

fn encoded<'a>(
    zone: &Zone,
    rrsets: impl Iterator<Item = (&'a Name, &'a Rrset)>,
    key: Option<&SigningKey>,
) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut writer =
        ZoneBlobWriter::new(&mut octets, zone.apex.as_ref(), zone.owner_number, zone.version, key);
    rrsets.for_each(|(owner, rrset)| writer.push(owner.as_ref(), rrset));
    writer.finish(zone.digest);
    octets
}
