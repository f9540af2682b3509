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
/// Queries that are late by more are not asked at all: on a busy machine this thread may come too late for them, which says nothing
/// about the servers.
const LATE: Duration = Duration::from_millis(250);
/// When this thread stood still for so long, answers may have found its own buffers full: what is missing then is not held against
/// the servers, and counted apart.
const STANDSTILL: Duration = Duration::from_secs(1);
/// Standstills that are remembered: more than can matter to a query under way.
const REMEMBERED: usize = 16;
/// Batches taken in at once, at most: all that can be in flight.
const ROUNDS: usize = WINDOW as usize / BATCH + 1;
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
    let late = (LATE.as_secs_f64() / interval) as u64;
    let mut asked: u64 = 0;
    let mut expire_at = started + EXPIRE_EVERY;
    let mut standstills = Standstills { last: started, periods: Vec::new() };
    while !shared.course.over() {
        let now = Instant::now();
        standstills.turn(now);
        let due = ((now - started).as_secs_f64() / interval) as u64;
        let skipped = (due - asked.min(due)).saturating_sub(late);
        if skipped > 0 {
            asked += skipped;
            Side::BOTH.into_iter().for_each(|side| shared.tally(side).unasked += skipped);
        }
        let batch = (due - asked.min(due)).min(BATCH as u64);
        let due_at = |number| started + Duration::from_secs_f64((asked + number) as f64 * interval);
        let mut received = 0;
        for share in &mut shares {
            share.ask(shared, batch, &due_at)?;
            received += share.take_in(shared)?;
        }
        asked += batch;
        if now >= expire_at {
            for share in &mut shares {
                share.take_in_all(shared)?;
                share.expire(shared, now, PATIENCE, &standstills);
            }
            expire_at = now + EXPIRE_EVERY;
        }
        if batch == 0 && received == 0 {
            std::thread::sleep(TURN);
        }
    }
    let end = Instant::now() + PATIENCE;
    // Interrupted, there is no end to wait for: servers are ended meanwhile.
    while Instant::now() < end && shares.iter().any(Share::is_waiting) && !crate::interrupt::requested() {
        standstills.turn(Instant::now());
        shares.iter_mut().try_for_each(|share| share.take_in(shared).map(drop))?;
        std::thread::sleep(TURN);
    }
    if !crate::interrupt::requested() {
        shares
            .iter_mut()
            .for_each(|share| share.expire(shared, Instant::now(), Duration::ZERO, &standstills));
    }
    Ok(())
}

/// When this thread did not come round.
struct Standstills {
    last: Instant,
    periods: Vec<[Instant; 2]>,
}

impl Standstills {
    fn turn(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last) > STANDSTILL {
            if self.periods.len() == REMEMBERED {
                self.periods.remove(0);
            }
            self.periods.push([self.last, now]);
        }
        self.last = now;
    }

    /// Whether a query that was due then waited through one.
    fn met(&self, due: Instant) -> bool {
        self.periods.iter().any(|[from, until]| due <= *until && due + PATIENCE >= *from)
    }
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

    /// All that has arrived.
    fn take_in_all(&mut self, shared: &Shared) -> Result<()> {
        for _ in 0..ROUNDS {
            if self.take_in(shared)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// A batch of each lane; says how many answers these were.
    fn take_in(&mut self, shared: &Shared) -> Result<u64> {
        let (side, questions) = (self.side, self.questions);
        let mut count = 0;
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
            count += received.matched + received.strays;
            if received.strays > 0 {
                shared.tally(side).strays += received.strays;
            }
        }
        Ok(count)
    }

    fn expire(&mut self, shared: &Shared, now: Instant, patience: Duration, standstills: &Standstills) {
        let (side, questions) = (self.side, self.questions);
        for lane in &mut self.lanes {
            lane.slots.expire_each(now, patience, &mut |flight| {
                if standstills.met(flight.due) && !shared.outages.excuses(side, Transport::Udp, flight.due) {
                    shared.tally(side).unjudged += 1;
                } else {
                    shared.lost(side, Transport::Udp, flight.due, &|| questions.show(flight.query));
                }
            });
        }
    }

    fn is_waiting(&self) -> bool {
        self.lanes.iter().any(|lane| lane.slots.in_flight() > 0)
    }
}
