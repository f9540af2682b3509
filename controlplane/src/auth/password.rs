//! Passwords: hashed with Argon2id (RFC 9106), which is made to cost time and memory. So few are worked out at once, and who
//! comes when too many wait is told to come again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::error::{Code, Problem};
use crate::observe::metrics::Metrics;

/// KiB of memory that one takes, and passes over it: the least that OWASP names for one lane.
const MEMORY_KIB: u32 = 19 << 10;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// The least and the most octets of a password. What is longer than the most is no password that somebody types, and hashing
/// it would cost more.
const LEAST_OCTETS: usize = 10;
const MOST_OCTETS: usize = 1_000;
/// How many may wait to be worked out.
const MOST_WAITING: usize = 64;

/// Works out hashes of passwords, few at once.
#[derive(Debug)]
pub(crate) struct Passwords {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    metrics: Metrics,
    /// What is compared with where there is no password to compare with: it takes as long, and never matches.
    nobodys: Arc<str>,
}

/// What came of comparing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Compared {
    Differs,
    Equal,
    /// Equal, and to be kept with other parameters: this is its hash.
    Rehashed(String),
}

impl Passwords {
    /// For a machine with so many CPUs: half of them, so that whatever else is asked goes on.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn new(cpus: usize, metrics: Metrics) -> anyhow::Result<Passwords> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)
            .map_err(|error| anyhow::anyhow!("no random numbers from the system: {error}"))?;
        let nobodys = hashed(&secret).map_err(|problem| anyhow::anyhow!(problem))?.into();
        let places = Arc::new(Semaphore::new((cpus / 2).max(1)));
        Ok(Passwords { places, waiting: Arc::default(), metrics, nobodys })
    }

    /// The hash of a password that somebody chose, as a PHC string.
    ///
    /// # Errors
    /// `INVALID_VALUE` when it is none to be taken, `RATE_LIMITED` when too many wait.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, Problem> {
        check(password)?;
        let password = password.to_owned();
        self.work(move || hashed(password.as_bytes())).await?
    }

    /// Compares a password with a hash; `None`: with one that nothing matches, which takes as long.
    ///
    /// # Errors
    /// `RATE_LIMITED` when too many wait.
    pub(crate) async fn compare(&self, password: &str, hash: Option<&str>) -> Result<Compared, Problem> {
        // Nobody has one that is longer.
        let is_none = hash.is_none() || password.len() > MOST_OCTETS;
        let password: String = if password.len() > MOST_OCTETS { String::new() } else { password.to_owned() };
        let hash: Arc<str> = hash.map_or_else(|| self.nobodys.clone(), Arc::from);
        let compared = self.work(move || compared(password.as_bytes(), &hash)).await??;
        Ok(if is_none { Compared::Differs } else { compared })
    }

    /// On a thread that may take its time, when it is its turn.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let waits = Waits::of(self.waiting.clone())?;
        let failed = |_| Problem::new(Code::Internal, "the password could not be worked on");
        let place = self.places.clone().acquire_owned().await.map_err(|_| too_many())?;
        self.metrics.password_checked();
        // What is begun takes its place until its end, also where nobody waits for it any more.
        let work = move || {
            let _held = (waits, place);
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(failed)
    }
}

/// One that waits; no longer when it is dropped.
struct Waits(Arc<AtomicUsize>);

impl Waits {
    fn of(waiting: Arc<AtomicUsize>) -> Result<Waits, Problem> {
        let waits = Waits(waiting);
        if waits.0.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            return Err(too_many());
        }
        Ok(waits)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn too_many() -> Problem {
    Problem::new(Code::RateLimited, "too many passwords are being checked; try again")
}

fn argon2() -> Result<Argon2<'static>, Problem> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|_| Problem::new(Code::Internal, "the parameters of password hashes are wrong"))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hashed(password: &[u8]) -> Result<String, Problem> {
    let hash = argon2()?.hash_password(password);
    let failed = |_| Problem::new(Code::Internal, "the password could not be hashed");
    hash.map(|hash| hash.to_string()).map_err(failed)
}

fn compared(password: &[u8], hash: &str) -> Result<Compared, Problem> {
    let damaged = || Problem::new(Code::Internal, "a stored row could not be read; the log has the cause");
    let parsed = PasswordHash::new(hash).ok().ok_or_else(damaged)?;
    // With the parameters that stand in the hash.
    if argon2()?.verify_password(password, &parsed).is_err() {
        return Ok(Compared::Differs);
    }
    let params = Params::try_from(&parsed).ok().ok_or_else(damaged)?;
    let is_ours = (params.m_cost(), params.t_cost(), params.p_cost()) == (MEMORY_KIB, PASSES, LANES)
        && parsed.algorithm == Algorithm::Argon2id.ident();
    if is_ours { Ok(Compared::Equal) } else { hashed(password).map(Compared::Rehashed) }
}

/// Whether a password may be chosen: long enough is all that makes it hard to guess (NIST SP 800-63B §5.1.1.2).
fn check(password: &str) -> Result<(), Problem> {
    if password.chars().count() < LEAST_OCTETS || password.len() > MOST_OCTETS {
        let message = format!(
            "\"password\": expected at least {LEAST_OCTETS} characters and at most {MOST_OCTETS} octets"
        );
        return Err(Problem::new(Code::InvalidValue, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn passwords_are_argon2id_and_compared_by_their_hash() {
        let passwords = Passwords::new(2, Metrics::default()).unwrap();
        let hash = passwords.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash("correct horse").await.unwrap(), "salted");
        assert_eq!(passwords.compare("correct horse", Some(&hash)).await.unwrap(), Compared::Equal);
        assert_eq!(passwords.compare("correct horsf", Some(&hash)).await.unwrap(), Compared::Differs);
        assert_eq!(passwords.compare("", None).await.unwrap(), Compared::Differs);
        let long = "x".repeat(MOST_OCTETS + 1);
        assert_eq!(passwords.compare(&long, Some(&hash)).await.unwrap(), Compared::Differs);
        for refused in ["", "123456789", long.as_str()] {
            assert_eq!(passwords.hash(refused).await.unwrap_err().code, Code::InvalidValue);
        }
    }

    #[tokio::test]
    async fn a_hash_with_other_parameters_is_renewed() {
        let weaker = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
        let hash = weaker.hash_password(b"correct horse").unwrap().to_string();
        let passwords = Passwords::new(2, Metrics::default()).unwrap();
        let Compared::Rehashed(renewed) = passwords.compare("correct horse", Some(&hash)).await.unwrap()
        else {
            panic!("it has other parameters");
        };
        assert_eq!(passwords.compare("correct horse", Some(&renewed)).await.unwrap(), Compared::Equal);
    }

    #[tokio::test]
    async fn who_comes_when_too_many_wait_is_told_so() {
        let passwords = Arc::new(Passwords::new(2, Metrics::default()).unwrap());
        let held = passwords.places.acquire().await.unwrap();
        let waiting: Vec<_> = (0..MOST_WAITING)
            .map(|_| {
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.compare("x", None).await })
            })
            .collect();
        while passwords.waiting.load(Ordering::Relaxed) < MOST_WAITING {
            tokio::task::yield_now().await;
        }
        let one_more = tokio::time::timeout(Duration::from_secs(10), passwords.compare("x", None)).await;
        assert_eq!(one_more.expect("it waits").unwrap_err().code, Code::RateLimited);
        for one in waiting {
            one.abort();
        }
        while passwords.waiting.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        drop(held);
        assert_eq!(passwords.compare("x", None).await.unwrap(), Compared::Differs);
    }
}
