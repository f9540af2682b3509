//! Server cookies (RFC 9018 §4): making and checking them.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

/// The 16 octets of a server cookie: version 1, reserved, time, hash (RFC 9018 §4).
#[must_use]
pub fn server_cookie(client_cookie: [u8; 8], secret: &[u8; 16], address: IpAddr, now: u32) -> [u8; 16] {
    with_reserved([0; 3], client_cookie, secret, address, now)
}

/// One with these reserved octets, which are to be zero in what a server makes and to be taken as they come in what it
/// checks (RFC 9018 §4.2).
fn with_reserved(
    reserved: [u8; 3],
    client_cookie: [u8; 8],
    secret: &[u8; 16],
    address: IpAddr,
    now: u32,
) -> [u8; 16] {
    let mut cookie = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    cookie[1..4].copy_from_slice(&reserved);
    cookie[4..8].copy_from_slice(&now.to_be_bytes());
    // RFC 9018 §4.4: client cookie, version, reserved, time, client address.
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&client_cookie);
    hasher.write(&cookie[..8]);
    match address {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    cookie[8..].copy_from_slice(&hasher.finish().to_le_bytes());
    cookie
}

/// Whether a whole COOKIE option holds a server cookie of ours, at most an hour old and at most five minutes
/// from the future (RFC 9018 §4.3).
pub(super) fn is_valid(option: &[u8], secret: &[u8; 16], address: IpAddr, now: u32) -> bool {
    let Ok(option) = <[u8; 24]>::try_from(option) else { return false };
    let client: [u8; 8] = option[..8].try_into().expect("8 octets");
    let time = u32::from_be_bytes(option[12..16].try_into().expect("4 octets"));
    // Serial number arithmetic (RFC 1982), so that the wrap in 2106 is harmless.
    let age = now.wrapping_sub(time).cast_signed();
    let reserved = [option[9], option[10], option[11]];
    (-300..=3600).contains(&age) && with_reserved(reserved, client, secret, address, time)[..] == option[8..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rfcs_own_example_is_reproduced() {
        // RFC 9018 Appendix A.1.
        let secret =
            [0xe5, 0xe9, 0x73, 0xe5, 0xa6, 0xb2, 0xa4, 0x3f, 0x48, 0xe7, 0xdc, 0x84, 0x9e, 0x37, 0xbf, 0xcf];
        let client = [0x24, 0x64, 0xc4, 0xab, 0xcf, 0x10, 0xc9, 0x57];
        let address: IpAddr = "198.51.100.100".parse().unwrap();
        let cookie = server_cookie(client, &secret, address, 1_559_731_985);
        let expected =
            [0x01, 0x00, 0x00, 0x00, 0x5c, 0xf7, 0x9f, 0x11, 0x1f, 0x81, 0x30, 0xc3, 0xee, 0xe2, 0x94, 0x80];
        assert_eq!(cookie, expected);
        let option = [&client[..], &cookie].concat();
        for (later, valid) in [(0, true), (3600, true), (3601, false)] {
            assert_eq!(is_valid(&option, &secret, address, 1_559_731_985 + later), valid, "{later}");
        }
        for (earlier, valid) in [(300, true), (301, false)] {
            assert_eq!(is_valid(&option, &secret, address, 1_559_731_985 - earlier), valid, "{earlier}");
        }
    }
}
