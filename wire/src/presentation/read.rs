//! RDATA from presentation format into wire format, piece by piece as the table says; any type may be written as
//! `\# length hex` (RFC 3597 §5).

use std::net::Ipv6Addr;
use std::str::FromStr;

use super::fields::{Form, Piece, form};
use super::problem::Problem;
use super::radix::{Decoder, Radix};
use super::tokens::{Token, Tokens};
use super::{apl, bitmap, escape, hip, ipseckey, loc, mnemonic, names, number, svcb};
use crate::rdata::{self, MAX_RDATA_OCTETS};
use crate::rr::Rtype;

/// Appends the RDATA that the rest of the entry stands for. The end of the entry is not taken.
pub(crate) fn rdata(
    rtype: Rtype,
    tokens: &mut Tokens<'_>,
    origin: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    let start = out.len();
    if is_generic(tokens)? {
        generic(rtype, tokens, out)?;
    } else {
        match form(rtype) {
            Form::Pieces(pieces) => {
                for &piece in pieces {
                    read_piece(piece, tokens, origin, out)?;
                }
            }
            Form::Loc => loc::read(tokens, out)?,
            Form::Apl => apl::read(tokens, out)?,
            Form::Hip => hip::read(tokens, origin, out)?,
            Form::Ipseckey => ipseckey::read(tokens, origin, out)?,
            Form::Svcb => svcb::read(tokens, origin, out)?,
            Form::Generic => {
                let expected = format!("RDATA of type {rtype} as \\# length hexadecimal-digits (RFC 3597)");
                return Err(match tokens.next()? {
                    Some(token) => Problem::new(token, expected),
                    None => Problem::at_end(expected),
                });
            }
        }
    }
    if out.len().saturating_sub(start) > MAX_RDATA_OCTETS {
        return Err(Problem::at_end("RDATA of at most 65535 octets"));
    }
    Ok(())
}

/// Takes the mark `\#` if it stands here.
fn is_generic(tokens: &mut Tokens<'_>) -> Result<bool, Problem> {
    // No other text is looked at twice.
    if tokens.seek()? != Some(b'\\') {
        return Ok(false);
    }
    let ahead = tokens.clone();
    let marked = tokens.next()?.is_some_and(|token| token.raw == b"\\#");
    if !marked {
        *tokens = ahead;
    }
    Ok(marked)
}

/// `\# length hex…`; what is known about the type must hold (RFC 3597 §5).
fn generic(rtype: Rtype, tokens: &mut Tokens<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let start = out.len();
    let length = tokens.need("the length of the RDATA in octets")?;
    let octets = number::u16(length)?;
    rest(Radix::Hex, tokens, out)?;
    let written = out.get(start..).unwrap_or_default();
    if written.len() != usize::from(octets) {
        return Err(Problem::new(length, format!("{}, as so many octets follow", written.len())));
    }
    rdata::validate_new(rtype, written)
        .map_err(|error| Problem::new(length, format!("valid RDATA of type {rtype}: {error}")))
}

