//! The command line.

use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::attack::{self, Part};
use crate::compare::{self, Options};
use crate::data::{Dataset, Source, Workload, files};
use crate::load::PATIENCE;
use crate::load::plan::{Plan, Shape};
use crate::load::queries::Queries;
use crate::report::{self, Report};
use crate::server::kind::Kind;
use crate::server::{GENERATOR_CPU, echo};
use crate::soak::faults::Fault;
use crate::{chaos, churn, cpu, interrupt, measure, propagate, query_log, recover, soak};

/// Load generator and side-by-side comparison with other servers.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  godwit-loadtest compare
  godwit-loadtest compare --workload small,large --server godwit,nsd,echo --rounds 5
  godwit-loadtest compare --shrink 100 --seconds 0.5 --rounds 1        a quick look that everything works
  godwit-loadtest churn
  godwit-loadtest propagate --cluster cluster-data/cluster.json        while `make run-cluster` runs
  godwit-loadtest attack-dns --part slow --server godwit,nsd
  godwit-loadtest soak --seconds 600
  godwit-loadtest chaos --seconds 600 --fault kill-relay,kill-postgres
  godwit-loadtest recover --names 1000000 --zones 100000
  godwit-loadtest data --dataset small
  godwit-loadtest ask --server 127.0.0.1:5300 --workload small         one server, started by hand"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start all servers on the same data, measure them in interleaved rounds, print ratios and goals
    Compare(Compare),
    /// Measure what changes through the API cost those who ask: `godwit run` on one CPU, queries at a fixed rate
    Churn(Churn),
    /// Measure how many changes a running cluster takes, and how soon every data plane answers with them
    Propagate(Propagate),
    /// Measure what the query log costs those who ask: off, to nowhere, and to somebody who never reads
    QueryLog(QueryLog),
    /// Attack Godwit and its peers: floods, slow TCP clients, amplification, reflection; print one table
    AttackDns(AttackDns),
    /// Everything at once with a fault each minute, against both programs of this workspace: answers, writes, memory, descriptors
    Soak(Soak),
    /// PostgreSQL, Redis, two control planes, three data planes, and one fault after another: is anything lost or wrong?
    Chaos(Chaos),
    /// How soon a data plane is back: from its snapshot, from the cache, from a control plane; and all of them after a rollback
    Recover(Recover),
    /// Write zone files, lists of zones and query files
    Data(Data),
    /// Offer one workload to a server that runs already, with the data of `data`
    Ask(Ask),
    /// Reflect queries: the floor of the comparison (it starts this itself)
    Echo {
        /// Where to listen
        #[arg(long, value_name = "ADDR:PORT")]
        listen: SocketAddrV4,
    },
    /// Put the tables of a finished run into a Markdown file, between its marks
    Publish {
        /// What `compare`, `churn`, `attack-dns` or `soak` wrote
        #[arg(long, default_value = "target/loadtest/results.json")]
        json: PathBuf,
        /// The file to change
        #[arg(long, default_value = "docs/performance.md")]
        into: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// What all draws start from
    #[arg(long, default_value_t = 1, env = "GODWIT_SEED")]
    seed: u64,
    /// Divide the number of names, zones and delegations by this; figures with more than 1 compare with nothing published
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    shrink: u64,
    /// Folder for data, kept from run to run
    #[arg(long, default_value = "target/loadtest", value_name = "DIR")]
    data: PathBuf,
}

impl Common {
    fn source(&self) -> Source {
        Source { seed: self.seed, shrink: self.shrink }
    }
}

