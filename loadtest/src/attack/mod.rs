//! Under attack: what an attacker gets out of a server, and what honest clients still get, beside the peers.
//!
//! - [`overload`]: floods of hits, random subdomains, malformed messages.
//! - [`negative`]: what a name that is not there costs.
//! - [`slow`]: TCP clients that only take room.
//! - [`amplification`]: long answers to short questions.
//! - [`reflection`]: answers to a victim that asked nothing.
//!
//! Loads go to loopback and to network namespaces that the run makes; bounded in time, rate and count.

pub mod amplification;
pub mod counters;
pub mod flood;
pub mod namespaces;
pub mod negative;
pub mod overload;
pub mod packets;
pub mod reflection;
pub mod report;
pub mod slow;
pub mod zone;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use self::amplification::Factor;
use self::namespaces::Namespaces;
use self::negative::Questions;
use self::overload::Overload;
use self::packets::Mix;
use self::reflection::{Asked, Reflected};
use self::slow::Slow;
use crate::compare::{self, Entrant};
use crate::data::files::{self, ZoneFile};
use crate::data::{Dataset, Source, Workload};
use crate::interrupt;
use crate::measure::Round;
use crate::rig::Rig;
use crate::server::Running;
use crate::server::kind::Kind;
use crate::server::probe::Probe;
use crate::server::setup::{RateLimit, Setup};

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Floods at a multiple of the peak.
    Overload,
    /// The cost of names that are not there.
    Negative,
    /// TCP clients that only take room.
    Slow,
    /// Octets of answers over octets of queries.
    Amplification,
    /// What a victim receives.
    Reflection,
}

impl Part {
    /// The share of the run's time; amplification is counted, not timed.
    fn share(self) -> f64 {
        match self {
            Part::Overload => 0.45,
            Part::Negative => 0.1,
            Part::Slow => 0.2,
            Part::Amplification => 0.0,
            Part::Reflection => 0.25,
        }
    }
}

/// What to run.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// The data.
    pub source: Source,
    /// Which servers.
    pub servers: Vec<Kind>,
    /// Which parts.
    pub parts: Vec<Part>,
    /// Of measurements, all servers and parts together; starting servers and waiting come on top.
    pub seconds: f64,
    /// Slow connections wanted.
    pub connections: usize,
    /// Where data lies.
    pub data: PathBuf,
}

/// All that a run found.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// What ran.
    pub entrants: Vec<Entrant>,
    /// Left out, with the reason.
    pub absent: Vec<String>,
    /// The closed loop's peak with hits.
    pub closed_loop: BTreeMap<Kind, Round>,
    /// Floods.
    pub overload: BTreeMap<Mix, BTreeMap<Kind, Overload>>,
    /// Rounds with hits, and with names that are not there.
    pub negative: BTreeMap<Kind, [Vec<Round>; 2]>,
    /// Slow TCP clients.
    pub slow: BTreeMap<Kind, Slow>,
    /// Factors by row.
    pub amplification: BTreeMap<&'static str, BTreeMap<Kind, Factor>>,
    /// What reached the victim.
    pub reflection: BTreeMap<Asked, BTreeMap<RateLimit, BTreeMap<Kind, Reflected>>>,
    /// What makes the run fail: wrong answers, servers that ended. Goals that are missed stand in the table.
    pub failures: Vec<String>,
}

/// Rounds of hits and of names that are not there, alternating.
const NEGATIVE_ROUNDS: usize = 3;
/// Measurements of overload for one server and mix: two or three steps to the peak, twice and ten times it.
const OVERLOAD_STEPS: f64 = 4.5;
/// No measurement is shorter.
const SHORTEST: f64 = 0.2;

/// Runs it all.
///
/// # Errors
/// No peer is installed, a server does not start, or the user interrupted.
pub fn run(options: &Options) -> Result<Results> {
    let rig = Rig::set_up(&options.data)?;
    let mut results = Results::default();
    attack(options, rig.work(), &mut results)?;
    Ok(results)
}

