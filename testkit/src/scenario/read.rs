//! Reads a file of scenarios. Records are read by `domain`.

use anyhow::{Context, Result, bail, ensure};
use domain::base::iana;
use domain::base::name::ToName;
use domain::base::rdata::ComposeRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};
use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;

use super::reaction::{Reaction, StatedOpt};
use super::{CLIENT, COOKIE_SECRET, Case, NOW, Scenario};
use crate::message::{Record, canonical_rdata};
use crate::reference::{Any, Cookies, Settings, Transport, World, Zone, ZoneRecord, server_cookie};

/// Reads the text of one file.
///
/// # Errors
/// The line, and what was expected there.
pub fn read(name: &str, text: &str) -> Result<Scenario> {
    let mut scenario = Scenario {
        name: name.to_owned(),
        world: World::default(),
        settings: Settings::default(),
        cases: Vec::new(),
    };
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .peekable();
    while let Some((number, line)) = lines.next() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let place = || format!("line {number}: {line}");
        match word {
            "settings" => settings(rest, &mut scenario.settings).with_context(place)?,
            "zone" => {
                let mut records = String::new();
                loop {
                    let Some((_, line)) = lines.next() else { bail!("{}: no end", place()) };
                    if line == "end" {
                        break;
                    }
                    records.push_str(line);
                    records.push('\n');
                }
                scenario.world.zones.push(zone(rest, &records).with_context(place)?);
            }
            "case" => {
                ensure!(rest.starts_with("RFC "), "{}: a case begins with the RFC that decides", place());
                let Some((_, query)) = lines.next() else { bail!("{}: no query", place()) };
                let Some((_, stated)) = lines.next() else { bail!("{}: no reaction", place()) };
                let (transport, packet) =
                    self::query(query).with_context(|| format!("{}: {query}", place()))?;
                let mut reaction = reaction(stated).with_context(|| format!("{}: {stated}", place()))?;
                while let Some((_, line)) = lines.peek() {
                    let Some((section, record)) = section(line) else { break };
                    let Some(reaction) = &mut reaction else { bail!("{}: records after silence", place()) };
                    let record = self::record(record).with_context(|| format!("{}: {line}", place()))?;
                    reaction.sections[section].push(record);
                    lines.next();
                }
                if let Some(reaction) = &mut reaction {
                    reaction.sections.iter_mut().for_each(|section| section.sort());
                }
                let title = rest.to_owned();
                scenario.cases.push(Case { title, line: number, transport, packet, reaction });
            }
            _ => bail!("{}: expected settings, zone or case", place()),
        }
    }
    ensure!(!scenario.cases.is_empty(), "no cases");
    Ok(scenario)
}

fn section(line: &str) -> Option<(usize, &str)> {
    let (word, rest) = line.split_once(' ')?;
    let section = ["answer", "authority", "additional"].iter().position(|section| *section == word)?;
    Some((section, rest.trim()))
}

fn settings(text: &str, settings: &mut Settings) -> Result<()> {
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').context("expected key=value")?;
        match key {
            "any" => {
                settings.any = match value {
                    "minimal" => Any::Minimal,
                    "always-minimal" => Any::AlwaysMinimal,
                    "full" => Any::Full,
                    _ => bail!("{word}: minimal, always-minimal or full"),
                };
            }
            "nsid" => settings.nsid = Some(value.as_bytes().to_vec()),
            "cookies" => {
                let require = value == "require";
                ensure!(require || value == "on", "{word}: on or require");
                settings.cookies = Some(Cookies { current: COOKIE_SECRET, previous: None, require });
            }
            "udp_payload_max" => settings.udp_payload_max = value.parse()?,
            "resolve_cname_chain" => settings.resolve_cname_chain = value.parse()?,
            "max_cname_depth" => settings.max_cname_depth = value.parse()?,
            "version_bind" => settings.version_bind = Some(value.as_bytes().to_vec()),
            "id_server" => settings.id_server = Some(value.as_bytes().to_vec()),
            "tcp_keepalive" => settings.tcp_keepalive = Some(value.parse()?),
            "serving" => settings.serving = value.parse()?,
            "without_data" => {
                settings.without_data =
                    value.split(',').map(str::parse).collect::<Result<_, _>>().context("expected names")?;
            }
            _ => bail!("{word}: no such setting"),
        }
    }
    Ok(())
}

