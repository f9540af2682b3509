//! What an answer must be, as the zone data says, and the comparison with an answer received.
//! The truth comes from the generator of the zone files, never from a server.

use super::record::{Data, Record, name_wire, rtype};
use crate::message::{self, Message, Rr};

/// The one right answer to a query, up to the order of records and to what servers may leave out.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// RCODE.
    pub rcode: u8,
    /// The AA bit: set in all answers but referrals (RFC 1034 §4.3.2).
    pub authoritative: bool,
    /// Exactly these in the answer section.
    pub answer: Vec<Record>,
    /// Exactly these in the authority section, or none when `authority_optional`.
    pub authority: Vec<Record>,
    /// A positive answer may carry the zone's NS RRset in its authority section or leave it out; both are usual.
    pub authority_optional: bool,
    /// All of these must be in the additional section: the glue of a referral (RFC 9471).
    pub glue: Vec<Record>,
    /// Any of these may be in the additional section (addresses of MX and SRV targets, of name servers).
    pub helpful: Vec<Record>,
}

/// Compares one answer with the truth. `query` is the message that was sent.
///
/// # Errors
/// A sentence that says what differs.
pub fn compare(query: &[u8], answer: &[u8], expected: &Expected) -> Result<(), String> {
    let asked = message::read(query).map_err(|reason| format!("own query unreadable: {reason}"))?;
    let got = message::read(answer).map_err(|reason| format!("answer unreadable: {reason}"))?;
    compare_head(&asked, &got, expected)?;
    same("answer section", &got.answer, &expected.answer)?;
    if !(expected.authority_optional && got.authority.is_empty()) {
        same("authority section", &got.authority, &expected.authority)?;
    }
    let opts = got.additional.iter().filter(|rr| rr.rtype == rtype::OPT).count();
    let asked_opt = asked.additional.iter().any(|rr| rr.rtype == rtype::OPT);
    // RFC 6891 §6.1.1: an OPT in the query, one in the answer, and none without.
    if opts != usize::from(asked_opt) {
        return Err(format!("{opts} OPT records in the answer, {} in the query", u8::from(asked_opt)));
    }
    let additional: Vec<Rr> = got.additional.iter().filter(|rr| rr.rtype != rtype::OPT).cloned().collect();
    let glue = wire(&expected.glue);
    if let Some(missing) = glue.iter().find(|rr| !additional.contains(rr)) {
        return Err(format!("glue missing: {missing}"));
    }
    let helpful = wire(&expected.helpful);
    if let Some(extra) = additional.iter().find(|rr| !glue.contains(rr) && !helpful.contains(rr)) {
        return Err(format!("additional section has what the zone does not: {extra}"));
    }
    Ok(())
}

/// Header and question.
fn compare_head(asked: &Message, got: &Message, expected: &Expected) -> Result<(), String> {
    if got.id != asked.id {
        return Err(format!("id {} instead of {}", got.id, asked.id));
    }
    let wanted_flags = 0x8000 | (u16::from(expected.authoritative) << 10) | (asked.flags & 0x0100);
    // All of the header's second word but RA and AD, which no authoritative answer here depends on, and the RCODE.
    if got.flags & 0xFF50 != wanted_flags {
        return Err(format!("flags {:04x} instead of {wanted_flags:04x}", got.flags & 0xFF50));
    }
    if got.rcode() != expected.rcode {
        return Err(format!("RCODE {} instead of {}", got.rcode(), expected.rcode));
    }
    if got.question != asked.question {
        return Err("another question than asked, or its case changed".to_owned());
    }
    Ok(())
}

/// Both as multisets, owner names compared without regard to case.
fn same(section: &str, got: &[Rr], expected: &[Record]) -> Result<(), String> {
    let mut got = got.to_vec();
    let mut wanted = wire(expected);
    got.sort();
    wanted.sort();
    if got == wanted {
        return Ok(());
    }
    let list = |rrs: &[Rr]| rrs.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Err(format!("{section}: [{}] instead of [{}]", list(&got), list(&wanted)))
}

fn wire(records: &[Record]) -> Vec<Rr> {
    records
        .iter()
        .map(|record| Rr {
            owner: name_wire(&record.owner),
            rtype: record.data.rtype(),
            ttl: record.ttl,
            rdata: record.data.wire(),
        })
        .collect()
}

/// The SOA of a negative answer: its TTL is the lesser of its own and MINIMUM (RFC 2308 §3).
#[must_use]
pub fn negative_soa(soa: &Record) -> Record {
    let mut negative = soa.clone();
    if let Data::Soa(_, _, [.., minimum]) = negative.data {
        negative.ttl = negative.ttl.min(minimum);
    }
    negative
}
