//! How many changes a cluster takes, and how soon each is answered by every data plane: against one that runs already
//! (`make run-cluster` writes down where its parts are), so that what is measured is what a user has started.

pub mod cluster;
pub mod latency;
pub mod report;
pub mod throughput;

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use self::cluster::Cluster;
use self::latency::{Latency, Pace};
use self::throughput::{Load, Throughput};

/// What to run.
#[derive(Clone, Debug, Serialize)]
pub struct Options {
    /// What `make run-cluster` wrote.
    pub cluster: PathBuf,
    /// Clients that send the next change when the last is acknowledged.
    pub clients: usize,
    /// Zones that they change.
    pub zones: u32,
    /// RRsets of a large change set.
    pub large: u32,
    /// Of each measurement.
    pub seconds: f64,
    /// Measurements of each kind.
    pub rounds: usize,
    /// Changes a second while it is measured how soon they are answered.
    pub rate: u32,
    /// What is measured.
    pub parts: Vec<Part>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, clap::ValueEnum)]
pub enum Part {
    /// Changes of one RRset, in any of the zones.
    Zones,
    /// Changes of one RRset, all in one zone.
    OneZone,
    /// Large change sets.
    Large,
    /// How soon changes at a fixed rate are answered.
    Rate,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 4] = [Part::Zones, Part::OneZone, Part::Large, Part::Rate];

    fn load(self) -> Option<Load> {
        match self {
            Part::Zones => Some(Load::Zones),
            Part::OneZone => Some(Load::OneZone),
            Part::Large => Some(Load::Large),
            Part::Rate => None,
        }
    }
}

/// All that a run found.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// Data planes.
    pub nodes: usize,
    /// Closed loops of clients.
    pub throughput: Vec<(Load, Vec<Throughput>)>,
    /// At a fixed rate.
    pub latency: Vec<Latency>,
    /// What makes the run fail.
    pub failures: Vec<String>,
}

/// The zone of this number.
#[must_use]
pub fn zone(number: u32) -> String {
    format!("z{number}.propagate.test.")
}

/// Runs it all.
///
/// # Errors
/// The cluster is not there, refuses a change, or the user interrupted.
pub fn run(options: &Options) -> Result<Results> {
    let cluster = Cluster::read(&options.cluster)?;
    let mut results = Results { nodes: cluster.nodes.len(), ..Results::default() };
    eprintln!("making {} zones", options.zones);
    cluster.make_zones(options.zones)?;
    for _ in 0..options.rounds {
        for load in options.parts.iter().copied().filter_map(Part::load) {
            let found = throughput::measure(&cluster, options, load)?;
            eprintln!(
                "{}: {:.0} RRsets a second, acknowledged after {:.0} us, p99 {:.0} us",
                load.name(),
                found.rrsets_per_second,
                found.acknowledged_us[0],
                found.acknowledged_us[1]
            );
            match results.throughput.iter_mut().find(|(kind, _)| *kind == load) {
                Some((_, rounds)) => rounds.push(found),
                None => results.throughput.push((load, vec![found])),
            }
        }
        if cluster.nodes.is_empty() || !options.parts.contains(&Part::Rate) {
            continue;
        }
        // What is left of the load before is not what is measured here.
        latency::settle(&cluster)?;
        let pace = Pace { zones: options.zones, rate: options.rate, seconds: options.seconds };
        let found = latency::measure(&cluster, &pace)?;
        eprintln!(
            "{} changes a second: answered by all {:.0} us after the acknowledgement, p99 {:.0} us",
            options.rate, found.everywhere_us[0], found.everywhere_us[1]
        );
        if found.late > 0 {
            results.failures.push(format!("{} changes were not answered everywhere in time", found.late));
        }
        results.latency.push(found);
    }
    Ok(results)
}
