//! One run of the generator against one server, with what it cost the server and whether the answers were right.

use anyhow::Result;
use serde::Serialize;

use crate::cpu;
use crate::data::truth::compare;
use crate::data::{Question, Source, Workload};
use crate::load::plan::{Plan, Shape};
use crate::load::queries::Queries;
use crate::load::{Outcome, Sample, tcp, tcp_connect, udp};
use crate::server::kind::Kind;
use crate::server::{Running, SERVER_CPU};

/// The share of lost queries from which on a run says nothing about speed.
pub const LOSS_ALLOWED: f64 = 0.001;
/// Full answers compared per run.
pub const SAMPLES: usize = 1_000;

/// The figures of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// Server CPU-µs per answered query.
    pub cpu_us: f64,
    /// Answers a second.
    pub qps: f64,
    /// CPU-seconds of the server in a second: 1 is a full core.
    pub busy: f64,
    /// Queries sent, warm-up included.
    pub sent: u64,
    /// Lost over sent.
    pub loss: f64,
    /// Answers that matched no query.
    pub strays: u64,
    /// Full answers compared with the truth.
    pub compared: usize,
    /// How many of them differed.
    pub different: usize,
    /// What the first of these was.
    pub difference: Option<String>,
    /// Open loop only: median, 99th and 99.9th percentile in µs.
    pub latency_us: Option<[f64; 3]>,
}

impl Round {
    /// What makes the run fail, if anything.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.wrong_answers().or_else(|| {
            let lossy = self.loss > LOSS_ALLOWED;
            lossy.then(|| format!("{:.2} % of the queries were lost", self.loss * 100.0))
        })
    }

    /// What was wrong with the answers that came, if anything.
    #[must_use]
    pub fn wrong_answers(&self) -> Option<String> {
        let difference = self.difference.as_ref()?;
        Some(format!("{} of {} answers differ: {difference}", self.different, self.compared))
    }
}

/// Runs the plan against the server.
///
/// # Errors
/// The generator failed, or the user interrupted.
pub fn round(
    server: &Running,
    source: &Source,
    workload: Workload,
    queries: &Queries,
    plan: &Plan,
) -> Result<Round> {
    let mut processes = server.processes();
    processes.extend(cpu::kernel_threads(SERVER_CPU));
    let outcome = offer(plan, queries, &mut || cpu::seconds(&processes))?;
    crate::interrupt::check()?;
    Ok(judge(&outcome, source, workload, queries, server.kind == Kind::Echo))
}

/// The plan's shape of load.
///
/// # Errors
/// The generator failed.
pub fn offer(plan: &Plan, queries: &Queries, cpu: &mut dyn FnMut() -> f64) -> Result<Outcome> {
    match plan.shape {
        Shape::Saturate { sockets, window } => udp::saturate(plan, sockets, window, queries, cpu),
        Shape::Rate { sockets, per_second } => {
            udp::at_rate(plan, sockets, per_second, queries, cpu, &mut udp::Nothing)
        }
        Shape::Tcp { connections, in_flight } => tcp::saturate(plan, connections, in_flight, queries, cpu),
        Shape::TcpConnect { concurrent } => tcp_connect::saturate(plan, concurrent, queries, cpu),
    }
}

/// Turns what the generator saw into figures, and compares the sampled answers unless the server is the reflector.
#[must_use]
pub fn judge(
    outcome: &Outcome,
    source: &Source,
    workload: Workload,
    queries: &Queries,
    reflector: bool,
) -> Round {
    let truth = |index| source.question(workload, index);
    judge_by((!reflector).then_some(&truth as &dyn Fn(u32) -> Question), outcome, queries)
}

/// As [`judge`], with any truth; nothing is compared without one.
#[must_use]
pub fn judge_by(truth: Option<&dyn Fn(u32) -> Question>, outcome: &Outcome, queries: &Queries) -> Round {
    let samples: &[Sample] = if truth.is_some() { &outcome.samples } else { &[] };
    let mut differences = samples.iter().filter_map(|sample| difference(sample, truth?, queries));
    let difference = differences.next();
    let different = usize::from(difference.is_some()) + differences.count();
    let measured = outcome.measured.max(1) as f64;
    let seconds = outcome.seconds.max(1e-9);
    Round {
        cpu_us: outcome.cpu_seconds * 1e6 / measured,
        qps: outcome.measured as f64 / seconds,
        busy: outcome.cpu_seconds / seconds,
        sent: outcome.sent,
        loss: outcome.loss(),
        strays: outcome.strays,
        compared: samples.len(),
        different,
        difference,
        latency_us: outcome.latency.as_ref().map(|histogram| {
            [0.5, 0.99, 0.999].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0)
        }),
    }
}

fn difference(sample: &Sample, truth: &dyn Fn(u32) -> Question, queries: &Queries) -> Option<String> {
    let question = truth(sample.query);
    let mut query = queries.message(sample.query).to_vec();
    query[..2].copy_from_slice(&sample.answer[..2]);
    let reason = compare(&query, &sample.answer, &question.expected).err()?;
    Some(format!("{} {}: {reason}", question.name, crate::data::record::rtype::mnemonic(question.qtype)))
}