fn zone(head: &str, text: &str) -> Result<Zone> {
    let mut words = head.split_whitespace();
    let apex: Name = words.next().context("no apex")?.parse()?;
    let mut owner_number = 0;
    for word in words {
        let (key, value) = word.split_once('=').context("expected owner=N")?;
        ensure!(key == "owner", "{word}: expected owner=N");
        owner_number = value.parse()?;
    }
    let records = records(text)?
        .into_iter()
        .map(|record| ZoneRecord {
            owner: record.owner,
            rtype: record.rtype,
            ttl: record.ttl,
            rdata: record.rdata,
        })
        .collect();
    Ok(Zone { apex, owner_number, records })
}

/// `owner TTL [class] type RDATA`; names end in a dot.
fn records(text: &str) -> Result<Vec<Record>> {
    let mut file = Zonefile::from(format!("{text}\n").as_bytes());
    file.set_origin(domain::base::Name::root());
    // The reader takes one class only.
    let chaos = text.split_whitespace().any(|word| word == "CH");
    file.set_default_class(if chaos { iana::Class::CH } else { iana::Class::IN });
    let mut records = Vec::new();
    while let Some(entry) = file.next_entry().with_context(|| text.to_owned())? {
        let Entry::Record(record) = entry else { bail!("$INCLUDE in a scenario") };
        let mut rdata: Vec<u8> = Vec::new();
        let Ok(()) = record.data().compose_rdata(&mut rdata);
        records.push(Record {
            owner: Name::from_wire(record.owner().to_vec().as_slice())?,
            rtype: Rtype(record.rtype().to_int()),
            class: record.class().to_int(),
            ttl: record.ttl().as_secs(),
            rdata,
        });
    }
    Ok(records)
}

fn record(text: &str) -> Result<Record> {
    if let Some((head, rdata)) = text.split_once("\\#") {
        return opaque_record(head, rdata);
    }
    let mut records = records(text)?;
    ensure!(records.len() == 1, "expected one record");
    let mut record = records.remove(0);
    record.rdata = canonical_rdata(record.rtype, &record.rdata);
    Ok(record)
}

/// `owner TTL class type \# length octets` (RFC 3597 §5), for types that are not of zones too.
fn opaque_record(head: &str, rdata: &str) -> Result<Record> {
    let mut head = head.split_whitespace();
    let mut word = || head.next().context("expected owner, TTL, class and type before \\#");
    let owner: Name = word()?.parse()?;
    let ttl: u32 = word()?.parse()?;
    let class = match word()? {
        "IN" => 1,
        "ANY" => 255,
        class => bail!("{class}: expected IN or ANY"),
    };
    let rtype: Rtype = word()?.parse()?;
    let (len, octets) = rdata.trim().split_once(' ').context("expected length and octets")?;
    let mut rdata = Vec::new();
    for word in octets.split_whitespace() {
        rdata.extend(hexadecimal(word)?);
    }
    ensure!(rdata.len() == len.parse::<usize>()?, "{} octets where {len} were announced", rdata.len());
    Ok(Record { owner, rtype, class, ttl, rdata: canonical_rdata(rtype, &rdata) })
}

fn query(text: &str) -> Result<(Transport, Vec<u8>)> {
    let (transport, rest) = text.split_once(' ').context("expected udp or tcp")?;
    let transport = match transport {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => bail!("expected udp or tcp"),
    };
    let packet = match rest.strip_prefix("raw") {
        Some(octets) => raw(octets)?,
        None => well_formed(rest)?,
    };
    Ok((transport, packet))
}

fn raw(text: &str) -> Result<Vec<u8>> {
    let mut packet = Vec::new();
    for word in text.split_whitespace() {
        match word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
            // The case is kept, so not by way of a lower-cased name.
            Some(name) => {
                let name: domain::base::Name<Vec<u8>> = name.parse()?;
                packet.extend_from_slice(name.as_slice());
            }
            None => packet.extend(hexadecimal(word)?),
        }
    }
    Ok(packet)
}

fn hexadecimal(text: &str) -> Result<Vec<u8>> {
    ensure!(text.is_ascii() && text.len().is_multiple_of(2), "{text}: expected pairs of hexadecimal digits");
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).with_context(|| text.to_owned()))
        .collect()
}

