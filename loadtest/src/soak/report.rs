//! The report of a run, the line that whoever waits sees each minute, and what makes a run fail.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::faults::{Fault, Happened};
use super::outages::Side;
use super::sampler::Sample;
use super::shared::Shared;
use super::trend::{self, Slope};
use super::udp::PATIENCE;
use super::{Options, Results};
use crate::goals;
use crate::report::{Report, Spread, machine};

/// A memory slope that makes a run fail, MiB an hour. The goal is less; between the two it is for a person to judge, as caches and
/// the allocator's arenas move by as much.
const LEAK: f64 = 8.0;

/// The share of the queries that may go unseen because this program had no CPU.
const UNSEEN: f64 = 0.01;

/// Works out the tables.
#[must_use]
pub fn report(options: &Options, results: Results) -> Report<Options, Results> {
    let markdown = tables(options, &results);
    let failures = results.failures.clone();
    Report::new("soak", options.clone(), results, failures, markdown)
}

/// What of a finished run's findings makes it fail.
#[must_use]
pub fn verdicts(results: &Results) -> Vec<String> {
    let mut failures = Vec::new();
    for (side, (tally, samples)) in Side::BOTH.into_iter().zip(results.tallies.iter().zip(&results.samples)) {
        let mut fail = |what: String| failures.push(format!("{}: {what}", side.name()));
        let first = tally.sentences.first().map_or("", String::as_str);
        if tally.wrong > 0 {
            fail(format!("{} of {} answers were wrong; {first}", tally.wrong, tally.checked));
        }
        if tally.lost_outside > 0 {
            fail(format!("{} queries were lost while nothing excused it; {first}", tally.lost_outside));
        }
        // Otherwise a run on a machine that is busy with other things would pass for a quiet one.
        if (tally.unasked + tally.unjudged) as f64 > UNSEEN * tally.sent[0] as f64 {
            fail(format!(
                "{} queries were not asked and {} not judged for want of CPU: the machine is too busy to say anything",
                tally.unasked, tally.unjudged
            ));
        }
        if tally.checked == 0 {
            fail("no answer was checked".to_owned());
        }
        if let Some(more) = trend::descriptors(samples).filter(|&more| trend::descriptors_grow(more)) {
            fail(format!(
                "descriptors grow: {more:.0} more at the end of a process's life than at its beginning"
            ));
        }
        if let Some(slope) =
            trend::memory(samples).filter(|slope| slope.tells() && mib(slope.per_hour) > LEAK)
        {
            fail(format!("memory grows by {:.1} MiB an hour, more than {LEAK}", mib(slope.per_hour)));
        }
        for name in ["godwit_dataplane_panics_total", "godwit_dataplane_denied_calls_total"] {
            let most =
                samples.iter().filter_map(|sample| sample.metrics.get(name)).copied().fold(0.0, f64::max);
            if most > 0.0 {
                fail(format!("{name} reached {most}"));
            }
        }
        let last = samples.iter().rev().find(|sample| !sample.metrics.is_empty());
        for name in ["godwit_dataplane_quarantined_zones", "godwit_dataplane_failed_zones"] {
            if last.and_then(|sample| sample.metrics.get(name)).is_some_and(|&count| count > 0.0) {
                fail(format!("{name} is not 0 at the end"));
            }
        }
    }
    let writes = &results.writes;
    if writes.lost > 0 {
        failures.push(format!("{} acknowledged writes were lost", writes.lost));
    }
    if writes.acknowledged == 0 {
        failures.push("no write was acknowledged".to_owned());
    }
    failures
}

/// How it stands.
#[must_use]
pub fn progress(shared: &Shared, samples: &Mutex<[Vec<Sample>; 2]>, seconds: f64, faults: usize) -> String {
    let minutes = |seconds: f64| format!("{}:{:02}", seconds as u64 / 60, seconds as u64 % 60);
    let mut line =
        format!("{} of {}", minutes(shared.course.started.elapsed().as_secs_f64()), minutes(seconds));
    let samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
    for side in Side::BOTH {
        let last = samples[side as usize].last().cloned().unwrap_or_default();
        let _ = write!(
            line,
            " | {}: {:.0} q/s, p99 {:.0} us, {:.1} MiB, {} descriptors",
            side.name(),
            last.answers,
            last.udp_us[1],
            mib(last.pss as f64),
            last.descriptors
        );
    }
    let (wrong, lost, excused) = Side::BOTH.map(|side| shared.tally(side).clone()).iter().fold(
        (0, 0, 0),
        |(wrong, lost, excused), tally| {
            (wrong + tally.wrong, lost + tally.lost_outside, excused + tally.lost_inside)
        },
    );
    let writes = shared.writes();
    let _ = write!(
        line,
        " | writes {}, lost {} | faults {faults} | answers wrong {wrong}, queries lost {lost} (and {excused} in windows)",
        writes.acknowledged, writes.lost
    );
    line
}

