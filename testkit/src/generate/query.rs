//! Random queries: mostly for names that a zone has, or right beside them.

use std::net::IpAddr;

use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::pick;
use super::rdata::child;
use crate::reference::{Transport, World, Zone, server_cookie};

/// A query as octets, with what it asks.
#[derive(Clone, Debug)]
pub struct GeneratedQuery {
    /// The message.
    pub packet: Vec<u8>,
    /// QNAME in lower case.
    pub qname: Name,
    /// QTYPE.
    pub qtype: Rtype,
    /// How it comes.
    pub transport: Transport,
    /// Who asks.
    pub address: IpAddr,
    /// Whether the name is drawn from a zone or from beside one of its names.
    pub near: bool,
}

/// What queries may be.
#[derive(Clone, Copy, Debug)]
pub struct QueryOptions {
    /// Only what every server answers in the same way: no options, no broken messages, class IN, no ANY.
    pub plain: bool,
    /// Cookies are made right with this secret, now and then.
    pub cookie_secret: [u8; 16],
    /// The time that cookies are made for.
    pub now: u32,
}

/// Draws a query.
#[must_use]
pub fn query(random: &mut ChaCha8Rng, options: &QueryOptions, world: &World) -> GeneratedQuery {
    let (qname, near) = qname(random, world);
    let qtype = qtype(random, options, world, &qname);
    let transport = if random.random_bool(0.2) { Transport::Tcp } else { Transport::Udp };
    let address: IpAddr = if random.random_bool(0.5) {
        IpAddr::from([198, 51, 100, random.random()])
    } else {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, random.random()])
    };
    let mut packet = random.random::<u16>().to_be_bytes().to_vec();
    // RD, and bits that mean nothing in a query to us.
    let (high, low) =
        if options.plain { (0, 0) } else { (random.random::<u8>() & 0x07, random.random::<u8>() & 0x7F) };
    packet.extend_from_slice(&[high, low, 0, 1, 0, 0, 0, 0, 0, 0]);
    packet.extend(qname.as_wire().iter().map(|octet| {
        // Lengths of labels are below 64 and so no letters (DNS 0x20).
        if octet.is_ascii_lowercase() && random.random_bool(0.3) {
            octet.to_ascii_uppercase()
        } else {
            *octet
        }
    }));
    packet.extend_from_slice(&qtype.0.to_be_bytes());
    let class =
        if options.plain || random.random_bool(0.99) { 1u16 } else { *pick(random, &[0, 3, 254, 255]) };
    packet.extend_from_slice(&class.to_be_bytes());
    if random.random_bool(0.75) {
        opt(random, options, address, &mut packet);
    }
    if !options.plain && random.random_bool(0.03) {
        damage(random, &mut packet);
    }
    GeneratedQuery { packet, qname, qtype, transport, address, near }
}

/// A name, and whether it has to do with the zones.
fn qname(random: &mut ChaCha8Rng, world: &World) -> (Name, bool) {
    let zone = pick(random, &world.zones);
    let near = random.random_bool(0.9);
    if !near {
        let above = ["alpha.test.", "beta.test.", "n.alpha.test.", "gamma.test.", "invalid.", "."];
        let above: Name = pick(random, &above).parse().expect("a name");
        let label = *pick(random, &["random", "zz", "*", "_tcp", "w"]);
        let name =
            if random.random_bool(0.2) { above } else { child(&above, label.as_bytes()).expect("short") };
        return (name, false);
    }
    let mut name = interesting(random, zone);
    for _ in 0..3 {
        name = match random.random_range(0..10) {
            0..=4 => return (name, true),
            // Up: towards empty non-terminals and the apex.
            5 | 6 => match name.as_ref().parent() {
                Some(above) if name != zone.apex => above.to_owned(),
                _ => return (name, true),
            },
            // Down: towards NXDOMAIN, wildcards, and what is below cuts and DNAMEs.
            7 | 8 => below(random, &name),
            // Beside.
            _ => match name.as_ref().parent() {
                Some(above) if name != zone.apex => below(random, &above.to_owned()),
                _ => return (name, true),
            },
        };
    }
    (name, true)
}

fn below(random: &mut ChaCha8Rng, name: &Name) -> Name {
    let label = *pick(random, &["a", "b", "nothing", "*", "hidden", "ns0", "w", "e", "zzz"]);
    child(name, label.as_bytes()).unwrap_or_else(|| name.clone())
}

/// An owner, those with rarer types as often as others.
fn interesting(random: &mut ChaCha8Rng, zone: &Zone) -> Name {
    let rtype = *pick(
        random,
        &[Rtype::CNAME, Rtype::CNAME, Rtype::DNAME, Rtype::NS, Rtype::NS, Rtype::DS, Rtype::MX, Rtype(0)],
    );
    let wildcard = random.random_bool(0.12);
    let fitting: Vec<&Name> = zone
        .records
        .iter()
        .filter(|record| if wildcard { record.owner.as_ref().is_wildcard() } else { record.rtype == rtype })
        .map(|record| &record.owner)
        .collect();
    match fitting[..] {
        [] => pick(random, &zone.records).owner.clone(),
        _ if wildcard => {
            // What a wildcard answers for.
            let above = pick(random, &fitting).as_ref().parent().expect("not the root").to_owned();
            below(random, &above)
        }
        _ => (*pick(random, &fitting)).clone(),
    }
}

