//! `rrsets`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use godwit_wire::name::{Name, NameRef};
use godwit_wire::rr::{Rrset, Rtype};

use super::batch::Batch;
use super::{Connection, Pace, Row, damaged, keys, sets};
use crate::model::name_key;

const OF_OWNER: &str = "SELECT owner_key, rtype, ttl, rdata, rrsigs FROM rrsets WHERE zone_id = $1 AND owner_key = $2 ORDER BY rtype";
const OF_TWO_OWNERS: &str = "SELECT zone_id, owner_key, rtype, ttl, rdata, rrsigs FROM rrsets WHERE zone_id = $1 AND owner_key IN ($2, $3) ORDER BY owner_key, rtype";
const OF_ZONE_AFTER: &str = "SELECT zone_id, owner_key, rtype, ttl, rdata, rrsigs FROM rrsets WHERE zone_id = $1 AND (owner_key, rtype) > ($2, $3) ORDER BY owner_key, rtype LIMIT $4";
const AFTER: &str = "SELECT zone_id, owner_key, rtype, ttl, rdata, rrsigs FROM rrsets WHERE (zone_id, owner_key, rtype) > ($1, $2, $3) ORDER BY zone_id, owner_key, rtype LIMIT $4";
const OF_ZONE_TYPE_AFTER: &str = "SELECT zone_id, owner_key, rtype, ttl, rdata, rrsigs FROM rrsets WHERE zone_id = $1 AND (owner_key, rtype) > ($2, $3) AND rtype = $5 ORDER BY owner_key, rtype LIMIT $4";
const TYPE_AFTER: &str = "SELECT zone_id, owner_key, rtype, ttl, rdata, rrsigs FROM rrsets WHERE (zone_id, owner_key, rtype) > ($1, $2, $3) AND rtype = $5 ORDER BY zone_id, owner_key, rtype LIMIT $4";
const PUT: &str = "INSERT INTO rrsets (zone_id, owner_key, rtype, ttl, rdata, rrsigs) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (zone_id, owner_key, rtype) DO UPDATE SET ttl = excluded.ttl, rdata = excluded.rdata, rrsigs = excluded.rrsigs";
/// RRsets that [`PUT_MANY`] writes: 384 parameters, well below what either database takes.
const MANY: usize = 64;
/// [`PUT`] for [`MANY`] RRsets.
static PUT_MANY: LazyLock<String> = LazyLock::new(|| put_rows(MANY));

const DELETE: &str = "DELETE FROM rrsets WHERE zone_id = $1 AND owner_key = $2 AND rtype = $3";
const COUNT: &str = "SELECT count(*) FROM rrsets WHERE zone_id = $1";
const COUNT_ALL: &str = "SELECT count(*) FROM (SELECT 1 FROM rrsets LIMIT $1) AS counted";
const COUNT_NAMES: &str = "SELECT count(DISTINCT owner_key) FROM rrsets WHERE zone_id = $1";
/// Row numbers of zones, with commas between.
const OF_ZONES: &str = "SELECT zone_id, owner_key, rtype, ttl, rdata, rrsigs FROM rrsets WHERE zone_id = ANY (string_to_array($1, ',')::BIGINT[]) ORDER BY zone_id, owner_key, rtype";

/// Row numbers of zones, with commas between, and as many owner names (see [`keys()`]). Each is looked up by itself, whatever the planner
/// thinks of how many there are.
const OF_OWNERS: &str = "SELECT held.zone_id, held.owner_key, held.rtype, held.ttl, held.rdata, held.rrsigs FROM unnest(string_to_array($1, ',')::BIGINT[], string_to_array($2, ',')) AS wanted (zone_id, owner) CROSS JOIN LATERAL (SELECT zone_id, owner_key, rtype, ttl, rdata, rrsigs FROM rrsets WHERE rrsets.zone_id = wanted.zone_id AND rrsets.owner_key = decode(substr(wanted.owner, 2), 'hex') OFFSET 0) AS held";

/// Statements of this file that only PostgreSQL gets.
pub(super) const POSTGRES_ONLY: &[&str] = &[OF_ZONES, OF_OWNERS];

/// Every statement of this file that both get.
pub const ALL: &[&str] = &[
    OF_OWNER,
    OF_TWO_OWNERS,
    OF_ZONE_AFTER,
    AFTER,
    OF_ZONE_TYPE_AFTER,
    TYPE_AFTER,
    PUT,
    DELETE,
    COUNT,
    COUNT_ALL,
    COUNT_NAMES,
];