fn tables(options: &Options, results: &Results) -> String {
    let mut text = format!(
        "Machine: {}. {}. Seed {}, {:.0} s, {} UDP queries and {} changes a second, a fault every {:.0} s.\n\n",
        machine(),
        results.version,
        options.source.seed,
        results.seconds,
        options.rate,
        options.changes,
        results.period
    );
    for absence in &results.absent {
        let _ = writeln!(text, "- left out: {absence}");
    }
    answers(&mut text, results);
    growth(&mut text, results);
    writes(&mut text, results);
    faults(&mut text, &results.happened);
    for sentence in results.tallies.iter().flat_map(|tally| &tally.sentences) {
        let _ = writeln!(text, "- {sentence}");
    }
    if !results.failures.is_empty() {
        let _ = writeln!(text, "\n**Failed:**\n- {}", results.failures.join("\n- "));
    }
    text
}

fn answers(text: &mut String, results: &Results) {
    text.push_str("| | godwit run | godwit-dataplane | allowed |\n|---|---|---|---|\n");
    let mut row = |title: &str, cell: &dyn Fn(usize) -> String, allowed: &str| {
        let _ = writeln!(text, "| {title} | {} | {} | {allowed} |", cell(0), cell(1));
    };
    let tally = |side: usize| &results.tallies[side];
    row("queries over UDP, TCP", &|side| format!("{}, {}", tally(side).sent[0], tally(side).sent[1]), "–");
    row("answers compared", &|side| tally(side).checked.to_string(), "–");
    row("answers wrong", &|side| tally(side).wrong.to_string(), "0");
    let lost = format!("queries lost (no answer in {} s)", PATIENCE.as_secs());
    row(&lost, &|side| tally(side).lost_outside.to_string(), "0");
    row(
        "the same around kills, stops and floods of connections",
        &|side| tally(side).lost_inside.to_string(),
        "–",
    );
    row(
        "queries not asked; answers not missed, because this program had no CPU",
        &|side| format!("{}; {}", tally(side).unasked, tally(side).unjudged),
        "< 1 %",
    );
    row("SERVFAIL while no snapshot was left", &|side| tally(side).not_ready.to_string(), "–");
    row("asked again after the server closed a TCP connection", &|side| tally(side).retried.to_string(), "–");
    let quarter = |side: usize, which: usize| {
        let (count, [p50, p99]) = results.udp_quarters[side][which];
        if count == 0 { "–".to_owned() } else { format!("{p50:.0}, {p99:.0}") }
    };
    let overflow = |side: usize| {
        let name = "godwit_dataplane_receive_overflow_total";
        let last =
            |life: &[Sample]| life.iter().filter_map(|s| s.metrics.get(name)).copied().fold(0.0, f64::max);
        trend::lives(&results.samples[side]).into_iter().map(last).sum::<f64>()
    };
    row("datagrams that found the receive buffer full", &|side| format!("{:.0}", overflow(side)), "–");
    row("UDP p50, p99 in the first quarter, µs, outside of faults", &|side| quarter(side, 0), "–");
    row("UDP p50, p99 in the last quarter, µs, outside of faults", &|side| quarter(side, 3), "–");
    let cell = |side: usize| {
        drift(results, side).map_or("–".to_owned(), |drift| {
            format!("{drift:.2} {}", if drift <= goals::SOAK_DRIFT { "met" } else { "missed" })
        })
    };
    row("p99 of the last quarter ÷ of the first", &cell, &format!("goal ≤ {}", goals::SOAK_DRIFT));
}

