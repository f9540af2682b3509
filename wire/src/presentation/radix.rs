//! Base 16, 32 (extended hex alphabet) and 64 (RFC 4648 §4, §7, §8), read into a buffer and written from octets.
//! Base 64 is padded, base 32 is not (RFC 5155 §3.3).

/// A way to write octets with letters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Radix {
    Hex,
    Base32Hex,
    Base64,
}

const HEX: &[u8] = b"0123456789ABCDEF";
const BASE32_HEX: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUV";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Radix {
    fn bits(self) -> u32 {
        match self {
            Radix::Hex => 4,
            Radix::Base32Hex => 5,
            Radix::Base64 => 6,
        }
    }

    fn alphabet(self) -> &'static [u8] {
        match self {
            Radix::Hex => HEX,
            Radix::Base32Hex => BASE32_HEX,
            Radix::Base64 => BASE64,
        }
    }

    fn value(self, letter: u8) -> Option<u8> {
        let value = match (self, letter) {
            (Radix::Base64, b'A'..=b'Z') => letter.wrapping_sub(b'A'),
            (Radix::Base64, b'a'..=b'z') => letter.wrapping_sub(b'a').wrapping_add(26),
            (Radix::Base64, b'0'..=b'9') => letter.wrapping_sub(b'0').wrapping_add(52),
            (Radix::Base64, b'+') => 62,
            (Radix::Base64, b'/') => 63,
            (_, b'0'..=b'9') => letter.wrapping_sub(b'0'),
            (Radix::Hex, b'a'..=b'f') | (Radix::Base32Hex, b'a'..=b'v') => {
                letter.wrapping_sub(b'a').wrapping_add(10)
            }
            (Radix::Hex, b'A'..=b'F') | (Radix::Base32Hex, b'A'..=b'V') => {
                letter.wrapping_sub(b'A').wrapping_add(10)
            }
            _ => return None,
        };
        Some(value)
    }

    /// What to call it in an error.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Radix::Hex => "hexadecimal digits, two for each octet",
            Radix::Base32Hex => "base 32 text (extended hex alphabet, without padding)",
            Radix::Base64 => "base 64 text",
        }
    }

    /// Writes octets as letters.
    pub(crate) fn write(self, octets: &[u8], out: &mut String) {
        let bits = self.bits();
        let mask = 0xFFu32 >> 8u32.saturating_sub(bits);
        let (mut held, mut count) = (0u32, 0u32);
        let mut letters = 0usize;
        let mut push = |value: u32| {
            let at = usize::try_from(value & mask).unwrap_or_default();
            out.push(char::from(self.alphabet().get(at).copied().unwrap_or(b'?')));
            letters = letters.wrapping_add(1);
        };
        for &octet in octets {
            held = (held << 8) | u32::from(octet);
            count = count.saturating_add(8);
            while count >= bits {
                count = count.saturating_sub(bits);
                push(held.wrapping_shr(count));
            }
        }
        if count > 0 {
            push(held.wrapping_shl(bits.saturating_sub(count)));
        }
        if self == Radix::Base64 {
            while !letters.is_multiple_of(4) {
                out.push('=');
                letters = letters.wrapping_add(1);
            }
        }
    }
}

/// Takes letters in any number of pieces, as blanks may stand between them.
#[derive(Debug)]
pub(crate) struct Decoder {
    radix: Radix,
    held: u32,
    /// Bits held that are not written yet.
    count: u32,
    letters: usize,
    padding: usize,
}

impl Decoder {
    pub(crate) fn new(radix: Radix) -> Self {
        Decoder { radix, held: 0, count: 0, letters: 0, padding: 0 }
    }

    /// Takes a piece; `None` when a letter does not belong.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let bits = self.radix.bits();
        for &letter in piece {
            if letter == b'=' && self.radix == Radix::Base64 {
                self.padding = self.padding.wrapping_add(1);
                continue;
            }
            let value = self.radix.value(letter)?;
            if self.padding > 0 {
                return None;
            }
            self.held = (self.held.wrapping_shl(bits)) | u32::from(value);
            self.letters = self.letters.wrapping_add(1);
            self.count = self.count.wrapping_add(bits);
            if self.count >= 8 {
                self.count = self.count.wrapping_sub(8);
                let octet = self.held.wrapping_shr(self.count) & 0xFF;
                out.push(u8::try_from(octet).unwrap_or_default());
            }
        }
        Some(())
    }

    /// Ends the text; `None` when it is cut off, badly padded, or has bits that no octet takes.
    pub(crate) fn finish(self) -> Option<()> {
        let left = self.held & 1u32.wrapping_shl(self.count).wrapping_sub(1);
        let whole = match self.radix {
            Radix::Base64 => {
                self.count < 6
                    && self.padding < 3
                    && self.letters.wrapping_add(self.padding).is_multiple_of(4)
            }
            radix => self.count < radix.bits(),
        };
        (whole && left == 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use domain::utils::{base16, base32, base64};

    use super::*;

    fn decode(radix: Radix, text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut decoder = Decoder::new(radix);
        // In pieces, as it may stand in a file.
        for piece in text.as_bytes().chunks(3) {
            decoder.push(piece, &mut out)?;
        }
        decoder.finish().map(|()| out)
    }

    fn encode(radix: Radix, octets: &[u8]) -> String {
        let mut text = String::new();
        radix.write(octets, &mut text);
        text
    }

    #[test]
    fn agrees_with_another_implementation() {
        for len in 0..70u8 {
            let octets: Vec<u8> = (0..len).map(|i| i.wrapping_mul(151).wrapping_add(len)).collect();
            assert_eq!(encode(Radix::Hex, &octets), base16::encode_string(&octets));
            assert_eq!(encode(Radix::Base32Hex, &octets), base32::encode_string_hex(&octets));
            assert_eq!(encode(Radix::Base64, &octets), base64::encode_string(&octets));
            for radix in [Radix::Hex, Radix::Base32Hex, Radix::Base64] {
                assert_eq!(decode(radix, &encode(radix, &octets)), Some(octets.clone()), "{radix:?} {len}");
            }
        }
        assert_eq!(decode(Radix::Hex, "0aFf"), Some(vec![0x0A, 0xFF]));
        assert_eq!(decode(Radix::Base32Hex, "vv"), decode(Radix::Base32Hex, "VV"));
    }

    #[test]
    fn broken_text_is_refused() {
        for (radix, texts) in [
            (Radix::Hex, &["0", "0g", "0x00"][..]),
            (Radix::Base32Hex, &["V", "01W0", "0=", "V1"]),
            (Radix::Base64, &["A", "AA", "AAA", "AA=A", "AB==", "AAAA====", "A===", "=", "A_AA"]),
        ] {
            for text in texts {
                assert_eq!(decode(radix, text), None, "{radix:?} {text}");
            }
        }
    }
}
