//! UDP load: a window kept full, or a fixed rate.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::lane::{BATCH, Lane};
use super::plan::Plan;
use super::queries::Queries;
use super::slots::Flight;
use super::{Outcome, Sampler, Stopwatch};

/// How often queries that waited too long are looked for.
const EXPIRE_EVERY: Duration = Duration::from_millis(100);

/// Something else to do on the generator's thread between batches: the changes of the churn run.
pub trait Beside {
    /// Must return within some ten microseconds.
    ///
    /// # Errors
    /// Ends the run.
    fn turn(&mut self, now: Instant) -> Result<()>;
}

/// Nothing.
pub struct Nothing;

impl Beside for Nothing {
    fn turn(&mut self, _now: Instant) -> Result<()> {
        Ok(())
    }
}

/// Closed loop: every socket keeps `window` queries in flight, so the server never waits for the generator unless it is
/// the faster of the two.
///
/// # Errors
/// A socket failed.
pub fn saturate(
    plan: &Plan,
    sockets: u16,
    window: u16,
    queries: &Queries,
    cpu: &mut dyn FnMut() -> f64,
) -> Result<Outcome> {
    let mut run = Run::new(plan, sockets, window)?;
    let mut position = Circle::new(queries.len());
    let mut stopwatch = Stopwatch::start(plan, cpu);
    let mut now = stopwatch.started();
    let mut expire_at = now + EXPIRE_EVERY;
    while stopwatch.running(now, run.matched) {
        for lane in &mut run.lanes {
            let received = lane.receive(queries, &mut |flight, answer| {
                run.sampler.offer(flight.query, answer);
            })?;
            run.matched += received.matched;
            run.strays += received.strays;
            let mut next = || Flight { query: position.next(), due: now };
            run.sent += lane.send(queries, BATCH, &mut next)? as u64;
        }
        now = Instant::now();
        if now >= expire_at {
            run.expire(now);
            expire_at = now + EXPIRE_EVERY;
        }
    }
    run.drain(plan, queries, None)?;
    Ok(run.outcome(&stopwatch, None))
}

/// Open loop: queries are due at fixed times whatever the server does, and latency counts from the time a query was due,
/// so that a stall is felt by all the queries that it delayed.
///
/// # Errors
/// A socket failed, or `beside` did.
pub fn at_rate(
    plan: &Plan,
    sockets: u16,
    per_second: u32,
    queries: &Queries,
    cpu: &mut dyn FnMut() -> f64,
    beside: &mut dyn Beside,
) -> Result<Outcome> {
    // Room for a whole second of queries: only then are they lost for want of room.
    let window = u16::try_from((per_second / u32::from(sockets.max(1))).clamp(64, 1 << 15))?;
    let mut run = Run::new(plan, sockets, window)?;
    let mut histogram = Histogram::<u64>::new_with_max(10_000_000_000, 3)?;
    let mut position = Circle::new(queries.len());
    let mut stopwatch = Stopwatch::start(plan, cpu);
    let started = stopwatch.started();
    let mut due_count: u32 = 0;
    let mut turn = 0;
    let mut now = started;
    let mut expire_at = now + EXPIRE_EVERY;
    while stopwatch.running(now, run.matched) {
        let measuring = stopwatch.measuring();
        let lane_count = run.lanes.len();
        let due = due_by(now - started, per_second).saturating_sub(due_count);
        if due > 0 {
            let batch = due.min(BATCH as u32);
            let first = due_count;
            let mut made = 0;
            let lane = &mut run.lanes[turn % lane_count];
            turn += 1;
            let sent = lane.send(queries, batch as usize, &mut || {
                made += 1;
                Flight { query: position.next(), due: started + due_time(first + made, per_second) }
            })?;
            // What found no room is lost: at a fixed rate nothing is asked later.
            run.sent += u64::from(batch);
            run.lost += u64::from(batch) - sent as u64;
            due_count += batch;
        }
        for lane in &mut run.lanes {
            let received = lane.receive(queries, &mut |flight, answer| {
                run.sampler.offer(flight.query, answer);
                if measuring {
                    histogram.saturating_record(nanoseconds(flight.due.elapsed()));
                }
            })?;
            run.matched += received.matched;
            run.strays += received.strays;
        }
        now = Instant::now();
        beside.turn(now)?;
        if now >= expire_at {
            run.expire(now);
            expire_at = now + EXPIRE_EVERY;
        }
    }
    run.drain(plan, queries, Some(&mut histogram))?;
    Ok(run.outcome(&stopwatch, Some(histogram)))
}

/// How many queries are due after this time. At most 2³² in a run: 14 hours at 80,000 a second.
fn due_by(elapsed: Duration, per_second: u32) -> u32 {
    let due = elapsed.as_nanos() * u128::from(per_second) / 1_000_000_000;
    u32::try_from(due).unwrap_or(u32::MAX)
}

/// When query number `count`, from 1, is due after the start.
fn due_time(count: u32, per_second: u32) -> Duration {
    Duration::from_nanos(u64::from(count) * 1_000_000_000 / u64::from(per_second.max(1)))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Question numbers in a circle.
struct Circle {
    at: u32,
    len: u32,
}

impl Circle {
    fn new(len: u32) -> Self {
        assert!(len > 0, "a workload has questions");
        Circle { at: 0, len }
    }

    fn next(&mut self) -> u32 {
        let at = self.at;
        self.at = if at + 1 == self.len { 0 } else { at + 1 };
        at
    }
}

/// The sockets and counts of a run.
struct Run {
    lanes: Vec<Lane>,
    sampler: Sampler,
    sent: u64,
    matched: u64,
    strays: u64,
    lost: u64,
}

impl Run {
    fn new(plan: &Plan, sockets: u16, window: u16) -> Result<Self> {
        let lanes = (0..sockets.max(1)).map(|_| Lane::connect(plan.server, window)).collect::<Result<_>>()?;
        Ok(Run { lanes, sampler: Sampler::new(plan.samples), sent: 0, matched: 0, strays: 0, lost: 0 })
    }

    fn expire(&mut self, now: Instant) {
        self.lost += self.lanes.iter_mut().map(|lane| lane.expire(now)).sum::<u64>();
    }

    /// Waits for what is still in flight and counts the rest as lost.
    fn drain(&mut self, plan: &Plan, queries: &Queries, mut late: Option<&mut Histogram<u64>>) -> Result<()> {
        let end = Instant::now() + plan.patience;
        while Instant::now() < end && self.lanes.iter().any(|lane| lane.slots.in_flight() > 0) {
            for lane in &mut self.lanes {
                let received = lane.receive(queries, &mut |flight, _| {
                    if let Some(histogram) = late.as_deref_mut() {
                        histogram.saturating_record(nanoseconds(flight.due.elapsed()));
                    }
                })?;
                self.matched += received.matched;
                self.strays += received.strays;
            }
        }
        self.lost += self.lanes.iter().map(|lane| lane.slots.in_flight() as u64).sum::<u64>();
        Ok(())
    }

    fn outcome(self, stopwatch: &Stopwatch<'_>, latency: Option<Histogram<u64>>) -> Outcome {
        let (measured, seconds, cpu_seconds) = stopwatch.figures();
        Outcome {
            sent: self.sent,
            matched: self.matched,
            lost: self.lost,
            strays: self.strays,
            measured,
            seconds,
            cpu_seconds,
            samples: self.sampler.samples,
            latency,
        }
    }
}