/// The 99th percentile over UDP of the last quarter over that of the first; none when one of them is empty.
#[must_use]
pub fn drift(results: &Results, side: usize) -> Option<f64> {
    let quarters = &results.udp_quarters[side];
    let [(first_count, [_, first]), .., (last_count, [_, last])] = quarters;
    (*first_count > 0 && *last_count > 0 && *first > 0.0).then(|| last / first)
}

fn growth(text: &mut String, results: &Results) {
    text.push_str("\n| growth | godwit run | godwit-dataplane | allowed |\n|---|---|---|---|\n");
    let mut row = |title: &str, cell: &dyn Fn(&[Sample]) -> String, allowed: &str| {
        let [run, dataplane] = &results.samples;
        let _ = writeln!(text, "| {title} | {} | {} | {allowed} |", cell(run), cell(dataplane));
    };
    let slope = |samples: &[Sample]| match trend::memory(samples) {
        None => "–".to_owned(),
        Some(slope) => format!("{:+.2}{}", mib(slope.per_hour), telling(&slope)),
    };
    let allowed = format!("goal < {}, fails above {LEAK}", goals::SOAK_SLOPE);
    row("memory (PSS), MiB an hour, within lives of processes", &slope, &allowed);
    row(
        "from this much settled life, minutes: in all; the longest",
        &|samples| {
            let shown = |slope: Slope| format!("{:.0}; {:.0}", slope.seconds / 60.0, slope.longest / 60.0);
            trend::memory(samples).map_or("–".to_owned(), shown)
        },
        "–",
    );
    row(
        "memory, MiB: median, least to most",
        &|samples| {
            let of = samples.iter().filter(|sample| sample.pss > 0).map(|sample| mib(sample.pss as f64));
            Spread::of(of).map_or("–".to_owned(), |spread| spread.show(1))
        },
        "–",
    );
    row(
        "descriptors but for TCP connections, most that a life ended with over what it began with",
        &|samples| trend::descriptors(samples).map_or("–".to_owned(), |more| format!("{more:+.0}")),
        "no growth",
    );
    row(
        "threads, most",
        &|samples| samples.iter().map(|sample| sample.threads).max().unwrap_or_default().to_string(),
        "–",
    );
    row("processes", &|samples| trend::lives(samples).len().to_string(), "–");
}

fn telling(slope: &Slope) -> &'static str {
    if slope.tells() { "" } else { " (too short to tell)" }
}

fn writes(text: &mut String, results: &Results) {
    let writes = &results.writes;
    let refused: Vec<String> =
        writes.refused.iter().map(|(status, count)| format!("{count} with {status}")).collect();
    let latency = |quarter: usize| {
        let (_, [p50, p99]) = results.write_quarters[quarter];
        format!("{:.1} / {:.1}", p50 / 1_000.0, p99 / 1_000.0)
    };
    let _ = writeln!(text, "\n| writes through the API | |\n|---|---|");
    let mut row = |title: &str, cell: String| {
        let _ = writeln!(text, "| {title} | {cell} |");
    };
    row(
        "acknowledged; of these known to be served by then",
        format!("{}; {}", writes.acknowledged, writes.served),
    );
    row("refused", if refused.is_empty() { "0".to_owned() } else { refused.join(", ") });
    row(
        "without a response; of all in doubt carried out after all",
        format!("{}; {}", writes.in_doubt, writes.carried_out),
    );
    row(
        "looked up afterwards by the API; by DNS",
        format!("{}; {}", writes.looked_up[0], writes.looked_up[1]),
    );
    row("acknowledged and lost (allowed: 0)", writes.lost.to_string());
    row("p50 / p99 in the first quarter, ms, until served", latency(0));
    row("p50 / p99 in the last quarter, ms, until served", latency(3));
    let offered = &results.offered;
    row(
        "meanwhile: messages of floods; slow TCP connections opened, closed by the servers",
        format!("{}; {}, {}", offered.messages, offered.connections, offered.closed),
    );
}