#[derive(Debug, Args)]
struct Compare {
    #[command(flatten)]
    common: Common,
    /// Only these
    #[arg(long, value_delimiter = ',', default_values_t = Workload::ALL.map(|w| w.name().to_owned()), value_parser = workload_names())]
    workload: Vec<String>,
    /// Only these
    #[arg(long, value_delimiter = ',', value_enum, default_values = ["godwit", "nsd", "knot", "bind", "powerdns", "echo"])]
    server: Vec<Kind>,
    /// Interleaved rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Length of each measurement
    #[arg(long, default_value_t = 4.0, value_parser = seconds)]
    seconds: f64,
    /// Load before each measurement
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    warm_up: f64,
    /// Starts of each server for the figures of loading
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    loads: u16,
    /// UDP sockets of the generator
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    sockets: u16,
    /// Queries in flight on each
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=1024))]
    window: u16,
    /// Queries a second of `large-rate`
    #[arg(long, default_value_t = 80_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Leave dnsperf out
    #[arg(long)]
    no_dnsperf: bool,
    /// Where to write all figures
    #[arg(long, default_value = "target/loadtest/results.json", value_name = "FILE")]
    json: PathBuf,
}

#[derive(Debug, Args)]
struct Churn {
    #[command(flatten)]
    common: Common,
    /// Only these; Knot DNS and BIND are changed by UPDATE (RFC 2136), NSD is measured with nothing changing
    #[arg(long, value_delimiter = ',', value_enum, default_values = ["godwit", "nsd", "knot", "bind"])]
    server: Vec<Kind>,
    /// Interleaved rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Length of each measurement
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// Queries a second
    #[arg(long, default_value_t = 80_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Changes a second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    changes: u32,
    /// Single changes, to see how soon one is visible
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    singles: u32,
    /// RRsets in a request while the zone is filled
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    chunk: u16,
    /// Where to write all figures
    #[arg(long, default_value = "target/loadtest/churn.json", value_name = "FILE")]
    json: PathBuf,
}

#[derive(Debug, Args)]
struct AttackDns {
    #[command(flatten)]
    common: Common,
    /// Only these
    #[arg(long, value_delimiter = ',', value_enum, default_values = ["godwit", "nsd", "knot", "bind", "powerdns"])]
    server: Vec<Kind>,
    /// Only these
    #[arg(long, value_delimiter = ',', value_enum, default_values = ["overload", "negative", "slow", "amplification", "reflection"])]
    part: Vec<Part>,
    /// Seconds of measurements, all servers and parts together; starting servers and waiting come on top
    #[arg(long, default_value_t = 120.0, value_parser = long_seconds)]
    seconds: f64,
    /// Slow TCP connections, if descriptors allow
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(8..=10_000))]
    connections: u16,
    /// Where to write all figures
    #[arg(long, default_value = "target/loadtest/attack.json", value_name = "FILE")]
    json: PathBuf,
}

#[derive(Debug, Args)]
struct Soak {
    #[command(flatten)]
    common: Common,
    /// How long; filling at the start and looking up at the end come on top
    #[arg(long, default_value_t = 600.0, value_parser = long_seconds)]
    seconds: f64,
    /// Honest UDP queries a second, both servers together
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=13_000))]
    rate: u32,
    /// Changes a second; 50 make some 24 hours' worth in two
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    changes: u32,
    /// Only these
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Fault::ALL)]
    fault: Vec<Fault>,
    /// Where to write all figures
    #[arg(long, default_value = "target/loadtest/soak.json", value_name = "FILE")]
    json: PathBuf,
}

#[derive(Debug, Args)]
struct Data {
    #[command(flatten)]
    common: Common,
    /// Only these
    #[arg(long, value_delimiter = ',', value_enum, default_values = ["small", "large", "zones", "delegations"])]
    dataset: Vec<Dataset>,
}

