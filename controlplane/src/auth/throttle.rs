//! How often passwords and codes may be tried: so often for one account, and so often from one client, by this process.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{Quota, RateLimiter, state::keyed::HashMapStateStore};

use crate::error::{Code, Problem};

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// Attempts for one account at once, and then one for each of these times.
const OF_ACCOUNT: NonZeroU32 = NonZeroU32::new(10).unwrap();
const ACCOUNT_EVERY: Duration = Duration::from_secs(30);
/// The same from one client: one IPv4 address, or one IPv6 network of 64 bits.
const OF_CLIENT: NonZeroU32 = NonZeroU32::new(30).unwrap();
const CLIENT_EVERY: Duration = Duration::from_secs(2);
/// Keys that are remembered before those are forgotten that are at rest.
const MOST_KEYS: usize = 16_384;

/// See the module.
#[derive(Debug)]
pub(crate) struct Throttle {
    accounts: Limiter<String>,
    clients: Limiter<IpAddr>,
    clock: DefaultClock,
}

impl Default for Throttle {
    fn default() -> Throttle {
        let quota = |at_once, every| Quota::with_period(every).map(|quota| quota.allow_burst(at_once));
        let quota = |at_once, every| quota(at_once, every).unwrap_or(Quota::per_second(at_once));
        Throttle {
            accounts: RateLimiter::hashmap(quota(OF_ACCOUNT, ACCOUNT_EVERY)),
            clients: RateLimiter::hashmap(quota(OF_CLIENT, CLIENT_EVERY)),
            clock: DefaultClock::default(),
        }
    }
}

impl Throttle {
    /// Counts an attempt from a client, at an account where one is named: any text that names it, whether there is such a one
    /// or not.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(crate) fn attempt(&self, client: IpAddr, account: Option<&str>) -> Result<(), Problem> {
        if self.clients.len() > MOST_KEYS {
            self.clients.retain_recent();
        }
        if self.accounts.len() > MOST_KEYS {
            self.accounts.retain_recent();
        }
        let now = self.clock.now();
        let refused = self.clients.check_key(&client).err();
        let refused = refused.or_else(|| self.accounts.check_key(&account?.to_owned()).err());
        let Some(until) = refused else { return Ok(()) };
        let seconds = until.wait_time_from(now).as_secs() + 1;
        let message = format!("too many attempts; try again in {seconds} s");
        Err(Problem::new(Code::RateLimited, message).after(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_bounded_for_an_account_and_from_a_client() {
        let throttle = Throttle::default();
        let client = |last| IpAddr::from([192, 0, 2, last]);
        for last in 0..10 {
            throttle.attempt(client(last), Some("anna@example.org")).unwrap();
        }
        let refused = throttle.attempt(client(99), Some("anna@example.org")).unwrap_err();
        assert_eq!(refused.code, Code::RateLimited);
        assert!(refused.message.contains(" s"), "{}", refused.message);
        throttle.attempt(client(99), Some("bert@example.org")).unwrap();
        for _ in 0..28 {
            throttle.attempt(client(99), None).unwrap();
        }
        assert_eq!(throttle.attempt(client(99), None).unwrap_err().code, Code::RateLimited);
        throttle.attempt(client(98), None).unwrap();
    }
}
