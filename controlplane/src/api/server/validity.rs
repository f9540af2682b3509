//! From when and until when a certificate is good (RFC 5280 §4.1.2.5): the one thing of it that is looked at here. All else is up to clients.

use time::{Date, Month, PrimitiveDateTime, Time};

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate is good, in seconds since the epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Validity {
    /// `notBefore`.
    pub(super) begins_at: i64,
    /// `notAfter`.
    pub(super) ends_at: i64,
}

/// That of a certificate; `None` where it is none.
pub(super) fn of(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if let Some((_, behind)) = element(rest, VERSION) {
        rest = behind;
    }
    let (_serial, rest) = element(rest, INTEGER)?;
    let (_signature, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (begins_at, rest) = time_of(validity)?;
    let (ends_at, _) = time_of(rest)?;
    Some(Validity { begins_at, ends_at })
}

/// The content of an element of this kind, and what is behind it (X.690 §8.1, in DER).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if octets.is_empty() || octets.len() > 4 {
            return None;
        }
        let len = octets.iter().fold(0u64, |len, octet| len << 8 | u64::from(*octet));
        (usize::try_from(len).ok()?, rest)
    };
    if found != tag {
        return None;
    }
    rest.split_at_checked(len)
}

fn time_of(der: &[u8]) -> Option<(i64, &[u8])> {
    let (text, year_digits, rest) = match element(der, UTC_TIME) {
        Some((text, rest)) => (text, 2, rest),
        None => element(der, GENERALIZED_TIME).map(|(text, rest)| (text, 4, rest))?,
    };
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.is_ascii() || text.len() != year_digits + 10 {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u16>().ok();
    let small = |from: usize| number(from, from + 2).and_then(|number| u8::try_from(number).ok());
    let year = i32::from(number(0, year_digits)?);
    let year = match year_digits {
        2 if year >= 50 => year + 1_900,
        2 => year + 2_000,
        _ => year,
    };
    let at = year_digits;
    let date = Date::from_calendar_date(year, Month::try_from(small(at)?).ok()?, small(at + 2)?).ok()?;
    let time = Time::from_hms(small(at + 4)?, small(at + 6)?, small(at + 8)?).ok()?;
    Some((PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp(), rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn when_certificates_are_good_is_read() {
        let key = KeyPair::generate().unwrap();
        for (year, month, day, expected) in [
            (2_026, 3, 1, 1_772_323_200),
            (2_049, 12, 31, 2_524_521_600),
            (2_050, 1, 1, 2_524_608_000),
            (4_096, 1, 1, 67_090_118_400),
        ] {
            let mut params = CertificateParams::new(vec!["dns.example.net".to_owned()]).unwrap();
            params.not_before = date_time_ymd(1_999, 1, 1);
            params.not_after = date_time_ymd(year, month, day);
            let der = params.self_signed(&key).unwrap().der().to_vec();
            let expected = Validity { begins_at: 915_148_800, ends_at: expected };
            assert_eq!(of(&der), Some(expected), "{year}");
            // Whatever is cut off or changed, it is read or refused, and nothing else.
            for at in 0..der.len() {
                of(&der[..at]);
                let mut changed = der.clone();
                changed[at] ^= 0xff;
                of(&changed);
            }
        }
        assert_eq!(of(b""), None);
        assert_eq!(of(b"\x30\x84\xff\xff\xff\xff"), None);
    }
}
