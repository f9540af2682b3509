//! Numbers, times with units and points in time as zone files write them.

use super::problem::Problem;
use super::tokens::Token;
use crate::rr::MAX_TTL;

/// A decimal number; `None` when it is not one or does not fit.
pub(crate) fn decimal(raw: &[u8]) -> Option<u64> {
    if raw.is_empty() || raw.len() > 19 {
        return None;
    }
    raw.iter().try_fold(0u64, |sum, &octet| {
        octet.is_ascii_digit().then(|| sum.wrapping_mul(10).wrapping_add(u64::from(octet & 0x0F)))
    })
}

pub(crate) fn u8(token: Token<'_>) -> Result<u8, Problem> {
    let value = decimal(token.raw).and_then(|value| u8::try_from(value).ok());
    value.ok_or_else(|| Problem::new(token, "a number from 0 to 255"))
}

pub(crate) fn u16(token: Token<'_>) -> Result<u16, Problem> {
    let value = decimal(token.raw).and_then(|value| u16::try_from(value).ok());
    value.ok_or_else(|| Problem::new(token, "a number from 0 to 65535"))
}

pub(crate) fn u32(token: Token<'_>) -> Result<u32, Problem> {
    let value = decimal(token.raw).and_then(|value| u32::try_from(value).ok());
    value.ok_or_else(|| Problem::new(token, "a number from 0 to 4294967295"))
}

/// Seconds, as a number or with units: `1h30m`, `2w`, in any case (BIND and NSD; not in RFC 1035).
pub(crate) fn seconds(token: Token<'_>) -> Result<u32, Problem> {
    let value = with_units(token.raw).and_then(|value| u32::try_from(value).ok());
    value.ok_or_else(|| Problem::new(token, "a time in seconds, or with units as in 1h30m or 2w"))
}

/// A TTL: seconds or units, at most [`MAX_TTL`] (RFC 2181 §8).
pub(crate) fn ttl(token: Token<'_>) -> Result<u32, Problem> {
    match with_units(token.raw) {
        Some(value) => match u32::try_from(value) {
            Ok(value) if value <= MAX_TTL => Ok(value),
            _ => Err(Problem::new(token, "a TTL of at most 2147483647 seconds")),
        },
        None => Err(Problem::new(token, "a TTL in seconds, or with units as in 1h30m or 2w")),
    }
}

fn with_units(raw: &[u8]) -> Option<u64> {
    if let Some(plain) = decimal(raw) {
        return Some(plain);
    }
    // Far more than fits, far less than what could cost time.
    if raw.is_empty() || raw.len() > 64 {
        return None;
    }
    let mut sum = 0u64;
    for part in raw.split_inclusive(|octet| !octet.is_ascii_digit()) {
        let (&unit, digits) = part.split_last()?;
        let unit = match unit.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        sum = sum.checked_add(decimal(digits)?.checked_mul(unit)?)?;
    }
    Some(sum)
}

/// A point in time of RRSIG: `YYYYMMDDHHmmSS` in UTC, or seconds since 1970 (RFC 4034 §3.2).
pub(crate) fn timestamp(token: Token<'_>) -> Result<u32, Problem> {
    let value = match token.raw.len() {
        14 => calendar(token.raw),
        _ => decimal(token.raw).and_then(|value| u32::try_from(value).ok()),
    };
    value.ok_or_else(|| Problem::new(token, "a time as YYYYMMDDHHmmSS, or seconds since 1970"))
}

const DAY: u64 = 86_400;

fn calendar(raw: &[u8]) -> Option<u32> {
    let part = |from: usize, to: usize| decimal(raw.get(from..to)?);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    let valid = year >= 1970
        && (1..=12).contains(&month)
        && day >= 1
        && day <= month_days(year, month)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let years: u64 = (1970..year).map(year_days).sum();
    let months: u64 = (1..month).map(|month| month_days(year, month)).sum();
    let days = years.saturating_add(months).saturating_add(day.saturating_sub(1));
    let clock = hour.saturating_mul(3600).saturating_add(minute.saturating_mul(60)).saturating_add(second);
    u32::try_from(days.saturating_mul(DAY).saturating_add(clock)).ok()
}

/// Writes a point in time as `YYYYMMDDHHmmSS`.
pub(crate) fn write_timestamp(value: u32, out: &mut String) {
    let mut days = u64::from(value) / DAY;
    let clock = u64::from(value) % DAY;
    let (mut year, mut month) = (1970u64, 1u64);
    while days >= year_days(year) {
        days = days.saturating_sub(year_days(year));
        year = year.saturating_add(1);
    }
    while days >= month_days(year, month) {
        days = days.saturating_sub(month_days(year, month));
        month = month.saturating_add(1);
    }
    let day = days.saturating_add(1);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    out.push_str(&format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}"));
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn year_days(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token<'_> {
        Token { raw: text.as_bytes(), quoted: false, escaped: false }
    }

    #[test]
    fn units_add_up() {
        for (text, expected) in [
            ("0", Some(0)),
            ("3600", Some(3600)),
            ("1h30m", Some(5400)),
            ("2W", Some(1_209_600)),
            ("1w2d3h4m5s", Some(788_645)),
            ("2147483647", Some(MAX_TTL)),
            ("2147483648", None),
            ("4000w", None),
            ("1h30", None),
            ("h", None),
            ("1y", None),
            ("", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("9999999999999999999w", None),
        ] {
            assert_eq!(ttl(token(text)).ok(), expected, "{text}");
        }
        assert_eq!(seconds(token("4294967295")).ok(), Some(u32::MAX));
    }

    #[test]
    fn points_in_time_return() {
        for (value, text) in [
            (0, "19700101000000"),
            (951_782_400, "20000229000000"),
            (1_700_000_000, "20231114221320"),
            (u32::MAX, "21060207062815"),
        ] {
            let mut out = String::new();
            write_timestamp(value, &mut out);
            assert_eq!(out, text);
            assert_eq!(timestamp(token(text)).ok(), Some(value));
            assert_eq!(timestamp(token(&value.to_string())).ok(), Some(value));
        }
        for text in ["20230229000000", "20231301000000", "20231114240000", "21060207062816", "1970010100000"]
        {
            assert_eq!(timestamp(token(text)).ok(), None, "{text}");
        }
    }
}
