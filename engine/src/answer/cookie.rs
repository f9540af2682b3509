//! Server cookies that several servers with one secret accept (RFC 9018).

use std::hash::Hasher;
use std::net::IpAddr;

use godwit_wire::edns::Cookie;
use godwit_wire::response::COOKIE_OCTETS;
use siphasher::sip::SipHasher24;

use super::settings::CookieSecrets;

/// The version of RFC 9018 §4.2.
const VERSION: u8 = 1;
/// Version and reserved octets of the cookies that we make.
const HEAD: [u8; 4] = [VERSION, 0, 0, 0];
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
    let [i, j, k, l] = HEAD;
    let [m, n, o, p] = now.to_be_bytes();
    let [q, r, s, t, u, v, w, x] = hash(&secrets.current, cookie, HEAD, now, client);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x]
}

/// Whether the server part of a cookie is one that we, or a server with our secret, made for this client of late.
pub(super) fn is_valid(secrets: &CookieSecrets, cookie: &Cookie, client: IpAddr, now: u32) -> bool {
    let Some((&[version, b, c, d, e, f, g, h], theirs)) = cookie.server().split_first_chunk::<8>() else {
        return false;
    };
    // RFC 9018 §4.2: reserved octets are hashed as they came, whatever they are, for servers that will use them.
    let head = [version, b, c, d];
    let Ok(theirs) = <[u8; 8]>::try_from(theirs) else { return false };
    let made = u32::from_be_bytes([e, f, g, h]);
    // Serial number arithmetic (RFC 1982), as RFC 9018 §4.3 has it.
    let age = now.wrapping_sub(made);
    let fresh = age <= MAX_AGE_SECONDS || made.wrapping_sub(now) <= MAX_AHEAD_SECONDS;
    if version != VERSION || !fresh {
        return false;
    }
    std::iter::once(&secrets.current)
        .chain(secrets.previous.as_ref())
        .any(|secret| equal(hash(secret, cookie, head, made, client), theirs))
}

/// Compares without telling by the time it takes where two hashes differ.
fn equal(ours: [u8; 8], theirs: [u8; 8]) -> bool {
    (u64::from_ne_bytes(ours) ^ u64::from_ne_bytes(theirs)) == 0
}

/// SipHash-2-4 of client cookie, version and reserved octets, time and address (RFC 9018 §4.4).
fn hash(secret: &[u8; 16], cookie: &Cookie, head: [u8; 4], made: u32, client: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&cookie.client());
    hasher.write(&head);
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

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
    const OLD_SECRET: &str = "dd3bdf9344b678b185a6f5cb60fca715";
    const NEW_SECRET: &str = "445536bcd2513298075a5d379663c962";
    const SIXTH: &str = "2001:db8:220:1:59de:d0f4:8769:82b8";

    /// What the servers of RFC 9018 appendices A.1 to A.4 answer: secret, time, client address, cookie.
    const MADE: &[(&str, u32, &str, &str)] = &[
        (SECRET, 1_559_731_985, "198.51.100.100", "2464c4abcf10c957010000005cf79f111f8130c3eee29480"),
        (SECRET, 1_559_734_385, "198.51.100.100", "2464c4abcf10c957010000005cf7a871d4a564a1442aca77"),
        (SECRET, 1_559_734_700, "203.0.113.203", "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"),
        (NEW_SECRET, 1_559_741_961, SIXTH, "22681ab97d52c298010000005cf7c609a6bb79d16625507a"),
    ];

    #[test]
    fn the_vectors_of_the_rfc_come_out() {
        for (secret, now, client, cookie) in MADE {
            let wanted = hex(cookie);
            let cookie = Cookie::read(&wanted).unwrap();
            let client = client.parse().unwrap();
            assert_eq!(make(&secrets(secret, None), &cookie, client, *now).to_vec(), wanted);
            assert!(is_valid(&secrets(secret, None), &cookie, client, *now + 10));
        }
    }

    /// RFC 9018 appendices A.3 and A.4: made by a server that had a use for the reserved octets, and by a secret that
    /// has been replaced since. The first was nearly two hours old when the RFC has it asked with.
    #[test]
    fn the_cookies_that_the_rfc_is_asked_with_are_accepted() {
        let reserved = Cookie::read(&hex("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5")).unwrap();
        let client = "203.0.113.203".parse().unwrap();
        assert!(is_valid(&secrets(SECRET, None), &reserved, client, 1_559_727_985 + 3600));
        assert!(!is_valid(&secrets(SECRET, None), &reserved, client, 1_559_734_700), "an hour and more");
        for other in [
            "fc93fc62807ddb86010000005cf78f71a314227b6679ebf5",
            "fc93fc62807ddb8602abcdef5cf78f71a314227b6679ebf5",
        ] {
            let other = Cookie::read(&hex(other)).unwrap();
            assert!(
                !is_valid(&secrets(SECRET, None), &other, client, 1_559_727_985),
                "not the octets that were hashed"
            );
        }

        let replaced = Cookie::read(&hex("22681ab97d52c298010000005cf7c57926556bd0934c72f8")).unwrap();
        let (client, now) = (SIXTH.parse().unwrap(), 1_559_741_961);
        assert!(is_valid(&secrets(NEW_SECRET, Some(OLD_SECRET)), &replaced, client, now));
        assert!(!is_valid(&secrets(NEW_SECRET, None), &replaced, client, now));
    }

    #[test]
    fn only_fresh_cookies_of_the_same_client_and_secret_count() {
        let (secret, now, client, cookie) = MADE[0];
        let other = NEW_SECRET;
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
