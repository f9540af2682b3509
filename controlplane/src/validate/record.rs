//! What can be said about a record without looking at its zone: type, values, TTL.

use std::str::FromStr as _;

use godwit_wire::name::NameRef;
use godwit_wire::rr::{MAX_TTL, Rtype};
use godwit_wire::{presentation, rdata};

use super::{MAX_RECORDS_PER_RRSET, MAX_TTL_S, MIN_TTL_S};
use crate::error::{Code, Problem};
use crate::model::zone::TtlPolicy;

/// Reads a type that may be written through the API.
///
/// # Errors
/// `INVALID_RECORD_TYPE`.
pub fn rtype(text: &str) -> Result<Rtype, Problem> {
    let shown = &text[..text.floor_char_boundary(30)];
    let rtype = Rtype::from_str(text).map_err(|_| {
        Problem::new(
            Code::InvalidRecordType,
            format!("\"{shown}\" is not a record type; expected one like A, AAAA, MX or TYPE65280"),
        )
    })?;
    if !rtype.is_data() {
        let message = format!("{rtype} exists in queries and messages only, not in zones (RFC 6895 §3.1)");
        return Err(Problem::new(Code::InvalidRecordType, message));
    }
    // They hold for a whole zone, made by whoever signs it.
    if is_made_by_signer(rtype) {
        let message = format!("{rtype} records come with a signed zone; import it whole");
        return Err(Problem::new(Code::InvalidRecordType, message));
    }
    Ok(rtype)
}

/// Whether only a signer makes records of this type (RFC 4034 §§3, 4; RFC 5155 §§3, 4; RFC 8976).
#[must_use]
pub fn is_made_by_signer(rtype: Rtype) -> bool {
    matches!(
        rtype,
        Rtype::RRSIG | Rtype::SIG | Rtype::NSEC | Rtype::NSEC3 | Rtype::NSEC3PARAM | Rtype::ZONEMD
    )
}

/// Reads the values of an RRset.
///
/// # Errors
/// `INVALID_VALUE`: none, too many, one that is not of the type, or one that is there twice (RFC 2181 §5).
pub fn values(
    rtype: Rtype,
    values: &[String],
    origin: Option<NameRef<'_>>,
) -> Result<Vec<Box<[u8]>>, Problem> {
    if values.is_empty() {
        return Err(Problem::new(Code::InvalidValue, "\"value\" is empty; expected at least one value"));
    }
    if values.len() > MAX_RECORDS_PER_RRSET {
        let message = format!("{} values; an RRset has at most {MAX_RECORDS_PER_RRSET}", values.len());
        return Err(Problem::new(Code::InvalidValue, message));
    }
    let mut all: Vec<Box<[u8]>> = Vec::with_capacity(values.len());
    let mut canonical = std::collections::HashSet::with_capacity(values.len());
    for (index, text) in values.iter().enumerate() {
        let one = value(rtype, text, origin).map_err(|reason| {
            let shown = &text[..text.floor_char_boundary(100)];
            Problem::new(
                Code::InvalidValue,
                format!("value {index}, \"{shown}\", is not {rtype} data: {reason}"),
            )
        })?;
        if !canonical.insert(rdata::canonical(rtype, &one).into_owned()) {
            let shown = &text[..text.floor_char_boundary(100)];
            let message = format!("value {index}, \"{shown}\", is there twice (RFC 2181 §5)");
            return Err(Problem::new(Code::InvalidValue, message));
        }
        all.push(one);
    }
    Ok(all)
}

fn value(rtype: Rtype, text: &str, origin: Option<NameRef<'_>>) -> Result<Box<[u8]>, String> {
    let octets = presentation::parse_rdata(rtype, text, origin).map_err(|error| error.to_string())?;
    rdata::validate(rtype, &octets).map_err(|error| error.to_string())?;
    Ok(octets)
}

/// Judges a TTL under the policy of its zone.
///
/// # Errors
/// `INVALID_TTL`.
pub fn ttl(rtype: Rtype, ttl: u32, policy: TtlPolicy) -> Result<(), Problem> {
    if ttl > MAX_TTL {
        let message = format!("TTL {ttl} is above 2147483647 (RFC 2181 §8)");
        return Err(Problem::new(Code::InvalidTtl, message));
    }
    if policy == TtlPolicy::Keep || is_ttl_exempt(rtype) || (MIN_TTL_S..=MAX_TTL_S).contains(&ttl) {
        return Ok(());
    }
    Err(Problem::new(Code::InvalidTtl, format!("TTL must be between {MIN_TTL_S} and {MAX_TTL_S}, not {ttl}")))
}

