//! Escapes of presentation format: `\DDD` and `\X` (RFC 1035 §5.1), read and written.

/// What an escape must look like.
pub(crate) const ESCAPE: &str = "an escape as \\DDD (000 to 255) or a backslash and one character";

/// One octet of text with escapes resolved, and the text after it; `None` for a broken escape or empty text.
pub(crate) fn next_octet(text: &[u8]) -> Option<(u8, bool, &[u8])> {
    match text {
        [b'\\', a @ b'0'..=b'9', rest @ ..] => {
            let (&[b, c], rest) = rest.split_first_chunk::<2>()?;
            if !b.is_ascii_digit() || !c.is_ascii_digit() {
                return None;
            }
            let value = [*a, b, c]
                .iter()
                .fold(0u16, |sum, digit| sum.saturating_mul(10).saturating_add(u16::from(digit & 0x0F)));
            Some((u8::try_from(value).ok()?, true, rest))
        }
        [b'\\', octet, rest @ ..] => Some((*octet, true, rest)),
        [b'\\'] | [] => None,
        [octet, rest @ ..] => Some((*octet, false, rest)),
    }
}

/// Appends the octets that `raw` stands for.
pub(crate) fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut rest = raw;
    while !rest.is_empty() {
        let (octet, _, after) = next_octet(rest).ok_or(ESCAPE)?;
        out.push(octet);
        rest = after;
    }
    Ok(())
}

/// Writes `octet` as `\DDD`.
pub(crate) fn write_decimal(octet: u8, out: &mut String) {
    out.push('\\');
    for digit in [octet / 100, octet / 10 % 10, octet % 10] {
        out.push(char::from(b'0'.saturating_add(digit)));
    }
}

/// Writes octets so that they stand in a quoted string.
pub(crate) fn write_quotable(octets: &[u8], out: &mut String) {
    for &octet in octets {
        match octet {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(octet));
            }
            b' '..=b'~' => out.push(char::from(octet)),
            _ => write_decimal(octet, out),
        }
    }
}

/// Writes a quoted string.
pub(crate) fn write_quoted(octets: &[u8], out: &mut String) {
    out.push('"');
    write_quotable(octets, out);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_resolve() {
        for (raw, expected) in [
            ("abc", Ok(&b"abc"[..])),
            (r"a\.b\\", Ok(br"a.b\")),
            (r"\000\255\0651", Ok(b"\x00\xFFA1")),
            (r"\256", Err(ESCAPE)),
            (r"\12", Err(ESCAPE)),
            (r"\1a2", Err(ESCAPE)),
            ("a\\", Err(ESCAPE)),
        ] {
            let mut out = Vec::new();
            assert_eq!(unescape(raw.as_bytes(), &mut out).map(|()| &out[..]), expected, "{raw}");
        }
    }

    #[test]
    fn every_octet_returns() {
        let octets: Vec<u8> = (0..=255).collect();
        let mut text = String::new();
        write_quotable(&octets, &mut text);
        assert!(text.bytes().all(|octet| (b' '..=b'~').contains(&octet)));
        let mut back = Vec::new();
        unescape(text.as_bytes(), &mut back).unwrap();
        assert_eq!(back, octets);
    }
}
