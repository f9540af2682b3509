//! What stands between the owner and the RDATA of a record: TTL and class in either order, then the type
//! (RFC 1035 §5.1).

use crate::presentation::number;
use crate::presentation::problem::Problem;
use crate::presentation::read::record_type;
use crate::presentation::tokens::{Token, Tokens};
use crate::rr::Rtype;

const EXPECTED: &str = "a TTL, a class or a record type";

/// The head of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) ttl: Option<u32>,
    pub(super) rtype: Rtype,
}

/// Reads TTL, class and type. The class is IN or left out.
pub(super) fn head(tokens: &mut Tokens<'_>) -> Result<Head, Problem> {
    let mut ttl = None;
    let mut class = false;
    loop {
        let token = tokens.need(EXPECTED)?;
        if token.quoted {
            return Err(Problem::new(token, EXPECTED));
        }
        // No class and no type begins with a digit.
        if token.raw.first().is_some_and(u8::is_ascii_digit) && ttl.is_none() {
            ttl = Some(number::ttl(token)?);
        } else if !class && is_class(token)? {
            class = true;
        } else {
            return Ok(Head { ttl, rtype: data_type(token)? });
        }
    }
}

/// Whether the token is the class IN; another class is an error, no class is not.
fn is_class(token: Token<'_>) -> Result<bool, Problem> {
    let raw = token.raw;
    if raw.eq_ignore_ascii_case(b"IN") {
        return Ok(true);
    }
    let number = match raw.split_at_checked(5) {
        Some((name, digits)) if name.eq_ignore_ascii_case(b"CLASS") => number::decimal(digits),
        _ => None,
    };
    let other = [&b"CH"[..], b"CHAOS", b"HS", b"HESIOD", b"CS", b"NONE"];
    match number {
        Some(1) => Ok(true),
        Some(_) => Err(Problem::new(token, "class IN, the only one that is served")),
        None if other.iter().any(|class| raw.eq_ignore_ascii_case(class)) => {
            Err(Problem::new(token, "class IN, the only one that is served"))
        }
        None => Ok(false),
    }
}

/// A type that can stand in a zone; the frequent ones without a search.
fn data_type(token: Token<'_>) -> Result<Rtype, Problem> {
    let rtype = match token.raw {
        b"A" | b"a" => Rtype::A,
        b"AAAA" => Rtype::AAAA,
        b"NS" => Rtype::NS,
        b"CNAME" => Rtype::CNAME,
        b"MX" => Rtype::MX,
        b"TXT" => Rtype::TXT,
        b"PTR" => Rtype::PTR,
        b"SRV" => Rtype::SRV,
        b"RRSIG" => Rtype::RRSIG,
        b"NSEC" => Rtype::NSEC,
        b"NSEC3" => Rtype::NSEC3,
        b"DS" => Rtype::DS,
        _ => record_type(token).map_err(|_| Problem::new(token, "a record type, or class IN"))?,
    };
    if !rtype.is_data() {
        return Err(Problem::new(token, "a record type that can stand in a zone"));
    }
    Ok(rtype)
}
