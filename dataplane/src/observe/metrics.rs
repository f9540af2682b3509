//! Metrics in the OpenMetrics text format. Nothing is kept for them: a scrape reads the workers' counts and sums
//! them. `docs/metrics.md` lists every one; a test compares it with a live scrape.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::counter::{
    CLOSED, Counter, Counters, DROPPED, LIMITED, LIMITED_BY, OTHER_RCODE, RCODES, WorkerCounters,
};
use super::query_log::{self, Counts as QueryLogCounts};
use super::status::Status;
use crate::serve::limit::Admission;
use crate::sys::denied;

/// Everything that a scrape reads.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Counts of the UDP workers.
    pub udp: Vec<WorkerCounters>,
    /// Counts of the TCP workers.
    pub tcp: Vec<WorkerCounters>,
    /// TCP connections.
    pub admission: Arc<Admission>,
    /// What is served.
    pub status: Arc<Status>,
    /// The query log.
    pub query_log: Arc<QueryLogCounts>,
    /// What else the process shows.
    pub beside: Beside,
}

/// How the OpenMetrics text format ends.
const END: &str = "# EOF\n";

/// Metrics of another part of the same process, shown at the same place as ours. Clones are the same one.
#[derive(Clone, Default)]
pub struct Beside(Arc<Mutex<Option<Text>>>);

/// Composes a whole OpenMetrics text.
type Text = Box<dyn Fn() -> String + Send>;

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beside")
    }
}

impl Beside {
    /// From now on, what `text` gives at each scrape is shown too: a whole OpenMetrics text of other metrics.
    pub fn set(&self, text: impl Fn() -> String + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(text));
    }

    fn append(&self, ours: &mut String) {
        if let Some(text) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            ours.truncate(ours.strip_suffix(END).map_or(ours.len(), str::len));
            ours.push_str(&text());
        }
    }
}

impl Sources {
    /// All metrics as text.
    ///
    /// # Errors
    /// None that a `String` could cause.
    pub fn scrape(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("godwit_dataplane");
        registry.register_collector(Box::new(Scrape(self.clone())));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        self.beside.append(&mut text);
        Ok(text)
    }

    fn workers(&self) -> impl Iterator<Item = &WorkerCounters> {
        self.udp.iter().chain(&self.tcp)
    }

    fn sum(&self, count: impl Fn(&Counters) -> &Counter) -> u64 {
        self.workers().map(|worker| count(worker).get()).sum()
    }
}

#[derive(Debug)]
struct Scrape(Sources);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sources = &self.0;
        queries(sources, &mut encoder)?;
        labelled(
            &mut encoder,
            "dropped",
            "Messages without an answer, by reason",
            "reason",
            &DROPPED,
            |i| sources.sum(|worker| &worker.dropped[i]),
        )?;
        limited(sources, &mut encoder)?;
        let overflow = sources.sum(|worker| &worker.overflow);
        counter(
            &mut encoder,
            "receive_overflow",
            "Datagrams the kernel dropped: receive buffer full",
            overflow,
        )?;
        let panics = sources.sum(|worker| &worker.panics);
        counter(&mut encoder, "panics", "Panics caught while answering; each answered SERVFAIL", panics)?;
        connections(sources, &mut encoder)?;
        logged(&sources.query_log, &mut encoder)?;
        served(&sources.status, &mut encoder)?;
        sandbox(&sources.status, &mut encoder)
    }
}

