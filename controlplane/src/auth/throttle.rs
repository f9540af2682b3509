//! How often something may be tried by strangers: by one client, at one account, and of mail to one address. Counted by this
//! process. What is counted by is the hash of what is named, whether there is such a one or not.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use sha2::{Digest as _, Sha256};

use crate::api::server::client_of;
use crate::error::{Code, Problem};

type Key = [u8; 16];
type Limiter = RateLimiter<Key, HashMapStateStore<Key>, DefaultClock>;

/// So many at once, and then one for each of these times.
#[derive(Clone, Copy, Debug)]
struct Bound {
    at_once: NonZeroU32,
    every: Duration,
}

const fn bound(at_once: u32, every_ms: u64) -> Bound {
    match NonZeroU32::new(at_once) {
        Some(at_once) => Bound { at_once, every: Duration::from_millis(every_ms) },
        None => panic!("none at all"),
    }
}

/// What is tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Attempt<'a> {
    /// Anything, from a client alone.
    Any,
    /// A password of who is named.
    Password(&'a str),
    /// A code of who is named, whose password was right.
    Code(&'a str),
    /// A mail to an address.
    Mail(&'a str),
    /// Something that an account writes down for itself.
    Own(&'a str),
    /// A token of an account that is good once.
    Single(&'a str),
}

/// From one client: one IPv4 address, or one IPv6 network of 64 bits.
const OF_CLIENT: Bound = bound(30, 2_000);
/// At one account from one client. Others do not lock its owner out, who comes from elsewhere.
const OF_ACCOUNT_AND_CLIENT: Bound = bound(10, 30_000);
/// At one account from everywhere.
const OF_ACCOUNT: Bound = bound(100, 3_000);
/// Of a million codes three are right at a time.
const OF_CODE: Bound = bound(10, 300_000);
/// So much mail can one be sent by others.
const OF_MAIL: Bound = bound(5, 600_000);

/// So that nobody fills tables that others look into.
const OF_OWN: Bound = bound(100, 1_000);
/// Each takes the one writer for a moment.
const OF_SINGLE: Bound = bound(200, 20);

/// What is remembered before that is forgotten which is at rest, and how often that is looked for at most.
const SWEEP_FROM: usize = 16_384;
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// What is remembered at most: whoever is not among them waits.
const MOST: usize = 262_144;

/// See the module.
#[derive(Debug)]
pub(crate) struct Throttle {
    clients: Bucket,
    accounts_and_clients: Bucket,
    accounts: Bucket,
    codes: Bucket,
    mail: Bucket,
    own: Bucket,
    single: Bucket,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle {
            clients: Bucket::of(OF_CLIENT),
            accounts_and_clients: Bucket::of(OF_ACCOUNT_AND_CLIENT),
            accounts: Bucket::of(OF_ACCOUNT),
            codes: Bucket::of(OF_CODE),
            mail: Bucket::of(OF_MAIL),
            own: Bucket::of(OF_OWN),
            single: Bucket::of(OF_SINGLE),
        }
    }
}

impl Throttle {
    /// Counts an attempt from a client.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(crate) fn attempt(&self, client: IpAddr, attempt: Attempt<'_>) -> Result<(), Problem> {
        match attempt {
            // Whoever has an account is not a stranger: they are counted by that.
            Attempt::Own(account) => return self.own.take(&[account]),
            Attempt::Single(account) => return self.single.take(&[account]),
            _ => {}
        }
        let client = client_of(client).to_string();
        self.clients.take(&[&client])?;
        match attempt {
            Attempt::Any | Attempt::Own(_) | Attempt::Single(_) => Ok(()),
            Attempt::Password(name) => {
                self.accounts_and_clients.take(&[name, &client])?;
                self.accounts.take(&[name])
            }
            Attempt::Code(name) => self.codes.take(&[name]),
            Attempt::Mail(address) => self.mail.take(&[address]),
        }
    }
}

/// What one bound is kept by.
#[derive(Debug)]
struct Bucket {
    limiter: Limiter,
    clock: DefaultClock,
    swept_at: Mutex<Instant>,
}

impl Bucket {
    fn of(bound: Bound) -> Bucket {
        let quota = Quota::with_period(bound.every).map(|quota| quota.allow_burst(bound.at_once));
        let limiter = RateLimiter::hashmap(quota.unwrap_or(Quota::per_second(bound.at_once)));
        Bucket { limiter, clock: DefaultClock::default(), swept_at: Mutex::new(Instant::now()) }
    }

    fn take(&self, names: &[&str]) -> Result<(), Problem> {
        self.sweep();
        if self.limiter.len() >= MOST {
            let message = "too many are trying; try again in a minute";
            return Err(Problem::new(Code::RateLimited, message).after(60));
        }
        let mut hasher = Sha256::new();
        for name in names {
            hasher.update(name);
            hasher.update([0]);
        }
        let mut key = Key::default();
        key.copy_from_slice(&hasher.finalize()[..16]);
        let Err(until) = self.limiter.check_key(&key) else { return Ok(()) };
        let seconds = until.wait_time_from(self.clock.now()).as_secs() + 1;
        let message = format!("too many attempts; try again in {seconds} s");
        Err(Problem::new(Code::RateLimited, message).after(seconds))
    }

    fn sweep(&self) {
        if self.limiter.len() < SWEEP_FROM {
            return;
        }
        let mut swept_at = self.swept_at.lock().unwrap_or_else(PoisonError::into_inner);
        if swept_at.elapsed() >= SWEEP_EVERY {
            *swept_at = Instant::now();
            self.limiter.retain_recent();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: Attempt<'static> = Attempt::Password("anna@example.org");

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn attempts_are_bounded_for_an_account_and_from_a_client() {
        let throttle = Throttle::default();
        for _ in 0..10 {
            throttle.attempt(client(1), ANNA).unwrap();
        }
        let refused = throttle.attempt(client(1), ANNA).unwrap_err();
        assert_eq!((refused.code, refused.retry_after_s > 1), (Code::RateLimited, true));
        // Whoever comes from elsewhere is not locked out by that, until all together are too many.
        for n in 0..90 {
            throttle.attempt(client(10 + n / 10), ANNA).unwrap();
        }
        assert_eq!(throttle.attempt(client(200), ANNA).unwrap_err().code, Code::RateLimited);
        throttle.attempt(client(200), Attempt::Password("bert@example.org")).unwrap();
        for _ in 0..28 {
            throttle.attempt(client(200), Attempt::Any).unwrap();
        }
        assert_eq!(throttle.attempt(client(200), Attempt::Any).unwrap_err().code, Code::RateLimited);
        throttle.attempt(client(201), Attempt::Any).unwrap();
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let throttle = Throttle::default();
        let of = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 1, 2, 3, last]);
        for last in 0..30 {
            throttle.attempt(of(last), Attempt::Any).unwrap();
        }
        assert_eq!(throttle.attempt(of(99), Attempt::Any).unwrap_err().code, Code::RateLimited);
    }

    #[test]
    fn mail_and_codes_are_bounded_from_everywhere() {
        for (attempt, most) in [(Attempt::Mail("anna@example.org"), 5), (Attempt::Code("anna"), 10)] {
            let throttle = Throttle::default();
            for last in 0..most {
                throttle.attempt(client(last), attempt).unwrap();
            }
            let refused = throttle.attempt(client(99), attempt).unwrap_err();
            assert!(refused.retry_after_s > 100, "{attempt:?}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let bucket = Bucket::of(bound(1, 3_600_000));
        for n in 0..MOST {
            bucket.take(&[&n.to_string()]).unwrap();
        }
        assert_eq!(bucket.take(&["one more"]).unwrap_err().code, Code::RateLimited);
        // What is at rest makes room.
        let bucket = Bucket::of(bound(1, 1));
        for n in 0..SWEEP_FROM + 10 {
            bucket.take(&[&n.to_string()]).unwrap();
        }
        *bucket.swept_at.lock().unwrap() = Instant::now() - SWEEP_EVERY;
        std::thread::sleep(Duration::from_millis(5));
        bucket.take(&["one more"]).unwrap();
        assert!(bucket.limiter.len() < SWEEP_FROM, "{}", bucket.limiter.len());
    }
}
