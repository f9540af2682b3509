//! May it run for a year? Everything at once against `godwit run` and a data plane with zone files, for as long as wanted: honest
//! load over UDP and TCP with every answer judged, changes through the API, floods, slow clients, and a fault each minute.
//!
//! - [`ledger`], [`outages`]: what may be true now, and when what is lost or old is excused;
//! - [`questions`], [`udp`], [`tcp`], [`writers`], [`attackers`]: who asks, changes and attacks;
//! - [`servers`], [`faults`], [`verify`]: the two servers, what goes wrong with them, and whether all is there afterwards;
//! - [`sampler`], [`trend`], [`report`]: what they take meanwhile, whether it grows, and the tables.
//!
//! All on loopback. It ends whatever it started, on Ctrl-C too.

pub mod attackers;
pub mod faults;
pub mod ledger;
pub mod outages;
pub mod questions;
pub mod report;
pub mod sampler;
pub mod servers;
pub mod shared;
pub mod tcp;
pub mod trend;
pub mod udp;
pub mod verify;
pub mod writers;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use self::attackers::{ConnectionFlood, FLOOD, Offered};
use self::faults::disk::SmallDisk;
use self::faults::stage::{self, Stage};
use self::faults::{Fault, Happened};
use self::ledger::History;
use self::outages::Side;
use self::questions::Questions;
use self::report::progress;
use self::sampler::{Sample, Watched};
use self::servers::Server;
use self::shared::{Shared, Tally, Writes};
use self::tcp::Use;
use self::writers::{Access, WRITERS};
use crate::data::{Source, Workload, files};
use crate::http::Connection;
use crate::rig::Rig;
use crate::server::probe::{Probe, Prober};
use crate::{api, attack, interrupt};

/// RRsets in a change while zones are filled.
const CHUNK: usize = 500;
/// A server that starts with a few thousand names answers within this on a busy machine.
const START: Duration = Duration::from_secs(60);
/// From one line for who waits to the next.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Descriptors that this program needs for other things than the flood of connections.
const OTHER_DESCRIPTORS: usize = 500;

/// What to run.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// The data.
    pub source: Source,
    /// How long, seconds.
    pub seconds: f64,
    /// Honest queries over UDP a second, both servers together.
    pub rate: u32,
    /// Changes a second.
    pub changes: u32,
    /// Which faults.
    pub faults: Vec<Fault>,
    /// Where data lies.
    pub data: PathBuf,
}

/// All that a run found.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// What ran.
    pub version: String,
    /// Left out, with the reason.
    pub absent: Vec<String>,
    /// How long it really was, seconds.
    pub seconds: f64,
    /// From one fault to the next, seconds.
    pub period: f64,
    /// Faults in their order.
    pub happened: Vec<Happened>,
    /// What became of the queries for each server.
    pub tallies: [Tally; 2],
    /// What became of the writes.
    pub writes: Writes,
    /// What attackers did.
    pub offered: Offered,
    /// Of each server and quarter of the run, without the times of faults: how many latencies, their median and 99th percentile in µs.
    pub udp_quarters: [[(u64, [f64; 2]); 4]; 2],
    /// The same of writes.
    pub write_quarters: [(u64, [f64; 2]); 4],
    /// A look at each server every second.
    pub samples: [Vec<Sample>; 2],
    /// What makes the run fail.
    pub failures: Vec<String>,
}

/// Runs it all. What went wrong is among the failures, whatever it was.
///
/// # Errors
/// The machine has one CPU only, or the folder cannot be made.
pub fn run(options: &Options) -> Result<Results> {
    let mut rig = Rig::set_up(&options.data)?;
    // A successor of the data plane becomes ours when its predecessor ends.
    nix::sys::prctl::set_child_subreaper(true).context("becoming the parent of successors")?;
    let mut results = Results::default();
    if let Err(error) = soak(options, rig.work(), &mut results) {
        results.failures.push(format!("{error:#}"));
    }
    if interrupt::requested() {
        results.failures.push("interrupted".to_owned());
    }
    results.failures.extend(report::verdicts(&results));
    if !results.failures.is_empty() {
        rig.keep();
        eprintln!(
            "seed {}; the logs of the servers are kept in {}",
            options.source.seed,
            rig.work().display()
        );
    }
    Ok(results)
}