fn attack(options: &Options, work: &Path, results: &mut Results) -> Result<()> {
    let programs = compare::programs(&options.servers, &mut results.entrants, &mut results.absent)?;
    let zones = zones(options, work, results)?;
    let run = Run { options, work, zones: &zones, servers: programs.len() };
    for (kind, program) in &programs {
        run.overload_and_more(*kind, program, results)?;
        run.slow(*kind, program, results)?;
    }
    if run.does(Part::Reflection) {
        run.reflection(&programs, results)?;
    }
    Ok(())
}

/// The small zone and the attacker's favourite.
fn zones(options: &Options, work: &Path, results: &mut Results) -> Result<Vec<ZoneFile>> {
    let mut zones = files::ensure(&options.data, &options.source, Dataset::Small)?;
    match zone::make(&work.join("zone")) {
        Ok(zone) => zones.push(zone),
        Err(error) => {
            absent(results, &format!("the signed zone, and with it amplification and reflection: {error:#}"));
        }
    }
    Ok(zones)
}

fn absent(results: &mut Results, what: &str) {
    eprintln!("left out: {what}");
    results.absent.push(format!("left out: {what}"));
}

struct Run<'a> {
    options: &'a Options,
    work: &'a Path,
    zones: &'a [ZoneFile],
    servers: usize,
}

