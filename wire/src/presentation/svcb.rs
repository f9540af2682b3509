//! SVCB and HTTPS: service bindings with their parameters (RFC 9460).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::escape::{next_octet, unescape, write_decimal, write_quoted};
use super::octets::Octets;
use super::problem::Problem;
use super::radix::Radix;
use super::read::{ipv4, ipv6, letters};
use super::tokens::{Token, Tokens};
use super::write::{display, some};
use super::{names, number};

// Keys (RFC 9460 §14.3.2, RFC 9461, RFC 9540, RFC 9848, draft-ietf-tls-key-share-prediction).
const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4_HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6_HINT: u16 = 6;
const DOHPATH: u16 = 7;
const OHTTP: u16 = 8;
const TLS_SUPPORTED_GROUPS: u16 = 9;

const KEYS: &[(&str, u16)] = &[
    ("mandatory", MANDATORY),
    ("alpn", ALPN),
    ("no-default-alpn", NO_DEFAULT_ALPN),
    ("port", PORT),
    ("ipv4hint", IPV4_HINT),
    ("ech", ECH),
    ("ipv6hint", IPV6_HINT),
    ("dohpath", DOHPATH),
    ("ohttp", OHTTP),
    ("tls-supported-groups", TLS_SUPPORTED_GROUPS),
];

/// A key and its value in wire format.
type Param = (u16, Vec<u8>);

/// `priority target [key[=value] …]`
pub(crate) fn read(tokens: &mut Tokens<'_>, origin: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), Problem> {
    out.extend_from_slice(&number::u16(tokens.need("a priority")?)?.to_be_bytes());
    names::read(tokens.need("a target name")?, origin, out)?;
    let mut params: Vec<Param> = Vec::new();
    let mut mandatory = None;
    while let Some(token) = tokens.next()? {
        let (key, value) = param(token, tokens)?;
        if key == MANDATORY {
            mandatory = Some(token);
        }
        params.push((key, value));
    }
    // In any order in text, in the order of their keys on the wire (RFC 9460 §2.2).
    params.sort_by_key(|&(key, _)| key);
    if let Some(pair) = params.windows(2).find(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
        let key = pair.first().map(|&(key, _)| key_name(key)).unwrap_or_default();
        return Err(Problem::text(&key, "each parameter once only"));
    }
    if let (Some(token), Some((MANDATORY, value))) = (mandatory, params.first())
        && !all_present(value, &params)
    {
        return Err(Problem::new(token, "mandatory keys that are all present (RFC 9460 section 8)"));
    }
    if !has_alpn(&params) {
        return Err(Problem::text("no-default-alpn", "alpn beside it (RFC 9460 section 7.1.1)"));
    }
    for (key, value) in &params {
        let len = u16::try_from(value.len())
            .map_err(|_| Problem::text(&key_name(*key), "a value of at most 65535 octets"))?;
        out.extend_from_slice(&key.to_be_bytes());
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(value);
    }
    Ok(())
}

fn all_present(value: &[u8], params: &[Param]) -> bool {
    let (keys, _) = value.as_chunks::<2>();
    keys.iter().all(|&key| has(params, u16::from_be_bytes(key)))
}

/// Whether alpn is there where no-default-alpn wants it (RFC 9460 §7.1.1).
fn has_alpn(params: &[Param]) -> bool {
    has(params, ALPN) || !has(params, NO_DEFAULT_ALPN)
}

fn has(params: &[Param], key: u16) -> bool {
    params.binary_search_by_key(&key, |&(key, _)| key).is_ok()
}

fn key_name(key: u16) -> String {
    match KEYS.iter().find(|&&(_, number)| number == key) {
        Some(&(name, _)) => name.to_owned(),
        None => format!("key{key}"),
    }
}

/// The number of a key, and whether it was written as `keyNNNNN`, whose value is opaque (RFC 9460 §2.1).
fn key_number(name: &[u8]) -> Option<(u16, bool)> {
    if let Some(&(_, key)) = KEYS.iter().find(|(known, _)| known.as_bytes() == name) {
        return Some((key, false));
    }
    let digits = name.strip_prefix(b"key")?;
    if digits.len() > 1 && digits.first() == Some(&b'0') {
        return None;
    }
    Some((number::decimal(digits).and_then(|key| u16::try_from(key).ok())?, true))
}

