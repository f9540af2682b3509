//! Response rate limiting: how many answers of one kind and about one thing go to one client network, so that nobody who
//! forges addresses can have us flood somebody else. Only for UDP: who connects has shown where he is.
//!
//! - Two limits: for each account (client prefix, kind of answer, what it is about: see [`Outcome::account`]), and for all
//!   answers to a prefix together, so that asking for many names gets around nothing.
//! - Over a limit, one answer of every `slip` goes out short (see [`godwit_engine::answer::shorten`]): from it, a real
//!   client knows how to come back. The short ones have the same limits again. The rest is dropped.
//! - Each worker has a limiter of its own with its share of the rates: nothing is shared, locked or counted together. The
//!   kernel spreads clients over the workers by address and port, and resolvers use ports at random.
//! - An answer within its limits is charged; one over them is not. A client somewhat over a limit gets that much less, and is
//!   not shut out until it is quiet.
//!
//! Leaves out sending, counting, and the clock: see `super::udp`. Memory is taken once ([`buckets`]).

pub mod buckets;

use std::net::IpAddr;

use godwit_engine::answer::{Kind, Outcome};
use ipnet::IpNet;

use self::buckets::Buckets;
use crate::observe::counter::{Limited, LimitedBy};

/// The most prefixes that can be exempt: they are looked at one by one, though only for answers over a limit.
pub const MAX_EXEMPT: usize = 1024;
/// Entries of a worker's table at least, and at most.
pub const TABLE_ENTRIES: std::ops::RangeInclusive<usize> = 1 << 10..=1 << 24;

/// What is done about answers over a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Enforcement {
    /// They go out short, or not at all.
    On,
    /// They go out, and are counted.
    LogOnly,
}

/// What an operator can choose about the limits. Rates are for the whole process.
#[derive(Clone, Debug)]
pub struct RateLimits {
    /// What is done about answers over a limit.
    pub enforcement: Enforcement,
    /// Answers a second for one account; at least 1, at most [`buckets::MAX_PER_SECOND`].
    pub answers_per_second: u32,
    /// Answers a second for one client prefix; 0: any number, otherwise as above.
    pub total_per_second: u32,
    /// One answer of so many over a limit goes out short; 0: none.
    pub slip: u8,
    /// Bits of an IPv4 address that make a client prefix, at most 32.
    pub ipv4_prefix_bits: u8,
    /// Bits of an IPv6 address that make a client prefix, at most 64.
    pub ipv6_prefix_bits: u8,
    /// Client networks without limits.
    pub exempt: Vec<IpNet>,
    /// Whether the loopback addresses have none either.
    pub exempt_loopback: bool,
    /// Buckets of each worker.
    pub table_entries: usize,
}

impl Default for RateLimits {
    fn default() -> Self {
        RateLimits {
            enforcement: Enforcement::On,
            answers_per_second: 200,
            total_per_second: 5000,
            slip: 2,
            ipv4_prefix_bits: 24,
            ipv6_prefix_bits: 56,
            exempt: Vec::new(),
            exempt_loopback: true,
            table_entries: 1 << 16,
        }
    }
}

/// What becomes of an answer over a limit, and which limit that is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Over {
    /// What is to be done.
    pub action: Limited,
    /// Why.
    pub by: LimitedBy,
}

/// The limits of one worker.
pub struct Limiter {
    buckets: Buckets,
    /// Secrets of [`mix`].
    keys: [u64; 4],
    /// This worker's share of the rates.
    answers_per_second: u32,
    total_per_second: u32,
    ipv4_mask: u32,
    ipv6_mask: u64,
    limits: RateLimits,
}

impl Limiter {
    /// For one of so many `workers`. `keys`: random, so that nobody can choose which clients share a bucket.
    #[must_use]
    pub fn new(limits: &RateLimits, workers: usize, keys: [u64; 4]) -> Self {
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        let share = |rate: u32| (rate.min(buckets::MAX_PER_SECOND) / workers).max(1);
        Limiter {
            buckets: Buckets::new(limits.table_entries),
            keys: keys.map(|key| key | 1),
            answers_per_second: share(limits.answers_per_second),
            total_per_second: if limits.total_per_second == 0 { 0 } else { share(limits.total_per_second) },
            ipv4_mask: u32::MAX.checked_shl(32 - u32::from(limits.ipv4_prefix_bits.min(32))).unwrap_or(0),
            ipv6_mask: u64::MAX.checked_shl(64 - u32::from(limits.ipv6_prefix_bits.min(64))).unwrap_or(0),
            limits: limits.clone(),
        }
    }

