//! Whether a response is the expected one, and where it may lack parts because they do not fit.
//!
//! How small a message gets depends on how well names are compressed, which no RFC prescribes. So the octets are
//! not predicted; they are bounded: at least what they take with every name compressed as far as possible, at most what
//! they take when each RRset is compressed for itself and only its owner can point to the question. What surely fits
//! must be there; what surely does not must not.

use std::collections::HashSet;
use std::fmt::Write as _;

use godwit_wire::name::{Name, wire_len};
use godwit_wire::rr::Rtype;

use crate::message::{Message, Record};
use crate::reference::{Expected, Unit, rcode};

/// Compares a response with what is expected; the error shows both.
///
/// # Errors
/// A text for people: what differs, then the response and the expectation in full.
pub fn compare(expected: Option<&Expected>, response: Option<&[u8]>) -> Result<(), String> {
    let (expected, octets) = match (expected, response) {
        (None, None) => return Ok(()),
        (Some(expected), Some(octets)) => (expected, octets),
        (None, Some(octets)) => {
            let shown = Message::parse(octets).map_or_else(|e| format!("{e:#}"), |m| m.to_string());
            return Err(format!("expected silence, got\n{shown}"));
        }
        (Some(expected), None) => return Err(format!("got silence, expected\n{}", show(expected))),
    };
    let message =
        Message::parse(octets).map_err(|e| format!("response does not parse: {e:#}\n{octets:02x?}"))?;
    let faults = faults(expected, &message);
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!("{}\n--- got\n{message}--- expected\n{}", faults.join("\n"), show(expected)))
}

fn faults(expected: &Expected, got: &Message) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |what: &str, same: bool| {
        if !same {
            faults.push(format!("{what} differs"));
        }
    };
    check("ID", got.id == expected.id);
    check("QR", got.qr);
    check("opcode", got.opcode == expected.opcode);
    check("RD", got.rd == expected.rd);
    // A chain is not followed past a link that does not fit.
    let links =
        expected.answer.iter().all(|unit| unit.records.iter().all(|record| got.answer.contains(record)));
    check("RCODE", got.rcode == if links { expected.rcode } else { rcode::NOERROR });
    check("AA", got.aa == expected.aa);
    // RFC 4035 §3.1.6; RFC 1035 §4.1.1.
    check("RA, Z, AD or CD", !got.ra && !got.z && !got.ad && !got.cd);
    check("question", got.questions.iter().eq(&expected.question));
    check("OPT", same_opt(expected, got));
    check("TSIG", same_tsig(expected, got));
    if got.octets > expected.limit {
        faults.push(format!("{} octets are more than {}", got.octets, expected.limit));
    }
    faults.extend(sections(expected, got));
    faults
}

fn same_opt(expected: &Expected, got: &Message) -> bool {
    let (Some(expected), Some(got)) = (&expected.opt, &got.opt) else {
        return expected.opt.is_none() && got.opt.is_none();
    };
    let cookie = got.options.iter().find(|(code, _)| *code == 10).map(|(_, value)| value);
    // RFC 9018 §4: 8 octets of the client, 16 of ours, version 1.
    let cookie_is_right = match (&expected.client_cookie, cookie) {
        (None, None) => true,
        (Some(client), Some(value)) => {
            value.len() == 24 && value.starts_with(client) && value[8..12] == [1, 0, 0, 0]
        }
        _ => false,
    };
    let mut options: Vec<(u16, Vec<u8>)> = Vec::new();
    options.extend(expected.nsid.clone().map(|value| (3, value)));
    options.extend(expected.keepalive.map(|value| (11, value.to_be_bytes().to_vec())));
    options.extend(expected.extended_error.map(|code| (15, code.to_be_bytes().to_vec())));
    cookie_is_right
        && got.udp_payload_octets == expected.udp_payload_octets
        && got.version == 0
        && got.dnssec_ok == expected.dnssec_ok
        && got.other_flags == 0
        && got.options.iter().filter(|(code, _)| *code != 10).eq(&options)
}

