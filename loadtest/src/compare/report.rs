//! The tables of the comparison: medians and spread of each row, ratios to the best peer and to the floor, goals beside them.

use std::fmt::Write as _;

use super::{Entrant, Options, Results};
use crate::data::{Dataset, Workload};
use crate::goals::{self, Goal};
use crate::measure::Round;
use crate::report::{Report, Spread, machine};
use crate::server::kind::Kind;

/// From this share on a core counts as saturated.
const BUSY: f64 = 0.9;

/// Works out the tables.
#[must_use]
pub fn report(options: &Options, results: Results) -> Report<Options, Results> {
    let markdown = Tables { options, results: &results }.write();
    let failures = results.failures.clone();
    Report::new("results", options.clone(), results, failures, markdown)
}

/// The command and configuration of each server.
#[must_use]
pub fn configurations(entrants: &[Entrant]) -> String {
    entrants.iter().map(|entrant| format!("## {}\n{}\n", entrant.version, entrant.configuration)).collect()
}

struct Tables<'a> {
    options: &'a Options,
    results: &'a Results,
}

impl Tables<'_> {
    fn write(&self) -> String {
        let options = self.options;
        let mut text = format!(
            "Machine: {}. Seed {}. Server on CPU 0, generator on CPU 1, {} interleaved rounds of {} s; median (least–most).\n",
            machine(),
            options.source.seed,
            options.rounds,
            options.seconds
        );
        if options.source.shrink > 1 {
            let _ = writeln!(
                text,
                "Sizes divided by {}: these figures compare with nothing else.",
                options.source.shrink
            );
        }
        for entrant in &self.results.entrants {
            let _ = writeln!(text, "- {}: {}", entrant.kind.name(), entrant.version);
        }
        for absence in &self.results.absent {
            let _ = writeln!(text, "- {absence}");
        }
        self.costs(&mut text);
        self.rates(&mut text);
        self.latencies(&mut text);
        self.loads(&mut text);
        self.dnsperf(&mut text);
        if !self.results.failures.is_empty() {
            let _ = writeln!(text, "\n**Failed:**\n- {}", self.results.failures.join("\n- "));
        }
        text
    }

    /// The header of a table with a column for each server.
    fn header(&self, text: &mut String, title: &str, more: &[&str]) {
        let servers = self.results.entrants.iter().map(|entrant| entrant.kind.name());
        let columns: Vec<&str> = servers.chain(more.iter().copied()).collect();
        let _ = write!(text, "\n| {title} | {} |\n|---|", columns.join(" | "));
        let _ = writeln!(text, "{}", "---|".repeat(columns.len()));
    }

    /// A row: one cell for each server.
    fn row(&self, text: &mut String, title: &str, cell: impl Fn(Kind) -> Option<String>, more: &[String]) {
        let cells =
            self.results.entrants.iter().map(|entrant| cell(entrant.kind).unwrap_or_else(|| "–".to_owned()));
        let cells: Vec<String> = cells.chain(more.iter().cloned()).collect();
        let _ = writeln!(text, "| {title} | {} |", cells.join(" | "));
    }

    fn costs(&self, text: &mut String) {
        if self.results.rounds.is_empty() {
            return;
        }
        let more = ["Godwit ÷ best peer", "goal", "Godwit ÷ floor", "later goals"];
        self.header(text, "server CPU-µs per answer", &more);
        for &workload in self.results.rounds.keys() {
            let cost = |kind| self.spread(workload, kind, |round| round.cpu_us);
            let ratios = self.ratios(goals::of(workload), &|kind| cost(kind).map(|spread| spread.median));
            self.row(text, &workload.to_string(), |kind| cost(kind).map(|spread| spread.show(2)), &ratios);
        }
    }

    fn rates(&self, text: &mut String) {
        if self.results.rounds.is_empty() {
            return;
        }
        self.header(text, "thousand answers a second (server's core busy)", &[]);
        for &workload in self.results.rounds.keys() {
            let cell = |kind| {
                let qps = self.spread(workload, kind, |round| round.qps / 1_000.0)?;
                let busy = self.spread(workload, kind, |round| round.busy * 100.0)?;
                Some(format!("{:.0} ({:.0} %)", qps.median, busy.median))
            };
            self.row(text, &workload.to_string(), cell, &[]);
        }
        let shared = self.results.rounds.iter().any(|(&workload, rounds)| {
            workload != Workload::LargeRate
                && rounds.keys().any(|&kind| {
                    self.spread(workload, kind, |round| round.busy).is_some_and(|busy| busy.median < BUSY)
                })
        });
        if shared {
            let _ = writeln!(
                text,
                "\nWhere a core was less than {:.0} % busy, others worked on it too or the generator was the slower one: the CPU time \
                 per answer is then that of half-empty batches, and answers a second do not compare.",
                BUSY * 100.0
            );
        }
    }

    fn latencies(&self, text: &mut String) {
        if !self.results.rounds.contains_key(&Workload::LargeRate) {
            return;
        }
        let title = format!("latency in µs at {} queries a second", self.options.rate);
        self.header(text, &title, &["Godwit ÷ best peer", "goal", "Godwit ÷ floor", "later goals"]);
        for (place, name) in ["p50", "p99", "p99.9"].into_iter().enumerate() {
            let at = |kind| {
                self.spread(Workload::LargeRate, kind, |round| {
                    round.latency_us.map_or(f64::NAN, |latency| latency[place])
                })
            };
            let goal = (name == "p99").then_some(goals::IDLE_P99);
            let ratios = self.ratios(goal, &|kind| at(kind).map(|spread| spread.median));
            self.row(text, name, |kind| at(kind).map(|spread| spread.show(0)), &ratios);
        }
        let lost = |kind| self.spread(Workload::LargeRate, kind, |round| round.loss * 100.0);
        self.row(
            text,
            "lost, %",
            |kind| lost(kind).map(|spread| spread.show(2)),
            &["–"; 4].map(str::to_owned),
        );
    }

    fn loads(&self, text: &mut String) {
        if self.results.loads.is_empty() {
            return;
        }
        self.header(text, "loading", &["Godwit ÷ best peer", "goal", "Godwit ÷ floor", "later goals"]);
        for (&dataset, loads) in &self.results.loads {
            let seconds = |kind| Spread::of(loads.get(&kind)?.seconds.iter().copied());
            let mib =
                |kind| Spread::of(loads.get(&kind)?.pss.iter().map(|&pss| pss as f64 / f64::from(1 << 20)));
            let goal = |goal| (dataset == Dataset::Large).then_some(goal);
            let load_ratios =
                self.ratios(goal(goals::LOAD), &|kind| seconds(kind).map(|spread| spread.median));
            let title = format!("{}: start to first answer, s", dataset.name());
            self.row(text, &title, |kind| seconds(kind).map(|spread| spread.show(2)), &load_ratios);
            let busy = |kind| Spread::of(loads.get(&kind)?.cpu_seconds.iter().copied());
            let busy_ratios = self.ratios(None, &|kind| busy(kind).map(|spread| spread.median));
            let title = format!("{}: CPU-s for it", dataset.name());
            self.row(text, &title, |kind| busy(kind).map(|spread| spread.show(2)), &busy_ratios);
            let memory_ratios =
                self.ratios(goal(goals::MEMORY), &|kind| mib(kind).map(|spread| spread.median));
            let title = format!("{}: PSS, MiB", dataset.name());
            self.row(text, &title, |kind| mib(kind).map(|spread| spread.show(0)), &memory_ratios);
        }
    }

    fn dnsperf(&self, text: &mut String) {
        if self.results.dnsperf.is_empty() {
            return;
        }
        self.header(text, "dnsperf beside it, first workload of the small zone", &[]);
        let spread = |kind, figure: fn(&crate::dnsperf::Figures) -> f64| {
            Spread::of(self.results.dnsperf.get(&kind)?.iter().map(figure))
        };
        let qps = |kind| Some(spread(kind, |figures| figures.qps / 1_000.0)?.show(0));
        self.row(text, "thousand answers a second", qps, &[]);
        let cost = |kind| Some(spread(kind, |figures| figures.cpu_us)?.show(2));
        self.row(text, "server CPU-µs per answer", cost, &[]);
        let lost = |kind| Some(spread(kind, |figures| figures.lost_percent)?.show(2));
        self.row(text, "lost, %", lost, &[]);
    }

    /// Godwit's figure over the best peer's and over the floor's, with the goals.
    fn ratios(&self, goal: Option<Goal>, figure: &dyn Fn(Kind) -> Option<f64>) -> Vec<String> {
        let peers = self.results.entrants.iter().map(|entrant| entrant.kind).filter(|kind| kind.is_peer());
        let best = peers.filter_map(figure).min_by(f64::total_cmp);
        let over = |other: Option<f64>| figure(Kind::Godwit).zip(other).map(|(own, other)| own / other);
        let to_best = over(best);
        let to_floor = over(figure(Kind::Echo));
        let show = |ratio: Option<f64>| ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let verdict = goal.map_or("–".to_owned(), |goal| {
            let met = to_best.map(|ratio| if ratio <= goal.best_peer { " met" } else { " missed" });
            format!("≤ {:.2}{}", goal.best_peer, met.unwrap_or_default())
        });
        let later = goal.map(|goal| {
            let best = goal.next_best_peer.map(|limit| format!("≤ {limit:.2} × best peer"));
            let floor = goal.next_floor.map(|limit| format!("≤ {limit:.2} × floor"));
            best.into_iter().chain(floor).collect::<Vec<_>>().join(", ")
        });
        let later = later.filter(|text| !text.is_empty()).unwrap_or_else(|| "–".to_owned());
        vec![show(to_best), verdict, show(to_floor), later]
    }

    fn spread(&self, workload: Workload, kind: Kind, figure: impl Fn(&Round) -> f64) -> Option<Spread> {
        Spread::of(self.results.rounds.get(&workload)?.get(&kind)?.iter().map(figure))
    }
}