fn soak(options: &Options, work: &Path, results: &mut Results) -> Result<()> {
    let mut kinds = options.faults.clone();
    let descriptors = attack::slow::size();
    if descriptors < FLOOD + OTHER_DESCRIPTORS {
        absent(
            results,
            &mut kinds,
            Fault::Connections,
            &format!("only {descriptors} descriptors may be open"),
        );
    }
    let mut run = Server::new(Side::Run, work)?;
    results.version = run.version()?;
    let disk = match kinds.contains(&Fault::DiskFull).then(|| SmallDisk::mount(&run.snapshots())) {
        Some(Ok(disk)) => Some(disk),
        Some(Err(error)) => {
            absent(results, &mut kinds, Fault::DiskFull, &format!("needs root: {error:#}"));
            None
        }
        None => None,
    };
    eprintln!("starting godwit run, {}", results.version);
    run.start()?;
    let access = Access { api: run.api, token: run.token()? };
    fill(&options.source, &access)?;
    await_right_answers(&options.source, &mut run)?;
    await_snapshots(&run, &access)?;
    // Its ports are taken by now: the next server gets others.
    let mut dataplane = Server::new(Side::Dataplane, work)?;
    write_zones(&options.source, &dataplane)?;
    eprintln!("starting godwit-dataplane");
    dataplane.start()?;
    await_right_answers(&options.source, &mut dataplane)?;
    let mut servers = [run, dataplane];
    let outcome = load(options, &kinds, &mut servers, disk.as_ref(), &access, results);
    for server in &mut servers {
        let ended = server.stop().with_context(|| format!("ending {}", server.side.name()));
        if let Err(error) = ended
            && outcome.is_ok()
        {
            results.failures.push(format!("{error:#}"));
        }
    }
    outcome
}

fn absent(results: &mut Results, kinds: &mut Vec<Fault>, fault: Fault, why: &str) {
    if kinds.contains(&fault) {
        kinds.retain(|other| *other != fault);
        eprintln!("left out: {fault}: {why}");
        results.absent.push(format!("{fault}: {why}"));
    }
}

/// Makes the zones of `godwit run` and their records.
fn fill(source: &Source, access: &Access) -> Result<()> {
    let mut connection = connect(access)?;
    let zones = questions::zones(source);
    eprintln!("filling {} zones through the API", zones.len());
    for zone in &zones {
        api::make_zone(&mut connection, zone.apex, Some(&questions::soa(zone.apex, 1)))?;
    }
    let names = zones.iter().flat_map(|zone| {
        let servers = zone.apex_records().into_iter().skip(3).map(|record| vec![record]);
        servers.chain((0..zone.count).flat_map(|index| api::rrsets(zone.records(index))))
    });
    let first = stage::first_address();
    let changing = (0..questions::changing_count())
        .map(|number| vec![questions::record(questions::changing_name(number), first)]);
    api::fill(&mut connection, names.chain(changing), CHUNK)?;
    connection.ask("POST", "/api/v1/reload", "")?.ok("reload").map(drop)
}

