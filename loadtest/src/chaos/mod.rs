//! Is anything lost when everything fails? PostgreSQL, Redis, two control planes and three data planes as processes, of which one
//! fault after another is made with, while clients change records and keep a ledger of what was acknowledged, and others ask
//! every data plane all the time. After each fault everything has to be everywhere, and what the ledger says.
//!
//! - [`ledger`], [`writers`], [`watchers`]: who changes and who asks, and what may be true;
//! - [`faults`], [`stage`], [`heal`]: what goes wrong, how it is made, and what must hold afterwards;
//! - [`report`]: the table.
//!
//! All on loopback. It ends whatever it started, on Ctrl-C too.

pub mod faults;
pub mod heal;
pub mod ledger;
pub mod report;
pub mod shared;
pub mod stage;
pub mod watchers;
pub mod writers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde::Serialize;
use serde_json::json;

use self::faults::{Fault, Plan};
use self::ledger::ZONES;
use self::shared::{Shared, Tally};
use self::stage::Stage;
use self::writers::{NAMES, WRITERS};
use crate::api;
use crate::cluster::{self, Cluster, NODES};
use crate::data::draw::Draw;
use crate::soak::faults::disk::SmallDisk;

/// Between two faults.
const REST: Duration = Duration::from_millis(300);
/// Of names that nobody has written since they were looked up, one in so many is looked up again.
const SAMPLE: u64 = 10;

/// What to run.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// What draws start from.
    pub seed: u64,
    /// How long, seconds; the fault under way is brought to its end.
    pub seconds: f64,
    /// Which faults.
    pub faults: Vec<Fault>,
    /// Folder of the programs.
    pub programs: PathBuf,
    /// Folder of programs of another version, which rolling restarts go over to and back from.
    pub other_programs: Option<PathBuf>,
    /// Where data lies.
    pub data: PathBuf,
}

/// One fault as it was.
#[derive(Clone, Debug, Serialize)]
pub struct Happened {
    /// Which.
    pub fault: Fault,
    /// When, seconds from the start.
    pub at: f64,
    /// From there until it was undone, seconds.
    pub lasted: f64,
    /// From there until everything was everywhere, seconds.
    pub healed: f64,
    /// Writes acknowledged meanwhile.
    pub acknowledged: u64,
    /// Writes meanwhile whose answer never came.
    pub doubtful: u64,
}

/// All that a run found.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// How long it really was, seconds.
    pub seconds: f64,
    /// Left out, with the reason.
    pub absent: Vec<String>,
    /// Faults in their order.
    pub happened: Vec<Happened>,
    /// What became of the queries for each data plane.
    pub tallies: Vec<Tally>,
    /// Writes: acknowledged, accepted for later, without an answer, refused.
    pub writes: [u64; 4],
    /// Answers to writes by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Names.
    pub names: u32,
    /// Look-ups of names on data planes after faults.
    pub looked_up: u64,
    /// What makes the run fail.
    pub failures: Vec<String>,
}

/// Runs it all. What went wrong is among the failures, whatever it was.
///
/// # Errors
/// The folder cannot be made.
pub fn run(options: &Options) -> Result<Results> {
    let results = cluster::in_folder(
        &options.data,
        "chaos",
        |results: &mut Results| &mut results.failures,
        |work, results| chaos(options, work, results),
    )?;
    if !results.failures.is_empty() {
        eprintln!("seed {}", options.seed);
    }
    Ok(results)
}

fn chaos(options: &Options, work: &Path, results: &mut Results) -> Result<()> {
    let mut kinds = options.faults.clone();
    let small = work.join(format!("node{NODES}"));
    let disk = match kinds.contains(&Fault::DiskFull).then(|| SmallDisk::mount(&small)) {
        Some(Ok(disk)) => Some(disk),
        Some(Err(error)) => {
            kinds.retain(|kind| *kind != Fault::DiskFull);
            let why = format!("{}: needs root: {error:#}", Fault::DiskFull);
            eprintln!("left out: {why}");
            results.absent.push(why);
            None
        }
        None => None,
    };
    anyhow::ensure!(!kinds.is_empty(), "no fault is left to make");
    eprintln!("starting PostgreSQL, Redis, {} control planes, {NODES} data planes", cluster::CONTROLS);
    let mut cluster = Cluster::start(&options.programs, options.other_programs.as_deref(), work)?;
    let apis = cluster.controls.iter().map(|control| control.api).collect();
    let nodes: Vec<_> = cluster.nodes.iter().map(|node| node.dns).collect();
    let shared = Shared::new(apis, cluster.token.clone(), &nodes);
    let names = fill(&shared, &mut cluster)?;
    let mut stage = Stage::new(&shared, &mut cluster, disk.as_ref(), options.seed);
    let outcome = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, names) in names.into_iter().enumerate() {
            let shared = &shared;
            threads.push(scope.spawn(move || writers::run(shared, number, options.seed, names)));
        }
        for index in 0..NODES {
            let shared = &shared;
            threads.push(scope.spawn(move || watchers::run(shared, index, options.seed)));
        }
        let outcome = conduct(options, &kinds, &mut stage, results);
        shared.course.stop();
        let ended = threads.into_iter().all(|thread| thread.join().is_ok());
        anyhow::ensure!(ended, "a thread of the run panicked");
        outcome
    });
    results.seconds = shared.course.started.elapsed().as_secs_f64();
    results.names = shared.ledger.used();
    let lock =
        |watched: &shared::Watched| watched.tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
    results.tallies = shared.nodes.iter().map(lock).collect();
    let ledger = &shared.ledger;
    results.writes = [&ledger.acknowledgements, &ledger.acceptances, &ledger.doubts, &ledger.refusals]
        .map(|count| count.load(Ordering::Relaxed));
    results.statuses = shared.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone();
    results.failures.extend(shared.course.failures());
    outcome
}

