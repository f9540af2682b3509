//! Changes at a fixed rate: how soon after its acknowledgement each is answered by every data plane.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::cluster::{Cluster, used};
use super::zone;
use crate::api;
use crate::churn::visible::Watcher;
use crate::data::record::{Data, Record};

/// Threads that send and watch; each has one change under way.
const SENDERS: u32 = 8;
/// How long may be waited until what was changed before is everywhere.
const SETTLED: Duration = Duration::from_secs(35);
/// The least time between two queries for one change, and the part of what it has taken so far: to ask more often tells little
/// more, and on CPUs that are shared with what is measured, asking for changes that are late would make all that follow late.
const PAUSE: Duration = Duration::from_micros(200);
const PAUSE_SHARE: u32 = 16;
/// A change that is not answered everywhere after so long is late.
const LIMIT: Duration = Duration::from_secs(5);

/// What is changed.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// In so many zones.
    pub zones: u32,
    /// So often a second.
    pub rate: u32,
    /// For so long.
    pub seconds: f64,
}

/// Median and 99th percentile in µs.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Changes that were made.
    pub changes: u64,
    /// Those that were sent later than due, as the ones before them took too long.
    pub behind: u64,
    /// Those that were not answered everywhere in time.
    pub late: u64,
    /// Until the answer to the change.
    pub acknowledged_us: [f64; 2],
    /// From there until the last data plane answered with the new record; 0 where all of them had before.
    pub everywhere_us: [f64; 2],
    /// CPU seconds of each part of the cluster.
    pub cpu_seconds: BTreeMap<String, f64>,
}

struct Found {
    acknowledged: Histogram<u64>,
    everywhere: Histogram<u64>,
    behind: u64,
    late: u64,
}

/// Waits until all data planes have all that was changed.
///
/// # Errors
/// They have not in half a minute.
pub fn settle(cluster: &Cluster) -> Result<()> {
    // Another value each time: what changes nothing waits for nothing.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_micros();
    let data = Data::A(Ipv4Addr::from(0xC612_0000 | (now & 0x1_FFFF)));
    let record = Record { owner: format!("settled.{}", zone(0)), ttl: 60, data };
    let body = serde_json::json!({ "changes": [api::put(&[record])] }).to_string();
    let path = "/api/v1/changes?wait=applied&timeout=30s";
    let response = cluster.connect(0)?.ask_within("POST", path, &body, SETTLED)?.ok("a change")?;
    let applied = response.header("godwit-applied").unwrap_or_default();
    let is_level = applied.split_once('/').is_some_and(|(have, all)| have == all);
    anyhow::ensure!(is_level, "after {SETTLED:?} not all data planes are level: {applied}");
    Ok(())
}

/// Runs the senders.
///
/// # Errors
/// A change is refused, or the cluster is gone.
pub fn measure(cluster: &Cluster, pace: &Pace) -> Result<Latency> {
    let before = cluster.cpu_seconds();
    let senders: Vec<_> = (0..SENDERS)
        .map(|number| {
            let (cluster, pace) = (cluster.clone(), *pace);
            thread::spawn(move || send(&cluster, &pace, number))
        })
        .collect();
    let mut all = Found { acknowledged: histogram()?, everywhere: histogram()?, behind: 0, late: 0 };
    for sender in senders {
        let found = sender.join().ok().context("a sender panicked")??;
        all.acknowledged.add(found.acknowledged)?;
        all.everywhere.add(found.everywhere)?;
        all.behind += found.behind;
        all.late += found.late;
    }
    let figures = |histogram: &Histogram<u64>| {
        [0.5, 0.99].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0)
    };
    Ok(Latency {
        changes: all.acknowledged.len(),
        behind: all.behind,
        late: all.late,
        acknowledged_us: figures(&all.acknowledged),
        everywhere_us: figures(&all.everywhere),
        cpu_seconds: used(&before, &cluster.cpu_seconds()),
    })
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(60_000_000_000, 3)?)
}

fn send(cluster: &Cluster, pace: &Pace, number: u32) -> Result<Found> {
    let owner = format!("seen{number}.{}", zone(number % pace.zones));
    let mut connection = cluster.connect(number as usize)?;
    let mut found = Found { acknowledged: histogram()?, everywhere: histogram()?, behind: 0, late: 0 };
    let interval = Duration::from_secs(1) * SENDERS / pace.rate.max(1);
    let started = Instant::now() + interval * number / SENDERS;
    let end = started + Duration::from_secs_f64(pace.seconds);
    let mut due = started;
    for turn in 0_u32.. {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if Instant::now() >= end {
            break;
        }
        found.behind += u64::from(due.elapsed() > interval);
        due += interval;
        // Of each run another value, so that no old answer passes for a new one.
        let seed = (std::process::id() ^ turn.wrapping_mul(2_654_435_761)) & 0x1_FFFF;
        let data = Data::A(Ipv4Addr::from(0xC612_0000 | seed));
        let record = Record { owner: owner.clone(), ttl: 60, data };
        let body = serde_json::json!({ "changes": [api::put(std::slice::from_ref(&record))] }).to_string();
        let sent = Instant::now();
        connection.ask("POST", "/api/v1/changes", &body)?.ok("a change")?;
        let acknowledged = Instant::now();
        found.acknowledged.saturating_record((acknowledged - sent).as_nanos() as u64);
        match everywhere(cluster, &record, acknowledged)? {
            Some(time) => found.everywhere.saturating_record(time.as_nanos() as u64),
            None => found.late += 1,
        }
    }
    Ok(found)
}

/// How long nobody asks for a change that was acknowledged so long ago.
fn pause_after(waited: Duration) -> Duration {
    (waited / PAUSE_SHARE).max(PAUSE)
}

/// How long after `since` all data planes have answered with the record. They are asked one after another: when the last has answered
/// is the same, for a third of the queries.
fn everywhere(cluster: &Cluster, record: &Record, since: Instant) -> Result<Option<Duration>> {
    for &node in &cluster.nodes {
        let mut watcher = Watcher::connect(node, &record.owner)?.waiting()?;
        while !watcher.sees(record)? {
            if since.elapsed() >= LIMIT {
                return Ok(None);
            }
            thread::sleep(pause_after(since.elapsed()));
        }
    }
    Ok(Some(since.elapsed()))
}