/// [`PUT`] for so many RRsets.
fn put_rows(count: usize) -> String {
    let (head, tail) =
        PUT.split_once("($1, $2, $3, $4, $5, $6)").expect("the statement above has these parameters");
    let rows: Vec<String> = (0..count)
        .map(|row| {
            let parameters: Vec<String> = (1..=6).map(|column| format!("${}", row * 6 + column)).collect();
            format!("({})", parameters.join(", "))
        })
        .collect();
    format!("{head}{}{tail}", rows.join(", "))
}

/// Statements of this file that are made of others.
#[must_use]
pub fn composed() -> Vec<&'static str> {
    vec![PUT_MANY.as_str()]
}

/// Where a listing goes on: behind this row.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// Zone's row.
    pub zone_id: i64,
    /// Owner's key.
    pub owner_key: Vec<u8>,
    /// Type; 0 is before all.
    pub rtype: i64,
}

/// An RRset as listed.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its place, to go on from.
    pub position: Position,
    /// Owner name.
    pub owner: Name,
    /// The records.
    pub rrset: Rrset,
}

fn rrset(row: &Row) -> sqlx::Result<Rrset> {
    let rtype = u16::try_from(row.get::<i64, _>("rtype")?).map_err(|_| damaged("rrsets", "rtype"))?;
    Ok(Rrset {
        rtype: Rtype(rtype),
        ttl: u32::try_from(row.get::<i64, _>("ttl")?).map_err(|_| damaged("rrsets", "ttl"))?,
        rdata: sets::unpack(row.get("rdata")?).ok_or_else(|| damaged("rrsets", "rdata"))?,
        rrsigs: sets::unpack(row.get("rrsigs")?).ok_or_else(|| damaged("rrsets", "rrsigs"))?,
    })
}

fn listed(row: &Row) -> sqlx::Result<Listed> {
    let owner_key: Vec<u8> = row.get("owner_key")?;
    Ok(Listed {
        owner: name_key::decode(&owner_key).ok_or_else(|| damaged("rrsets", "owner_key"))?,
        position: Position { zone_id: row.get("zone_id")?, owner_key, rtype: row.get("rtype")? },
        rrset: rrset(row)?,
    })
}

/// All RRsets of one owner name.
///
/// # Errors
/// Of the database.
pub async fn of_owner(
    connection: &mut Connection,
    zone_id: i64,
    owner: NameRef<'_>,
) -> sqlx::Result<Vec<Rrset>> {
    let rows = connection.query(OF_OWNER).bind(zone_id).bind(name_key::encode(owner)).fetch_all().await?;
    rows.iter().map(rrset).collect()
}

