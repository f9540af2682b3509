//! APL: lists of address prefixes (RFC 3123).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::number;
use super::octets::Octets;
use super::problem::Problem;
use super::read::{ipv4, ipv6};
use super::tokens::{Token, Tokens};
use super::write::display;

const EXPECTED: &str = "an address prefix as 1:192.0.2.0/24 or !2:2001:db8::/32";
/// Address families (IANA): IPv4, IPv6.
const IPV4: u16 = 1;
const IPV6: u16 = 2;
/// The octet of length has its highest bit for "not".
const NEGATION: u8 = 0x80;

/// `[!]family:address/prefix` any number of times.
pub(crate) fn read(tokens: &mut Tokens<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    while let Some(token) = tokens.next()? {
        item(token, out)?;
    }
    Ok(())
}

fn item(token: Token<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let wrong = || Problem::new(token, EXPECTED);
    let (negation, raw) = match token.raw.strip_prefix(b"!") {
        Some(raw) => (NEGATION, raw),
        None => (0, token.raw),
    };
    let colon = raw.iter().position(|&octet| octet == b':').ok_or_else(wrong)?;
    let slash = raw.iter().position(|&octet| octet == b'/').ok_or_else(wrong)?;
    let family = raw.get(..colon).and_then(number::decimal).ok_or_else(wrong)?;
    let address = raw.get(colon.saturating_add(1)..slash).ok_or_else(wrong)?;
    let prefix = raw.get(slash.saturating_add(1)..).and_then(number::decimal).ok_or_else(wrong)?;
    let address = Token { raw: address, ..token };
    let (family, octets, most) = match family {
        1 => (IPV4, ipv4(address)?.to_vec(), 32),
        2 => (IPV6, ipv6(address)?.to_vec(), 128),
        _ => return Err(wrong()),
    };
    let prefix = u8::try_from(prefix).ok().filter(|&prefix| prefix <= most).ok_or_else(wrong)?;
    // Zeros at the end are not sent (RFC 3123 §4).
    let len = octets.iter().rposition(|&octet| octet != 0).map_or(0, |last| last.saturating_add(1));
    out.extend_from_slice(&family.to_be_bytes());
    out.extend_from_slice(&[prefix, negation | u8::try_from(len).map_err(|_| wrong())?]);
    out.extend_from_slice(octets.get(..len).unwrap_or_default());
    Ok(())
}

/// `None` for other families and for zeros at the end.
pub(crate) fn write(octets: &mut Octets<'_>, out: &mut String) -> Option<()> {
    let mut first = true;
    while !octets.is_empty() {
        if !std::mem::take(&mut first) {
            out.push(' ');
        }
        let (family, prefix, len) = (octets.u16()?, octets.u8()?, octets.u8()?);
        let part = octets.take(usize::from(len & !NEGATION))?;
        if part.last() == Some(&0) {
            return None;
        }
        if len & NEGATION != 0 {
            out.push('!');
        }
        match family {
            IPV4 if prefix <= 32 => display(format_args!("1:{}", Ipv4Addr::from(padded::<4>(part)?)), out)?,
            IPV6 if prefix <= 128 => display(format_args!("2:{}", Ipv6Addr::from(padded::<16>(part)?)), out)?,
            _ => return None,
        }
        display(format_args!("/{prefix}"), out)?;
    }
    Some(())
}

fn padded<const N: usize>(part: &[u8]) -> Option<[u8; N]> {
    let mut octets = [0u8; N];
    octets.get_mut(..part.len())?.copy_from_slice(part);
    Some(octets)
}
