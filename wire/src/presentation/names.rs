//! Domain names in presentation format, read straight into wire format and written from it (RFC 1035 §5.1,
//! RFC 4343 §2.1). The case is kept.

use super::escape::{self, next_octet};
use super::problem::Problem;
use super::tokens::Token;
use crate::name::{MAX_LABEL_OCTETS, MAX_NAME_OCTETS};

const EMPTY_LABEL: &str = "a domain name without empty labels";
const LONG_LABEL: &str = "a domain name with labels of at most 63 octets";
const LONG_NAME: &str = "a domain name of at most 255 octets";
const NO_ORIGIN: &str = "a domain name with a final dot, as there is no origin";
const NAME: &str = "a domain name";

/// Appends the name that the token stands for; `@` is the origin, relative names end in it.
pub(crate) fn read(token: Token<'_>, origin: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let start = out.len();
    let result = match token {
        Token { quoted: true, .. } => Err(NAME),
        Token { raw: b"@", .. } => append_origin(origin, out),
        Token { raw: b".", .. } => {
            out.push(0);
            Ok(())
        }
        Token { escaped: true, raw, .. } => append_escaped(raw, origin, out),
        Token { raw, .. } => append_plain(raw, origin, out),
    };
    let result = result.and_then(|()| {
        let len = out.len().saturating_sub(start);
        if len <= MAX_NAME_OCTETS { Ok(()) } else { Err(LONG_NAME) }
    });
    result.map_err(|expected| {
        out.truncate(start);
        Problem::new(token, expected)
    })
}

fn append_origin(origin: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), &'static str> {
    out.extend_from_slice(origin.ok_or(NO_ORIGIN)?);
    Ok(())
}

/// Text without escapes is as long as its wire format: copied whole behind one octet, each dot then becomes the
/// length of the label that follows it, walking from the end.
fn append_plain(raw: &[u8], origin: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if raw.len() > MAX_NAME_OCTETS {
        return Err(LONG_NAME);
    }
    let start = out.len();
    out.push(b'.');
    out.extend_from_slice(raw);
    let absolute = raw.last() == Some(&b'.');
    let mut label = 0u8;
    // The final dot of an absolute name is the one place where an empty label may be: the root.
    let mut may_be_empty = absolute;
    for octet in out.get_mut(start..).unwrap_or_default().iter_mut().rev() {
        if *octet != b'.' {
            // The whole text is at most 255 octets.
            label = label.saturating_add(1);
            continue;
        }
        if label == 0 && !may_be_empty {
            return Err(EMPTY_LABEL);
        }
        if usize::from(label) > MAX_LABEL_OCTETS {
            return Err(LONG_LABEL);
        }
        *octet = label;
        label = 0;
        may_be_empty = false;
    }
    if absolute { Ok(()) } else { append_origin(origin, out) }
}

fn append_escaped(raw: &[u8], origin: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let start = out.len();
    let mut rest = raw;
    loop {
        let length_at = out.len();
        out.push(0);
        let mut dot = false;
        while !rest.is_empty() && !dot {
            let (octet, was_escaped, after) = next_octet(rest).ok_or(escape::ESCAPE)?;
            rest = after;
            dot = octet == b'.' && !was_escaped;
            if !dot {
                out.push(octet);
            }
        }
        let len = out.len().saturating_sub(length_at).saturating_sub(1);
        match u8::try_from(len) {
            Ok(0) => return Err(EMPTY_LABEL),
            Ok(len) if usize::from(len) <= MAX_LABEL_OCTETS => {
                if let Some(octet) = out.get_mut(length_at) {
                    *octet = len;
                }
            }
            _ => return Err(LONG_LABEL),
        }
        if out.len().saturating_sub(start) > MAX_NAME_OCTETS {
            return Err(LONG_NAME);
        }
        match (rest.is_empty(), dot) {
            (true, true) => {
                out.push(0);
                return Ok(());
            }
            (true, false) => return append_origin(origin, out),
            _ => {}
        }
    }
}