#[derive(Debug, Args)]
struct Ask {
    #[command(flatten)]
    common: Common,
    /// The server
    #[arg(long, value_name = "ADDR:PORT")]
    server: SocketAddr,
    /// Its process, for CPU time
    #[arg(long)]
    pid: Option<i32>,
    /// What to ask
    #[arg(long, value_enum)]
    workload: Workload,
    /// Queries a second instead of as many as it takes; UDP only
    #[arg(long)]
    rate: Option<u32>,
    /// Length of the measurement
    #[arg(long, default_value_t = 4.0, value_parser = seconds)]
    seconds: f64,
    /// UDP sockets, or TCP connections
    #[arg(long, default_value_t = 4)]
    sockets: u16,
    /// Queries in flight on each
    #[arg(long, default_value_t = 128)]
    window: u16,
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// See the commands; also when an answer was wrong or too many queries were lost.
    pub fn run(self) -> Result<()> {
        if let Command::Echo { listen } = self.command {
            return echo::run(listen);
        }
        interrupt::install()?;
        match self.command {
            Command::Compare(compare) => compare.run(),
            Command::Churn(churn) => churn.run(),
            Command::Propagate(propagate) => propagate.run(),
            Command::QueryLog(query_log) => query_log.run(),
            Command::AttackDns(attack) => attack.run(),
            Command::Soak(soak) => soak.run(),
            Command::Chaos(chaos) => chaos.run(),
            Command::Recover(recover) => recover.run(),
            Command::Data(data) => data.run(),
            Command::Ask(ask) => ask.run(),
            Command::Publish { json, into } => report::publish(&json, &into),
            Command::Echo { .. } => unreachable!("handled above"),
        }
    }
}

impl Compare {
    fn run(self) -> Result<()> {
        let workloads = Workload::ALL
            .into_iter()
            .filter(|workload| self.workload.iter().any(|name| name == workload.name()));
        let options = Options {
            source: self.common.source(),
            workloads: workloads.collect(),
            servers: Kind::ALL.into_iter().filter(|kind| self.server.contains(kind)).collect(),
            rounds: usize::from(self.rounds),
            seconds: self.seconds,
            warm_up_seconds: self.warm_up,
            sockets: self.sockets,
            window: self.window,
            rate: self.rate,
            loads: usize::from(self.loads),
            dnsperf: !self.no_dnsperf,
            data: self.common.data,
        };
        fs::create_dir_all(&options.data).with_context(|| format!("making {}", options.data.display()))?;
        let results = compare::run(&options)?;
        let configurations = compare::report::configurations(&results.entrants);
        conclude(&self.json, &configurations, &compare::report::report(&options, results))
    }
}

#[derive(Debug, Args)]
struct QueryLog {
    #[command(flatten)]
    common: Common,
    /// Interleaved rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Length of each measurement
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Where to write all figures
    #[arg(long, default_value = "target/loadtest/query-log.json", value_name = "FILE")]
    json: PathBuf,
}

impl QueryLog {
    fn run(self) -> Result<()> {
        let options = query_log::Options {
            source: self.common.source(),
            rounds: usize::from(self.rounds),
            seconds: self.seconds,
            data: self.common.data,
        };
        fs::create_dir_all(&options.data).with_context(|| format!("making {}", options.data.display()))?;
        let results = query_log::run(&options)?;
        write_json(&self.json, &results)?;
        println!("{}", results.markdown());
        verdict(&results.failures)
    }
}

#[derive(Debug, Args)]
struct Propagate {
    /// What `make run-cluster` wrote
    #[arg(long, default_value = "cluster-data/cluster.json", value_name = "FILE")]
    cluster: PathBuf,
    /// Clients that send the next change when the last is acknowledged
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// Zones that they change
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    zones: u32,
    /// RRsets of a large change set
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    large: u32,
    /// Interleaved rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Length of each measurement
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// Changes a second while it is measured how soon they are answered
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Only these, in this order but for `rate`, which comes last
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = propagate::Part::ALL)]
    part: Vec<propagate::Part>,
    /// Where to write all figures
    #[arg(long, default_value = "target/loadtest/propagate.json", value_name = "FILE")]
    json: PathBuf,
}

impl Propagate {
    fn run(self) -> Result<()> {
        let options = propagate::Options {
            cluster: self.cluster,
            clients: usize::from(self.clients),
            zones: self.zones,
            large: self.large,
            seconds: self.seconds,
            rounds: usize::from(self.rounds),
            rate: self.rate,
            parts: self.part,
        };
        conclude(&self.json, "", &propagate::report::report(&options, propagate::run(&options)?))
    }
}

