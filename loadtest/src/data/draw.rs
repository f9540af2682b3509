//! Deterministic draws: every value is a function of a seed and a few numbers, so that any record or query can be made
//! again alone, in any order, without holding the rest. Not for anything that must be unpredictable.

/// A stream of draws, all fixed by what it was made from (SplitMix64).
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The stream that belongs to this seed, purpose and index. Different purposes give unrelated streams.
    #[must_use]
    pub fn new(seed: u64, purpose: &str, index: u64) -> Self {
        let mut state = seed;
        for octet in purpose.bytes() {
            state = mix(state ^ u64::from(octet));
        }
        Draw(mix(state ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound` (at least 1). The bias of taking the high half of a product is below `bound` / 2⁶⁴.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.bits()) * u128::from(bound.max(1));
        (product >> 64) as u64
    }

    /// `len` lower-case letters and digits.
    pub fn text(&mut self, len: u64) -> String {
        (0..len).map(|_| char::from(DIGITS[self.below(36) as usize])).collect()
    }
}

/// The digits of [`unique`] and [`Draw::text`]: what a host name may contain without ever needing an escape.
const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// How many different texts [`unique`] gives.
pub const UNIQUE: u64 = 36 * 36 * 36 * 36 * 36;

const MULTIPLIER: u64 = 25_214_903;
const SHIFT: u64 = 12_345_678;
/// The inverse of [`MULTIPLIER`] modulo [`UNIQUE`].
const INVERSE: u64 = 45323783;

/// Five letters and digits, different for every index below [`UNIQUE`], in an order that looks random: a multiplier
/// coprime to the modulus makes it a permutation.
#[must_use]
pub fn unique(index: u64) -> String {
    let mut value = (index * MULTIPLIER + SHIFT) % UNIQUE;
    let mut text = String::with_capacity(5);
    for _ in 0..5 {
        text.push(char::from(DIGITS[(value % 36) as usize]));
        value /= 36;
    }
    text
}

/// The index whose [`unique`] text a label starts with.
#[must_use]
pub fn index_of(label: &str) -> Option<u64> {
    let mut value = 0;
    for octet in label.get(..5)?.bytes().rev() {
        value = value * 36 + DIGITS.iter().position(|&digit| digit == octet)? as u64;
    }
    let shifted = (value + UNIQUE - SHIFT) % UNIQUE;
    // Both factors are below 2²⁶, so the product fits.
    Some(shifted * INVERSE % UNIQUE)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn same_seed_same_draws_other_purpose_other_draws() {
        let mut one = Draw::new(1, "names", 7);
        let mut same = Draw::new(1, "names", 7);
        let mut other = Draw::new(1, "types", 7);
        let first: Vec<u64> = (0..4).map(|_| one.bits()).collect();
        assert_eq!(first, (0..4).map(|_| same.bits()).collect::<Vec<_>>());
        assert_ne!(first, (0..4).map(|_| other.bits()).collect::<Vec<_>>());
    }

    #[test]
    fn unique_texts_differ() {
        let texts: HashSet<String> = (0..100_000).map(unique).collect();
        assert_eq!(texts.len(), 100_000);
        for index in [0, 1, 999_999, 1_000_000, UNIQUE - 1] {
            assert_eq!(index_of(&unique(index)), Some(index));
        }
    }

    #[test]
    fn below_stays_below() {
        let mut draw = Draw::new(3, "bound", 0);
        assert!((0..1000).all(|_| draw.below(7) < 7));
    }
}