fn read_piece(
    piece: Piece,
    tokens: &mut Tokens<'_>,
    origin: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    match piece {
        Piece::Ipv4 => out.extend_from_slice(&ipv4(tokens.need("an IPv4 address")?)?),
        Piece::Ipv6 => out.extend_from_slice(&ipv6(tokens.need("an IPv6 address")?)?),
        Piece::Name => names::read(tokens.need("a domain name")?, origin, out)?,
        Piece::U8 => out.push(number::u8(tokens.need("a number from 0 to 255")?)?),
        Piece::U16 => {
            out.extend_from_slice(&number::u16(tokens.need("a number from 0 to 65535")?)?.to_be_bytes());
        }
        Piece::U32 => {
            out.extend_from_slice(&number::u32(tokens.need("a number from 0 to 4294967295")?)?.to_be_bytes());
        }
        Piece::Seconds => {
            out.extend_from_slice(&number::seconds(tokens.need("a time in seconds")?)?.to_be_bytes());
        }
        Piece::Timestamp => {
            let token = tokens.need("a time as YYYYMMDDHHmmSS")?;
            out.extend_from_slice(&number::timestamp(token)?.to_be_bytes());
        }
        Piece::Type => out.extend_from_slice(&record_type(tokens.need("a record type")?)?.0.to_be_bytes()),
        Piece::Algorithm => out.push(mnemonic::algorithm(tokens.need("an algorithm")?)?),
        Piece::CertificateType => {
            let token = tokens.need("a certificate type")?;
            out.extend_from_slice(&mnemonic::certificate_type(token)?.to_be_bytes());
        }
        Piece::Scheme => out.push(mnemonic::scheme(tokens.need("a scheme")?)?),
        Piece::String => string(tokens.need("a character string")?, out)?,
        Piece::MaybeString => {
            if let Some(token) = tokens.next()? {
                string(token, out)?;
            }
        }
        Piece::Strings => {
            string(tokens.need("a character string")?, out)?;
            while let Some(token) = tokens.next()? {
                string(token, out)?;
            }
        }
        Piece::Text => text(tokens.need("a quoted string")?, out)?,
        Piece::SomeText => {
            let token = tokens.need("a quoted string")?;
            if token.raw.is_empty() {
                return Err(Problem::new(token, "a string of at least one octet"));
            }
            text(token, out)?;
        }
        Piece::Tag => tag(tokens.need("a property tag")?, out)?,
        Piece::Hex => some_rest(Radix::Hex, tokens, out)?,
        Piece::Base64 => some_rest(Radix::Base64, tokens, out)?,
        Piece::Salt => salt(tokens.need("a salt in hexadecimal digits, or -")?, out)?,
        Piece::Hash => {
            let token = tokens.need(Radix::Base32Hex.expected())?;
            behind_length(Radix::Base32Hex, token, out)?;
        }
        Piece::Types => bitmap::read(tokens, out)?,
        Piece::Eui(octets) => eui(tokens.need("an address as xx-xx-…")?, octets, out)?,
        Piece::Locator => locator(tokens.need("four groups of hexadecimal digits")?, out)?,
    }
    Ok(())
}

pub(crate) fn ipv4(token: Token<'_>) -> Result<[u8; 4], Problem> {
    dotted(token.raw).ok_or_else(|| Problem::new(token, "an IPv4 address"))
}

/// Four numbers of at most three digits, without zeros in front: what the standard library takes, in a quarter of its
/// time, as most records of most zones hold one.
fn dotted(raw: &[u8]) -> Option<[u8; 4]> {
    let mut address = [0u8; 4];
    let mut rest = raw.iter();
    for (index, octet) in address.iter_mut().enumerate() {
        let mut value = 0u16;
        let mut digits = 0u8;
        let end = loop {
            match rest.next() {
                Some(&digit @ b'0'..=b'9') if digits < 3 && (digits == 0 || value > 0) => {
                    value = value.wrapping_mul(10).wrapping_add(u16::from(digit & 0x0F));
                    digits = digits.wrapping_add(1);
                }
                end => break end,
            }
        };
        // Three dots, then the end.
        if digits == 0 || end.is_some() != (index < 3) || end.is_some_and(|&end| end != b'.') {
            return None;
        }
        *octet = u8::try_from(value).ok()?;
    }
    Some(address)
}

pub(crate) fn ipv6(token: Token<'_>) -> Result<[u8; 16], Problem> {
    let standard = || {
        str::from_utf8(token.raw).ok().and_then(|text| Ipv6Addr::from_str(text).ok()).map(|it| it.octets())
    };
    groups(token.raw).or_else(standard).ok_or_else(|| Problem::new(token, "an IPv6 address"))
}