fn qtype(random: &mut ChaCha8Rng, options: &QueryOptions, world: &World, qname: &Name) -> Rtype {
    let there: Vec<Rtype> = world
        .zones
        .iter()
        .flat_map(|zone| zone.at(qname))
        .map(|record| record.rtype)
        .filter(|rtype| *rtype != Rtype::RRSIG)
        .collect();
    match random.random_range(0..100) {
        0..=34 if !there.is_empty() => *pick(random, &there),
        0..=64 => *pick(random, &[Rtype::A, Rtype::AAAA, Rtype::TXT, Rtype::MX]),
        65..=74 => Rtype::DS,
        75..=89 => *pick(
            random,
            &[
                Rtype::NS,
                Rtype::SOA,
                Rtype::CNAME,
                Rtype::DNAME,
                Rtype::SRV,
                Rtype::SVCB,
                Rtype::HTTPS,
                Rtype(65400),
                Rtype::PTR,
            ],
        ),
        _ if options.plain => Rtype::A,
        90..=94 => Rtype::ANY,
        95..=97 => {
            *pick(random, &[Rtype::RRSIG, Rtype::NSEC, Rtype::NSEC3, Rtype::DNSKEY, Rtype::NSEC3PARAM])
        }
        _ => *pick(
            random,
            &[
                Rtype(0),
                Rtype::OPT,
                Rtype::AXFR,
                Rtype::IXFR,
                Rtype::MAILA,
                Rtype::MAILB,
                Rtype::TKEY,
                Rtype::TSIG,
                Rtype(200),
            ],
        ),
    }
}

fn opt(random: &mut ChaCha8Rng, options: &QueryOptions, address: IpAddr, packet: &mut Vec<u8>) {
    packet[11] += 1;
    let size = match random.random_range(0..6) {
        0 => random.random(),
        1 => 512,
        2 => random.random_range(512..1300),
        3 => 4096,
        _ => 1232,
    };
    let size = if options.plain { 1232u16 } else { size };
    packet.extend_from_slice(&[0, 0, 41]);
    packet.extend_from_slice(&size.to_be_bytes());
    let version = u8::from(!options.plain && random.random_bool(0.01));
    let flags = if random.random_bool(0.6) { 0x80 } else { 0 };
    packet.extend_from_slice(&[0, version, flags, 0]);
    let mut rdata: Vec<u8> = Vec::new();
    let mut add = |code: u16, value: &[u8]| {
        rdata.extend_from_slice(&code.to_be_bytes());
        rdata.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
        rdata.extend_from_slice(value);
    };
    if !options.plain {
        if random.random_bool(0.1) {
            add(3, &[]);
        }
        if random.random_bool(0.3) {
            let client: [u8; 8] = random.random();
            let server = match random.random_range(0..4) {
                0 => Vec::new(),
                1 => (0..random.random_range(7..34)).map(|_| random.random()).collect(),
                _ => {
                    let age = *pick(random, &[0u32, 1800, 3601]);
                    server_cookie(client, &options.cookie_secret, address, options.now.wrapping_sub(age))
                        .to_vec()
                }
            };
            add(10, &[&client[..], &server].concat());
        }
        if random.random_bool(0.1) {
            add(11, &[]);
        }
        if random.random_bool(0.1) {
            // Client subnet and one that nobody knows.
            add(8, &[0, 1, 24, 0, 192, 0, 2]);
            add(65001, &[1, 2, 3]);
        }
    }
    packet.extend_from_slice(&u16::try_from(rdata.len()).expect("short").to_be_bytes());
    packet.extend_from_slice(&rdata);
}

/// Makes the message a broken or a strange one.
fn damage(random: &mut ChaCha8Rng, packet: &mut Vec<u8>) {
    match random.random_range(0..6) {
        0 => packet.truncate(random.random_range(0..packet.len())),
        1 => packet.push(random.random()),
        2 => {
            let at = random.random_range(0..packet.len());
            packet[at] ^= 1 << random.random_range(0..8);
        }
        3 => {
            let at = random.random_range(2..packet.len());
            packet[at] = random.random();
        }
        4 => {
            // A second OPT, or the first.
            packet[11] += 1;
            packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        }
        _ => {
            packet[11] += 1;
            let id = [packet[0], packet[1]];
            // Algorithm, time, fudge, no MAC, original ID, no error, no other data (RFC 8945 §4.2).
            let rdata =
                [&[3, b'a', b'l', b'g', 0][..], &[0, 0, 0, 0, 0, 1, 1, 44, 0, 0], &id, &[0; 4]].concat();
            packet.extend_from_slice(&[3, b'k', b'e', b'y', 0, 0, 250, 0, 255, 0, 0, 0, 0, 0]);
            packet.push(u8::try_from(rdata.len()).expect("short"));
            packet.extend_from_slice(&rdata);
        }
    }
}
