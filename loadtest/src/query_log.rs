//! What the query log costs those who ask: the same server with the log off, with all queries logged to nowhere, and with
//! all of them logged to somebody who never reads. Everything on the server's one CPU, the thread that writes included.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::data::files;
use crate::data::{Dataset, Source, Workload};
use crate::interrupt;
use crate::load::PATIENCE;
use crate::load::plan::{Plan, Shape};
use crate::load::queries::Queries;
use crate::measure::{self, Round};
use crate::rig::Rig;
use crate::server::Running;
use crate::server::kind::Kind;
use crate::server::probe::Probe;
use crate::server::setup::Setup;

/// What to run.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// The data.
    pub source: Source,
    /// Interleaved rounds.
    pub rounds: usize,
    /// Of each measurement.
    pub seconds: f64,
    /// Where data lies.
    pub data: PathBuf,
}

/// A way to set up the log.
struct Case {
    name: &'static str,
    mode: &'static str,
    format: &'static str,
    target: String,
}

/// The rounds of one way to set up the log.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Which.
    pub name: &'static str,
    /// Its rounds.
    pub rounds: Vec<Round>,
}

/// All that a run found.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// The log off comes first.
    pub cases: Vec<Measured>,
    /// What makes the run fail.
    pub failures: Vec<String>,
}

/// Runs it all.
///
/// # Errors
/// `godwit-dataplane` is not built or does not start, or the user interrupted.
pub fn run(options: &Options) -> Result<Results> {
    let rig = Rig::set_up(&options.data)?;
    measure_all(options, rig.work())
}

fn measure_all(options: &Options, work: &Path) -> Result<Results> {
    let program = Kind::Godwit.program().context("cargo build --release -p godwit-dataplane")?;
    let socket = work.join("nobody-reads.sock");
    // Connections wait in its queue and are never accepted.
    let _listener = UnixListener::bind(&socket).with_context(|| format!("binding {}", socket.display()))?;
    let case = |name, mode, format, target: &str| Case { name, mode, format, target: target.to_owned() };
    let cases = [
        case("off", "off", "json", "/dev/null"),
        case("full, nobody reads", "full", "json", &format!("unix:{}", socket.display())),
        case("full, JSON to /dev/null", "full", "json", "/dev/null"),
        case("full, dnstap to /dev/null", "full", "dnstap", "/dev/null"),
        case("one in 100, JSON to /dev/null", "sampled", "json", "/dev/null"),
    ];
    let workload = Workload::Small;
    let zones = files::ensure(&options.data, &options.source, Dataset::Small)?;
    let probes = Probe::spread(&options.source, workload, 16);
    let mut servers = Vec::new();
    for case in &cases {
        interrupt::check()?;
        let environment = [
            ("GODWIT_QUERY_LOG__MODE", case.mode),
            ("GODWIT_QUERY_LOG__FORMAT", case.format),
            ("GODWIT_QUERY_LOG__TARGET", &case.target),
        ];
        let mut server =
            Running::launch_with(Kind::Godwit, &program, work, &Setup::local(&zones), &environment)?;
        server.await_answers(std::time::Instant::now(), &probes)?;
        servers.push(server);
    }
    let mut results = Results {
        cases: cases.iter().map(|case| Measured { name: case.name, rounds: Vec::new() }).collect(),
        failures: Vec::new(),
    };
    let queries = Queries::of(&options.source, workload);
    for number in 1..=options.rounds {
        for (server, measured) in servers.iter().zip(&mut results.cases) {
            interrupt::check()?;
            let plan = Plan {
                server: server.address,
                shape: Shape::Saturate { sockets: 4, window: 32 },
                warm_up: Duration::from_secs(1),
                duration: Duration::from_secs_f64(options.seconds),
                samples: 2 * measure::SAMPLES,
                patience: PATIENCE,
            };
            let round = measure::round(server, &options.source, workload, &queries, &plan)?;
            eprintln!("round {number}, {}: {:.0} q/s, {:.2} us", measured.name, round.qps, round.cpu_us);
            if let Some(failure) = round.failure() {
                results.failures.push(format!("{}, round {number}: {failure}", measured.name));
            }
            measured.rounds.push(round);
        }
    }
    Ok(results)
}

impl Results {
    /// A table of medians: what a query costs the server, and answers a second; each beside what it is with the log off,
    /// round by round.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = "| query log | server CPU-µs per query | of that with it off | answers a second | of those with it off |\n\
                        |---|---|---|---|---|\n"
            .to_owned();
        let Some(off) = self.cases.first() else { return text };
        for case in &self.cases {
            let column = |figure: fn(&Round) -> f64| {
                let pairs = case.rounds.iter().zip(&off.rounds);
                let shares = pairs.map(|(round, off)| 100.0 * figure(round) / figure(off)).collect();
                (median(case.rounds.iter().map(figure).collect()), median(shares))
            };
            let ((cost, cost_share), (speed, speed_share)) =
                (column(|round| round.cpu_us), column(|round| round.qps));
            let name = case.name;
            text.push_str(&format!(
                "| {name} | {cost:.2} | {cost_share:.1} % | {speed:.0} | {speed_share:.1} % |\n"
            ));
        }
        text
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn median(values: Vec<f64>) -> f64 {
    let values = sorted(values);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