/// `key`, `key=value` or `key="value"`, the last of which the tokeniser has cut in two.
fn param(token: Token<'_>, tokens: &mut Tokens<'_>) -> Result<Param, Problem> {
    let wrong_key = || Problem::new(token, "a service parameter as key or key=value");
    if token.quoted {
        return Err(wrong_key());
    }
    let equals = token.raw.iter().position(|&octet| octet == b'=');
    let (name, written) = match equals {
        Some(at) => (
            token.raw.get(..at).unwrap_or_default(),
            Some(token.raw.get(at.saturating_add(1)..).unwrap_or_default()),
        ),
        None => (token.raw, None),
    };
    let (key, opaque) = key_number(name).ok_or_else(wrong_key)?;
    let mut value = written.map(|raw| Token { raw, ..token });
    if written == Some(b"") && tokens.at_quote() {
        value = tokens.next()?;
    }
    let mut octets = Vec::new();
    if let Some(value) = value {
        unescape(value.raw, &mut octets).map_err(|expected| Problem::new(value, expected))?;
    }
    if !opaque {
        octets = typed_value(key, token, value.is_some(), &octets)?;
    } else if write_value(key, &octets, &mut String::new()).is_none() {
        return Err(Problem::new(
            token,
            "a value whose octets have the form of this key (RFC 9460 section 7)",
        ));
    }
    Ok((key, octets))
}

/// The wire format of a value whose key is known; `text` is the value with its escapes resolved.
fn typed_value(key: u16, token: Token<'_>, has_value: bool, text: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::new();
    let wrong = |expected: &'static str| Problem::new(token, expected);
    if matches!(key, NO_DEFAULT_ALPN | OHTTP) {
        return if has_value { Err(wrong("this key without a value")) } else { Ok(out) };
    }
    if text.is_empty() {
        return Err(wrong("a value for this key"));
    }
    let part = |raw| Token { raw, quoted: false, escaped: false };
    match key {
        MANDATORY => {
            let expected = "a list of keys, each once, without mandatory itself";
            let mut keys = Vec::new();
            for name in text.split(|&octet| octet == b',') {
                let (key, _) = key_number(name).ok_or_else(|| wrong(expected))?;
                keys.push(key);
            }
            let written = keys.len();
            keys.sort_unstable();
            keys.dedup();
            if keys.len() != written || keys.first() == Some(&MANDATORY) {
                return Err(wrong(expected));
            }
            keys.iter().for_each(|key| out.extend_from_slice(&key.to_be_bytes()));
        }
        ALPN => alpn(text, &mut out).ok_or_else(|| wrong("a list of protocols of 1 to 255 octets each"))?,
        PORT => out.extend_from_slice(&number::u16(part(text))?.to_be_bytes()),
        IPV4_HINT => {
            for address in text.split(|&octet| octet == b',') {
                out.extend_from_slice(&ipv4(part(address))?);
            }
        }
        IPV6_HINT => {
            for address in text.split(|&octet| octet == b',') {
                out.extend_from_slice(&ipv6(part(address))?);
            }
        }
        TLS_SUPPORTED_GROUPS => {
            for group in text.split(|&octet| octet == b',') {
                out.extend_from_slice(&number::u16(part(group))?.to_be_bytes());
            }
        }
        ECH => letters(Radix::Base64, part(text), &mut out)?,
        _ => out.extend_from_slice(text),
    }
    Ok(out)
}