/// Groups of at most four hexadecimal digits, with `::` for some that are zero: what the standard library takes, in a
/// fraction of its time. `None` for what is wrong, and for the rare form that ends with an IPv4 address.
fn groups(raw: &[u8]) -> Option<[u8; 16]> {
    let mut groups = [[0u8; 2]; 8];
    let mut count = 0usize;
    // How many groups stand before `::`.
    let mut gap = raw.starts_with(b"::").then_some(0);
    let mut rest = if gap.is_some() { raw.get(2..)? } else { raw };
    while !(rest.is_empty() && gap == Some(count)) {
        let mut value = 0u16;
        let mut digits = 0usize;
        while let Some(digit) = rest.get(digits).and_then(|&octet| char::from(octet).to_digit(16)) {
            value = value.checked_mul(16)? | u16::try_from(digit).ok()?;
            digits = digits.saturating_add(1);
        }
        if !(1..=4).contains(&digits) {
            return None;
        }
        *groups.get_mut(count)? = value.to_be_bytes();
        count = count.saturating_add(1);
        rest = match rest.get(digits..)? {
            [] => break,
            [b':', b':', behind @ ..] if gap.is_none() => {
                gap = Some(count);
                behind
            }
            // A group must follow: nothing is no group.
            [b':', behind @ ..] => behind,
            _ => return None,
        };
    }
    let vacant = groups.len().saturating_sub(count);
    // `::` stands for one group at least.
    match gap {
        None if vacant == 0 => {}
        Some(before) if vacant > 0 => groups.get_mut(before..)?.rotate_right(vacant),
        _ => return None,
    }
    groups.as_flattened().try_into().ok()
}

/// A record type: a mnemonic or `TYPEnnn`.
pub(crate) fn record_type(token: Token<'_>) -> Result<Rtype, Problem> {
    let rtype = str::from_utf8(token.raw).ok().and_then(|text| Rtype::from_str(text).ok());
    rtype.ok_or_else(|| Problem::new(token, "a record type"))
}

/// Runs `fill`, then puts one octet of length before what it appended.
fn with_length<'t>(
    token: Token<'t>,
    out: &mut Vec<u8>,
    expected: &'static str,
    fill: impl FnOnce(Token<'t>, &mut Vec<u8>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let at = out.len();
    out.push(0);
    fill(token, out)?;
    let len = out.len().saturating_sub(at).saturating_sub(1);
    match (u8::try_from(len), out.get_mut(at)) {
        (Ok(len), Some(octet)) => *octet = len,
        _ => return Err(Problem::new(token, expected)),
    }
    Ok(())
}

/// A character string behind its length (RFC 1035 §3.3).
fn string(token: Token<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    with_length(token, out, "a character string of at most 255 octets", text)
}

/// The octets of a string of any length.
fn text(token: Token<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    if token.escaped {
        escape::unescape(token.raw, out).map_err(|expected| Problem::new(token, expected))?;
    } else {
        out.extend_from_slice(token.raw);
    }
    Ok(())
}

fn tag(token: Token<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    if token.raw.is_empty() || !token.raw.iter().all(u8::is_ascii_alphanumeric) {
        return Err(Problem::new(token, "a property tag of letters and digits"));
    }
    with_length(token, out, "a property tag of at most 255 octets", text)
}

/// The rest of the entry in letters, blanks allowed between them.
fn rest(radix: Radix, tokens: &mut Tokens<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let mut decoder = Decoder::new(radix);
    let mut last = None;
    while let Some(token) = tokens.next()? {
        decoder.push(token.raw, out).ok_or_else(|| Problem::new(token, radix.expected()))?;
        last = Some(token);
    }
    decoder.finish().ok_or_else(|| match last {
        Some(token) => Problem::new(token, radix.expected()),
        None => Problem::at_end(radix.expected()),
    })
}

fn some_rest(radix: Radix, tokens: &mut Tokens<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let start = out.len();
    rest(radix, tokens, out)?;
    if out.len() == start {
        return Err(Problem::at_end(radix.expected()));
    }
    Ok(())
}

/// One token of letters, whole.
pub(crate) fn letters(radix: Radix, token: Token<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let mut decoder = Decoder::new(radix);
    let done = decoder.push(token.raw, out).and_then(|()| decoder.finish());
    done.ok_or_else(|| Problem::new(token, radix.expected()))
}

fn behind_length(radix: Radix, token: Token<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    with_length(token, out, "at most 255 octets", |token, out| letters(radix, token, out))
}

