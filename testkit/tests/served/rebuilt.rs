//! A zone put together again from answers alone: nothing is taken from the file but the names to ask for.

use anyhow::Result;
use godwit_testkit::message::{Message, Record};
use godwit_testkit::reference::{Zone, ZoneRecord};
use godwit_testkit::servers::{self, Server};
use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

/// So many names that do not exist are asked for.
const COVERED_NAMES: u32 = 300;

/// Asks for all types at all names and at names beside them, and keeps what comes from the zone.
pub(crate) fn zone(server: &Server, asked: &Zone) -> Result<Zone> {
    let mut names: Vec<Name> = asked.records.iter().flat_map(|record| asked.path(&record.owner)).collect();
    names.sort();
    names.dedup();
    // NSEC3 that match no negative answer cover some.
    for number in 0..COVERED_NAMES {
        let above = asked.apex.to_string();
        names.push(format!("covered-{number}.{above}").parse()?);
    }
    let mut rebuilt = Zone { apex: asked.apex.clone(), owner_number: 0, records: Vec::new() };
    for name in &names {
        for rtype in [Rtype::ANY, Rtype::DS, Rtype::NSEC, Rtype(65400)] {
            let message = Message::parse(&servers::ask_tcp(server.address(), &query(name, rtype))?)?;
            for record in message.sections().into_iter().flatten() {
                keep(&mut rebuilt, asked, record);
            }
        }
    }
    Ok(rebuilt)
}

/// Adds a record, unless it is there. Those of negative answers have another TTL (RFC 2308 §3) and come again by themselves.
fn keep(rebuilt: &mut Zone, asked: &Zone, record: &Record) {
    let negative_soa = |rtype: Rtype| rtype == Rtype::SOA && record.ttl < asked.soa().ttl;
    let covered = match &record.rdata[..] {
        [high, low, ..] if record.rtype == Rtype::RRSIG => Rtype(u16::from_be_bytes([*high, *low])),
        _ => record.rtype,
    };
    let record = ZoneRecord {
        owner: record.owner.clone(),
        rtype: record.rtype,
        ttl: record.ttl,
        rdata: record.rdata.clone(),
    };
    let made = record.owner.as_ref().is_at_or_below(asked.apex.as_ref()) && rebuilt.records.contains(&record);
    if !negative_soa(covered) && !made {
        rebuilt.records.push(record);
    }
}

/// A query with DO.
fn query(name: &Name, rtype: Rtype) -> Vec<u8> {
    let mut packet = vec![0x72, 0x62, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    packet.extend_from_slice(name.as_wire());
    packet.extend_from_slice(&rtype.0.to_be_bytes());
    packet.extend_from_slice(&[0, 1, 0, 0, 41, 0x04, 0xD0, 0, 0, 0x80, 0, 0, 0]);
    packet
}