/// Makes the zones and the names that writers begin with, and waits until they are in every local snapshot: a data plane
/// that starts from one that is older may rightly lack them.
fn fill(shared: &Shared, cluster: &mut Cluster) -> Result<Vec<Vec<u32>>> {
    let mut connection = cluster.connect(0)?;
    for zone in 0..ZONES {
        api::make_zone(&mut connection, &ledger::zone(zone), None)?;
    }
    let names: Vec<Vec<u32>> =
        (0..WRITERS).map(|_| (0..NAMES).map(|_| shared.ledger.take()).collect()).collect();
    for names in &names {
        let writes: Vec<(u32, u32)> = names.iter().map(|&name| (name, shared.ledger.next(name))).collect();
        let changes: Vec<_> = writes.iter().map(|&(name, number)| writers::put(name, number)).collect();
        let body = json!({ "changes": changes }).to_string();
        connection.ask("POST", "/api/v1/changes", &body)?.ok("filling the zones")?;
        writes.iter().for_each(|&(name, number)| shared.ledger.acknowledge(name, number));
    }
    heal::await_equal(shared, cluster)?;
    // Two snapshots are kept, and one is written with each stop.
    for index in 0..NODES {
        for _ in 0..2 {
            shared.nodes[index].down();
            cluster.nodes[index].process.stop(Signal::SIGTERM)?;
            cluster.nodes[index].process.start()?;
            heal::await_equal(shared, cluster)?;
        }
        shared.nodes[index].up();
    }
    shared.settled.store(shared.ledger.used(), Ordering::SeqCst);
    shared.pause.store(false, Ordering::SeqCst);
    Ok(names)
}

/// One fault after the other, each with a look whether all is well again.
fn conduct(options: &Options, kinds: &[Fault], stage: &mut Stage<'_>, results: &mut Results) -> Result<()> {
    let shared = stage.shared;
    let mut plan = Plan::new(kinds, options.seed);
    let mut draw = Draw::new(options.seed, "chaos look-ups", 0);
    let mut looked_at: Vec<u32> = Vec::new();
    while shared.course.started.elapsed().as_secs_f64() < options.seconds && shared.course.wait(REST) {
        let fault = plan.draw();
        let begun = Instant::now();
        let at = shared.course.started.elapsed().as_secs_f64();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let before = (count(&shared.ledger.acknowledgements), count(&shared.ledger.doubts));
        stage.make(fault)?;
        let undone = Instant::now();
        heal::pause(shared)?;
        heal::await_equal(shared, stage.cluster).with_context(|| format!("after {fault}"))?;
        let happened = Happened {
            fault,
            at,
            lasted: (undone - begun).as_secs_f64(),
            healed: undone.elapsed().as_secs_f64(),
            acknowledged: count(&shared.ledger.acknowledgements) - before.0,
            doubtful: count(&shared.ledger.doubts) - before.1,
        };
        eprintln!(
            "{at:7.1} s: {fault}: {:.1} s, healed after {:.2} s; {} acknowledged, {} in doubt meanwhile",
            happened.lasted, happened.healed, happened.acknowledged, happened.doubtful
        );
        results.happened.push(happened);
        looked_at.resize(shared.ledger.used() as usize, 0);
        let sample = draw.below(SAMPLE) as u32;
        let wants = |name: u32| {
            shared.ledger.range(name).1 != looked_at[name as usize] || name % SAMPLE as u32 == sample
        };
        results.looked_up += heal::verify(shared, stage.cluster, wants)?;
        for (name, sent) in looked_at.iter_mut().enumerate() {
            *sent = shared.ledger.range(name as u32).1;
        }
        stage.cluster.check_alive()?;
        shared.pause.store(false, Ordering::SeqCst);
        // The first thing that is wrong is the one to look at.
        if !shared.course.failures().is_empty() {
            return Ok(());
        }
    }
    heal::pause(shared)?;
    heal::await_equal(shared, stage.cluster)?;
    results.looked_up += heal::verify(shared, stage.cluster, |_| true)?;
    Ok(())
}
