//! The report of the propagation run: figures, goals, and where the CPU went.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Options, Results};
use crate::goals;
use crate::report::{Report, Spread, machine};

/// Works out the tables.
#[must_use]
pub fn report(options: &Options, results: Results) -> Report<Options, Results> {
    let markdown = tables(options, &results);
    let failures = results.failures.clone();
    Report::new("propagate", options.clone(), results, failures, markdown)
}

fn tables(options: &Options, results: &Results) -> String {
    let mut text = format!(
        "Machine: {}. {} data planes, {} clients, {} zones, {} rounds of {} s, everything on the same CPUs; median \
         (least–most).\n\n| changes | RRsets a second | acknowledged p50, ms | p99, ms | goal |\n|---|---|---|---|---|\n",
        machine(),
        results.nodes,
        options.clients,
        options.zones,
        options.rounds,
        options.seconds
    );
    for (load, rounds) in &results.throughput {
        let of = |value: fn(&super::Throughput) -> f64| Spread::of(rounds.iter().map(value));
        let show =
            |spread: Option<Spread>, decimals| spread.map_or("–".to_owned(), |found| found.show(decimals));
        let rate = of(|round| round.rrsets_per_second);
        let least = goals::changes_per_second(*load, results.nodes);
        let met = rate.is_some_and(|rate| rate.median >= least);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | ≥ {least:.0}, {} |",
            load.name(),
            show(rate, 0),
            show(of(|round| round.acknowledged_us[0] / 1e3), 2),
            show(of(|round| round.acknowledged_us[1] / 1e3), 2),
            if met { "met" } else { "missed" }
        );
    }
    if !results.latency.is_empty() {
        text.push_str("\n| at a fixed rate | found | goal |\n|---|---|---|\n");
        let mut row = |what: String, index: usize, limit: f64| {
            let times = results.latency.iter().map(|round| round.everywhere_us[index] / 1e3);
            let Some(found) = Spread::of(times) else { return };
            let met = if found.median <= limit { "met" } else { "missed" };
            let _ = writeln!(text, "| {what} | {} ms | ≤ {limit} ms, {met} |", found.show(2));
        };
        let what = format!("{} changes/s: acknowledged → answered by all, p50", options.rate);
        row(what, 0, goals::EVERYWHERE_MS[0]);
        row("p99".to_owned(), 1, goals::EVERYWHERE_MS[1]);
        let behind: u64 = results.latency.iter().map(|round| round.behind).sum();
        let all: u64 = results.latency.iter().map(|round| round.changes).sum();
        let _ = writeln!(text, "\n{behind} of {all} changes were sent later than due.");
    }
    text.push_str("\nWhere the CPU went, seconds of CPU in each second:\n\n");
    for (load, rounds) in &results.throughput {
        let seconds: f64 = rounds.iter().map(|round| round.seconds).sum();
        let _ = writeln!(
            text,
            "- {}: {}",
            load.name(),
            parts(rounds.iter().map(|round| &round.cpu_seconds), seconds)
        );
    }
    let seconds = options.seconds * results.latency.len() as f64;
    if seconds > 0.0 {
        let used = parts(results.latency.iter().map(|round| &round.cpu_seconds), seconds);
        let _ = writeln!(text, "- {} changes/s: {used}", options.rate);
    }
    if !results.failures.is_empty() {
        let _ = writeln!(text, "\n**Failed:**\n- {}", results.failures.join("\n- "));
    }
    text
}

fn parts<'a>(rounds: impl Iterator<Item = &'a BTreeMap<String, f64>>, seconds: f64) -> String {
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for round in rounds {
        for (name, used) in round {
            *sums.entry(name).or_default() += used;
        }
    }
    let shown = sums.iter().map(|(name, used)| format!("{name} {:.2}", used / seconds.max(1e-9)));
    shown.collect::<Vec<_>>().join(", ")
}
