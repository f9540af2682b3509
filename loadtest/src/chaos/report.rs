//! The report of a run of faults.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::faults::Fault;
use super::{Happened, Options, Results};
use crate::goals;
use crate::report::{Report, Spread, machine};

/// Works out the tables.
#[must_use]
pub fn report(options: &Options, results: Results) -> Report<Options, Results> {
    let markdown = tables(options, &results);
    let failures = results.failures.clone();
    Report::new("chaos", options.clone(), results, failures, markdown)
}

fn tables(options: &Options, results: &Results) -> String {
    let mut text = format!(
        "Machine: {}. Seed {}, {:.0} s, {} faults.\n\n| fault | times | healed after, s, median (least–most) | lasted, s | \
         acknowledged meanwhile | in doubt |\n|---|---|---|---|---|---|\n",
        machine(),
        options.seed,
        results.seconds,
        results.happened.len()
    );
    let mut kinds: BTreeMap<Fault, Vec<&Happened>> = BTreeMap::new();
    for happened in &results.happened {
        kinds.entry(happened.fault).or_default().push(happened);
    }
    for (fault, times) in &kinds {
        let of = |value: fn(&Happened) -> f64| {
            let spread = Spread::of(times.iter().map(|happened| value(happened)));
            spread.map_or("–".to_owned(), |spread| spread.show(2))
        };
        let sum = |value: fn(&Happened) -> u64| times.iter().map(|happened| value(happened)).sum::<u64>();
        let _ = writeln!(
            text,
            "| {fault} | {} | {} | {} | {} | {} |",
            times.len(),
            of(|happened| happened.healed),
            of(|happened| happened.lasted),
            sum(|happened| happened.acknowledged),
            sum(|happened| happened.doubtful)
        );
    }
    let within = results.happened.iter().filter(|happened| happened.healed <= goals::HEALED_S).count();
    let _ = writeln!(
        text,
        "\nEverything was everywhere within {} s after {within} of {} faults (goal: all).",
        goals::HEALED_S,
        results.happened.len()
    );
    let [acknowledged, accepted, doubts, refused] = results.writes;
    let _ = writeln!(
        text,
        "{acknowledged} writes acknowledged to {} names, {accepted} accepted for later, {doubts} without an answer, {refused} \
         refused. Every name was looked up through the API after every fault, and {} times on data planes.\n",
        results.names, results.looked_up
    );
    text.push_str(
        "| data plane | answers judged | wrong | SERVFAIL while empty | lost while down | lost otherwise |\n|---|---|---|---|---|---|\n",
    );
    for (index, tally) in results.tallies.iter().enumerate() {
        let _ = writeln!(
            text,
            "| node{} | {} | {} | {} | {} | {} |",
            index + 1,
            tally.judged,
            tally.wrong,
            tally.not_ready,
            tally.lost_inside,
            tally.lost_outside
        );
    }
    for absent in &results.absent {
        let _ = writeln!(text, "\nLeft out: {absent}.");
    }
    if !results.failures.is_empty() {
        let _ = writeln!(text, "\n**Failed:**\n- {}", results.failures.join("\n- "));
    }
    text
}