/// Connects once the API listens.
fn connect(access: &Access) -> Result<Connection> {
    let end = Instant::now() + START;
    loop {
        interrupt::check()?;
        match access.connect() {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Waits until both local snapshots are from after the filling: a start from one that is older may rightly lack names that everybody
/// here takes for granted. They are written at intervals, and only when something changed.
fn await_snapshots(run: &Server, access: &Access) -> Result<()> {
    let filled = Instant::now();
    let mut connection = connect(access)?;
    for number in 0_u32.. {
        interrupt::check()?;
        let change = [questions::record("settling.small.test.".to_owned(), questions::address(number))];
        let body = serde_json::json!({ "changes": [api::put(&change)] }).to_string();
        connection.ask("POST", "/api/v1/changes?wait=applied", &body)?.ok("a change")?;
        let snapshots = stage::SNAPSHOTS.map(|name| servers::written_at(&run.snapshots().join(name)));
        if snapshots.iter().all(|at| at.as_ref().is_ok_and(|&at| at >= filled + stage::WRITING)) {
            return Ok(());
        }
        let time = 2 * stage::NEXT_SNAPSHOT;
        anyhow::ensure!(filled.elapsed() < time, "no two local snapshots in {time:?}");
        std::thread::sleep(LOOK_EVERY);
    }
    unreachable!("the count of changes does not end")
}

/// Writes the zones of the data plane and their list.
fn write_zones(source: &Source, dataplane: &Server) -> Result<()> {
    let small = source.small();
    let fixed = dataplane.folder.join("small.zone");
    let records = (0..small.count).flat_map(|index| small.records(index));
    files::write_zone(&fixed, small.apex_records().into_iter().chain(records))?;
    let changing = stage::zone_path(&dataplane.folder);
    fs::write(&changing, stage::zone_text(0)).with_context(|| format!("writing {}", changing.display()))?;
    let list =
        format!("{}\t{}\n{}\t{}\n", small.apex, fixed.display(), questions::RELOADED, changing.display());
    fs::write(dataplane.zone_list(), list).context("writing the list of zones")
}

fn await_right_answers(source: &Source, server: &mut Server) -> Result<()> {
    let end = Instant::now() + START;
    let mut prober = Prober::connect(server.dns)?;
    for probe in Probe::spread(source, Workload::Small, 16) {
        while let Err(reason) = prober.right(&probe) {
            interrupt::check()?;
            server.check_alive()?;
            anyhow::ensure!(Instant::now() < end, "{}: no right answer: {reason}", server.side.name());
            std::thread::sleep(LOOK_EVERY / 10);
        }
    }
    Ok(())
}

/// Starts everybody who asks, changes and attacks, makes the faults, and looks everything up at the end.
fn load(
    options: &Options,
    kinds: &[Fault],
    servers: &mut [Server; 2],
    disk: Option<&SmallDisk>,
    access: &Access,
    results: &mut Results,
) -> Result<()> {
    let source = &options.source;
    let now = Instant::now();
    let first = History::new(Some(stage::first_address()), now);
    let histories = [vec![first.clone(); questions::changing_count()], vec![first]];
    let dns = [servers[0].dns, servers[1].dns];
    let shared = Shared::new(Duration::from_secs_f64(options.seconds), dns, histories);
    let questions = Side::BOTH.map(|side| Questions::new(source, side));
    let (watched, flood) = (Watched::default(), ConnectionFlood::default());
    for server in servers.iter() {
        watched.set_metrics(server.side, server.metrics);
        watched.set(server.side, server.pid());
    }
    let samples = Mutex::new([Vec::new(), Vec::new()]);
    let period = faults::period(options.seconds, kinds.len());
    results.period = period;
    let plan = faults::plan(options.seconds, kinds, source.seed);
    eprintln!("asking for {:.0} s, a fault every {period:.0} s", options.seconds);
    let mut stage = Stage::new(&shared, access, &watched, &flood, servers, disk, period, source);
    let outcome = std::thread::scope(|scope| {
        let udp = scope.spawn(|| udp::run(&shared, &questions, options.rate));
        let attackers = scope.spawn(|| attackers::run(&shared, source, &flood));
        let mut others = vec![scope.spawn(|| sampler::run(&shared, &watched, &samples))];
        for (side, questions) in Side::BOTH.into_iter().zip(&questions) {
            let shared = &shared;
            others.extend(
                [Use::Long, Use::New].map(|how| scope.spawn(move || tcp::run(shared, side, questions, how))),
            );
        }
        for number in 0..WRITERS {
            let (shared, seed) = (&shared, source.seed);
            let per_second = f64::from(options.changes) / WRITERS as f64;
            others.push(scope.spawn(move || writers::run(shared, access, seed, number, per_second)));
        }
        let outcome = conduct(options, &shared, &mut stage, &plan, &samples, results);
        shared.course.stop();
        let ended = others.into_iter().all(|thread| thread.join().is_ok());
        anyhow::ensure!(ended, "a thread of the run panicked");
        let panicked = |_| anyhow::anyhow!("a thread of the run panicked");
        udp.join().map_err(panicked)?.context("honest queries")?;
        results.offered = attackers.join().map_err(panicked)?.context("attacks")?;
        outcome
    });
    results.seconds = shared.course.started.elapsed().as_secs_f64();
    results.tallies = Side::BOTH.map(|side| shared.tally(side).clone());
    results.writes = shared.writes().clone();
    results.udp_quarters = Side::BOTH.map(|side| shared.udp(side).quarters());
    results.write_quarters = shared.api().quarters();
    results.samples = samples.into_inner().unwrap_or_default();
    results.failures.extend(shared.course.failures());
    outcome
}

/// The faults in their time, a line each minute, and at the end a look whether everything is there.
fn conduct(
    options: &Options,
    shared: &Shared,
    stage: &mut Stage<'_>,
    plan: &[(f64, Fault)],
    samples: &Mutex<[Vec<Sample>; 2]>,
    results: &mut Results,
) -> Result<()> {
    let mut plan = plan.iter().peekable();
    let mut line_at = LINE_EVERY.min(shared.length);
    let mut elapsed = Duration::ZERO;
    while elapsed < shared.length && shared.course.wait(LOOK_EVERY) {
        stage.check_alive()?;
        elapsed = shared.course.started.elapsed();
        if elapsed >= line_at {
            line_at += LINE_EVERY;
            eprintln!("{}", progress(shared, samples, options.seconds, results.happened.len()));
        }
        if let Some((_, fault)) = plan.next_if(|(at, _)| *at <= elapsed.as_secs_f64()) {
            let happened = stage.make(*fault);
            if interrupt::requested() {
                return Ok(());
            }
            let happened = happened?;
            eprintln!(
                "{:7.1} s: {fault}: answered after {:.3} s, whole after {:.3} s",
                happened.at, happened.answered, happened.whole
            );
            results.happened.push(happened);
        }
    }
    if interrupt::requested() {
        return Ok(());
    }
    stage.check_alive()?;
    let _paused = verify::pause_writers(shared);
    verify::everything(shared, stage.access).context("looking everything up at the end")
}
