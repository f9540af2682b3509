//! Honest queries over UDP, at a fixed rate whatever the servers do, in turns to both. Each answer is judged when it comes;
//! latency counts from when a query was due.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::outages::{Side, Transport};
use super::questions::Questions;
use super::shared::Shared;
use crate::load::lane::{BATCH, Lane};
use crate::load::slots::Flight;

/// Who has no answer by then has lost the query. As long as resolvers wait, and far longer than a busy machine delays anything.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Sockets for each server.
const SOCKETS: usize = 4;
/// Queries in flight on each: together those of all their patience at 6,500 queries a second to each server. IDs have three more bits,
/// so that a late answer passes for another's but once in a blue moon.
const WINDOW: u16 = 1 << 13;
/// How often queries that waited too long are looked for.
const EXPIRE_EVERY: Duration = Duration::from_millis(200);
/// A batch that could not leave is tried again at once.
const TRIES: usize = 2;
/// Between two turns: as many queries as are due then go at once. It counts in the latency.
const TURN: Duration = Duration::from_micros(100);

/// One server's share.
struct Share<'a> {
    side: Side,
    questions: &'a Questions,
    lanes: Vec<Lane>,
    next_question: u32,
    next_lane: usize,
}

/// Asks until it is over, then waits for what is under way.
///
/// # Errors
/// A socket failed.
pub fn run(shared: &Shared, questions: &[Questions; 2], per_second: u32) -> Result<()> {
    let mut shares = Vec::with_capacity(2);
    for (side, questions) in Side::BOTH.into_iter().zip(questions) {
        let server = shared.dns[side as usize];
        let lanes = (0..SOCKETS).map(|_| Lane::connect(server, WINDOW)).collect::<Result<_>>()?;
        shares.push(Share { side, questions, lanes, next_question: 0, next_lane: 0 });
    }
    let started = Instant::now();
    let interval = 1.0 / f64::from((per_second / 2).max(1));
    let mut asked: u64 = 0;
    let mut expire_at = started + EXPIRE_EVERY;
    while !shared.over() {
        let now = Instant::now();
        let due = ((now - started).as_secs_f64() / interval) as u64;
        let batch = (due - asked.min(due)).min(BATCH as u64);
        for share in &mut shares {
            share.ask(shared, batch, &|number| {
                started + Duration::from_secs_f64((asked + number) as f64 * interval)
            })?;
            share.take_in(shared)?;
        }
        asked += batch;
        if now >= expire_at {
            shares.iter_mut().for_each(|share| share.expire(shared, now, PATIENCE));
            expire_at = now + EXPIRE_EVERY;
        }
        if batch < BATCH as u64 {
            std::thread::sleep(TURN);
        }
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && shares.iter().any(Share::is_waiting) {
        shares.iter_mut().try_for_each(|share| share.take_in(shared))?;
        std::thread::sleep(TURN);
    }
    // Interrupted, there is no end to wait for: servers are ended meanwhile.
    if !crate::interrupt::requested() {
        shares.iter_mut().for_each(|share| share.expire(shared, Instant::now(), Duration::ZERO));
    }
    Ok(())
}

impl Share<'_> {
    fn ask(&mut self, shared: &Shared, count: u64, due: &dyn Fn(u64) -> Instant) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let lane = &mut self.lanes[self.next_lane % SOCKETS];
        self.next_lane += 1;
        let len = self.questions.queries.len();
        let first = self.next_question;
        let mut sent = 0;
        // An error that an earlier query left behind (nobody listened) is told at the next one, and does not concern it.
        for _ in 0..TRIES {
            let mut made = 0;
            sent = lane.send(&self.questions.queries, count as usize, &mut || {
                made += 1;
                Flight { query: (first + made - 1) % len, due: due(u64::from(made)) }
            })? as u64;
            if sent > 0 {
                break;
            }
        }
        self.next_question = (first + count as u32) % len;
        shared.tally(self.side).sent[0] += count;
        // What could not leave is lost: at a fixed rate nothing is asked later. Nobody listens there, or all patience is used up.
        for number in sent..count {
            let about = || self.questions.show((first + number as u32) % len);
            shared.lost(self.side, Transport::Udp, due(number + 1), &about);
        }
        Ok(())
    }

    fn take_in(&mut self, shared: &Shared) -> Result<()> {
        let (side, questions) = (self.side, self.questions);
        for lane in &mut self.lanes {
            let received = lane.receive(&questions.queries, &mut |flight, answer| {
                let now = Instant::now();
                shared.measure(&mut shared.udp(side), now.saturating_duration_since(flight.due), now);
                let mut query = questions.queries.message(flight.query).to_vec();
                query[..2].copy_from_slice(&answer[..2]);
                // It left a little after it was due: of old states rather too many pass than too few.
                let verdict = questions.judge(flight.query, &query, answer, (flight.due, now), shared);
                shared.judged(side, verdict, &|| questions.show(flight.query));
            })?;
            if received.strays > 0 {
                shared.tally(side).strays += received.strays;
            }
        }
        Ok(())
    }

    fn expire(&mut self, shared: &Shared, now: Instant, patience: Duration) {
        let (side, questions) = (self.side, self.questions);
        for lane in &mut self.lanes {
            lane.slots.expire_each(now, patience, &mut |flight| {
                shared.lost(side, Transport::Udp, flight.due, &|| questions.show(flight.query));
            });
        }
    }

    fn is_waiting(&self) -> bool {
        self.lanes.iter().any(|lane| lane.slots.in_flight() > 0)
    }
}
