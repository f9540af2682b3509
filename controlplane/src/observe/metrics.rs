//! Prometheus metrics of the control plane. The names are a contract with whoever watches; `docs/metrics.md` lists them.

mod labels;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use labels::{
    CallLabels, CallOutcome, DeliveryLabels, DeliveryOutcome, JobLabels, JobOutcome, Limit, LimitLabels,
    RequestLabels,
};

/// All metrics. Clones share their numbers.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    limited: Family<LimitLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    rates_shared: Gauge,
    rates_lost: Counter,
    changes: Counter,
    outbox_depth: Gauge,
    relay_leader: Gauge,
    buffer_depth: Gauge,
    buffer_octets: Gauge<u64, AtomicU64>,
    buffer_age: Gauge<f64, AtomicU64>,
    buffer_accepted: Counter,
    buffer_made: Counter,
    buffer_conflicts: Counter,
    sequence: Gauge<u64, AtomicU64>,
    stream_sequence: Gauge<u64, AtomicU64>,
    stream_errors: Counter,
    cache_sequence: Gauge<u64, AtomicU64>,
    cache_errors: Counter,
    cache_fills: Counter,
    recounts: Counter,
    recount_differences: Counter,
    withheld_zones: Gauge,
    shadow_running: Gauge,
    shadow_ends: Counter,
    shadow_errors: Counter,
    shadow_unjudged: Counter,
    shadow_read_octets: Counter,
    panics: Counter,
    password_checks: Counter,
    live_nodes: Gauge,
    nodes_ahead: Counter,
    jobs: Family<JobLabels, Counter>,
    jobs_waiting: Gauge,
    jobs_failed: Gauge,
    calls: Family<CallLabels, Counter>,
    caller_ends: Counter,
    deliveries: Family<DeliveryLabels, Counter>,
    webhook_sequence: Gauge<u64, AtomicU64>,
    audit_number: Gauge<i64, AtomicI64>,
    audit_anchored_number: Gauge<i64, AtomicI64>,
    audit_wait: Gauge<f64, AtomicU64>,
    audit_anchor_errors: Counter,
    audit_cuts: Counter,
    audit_faults: Counter,
    audit_dropped: Counter,
    certificate_ends: Gauge,
    certificate_failed: Gauge,
}

