//! Server cookies: 20 octets that choose the client, the secret and the time that a cookie was made with, or was forged from,
//! then the option as it is sent. What is accepted and what is answered is worked out here a second time, from RFC 9018
//! and with a hash of our own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use godwit_engine::answer::{Answerer, Client, CookieSecrets, Settings, Transport};

use crate::answer::{NOW, snapshot};
use crate::message::Query;
use crate::{Target, holding, names};

const BADCOOKIE: u16 = 23;
const FORMERR: u16 = 1;
const CURRENT: [u8; 16] = [7; 16];
const PREVIOUS: [u8; 16] = [8; 16];
const KNOBS_OCTETS: usize = 20;

/// What the first octets choose.
struct Case {
    client: Client,
    has_previous: bool,
    is_required: bool,
    /// The option's octets.
    option: Vec<u8>,
}

/// Octet 0: bit 0 IPv6, 1 TCP, 2 a previous secret is known, 3 cookies are required, 4 the option's last octets become the hash that
/// belongs to it, 5 by the previous secret, 6 by one that nobody has. Octets 1–3: seconds from now, signed, that are put in as
/// its time when bit 7 is set. Octets 4–19: the client's address.
fn case(data: &[u8]) -> Option<Case> {
    let (knobs, option) = data.split_first_chunk::<KNOBS_OCTETS>()?;
    let on = |bit: u8| knobs[0] & (1 << bit) != 0;
    let octets: [u8; 16] = knobs[4..].try_into().expect("sixteen are left");
    let address = if on(0) {
        IpAddr::V6(Ipv6Addr::from(octets))
    } else {
        IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
    };
    let mut option = option.get(..option.len().min(64))?.to_vec();
    if on(7) && option.len() >= 16 {
        let away = i32::from_be_bytes([knobs[1], knobs[2], knobs[3], 0]) >> 8;
        option[12..16].copy_from_slice(&NOW.wrapping_add_signed(away).to_be_bytes());
    }
    if on(4) && option.len() >= 24 {
        let secret = if on(6) {
            [9; 16]
        } else if on(5) {
            PREVIOUS
        } else {
            CURRENT
        };
        let hash = hash(&secret, &option[..16], address);
        option[16..24].copy_from_slice(&hash);
    }
    let transport = if on(1) { Transport::Tcp } else { Transport::Udp };
    Some(Case { client: Client { address, transport }, has_previous: on(2), is_required: on(3), option })
}

/// Whether RFC 9018 accepts it.
fn is_valid(case: &Case) -> bool {
    let option = &case.option;
    // §4.2: the version, and reserved octets that may be anything, as long as they were hashed.
    if option.len() != 24 || option[8] != 1 {
        return false;
    }
    let made = u32::from_be_bytes([option[12], option[13], option[14], option[15]]);
    // RFC 9018 §4.3: not older than an hour, not more than five minutes ahead.
    let age = i64::from(NOW.wrapping_sub(made).cast_signed());
    let secrets = if case.has_previous { &[CURRENT, PREVIOUS][..] } else { &[CURRENT] };
    (-300..=3600).contains(&age)
        && secrets.iter().any(|secret| hash(secret, &option[..16], case.client.address) == option[16..])
}

/// Checks the properties.
pub fn run(data: &[u8]) {
    let Some(case) = case(data) else { return };
    let cookies = CookieSecrets {
        current: CURRENT,
        previous: case.has_previous.then_some(PREVIOUS),
        require: case.is_required,
    };
    let settings = Settings { cookies: Some(cookies), ..Settings::default() };
    let packet = Query::of("www.plain.test", 1).option(10, &case.option).octets();
    let mut out = vec![0; 65_535];
    let outcome = Answerer::new().answer(snapshot(), &settings, &case.client, NOW, &packet, &mut out);
    let answer = &out[..outcome.len];
    if !matches!(case.option.len(), 8 | 16..=40) {
        assert_eq!(outcome.rcode, FORMERR, "RFC 7873 §5.2.2");
        return;
    }
    let refused = case.is_required && case.client.transport == Transport::Udp && !is_valid(&case);
    assert_eq!(outcome.rcode, if refused { BADCOOKIE } else { 0 });
    // Always a fresh one behind the client's own (RFC 7873 §5.2), which is the last option here.
    let cookie: &[u8; 28] = answer.last_chunk().expect("there is a COOKIE option");
    assert_eq!(cookie[..4], [0, 10, 0, 24]);
    assert_eq!(cookie[4..12], case.option[..8], "the client's cookie");
    assert_eq!(cookie[12..16], [1, 0, 0, 0], "version and reserved");
    assert_eq!(cookie[16..20], NOW.to_be_bytes());
    assert_eq!(cookie[20..], hash(&CURRENT, &cookie[4..20], case.client.address));
}

