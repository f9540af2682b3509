//! Rounds that alternate between the candidates, so that whatever disturbs the machine disturbs all of them; the
//! medians' ratio is the result, absolute times are by the way.

use std::time::Instant;

/// One way of doing the work: a name, and a function that does a number of operations for the given round and
/// returns how many.
pub struct Candidate<'a> {
    name: &'static str,
    run: Box<dyn FnMut(usize) -> usize + 'a>,
}

impl<'a> Candidate<'a> {
    /// A candidate by this name. `run` gets the number of the round and returns how many operations it did.
    pub fn new(name: &'static str, run: impl FnMut(usize) -> usize + 'a) -> Self {
        Candidate { name, run: Box::new(run) }
    }
}

/// Median nanoseconds an operation of each candidate, in the order given.
pub struct Medians(Vec<(&'static str, f64, f64)>);

/// Lets the candidates take turns for `rounds` rounds (and one more before, which does not count).
#[must_use]
pub fn run(rounds: usize, mut candidates: Vec<Candidate<'_>>) -> Medians {
    let mut times: Vec<Vec<f64>> = candidates.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..=rounds {
        for (candidate, times) in candidates.iter_mut().zip(&mut times) {
            let start = Instant::now();
            let operations = (candidate.run)(round);
            #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
            let each = start.elapsed().as_secs_f64() * 1e9 / operations as f64;
            if round > 0 {
                times.push(each);
            }
        }
    }
    Medians(
        candidates
            .iter()
            .zip(times)
            .map(|(candidate, mut times)| {
                times.sort_by(f64::total_cmp);
                let at = |part: f64| {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        clippy::cast_precision_loss,
                        reason = "a share of a small count"
                    )]
                    let index = ((times.len() - 1) as f64 * part).round() as usize;
                    times[index]
                };
                (candidate.name, at(0.5), (at(0.75) - at(0.25)) / at(0.5))
            })
            .collect(),
    )
}

impl Medians {
    /// Prints a line for each candidate, with its ratio to the candidate called `reference`.
    pub fn print(&self, title: &str, reference: &str) {
        let base = self.median(reference);
        println!("\n{title}");
        println!("  {:<44} {:>10}  {:>8}  {:>7}", "", "ns each", "ratio", "spread");
        for (name, median, spread) in &self.0 {
            println!("  {name:<44} {median:>10.1}  {:>7.2}x  {:>6.1}%", median / base, spread * 100.0);
        }
    }

    /// The median of one candidate, in nanoseconds an operation.
    ///
    /// # Panics
    /// When there is no candidate of that name.
    #[must_use]
    pub fn median(&self, name: &str) -> f64 {
        self.0.iter().find(|(n, ..)| *n == name).expect("a candidate's name").1
    }

    /// Prints how a ratio stands to its goal; returns whether the goal is met.
    pub fn goal(&self, candidate: &str, reference: &str, at_most: f64) -> bool {
        let ratio = self.median(candidate) / self.median(reference);
        let met = ratio <= at_most;
        let verdict = if met { "met" } else { "MISSED" };
        println!("  goal: {candidate} <= {at_most} x {reference}: {ratio:.2} ({verdict})");
        met
    }
}

/// How many names the benchmarks use: `NAMES=1000000,10000000`; without it a million, with `LONG=1` ten million too.
///
/// # Panics
/// When `NAMES` is not a list of numbers.
#[must_use]
pub fn sizes() -> Vec<usize> {
    match std::env::var("NAMES") {
        Ok(list) => list
            .split(',')
            .map(|n| n.trim().parse().unwrap_or_else(|_| panic!("NAMES: `{n}` is not a number of names")))
            .collect(),
        Err(_) if std::env::var_os("LONG").is_some() => vec![1_000_000, 10_000_000],
        Err(_) => vec![1_000_000],
    }
}
