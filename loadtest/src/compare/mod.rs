//! The comparison: for each set of data all servers are started, then measured in interleaved rounds (A B C A B C).

pub mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::data::files::{self, ZoneFile};
use crate::data::{Dataset, Source, Workload};
use crate::load::PATIENCE;
use crate::load::plan::{Plan, Shape};
use crate::load::queries::Queries;
use crate::measure::{self, Round};
use crate::rig::Rig;
use crate::server::Running;
use crate::server::kind::Kind;
use crate::server::probe::Probe;
use crate::{cpu, dnsperf, interrupt};

/// What to compare and how long.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// The data.
    pub source: Source,
    /// Rows.
    pub workloads: Vec<Workload>,
    /// Columns.
    pub servers: Vec<Kind>,
    /// Interleaved rounds.
    pub rounds: usize,
    /// Of each measurement.
    pub seconds: f64,
    /// Before each.
    pub warm_up_seconds: f64,
    /// UDP sockets of the generator.
    pub sockets: u16,
    /// Queries in flight on each in the closed loop.
    pub window: u16,
    /// Queries a second in the open loop.
    pub rate: u32,
    /// Starts of each server with the 1M-name zone and with the 100k zones, for the figures of loading.
    pub loads: usize,
    /// Whether dnsperf runs beside.
    pub dnsperf: bool,
    /// Where data lies.
    pub data: PathBuf,
}

/// A server of the run.
#[derive(Clone, Debug, Serialize)]
pub struct Entrant {
    /// Which one.
    pub kind: Kind,
    /// What it says about itself.
    pub version: String,
    /// Command and configuration of one start.
    pub configuration: String,
}

/// Loading one set of data.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Loads {
    /// From start to first right answer, each start.
    pub seconds: Vec<f64>,
    /// CPU-seconds of all processes until a moment after that: other than wall time, true on a busy machine too.
    pub cpu_seconds: Vec<f64>,
    /// Proportional set size of all processes a second after it, each start, in octets.
    pub pss: Vec<u64>,
}

/// All that a run found.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// What ran.
    pub entrants: Vec<Entrant>,
    /// Left out, with the reason.
    pub absent: Vec<String>,
    /// Rounds by workload and server.
    pub rounds: BTreeMap<Workload, BTreeMap<Kind, Vec<Round>>>,
    /// Loading by data and server.
    pub loads: BTreeMap<Dataset, BTreeMap<Kind, Loads>>,
    /// dnsperf on the first workload.
    pub dnsperf: BTreeMap<Kind, Vec<dnsperf::Figures>>,
    /// What makes the run fail.
    pub failures: Vec<String>,
}

/// Runs the comparison. What went wrong with answers or loss is in `failures`.
///
/// # Errors
/// No peer is installed, a server does not start, or the user interrupted.
pub fn run(options: &Options) -> Result<Results> {
    let rig = Rig::set_up(&options.data)?;
    let mut results = Results::default();
    compare(options, rig.work(), &mut results)?;
    Ok(results)
}

fn compare(options: &Options, work: &Path, results: &mut Results) -> Result<()> {
    let programs = programs(&options.servers, &mut results.entrants, &mut results.absent)?;
    for dataset in Dataset::ALL {
        let workloads: Vec<Workload> =
            options.workloads.iter().copied().filter(|workload| workload.dataset() == dataset).collect();
        let Some(&first) = workloads.first() else { continue };
        progress(&format!("data: {}", dataset.name()));
        let zones = files::ensure(&options.data, &options.source, dataset)?;
        let probes = Probe::spread(&options.source, first, 16);
        let start = |kind: Kind, program: &Path| -> Result<Running> {
            interrupt::check()?;
            progress(&format!("{}: starting {}", dataset.name(), kind.name()));
            Running::start(kind, program, work, &zones, &probes)
        };
        let weighs = matches!(dataset, Dataset::Large | Dataset::Zones);
        for _ in 1..if weighs { options.loads } else { 1 } {
            for (kind, program) in programs.iter().filter(|(kind, _)| *kind != Kind::Echo) {
                let server = start(*kind, program)?;
                weigh(results, dataset, &server);
            }
        }
        let mut servers = Vec::new();
        for (kind, program) in &programs {
            let server = start(*kind, program)?;
            if weighs && *kind != Kind::Echo {
                weigh(results, dataset, &server);
            }
            if let Some(entrant) = results.entrants.iter_mut().find(|entrant| entrant.kind == *kind) {
                entrant.configuration.clone_from(&server.configuration);
            }
            servers.push(server);
        }
        for workload in workloads {
            interleave(options, workload, &servers, results)?;
        }
        if dataset == Dataset::Small && options.dnsperf {
            beside(options, first, &servers, results)?;
        }
    }
    Ok(())
}

