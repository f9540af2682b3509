//! What is done with the cluster, and how long it takes.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::json;

use super::Options;
use super::fill::{self, BACK, LARGE, names, record};
use crate::churn::visible::Watcher;
use crate::cluster::{CONTROLS, Cluster, LOOK_EVERY, level, metric};
use crate::data::record::Record;
use crate::propagate::latency::{self, Latency, Pace};
use crate::{api, interrupt, propagate};

/// Whatever takes longer than this does not come any more.
const LIMIT: Duration = Duration::from_secs(300);
/// Where nobody answers, the next question waits so long.
const PAUSE: Duration = Duration::from_micros(500);
/// The data plane that is stopped and started.
const NODE: usize = 1;

/// See the module.
#[derive(Debug)]
pub struct Stage<'a> {
    cluster: Cluster,
    options: &'a Options,
    /// How often records were changed.
    time: u32,
}

impl<'a> Stage<'a> {
    /// With a cluster that holds nothing.
    #[must_use]
    pub fn new(cluster: Cluster, options: &'a Options) -> Self {
        Stage { cluster, options, time: 0 }
    }

    /// Brings everything in, and waits until it is everywhere.
    ///
    /// # Errors
    /// It is refused, or does not come.
    pub fn fill(&mut self) -> Result<()> {
        for apex in [LARGE, BACK] {
            api::make_zone(&mut self.cluster.connect(0)?, apex, None)?;
        }
        names(&self.cluster, LARGE, self.options.names, 0)?;
        names(&self.cluster, BACK, self.options.records, 0)?;
        fill::zones(&self.cluster, self.options.zones)?;
        self.level()
    }

    /// Seconds from the start of a process to its first answer.
    ///
    /// # Errors
    /// It does not come.
    pub fn cold_start(&mut self) -> Result<f64> {
        self.cluster.nodes[NODE].process.stop(Signal::SIGTERM)?;
        let answered = self.start_node()?;
        self.level()?;
        Ok(answered.as_secs_f64())
    }

    /// Seconds from the first answer of a process to the first one from a zone that changed meanwhile, where the log begins after
    /// the change.
    ///
    /// # Errors
    /// It does not come.
    pub fn resync(&mut self) -> Result<f64> {
        self.cluster.nodes[NODE].process.stop(Signal::SIGTERM)?;
        self.time += 1;
        let changed = record(&propagate::zone(self.options.zones / 2), 0, self.time);
        let body = json!({ "changes": [api::put(std::slice::from_ref(&changed))] }).to_string();
        self.cluster.connect(0)?.ask("POST", "/api/v1/changes", &body)?.ok("a change")?;
        for node in [0, 2] {
            answered(self.cluster.nodes[node].dns, &changed, Instant::now())?;
        }
        for control in &mut self.cluster.controls {
            control.process.stop(Signal::SIGTERM)?;
        }
        let forget = "DELETE FROM batches WHERE last_sequence < (SELECT sequence FROM relay)";
        self.cluster.sql(forget, "godwit")?;
        self.cluster.redis_command::<String>(&[b"FLUSHDB"])?;
        for index in 0..CONTROLS {
            self.cluster.controls[index].process.start()?;
            self.cluster.await_ready(index)?;
        }
        // Both have just begun, which is not what is measured.
        self.cached()?;
        let started = Instant::now();
        let first = self.start_node()?;
        let all = answered(self.cluster.nodes[NODE].dns, &changed, started)?;
        self.level()?;
        Ok(all.saturating_sub(first).as_secs_f64())
    }

    /// Seconds from the start of a process that has nothing to its first answer.
    ///
    /// # Errors
    /// It does not come.
    pub fn bootstrap(&mut self) -> Result<f64> {
        self.cluster.nodes[NODE].process.stop(Signal::SIGTERM)?;
        let state = &self.cluster.nodes[NODE].state;
        fs::remove_dir_all(state).and_then(|()| fs::create_dir(state)).context("emptying a state folder")?;
        fs::set_permissions(state, fs::Permissions::from_mode(0o700))?;
        let answered = self.start_node()?;
        self.level()?;
        Ok(answered.as_secs_f64())
    }