/// All RRsets of two owner names, with the name of each.
///
/// # Errors
/// Of the database.
pub async fn of_two_owners(
    connection: &mut Connection,
    zone_id: i64,
    owners: [NameRef<'_>; 2],
) -> sqlx::Result<Vec<(Name, Rrset)>> {
    let [one, other] = owners.map(name_key::encode);
    let rows = connection.query(OF_TWO_OWNERS).bind(zone_id).bind(one).bind(other).fetch_all().await?;
    rows.iter().map(|row| listed(row).map(|listed| (listed.owner, listed.rrset))).collect()
}

/// All RRsets of these owner names, each in a zone, in no order. For PostgreSQL.
///
/// # Errors
/// Of the database.
pub async fn of_owners(
    connection: &mut Connection,
    owners: &BTreeSet<(i64, Name)>,
) -> sqlx::Result<Vec<Listed>> {
    let zones: Vec<String> = owners.iter().map(|(zone_id, _)| zone_id.to_string()).collect();
    let names = keys(owners.iter().map(|(_, owner)| owner));
    let rows = connection.query(OF_OWNERS).bind(zones.join(",")).bind(names).fetch_all().await?;
    rows.iter().map(listed).collect()
}

/// RRsets behind a position, in order of zone, owner name and type; of one zone when `zone_id` is given, of one type
/// when `rtype` is.
///
/// # Errors
/// Of the database.
pub async fn list(
    connection: &mut Connection,
    zone_id: Option<i64>,
    rtype: Option<Rtype>,
    after: &Position,
    limit: i64,
) -> sqlx::Result<Vec<Listed>> {
    let statement = match (zone_id, rtype) {
        (Some(_), None) => OF_ZONE_AFTER,
        (None, None) => AFTER,
        (Some(_), Some(_)) => OF_ZONE_TYPE_AFTER,
        (None, Some(_)) => TYPE_AFTER,
    };
    let mut query = connection
        .query(statement)
        .bind(zone_id.unwrap_or(after.zone_id))
        .bind(after.owner_key.as_slice())
        .bind(after.rtype)
        .bind(limit);
    if let Some(rtype) = rtype {
        query = query.bind(i64::from(rtype.0));
    }
    let rows = query.fetch_all().await?;
    rows.iter().map(listed).collect()
}

/// All RRsets of a zone in canonical order, in steps that keep memory and the time of each statement bounded.
///
/// # Errors
/// Of the database.
pub async fn of_zone(connection: &mut Connection, zone_id: i64) -> sqlx::Result<Vec<(Name, Rrset)>> {
    Ok(of_zone_within(connection, zone_id, u64::MAX, &mut Pace::hurried()).await?.unwrap_or_default())
}

/// The same, where they take no more than about so many octets.
///
/// # Errors
/// Of the database.
pub async fn of_zone_within(
    connection: &mut Connection,
    zone_id: i64,
    most: u64,
    pace: &mut Pace,
) -> sqlx::Result<Option<Vec<(Name, Rrset)>>> {
    const STEP: usize = 2_000;
    let (mut all, mut octets) = (Vec::new(), 0);
    let mut after = Position { zone_id, ..Position::default() };
    loop {
        let step = list(connection, Some(zone_id), None, &after, STEP as i64).await?;
        let is_last = step.len() < STEP;
        if let Some(last) = step.last() {
            after = last.position.clone();
        }
        for Listed { owner, rrset, .. } in step {
            octets += owner.as_wire().len() as u64;
            octets += rrset.rdata.iter().chain(&rrset.rrsigs).map(|rdata| rdata.len() as u64).sum::<u64>();
            all.push((owner, rrset));
        }
        if octets > most {
            return Ok(None);
        }
        if is_last {
            return Ok(Some(all));
        }
        pace.rest().await;
    }
}

/// All RRsets of some small zones, by their rows, in canonical order each, zone after zone. For PostgreSQL.
///
/// # Errors
/// Of the database.
pub async fn of_zones(connection: &mut Connection, zones: &[i64]) -> sqlx::Result<Vec<Listed>> {
    if zones.is_empty() {
        return Ok(Vec::new());
    }
    let zones: Vec<String> = zones.iter().map(ToString::to_string).collect();
    connection.query(OF_ZONES).bind(zones.join(",")).fetch_all().await?.iter().map(listed).collect()
}

/// Writes RRsets. What does not fit into the batch with others is run at once.
///
/// # Errors
/// Of the database.
pub async fn put(
    batch: &mut Batch,
    connection: &mut Connection,
    zone_id: i64,
    rrsets: &[(&Name, &Rrset)],
) -> sqlx::Result<()> {
    let (many, rest) = rrsets.as_chunks::<MANY>();
    let many = many.iter().map(|chunk| (PUT_MANY.as_str(), chunk.as_slice()));
    let rest = rest.chunks(1).map(|one| (PUT, one));
    for (statement, rows) in many.chain(rest) {
        let mut values = batch.add(statement);
        for (owner, rrset) in rows {
            values = values
                .bind(zone_id)
                .bind(name_key::encode(owner.as_ref()))
                .bind(i64::from(rrset.rtype.0))
                .bind(i64::from(rrset.ttl))
                .bind(sets::pack(&rrset.rdata))
                .bind(sets::pack(&rrset.rrsigs));
        }
        if batch.is_full() {
            batch.run(connection).await?;
        }
    }
    Ok(())
}

/// Deletes one RRset.
pub fn delete(batch: &mut Batch, zone_id: i64, owner: NameRef<'_>, rtype: Rtype) {
    batch.add(DELETE).bind(zone_id).bind(name_key::encode(owner)).bind(i64::from(rtype.0));
}

/// How many RRsets a zone has.
///
/// # Errors
/// Of the database.
pub async fn count(connection: &mut Connection, zone_id: i64) -> sqlx::Result<i64> {
    connection.query(COUNT).bind(zone_id).fetch_value().await
}

/// How many RRsets there are in all zones; `most` where there are more.
///
/// # Errors
/// Of the database.
pub async fn count_all(connection: &mut Connection, most: i64) -> sqlx::Result<i64> {
    connection.query(COUNT_ALL).bind(most).fetch_value().await
}

/// How many owner names a zone has.
///
/// # Errors
/// Of the database.
pub async fn count_names(connection: &mut Connection, zone_id: i64) -> sqlx::Result<u64> {
    let count: i64 = connection.query(COUNT_NAMES).bind(zone_id).fetch_value().await?;
    Ok(u64::try_from(count).unwrap_or(0))
}
