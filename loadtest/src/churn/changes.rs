//! Changes at a fixed rate, made on the generator's own thread between two batches of queries, so that two threads do not
//! fight for its CPU and what is measured is the server.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::Serialize;

use super::channel::Channel;
use super::{CHANGING, changing_name};
use crate::data::Source;
use crate::data::record::{Data, Record};
use crate::load::udp::Beside;

/// How many changes can be under way.
const CHANNELS: usize = 32;
/// How often answers are looked for.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// How often channels are looked at where nothing arrived, so that they can send again.
const TEND_EVERY: Duration = Duration::from_millis(500);
/// A change sent this long after it was due is late.
const LATE: Duration = Duration::from_millis(100);
/// After the load, answers are waited for so long.
const REST: Duration = Duration::from_secs(30);

/// The record of a changing name after so many changes.
#[must_use]
pub fn record(source: &Source, number: u32, version: u32) -> Record {
    // 198.18.0.0/15: benchmarks (RFC 2544).
    let address = Ipv4Addr::from(0xC612_0000 | (version & 0x1_FFFF));
    Record { owner: changing_name(source, number), ttl: 60, data: Data::A(address) }
}

/// What became of a round's changes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Changes {
    /// Sent.
    pub sent: u64,
    /// Taken.
    pub acknowledged: u64,
    /// Refused.
    pub refused: u64,
    /// Why the first of these was.
    pub refusal: Option<String>,
    /// Without an answer half a minute after the load.
    pub unanswered: u64,
    /// Sent later than due, because all channels waited for an answer.
    pub late: u64,
    /// Not sent, because the run was over before its turn came.
    pub unsent: u64,
    /// From sending to the answer: median and 99th percentile in µs.
    pub acknowledged_us: [f64; 2],
}

impl Changes {
    /// Why the rate was not reached, if it was not.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if self.refused > 0 {
            let why = self.refusal.as_deref().unwrap_or_default();
            return Some(format!("{} changes refused: {why}", self.refused));
        }
        let behind = self.late + self.unsent + self.unanswered;
        (behind * 100 > self.sent).then(|| {
            format!(
                "the rate of changes was not reached: of {} sent {} were late and {} unanswered, {} more were due",
                self.sent, self.late, self.unanswered, self.unsent
            )
        })
    }
}

/// Opens a channel; again when a server closed one that was idle.
pub type Open<'a> = dyn Fn() -> Result<Box<dyn Channel>> + 'a;

/// Makes changes while the generator runs.
pub struct Changer<'a> {
    source: Source,
    open: &'a Open<'a>,
    epoll: Epoll,
    /// Each with the time its change was sent.
    channels: Vec<(Box<dyn Channel>, Option<Instant>)>,
    interval: Duration,
    next_due: Option<Instant>,
    next_look: Option<Instant>,
    next_tending: Option<Instant>,
    number: u32,
    changes: Changes,
    histogram: Histogram<u64>,
}

impl fmt::Debug for Changer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changer").field("changes", &self.changes).finish_non_exhaustive()
    }
}

impl<'a> Changer<'a> {
    /// Opens the channels; changes start with the first turn.
    ///
    /// # Errors
    /// A channel cannot be opened.
    pub fn new(open: &'a Open<'a>, source: &Source, per_second: u32) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
        let mut channels = Vec::with_capacity(CHANNELS);
        for number in 0..CHANNELS {
            channels.push((watched(open, &epoll, number)?, None));
        }
        Ok(Changer {
            source: *source,
            open,
            epoll,
            channels,
            interval: Duration::from_secs(1) / per_second.max(1),
            next_due: None,
            next_look: None,
            next_tending: None,
            number: 0,
            changes: Changes::default(),
            histogram: Histogram::new_with_max(60_000_000_000, 3)?,
        })
    }

    /// Waits for the answers that are still to come and gives back the counts. `ended`: when the load did.
    ///
    /// # Errors
    /// A channel was closed with a change under way.
    pub fn finish(mut self, ended: Instant) -> Result<Changes> {
        let behind = ended.saturating_duration_since(self.next_due.unwrap_or(ended));
        self.changes.unsent = (behind.as_nanos() / self.interval.as_nanos().max(1)) as u64;
        let end = Instant::now() + REST;
        while self.channels.iter().any(|(_, sent)| sent.is_some()) && Instant::now() < end {
            crate::interrupt::check()?;
            self.look(EpollTimeout::from(10_u8))?;
            self.tend()?;
        }
        self.changes.unanswered = self.channels.iter().filter(|(_, sent)| sent.is_some()).count() as u64;
        self.changes.acknowledged_us =
            [0.5, 0.99].map(|quantile| self.histogram.value_at_quantile(quantile) as f64 / 1_000.0);
        Ok(self.changes)
    }

    fn look(&mut self, timeout: EpollTimeout) -> Result<()> {
        let mut events = [EpollEvent::empty(); CHANNELS];
        let ready = match self.epoll.wait(&mut events, timeout) {
            Ok(ready) => ready,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error).context("epoll_wait"),
        };
        events[..ready].iter().try_for_each(|event| self.take_in(event.data() as usize))
    }

    fn tend(&mut self) -> Result<()> {
        (0..self.channels.len()).try_for_each(|number| self.take_in(number))
    }

    fn take_in(&mut self, number: usize) -> Result<()> {
        let (channel, sent) = &mut self.channels[number];
        let verdict = match channel.poll() {
            Ok(Some(verdict)) => verdict,
            Ok(None) => return Ok(()),
            // A server may close a connection that was idle for long (RFC 9112 §9.5).
            Err(_) if sent.is_none() => {
                *channel = watched(self.open, &self.epoll, number)?;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let Some(sent) = sent.take() else { return Ok(()) };
        self.histogram.saturating_record(sent.elapsed().as_nanos() as u64);
        match verdict {
            Ok(()) => self.changes.acknowledged += 1,
            Err(refusal) => {
                self.changes.refused += 1;
                self.changes.refusal.get_or_insert(refusal);
            }
        }
        Ok(())
    }
}

fn watched(open: &Open<'_>, epoll: &Epoll, number: usize) -> Result<Box<dyn Channel>> {
    let channel = open()?;
    epoll.add(channel.fd(), EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
    Ok(channel)
}

impl Beside for Changer<'_> {
    fn turn(&mut self, now: Instant) -> Result<()> {
        if self.next_look.is_none_or(|at| now >= at) {
            self.next_look = Some(now + LOOK_EVERY);
            self.look(EpollTimeout::ZERO)?;
        }
        if now >= *self.next_tending.get_or_insert(now + TEND_EVERY) {
            self.next_tending = Some(now + TEND_EVERY);
            self.tend()?;
        }
        let due = *self.next_due.get_or_insert(now);
        if now < due {
            return Ok(());
        }
        let Some((channel, sent)) = self.channels.iter_mut().find(|(_, sent)| sent.is_none()) else {
            return Ok(());
        };
        channel.send(&record(&self.source, self.number % CHANGING, self.number / CHANGING + 1))?;
        *sent = Some(now);
        self.number = self.number.wrapping_add(1);
        self.changes.sent += 1;
        self.changes.late += u64::from(now - due > LATE);
        self.next_due = Some(due + self.interval);
        Ok(())
    }
}
