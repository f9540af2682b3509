//! What changes cost those who ask: `godwit run` confined to one CPU with the 1M-name zone, its own latency at a fixed rate
//! while nothing changes and while records change through its API, and how soon one change is visible. Beside it the peers,
//! and those of them that take UPDATE messages (RFC 2136) under the same changes.

pub mod changes;
pub mod channel;
pub mod report;
pub mod visible;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use self::changes::{Changer, Changes};
use self::channel::{Channel, Update};
use self::visible::Visibility;
use crate::data::files::{self, ZoneFile};
use crate::data::{Dataset, Source, Workload};
use crate::http::Connection;
use crate::load::PATIENCE;
use crate::load::plan::{Plan, Shape};
use crate::load::queries::Queries;
use crate::load::udp;
use crate::measure::{self, Round};
use crate::rig::Rig;
use crate::server::kind::Kind;
use crate::server::probe::Probe;
use crate::server::setup::Setup;
use crate::server::{Running, SERVER_CPU};
use crate::{api, cpu, interrupt};

/// What to run.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// The data.
    pub source: Source,
    /// Which servers.
    pub servers: Vec<Kind>,
    /// Interleaved rounds.
    pub rounds: usize,
    /// Of each measurement.
    pub seconds: f64,
    /// Queries a second.
    pub rate: u32,
    /// Changes a second.
    pub changes: u32,
    /// Changes made one after another to see how soon each is visible.
    pub singles: u32,
    /// RRsets in one request while the zone is filled.
    pub chunk: usize,
    /// Where data lies.
    pub data: PathBuf,
}

/// All that a run found.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// Versions.
    pub entrants: Vec<(Kind, String)>,
    /// Seconds to bring the zone in through the API.
    pub fill_seconds: f64,
    /// Nothing changing.
    pub idle: BTreeMap<Kind, Vec<Round>>,
    /// While records change.
    pub busy: BTreeMap<Kind, Vec<Round>>,
    /// What became of these changes.
    pub changes: BTreeMap<Kind, Vec<Changes>>,
    /// Single changes.
    pub visibility: BTreeMap<Kind, Visibility>,
    /// What makes the run fail.
    pub failures: Vec<String>,
}

/// Names that change. They are in the zone, but nobody asks for them in the measured load.
pub const CHANGING: u32 = 1_000;

/// UDP sockets of the generator.
const SOCKETS: u16 = 4;

/// The name of a changing record.
#[must_use]
pub fn changing_name(source: &Source, number: u32) -> String {
    format!("churn-{number}.{}", source.large().apex)
}

/// Runs it all.
///
/// # Errors
/// `godwit` is not built, does not start or refuses the data, or the user interrupted.
pub fn run(options: &Options) -> Result<Results> {
    let rig = Rig::set_up(&options.data)?;
    let mut results = Results::default();
    measure_all(options, rig.work(), &mut results)?;
    Ok(results)
}

fn measure_all(options: &Options, work: &Path, results: &mut Results) -> Result<()> {
    let probes = Probe::spread(&options.source, Workload::LargeRate, 16);
    let zones = own_copy(options, work)?;
    let mut token = String::new();
    let mut servers = Vec::new();
    for &kind in &options.servers {
        let Some(program) = kind.program() else {
            anyhow::ensure!(
                kind.is_peer(),
                "godwit is not beside this program: cargo build --release -p godwit"
            );
            eprintln!("{} is not installed and is left out", kind.name());
            continue;
        };
        results.entrants.push((kind, kind.version(&program)?));
        eprintln!("starting {}", kind.name());
        if kind.is_peer() {
            servers.push(Running::start(kind, &program, work, &zones, &probes)?);
            continue;
        }
        let mut godwit = Running::launch(kind, &program, work, &Setup::local(&[]))?;
        token = printed_token(&mut godwit)?;
        eprintln!("filling {} through the API", options.source.large().apex);
        let started = Instant::now();
        fill(options, &mut connect(&godwit, &token)?)?;
        godwit.await_answers(Instant::now(), &probes)?;
        results.fill_seconds = started.elapsed().as_secs_f64();
        eprintln!("filled in {:.1} s", results.fill_seconds);
        servers.push(godwit);
    }

    for server in servers.iter().filter(|server| server.kind.takes_changes()) {
        eprintln!("{}: single changes", server.kind.name());
        let mut channel = open(server.kind, server.address, &token, options)?;
        let visibility = visible::measure(server.address, channel.as_mut(), options)?;
        let [p50, p99] = visibility.visible_us;
        eprintln!("  {} visible after {p50:.0} us, p99 {p99:.0} us", visibility.changes);
        results.visibility.insert(server.kind, visibility);
    }
    let queries = Queries::of(&options.source, Workload::LargeRate);
    for number in 1..=options.rounds {
        for server in &servers {
            interrupt::check()?;
            let plan = plan(options, server);
            let round = measure::round(server, &options.source, Workload::LargeRate, &queries, &plan)?;
            note(results, &format!("{}, nothing changing, round {number}", server.kind.name()), &round);
            results.idle.entry(server.kind).or_default().push(round);
        }
        for server in servers.iter().filter(|server| server.kind.takes_changes()) {
            interrupt::check()?;
            let opener = || open(server.kind, server.address, &token, options);
            let (round, changes) = busy(options, server, &queries, &opener)?;
            let what = format!("{}, {} changes/s, round {number}", server.kind.name(), options.changes);
            note(results, &what, &round);
            eprintln!(
                "  {} changes acknowledged, median {:.0} us; {} refused, {} late",
                changes.acknowledged, changes.acknowledged_us[0], changes.refused, changes.late
            );
            // A peer that cannot keep the rate is what the table is to show; Godwit must.
            if let Some(failure) = changes.failure().filter(|_| !server.kind.is_peer()) {
                results.failures.push(format!("{what}: {failure}"));
            }
            results.busy.entry(server.kind).or_default().push(round);
            results.changes.entry(server.kind).or_default().push(changes);
        }
    }
    Ok(())
}

