//! The report of the run: what was found, and what was wanted.

use std::fmt::Write as _;

use super::{Options, Results, What};
use crate::goals;
use crate::propagate::latency::Latency;
use crate::report::{Report, Spread, machine};

impl What {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            What::ColdStart => "start with a local snapshot → first answer",
            What::Resync => "from there → one zone that changed, the log not leading there",
            What::BootstrapFromCache => "start with nothing → first answer, from the record cache",
            What::BootstrapOverHttps => "the same from a control plane, without Redis",
            What::Rollback => "a zone rolled back → every data plane answers as it was",
        }
    }

    /// Seconds at most; nothing is said for so many names of everything over HTTPS.
    fn goal(self, options: &Options) -> Option<f64> {
        match self {
            What::ColdStart => Some(goals::COLD_START_S * f64::from(options.names.max(1)) / 1e6),
            What::Resync => Some(goals::RESYNC_S),
            What::BootstrapFromCache => Some(goals::BOOTSTRAP_S * f64::from(options.names.max(1)) / 1e6),
            What::BootstrapOverHttps => None,
            What::Rollback => Some(goals::ROLLBACK_S),
        }
    }
}

/// Works out the table.
#[must_use]
pub fn report(options: &Options, results: Results) -> Report<Options, Results> {
    let markdown = table(options, &results);
    let failures = results.failures.clone();
    Report::new("recover", options.clone(), results, failures, markdown)
}

fn table(options: &Options, results: &Results) -> String {
    let mut text = format!(
        "Machine: {}. PostgreSQL, Redis, 2 control planes and 3 data planes on it; a zone of {} names, one of {}, {} zones of two \
         records; {} rounds, {} changes a second for {} s in each; median (least–most).\n\n| what | found | goal |\n|---|---|---|\n",
        machine(),
        options.names,
        options.records,
        options.zones,
        options.rounds,
        options.rate,
        options.seconds
    );
    for (what, times) in &results.times {
        let Some(found) = Spread::of(times.iter().copied()) else { continue };
        let goal = what.goal(options).map_or("–".to_owned(), |goal| against(found, goal, "s"));
        let _ = writeln!(text, "| {} | {} s | {goal} |", what.name(), found.show(2));
    }
    let mut latency = |name: &str, rounds: &[Latency], goals: [Option<f64>; 2]| {
        for (index, quantile) in ["p50", "p99"].into_iter().enumerate() {
            let Some(found) = Spread::of(rounds.iter().map(|round| round.everywhere_us[index] / 1e3)) else {
                continue;
            };
            let goal = goals[index].map_or("–".to_owned(), |goal| against(found, goal, "ms"));
            let _ = writeln!(text, "| {name}, {quantile} | {} ms | {goal} |", found.show(2));
        }
    };
    let [p50, p99] = goals::EVERYWHERE_MS;
    latency("acknowledged → answered by all", &results.with_redis, [Some(p50), Some(p99)]);
    let without = [None, Some(goals::WITHOUT_REDIS_MS)];
    latency("the same without Redis", &results.without_redis, without);
    if !results.failures.is_empty() {
        let _ = writeln!(text, "\n**Failed:**\n- {}", results.failures.join("\n- "));
    }
    text
}

fn against(found: Spread, goal: f64, unit: &str) -> String {
    format!("≤ {goal} {unit}, {}", if found.median <= goal { "met" } else { "missed" })
}
