//! Random zones and queries, rich in the cases that are hard to get right. All of it follows from a seed, which
//! [`seed`] takes from `GODWIT_SEED` and which a failing test prints.

mod outcome;
mod query;
mod rdata;
mod settings;
mod sign;
mod zone;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use outcome::{Census, Outcome, classify};
pub use query::{GeneratedQuery, QueryOptions, query};
pub use settings::settings;
pub use sign::{Signing, sign};
pub use zone::{WorldOptions, edit, world};

/// The seed of this run: `GODWIT_SEED`, or `default` so that plain test runs repeat.
///
/// # Panics
/// When `GODWIT_SEED` is not a number.
#[must_use]
pub fn seed(default: u64) -> u64 {
    match std::env::var("GODWIT_SEED") {
        Ok(text) => {
            text.parse().unwrap_or_else(|_| panic!("GODWIT_SEED={text}: expected a number up to 2^64-1"))
        }
        Err(_) => default,
    }
}

/// Whether the long modes are asked for: `GODWIT_LONG=1`.
#[must_use]
pub fn long() -> bool {
    std::env::var("GODWIT_LONG").is_ok_and(|value| value == "1")
}

/// The generator of random numbers for one case of a run.
#[must_use]
pub fn random(seed: u64, case: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(case);
    random
}

/// One of a slice, all alike likely.
pub(crate) fn pick<'a, T>(random: &mut ChaCha8Rng, from: &'a [T]) -> &'a T {
    &from[random.random_range(0..from.len())]
}