fn faults(text: &mut String, happened: &[Happened]) {
    let _ = writeln!(
        text,
        "\n| fault | times | answers (or effect) after, s: median (least–most) | all as before after, s |\n|---|---|---|---|"
    );
    let mut kinds: BTreeMap<Fault, Vec<&Happened>> = BTreeMap::new();
    for one in happened {
        kinds.entry(one.fault).or_default().push(one);
    }
    for (fault, times) in kinds {
        let show = |figure: fn(&Happened) -> f64| {
            let spread = Spread::of(times.iter().map(|one| figure(one)));
            spread.map_or("–".to_owned(), |spread| spread.show(3))
        };
        let _ = writeln!(
            text,
            "| {fault} | {} | {} | {} |",
            times.len(),
            show(|one| one.answered),
            show(|one| one.whole)
        );
    }
    text.push('\n');
}

fn mib(octets: f64) -> f64 {
    octets / 1_048_576.0
}

#[cfg(test)]
mod tests {
    use super::super::shared::{Tally, Writes};
    use super::*;

    /// A run in which everything is right.
    fn good() -> Results {
        let tally = Tally { sent: [100, 10], checked: 110, lost_inside: 3, ..Tally::default() };
        let writes = Writes { acknowledged: 5, served: 5, ..Writes::default() };
        let mut udp_quarters = [[(0, [0.0; 2]); 4]; 2];
        udp_quarters[0] = [(9, [50.0, 100.0]), (9, [50.0, 500.0]), (9, [50.0, 90.0]), (9, [50.0, 120.0])];
        Results { tallies: [tally.clone(), tally], writes, udp_quarters, ..Results::default() }
    }

    #[test]
    fn what_must_not_be_makes_a_run_fail_and_says_why() {
        assert_eq!(verdicts(&good()), Vec::<String>::new());
        let sample = |metric: &'static str| Sample { metrics: [(metric, 1.0)].into(), ..Sample::default() };
        type Spoil = fn(&mut Results, fn(&'static str) -> Sample);
        let cases: [(&str, Spoil); 7] = [
            ("answers were wrong", |results, _| results.tallies[0].wrong = 1),
            ("queries were lost", |results, _| results.tallies[1].lost_outside = 1),
            ("no answer was checked", |results, _| results.tallies[1].checked = 0),
            ("acknowledged writes were lost", |results, _| results.writes.lost = 1),
            ("no write was acknowledged", |results, _| results.writes.acknowledged = 0),
            ("panics_total", |results, sample| {
                results.samples[0].push(sample("godwit_dataplane_panics_total"));
            }),
            ("quarantined_zones", |results, sample| {
                results.samples[0].push(sample("godwit_dataplane_quarantined_zones"));
            }),
        ];
        for (wanted, spoil) in cases {
            let mut results = good();
            spoil(&mut results, sample);
            let found = verdicts(&results);
            assert!(found.len() == 1 && found[0].contains(wanted), "{wanted}: {found:?}");
        }
    }

    /// A process that lives so many seconds and holds more each minute.
    fn life(seconds: usize, descriptors: usize, octets: usize) -> Results {
        let sample = |second: usize| Sample {
            at: second as f64,
            pid: 7,
            pss: (50 << 20) + (second * octets / 60) as u64,
            descriptors: 40 + second * descriptors / 60,
            quiet: true,
            metrics: [("godwit_dataplane_tcp_connections", 9.0)].into(),
            ..Sample::default()
        };
        Results { samples: [(0..seconds).map(sample).collect(), Vec::new()], ..good() }
    }

    #[test]
    fn descriptors_that_grow_make_a_run_fail() {
        assert_eq!(verdicts(&life(1_200, 0, 0)), Vec::<String>::new());
        let found = verdicts(&life(1_200, 1, 0));
        assert!(found.len() == 1 && found[0].contains("descriptors grow"), "{found:?}");
    }

    #[test]
    fn memory_that_grows_makes_a_long_run_fail() {
        assert_eq!(verdicts(&life(3_600, 0, 10 << 10)), Vec::<String>::new(), "600 KiB an hour");
        let found = verdicts(&life(3_600, 0, 1 << 20));
        assert!(found.len() == 1 && found[0].contains("memory grows by 60.0 MiB"), "{found:?}");
        assert_eq!(verdicts(&life(600, 0, 1 << 20)), Vec::<String>::new(), "too short to tell");
    }

    #[test]
    fn drift_is_the_last_quarter_over_the_first() {
        assert_eq!(drift(&good(), 0), Some(1.2));
        assert_eq!(drift(&good(), 1), None, "nothing was measured");
    }
}