/// RFC 8945 §5.3.2: the query's key, algorithm and time, no MAC, the query's ID, BADKEY, no other data.
fn same_tsig(expected: &Expected, got: &Message) -> bool {
    let mut signatures = got.additional.iter().filter(|record| record.rtype == Rtype::TSIG);
    match (&expected.tsig, signatures.next()) {
        (None, None) => true,
        (Some(tsig), Some(record)) => {
            let rdata = [
                tsig.algorithm.as_wire(),
                &tsig.time_and_fudge,
                &[0, 0],
                &expected.id.to_be_bytes(),
                &[0, 17],
                &[0, 0],
            ]
            .concat();
            record.owner == tsig.key && record.class == 255 && record.ttl == 0 && record.rdata == rdata
        }
        _ => false,
    }
}

/// The three sections, with what may be missing (`docs/answers.md` §11).
fn sections(expected: &Expected, got: &Message) -> Vec<String> {
    let mut faults = Vec::new();
    let additional: Vec<Record> =
        got.additional.iter().filter(|record| record.rtype != Rtype::TSIG).cloned().collect();
    let places: [(&str, &[Unit], &[Record]); 3] = [
        ("answer", &expected.answer, &got.answer),
        ("authority", &expected.authority, &got.authority),
        ("additional", &expected.additional, &additional),
    ];
    let mut size = Size::new(expected);
    // What stands behind all sections takes its room from the start.
    size.add_opt(got);
    let mut truncated = false;
    for (place, units, records) in places {
        let mut missing_from: Vec<Record> = records.to_vec();
        for unit in units {
            let there = unit.records.iter().all(|record| records.contains(record));
            if there {
                if truncated {
                    faults.push(format!("{place}: a unit follows one that did not fit"));
                }
                for record in &unit.records {
                    if let Some(at) = missing_from.iter().position(|other| other == record) {
                        missing_from.swap_remove(at);
                    }
                }
                size.add(unit);
                continue;
            }
            let mut with = size.clone();
            with.add(unit);
            if with.most <= expected.limit && !truncated {
                faults.push(format!("{place}: lacks what fits:\n{}", show_unit(unit)));
            } else if unit.required {
                truncated = true;
            }
        }
        for record in missing_from {
            faults.push(format!("{place}: has what is not expected:\n{record}"));
        }
    }
    if truncated != got.tc {
        faults.push(format!("TC is {}, expected {truncated}", got.tc));
    }
    faults
}

/// The fewest octets that the response can take, as far as it is required; an OPT counted without options.
#[must_use]
pub fn least_octets(expected: &Expected) -> usize {
    let mut size = Size::new(expected);
    let sections = [&expected.answer, &expected.authority, &expected.additional];
    for unit in sections.into_iter().flatten().filter(|unit| unit.required) {
        size.add(unit);
    }
    size.least + if expected.opt.is_some() { 11 } else { 0 }
}

/// Bounds on the octets of a message, grown unit by unit.
#[derive(Clone, Debug)]
struct Size {
    least: usize,
    most: usize,
    /// Every name, and every name above one, that stands in the message.
    names: HashSet<Name>,
    /// The same of the question alone.
    question_names: HashSet<Name>,
}

impl Size {
    fn new(expected: &Expected) -> Size {
        let mut size = Size { least: 12, most: 12, names: HashSet::new(), question_names: HashSet::new() };
        if let Some(question) = &expected.question {
            size.least += question.qname.len() + 4;
            size.most = size.least;
            if let Ok(name) = Name::from_wire(&question.qname) {
                learn(&mut size.names, &name);
                learn(&mut size.question_names, &name);
            }
        }
        size
    }

    /// The OPT of the response, whose size is known from it.
    fn add_opt(&mut self, got: &Message) {
        if let Some(opt) = &got.opt {
            let len = 11 + opt.options.iter().map(|(_, value)| 4 + value.len()).sum::<usize>();
            self.least += len;
            self.most += len;
        }
    }