/// Writes an uncompressed name with its final dot; `None` when the octets are not exactly one.
pub(crate) fn write(octets: &[u8], out: &mut String) -> Option<()> {
    if crate::name::wire_len(octets).ok()? != octets.len() {
        return None;
    }
    if octets.len() == 1 {
        out.push('.');
        return Some(());
    }
    let mut rest = octets;
    while let Some((&len, after)) = rest.split_first() {
        if len == 0 {
            break;
        }
        let (label, after) = after.split_at_checked(usize::from(len))?;
        for &octet in label {
            write_octet(octet, out);
        }
        out.push('.');
        rest = after;
    }
    Some(())
}

/// What has a meaning of its own somewhere in a zone file is escaped everywhere.
fn write_octet(octet: u8, out: &mut String) {
    match octet {
        b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
            out.push('\\');
            out.push(char::from(octet));
        }
        b'!'..=b'~' => out.push(char::from(octet)),
        _ => escape::write_decimal(octet, out),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::Tokens;
    use super::*;

    fn wire(text: &str) -> Result<Vec<u8>, String> {
        let mut out = vec![9];
        let token = Tokens::new(text.as_bytes()).need("name").map_err(|p| p.expected().to_owned())?;
        read(token, Some(b"\x01o\x00"), &mut out).map_err(|p| p.expected().to_owned())?;
        Ok(out.split_off(1))
    }

    #[test]
    fn names_read() {
        for (text, expected) in [
            ("a.b.", Ok(&b"\x01a\x01b\x00"[..])),
            ("a.b", Ok(b"\x01a\x01b\x01o\x00")),
            ("A", Ok(b"\x01A\x01o\x00")),
            ("@", Ok(b"\x01o\x00")),
            (".", Ok(b"\x00")),
            (r"\@", Ok(b"\x01@\x01o\x00")),
            (r"a\.b.c.", Ok(b"\x03a.b\x01c\x00")),
            (r"\097.", Ok(b"\x01a\x00")),
            (r"a.\098", Ok(b"\x01a\x01b\x01o\x00")),
            ("*", Ok(b"\x01*\x01o\x00")),
            ("a..b", Err(EMPTY_LABEL)),
            (".a", Err(EMPTY_LABEL)),
            ("..", Err(EMPTY_LABEL)),
            (r"\a..", Err(EMPTY_LABEL)),
            (r".\a", Err(EMPTY_LABEL)),
            (r"\25", Err(escape::ESCAPE)),
            ("\"a\"", Err(NAME)),
        ] {
            assert_eq!(wire(text), expected.map(<[u8]>::to_vec).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn limits_hold_on_both_ways() {
        let label = "a".repeat(63);
        for escape in ["", r"\"] {
            let longest = format!("{escape}{label}.{label}.{label}.{}.", "a".repeat(61));
            let wire_octets = wire(&longest.replace("\\a", "\\b")).unwrap();
            assert_eq!(wire_octets.len(), 255);
            assert!(wire(&format!("{}a.", longest.trim_end_matches('.').replace("\\a", "\\b"))).is_err());
            assert_eq!(wire(&format!("{}{label}a.", escape.replace('\\', "\\b"))), Err(LONG_LABEL.into()));
        }
        // Too long only with its origin.
        assert_eq!(wire(&format!("{label}.{label}.{label}.{}", "a".repeat(61))), Err(LONG_NAME.into()));
    }

    #[test]
    fn every_octet_of_a_label_returns() {
        for octet in 0..=255u8 {
            let octets = [2, octet, b'x', 0];
            let mut text = String::new();
            write(&octets, &mut text).unwrap();
            assert_eq!(wire(&text).unwrap(), octets, "{text}");
        }
        assert_eq!(write(&[0, 0], &mut String::new()), None);
        assert_eq!(write(&[0xC0, 0], &mut String::new()), None);
    }
}
