//! `[limits]`

use serde::{Deserialize, Serialize};

/// The most a minute of one rate.
const MOST_PER_MINUTE: u32 = 6_000_000;
/// The most at once of one rate.
const MOST_AT_ONCE: u32 = 1_000_000;
/// The most minutes that an empty bucket takes to be full again.
const MOST_MINUTES: u32 = 1_440;

/// How many requests somebody may send. What is refused by one of these is 429; what they count is in `docs/limits.md`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Whether requests are counted. Default true.
    pub enabled: bool,
    /// Whether those of who may do everything are, too: of operators, and with a token like that of the first start. Default
    /// false.
    pub operators: bool,
    /// Milliseconds that Redis may take to say whether there is room; then this process counts alone. Default 50.
    pub redis_timeout_ms: u64,
    /// From one address: an IPv4 address, or an IPv6 network of 64 bits. Default 6000 a minute, 2000 at once.
    pub address_reads: Rate,
    /// The same for what changes something. Default 3000, 1000.
    pub address_writes: Rate,
    /// The same for logging in, registering and links. Default 300, 300.
    pub address_logins: Rate,
    /// Of one account, whatever it comes with. Default 6000, 2000.
    pub account_reads: Rate,
    /// The same for what changes something. Default 3000, 1000.
    pub account_writes: Rate,
    /// With one token, key or session. Default 3000, 1000.
    pub token_reads: Rate,
    /// The same for what changes something. Default 1500, 500.
    pub token_writes: Rate,
    /// Changes of one zone. Default 1500, 500.
    pub zone_writes: Rate,
}

/// A bucket of `burst` that fills by so many a minute.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests a minute; 0 for any number.
    pub per_minute: u32,
    /// Requests at once.
    pub burst: u32,
}

const fn rate(per_minute: u32, burst: u32) -> Rate {
    Rate { per_minute, burst }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            enabled: true,
            operators: false,
            redis_timeout_ms: 50,
            address_reads: rate(6_000, 2_000),
            address_writes: rate(3_000, 1_000),
            address_logins: rate(300, 300),
            account_reads: rate(6_000, 2_000),
            account_writes: rate(3_000, 1_000),
            token_reads: rate(3_000, 1_000),
            token_writes: rate(1_500, 500),
            zone_writes: rate(1_500, 500),
        }
    }
}

impl Rate {
    fn is_good(self) -> bool {
        let Rate { per_minute, burst } = self;
        let is_soon_full = burst <= per_minute.saturating_mul(MOST_MINUTES);
        (1..=MOST_AT_ONCE).contains(&burst)
            && per_minute <= MOST_PER_MINUTE
            && (per_minute == 0 || is_soon_full)
    }
}

impl Limits {
    /// The first key whose value is out of range, and what was expected.
    pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str)> {
        let expected = "per_minute up to 6000000 (0 for any number), and burst 1 to 1000000 and at most what a day brings";
        [
            ((1..=60_000).contains(&self.redis_timeout_ms), "limits.redis_timeout_ms", "1 to 60000"),
            (self.address_reads.is_good(), "limits.address_reads", expected),
            (self.address_writes.is_good(), "limits.address_writes", expected),
            (self.address_logins.is_good(), "limits.address_logins", expected),
            (self.account_reads.is_good(), "limits.account_reads", expected),
            (self.account_writes.is_good(), "limits.account_writes", expected),
            (self.token_reads.is_good(), "limits.token_reads", expected),
            (self.token_writes.is_good(), "limits.token_writes", expected),
            (self.zone_writes.is_good(), "limits.zone_writes", expected),
        ]
        .into_iter()
        .find_map(|(good, key, expected)| (!good).then_some((key, expected)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_bounds() {
        for (good, per_minute, burst) in [
            (true, 0, 1),
            (true, 1, 1_440),
            (false, 1, 1_441),
            (false, 1, 0),
            (true, 6_000_000, 1_000_000),
            (false, 6_000_001, 1),
            (false, 6_000_000, 1_000_001),
        ] {
            assert_eq!(rate(per_minute, burst).is_good(), good, "{per_minute} {burst}");
        }
        assert_eq!(Limits::default().out_of_range(), None);
    }
}