fn well_formed(text: &str) -> Result<Vec<u8>> {
    let mut words = text.split_whitespace();
    let name: domain::base::Name<Vec<u8>> = words.next().context("no QNAME")?.parse()?;
    let qtype: Rtype = words.next().context("no QTYPE")?.parse()?;
    let (mut flags, mut class, mut opcode) = (0u8, 1u16, 0u8);
    let (mut edns, mut size, mut version, mut dnssec_ok) = (false, 1232u16, 0u8, false);
    let mut options = Vec::new();
    let mut option = |code: u16, value: &[u8]| {
        options.extend_from_slice(&code.to_be_bytes());
        options.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
        options.extend_from_slice(value);
    };
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        edns |= !matches!(key, "rd" | "class" | "opcode");
        match key {
            "rd" => flags |= 1,
            "class" if value == "CH" => class = 3,
            "class" => class = value.parse()?,
            "opcode" => opcode = value.parse()?,
            "edns" => {}
            "do" => dnssec_ok = true,
            "size" => size = value.parse()?,
            "version" => version = value.parse()?,
            "nsid" => option(3, &[]),
            "keepalive" => option(11, &[]),
            "cookie" if value == "good" => {
                let client = [0xC1; 8];
                option(10, &[&client[..], &server_cookie(client, &COOKIE_SECRET, CLIENT, NOW)].concat());
            }
            "cookie" => option(10, &hexadecimal(value)?),
            _ => bail!("{word}: no such part of a query"),
        }
    }
    let mut packet = vec![0x12, 0x34, flags | opcode << 3, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    packet.extend_from_slice(name.as_slice());
    packet.extend_from_slice(&qtype.0.to_be_bytes());
    packet.extend_from_slice(&class.to_be_bytes());
    if edns {
        packet.extend_from_slice(&[0, 0, 41]);
        packet.extend_from_slice(&size.to_be_bytes());
        packet.extend_from_slice(&[0, version, u8::from(dnssec_ok) << 7, 0]);
        packet.extend_from_slice(&u16::try_from(options.len())?.to_be_bytes());
        packet.extend_from_slice(&options);
    }
    Ok(packet)
}

fn reaction(text: &str) -> Result<Option<Reaction>> {
    if text == "silence" {
        return Ok(None);
    }
    let mut words = text.split_whitespace();
    let rcode = words.next().context("no RCODE")?;
    let rcode: u16 = match rcode {
        "NOERROR" => 0,
        "FORMERR" => 1,
        "SERVFAIL" => 2,
        "NXDOMAIN" => 3,
        "NOTIMP" => 4,
        "REFUSED" => 5,
        "YXDOMAIN" => 6,
        "NOTAUTH" => 9,
        "BADVERS" => 16,
        "BADCOOKIE" => 23,
        _ => bail!("{rcode}: no such RCODE"),
    };
    let mut reaction = Reaction { rcode, question: true, ..Reaction::default() };
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match (key, &mut reaction.opt) {
            ("aa", _) => reaction.aa = true,
            ("tc", _) => reaction.tc = true,
            ("rd", _) => reaction.rd = true,
            ("no-question", _) => reaction.question = false,
            ("opt", opt) => *opt = Some(StatedOpt::default()),
            ("size", Some(opt)) => opt.udp_payload_octets = value.parse()?,
            ("do", Some(opt)) => opt.dnssec_ok = true,
            ("cookie", Some(opt)) => opt.cookie = true,
            ("nsid", Some(opt)) => opt.options.push((3, value.as_bytes().to_vec())),
            ("keepalive", Some(opt)) => opt.options.push((11, value.parse::<u16>()?.to_be_bytes().to_vec())),
            ("ede", Some(opt)) => opt.options.push((15, value.parse::<u16>()?.to_be_bytes().to_vec())),
            _ => bail!("{word}: no such part of a reaction, or it needs opt before it"),
        }
    }
    if let Some(opt) = &mut reaction.opt {
        opt.options.sort();
    }
    Ok(Some(reaction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_in_a_file_is_said_with_its_line() {
        for (text, expected) in [
            ("case RFC 1: x\nudp a. A\nNOERROR zz\n", "zz"),
            ("case no RFC\nudp a. A\nNOERROR\n", "RFC that decides"),
            ("\ncase RFC 1: x\nudp a.\nNOERROR\n", "line 2"),
            ("zone a.\na. 1 A 192.0.2.1\n", "no end"),
            ("settings zz=1\ncase RFC 1: x\nudp a. A\nsilence\n", "no such setting"),
            ("# nothing\n", "no cases"),
        ] {
            let error = format!("{:#}", read("x", text).unwrap_err());
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_reaction_is_held_to_all_it_says() {
        let text = "case RFC 1: x\nudp a. A\nNOERROR aa\nanswer a. 5 A 192.0.2.1\n";
        let case = &read("x", text).unwrap().cases[0];
        let mut right = case.packet.clone();
        (right[2], right[7]) = (0x84, 1);
        right.extend_from_slice(&[0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 192, 0, 2, 1]);
        assert_eq!(case.check("x", Some(&right)), Ok(()));
        assert!(case.check("x", None).is_err());
        // Each octet matters.
        for at in 0..right.len() {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            assert!(case.check("x", Some(&wrong)).is_err(), "octet {at}");
        }
    }
}
