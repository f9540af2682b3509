//! The generator: one thread on one core that asks and matches answers.
//!
//! - [`udp`]: connected sockets, sendmmsg and recvmmsg; [`udp::saturate`] keeps a window full (closed loop),
//!   [`udp::at_rate`] sends at fixed times (open loop) and measures latency from the time a query was due.
//! - [`tcp`]: long connections with some queries in flight on each, or one connection per query.

pub mod lane;
pub mod plan;
pub mod queries;
pub mod slots;
pub mod tcp;
pub mod tcp_connect;
pub mod udp;

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::data::draw::Draw;

/// How long a query may stay unanswered before it counts as lost.
pub const PATIENCE: Duration = Duration::from_millis(1_000);

/// A full answer kept for comparing after the run.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Which question.
    pub query: u32,
    /// The answer as received.
    pub answer: Vec<u8>,
}

/// What a run saw.
#[derive(Debug)]
pub struct Outcome {
    /// Queries sent, warm-up included.
    pub sent: u64,
    /// Answers that matched a query in flight by ID and question, warm-up included.
    pub matched: u64,
    /// Queries never answered in [`PATIENCE`], or whose connection failed.
    pub lost: u64,
    /// Datagrams or messages that matched nothing in flight.
    pub strays: u64,
    /// Answers matched between the two instants of the measurement.
    pub measured: u64,
    /// The time between them.
    pub seconds: f64,
    /// Server CPU-seconds between them.
    pub cpu_seconds: f64,
    /// Answers to compare.
    pub samples: Vec<Sample>,
    /// Nanoseconds from the time a query was due to its answer; open loop only.
    pub latency: Option<Histogram<u64>>,
}

impl Outcome {
    /// Lost over sent.
    #[must_use]
    pub fn loss(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.lost as f64 / self.sent as f64 }
    }
}

/// Where a run stands: warming up, measuring, or over. The generator asks once per turn of its loop.
pub(crate) struct Stopwatch<'a> {
    plan: &'a plan::Plan,
    cpu: &'a mut dyn FnMut() -> f64,
    started: Instant,
    begun: Option<(Instant, u64, f64)>,
    ended: Option<(Instant, u64, f64)>,
}

impl<'a> Stopwatch<'a> {
    pub(crate) fn start(plan: &'a plan::Plan, cpu: &'a mut dyn FnMut() -> f64) -> Self {
        Stopwatch { plan, cpu, started: Instant::now(), begun: None, ended: None }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// True until the measurement is over or the user interrupted. `matched` is the count so far.
    pub(crate) fn running(&mut self, now: Instant, matched: u64) -> bool {
        match self.begun {
            None if now - self.started >= self.plan.warm_up => {
                let cpu = (self.cpu)();
                self.begun = Some((Instant::now(), matched, cpu));
                true
            }
            Some((begun, ..)) if now - begun >= self.plan.duration => {
                let cpu = (self.cpu)();
                self.ended = Some((Instant::now(), matched, cpu));
                false
            }
            _ => !crate::interrupt::requested(),
        }
    }

    pub(crate) fn measuring(&self) -> bool {
        self.begun.is_some() && self.ended.is_none()
    }

    /// (answers, seconds, CPU-seconds) between the two instants.
    pub(crate) fn figures(&self) -> (u64, f64, f64) {
        match (self.begun, self.ended) {
            (Some((from, first, cpu_first)), Some((to, last, cpu_last))) => {
                (last - first, (to - from).as_secs_f64(), cpu_last - cpu_first)
            }
            _ => (0, 0.0, 0.0),
        }
    }
}

/// Keeps some of a run's answers, each with the same chance (reservoir sampling, Vitter's algorithm R), so that they come
/// from all moments of the run and all places of a batch.
pub(crate) struct Sampler {
    limit: usize,
    seen: u64,
    draw: Draw,
    pub(crate) samples: Vec<Sample>,
}

impl Sampler {
    pub(crate) fn new(limit: usize) -> Self {
        Sampler { limit, seen: 0, draw: Draw::new(0, "samples", 0), samples: Vec::with_capacity(limit) }
    }

    /// Looks at an answer and perhaps keeps it.
    pub(crate) fn offer(&mut self, query: u32, answer: &[u8]) {
        self.seen += 1;
        if self.samples.len() < self.limit {
            self.samples.push(Sample { query, answer: answer.to_vec() });
            return;
        }
        let place = self.draw.below(self.seen);
        if let Some(sample) = usize::try_from(place).ok().and_then(|place| self.samples.get_mut(place)) {
            sample.query = query;
            sample.answer.clear();
            sample.answer.extend_from_slice(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_from_the_whole_run() {
        let mut sampler = Sampler::new(100);
        (0..10_000).for_each(|query| sampler.offer(query, b"answer"));
        assert_eq!(sampler.samples.len(), 100);
        let late = sampler.samples.iter().filter(|sample| sample.query >= 5_000).count();
        assert!((30..70).contains(&late), "{late} of 100 from the second half");
    }
}
