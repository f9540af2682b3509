//! A look at both servers every second: memory, descriptors, threads, metrics, and the latencies that honest clients had since the
//! last look.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::outages::Side;
use super::servers::scrape;
use super::shared::Shared;
use crate::cpu;

/// Samples of a run at most; a longer one is looked at less often.
const SAMPLES: u32 = 10_800;

/// What is sampled of each server, told by whoever starts it.
#[derive(Debug, Default)]
pub struct Watched {
    pids: [AtomicI32; 2],
    metrics: Mutex<[Option<std::net::SocketAddr>; 2]>,
}

impl Watched {
    /// From now on this process serves; none while it is known to be down.
    pub fn set(&self, side: Side, pid: Option<nix::unistd::Pid>) {
        self.pids[side as usize].store(pid.map_or(0, nix::unistd::Pid::as_raw), Ordering::Relaxed);
    }

    /// Where its metrics are, from the start to the end.
    pub fn set_metrics(&self, side: Side, metrics: std::net::SocketAddr) {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)[side as usize] = Some(metrics);
    }

    fn get(&self, side: Side) -> (i32, Option<std::net::SocketAddr>) {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner)[side as usize];
        (self.pids[side as usize].load(Ordering::Relaxed), metrics)
    }
}

/// One look at one server.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at: f64,
    /// The process: another one is another life.
    pub pid: i32,
    /// Proportional set size, octets.
    pub pss: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Whether no fault was under way.
    pub quiet: bool,
    /// Answers over UDP since the last look, a second.
    pub answers: f64,
    /// Median and 99th percentile of their latency, µs.
    pub udp_us: [f64; 2],
    /// Writes acknowledged since the last look, and their latency; of `godwit run` only.
    pub writes: u64,
    /// Median and 99th percentile, µs.
    pub write_us: [f64; 2],
    /// Of its metrics, those that say how it does; empty when it did not answer.
    pub metrics: BTreeMap<&'static str, f64>,
}

/// Metrics that are kept, summed over their labels.
pub const METRICS: [&str; 8] = [
    "godwit_dataplane_tcp_connections",
    "godwit_dataplane_receive_overflow_total",
    "godwit_dataplane_panics_total",
    "godwit_dataplane_denied_calls_total",
    "godwit_dataplane_quarantined_zones",
    "godwit_dataplane_failed_zones",
    "godwit_dataplane_snapshot_errors_total",
    "godwit_dataplane_snapshots_written_total",
];

/// The value of a metric in a scrape, summed over its labels; none when it is not there.
#[must_use]
pub fn metric(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let rest = if rest.starts_with('{') { &rest[rest.rfind('}')? + 1..] } else { rest };
        rest.strip_prefix(' ')?.split(' ').next()?.parse::<f64>().ok()
    });
    values.reduce(|one, other| one + other)
}

/// Looks until it is over.
pub fn run(shared: &Shared, watched: &Watched, samples: &Mutex<[Vec<Sample>; 2]>) {
    let every = (shared.length / SAMPLES).max(Duration::from_secs(1));
    let mut last = shared.course.started.elapsed().as_secs_f64();
    while shared.course.wait(every) {
        let at = shared.course.started.elapsed().as_secs_f64();
        let seconds = (at - last).max(1e-3);
        last = at;
        for side in Side::BOTH {
            let (answers, udp_us) = shared.udp(side).take_second();
            let (writes, write_us) =
                if side == Side::Run { shared.api().take_second() } else { (0, [0.0; 2]) };
            let quiet = shared.quiet.load(Ordering::Relaxed);
            let (pid, metrics) = watched.get(side);
            let mut sample = Sample {
                at,
                pid,
                answers: answers as f64 / seconds,
                udp_us,
                writes,
                write_us,
                quiet,
                ..Sample::default()
            };
            if pid != 0 {
                sample.pss = cpu::pss(&[pid]);
                sample.descriptors = cpu::descriptors(&[pid]);
                sample.threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
                if let Some(text) = metrics.and_then(|metrics| scrape(metrics).ok()) {
                    let found = METRICS.iter().filter_map(|&name| Some((name, metric(&text, name)?)));
                    sample.metrics = found.collect();
                }
            }
            samples.lock().unwrap_or_else(PoisonError::into_inner)[side as usize].push(sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_labels() {
        let text = "# HELP a_total that\na_total{b=\"x y\"} 1\na_total{b=\"}\"} 2\na_total_more 9\nc 4.5\n";
        assert_eq!(metric(text, "a_total"), Some(3.0));
        assert_eq!(metric(text, "c"), Some(4.5));
        assert_eq!(metric(text, "d"), None);
    }
}
