//! `[rate_limit]`: how many answers one client network gets over UDP. See `docs/dataplane.md`, "Rate limits".

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::serve::rate::buckets::MAX_PER_SECOND;
use crate::serve::rate::{Enforcement, MAX_EXEMPT, RateLimits, TABLE_ENTRIES};

/// `[rate_limit]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// `on` (default); `log-only`: answers over a limit are counted and go out all the same; `off`.
    pub mode: Mode,
    /// Answers a second to one client prefix, of one kind and about one thing: an owner name, a cut, the negative answers of
    /// one zone, errors. 1–1000000. Default 200. All workers together: each has its share, at least 1.
    pub answers_per_second: u32,
    /// Answers a second to one client prefix, whatever they are; 0: any number. Default 5000: more than even
    /// large resolvers ask of one server, and little beside what makes a flood. All workers together, as above.
    pub total_per_second: u32,
    /// Of the answers over a limit one of so many goes out short: with TC, so that a real client comes back over TCP, or
    /// BADCOOKIE, so that one with cookies comes back with one. 0: none, 1: all, at most 10. Default 2. The short ones have
    /// the same limits again.
    pub slip: u8,
    /// Bits of an IPv4 address that make a client prefix, 8–32. Default 24.
    pub ipv4_prefix_bits: u8,
    /// Bits of an IPv6 address that make a client prefix, 16–64. Default 56: what one customer gets.
    pub ipv6_prefix_bits: u8,
    /// Networks whose clients have no limits, as `192.0.2.0/24`; at most 1024. Default: none. Who forges their addresses has
    /// none either.
    pub exempt: Vec<IpNet>,
    /// Whether 127.0.0.0/8 and ::1 have no limits. Default true.
    pub exempt_loopback: bool,
    /// Buckets of each worker, 1024–16777216, in 16 octets each. Default 65536, which is 1 MiB. With fewer than there are
    /// clients at a time, some get more than their limit; none gets less.
    pub table_entries: usize,
}

impl Default for RateLimit {
    fn default() -> Self {
        let limits = RateLimits::default();
        RateLimit {
            mode: Mode::On,
            answers_per_second: limits.answers_per_second,
            total_per_second: limits.total_per_second,
            slip: limits.slip,
            ipv4_prefix_bits: limits.ipv4_prefix_bits,
            ipv6_prefix_bits: limits.ipv6_prefix_bits,
            exempt: limits.exempt,
            exempt_loopback: limits.exempt_loopback,
            table_entries: limits.table_entries,
        }
    }
}

/// See [`RateLimit::mode`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Answers over a limit go out short, or not at all.
    #[default]
    On,
    /// They go out, and are counted.
    LogOnly,
    /// There are no limits.
    Off,
}

impl RateLimit {
    /// For the workers; `None`: no limits.
    #[must_use]
    pub fn limits(&self) -> Option<RateLimits> {
        let enforcement = match self.mode {
            Mode::On => Enforcement::On,
            Mode::LogOnly => Enforcement::LogOnly,
            Mode::Off => return None,
        };
        Some(RateLimits {
            enforcement,
            answers_per_second: self.answers_per_second,
            total_per_second: self.total_per_second,
            slip: self.slip,
            ipv4_prefix_bits: self.ipv4_prefix_bits,
            ipv6_prefix_bits: self.ipv6_prefix_bits,
            exempt: self.exempt.clone(),
            exempt_loopback: self.exempt_loopback,
            table_entries: self.table_entries,
        })
    }

    /// Which values are in their range; the key, and what it is.
    pub(super) fn ranges(&self) -> [(bool, &'static str, &'static str); 7] {
        let rate = 1..=MAX_PER_SECOND;
        [
            (rate.contains(&self.answers_per_second), "rate_limit.answers_per_second", "1 to 1000000"),
            (self.total_per_second <= MAX_PER_SECOND, "rate_limit.total_per_second", "0 to 1000000"),
            (self.slip <= 10, "rate_limit.slip", "0 to 10"),
            ((8..=32).contains(&self.ipv4_prefix_bits), "rate_limit.ipv4_prefix_bits", "8 to 32"),
            ((16..=64).contains(&self.ipv6_prefix_bits), "rate_limit.ipv6_prefix_bits", "16 to 64"),
            (self.exempt.len() <= MAX_EXEMPT, "rate_limit.exempt", "at most 1024 networks"),
            (TABLE_ENTRIES.contains(&self.table_entries), "rate_limit.table_entries", "1024 to 16777216"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        fn wrong(change: impl Fn(&mut RateLimit)) -> Vec<&'static str> {
            let mut config = RateLimit::default();
            change(&mut config);
            config.ranges().into_iter().filter(|(right, ..)| !right).map(|(_, key, _)| key).collect()
        }
        assert!(wrong(|_| {}).is_empty());
        assert!(wrong(|c| (c.total_per_second, c.slip) = (0, 0)).is_empty());
        assert!(wrong(|c| (c.answers_per_second, c.total_per_second) = (1_000_000, 1_000_000)).is_empty());
        assert_eq!(wrong(|c| c.answers_per_second = 0), ["rate_limit.answers_per_second"]);
        assert_eq!(wrong(|c| c.answers_per_second = 1_000_001), ["rate_limit.answers_per_second"]);
        assert_eq!(wrong(|c| c.total_per_second = 1_000_001), ["rate_limit.total_per_second"]);
        assert_eq!(wrong(|c| c.slip = 11), ["rate_limit.slip"]);
        for bits in [7, 33] {
            assert_eq!(wrong(|c| c.ipv4_prefix_bits = bits), ["rate_limit.ipv4_prefix_bits"]);
        }
        for bits in [15, 65] {
            assert_eq!(wrong(|c| c.ipv6_prefix_bits = bits), ["rate_limit.ipv6_prefix_bits"]);
        }
        let network: IpNet = "192.0.2.0/24".parse().unwrap();
        assert!(wrong(|c| c.exempt = vec![network; MAX_EXEMPT]).is_empty());
        assert_eq!(wrong(|c| c.exempt = vec![network; MAX_EXEMPT + 1]), ["rate_limit.exempt"]);
        for entries in [1023, (1 << 24) + 1] {
            assert_eq!(wrong(|c| c.table_entries = entries), ["rate_limit.table_entries"]);
        }
    }
}
