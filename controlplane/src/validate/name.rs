//! Names as people write them, and which zone they are relative to.

use std::str::FromStr as _;

use godwit_wire::name::{Name, NameRef};

use crate::error::{Code, Problem};

fn problem(text: &str, reason: &str) -> Problem {
    // A name that is refused may be of any length; the sentence about it is not.
    let shown = &text[..text.floor_char_boundary(100)];
    let dots = if shown.len() < text.len() { "…" } else { "" };
    Problem::new(Code::InvalidName, format!("\"{shown}{dots}\" is not a valid name: {reason}"))
}

/// Reads an absolute name, with or without its final dot.
///
/// # Errors
/// `INVALID_NAME`.
pub fn absolute(text: &str) -> Result<Name, Problem> {
    if text.is_empty() {
        return Err(problem(text, "it is empty"));
    }
    if !text.is_ascii() {
        return Err(problem(text, "write names outside ASCII as A-labels (xn--…, RFC 5890 §2.3.2.1)"));
    }
    if !is_escaped(text) {
        return Err(problem(text, "a character in it needs to be escaped as \\DDD"));
    }
    if let Ok(name) = Name::from_str(text) {
        return Ok(name);
    }
    Err(problem(text, "labels have 1 to 63 octets, the whole name at most 255 (RFC 1035 §2.3.4)"))
}

/// Whether what has an escaped form (RFC 1035 §5.1) has it: bare spaces and special characters are mistakes, control octets
/// are so in any form but `\DDD`.
fn is_escaped(text: &str) -> bool {
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        let fine = match octet {
            b'\\' => octets.next().is_none_or(|escaped| matches!(escaped, b' '..=b'~')),
            b'"' | b'(' | b')' | b';' | b'@' | b'$' => false,
            octet => octet.is_ascii_graphic(),
        };
        if !fine {
            return false;
        }
    }
    true
}

/// Reads a name that may be relative to `zone`: without a final dot, or `@` for the zone itself.
///
/// # Errors
/// `INVALID_NAME`; also for a relative name without a zone, which could mean anything.
pub fn relative(text: &str, zone: Option<NameRef<'_>>) -> Result<Name, Problem> {
    if ends_in_dot(text) {
        return absolute(text);
    }
    let Some(zone) = zone else {
        return Err(problem(text, "it is relative; end it with a dot or say ?zone="));
    };
    if text == "@" {
        return Ok(zone.to_owned());
    }
    let head = absolute(text)?;
    let mut wire = head.as_wire()[..head.as_wire().len() - 1].to_vec();
    wire.extend_from_slice(zone.as_wire());
    Name::from_wire(&wire).map_err(|error| problem(text, &error.to_string()))
}

/// Whether the last character is a dot that is not escaped.
fn ends_in_dot(text: &str) -> bool {
    let Some(head) = text.strip_suffix('.') else { return false };
    let backslashes = head.bytes().rev().take_while(|&octet| octet == b'\\').count();
    // `\\.` ends in a dot, `\.` does not; `\046.` has digits between.
    backslashes % 2 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_or_refused() {
        let zone = absolute("example.com").unwrap();
        let label = "a".repeat(64);
        let long = format!("{}com.", "a.".repeat(127));
        for (text, zone, expected) in [
            ("www.example.com.", None, Some("www.example.com.")),
            ("WWW.Example.Com.", None, Some("www.example.com.")),
            ("www", None, None),
            ("www.example.com", None, None),
            ("www", Some(zone.as_ref()), Some("www.example.com.")),
            ("@", Some(zone.as_ref()), Some("example.com.")),
            ("@", None, None),
            ("*.example.com.", None, Some("*.example.com.")),
            ("_acme-challenge.example.com.", None, Some("_acme-challenge.example.com.")),
            ("a\\.b.example.com.", None, Some("a\\.b.example.com.")),
            ("a\\.", Some(zone.as_ref()), Some("a\\..example.com.")),
            (".", None, Some(".")),
            ("", None, None),
            ("", Some(zone.as_ref()), None),
            ("a..b.", None, None),
            ("a b.example.com.", None, None),
            ("a\\ b.example.com.", None, Some("a\\ b.example.com.")),
            ("a\\032b.example.com.", None, Some("a\\ b.example.com.")),
            ("\\\"\\(\\)\\;\\@\\$.example.com.", None, Some("\"();@$.example.com.")),
            ("a\\\u{7}.example.com.", None, None),
            ("a\"b.example.com.", None, None),
            ("a\\\\\"b.example.com.", None, None),
            ("a\u{7}.example.com.", None, None),
            ("bücher.example.", None, None),
            (&label, Some(zone.as_ref()), None),
            (&format!("{label}."), None, None),
            (&long, None, None),
        ] {
            let read = relative(text, zone);
            assert_eq!(read.as_ref().ok().map(ToString::to_string).as_deref(), expected, "{text}");
            if let Err(problem) = read {
                assert_eq!(problem.code, Code::InvalidName);
                assert!(problem.message.len() < 300);
            }
        }
    }
}