    fn add(&mut self, unit: &Unit) {
        // Names that this unit's RDATA can point to when it is compressed by itself.
        let mut own = HashSet::new();
        for record in &unit.records {
            self.least += 10;
            self.most += 10;
            let mut known = self.question_names.clone();
            known.extend(own.iter().cloned());
            self.add_name(&record.owner, true, &known);
            if own.is_empty() {
                self.most += owner_allowance(record.rtype, &record.owner, &known);
            }
            learn(&mut own, &record.owner);
            let mut at = 0;
            for (gap, compressible) in names_in(record.rtype) {
                let start = at + gap;
                let Some(len) = record.rdata.get(start..).and_then(|rest| wire_len(rest).ok()) else { break };
                self.least += gap;
                self.most += gap;
                let name = Name::from_wire(&record.rdata[start..start + len]).expect("measured");
                // The target that a DNAME makes may point to the DNAME's target alone.
                let known = if record.rtype == Rtype::CNAME { &HashSet::new() } else { &own };
                self.add_name(&name, *compressible, known);
                learn(&mut own, &name);
                at = start + len;
            }
            self.least += record.rdata.len() - at;
            self.most += record.rdata.len() - at;
        }
    }

    fn add_name(&mut self, name: &Name, compressible: bool, own: &HashSet<Name>) {
        let whole = name.as_wire().len();
        if compressible {
            self.least += compressed_len(name, &self.names);
            self.most += compressed_len(name, own);
        } else {
            self.least += whole;
            self.most += whole;
        }
        learn(&mut self.names, name);
    }
}

/// What the first owner of an RRset may cost beyond its best form: denial records need not find out that their owner is a suffix of
/// the question, and a pointer to the root takes an octet more than the root.
fn owner_allowance(rtype: Rtype, owner: &Name, known: &HashSet<Name>) -> usize {
    match rtype {
        Rtype::NSEC | Rtype::NSEC3 => owner.as_wire().len() + 1 - compressed_len(owner, known),
        _ => 1,
    }
}

/// Octets of a name with a pointer for the part that is known; the root is shorter than a pointer to it.
fn compressed_len(name: &Name, known: &HashSet<Name>) -> usize {
    let mut at = name.as_ref();
    while !at.is_root() && !known.contains(&at.to_owned()) {
        at = at.parent().expect("not the root");
    }
    let whole = name.as_wire().len();
    if at.is_root() { whole } else { whole - at.as_wire().len() + 2 }
}

fn learn(names: &mut HashSet<Name>, name: &Name) {
    let mut at = name.as_ref();
    while !at.is_root() {
        names.insert(at.to_owned());
        at = at.parent().expect("not the root");
    }
}

/// Where names stand in RDATA (counted from the end of the one before) and whether they may be compressed
/// (RFC 3597 §4: types of RFC 1035 only).
fn names_in(rtype: Rtype) -> &'static [(usize, bool)] {
    match rtype {
        Rtype::NS | Rtype::CNAME | Rtype::PTR | Rtype::MB | Rtype::MD | Rtype::MF | Rtype::MG | Rtype::MR => {
            &[(0, true)]
        }
        Rtype::SOA | Rtype::MINFO => &[(0, true), (0, true)],
        Rtype::MX => &[(2, true)],
        Rtype::SRV => &[(6, false)],
        Rtype::DNAME => &[(0, false)],
        _ => &[],
    }
}

fn show_unit(unit: &Unit) -> String {
    unit.records.iter().map(|record| format!("{record}\n")).collect()
}

/// The expectation in the shape of a message.
#[must_use]
pub fn show(expected: &Expected) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        ";; opcode {} rcode {} id {} aa {} rd {}, at most {} octets",
        expected.opcode, expected.rcode, expected.id, expected.aa, expected.rd, expected.limit
    );
    let _ = writeln!(
        text,
        ";; question {:?}\n;; OPT {:?}\n;; TSIG {:?}",
        expected.question, expected.opt, expected.tsig
    );
    for (place, units) in [
        ("answer", &expected.answer),
        ("authority", &expected.authority),
        ("additional", &expected.additional),
    ] {
        for unit in units {
            for record in &unit.records {
                let optional = if unit.required { "" } else { " (if it fits)" };
                let _ = writeln!(text, "{place:>10}: {record}{optional}");
            }
        }
    }
    text
}
