//! Numbers that may be written as words: algorithms, certificate types, schemes. Written back as numbers where that
//! is the custom.

use super::number;
use super::problem::Problem;
use super::tokens::Token;
use super::write::display;

/// DNSSEC algorithms: IANA's mnemonics and those that BIND writes.
const ALGORITHMS: &[(&str, u8)] = &[
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("RSASHA1", 5),
    ("DSA-NSEC3-SHA1", 6),
    ("NSEC3DSA", 6),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("NSEC3RSASHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECC-GOST", 12),
    ("ECCGOST", 12),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("INDIRECT", 252),
    ("PRIVATEDNS", 253),
    ("PRIVATEOID", 254),
];

/// Certificate types (RFC 4398 §2.1).
const CERTIFICATE_TYPES: &[(&str, u16)] = &[
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

/// Schemes of DSYNC (RFC 9859 §6.2).
const SCHEMES: &[(&str, u8)] = &[("NOTIFY", 1)];

fn named<T: Copy>(token: Token<'_>, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(token.raw)).map(|&(_, value)| value)
}

fn word<T: Copy + PartialEq>(value: T, words: &[(&'static str, T)]) -> Option<&'static str> {
    words.iter().find(|&&(_, number)| number == value).map(|&(word, _)| word)
}

fn is_number(token: Token<'_>) -> bool {
    token.raw.first().is_some_and(u8::is_ascii_digit)
}

pub(crate) fn algorithm(token: Token<'_>) -> Result<u8, Problem> {
    if is_number(token) {
        return number::u8(token);
    }
    named(token, ALGORITHMS).ok_or_else(|| Problem::new(token, "a DNSSEC algorithm, as number or mnemonic"))
}

pub(crate) fn certificate_type(token: Token<'_>) -> Result<u16, Problem> {
    if is_number(token) {
        return number::u16(token);
    }
    named(token, CERTIFICATE_TYPES)
        .ok_or_else(|| Problem::new(token, "a certificate type, as number or mnemonic"))
}

pub(crate) fn write_certificate_type(value: u16, out: &mut String) -> Option<()> {
    match word(value, CERTIFICATE_TYPES) {
        Some(word) => display(word, out),
        None => display(value, out),
    }
}

pub(crate) fn scheme(token: Token<'_>) -> Result<u8, Problem> {
    if is_number(token) {
        return number::u8(token);
    }
    named(token, SCHEMES).ok_or_else(|| Problem::new(token, "a scheme, as number or mnemonic"))
}

pub(crate) fn write_scheme(value: u8, out: &mut String) -> Option<()> {
    match word(value, SCHEMES) {
        Some(word) => display(word, out),
        None => display(value, out),
    }
}
