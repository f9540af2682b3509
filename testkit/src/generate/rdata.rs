//! RDATA of generated records, as octets.

use godwit_wire::name::Name;
use godwit_wire::rr::Rtype;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// RDATA of a type without names in it, or any address.
pub(super) fn plain(random: &mut ChaCha8Rng, rtype: Rtype) -> Vec<u8> {
    match rtype {
        Rtype::A => vec![192, 0, 2, random.random()],
        Rtype::AAAA => {
            let mut octets = vec![0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            octets[15] = random.random();
            octets
        }
        Rtype::TXT => {
            let len = random.random_range(0..20u8);
            text(random, len)
        }
        Rtype::CAA => [&[0, 5][..], b"issue", b"ca.test"].concat(),
        Rtype::DS => ds(random),
        _ => (0..random.random_range(0..12)).map(|_| random.random()).collect(),
    }
}

/// One character string of printable octets.
pub(super) fn text(random: &mut ChaCha8Rng, len: u8) -> Vec<u8> {
    let mut octets = vec![len];
    octets.extend((0..len).map(|_| random.random_range(b'a'..=b'z')));
    octets
}

/// A digest of SHA-256 length (RFC 4509) of some key of algorithm 13.
pub(super) fn ds(random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut octets = vec![random.random(), random.random(), 13, 2];
    octets.extend((0..32).map(|_| random.random::<u8>()));
    octets
}

/// RDATA of a type that points to a name.
pub(super) fn pointing(random: &mut ChaCha8Rng, rtype: Rtype, target: &Name) -> Vec<u8> {
    let mut octets = match rtype {
        Rtype::MX => vec![0, random.random_range(0..3)],
        Rtype::SRV => vec![0, random.random_range(0..3), 0, 5, 0, 80],
        // Priority 0 is AliasMode (RFC 9460 §2.4.1).
        Rtype::SVCB | Rtype::HTTPS => vec![0, random.random_range(0..3)],
        _ => Vec::new(),
    };
    octets.extend_from_slice(target.as_wire());
    if matches!(rtype, Rtype::SVCB | Rtype::HTTPS) && octets[1] != 0 && random.random_bool(0.5) {
        // alpn="h2".
        octets.extend_from_slice(&[0, 1, 0, 3, 2, b'h', b'2']);
    }
    octets
}

/// An SOA whose MINIMUM is sometimes above and sometimes below its TTL.
pub(super) fn soa(random: &mut ChaCha8Rng, apex: &Name) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in ["ns1", "hostmaster"] {
        octets.extend_from_slice(child(apex, label.as_bytes()).expect("apexes are short").as_wire());
    }
    let minimum = random.random_range(0..600u32);
    for number in [random.random_range(1..100), 7200, 3600, 1_209_600, minimum] {
        octets.extend_from_slice(&number.to_be_bytes());
    }
    octets
}

/// The name with one more label; `None` when that is too long.
pub(super) fn child(parent: &Name, label: &[u8]) -> Option<Name> {
    let mut octets = vec![u8::try_from(label.len()).ok()?];
    octets.extend_from_slice(label);
    octets.extend_from_slice(parent.as_wire());
    Name::from_wire(&octets).ok()
}