/// The zone file with the changing names in it, apart from the others' data: BIND writes journals beside it.
fn own_copy(options: &Options, work: &Path) -> Result<Vec<ZoneFile>> {
    let mut zones = files::ensure(&options.data, &options.source, Dataset::Large)?;
    for zone in &mut zones {
        let copy = work.join("changing.zone");
        fs::copy(&zone.path, &copy).with_context(|| format!("copying {}", zone.path.display()))?;
        let mut file = fs::OpenOptions::new().append(true).open(&copy)?;
        for number in 0..CHANGING {
            writeln!(file, "{}", changes::record(&options.source, number, 0))?;
        }
        zone.path = copy;
        zone.changes = true;
    }
    Ok(zones)
}

/// A way to change records of this server.
fn open(kind: Kind, address: SocketAddr, token: &str, options: &Options) -> Result<Box<dyn Channel>> {
    if kind.is_peer() {
        return Ok(Box::new(Update::connect(address, options.source.large().apex)?));
    }
    let connection = Connection::open(api_of(address), token)?;
    connection.set_nonblocking()?;
    Ok(Box::new(connection))
}

/// Tells the user and keeps what makes the run fail: of Godwit a single lost query does.
fn note(results: &mut Results, what: &str, round: &Round) {
    let [p50, p99, p999] = round.latency_us.unwrap_or_default();
    eprintln!(
        "{what}: p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us, lost {:.4} %",
        round.loss * 100.0
    );
    let own = what.starts_with(Kind::GodwitRun.name());
    let lost =
        (own && round.loss > 0.0).then(|| format!("{:.4} % of the queries were lost", round.loss * 100.0));
    // Peers may lose queries while their zones change: the table says how many.
    let wrong = if own { round.failure() } else { round.difference.clone() };
    if let Some(failure) = wrong.or(lost) {
        results.failures.push(format!("{what}: {failure}"));
    }
}

fn busy(
    options: &Options,
    server: &Running,
    queries: &Queries,
    opener: &changes::Open<'_>,
) -> Result<(Round, Changes)> {
    let mut processes = server.processes();
    processes.extend(cpu::kernel_threads(SERVER_CPU));
    let plan = plan(options, server);
    let mut changer = Changer::new(opener, &options.source, options.changes)?;
    let outcome =
        udp::at_rate(&plan, SOCKETS, options.rate, queries, &mut || cpu::seconds(&processes), &mut changer)?;
    interrupt::check()?;
    let changes = changer.finish(Instant::now())?;
    Ok((measure::judge(&outcome, &options.source, Workload::LargeRate, queries, false), changes))
}

fn plan(options: &Options, server: &Running) -> Plan {
    Plan {
        server: server.address,
        shape: Shape::Rate { sockets: SOCKETS, per_second: options.rate },
        warm_up: Duration::from_secs(1),
        duration: Duration::from_secs_f64(options.seconds),
        patience: PATIENCE,
        samples: 2 * measure::SAMPLES,
    }
}

/// Where `godwit run` was told to have its API.
fn api_of(dns: SocketAddr) -> SocketAddr {
    SocketAddr::new(dns.ip(), dns.port() + 1)
}

/// The token in the line that `godwit run` prints on its first start.
fn printed_token(godwit: &mut Running) -> Result<String> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        interrupt::check()?;
        let output = godwit.output();
        if let Some(token) = api::token_in(&output) {
            return Ok(token.to_owned());
        }
        godwit.check_alive()?;
        anyhow::ensure!(Instant::now() < end, "godwit run printed no admin token in 30 s:\n{output}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Connects once the API listens.
fn connect(godwit: &Running, token: &str) -> Result<Connection> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        interrupt::check()?;
        match Connection::open(api_of(godwit.address), token) {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Makes the zone and brings in its records and the changing names, a chunk of RRsets in one change.
fn fill(options: &Options, connection: &mut Connection) -> Result<()> {
    let zone = options.source.large();
    api::make_zone(connection, zone.apex, None)?;
    let servers = zone.apex_records().into_iter().skip(3).map(|record| vec![record]);
    let names = (0..zone.count).flat_map(|index| api::rrsets(zone.records(index)));
    let changing = (0..CHANGING).map(|number| vec![changes::record(&options.source, number, 0)]);
    api::fill(connection, servers.chain(names).chain(changing), options.chunk)
}