fn salt(token: Token<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    if token.raw == b"-" {
        out.push(0);
        return Ok(());
    }
    behind_length(Radix::Hex, token, out)
}

fn eui(token: Token<'_>, octets: u8, out: &mut Vec<u8>) -> Result<(), Problem> {
    let wrong = || Problem::new(token, format!("{octets} octets as xx-xx-…, hexadecimal"));
    let mut count = 0u8;
    for part in token.raw.split(|&octet| octet == b'-') {
        if part.len() != 2 {
            return Err(wrong());
        }
        letters(Radix::Hex, Token { raw: part, ..token }, out)?;
        count = count.saturating_add(1);
    }
    if count == octets { Ok(()) } else { Err(wrong()) }
}

fn locator(token: Token<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let wrong = || Problem::new(token, "four groups of hexadecimal digits as 14:4fff:ff20:ee64");
    let mut count = 0u8;
    for part in token.raw.split(|&octet| octet == b':') {
        let text = str::from_utf8(part).map_err(|_| wrong())?;
        // The length is checked as well: a sign would be taken for a part of the number.
        if part.is_empty() || part.len() > 4 || !part.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        out.extend_from_slice(&u16::from_str_radix(text, 16).map_err(|_| wrong())?.to_be_bytes());
        count = count.saturating_add(1);
    }
    if count == 4 { Ok(()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::{dotted, groups};

    fn agree(text: &str) {
        let standard = text.parse::<Ipv4Addr>().ok().map(|address| address.octets());
        assert_eq!(dotted(text.as_bytes()), standard, "{text}");
    }

    #[test]
    fn addresses_read_as_in_the_standard_library() {
        for text in [
            "",
            ".",
            "1",
            "1.2.3",
            "1.2.3.",
            "1.2.3.4.",
            "1.2.3.4",
            "1.2.3.4.5",
            ".1.2.3.4",
            "1..2.3",
            "0.0.0.0",
            "00.0.0.0",
            "01.2.3.4",
            "1.2.3.256",
            "1.2.3.1000",
            "255.255.255.255",
            "1.2.3.4x",
            "+1.2.3.4",
            "1.2.3.-4",
            " 1.2.3.4",
        ] {
            agree(text);
        }
    }

    fn groups_agree(text: &str) {
        let standard = text.parse::<Ipv6Addr>().ok().map(|address| address.octets());
        // One that ends with an IPv4 address is left to the standard library.
        let expected = standard.filter(|_| !text.contains('.'));
        assert_eq!(groups(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn addresses_of_groups_read_as_in_the_standard_library() {
        for text in [
            "",
            ":",
            "::",
            ":::",
            "::1",
            "1::",
            "1",
            "1:",
            ":1",
            "1::2",
            "1::2::3",
            "::1::",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "1:2:3:4::5:6:7:8",
            "1:2:3:4:5:6:7:8:",
            "1:2:3:4:5:6:7:8::",
            "1:2:3:4:5:6:7:8:9",
            "::1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7",
            "2001:db8::1",
            "2001:DB8::fFfF",
            "00001::",
            "g::",
            "1::g",
            "::ffff:192.0.2.1",
            "1:::2",
            ":1::",
            "::1:",
            "+1::",
            " ::",
            ":: ",
            "::%1",
            "12345::",
        ] {
            groups_agree(text);
        }
    }

    proptest! {
        #[test]
        fn random_groups_read_as_in_the_standard_library(text in "([0-9a-fA-F]{0,5}:{1,2}){0,9}[0-9a-f]{0,5}|[0-9a-f:]{0,24}") {
            groups_agree(&text);
        }

        #[test]
        fn addresses_that_were_written_are_read(octets: [u8; 16], zeros in 0usize..16, from in 0usize..16) {
            let mut octets = octets;
            octets.iter_mut().skip(from).take(zeros).for_each(|octet| *octet = 0);
            groups_agree(&Ipv6Addr::from(octets).to_string());
        }

        #[test]
        fn random_addresses_read_as_in_the_standard_library(text in "[0-9]{0,4}(\\.[0-9]{0,4}){2,4}|[0-9.]{0,16}") {
            agree(&text);
        }
    }
}
