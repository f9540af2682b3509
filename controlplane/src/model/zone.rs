//! A zone as the database knows it, and the defaults of a new one.

use godwit_wire::feed::Digest;
use godwit_wire::name::Name;

/// Whether TTLs written through the API are held within its limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TtlPolicy {
    /// 60 to 86,400 seconds but for the exempt types.
    Bounded,
    /// As they came: set by import and transfers.
    Keep,
}

impl TtlPolicy {
    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TtlPolicy::Bounded => "bounded",
            TtlPolicy::Keep => "keep",
        }
    }
}

/// A row of the zones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Zone {
    /// Of the row; never shown.
    pub id: i64,
    /// The apex.
    pub apex: Name,
    /// Tenant; 0 is the operator.
    pub owner_number: u32,
    /// Rises by one with every change.
    pub version: u64,
    /// That of its SOA.
    pub serial: u32,
    /// Limits of its TTLs.
    pub ttl_policy: TtlPolicy,
    /// Signed elsewhere: it has RRSIGs that Godwit did not make.
    pub presigned: bool,
    /// Microseconds since the epoch.
    pub created_at_us: i64,
    /// Microseconds since the epoch.
    pub updated_at_us: i64,
    /// Of its records: see `wire::feed::digest`.
    pub digest: Digest,
    /// Since when only operators change it, microseconds since the epoch: see `names::frozen`.
    pub frozen_at_us: Option<i64>,
}

/// The next SOA serial: one more, or the time in seconds where that is further on (RFC 1982 comparison).
#[must_use]
pub fn next_serial(serial: u32, now_s: u32) -> u32 {
    let next = serial.wrapping_add(1);
    if is_newer(now_s, next) { now_s } else { next }
}

/// Whether `a` follows `b` in serial number arithmetic (RFC 1982 §3.2).
#[must_use]
pub fn is_newer(a: u32, b: u32) -> bool {
    let distance = a.wrapping_sub(b);
    distance != 0 && distance < 0x8000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_only_grow() {
        for (serial, now, expected) in [
            (1, 1_700_000_000, 1_700_000_000),
            (1_700_000_000, 1_700_000_000, 1_700_000_001),
            // A serial written as a date is ahead of the time.
            (2_026_112_001, 1_795_000_000, 2_026_112_002),
            // Over the end of the circle.
            (u32::MAX, 5, 5),
            (u32::MAX, 0, 0),
            (0, 0, 1),
        ] {
            assert_eq!(next_serial(serial, now), expected, "{serial} {now}");
            assert!(is_newer(next_serial(serial, now), serial), "{serial} {now}");
        }
        assert!(!is_newer(1, 1));
        assert!(!is_newer(0x8000_0000, 0));
    }
}
