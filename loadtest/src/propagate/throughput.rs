//! Clients that send the next change as soon as the last one is acknowledged.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::json;

use super::cluster::{Cluster, used};
use super::{Options, zone};

/// What the clients change.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Load {
    /// One RRset, in any of the zones.
    Zones,
    /// One RRset, all in one zone.
    OneZone,
    /// Large change sets, each of one zone.
    Large,
}

impl Load {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Load::Zones => "one RRset, many zones",
            Load::OneZone => "one RRset, one zone",
            Load::Large => "large change sets",
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    /// Changes that were acknowledged.
    pub changes: u64,
    /// RRsets that were changed, a second.
    pub rrsets_per_second: f64,
    /// From sending to the answer: median and 99th percentile in µs.
    pub acknowledged_us: [f64; 2],
    /// CPU seconds of each part of the cluster.
    pub cpu_seconds: BTreeMap<String, f64>,
    /// How long it took.
    pub seconds: f64,
}

/// Runs the clients.
///
/// # Errors
/// A change is refused, or the cluster is gone.
pub fn measure(cluster: &Cluster, options: &Options, load: Load) -> Result<Throughput> {
    let before = cluster.cpu_seconds();
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(options.seconds);
    let clients: Vec<_> = (0..options.clients)
        .map(|client| {
            let (cluster, options) = (cluster.clone(), options.clone());
            thread::spawn(move || one(&cluster, &options, load, client, end))
        })
        .collect();
    let mut all = Histogram::<u64>::new_with_max(60_000_000_000, 3)?;
    for client in clients {
        all.add(client.join().ok().context("a client panicked")??)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let each = if load == Load::Large { options.large } else { 1 };
    Ok(Throughput {
        changes: all.len(),
        rrsets_per_second: all.len() as f64 * f64::from(each) / seconds,
        acknowledged_us: [0.5, 0.99].map(|quantile| all.value_at_quantile(quantile) as f64 / 1_000.0),
        cpu_seconds: used(&before, &cluster.cpu_seconds()),
        seconds,
    })
}

fn one(
    cluster: &Cluster,
    options: &Options,
    load: Load,
    client: usize,
    end: Instant,
) -> Result<Histogram<u64>> {
    let mut connection = cluster.connect(client)?;
    let mut times = Histogram::<u64>::new_with_max(60_000_000_000, 3)?;
    let mut turn = client as u32;
    while Instant::now() < end {
        turn = turn.wrapping_add(options.clients as u32);
        let apex =
            if load == Load::OneZone { zone(0) } else { zone(turn.wrapping_mul(7_919) % options.zones) };
        let count = if load == Load::Large { options.large } else { 1 };
        let address = format!("198.18.{}.{}", turn >> 8 & 0xFF, turn & 0xFF);
        let puts: Vec<_> = (0..count)
            .map(|n| json!({ "op": "put", "name": format!("c{client}-{n}.{apex}"), "type": "A", "value": [address] }))
            .collect();
        let body = json!({ "changes": puts }).to_string();
        let sent = Instant::now();
        connection.ask("POST", "/api/v1/changes", &body)?.ok("a change")?;
        times.saturating_record(sent.elapsed().as_nanos() as u64);
    }
    Ok(times)
}