impl Churn {
    fn run(self) -> Result<()> {
        let options = churn::Options {
            source: self.common.source(),
            // Here Godwit is the whole of it: `godwit run`.
            servers: Kind::ALL
                .into_iter()
                .filter(|kind| *kind != Kind::Echo && self.server.contains(kind))
                .map(|kind| if kind == Kind::Godwit { Kind::GodwitRun } else { kind })
                .collect(),
            rounds: usize::from(self.rounds),
            seconds: self.seconds,
            rate: self.rate,
            changes: self.changes,
            singles: self.singles,
            chunk: usize::from(self.chunk),
            data: self.common.data,
        };
        fs::create_dir_all(&options.data).with_context(|| format!("making {}", options.data.display()))?;
        conclude(&self.json, "", &churn::report::report(&options, churn::run(&options)?))
    }
}

impl AttackDns {
    fn run(self) -> Result<()> {
        let options = attack::Options {
            source: self.common.source(),
            servers: Kind::ALL
                .into_iter()
                .filter(|kind| *kind != Kind::Echo && self.server.contains(kind))
                .collect(),
            parts: self.part,
            seconds: self.seconds,
            connections: usize::from(self.connections),
            data: self.common.data,
        };
        fs::create_dir_all(&options.data).with_context(|| format!("making {}", options.data.display()))?;
        let results = attack::run(&options)?;
        let configurations = compare::report::configurations(&results.entrants);
        conclude(&self.json, &configurations, &attack::report::report(&options, results))
    }
}

fn write_json(path: &Path, report: &impl Serialize) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, serde_json::to_string_pretty(report)?)
        .with_context(|| format!("writing {}", path.display()))?;
    println!("All figures: {}\n", path.display());
    Ok(())
}

impl Soak {
    fn run(self) -> Result<()> {
        let options = soak::Options {
            source: self.common.source(),
            seconds: self.seconds,
            rate: self.rate,
            changes: self.changes,
            faults: Fault::ALL.into_iter().filter(|fault| self.fault.contains(fault)).collect(),
            data: self.common.data,
        };
        fs::create_dir_all(&options.data).with_context(|| format!("making {}", options.data.display()))?;
        conclude(&self.json, "", &soak::report::report(&options, soak::run(&options)?))
    }
}

/// Of those who start a cluster of their own.
#[derive(Debug, Args)]
struct Folders {
    /// Folder of Godwit's programs; default that of this one
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Folder for what the programs write
    #[arg(long, default_value = "target/loadtest", value_name = "DIR")]
    data: PathBuf,
}

impl Folders {
    fn programs(&self) -> Result<PathBuf> {
        match &self.programs {
            Some(folder) => Ok(folder.clone()),
            None => Ok(std::env::current_exe()?.parent().context("this program is nowhere")?.to_owned()),
        }
    }
}

#[derive(Debug, Args)]
struct Chaos {
    /// What all draws start from
    #[arg(long, default_value_t = 1, env = "GODWIT_SEED")]
    seed: u64,
    /// Length of the run; the fault under way is brought to its end
    #[arg(long, default_value_t = 600.0, value_parser = long_seconds)]
    seconds: f64,
    /// Only these
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = chaos::faults::Fault::ALL)]
    fault: Vec<chaos::faults::Fault>,
    #[command(flatten)]
    folders: Folders,
    /// Folder of Godwit's programs of another version: rolling restarts go over to them and back, all but the first of each kind
    #[arg(long, value_name = "DIR")]
    other_programs: Option<PathBuf>,
    /// Where all figures go
    #[arg(long, default_value = "target/loadtest/chaos.json", value_name = "FILE")]
    json: PathBuf,
}

impl Chaos {
    fn run(self) -> Result<()> {
        let options = chaos::Options {
            seed: self.seed,
            seconds: self.seconds,
            faults: self.fault,
            programs: self.folders.programs()?,
            other_programs: self.other_programs,
            data: self.folders.data,
        };
        conclude(&self.json, "", &chaos::report::report(&options, chaos::run(&options)?))
    }
}

