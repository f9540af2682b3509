//! How soon a data plane is back, and all of them: a start from the local snapshot, everything from the record cache and from a
//! control plane, one zone of many, changes with and without Redis, a rollback. On a cluster of its own, with as many names and
//! zones as operators have.
//!
//! - [`fill`]: what the cluster holds;
//! - [`parts`]: what is done with it;
//! - [`report`]: the table.

pub mod fill;
pub mod parts;
pub mod report;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use self::parts::Stage;
use crate::cluster::{self, CONTROLS, Cluster, NODES};
use crate::propagate::latency::Latency;

/// What to run.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// Names of one large zone.
    pub names: u32,
    /// Zones of a few records.
    pub zones: u32,
    /// Records that are brought back.
    pub records: u32,
    /// Times that each is done.
    pub rounds: usize,
    /// Length of a measurement at a fixed rate.
    pub seconds: f64,
    /// Changes a second meanwhile.
    pub rate: u32,
    /// Folder of the programs.
    pub programs: PathBuf,
    /// Where data lies.
    pub data: PathBuf,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum What {
    /// From the start of a process with its local snapshot to the first answer.
    ColdStart,
    /// From there to the answer of a zone that changed meanwhile, where the log does not lead there any more.
    Resync,
    /// From the start of a process with nothing to the first answer, with the record cache.
    BootstrapFromCache,
    /// The same over HTTPS, without Redis.
    BootstrapOverHttps,
    /// From asking for a rollback until every data plane answers as it was.
    Rollback,
}

/// All that a run found.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// Seconds, in the order of rounds.
    pub times: Vec<(What, Vec<f64>)>,
    /// Changes at a fixed rate with Redis.
    pub with_redis: Vec<Latency>,
    /// And without.
    pub without_redis: Vec<Latency>,
    /// What makes the run fail.
    pub failures: Vec<String>,
}

impl Results {
    fn add(&mut self, what: What, seconds: f64) {
        eprintln!("{}: {seconds:.3} s", what.name());
        match self.times.iter_mut().find(|(kind, _)| *kind == what) {
            Some((_, times)) => times.push(seconds),
            None => self.times.push((what, vec![seconds])),
        }
    }
}

/// Runs it all. What went wrong is among the failures, whatever it was.
///
/// # Errors
/// The folder cannot be made.
pub fn run(options: &Options) -> Result<Results> {
    cluster::in_folder(
        &options.data,
        "recover",
        |results: &mut Results| &mut results.failures,
        |work, results| recover(options, work, results),
    )
}

fn recover(options: &Options, work: &Path, results: &mut Results) -> Result<()> {
    eprintln!("starting PostgreSQL, Redis, {CONTROLS} control planes, {NODES} data planes");
    let cluster = Cluster::start(&options.programs, None, work)?;
    let mut stage = Stage::new(cluster, options);
    stage.fill()?;
    for _ in 0..options.rounds {
        results.add(What::ColdStart, stage.cold_start()?);
        results.add(What::Resync, stage.resync()?);
        stage.cached()?;
        results.add(What::BootstrapFromCache, stage.bootstrap()?);
        results.add(What::Rollback, stage.rollback()?);
        results.with_redis.push(stage.changes()?);
        stage.redis_down()?;
        results.add(What::BootstrapOverHttps, stage.bootstrap()?);
        results.without_redis.push(stage.changes()?);
        stage.redis_up()?;
    }
    let late: u64 = results.with_redis.iter().chain(&results.without_redis).map(|found| found.late).sum();
    if late > 0 {
        results.failures.push(format!("{late} changes were not answered everywhere in time"));
    }
    Ok(())
}