impl Metrics {
    /// Counts an answered request.
    pub fn request(&self, route: String, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    /// Counts that a limit was reached.
    pub fn limited(&self, limit: Limit) {
        self.limited.get_or_create(&LimitLabels { limit }).inc();
    }

    /// Notes whether Redis counts for the rate limits.
    pub fn rates_shared(&self, shared: bool) {
        self.rates_shared.set(i64::from(shared));
    }

    /// Counts that Redis was found not to count for the rate limits.
    pub fn rates_lost(&self) {
        self.rates_lost.inc();
    }

    /// Counts a committed change; `waits`: it has no sequence yet.
    pub fn change(&self, waits: bool) {
        self.changes.inc();
        if waits {
            self.outbox_depth.inc();
        }
    }

    /// Notes where the log ends.
    pub fn published(&self, sequence: u64) {
        self.sequence.set(sequence);
    }

    /// Notes how far Redis was told.
    pub fn streamed(&self, sequence: u64) {
        self.stream_sequence.set(sequence);
    }

    /// Counts that publishing to Redis had to be begun again.
    pub fn stream_error(&self) {
        self.stream_errors.inc();
    }

    /// Notes at which place of the log the record cache is.
    pub fn cached(&self, sequence: u64) {
        self.cache_sequence.set(sequence);
    }

    /// Counts that writing the record cache had to be begun again, or found something else there.
    pub fn cache_error(&self) {
        self.cache_errors.inc();
    }

    /// Counts that the record cache is filled from the database.
    pub fn cache_filled(&self) {
        self.cache_fills.inc();
    }

    /// Sets how many zones are withheld.
    pub fn withheld_zones(&self, zones: usize) {
        self.withheld_zones.set(i64::try_from(zones).unwrap_or(i64::MAX));
    }

    /// Notes whether change sets are judged before they are published.
    pub fn shadow_runs(&self, runs: bool) {
        self.shadow_running.set(i64::from(runs));
    }

    /// Counts that the shadow ended at what it was asked.
    pub fn shadow_end(&self) {
        self.shadow_ends.inc();
    }

    /// Counts that the shadow refused a change set, or a zone, as data planes will.
    pub fn shadow_error(&self) {
        self.shadow_errors.inc();
    }

    /// Counts a change set that is published unjudged.
    pub fn shadow_unjudged(&self) {
        self.shadow_unjudged.inc();
    }

    /// Counts octets of zones that are read for the shadow.
    pub fn shadow_reads(&self, octets: u64) {
        self.shadow_read_octets.inc_by(octets);
    }

    /// Sets how many committed changes have no sequence.
    pub fn outbox(&self, depth: i64) {
        self.outbox_depth.set(depth);
    }

    /// Notes when the API's certificate ends, and whether its files cannot be used.
    pub fn certificate(&self, ends_at: i64, failed: bool) {
        self.certificate_ends.set(ends_at);
        self.certificate_failed.set(i64::from(failed));
    }

    /// Notes whether this process publishes.
    pub fn leader(&self, leads: bool) {
        self.relay_leader.set(i64::from(leads));
    }

    /// Sets how many accepted writes wait for the database, their octets, and for how long the first of them has waited.
    pub fn buffer(&self, depth: usize, octets: u64, age: Duration) {
        self.buffer_depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
        self.buffer_octets.set(octets);
        self.buffer_age.set(age.as_secs_f64());
    }

    /// Counts a write that was accepted while the database was away.
    pub fn accepted(&self) {
        self.buffer_accepted.inc();
    }

    /// Counts an accepted write of which it is settled whether it is made.
    pub fn settled(&self, made: bool) {
        if made {
            self.buffer_made.inc();
        } else {
            self.buffer_conflicts.inc();
        }
    }

    /// Counts that all digests were counted from the records, and how many were others than those that are kept.
    pub fn recounted(&self, differences: u64) {
        self.recounts.inc();
        self.recount_differences.inc_by(differences);
    }

    /// Counts a handler that panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Sets how many nodes live.
    pub fn live_nodes(&self, count: usize) {
        self.live_nodes.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts that a node said to have what the database does not know.
    pub fn node_ahead(&self) {
        self.nodes_ahead.inc();
    }

    /// Counts a password that was worked on.
    pub fn password_checked(&self) {
        self.password_checks.inc();
    }

    /// Has a kind of job be there from the start, so that its counts are seen to rise.
    pub fn job_kind(&self, kind: &str) {
        for &outcome in JobOutcome::ALL {
            drop(self.jobs.get_or_create(&JobLabels { kind: kind.to_owned(), outcome }));
        }
    }

    /// Counts an attempt at a job.
    pub fn job(&self, kind: &str, outcome: JobOutcome) {
        self.jobs.get_or_create(&JobLabels { kind: kind.to_owned(), outcome }).inc();
    }

    /// Sets how many jobs wait, and how many were given up.
    pub fn jobs(&self, waiting: i64, failed: i64) {
        self.jobs_waiting.set(waiting);
        self.jobs_failed.set(failed);
    }

    /// Counts a call to a server of others.
    pub fn called(&self, outcome: CallOutcome) {
        self.calls.get_or_create(&CallLabels { outcome }).inc();
    }

    /// Counts that the process that makes calls has ended.
    pub fn caller_ended(&self) {
        self.caller_ends.inc();
    }

    /// Counts an attempt to deliver something to a webhook.
    pub fn delivered(&self, outcome: DeliveryOutcome) {
        self.deliveries.get_or_create(&DeliveryLabels { outcome }).inc();
    }

    /// Notes up to which change it was written down what webhooks are to be told.
    pub fn webhooks_told(&self, sequence: u64) {
        self.webhook_sequence.set(sequence);
    }

    /// Notes how many rows of the audit log are chained, and for how long the first that is not has waited.
    pub fn audit_chained(&self, number: i64) {
        self.audit_number.set(number);
    }

    /// See there.
    pub fn audit_waits(&self, wait: Duration) {
        self.audit_wait.set(wait.as_secs_f64());
    }

    /// Notes up to which number the audit log was written down outside of the database.
    pub fn audit_anchored(&self, number: i64) {
        self.audit_anchored_number.set(number);
    }

    /// Counts that this could not be written.
    pub fn audit_anchor_failed(&self) {
        self.audit_anchor_errors.inc();
    }

    /// Counts that the audit log was found to end before where it has ended.
    pub fn audit_cut(&self) {
        self.audit_cuts.inc();
    }

    /// Counts that something of the audit log was found to be other than it was written.
    pub fn audit_fault(&self) {
        self.audit_faults.inc();
    }

    /// How often it was.
    #[cfg(test)]
    pub(crate) fn audit_faults_so_far(&self) -> u64 {
        self.audit_faults.get()
    }

    /// Counts a refusal, or a use of a key, that could not be written down.
    pub fn audit_dropped(&self) {
        self.audit_dropped.inc();
    }

    /// How many there were.
    #[cfg(test)]
    pub(crate) fn audit_dropped_so_far(&self) -> u64 {
        self.audit_dropped.get()
    }

    /// Registers everything under `godwit_controlplane_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("godwit_controlplane");
        registry.register("requests", "Answered requests by route and status", self.requests.clone());
        for &limit in Limit::ALL {
            // There from the start, so that it is seen to rise.
            drop(self.limited.get_or_create(&LimitLabels { limit }));
        }
        registry.register("limited", "What was refused or cut short, by the limit", self.limited.clone());
        registry.register(
            "rates_shared",
            "1 while Redis counts for the rate limits",
            self.rates_shared.clone(),
        );
        registry.register(
            "rates_lost",
            "Times that Redis was found not to count for the rate limits",
            self.rates_lost.clone(),
        );
        registry.register("changes", "Committed changes", self.changes.clone());
        registry.register(
            "outbox_depth",
            "Committed changes that are not published yet",
            self.outbox_depth.clone(),
        );
        registry.register("relay_leader", "1 while this process publishes", self.relay_leader.clone());
        registry.register(
            "buffer_depth",
            "Accepted writes that wait for the database",
            self.buffer_depth.clone(),
        );
        registry.register("buffer_octets", "Octets of these writes", self.buffer_octets.clone());
        registry.register("buffer_age_seconds", "Age of the first of these writes", self.buffer_age.clone());
        registry.register(
            "buffer_accepted",
            "Writes that were accepted while the database was away",
            self.buffer_accepted.clone(),
        );
        registry.register("buffer_made", "Accepted writes that were made", self.buffer_made.clone());
        registry.register(
            "buffer_conflicts",
            "Accepted writes that could not be made",
            self.buffer_conflicts.clone(),
        );
        registry.register("sequence", "Sequence of the last published change set", self.sequence.clone());
        registry.register(
            "stream_sequence",
            "Sequence of the last change set that Redis was given by this process",
            self.stream_sequence.clone(),
        );
        registry.register(
            "stream_errors",
            "Times that publishing to Redis failed or found the stream changed, and was begun again",
            self.stream_errors.clone(),
        );
        registry.register(
            "cache_sequence",
            "Sequence of the place of the log that the record cache is at, as this process wrote it",
            self.cache_sequence.clone(),
        );
        registry.register(
            "cache_errors",
            "Times that writing the record cache failed or found it changed, and was begun again",
            self.cache_errors.clone(),
        );
        registry.register(
            "cache_fills",
            "Times that the record cache was filled from the database",
            self.cache_fills.clone(),
        );
        registry.register("withheld_zones", "Zones that are given to nobody", self.withheld_zones.clone());
        registry.register(
            "shadow_running",
            "1 while change sets are judged before they are published",
            self.shadow_running.clone(),
        );
        registry.register(
            "shadow_ends",
            "Times that the shadow ended at what it was asked",
            self.shadow_ends.clone(),
        );
        registry.register(
            "shadow_errors",
            "Change sets and zones that the shadow refused",
            self.shadow_errors.clone(),
        );
        registry.register(
            "shadow_unjudged",
            "Change sets that were published unjudged though they were to be judged",
            self.shadow_unjudged.clone(),
        );
        registry.register(
            "shadow_read_octets",
            "Octets of zones that were read for the shadow, about",
            self.shadow_read_octets.clone(),
        );
        registry.register(
            "recounts",
            "Times that all digests were counted from the records in the database",
            self.recounts.clone(),
        );
        registry.register(
            "recount_differences",
            "Digests that were found to be others than those that are kept",
            self.recount_differences.clone(),
        );
        registry.register(
            "live_nodes",
            "Nodes that said something within five seconds",
            self.live_nodes.clone(),
        );
        registry.register(
            "nodes_ahead",
            "Requests of nodes that say to have what the database does not know",
            self.nodes_ahead.clone(),
        );
        registry.register("jobs", "Attempts at jobs, by kind and how they ended", self.jobs.clone());
        registry.register("jobs_waiting", "Jobs that wait", self.jobs_waiting.clone());
        registry.register("jobs_failed", "Jobs that were given up and are kept", self.jobs_failed.clone());
        for &outcome in CallOutcome::ALL {
            drop(self.calls.get_or_create(&CallLabels { outcome }));
        }
        registry.register("calls", "Calls to servers of others, by what came of them", self.calls.clone());
        registry.register(
            "caller_ends",
            "Times that the process that makes these calls had ended and was started again",
            self.caller_ends.clone(),
        );
        for &outcome in DeliveryOutcome::ALL {
            drop(self.deliveries.get_or_create(&DeliveryLabels { outcome }));
        }
        registry.register(
            "webhook_deliveries",
            "Attempts to deliver something to webhooks, by what came of them",
            self.deliveries.clone(),
        );
        registry.register(
            "webhook_sequence",
            "Sequence up to which this process has written down what webhooks are to be told",
            self.webhook_sequence.clone(),
        );
        registry.register(
            "audit_number",
            "Rows of the audit log that are chained",
            self.audit_number.clone(),
        );
        registry.register(
            "audit_anchored_number",
            "Number of the row up to which the audit log was written down outside of the database, by this process",
            self.audit_anchored_number.clone(),
        );
        registry.register(
            "audit_wait_seconds",
            "For how long the first row of the audit log that is not chained has waited",
            self.audit_wait.clone(),
        );
        registry.register(
            "audit_anchor_errors",
            "Times that an anchor of the audit log could not be written",
            self.audit_anchor_errors.clone(),
        );
        registry.register(
            "audit_cuts",
            "Times that the audit log was found to end before where it has ended",
            self.audit_cuts.clone(),
        );
        registry.register(
            "audit_faults",
            "Times that rows of the audit log were found to be other than they were written, as they were to be chained or deleted",
            self.audit_faults.clone(),
        );
        registry.register(
            "audit_dropped",
            "Refusals and uses of keys that found no room, or could not be written down",
            self.audit_dropped.clone(),
        );
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the API's certificate ends; 0 without TLS",
            self.certificate_ends.clone(),
        );
        registry.register(
            "certificate_failed",
            "1 while the files of the API's certificate cannot be used",
            self.certificate_failed.clone(),
        );
        registry.register("panics", "Requests that failed by a panic", self.panics.clone());
        registry.register(
            "password_checks",
            "Passwords that were hashed or compared with a hash",
            self.password_checks.clone(),
        );
    }

    /// All metrics of a registry as Prometheus text (OpenMetrics).
    #[must_use]
    pub fn text(registry: &Registry) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, registry) {
            Ok(()) => text,
            // Writing to a string does not fail.
            Err(std::fmt::Error) => String::new(),
        }
    }

    /// A registry with these metrics alone.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        let mut registry = Registry::default();
        self.register(&mut registry);
        Arc::new(registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_contract() {
        let metrics = Metrics::default();
        metrics.request("/api/v1/records".into(), 200);
        metrics.change(false);
        metrics.change(true);
        metrics.published(7);
        metrics.leader(true);
        metrics.limited(Limit::WriteTime);
        let text = Metrics::text(&metrics.registry());
        for line in [
            "godwit_controlplane_requests_total{route=\"/api/v1/records\",status=\"200\"} 1",
            "godwit_controlplane_changes_total 2",
            "godwit_controlplane_outbox_depth 1",
            "godwit_controlplane_relay_leader 1",
            "godwit_controlplane_buffer_depth 0",
            "godwit_controlplane_sequence 7",
            "godwit_controlplane_limited_total{limit=\"write_time\"} 1",
            "godwit_controlplane_limited_total{limit=\"body_octets\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
