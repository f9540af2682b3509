//! The file with the secrets of server cookies, which all servers of an address share (RFC 9018 §3).

use std::path::Path;

use anyhow::{Context, bail};

/// The two secrets that the file may have.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Secrets {
    /// The first line: cookies are made with it, and accepted.
    pub current: [u8; 16],
    /// The second line, if there is one: cookies made with it are accepted too.
    pub previous: Option<[u8; 16]>,
}

/// Reads it.
///
/// # Errors
/// When it cannot be read, or has anything but one or two lines of 32 hexadecimal digits. No error says what stands there.
pub fn read(path: &Path) -> anyhow::Result<Secrets> {
    let place = || format!("cookies.secrets_file {}", path.display());
    parse(&std::fs::read_to_string(path).with_context(place)?).with_context(place)
}

fn parse(text: &str) -> anyhow::Result<Secrets> {
    let mut secrets = Vec::new();
    for (line, number) in text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty()) {
        // Never the line itself: it is a secret, or was meant to be.
        secrets.push(secret(line).with_context(|| format!("line {number}: expected 32 hexadecimal digits"))?);
    }
    match secrets[..] {
        [current] => Ok(Secrets { current, previous: None }),
        [current, previous] => Ok(Secrets { current, previous: Some(previous) }),
        _ => bail!("expected one secret or two, found {}", secrets.len()),
    }
}

fn secret(line: &str) -> Option<[u8; 16]> {
    let digits = line.as_bytes();
    let mut secret = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (octet, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *octet = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "00112233445566778899aabbccddeeff";
    const SECOND: &str = "FFEEDDCCBBAA99887766554433221100";

    #[test]
    fn one_secret_or_two_are_read() {
        let secrets = parse(FIRST).unwrap();
        assert_eq!((secrets.current[..3].to_vec(), secrets.previous), (vec![0, 0x11, 0x22], None));
        let secrets = parse(&format!("  {FIRST} \r\n\n{SECOND}\n")).unwrap();
        assert_eq!(secrets.current[15], 0xFF);
        assert_eq!(secrets.previous.unwrap()[..3], [0xFF, 0xEE, 0xDD]);
    }

    #[test]
    fn what_is_wrong_is_said_without_saying_the_secret() {
        for (text, expected) in [
            (String::new(), "expected one secret or two, found 0"),
            (format!("{FIRST}\n{SECOND}\n{FIRST}\n"), "expected one secret or two, found 3"),
            (format!("{FIRST}\n{}\n", &SECOND[1..]), "line 2: expected 32 hexadecimal digits"),
            (format!("{FIRST}{SECOND}\n"), "line 1: expected 32 hexadecimal digits"),
            (format!("{}é\n", &FIRST[2..]), "line 1: expected 32 hexadecimal digits"),
            (format!("{}g\n", &FIRST[1..]), "line 1: expected 32 hexadecimal digits"),
        ] {
            let Err(error) = parse(&text) else { panic!("{text:?} was taken") };
            let error = format!("{error:#}");
            assert_eq!(error, expected);
            assert!(!error.contains("1122") && !error.contains("DDCC"), "{error}");
        }
    }
}