fn queries(sources: &Sources, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Queries answered, by transport and RCODE";
    let mut family = encoder.encode_descriptor("queries", help, None, MetricType::Counter)?;
    for (transport, workers) in [("udp", &sources.udp), ("tcp", &sources.tcp)] {
        for (i, rcode) in RCODES.iter().copied().chain([OTHER_RCODE]).enumerate() {
            let count: u64 = workers.iter().map(|worker| worker.answers[i].get()).sum();
            // The usual ones always, so that a rate can start from zero; the rest when they happen.
            if i <= 5 || count > 0 {
                let labels = [("transport", transport), ("rcode", rcode)];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
    }
    Ok(())
}

fn limited(sources: &Sources, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Answers over a rate limit, by what was done about it and by the limit's kind";
    let mut family = encoder.encode_descriptor("rate_limited", help, None, MetricType::Counter)?;
    for (i, action) in LIMITED.into_iter().enumerate() {
        for (j, kind) in LIMITED_BY.into_iter().enumerate() {
            let count = sources.sum(|worker| &worker.limited[i][j]);
            let labels = [("action", action), ("kind", kind)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
    }
    Ok(())
}

fn connections(sources: &Sources, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let accepted = sources.sum(|worker| &worker.accepted);
    counter(encoder, "tcp_connections_accepted", "TCP connections accepted", accepted)?;
    let help = "TCP connections ended or turned away, by reason";
    labelled(encoder, "tcp_connections_closed", help, "reason", &CLOSED, |i| {
        sources.sum(|worker| &worker.closed[i])
    })?;
    gauge(encoder, "tcp_connections", "TCP connections open", count(sources.admission.connections()))?;
    let held = count(sources.admission.memory_octets());
    gauge(encoder, "tcp_memory_octets", "Octets that TCP connections are charged", held)
}

fn logged(log: &QueryLogCounts, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    counter(encoder, "query_log_written", "Queries written to the query log", log.written.get())?;
    let help = "Queries that should have been logged and were not, by reason";
    labelled(encoder, "query_log_dropped", help, "reason", &query_log::DROPPED, |i| log.dropped(i))?;
    let help =
        "1 while the sink of the query log takes what is written; 0 otherwise, and while the log is off";
    gauge(encoder, "query_log_sink_up", help, float(log.sink_up.load(Ordering::Relaxed)))
}

fn served(status: &Status, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let load = |value: &std::sync::atomic::AtomicU64| float(value.load(Ordering::Relaxed));
    gauge(encoder, "sequence", "Place of the last change set served", load(&status.sequence))?;
    gauge(encoder, "lag_seconds", "Time from commit to swap of the newest change", status.lag_seconds())?;
    gauge(encoder, "zones", "Zones served", load(&status.zones))?;
    gauge(encoder, "names", "Owner names served", load(&status.names))?;
    let help = "Time since what is served was last known to be current";
    gauge(encoder, "snapshot_age_seconds", help, status.age_seconds().unwrap_or(f64::NAN))?;
    let help = "Zones kept at their last good state after a change that could not be applied";
    gauge(encoder, "quarantined_zones", help, load(&status.quarantined_zones))?;
    let help = "Zones that are not tried again because applying a change of them ended the process twice";
    gauge(encoder, "frozen_zones", help, load(&status.frozen_zones))?;
    let count = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
    let help = "Changes and zones whose applying panicked";
    counter(encoder, "apply_panics", help, count(&status.apply_panics))?;
    let help = "Comparisons of what is held with the index of the feed";
    counter(encoder, "feed_resyncs", help, count(&status.feed_resyncs))?;
    let help = "Batches and heads of the feed left out: their history or term is past";
    counter(encoder, "feed_stale", help, count(&status.feed_stale))?;
    let help = "Heads of the feed whose root digest was not that of what is served";
    counter(encoder, "digest_mismatches", help, count(&status.digest_mismatches))?;
    let help = "Rounds in which all digests were worked out from the records in memory";
    counter(encoder, "rescan_rounds", help, count(&status.rescan_rounds))?;
    let help = "Zones whose digest was worked out from the records in memory";
    counter(encoder, "rescan_zones", help, count(&status.rescan_zones))?;
    let help = "Times that the records in memory were not those of their digest";
    counter(encoder, "rescan_differences", help, count(&status.rescan_differences))?;
    let help = "Zones whose file could not be read: left out, or kept at their last good state";
    gauge(encoder, "failed_zones", help, load(&status.failed_zones))?;
    let help = "1 while the cookie secrets in use are older than their file, which could not be read";
    gauge(encoder, "cookie_secrets_failed", help, load(&status.cookie_secrets_failed))?;
    let written = status.snapshots_written.load(Ordering::Relaxed);
    counter(encoder, "snapshots_written", "Local snapshots written", written)?;
    let errors = status.snapshot_errors.load(Ordering::Relaxed);
    counter(encoder, "snapshot_errors", "Local snapshots that could not be written or read", errors)
}

fn sandbox(status: &Status, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let parts = status.confinement.get().copied().unwrap_or_default().parts();
    let help = "Parts of the sandbox that are in effect (1) or not (0)";
    let mut family = encoder.encode_descriptor("sandbox", help, None, MetricType::Gauge)?;
    for (part, in_effect) in parts {
        family.encode_family(&[("part", part)])?.encode_gauge(&i64::from(in_effect))?;
    }
    counter(encoder, "denied_calls", "System calls that the sandbox denied", denied::count())
}

fn labelled(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &str,
    help: &str,
    label: &str,
    values: &[&str],
    count: impl Fn(usize) -> u64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(metric, help, None, MetricType::Counter)?;
    for (i, value) in values.iter().enumerate() {
        family.encode_family(&[(label, *value)])?.encode_counter::<NoLabelSet, _, u64>(&count(i), None)?;
    }
    Ok(())
}

fn counter(encoder: &mut DescriptorEncoder<'_>, metric: &str, help: &str, value: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(metric, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(metric)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, metric: &str, help: &str, value: f64) -> fmt::Result {
    let metric = encoder.encode_descriptor(metric, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

fn count(value: usize) -> f64 {
    float(value as u64)
}

fn float(value: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, which no count here reaches")]
    let value = value as f64;
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::counter::Dropped;
    use crate::serve::limit::TcpLimits;

    #[test]
    fn counts_of_all_workers_are_summed() {
        let sources = Sources {
            udp: vec![WorkerCounters::default(), WorkerCounters::default()],
            tcp: vec![WorkerCounters::default()],
            admission: Admission::new(TcpLimits::default()),
            status: Arc::default(),
            query_log: Arc::default(),
            beside: Beside::default(),
        };
        for worker in sources.workers() {
            worker.count_answer(0);
            worker.count_answer(16);
            worker.count_drop(Dropped::Short);
        }
        sources.status.zones.store(7, Ordering::Relaxed);
        let text = sources.scrape().unwrap();
        for line in [
            "godwit_dataplane_queries_total{transport=\"udp\",rcode=\"NOERROR\"} 2",
            "godwit_dataplane_queries_total{transport=\"tcp\",rcode=\"BADVERS\"} 1",
            "godwit_dataplane_queries_total{transport=\"udp\",rcode=\"SERVFAIL\"} 0",
            "godwit_dataplane_dropped_total{reason=\"short\"} 3",
            "godwit_dataplane_panics_total 0",
            "godwit_dataplane_zones 7.0",
        ] {
            assert!(text.lines().any(|got| got == line), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));

        sources.beside.set(|| "# TYPE other gauge\nother 1\n# EOF\n".to_owned());
        let both = sources.scrape().unwrap();
        assert!(both.starts_with(text.trim_end_matches("# EOF\n")), "{both}");
        assert!(both.ends_with("other 1\n# EOF\n") && both.matches("# EOF").count() == 1, "{both}");
    }
}
