//! What the index of a record cache says of one zone: a value beside a signed [`CacheHead`](super::CacheHead). The terms of all of them
//! add up to the head's sum, so that it needs no signature of its own.

use super::digest::Digest;

/// Octets of the value.
const OCTETS: usize = 44;

/// One zone as an index of a record cache lists it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CachedZone {
    /// Its version.
    pub version: u64,
    /// Serial number of its SOA record.
    pub serial: u32,
    /// Its digest at that version: see [`super::digest::rrset_digest`].
    pub digest: Digest,
}

impl CachedZone {
    /// `version u64 ┆ serial u32 ┆ digest 32 octets`, big-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(OCTETS);
        octets.extend_from_slice(&self.version.to_be_bytes());
        octets.extend_from_slice(&self.serial.to_be_bytes());
        octets.extend_from_slice(&self.digest.as_bytes());
        octets
    }

    /// Reads the same; `None` when it is anything else.
    #[must_use]
    pub fn decode(octets: &[u8]) -> Option<CachedZone> {
        let (version, rest) = octets.split_first_chunk()?;
        let (serial, digest) = rest.split_first_chunk()?;
        Some(CachedZone {
            version: u64::from_be_bytes(*version),
            serial: u32::from_be_bytes(*serial),
            digest: Digest::from_bytes(digest.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_encoding() {
        let zone = CachedZone { version: 7, serial: 8, digest: Digest::from_bytes([9; 32]) };
        let octets = zone.encode();
        assert_eq!((octets.len(), octets[7], octets[11], octets[43]), (OCTETS, 7, 8, 9));
        assert_eq!(CachedZone::decode(&octets), Some(zone));
        for len in 0..OCTETS {
            assert_eq!(CachedZone::decode(&octets[..len]), None);
        }
        assert_eq!(CachedZone::decode(&[octets.as_slice(), &[0]].concat()), None);
    }
}