    /// Seconds from asking for all records of a zone as they were until every data plane answers with them.
    ///
    /// # Errors
    /// It is refused, or does not come.
    pub fn rollback(&mut self) -> Result<f64> {
        let path = format!("/api/v1/domains/{BACK}");
        let version = self.cluster.get(0, &path)?["version"].as_u64().context("no version")?;
        // Each rollback leaves it as it was filled.
        let before = record(BACK, 0, 0);
        self.time += 1;
        names(&self.cluster, BACK, self.options.records, self.time)?;
        self.level()?;
        let body = json!({ "version": version }).to_string();
        let path = format!("{path}/rollback?confirm={}", self.options.records);
        let started = Instant::now();
        self.cluster.connect(0)?.ask_within("POST", &path, &body, LIMIT)?.ok("the rollback")?;
        for node in &self.cluster.nodes {
            answered(node.dns, &before, started)?;
        }
        let took = started.elapsed().as_secs_f64();
        self.level()?;
        Ok(took)
    }

    /// Until the record cache has all that was changed.
    ///
    /// # Errors
    /// It is not so in time.
    pub fn cached(&self) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            interrupt::check()?;
            let leader = self.cluster.controls[self.cluster.await_leader()?].metrics;
            let [has, is] = ["cache_sequence", "sequence"]
                .map(|name| metric(leader, &format!("godwit_controlplane_{name}")));
            if has.is_some() && has == is {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "the record cache has {has:?} of {is:?} after {LIMIT:?}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Changes at a fixed rate.
    ///
    /// # Errors
    /// One is refused.
    pub fn changes(&self) -> Result<Latency> {
        let (controls, nodes) = (&self.cluster.controls, &self.cluster.nodes);
        let running = propagate::cluster::Cluster {
            apis: controls.iter().map(|control| control.api).collect(),
            token: self.cluster.token.clone(),
            nodes: nodes.iter().map(|node| node.dns).collect(),
            processes: BTreeMap::new(),
        };
        let Options { zones, rate, seconds, .. } = *self.options;
        let found = latency::measure(&running, &Pace { zones, rate, seconds })?;
        eprintln!(
            "{rate} changes a second: answered by all {:.1} ms after the acknowledgement, p99 {:.1} ms",
            found.everywhere_us[0] / 1e3,
            found.everywhere_us[1] / 1e3
        );
        Ok(found)
    }

    /// Redis is gone, until [`Stage::redis_up`].
    ///
    /// # Errors
    /// It was gone.
    pub fn redis_down(&mut self) -> Result<()> {
        self.cluster.redis.kill()
    }

    /// Redis is there again, and has what it had.
    ///
    /// # Errors
    /// It does not come up.
    pub fn redis_up(&mut self) -> Result<()> {
        self.cluster.redis.start()?;
        self.cluster.await_redis()?;
        self.level()
    }

    fn start_node(&mut self) -> Result<Duration> {
        let started = Instant::now();
        let node = &mut self.cluster.nodes[NODE];
        node.process.start()?;
        answered(node.dns, &record(LARGE, self.options.names / 2, 0), started)
    }

    /// Until every data plane has everything.
    fn level(&mut self) -> Result<()> {
        level::wait(&mut self.cluster, LIMIT)
    }
}

/// How long after `since` a data plane answers with a record; it may not even run yet.
fn answered(node: SocketAddr, record: &Record, since: Instant) -> Result<Duration> {
    let mut watcher = Watcher::connect(node, &record.owner)?;
    while since.elapsed() < LIMIT {
        interrupt::check()?;
        match watcher.sees(record) {
            Ok(true) => return Ok(since.elapsed()),
            Ok(false) => std::thread::sleep(PAUSE / 10),
            Err(_) => {
                std::thread::sleep(PAUSE);
                watcher = Watcher::connect(node, &record.owner)?;
            }
        }
    }
    anyhow::bail!("{node} does not answer with {record} after {LIMIT:?}")
}