/// A comma-separated list in which a comma or backslash is escaped once more (RFC 9460 §A.1).
fn alpn(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    loop {
        let at = out.len();
        out.push(0);
        let mut more = false;
        while !rest.is_empty() {
            // Only `\,` and `\\` are escapes here.
            let (octet, escaped, after) = match rest {
                [b'\\', octet @ (b',' | b'\\'), after @ ..] => (*octet, true, after),
                [b'\\', ..] => return None,
                _ => next_octet(rest)?,
            };
            rest = after;
            if octet == b',' && !escaped {
                more = true;
                break;
            }
            out.push(octet);
        }
        let len = u8::try_from(out.len().saturating_sub(at).saturating_sub(1)).ok().filter(|&len| len > 0)?;
        *out.get_mut(at)? = len;
        if !more {
            return Some(());
        }
    }
}

/// `None` when keys are out of order, lengths do not fit, or a known key has a value that its text cannot say.
pub(crate) fn write(octets: &mut Octets<'_>, out: &mut String) -> Option<()> {
    display(octets.u16()?, out)?;
    out.push(' ');
    names::write(octets.name()?, out)?;
    let mut params: Vec<Param> = Vec::new();
    while !octets.is_empty() {
        let (key, len) = (octets.u16()?, octets.u16()?);
        let value = octets.take(usize::from(len))?;
        if params.last().is_some_and(|&(previous, _)| previous >= key) {
            return None;
        }
        params.push((key, value.to_vec()));
    }
    if let Some((MANDATORY, value)) = params.first()
        && !all_present(value, &params)
    {
        return None;
    }
    if !has_alpn(&params) {
        return None;
    }
    for (key, value) in &params {
        out.push(' ');
        out.push_str(&key_name(*key));
        write_value(*key, value, out)?;
    }
    Some(())
}

fn write_value(key: u16, value: &[u8], out: &mut String) -> Option<()> {
    if matches!(key, NO_DEFAULT_ALPN | OHTTP) {
        return value.is_empty().then_some(());
    }
    let known = KEYS.iter().any(|&(_, number)| number == key);
    if value.is_empty() {
        return (!known).then_some(());
    }
    out.push('=');
    match key {
        MANDATORY => {
            let (keys, []) = value.as_chunks::<2>() else {
                return None;
            };
            let keys: Vec<u16> = keys.iter().map(|&key| u16::from_be_bytes(key)).collect();
            if keys.contains(&MANDATORY) || !keys.is_sorted_by(|a, b| a < b) {
                return None;
            }
            list(keys.iter().map(|&key| key_name(key)), out)
        }
        ALPN => write_alpn(value, out),
        PORT => display(u16::from_be_bytes(value.try_into().ok()?), out),
        IPV4_HINT => match value.as_chunks::<4>() {
            (addresses, []) => list(addresses.iter().map(|&address| Ipv4Addr::from(address)), out),
            _ => None,
        },
        IPV6_HINT => match value.as_chunks::<16>() {
            (addresses, []) => list(addresses.iter().map(|&address| Ipv6Addr::from(address)), out),
            _ => None,
        },
        TLS_SUPPORTED_GROUPS => match value.as_chunks::<2>() {
            (groups, []) => list(groups.iter().map(|&group| u16::from_be_bytes(group)), out),
            _ => None,
        },
        ECH => some(value, Radix::Base64, out),
        _ => {
            write_quoted(value, out);
            Some(())
        }
    }
}

fn list(items: impl Iterator<Item = impl std::fmt::Display>, out: &mut String) -> Option<()> {
    for (index, item) in items.enumerate() {
        display(format_args!("{}{item}", if index > 0 { "," } else { "" }), out)?;
    }
    Some(())
}

fn write_alpn(value: &[u8], out: &mut String) -> Option<()> {
    let mut protocols = Octets::new(value);
    out.push('"');
    let mut first = true;
    while !protocols.is_empty() {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        let protocol = protocols.string()?;
        if protocol.is_empty() {
            return None;
        }
        for &octet in protocol {
            match octet {
                // Escaped for the list, and that backslash for the string.
                b',' => out.push_str("\\\\,"),
                b'\\' => out.push_str("\\\\\\\\"),
                b'"' => out.push_str("\\\""),
                b' '..=b'~' => out.push(char::from(octet)),
                _ => write_decimal(octet, out),
            }
        }
    }
    out.push('"');
    Some(())
}