impl Run<'_> {
    /// Whether a part is wanted and possible.
    fn does(&self, part: Part) -> bool {
        let signed = self.zones.iter().any(|zone| zone.signed);
        self.options.parts.contains(&part)
            && (signed || !matches!(part, Part::Amplification | Part::Reflection))
    }

    /// Seconds of one of `count` measurements that a part makes at each server.
    fn seconds(&self, part: Part, count: f64) -> f64 {
        let shares: f64 = self.options.parts.iter().map(|part| part.share()).sum();
        let own = self.options.seconds * part.share() / shares.max(part.share()).max(f64::MIN_POSITIVE);
        (own / (count * self.servers as f64)).max(SHORTEST)
    }

    fn start(&self, kind: Kind, program: &Path, tcp_connections: u32) -> Result<Running> {
        interrupt::check()?;
        eprintln!("starting {}", kind.name());
        let setup = Setup { tcp_connections, ..Setup::local(self.zones) };
        let mut server = Running::launch(kind, program, self.work, &setup)?;
        server.await_answers(Instant::now(), &Probe::spread(&self.options.source, Workload::Small, 16))?;
        Ok(server)
    }

    fn overload_and_more(&self, kind: Kind, program: &Path, results: &mut Results) -> Result<()> {
        let parts = [Part::Overload, Part::Negative, Part::Amplification];
        if !parts.into_iter().any(|part| self.does(part)) {
            return Ok(());
        }
        let mut server = self.start(kind, program, 1_000)?;
        if let Some(entrant) = results.entrants.iter_mut().find(|entrant| entrant.kind == kind) {
            entrant.configuration.clone_from(&server.configuration);
        }
        if self.does(Part::Negative) {
            self.negative(&server, results)?;
        }
        if self.does(Part::Amplification) {
            for (title, factor) in amplification::run(server.address)? {
                results.amplification.entry(title).or_default().insert(kind, factor);
            }
        }
        if self.does(Part::Overload) {
            self.overload(&server, results)?;
        }
        server.check_alive()
    }

    fn overload(&self, server: &Running, results: &mut Results) -> Result<()> {
        let (kind, source) = (server.kind, &self.options.source);
        let seconds = self.seconds(Part::Overload, OVERLOAD_STEPS * Mix::ALL.len() as f64);
        let peak = overload::closed_loop_peak(server, source, seconds)?;
        eprintln!("{}: {:.0} answers a second in a closed loop", kind.name(), peak.qps);
        note(results, &format!("{}, closed loop", kind.name()), &peak);
        for mix in Mix::ALL {
            let found = overload::run(server, source, mix, peak.qps.max(1_000.0), seconds)
                .with_context(|| format!("{} under a flood: {mix}", kind.name()))?;
            for offer in &found.offers {
                eprintln!(
                    "{}: {mix}, {} x: {:.0} offered, {:.0} served of a peak of {:.0}; honest p99 {:.0} us",
                    kind.name(),
                    offer.factor,
                    offer.offered,
                    offer.served,
                    found.peak,
                    offer.round.latency_us.map_or(f64::NAN, |latency| latency[1])
                );
                note(results, &format!("{}, {mix}, {} x", kind.name(), offer.factor), &offer.round);
            }
            results.overload.entry(mix).or_default().insert(kind, found);
        }
        results.closed_loop.insert(kind, peak);
        Ok(())
    }

    fn negative(&self, server: &Running, results: &mut Results) -> Result<()> {
        let source = &self.options.source;
        let seconds = self.seconds(Part::Negative, 2.0 * NEGATIVE_ROUNDS as f64);
        let questions = [false, true].map(|missing| Questions::new(source, missing));
        let mut rounds = [Vec::new(), Vec::new()];
        for _ in 0..NEGATIVE_ROUNDS {
            for (questions, rounds) in questions.iter().zip(&mut rounds) {
                let round = negative::run(server, questions, seconds)?;
                note(results, &format!("{}, hits against NXDOMAIN", server.kind.name()), &round);
                rounds.push(round);
            }
        }
        results.negative.insert(server.kind, rounds);
        Ok(())
    }

    fn slow(&self, kind: Kind, program: &Path, results: &mut Results) -> Result<()> {
        if !self.does(Part::Slow) {
            return Ok(());
        }
        let connections = slow::size().min(self.options.connections);
        // Every server may have as many as the attacker brings.
        let mut server = self.start(kind, program, u32::try_from(connections.max(16))?)?;
        let seconds = self.seconds(Part::Slow, 2.0);
        let signed = self.zones.iter().any(|zone| zone.signed);
        let slow = slow::run(&server, &self.options.source, signed, connections, seconds)
            .with_context(|| format!("{} under slow TCP clients", kind.name()))?;
        eprintln!(
            "{}: {} to {} of {connections} slow connections stood, {} of {} honest ones served, {} MiB more",
            kind.name(),
            slow.standing[0],
            slow.standing[1],
            slow.honest.served,
            slow.honest.begun,
            slow.growth >> 20
        );
        for (what, round) in [("quiet", &slow.quiet), ("slow TCP clients", &slow.stormy)] {
            note(results, &format!("{}, {what}", kind.name()), round);
        }
        if let Some(difference) = &slow.honest.difference {
            results.failures.push(format!("{}, honest TCP clients: {difference}", kind.name()));
        }
        results.slow.insert(kind, slow);
        server.check_alive()
    }

    fn reflection(&self, programs: &[(Kind, PathBuf)], results: &mut Results) -> Result<()> {
        let namespaces = match Namespaces::make() {
            Ok(namespaces) => namespaces,
            Err(error) => {
                absent(results, &format!("reflection, which needs root and iproute2: {error:#}"));
                return Ok(());
            }
        };
        // With limits, long enough that they bite; without, what arrives is the same at any moment.
        let limited = self.seconds(Part::Reflection, 2.0 * 1.5 * Asked::ALL.len() as f64).max(2.0 * SHORTEST);
        for (kind, program) in programs {
            for rate_limit in [RateLimit::Off, RateLimit::Default, RateLimit::Tuned] {
                interrupt::check()?;
                let seconds = if rate_limit == RateLimit::Off { limited / 4.0 } else { limited };
                eprintln!("{}: reflection, rate limiting {rate_limit:?}", kind.name());
                let found = reflection::run(
                    &namespaces,
                    (*kind, program),
                    self.work,
                    self.zones,
                    &self.options.source,
                    rate_limit,
                    seconds.max(SHORTEST),
                )?;
                for (asked, reflected) in found {
                    let rows = results.reflection.entry(asked).or_default();
                    rows.entry(rate_limit).or_default().insert(*kind, reflected);
                }
            }
        }
        Ok(())
    }
}

/// Wrong answers make the run fail; lost ones are what it measures.
fn note(results: &mut Results, what: &str, round: &Round) {
    if let Some(difference) = &round.difference {
        results
            .failures
            .push(format!("{what}: {} of {} answers differ: {difference}", round.different, round.compared));
    }
}
