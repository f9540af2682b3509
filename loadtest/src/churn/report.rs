//! The report of the churn run: latency with and without changes, goals beside it.

use std::fmt::Write as _;

use super::{Options, Results};
use crate::goals;
use crate::measure::Round;
use crate::report::{Report, Spread, machine};
use crate::server::kind::Kind;

/// Works out the tables.
#[must_use]
pub fn report(options: &Options, results: Results) -> Report<Options, Results> {
    let markdown = tables(options, &results);
    let failures = results.failures.clone();
    Report::new("churn", options.clone(), results, failures, markdown)
}

fn tables(options: &Options, results: &Results) -> String {
    let mut text = format!(
        "Machine: {}. Servers (Godwit as `godwit run`) on CPU 0 with the zone of {} names, {} queries a second \
         and the changes from CPU 1, {} interleaved rounds of {} s; median (least–most).\n",
        machine(),
        options.source.large().count,
        options.rate,
        options.rounds,
        options.seconds
    );
    if results.fill_seconds > 0.0 {
        let _ = writeln!(text, "Godwit was filled through its API in {:.1} s.\n", results.fill_seconds);
    }
    for (kind, version) in &results.entrants {
        let _ = writeln!(text, "- {}: {version}", kind.name());
    }
    text.push_str("\n| latency in µs | p50 | p99 | p99.9 | lost, % |\n|---|---|---|---|---|\n");
    for (kind, rounds) in &results.idle {
        row(&mut text, &format!("{}, nothing changing", kind.name()), rounds);
    }
    for (kind, rounds) in &results.busy {
        let way = if kind.is_peer() { "UPDATE (RFC 2136)" } else { "its API" };
        row(&mut text, &format!("{}, {} changes/s through {way}", kind.name(), options.changes), rounds);
    }

    text.push_str("\n| changes | acknowledged a second under load | one alone: acknowledged p50 / p99, µs | visible p50 / p99, µs | ");
    text.push_str("p99 of queries ÷ own idle p99 |\n|---|---|---|---|---|\n");
    let idle = |kind| p99(results.idle.get(&kind).map_or(&[][..], Vec::as_slice));
    let busy = |kind| p99(results.busy.get(&kind).map_or(&[][..], Vec::as_slice));
    for (&kind, visibility) in &results.visibility {
        let changes = results.changes.get(&kind).map_or(&[][..], Vec::as_slice);
        // The load lasts a second longer than the measurement: its warm-up.
        let rate =
            Spread::of(changes.iter().map(|round| round.acknowledged as f64 / (options.seconds + 1.0)));
        let [ack50, ack99] = visibility.acknowledged_us;
        let [seen50, seen99] = visibility.visible_us;
        let _ = writeln!(
            text,
            "| {} | {} | {ack50:.0} / {ack99:.0} | {seen50:.0} / {seen99:.0} | {} |",
            kind.name(),
            rate.map_or("–".to_owned(), |rate| rate.show(0)),
            ratio(busy(kind), idle(kind)).map_or("–".to_owned(), |ratio| format!("{ratio:.2}"))
        );
    }
    let own = idle(Kind::GodwitRun);
    let best = results.idle.keys().filter(|kind| kind.is_peer()).filter_map(|&kind| idle(kind));
    let best = best.min_by(f64::total_cmp);
    text.push_str("\n| | found | goal |\n|---|---|---|\n");
    let mut goal = |title: &str, found: Option<f64>, limit: f64, unit: &str| {
        let cell = found.map_or("–".to_owned(), |found| {
            format!("{found:.2}{unit} {}", if found <= limit { "met" } else { "missed" })
        });
        let _ = writeln!(text, "| {title} | {cell} | ≤ {limit}{unit} |");
    };
    goal("p99 under changes ÷ own idle p99", ratio(busy(Kind::GodwitRun), own), goals::BUSY_P99, "");
    goal("idle p99 ÷ best peer's", ratio(own, best), goals::IDLE_P99.best_peer, "");
    let visible =
        results.visibility.get(&Kind::GodwitRun).map(|visibility| visibility.visible_us[0] / 1_000.0);
    goal("one RRset change visible, p50", visible, goals::VISIBLE_MS, " ms");
    if !results.failures.is_empty() {
        let _ = writeln!(text, "\n**Failed:**\n- {}", results.failures.join("\n- "));
    }
    text
}

fn row(text: &mut String, title: &str, rounds: &[Round]) {
    let cells = (0..3).map(|place| {
        let spread =
            Spread::of(rounds.iter().filter_map(|round| round.latency_us.map(|latency| latency[place])));
        spread.map_or("–".to_owned(), |spread| spread.show(0))
    });
    let cells: Vec<String> = cells.collect();
    let lost = Spread::of(rounds.iter().map(|round| round.loss * 100.0));
    let lost = lost.map_or("–".to_owned(), |lost| lost.show(4));
    let _ = writeln!(text, "| {title} | {} | {lost} |", cells.join(" | "));
}

fn p99(rounds: &[Round]) -> Option<f64> {
    let figures = rounds.iter().filter_map(|round| round.latency_us.map(|latency| latency[1]));
    Spread::of(figures).map(|spread| spread.median)
}

fn ratio(of: Option<f64>, over: Option<f64>) -> Option<f64> {
    of.zip(over).map(|(of, over)| of / over)
}
