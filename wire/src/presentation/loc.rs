//! LOC: where something is (RFC 1876).

use std::fmt::Write;

use super::number;
use super::octets::Octets;
use super::problem::Problem;
use super::tokens::{Token, Tokens};

/// The equator and the prime meridian: coordinates are thousandths of a second of arc from here (RFC 1876 §2).
const ZERO: u32 = 1 << 31;
/// The altitude that 0 stands for: 100,000 m below the reference, in centimetres.
const BELOW: i64 = 10_000_000;
/// One degree, one minute in thousandths of a second.
const DEGREE: u32 = 3_600_000;
const MINUTE: u32 = 60_000;
/// What may be left out: size 1 m, horizontal 10 km, vertical 10 m (RFC 1876 §3).
const PRECISION: [u8; 3] = [0x12, 0x16, 0x13];

/// `d [m [s]] N|S d [m [s]] E|W altitude [size [horizontal [vertical]]]`
pub(crate) fn read(tokens: &mut Tokens<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let latitude = coordinate(tokens, 90, b'N', b'S', "a latitude as 52 22 23.000 N")?;
    let longitude = coordinate(tokens, 180, b'E', b'W', "a longitude as 4 53 32.000 E")?;
    let altitude = altitude(tokens.need("an altitude in metres")?)?;
    let mut precision = PRECISION;
    for octet in &mut precision {
        match tokens.next()? {
            Some(token) => *octet = size(token)?,
            None => break,
        }
    }
    // Version 0.
    out.push(0);
    out.extend_from_slice(&precision);
    for value in [latitude, longitude, altitude] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    Ok(())
}

fn coordinate(
    tokens: &mut Tokens<'_>,
    most: u64,
    positive: u8,
    negative: u8,
    expected: &'static str,
) -> Result<u32, Problem> {
    let first = tokens.need(expected)?;
    let degrees = number::decimal(first.raw).filter(|&degrees| degrees <= most);
    let degrees = degrees.ok_or_else(|| Problem::new(first, expected))?;
    let mut arc = degrees.saturating_mul(u64::from(DEGREE));
    for part in 0..3 {
        let token = tokens.need(expected)?;
        let wrong = || Problem::new(token, expected);
        if let [letter] = token.raw
            && letter.is_ascii_alphabetic()
        {
            let arc =
                u32::try_from(arc).ok().filter(|&arc| u64::from(arc / DEGREE) < most || arc % DEGREE == 0);
            let arc = arc.ok_or_else(wrong)?;
            return match letter.to_ascii_uppercase() {
                letter if letter == positive => Ok(ZERO.saturating_add(arc)),
                letter if letter == negative => Ok(ZERO.saturating_sub(arc)),
                _ => Err(wrong()),
            };
        }
        let value = match part {
            0 => number::decimal(token.raw)
                .filter(|&value| value < 60)
                .map(|value| value.saturating_mul(u64::from(MINUTE))),
            1 => decimal_part(token.raw, 3).filter(|&value| value < u64::from(MINUTE)),
            _ => None,
        };
        arc = arc.saturating_add(value.ok_or_else(wrong)?);
    }
    Err(Problem::at_end(expected))
}

/// A number with at most `places` digits behind the point, times ten to the power of `places`.
fn decimal_part(raw: &[u8], places: usize) -> Option<u64> {
    let (whole, part) = match raw.iter().position(|&octet| octet == b'.') {
        Some(at) => (raw.get(..at)?, raw.get(at.saturating_add(1)..)?),
        None => (raw, &b""[..]),
    };
    if part.len() > places || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let digits =
        whole.iter().chain(part).copied().chain(std::iter::repeat_n(b'0', places.saturating_sub(part.len())));
    digits.into_iter().try_fold(0u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then_some(u64::from(digit & 0x0F))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Metres with two digits behind the point and perhaps an `m`, in centimetres.
fn centimetres(raw: &[u8]) -> Option<u64> {
    decimal_part(raw.strip_suffix(b"m").or_else(|| raw.strip_suffix(b"M")).unwrap_or(raw), 2)
}

fn altitude(token: Token<'_>) -> Result<u32, Problem> {
    let (negative, raw) = match token.raw.strip_prefix(b"-") {
        Some(raw) => (true, raw),
        None => (false, token.raw),
    };
    let value = centimetres(raw).and_then(|value| i64::try_from(value).ok());
    let value = value.map(|value| if negative { value.saturating_neg() } else { value });
    value
        .and_then(|value| u32::try_from(value.saturating_add(BELOW)).ok())
        .ok_or_else(|| Problem::new(token, "an altitude in metres, -100000.00 to 42849672.95"))
}

/// A diameter as a digit and a power of ten (RFC 1876 §2); more digits than that are cut off, as BIND does.
fn size(token: Token<'_>) -> Result<u8, Problem> {
    let wrong = || Problem::new(token, "a size in metres, 0 to 90000000.00");
    let mut value = centimetres(token.raw).ok_or_else(wrong)?;
    let mut exponent = 0u8;
    while value > 9 {
        value /= 10;
        exponent = exponent.saturating_add(1);
    }
    if exponent > 9 {
        return Err(wrong());
    }
    Ok((u8::try_from(value).map_err(|_| wrong())? << 4) | exponent)
}

/// `None` for another version, for a place beyond the poles, and for sizes that are not a digit and a power.
pub(crate) fn write(octets: &mut Octets<'_>, out: &mut String) -> Option<()> {
    if octets.u8()? != 0 {
        return None;
    }
    let precision = octets.array::<3>()?;
    write_coordinate(octets.u32()?, 90, ['N', 'S'], out)?;
    out.push(' ');
    write_coordinate(octets.u32()?, 180, ['E', 'W'], out)?;
    let altitude = i64::from(octets.u32()?).saturating_sub(BELOW);
    let sign = if altitude < 0 { "-" } else { "" };
    let altitude = altitude.unsigned_abs();
    write!(out, " {sign}{}.{:02}m", altitude / 100, altitude % 100).ok()?;
    for octet in precision {
        let (digit, exponent) = (u64::from(octet >> 4), u32::from(octet & 0x0F));
        // A zero with a power reads back without it.
        if digit > 9 || exponent > 9 || (digit == 0 && exponent > 0) {
            return None;
        }
        let value = digit.saturating_mul(10u64.saturating_pow(exponent));
        write!(out, " {}.{:02}m", value / 100, value % 100).ok()?;
    }
    Some(())
}

fn write_coordinate(value: u32, most: u32, letters: [char; 2], out: &mut String) -> Option<()> {
    let [positive, negative] = letters;
    let letter = if value >= ZERO { positive } else { negative };
    let arc = value.abs_diff(ZERO);
    if arc > most.saturating_mul(DEGREE) {
        return None;
    }
    let (degrees, minutes, rest) = (arc / DEGREE, arc % DEGREE / MINUTE, arc % MINUTE);
    write!(out, "{degrees} {minutes} {}.{:03} {letter}", rest / 1000, rest % 1000).ok()
}
