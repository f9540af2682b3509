//! A zone file as the content of a zone: records gathered into RRsets, signatures beside what they cover.

use std::collections::BTreeMap;

use godwit_wire::name::Name;
use godwit_wire::rr::{Rrset, Rtype};
use godwit_wire::{presentation, zonefile};

use crate::error::{Code, Problem};

/// How many records all `$GENERATE` of a request may make together: a whole /16 in reverse. A line of them is short, and what it makes
/// takes memory that nobody was asked for.
const MAX_GENERATED: u64 = 1 << 16;
/// How many octets of names and RDATA these may have together.
const MAX_GENERATED_OCTETS: usize = 32 << 20;

/// One RRset while it is gathered.
#[derive(Default)]
struct Gathered {
    ttl: Option<u32>,
    rdata: Vec<Box<[u8]>>,
    rrsigs: Vec<Box<[u8]>>,
    line: u32,
}

/// Reads a zone file. `$INCLUDE` is refused: the text comes from elsewhere, files here are none of its business.
///
/// The TTLs of an RRset become the smallest of them (RFC 2181 §5.2).
///
/// # Errors
/// `INVALID_VALUE` with line, token and what was expected; `INVALID_NAME` for a record outside the zone.
pub fn read(text: &[u8], apex: &Name) -> Result<Vec<(Name, Rrset)>, Problem> {
    let mut sets: BTreeMap<(Name, Rtype), Gathered> = BTreeMap::new();
    let mut outside = None;
    let mut options = zonefile::Options::new(apex.clone(), "zone file");
    options.max_generated = MAX_GENERATED;
    options.max_generated_octets = MAX_GENERATED_OCTETS;
    let mut sink = |record: zonefile::Record<'_>| {
        if !record.owner.is_at_or_below(apex.as_ref()) {
            let message = format!("line {}: {} is not in the zone {apex}", record.line, record.owner);
            outside = Some(Problem::new(Code::InvalidName, message));
            return Err("out of zone".to_owned());
        }
        let covered = if record.rtype == Rtype::RRSIG { covered_by(record.rdata) } else { None };
        let rtype = covered.unwrap_or(record.rtype);
        let set = sets.entry((record.owner.to_owned(), rtype)).or_default();
        if covered.is_some() {
            set.rrsigs.push(record.rdata.into());
        } else {
            set.rdata.push(record.rdata.into());
            set.ttl = Some(set.ttl.map_or(record.ttl, |ttl| ttl.min(record.ttl)));
        }
        set.line = record.line;
        Ok(())
    };
    let read = zonefile::read(text, &options, &mut zonefile::NoIncludes, &mut sink);
    if let Err(error) = read {
        return Err(outside.unwrap_or_else(|| Problem::new(Code::InvalidValue, error.to_string())));
    }
    let mut all = Vec::with_capacity(sets.len());
    for ((owner, rtype), set) in sets {
        let Some(ttl) = set.ttl else {
            let message =
                format!("line {}: an RRSIG of {owner} covers {rtype}, which is not there", set.line);
            return Err(Problem::new(Code::InvalidValue, message));
        };
        all.push((owner, Rrset::new(rtype, ttl, set.rdata, set.rrsigs)));
    }
    if !all.iter().any(|(owner, set)| owner == apex && set.rtype == Rtype::SOA) {
        return Err(Problem::new(
            Code::InvalidValue,
            format!("the zone file has no SOA at {apex} (RFC 1035 §5.2)"),
        ));
    }
    Ok(all)
}

/// Type Covered (RFC 4034 §3.1.1).
fn covered_by(rrsig: &[u8]) -> Option<Rtype> {
    rrsig.first_chunk::<2>().map(|octets| Rtype(u16::from_be_bytes(*octets)))
}

/// Writes one RRset as lines of a zone file, its signatures behind it.
pub fn write(owner: &Name, rrset: &Rrset, out: &mut String) {
    for rdata in &rrset.rdata {
        presentation::write_record(owner.as_ref(), rrset.ttl, rrset.rtype, rdata, out);
    }
    for rrsig in &rrset.rrsigs {
        presentation::write_record(owner.as_ref(), rrset.ttl, Rtype::RRSIG, rrsig, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: &str = "$TTL 1h\n@ IN SOA ns1 hostmaster 5 2h 1h 2w 60\n@ NS ns1\nns1 A 192.0.2.1\nwww 30 A 192.0.2.2\nwww 60 A 192.0.2.3\n";

    fn apex() -> Name {
        "example.com.".parse().unwrap()
    }

    #[test]
    fn records_become_rrsets_and_read_back() {
        let sets = read(ZONE.as_bytes(), &apex()).unwrap();
        assert_eq!(sets.len(), 4);
        let (owner, www) = &sets[3];
        assert_eq!((owner.to_string().as_str(), www.ttl, www.rdata.len()), ("www.example.com.", 30, 2));
        let mut text = String::new();
        for (owner, rrset) in &sets {
            write(owner, rrset, &mut text);
        }
        assert_eq!(read(text.as_bytes(), &apex()).unwrap(), sets);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, code, part) in [
            ("www 60 IN A 192.0.2.1\n", Code::InvalidValue, "no SOA"),
            ("$TTL 60\n@ SOA ns1 h 1 2 3 4 5\nwww.example.org. A 192.0.2.1\n", Code::InvalidName, "line 3"),
            ("$TTL 60\n@ SOA ns1 h 1 2 3 4 5\nwww A 192.0.2.300\n", Code::InvalidValue, "3"),
            ("$INCLUDE /etc/passwd\n", Code::InvalidValue, "INCLUDE"),
            (
                "$TTL 60\n@ SOA ns1 h 1 2 3 4 5\n$GENERATE 1-65537 h$ A 192.0.2.1\n",
                Code::InvalidValue,
                "at most 65536 records",
            ),
        ] {
            let problem = read(text.as_bytes(), &apex()).unwrap_err();
            assert_eq!(problem.code, code, "{text}");
            assert!(problem.message.contains(part), "{}", problem.message);
        }
    }
}
