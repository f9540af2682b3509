//! Server cookies that several servers with one secret accept (RFC 9018).

use std::hash::Hasher;
use std::net::IpAddr;

use godwit_wire::edns::Cookie;
use godwit_wire::response::COOKIE_OCTETS;
use siphasher::sip::SipHasher24;

use super::settings::CookieSecrets;

/// The version of RFC 9018 §4.2, and its reserved octets.
const VERSION: [u8; 4] = [1, 0, 0, 0];
/// How long a cookie is accepted after it was made, in seconds (RFC 9018 §4.3).
const MAX_AGE_SECONDS: u32 = 3600;
/// How far ahead of us another server's clock may be (RFC 9018 §4.3).
const MAX_AHEAD_SECONDS: u32 = 300;

/// The client's cookie with a fresh server cookie behind it. `now`: seconds since the epoch.
pub(super) fn make(
    secrets: &CookieSecrets,
    cookie: &Cookie,
    client: IpAddr,
    now: u32,
) -> [u8; COOKIE_OCTETS] {
    let [a, b, c, d, e, f, g, h] = cookie.client();
    let [i, j, k, l] = VERSION;
    let [m, n, o, p] = now.to_be_bytes();
    let [q, r, s, t, u, v, w, x] = hash(&secrets.current, cookie, now, client);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x]
}

/// Whether the server part of a cookie is one that we, or a server with our secret, made for this client of late.
pub(super) fn is_valid(secrets: &CookieSecrets, cookie: &Cookie, client: IpAddr, now: u32) -> bool {
    let Some((&[a, b, c, d, e, f, g, h], theirs)) = cookie.server().split_first_chunk::<8>() else {
        return false;
    };
    let Ok(theirs) = <[u8; 8]>::try_from(theirs) else { return false };
    let made = u32::from_be_bytes([e, f, g, h]);
    // Serial number arithmetic (RFC 1982), as RFC 9018 §4.3 has it.
    let age = now.wrapping_sub(made);
    let fresh = age <= MAX_AGE_SECONDS || made.wrapping_sub(now) <= MAX_AHEAD_SECONDS;
    if [a, b, c, d] != VERSION || !fresh {
        return false;
    }
    std::iter::once(&secrets.current)
        .chain(secrets.previous.as_ref())
        .any(|secret| equal(hash(secret, cookie, made, client), theirs))
}

/// Compares without telling by the time it takes where two hashes differ.
fn equal(ours: [u8; 8], theirs: [u8; 8]) -> bool {
    (u64::from_ne_bytes(ours) ^ u64::from_ne_bytes(theirs)) == 0
}

/// SipHash-2-4 of client cookie, version, reserved, time and address (RFC 9018 §4.4).
fn hash(secret: &[u8; 16], cookie: &Cookie, made: u32, client: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&cookie.client());
    hasher.write(&VERSION);
    hasher.write(&made.to_be_bytes());
    match client {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn secrets(current: &str, previous: Option<&str>) -> CookieSecrets {
        let key = |text: &str| hex(text).try_into().unwrap();
        CookieSecrets { current: key(current), previous: previous.map(key), require: false }
    }

    /// RFC 9018 appendix A: secret, time, client address, cookie.
    const VECTORS: &[(&str, u32, &str, &str)] = &[
        (
            "e5e973e5a6b2a43f48e7dc849e37bfcf",
            1_559_731_985,
            "198.51.100.100",
            "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
        ),
        (
            "e5e973e5a6b2a43f48e7dc849e37bfcf",
            1_559_734_385,
            "198.51.100.100",
            "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
        ),
        (
            "445536bcd2513298075a5d379663c962",
            1_559_741_961,
            "2001:db8:220:1:59de:d0f4:8769:82b8",
            "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
        ),
    ];

    #[test]
    fn the_vectors_of_the_rfc_come_out() {
        for (secret, now, client, cookie) in VECTORS {
            let wanted = hex(cookie);
            let cookie = Cookie::read(&wanted).unwrap();
            let client = client.parse().unwrap();
            assert_eq!(make(&secrets(secret, None), &cookie, client, *now).to_vec(), wanted);
            assert!(is_valid(&secrets(secret, None), &cookie, client, *now + 10));
        }
    }

    #[test]
    fn only_fresh_cookies_of_the_same_client_and_secret_count() {
        let (secret, now, client, cookie) = VECTORS[0];
        let other = "445536bcd2513298075a5d379663c962";
        let cookie = Cookie::read(&hex(cookie)).unwrap();
        let client: IpAddr = client.parse().unwrap();
        let valid = |secrets: &CookieSecrets, client, now| is_valid(secrets, &cookie, client, now);
        assert!(valid(&secrets(other, Some(secret)), client, now), "the previous secret");
        assert!(!valid(&secrets(other, None), client, now), "another secret");
        assert!(!valid(&secrets(secret, None), "198.51.100.101".parse().unwrap(), now), "another client");
        assert!(
            valid(&secrets(secret, None), client, now + 3600)
                && !valid(&secrets(secret, None), client, now + 3601)
        );
        assert!(
            valid(&secrets(secret, None), client, now - 300)
                && !valid(&secrets(secret, None), client, now - 301)
        );
        let without = Cookie::read(&[1; 8]).unwrap();
        assert!(!is_valid(&secrets(secret, None), &without, client, now));
    }
}