    /// Charges an answer over UDP to its account; `None`: it may go out as it is. `now_ms`: milliseconds that may wrap.
    #[inline]
    pub fn charge(&mut self, now_ms: u32, client: IpAddr, outcome: &Outcome) -> Option<Over> {
        let client = client.to_canonical();
        if outcome.proven || (self.limits.exempt_loopback && client.is_loopback()) {
            return None;
        }
        let prefix = self.prefix(client);
        let account = self.account(prefix, outcome);
        let of_account = self.answers_per_second;
        if !self.buckets.get(account, now_ms, of_account).take(of_account) {
            return self.over(now_ms, client, prefix, account, LimitedBy::kind(outcome.kind));
        }
        let of_all = self.total_per_second;
        if of_all != 0 && !self.buckets.get(prefix, now_ms, of_all).take(of_all) {
            self.buckets.get(account, now_ms, of_account).put_back();
            return self.over(now_ms, client, prefix, account, LimitedBy::Total);
        }
        None
    }

    /// What to do about an answer that is over a limit.
    #[cold]
    fn over(
        &mut self,
        now_ms: u32,
        client: IpAddr,
        prefix: u64,
        account: u64,
        by: LimitedBy,
    ) -> Option<Over> {
        // Only now: most answers are within their limits, whoever gets them.
        if self.limits.exempt.iter().any(|exempt| exempt.contains(&client)) {
            return None;
        }
        if self.limits.enforcement == Enforcement::LogOnly {
            return Some(Over { action: Limited::Log, by });
        }
        let (of_account, of_all) = (self.answers_per_second, self.total_per_second);
        let (key, rate) = if by == LimitedBy::Total { (prefix, of_all) } else { (account, of_account) };
        let bucket = self.buckets.get(key, now_ms, rate);
        let slips = bucket.over(self.limits.slip)
            && bucket.take_short(rate)
            // Those of all accounts have a limit together too.
            && (by == LimitedBy::Total
                || of_all == 0
                || self.buckets.get(prefix, now_ms, of_all).take_short(of_all));
        Some(Over { action: if slips { Limited::Slip } else { Limited::Drop }, by })
    }

    /// The key of a client's prefix. `client`: not an IPv4 address in IPv6 form.
    #[inline]
    fn prefix(&self, client: IpAddr) -> u64 {
        let [ipv4, ipv6, finish, _] = self.keys;
        match client {
            IpAddr::V4(address) => mix(u64::from(u32::from(address) & self.ipv4_mask) ^ ipv4, finish),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                mix(u64::from_be_bytes([a, b, c, d, e, f, g, h]) & self.ipv6_mask ^ ipv6, finish)
            }
        }
    }

    /// The key of an account of a client's prefix.
    #[inline]
    fn account(&self, prefix: u64, outcome: &Outcome) -> u64 {
        let [.., finish] = self.keys;
        mix(prefix ^ outcome.account ^ (outcome.kind as u64 + 1) << 56, finish)
    }
}

impl LimitedBy {
    fn kind(kind: Kind) -> Self {
        match kind {
            Kind::Answer => LimitedBy::Answer,
            Kind::Referral => LimitedBy::Referral,
            Kind::NoData => LimitedBy::NoData,
            Kind::NxDomain => LimitedBy::NxDomain,
            Kind::Error => LimitedBy::Error,
        }
    }
}

/// A keyed hash in one multiplication: both halves of the product of value and key.
///
/// SipHash would take ten times as long, and would protect nothing more: a client can only forge addresses into each other's
/// buckets, and to use up somebody's bucket it suffices to forge his address. What an account is about is SipHashed already.
#[inline]
fn mix(value: u64, key: u64) -> u64 {
    let product = u128::from(value) * u128::from(key);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

#[cfg(test)]
mod tests;
