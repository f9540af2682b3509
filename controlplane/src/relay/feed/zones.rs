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
use crate::store::{Connection, Kind, Pace, changes, relay, withheld, zones};

/// Octets of blobs that one answer has, about, but for a single one that is longer.
const ANSWER_OCTETS: u64 = 4 << 20;
/// From so many octets on, and from so many RRsets on, it is not found out how many a blob has: such a zone is read by itself, as far as
/// there is room.
const LARGE: u64 = 80_000;
const SMALL_RRSETS: i64 = 500;
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
        let held = held(&mut reading, apexes, key, &mut Pace::hurried()).await?;
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
    pace: &mut Pace,
) -> sqlx::Result<Held> {
    if let [_, _, ..] = apexes
        && reading.kind() == Kind::Postgres
    {
        return many(reading, apexes, key, pace).await;
    }
    let (mut held, mut octets) = (Held::with_capacity(apexes.len()), 0);
    for apex in apexes {
        let zone = zones::by_name(reading, apex.as_ref()).await?;
        let blob = match &zone {
            Some(zone) => blob(reading, zone, key, pace).await?,
            None => Vec::new(),
        };
        pace.rest().await;
        octets += blob.len() as u64;
        held.push(zone.map(|zone| (zone, blob.into())));
        if octets >= ANSWER_OCTETS {
            break;
        }
    }
    Ok(held)
}

/// The same in few statements.
async fn many(
    reading: &mut Connection,
    apexes: &[Name],
    key: Option<&SigningKey>,
    pace: &mut Pace,
) -> sqlx::Result<Held> {
    let withheld: BTreeSet<Name> =
        withheld::list(reading).await?.into_iter().map(|withheld| withheld.apex).collect();
    let (mut taken, mut all) = (Vec::with_capacity(apexes.len()), 0);
    // No more are looked at than are given, but for a few.
    'full: for some in apexes.chunks(SIZED) {
        let mut found = zones::sized(reading, &some.iter().cloned().collect(), SMALL_RRSETS).await?;
        for apex in some {
            let Some((zone, octets)) = found.remove(apex) else {
                taken.push(None);
                continue;
            };
            let room = if taken.is_empty() { u64::MAX } else { ANSWER_OCTETS.saturating_sub(all) };
            let blob = if withheld.contains(apex) {
                Some(without_records(&zone, key))
            } else if octets < LARGE {
                all += octets;
                None
            } else {
                let Some(blob) = whole(reading, &zone, key, room, pace).await? else { break 'full };
                pace.rest().await;
                all += blob.len() as u64;
                Some(blob)
            };
            taken.push(Some((zone, blob)));
            if all >= ANSWER_OCTETS {
                break 'full;
            }
        }
    }
    // Those without a blob are small, and read together.
    let small = taken.iter().flatten().filter(|(_, blob)| blob.is_none());
    let ids: Vec<i64> = small.map(|(zone, _)| zone.id).collect();
    let listed = rrsets::of_zones(reading, &ids).await?;
    let given = |(zone, blob): (Zone, Option<Vec<u8>>)| {
        let blob = blob.unwrap_or_else(|| blob_of(&zone, &listed, key));
        (zone, Bytes::from(blob))
    };
    Ok(taken.into_iter().map(|zone| zone.map(given)).collect())
}

async fn blob(
    reading: &mut Connection,
    zone: &Zone,
    key: Option<&SigningKey>,
    pace: &mut Pace,
) -> sqlx::Result<Vec<u8>> {
    if withheld::of_zone(reading, zone.apex.as_ref()).await?.is_some() {
        return Ok(without_records(zone, key));
    }
    Ok(whole(reading, zone, key, u64::MAX, pace).await?.unwrap_or_default())
}

/// The blob of a zone that is read by itself; `None` where its records take more than about so many octets.
async fn whole(
    reading: &mut Connection,
    zone: &Zone,
    key: Option<&SigningKey>,
    most: u64,
    pace: &mut Pace,
) -> sqlx::Result<Option<Vec<u8>>> {
    let rrsets = rrsets::of_zone_within(reading, zone.id, most, pace).await?;
    Ok(rrsets.map(|rrsets| encoded(zone, rrsets.iter().map(|(owner, rrset)| (owner, rrset)), key)))
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