/// The programs that are there; who runs and who is missing is noted.
///
/// # Errors
/// Godwit is not built, or peers are wanted and none is installed.
pub fn programs(
    servers: &[Kind],
    entrants: &mut Vec<Entrant>,
    absent: &mut Vec<String>,
) -> Result<Vec<(Kind, PathBuf)>> {
    let mut programs = Vec::new();
    for &kind in servers {
        let Some(program) = kind.program() else {
            if kind == Kind::Godwit {
                bail!(
                    "godwit-dataplane is not beside this program: cargo build --release -p godwit-dataplane"
                );
            }
            let absence = format!("{} is not installed and is left out", kind.name());
            progress(&absence);
            absent.push(absence);
            continue;
        };
        let version = kind.version(&program)?;
        progress(&format!("{}: {version} ({})", kind.name(), program.display()));
        entrants.push(Entrant { kind, version, configuration: String::new() });
        programs.push((kind, program));
    }
    let wanted = servers.iter().any(|kind| kind.is_peer());
    anyhow::ensure!(
        !wanted || programs.iter().any(|(kind, _)| kind.is_peer()),
        "no peer is installed (nsd, knotd, named, pdns_server): there is nothing to compare with"
    );
    Ok(programs)
}

/// Notes how long the server took to load and what it holds a second later.
fn weigh(results: &mut Results, dataset: Dataset, server: &Running) {
    let cpu_seconds = cpu::seconds(&server.processes());
    std::thread::sleep(Duration::from_secs(1));
    let pss = cpu::pss(&server.processes());
    let loads = results.loads.entry(dataset).or_default().entry(server.kind).or_default();
    loads.seconds.push(server.load_seconds);
    loads.cpu_seconds.push(cpu_seconds);
    loads.pss.push(pss);
    progress(&format!(
        "{}: {} loaded in {:.2} s, {cpu_seconds:.2} CPU-s, PSS {} MiB",
        dataset.name(),
        server.kind.name(),
        server.load_seconds,
        pss >> 20
    ));
}

fn interleave(
    options: &Options,
    workload: Workload,
    servers: &[Running],
    results: &mut Results,
) -> Result<()> {
    let queries = Queries::of(&options.source, workload);
    for number in 1..=options.rounds {
        for server in servers.iter().filter(|server| !(workload.tcp() && server.kind == Kind::Echo)) {
            interrupt::check()?;
            let plan = plan(options, workload, server);
            let round = measure::round(server, &options.source, workload, &queries, &plan)
                .with_context(|| format!("{workload}: {}", server.kind.name()))?;
            // A peer that cannot keep up with a fixed rate loses what it cannot answer: a figure of its own, in the table.
            let may_lose = workload == Workload::LargeRate && server.kind.is_peer();
            let failure = if may_lose { round.wrong_answers() } else { round.failure() };
            let failure = failure.or_else(|| {
                let too_few = server.kind != Kind::Echo && round.compared < measure::SAMPLES;
                too_few.then(|| format!("only {} full answers to compare", round.compared))
            });
            progress(&format!(
                "{workload}: round {number}, {}: {:.2} us, {:.0} q/s, core {:.0} % busy{}",
                server.kind.name(),
                round.cpu_us,
                round.qps,
                round.busy * 100.0,
                failure.as_ref().map_or(String::new(), |failure| format!(" FAILED: {failure}"))
            ));
            if let Some(failure) = failure {
                results
                    .failures
                    .push(format!("{workload}, {}, round {number}: {failure}", server.kind.name()));
            }
            results.rounds.entry(workload).or_default().entry(server.kind).or_default().push(round);
        }
    }
    Ok(())
}

fn beside(options: &Options, workload: Workload, servers: &[Running], results: &mut Results) -> Result<()> {
    if dnsperf::version().is_none() {
        progress("dnsperf is not installed and is left out");
        results.absent.push("dnsperf is not installed and is left out".to_owned());
        return Ok(());
    }
    let queries = files::write_queries(&options.data, &options.source, workload)?;
    for _ in 0..options.rounds {
        for server in servers {
            interrupt::check()?;
            let figures = dnsperf::run(server, &queries, options.seconds.ceil().max(1.0) as u64)?;
            progress(&format!("dnsperf: {}: {:.0} q/s", server.kind.name(), figures.qps));
            results.dnsperf.entry(server.kind).or_default().push(figures);
        }
    }
    Ok(())
}

fn plan(options: &Options, workload: Workload, server: &Running) -> Plan {
    let shape = match workload {
        Workload::LargeRate => Shape::Rate { sockets: options.sockets, per_second: options.rate },
        Workload::Tcp10 => Shape::Tcp { connections: 32, in_flight: 10 },
        Workload::Tcp1 => Shape::Tcp { connections: 32, in_flight: 1 },
        Workload::TcpConnect => Shape::TcpConnect { concurrent: 32 },
        _ => Shape::Saturate { sockets: options.sockets, window: options.window },
    };
    Plan {
        server: server.address,
        shape,
        warm_up: Duration::from_secs_f64(options.warm_up_seconds),
        duration: Duration::from_secs_f64(options.seconds),
        patience: PATIENCE,
        samples: 2 * measure::SAMPLES,
    }
}

/// A line for the person who waits, on stderr.
fn progress(line: &str) {
    eprintln!("{line}");
}

/// The zones of a dataset, for those who start a server by hand.
///
/// # Errors
/// A file cannot be written.
pub fn make_data(
    data: &Path,
    source: &Source,
    datasets: &[Dataset],
) -> Result<Vec<(Dataset, Vec<ZoneFile>)>> {
    datasets
        .iter()
        .map(|&dataset| Ok((dataset, files::ensure(data, source, dataset)?)))
        .collect::<Result<Vec<_>>>()
}