/// SipHash-2-4 of what precedes the hash in a cookie, and the client's address (RFC 9018 §4.4).
fn hash(secret: &[u8; 16], before: &[u8], client: IpAddr) -> [u8; 8] {
    let octets = match client {
        IpAddr::V4(address) => [before, &address.octets()].concat(),
        IpAddr::V6(address) => [before, &address.octets()].concat(),
    };
    siphash(secret, &octets).to_le_bytes()
}

/// Aumasson and Bernstein, SipHash: a fast short-input PRF, 2012, §2.
fn siphash(key: &[u8; 16], octets: &[u8]) -> u64 {
    let word = |octets: &[u8]| octets.iter().rev().fold(0u64, |word, octet| word << 8 | u64::from(*octet));
    let (k0, k1) = (word(&key[..8]), word(&key[8..]));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let round = |v: &mut [u64; 4]| {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    };
    let mut blocks = octets.chunks_exact(8);
    let last = |rest: &[u8]| word(rest) | (octets.len() as u64) << 56;
    for block in blocks.by_ref().map(word).collect::<Vec<_>>().into_iter().chain([last(blocks.remainder())]) {
        v[3] ^= block;
        round(&mut v);
        round(&mut v);
        v[0] ^= block;
    }
    v[2] ^= 0xFF;
    (0..4).for_each(|_| round(&mut v));
    v.into_iter().fold(0, |all, v| all ^ v)
}

const CLASSES: &[(&str, u8, [u8; 3], usize)] = &[
    ("client-alone", 0, [0; 3], 8),
    ("fresh", 0b1001_1000, [0; 3], 24),
    ("fresh-ipv6", 0b1001_1001, [0; 3], 24),
    ("previous", 0b1011_1100, [0; 3], 24),
    ("previous-unknown", 0b1011_1000, [0; 3], 24),
    ("stranger", 0b1101_1000, [0; 3], 24),
    ("old", 0b1001_1000, [0xFF, 0xF1, 0xEF], 24),
    ("oldest", 0b1001_1000, [0xFF, 0xF1, 0xF0], 24),
    ("ahead", 0b1001_1000, [0, 1, 0x2C], 24),
    ("too-far-ahead", 0b1001_1000, [0, 1, 0x2D], 24),
    ("over-tcp", 0b1101_1010, [0; 3], 24),
    ("reserved", 0b1001_1000, [0; 3], 24),
    ("long", 0b1001_1000, [0; 3], 40),
    ("too-short", 0b1000, [0; 3], 7),
    ("too-long", 0b1000, [0; 3], 41),
];

pub(crate) fn target() -> Target {
    Target {
        name: "cookie",
        run,
        classes: names(&[
            "valid",
            "with reserved octets",
            "valid by the previous secret",
            "refused",
            "not asked for",
            "malformed",
        ]),
        classify: |data| {
            let Some(case) = case(data) else { return Vec::new() };
            let valid = is_valid(&case);
            let by_current = is_valid(&Case { has_previous: false, option: case.option.clone(), ..case });
            let sound = matches!(case.option.len(), 8 | 16..=40);
            let must = case.is_required && case.client.transport == Transport::Udp;
            holding(&[
                ("valid", by_current),
                ("with reserved octets", by_current && case.option[9..12] != [0; 3]),
                ("valid by the previous secret", valid && !by_current),
                ("refused", sound && must && !valid),
                ("not asked for", sound && !must),
                ("malformed", !sound),
            ])
        },
        seeds: || {
            let seed = |(class, knobs, away, len): &(&str, u8, [u8; 3], usize)| {
                let mut octets = vec![*knobs];
                octets.extend_from_slice(away);
                octets.extend_from_slice(&[0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                let reserved = if *class == "reserved" { 9 } else { 0 };
                octets.extend(
                    [3; 8].iter().chain(&[1, reserved, reserved, reserved]).chain(&[5; 32]).take(*len),
                );
                ((*class).to_owned(), octets)
            };
            CLASSES.iter().map(seed).collect()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::siphash;

    #[test]
    fn the_hash_is_that_of_the_paper() {
        // Appendix A: key 00…0f, message 00…0e.
        let key: [u8; 16] = std::array::from_fn(|at| at as u8);
        let message: [u8; 15] = std::array::from_fn(|at| at as u8);
        assert_eq!(siphash(&key, &message), 0xa129_ca61_49be_45e5);
    }
}