/// Types whose TTL the limits leave alone: how long they hold is the business of the zone's operator and its parent.
fn is_ttl_exempt(rtype: Rtype) -> bool {
    matches!(
        rtype,
        Rtype::SOA
            | Rtype::NS
            | Rtype::DS
            | Rtype::DNSKEY
            | Rtype::CDS
            | Rtype::CDNSKEY
            | Rtype::CSYNC
            | Rtype::DSYNC
    ) || is_made_by_signer(rtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_may_be_written() {
        for (text, ok) in [
            ("A", true),
            ("aaaa", true),
            ("TYPE65280", true),
            ("URI", true),
            ("DNSKEY", true),
            ("ANY", false),
            ("OPT", false),
            ("AXFR", false),
            ("TYPE0", false),
            ("RRSIG", false),
            ("NSEC3", false),
            ("NOPE", false),
            ("", false),
        ] {
            let read = rtype(text);
            assert_eq!(read.is_ok(), ok, "{text}");
            if let Err(problem) = read {
                assert_eq!(problem.code, Code::InvalidRecordType);
            }
        }
    }

    #[test]
    fn ttl_limits() {
        for (rtype, seconds, policy, ok) in [
            (Rtype::A, 59, TtlPolicy::Bounded, false),
            (Rtype::A, 60, TtlPolicy::Bounded, true),
            (Rtype::A, 86_400, TtlPolicy::Bounded, true),
            (Rtype::A, 86_401, TtlPolicy::Bounded, false),
            (Rtype::A, 0, TtlPolicy::Keep, true),
            (Rtype::A, MAX_TTL + 1, TtlPolicy::Keep, false),
            (Rtype::NS, 172_800, TtlPolicy::Bounded, true),
            (Rtype::SOA, 5, TtlPolicy::Bounded, true),
            (Rtype::DS, 1, TtlPolicy::Bounded, true),
            (Rtype::TXT, 1, TtlPolicy::Bounded, false),
        ] {
            assert_eq!(ttl(rtype, seconds, policy).is_ok(), ok, "{rtype} {seconds} {policy:?}");
        }
    }

    #[test]
    fn values_are_read_or_refused() {
        let many: Vec<String> = (0..101).map(|n| format!("192.0.2.{n}")).collect();
        for (rtype, texts, ok) in [
            (Rtype::A, vec!["192.0.2.1", "192.0.2.2"], true),
            (Rtype::A, vec![], false),
            (Rtype::A, vec!["192.0.2.1", "192.0.2.1"], false),
            (Rtype::A, vec!["2001:db8::1"], false),
            (Rtype::A, vec!["192.0.2.256"], false),
            (Rtype::AAAA, vec!["2001:db8::1"], true),
            (Rtype::MX, vec!["10 mail.example.com."], true),
            (Rtype::TXT, vec!["v=DMARC1; p=none"], false),
            (Rtype::TXT, vec!["\"v=DMARC1; p=none\""], true),
            (Rtype::TXT, vec![r"v=DMARC1\;\ p=none"], true),
            (Rtype::TXT, vec!["\"a\\\"; b\""], true),
            (Rtype::CAA, vec!["0 issue ca.example; accounturi=x"], false),
            (Rtype::A, vec!["192.0.2.1 ; office"], false),
            (Rtype::MX, vec!["mail.example.com."], false),
            (Rtype::NS, vec!["ns.example.", "NS.example."], false),
            (Rtype::TXT, vec!["\"hello world\""], true),
            (Rtype(65280), vec!["\\# 2 abcd"], true),
            (Rtype(65280), vec!["\\# 3 abcd"], false),
            (Rtype::A, many.iter().map(String::as_str).collect(), false),
        ] {
            let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
            let read = values(rtype, &texts, None);
            assert_eq!(read.is_ok(), ok, "{rtype} {texts:?} {read:?}");
            if let Err(problem) = read {
                assert_eq!(problem.code, Code::InvalidValue);
            }
        }
    }
}
