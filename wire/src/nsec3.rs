//! The hash of NSEC3 (RFC 5155 §5), and the label that it makes.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::name::NameRef;

/// Octets of the only hash there is, SHA-1.
pub const HASH_OCTETS: usize = 20;
/// Characters of a hash in base32hex without padding (RFC 5155 §1.3): a multiple of five bits, so none are left over.
pub const LABEL_OCTETS: usize = 32;

/// IH(salt, name, iterations). Cost: `iterations` + 1 runs of SHA-1.
#[must_use]
pub fn hash(name: NameRef<'_>, salt: &[u8], iterations: u16) -> [u8; HASH_OCTETS] {
    let mut value = once(name.as_wire(), salt);
    for _ in 0..iterations {
        value = once(&value, salt);
    }
    value
}

fn once(input: &[u8], salt: &[u8]) -> [u8; HASH_OCTETS] {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(input);
    context.update(salt);
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

/// A hash as the first label of an NSEC3 owner, in lower case as owner names are kept.
#[must_use]
pub fn label(hash: &[u8; HASH_OCTETS]) -> [u8; LABEL_OCTETS] {
    let mut label = [0u8; LABEL_OCTETS];
    for (octets, characters) in hash.chunks_exact(5).zip(label.chunks_exact_mut(8)) {
        let bits = octets.iter().fold(0u64, |bits, &octet| bits << 8 | u64::from(octet));
        for (place, character) in characters.iter_mut().rev().enumerate() {
            let five = bits.wrapping_shr(u32::try_from(place.saturating_mul(5)).unwrap_or(0)) & 31;
            *character = b"0123456789abcdefghijklmnopqrstuv"
                .get(usize::try_from(five).unwrap_or(0))
                .copied()
                .unwrap_or(b'0');
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    #[test]
    fn the_examples_of_the_rfc_come_out() {
        // RFC 5155 appendix A: salt aabbccdd, 12 iterations.
        for (name, wanted) in [
            ("example.", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
            ("a.example.", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
            ("*.w.example.", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
            ("xx.example.", "t644ebqk9bibcna874givr6joj62mlhv"),
        ] {
            let name: Name = name.parse().unwrap();
            let hash = hash(name.as_ref(), &[0xaa, 0xbb, 0xcc, 0xdd], 12);
            assert_eq!(std::str::from_utf8(&label(&hash)).unwrap(), wanted);
        }
    }
}
