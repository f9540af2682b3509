//! Random names, the same in every run.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Octets between two query names in [`Queries`]: as far apart as in a worker's receive buffers, or nearly.
const STRIDE: usize = 64;

/// A random generator that gives the same values in every run.
#[must_use]
pub fn generator(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// The `number`th of a set of distinct names below `example.`, 18 to 34 octets in lower-case wire format, in no
/// order. `number` is below 2^40.
#[must_use]
pub fn name(number: u64) -> Vec<u8> {
    const BITS: u32 = 40;
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    // A bijection of 40-bit numbers, so that names differ while their order tells nothing.
    let mask = (1 << BITS) - 1;
    let mut mixed = number & mask;
    mixed = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) & mask;
    mixed ^= mixed >> 17;
    mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) & mask;
    mixed ^= mixed >> 21;
    // Eight characters of five bits, then up to sixteen to make the lengths differ.
    let mut label: Vec<u8> = Vec::with_capacity(24);
    let mut rest = mixed;
    for _ in 0..8 {
        label.push(DIGITS[usize::from(rest.to_le_bytes()[0] & 31)]);
        rest >>= 5;
    }
    label.extend(std::iter::repeat_n(b'x', usize::from(mixed.to_le_bytes()[1]) % 17));
    let mut wire = Vec::with_capacity(label.len() + 10);
    wire.push(u8::try_from(label.len()).unwrap_or(63));
    wire.extend_from_slice(&label);
    wire.extend_from_slice(b"\x07example\x00");
    wire
}

/// Query names one after another in memory, as a receive buffer has them.
pub struct Queries {
    octets: Vec<u8>,
}

impl Queries {
    /// `count` names drawn at random from the first `names` of [`name`].
    #[must_use]
    pub fn random(count: usize, names: u64, random: &mut impl Rng) -> Self {
        let mut octets = vec![0; count * STRIDE];
        for slot in octets.chunks_mut(STRIDE) {
            let name = name(random.random_range(0..names));
            slot[0] = u8::try_from(name.len()).unwrap_or(u8::MAX);
            slot[1..=name.len()].copy_from_slice(&name);
        }
        Queries { octets }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.octets.len() / STRIDE
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// `count` of them from `start` on.
    pub fn from(&self, start: usize, count: usize) -> impl Iterator<Item = &[u8]> + Clone {
        self.octets[start * STRIDE..(start + count) * STRIDE]
            .chunks_exact(STRIDE)
            .map(|slot| &slot[1..=usize::from(slot[0])])
    }
}