#[derive(Debug, Args)]
struct Recover {
    /// Names of one large zone
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    names: u32,
    /// Zones of a few records
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(8..=1_000_000))]
    zones: u32,
    /// Records that are rolled back
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    records: u32,
    /// Times that each is done
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Length of a measurement at a fixed rate
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// Changes a second meanwhile
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    #[command(flatten)]
    folders: Folders,
    /// Where all figures go
    #[arg(long, default_value = "target/loadtest/recover.json", value_name = "FILE")]
    json: PathBuf,
}

impl Recover {
    fn run(self) -> Result<()> {
        let options = recover::Options {
            names: self.names,
            zones: self.zones,
            records: self.records,
            rounds: usize::from(self.rounds),
            seconds: self.seconds,
            rate: self.rate,
            programs: self.folders.programs()?,
            data: self.folders.data,
        };
        conclude(&self.json, "", &recover::report::report(&options, recover::run(&options)?))
    }
}

/// Keeps all figures, shows the tables, and is an error when something was wrong or lost.
fn conclude<O: Serialize, R: Serialize>(json: &Path, above: &str, report: &Report<O, R>) -> Result<()> {
    write_json(json, report)?;
    println!("{above}");
    println!("{}", report.markdown);
    verdict(&report.failures)
}

/// An error when something was wrong or lost.
fn verdict(failures: &[String]) -> Result<()> {
    anyhow::ensure!(failures.is_empty(), "{} runs failed:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

impl Data {
    fn run(self) -> Result<()> {
        let source = self.common.source();
        for &dataset in &self.dataset {
            let zones = files::ensure(&self.common.data, &source, dataset)?;
            let list = self.common.data.join(format!("{}.zones", dataset.name()));
            let lines: String =
                zones.iter().map(|zone| format!("{}\t{}\n", zone.origin, zone.path.display())).collect();
            fs::write(&list, lines).with_context(|| format!("writing {}", list.display()))?;
            println!("{} zones: {}", zones.len(), list.display());
        }
        for workload in Workload::ALL.into_iter().filter(|w| self.dataset.contains(&w.dataset())) {
            println!("{}", files::write_queries(&self.common.data, &source, workload)?.display());
        }
        Ok(())
    }
}

impl Ask {
    fn run(self) -> Result<()> {
        cpu::pin(GENERATOR_CPU)?;
        let source = self.common.source();
        let shape = match (self.workload.tcp(), self.rate) {
            (true, Some(_)) => bail!("--rate is for UDP workloads"),
            (true, None) if self.workload == Workload::TcpConnect => {
                Shape::TcpConnect { concurrent: self.sockets }
            }
            (true, None) => Shape::Tcp { connections: self.sockets, in_flight: self.window },
            (false, Some(per_second)) => Shape::Rate { sockets: self.sockets, per_second },
            (false, None) => Shape::Saturate { sockets: self.sockets, window: self.window },
        };
        let plan = Plan {
            server: self.server,
            shape,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs_f64(self.seconds),
            patience: PATIENCE,
            samples: 2 * measure::SAMPLES,
        };
        let queries = Queries::of(&source, self.workload);
        let processes = self.pid.map(cpu::tree).unwrap_or_default();
        let outcome = measure::offer(&plan, &queries, &mut || cpu::seconds(&processes))?;
        interrupt::check()?;
        let round = measure::judge(&outcome, &source, self.workload, &queries, false);
        println!("{}", serde_json::to_string_pretty(&round)?);
        round.failure().map_or(Ok(()), |failure| bail!(failure))
    }
}

fn workload_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(Workload::ALL.map(Workload::name))
}

/// Seconds with a fraction, up to ten minutes.
fn seconds(text: &str) -> Result<f64, String> {
    within(text, 600.0)
}

/// Seconds with a fraction, up to a day.
fn long_seconds(text: &str) -> Result<f64, String> {
    within(text, 86_400.0)
}

fn within(text: &str, most: f64) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is not a number of seconds"))?;
    if (0.05..=most).contains(&seconds) { Ok(seconds) } else { Err(format!("0.05 to {most} seconds")) }
}
