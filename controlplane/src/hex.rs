//! Octets as text: two lower-case digits each.

use std::fmt::Write as _;

pub(crate) fn encoded(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() * 2);
    for octet in octets {
        let _ = write!(text, "{octet:02x}");
    }
    text
}

/// `None` when it is not that many.
pub(crate) fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 {
        return None;
    }
    let mut octets = [0; N];
    for (octet, digits) in octets.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let (Some(high), Some(low)) = (digit(*digits.first()?), digit(*digits.last()?)) else { return None };
        *octet = u8::try_from(high * 16 + low).ok()?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(encoded(&[0, 0x0a, 0xff]), "000aff");
        assert_eq!(decoded("000aFF"), Some([0, 0x0a, 0xff]));
        for text in ["", "000af", "000aff00", "000ag0", "+0-0ff", "ä0aff"] {
            assert_eq!(decoded::<3>(text), None, "{text}");
        }
    }
}
