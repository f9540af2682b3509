//! Overload: what of its own peak a server still does when twice and ten times as much is offered.
//!
//! A flood fills the server's receive buffer, and the kernel drops blindly what does not fit. Served is what the server took from
//! its sockets, by the kernel's counts of this network namespace (other programs that use UDP meanwhile count in). Beside the flood
//! goes an honest stream at a fixed rate, a twentieth of what is offered, whose answers are matched and compared: it shows
//! that what is taken is answered, rightly, and how late. Its answered share times what is offered is no good
//! measure of what is served: bursts fill the buffer, and single queries between them find more room than the flood does.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::counters::Datagrams;
use super::flood::Flood;
use super::packets::{self, Mix};
use crate::data::{Source, Workload};
use crate::load::plan::{Plan, Shape};
use crate::load::queries::Queries;
use crate::load::udp;
use crate::measure::{self, Round};
use crate::server::{Running, SERVER_CPU};
use crate::{cpu, goals, interrupt};

/// The honest stream's share of the peak.
const HONEST: f64 = 0.05;
/// Queries a second of the honest stream at the least and at the most.
const HONEST_RATE: (f64, f64) = (500.0, 20_000.0);
/// Sockets of the honest stream, and of the flood.
const SOCKETS: u16 = 4;
/// Before each measurement: the buffer fills in less.
const WARM_UP: Duration = Duration::from_millis(200);
/// An answer that has not come after this was dropped: a full buffer is worked off in less.
const PATIENCE: Duration = Duration::from_millis(300);
/// From this share of lost honest queries on a server counts as saturated.
const SATURATED: f64 = 0.03;
/// Each step of the search for the peak offers so many times more.
const STEP: f64 = 1.3;
/// Steps at most.
const STEPS: usize = 5;

/// What was offered, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Offer {
    /// What was meant to be offered, over the peak.
    pub factor: f64,
    /// Messages a second really offered, honest ones included.
    pub offered: f64,
    /// The share of the honest queries that was answered.
    pub honest_answered: f64,
    /// Messages a second that the server took from its sockets.
    pub served: f64,
    /// The honest stream: its latency, and what was compared.
    pub round: Round,
}

/// One server under one mix.
#[derive(Clone, Debug, Serialize)]
pub struct Overload {
    /// The most messages a second it served of this mix, whatever was offered.
    pub peak: f64,
    /// At twice and at ten times the peak.
    pub offers: Vec<Offer>,
}

/// Closed loop, hits: where the search for the peaks of all mixes starts.
///
/// # Errors
/// The generator failed.
pub fn closed_loop_peak(server: &Running, source: &Source, seconds: f64) -> Result<Round> {
    let plan = Plan {
        server: server.address,
        shape: Shape::Saturate { sockets: SOCKETS, window: 128 },
        warm_up: WARM_UP,
        duration: Duration::from_secs_f64(seconds),
        patience: PATIENCE,
        samples: 2 * measure::SAMPLES,
    };
    measure::round(server, source, Workload::Small, &Queries::of(source, Workload::Small), &plan)
}

/// Looks for the peak of a mix and offers multiples of it.
///
/// # Errors
/// The generator failed.
pub fn run(server: &Running, source: &Source, mix: Mix, start: f64, seconds: f64) -> Result<Overload> {
    let queries = Queries::of(source, Workload::Small);
    let offer = |rate: f64, factor: f64| offer(server, source, &queries, mix, rate, factor, seconds);
    // The closed loop asks hits alone; its own rate is the least that a peak of hits is.
    let mut peak: f64 = if mix == Mix::Hits { start } else { 0.0 };
    let mut rate = start;
    for _ in 0..STEPS {
        let found = offer(rate, 0.0)?;
        peak = peak.max(found.served);
        // A server that is saturated shows its peak at once; a generator that is, can show no more.
        if 1.0 - found.honest_answered > SATURATED || found.offered < rate * 0.95 {
            break;
        }
        rate *= STEP;
    }
    let offers =
        goals::OVERLOAD.iter().map(|goal| offer(peak * goal.factor, goal.factor)).collect::<Result<_>>()?;
    Ok(Overload { peak, offers })
}

fn offer(
    server: &Running,
    source: &Source,
    queries: &Queries,
    mix: Mix,
    rate: f64,
    factor: f64,
    seconds: f64,
) -> Result<Offer> {
    interrupt::check()?;
    let honest = (rate * HONEST).clamp(HONEST_RATE.0, HONEST_RATE.1).round();
    let plan = Plan {
        server: server.address,
        shape: Shape::Rate { sockets: SOCKETS, per_second: honest as u32 },
        warm_up: WARM_UP,
        duration: Duration::from_secs_f64(seconds),
        patience: PATIENCE,
        samples: 2 * measure::SAMPLES,
    };
    let from = vec![server.address.ip(); usize::from(SOCKETS)];
    let mut flood =
        Flood::new(&from, server.address, packets::bursts(source, mix), (rate - honest).max(0.0))?;
    let sent = flood.sent();
    let mut processes = server.processes();
    processes.extend(cpu::kernel_threads(SERVER_CPU));
    // Asked once when the measurement begins and once when it ends.
    let mut instants = Vec::with_capacity(2);
    let mut at_instant = || {
        instants.push((sent.get(), Datagrams::now().unwrap_or_default()));
        cpu::seconds(&processes)
    };
    let outcome = udp::at_rate(&plan, SOCKETS, honest as u32, queries, &mut at_instant, &mut flood)?;
    interrupt::check()?;
    let seconds = outcome.seconds.max(1e-9);
    let (flooded, served) = match instants[..] {
        [(first_sent, first), (last_sent, last)] => (
            (last_sent - first_sent) as f64 / seconds,
            ((last.received - first.received).saturating_sub(outcome.measured)) as f64 / seconds,
        ),
        _ => (0.0, 0.0),
    };
    let offered = flooded + honest;
    let honest_answered = 1.0 - outcome.loss();
    let truth = |index| source.question(Workload::Small, index);
    let round = measure::judge_by(Some(&truth), &outcome, queries);
    Ok(Offer { factor, offered, honest_answered, served, round })
}
