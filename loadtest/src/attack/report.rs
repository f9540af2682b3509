//! The table of the attacks: a row for each figure, a column for each server, the goal and whether Godwit meets it.

use std::fmt::Write as _;

use super::amplification::{self, Factor};
use super::overload::Offer;
use super::reflection::{self, Asked, Reflected};
use super::slow::{self, Slow};
use super::{Options, Results};
use crate::goals;
use crate::measure::Round;
use crate::report::{Report, Spread, machine};
use crate::server::kind::Kind;
use crate::server::setup::RateLimit;

/// A share of honest queries above which the generator did not overload the server.
const NOT_OVERLOADED: f64 = 0.97;
/// The generator's reach: less than this of what was meant to be offered is named.
const REACHED: f64 = 0.95;
/// Less is no lead: amplification is counted in octets, so that rounding is all there is.
const SAME: f64 = 0.005;

/// Works out the table.
#[must_use]
pub fn report(options: &Options, results: Results) -> Report<Options, Results> {
    let markdown = Table { results: &results, text: String::new() }.write(options);
    let failures = results.failures.clone();
    Report::new("attack", options.clone(), results, failures, markdown)
}

struct Table<'a> {
    results: &'a Results,
    text: String,
}

impl Table<'_> {
    fn write(mut self, options: &Options) -> String {
        let _ = writeln!(
            self.text,
            "Machine: {}. Seed {}. Server on CPU 0, generator on CPU 1, {} s of measurements in all.\n",
            machine(),
            options.source.seed,
            options.seconds
        );
        for entrant in &self.results.entrants {
            let _ = writeln!(self.text, "- {}: {}", entrant.kind.name(), entrant.version);
        }
        for absence in &self.results.absent {
            let _ = writeln!(self.text, "- {absence}");
        }
        let names: Vec<&str> = self.results.entrants.iter().map(|entrant| entrant.kind.name()).collect();
        let _ = writeln!(
            self.text,
            "\n| | {} | goal | Godwit |\n|---|{}---|---|",
            names.join(" | "),
            "---|".repeat(names.len())
        );
        self.overload();
        self.negative();
        self.slow(options);
        self.amplification();
        self.reflection();
        self.notes();
        if !self.results.failures.is_empty() {
            let _ = writeln!(self.text, "\n**Failed:**\n- {}", self.results.failures.join("\n- "));
        }
        self.text
    }

    /// A line that names a group of rows.
    fn group(&mut self, title: &str) {
        let _ = writeln!(self.text, "| **{title}** |{}", " |".repeat(self.results.entrants.len() + 2));
    }

    fn row(&mut self, title: &str, cell: &dyn Fn(Kind) -> Option<String>, goal: &str, met: Option<bool>) {
        let cells: Vec<String> = self
            .results
            .entrants
            .iter()
            .map(|entrant| cell(entrant.kind).unwrap_or_else(|| "–".to_owned()))
            .collect();
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "–",
        };
        let _ = writeln!(self.text, "| {title} | {} | {goal} | {verdict} |", cells.join(" | "));
    }

    fn overload(&mut self) {
        let results = self.results;
        if results.overload.is_empty() {
            return;
        }
        self.group("overload: served, % of own peak (offered; honest queries answered; their p99)");
        let peak = |kind| Some(format!("{:.0}", results.closed_loop.get(&kind)?.qps / 1_000.0));
        self.row("peak with hits, closed loop, thousand/s", &peak, "–", None);
        for (mix, servers) in &results.overload {
            let peak = |kind| Some(format!("{:.0}", servers.get(&kind)?.peak / 1_000.0));
            self.row(&format!("{mix}: peak, thousand/s"), &peak, "–", None);
            for (place, goal) in goals::OVERLOAD.iter().enumerate() {
                let found = |kind| servers.get(&kind).map(|found| (found.peak, &found.offers[place]));
                let cell = |kind| {
                    let (peak, offer) = found(kind)?;
                    Some(format!(
                        "{:.0} % ({:.1} ×; {:.0} %; {:.1} ms)",
                        offer.served / peak * 100.0,
                        offer.offered / peak,
                        offer.honest_answered * 100.0,
                        p99_ms(&offer.round).unwrap_or(f64::NAN)
                    ))
                };
                let met = found(Kind::Godwit).map(|(peak, offer)| overload_met(peak, offer, goal));
                let limit = format!("≥ {:.0} %, p99 ≤ {:.0} ms", goal.served * 100.0, goals::OVERLOAD_P99_MS);
                self.row(&format!("{mix}: {:.0} × offered", goal.factor), &cell, &limit, met.flatten());
            }
        }
    }

    fn negative(&mut self) {
        let results = self.results;
        if results.negative.is_empty() {
            return;
        }
        self.group("names that are not there");
        let cost = |kind, which: usize| {
            let rounds = &results.negative.get(&kind)?[which];
            Spread::of(rounds.iter().map(|round| round.cpu_us))
        };
        for (which, title) in ["hit, server CPU-µs", "NXDOMAIN, server CPU-µs"].into_iter().enumerate() {
            self.row(title, &|kind| cost(kind, which).map(|spread| spread.show(2)), "–", None);
        }
        let ratio = |kind| Some(cost(kind, 1)?.median / cost(kind, 0)?.median);
        let met = ratio(Kind::Godwit).map(|ratio| ratio <= goals::NEGATIVE);
        let goal = format!("≤ {}", goals::NEGATIVE);
        self.row("NXDOMAIN ÷ hit", &|kind| ratio(kind).map(|ratio| format!("{ratio:.2}")), &goal, met);
    }

    fn slow(&mut self, options: &Options) {
        let results = self.results;
        if results.slow.is_empty() {
            return;
        }
        self.group(&format!("slow TCP clients, {} wanted", options.connections.min(slow::CONNECTIONS)));
        let of = |kind: Kind| results.slow.get(&kind);
        let own = of(Kind::Godwit);
        self.row(
            "connections that stood at the end; closed by the server",
            &|kind| of(kind).map(|slow| format!("{}; {}", slow.standing[1], slow.fleet.closed)),
            "–",
            None,
        );
        self.row(
            "UDP p99 quiet, and under them, µs",
            &|kind| {
                let latency = |round: &Round| p99_ms(round).map_or(f64::NAN, |ms| ms * 1_000.0);
                of(kind).map(|slow| format!("{:.0}, {:.0}", latency(&slow.quiet), latency(&slow.stormy)))
            },
            "–",
            None,
        );
        let ratio = |slow: &Slow| Some(p99_ms(&slow.stormy)? / p99_ms(&slow.quiet)?);
        self.row(
            "UDP p99 ÷ own quiet p99",
            &|kind| of(kind).and_then(ratio).map(|ratio| format!("{ratio:.2}")),
            &format!("≤ {}", goals::SLOW_P99),
            own.and_then(ratio).map(|ratio| ratio <= goals::SLOW_P99),
        );
        self.row(
            "UDP queries lost, %",
            &|kind| of(kind).map(|slow| format!("{:.3}", slow.stormy.loss * 100.0)),
            "0",
            own.map(|slow| slow.stormy.loss == 0.0),
        );
        self.row(
            "memory grown by, MiB",
            &|kind| of(kind).map(|slow| format!("{:.0}", mib(slow.growth as f64))),
            &format!("≤ {:.0}", mib(goals::SLOW_MEMORY)),
            own.map(|slow| slow.growth as f64 <= goals::SLOW_MEMORY),
        );
        self.row(
            "honest new TCP connections served, %",
            &|kind| of(kind).map(|slow| format!("{:.1} of {}", served(slow) * 100.0, slow.honest.begun)),
            "100",
            own.map(|slow| slow.honest.served == slow.honest.begun && slow.honest.begun > 0),
        );
    }

    fn amplification(&mut self) {
        let results = self.results;
        if results.amplification.is_empty() {
            return;
        }
        self.group("amplification: answer ÷ query, DNS messages (with IP and UDP headers)");
        for title in amplification::titles() {
            let Some(servers) = results.amplification.get(title) else { continue };
            let cell = |kind| {
                let factor: &Factor = servers.get(&kind)?;
                Some(format!("{:.1} ({:.1})", factor.messages, factor.packets))
            };
            let peers = servers.iter().filter(|(kind, _)| kind.is_peer()).map(|(_, factor)| factor.packets);
            let best = peers.min_by(f64::total_cmp);
            let own = servers.get(&Kind::Godwit).map(|factor| factor.packets);
            let met = own.zip(best).map(|(own, best)| own <= best * (goals::AMPLIFICATION + SAME));
            self.row(title, &cell, "≤ best peer", met);
        }
    }

    fn reflection(&mut self) {
        let results = self.results;
        if results.reflection.is_empty() {
            return;
        }
        self.group("reflection: octets at the victim, % of those without rate limiting (a stranger's queries answered in full)");
        for asked in Asked::ALL {
            let Some(rows) = results.reflection.get(&asked) else { continue };
            let at = |rate_limit, kind| rows.get(&rate_limit)?.get(&kind);
            let without =
                |kind| at(RateLimit::Off, kind).filter(|reflected: &&Reflected| reflected.octets > 0.0);
            let cell = |kind| Some(format!("{:.1}", mib(without(kind)?.octets)));
            self.row(&format!("{asked}: without, MiB/s"), &cell, "–", None);
            for (rate_limit, title) in [(RateLimit::Default, "by default"), (RateLimit::Tuned, "tuned")] {
                let share = |kind| Some(at(rate_limit, kind)?.octets / without(kind)?.octets);
                let cell = |kind| {
                    let stranger = at(rate_limit, kind)?.stranger;
                    Some(format!("{:.1} ({:.0} %)", share(kind)? * 100.0, stranger * 100.0))
                };
                let met = share(Kind::Godwit).map(|share| share <= goals::REFLECTED);
                let goal = format!("≤ {:.0}", goals::REFLECTED * 100.0);
                self.row(&format!("{asked}: {title}"), &cell, &goal, met);
            }
        }
    }

    fn notes(&mut self) {
        let results = self.results;
        let mut notes = Vec::new();
        let short = results.overload.values().flat_map(|servers| servers.values()).any(|found| {
            found.offers.iter().any(|offer| offer.offered < found.peak * offer.factor * REACHED)
        });
        if short {
            notes.push(
                "Where less than the multiple was offered, the generator's core could offer no more; what was really offered \
                 stands beside it."
                    .to_owned(),
            );
        }
        if !results.overload.is_empty() {
            notes.push(
                "Overload: served is what the server took from its sockets. The kernel drops blindly what does not fit the receive buffer; \
                 fairness between client networks needs a packet filter in front."
                    .to_owned(),
            );
        }
        for (kind, slow) in &results.slow {
            notes.push(format!(
                "Slow TCP, {}: the generator's own work for its connections took up to {:.0} µs (p99) between two batches of queries, \
                 which counts in the latency.",
                kind.name(),
                slow.own_us
            ));
        }
        if !results.reflection.is_empty() {
            notes.push(format!(
                "Reflection: {}. Tuned: ten answers a second for one client network, slip 2, where the server has it; PowerDNS has no rate limiting.",
                reflection::describe()
            ));
        }
        for note in notes {
            let _ = writeln!(self.text, "\n{note}");
        }
    }
}

/// Met, missed, or nothing when the server was not overloaded after all.
fn overload_met(peak: f64, offer: &Offer, goal: &goals::OverloadGoal) -> Option<bool> {
    let calm = p99_ms(&offer.round).is_some_and(|ms| ms <= goals::OVERLOAD_P99_MS);
    let met = offer.served >= peak * goal.served && calm;
    (offer.honest_answered < NOT_OVERLOADED || met).then_some(met)
}

fn p99_ms(round: &Round) -> Option<f64> {
    round.latency_us.map(|latency| latency[1] / 1_000.0)
}

fn served(slow: &Slow) -> f64 {
    slow.honest.served as f64 / slow.honest.begun.max(1) as f64
}

fn mib(octets: f64) -> f64 {
    octets / 1_048_576.0
}
